//! The semantics of `config`: only the declared paths are managed. Objects overlay and compare key by key, arrays as a
//! whole, numbers by value, null is not declared.

use std::borrow::Cow;
use std::{fmt, io};

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Number, Value};
use sha2::{Digest, Sha256};

use crate::api::channel::ConfigSize;

/// The maximum size of `spec.config`, in bytes of JSON.
pub const MAX_BYTES: usize = 64 * 1024;

/// The maximum memory of `spec.config` after decoding, in bytes. 64 KiB of typical values take a fifth of it; only
/// thousands of tiny objects take more.
pub const MAX_DECODED: u64 = 2 * 1024 * 1024;

/// The maximum number of levels of objects and arrays in `spec.config`, which is itself the first.
pub const MAX_LEVELS: usize = 32;

/// The maximum size of the remembered paths of a Channel, in bytes.
const PATHS_BYTES: usize = 1024;

/// The maximum length of a path in full, in bytes. A config may have one long key above thousands of others.
const MAX_PATH_BYTES: usize = 200;

/// The keys from `config` down to a value. It costs the same however long the keys above are.
#[derive(Clone, Default)]
struct Path {
    /// The path, truncated to [`MAX_PATH_BYTES`].
    text: String,
    /// Of all keys, so that a truncated path differs from every other.
    digest: Sha256,
    cut: bool,
}

/// One declared path whose value differs in oHallo.
#[derive(Clone, Debug, PartialEq)]
pub struct Differs {
    /// Keys joined by dots, below `config`. A key that is not plain is quoted as in JSON, so two paths are never the same
    /// text; a long one ends in `…` and a digest.
    pub path: String,
    pub declared: Value,
    /// `None` where oHallo has no such key.
    pub actual: Option<Value>,
}

/// Every declared path whose value differs in oHallo, in the order of the keys.
pub fn differences(declared: &Map<String, Value>, actual: &Map<String, Value>) -> Vec<Differs> {
    let mut found = Vec::new();
    compare(declared, actual, &Path::default(), &mut found);
    found
}

fn compare(
    declared: &Map<String, Value>,
    actual: &Map<String, Value>,
    above: &Path,
    found: &mut Vec<Differs>,
) {
    for (key, wanted) in declared {
        let path = || above.below(key);
        match (wanted, actual.get(key)) {
            (Value::Null, _) => {}
            (Value::Object(wanted), Some(Value::Object(present))) => compare(wanted, present, &path(), found),
            (Value::Object(wanted), other) if is_empty(wanted) && other.is_none_or(Value::is_null) => {}
            (wanted, Some(present)) if equal(wanted, present) => {}
            (wanted, present) => {
                let path = path().to_string();
                found.push(Differs { path, declared: wanted.clone(), actual: present.cloned() });
            }
        }
    }
}

/// The whole config to send: oHallo's own, overlaid with the declared paths. Correct for merge and for replace semantics.
pub fn overlay(declared: &Map<String, Value>, actual: &Map<String, Value>) -> Map<String, Value> {
    let mut whole = actual.clone();
    for (key, wanted) in declared {
        let value = match (wanted, actual.get(key)) {
            (Value::Null, _) => continue,
            (Value::Object(wanted), Some(Value::Object(present))) => Value::Object(overlay(wanted, present)),
            (Value::Object(wanted), _) => Value::Object(overlay(wanted, &Map::new())),
            (wanted, _) => wanted.clone(),
        };
        whole.insert(key.clone(), value);
    }
    whole
}

/// The declared config without the paths that `left` selects, written as [`Differs::path`] is.
pub fn without(declared: &Map<String, Value>, left: &impl Fn(&str) -> bool) -> Map<String, Value> {
    fn walk(declared: &Map<String, Value>, above: &Path, left: &impl Fn(&str) -> bool) -> Map<String, Value> {
        let kept = declared.iter().filter_map(|(key, value)| {
            let path = above.below(key);
            match value {
                _ if left(&path.to_string()) => None,
                Value::Object(inner) => Some((key.clone(), walk(inner, &path, left).into())),
                other => Some((key.clone(), other.clone())),
            }
        });
        kept.collect()
    }
    walk(declared, &Path::default(), left)
}

/// The paths at which a value is declared, in the order of the keys, as many as fit into [`PATHS_BYTES`]. They show
/// later which paths are no longer declared. One text with a NUL after each path, because every Channel has one in memory.
pub fn paths(declared: &Map<String, Value>) -> Box<str> {
    fn walk(declared: &Map<String, Value>, above: &str, room: &mut usize, found: &mut String) {
        for (key, value) in declared {
            if *room == 0 || above.len() + key.len() >= *room {
                *room = 0;
                return;
            }
            let key = segment(key);
            let path = if above.is_empty() { key.into_owned() } else { format!("{above}.{key}") };
            match value {
                Value::Null => {}
                // Counted as well: it bounds the walk of thousands of empty objects below a long key.
                Value::Object(inner) => {
                    *room = room.saturating_sub(1);
                    walk(inner, &path, room, found);
                }
                _ if path.len() + 1 > *room => *room = 0,
                _ => {
                    *room -= path.len() + 1;
                    found.push_str(&path);
                    found.push('\0');
                }
            }
        }
    }
    let (mut room, mut found) = (PATHS_BYTES, String::new());
    walk(declared, "", &mut room, &mut found);
    found.into()
}

/// The [`paths`] that are no longer declared, and so no longer sent.
pub fn dropped(paths: &str, declared: &Map<String, Value>) -> Vec<String> {
    fn declares(declared: &Map<String, Value>, path: &str) -> bool {
        let Some((key, rest)) = first_key(path) else { return false };
        match (declared.get(&*key), rest) {
            (None | Some(Value::Null), _) => false,
            (Some(Value::Object(inner)), None) => !is_empty(inner),
            (Some(Value::Object(inner)), Some(rest)) => declares(inner, rest),
            // A declared value replaces the whole subtree.
            _ => true,
        }
    }
    paths.split_terminator('\0').filter(|path| !declares(declared, path)).map(str::to_owned).collect()
}

/// Whether a config of this size is within the limits.
pub fn fits(size: ConfigSize) -> bool {
    size.bytes <= MAX_BYTES as u64 && size.decoded <= MAX_DECODED
}

/// Whether there are more levels of objects and arrays than [`MAX_LEVELS`].
pub fn too_deep(declared: &Map<String, Value>) -> bool {
    fn deeper(value: &Value, left: usize) -> bool {
        match (value, left.checked_sub(1)) {
            (Value::Object(fields), Some(left)) => fields.values().any(|value| deeper(value, left)),
            (Value::Array(items), Some(left)) => items.iter().any(|value| deeper(value, left)),
            (Value::Object(_) | Value::Array(_), None) => true,
            _ => false,
        }
    }
    declared.values().any(|value| deeper(value, MAX_LEVELS - 1))
}

/// SHA-256, in hex, of the declared displayName, config and enabled.
pub fn digest(display_name: &str, config: Option<&Map<String, Value>>, enabled: Option<bool>) -> String {
    let mut hasher = Hasher(Sha256::new());
    // Encoding into a hasher can't fail.
    _ = serde_json::to_writer(&mut hasher, &(display_name, config.map(Declared), enabled));
    let mut digest = String::with_capacity(2 * <Sha256 as Digest>::output_size());
    for byte in hasher.0.finalize() {
        digest.extend(
            [byte >> 4, byte & 0xf].map(|digit| char::from_digit(digit.into(), 16).unwrap_or_default()),
        );
    }
    digest
}

/// Hashes what is written to it.
struct Hasher(Sha256);

impl io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Encodes a declared config as [`overlay`] on nothing does, without a copy: a null declares nothing.
struct Declared<'a>(&'a Map<String, Value>);

impl Serialize for Declared<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        for (key, value) in self.0 {
            match value {
                Value::Null => {}
                Value::Object(inner) => map.serialize_entry(key, &Declared(inner))?,
                other => map.serialize_entry(key, other)?,
            }
        }
        map.end()
    }
}

// === impl Path ===

impl Path {
    fn below(&self, key: &str) -> Self {
        let mut path = self.clone();
        // The length precedes each key, because keys are not quoted here.
        path.digest.update((key.len() as u64).to_be_bytes());
        path.digest.update(key.as_bytes());
        if path.cut {
            return path;
        }
        if !path.text.is_empty() {
            path.text.push('.');
        }
        let key = segment(key);
        let room = MAX_PATH_BYTES.saturating_sub(path.text.len());
        path.cut = key.len() > room;
        path.text.push_str(key.split_at(key.floor_char_boundary(room)).0);
        path
    }
}

/// A key as part of a path: unchanged where it is plain, else quoted as in JSON.
fn segment(key: &str) -> Cow<'_, str> {
    let is_special = |character: char| character.is_control() || matches!(character, '.' | '"' | '\\' | '…');
    if key.is_empty() || key.contains(is_special) {
        Cow::Owned(Value::from(key).to_string())
    } else {
        Cow::Borrowed(key)
    }
}

/// The first key of a path of [`segment`]s, and the path below it.
fn first_key(path: &str) -> Option<(Cow<'_, str>, Option<&str>)> {
    let mut escaped = false;
    let quoted = path.starts_with('"');
    let closes = |(at, character): (usize, char)| {
        let closes = character == '"' && !escaped && at > 0;
        escaped = character == '\\' && !escaped;
        closes.then_some(at + 1)
    };
    let end =
        if quoted { path.char_indices().find_map(closes)? } else { path.find('.').unwrap_or(path.len()) };
    let (key, rest) = path.split_at(end);
    let key = if quoted { Cow::Owned(serde_json::from_str(key).ok()?) } else { Cow::Borrowed(key) };
    Some((key, rest.strip_prefix('.')))
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if self.cut {
            f.write_str("…")?;
            let digest = self.digest.clone().finalize();
            digest.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        }
        Ok(())
    }
}

fn is_empty(declared: &Map<String, Value>) -> bool {
    declared.values().all(|value| match value {
        Value::Null => true,
        Value::Object(inner) => is_empty(inner),
        _ => false,
    })
}

/// Equality by value: `1.0` is `1`, inside arrays and their objects as well.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => same_number(a, b),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| equal(value, other)))
        }
        _ => a == b,
    }
}

fn same_number(a: &Number, b: &Number) -> bool {
    if a == b {
        return true;
    }
    // Integers are compared exactly, because f64 can't distinguish large ones.
    if !a.is_f64() && !b.is_f64() {
        return false;
    }
    a.as_f64() == b.as_f64()
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn only_declared_paths_are_compared() {
        let actual =
            map(json!({"a": 1, "b": {"c": [1, 2], "d": "x"}, "e": null, "l": [{"k": 1, "o": {"p": 0}}]}));
        for equal in [
            json!({}),
            json!({"a": 1.0}),
            json!({"b": {"d": "x"}}),
            json!({"b": {"c": [1.0, 2]}}),
            json!({"b": {}}),
            json!({"z": {}}),
            json!({"z": null, "b": {"z": null}}),
            json!({"z": {"y": {"x": null}}}),
            json!({"e": {"y": {}}}),
            json!({"l": [{"k": 1.0, "o": {"p": 0.0}}]}),
        ] {
            assert_eq!(differences(&map(equal.clone()), &actual), vec![], "{equal}");
        }
        for (differs, path) in [
            (json!({"a": 2}), "a"),
            (json!({"a": "1"}), "a"),
            (json!({"b": {"c": [2, 1]}}), "b.c"),
            (json!({"b": {"c": [1]}}), "b.c"),
            (json!({"b": "x"}), "b"),
            (json!({"z": {"y": 1}}), "z"),
            (json!({"e": false}), "e"),
            (json!({"e": {"y": {"x": 0}}}), "e"),
            (json!({"l": [{"k": 2, "o": {"p": 0}}]}), "l"),
            (json!({"l": [{"k": 1, "o": {"p": 1}}]}), "l"),
            (json!({"l": [{"k": 1}]}), "l"),
            (json!({"l": [{"k": 1, "z": {"p": 0}}]}), "l"),
        ] {
            let found = differences(&map(differs), &actual);
            assert_eq!(found.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), [path]);
        }
    }

    #[test]
    fn a_path_is_dropped_when_nothing_is_declared_there_or_in_its_place() {
        let was = map(
            json!({"a": 1, "b": {"c": [{"d": 1}], "n": null, "k": {"l": 0}}, "e": {"f": {}}, "g.h": {"i": ""}}),
        );
        let known = paths(&was);
        assert_eq!(&*known, "a\0b.c\0b.k.l\0\"g.h\".i\0");
        assert_eq!(dropped(&known, &was), [""; 0]);
        let left = |now: Value| dropped(&known, &map(now));
        let rest = json!({"a": 2, "b": {"c": 1, "k": {"l": 1}}, "g": {"h": {"i": 1}}, "g.h": {"i": 1}});
        assert_eq!(left(rest.clone()), [""; 0]);
        for (path, value, expected) in [
            ("/a", Value::Null, vec!["a"]),
            ("/a", json!({"new": {}}), vec!["a"]),
            ("/a", json!({"new": 1}), vec![]),
            ("/b/k", json!({}), vec!["b.k.l"]),
            ("/b/k", json!(1), vec![]),
            ("/b", json!({"c": 1}), vec!["b.k.l"]),
            ("/b", Value::Null, vec!["b.c", "b.k.l"]),
            ("/g.h", json!({"other": 1}), vec![r#""g.h".i"#]),
        ] {
            let mut now = rest.clone();
            *now.pointer_mut(path).unwrap() = value;
            assert_eq!(left(now.clone()), expected, "{now}");
        }
    }

    #[test]
    fn a_key_with_a_dot_is_no_path() {
        let declared = map(json!({"a.b": 1, "a": {"b": 2}, "": {"\"": 3}, "c\u{0}d": 4, "é…": 5}));
        let found = differences(&declared, &Map::new());
        let found: Vec<_> = found.iter().map(|found| found.path.as_str()).collect();
        assert_eq!(found, [r#""""#, "a", r#""a.b""#, r#""c\u0000d""#, "\"é…\""]);
        let left = |path: &str| Value::Object(without(&declared, &|other| other == path));
        assert_eq!(left("a.b")["a.b"], 1);
        assert_eq!((&left(r#""a.b""#)["a"], left(r#""a.b""#).get("a.b")), (&json!({"b": 2}), None));
        assert_eq!(dropped(&paths(&declared), &declared), [""; 0]);
        let mut now = declared.clone();
        now.remove("a.b");
        now.remove("c\u{0}d");
        assert_eq!(dropped(&paths(&declared), &now), [r#""a.b""#, r#""c\u0000d""#]);
    }

    #[test]
    fn a_long_path_is_cut_and_stays_different_from_every_other() {
        let long = "k".repeat(MAX_PATH_BYTES + 1);
        let fits = "k".repeat(MAX_PATH_BYTES - 2);
        let declared = map(
            json!({(long.clone()): {"a": 1, "b": 1}, (fits.clone()): {"a": 1, "bb": 1}, "é".repeat(150): 1}),
        );
        let found: Vec<_> = differences(&declared, &Map::new()).into_iter().map(|found| found.path).collect();
        assert_eq!(found.len(), 3, "{found:?}");
        let of = |actual: Value| -> Vec<String> {
            differences(&declared, &map(actual)).into_iter().map(|found| found.path).collect()
        };
        let found = of(json!({(long.clone()): {}, (fits.clone()): {}}));
        let [short, cut, a, b, accents] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(*short, format!("{fits}.a"));
        assert!(a != b && found.iter().all(|path| path.chars().count() <= MAX_PATH_BYTES + 17), "{found:?}");
        assert!(cut.starts_with(&format!("{fits}.b…")) && accents.starts_with('é'), "{found:?}");
        let left = without(&declared, &|path| path == a);
        assert_eq!(left[&long], json!({"b": 1}));
    }

    /// Regression: one long key above thousands of others cost their product, in time and in memory.
    #[test]
    fn the_paths_of_a_config_cost_no_more_than_its_size() {
        let keys: Map<_, _> = (0..6000).map(|number| (number.to_string(), json!(1))).collect();
        let declared = map(json!({"k".repeat(30_000): keys}));
        let found = differences(&declared, &map(json!({"k".repeat(30_000): {}})));
        let bytes: usize = found.iter().map(|found| found.path.len()).sum();
        assert_eq!(found.len(), 6000);
        assert!(bytes <= 6000 * (MAX_PATH_BYTES + 19), "{bytes}");
    }

    #[test]
    fn no_more_paths_are_remembered_than_have_room() {
        let long = "k".repeat(PATHS_BYTES / 4 - 2);
        let many: Map<_, _> = (0..10).map(|number| (format!("{number}{long}"), json!(1))).collect();
        assert_eq!(dropped(&paths(&many), &Map::new()).len(), 4);
        let deep = map(json!({"0": 1, "1": {(long.repeat(9)): {"a": 1, "b": 1}}, "2": 1}));
        assert_eq!(&*paths(&deep), "0\0");
        let one = |length: usize| dropped(&paths(&map(json!({("k".repeat(length)): 1}))), &Map::new()).len();
        assert_eq!((one(PATHS_BYTES - 1), one(PATHS_BYTES)), (1, 0));
    }

    #[test]
    fn large_integers_are_not_confused() {
        let actual = map(json!({"a": 9_007_199_254_740_993_u64}));
        assert_eq!(differences(&map(json!({"a": 9_007_199_254_740_992_u64})), &actual).len(), 1);
    }

    #[test]
    fn overlays_without_losing_what_others_wrote() {
        let actual = map(json!({"a": 1, "b": {"c": 1, "d": 2}, "l": [1, 2]}));
        let declared = map(json!({"b": {"c": 9, "n": null}, "l": [3], "x": {"y": null}}));
        let whole = json!({"a": 1, "b": {"c": 9, "d": 2}, "l": [3], "x": {}});
        assert_eq!(Value::Object(overlay(&declared, &actual)), whole);
    }

    /// The digest is in the status of every Channel: a new algorithm would appear as a changed manifest.
    #[test]
    fn the_digest_is_that_of_earlier_versions() {
        let config = map(json!({"b": [1, 0.5, null, "é\u{1}"], "a": {"n": null}}));
        for (name, config, enabled) in [("x", Some(&config), Some(true)), ("\"", None, None)] {
            let text = json!([name, config.map(|config| overlay(config, &Map::new())), enabled]).to_string();
            let expected: String =
                Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(digest(name, config, enabled), expected);
        }
    }

    #[test]
    fn the_digest_sees_what_is_declared_and_nothing_else() {
        let one = map(json!({"a": 1, "n": null}));
        let same = map(json!({"a": 1}));
        assert_eq!(digest("x", Some(&one), None), digest("x", Some(&same), None));
        let distinct = [
            digest("x", None, None),
            digest("x", Some(&same), None),
            digest("x", Some(&same), Some(true)),
            digest("y", None, None),
        ];
        for (i, a) in distinct.iter().enumerate() {
            assert!(distinct.iter().skip(i + 1).all(|b| a != b));
        }
    }

    /// A number that is decoded to a neighbour differs from the sent one, and would be reverted for ever.
    #[test]
    fn a_number_is_read_as_it_is_written() {
        for text in ["1.4177256573876494e-108", "2.2250738585072014e-308", "0.30000000000000004", "1e23"] {
            let number: f64 = text.parse().unwrap();
            let read: Value = serde_json::from_str(text).unwrap();
            assert_eq!(read.as_f64(), Some(number), "{text}");
        }
    }

    /// Keys of separators and quotes.
    fn keys() -> impl Strategy<Value = Vec<String>> {
        let part = proptest::sample::select(&["a", ".", "\"", "\\", "…", "\u{0}", "é", "\u{200b}"][..]);
        let key = proptest::collection::vec(part, 0..3).prop_map(|parts| parts.concat());
        proptest::collection::vec(key, 1..4)
    }

    /// All of these keys except the last, with empty objects.
    fn at_the_end(keys: &[String]) -> Value {
        let above = keys.split_last().map_or(&[][..], |(_, above)| above);
        above.iter().rev().fold(json!({}), |below, key| json!({(key.as_str()): below}))
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-z]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c]", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn object() -> impl Strategy<Value = Map<String, Value>> {
        prop::collection::btree_map("[a-d]", json(), 0..5).prop_map(|map| map.into_iter().collect())
    }

    proptest! {
        #[test]
        fn what_was_sent_whole_has_no_differences(declared in object(), actual in object()) {
            prop_assert_eq!(differences(&declared, &overlay(&declared, &actual)), vec![]);
        }

        #[test]
        fn two_paths_are_never_the_same_text(one in keys(), other in keys()) {
            let text = |keys: &[String]| keys.iter().fold(Path::default(), |path, key| path.below(key)).to_string();
            prop_assert_eq!(text(&one) == text(&other), one == other, "{}", text(&one));
            let mut declared = json!(1);
            one.iter().rev().for_each(|key| declared = json!({(key.as_str()): declared}));
            prop_assert_eq!(differences(&map(declared.clone()), &map(at_the_end(&one)))[0].path.clone(), text(&one));
            prop_assert_eq!(dropped(&paths(&map(declared.clone())), &map(declared)), [""; 0]);
        }

        #[test]
        fn no_difference_means_that_the_overlay_is_what_is_there(declared in object(), actual in object()) {
            let whole = overlay(&declared, &actual);
            if differences(&declared, &actual).is_empty() {
                prop_assert!(differences(&whole, &actual).is_empty());
            }
            for key in actual.keys().filter(|key| !declared.contains_key(*key)) {
                prop_assert_eq!(whole.get(key), actual.get(key));
            }
        }
    }
}
