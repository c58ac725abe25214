//! Where commands print: colors on a terminal only, and a pipe that closes early ends nothing.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use clap::ValueEnum;

use ohallo_core::text::is_invisible;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::failure::Failure;

/// Red, for what is wrong.
pub const BAD: Style = AnsiColor::Red.on_default();
/// Green, for what is right.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Yellow, for what a reader should know.
pub const NOTE: Style = AnsiColor::Yellow.on_default();

/// stdout and stderr.
pub struct Output {
    choice: ColorChoice,
    /// Whether GitHub Actions reads what is printed.
    is_workflow: bool,
    /// Whether the reader of stdout has ended.
    is_closed: bool,
}

// === impl Output ===

impl Output {
    pub fn new(no_color: bool) -> Self {
        let choice = if no_color { ColorChoice::Never } else { ColorChoice::Auto };
        Self { choice, is_workflow: std::env::var_os("GITHUB_ACTIONS").is_some(), is_closed: false }
    }

    /// Prints a result.
    ///
    /// # Errors
    /// stdout can't be written, but for a pipe whose reader has ended.
    pub fn print(&mut self, text: &str) -> Result<(), Failure> {
        let mut stream = AutoStream::new(std::io::stdout().lock(), self.choice);
        match stream.write_all(text.as_bytes()).and_then(|()| stream.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Ok(())
            }
            Err(error) => Err(Failure::undecided(format!("the output can't be written: {error}"))),
        }
    }

    /// Whether the reader of what is printed has ended, so that nothing reaches it any more.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Prints a remark on stderr, where it is no part of the result.
    pub fn note(&mut self, text: &str) {
        self.remark(&format!("{NOTE}note:{NOTE:#}"), text);
    }

    /// Prints an error on stderr and returns its exit code.
    pub fn fail(&mut self, failure: &Failure) -> u8 {
        self.error(&failure.to_string());
        failure.code
    }

    /// Prints an error on stderr.
    pub fn error(&mut self, message: &str) {
        self.remark(&format!("{BAD}error:{BAD:#}"), message);
    }

    fn remark(&mut self, head: &str, message: &str) {
        let mut stream = AutoStream::new(std::io::stderr().lock(), self.choice);
        let message = ohallo_core::text::escape(message);
        let message = if self.is_workflow { without_commands(&message) } else { message };
        // There is nobody to report to if this fails.
        _ = writeln!(stream, "{head} {message}");
    }
}

/// Text in which the runner of GitHub Actions finds no command: it takes `##[` anywhere, and `::` where a line begins.
fn without_commands(text: &str) -> String {
    text.replace("##[", "##\\[").replace("::", ":\\:")
}

/// Waits until the reader of stdout ends, where the system reports that without a write.
pub async fn closed() {
    #[cfg(unix)]
    if reader_ends().await.is_ok() {
        return;
    }
    std::future::pending().await
}

/// # Errors
/// stdout can't be watched: a file is never closed by its reader.
#[cfg(unix)]
async fn reader_ends() -> std::io::Result<()> {
    use std::os::fd::AsFd;
    use tokio::io::Interest;
    use tokio::net::unix::pipe::Sender;

    let stdout = std::io::stdout().as_fd().try_clone_to_owned()?;
    // Unchecked, because stdout must go on to block.
    Sender::from_owned_fd_unchecked(stdout)?.ready(Interest::ERROR).await.map(drop)
}

/// The text in a style.
pub fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// A value as JSON for people and programs: characters that hide or reorder text are escaped.
///
/// # Errors
/// The value is not JSON.
pub fn json(value: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value);
    let text = text.map_err(|error| Failure::undecided(format!("the output is not JSON: {error}")))?;
    let mut out = String::with_capacity(text.len() + 1);
    for character in text.chars() {
        if character != '\n' && (character.is_control() || is_invisible(character)) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(character);
        }
    }
    out.push('\n');
    Ok(out)
}

/// A JSON object of the fields that have a value.
pub fn fields<const N: usize>(fields: [(&str, Option<Value>); N]) -> Map<String, Value> {
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// An object as the YAML that people keep in Git, with lists at the level of their key. Characters that hide or reorder
/// text are escaped, as in JSON.
///
/// # Errors
/// The object has something that YAML can't hold.
pub fn yaml(object: &impl Serialize) -> Result<String, Failure> {
    let options = serde_saphyr::ser_options! { compact_list_indent: true };
    let text = serde_saphyr::to_string_with_options(object, options.clone()).map_err(Failure::undecided)?;
    if !text.contains(is_hidden) {
        return Ok(text);
    }
    // Only quoted texts have escapes, and the serializer chooses the quotes: it gets a word for each of these texts.
    let mut object = serde_json::to_value(object).map_err(Failure::undecided)?;
    let mut mark = "escaped".to_owned();
    while text.contains(&mark) {
        mark.push('x');
    }
    let mut hidden = Vec::new();
    replace_hidden(&mut object, &mark, &mut hidden);
    let mut text = serde_saphyr::to_string_with_options(&object, options).map_err(Failure::undecided)?;
    for (at, value) in hidden.iter().enumerate() {
        text = text.replace(&format!("{mark}{at}z"), &quoted(value));
    }
    Ok(text)
}

/// Whether a character hides or reorders text. A line break and a tab do neither.
fn is_hidden(character: char) -> bool {
    character.is_control() && !matches!(character, '\n' | '\t') || is_invisible(character)
}

/// Replaces each text and key that has hidden characters by a word.
fn replace_hidden(value: &mut Value, mark: &str, hidden: &mut Vec<String>) {
    match value {
        Value::String(text) if text.contains(is_hidden) => *text = word(text, mark, hidden),
        Value::Array(items) => items.iter_mut().for_each(|item| replace_hidden(item, mark, hidden)),
        Value::Object(fields) => {
            let mut replaced = Map::new();
            for (key, mut value) in std::mem::take(fields) {
                let key = if key.contains(is_hidden) { word(&key, mark, hidden) } else { key };
                replace_hidden(&mut value, mark, hidden);
                replaced.insert(key, value);
            }
            *fields = replaced;
        }
        Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null => {}
    }
}

/// The word for a text. No word is the beginning of another.
fn word(text: &str, mark: &str, hidden: &mut Vec<String>) -> String {
    hidden.push(text.to_owned());
    format!("{mark}{}z", hidden.len() - 1)
}

/// A text in the double quotes of YAML.
fn quoted(text: &str) -> String {
    let mut out = "\"".to_owned();
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            character if is_hidden(character) => _ = write!(out, "\\U{:08x}", u32::from(character)),
            character => out.push(character),
        }
    }
    out.push('"');
    out
}

/// The formats of results that people and programs read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// For programs: everything that the text says
    Json,
    /// The same as YAML
    Yaml,
}

/// A result in a format.
///
/// # Errors
/// The result is not JSON.
pub fn render<T: Serialize>(
    format: Format,
    result: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<String, Failure> {
    match format {
        Format::Text => Ok(text(result)),
        Format::Json => json(result),
        Format::Yaml => yaml(result),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn hidden_characters_are_escaped_in_yaml_and_other_text_is_as_it_was() {
        let object = json!({"a": "x\u{202e}y\"\\\n\t\u{e0001}", "b\u{200b}": ["\u{1b}[31m", "\u{85}\r", "escaped0z"], "c": "plain"});
        let text = yaml(&object).unwrap();
        assert!(!text.contains(is_hidden), "{text:?}");
        assert!(
            text.contains(r"\U0000202e") && text.contains("c: plain") && text.contains("- escaped0z"),
            "{text}"
        );
        assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), object, "{text}");
        assert_eq!(yaml(&json!({"b": "x", "a": ["é😀"]})).unwrap(), "a:\n- é😀\nb: x\n");
    }

    #[test]
    fn the_runner_of_github_finds_no_command_in_a_sentence() {
        let text = without_commands("a ##[error]b ::warning::c");
        assert!(!text.contains("##[") && !text.contains("::"), "{text}");
    }

    proptest! {
        #[test]
        fn yaml_of_any_text_is_inert_and_reads_back(key in any::<String>(), texts in prop::collection::vec("([ -~]|[\\p{Cf}\\p{Cc}]|escaped[0-9]z){0,8}", 0..4)) {
            let object = json!({"k": {key: texts}});
            let text = yaml(&object).unwrap();
            prop_assert!(!text.contains(is_hidden), "{:?}", text);
            prop_assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), object, "{}", text);
        }
    }
}
