// pure
//! Cleans texts. A secret may come back raw or in a transport encoding, escaped in one of many ways: so the text
//! is undone in every way, with the place of each byte kept, and searched for what the secret looks like then.

use std::ops::Range;

use secrecy::zeroize::Zeroizing;

use super::{ApiKey, Credentials};

const MARK: &str = "[redacted]";
/// A shorter value would blank ordinary words, and tell by that what it is.
const SECRET_MIN: usize = 8;
/// The shortest beginning of a secret that is taken for one at the end of a text, which may have been cut there.
const CUT_MIN: usize = 4;
/// The most of a text that is looked at, in bytes.
const TEXT_MAX: usize = 64 * 1024;

/// Knows the secrets of one pass and removes them from its texts. Only of this pass: with every live secret it
/// would tell one tenant what another's is.
#[derive(Clone, Default)]
pub struct Redactor {
    keys: Vec<ApiKey>,
    credentials: Vec<Credentials>,
}

/// A text with some encoding undone: `at` holds, for each byte, where it began in the text itself.
struct View {
    bytes: Zeroizing<Vec<u8>>,
    at: Vec<usize>,
    end: usize,
}

// === impl Redactor ===

impl Redactor {
    /// Knows no secret: it still escapes and cuts.
    pub fn none() -> Self {
        Self::default()
    }

    pub fn add_key(&mut self, key: &ApiKey) {
        self.keys.push(key.clone());
    }

    pub fn add_credentials(&mut self, credentials: &Credentials) {
        self.credentials.push(credentials.clone());
    }

    /// Makes a text fit to leave the process: secrets of 8 bytes or more replaced, control and invisible
    /// formatting characters escaped, then cut to `max` characters, an ellipsis included.
    pub fn clean(&self, text: &str, max: usize) -> String {
        let text = text.get(..text.floor_char_boundary(TEXT_MAX)).unwrap_or_default();
        let text = escape(&self.redact(text));
        // Again, for a secret that reads like another's escape.
        cut(self.redact(&text), max)
    }

    fn redact(&self, text: &str) -> String {
        let secrets = self.keys.iter().map(ApiKey::expose);
        let secrets = secrets.chain(self.credentials.iter().flat_map(Credentials::values));
        let needles: Vec<_> = secrets.flat_map(|secret| needles(secret, text.len())).collect();
        if needles.is_empty() {
            return text.to_owned();
        }
        let mut spans = Vec::new();
        for view in views(text) {
            for needle in &needles {
                view.find(needle, &mut spans);
            }
        }
        replace(text, spans)
    }
}

/// What a secret looks like where encodings of characters are undone: itself, base64 and hex.
fn needles(secret: &str, longest: usize) -> Vec<Zeroizing<Vec<u8>>> {
    let trimmed = secret.trim();
    let mut values = vec![secret];
    if trimmed != secret {
        values.push(trimmed);
    }
    values.retain(|value| value.len() >= SECRET_MIN);
    let mut needles = Vec::new();
    for value in values {
        // More than the text can hold need not be looked for; one more byte keeps it from matching as a whole.
        let bytes = value.as_bytes();
        let bytes = bytes.get(..longest.saturating_add(1)).unwrap_or(bytes);
        needles.push(Zeroizing::new(bytes.to_vec()));
        for lead in 0..3 {
            needles.push(base64(bytes, lead, *b"+/"));
            needles.push(base64(bytes, lead, *b"-_"));
        }
        for digits in [b"0123456789abcdef", b"0123456789ABCDEF"] {
            let digit = |nibble: u8| digits.get(usize::from(nibble)).copied().unwrap_or_default();
            needles.push(Zeroizing::new(
                bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect(),
            ));
        }
    }
    needles
}

/// The base64 digits that `bytes` alone decide where `lead` other bytes come before them in their group of three.
fn base64(bytes: &[u8], lead: usize, last_two: [u8; 2]) -> Zeroizing<Vec<u8>> {
    let digit = |bits: u32| match (bits & 63) as u8 {
        bits @ 0..26 => b'A' + bits,
        bits @ 26..52 => b'a' + bits - 26,
        bits @ 52..62 => b'0' + bits - 52,
        62 => last_two[0],
        _ => last_two[1],
    };
    let mut digits = Zeroizing::new(Vec::with_capacity(bytes.len() / 3 * 4 + 4));
    let (mut bits, mut count) = (0_u32, lead * 8 % 6);
    // The first digit also holds bits of what stands before.
    let mut skip = usize::from(count > 0);
    for byte in bytes {
        bits = bits << 8 | u32::from(*byte);
        count += 8;
        while count >= 6 {
            count -= 6;
            if skip == 0 {
                digits.push(digit(bits >> count));
            }
            skip = 0;
        }
    }
    digits
}

/// The text as it is, with escapes undone once and twice (JSON within JSON), and with percent-encoding undone.
fn views(text: &str) -> Vec<View> {
    let plain = View { bytes: Zeroizing::new(text.into()), at: (0..text.len()).collect(), end: text.len() };
    let unescaped = plain.decode(backslash);
    let decoded = plain.decode(percent);
    let more = vec![
        unescaped.decode(backslash),
        unescaped.decode(percent),
        decoded.decode(percent),
        plain.decode(form),
        unescaped.decode(form),
    ];
    [plain, unescaped, decoded].into_iter().chain(more).collect()
}

/// The length of the percent escape at the beginning, and its byte.
fn percent(rest: &[u8]) -> Option<(usize, Vec<u8>)> {
    let byte = hex(rest.strip_prefix(b"%")?.get(..2)?)?;
    Some((3, vec![u8::try_from(byte).ok()?]))
}

/// The same in forms and query strings, where a space is a plus.
fn form(rest: &[u8]) -> Option<(usize, Vec<u8>)> {
    if rest.first() == Some(&b'+') { Some((1, vec![b' '])) } else { percent(rest) }
}

/// The length of the escape at the beginning, in the ways of JSON, JavaScript and Rust, and what it stands for.
fn backslash(rest: &[u8]) -> Option<(usize, Vec<u8>)> {
    let after = rest.strip_prefix(b"\\")?;
    let character = |length, code| Some((length, char::from_u32(code)?.to_string().into_bytes()));
    match after.first()? {
        b'n' => character(2, 10),
        b'r' => character(2, 13),
        b't' => character(2, 9),
        b'b' => character(2, 8),
        b'f' => character(2, 12),
        b'0' => character(2, 0),
        b'x' => Some((4, vec![u8::try_from(hex(after.get(1..3)?)?).ok()?])),
        b'u' if after.get(1) == Some(&b'{') => {
            let digits = after.get(2..)?.split(|byte| *byte == b'}').next()?;
            character(digits.len() + 4, hex(digits)?)
        }
        b'u' => match hex(after.get(1..5)?)? {
            high @ 0xd800..0xdc00 => {
                let low = hex(after.get(5..)?.strip_prefix(b"\\u")?.get(..4)?)?.checked_sub(0xdc00)?;
                character(12, 0x10000 + ((high - 0xd800) << 10) + low)
            }
            code => character(6, code),
        },
        other if other.is_ascii_punctuation() => Some((2, vec![*other])),
        _ => None,
    }
}

fn hex(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 6 {
        return None;
    }
    digits.iter().try_fold(0, |sum, digit| Some(sum << 4 | char::from(*digit).to_digit(16)?))
}

// === impl View ===

impl View {
    /// Undoes one more encoding; `escape` reads one escape and what it stands for.
    fn decode(&self, escape: impl Fn(&[u8]) -> Option<(usize, Vec<u8>)>) -> Self {
        let mut decoded = Self { bytes: Zeroizing::default(), at: Vec::new(), end: self.end };
        let mut from = 0;
        while let (Some(rest @ [first, ..]), Some(at)) = (self.bytes.get(from..), self.at.get(from)) {
            let (length, bytes) = escape(rest).unwrap_or_else(|| (1, vec![*first]));
            decoded.at.extend(bytes.iter().map(|_| *at));
            decoded.bytes.extend(bytes);
            from += length.max(1);
        }
        decoded
    }

    /// Adds every place of the needle, overlapping ones too, and of its beginning at the end of the text.
    fn find(&self, needle: &[u8], spans: &mut Vec<Range<usize>>) {
        if needle.is_empty() {
            return;
        }
        let places = self.bytes.windows(needle.len()).enumerate().filter(|(_, window)| *window == needle);
        spans.extend(places.map(|(place, _)| self.place(place)..self.place(place + needle.len())));
        let longest = needle.len().saturating_sub(1).min(self.bytes.len());
        let ends_with = |length: &usize| needle.get(..*length).is_some_and(|part| self.bytes.ends_with(part));
        if let Some(length) = (CUT_MIN..=longest).rev().find(ends_with) {
            spans.push(self.place(self.bytes.len() - length)..self.end);
        }
    }

    fn place(&self, index: usize) -> usize {
        self.at.get(index).copied().unwrap_or(self.end)
    }
}

fn replace(text: &str, mut spans: Vec<Range<usize>>) -> String {
    spans.sort_by_key(|span| (span.start, span.end));
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for span in spans {
        // Touching spans become one mark: how many secrets there were is nobody's business.
        if span.start > done || done == 0 {
            out.push_str(text.get(done..text.floor_char_boundary(span.start)).unwrap_or_default());
            out.push_str(MARK);
        }
        done = done.max(text.ceil_char_boundary(span.end));
    }
    out.push_str(text.get(done..).unwrap_or_default());
    out
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || is_invisible(character) {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

/// Unicode's format characters (Cf) and line separators: they reorder, hide or split what a person reads.
fn is_invisible(character: char) -> bool {
    matches!(u32::from(character),
        0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x890..=0x891 | 0x8e2 | 0x180e | 0x200b..=0x200f
        | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff | 0xfff9..=0xfffb | 0x110bd | 0x110cd | 0x13430..=0x1343f
        | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a | 0xe0000..=0xe007f)
}

fn cut(mut text: String, max: usize) -> String {
    if text.chars().count() > max {
        let end = text.char_indices().nth(max.saturating_sub(1)).map_or(0, |(end, _)| end);
        text.truncate(end);
        if max > 0 {
            text.push('…');
        }
    }
    text
}

#[cfg(test)]
mod tests;
