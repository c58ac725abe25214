//! Manifests as the API server reads them: documents, their values, and where each field is in its file.

mod base;
mod identity;
mod node;
mod path;
mod reader;
mod scalar;
mod source;

pub use base::Base;
pub use identity::{Identity, objects};
pub use node::{Node, Position};
pub use path::{FieldPath, Step};
pub use reader::{Document, documents};
pub use source::read;

#[cfg(test)]
mod tests;
