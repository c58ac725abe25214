//! A client that panics on one request.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::Request;
use kube::client::Body;
use tower::{Layer, Service};

/// A client whose request for one Secret panics in whoever waits for it.
#[derive(Clone)]
pub struct Panics<S>(S);

#[derive(Clone)]
pub struct PanicsLayer;

impl<S> Layer<S> for PanicsLayer {
    type Service = Panics<S>;
    fn layer(&self, inner: S) -> Panics<S> {
        Panics(inner)
    }
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for Panics<S>
where
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let explodes = request.uri().path().ends_with("/secrets/explodes");
        let answer = self.0.call(request);
        Box::pin(async move {
            assert!(!explodes, "put in by the test");
            answer.await
        })
    }
}
