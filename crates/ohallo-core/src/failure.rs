//! Failures of a reconcile, and the mapping from oHallo's errors to reasons and messages.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::api::conditions::Reason;
use crate::classify::{ApiError, CallError, Class, ErrorKind};
use crate::text;

/// The most credentials that a message names.
const MAX_LISTED_KEYS: usize = 8;

/// The longest [`Failure::chain`], in characters.
const MAX_CHAIN_CHARS: usize = 2048;

/// How a failure is retried; each variant is one row of the table in `status.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// An input is missing; its arrival triggers a reconcile.
    MissingInput,
    /// Retry with backoff.
    Backoff,
    /// Retry when oHallo says so (`Retry-After`).
    RetryAfter(Duration),
    /// A user has to change something.
    UserAction,
    /// A user has to change something in the cluster that the operator does not watch: retry with backoff.
    ClusterAction,
    /// No call was sent, and none can be sent before this time: nothing is written.
    Deferred(Duration),
}

/// Why a reconcile ended early.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub retry: Retry,
    pub reason: Reason,
    /// One sentence. Its text from oHallo is redacted, text from a tenant is not. The code that writes the sentence
    /// truncates and escapes both.
    pub message: String,
    /// The class of the failed call; `None` where no call failed.
    pub class: Option<Class>,
    /// What caused it, for logs.
    pub source: Option<Source>,
}

/// The cause of a failure. As in the message, its text and those of its own sources quote nothing from oHallo that is not
/// redacted, and nothing from the API server.
#[derive(Clone)]
pub struct Source(Arc<dyn Error + Send + Sync>);

// === impl Source ===

impl Source {
    pub fn new(error: impl Error + Send + Sync + 'static) -> Self {
        Self(Arc::new(error))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PartialEq for Source {
    /// Sources have no value to compare: no decision depends on one.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

// === impl Failure ===

impl Failure {
    fn new(retry: Retry, reason: Reason, message: impl Into<String>) -> Self {
        Self { retry, reason, message: message.into(), class: None, source: None }
    }

    pub fn user_action(reason: Reason, message: impl Into<String>) -> Self {
        Self::new(Retry::UserAction, reason, message)
    }

    pub fn cluster_action(reason: Reason, message: impl Into<String>) -> Self {
        Self::new(Retry::ClusterAction, reason, message)
    }

    pub fn missing_input(reason: Reason, message: impl Into<String>) -> Self {
        Self::new(Retry::MissingInput, reason, message)
    }

    pub fn transient(reason: Reason, message: impl Into<String>) -> Self {
        Self::new(Retry::Backoff, reason, message)
    }

    /// No rate limit token or concurrency slot is available yet.
    pub fn deferred(wait: Duration) -> Self {
        let message = "waiting for the rate limit of the API key";
        Self::new(Retry::Deferred(wait), Reason::Progressing, message)
    }

    /// The same failure with its cause, whose text must be fit to be shown: see [`Source`].
    #[must_use]
    pub fn caused_by(self, error: impl Error + Send + Sync + 'static) -> Self {
        Self { source: Some(Source::new(error)), ..self }
    }

    /// The reason and the causes, as `a: b: c`, escaped for a log. The message is left out: it may quote a tenant.
    pub fn chain(&self) -> String {
        let mut text = self.reason.as_str().to_owned();
        let mut next = self.source();
        while let Some(error) = next {
            let said = error.to_string();
            let said = said.trim().trim_end_matches('.');
            if !text.contains(said) {
                text.push_str(": ");
                text.push_str(said);
            }
            next = error.source();
        }
        text::sanitize(&text, MAX_CHAIN_CHARS)
    }

    /// For the credentials call: the names of the sent credentials, and of oHallo's response the status code only.
    pub fn of_credentials(error: CallError, keys: &[String]) -> Self {
        let status = match &error {
            CallError::Failed(ApiError { status: Some(status), class: Class::Rejected, kind, .. }) => {
                (!matches!(kind, ErrorKind::RateLimited | ErrorKind::Unexpected)).then_some(*status)
            }
            _ => None,
        };
        let failure = Self::from(error);
        let Some(status) = status else { return failure };
        let sent = text::list(keys.iter().map(String::as_str), MAX_LISTED_KEYS);
        let remedy = match failure.reason {
            Reason::AuthenticationFailed => "store a valid API key in the Secret of the Workspace",
            Reason::PermissionDenied => "grant the API key the scope channels:write",
            _ => "correct the values in their Secrets",
        };
        Self { message: format!("oHallo rejected the credentials {sent} ({status}): {remedy}."), ..failure }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &*source.0 as &(dyn Error + 'static))
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Deferred(wait) => Self::deferred(wait),
            CallError::Failed(error) => Self::from(error),
        }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let said = || said(&error);
        let (need, reason, message) = match error.kind {
            ErrorKind::NotConnected => (
                Retry::Backoff,
                Reason::ApiUnavailable,
                "oHallo's API can't be reached; the operator retries.".to_owned(),
            ),
            ErrorKind::Untrusted => (
                Retry::Backoff,
                Reason::ApiUnavailable,
                format!("TLS with oHallo's API failed{}: check its certificate, --ca-file and any proxy in between; the operator retries.", said()),
            ),
            ErrorKind::Broken => (
                Retry::Backoff,
                Reason::ApiUnavailable,
                "The connection to oHallo's API broke before the response was complete; the operator retries.".into(),
            ),
            ErrorKind::TimedOut => (
                Retry::Backoff,
                Reason::ApiUnavailable,
                "The call to oHallo's API timed out; the operator retries.".into(),
            ),
            ErrorKind::Unavailable => match error.retry_after {
                Some(after) => (Retry::RetryAfter(after), Reason::ApiUnavailable, format!("oHallo is unavailable{}; the operator retries after the time that oHallo set.", said())),
                None => (Retry::Backoff, Reason::ApiUnavailable, format!("oHallo is unavailable{}; the operator retries.", said())),
            },
            ErrorKind::RateLimited => (
                Retry::RetryAfter(error.retry_after.unwrap_or(Duration::from_secs(5))),
                Reason::RateLimited,
                "oHallo limits the rate of calls with this API key; the operator retries when the limit allows.".into(),
            ),
            ErrorKind::NotFound => (
                Retry::Backoff,
                Reason::UnexpectedResponse,
                format!("oHallo does not know the requested object{}; the operator retries.", said()),
            ),
            ErrorKind::Unauthorized => (
                Retry::UserAction,
                Reason::AuthenticationFailed,
                format!("oHallo rejected the API key{}: store a valid API key in the Secret of the Workspace.", said()),
            ),
            ErrorKind::Forbidden => (
                Retry::UserAction,
                Reason::PermissionDenied,
                format!("The API key lacks a permission{}: grant it the scopes channels:read and channels:write.", said()),
            ),
            ErrorKind::Invalid => (
                Retry::UserAction,
                Reason::ValidationFailed,
                format!("oHallo rejected the values{}: correct the manifest.", said()),
            ),
            ErrorKind::Refused => (
                Retry::Backoff,
                Reason::Rejected,
                format!("oHallo rejected the request{}: correct the manifest or the oHallo account.", said()),
            ),
            ErrorKind::Unsupported => (
                Retry::Backoff,
                Reason::UnexpectedResponse,
                format!("oHallo does not support this call{}; the operator retries.", said()),
            ),
            ErrorKind::Unexpected => (
                Retry::Backoff,
                Reason::UnexpectedResponse,
                format!("oHallo's response does not match its API{}: check --api-url and any proxy in between.", said()),
            ),
        };
        let class = Some(error.class);
        Self { class, ..Self::new(need, reason, message) }.caused_by(error)
    }
}

/// ` (400: its text)`, as far as both are known. [`ApiError::text`] is already redacted.
fn said(error: &ApiError) -> String {
    let text = error.text.trim().trim_end_matches('.');
    match (error.status, text.is_empty()) {
        (Some(status), true) => format!(" ({status})"),
        (Some(status), false) => format!(" ({status}: {text})"),
        (None, true) => String::new(),
        (None, false) => format!(" ({text})"),
    }
}

#[cfg(test)]
mod tests;
