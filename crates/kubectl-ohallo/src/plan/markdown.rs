//! The plan as a comment of a pull request.
//!
//! Whoever writes a manifest chooses its texts, and another account posts the comment. So each of them is in `<code>`,
//! where GitHub resolves no mention, link or emoji, and every punctuation character is an entity, so that none is Markdown
//! or HTML.

use std::fmt::Write;

use ohallo_core::text::sanitize;

use crate::plan::change::Change;
use crate::plan::report::Report;

/// The first line of the comment: a later run finds the comment by it, and replaces it.
pub const MARKER: &str = "<!-- kubectl-ohallo plan -->";

/// GitHub accepts 65,536 characters. Counted in bytes, this holds in any unit.
pub const MAX_BYTES: usize = 65_536;

/// Splits a text without a trace in what is shown.
const SPLIT: &str = "<!-- -->";

/// Reserved for what follows the sections: what was cut, and how many notes.
const RESERVE: usize = 2 * 1024;

/// The longest text of a manifest that is shown, in characters.
const MAX_VALUE: usize = 128;

/// The longest sentence, in characters.
const MAX_MESSAGE: usize = 1024;

pub fn markdown(report: &Report) -> String {
    let title = if report.destroys {
        "### ⚠️ oHallo plan: this change destroys channels"
    } else if report.has_changes {
        "### oHallo plan"
    } else {
        "### oHallo plan: no changes"
    };
    let mut out = format!("{MARKER}\n{title}\n\n{}\n\n**{}**\n", about(report), report.count_line());
    let mut cut = Vec::new();
    for (effect, changes) in report.sections() {
        // What can't be undone is not folded.
        let open = if effect.destroys() { " open" } else { "" };
        let head =
            format!("\n<details{open}><summary>{} ({})</summary>\n\n", effect.heading(), changes.len());
        let end = "\n</details>\n";
        let mut section = head.clone();
        let mut left = 0;
        for change in &changes {
            let item = item(change);
            if left == 0 && out.len() + section.len() + item.len() + end.len() + RESERVE <= MAX_BYTES {
                section.push_str(&item);
            } else {
                left += 1;
            }
        }
        if left > 0 {
            cut.push(format!("{left} {}", effect.word()));
        }
        if section != head {
            out.push_str(&section);
            out.push_str(end);
        }
    }
    if !cut.is_empty() {
        _ = writeln!(
            out,
            "\n**Cut, because GitHub limits the length of a comment: {}.** The output of the job has all.",
            cut.join(", ")
        );
    }
    let mut left = 0;
    for note in &report.notes {
        let note = format!("\n> {}\n", plain(note));
        if out.len() + note.len() + RESERVE / 8 <= MAX_BYTES {
            out.push_str(&note);
        } else {
            left += 1;
        }
    }
    if left > 0 {
        _ = writeln!(out, "\n> {left} more notes are cut.");
    }
    out
}

fn about(report: &Report) -> String {
    let base = report.base.as_deref().map(|base| format!(" Compared with {}.", code(base)));
    format!("{}{}", report.about(), base.unwrap_or_default())
}

/// One line of a list, and one below it for each field.
fn item(change: &Change) -> String {
    let mut line = format!("- {}", code(&change.object()));
    let about: Vec<_> = [
        change.channel_type.clone(),
        change.display_name.clone(),
        change.channel_id.as_ref().map(|id| format!("id {id}")).unwrap_or_default(),
    ]
    .iter()
    .filter(|part| !part.is_empty())
    .map(|part| code(part))
    .collect();
    if !about.is_empty() {
        _ = write!(line, " {}", about.join(" "));
    }
    if !change.credentials.is_empty() {
        let names: Vec<_> = change.credentials.iter().map(|name| code(name)).collect();
        _ = write!(line, ": {}", names.join(" "));
    }
    if !change.message.is_empty() {
        let reason = change.reason.as_deref().map(|reason| format!("{reason}: ")).unwrap_or_default();
        _ = write!(line, "<br>{}", code_of(&format!("{reason}{}", change.message), MAX_MESSAGE));
    }
    line.push('\n');
    for field in &change.fields {
        _ = writeln!(
            line,
            "  - {} {}",
            code(&field.path),
            code_of(&field.arrow(MAX_VALUE), 2 * MAX_VALUE + 8)
        );
    }
    line
}

/// A text as it is, whatever it contains.
fn code(text: &str) -> String {
    code_of(text, 4 * MAX_VALUE)
}

fn code_of(text: &str, max: usize) -> String {
    format!("<code>{}</code>", inert(&sanitize(text, max)))
}

/// A sentence of this program, of which a part may come from a user.
fn plain(text: &str) -> String {
    code_of(text, MAX_MESSAGE)
}

/// Every character that can be part of Markdown or HTML as an entity. None of them ends or begins anything then. GitHub
/// looks for mail addresses after it has resolved entities, within each text: a comment ends the text before `@`.
fn inert(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character == '@' {
            out.push_str(SPLIT);
        }
        if character.is_ascii_punctuation() {
            _ = write!(out, "&#{};", u32::from(character));
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests;
