//! A rendering as lines, one for each value in it, so that what a switch changes can be shown line by line.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::support::helm::{OPERATOR_NAMESPACE, RELEASE};

/// The lines of each object, by its kind, and its name and namespace where those are not the release's own.
pub type Lines = BTreeMap<String, BTreeSet<String>>;

pub fn lines(rendered: &[Value]) -> Lines {
    let mut all = Lines::new();
    for object in rendered {
        let mut lines = BTreeSet::new();
        write(object, "", &mut lines);
        let twice = all.insert(called(object), lines);
        assert!(twice.is_none(), "{} is there twice", called(object));
    }
    all
}

fn called(object: &Value) -> String {
    let word = |field: &str, usual: &str, before: &str| {
        let word = object["metadata"][field].as_str().filter(|word| *word != usual);
        word.map(|word| format!("{before}{word}")).unwrap_or_default()
    };
    let kind = object["kind"].as_str().unwrap();
    format!("{kind}{}{}", word("name", RELEASE, " "), word("namespace", OPERATOR_NAMESPACE, " in "))
}

/// What is in a list is called by its name, a plain word by nothing, and all else by its number.
fn write(value: &Value, path: &str, lines: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            let dot = if path.is_empty() { "" } else { "." };
            map.iter().for_each(|(key, value)| write(value, &format!("{path}{dot}{key}"), lines));
        }
        Value::Array(list) if !list.is_empty() => {
            for (number, item) in list.iter().enumerate() {
                let name = match (item, item["name"].as_str()) {
                    (_, Some(name)) => name.to_owned(),
                    (Value::Object(_) | Value::Array(_), None) => number.to_string(),
                    _ => String::new(),
                };
                write(item, &format!("{path}[{name}]"), lines);
            }
        }
        // A text as it is, unless it would resemble something else.
        value => {
            let text = value.as_str().filter(|text| serde_json::from_str::<Value>(text).is_err());
            let shown = text.map(str::to_owned).unwrap_or_else(|| value.to_string());
            lines.insert(format!("{}={shown}", short(path)));
        }
    }
}

fn short(path: &str) -> String {
    let path = path.strip_prefix("spec.template.").map(|rest| format!("pod.{rest}")).unwrap_or(path.into());
    path.replace("pod.spec.containers[operator].", "container.")
}

/// What one has and the other has not. Of an object that is new or deleted as a whole only that fact.
pub fn changed_lines(before: &Lines, after: &Lines) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (sign, these, others) in [("-", before, after), ("+", after, before)] {
        for (object, lines) in these {
            match others.get(object) {
                Some(other) => {
                    found.extend(lines.difference(other).map(|it| format!("{sign} {object}: {it}")))
                }
                None => _ = found.insert(format!("{sign} {object}")),
            }
        }
    }
    found
}

#[test]
fn a_change_is_reported_by_its_object_and_line() {
    let deployment = |args: Value| {
        let containers = serde_json::json!([{"name": "operator", "args": args, "ports": [{"port": 1}]}]);
        let metadata = serde_json::json!({"name": RELEASE, "namespace": OPERATOR_NAMESPACE});
        serde_json::json!({"kind": "Deployment", "metadata": metadata,
            "spec": {"template": {"spec": {"containers": containers}}}})
    };
    let role = serde_json::json!({"kind": "Role", "metadata": {"name": "a", "namespace": "b"}});
    let (before, after) =
        (deployment(serde_json::json!(["c", "1"])), deployment(serde_json::json!(["c", 1])));
    assert_eq!(
        changed_lines(&lines(&[before]), &lines(&[after, role])),
        ["- Deployment: container.args[]=\"1\"", "+ Deployment: container.args[]=1", "+ Role a in b"]
            .map(str::to_owned)
            .into()
    );
}
