use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::hostile::{bytes, config, object};

fn nested(levels: usize, inner: &str) -> String {
    (0..levels).fold(inner.to_owned(), |inner, level| {
        if level % 2 == 0 { format!(r#"{{"a]{{\"":{inner},"b":"}}\\"}}"#) } else { format!("[1,{inner}]") }
    })
}

/// As it comes out, fed in pieces of this size.
fn sieved(text: &[u8], piece: usize) -> Vec<u8> {
    let mut sieve = Sieve::default();
    text.chunks(piece.max(1)).flat_map(|piece| sieve.pass(Bytes::copy_from_slice(piece)).to_vec()).collect()
}

fn text(text: &str, piece: usize) -> String {
    String::from_utf8(sieved(text.as_bytes(), piece)).unwrap()
}

#[test]
fn up_to_the_bound_everything_comes_as_it_is_and_beyond_it_null() {
    assert_eq!(text(&nested(LEVELS, "7"), 4096), nested(LEVELS, "7"));
    for inner in ["{}", "[]", r#"{"x":[{"y":"}]"}]}"#, &nested(5000, "\"\\\"\"")] {
        let deep = nested(LEVELS, inner);
        for piece in [1, 2, 3, 7, 1 << 20] {
            assert_eq!(text(&deep, piece), nested(LEVELS, "null"));
        }
        let _: Value = serde_json::from_str(&text(&deep, 4096)).unwrap();
    }
}

#[test]
fn managed_fields_are_left_out_where_they_are_the_objects_own() {
    let fields = json!([{"manager": "a}]\",", "time": "9999-12-31T23:59:59Z", "fieldsV1": {"f:managedFields": {"x": [1, "]"]}}}]);
    let of = |fields: &Value| {
        let config = json!({"managedFields": [1], "metadata": {"managedFields": [2]}, "items": [{"metadata": {"managedFields": [3]}}]});
        json!({"kind": "Channel", "metadata": {"managedFields": fields, "name": "a"}, "spec": {"config": config, "note": "\"managedFields\":"}})
    };
    let last = |fields: &Value| json!({"metadata": {"annotations": {"managedFields": "kept"}, "managedFields": fields}});
    for (given, left) in [(&fields, &Value::Null), (&json!([]), &Value::Null), (&Value::Null, &Value::Null)] {
        for wrap in [
            |it: Value| it,
            |it: Value| json!({"type": "ADDED", "object": it}),
            |it: Value| json!({"object": it, "type": "ADDED"}),
            |it: Value| json!({"items": [it.clone(), {}, it], "kind": "List", "metadata": {"resourceVersion": "1"}}),
        ] {
            for make in [&of as &dyn Fn(&Value) -> Value, &last] {
                let (given, left) = (wrap(make(given)), wrap(make(left)));
                for piece in [1, 2, 3, 7, 1 << 20] {
                    let whole: Value = serde_json::from_str(&text(&given.to_string(), piece)).unwrap();
                    assert_eq!(whole, left);
                    let pretty: Value =
                        serde_json::from_str(&text(&serde_json::to_string_pretty(&given).unwrap(), piece))
                            .unwrap();
                    assert_eq!(pretty, left);
                }
            }
        }
    }
}

#[test]
fn one_line_of_a_watch_does_not_touch_the_next() {
    let (deep, flat) = (nested(200, "1"), nested(3, "2"));
    let out = text(&format!("{deep}\n{flat}\n"), 5);
    assert_eq!(out.lines().nth(1), Some(flat.as_str()));
    let cut: Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    assert!(cut.is_object() || cut.is_array());
}

proptest! {
    #![proptest_config(config(1000))]

    #[test]
    fn what_nothing_is_taken_out_of_comes_as_it_is(fields in object(), piece in 1..200_usize) {
        let whole = json!({"metadata": {"name": "a"}, "spec": {"config": fields}}).to_string();
        prop_assert_eq!(text(&whole, piece), whole);
    }

    #[test]
    fn whatever_comes_in_no_more_levels_go_out(after in bytes(), deep in 0..300_usize, piece in 1..50_usize) {
        let out = sieved(&[nested(deep, "1").into_bytes(), after].concat(), piece);
        let mut read = Sieve::default();
        for byte in &out {
            read.read(*byte);
            prop_assert!(read.level <= LEVELS);
        }
    }
}
