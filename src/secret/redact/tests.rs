use std::fmt::Write as _;

use proptest::prelude::*;
use secrecy::SecretString;

use super::*;

fn redactor(secrets: &[&str]) -> Redactor {
    let values = secrets.iter().enumerate();
    let values = values.map(|(n, secret)| (format!("k{n}"), SecretString::from(*secret))).collect();
    let mut redactor = Redactor::none();
    redactor.add_credentials(&Credentials::from_map(values));
    redactor
}

fn encode_base64(bytes: &[u8], last_two: [u8; 2]) -> String {
    let alphabet: Vec<u8> = (b'A'..=b'Z').chain(b'a'..=b'z').chain(b'0'..=b'9').chain(last_two).collect();
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let bits =
            group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) & 63;
            out.push(if digit > group.len() { '=' } else { alphabet[index as usize] as char });
        }
    }
    out
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

/// Every form that the design names, and some more.
fn forms(secret: &str) -> Vec<String> {
    let json = serde_json::to_string(secret).unwrap();
    let hex = secret.bytes().fold(String::new(), |out, byte| format!("{out}{byte:02x}"));
    vec![
        secret.to_owned(),
        encode_base64(secret.as_bytes(), *b"+/"),
        encode_base64(secret.as_bytes(), *b"-_").trim_end_matches('=').to_owned(),
        encode_base64(format!("user:{secret}").as_bytes(), *b"+/"),
        encode_percent(secret, true),
        encode_percent(secret, false),
        encode_percent(secret, true).replace("%20", "+"),
        encode_percent(&encode_percent(secret, true), true),
        encode_percent(&encode_base64(secret.as_bytes(), *b"+/"), true),
        json[1..json.len() - 1].to_owned(),
        json[1..json.len() - 1].replace('/', "\\/"),
        serde_json::to_string(&json).unwrap(),
        encode_utf16(secret),
        format!("{secret:?}"),
        secret.escape_default().to_string(),
        hex.to_uppercase(),
        hex,
    ]
}

#[test]
fn a_secret_is_replaced_in_every_form() {
    for secret in
        ["hunter2hunter2", "a/b+c d?e\"f\\g", "päss wörd€🎈", "-----BEGIN\nabc\tdef\r\n-----", "aaaaaaaa"]
    {
        let redactor = redactor(&[secret]);
        for form in forms(secret) {
            let cleaned = redactor.clean(&format!("the value <{form}> is wrong"), 1000);
            assert!(cleaned.starts_with("the value <"), "{cleaned}");
            assert!(cleaned.ends_with("> is wrong"), "{cleaned}");
            assert!(cleaned.contains(MARK), "{form:?} → {cleaned}");
            assert!(cleaned.len() < 45, "{form:?} → {cleaned}");
        }
        for form in [encode_base64(secret.as_bytes(), *b"+/"), encode_base64(secret.as_bytes(), *b"-_")] {
            let cleaned = redactor.clean(&form, 1000);
            assert!(cleaned.starts_with(MARK), "none of its first digit is left: {cleaned}");
        }
    }
}

#[test]
fn a_secret_cut_at_the_end_of_a_text_is_replaced_too() {
    let redactor = redactor(&["sf_live_v1_a3Bx9kLmP2qR7wYz4nDfGhJkQpStUvWx"]);
    assert_eq!(redactor.clean("bad key sf_live_v1_a3Bx", 100), "bad key [redacted]");
    assert_eq!(redactor.clean("bad key sf_li", 100), "bad key [redacted]");
    assert_eq!(redactor.clean("bad key sf", 100), "bad key sf");
    let huge = "secret/ ".repeat(100_000);
    let cleaned = self::redactor(&[&huge]).clean(&format!("no: {}", &huge[..2000]), 100);
    assert_eq!(cleaned, "no: [redacted]");
}

#[test]
fn a_secret_cut_within_an_escape_is_replaced_too() {
    let redactor = redactor(&["pass/wörd 1"]);
    for cut in ["pass%2", "pass%2Fw%C3", "pass%2Fw%C3%B", r"pass/w\u00f", r"pass/w\u", r"pass\"] {
        assert_eq!(redactor.clean(&format!("no: {cut}"), 100), "no: [redacted]", "{cut}");
    }
    let behind = |letters: usize| redactor.clean(&format!(r"no: pass\{}", "q".repeat(letters)), 100);
    assert_eq!(behind(10), "no: [redacted]");
    assert_eq!(behind(11), r"no: pass\qqqqqqqqqqq", "no escape is that long");
    assert_eq!(
        self::redactor(&["abc/defgh"]).clean("no: abc%2", 100),
        "no: abc%2",
        "too little of it is there"
    );
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
        let read = Some((escape.len(), character.as_bytes().to_vec()));
        assert_eq!(backslash(escape.as_bytes()), read, "{escape}");
        assert_eq!(backslash(format!("{escape}e4}}").as_bytes()), read, "{escape}");
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
        r"\u{00000e4}",
        r"\u{110000}",
        r"\ud83c",
        r"\ud83c\u0041",
        r"\ud83c/udf88",
    ] {
        assert_eq!(backslash(none.as_bytes()), None, "{none}");
    }
}

#[test]
fn a_hostile_text_is_cleaned_in_bounded_time() {
    let redactor = redactor(&["%%%%%%%%%%%%", "\\\\\\\\\\\\\\\\", "++++++++++++"]);
    let started = crate::clock::instant();
    for text in ["%", "\\", "%25", "\\u005c", "%\\+", "+"] {
        redactor.clean(&text.repeat(2048 / text.len()), 1000);
    }
    // A few seconds, and many where the machine is busy; what grows with every escape would take for ever.
    assert!(started.elapsed().as_secs() < 300, "{:?}", started.elapsed());
    assert_eq!(redactor.clean(&"x".repeat(100 << 20), 3), "xx…");
}

#[test]
fn an_api_key_is_replaced_and_short_values_are_not() {
    let mut redactor = redactor(&["seven77", "with newline\n"]);
    redactor.add_key(&ApiKey::new("sf_test_v1_abc".into()));
    assert_eq!(redactor.clean("key sf_test_v1_abc, seven77!", 100), "key [redacted], seven77!");
    assert_eq!(redactor.clean("x with newline y", 100), "x [redacted] y");
}

#[test]
fn overlapping_and_touching_secrets_become_one_mark() {
    let redactor = redactor(&["abcdefgh1", "gh1xyzabc", "aaaaaaaa"]);
    assert_eq!(redactor.clean("<abcdefgh1xyzabc>", 100), "<[redacted]>");
    assert_eq!(redactor.clean("<aaaaaaaaaaaaaaaaaaaaa>", 100), "<[redacted]>");
    assert_eq!(redactor.clean("<abcdefgh1aaaaaaaa>", 100), "<[redacted]>");
    assert_eq!(redactor.clean("abcdefgh1", 100), "[redacted]");
}

#[test]
fn characters_that_forge_or_hide_text_are_escaped() {
    for (text, cleaned) in [
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\u{1b}[31mred", r"\u{1b}[31mred"),
        ("\0\u{7f}\u{9b}", r"\u{0}\u{7f}\u{9b}"),
        ("\u{202e}evil\u{2066}", r"\u{202e}evil\u{2066}"),
        ("zero\u{200b}width\u{feff}", r"zero\u{200b}width\u{feff}"),
        ("line\u{2028}end", r"line\u{2028}end"),
        ("Grüße, 世界 🎈 \"quoted\" \\ back", "Grüße, 世界 🎈 \"quoted\" \\ back"),
    ] {
        assert_eq!(Redactor::none().clean(text, 100), cleaned);
    }
}

#[test]
fn a_text_is_cut_at_a_character_after_it_was_redacted() {
    let none = Redactor::none();
    for (text, max, cleaned) in [
        ("éééé", 4, "éééé"),
        ("ééééé", 4, "ééé…"),
        ("abc", 1, "…"),
        ("abc", 0, ""),
        ("", 0, ""),
        ("\n\n", 3, r"\n…"),
    ] {
        assert_eq!(none.clean(text, max), cleaned, "{text:?} {max}");
    }
    assert_eq!(redactor(&["hunter2hunter2"]).clean("ab hunter2hunter2", 8), "ab [red…");
    assert_eq!(none.clean(&"x".repeat(10_000_000), 10), "xxxxxxxxx…");
    assert_eq!(none.clean(&"x".repeat(10_000), 10_000).len(), 8192, "the rest is dropped unseen");
}

proptest! {
    #[test]
    fn no_form_of_a_secret_survives(
        secrets in prop::collection::vec("\\PC{8,40}|[a-c\"\\\\%/+ \n]{8,12}|[a-zA-Z0-9_]{8,60}", 1..4),
        pieces in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), "\\PC{0,6}"), 1..6),
    ) {
        let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
        // Blanks alone are no secret, and one that is part of the mark can't be told from it.
        prop_assume!(secrets.iter().all(|secret| secret.trim().len() >= 8 && !MARK.contains(secret.trim())));
        let mut text = String::new();
        for (secret, form, between) in pieces {
            let all = forms(secret.get::<&str>(&secrets));
            text.push_str(form.get::<String>(&all));
            text.push_str(&between);
        }
        let cleaned = redactor(&secrets).clean(&text, 10_000);
        for secret in &secrets {
            for form in forms(secret) {
                prop_assert!(!cleaned.contains(&form), "{form:?} in {cleaned:?}");
            }
        }
    }

    #[test]
    fn no_input_panics_and_the_length_is_kept(
        text in ".{0,200}|[a-d%\\\\u{}0-9+ ]{0,60}", secret in ".{0,20}|[a-d%\\\\0-9]{8,9}", max in 0_usize..100,
    ) {
        let cleaned = redactor(&[&secret]).clean(&text, max);
        prop_assert!(cleaned.chars().count() <= max);
        prop_assert!(!cleaned.chars().any(|character| character.is_control() || is_invisible(character)));
    }
}
