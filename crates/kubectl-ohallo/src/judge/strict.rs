//! Fields that the schema does not have. The API server refuses them where it validates strictly, as kubectl asks it to.

use serde_json::Value;

use crate::judge::schema::Schema;
use crate::manifest::{FieldPath, Trail};

/// What every object has besides its schema.
const OF_EVERY_OBJECT: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Removes the unknown fields and names them.
pub fn prune(object: &mut Value, schema: &Schema) -> Vec<FieldPath> {
    let mut found = Vec::new();
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|key, value| {
            if OF_EVERY_OBJECT.contains(&key.as_str()) {
                return true;
            }
            known(value, schema.field(key), &Trail::Root.key(key), &mut found)
        });
    }
    found.sort();
    found
}

/// Whether a field is known; what is unknown inside it is removed.
fn known(value: &mut Value, schema: Option<&Schema>, at: &Trail<'_>, found: &mut Vec<FieldPath>) -> bool {
    match schema {
        Some(schema) => inside(value, schema, at, found),
        None => found.push(at.path()),
    }
    schema.is_some()
}

fn inside(value: &mut Value, schema: &Schema, at: &Trail<'_>, found: &mut Vec<FieldPath>) {
    if schema.free_form {
        return;
    }
    match value {
        Value::Object(fields) => {
            fields.retain(|key, value| known(value, schema.field(key), &at.key(key), found));
        }
        Value::Array(items) => {
            let none = Schema::default();
            let schema = schema.items.as_deref().unwrap_or(&none);
            for (index, item) in items.iter_mut().enumerate() {
                inside(item, schema, &at.index(index), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
