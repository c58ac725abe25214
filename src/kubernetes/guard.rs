//! Guards the operator against the API server's responses, in one layer: each request has a time limit, and each
//! response passes the [`response_sanitizer`](crate::kubernetes::response_sanitizer). A dead connection would otherwise
//! hold its object and, in the end, every worker, while the lease is renewed.

use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use axum::http::{Request, Response};
use futures::future::BoxFuture;
use http_body_util::combinators::MapFrame;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Frame;
use kube::Client;
use kube::client::Body;
use tower::{BoxError, Layer, Service};

use crate::kubernetes::response_sanitizer::Sanitizer;

/// The longest duration of a request that is not a watch, response included.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Puts a [`Guard`] around the service of a client: each `Client` has a queue and a task of its own, so three of them
/// around one another would cost more than what they do.
#[derive(Clone, Copy, Debug)]
pub struct GuardLayer(pub Duration);

/// A service with a time limit on its requests and sanitized responses. A watch ends at the time that it requested; only
/// its response must begin in time.
pub struct Guard<S> {
    service: S,
    longest: Duration,
}

/// A sanitized body: whole, or that of a watch as it arrives.
type Sanitized<B> = Either<Full<Bytes>, MapFrame<B, Box<dyn FnMut(Frame<Bytes>) -> Frame<Bytes> + Send>>>;

/// The same for an existing client.
pub fn before(client: Client, longest: Duration) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let client = client.clone();
        async move { client.send(request).await }
    });
    Client::new(GuardLayer(longest).layer(service), namespace)
}

async fn whole<B>(body: B, mut sanitizer: Sanitizer) -> Result<Sanitized<B>, BoxError>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>>,
{
    let mut body = pin!(body);
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(Into::into)?.into_data() {
            sanitizer.read(&data);
        }
    }
    Ok(Either::Left(Full::new(sanitizer.output())))
}

fn as_it_arrives<B: HttpBody<Data = Bytes>>(body: B, mut sanitizer: Sanitizer) -> Sanitized<B> {
    Either::Right(body.map_frame(Box::new(move |frame| frame.map_data(|bytes| sanitizer.pass(&bytes)))))
}

fn is_watch<B>(request: &Request<B>) -> bool {
    request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "watch=true"))
}

// === impl GuardLayer ===

impl<S> Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, service: S) -> Guard<S> {
        Guard { service, longest: self.0 }
    }
}

// === impl Guard ===

impl<S, B> Service<Request<Body>> for Guard<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>, Future: Send + 'static>,
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Sanitized<B>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.service.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (watch, sanitizer) = (is_watch(&request), Sanitizer::of(&request));
        let response = self.service.call(request);
        let answer = tokio::time::timeout(self.longest, async move {
            let (parts, body) = response.await.map_err(Into::into)?.into_parts();
            let body = if watch { as_it_arrives(body, sanitizer) } else { whole(body, sanitizer).await? };
            Ok(Response::from_parts(parts, body))
        });
        Box::pin(async move { answer.await.unwrap_or_else(|late| Err(late.into())) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that accepts connections and never answers.
    async fn silent() -> (tokio::net::TcpListener, Client) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let client = Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
        (listener, before(client, Duration::from_millis(200)))
    }

    #[tokio::test]
    async fn a_request_without_a_response_ends_in_time() {
        let (_listener, client) = silent().await;
        for path in ["/api/v1/namespaces/a/secrets/b", "/api/v1/secrets?watch=true"] {
            let request = Request::get(path).body(Vec::new()).unwrap();
            let error = client.request_text(request).await.unwrap_err();
            assert!(matches!(error, kube::Error::Service(_)), "{error:?}");
        }
    }

    #[test]
    fn a_watch_is_recognized_by_its_query() {
        for (path, watch) in [
            ("/api/v1/secrets?watch=true", true),
            ("/api/v1/secrets?&watch=true&timeoutSeconds=290", true),
            ("/api/v1/secrets?limit=500", false),
            ("/api/v1/namespaces/watch=true/secrets", false),
            ("/api/v1/secrets", false),
        ] {
            assert_eq!(is_watch(&Request::get(path).body(()).unwrap()), watch, "{path}");
        }
    }
}
