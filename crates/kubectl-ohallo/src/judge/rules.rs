//! The validation rules (CEL) of a kind.

use kube_cel::{CompiledSchema, ErrorKind, ValidationError, Validator, compile_schema};
use serde_json::Value;

use crate::judge::finding::{Finding, Rule};
use crate::manifest::FieldPath;

/// The compiled rules of one kind.
pub struct Rules {
    compiled: CompiledSchema,
    validator: Validator,
}

// === impl Rules ===

impl Rules {
    /// The rules of a schema. `status` keeps its rules but not its default, which a create does not have.
    pub fn compile(schema: &Value) -> Self {
        let mut schema = schema.clone();
        if let Some(status) = schema.pointer_mut("/properties/status").and_then(Value::as_object_mut) {
            status.remove("default");
        }
        Self { compiled: compile_schema(&schema), validator: Validator::new() }
    }

    /// Whether every rule can be evaluated here.
    #[cfg(test)]
    pub fn is_complete(&self) -> bool {
        !self.compiled.has_errors()
    }

    pub fn check(&self, object: &Value, old: Option<&Value>) -> Vec<Finding> {
        let Err(errors) = self.validator.validate_compiled(&self.compiled, object, old) else {
            return Vec::new();
        };
        let finding = |error: ValidationError| {
            let message = match error.kind {
                ErrorKind::ValidationFailure => error.message,
                _ => format!("the rule can't be evaluated: {}", error.message),
            };
            Finding::new(Rule::Validation, &FieldPath::parse(&error.field_path), message)
        };
        errors.into_vec().into_iter().map(finding).collect()
    }
}
