//! Removes an API key from oHallo's responses to calls with that key.
//!
//! Only the whole key is replaced, raw or in a common encoding: no prefix, suffix or fragment, so
//! that an echo of a guess looks the same whether the guess begins the key or not. The text is decoded, not the key
//! encoded: each of a fixed number of decodings is searched once, so the cost is linear in the text.

use std::ops::Range;

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
        if let Some(key) = &self.key {
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
        for (bits, value) in [(4, hex as fn(u8) -> Option<u32>), (6, base64)] {
            for run in runs(&self.bytes, |byte| value(byte).is_some()) {
                if run.len() * bits >= length * 8 {
                    self.search_digits(run, bits, value, key, spans);
                }
            }
        }
    }

    /// Decodes a run of digits, from each position at which a byte can begin.
    fn search_digits(
        &self,
        run: Range<usize>,
        bits: usize,
        value: fn(u8) -> Option<u32>,
        key: &Finder,
        spans: &mut Vec<Range<usize>>,
    ) {
        // Two hex digits are one byte; four base64 digits are three bytes.
        let phases = if bits == 4 { 2 } else { 4 };
        for phase in 0..phases {
            let start = run.start + phase;
            let digits = self.bytes.get(start..run.end).unwrap_or_default();
            let mut bytes = Vec::with_capacity(digits.len() * bits / 8);
            let (mut held, mut count) = (0_u32, 0);
            for digit in digits {
                held = held << bits | value(*digit).unwrap_or_default();
                count += bits;
                if count >= 8 {
                    count -= 8;
                    bytes.push((held >> count & 0xff) as u8);
                }
            }
            let digit = |bit: usize| start + bit / bits;
            let length = key.needle().len();
            for at in key.find_iter(&bytes) {
                spans.push(self.source(digit(at * 8)..digit((at + length) * 8 - 1) + 1));
            }
        }
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

/// The standard alphabet and the URL-safe one.
fn base64(digit: u8) -> Option<u32> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    };
    Some(value.into())
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
