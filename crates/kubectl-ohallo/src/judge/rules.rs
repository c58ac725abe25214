//! The validation rules (CEL) of a kind.

use kube_cel::{CompiledSchema, ErrorKind, ValidationError, Validator, compile_schema};
use serde_json::{Map, Value};

use crate::judge::finding::{Finding, Rule};
use crate::judge::schema::Schema;
use crate::manifest::FieldPath;

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
    let rules = schema.get("x-kubernetes-validations").and_then(Value::as_array);
    let text = |rule: &Value| rule.get("rule").and_then(Value::as_str).unwrap_or_default().to_owned();
    rules
        .into_iter()
        .flatten()
        .all(|rule| text(rule).contains("oldSelf") && rule.get("optionalOldSelf").is_none())
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
    /// The rules of a schema. `status` keeps its rules but not its default, which a create does not have.
    pub fn compile(schema: &Value) -> Self {
        let mut schema = schema.clone();
        if let Some(status) = schema.pointer_mut("/properties/status").and_then(Value::as_object_mut) {
            status.remove("default");
        }
        let spec = schema.pointer("/properties/spec").filter(|_| only_compares(&schema));
        let spec = spec.map(compile_schema);
        Self { compiled: compile_schema(&schema), spec, validator: Validator::new() }
    }

    /// Whether every rule can be evaluated here.
    #[cfg(test)]
    pub fn is_complete(&self) -> bool {
        !self.compiled.has_errors()
    }

    pub fn check(&self, object: &Value, old: Option<&Value>, schema: &Schema) -> Vec<Finding> {
        let object = without_free_form(object, schema);
        let old = old.map(|old| without_free_form(old, schema));
        let (root, judged) = match (&self.spec, old, object.get("spec")) {
            // The conversion for CEL takes most of the time: what no rule reads is left out.
            (Some(spec), None, Some(value)) => ("spec", self.validator.validate_compiled(spec, value, None)),
            (_, old, _) => ("", self.validator.validate_compiled(&self.compiled, &object, old.as_ref())),
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
