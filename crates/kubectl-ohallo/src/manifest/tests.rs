use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn all(text: &str) -> Vec<Result<Value, String>> {
    documents(text)
        .map(|document| document.root.map(|root| root.value()).map_err(|error| error.to_string()))
        .collect()
}

fn one(text: &str) -> Value {
    let mut found = all(text);
    assert_eq!(found.len(), 1, "{text}: {found:?}");
    found.remove(0).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn a_plain_scalar_means_what_it_means_to_kubernetes() {
    for (text, meaning) in [
        ("on", json!(true)),
        ("Off", json!(false)),
        ("y", json!(true)),
        ("NO", json!(false)),
        ("oN", json!("oN")),
        ("~", Value::Null),
        ("", Value::Null),
        ("nULL", json!("nULL")),
        ("0123", json!(83)),
        ("08", json!(8)),
        ("0o17", json!(15)),
        ("0x1F", json!(31)),
        ("-0x1f", json!(-31)),
        ("0b101", json!(5)),
        ("1_000", json!(1000)),
        ("+5", json!(5)),
        ("-0", json!(0)),
        ("9223372036854775807", json!(i64::MAX)),
        ("-9223372036854775808", json!(i64::MIN)),
        ("18446744073709551615", json!(u64::MAX)),
        ("18446744073709551616", json!(18_446_744_073_709_551_616_f64)),
        ("1e3", json!(1000)),
        ("1.0", json!(1)),
        ("600.5", json!(600.5)),
        (".5", json!(0.5)),
        ("5.", json!(5)),
        ("1e400", json!("1e400")),
        ("1.2.3", json!("1.2.3")),
        ("2026-01-01", json!("2026-01-01")),
        ("2026-01-01T00:00:00Z", json!("2026-01-01T00:00:00Z")),
        ("12:30", json!("12:30")),
        ("'on'", json!("on")),
        ("\"0123\"", json!("0123")),
        ("!!str on", json!("on")),
        ("!!int \"5\"", json!(5)),
        ("!!float 5", json!(5)),
        ("!custom on", json!("on")),
        ("=", json!("=")),
    ] {
        assert_eq!(one(&format!("key: {text}"))["key"], meaning, "{text}");
    }
    assert!(all("key: !!int text")[0].is_err());
}

#[test]
fn infinity_and_nan_are_found_where_nothing_replaces_them() {
    let found = |text: &str| -> Vec<String> {
        let root = documents(text).next().unwrap().root.unwrap();
        root.not_finite().iter().map(ToString::to_string).collect()
    };
    assert_eq!(found("a: {b: [1, .inf]}\nc: .NaN\nd: '.inf'"), ["a.b[1]", "c"]);
    assert!(found("a: .inf\na: 1").is_empty());
}

#[test]
fn a_file_is_split_as_kubectl_splits_it() {
    for (text, documents) in [
        ("", vec![]),
        ("---\n# only a comment\n---\n", vec![]),
        ("a: 1\n---\nb: 2\n", vec![json!({"a": 1}), json!({"b": 2})]),
        ("\u{feff}a: 1\n---  \nb: 2", vec![json!({"a": 1}), json!({"b": 2})]),
        ("a: |\n  ---\n  text\n", vec![json!({"a": "---\ntext\n"})]),
        ("{\"a\": 1}\n{\"b\": 2.0} {\"c\": 3}", vec![json!({"a": 1}), json!({"b": 2.0}), json!({"c": 3})]),
        ("{a: 1}\n---\n{b: 2}", vec![json!({"a": 1}), json!({"b": 2})]),
        ("a: 1\r\n---\r\nb: 2\r\n", vec![json!({"a": 1}), json!({"b": 2})]),
    ] {
        let found: Vec<_> = all(text).into_iter().map(Result::unwrap).collect();
        assert_eq!(found, documents, "{text:?}");
    }
}

#[test]
fn a_document_that_can_not_be_parsed_leaves_the_others() {
    let found = all("a: [\n---\nb: 2\n---\nc: \"open\n---\nd: 4");
    assert!(found[0].is_err() && found[2].is_err(), "{found:?}");
    assert_eq!((&found[1], &found[3]), (&Ok(json!({"b": 2})), &Ok(json!({"d": 4}))));
}

#[test]
fn what_kubectl_ignores_after_a_document_is_found() {
    for (text, line) in [("a: 1\n--- # more\nb: 2\n", 2), (" a: 1\nb: 2\n", 2), ("a: 1\n...\n---\n", 0)] {
        let document = documents(text).next().unwrap();
        assert_eq!(document.root.unwrap().value(), json!({"a": 1}), "{text:?}");
        assert_eq!(document.ignored_from.map_or(0, |at| at.line), line, "{text:?}");
    }
}

#[test]
fn a_position_is_that_of_the_key_in_the_file_or_of_its_nearest_ancestor() {
    let text = "# comment\n---\nspec:\n  list:\n    - name: a\n    - {name: b}\n";
    let root = documents(text).next().unwrap().root.unwrap();
    for (path, line, column) in [
        ("spec", 3, 1),
        ("spec.list", 4, 3),
        ("spec.list[0].name", 5, 7),
        ("spec.list[1].name", 6, 8),
        ("spec.list[1].missing.deeper", 6, 7),
        ("spec.list[7]", 4, 3),
        ("missing", 3, 1),
    ] {
        assert_eq!(root.position(&FieldPath::parse(path)), Position { line, column }, "{path}");
        assert_eq!(FieldPath::parse(path).to_string(), path);
    }
    let json = documents("{\"a\": 1}\n\n{\n  \"b\": 2}").nth(1).unwrap().root.unwrap();
    assert_eq!(json.position(&FieldPath::of(&["b"])), Position { line: 4, column: 3 });
}

#[test]
fn anchors_and_merges_are_what_they_stand_for_and_duplicates_are_named() {
    let text = "base: &base {a: 1, b: 2}\nitem:\n  <<: *base\n  c: *base\n";
    assert_eq!(one(text)["item"], json!({"a": 1, "b": 2, "c": {"a": 1, "b": 2}}));
    let duplicates = |text: &str| -> Vec<String> {
        let root = documents(text).next().unwrap().root.unwrap();
        root.duplicates().iter().map(|duplicate| duplicate.path.to_string()).collect()
    };
    assert_eq!(duplicates("a: 1\nb: [{c: 1, c: 2}]\na: 3"), ["b[0].c", "a"]);
    assert_eq!(duplicates("a: &a {x: 1}\nb: {<<: *a, x: 2}"), ["b.x"]);
    assert!(all("a: &a [*a]")[0].is_err());
    assert!(all("? [a]\n: 1")[0].is_err() && all("~: 1")[0].is_err());
    assert_eq!(one("1: a\ntrue: b"), json!({"1": "a", "true": "b"}));
}

#[test]
fn whatever_has_items_is_a_list_and_gives_them_its_type() {
    let types = |text: &str| -> Vec<_> {
        let root = documents(text).next().unwrap().root.unwrap();
        let found = objects(&root).into_iter().map(|(at, node)| {
            let type_ = ["apiVersion", "kind"].map(|key| node.text_at(&[key]).to_owned()).join(" ");
            (at, type_)
        });
        found.collect()
    };
    let of_list = |types: &[&str]| -> Vec<_> {
        types.iter().enumerate().map(|(at, type_)| (Some(at), (*type_).to_owned())).collect()
    };
    let own = "{apiVersion: a/v1, kind: Own}";
    for (text, expected) in [
        (format!("{{apiVersion: v1, kind: List, items: [{own}]}}"), of_list(&["a/v1 Own"])),
        (
            format!("{{apiVersion: b/v1, kind: Some, items: [{own}, {{}}]}}"),
            of_list(&["a/v1 Own", "b/v1 Some"]),
        ),
        (
            "{apiVersion: b/v1, kind: SomeList, items: [{kind: ''}, {kind: Own}]}".into(),
            of_list(&["b/v1 Some", " Own"]),
        ),
        ("{apiVersion: v1, kind: List, items: []}".into(), vec![]),
        ("{apiVersion: v1, kind: Some, items: {}}".into(), vec![(None, "v1 Some".into())]),
        ("{apiVersion: v1, items: [{}]}".into(), vec![(None, "v1 ".into())]),
    ] {
        assert_eq!(types(&text), expected, "{text}");
    }
    let root = documents("kind: SomeList\nitems:\n  - spec: {a: 1}\n").next().unwrap().root.unwrap();
    let (_, item) = &objects(&root)[0];
    assert_eq!(item.position(&FieldPath::parse("spec.a")), Position { line: 3, column: 12 });
}

#[test]
fn a_document_of_aliases_of_aliases_is_refused_before_it_fills_the_memory() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let items = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    assert!(all(&text)[0].as_ref().unwrap_err().contains("too many aliases"));
}

#[test]
fn json_of_any_depth_and_character_is_read() {
    let deep = format!("{}1{}", "{\"a\":".repeat(400), "}".repeat(400));
    let mut value = one(&deep);
    for _ in 0..400 {
        value = value["a"].take();
    }
    assert_eq!(value, json!(1));
    let odd = json!({"\u{0}\u{7f}\u{ffff}": "\u{1b}\u{202e}😀\u{85}\u{feff}", "k".repeat(5000): "\t\\/\""});
    assert_eq!(one(&odd.to_string()), odd);
    assert_eq!(one("{\"a\": \"\\ud83d\\ude00\"}"), json!({"a": "😀"}));
    assert!(all("{\"a\": 1} {\"b\": ")[1].is_err());
    assert!(all("a: \u{1}")[0].is_err());
}

#[test]
fn a_directory_is_read_once_whatever_its_links() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    std::fs::create_dir_all(folder.path().join(".git")).unwrap();
    std::fs::create_dir(&inner).unwrap();
    for (name, text) in
        [("b.yaml", "b"), ("inner/a.yml", "a"), ("c.json", "c"), ("d.txt", "d"), (".git/e.yaml", "e")]
    {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    std::fs::write(folder.path().join("binary.yaml"), [0xff, 0xfe, 0]).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(folder.path(), inner.join("loop")).unwrap();
    let found: Vec<_> = read(&[folder.path().to_owned()]).collect();
    let texts: Vec<_> = found.iter().filter_map(|source| source.text.as_deref().ok()).collect();
    assert_eq!(texts, ["b", "c", "a"]);
    let failed: Vec<_> = found.iter().filter_map(|source| source.text.as_deref().err()).collect();
    assert!(failed.len() == 1 && failed[0].contains("not text"), "{failed:?}");
    let missing: Vec<_> = read(&[folder.path().join("missing")]).collect();
    assert!(missing[0].text.as_ref().unwrap_err().contains("can't be read"));
}

proptest! {
    #[test]
    fn whatever_a_file_holds_it_is_read_without_a_panic(text in "[ -~\n\t\u{0}-\u{ff}😀:#&*!|>{}\\[\\]-]{0,200}") {
        for document in documents(&text) {
            if let Ok(root) = document.root {
                root.value();
                root.duplicates();
            }
        }
    }

    #[test]
    fn json_is_read_as_serde_json_reads_it(value in json_value()) {
        prop_assert_eq!(one(&json!({"value": value}).to_string()), json!({"value": value}));
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        prop::num::f64::NORMAL.prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}
