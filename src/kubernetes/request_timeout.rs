//! Limits the time of every request to the API server. A dead connection would otherwise hold its object and,
//! in the end, every worker, while the lease is renewed.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Request, Response};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;

/// The longest duration of a request that is not a watch, response included.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A client with a timeout on its requests. A watch ends at the time that it requested; only its response must
/// begin in time.
pub fn before(client: Client, longest: Duration) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let client = client.clone();
        async move {
            let watch = is_watch(&request);
            let answer = tokio::time::timeout(longest, async {
                let response = client.send(request).await?;
                if watch { Ok(response) } else { whole(response).await }
            });
            answer.await.unwrap_or_else(|late| Err(kube::Error::Service(Box::new(late))))
        }
    });
    Client::new(service, namespace)
}

async fn whole(response: Response<Body>) -> kube::Result<Response<Body>> {
    let (parts, body) = response.into_parts();
    let bytes: Bytes = body.collect().await?.to_bytes();
    Ok(Response::from_parts(parts, Body::from(bytes)))
}

fn is_watch<B>(request: &Request<B>) -> bool {
    request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "watch=true"))
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
