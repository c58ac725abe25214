//! Manifests as the API server reads them: documents, their values, and where each field is in its file.

mod base;
mod identity;
mod node;
mod path;
mod reader;
mod scalar;
mod source;

pub use base::Base;
pub use identity::{Identity, has_namespace, objects};
pub use node::{Node, Position};
pub use path::{FieldPath, Step};
pub use reader::{Document, documents};
pub use source::read;

use crate::failure::Failure;

/// kubectl ignores what follows a separator with a remark, and other tools apply it.
pub fn ignored(name: &str, line: usize) -> Failure {
    Failure::undecided(format!(
        "{name}: line {line}: kubectl ignores what follows this separator, and other tools apply it: write --- alone on its line"
    ))
}

#[cfg(test)]
mod tests;
