//! docs/api.md, generated from the CRDs.

use std::fmt::Write;

use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/api.md");
const KINDS: [&str; 3] = ["channels", "workspaces", "clusterworkspaces"];
const HEAD: &str = "# API reference

Generated from the CRDs: `OHALLO_TEST_WRITE=1 cargo test --test it the_api_reference`. `kubectl explain channel.spec` shows the same
descriptions. The text after \"Rule:\" is the API server's error for a manifest that breaks the rule. The [glossary](glossary.md) explains the words.
";

/// A field and those below it, as rows of a table.
fn rows(table: &mut String, path: &str, schema: &Value, required: bool) {
    writeln!(table, "| `{path}` | {} | {} |", kind(schema, required), cell(&description(schema))).unwrap();
    below(table, path, schema);
}

fn below(table: &mut String, path: &str, schema: &Value) {
    let items = &schema["items"];
    if !items.is_null() {
        return below(table, &format!("{path}[]"), items);
    }
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let needed = required.iter().any(|other| *other == name);
        rows(table, &format!("{path}.{name}"), field, needed);
    }
}

fn kind(schema: &Value, required: bool) -> String {
    let name = |schema: &Value| match (schema["type"].as_str(), schema["format"].as_str()) {
        (Some("string"), Some("date-time")) => "time".to_owned(),
        (Some(name), _) => name.to_owned(),
        (None, _) => "any".to_owned(),
    };
    let name = match schema["type"].as_str() {
        Some("array") => format!("[]{}", name(&schema["items"])),
        _ => name(schema),
    };
    if required { format!("{name}, required") } else { name }
}

/// What it is, and which values it may have.
fn description(schema: &Value) -> String {
    let mut description = schema["description"].as_str().unwrap_or_default().to_owned();
    let mut add = |text: String| {
        description.push_str("<br>");
        description.push_str(&text);
    };
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<_> = words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect();
        add(format!("One of {}.", words.join(" ")));
    }
    if !schema["default"].is_null() {
        add(format!("Default: `{}`.", schema["default"].to_string().trim_matches('"')));
    }
    for (least, most, unit) in [
        ("minLength", "maxLength", " characters"),
        ("minimum", "maximum", ""),
        ("minItems", "maxItems", " items"),
        ("minProperties", "maxProperties", " keys"),
    ] {
        match (schema[least].as_f64(), schema[most].as_f64()) {
            (Some(least), Some(most)) => add(format!("{least} to {most}{unit}.")),
            (None, Some(most)) => add(format!("At most {most}{unit}.")),
            (Some(least), None) => add(format!("At least {least}{unit}.")),
            (None, None) => {}
        }
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        add(format!("Matches `{pattern}`."));
    }
    let own = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    let of_items = schema["items"]["x-kubernetes-validations"].as_array().into_iter().flatten();
    for rule in own.chain(of_items) {
        add(format!("Rule: {}.", rule["message"].as_str().expect("each rule has a sentence")));
    }
    description.trim_start_matches("<br>").to_owned()
}

/// One line, with nothing that ends a cell of a table.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn page(plural: &str) -> String {
    let text = std::fs::read_to_string(format!("{ROOT}/crds/{plural}.ohallo.eu.yaml")).unwrap();
    let crd: Value = serde_saphyr::from_str(&text).unwrap();
    let (spec, version) = (&crd["spec"], &crd["spec"]["versions"][0]);
    let schema = &version["schema"]["openAPIV3Schema"];
    let list = |words: &Value| {
        let words = words.as_array().into_iter().flatten().filter_map(Value::as_str);
        words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" ")
    };
    let some = |before: &str, found: String| match found.as_str() {
        "" => String::new(),
        found => format!("{before}{found}"),
    };
    let mut page = format!(
        "\n## {}\n\n{}\n\n`{}/{}`, {}{}{}. `kubectl get` shows {}{}.\n",
        spec["names"]["kind"].as_str().unwrap(),
        cell(&description(schema)),
        spec["group"].as_str().unwrap(),
        version["name"].as_str().unwrap(),
        spec["scope"].as_str().unwrap().to_lowercase(),
        some(", short name ", list(&spec["names"]["shortNames"])),
        some(", category ", list(&spec["names"]["categories"])),
        columns(version, false),
        some(", and with `-o wide` also ", columns(version, true)),
    );
    page.push_str("\n| field | type | |\n|---|---|---|\n");
    for part in ["spec", "status"] {
        rows(&mut page, part, &schema["properties"][part], part == "spec");
    }
    page
}

fn columns(version: &Value, wide: bool) -> String {
    let columns = version["additionalPrinterColumns"].as_array().unwrap().iter();
    let these = columns.filter(|column| (column["priority"].as_i64().unwrap_or(0) > 0) == wide);
    these.map(|column| column["name"].as_str().unwrap().to_uppercase()).collect::<Vec<_>>().join(", ")
}

#[test]
fn the_api_reference_is_what_the_crds_say() {
    let rendered = KINDS.iter().fold(HEAD.to_owned(), |text, plural| text + &page(plural));
    if std::env::var_os("OHALLO_TEST_WRITE").is_some() {
        std::fs::write(PAGE, &rendered).unwrap();
    }
    let written = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert_eq!(written, rendered, "docs/api.md is not what the CRDs say");
}
