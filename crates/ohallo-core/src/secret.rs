//! Secret values: types that can't be printed, digests that are valid only in this process, and the redactor of oHallo's
//! responses.

pub mod no_debug;
mod redact;

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock};

use hmac::{Hmac, KeyInit, Mac};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

pub use crate::secret::redact::Redactor;

/// An oHallo API key. It is cheap to clone, and can be neither printed nor serialised: see `no_debug.rs`.
#[derive(Clone)]
pub struct ApiKey(Arc<KeyAndId>);

struct KeyAndId {
    key: SecretString,
    /// [`ApiKey::id`], computed once: every reconcile asks for it several times.
    id: OnceLock<KeyId>,
}

/// The longest API key, in bytes: one is kept in memory for each workspace.
pub const MAX_KEY_BYTES: usize = 1024;

/// Identifies an API key inside this process. It is an HMAC under a random key, so it is meaningless elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(u64);

/// The credentials of a channel to push: names and values. They can't be printed either.
#[derive(Clone)]
pub struct Credentials(Arc<BTreeMap<String, SecretString>>);

/// Identifies a content inside this process. Never published: even a digest of a weak password is a leak.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentDigest([u8; 16]);

// === impl ApiKey ===

impl ApiKey {
    pub fn new(key: String) -> Self {
        Self(Arc::new(KeyAndId { key: key.into(), id: OnceLock::new() }))
    }

    /// The API key in a Secret's value.
    ///
    /// # Errors
    /// What is wrong with the value, without any part of it.
    pub fn decode(value: Option<&[u8]>) -> Result<Self, &'static str> {
        let value = value.ok_or("has no entry")?;
        // A line break at the end of a file is not part of a key.
        let text = std::str::from_utf8(value).map_err(|_| "holds no text in the entry")?.trim();
        if text.is_empty() || text.len() > MAX_KEY_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err("holds no API key in the entry");
        }
        Ok(Self::new(text.to_owned()))
    }

    /// For the `Authorization` header alone.
    pub fn expose(&self) -> &str {
        self.0.key.expose_secret()
    }

    pub fn id(&self) -> KeyId {
        *self.0.id.get_or_init(|| {
            let mut mac = process_mac("api-key");
            mac.update(self.expose().as_bytes());
            KeyId(u64::from_be_bytes(prefix(mac)))
        })
    }

    /// The first 16 hex digits of HMAC-SHA256(API key, uid): shows, also to another process, whether a
    /// later key is the one that read an object. The key can't be derived from it.
    pub fn read_with(&self, uid: &str) -> String {
        let mut mac = keyed(self.expose().as_bytes());
        mac.update(uid.as_bytes());
        format!("{:016x}", u64::from_be_bytes(prefix(mac)))
    }

    /// `Live` or `Test`, from the key's documented prefix (`sf_live_`, `sf_test_`).
    pub fn environment(&self) -> Option<&'static str> {
        match self.expose() {
            key if key.starts_with("sf_live_") => Some("Live"),
            key if key.starts_with("sf_test_") => Some("Test"),
            _ => None,
        }
    }
}

// === impl Credentials ===

impl Credentials {
    pub fn from_map(values: BTreeMap<String, SecretString>) -> Self {
        Self(Arc::new(values))
    }

    /// The names, in order.
    pub fn keys(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// Distinguishes contents, and equal contents of different origin. Otherwise a user who can name two Secrets could
    /// learn that their values are equal.
    pub fn digest(&self, origin: impl Fn(&str) -> String) -> ContentDigest {
        let mut mac = process_mac("credentials");
        for (name, value) in self.0.iter() {
            for field in [name, value.expose_secret(), &origin(name)] {
                // Without lengths {"a": "bc"} and {"ab": "c"} would be equal.
                mac.update(&(field.len() as u64).to_be_bytes());
                mac.update(field.as_bytes());
            }
        }
        ContentDigest(prefix(mac))
    }

    /// The body of `POST …/credentials`: a flat JSON object.
    pub fn to_body(&self) -> Zeroizing<Vec<u8>> {
        let values: BTreeMap<&str, &str> =
            self.0.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect();
        // Capacity for the longest escape of every byte: a reallocation would leave a copy in memory.
        let size: usize = values.iter().map(|(name, value)| 6 * (name.len() + value.len()) + 6).sum();
        let mut body = Zeroizing::new(Vec::with_capacity(size + 2));
        // Encoding strings into memory can't fail; oHallo would reject an empty body.
        if serde_json::to_writer(&mut *body, &values).is_err() {
            body.clear();
        }
        body
    }
}

// === impl ContentDigest ===

impl fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentDigest(..)")
    }
}

fn process_mac(purpose: &str) -> Hmac<Sha256> {
    static KEYED: OnceLock<Hmac<Sha256>> = OnceLock::new();
    let mut mac = KEYED.get_or_init(|| keyed(&process_key())).clone();
    mac.update(purpose.as_bytes());
    mac.update(&[0]);
    mac
}

/// Randomness of the operating system, through the standard library's keyed hasher.
fn process_key() -> [u8; 32] {
    let random = RandomState::new();
    let mut key = [0; 32];
    for (counter, bytes) in (0_u64..).zip(key.chunks_exact_mut(8)) {
        bytes.copy_from_slice(&random.hash_one(counter).to_be_bytes());
    }
    key
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    // HMAC accepts a key of any length; the error is for other constructions.
    Hmac::new_from_slice(key).unwrap_or_else(|_| Hmac::new(&Default::default()))
}

fn prefix<const N: usize>(mac: Hmac<Sha256>) -> [u8; N] {
    let digest = mac.finalize().into_bytes();
    digest.first_chunk().copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(values: &[(&str, &str)]) -> Credentials {
        Credentials::from_map(
            values.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect(),
        )
    }

    #[test]
    fn a_key_is_known_again_by_its_id_and_by_what_it_read() {
        let (one, same, other) =
            (ApiKey::new("one".into()), ApiKey::new("one".into()), ApiKey::new("other".into()));
        assert_eq!(one.id(), same.id());
        assert_ne!(one.id(), other.id());
        assert_eq!(one.read_with("uid"), same.read_with("uid"));
        assert_ne!(one.read_with("uid"), other.read_with("uid"));
        assert_ne!(one.read_with("uid"), one.read_with("uid2"));
        // HMAC-SHA256 of RFC 4231, test case 2.
        let known = ApiKey::new("Jefe".into()).read_with("what do ya want for nothing?");
        assert_eq!(known, "5bdcc146bf60754e");
        let long = ApiKey::new("k".repeat(5000));
        assert_eq!(long.read_with("uid").len(), 16);
    }

    #[test]
    fn the_environment_comes_from_the_documented_prefix() {
        for (key, environment) in
            [("sf_live_v1_a", Some("Live")), ("sf_test_v1_a", Some("Test")), ("sf_livev1", None), ("", None)]
        {
            assert_eq!(ApiKey::new(key.into()).environment(), environment);
        }
    }

    #[test]
    fn a_digest_changes_with_every_part_of_the_content() {
        let of = |values: &[(&str, &str)]| credentials(values).digest(|name| format!("uid/{name}"));
        let digest = of(&[("a", "bc")]);
        assert_eq!(digest, of(&[("a", "bc")]));
        let elsewhere = credentials(&[("a", "bc")]).digest(|name| format!("uid-2/{name}"));
        assert_ne!(digest, elsewhere, "equal contents of two Secrets are not taken for one another");
        for other in [
            &[("ab", "c")][..],
            &[("a", "b")],
            &[("a", "bd")],
            &[],
            &[("a", "bc"), ("d", "")],
            &[("", "abc")],
        ] {
            assert_ne!(digest, of(other));
        }
        assert_eq!(format!("{digest:?}"), "ContentDigest(..)");
    }

    #[test]
    fn a_body_is_a_flat_object() {
        let body = credentials(&[("apiKey", "a\"b\u{1}é"), ("webhookSecret", "")]).to_body();
        assert_eq!(&**body, r#"{"apiKey":"a\"b\u0001é","webhookSecret":""}"#.as_bytes());
        assert_eq!(&**credentials(&[]).to_body(), b"{}");
        assert_eq!(credentials(&[("b", ""), ("a", "")]).keys(), ["a", "b"]);
    }
}
