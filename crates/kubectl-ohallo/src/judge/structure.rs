//! Types, bounds, enums, patterns, required fields and sets.

use serde_json::{Map, Number, Value};

use crate::judge::finding::{Finding, Rule};
use crate::judge::number::{Integer, NUMBER, integer};
use crate::judge::schema::{ListType, Schema, Type};
use crate::manifest::Trail;

pub fn check(object: &Value, schema: &Schema) -> Vec<Finding> {
    let mut findings = Vec::new();
    value(object, schema, &Trail::Root, &mut findings);
    findings
}

fn value(value: &Value, schema: &Schema, at: &Trail<'_>, found: &mut Vec<Finding>) {
    if let Some(wanted) = schema.kind
        && !has_type(value, wanted)
    {
        let hint = match (wanted, value) {
            (Type::String, Value::Bool(_) | Value::Number(_)) => ": put it in quotes",
            _ => "",
        };
        let message = format!("must be of type {wanted}, and is of type {}{hint}", type_of(value));
        found.push(Finding::new(Rule::Type, &at.path(), message));
    }
    if !schema.allowed.is_empty() && !schema.allowed.contains(value) {
        let words: Vec<_> = schema.allowed.iter().map(shown).collect();
        found.push(Finding::new(
            Rule::Enum,
            &at.path(),
            format!("{} is none of {}", shown(value), words.join(", ")),
        ));
    }
    match value {
        Value::String(value) => text(value, schema, at, found),
        Value::Number(value) => number(value, schema, at, found),
        Value::Array(items) => list(items, schema, at, found),
        Value::Object(fields) => object(fields, schema, at, found),
        Value::Null | Value::Bool(_) => {}
    }
}

fn has_type(value: &Value, wanted: Type) -> bool {
    match (wanted, value) {
        (Type::Integer, Value::Number(number)) => integer(number) != Integer::No,
        (Type::Array, Value::Array(_))
        | (Type::Boolean, Value::Bool(_))
        | (Type::Object, Value::Object(_))
        | (Type::String, Value::String(_)) => true,
        _ => false,
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_i64() => "integer",
        Value::Number(_) => NUMBER,
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A value in a message: short, and without what hides or reorders text.
pub fn shown(value: &Value) -> String {
    const MAX: usize = 64;
    let text = match value {
        Value::String(text) => format!("\"{text}\""),
        other => other.to_string(),
    };
    ohallo_core::text::sanitize(&text, MAX)
}

fn text(value: &str, schema: &Schema, at: &Trail<'_>, found: &mut Vec<Finding>) {
    let length = value.chars().count();
    // The API server names the first of them only.
    let (rule, message) = if let Some(max) = schema.max_length.filter(|max| length > *max) {
        (Rule::TooLong, format!("has {length} characters, and may have at most {max}"))
    } else if let Some(min) = schema.min_length.filter(|min| length < *min) {
        (Rule::TooShort, format!("has {length} characters, and needs at least {min}"))
    } else if let Some(pattern) = schema.pattern.as_ref().filter(|pattern| !pattern.is_match(value)) {
        (Rule::Pattern, format!("{} does not match {pattern}", shown(&Value::from(value))))
    } else {
        return;
    };
    found.push(Finding::new(rule, &at.path(), message));
}

fn number(value: &Number, schema: &Schema, at: &Trail<'_>, found: &mut Vec<Finding>) {
    if schema.kind == Some(Type::Integer) && integer(value) == Integer::Almost {
        found.push(Finding::new(Rule::OutOfRange, &at.path(), format!("{value} is not a whole number")));
    }
    let Some(size) = value.as_f64() else { return };
    if let Some(max) = schema.maximum.filter(|max| size > *max) {
        found.push(Finding::new(Rule::OutOfRange, &at.path(), format!("{value} is greater than {max}")));
    }
    if let Some(min) = schema.minimum.filter(|min| size < *min) {
        found.push(Finding::new(Rule::OutOfRange, &at.path(), format!("{value} is less than {min}")));
    }
}

fn list(items: &[Value], schema: &Schema, at: &Trail<'_>, found: &mut Vec<Finding>) {
    if let Some(schema) = schema.items.as_deref() {
        for (index, item) in items.iter().enumerate() {
            value(item, schema, &at.index(index), found);
        }
    }
    if let Some(max) = schema.max_items.filter(|max| items.len() > *max) {
        let message = format!("has {} items, and may have at most {max}", items.len());
        found.push(Finding::new(Rule::TooMany, &at.path(), message));
    }
    if schema.list_type == Some(ListType::Set) {
        for (index, item) in items.iter().enumerate() {
            let earlier = items.iter().take(index).filter(|other| *other == item).count();
            // A third one is not named again.
            if earlier == 1 {
                let message = format!("{} is there twice: remove one", shown(item));
                found.push(Finding::new(Rule::DuplicateItem, &at.index(index).path(), message));
            }
        }
    }
}

fn object(fields: &Map<String, Value>, schema: &Schema, at: &Trail<'_>, found: &mut Vec<Finding>) {
    if let Some(max) = schema.max_properties.filter(|max| fields.len() > *max) {
        let message = format!("has {} entries, and may have at most {max}", fields.len());
        found.push(Finding::new(Rule::TooMany, &at.path(), message));
    }
    for (key, field) in fields {
        if let Some(schema) = schema.field(key) {
            value(field, schema, &at.key(key), found);
        }
    }
    for key in schema.required.iter().filter(|key| !fields.contains_key(*key)) {
        found.push(Finding::new(Rule::Required, &at.key(key).path(), "is required"));
    }
}
