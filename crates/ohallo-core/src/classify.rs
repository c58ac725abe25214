//! Classifies responses: one function for every call. A wrong class would create a duplicate or an orphan, so the tests
//! cover the whole table, and whatever is not in the table is [`Class::Ambiguous`].

use std::fmt;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde_json::Value;
use strum::{IntoStaticStr, VariantArray};

use crate::remote::{Id, RemoteChannel, RemoteWorkspace};
use crate::secret::Redactor;
use crate::{surrogates, text};

/// The maximum length of a text from oHallo, in characters.
const MAX_TEXT_CHARS: usize = 1024;
/// The limits of the wait that a `Retry-After` can request.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(15 * 60);

/// One kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Operation {
    GetChannel,
    GetWorkspace,
    ListChannels,
    Create,
    Update,
    StoreCredentials,
    Delete,
    Test,
    RetryProvisioning,
}

/// What is known about the effect of a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The request was not sent.
    NotSent,
    /// oHallo rejected the request: it had no effect.
    Rejected,
    /// The request may have had its effect, or have it later. A rejected repetition proves nothing: the caller must treat
    /// a 409 on create as ambiguous while an earlier attempt is unresolved.
    Ambiguous,
}

/// The kind of error, for conditions and backoff.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// DNS or connection failure.
    NotConnected,
    /// Either side rejected TLS.
    Untrusted,
    /// The connection ended after the first byte was sent.
    Broken,
    TimedOut,
    /// 404, and 410 to a read and to a delete
    NotFound,
    /// 401
    Unauthorized,
    /// 403
    Forbidden,
    /// 400 409 413 415 422
    Invalid,
    /// 405 501
    Unsupported,
    /// Every other registered 4xx
    Refused,
    /// 429
    RateLimited,
    /// 408 and 5xx but 501
    Unavailable,
    /// A redirect, a success that can't be read, or any other code.
    Unexpected,
}

/// A failed call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    pub class: Class,
    pub kind: ErrorKind,
    /// The HTTP status, where there was a response.
    pub status: Option<u16>,
    /// oHallo's `{"error": …}` text or the client's own sentence, at most 1,024 characters. The API key of the call is
    /// redacted and control characters are escaped. Empty where oHallo's text is not shown: servers echo parts of keys
    /// in 401 and 403 responses, and sent credentials in any encoding.
    pub text: String,
    /// From 429 and 503 only; 1 s to 15 min.
    pub retry_after: Option<Duration>,
}

/// What the HTTP library reported.
#[derive(Clone, Debug)]
pub enum Raw<'a> {
    NotConnected(String),
    /// The TLS error.
    Untrusted(String),
    Broken(String),
    TimedOut,
    Answered {
        status: u16,
        retry_after: Option<&'a str>,
        body: Result<&'a [u8], BodyFault>,
    },
}

/// Why a response body could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// More than the client reads (1 MiB).
    TooLarge,
    /// More than the client decodes (3 MiB of memory).
    TooWide,
    /// The wait for the heavy-work permit was too long.
    NoRoom,
    Broken(String),
}

/// Classifies a response. `Ok` holds the body of a success. `now` is needed for a `Retry-After` date; `redactor` is that
/// of the call's API key.
///
/// # Errors
/// Everything except a 2xx whose body is JSON and, for the actions, has `"ok": true`.
pub fn classify(
    operation: Operation,
    raw: &Raw<'_>,
    redactor: &Redactor,
    now: Timestamp,
) -> Result<Value, ApiError> {
    let clean = |text: &str| redactor.clean(text, MAX_TEXT_CHARS);
    match raw {
        Raw::NotConnected(text) => Err(ApiError::new(Class::NotSent, ErrorKind::NotConnected, &clean(text))),
        Raw::Untrusted(text) => Err(ApiError::new(Class::NotSent, ErrorKind::Untrusted, &clean(text))),
        Raw::Broken(text) => Err(ApiError::new(Class::Ambiguous, ErrorKind::Broken, &clean(text))),
        Raw::TimedOut => {
            Err(ApiError::new(Class::Ambiguous, ErrorKind::TimedOut, "oHallo did not respond in time"))
        }
        Raw::Answered { status: status @ 200..=299, body, .. } => {
            success(operation, body).map_err(|error| ApiError { status: Some(*status), ..error })
        }
        Raw::Answered { status, retry_after: header, body } => {
            let (class, kind) = refusal(operation, *status);
            let wait = matches!(status, 429 | 503).then_some(*header).flatten();
            let text = match kind {
                ErrorKind::Unauthorized | ErrorKind::Forbidden => String::new(),
                _ if operation == Operation::StoreCredentials => String::new(),
                _ => clean(&error_text(*status, body)),
            };
            Err(ApiError {
                status: Some(*status),
                retry_after: wait.and_then(|header| retry_after(header, now)),
                ..ApiError::new(class, kind, &text)
            })
        }
    }
}

/// Reads a `Retry-After` header: seconds or an HTTP date, clamped to 1 s–15 min. An invalid value counts as
/// 1 s, an empty header as none.
pub fn retry_after(header: &str, now: Timestamp) -> Option<Duration> {
    let header = header.trim();
    if header.is_empty() {
        return None;
    }
    if header.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(header.parse().map_or(WAIT_MAX, Duration::from_secs).clamp(WAIT_MIN, WAIT_MAX));
    }
    let date = httpdate::parse_http_date(header).ok();
    let wait = date.and_then(|date| date.duration_since(SystemTime::from(now)).ok());
    Some(wait.unwrap_or(WAIT_MIN).clamp(WAIT_MIN, WAIT_MAX))
}

/// Decodes the response to a read, a create or an update.
///
/// # Errors
/// Ambiguous and unexpected without a valid id.
pub fn decode_channel(value: Value) -> Result<RemoteChannel, ApiError> {
    RemoteChannel::from_value(value)
        .ok_or_else(|| unreadable("oHallo's response has no channel with a valid id"))
}

/// The channel in the response, if it is the requested one.
///
/// # Errors
/// Ambiguous and unexpected for another channel: a cache or proxy has mixed up two responses.
pub fn expect_id(asked: &Id, found: RemoteChannel) -> Result<RemoteChannel, ApiError> {
    if found.id == *asked {
        Ok(found)
    } else {
        Err(unreadable("oHallo's response describes another channel"))
    }
}

/// Decodes the response to a workspace read.
///
/// # Errors
/// Ambiguous and unexpected without a valid id.
pub fn decode_workspace(value: Value) -> Result<RemoteWorkspace, ApiError> {
    RemoteWorkspace::from_value(value)
        .ok_or_else(|| unreadable("oHallo's response has no workspace with a valid id"))
}

/// Decodes a list in any of the shapes in oHallo's documentation: bare, `items` or `data`. Entries without a valid
/// id are skipped.
///
/// # Errors
/// Ambiguous and unexpected where there is no list.
pub fn decode_channels(value: Value) -> Result<Vec<RemoteChannel>, ApiError> {
    let list = match value {
        Value::Object(mut fields) => fields.remove("items").or_else(|| fields.remove("data")),
        other => Some(other),
    };
    match list {
        Some(Value::Array(list)) => Ok(list.into_iter().filter_map(RemoteChannel::from_value).collect()),
        _ => Err(unreadable("oHallo's response has no list")),
    }
}

/// Decodes `{"ok": …}`.
///
/// # Errors
/// Ambiguous and unexpected where `ok` is missing or not a boolean.
pub fn decode_ok(value: Value) -> Result<bool, ApiError> {
    value.get("ok").and_then(Value::as_bool).ok_or_else(|| unreadable("oHallo's response has no \"ok\""))
}

fn success(operation: Operation, body: &Result<&[u8], BodyFault>) -> Result<Value, ApiError> {
    let bytes = match body {
        Ok(bytes) => bytes,
        Err(BodyFault::TooLarge) => return Err(unreadable("oHallo's response is larger than 1 MiB")),
        Err(BodyFault::TooWide) => {
            return Err(unreadable("oHallo's response takes more than 3 MiB of memory after decoding"));
        }
        Err(BodyFault::NoRoom) => {
            return Err(unreadable("oHallo's response is large and could not be read in time"));
        }
        Err(BodyFault::Broken(text)) => return Err(ApiError::new(Class::Ambiguous, ErrorKind::Broken, text)),
    };
    let value: Value =
        surrogates::from_slice(bytes).map_err(|_| unreadable("oHallo's response is not valid JSON"))?;
    match operation {
        Operation::StoreCredentials | Operation::Delete | Operation::RetryProvisioning => {
            match value.get("ok") {
                Some(Value::Bool(true)) => Ok(value),
                _ => Err(unreadable("oHallo's response does not have \"ok\": true")),
            }
        }
        Operation::GetChannel
        | Operation::GetWorkspace
        | Operation::ListChannels
        | Operation::Create
        | Operation::Update
        | Operation::Test => Ok(value),
    }
}

fn refusal(operation: Operation, status: u16) -> (Class, ErrorKind) {
    use Operation::{Create, Delete, GetChannel, GetWorkspace, ListChannels};
    match status {
        400 | 409 | 413 | 415 | 422 => (Class::Rejected, ErrorKind::Invalid),
        401 => (Class::Rejected, ErrorKind::Unauthorized),
        403 => (Class::Rejected, ErrorKind::Forbidden),
        404 => (Class::Rejected, ErrorKind::NotFound),
        410 if matches!(operation, GetChannel | GetWorkspace | ListChannels | Delete) => {
            (Class::Rejected, ErrorKind::NotFound)
        }
        // The other registered codes. An unregistered code can mean anything.
        402 | 406 | 407 | 410 | 411 | 412 | 414 | 416 | 417 | 421 | 423..=426 | 428 | 431 | 451 => {
            (Class::Rejected, ErrorKind::Refused)
        }
        405 | 501 => (Class::Rejected, ErrorKind::Unsupported),
        429 => (Class::Rejected, ErrorKind::RateLimited),
        // Some servers redirect to a resource that they have just created.
        301 | 302 if operation == Create => (Class::Ambiguous, ErrorKind::Unexpected),
        301 | 302 | 307 | 308 => (Class::Rejected, ErrorKind::Unexpected),
        408 | 500..=599 => (Class::Ambiguous, ErrorKind::Unavailable),
        _ => (Class::Ambiguous, ErrorKind::Unexpected),
    }
}

fn error_text(status: u16, body: &Result<&[u8], BodyFault>) -> String {
    let value = body.as_ref().ok().and_then(|bytes| surrogates::from_slice(bytes).ok());
    match value.as_ref().and_then(|value| value.get("error")).and_then(Value::as_str) {
        Some(text) if !text.trim().is_empty() => text.to_owned(),
        _ => format!("oHallo answered {status} without an error text"),
    }
}

fn unreadable(text: &str) -> ApiError {
    ApiError::new(Class::Ambiguous, ErrorKind::Unexpected, text)
}

// === impl Operation ===

impl Operation {
    /// Whether the call changes nothing, and can be repeated.
    pub fn is_read(self) -> bool {
        matches!(self, Self::GetChannel | Self::GetWorkspace | Self::ListChannels)
    }

    /// The value of the metric label `operation`.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

// === impl ApiError ===

impl ApiError {
    /// An error without an HTTP status, with the client's own sentence.
    pub fn new(class: Class, kind: ErrorKind, text: &str) -> Self {
        Self { class, kind, status: None, text: text::sanitize(text, MAX_TEXT_CHARS), retry_after: None }
    }
}

impl fmt::Display for ApiError {
    /// For logs: oHallo's own text may repeat what a tenant declared, so only its status is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "oHallo answered {status}"),
            None => f.write_str(&self.text),
        }
    }
}

impl std::error::Error for ApiError {}

/// Why a call of a session failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nothing was sent: the reconcile ends, and is requeued after this time.
    #[error("the call is due in {} ms", .0.as_millis())]
    Deferred(Duration),
    #[error(transparent)]
    Failed(#[from] ApiError),
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
