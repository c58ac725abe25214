//! Hostile bytes and documents for property tests of decoders. Decoders reject random bytes at the first one, so most
//! inputs consist of tokens of the formats in use: spliced, truncated, repeated.
//!
//! Each run has the same cases. `OHALLO_TEST_FUZZ` gives another number of them, and with it another seed.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;
use serde_json::{Map, Value};

const WORDS: [&[u8]; 60] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"\"",
    b"\\",
    b"\"id\":",
    b"\"c1\"",
    b"\"ok\":",
    b"true",
    b"false",
    b"null",
    b"{\"id\":\"c1\"}",
    b"{\"ok\":true}",
    b"{\"error\":\"",
    b"\"config\":{",
    b"\"items\":[",
    b"\"data\":[",
    b"-",
    b"0",
    b"1e999",
    b"-1",
    b"18446744073709551616",
    b"0.1",
    b"\\u0000",
    b"\\ud800",
    b"\\u",
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xc3",
    b"\xf0\x9f\x98\x80",
    b"\r\n",
    b"\n",
    b"\t",
    b" ",
    b"\xc2\xa0",
    b"\xe2\x80\xae",
    b"\x1b[31m",
    b"\x7f",
    b"..",
    b"/",
    b"%2e",
    b"?",
    b"#",
    b"@",
    b"<html>",
    b"NaN",
    b"sf_live_v1_",
    b"Bearer ",
    b"\r\nHost: evil.example",
    b"Sun, 06 Nov 1994 08:49:37 GMT",
    b"Mon",
    b" GMT",
    b"9999",
    b"+",
    b".",
    b"a",
];

/// Texts that parsers may misread: as a number, as several path segments, as another line.
const TEXTS: [&str; 24] = [
    "",
    "c1",
    "active",
    ".",
    "..",
    "../c1",
    "c1/..",
    "a/b",
    "%2e%2e",
    "c1?x",
    "c1#x",
    "http://evil.example",
    "@a",
    " c1",
    "c1\n",
    "a\r\nb",
    "\u{0}",
    "\u{202e}c1",
    "\u{feff}c1",
    "é",
    "true",
    "1",
    "null",
    "A-Z_0~9.",
];
const NAMES: [&str; 14] = [
    "id",
    "ok",
    "error",
    "items",
    "data",
    "config",
    "status",
    "workspaceId",
    "channelType",
    "displayName",
    "createdAt",
    "name",
    "__proto__",
    "",
];

pub fn config(cases: u32) -> ProptestConfig {
    let wished = std::env::var("OHALLO_TEST_FUZZ").ok().and_then(|text| text.parse().ok());
    ProptestConfig {
        cases: wished.unwrap_or(cases),
        rng_seed: RngSeed::Fixed(wished.unwrap_or_default().into()),
        failure_persistence: None,
        max_shrink_iters: 4096,
        ..ProptestConfig::default()
    }
}

pub fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => select(&WORDS[..]).prop_map(<[u8]>::to_vec),
        2 => vec(any::<u8>(), 0..8),
        1 => (select(&WORDS[..]), 1..400_usize).prop_map(|(word, times)| word.repeat(times)),
    ];
    vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

pub fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => select(&TEXTS[..]).prop_map(str::to_owned),
        2 => bytes().prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        1 => any::<String>(),
        1 => (1..300_usize).prop_map(|times| "a".repeat(times)),
    ]
}

/// Any JSON, mostly with the names that oHallo uses.
pub fn document() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        3 => text().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    leaf.prop_recursive(6, 40, 6, |inner| {
        prop_oneof![vec(inner.clone(), 0..5).prop_map(Value::from), fields(inner).prop_map(Value::from)]
    })
}

pub fn object() -> impl Strategy<Value = Map<String, Value>> {
    fields(document())
}

fn fields(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    vec((select(&NAMES[..]).prop_map(str::to_owned), value), 0..6)
        .prop_map(|fields| fields.into_iter().collect())
}

/// A document with an id and an `ok`, which may be correct.
fn answer() -> impl Strategy<Value = Value> {
    (object(), text(), prop_oneof![Just(Value::Bool(true)), document()]).prop_map(|(mut fields, id, ok)| {
        fields.insert("id".into(), id.into());
        fields.insert("ok".into(), ok);
        Value::Object(fields)
    })
}

/// A body where JSON is expected: a document, whole or with a part replaced or removed, or none.
pub fn body() -> impl Strategy<Value = Vec<u8>> {
    let whole = || {
        prop_oneof![1 => document(), 1 => object().prop_map(Value::from), 2 => answer()]
            .prop_map(|value| value.to_string().into_bytes())
    };
    let spoilt = (whole(), any::<prop::sample::Index>(), bytes(), any::<bool>()).prop_map(
        |(mut body, at, piece, cut)| {
            let at = at.index(body.len() + 1);
            let end = if cut { body.len() } else { body.len().min(at + piece.len()) };
            body.splice(at..end, piece);
            body
        },
    );
    prop_oneof![4 => whole(), 2 => spoilt, 1 => bytes()]
}
