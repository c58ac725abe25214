//! The formats of a report.

use std::fmt::Write;

use indexmap::IndexMap;
use ohallo_core::text::escape;
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
use serde_json::{Value, json};
use strum::IntoEnumIterator;

use crate::failure::Failure;
use crate::judge::Rule;
use crate::manifest::Position;
use crate::output::{self, BAD, GOOD, NOTE, paint};
use crate::validate::notes::{Note, Topic};
use crate::validate::report::{Report, VERSION, Verdict, Versioned};

const TOOL: &str = "kubectl-ohallo";

/// `Channel default/support: …`.
fn sentence(note: &Note) -> String {
    let separator = if note.object.is_empty() { "" } else { ": " };
    escape(&format!("{}{separator}{}", note.object, note.message))
}

fn unwritable(error: impl std::fmt::Display) -> Failure {
    Failure::undecided(format!("the report can't be written: {error}"))
}

pub fn text(report: &Report) -> String {
    let mut out = String::new();
    for object in &report.objects {
        for problem in &object.findings {
            let place = format!("{}:{}:{}", escape(&object.file), problem.at.line, problem.at.column);
            let error = paint(BAD, "error:");
            _ = writeln!(out, "{place}: {error} {}: {}", object.title(), problem.sentence());
        }
    }
    for file in &report.unreadable {
        _ = writeln!(out, "{}: {} {}", escape(&file.file), paint(BAD, "error:"), escape(&file.message));
    }
    for note in &report.notes {
        let place = format!("{}:{}:{}", escape(&note.file), note.at.line, note.at.column);
        _ = writeln!(out, "{place}: {} {}", paint(NOTE, "note:"), sentence(note));
    }
    let counts = report.counts;
    let style = if counts.invalid + counts.unreadable == 0 { GOOD } else { BAD };
    let mut line = format!("{} valid, {} invalid", counts.valid, counts.invalid);
    if counts.unreadable > 0 {
        _ = write!(line, ", {} not readable", counts.unreadable);
    }
    if counts.other > 0 {
        _ = write!(line, ", {} of other kinds not judged", counts.other);
    }
    _ = writeln!(out, "{}", paint(style, &line));
    out
}

pub fn json(report: &Report) -> Result<String, Failure> {
    output::json(&Versioned { version: VERSION, report })
}

pub fn junit(report: &Report) -> Result<String, Failure> {
    // In the order of the files.
    let mut suites: IndexMap<&str, TestSuite> = IndexMap::new();
    let mut add = |file, case| {
        suites.entry(file).or_insert_with(|| TestSuite::new(file)).add_test_case(case);
    };
    for object in &report.objects {
        let lines: Vec<_> = object
            .findings
            .iter()
            .map(|problem| {
                format!("{}:{}:{}: {}", object.file, problem.at.line, problem.at.column, problem.sentence())
            })
            .collect();
        let status = match object.verdict {
            Verdict::Valid => TestCaseStatus::success(),
            Verdict::Invalid => {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                status.set_message(object.findings.first().map(|p| p.sentence()).unwrap_or_default());
                status.set_description(lines.join("\n"));
                status
            }
        };
        let mut case = TestCase::new(object.title(), status);
        case.set_classname(object.file.as_str());
        add(object.file.as_str(), case);
    }
    for file in &report.unreadable {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
        status.set_message(file.message.as_str());
        add(file.file.as_str(), TestCase::new(file.file.as_str(), status));
    }
    let mut whole = quick_junit::Report::new(TOOL);
    whole.add_test_suites(suites.into_values());
    whole.to_string().map(|text| text + "\n").map_err(unwritable)
}

pub fn github(report: &Report) -> String {
    let mut out = String::new();
    for object in &report.objects {
        for problem in &object.findings {
            let (file, at) = (property(&object.file), problem.at);
            let message = data(&format!("{}: {}", object.title(), problem.sentence()));
            _ = writeln!(out, "::error file={file},line={},col={}::{message}", at.line, at.column);
        }
    }
    for file in &report.unreadable {
        _ = writeln!(out, "::error file={}::{}", property(&file.file), data(&file.message));
    }
    for note in &report.notes {
        let (file, at) = (property(&note.file), note.at);
        let (line, column, message) = (at.line, at.column, data(&sentence(note)));
        _ = writeln!(out, "::notice file={file},line={line},col={column}::{message}");
    }
    out
}

/// Escapes a message for a workflow command.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes a property of a workflow command.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

pub fn sarif(report: &Report) -> Result<String, Failure> {
    let rule = |id: &str, text| json!({"id": id, "shortDescription": {"text": text}});
    let rules = Rule::iter().map(|it| rule(it.into(), it.describe()));
    let topics = Topic::iter().map(|it| rule(it.into(), it.describe()));
    let rules: Vec<_> = rules.chain(topics).collect();
    let mut results = Vec::new();
    for object in &report.objects {
        for problem in &object.findings {
            let message = format!("{}: {}", object.title(), problem.sentence());
            results.push(result(problem.rule.into(), "error", &message, &object.file, problem.at));
        }
    }
    let start = Position { line: 1, column: 1 };
    let unreadable = report.unreadable.iter();
    results.extend(
        unreadable.map(|file| result(Rule::Syntax.into(), "error", &file.message, &file.file, start)),
    );
    let notes = report.notes.iter();
    results.extend(notes.map(|note| result(note.topic.into(), "note", &sentence(note), &note.file, note.at)));
    let driver = json!({"name": TOOL, "version": env!("CARGO_PKG_VERSION"), "rules": rules});
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}],
    });
    output::json(&log)
}

fn result(rule: &str, level: &str, message: &str, file: &str, at: Position) -> Value {
    let region = json!({"startLine": at.line, "startColumn": at.column});
    let uri = file.split(std::path::MAIN_SEPARATOR).map(encode).collect::<Vec<_>>().join("/");
    let location = json!({"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}});
    json!({"ruleId": rule, "level": level, "message": {"text": message}, "locations": [location]})
}

/// One part of a path in a URI.
fn encode(part: &str) -> String {
    let mut out = String::new();
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
