//! What can go wrong in a pass, and the one mapping from oHallo's refusals to what a user reads.

use std::time::Duration;

use crate::api::conditions::Reason;
use crate::classify::{ApiError, CallError, Class, ErrorKind};
use crate::text;

/// The most credentials that a message names.
const MAX_LISTED_KEYS: usize = 8;

/// What a failure asks for; one row each of the table in `status.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// An input that is not there yet.
    MissingInput,
    /// Time: back off and try again.
    Backoff,
    /// oHallo named the time.
    RetryAfter(Duration),
    /// Somebody has to change something.
    UserAction,
    /// Somebody has to change something in the cluster that the operator does not watch: it retries with backoff.
    ClusterAction,
    /// No call was made and none may be before this time: nothing is written.
    Deferred(Duration),
}

/// Why a pass ended before it was done.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub retry: Retry,
    pub reason: Reason,
    /// One sentence. What oHallo said in it is redacted, what a tenant wrote is not; both are bounded and escaped where
    /// the sentence is written.
    pub message: String,
    /// What is known of the call that failed; `None` where no call failed.
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

    /// No token or lease yet.
    pub fn deferred(wait: Duration) -> Self {
        let message = "waiting for its turn under the rate limit".into();
        Self { retry: Retry::Deferred(wait), reason: Reason::Progressing, message, class: None }
    }

    /// Of the credentials call: which credentials were sent, and nothing that oHallo answered but the status code.
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
            Reason::AuthenticationFailed => "put a valid key into the Secret of the workspace",
            Reason::PermissionDenied => "give the API key the scope channels:write",
            _ => "correct the values in their Secrets",
        };
        Self { message: format!("oHallo refused the credentials {sent} ({status}): {remedy}."), ..failure }
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
                "oHallo's API can't be reached; it is tried again by itself.".to_owned(),
            ),
            ErrorKind::Untrusted => (
                Retry::Backoff,
                Reason::ApiUnavailable,
                format!("TLS with oHallo's API failed{}: check its certificate, --ca-file and what stands between; the operator retries.", said()),
            ),
            ErrorKind::Broken => (
                Retry::Backoff,
                Reason::ApiUnavailable,
                "The connection to oHallo's API broke before its answer was whole; it is tried again by itself.".into(),
            ),
            ErrorKind::TimedOut => (
                Retry::Backoff,
                Reason::ApiUnavailable,
                "oHallo's API did not answer in time; it is tried again by itself.".into(),
            ),
            ErrorKind::Unavailable => match error.retry_after {
                Some(after) => (Retry::RetryAfter(after), Reason::ApiUnavailable, format!("oHallo is unavailable{}; it is tried again when it says so.", said())),
                None => (Retry::Backoff, Reason::ApiUnavailable, format!("oHallo is unavailable{}; it is tried again by itself.", said())),
            },
            ErrorKind::RateLimited => (
                Retry::RetryAfter(error.retry_after.unwrap_or(Duration::from_secs(5))),
                Reason::RateLimited,
                "oHallo limits the rate of calls under this API key; it is tried again when it allows.".into(),
            ),
            ErrorKind::NotFound => (
                Retry::Backoff,
                Reason::UnexpectedResponse,
                format!("oHallo does not know what was asked for{}.", said()),
            ),
            ErrorKind::Unauthorized => (
                Retry::UserAction,
                Reason::AuthenticationFailed,
                format!("oHallo refused the API key{}: put a valid key into the Secret of the workspace.", said()),
            ),
            ErrorKind::Forbidden => (
                Retry::UserAction,
                Reason::PermissionDenied,
                format!("The API key may not do this{}: give it the scopes channels:read and channels:write.", said()),
            ),
            ErrorKind::Invalid => (
                Retry::UserAction,
                Reason::ValidationFailed,
                format!("oHallo refused the values{}: correct the manifest.", said()),
            ),
            ErrorKind::Refused => (
                Retry::Backoff,
                Reason::Rejected,
                format!("oHallo refused the request{}: correct what it names in the manifest or in the account.", said()),
            ),
            ErrorKind::Unsupported => (
                Retry::Backoff,
                Reason::UnexpectedResponse,
                format!("oHallo does not support this call{}.", said()),
            ),
            ErrorKind::Unexpected => (
                Retry::Backoff,
                Reason::UnexpectedResponse,
                format!("oHallo's answer was not what its API promises{}: check --api-url and what stands between.", said()),
            ),
        };
        Self { retry: need, reason, message, class: Some(error.class) }
    }
}

/// ` (400: its text)`, as far as there is any. [`ApiError::text`] is fit to be shown.
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
