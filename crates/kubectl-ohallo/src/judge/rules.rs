//! The validation rules (CEL) of a kind.

use kube_cel::{CompiledSchema, ErrorKind, ValidationError, Validator, compile_schema};
use serde_json::{Map, Value};

use crate::judge::defaults;
use crate::judge::finding::{Finding, Rule};
use crate::judge::schema::Schema;
use crate::manifest::FieldPath;

const RULES: &str = "x-kubernetes-validations";
/// The keywords of rules, and of values that CEL sees differently.
const EFFECTS: [&str; 4] =
    [RULES, "additionalProperties", "x-kubernetes-embedded-resource", "x-kubernetes-int-or-string"];

/// The compiled rules of one kind.
pub struct Rules {
    /// Those of the whole object.
    compiled: CompiledSchema,
    /// Those of the spec alone, if all others compare with the object before.
    spec: Option<CompiledSchema>,
    validator: Validator,
}

/// Whether every rule of an object's root compares with the object before: a create has none of these.
fn only_compares(schema: &Value) -> bool {
    let rules = schema.get(RULES).and_then(Value::as_array);
    let text = |rule: &Value| rule.get("rule").and_then(Value::as_str).unwrap_or_default().to_owned();
    rules
        .into_iter()
        .flatten()
        .all(|rule| text(rule).contains("oldSelf") && rule.get("optionalOldSelf").is_none())
}

/// Removes the defaults, which are in the object already. Removes each property that has no rule and that CEL converts the
/// same way without its schema: the library works as much for it as for one with rules.
fn keep_rules(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    fields.remove("default");
    if let Some(properties) = fields.get_mut("properties").and_then(Value::as_object_mut) {
        properties.retain(|_, property| {
            keep_rules(property);
            has_effect(property)
        });
    }
    if let Some(items) = fields.get_mut("items") {
        keep_rules(items);
    }
}

/// Whether a schema has rules, or changes how CEL sees a value.
fn has_effect(schema: &Value) -> bool {
    let Some(fields) = schema.as_object() else { return false };
    let text = fields.get("type").and_then(Value::as_str) == Some("string");
    EFFECTS.iter().any(|keyword| fields.contains_key(*keyword))
        || text && fields.contains_key("format")
        || fields.get("items").is_some_and(has_effect)
        || fields
            .get("properties")
            .and_then(Value::as_object)
            .is_some_and(|properties| properties.values().any(has_effect))
}

/// The value without the content of its free-form fields: no rule can read it.
fn without_free_form(value: &Value, schema: &Schema) -> Value {
    match value {
        Value::Object(_) if schema.free_form => Value::Object(Map::new()),
        Value::Object(fields) => {
            let kept = |(key, value): (&String, &Value)| match schema.field(key) {
                Some(schema) => (key.clone(), without_free_form(value, schema)),
                None => (key.clone(), value.clone()),
            };
            Value::Object(fields.iter().map(kept).collect())
        }
        other => other.clone(),
    }
}

// === impl Rules ===

impl Rules {
    pub fn compile(schema: &Value) -> Self {
        let mut schema = schema.clone();
        keep_rules(&mut schema);
        let spec = schema.pointer("/properties/spec").filter(|_| only_compares(&schema));
        let spec = spec.map(compile_schema);
        Self { compiled: compile_schema(&schema), spec, validator: Validator::new() }
    }

    /// Whether every rule can be evaluated here.
    #[cfg(test)]
    pub fn is_complete(&self) -> bool {
        !self.compiled.has_errors()
    }

    /// What the rules say of a complete object.
    pub fn check(&self, object: &Value, old: Option<&Value>, schema: &Schema) -> Vec<Finding> {
        let parts = (&self.spec, old, object.get("spec"), schema.field("spec"));
        let (root, judged) = match parts {
            // The conversion for CEL takes most of the time: what no rule reads is left out.
            (Some(rules), None, Some(spec), Some(schema)) => {
                let spec = without_free_form(spec, schema);
                ("spec", self.validator.validate_compiled(rules, &spec, None))
            }
            _ => {
                let object = without_free_form(object, schema);
                let mut old = old.map(|old| without_free_form(old, schema));
                old.iter_mut().for_each(|old| defaults::apply(old, schema));
                ("", self.validator.validate_compiled(&self.compiled, &object, old.as_ref()))
            }
        };
        let Err(errors) = judged else { return Vec::new() };
        let finding = |error: ValidationError| {
            let message = match error.kind {
                ErrorKind::ValidationFailure => error.message,
                _ => format!("the rule can't be evaluated: {}", error.message),
            };
            let path = FieldPath::parse(&format!("{root}.{}", error.field_path));
            Finding::new(Rule::Validation, &path, message)
        };
        errors.into_vec().into_iter().map(finding).collect()
    }
}
