//! What may go wrong in each field, generated from its schema alone: another type, nothing, null, each bound from
//! both sides, each other word of an enum, odd text, fields that do not exist, and names of what is elsewhere.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Value, json};

use crate::misoperation::support::schema::{Node, Place, fitting, kind, nodes, paths, spec_of};

/// One field, otherwise.
#[derive(Clone)]
pub struct Mutation {
    pub place: Place,
    pub path: String,
    /// `None` takes it away.
    pub value: Option<Value>,
    /// Whether the schema of the field has nothing against it. A rule may have, all the same.
    pub fits: bool,
    fill: Vec<(Place, Value)>,
}

/// Every mutation of a manifest. `words` mean something where it is applied: names that are there, and that are not.
pub fn mutations(schema: &Value, manifest: &Value, words: &[&str]) -> Vec<Mutation> {
    nodes(schema, manifest).into_iter().flat_map(|node| of(&node, manifest, words)).collect()
}

fn of(node: &Node, manifest: &Value, words: &[&str]) -> Vec<Mutation> {
    let mut whole = manifest.clone();
    for (place, value) in &node.fill {
        place.put(&mut whole, Some(value.clone()));
    }
    let here = node.place.find(&whole);
    let absent = !node.required;
    let mut values = vec![(None, absent), (Some(Value::Null), absent && !node.place.is_index())];
    let wrong = [json!("text"), json!(7), json!(1.5), json!(true), json!([]), json!({})];
    let wrong = wrong.into_iter().filter(|value| !is(value, kind(&node.schema)));
    values.extend(wrong.map(|value| (Some(value), false)));
    values.extend(right(&node.schema, here, words).into_iter().map(|(value, fits)| (Some(value), fits)));
    let mut distinct: Vec<(Option<Value>, bool)> = Vec::new();
    for (value, fits) in values {
        let same = value.as_ref() == here && node.fill.is_empty();
        if !same && distinct.iter().all(|(known, _)| *known != value) {
            distinct.push((value, fits));
        }
    }
    let there = |(value, _): &(Option<Value>, bool)| value.is_some() || here.is_some();
    distinct
        .into_iter()
        .filter(there)
        .map(|(value, fits)| Mutation {
            place: node.place.clone(),
            path: node.path.clone(),
            value,
            fits,
            fill: node.fill.clone(),
        })
        .collect()
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "string" => value.is_string(),
        "integer" => value.is_i64(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no mutation is known for the type {other}"),
    }
}

/// Values of the right type.
fn right(schema: &Value, here: Option<&Value>, words: &[&str]) -> Vec<(Value, bool)> {
    match kind(schema) {
        "string" if schema["enum"].is_array() => of_enum(schema),
        "string" => texts(schema, words),
        "integer" => numbers(schema),
        "boolean" => vec![(json!(true), true), (json!(false), true)],
        "array" => lists(schema, here),
        _ => objects(schema, here),
    }
}

fn of_enum(schema: &Value) -> Vec<(Value, bool)> {
    let allowed = schema["enum"].as_array().unwrap();
    let first = allowed[0].as_str().unwrap();
    let others = ["", "Nonsense", "*", "null", &first.to_uppercase(), &format!("{first} ")].map(Value::from);
    let others = others.into_iter().filter(|other| !allowed.contains(other));
    allowed.iter().map(|word| (word.clone(), true)).chain(others.map(|other| (other, false))).collect()
}

fn texts(schema: &Value, words: &[&str]) -> Vec<(Value, bool)> {
    let length = |name: &str| schema[name].as_u64().and_then(|length| usize::try_from(length).ok());
    let (least, most) = (length("minLength").unwrap_or(0), length("maxLength"));
    let around = [least.saturating_sub(1), least, most.unwrap_or(1000), most.map_or(1001, |most| most + 1)];
    let mut texts: Vec<String> = around.iter().map(|length| "a".repeat(*length)).collect();
    texts.extend(around.map(|length| "😀".repeat(length)));
    texts.push("a".repeat(100_000));
    let odd = ["", " a", "a ", "a\n", "\u{0}", "a\u{1b}[31mb", "\u{202e}a\u{feff}", "äöü\u{301}", "a\"b\\c"];
    let paths = ["..", ".", "../..", "a/b", "%2e%2e", "a?b=c#d", "{{a}}", "$(a)", "A_b.c~d-e"];
    texts.extend(odd.into_iter().chain(paths).chain(words.iter().copied()).map(str::to_owned));
    let long = |text: &String| most.is_none_or(|most| text.chars().count() <= most);
    let short = |text: &String| text.chars().count() >= least;
    texts.into_iter().map(|text| (json!(text), long(&text) && short(&text))).collect()
}

fn numbers(schema: &Value) -> Vec<(Value, bool)> {
    let bound = |name: &str| schema[name].as_f64().map(|bound| bound as i64);
    let (least, most) = (bound("minimum"), bound("maximum"));
    let fits = |number: i64| least.is_none_or(|b| b <= number) && most.is_none_or(|b| number <= b);
    let mut numbers = vec![i64::MIN, -1, 0, 1, i64::MAX];
    numbers.extend(least.into_iter().chain(most).flat_map(|bound| [bound - 1, bound, bound + 1]));
    let mut all: Vec<_> = numbers.into_iter().map(|number| (json!(number), fits(number))).collect();
    let whole = least.or(most).unwrap_or(1);
    all.extend([(json!(1e300), false), (json!(u64::MAX), false), (json!(whole as f64 + 0.5), false)]);
    all.push((json!(whole as f64), true));
    all
}

fn lists(schema: &Value, here: Option<&Value>) -> Vec<(Value, bool)> {
    let item = here.and_then(|here| here.get(0)).cloned().unwrap_or_else(|| fitting(&schema["items"]));
    let most = schema["maxItems"].as_u64().and_then(|most| usize::try_from(most).ok());
    let bounded = most.map(|most| (json!(vec![item.clone(); most + 1]), false));
    let many = (json!(vec![item.clone(); most.unwrap_or(1000)]), true);
    let mut all = vec![(json!([]), true), (json!([null]), false), (json!([[item]]), false), many];
    all.extend(bounded);
    all.push((json!([item.clone(), item]), true));
    all
}

fn objects(schema: &Value, here: Option<&Value>) -> Vec<(Value, bool)> {
    let fields = here.and_then(Value::as_object).cloned().unwrap_or_default();
    let with = |name: &str, value: Value| {
        let mut fields = fields.clone();
        fields.insert(name.to_owned(), value);
        Value::Object(fields)
    };
    if schema["properties"].is_object() {
        let empty = schema["required"].as_array().is_none_or(Vec::is_empty);
        return vec![
            (json!({}), empty),
            (with("noSuchField", json!("a")), false),
            (with("", json!("a")), false),
        ];
    }
    let free = schema["x-kubernetes-preserve-unknown-fields"] == true;
    let value = if free { json!("a") } else { fitting(&schema["additionalProperties"]) };
    let keys = |count| Value::Object((0..count).map(|i| (format!("k{i}"), value.clone())).collect());
    let mut all = vec![(json!({}), true)];
    if let Some(most) = schema["maxProperties"].as_u64() {
        all.extend([(keys(most), true), (keys(most + 1), false)]);
    }
    for name in ["", "a.b/c", "ä😀", "a\u{0}\n\"", "__proto__", &"k".repeat(10_000)] {
        all.push((with(name, value.clone()), true));
    }
    if free {
        all.extend(free_form().into_iter().map(|value| (with("x", value), true)));
        for (name, there) in &fields {
            let other = [Value::Null, json!({}), json!({"a": 1}), json!([1]), json!(1), json!("other")];
            let other = other.into_iter().filter(|other| other != there);
            all.extend(other.map(|other| (with(name, other), true)));
        }
    }
    all
}

/// What free-form JSON can hold.
fn free_form() -> Vec<Value> {
    let nested = |depth| (0..depth).fold(json!(1), |inner, _| json!({ "a": inner }));
    let lists = (0..500).fold(json!(1), |inner, _| json!([inner]));
    let sized = |kib: usize| json!("x".repeat(kib * 1024));
    let mut all = vec![Value::Null, json!({}), json!([]), json!([null, {"a": null}]), json!({"a": null})];
    all.extend([json!(0), json!(-0.0), json!(u64::MAX), json!(i64::MIN), json!(1e300), json!(5e-324)]);
    all.extend([json!(true), json!(""), json!("\u{0}\u{1b}\u{202e}😀\u{ffff}")]);
    all.extend([nested(50), nested(500), lists, sized(60), sized(70), sized(700)]);
    all
}

// === impl Mutation ===

impl Mutation {
    /// The manifest with it; `None` where the manifest has no such place.
    pub fn apply(&self, manifest: &Value) -> Option<Value> {
        let mut manifest = manifest.clone();
        for (place, value) in &self.fill {
            if place.find(&manifest).is_none_or(|there| there.as_array().is_some_and(Vec::is_empty)) {
                place.put(&mut manifest, Some(value.clone())).then_some(())?;
            }
        }
        self.place.put(&mut manifest, self.value.clone()).then_some(manifest)
    }
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            None => write!(f, "no {}", self.place),
            Some(value) => {
                let text = value.to_string();
                let short: String = text.chars().take(80).collect();
                let rest = text.len() - short.len();
                write!(f, "{} = {short}", self.place)?;
                if rest > 0 { write!(f, "… and {rest} bytes") } else { Ok(()) }
            }
        }
    }
}

fn covered(schema: &Value, manifest: &Value) -> BTreeSet<String> {
    mutations(schema, manifest, &[]).into_iter().map(|mutation| mutation.path).collect()
}

#[test]
fn every_field_of_every_spec_is_mutated_whatever_the_manifest_holds() {
    for plural in ["channels", "workspaces", "clusterworkspaces"] {
        let mut schema = spec_of(plural);
        let added = json!({"type": "object", "properties": {"inner": {"type": "array", "items": {"type": "string"}}}});
        schema["properties"]["addedTomorrow"] = added;
        let all: BTreeSet<_> = paths("spec", &schema).into_iter().collect();
        assert!(all.contains("spec.addedTomorrow.inner[]"));
        for manifest in [json!({"spec": {}}), json!({"spec": fitting(&schema)})] {
            assert_eq!(covered(&schema, &manifest), all, "{plural}");
        }
    }
}

#[test]
fn every_field_is_given_values_that_its_schema_refuses_and_all_bounds_from_both_sides() {
    for plural in ["channels", "workspaces", "clusterworkspaces"] {
        let schema = spec_of(plural);
        let all = mutations(&schema, &json!({"spec": {}}), &["word"]);
        for node in nodes(&schema, &json!({"spec": {}})) {
            let of: Vec<_> = all.iter().filter(|mutation| mutation.path == node.path).collect();
            assert!(of.iter().any(|mutation| !mutation.fits), "{plural} {}", node.path);
            let sizes: BTreeSet<_> =
                of.iter().filter_map(|mutation| size(mutation.value.as_ref()?)).collect();
            for (name, beyond) in
                [("maxLength", 1), ("minLength", -1), ("maxItems", 1), ("maximum", 1), ("minimum", -1)]
            {
                let Some(bound) = node.schema[name].as_f64().map(|bound| bound as i64) else { continue };
                let both = sizes.contains(&bound) && sizes.contains(&(bound + beyond));
                assert!(both || node.schema["enum"].is_array(), "{plural} {} {name}", node.path);
            }
            for word in node.schema["enum"].as_array().into_iter().flatten() {
                assert!(of.iter().any(|mutation| mutation.value.as_ref() == Some(word)), "{word}");
            }
        }
    }
}

fn size(value: &Value) -> Option<i64> {
    let length = |length: usize| i64::try_from(length).ok();
    match value {
        Value::String(text) => length(text.chars().count()),
        Value::Array(items) => length(items.len()),
        Value::Number(number) => number.as_i64(),
        _ => None,
    }
}
