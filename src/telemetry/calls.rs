//! Records metrics, traces and logs of the calls to oHallo.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::HeaderMap;
use tracing::Span;

use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces;
use ohallo_client::{CallObserver, CallResult, FinishedCall};
use ohallo_core::classify::Operation;
use ohallo_core::priority::Priority;

/// Observes the calls of the oHallo client.
pub struct Calls(pub Arc<Metrics>);

impl CallObserver for Calls {
    fn started(&self, operation: Operation) -> (Span, HeaderMap) {
        let span = traces::call(operation.name());
        let headers = traces::headers(&span);
        (span, headers)
    }

    fn finished(&self, span: &Span, call: &FinishedCall) {
        let FinishedCall { operation, status, class, result, took } = *call;
        let class = class.as_str();
        traces::called(span, status, (result == CallResult::Failed).then_some(class));
        self.0.api_request(operation.name(), class, took);
        if result != CallResult::Deferred {
            tracing::debug!(
                operation = operation.name(),
                status,
                class,
                took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                "called oHallo"
            );
        }
    }

    fn rate_limited(&self) {
        self.0.rate_limited();
    }

    fn waited(&self, priority: Priority, wait: Duration) {
        self.0.limiter_wait(priority.lane(), wait);
    }
}
