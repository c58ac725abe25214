//! Traces: one span for each reconcile, and in it one for each call to oHallo. Without a collector the spans
//! are disabled and cost nothing.

use std::time::Duration;

use kube::{Resource, ResourceExt};
use opentelemetry::trace::TracerProvider;
use opentelemetry::{KeyValue, global};
use opentelemetry_http::HeaderInjector;
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource as Origin;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use reqwest::Url;
use reqwest::header::HeaderMap;
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::Registry;

use ohallo_core::api::values::ReconcileResult;

/// The target of the spans, so that neither logs nor other spans mix with them.
pub const TARGET: &str = "ohallo_operator::traces";

/// The longest duration of one batch, and of the last one at shutdown.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// Why no spans can be sent.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    #[error("the client for --otlp-endpoint can't be set up: {0}")]
    Client(#[source] reqwest::Error),
    #[error("the exporter for --otlp-endpoint can't be set up: {0}")]
    Exporter(#[from] ExporterBuildError),
}

/// The sender of the spans. It sends the remaining spans when it is dropped.
pub struct Traces(SdkTracerProvider);

/// A layer that sends the operator's spans to a collector by OTLP over HTTP.
pub fn layer(endpoint: &Url) -> Result<(Box<dyn Layer<Registry> + Send + Sync>, Traces), TracesError> {
    let mut url = endpoint.clone();
    // Only a URL that can't be a base has no path segments; the settings accept only http and https.
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(["v1", "traces"]);
    }
    let client = reqwest::blocking::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(SEND_TIMEOUT)
        .no_proxy()
        .build()
        .map_err(TracesError::Client)?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(url)
        .with_timeout(SEND_TIMEOUT)
        .build()?;
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let origin = Origin::builder().with_service_name("ohallo-operator").with_attribute(version).build();
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(origin).build();
    global::set_text_map_propagator(TraceContextPropagator::new());
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("ohallo-operator"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(filter_fn(|it| it.is_span() && it.target() == TARGET));
    Ok((layer.boxed(), Traces(provider)))
}

/// The span of one reconcile of one object.
pub fn reconcile<K: Resource<DynamicType = ()>>(object: &K) -> Span {
    let kind = K::kind(&());
    tracing::info_span!(
        target: TARGET,
        "reconcile",
        otel.name = %format_args!("reconcile {kind}"),
        otel.status_code = Empty,
        k8s.namespace.name = object.namespace(),
        ohallo.kind = %kind,
        ohallo.name = object.name_any(),
        ohallo.generation = object.meta().generation,
        ohallo.outcome = Empty,
    )
}

/// Records the result of a reconcile on its span.
pub fn reconciled(span: &Span, result: ReconcileResult) {
    span.record("ohallo.outcome", result.as_str());
    if matches!(result, ReconcileResult::Transient | ReconcileResult::Stalled | ReconcileResult::Unwritten) {
        span.record("otel.status_code", "ERROR");
    }
}

/// The span of one call to oHallo.
pub fn call(operation: &'static str) -> Span {
    tracing::info_span!(
        target: TARGET,
        "call",
        otel.name = operation,
        otel.kind = "client",
        otel.status_code = Empty,
        http.response.status_code = Empty,
        error.r#type = Empty,
    )
}

/// Records the response of a call on its span. Never its text: it may quote what was sent.
pub fn called(span: &Span, status: Option<u16>, error: Option<&'static str>) {
    span.record("http.response.status_code", status);
    if let Some(class) = error {
        span.record("error.type", class);
        span.record("otel.status_code", "ERROR");
    }
}

/// The headers that let oHallo's traces continue this span; none without a collector.
pub fn headers(span: &Span) -> HeaderMap {
    let mut headers = HeaderMap::new();
    global::get_text_map_propagator(|propagator| {
        propagator.inject_context(&span.context(), &mut HeaderInjector(&mut headers));
    });
    headers
}

// === impl Traces ===

impl Drop for Traces {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(SEND_TIMEOUT) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}
