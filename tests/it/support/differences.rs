//! Where two manifests differ, in words short enough to read.

use std::collections::BTreeSet;

use serde_json::Value;

/// `path: left | right` for each difference. `60` and `60.0` are the same.
pub fn differences(left: &Value, right: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare(left, right, "", &mut found);
    found
}

fn compare(left: &Value, right: &Value, path: &str, found: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                let part = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                compare(&part(a), &part(b), &format!("{path}.{key}"), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().for_each(|(n, (a, b))| compare(a, b, &format!("{path}[{n}]"), found));
        }
        (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => {}
        _ if left == right => {}
        _ => found.push(format!("{path}: {left:.200} | {right:.200}")),
    }
}

#[test]
fn differences_are_named_by_their_path() {
    let (a, b) = (serde_json::json!({"a": [1, {"b": 2}]}), serde_json::json!({"a": [1.0, {"c": 2}]}));
    assert_eq!(differences(&a, &b), [".a[1].b: 2 | null", ".a[1].c: null | 2"]);
    assert_eq!(differences(&a, &a), [] as [&str; 0]);
}
