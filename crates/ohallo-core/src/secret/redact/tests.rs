use std::fmt::Write as _;

use ::base64::Engine;
use ::base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;

use super::*;

const KEY: &str = "sf_live_v1_a3Bx9kLmP2qR7wYz4nDfGhJkQpStUvWx";
/// A key with every character that some format escapes.
const ODD: &str = r#"sf_test_v1_a/7+"<&%41\{kkkk"#;

fn redactor(key: &str) -> Redactor {
    Redactor::of(&ApiKey::new(key.into()))
}

fn encode_percent(text: &str, upper: bool) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            _ if byte.is_ascii_alphanumeric() => out.push(byte as char),
            _ if upper => write!(out, "%{byte:02X}").unwrap(),
            _ => write!(out, "%{byte:02x}").unwrap(),
        }
        out
    })
}

fn encode_utf16(text: &str) -> String {
    text.encode_utf16().fold(String::new(), |mut out, unit| {
        write!(out, "\\u{unit:04x}").unwrap();
        out
    })
}

/// Every documented form, and common mixes of them.
fn forms(key: &str) -> Vec<String> {
    let json = serde_json::to_string(key).unwrap();
    let hex = key.bytes().fold(String::new(), |out, byte| format!("{out}{byte:02x}"));
    vec![
        key.to_owned(),
        STANDARD.encode(key),
        URL_SAFE_NO_PAD.encode(key),
        STANDARD.encode(format!("user:{key}")),
        STANDARD.encode(format!("me:{key}:")),
        encode_percent(key, true),
        encode_percent(key, false),
        encode_percent(&encode_percent(key, true), true),
        encode_percent(&STANDARD.encode(key), true),
        json[1..json.len() - 1].to_owned(),
        json[1..json.len() - 1].replace('/', "\\/"),
        serde_json::to_string(&json).unwrap(),
        encode_utf16(key),
        format!("{key:?}"),
        key.escape_default().to_string(),
        hex.to_uppercase(),
        hex,
    ]
}

#[test]
fn the_whole_key_is_replaced_in_every_form() {
    for key in [KEY, ODD] {
        let redactor = redactor(key);
        for form in forms(key) {
            let cleaned = redactor.clean(&format!("the value <{form}> is wrong"), 1000);
            assert!(cleaned.starts_with("the value <"), "{form:?} → {cleaned}");
            assert!(cleaned.ends_with("> is wrong"), "{form:?} → {cleaned}");
            assert!(cleaned.contains(MARK) && cleaned.len() < 50, "{form:?} → {cleaned}");
        }
    }
}

/// Texts that would confirm a guess: all of the key except one character, or except two bits.
#[test]
fn no_part_of_a_key_is_replaced_in_any_form() {
    for key in [KEY, ODD] {
        let redactor = redactor(key);
        for from in 0..=key.len() {
            for to in from..=key.len() {
                if (from, to) == (0, key.len()) {
                    continue;
                }
                let part = &key[from..to];
                assert_eq!(redactor.clean(part, 1000), part);
            }
        }
        let (start, end) = (&key[..key.len() - 1], &key[1..]);
        for part in [start, end] {
            for form in forms(part).into_iter().filter(|form| !form.contains(char::is_control)) {
                assert_eq!(redactor.clean(&form, 1000), form, "{part}");
            }
        }
        let last = key.as_bytes()[key.len() - 1];
        for other in (0x21..0x7f_u8).filter(|byte| *byte != last).map(char::from) {
            let guess = format!("{start}{other}");
            for form in [guess.clone(), STANDARD.encode(&guess), STANDARD.encode(format!("user:{guess}"))] {
                assert_eq!(redactor.clean(&form, 1000), form, "{guess}");
            }
        }
    }
}

#[test]
fn a_key_that_ends_behind_what_is_shown_is_replaced_whole() {
    let before = "x".repeat(MAX_SHOWN_BYTES - MARK.len());
    let text = format!("{before}{KEY}{}", "y".repeat(100));
    assert_eq!(redactor(KEY).clean(&text, usize::MAX), format!("{before}{MARK}"));
    assert_eq!(redactor(KEY).clean(&format!("ab {KEY}"), 8), "ab [red…");
    assert_eq!(Redactor::none().clean(&"x".repeat(10 << 20), usize::MAX).len(), MAX_SHOWN_BYTES);
}

#[test]
fn a_key_that_an_escape_of_ours_completes_is_replaced_too() {
    assert_eq!(redactor(r"sf_test\nkey").clean("sf_test\nkey", 100), MARK);
}

#[test]
fn a_short_key_is_not_redacted() {
    assert_eq!(redactor("seven77").clean("seven77", 100), "seven77");
    assert_eq!(redactor("eight888").clean("eight888", 100), MARK);
}

#[test]
fn touching_keys_become_one_mark() {
    assert_eq!(redactor(KEY).clean(&format!("<{KEY}{KEY}>"), 100), "<[redacted]>");
    assert_eq!(redactor("aaaaaaaa").clean("<aaaaaaaaaaaaaaaaaaaaaaaa>", 100), "<[redacted]>");
}

#[test]
fn each_escape_stands_for_its_character_and_what_is_none_for_itself() {
    for (escape, character) in [
        (r"\n", "\n"),
        (r"\r", "\r"),
        (r"\t", "\t"),
        (r"\b", "\u{8}"),
        (r"\f", "\u{c}"),
        (r"\0", "\0"),
        (r"\\", "\\"),
        (r"\/", "/"),
        (r"\x41", "A"),
        (r"\u00e4", "ä"),
        (r"\u{e4}", "ä"),
        (r"\u{0000e4}", "ä"),
        (r"\u{10ffff}", "\u{10ffff}"),
        (r"\ud83c\udf88", "🎈"),
    ] {
        for text in [escape.to_owned(), format!("{escape}e4}}")] {
            let mut bytes = Vec::new();
            assert_eq!(backslash(text.as_bytes(), &mut bytes), Some(escape.len()), "{escape}");
            assert_eq!(bytes, character.as_bytes(), "{escape}");
        }
    }
    for none in [
        "",
        "n",
        r"\",
        r"\q",
        r"\ä",
        r"\x4",
        r"\x4g",
        r"\u00e",
        r"\u{}",
        r"\u{41",
        r"\u{00000e4}",
        r"\u{110000}",
        r"\ud83c",
        r"\ud83c\u0041",
        r"\ud83c/udf88",
    ] {
        let mut bytes = Vec::new();
        assert_eq!((backslash(none.as_bytes(), &mut bytes), bytes.len()), (None, 0), "{none}");
    }
}

proptest! {
    #[test]
    fn no_form_of_the_key_survives_in_any_text(
        key in "[!-~]{8,60}",
        pieces in prop::collection::vec((any::<prop::sample::Index>(), "[ -~é\n]{0,6} "), 1..6),
    ) {
        prop_assume!(!MARK.contains(&key));
        let all = forms(&key);
        let text: String = pieces.iter().map(|(form, between)| format!("{between}{}", form.get::<String>(&all))).collect();
        let cleaned = redactor(&key).clean(&text, 10_000);
        for form in all {
            prop_assert!(!cleaned.contains(&form), "{form:?} in {cleaned:?}");
        }
    }

    #[test]
    fn no_input_panics_and_the_length_is_kept(
        text in ".{0,200}|[a-d%\\\\u{}0-9+ ]{0,60}", key in ".{0,20}|[a-d%\\\\0-9]{8,9}", max in 0_usize..100,
    ) {
        let cleaned = redactor(&key).clean(&text, max);
        prop_assert!(cleaned.chars().count() <= max);
        prop_assert!(!cleaned.chars().any(|character| character.is_control() || text::is_invisible(character)));
    }
}
