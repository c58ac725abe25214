//! `cargo run --bin bench-linear`: counts instructions, by Valgrind.
//!
//! - `text`: what untrusted text costs at one length and at 64 times that length. It fails where the ratio is over 80: what
//!   a tenant or oHallo writes must cost linear work.
//! - `objects`: what an event costs with 1,000 objects and with 100,000. It fails where the ratio is more than that of a
//!   tree's depth: no event may visit all objects.

mod objects;

use std::hint::black_box;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use serde_json::{Map, Value};

use ohallo_core::channel::config;
use ohallo_core::classify::{self, Operation, Raw};
use ohallo_core::secret::{ApiKey, Redactor};
use ohallo_core::text;

const SHORT_BYTES: usize = 1024;
const TIMES: usize = 64;
const MAX_RATIO: f64 = 80.0;

/// Something that is done with a text of a length.
type Work = fn(usize);

const WORKS: [(&str, Work); 9] = [
    ("nothing", |_| {}),
    ("sanitize", |bytes| drop(black_box(text::sanitize(&"\u{202e}a".repeat(bytes / 4), bytes)))),
    ("redact-plain", |bytes| redact("sf_live_v1 ", bytes)),
    ("redact-json", |bytes| redact("\\u0073\\\\u0073", bytes)),
    ("redact-percent", |bytes| redact("%2573%73", bytes)),
    ("redact-base64", |bytes| redact("c2ZfbGl2ZV92", bytes)),
    ("answer", answered),
    ("config-long-key", |bytes| compared(&long_key(bytes))),
    ("config-deep", |bytes| compared(&deep(bytes))),
];

/// A key of the largest length whose prefixes are hard to distinguish from the text.
fn redact(piece: &str, bytes: usize) {
    let key = ApiKey::new(format!("{}!", "sf_live_v1".repeat(400)));
    let text = piece.repeat(bytes / piece.len());
    black_box(Redactor::of(&key).clean(&text, bytes));
}

fn answered(bytes: usize) {
    let body = format!(r#"{{"error":"{}"}}"#, "%73\\u0073".repeat(bytes / 9));
    let raw = Raw::Answered { status: 422, retry_after: None, body: Ok(body.as_bytes()) };
    let redactor = Redactor::of(&ApiKey::new("sf_live_v1_a3Bx9kLmP2qR7wYz4nDf".into()));
    drop(black_box(classify::classify(Operation::Update, &raw, &redactor, Timestamp::UNIX_EPOCH)));
}

/// One long key above as many others as fit.
fn long_key(bytes: usize) -> Map<String, Value> {
    let inner: Map<_, _> = (0..bytes / 16).map(|number| (format!("{number:05}"), 1.into())).collect();
    [("k".repeat(bytes / 2), inner.into())].into_iter().collect()
}

/// Long keys above one another, and values below each.
fn deep(bytes: usize) -> Map<String, Value> {
    (0..config::MAX_LEVELS - 1).fold(Map::new(), |inner, level| {
        let length = bytes / 2 / config::MAX_LEVELS;
        let values = (0..length / 16).map(|number| (format!("{number:05}"), 1.into()));
        values.chain([(level.to_string().repeat(length / 2), inner.into())]).collect()
    })
}

/// All that a reconcile does with a declared config.
fn compared(declared: &Map<String, Value>) {
    let none = Map::new();
    black_box(config::differences(declared, &none));
    black_box(config::differences(declared, declared));
    black_box(config::overlay(declared, declared));
    black_box(config::without(declared, &|path| path.len() == 7));
    black_box(config::digest("", Some(declared), None));
    black_box(config::dropped(&config::paths(declared), declared));
    black_box(config::too_deep(declared));
}

/// How many instructions this program takes with these arguments.
fn instructions(arguments: &[&str], valgrind: &[&str]) -> Result<f64> {
    let program = std::env::current_exe()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(valgrind)
        .arg(program)
        .args(arguments)
        .output()
        .context("Valgrind counts the instructions: install it (package valgrind)")?;
    let reported = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{arguments:?} failed: {reported}");
    let count = reported.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    count.with_context(|| format!("Valgrind prints no count: {reported}"))
}

fn main() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let good = match args.as_slice() {
        ["text", work, bytes] => {
            let Some((_, run)) = WORKS.iter().find(|(name, _)| name == work) else {
                bail!("there is no work {work}")
            };
            run(bytes.parse()?);
            true
        }
        ["object", work, size] => {
            objects::run(work, size.parse()?)?;
            true
        }
        ["text"] => compare_texts()?,
        ["objects"] => objects::compare()?,
        [] => compare_texts()? & objects::compare()?,
        _ => bail!("usage: bench-linear [text|objects]"),
    };
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Compares the lengths; whether each work is within the bound.
fn compare_texts() -> Result<bool> {
    let count = |work: &str, bytes: usize| instructions(&["text", work, &bytes.to_string()], &[]);
    let start = count("nothing", 0)?;
    let mut worst: f64 = 0.0;
    for (name, _) in WORKS.iter().skip(1) {
        let [short, long] = [SHORT_BYTES, SHORT_BYTES * TIMES].map(|bytes| count(name, bytes));
        let (short, long) = (short? - start, long? - start);
        let ratio = long / short.max(1.0);
        worst = worst.max(ratio);
        eprintln!("{name:16} {short:>12.0} instructions at 1 KiB, {long:>12.0} at 64 KiB: {ratio:.1} times");
    }
    eprintln!("{TIMES} times the text costs at most {worst:.1} times as much (bound {MAX_RATIO})");
    Ok(worst <= MAX_RATIO)
}
