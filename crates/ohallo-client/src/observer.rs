//! Reports calls to metrics, traces and logs.

use std::time::Duration;

use reqwest::header::HeaderMap;
use tracing::Span;

use ohallo_core::classify::Operation;
use ohallo_core::priority::Priority;

/// A call that ended. It never holds the response's text, which may quote the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FinishedCall {
    pub operation: Operation,
    /// The HTTP status, where there was a response.
    pub status: Option<u16>,
    pub class: ResponseClass,
    pub result: CallResult,
    pub took: Duration,
}

/// The class of a response, for metrics, logs and traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseClass {
    /// The request was not sent.
    NotSent,
    /// The connection broke, or the status is none of HTTP.
    Broken,
    Timeout,
    Success,
    /// A 2xx whose body is not what the API defines.
    InvalidBody,
    Redirect,
    ClientError,
    ServerError,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallResult {
    Succeeded,
    Failed,
    /// The response is large and another large one is in memory: the read is repeated later.
    Deferred,
}

// === impl ResponseClass ===

impl ResponseClass {
    /// The value of the metric label `class`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::Broken => "broken",
            Self::Timeout => "timeout",
            Self::Success => "2xx",
            Self::InvalidBody => "invalid_body",
            Self::Redirect => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
        }
    }
}

/// Watches the calls of a [`crate::Client`].
pub trait CallObserver: Send + Sync + 'static {
    /// A call starts: returns its span, and the headers that propagate the trace.
    fn started(&self, operation: Operation) -> (Span, HeaderMap);

    fn finished(&self, span: &Span, call: &FinishedCall);

    /// oHallo answered 429.
    fn rate_limited(&self);

    /// How long the rate limiter delayed a call, or would have.
    fn waited(&self, priority: Priority, wait: Duration);
}

/// Observes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl CallObserver for NoObserver {
    fn started(&self, _: Operation) -> (Span, HeaderMap) {
        (Span::none(), HeaderMap::new())
    }

    fn finished(&self, _: &Span, _: &FinishedCall) {}

    fn rate_limited(&self) {}

    fn waited(&self, _: Priority, _: Duration) {}
}
