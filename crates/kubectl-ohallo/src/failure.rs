//! Errors that end a command, and the exit codes.

use thiserror::Error;

/// Everything is as it should be.
pub const SUCCESS: u8 = 0;
/// The answer is no: an invalid manifest.
pub const NEGATIVE: u8 = 1;
/// There is no answer: a file that can't be read.
pub const UNDECIDED: u8 = 2;
/// A flag or an argument is wrong (`EX_USAGE` of sysexits).
pub const BAD_USAGE: u8 = 64;

/// Why a command ends without a result. Its text is one sentence.
#[derive(Debug, Error)]
#[error("{message}")]
pub struct Failure {
    message: String,
    pub code: u8,
}

// === impl Failure ===

impl Failure {
    pub fn undecided(message: impl ToString) -> Self {
        Self { message: message.to_string(), code: UNDECIDED }
    }

    pub fn negative(message: impl ToString) -> Self {
        Self { message: message.to_string(), code: NEGATIVE }
    }

    /// The same sentence with another exit code.
    #[must_use]
    pub fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    pub fn usage(message: impl ToString) -> Self {
        Self { message: message.to_string(), code: BAD_USAGE }
    }
}
