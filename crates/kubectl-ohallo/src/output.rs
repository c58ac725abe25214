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
    /// Whether the reader of stdout has ended.
    is_closed: bool,
}

// === impl Output ===

impl Output {
    pub fn new(no_color: bool) -> Self {
        let choice = if no_color { ColorChoice::Never } else { ColorChoice::Auto };
        Self { choice, is_closed: false }
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
        let mut stream = AutoStream::new(std::io::stderr().lock(), self.choice);
        // There is nobody to report to if this fails.
        _ = writeln!(stream, "{NOTE}note:{NOTE:#} {}", ohallo_core::text::escape(text));
    }

    /// Prints an error on stderr and returns its exit code.
    pub fn fail(&mut self, failure: &Failure) -> u8 {
        self.error(&failure.to_string());
        failure.code
    }

    /// Prints an error on stderr.
    pub fn error(&mut self, message: &str) {
        let mut stream = AutoStream::new(std::io::stderr().lock(), self.choice);
        // There is nobody to report to if this fails.
        _ = writeln!(stream, "{BAD}error:{BAD:#} {}", ohallo_core::text::escape(message));
    }
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

/// An object as the YAML that people keep in Git, with lists at the level of their key.
///
/// # Errors
/// The object has something that YAML can't hold.
pub fn yaml(object: &impl Serialize) -> Result<String, Failure> {
    let options = serde_saphyr::ser_options! { compact_list_indent: true };
    serde_saphyr::to_string_with_options(object, options).map_err(Failure::undecided)
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
