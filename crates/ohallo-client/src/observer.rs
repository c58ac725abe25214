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
    /// The class of the response for metrics and logs, such as `2xx` or `timeout`.
    pub class: &'static str,
    pub result: CallResult,
    pub took: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallResult {
    Succeeded,
    Failed,
    /// The response is large and another large one is in memory: the read is repeated later.
    Deferred,
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
