//! The version of a Secret, in a few bytes.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

/// A Secret as a reconcile used it, or as the watch last delivered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// Neither watched nor read yet.
    Unknown,
    Absent,
    Present(Revision),
}

/// A resourceVersion in 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Revision(u64);

/// Set in a revision that is a hash of a text, not a number.
const HASHED: u64 = 1 << 63;

// === impl Version ===

impl Version {
    pub fn present(resource_version: &str) -> Self {
        let number = resource_version.parse().ok().filter(|number| number & HASHED == 0);
        Self::Present(Revision(number.unwrap_or_else(|| {
            let mut hasher = DefaultHasher::new();
            resource_version.hash(&mut hasher);
            hasher.finish() | HASHED
        })))
    }

    /// Whether this version is certainly older: only numeric versions can be compared.
    pub fn is_older(self, other: Self) -> bool {
        match (self, other) {
            (Self::Present(Revision(one)), Self::Present(Revision(other))) => {
                (one | other) & HASHED == 0 && one < other
            }
            _ => false,
        }
    }
}
