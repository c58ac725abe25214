//! Failures of a reconcile, and the mapping from oHallo's errors to reasons and messages.

use std::time::Duration;

use crate::api::conditions::Reason;
use crate::classify::{ApiError, CallError, Class, ErrorKind};
use crate::text;

/// The most credentials that a message names.
const MAX_LISTED_KEYS: usize = 8;

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
}

// === impl Failure ===

impl Failure {
    pub fn user_action(reason: Reason, message: impl Into<String>) -> Self {
        Self { retry: Retry::UserAction, reason, message: message.into(), class: None }
    }

    pub fn missing_input(reason: Reason, message: impl Into<String>) -> Self {
        Self { retry: Retry::MissingInput, reason, message: message.into(), class: None }
    }

    pub fn transient(reason: Reason, message: impl Into<String>) -> Self {
        Self { retry: Retry::Backoff, reason, message: message.into(), class: None }
    }

    /// No rate limit token or concurrency slot is available yet.
    pub fn deferred(wait: Duration) -> Self {
        let message = "waiting for the rate limit of the API key".into();
        Self { retry: Retry::Deferred(wait), reason: Reason::Progressing, message, class: None }
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
        Self { retry: need, reason, message, class: Some(error.class) }
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
