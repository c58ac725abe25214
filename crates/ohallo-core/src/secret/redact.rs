//! Removes an API key from oHallo's responses to calls with that key.
//!
//! Only the whole key is replaced, raw or in a common encoding: no prefix, suffix or fragment, so
//! that an echo of a guess looks the same whether the guess begins the key or not. The text is decoded, not the key
//! encoded: each of a fixed number of decodings is searched once, so the cost is linear in the text.

use std::ops::Range;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use memchr::memmem::Finder;

use crate::secret::ApiKey;
use crate::text;

const MARK: &str = "[redacted]";

/// The minimum length of a redacted key, in bytes: a shorter one occurs in ordinary words.
const MIN_KEY_BYTES: usize = 8;

/// The searched part of a text, in bytes.
const WINDOW_BYTES: usize = 8 * 1024;

/// The shown part of a text, in bytes: a key that begins in this part ends within the window.
const MAX_SHOWN_BYTES: usize = 4 * 1024;

/// Removes one API key from texts. Created once for each key in use.
#[derive(Clone, Default)]
pub struct Redactor {
    key: Option<ApiKey>,
}

/// A decoded text, with the position of each byte in the original.
struct Decoded {
    bytes: Vec<u8>,
    sources: Vec<Range<usize>>,
}

/// How text stands for bytes: groups of so many bytes as so many digits.
#[derive(Clone, Copy)]
struct Encoding {
    group: usize,
    digits: usize,
    is_digit: fn(u8) -> bool,
    decode: fn(&[u8]) -> Vec<u8>,
}

const HEX: Encoding =
    Encoding { group: 1, digits: 2, is_digit: |byte| byte.is_ascii_hexdigit(), decode: decode_hex };

const BASE64: Encoding = Encoding { group: 3, digits: 4, is_digit: is_base64, decode: decode_base64 };

/// Padding never belongs to a run, and the bits after the last byte may be those of other text.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// Reads the escape at the beginning, appends the decoded bytes, and returns the length of the escape.
type Escape = fn(&[u8], &mut Vec<u8>) -> Option<usize>;

/// The decodings, outermost first: JSON, JSON in JSON, URLs, URLs in URLs, URLs in JSON.
const CHAINS: [&[Escape]; 6] =
    [&[], &[backslash], &[percent], &[backslash, backslash], &[percent, percent], &[backslash, percent]];

// === impl Redactor ===

impl Redactor {
    /// Without a key: it only truncates and escapes.
    pub fn none() -> Self {
        Self::default()
    }

    pub fn of(key: &ApiKey) -> Self {
        Self { key: Some(key.clone()).filter(|key| key.expose().len() >= MIN_KEY_BYTES) }
    }

    /// Replaces the key, escapes control and invisible formatting characters, and truncates to `max` characters,
    /// including an ellipsis. Everything after the first 4 KiB is dropped.
    pub fn clean(&self, text: &str, max: usize) -> String {
        let text = text::escape(&self.redact(text));
        // Again: escaping a line break may have completed a key that contains a backslash.
        text::sanitize(&self.redact(&text), max)
    }

    fn redact(&self, text: &str) -> String {
        let text = text.split_at(text.floor_char_boundary(WINDOW_BYTES)).0;
        let mut spans = Vec::new();
        // No encoding of a key is shorter than the key.
        if let Some(key) = self.key.as_ref().filter(|key| key.expose().len() <= text.len()) {
            let finder = Finder::new(key.expose());
            for chain in CHAINS {
                let Some(decoded) = Decoded::of(text, chain) else { continue };
                decoded.search(&finder, &mut spans);
            }
        }
        replace(text, spans)
    }
}

// === impl Decoded ===

impl Decoded {
    /// `None` where a later escape of the chain finds nothing to decode: another chain covers that.
    fn of(text: &str, chain: &[Escape]) -> Option<Self> {
        let sources = (0..text.len()).map(|at| at..at + 1).collect();
        let mut decoded = Self { bytes: text.as_bytes().to_vec(), sources };
        for escape in chain {
            decoded = decoded.undone(*escape)?;
        }
        Some(decoded)
    }

    fn undone(self, escape: Escape) -> Option<Self> {
        let size = self.bytes.len();
        let mut out = Self { bytes: Vec::with_capacity(size), sources: Vec::with_capacity(size) };
        let (mut at, mut changed) = (0, false);
        while let Some((first, _)) = self.bytes.get(at..).and_then(<[u8]>::split_first) {
            let begun = out.bytes.len();
            // Every escape begins with one of these.
            let undone = match first {
                b'\\' | b'%' => escape(self.bytes.get(at..).unwrap_or_default(), &mut out.bytes),
                _ => None,
            };
            changed |= undone.is_some();
            let length = undone.unwrap_or_else(|| {
                out.bytes.push(*first);
                1
            });
            let source = self.source(at..at + length);
            out.sources.extend(std::iter::repeat_n(source, out.bytes.len() - begun));
            at += length;
        }
        changed.then_some(out)
    }

    /// The range of these bytes in the original text.
    fn source(&self, bytes: Range<usize>) -> Range<usize> {
        let first = self.sources.get(bytes.start).map_or(0, |source| source.start);
        let last = bytes.end.checked_sub(1).and_then(|last| self.sources.get(last));
        first..last.map_or(first, |source| source.end)
    }

    /// Finds the key in plain text, in hex and in base64.
    fn search(&self, key: &Finder, spans: &mut Vec<Range<usize>>) {
        let length = key.needle().len();
        let found = key.find_iter(&self.bytes);
        spans.extend(found.map(|at| self.source(at..at + length)));
        for encoding in [HEX, BASE64] {
            for run in runs(&self.bytes, encoding.is_digit) {
                if encoding.bytes(run.len()) >= length {
                    self.search_digits(run, encoding, key, spans);
                }
            }
        }
    }

    /// Decodes a run of digits, from each position at which a group can begin.
    fn search_digits(
        &self,
        run: Range<usize>,
        encoding: Encoding,
        key: &Finder,
        spans: &mut Vec<Range<usize>>,
    ) {
        let length = key.needle().len();
        for start in (run.start..run.end).take(encoding.digits) {
            let digits = self.bytes.get(start..run.end).unwrap_or_default();
            for at in key.find_iter(&(encoding.decode)(digits)) {
                // The first digit with bits of the key, and the digit after the last one.
                let first = at * encoding.digits / encoding.group;
                let end = ((at + length) * encoding.digits).div_ceil(encoding.group);
                spans.push(self.source(start + first..start + end));
            }
        }
    }
}

// === impl Encoding ===

impl Encoding {
    /// The number of bytes in so many digits.
    fn bytes(self, digits: usize) -> usize {
        digits * self.group / self.digits
    }
}

/// The maximal runs of such bytes.
fn runs(bytes: &[u8], is: impl Fn(u8) -> bool) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (at, byte) in bytes.iter().enumerate() {
        match runs.last_mut() {
            _ if !is(*byte) => {}
            Some(run) if run.end == at => run.end = at + 1,
            _ => runs.push(at..at + 1),
        }
    }
    runs
}

fn hex(digit: u8) -> Option<u32> {
    char::from(digit).to_digit(16)
}

/// An odd digit at the end is half a byte, and dropped.
fn decode_hex(digits: &[u8]) -> Vec<u8> {
    let pairs = digits.chunks_exact(2);
    pairs.filter_map(|pair| u8::try_from(number(pair)?).ok()).collect()
}

/// Of the standard alphabet and of the URL-safe one.
fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte)
}

fn decode_base64(digits: &[u8]) -> Vec<u8> {
    // One digit of a group has less than a byte.
    let whole = if digits.len() % 4 == 1 { digits.len() - 1 } else { digits.len() };
    let standard = |digit: &u8| match digit {
        b'-' => b'+',
        b'_' => b'/',
        other => *other,
    };
    let digits: Vec<u8> = digits.iter().take(whole).map(standard).collect();
    // Digits of the alphabet in whole groups always decode.
    LENIENT.decode(digits).unwrap_or_default()
}

fn percent(rest: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let byte = number(rest.strip_prefix(b"%")?.get(..2)?)?;
    out.push(u8::try_from(byte).ok()?);
    Some(3)
}

/// Decodes the escapes of JSON, JavaScript and Rust.
fn backslash(rest: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let after = rest.strip_prefix(b"\\")?;
    let mut character = |length, code| {
        out.extend(char::from_u32(code)?.encode_utf8(&mut [0; 4]).bytes());
        Some(length)
    };
    match after.first()? {
        b'n' => character(2, 10),
        b'r' => character(2, 13),
        b't' => character(2, 9),
        b'b' => character(2, 8),
        b'f' => character(2, 12),
        b'0' => character(2, 0),
        b'x' => {
            out.push(u8::try_from(number(after.get(1..3)?)?).ok()?);
            Some(4)
        }
        b'u' if after.get(1) == Some(&b'{') => {
            let digits = after.get(2..9.min(after.len()))?.split(|byte| *byte == b'}').next()?;
            after.get(2 + digits.len()).filter(|end| **end == b'}')?;
            character(digits.len() + 4, number(digits)?)
        }
        b'u' => match number(after.get(1..5)?)? {
            high @ 0xd800..0xdc00 => {
                let low = number(after.get(5..)?.strip_prefix(b"\\u")?.get(..4)?)?.checked_sub(0xdc00)?;
                character(12, 0x10000 + ((high - 0xd800) << 10) + low)
            }
            code => character(6, code),
        },
        other if other.is_ascii_punctuation() => character(2, (*other).into()),
        _ => None,
    }
}

/// Up to six hex digits as a number.
fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 6 {
        return None;
    }
    digits.iter().try_fold(0, |sum, digit| Some(sum << 4 | hex(*digit)?))
}

/// Replaces each span by the mark, and drops everything after the shown part.
fn replace(text: &str, mut spans: Vec<Range<usize>>) -> String {
    let shown = text.floor_char_boundary(MAX_SHOWN_BYTES);
    spans.retain(|span| span.start < shown);
    spans.sort_by_key(|span| (span.start, span.end));
    let mut out = String::with_capacity(shown);
    let mut done = 0;
    for span in spans {
        // Adjacent spans become one mark, which hides how often the key occurs.
        if span.start > done || done == 0 {
            out.push_str(text.get(done..text.floor_char_boundary(span.start)).unwrap_or_default());
            out.push_str(MARK);
        }
        done = done.max(text.ceil_char_boundary(span.end));
    }
    out.push_str(text.get(done..shown).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests;
