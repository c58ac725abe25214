//! Traces as a collector gets them: the real program sends OTLP over HTTP, and what arrives is decoded here.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use ohallo_sim::{Action, Config, Fault, Operation};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode as Outcome};
use prost::Message;
use serde_json::json;

use crate::support::canary;
use crate::support::harness::{Harness, id_of};
use crate::support::program::at_work;

const PROVIDER: &str = "provider-key-of-the-trace-tests";

#[derive(Clone, Default)]
struct Collected(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

/// A collector on this machine; its address.
async fn collector() -> (Collected, String) {
    let collected = Collected::default();
    let app = Router::new().route("/v1/traces", post(take)).with_state(collected.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (collected, address)
}

async fn take(State(collected): State<Collected>, headers: HeaderMap, body: Bytes) -> StatusCode {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    collected.0.lock().unwrap().push(ExportTraceServiceRequest::decode(body).unwrap());
    StatusCode::OK
}

impl Collected {
    fn spans(&self) -> Vec<Span> {
        let requests = self.0.lock().unwrap();
        let resources = requests.iter().flat_map(|request| &request.resource_spans);
        resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| scope.spans.clone()).collect()
    }

    fn services(&self) -> Vec<String> {
        let requests = self.0.lock().unwrap();
        let resources = requests.iter().flat_map(|request| &request.resource_spans);
        let attributes = resources.flat_map(|it| it.resource.iter().flat_map(|it| &it.attributes));
        let named = attributes.filter(|it| it.key == "service.name");
        named
            .filter_map(|it| match it.value.as_ref()?.value.as_ref()? {
                Value::StringValue(text) => Some(text.clone()),
                _ => None,
            })
            .collect()
    }
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    }
}

fn failed(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code == Outcome::Error as i32)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_reconcile_is_a_span_with_its_calls_below_it_and_ohallo_gets_the_trace_header() {
    let harness = Harness::bare(Config::default(), &[]).await;
    let (collected, address) = collector().await;
    let mut program = at_work(&harness, &[format!("--otlp-endpoint={address}")]).await;
    harness.secret("provider", &[("apiKey", PROVIDER)]).await;
    let credentials = json!([{"name": "apiKey", "secretKeyRef": {"name": "provider", "key": "apiKey"}}]);
    let id = id_of(&harness.ready("a", json!({"credentials": credentials})).await);
    harness.sim.add_fault(Fault::on(Operation::UpdateChannel, Action::status(422)).times(1));
    harness.edit("a", json!({"spec": {"displayName": "Refused"}})).await;
    harness.reason("a", "ValidationFailed").await;
    program.terminate();
    assert_eq!(program.ended().await.0, Some(0), "{}", program.log());

    let spans = collected.spans();
    let children = |parent: &Span| -> Vec<&Span> {
        spans.iter().filter(|span| span.parent_span_id == parent.span_id).collect()
    };
    let passes: Vec<_> = spans.iter().filter(|span| span.name == "reconcile Channel").collect();
    let born = passes.iter().find(|pass| children(pass).iter().any(|call| call.name == "create")).unwrap();
    assert_eq!(attribute(born, "ohallo.name").as_deref(), Some("a"));
    assert_eq!(attribute(born, "k8s.namespace.name").as_ref(), Some(&harness.namespace));
    assert_eq!(attribute(born, "ohallo.outcome").as_deref(), Some("in_sync"));
    assert!(!failed(born) && born.parent_span_id.is_empty());
    let names: Vec<_> = children(born).iter().map(|call| call.name.as_str()).collect();
    assert!(names.ends_with(&["create", "store_credentials"]), "{names:?}");
    for call in children(born) {
        assert_eq!((call.kind, &call.trace_id), (SpanKind::Client as i32, &born.trace_id));
    }
    let refused = spans.iter().find(|span| span.name == "update").unwrap();
    assert_eq!(attribute(refused, "http.response.status_code").as_deref(), Some("422"));
    assert_eq!((failed(refused), attribute(refused, "error.type").as_deref()), (true, Some("4xx")));
    let pass = passes.iter().find(|pass| pass.span_id == refused.parent_span_id).unwrap();
    assert_eq!((failed(pass), attribute(pass, "ohallo.outcome").as_deref()), (true, Some("stalled")));
    assert!(spans.iter().any(|span| span.name == "reconcile Workspace"));

    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let created =
        harness.sim.ledger().into_iter().find(|entry| entry.operation == Operation::CreateChannel).unwrap();
    let call = children(born).into_iter().find(|call| call.name == "create").unwrap();
    let expected = format!("00-{}-{}-01", hex(&call.trace_id), hex(&call.span_id));
    assert_eq!(created.traceparent.as_ref(), Some(&expected));

    assert!(collected.services().iter().all(|name| name == "ohallo-operator"));
    let all = format!("{spans:?}");
    canary::scan("a span", &all);
    assert!(!all.contains(&id) && !all.contains("Refused"), "a span quotes what was sent or answered");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_down_delays_nothing_and_without_one_no_trace_header_is_sent() {
    let harness = Harness::bare(Config::default(), &[]).await;
    let mut program = at_work(&harness, &["--otlp-endpoint=http://127.0.0.1:9".into()]).await;
    harness.ready("a", json!({})).await;
    program.until("/readyz", 200, "").await;
    program.terminate();
    assert_eq!(program.ended().await.0, Some(0), "{}", program.log());
    let mut program = at_work(&harness, &[]).await;
    harness.ready("b", json!({})).await;
    program.terminate();
    assert_eq!(program.ended().await.0, Some(0));
    let creates: Vec<_> =
        harness.sim.ledger().into_iter().filter(|it| it.operation == Operation::CreateChannel).collect();
    let traced: Vec<_> = creates.iter().map(|entry| entry.traceparent.is_some()).collect();
    assert_eq!(traced, [true, false]);
    harness.finish().await;
}
