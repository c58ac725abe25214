//! Fields that the schema does not have. The API server refuses them where it validates strictly, as kubectl asks it to.

use serde_json::Value;

use crate::judge::schema::Schema;
use crate::manifest::FieldPath;

/// What every object has besides its schema.
const OF_EVERY_OBJECT: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Removes the unknown fields and names them.
pub fn prune(object: &mut Value, schema: &Schema) -> Vec<FieldPath> {
    let mut found = Vec::new();
    let root = FieldPath::default();
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|key, value| {
            if OF_EVERY_OBJECT.contains(&key.as_str()) {
                return true;
            }
            known(value, schema.field(key), root.key(key), &mut found)
        });
    }
    found.sort();
    found
}

/// Whether a field is known; what is unknown inside it is removed.
fn known(value: &mut Value, schema: Option<&Schema>, path: FieldPath, found: &mut Vec<FieldPath>) -> bool {
    match schema {
        Some(schema) => inside(value, schema, &path, found),
        None => found.push(path),
    }
    schema.is_some()
}

fn inside(value: &mut Value, schema: &Schema, path: &FieldPath, found: &mut Vec<FieldPath>) {
    if schema.free_form {
        return;
    }
    match value {
        Value::Object(fields) => {
            fields.retain(|key, value| known(value, schema.field(key), path.key(key), found));
        }
        Value::Array(items) => {
            let none = Schema::default();
            let schema = schema.items.as_deref().unwrap_or(&none);
            for (index, item) in items.iter_mut().enumerate() {
                inside(item, schema, &path.index(index), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
