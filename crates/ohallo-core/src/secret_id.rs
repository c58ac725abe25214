//! The name of a Secret in 16 bytes: a tenant can name thousands that do not exist, with 253 bytes each.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

/// Names a Secret inside this process. A hash under a random key, so that no user can construct a collision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretId {
    namespace: u64,
    name: u64,
}

// === impl SecretId ===

impl SecretId {
    pub fn of(namespace: &str, name: &str) -> Self {
        Self { namespace: hashed(namespace), name: hashed(name) }
    }

    pub fn is_in(self, namespace: &str) -> bool {
        self.namespace == hashed(namespace)
    }
}

/// A hash under a random key of this process.
pub(crate) fn hashed(text: &str) -> u64 {
    static KEY: OnceLock<RandomState> = OnceLock::new();
    KEY.get_or_init(RandomState::new).hash_one(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_known_by_namespace_and_name() {
        let one = SecretId::of("a", "b");
        assert_eq!(one, SecretId::of("a", "b"));
        assert!(one.is_in("a") && !one.is_in("b"));
        for other in [("a", "c"), ("b", "b"), ("b", "a"), ("ab", ""), ("", "ab")] {
            assert_ne!(one, SecretId::of(other.0, other.1));
        }
    }
}
