//! What an answer means: one function for every call. A wrong class here makes a duplicate or an orphan, so the
//! whole table is tested, and whatever is not in the table is [`Class::Ambiguous`].

use std::fmt;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde_json::Value;
use strum::{IntoStaticStr, VariantArray};

use crate::remote::{Id, RemoteChannel, RemoteWorkspace};
use crate::secret::Redactor;
use crate::{surrogates, text};

/// The longest text of oHallo's that is kept, in characters.
const MAX_TEXT_CHARS: usize = 1024;
/// The shortest and the longest wait that a `Retry-After` may ask for.
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

/// What is known about the effect of a call that did not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Nothing left this machine.
    NotSent,
    /// oHallo refused: the call had no effect.
    Rejected,
    /// It may have had its effect, or have it later. A refused repetition proves nothing: a 409 on create while
    /// an earlier attempt is unknown is the caller's to treat as ambiguous.
    Ambiguous,
}

/// What went wrong, for conditions and back-off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No name, or no connection.
    NotConnected,
    /// TLS was refused, by either side.
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

/// A call that did not end well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    pub class: Class,
    pub kind: ErrorKind,
    /// The HTTP status, where the error is about one.
    pub status: Option<u16>,
    /// oHallo's `{"error": …}` text or a sentence of ours, at most 1,024 characters. The API key of the call is
    /// redacted and control characters are escaped. Empty where oHallo's text is not shown: servers echo parts of keys
    /// in the answers to 401 and 403, and credentials in any encoding where they were sent.
    pub text: String,
    /// From 429 and 503 only, between 1 s and 15 min.
    pub retry_after: Option<Duration>,
}

/// What the HTTP library reported.
#[derive(Clone, Debug)]
pub enum Raw<'a> {
    NotConnected(String),
    /// What of TLS failed.
    Untrusted(String),
    Broken(String),
    TimedOut,
    Answered {
        status: u16,
        retry_after: Option<&'a str>,
        body: Result<&'a [u8], BodyFault>,
    },
}

/// Why an answer's body could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// More than the client reads (1 MiB).
    TooLarge,
    /// More than the client decodes (3 MiB of memory).
    TooWide,
    /// It had to wait for the memory that it takes, and the wait was too long.
    NoRoom,
    Broken(String),
}

/// Judges an answer. `Ok` means done, with the body of a success; `now` is needed for a `Retry-After` date, `redactor`
/// is that of the key that the call was made with.
///
/// # Errors
/// Everything but a 2xx whose body is JSON and, for the actions, says that they took place.
pub fn classify(
    operation: Operation,
    raw: &Raw<'_>,
    redactor: &Redactor,
    now: Timestamp,
) -> Result<Value, ApiError> {
    match raw {
        Raw::NotConnected(text) => Err(ApiError::new(Class::NotSent, ErrorKind::NotConnected, text)),
        Raw::Untrusted(text) => Err(ApiError::new(Class::NotSent, ErrorKind::Untrusted, text)),
        Raw::Broken(text) => Err(ApiError::new(Class::Ambiguous, ErrorKind::Broken, text)),
        Raw::TimedOut => {
            Err(ApiError::new(Class::Ambiguous, ErrorKind::TimedOut, "oHallo did not answer in time"))
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
                _ => redactor.clean(&error_text(*status, body), MAX_TEXT_CHARS),
            };
            Err(ApiError {
                status: Some(*status),
                retry_after: wait.and_then(|header| retry_after(header, now)),
                ..ApiError::new(class, kind, &text)
            })
        }
    }
}

/// Reads a `Retry-After` header: seconds or an HTTP date, clamped to 1 s–15 min. Nonsense counts as 1 s, an empty
/// header as none.
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

/// Decodes the answer of a read, a create or an update.
///
/// # Errors
/// Ambiguous and unexpected without a fit id.
pub fn decode_channel(value: Value) -> Result<RemoteChannel, ApiError> {
    RemoteChannel::from_value(value)
        .ok_or_else(|| unreadable("oHallo's answer holds no channel with a fit id"))
}

/// What was answered, where it is about the channel that was asked for.
///
/// # Errors
/// Ambiguous and unexpected where it describes another one: a cache or proxy has mixed up two answers.
pub fn expect_id(asked: &Id, found: RemoteChannel) -> Result<RemoteChannel, ApiError> {
    if found.id == *asked { Ok(found) } else { Err(unreadable("oHallo's answer is about another channel")) }
}

/// Decodes the answer of a workspace read.
///
/// # Errors
/// Ambiguous and unexpected without a fit id.
pub fn decode_workspace(value: Value) -> Result<RemoteWorkspace, ApiError> {
    RemoteWorkspace::from_value(value)
        .ok_or_else(|| unreadable("oHallo's answer holds no workspace with a fit id"))
}

/// Decodes a list in any of the shapes that oHallo's pages show: bare, `items` or `data`. Entries without a fit
/// id are left out.
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
        _ => Err(unreadable("oHallo's answer holds no list")),
    }
}

/// Decodes `{"ok": …}`.
///
/// # Errors
/// Ambiguous and unexpected where `ok` is missing or no boolean.
pub fn decode_ok(value: Value) -> Result<bool, ApiError> {
    value.get("ok").and_then(Value::as_bool).ok_or_else(|| unreadable("oHallo's answer holds no \"ok\""))
}

fn success(operation: Operation, body: &Result<&[u8], BodyFault>) -> Result<Value, ApiError> {
    let bytes = match body {
        Ok(bytes) => bytes,
        Err(BodyFault::TooLarge) => return Err(unreadable("oHallo's answer is larger than 1 MiB")),
        Err(BodyFault::TooWide) => {
            return Err(unreadable("oHallo's answer takes more than 3 MiB of memory once it is decoded"));
        }
        Err(BodyFault::NoRoom) => {
            return Err(unreadable("oHallo's answer is large and could not be read in time"));
        }
        Err(BodyFault::Broken(text)) => return Err(ApiError::new(Class::Ambiguous, ErrorKind::Broken, text)),
    };
    let value: Value =
        surrogates::from_slice(bytes).map_err(|_| unreadable("oHallo's answer is not readable JSON"))?;
    match operation {
        Operation::StoreCredentials | Operation::Delete | Operation::RetryProvisioning => {
            match value.get("ok") {
                Some(Value::Bool(true)) => Ok(value),
                _ => Err(unreadable("oHallo's answer does not say \"ok\": true")),
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
        // The others that are registered. One that is not may be anything.
        402 | 406 | 407 | 410 | 411 | 412 | 414 | 416 | 417 | 421 | 423..=426 | 428 | 431 | 451 => {
            (Class::Rejected, ErrorKind::Refused)
        }
        405 | 501 => (Class::Rejected, ErrorKind::Unsupported),
        429 => (Class::Rejected, ErrorKind::RateLimited),
        // Some servers redirect to what they have just created.
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
        _ => format!("oHallo answered {status} without a reason"),
    }
}

fn unreadable(text: &str) -> ApiError {
    ApiError::new(Class::Ambiguous, ErrorKind::Unexpected, text)
}

// === impl Operation ===

impl Operation {
    /// Whether it changes nothing, and may be made again.
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
    /// An error that is not about a status, with a sentence of ours.
    pub fn new(class: Class, kind: ErrorKind, text: &str) -> Self {
        Self { class, kind, status: None, text: text::sanitize(text, MAX_TEXT_CHARS), retry_after: None }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for ApiError {}

/// Why a call of a session brought nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nothing was sent: the pass ends, and comes back after this time.
    #[error("the call is due in {} ms", .0.as_millis())]
    Deferred(Duration),
    #[error(transparent)]
    Failed(#[from] ApiError),
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
