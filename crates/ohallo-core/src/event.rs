//! An event for users, before it is published.

use strum::IntoStaticStr;

use crate::api::conditions::Reason;

/// The longest text of an event, in characters: the API server accepts 1 kB.
const MAX_NOTE_CHARS: usize = 900;

/// An event to be published after the status is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingEvent {
    pub kind: EventType,
    pub reason: EventReason,
    pub text: String,
}

/// The type of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
pub enum EventType {
    Normal,
    Warning,
}

/// The reason of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
pub enum EventReason {
    Created,
    Adopted,
    Updated,
    DriftCorrected,
    CredentialsPushed,
    ProvisioningRetried,
    NoLongerManaged,
    Deleted,
    Retained,
    Released,
    HandedOver,
    ChannelOrphaned,
    ChannelIdNotStored,
    /// That of a condition.
    Condition(Reason),
}

// === impl EventType ===

impl EventType {
    /// The word in the event.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

// === impl EventReason ===

impl EventReason {
    /// The word in the event.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Condition(reason) => reason.as_str(),
            Self::Created
            | Self::Adopted
            | Self::Updated
            | Self::DriftCorrected
            | Self::CredentialsPushed
            | Self::ProvisioningRetried
            | Self::NoLongerManaged
            | Self::Deleted
            | Self::Retained
            | Self::Released
            | Self::HandedOver
            | Self::ChannelOrphaned
            | Self::ChannelIdNotStored => self.into(),
        }
    }
}

impl From<Reason> for EventReason {
    fn from(reason: Reason) -> Self {
        Self::Condition(reason)
    }
}

// === impl PendingEvent ===

impl PendingEvent {
    pub fn normal(reason: impl Into<EventReason>, text: impl Into<String>) -> Self {
        Self { kind: EventType::Normal, reason: reason.into(), text: text.into() }
    }

    pub fn warning(reason: impl Into<EventReason>, text: impl Into<String>) -> Self {
        Self { kind: EventType::Warning, reason: reason.into(), text: text.into() }
    }

    /// Escapes the text and truncates it to what the API server accepts.
    #[must_use]
    pub fn sanitized(self) -> Self {
        Self { text: crate::text::sanitize(&self.text, MAX_NOTE_CHARS), ..self }
    }
}
