//! What metrics, traces and logs learn of the calls.

use std::time::Duration;

use reqwest::header::HeaderMap;
use tracing::Span;

use ohallo_core::classify::Operation;
use ohallo_core::rate_limiter::Lane;

/// A call that ended. It never holds the answer's text, which may quote what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FinishedCall {
    pub operation: Operation,
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// The class of the answer for metrics and logs, such as `2xx` or `timeout`.
    pub class: &'static str,
    pub result: CallResult,
    pub took: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallResult {
    Succeeded,
    Failed,
    /// The answer is large and another large one is in memory: the read is sent again later.
    Deferred,
}

/// Watches the calls of a [`crate::Client`].
pub trait CallObserver: Send + Sync + 'static {
    /// A call begins: the span that it runs in, and the headers that pass its trace on.
    fn started(&self, operation: Operation) -> (Span, HeaderMap);

    fn finished(&self, span: &Span, call: &FinishedCall);

    /// oHallo answered 429.
    fn rate_limited(&self);

    /// How long the rate limiter delayed a call, or would have.
    fn waited(&self, lane: Lane, wait: Duration);
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

    fn waited(&self, _: Lane, _: Duration) {}
}
