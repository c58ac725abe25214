//! Whether the API server would accept an object: the same verdict, for the same fields, without a cluster.
//!
//! The stages are those of the API server, in its order. One that refuses the object hides what later ones find.

mod defaults;
mod finding;
mod kinds;
mod metadata;
mod number;
mod rules;
mod schema;
mod strict;
mod structure;
mod time;

pub use finding::{Finding, Rule};
pub use kinds::{Kind, Kinds, Recognized};

use std::io;

use serde_json::Value;

use crate::manifest::{FieldPath, Node};

/// The longest request that the API server reads.
const MAX_BYTES: usize = 3 * 1024 * 1024;

/// What the API server would answer. `old` is the object before, for the rules about changes.
pub fn judge(kind: &Kind, node: &Node, old: Option<&Value>) -> Vec<Finding> {
    let unreadable = node.not_finite();
    if !unreadable.is_empty() {
        let message = "infinity and NaN are not allowed: write a number";
        return unreadable.iter().map(|path| Finding::new(Rule::Syntax, path, message)).collect();
    }
    let mut object = node.value();
    if let Some(finding) = too_large(&object) {
        return vec![finding];
    }
    let malformed = metadata::malformed(&object);
    if !malformed.is_empty() {
        return malformed;
    }
    let strict = strict_errors(kind, node, &mut object);
    if !strict.is_empty() {
        return strict;
    }
    complete(kind, &mut object);
    check(kind, &object, old)
}

/// Clients send JSON, whatever the manifest is in.
fn too_large(object: &Value) -> Option<Finding> {
    let mut length = Length(0);
    // Neither a count nor a JSON value can fail to be written.
    _ = serde_json::to_writer(&mut length, object);
    let Length(size) = length;
    let message = || {
        format!(
            "the object has {size} bytes of JSON, and the API server takes at most {MAX_BYTES}: make it smaller"
        )
    };
    (size > MAX_BYTES).then(|| Finding::new(Rule::TooLong, &FieldPath::default(), message()))
}

/// Counts the bytes that are written to it.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Fills in the defaults, as the API server does before it validates and stores an object.
pub fn complete(kind: &Kind, object: &mut Value) {
    defaults::prune_nulls(object, &kind.schema);
    defaults::apply(object, &kind.schema);
    // A create can't set the status, so nothing else in it is validated.
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
}

/// What the API server would answer about a complete object without unknown fields.
pub fn check(kind: &Kind, object: &Value, old: Option<&Value>) -> Vec<Finding> {
    let mut findings = metadata::check(object, kind.namespaced);
    findings.extend(structure::check(object, &kind.schema));
    if !findings.iter().any(|finding| finding.rule.hides_rules()) {
        findings.extend(kind.rules.check(object, old, &kind.schema));
    }
    findings
}

fn strict_errors(kind: &Kind, node: &Node, object: &mut Value) -> Vec<Finding> {
    let mut findings: Vec<_> = node
        .duplicates()
        .into_iter()
        .map(|duplicate| {
            let message = "the key is there twice: remove one".to_owned();
            Finding { rule: Rule::DuplicateKey, path: duplicate.path, message, at: Some(duplicate.at) }
        })
        .collect();
    let unknown = metadata::unknown(object).into_iter().chain(strict::prune(object, &kind.schema));
    findings.extend(unknown.map(|path| {
        let message = unknown_field(&path, kind);
        Finding { rule: Rule::UnknownField, path, message, at: None }
    }));
    findings
}

/// Names a known field that is spelled similarly.
fn unknown_field(path: &FieldPath, kind: &Kind) -> String {
    match kind.schema.similar(path) {
        Some(known) => format!("the field does not exist: did you mean {known}?"),
        None => "the field does not exist: remove it".to_owned(),
    }
}

#[cfg(test)]
mod tests;
