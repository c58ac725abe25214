// pure
//! Cleans texts. A secret may come back raw or in a transport encoding, escaped in one of many ways: so each place
//! of the text is read with every usual way of escaping undone, and compared with what the secret looks like then.

use std::ops::Range;

use secrecy::zeroize::Zeroizing;

use super::{ApiKey, Credentials};

const MARK: &str = "[redacted]";
/// A shorter value would blank ordinary words, and tell by that what it is.
const SECRET_MIN: usize = 8;
/// The shortest beginning of a secret that is taken for one at the end of a text, which may have been cut there.
const CUT_MIN: usize = 4;
/// The most of a text that is looked at, in bytes.
const TEXT_MAX: usize = 8 * 1024;

/// Knows the secrets of one pass and removes them from its texts. Only of this pass: with every live secret it
/// would tell one tenant what another's is.
#[derive(Clone, Default)]
pub struct Redactor {
    keys: Vec<ApiKey>,
    credentials: Vec<Credentials>,
}

/// Reads the escape at the beginning: its length and what it stands for.
type Escape = fn(&[u8]) -> Option<(usize, Vec<u8>)>;

/// Plain, JSON, JSON within JSON, URLs, forms, and what mixes of them are usual: the outermost first, each with
/// what a text holds that is written so.
const CHAINS: [(&str, &[Escape]); 8] = [
    ("", &[]),
    ("\\", &[backslash]),
    ("%", &[percent]),
    ("+", &[form]),
    ("\\", &[backslash, backslash]),
    ("%", &[percent, percent]),
    ("\\", &[backslash, percent]),
    ("\\", &[backslash, form]),
];
/// The longest escape: a surrogate pair.
const ESCAPE_MAX: usize = 12;

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
    /// formatting characters escaped, then cut to `max` characters, an ellipsis included. What stands behind the
    /// first 8 KiB is dropped unseen.
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
        for (_, chain) in CHAINS.iter().filter(|(sign, _)| text.contains(sign)) {
            for from in 0..text.len() {
                spans.extend(find(text.as_bytes(), from, chain, &needles).map(|end| from..end));
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

/// Where the longest needle ends that begins at `from`. Each place is decoded from there on: a decoding from the
/// start of the text would take a `%` before a secret for a part of it.
fn find(text: &[u8], from: usize, chain: &[Escape], needles: &[Zeroizing<Vec<u8>>]) -> Option<usize> {
    let (first, next) = read(text, from, chain)?;
    let begun = needles.iter().filter_map(|needle| Some((needle, needle.strip_prefix(first.as_slice())?)));
    begun.filter_map(|(needle, rest)| end_of(text, next, chain, needle.len(), rest)).max()
}

/// Where the rest of a needle ends, or the text, cut within the needle.
fn end_of(text: &[u8], mut at: usize, chain: &[Escape], length: usize, mut rest: &[u8]) -> Option<usize> {
    while !rest.is_empty() {
        let Some((bytes, next)) = read(text, at, chain) else { break };
        let Some(after) = rest.strip_prefix(bytes.as_slice()) else {
            // Perhaps an escape that was cut.
            let cut = matches!(text.get(at), Some(b'%' | b'\\')) && text.len() - at < ESCAPE_MAX;
            return (cut && length - rest.len() >= CUT_MIN).then_some(text.len());
        };
        (at, rest) = (next, after);
    }
    (rest.is_empty() || length - rest.len() >= CUT_MIN).then_some(at)
}

/// What stands at `at` with the escapes of the chain undone, and where the next begins.
fn read(text: &[u8], at: usize, chain: &[Escape]) -> Option<(Vec<u8>, usize)> {
    let Some((escape, outer)) = chain.split_last() else { return Some((vec![*text.get(at)?], at + 1)) };
    let first = read(text, at, outer)?;
    if !matches!(first.0.as_slice(), [b'%' | b'\\' | b'+']) {
        return Some(first);
    }
    let (mut bytes, mut ends, mut next) = (first.0.clone(), vec![first.1], first.1);
    while let Some((more, end)) = read(text, next, outer).filter(|_| bytes.len() < ESCAPE_MAX) {
        ends.extend(more.iter().map(|_| end));
        bytes.extend(more);
        next = end;
    }
    let undone = escape(&bytes).and_then(|(length, bytes)| Some((bytes, *ends.get(length.checked_sub(1)?)?)));
    Some(undone.unwrap_or(first))
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
