//! Nulls and defaults, as the API server fills them in before it validates.

use serde_json::Value;

use crate::judge::schema::Schema;

/// Removes each null whose field has no default: no field of these kinds is nullable.
pub fn prune_nulls(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(fields) => fields.retain(|key, value| {
            let Some(schema) = schema.field(key) else { return true };
            if value.is_null() && schema.default.is_none() {
                return false;
            }
            prune_nulls(value, schema);
            true
        }),
        Value::Array(items) => {
            let Some(schema) = schema.items.as_deref() else { return };
            items.iter_mut().for_each(|item| prune_nulls(item, schema));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

pub fn apply(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(fields) => {
            for (key, property) in &schema.properties {
                if let Some(default) = &property.default
                    && fields.get(key).is_none_or(Value::is_null)
                {
                    fields.insert(key.clone(), default.clone());
                }
            }
            for (key, value) in fields {
                if let Some(schema) = schema.field(key) {
                    apply(value, schema);
                }
            }
        }
        Value::Array(items) => {
            let Some(schema) = schema.items.as_deref() else { return };
            items.iter_mut().for_each(|item| apply(item, schema));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
