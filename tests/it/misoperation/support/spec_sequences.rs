//! Sequences of valid manifests, generated from the schema: a new field is in them the day it is added.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::misoperation::support::inputs::WORDS;
use crate::misoperation::support::schema::{kind, spec_of};

/// The longest sequence.
const LONGEST: usize = 8;

#[derive(Clone, Debug)]
pub struct Sequence {
    pub adopted: bool,
    pub replace: bool,
    pub specs: Vec<Value>,
    /// Whether each is waited for before the next is brought.
    pub waited: Vec<bool>,
}

/// Any spec that the schema has nothing against. What can't be changed is as in the example, and so are the shapes of
/// the items of lists: which fields go together is a rule that the schema has no word for.
fn spec(schema: &Value, example: &Value) -> BoxedStrategy<Value> {
    let fixed = |schema: &Value| {
        let rules = schema["x-kubernetes-validations"].as_array();
        rules.into_iter().flatten().any(|rule| rule["rule"] == "self == oldSelf")
    };
    match (kind(schema), example) {
        _ if fixed(schema) => Just(example.clone()).boxed(),
        ("string", _) if schema["enum"].is_array() => {
            prop::sample::select(schema["enum"].as_array().unwrap().clone()).boxed()
        }
        ("string", _) if schema["pattern"].is_string() || example.is_string() && !free(schema) => word(),
        ("string", _) => text(schema).boxed(),
        ("integer", _) => {
            let bound = |name: &str| schema[name].as_f64().unwrap() as i64;
            (bound("minimum")..=bound("maximum")).prop_map(Value::from).boxed()
        }
        ("boolean", _) => any::<bool>().prop_map(Value::from).boxed(),
        ("array", Value::Array(items)) => {
            let item = |example: &Value| whole(&schema["items"], example);
            let item = prop::strategy::Union::new(items.iter().map(item));
            prop::collection::vec(item, 0..4).prop_map(Value::from).boxed()
        }
        ("object", _) if schema["properties"].is_object() => fields(schema, example, false),
        ("object", _) => prop::collection::btree_map("[a-d]{1,2}|ä😀", json_value(), 0..6)
            .prop_map(|fields| Value::Object(fields.into_iter().collect()))
            .boxed(),
        (other, _) => panic!("no strategy is known for the type {other}"),
    }
}

/// Whether a text may be anything: nothing declares that it names something.
fn free(schema: &Value) -> bool {
    schema["maxLength"] != 253
}

fn whole(schema: &Value, example: &Value) -> BoxedStrategy<Value> {
    if schema["properties"].is_object() { fields(schema, example, true) } else { spec(schema, example) }
}

/// An object with its required fields and any of the others, or with exactly those of the example.
fn fields(schema: &Value, example: &Value, exactly: bool) -> BoxedStrategy<Value> {
    let mut fields = Just(Map::new()).boxed();
    for (name, property) in schema["properties"].as_object().unwrap() {
        let there = example.get(name).is_some();
        if exactly && !there {
            continue;
        }
        let required = schema["required"].as_array().is_some_and(|names| names.contains(&json!(name)));
        let fixed = exactly || required || there && property["x-kubernetes-validations"].is_array();
        let value = spec(property, &example[name]);
        let value = if fixed { value.prop_map(Some).boxed() } else { prop::option::of(value).boxed() };
        let name = name.clone();
        fields = (fields, value)
            .prop_map(move |(mut fields, value)| {
                fields.extend(value.map(|value| (name.clone(), value)));
                fields
            })
            .boxed();
    }
    fields.prop_map(Value::Object).boxed()
}

fn word() -> BoxedStrategy<Value> {
    prop::sample::select(WORDS.to_vec()).prop_map(Value::from).boxed()
}

fn text(schema: &Value) -> impl Strategy<Value = Value> + use<> {
    let most = usize::try_from(schema["maxLength"].as_u64().unwrap()).unwrap();
    let short = "[a-c]|[a-zA-Zäö😀]([ -~äö😀]{0,20}[!-~])?".prop_map(Value::from);
    prop_oneof![9 => short, 1 => Just(json!("ä".repeat(most)))]
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop::num::f64::NORMAL.prop_map(Value::from),
        "[ -~ä😀]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-c]", inner, 0..3)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

pub fn sequence() -> impl Strategy<Value = Sequence> {
    let schema = spec_of("channels");
    let types = prop::sample::select(vec!["chat", "email", "voice", "whatsapp"]);
    types.prop_flat_map(move |channel_type| {
        let example = json!({
            "channelType": channel_type, "workspaceRef": {"kind": "Workspace", "name": "default"},
            "credentials": [
                {"secretRef": {"name": "alpha", "optional": true}},
                {"name": "alpha", "secretKeyRef": {"name": "alpha", "key": "alpha", "optional": false}},
            ],
        });
        let specs = prop::collection::vec(spec(&schema, &example), 1..=LONGEST);
        let waited = prop::collection::vec(any::<bool>(), LONGEST);
        (any::<bool>(), any::<bool>(), specs, waited).prop_map(|(adopted, replace, specs, waited)| Sequence {
            adopted,
            replace,
            specs,
            waited,
        })
    })
}
