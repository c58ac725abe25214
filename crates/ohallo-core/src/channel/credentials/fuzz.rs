//! Properties of every content of the Secrets with credentials.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::api::channel::{SecretKeyRef, SecretRef};
use crate::fuzz::{bytes, config};

/// Part of every value, so that a fragment of any of them is recognizable.
const MARK: &str = "canary";

fn value() -> impl Strategy<Value = Vec<u8>> {
    let marked = |inner: Vec<u8>| [MARK.as_bytes(), &inner, MARK.as_bytes()].concat();
    prop_oneof![
        4 => bytes().prop_map(marked),
        1 => (MAX_BYTES - 40..MAX_BYTES + 40).prop_map(move |size| marked(vec![b'x'; size - 2 * MARK.len()])),
        1 => (MAX_BYTES / 3..MAX_BYTES / 2).prop_map(move |size| marked(vec![b'x'; size])),
        1 => Just(Vec::new()),
    ]
}

fn content() -> impl Strategy<Value = BTreeMap<String, Vec<u8>>> {
    btree_map("[a-c]", value(), 0..3)
}

fn source() -> impl Strategy<Value = CredentialSource> {
    let whole = ("[s-u]", any::<Option<bool>>()).prop_map(|(name, optional)| CredentialSource {
        secret_ref: Some(SecretRef { name, optional }),
        ..Default::default()
    });
    let one =
        ("[a-d]", "[s-u]", "[a-d]", any::<Option<bool>>()).prop_map(|(credential, name, key, optional)| {
            CredentialSource {
                name: Some(credential),
                secret_key_ref: Some(SecretKeyRef { name, key, optional }),
                ..Default::default()
            }
        });
    prop_oneof![whole, one, Just(CredentialSource::default())]
}

fn present(data: &BTreeMap<String, Vec<u8>>) -> Content {
    let data = data.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
    Content::Present { uid: "u".into(), resource_version: "1".into(), data }
}

proptest! {
    #![proptest_config(config(1500))]

    #[test]
    fn secrets_become_credentials_or_one_sentence_without_their_values(
        declared in vec(source(), 0..5), s in content(), t in content(),
    ) {
        let (first, second) = (present(&s), present(&t));
        let found = assemble(&declared, |name| match name {
            "s" => Some(&first),
            "t" => Some(&second),
            _ => None,
        });
        match found {
            Err(failure) => {
                let said = failure.message;
                prop_assert!(!said.contains(MARK), "{}", said);
                prop_assert!(said.ends_with('.') && said.len() < 400 && !said.chars().any(char::is_control), "{}", said);
            }
            Ok(None) => {}
            Ok(Some(bundle)) => {
                let sent: BTreeMap<String, String> = serde_json::from_slice(&bundle.credentials.to_body()).unwrap();
                prop_assert_eq!(sent.keys().cloned().collect::<Vec<_>>(), bundle.credentials.keys());
                let size: usize = sent.iter().map(|(name, value)| name.len() + value.len()).sum();
                prop_assert!(size <= MAX_BYTES);
                let held = |value: &String| s.values().chain(t.values()).any(|held| held == value.as_bytes());
                prop_assert!(sent.values().all(|value| !value.is_empty() && held(value)));
                prop_assert!(bundle.sources.iter().all(|source| matches!(source.name.as_str(), "s" | "t")));
            }
        }
    }
}
