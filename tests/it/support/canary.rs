//! Secrets that must be found nowhere. Every text that leaves an operator of this run is scanned as it comes,
//! for every secret that any test uses, in every form; one hit fails the run.

use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock};

use aho_corasick::AhoCorasick;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Shorter ones are found in ordinary words; the operator doesn't replace them either.
const SHORTEST: usize = 8;
/// Of a longer one the beginning and the end are searched for.
const LONGEST: usize = 1024;
const END: usize = 64;
/// Secrets that have an automaton of their own until it is worth to build the large one again.
const FRESH: usize = 64;

#[derive(Default)]
struct Known {
    seen: BTreeSet<Vec<u8>>,
    all: SearchStrings,
    fresh: SearchStrings,
}

#[derive(Default)]
struct SearchStrings {
    secrets: Vec<Secret>,
    /// Which secret, and in which form.
    patterns: Vec<(usize, &'static str)>,
    automaton: Option<AhoCorasick>,
}

#[derive(Clone)]
struct Secret {
    value: Vec<u8>,
    decoy: bool,
}

/// A secret that was found, described without it.
#[derive(Clone, Debug, PartialEq)]
pub struct Leak {
    pub place: String,
    pub form: &'static str,
    /// The text around it, with every secret in it replaced.
    around: String,
    decoy: bool,
}

static KNOWN: RwLock<Option<Known>> = RwLock::new(None);
static LEAKS: RwLock<Vec<Leak>> = RwLock::new(Vec::new());

/// From now on `secret` must be found nowhere.
pub fn register(secret: impl AsRef<[u8]>) {
    add(secret.as_ref(), false);
}

/// From now on `secret` is searched for like any other, and only [`of_decoys`] returns its findings.
pub fn decoy(secret: &str) {
    add(secret.as_bytes(), true);
}

fn add(secret: &[u8], decoy: bool) {
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    if secret.len() < SHORTEST || !known.seen.insert(secret.to_vec()) {
        return;
    }
    let ends = [&secret[..secret.len().min(END)], &secret[secret.len().saturating_sub(END)..]];
    let parts = if secret.len() > LONGEST { &ends[..] } else { &[secret] };
    known.fresh.secrets.extend(parts.iter().map(|part| Secret { value: part.to_vec(), decoy }));
    if known.fresh.secrets.len() < FRESH {
        known.fresh.build();
        return;
    }
    let fresh = std::mem::take(&mut known.fresh);
    known.all.secrets.extend(fresh.secrets);
    known.all.build();
}

/// Scans a text that came out at `place`, and remembers what it finds.
pub fn scan(place: &str, text: impl AsRef<[u8]>) {
    let text = text.as_ref();
    let found = {
        let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = &*known else { return };
        let mut found = known.all.found(text);
        found.extend(known.fresh.found(text));
        found
    };
    if found.is_empty() {
        return;
    }
    let mut leaks = LEAKS.write().unwrap_or_else(PoisonError::into_inner);
    for (number, (form, span, decoy)) in found.iter().enumerate() {
        let around = masked(text, span, &found);
        if !decoy && number == 0 {
            // At once as well: the run may end before anybody asks.
            eprintln!("A SECRET LEAKED ({form}) at {place}: {around}");
        }
        leaks.push(Leak { place: place.to_owned(), form, around, decoy: *decoy });
    }
}

type Found = (&'static str, std::ops::Range<usize>, bool);

fn masked(text: &[u8], span: &std::ops::Range<usize>, found: &[Found]) -> String {
    let from = span.start.saturating_sub(80);
    let to = text.len().min(span.end + 80);
    let mut out = Vec::new();
    for (at, byte) in text.iter().enumerate().take(to).skip(from) {
        match found.iter().find(|(_, span, _)| span.contains(&at)) {
            Some((_, span, _)) if span.start == at => out.extend_from_slice(b"[secret]"),
            Some(_) => {}
            None => out.push(*byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Fails when anything was found anywhere in this run.
pub fn nothing_leaked() {
    let leaks = LEAKS.read().unwrap_or_else(PoisonError::into_inner);
    let leaks: Vec<_> = leaks.iter().filter(|leak| !leak.decoy).take(20).collect();
    assert!(leaks.is_empty(), "secrets leaked in this run: {leaks:#?}");
}

/// The places and forms in which decoys were found.
pub fn of_decoys() -> Vec<Leak> {
    let leaks = LEAKS.read().unwrap_or_else(PoisonError::into_inner);
    leaks.iter().filter(|leak| leak.decoy).cloned().collect()
}

// === impl SearchStrings ===

impl SearchStrings {
    fn build(&mut self) {
        let mut search_strings = Vec::new();
        self.patterns.clear();
        for (number, secret) in self.secrets.iter().enumerate() {
            for (form, search_string) in forms(&secret.value) {
                self.patterns.push((number, form));
                search_strings.push(search_string);
            }
        }
        self.automaton = Some(AhoCorasick::new(search_strings).unwrap());
    }

    fn found(&self, text: &[u8]) -> Vec<Found> {
        let matches = self.automaton.iter().flat_map(|automaton| automaton.find_iter(text));
        let named = matches.map(|found| {
            let (secret, form) = self.patterns[found.pattern().as_usize()];
            (form, found.range(), self.secrets[secret].decoy)
        });
        named.collect()
    }
}

/// Every form in which a secret could leak. Of base64 the digits that the secret alone decides, for each place that
/// it may have in a longer text; padding is no part of them.
pub fn forms(secret: &[u8]) -> BTreeSet<(&'static str, Vec<u8>)> {
    let mut forms = BTreeSet::from([
        ("raw", secret.to_vec()),
        ("hex", each(secret, |byte| format!("{byte:02x}"))),
        ("HEX", each(secret, |byte| format!("{byte:02X}"))),
        ("url, every byte", each(secret, |byte| format!("%{byte:02X}"))),
        ("url, every byte, lower case", each(secret, |byte| format!("%{byte:02x}"))),
    ]);
    for lead in 0..3 {
        for (name, engine) in [("base64", &STANDARD_NO_PAD), ("base64url", &URL_SAFE_NO_PAD)] {
            let digits = engine.encode([&vec![0; lead], secret].concat());
            let (from, to) = ((lead * 8).div_ceil(6), (lead + secret.len()) * 8 / 6);
            forms.insert((name, digits.as_bytes()[from..to].to_vec()));
        }
    }
    forms.extend(urls(secret));
    if let Ok(text) = std::str::from_utf8(secret) {
        forms.extend(texts(text));
    }
    // One that is the same in several forms is searched for once.
    let mut seen = BTreeSet::from([secret.to_vec()]);
    forms.retain(|(name, form)| *name == "raw" || seen.insert(form.clone()));
    forms
}

fn urls(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let escaped = |kept: &[u8], upper: bool| {
        each(secret, |byte| match byte {
            b if b.is_ascii_alphanumeric() || kept.contains(&b) => char::from(b).to_string(),
            b if upper => format!("%{b:02X}"),
            b => format!("%{b:02x}"),
        })
    };
    let form =
        escaped(b" *-._", true).into_iter().map(|byte| if byte == b' ' { b'+' } else { byte }).collect();
    vec![
        ("url", escaped(b"-_.~", true)),
        ("url, lower case", escaped(b"-_.~", false)),
        ("url, only letters and digits kept", escaped(b"", true)),
        ("url, only letters and digits kept, lower case", escaped(b"", false)),
        ("form", form),
    ]
}

fn texts(text: &str) -> Vec<(&'static str, Vec<u8>)> {
    let quoted = |text: String| text[1..text.len() - 1].to_owned();
    let json = |text: &str| quoted(serde_json::to_string(text).unwrap());
    let (once, debug) = (json(text), quoted(format!("{text:?}")));
    let units = text.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
    vec![
        ("json", once.clone().into_bytes()),
        ("json in json", json(&once).into_bytes()),
        ("json, slashes escaped", once.replace('/', "\\/").into_bytes()),
        ("json of Go", go(&once).into_bytes()),
        ("json in json of Go", go(&json(&once)).into_bytes()),
        ("json of Go in json", json(&go(&once)).into_bytes()),
        ("json, every character", units.collect::<String>().into_bytes()),
        ("debug", debug.clone().into_bytes()),
        ("debug in json", json(&debug).into_bytes()),
    ]
}

fn each(secret: &[u8], write: impl Fn(u8) -> String) -> Vec<u8> {
    secret.iter().flat_map(|byte| write(*byte).into_bytes()).collect()
}

/// As Go's encoder writes JSON, and with it the API server.
fn go(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

#[cfg(test)]
mod tests;
