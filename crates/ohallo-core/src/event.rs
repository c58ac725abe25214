//! An event for users, before it is published.

/// The longest text of an event, in characters: the API server accepts 1 kB.
const MAX_NOTE_CHARS: usize = 900;

/// An event to be published after the status is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingEvent {
    pub warning: bool,
    pub reason: String,
    pub text: String,
}

// === impl PendingEvent ===

impl PendingEvent {
    pub fn normal(reason: &str, text: impl Into<String>) -> Self {
        Self { warning: false, reason: reason.into(), text: text.into() }
    }

    pub fn warning(reason: &str, text: impl Into<String>) -> Self {
        Self { warning: true, reason: reason.into(), text: text.into() }
    }

    /// Escapes the text and truncates it to what the API server accepts.
    #[must_use]
    pub fn sanitized(self) -> Self {
        Self { text: crate::text::sanitize(&self.text, MAX_NOTE_CHARS), ..self }
    }
}
