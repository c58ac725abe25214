//! Names that exist, and numbers from the environment.

use std::collections::BTreeMap;

use crate::support::contract::Secrets;
use crate::support::harness::Harness;

/// Names that are there, as a Secret and as a key of it.
pub const WORDS: [&str; 2] = ["alpha", "beta"];

pub fn env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// A namespace where each word names a Secret that has each word as a key.
pub async fn namespace_with_secrets() -> (Harness, Secrets) {
    let harness = Harness::start().await;
    let mut secrets = Secrets::new();
    for name in WORDS {
        let value = |key: &str| format!("value-of-{name}-{key}-in-{}", harness.namespace);
        let data: BTreeMap<_, _> = WORDS.iter().map(|key| ((*key).to_owned(), value(key))).collect();
        let pairs: Vec<_> = data.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        harness.secret(name, &pairs).await;
        secrets.insert(name.to_owned(), data);
    }
    (harness, secrets)
}
