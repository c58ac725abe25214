//! `/livez`, `/readyz` and `/metrics`, on `--http-addr`. Their responses need no call to the API server or
//! oHallo.

mod connections;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::telemetry::http_server::connections::Connections;
use crate::telemetry::metrics::Metrics;
use ohallo_client::clock;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The readiness of each part of the operator; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    role: Arc<Mutex<Option<&'static str>>>,
    /// By part and namespace; an empty namespace stands for all.
    parts: Arc<Mutex<BTreeMap<(&'static str, String), Part>>>,
}

#[derive(Debug)]
struct Part {
    state: Result<(), String>,
    /// The last problem of the part, and when it occurred.
    trouble: Option<(Instant, String)>,
}

/// How long a problem is reported that does not recur: the part may work again without an event that shows it.
const TROUBLE_TTL: Duration = Duration::from_secs(120);

/// The operator can't listen on the address of `--http-addr`.
#[derive(Debug, thiserror::Error)]
#[error("--http-addr {addr} {}: {cause}", problem(.cause))]
pub struct BindError {
    addr: SocketAddr,
    cause: io::Error,
}

#[derive(Clone)]
struct Shared {
    metrics: Arc<Metrics>,
    readiness: Readiness,
    scrapes: Arc<Mutex<Scrapes>>,
}

/// The most encodings of metrics in a second: with `--object-metrics`, each visits every object, on the only thread.
const MAX_SCRAPES: usize = 10;

/// The last encoded metrics. A client that exceeds [`MAX_SCRAPES`] gets the last encoding.
#[derive(Default)]
struct Scrapes {
    encoded_at: VecDeque<Instant>,
    open: Option<String>,
    plain: Option<String>,
}

/// Listens on `addr`.
pub async fn bind(addr: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(addr).await.map_err(|cause| BindError { addr, cause })
}

/// Serves until `shutdown` resolves, then gives requests in flight a moment to finish. No client can delay the
/// exit.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let routes = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .with_state(Shared { metrics, readiness, scrapes: Arc::default() });
    Connections::new(routes).serve(listener, shutdown).await;
    Ok(())
}

async fn readyz(State(shared): State<Shared>) -> Response {
    match shared.readiness.report() {
        Ok(parts) => parts.into_response(),
        Err(missing) => (StatusCode::SERVICE_UNAVAILABLE, missing).into_response(),
    }
}

async fn scrape(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let open = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let open = open.is_some_and(|accept| accept.contains("application/openmetrics-text"));
    let mut scrapes = shared.scrapes.lock().unwrap_or_else(PoisonError::into_inner);
    match scrapes.text(&shared.metrics, open, clock::instant()) {
        Ok(text) => ([(CONTENT_TYPE, if open { OPEN_METRICS } else { PLAIN })], text).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be encoded\n").into_response(),
    }
}

// === impl Scrapes ===

impl Scrapes {
    fn text(&mut self, metrics: &Metrics, open: bool, now: Instant) -> Result<String, std::fmt::Error> {
        let last = if open { &mut self.open } else { &mut self.plain };
        self.encoded_at.retain(|at| now.saturating_duration_since(*at) < Duration::from_secs(1));
        if let Some(text) = last.as_ref().filter(|_| self.encoded_at.len() >= MAX_SCRAPES) {
            return Ok(text.clone());
        }
        self.encoded_at.push_back(now);
        let text = if open { metrics.encode()? } else { metrics.encode_plain()? };
        *last = Some(text.clone());
        Ok(text)
    }
}

// === impl Readiness ===

impl Readiness {
    /// Sets the state of a part: ready, or why not. From the first call, readiness depends on it.
    pub fn set(&self, what: &'static str, state: Result<(), String>) {
        self.set_in(what, "", state);
    }

    /// Sets the state of a part in one namespace.
    pub fn set_in(&self, what: &'static str, namespace: &str, state: Result<(), String>) {
        self.parts().insert((what, namespace.to_owned()), Part { state, trouble: None });
    }

    /// Reports a problem of a part; it expires unless it recurs.
    pub fn trouble(&self, what: &'static str, namespace: &str, why: String) {
        if let Some(part) = self.parts().get_mut(&(what, namespace.to_owned())) {
            part.trouble = Some((clock::instant(), why));
        }
    }

    /// Clears the problem of a part.
    pub fn works(&self, what: &'static str, namespace: &str) {
        if let Some(part) = self.parts().get_mut(&(what, namespace.to_owned())) {
            part.trouble = None;
        }
    }

    fn parts(&self) -> MutexGuard<'_, BTreeMap<(&'static str, String), Part>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets this replica's role, which the response shows after the parts.
    pub fn role(&self, role: &'static str) {
        *self.role.lock().unwrap_or_else(PoisonError::into_inner) = Some(role);
    }

    /// `Ok` with the parts, or `Err` with the parts that are not ready, one on each line. Before the first
    /// [`set`](Self::set) the operator is starting, which is not ready.
    pub fn report(&self) -> Result<String, String> {
        let (parts, now) = (self.parts(), clock::instant());
        if parts.is_empty() {
            return Err("starting\n".to_owned());
        }
        let missing: String = parts
            .iter()
            .filter_map(|((what, _), part)| part.missing(now).map(|why| format!("{what}: {why}\n")))
            .collect();
        if missing.is_empty() {
            let role = *self.role.lock().unwrap_or_else(PoisonError::into_inner);
            let role = role.map(|role| format!("this replica: {role}\n"));
            let kinds: BTreeSet<_> = parts.keys().map(|(what, _)| what).collect();
            Ok(kinds.into_iter().map(|what| format!("{what}: ok\n")).chain(role).collect())
        } else {
            Err(missing)
        }
    }
}

// === impl Part ===

impl Part {
    fn missing(&self, now: Instant) -> Option<&str> {
        let recent = |at: &Instant| now.saturating_duration_since(*at) < TROUBLE_TTL;
        let trouble = self.trouble.as_ref().filter(|(at, _)| recent(at)).map(|(_, why)| why.as_str());
        trouble.or(self.state.as_ref().err().map(String::as_str))
    }
}

// === impl BindError ===

fn problem(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::AddrInUse => "is in use",
        io::ErrorKind::AddrNotAvailable => "is not an address of this machine",
        io::ErrorKind::PermissionDenied => "is not allowed for this user",
        _ => "can't be listened on",
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    async fn get(addr: SocketAddr, path: &str, accept: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        (answer[9..12].parse().unwrap(), answer)
    }

    #[test]
    fn readiness_lists_exactly_what_is_missing() {
        let readiness = Readiness::default();
        assert_eq!(readiness.report(), Err("starting\n".into()));
        readiness.set("channels", Err("the CRD is not installed".into()));
        readiness.clone().set("workspaces", Ok(()));
        assert_eq!(readiness.report(), Err("channels: the CRD is not installed\n".into()));
        readiness.set("channels", Ok(()));
        assert_eq!(readiness.report(), Ok("channels: ok\nworkspaces: ok\n".into()));
        readiness.role("standby");
        assert_eq!(readiness.report(), Ok("channels: ok\nworkspaces: ok\nthis replica: standby\n".into()));
    }

    #[test]
    fn a_problem_is_reported_until_it_ends_or_expires() {
        let readiness = Readiness::default();
        readiness.set_in("channels", "a", Err("not listed yet".into()));
        readiness.set_in("channels", "b", Ok(()));
        assert_eq!(readiness.report(), Err("channels: not listed yet\n".into()), "one namespace is not all");
        readiness.set_in("channels", "a", Ok(()));
        readiness.trouble("channels", "a", "403".into());
        readiness.works("channels", "b");
        assert_eq!(readiness.report(), Err("channels: 403\n".into()));
        readiness.works("channels", "a");
        assert_eq!(readiness.report(), Ok("channels: ok\n".into()));
        readiness.trouble("channels", "a", "403".into());
        let long_ago = clock::instant().checked_sub(TROUBLE_TTL).unwrap();
        for part in readiness.parts().values_mut() {
            part.trouble = part.trouble.take().map(|(_, why)| (long_ago, why));
        }
        assert_eq!(
            readiness.report(),
            Ok("channels: ok\n".into()),
            "a part may work again without an event that shows it"
        );
    }

    #[tokio::test]
    async fn the_probes_and_both_metric_formats_answer_until_shutdown() {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let readiness = Readiness::default();
        let metrics = Arc::new(Metrics::new());
        let server = tokio::spawn(serve(listener, metrics, readiness.clone(), async { _ = stopped.await }));

        assert_eq!(get(addr, "/livez", "*/*").await.0, 200);
        assert_eq!(get(addr, "/readyz", "*/*").await.0, 503);
        readiness.set("caches", Ok(()));
        assert_eq!(get(addr, "/readyz", "*/*").await.0, 200);
        assert_eq!(get(addr, "/nothing", "*/*").await.0, 404);
        let open = get(addr, "/metrics", "application/openmetrics-text;version=1.0.0,*/*;q=0.1").await.1;
        assert!(open.contains(OPEN_METRICS) && open.contains("# EOF"), "{open}");
        let plain = get(addr, "/metrics", "*/*").await.1;
        assert!(plain.contains(PLAIN) && !plain.contains("# EOF"), "{plain}");

        stop.send(()).unwrap();
        server.await.unwrap().unwrap();
    }

    #[test]
    fn metrics_are_encoded_a_few_times_a_second_for_any_number_of_requests() {
        let (metrics, mut scrapes, now) = (Metrics::new(), Scrapes::default(), clock::instant());
        let panics = |at: Instant, scrapes: &mut Scrapes| {
            metrics.panicked();
            let text = scrapes.text(&metrics, true, at).unwrap();
            let line = text.lines().find(|line| line.starts_with("ohallo_panics_total")).unwrap();
            line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()
        };
        for asked in 1..=3 * MAX_SCRAPES {
            assert_eq!(panics(now, &mut scrapes), asked.min(MAX_SCRAPES));
        }
        assert_eq!(panics(now + Duration::from_secs(1), &mut scrapes), 3 * MAX_SCRAPES + 1);
        assert!(scrapes.encoded_at.len() <= MAX_SCRAPES);
    }

    #[tokio::test]
    async fn an_address_in_use_is_one_sentence() {
        let first = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let addr = first.local_addr().unwrap();
        let text = bind(addr).await.unwrap_err().to_string();
        assert!(text.starts_with(&format!("--http-addr {addr} is in use: ")), "{text}");
    }
}
