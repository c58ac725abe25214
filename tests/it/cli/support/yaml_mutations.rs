//! Mutations of YAML text: what a person's hand or a template may do to a manifest.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// Scalars that YAML 1.1, YAML 1.2 and JSON read differently, and some that break types and bounds.
pub const SCALARS: &[&str] = &[
    "on",
    "off",
    "yes",
    "No",
    "y",
    "N",
    "True",
    "~",
    "null",
    "Null",
    "''",
    "\"\"",
    "0123",
    "08",
    "0o17",
    "0x1f",
    "0b101",
    "1_000",
    "+5",
    "-0",
    "1e3",
    "1.0",
    "600.5",
    ".5",
    "5.",
    "1e400",
    "2026-01-01",
    "2026-01-01T00:00:00Z",
    "12:30:45",
    "1:30",
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551616",
    "' padded'",
    "\"tab\\t\"",
    "\"\\u263a\"",
    "😀",
    "[]",
    "{}",
    "[a, b]",
    "{a: 1}",
    "text",
    "email",
    "!!str 5",
    "!!int \"5\"",
    "!!str on",
    "|-\n      block\n      text",
    ">-\n      folded\n      text",
    "=",
    "<<",
    "a b",
    "-1",
    "86401",
    "60",
    "\"600\"",
    ".inf",
    ".NaN",
    "&anchor value",
    "'it''s'",
    "@home",
    "%percent",
    "`tick",
    "a: b",
    "a #b",
    "\"open",
];

const KEYS: &[&str] = &[
    "channelType",
    "displayName",
    "noSuchField",
    "spec",
    "metadata",
    "name",
    "config",
    "enabled",
    "suspend",
    "intervalSeconds",
    "1",
    "on",
    "~",
    "\"\"",
    "? complex",
    "provisioningRetry",
    "deletionPolicy",
    "status",
];

pub const METADATA: &[&str] = &[
    "labels: {team: a}",
    "labels: {team: 1}",
    "labels: {team: on}",
    "labels: {\"a b\": c}",
    "labels: {a: \"b c\"}",
    "labels: []",
    "labels: {\"-a\": b}",
    "labels: {a/b/c: d}",
    "annotations: {a: \"b c\"}",
    "annotations: {\"a b\": c}",
    "annotations: {a: true}",
    "annotations: {A.example.com/B: x}",
    "annotations: {/b: x}",
    "annotations: text",
    "finalizers: [ohallo.eu/channel]",
    "finalizers: [\"not valid!\"]",
    "finalizers: text",
    "finalizers: [1]",
    "generateName: support-",
    "generateName: Support-",
    "generation: 3",
    "generation: -3",
    "generation: text",
    "uid: abc",
    "uid: 5",
    "resourceVersion: \"5\"",
    "creationTimestamp: null",
    "creationTimestamp: yesterday",
    "creationTimestamp: ''",
    "creationTimestamp: 2026-01-10",
    "creationTimestamp: \"2026-01-10T08:00:00Z\"",
    "creationTimestamp: \"2026-01-10T08:00:00.123456789012Z\"",
    "creationTimestamp: \"2026-01-10T08:00:00,5Z\"",
    "creationTimestamp: \"2026-01-10T8:00:00Z\"",
    "creationTimestamp: \"2026-01-10T08:00:00+24:60\"",
    "creationTimestamp: \"2026-01-10T08:00:00+24:61\"",
    "creationTimestamp: \"2026-01-10T08:00:00+25:00\"",
    "creationTimestamp: \"2026-01-10T08:00:00+00:00[UTC]\"",
    "creationTimestamp: \"2026-01-10T08:00:00\"",
    "creationTimestamp: \"2026-01-10 08:00:00Z\"",
    "creationTimestamp: \"2026-01-10t08:00:00z\"",
    "creationTimestamp: \"2026-01-10T08:00Z\"",
    "creationTimestamp: \"20260110T080000Z\"",
    "creationTimestamp: \"2026-01-10T23:59:60Z\"",
    "creationTimestamp: \"2025-02-29T08:00:00Z\"",
    "creationTimestamp: \"-000001-01-10T08:00:00Z\"",
    "creationTimestamp: \"0000-01-10T08:00:00Z\"",
    "deletionTimestamp: \"2026-01-10T24:00:00Z\"",
    "managedFields: [{manager: a, operation: Update, apiVersion: v1, time: \"2026-01-10 08:00:00Z\", fieldsType: FieldsV1, fieldsV1: {}}]",
    "ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: a, uid: b}]",
    "ownerReferences: [{}]",
    "ownerReferences: [{apiVersion: a/b/c, kind: A, name: a, uid: b}]",
    "ownerReferences: [{apiVersion: apps/, kind: A, name: a, uid: b}]",
    "ownerReferences: [{apiVersion: /, kind: A, name: a, uid: b}]",
    "ownerReferences: [{apiVersion: /v1, kind: A, name: a, uid: b}]",
    "ownerReferences: [{apiVersion: /v1, kind: Event, name: a, uid: b}]",
    "ownerReferences: [{apiVersion: apps/v1, kind: Event, name: a, uid: b}]",
    "ownerReferences: [{apiVersion: v1, kind: Event, name: a, uid: b}]",
    "ownerReferences: text",
    "ownerReferences: [{apiVersion: v1, kind: A, name: a, uid: b, nmae: c}]",
    "clusterName: a",
    "nmae: a",
    "managedFields: []",
    "deletionGracePeriodSeconds: 5",
    "deletionGracePeriodSeconds: soon",
    "selfLink: a",
    "finalizers: [orphan, foregroundDeletion]",
    "ownerReferences: [{apiVersion: v1, kind: A, name: a, uid: b, controller: true}, {apiVersion: v1, kind: A, name: c, uid: d, controller: true}]",
];

/// A line of a block mapping: its indent, its key and its value.
fn parts(line: &str) -> Option<(&str, &str, &str)> {
    let content = line.trim_start_matches([' ', '-']);
    let indent = &line[..line.len() - content.len()];
    let (key, value) = content.split_once(':')?;
    let plain = key.chars().all(|letter| letter.is_ascii_alphanumeric());
    (plain && !key.is_empty()).then_some((indent, key, value.trim()))
}

/// The manifest with one to three mutations, and what they are.
pub fn mutate(manifest: &str, random: &mut StdRng) -> (String, String) {
    let mut lines: Vec<String> = manifest.lines().map(str::to_owned).collect();
    let mut what = Vec::new();
    for _ in 0..random.random_range(1..=3) {
        what.push(one(&mut lines, random));
    }
    (lines.join("\n") + "\n", what.join(", then "))
}

fn one(lines: &mut Vec<String>, random: &mut StdRng) -> String {
    let fields: Vec<_> = (0..lines.len()).filter(|at| parts(&lines[*at]).is_some()).collect();
    let Some(at) = fields.choose(random).copied() else { return "nothing".to_owned() };
    let line = lines[at].clone();
    let (indent, key, value) = parts(&line).unwrap();
    let inner = indent.replace('-', " ");
    let scalar = SCALARS.choose(random).unwrap();
    let other = KEYS.choose(random).unwrap();
    match random.random_range(0..12) {
        // Its value, most often.
        0..4 => lines[at] = format!("{indent}{key}: {scalar}"),
        4 => lines[at] = format!("{indent}{other}: {value}"),
        5 => lines.insert(at + 1, format!("{inner}{other}: {scalar}")),
        6 => lines.insert(at + 1, format!("{inner}{key}: {value}")),
        7 => drop(lines.remove(at)),
        8 => lines[at] = format!(" {line}"),
        9 => {
            let field = METADATA.choose(random).unwrap();
            if let Some(at) = lines.iter().position(|line| line == "metadata:") {
                lines.insert(at + 1, format!("  {field}"));
            }
            return format!("metadata with {field}");
        }
        10 => lines[at] = format!("{indent}{key}:\t{value}"),
        _ => lines.insert(at + 1, format!("{inner}<<: {{{other}: {scalar}}}")),
    }
    format!("line {}: {key} with {scalar} and {other}", at + 1)
}
