//! The declared credentials, assembled from their Secrets.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretSlice, SecretString};

use crate::api::channel::{CredentialSource, SecretVersion};
use crate::api::conditions::Reason;
use crate::failure::Failure;
use crate::placeholder::SECRET_DATA;
use crate::secret::{ContentDigest, Credentials};
use crate::secret_content::Content;

/// The maximum total size of a Channel's credentials, in bytes.
const MAX_BYTES: usize = 64 * 1024;

/// The maximum total size of the Secrets to assemble, in bytes: more than is sent, because later items override earlier ones.
pub const MAX_READ: usize = 4 * MAX_BYTES;

/// The maximum number of credentials of a Channel.
const MAX_KEYS: usize = 64;

/// The credentials to send and the versions of their Secrets. No Debug: it holds values.
pub struct Bundle {
    pub credentials: Credentials,
    /// Of the values, and of the Secrets and entries that they come from.
    pub digest: ContentDigest,
    pub sources: Vec<SecretVersion>,
}

/// Assembles the credentials; later items win. `None` where all items are optional and missing.
pub fn assemble<'a>(
    declared: &[CredentialSource],
    content: impl Fn(&str) -> Option<&'a Content>,
) -> Result<Option<Bundle>, Failure> {
    let mut values = Values::default();
    let mut sources: Vec<SecretVersion> = Vec::new();
    for source in declared {
        let Some((name, optional)) = name_of(source) else { continue };
        let found = content(name);
        if let Some(Content::TooLarge { .. }) = found {
            let message = format!(
                "The Secret {name:?} holds more than {} KiB: store the credentials in a separate Secret.",
                SECRET_DATA / 1024
            );
            return Err(Failure::user_action(Reason::SecretInvalid, message));
        }
        let Some(Content::Present { uid, resource_version, data }) = found else {
            if optional {
                continue;
            }
            let message = format!(
                "The Secret {name:?} does not exist in this namespace: create it, or mark it optional."
            );
            return Err(Failure::missing_input(Reason::SecretNotFound, message));
        };
        take(source, Found { secret: name, uid, data }, optional, &mut values)?;
        if sources.iter().all(|known| known.name != name) {
            sources.push(SecretVersion {
                name: name.into(),
                uid: uid.clone(),
                resource_version: resource_version.clone(),
            });
        }
    }
    let Values { values, origins } = values;
    let bytes: usize = values.iter().map(|(key, value)| key.len() + value.expose_secret().len()).sum();
    if bytes > MAX_BYTES {
        // Not the size: readers of the status may lack the permission to read the Secrets.
        let message = format!(
            "The credentials have more than {MAX_BYTES} bytes in total: select only the entries that are needed."
        );
        return Err(Failure::user_action(Reason::SecretInvalid, message));
    }
    if values.len() > MAX_KEYS {
        let message = format!(
            "There are {} credentials, and at most {MAX_KEYS} are allowed: select only the entries that are needed.",
            values.len()
        );
        return Err(Failure::user_action(Reason::SecretInvalid, message));
    }
    Ok((!values.is_empty()).then(|| {
        let credentials = Credentials::from_map(values);
        let digest = credentials.digest(|name| origins.get(name).cloned().unwrap_or_default());
        Bundle { credentials, digest, sources }
    }))
}

/// The credentials by name, and the Secret and entry that each comes from.
#[derive(Default)]
struct Values {
    values: BTreeMap<String, SecretString>,
    origins: BTreeMap<String, String>,
}

/// A Secret that exists.
struct Found<'a> {
    secret: &'a str,
    uid: &'a str,
    data: &'a BTreeMap<String, SecretSlice<u8>>,
}

// === impl Values ===

impl Values {
    fn insert(&mut self, name: &str, found: &Found, key: &str, value: SecretString) {
        self.values.insert(name.to_owned(), value);
        self.origins.insert(name.to_owned(), format!("{}/{key}", found.uid));
    }
}

/// The declared part of a Secret's content; all other values are dropped immediately.
pub fn named(declared: &[CredentialSource], secret: &str, content: &Content) -> Content {
    let of_it = || declared.iter().filter(|source| name_of(source).is_some_and(|(name, _)| name == secret));
    let whole = of_it().any(|source| source.secret_ref.is_some());
    content.only(|key| {
        whole || of_it().any(|source| source.secret_key_ref.as_ref().is_some_and(|one| one.key == key))
    })
}

/// The Secrets of a Channel are too large in total to be assembled.
pub fn too_many_bytes() -> Failure {
    let message = format!(
        "The selected entries of the Secrets have more than {} KiB in total: select only the entries that are needed.",
        MAX_READ / 1024
    );
    Failure::user_action(Reason::SecretInvalid, message)
}

fn name_of(source: &CredentialSource) -> Option<(&str, bool)> {
    if let Some(whole) = &source.secret_ref {
        return Some((&whole.name, whole.optional == Some(true)));
    }
    source.secret_key_ref.as_ref().map(|one| (one.name.as_str(), one.optional == Some(true)))
}

fn take(source: &CredentialSource, found: Found, optional: bool, values: &mut Values) -> Result<(), Failure> {
    let Found { secret, data, .. } = found;
    if let (Some(name), Some(one)) = (&source.name, &source.secret_key_ref) {
        return match data.get(&one.key) {
            Some(value) => {
                values.insert(name, &found, &one.key, text(secret, &one.key, value)?);
                Ok(())
            }
            None if optional => Ok(()),
            None => {
                let message =
                    format!("The Secret {secret:?} has no entry {:?}: add it, or mark it optional.", one.key);
                Err(Failure::missing_input(Reason::SecretKeyMissing, message))
            }
        };
    }
    if data.is_empty() && !optional {
        let message = format!("The Secret {secret:?} is empty: add the entries to send.");
        return Err(Failure::user_action(Reason::SecretInvalid, message));
    }
    for (key, value) in data {
        values.insert(key, &found, key, text(secret, key, value)?);
    }
    Ok(())
}

fn text(secret: &str, key: &str, value: &SecretSlice<u8>) -> Result<SecretString, Failure> {
    let invalid = |what: &str| {
        let message = format!("The entry {key:?} of Secret {secret:?} {what}.");
        Failure::user_action(Reason::SecretInvalid, message)
    };
    let bytes = value.expose_secret();
    if bytes.len() > MAX_BYTES {
        return Err(invalid("is larger than 64 KiB: store a smaller value"));
    }
    match std::str::from_utf8(bytes) {
        Ok("") => Err(invalid("is empty: store a value, or remove the entry")),
        Ok(text) => Ok(SecretString::from(text)),
        Err(_) => Err(invalid("is not UTF-8 text: store text, because oHallo accepts text only")),
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::channel::{SecretKeyRef, SecretRef};

    fn secret(pairs: &[(&str, &[u8])]) -> Content {
        let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), value.to_vec().into())).collect();
        Content::Present { uid: "u".into(), resource_version: "1".into(), data }
    }

    fn whole(name: &str, optional: bool) -> CredentialSource {
        let secret_ref = Some(SecretRef { name: name.into(), optional: Some(optional) });
        CredentialSource { secret_ref, ..Default::default() }
    }

    fn one(name: &str, secret: &str, key: &str, optional: bool) -> CredentialSource {
        let reference = SecretKeyRef { name: secret.into(), key: key.into(), optional: Some(optional) };
        CredentialSource { name: Some(name.into()), secret_key_ref: Some(reference), ..Default::default() }
    }

    fn keys(declared: &[CredentialSource], found: &Content) -> Result<Vec<String>, Reason> {
        let bundle = assemble(declared, |name| Some(if name == "s" { found } else { &Content::Absent }));
        bundle
            .map(|bundle| bundle.map(|b| b.credentials.keys()).unwrap_or_default())
            .map_err(|failure| failure.reason)
    }

    #[test]
    fn both_forms_are_put_together() {
        let found = secret(&[("a", b"1"), ("b", b"2")]);
        assert_eq!(keys(&[whole("s", false)], &found), Ok(vec!["a".into(), "b".into()]));
        assert_eq!(keys(&[one("x", "s", "a", false)], &found), Ok(vec!["x".into()]));
        assert_eq!(
            keys(&[whole("s", false), one("a", "s", "b", false)], &found).map(|keys| keys.len()),
            Ok(2)
        );
    }

    #[test]
    fn each_secret_that_was_read_is_named_once() {
        let found = secret(&[("a", b"1")]);
        let declared = [whole("s", false), one("x", "t", "a", false), one("y", "s", "a", false)];
        let bundle = assemble(&declared, |_| Some(&found)).ok().flatten().unwrap();
        let names: Vec<_> = bundle.sources.iter().map(|source| source.name.as_str()).collect();
        assert_eq!(names, ["s", "t"]);
    }

    #[test]
    fn only_what_is_named_is_kept_of_a_secret() {
        let found = secret(&[("a", b"1"), ("b", b"22"), ("c", b"333")]);
        let kept = |declared: &[CredentialSource]| named(declared, "s", &found).bytes();
        assert_eq!(kept(&[one("x", "s", "a", false), one("y", "s", "c", false)]), 2 + 4);
        assert_eq!(kept(&[one("x", "s", "a", false), whole("s", false)]), 2 + 3 + 4);
        assert_eq!(kept(&[whole("t", false), one("x", "s", "none", false)]), 0);
    }

    #[test]
    fn a_secret_that_was_not_read_to_its_end_is_invalid_also_where_it_is_optional() {
        let large = Content::TooLarge { resource_version: "1".into() };
        for source in [whole("s", true), one("x", "s", "a", true)] {
            assert_eq!(keys(&[source], &large), Err(Reason::SecretInvalid));
        }
        assert_eq!(large.version(), secret(&[]).version());
    }

    #[test]
    fn later_items_win() {
        let found = secret(&[("a", b"1"), ("b", b"2")]);
        let digest = |declared: &[CredentialSource]| {
            assemble(declared, |_| Some(&found)).ok().flatten().map(|bundle| bundle.digest)
        };
        let swapped = [whole("s", false), one("a", "s", "b", false)];
        assert!(digest(&swapped) != digest(&[whole("s", false)]));
        assert!(digest(&[one("a", "s", "b", false), whole("s", false)]) == digest(&[whole("s", false)]));
    }

    #[test]
    fn bad_secrets_get_their_reason() {
        let large = vec![b'x'; MAX_BYTES + 1];
        let half = vec![b'x'; MAX_BYTES / 2 + 1];
        let names: Vec<_> = (0..=MAX_KEYS).map(|number| format!("key-{number}")).collect();
        let many: Vec<_> = names.iter().map(|name| (name.as_str(), b"1".as_slice())).collect();
        let full = whole("s", false);
        assert_eq!(
            keys(std::slice::from_ref(&full), &secret(&many[1..])).map(|keys| keys.len()),
            Ok(MAX_KEYS)
        );
        for (declared, found, reason) in [
            (whole("gone", false), secret(&[]), Reason::SecretNotFound),
            (one("x", "gone", "a", false), secret(&[]), Reason::SecretNotFound),
            (one("x", "s", "a", false), secret(&[]), Reason::SecretKeyMissing),
            (whole("s", false), secret(&[]), Reason::SecretInvalid),
            (whole("s", false), secret(&[("a", b"")]), Reason::SecretInvalid),
            (whole("s", true), secret(&[("a", b"\xff\xfe")]), Reason::SecretInvalid),
            (whole("s", false), secret(&[("a", &large)]), Reason::SecretInvalid),
            (whole("s", false), secret(&[("a", &half), ("b", &half)]), Reason::SecretInvalid),
            (full, secret(&many), Reason::SecretInvalid),
        ] {
            assert_eq!(keys(&[declared], &found), Err(reason));
        }
    }

    #[test]
    fn credentials_of_64_kib_are_sent_names_included_and_more_are_refused_by_what_is_too_large() {
        for (size, refused) in [
            (65_535, None),
            (65_536, Some("more than 65536 bytes in total")),
            (65_537, Some("The entry \"a\" of Secret \"s\" is larger than 64 KiB: store a smaller value.")),
            (65_538, Some("is larger than 64 KiB: store a smaller value.")),
        ] {
            let found = secret(&[("a", &vec![b'x'; size])]);
            let said = assemble(&[whole("s", false)], |_| Some(&found)).err().map(|failure| failure.message);
            match refused {
                Some(part) => {
                    assert!(said.as_ref().is_some_and(|said| said.contains(part)), "{size}: {said:?}")
                }
                None => assert_eq!(said, None),
            }
        }
    }

    #[test]
    fn what_is_optional_may_be_missing() {
        let found = secret(&[]);
        for declared in
            [whole("gone", true), one("x", "gone", "a", true), one("x", "s", "a", true), whole("s", true)]
        {
            assert_eq!(keys(&[declared], &found), Ok(vec![]));
        }
    }
}
