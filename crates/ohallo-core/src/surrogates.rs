//! Half a surrogate pair in oHallo's JSON, such as `"\ud83d"`: JSON allows it, a Rust string does not. It is decoded
//! to two characters that no text contains in sequence, and encoded as the same escape. So it affects no other value,
//! differs from everything that a manifest can declare, and survives an update that sends the whole config.

use std::borrow::Cow;

use serde_json::Value;

/// The first of the two characters, a Unicode noncharacter.
const MARK: char = '\u{10fffe}';

/// The second character is this one plus the offset of the half.
const FIRST: u32 = 0x0010_f000;
const FIRST_HALF: u32 = 0xd800;
const LAST_HALF: u32 = 0xdfff;

/// The bytes of [`MARK`], and of the second character.
const MARK_BYTES: [u8; 4] = [0xf4, 0x8f, 0xbf, 0xbe];

/// Decodes a response of oHallo.
///
/// # Errors
/// Invalid JSON, except for halves of surrogate pairs.
pub fn from_slice(body: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(body).or_else(|error| match marked(body) {
        Some(marked) => serde_json::from_slice(&marked),
        None => Err(error),
    })
}

/// The body to send.
pub fn restored(body: Vec<u8>) -> Vec<u8> {
    if !body.windows(MARK_BYTES.len()).any(|bytes| bytes == MARK_BYTES) {
        return body;
    }
    match String::from_utf8(body) {
        Ok(text) => shown(&text).into_owned().into_bytes(),
        Err(error) => error.into_bytes(),
    }
}

/// A text with each half as its escape, as users see it and as it is sent.
pub fn shown(text: &str) -> Cow<'_, str> {
    if !text.contains(MARK) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let half = characters.peek().filter(|_| character == MARK).and_then(|second| half_of(*second));
        match half {
            Some(half) => {
                out.push_str(&format!("\\u{half:04x}"));
                characters.next();
            }
            None => out.push(character),
        }
    }
    Cow::Owned(out)
}

fn half_of(second: char) -> Option<u32> {
    let distance = u32::from(second).checked_sub(FIRST)?;
    let half = FIRST_HALF.checked_add(distance)?;
    (half <= LAST_HALF).then_some(half)
}

fn mark(out: &mut Vec<u8>, half: u32) {
    let second = char::from_u32(half.saturating_sub(FIRST_HALF).saturating_add(FIRST));
    let text: String = [MARK].into_iter().chain(second).collect();
    out.extend_from_slice(text.as_bytes());
}

/// The body with each half as two characters; `None` where it has none.
fn marked(body: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(body.len());
    let mut rest = body;
    let mut any = false;
    while let Some((byte, after)) = rest.split_first() {
        // There are no escapes outside of strings.
        let escape = if *byte == b'\\' { code(rest) } else { None };
        let taken = match escape {
            Some(half @ FIRST_HALF..=0xdbff)
                if !matches!(code(after.get(5..).unwrap_or_default()), Some(0xdc00..=LAST_HALF)) =>
            {
                mark(&mut out, half);
                any = true;
                6
            }
            Some(FIRST_HALF..=0xdbff) => {
                out.extend_from_slice(rest.get(..12).unwrap_or_default());
                12
            }
            Some(half @ 0xdc00..=LAST_HALF) => {
                mark(&mut out, half);
                any = true;
                6
            }
            _ => {
                // A backslash escapes the byte after it.
                let length = if *byte == b'\\' { 2.min(rest.len()) } else { 1 };
                out.extend_from_slice(rest.get(..length).unwrap_or_default());
                length
            }
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    any.then_some(out)
}

/// The code unit of an escape `\uXXXX` that the text begins with.
fn code(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |code: u32, digit| Some(code * 16 + char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;
    use serde_json::json;

    use super::*;
    use crate::fuzz::{body, bytes, config};

    fn sent(value: &Value) -> String {
        String::from_utf8(restored(serde_json::to_vec(value).unwrap())).unwrap()
    }

    #[test]
    fn half_a_surrogate_pair_spoils_its_value_alone_and_is_sent_as_it_came() {
        for (came, other) in [
            (r#"{"a":"\ud83d","b":1}"#, Some(json!(1))),
            (r#"{"b":1,"\udc00":2}"#, Some(json!(1))),
            (r#"{"a":["x\ud83dy",{"c":"\ud83d\ud83d"}],"b":"é"}"#, Some(json!("é"))),
            (r#"{"a":"\\ud83d","b":1}"#, Some(json!(1))),
        ] {
            let read = from_slice(came.as_bytes()).unwrap();
            assert_eq!(read.get("b"), other.as_ref(), "{came}");
            assert_eq!(sent(&read), came);
        }
        let pair = from_slice(br#"{"a":"\ud83d\ude00","b":"\ud83d"}"#).unwrap();
        assert_eq!(pair["a"], "😀");
        assert_eq!(sent(&pair), r#"{"a":"😀","b":"\ud83d"}"#);
        assert_eq!(shown(pair["b"].as_str().unwrap()), r"\ud83d");
        for other in ["\u{fffd}", "?", "ud83d", r"\ud83d", ""] {
            assert_ne!(pair["b"], other);
        }
        for no_json in [r#"{"a":"\ud83d""#, r#"{"a":"\ud8"}"#, r#"\ud83d"#, ""] {
            assert!(from_slice(no_json.as_bytes()).is_err(), "{no_json}");
        }
    }

    const PIECES: [&str; 10] =
        [r"\ud83d", r"\uDE00", r"\udc00", r"\ud83d\ude00", r"\\", r"\u0041", r"\n", "x", "é", "😀"];

    proptest! {
        #![proptest_config(config(500))]

        #[test]
        fn every_string_is_read_and_comes_back_with_the_same_meaning(pieces in prop::collection::vec(select(&PIECES[..]), 0..8)) {
            let text = format!("{{\"{0}\":\"{0}\"}}", pieces.concat());
            let read = from_slice(text.as_bytes()).unwrap();
            let again = from_slice(sent(&read).as_bytes()).unwrap();
            prop_assert_eq!(&again, &read);
            prop_assert!(!sent(&read).contains(MARK));
        }

        #[test]
        fn any_input_is_decoded_as_before_or_rejected(body in prop_oneof![body(), bytes()]) {
            if let Ok(value) = serde_json::from_slice::<Value>(&body) {
                prop_assert_eq!(from_slice(&body).unwrap(), value);
            } else {
                let _ = from_slice(&body);
            }
        }
    }
}
