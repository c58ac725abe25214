//! The manifests before a change: from a file, a directory or a Git revision.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::failure::Failure;
use crate::manifest::source::read;
use crate::manifest::{Identity, Layout, revision, visit};

/// Every object of the manifests before a change.
#[derive(Debug, Default)]
pub struct Base {
    objects: BTreeMap<Identity, Value>,
    layout: Layout,
}

// === impl Base ===

impl Base {
    /// Reads a file or directory of this name, or else these places as they are in a Git revision.
    ///
    /// # Errors
    /// It is none of these, or a file can't be read or parsed: a base with holes would hide what changes.
    pub fn read(base: &str, places: &[PathBuf], namespace: &str) -> Result<Self, Failure> {
        let usage = |what: String| Failure::usage(format!("--base {base} {what}"));
        // Whoever writes the manifests must not decide what they are compared with.
        let sources = match (Path::new(base).exists(), revision::resolve(base, places)) {
            (true, Ok(())) => {
                let what = format!(
                    "is a path and a Git revision: write ./{base} for the path, or the revision's full name"
                );
                return Err(usage(what));
            }
            (true, Err(_)) => read(&[PathBuf::from(base)]).collect(),
            (false, Ok(())) => {
                if let Some(other) = revision::ambiguous(base, places) {
                    let what = format!(
                        "is also the name of {other}: write the revision's full name, such as refs/heads/main"
                    );
                    return Err(usage(what));
                }
                revision::sources(base, places)?
            }
            (false, Err(why)) => {
                let why = if why.is_empty() { why } else { format!(": {why}") };
                return Err(usage(format!(
                    "is neither a file, a directory nor a Git revision of these files{why}"
                )));
            }
        };
        let mut found = Self::default();
        found.layout = visit(sources, " of the base", namespace, |identity, node| {
            found.objects.insert(identity, node.value());
        })?;
        Ok(found)
    }

    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// All objects, of any kind.
    pub fn objects(&self) -> impl Iterator<Item = (&Identity, &Value)> {
        self.objects.iter()
    }

    pub fn get(&self, identity: &Identity) -> Option<&Value> {
        self.objects.get(identity)
    }

    pub fn into_layout(self) -> Layout {
        self.layout
    }
}
