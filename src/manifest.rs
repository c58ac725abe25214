//! Kubernetes objects as the YAML that people read and keep in Git.

use serde::Serialize;

/// One object, with lists at the level of their key, as kubectl prints them.
///
/// # Errors
/// The object has something that YAML can't hold.
pub fn yaml(object: &impl Serialize) -> Result<String, serde_saphyr::ser_error::Error> {
    serde_saphyr::to_string_with_options(object, serde_saphyr::ser_options! { compact_list_indent: true })
}
