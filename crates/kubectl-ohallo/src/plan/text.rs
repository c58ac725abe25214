//! The plan as people read it in a terminal.

use std::fmt::Write;

use anstyle::Style;
use ohallo_core::text::{escape, sanitize};

use crate::output::{BAD, GOOD, NOTE, paint};
use crate::plan::change::{Change, Effect};
use crate::plan::report::Report;

/// The longest name or value of a line, in characters.
const MAX_VALUE: usize = 128;

pub fn text(report: &Report) -> String {
    let mut out = format!("{}\n", report.about());
    if let Some(base) = &report.base {
        _ = writeln!(out, "Compared with {}.", sanitize(base, MAX_VALUE));
    }
    for (effect, changes) in report.sections() {
        _ = writeln!(out, "\n{}:", paint(style(effect), effect.heading()));
        for change in changes {
            _ = writeln!(out, "  {}", line(change));
            for field in &change.fields {
                _ = writeln!(out, "    {}: {}", sanitize(&field.path, MAX_VALUE), field.arrow(MAX_VALUE));
            }
        }
    }
    if !report.notes.is_empty() {
        _ = writeln!(out, "\n{}:", paint(NOTE, "Notes"));
    }
    for note in &report.notes {
        _ = writeln!(out, "  {}", escape(note));
    }
    let style = if report.destroys || report.refused() > 0 { BAD } else { GOOD };
    _ = writeln!(out, "\n{}", paint(style, &report.count_line()));
    out
}

/// Everything about a change but its fields.
fn line(change: &Change) -> String {
    let mut parts = vec![sanitize(&change.object(), 4 * MAX_VALUE)];
    let about: Vec<_> = [
        change.channel_type.clone(),
        quoted(&change.display_name),
        change.channel_id.as_ref().map(|id| format!("id {id}")).unwrap_or_default(),
    ]
    .into_iter()
    .filter(|part| !part.is_empty())
    .map(|part| sanitize(&part, MAX_VALUE))
    .collect();
    if !about.is_empty() {
        parts.push(format!(" ({})", about.join(", ")));
    }
    if !change.credentials.is_empty() {
        parts.push(format!(": {}", names(&change.credentials)));
    }
    let reason = change.reason.as_deref().map(|reason| format!("{reason}: ")).unwrap_or_default();
    if !change.message.is_empty() {
        parts.push(format!(": {reason}{}", escape(&change.message)));
    }
    parts.concat()
}

/// The names of credentials.
pub fn names(credentials: &[String]) -> String {
    credentials.iter().map(|name| sanitize(name, MAX_VALUE)).collect::<Vec<_>>().join(", ")
}

fn quoted(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{text:?}") }
}

fn style(effect: Effect) -> Style {
    match effect {
        Effect::Destroyed | Effect::MayBeDestroyed | Effect::DependsOnOrigin | Effect::Refused => BAD,
        Effect::Created | Effect::Adopted | Effect::Updated | Effect::CredentialsPushed => GOOD,
        Effect::Retained
        | Effect::HandedOver
        | Effect::Waits
        | Effect::Tested
        | Effect::ProvisioningRetried
        | Effect::NoLongerManaged
        | Effect::Observed
        | Effect::Suspended
        | Effect::Unserved
        | Effect::Waiting
        | Effect::Blocked => NOTE,
    }
}
