//! Properties that hold for every content of the Secret with the API key.

use proptest::prelude::*;

use ohallo_core::fuzz::{bytes, config};
use ohallo_core::secret::{ApiKey, MAX_KEY_BYTES};

fn key() -> impl Strategy<Value = Vec<u8>> {
    let around =
        || prop::sample::select(vec!["", "\n", "\r\n", " ", "\t", "\u{feff}", "\u{0}", "\u{a0}", "\u{2028}"]);
    let middle = prop_oneof!["sf_(live|test)_v1_[!-~]{0,40}", "[!-~]{4090,4100}", "[ -~]{0,20}"];
    let around = (around(), middle, around()).prop_map(|(a, b, c)| format!("{a}{b}{c}").into_bytes());
    prop_oneof![around, bytes()]
}

proptest! {
    #![proptest_config(config(3000))]

    #[test]
    fn a_key_fits_into_a_header_unchanged_or_is_rejected_without_being_quoted(value in key()) {
        match ApiKey::decode(Some(&value)) {
            Ok(key) => {
                let text = std::str::from_utf8(&value).unwrap().trim();
                prop_assert_eq!(key.expose(), text);
                prop_assert!((1..=MAX_KEY_BYTES).contains(&text.len()) && text.bytes().all(|byte| (b'!'..=b'~').contains(&byte)));
                prop_assert!(reqwest::header::HeaderValue::from_str(text).is_ok());
            }
            // The message is one of ours, whatever the value: it can't quote any part of the value.
            Err(what) => prop_assert!(["holds no text in the entry", "holds no API key in the entry"].contains(&what)),
        }
    }
}

#[test]
fn each_kind_of_content_is_a_key_or_has_its_message() {
    let long = [b'k'; MAX_KEY_BYTES + 1];
    for (value, expected) in [
        (None, Err("has no entry")),
        (Some(&b"sf_live_v1_a\r\n"[..]), Ok("sf_live_v1_a")),
        (Some(&long[..MAX_KEY_BYTES]), Ok(std::str::from_utf8(&long[..MAX_KEY_BYTES]).unwrap())),
        (Some(&long), Err("holds no API key in the entry")),
        (Some(b""), Err("holds no API key in the entry")),
        (Some(b" \n"), Err("holds no API key in the entry")),
        (Some(b"\xef\xbb\xbfsf_live_v1_a"), Err("holds no API key in the entry")),
        (Some(b"sf_live_v1_a\r\nX-Other: b"), Err("holds no API key in the entry")),
        (Some(b"sf_live_v1_a b"), Err("holds no API key in the entry")),
        (Some(b"sf_live_v1_\x7f"), Err("holds no API key in the entry")),
        (Some("sf_live_v1_é".as_bytes()), Err("holds no API key in the entry")),
        (Some(b"sf_live_v1_\xff"), Err("holds no text in the entry")),
    ] {
        assert!(
            ApiKey::decode(value).as_ref().map(ApiKey::expose).map_err(|what| *what) == expected,
            "{expected:?}"
        );
    }
}
