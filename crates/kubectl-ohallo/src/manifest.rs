//! Manifests as the API server reads them: documents, their values, and where each field is in its file.

mod base;
mod identity;
mod layout;
mod node;
mod path;
mod reader;
mod revision;
mod scalar;
mod source;
mod visit;

pub use base::Base;
pub use identity::{Identity, objects};
pub use layout::Layout;
pub use node::{Node, Position};
pub use path::{FieldPath, Step, Trail};
pub use reader::{Document, SyntaxError, documents};
pub use source::{Source, read};
pub use visit::visit;

/// The stack of a thread that reads manifests: they nest as deep as the API server allows, and so do the functions.
pub const STACK: usize = 512 * 1024 * 1024;

#[cfg(test)]
mod tests;
