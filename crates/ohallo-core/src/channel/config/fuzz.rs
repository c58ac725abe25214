//! Properties of every pair of a declared and an actual config.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;
use crate::fuzz::{config, object};

/// Every value below that is not an object with fields, by its path.
fn leaves(value: &Map<String, Value>) -> BTreeMap<Vec<String>, Value> {
    let mut found = BTreeMap::new();
    let mut left: Vec<(Vec<String>, &Map<String, Value>)> = vec![(Vec::new(), value)];
    while let Some((path, fields)) = left.pop() {
        for (key, value) in fields {
            let path = [path.clone(), vec![key.clone()]].concat();
            match value {
                Value::Object(fields) if !fields.is_empty() => left.push((path, fields)),
                value => drop(found.insert(path, value.clone())),
            }
        }
    }
    found
}

fn levels(value: &Value) -> usize {
    let inner = match value {
        Value::Object(fields) => fields.values().map(levels).max(),
        Value::Array(items) => items.iter().map(levels).max(),
        _ => return 0,
    };
    1 + inner.unwrap_or(0)
}

/// Whether a value that is declared at the first path may change the value at `path`. Null declares nothing except its
/// enclosing object.
fn may_change(declared: &[String], value: &Value, path: &[String]) -> bool {
    let around = declared.starts_with(path);
    if value.is_null() { around && declared.len() > path.len() } else { around || path.starts_with(declared) }
}

/// A config with this number of levels, itself the first.
fn nested(levels: usize, array: bool) -> Map<String, Value> {
    let wrap = |inner: Value| {
        if array { Value::from(vec![inner]) } else { Value::from(Map::from_iter([("a".into(), inner)])) }
    };
    let inner = (1..levels).fold(Value::from(1), |inner, _| wrap(inner));
    Map::from_iter([("a".into(), inner)])
}

#[test]
fn a_config_is_too_deep_from_one_level_above_the_limit() {
    for array in [false, true] {
        assert!(!too_deep(&nested(MAX_LEVELS, array)));
        assert!(too_deep(&nested(MAX_LEVELS + 1, array)));
        assert!(too_deep(&nested(10 * MAX_LEVELS, array)));
    }
}

proptest! {
    #![proptest_config(config(1500))]

    #[test]
    fn an_overlay_laid_twice_is_the_overlay(declared in object(), actual in object()) {
        let once = overlay(&declared, &actual);
        prop_assert_eq!(overlay(&declared, &once), once);
    }

    #[test]
    fn an_overlay_touches_declared_paths_alone(declared in object(), actual in object()) {
        let (before, after) = (leaves(&actual), leaves(&overlay(&declared, &actual)));
        let declared = leaves(&declared);
        let of = |path: &[String]| declared.iter().any(|(declared, value)| may_change(declared, value, path));
        for (path, value) in &before {
            prop_assert!(after.get(path) == Some(value) || of(path), "{:?} is another's", path);
        }
        for path in after.keys() {
            prop_assert!(before.contains_key(path) || of(path), "{:?} comes from nowhere", path);
        }
        for (path, value) in declared.iter().filter(|(_, value)| !value.is_null()) {
            prop_assert!(value.as_object().is_some() || after.get(path) == Some(value), "{:?} is not as declared", path);
        }
    }

    #[test]
    fn an_overlay_is_no_deeper_and_no_larger_than_both_together(declared in object(), actual in object()) {
        let whole = Value::Object(overlay(&declared, &actual));
        let (declared, actual) = (Value::Object(declared), Value::Object(actual));
        prop_assert!(levels(&whole) <= levels(&declared).max(levels(&actual)));
        prop_assert!(whole.to_string().len() <= declared.to_string().len() + actual.to_string().len());
    }

    #[test]
    fn a_difference_is_declared_and_disappears_after_the_update(declared in object(), actual in object()) {
        let paths = paths(&declared);
        for differs in differences(&declared, &actual) {
            let below = |path: &str| path.starts_with(&differs.path) || differs.path.starts_with(path);
            let full = paths.len() + differs.path.len() > PATHS_BYTES / 2;
            prop_assert!(full || differs.declared.as_object().is_some() || paths.split('\0').any(below), "{}", differs.path);
        }
        prop_assert_eq!(differences(&declared, &overlay(&declared, &actual)), vec![]);
    }
}
