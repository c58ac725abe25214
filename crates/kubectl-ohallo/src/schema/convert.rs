//! From the schema of a CustomResourceDefinition to a JSON schema that editors and kubeconform read.

use ohallo_core::api::GROUP;
use serde_json::{Map, Value, json};

/// The JSON schema of one kind. Fields that the schema does not have are refused, as with strict field validation.
pub fn of_kind(kind: &str, version: &str, mut schema: Value) -> Value {
    strict(&mut schema);
    let Some(root) = schema.as_object_mut() else { return schema };
    let api_version = format!("{GROUP}/{version}");
    if let Some(fields) = root.get_mut("properties").and_then(Value::as_object_mut) {
        let word = |word: &str, text| json!({"type": "string", "enum": [word], "description": text});
        let metadata = json!({"type": "object", "description": "Name, namespace, labels and annotations of the object."});
        fields
            .insert("apiVersion".to_owned(), word(&api_version, "The API group and version of the object."));
        fields.insert("kind".to_owned(), word(kind, "The kind of the object."));
        fields.insert("metadata".to_owned(), metadata);
    }
    root.insert("required".to_owned(), json!(["apiVersion", "kind", "metadata", "spec"]));
    root.insert("$schema".to_owned(), "http://json-schema.org/draft-07/schema#".into());
    schema
}

/// Closes every object whose fields are known, and removes the keywords that only the API server knows.
fn strict(schema: &mut Value) {
    let Some(node) = schema.as_object_mut() else { return };
    let free = node.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    if node.contains_key("properties") && !free && !node.contains_key("additionalProperties") {
        node.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    node.retain(|key, _| !key.starts_with("x-kubernetes-"));
    // Bounds of integers are floats in a CRD.
    for bound in ["minimum", "maximum"] {
        let whole = node.get(bound).and_then(Value::as_f64).filter(|value| value.fract() == 0.0);
        if let Some(whole) = whole.and_then(|value| format!("{value:.0}").parse::<i64>().ok()) {
            node.insert(bound.to_owned(), whole.into());
        }
    }
    if let Some(fields) = node.get_mut("properties").and_then(Value::as_object_mut) {
        children(fields);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = node.get_mut(key) {
            strict(inner);
        }
    }
}

fn children(fields: &mut Map<String, Value>) {
    fields.values_mut().for_each(strict);
}
