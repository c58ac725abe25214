//! One request: through the rules, to the API server, and back.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Result;
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use super::Shared;
use super::rules::{Act, Met, When, is_write};

pub(super) type Body = UnsyncBoxBody<Bytes, anyhow::Error>;

/// An error closes the connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is dropped")]
struct Dropped;

/// Of the hop, not of the message.
const HOP: [header::HeaderName; 5] = [
    header::CONNECTION,
    header::HOST,
    header::AUTHORIZATION,
    header::TRANSFER_ENCODING,
    header::CONTENT_LENGTH,
];

pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection(stream, Arc::clone(&shared)))),
            Err(_) => tokio::time::sleep(crate::ready::POLL).await,
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // Without it small answers wait for the client's delayed acknowledgement.
    drop(stream.set_nodelay(true));
    let stop = shared.stop.clone();
    let service = service_fn(move |request| respond(Arc::clone(&shared), request));
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // An error is a dropped connection, ours or the client's.
    let _ended = stop.run_until_cancelled(served).await;
}

async fn respond(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, Dropped> {
    let target = request.uri().path_and_query().map_or_else(String::new, ToString::to_string);
    let method = request.method().clone();
    // Read whole before anything is decided: half a request has no effect either.
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Dropped)?.to_bytes();
    if is_write(&method, &target) {
        shared.writes.fetch_add(1, Ordering::SeqCst);
    }
    let met = shared.rules().meet(&method, &target);
    let mut frozen = shared.frozen.subscribe();
    // An error means that the proxy ends.
    drop(frozen.wait_for(|frozen| !*frozen).await);
    if let Some(met) = met.as_ref().filter(|met| met.when == When::Before)
        && let Some(answer) = act(met).await?
    {
        return Ok(answer);
    }
    let watch = target.contains("watch=true") || target.contains("watch=1");
    if watch && shared.watches.refused(&target) {
        return Ok(expired());
    }
    let response = forward(&shared, head, body, &target, watch).await?;
    if let Some(met) = met.filter(|met| met.when == When::After)
        && let Some(answer) = act(&met).await?
    {
        return Ok(answer);
    }
    Ok(response)
}

/// `None`: it proceeds unchanged.
async fn act(met: &Met) -> Result<Option<Response<Body>>, Dropped> {
    met.tell();
    match &met.act {
        Act::Hold => {
            met.opened().await;
            Ok(None)
        }
        Act::Drop => Err(Dropped),
        Act::Answer { code, body } => Ok(Some(answer(*code, body))),
    }
}

/// As the API server answers a watch from a version that it no longer has: 200, and one event.
fn expired() -> Response<Body> {
    json(200, format!("{{\"type\":\"ERROR\",\"object\":{}}}\n", status(410)))
}

fn answer(code: u16, body: &str) -> Response<Body> {
    json(code, if body.is_empty() { status(code) } else { body.to_owned() })
}

fn status(code: u16) -> String {
    format!(
        r#"{{"kind":"Status","apiVersion":"v1","metadata":{{}},"status":"Failure","message":"put in by the proxy","reason":"{}","code":{code}}}"#,
        reason(code)
    )
}

fn json(code: u16, text: String) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text)).map_err(never).boxed_unsync());
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

fn reason(code: u16) -> &'static str {
    match code {
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    }
}

async fn forward(
    shared: &Arc<Shared>,
    head: http::request::Parts,
    body: Bytes,
    target: &str,
    watch: bool,
) -> Result<Response<Body>, Dropped> {
    let mut request = Request::builder().method(head.method).uri(target);
    if let Some(headers) = request.headers_mut() {
        *headers = without_hop(&head.headers);
    }
    let request = request.body(kube::client::Body::from(body)).map_err(|_| Dropped)?;
    let response = shared.client.send(request).await.map_err(|_| Dropped)?;
    let (mut head, body) = response.into_parts();
    head.headers = without_hop(&head.headers);
    let body = if watch && head.status.is_success() {
        let chunks = body.into_data_stream().map(|chunk| chunk.map_err(anyhow::Error::from));
        shared.watches.pass(target, chunks.boxed())
    } else {
        body.map_err(anyhow::Error::from).boxed_unsync()
    };
    Ok(Response::from_parts(head, body))
}

fn without_hop(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in HOP {
        headers.remove(name);
    }
    headers
}

fn never(error: Infallible) -> anyhow::Error {
    match error {}
}
