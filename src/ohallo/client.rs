// I/O
//! The door to oHallo. A [`Session`] makes the calls of one pass under one key; every call goes through the key's
//! limiter, every answer through [`super::answer::judge`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::ACCEPT;
use reqwest::{RequestBuilder, Url};
use serde_json::Value;
use tracing::Instrument;

use super::answer::{self, ApiError, Kind, Operation};
use crate::clock;
use crate::heavy::{Heavy, HeavySlot};
use crate::index::Handle;
use crate::metrics::Metrics;
use crate::secret::{ApiKey, KeyId};
use crate::telemetry::traces;
use http::{Http, Reply};
use key::{KeyState, Keys};

mod http;
mod key;
mod session;

pub use session::{CallError, Caller, CreatePermit, NotYet, Permit, Session};

/// The pause of a key after a 429 that names none.
const DEFAULT_PAUSE: Duration = Duration::from_secs(5);

/// How to reach oHallo.
#[derive(Clone)]
pub struct Options {
    /// `https://`, or `http://` to loopback; to elsewhere only with `allow_insecure`.
    pub api_url: Url,
    /// Where channels are created (a guess: no page says it), with `{workspaceId}` as one segment. Reads there
    /// list the channels of a workspace, where oHallo can.
    pub create_path: String,
    /// Longest time of one call, the answer's body included.
    pub request_timeout: Duration,
    /// The same of a create.
    pub create_timeout: Duration,
    /// For each key; 0 = no limit.
    pub requests_per_second: f64,
    pub burst: u32,
    /// Of all keys together; 0 = no limit.
    pub total_requests_per_second: f64,
    /// Roots to trust, PEM, instead of the system's.
    pub ca_pem: Option<Vec<u8>>,
    pub proxy: Option<Url>,
    pub allow_insecure: bool,
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("the API's URL must be https:// and a host")]
    Scheme,
    #[error("the API's URL is plain http:// to another machine, which would show API keys to the network")]
    Insecure,
    #[error("the API's URL must hold no user name, password, query or fragment")]
    UrlParts,
    #[error("the create path must look like /api/workspaces/{{workspaceId}}/channels")]
    CreatePath,
    #[error("the proxy's URL is not understood")]
    Proxy,
    #[error("the file of certificate authorities holds no readable PEM certificate")]
    Ca,
    #[error("the HTTP client can't be set up: {0}")]
    Http(String),
}

/// The door to oHallo. Cheap to clone.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    http: Http,
    options: Options,
    metrics: Arc<Metrics>,
    keys: Keys,
    heavy: Heavy,
}

// === impl Client ===

impl Client {
    /// # Errors
    /// Options that can't work, or that would send API keys unencrypted.
    pub fn new(options: Options, metrics: Arc<Metrics>) -> Result<Self, SetupError> {
        let http = Http::new(&options)?;
        let keys = Keys::new(options.requests_per_second, options.burst, options.total_requests_per_second);
        Ok(Self(Arc::new(Inner { http, options, metrics, keys, heavy: Heavy::default() })))
    }

    /// Trusts these certificate authorities (PEM) from the next connection on. Requests under way are not disturbed.
    ///
    /// # Errors
    /// No readable certificate in it; what was trusted before is.
    pub fn trust(&self, ca_pem: Vec<u8>) -> Result<(), SetupError> {
        self.0.http.replace(&Options { ca_pem: Some(ca_pem), ..self.0.options.clone() })
    }

    /// Begins the calls of one pass. `permit` holds the tokens of its first calls.
    pub fn session(&self, key: ApiKey, caller: Caller, permit: Option<Permit>) -> Session {
        Session::new(Arc::clone(&self.0), key, caller, permit)
    }

    /// The right to heavy work, which large answers take.
    pub fn heavy(&self) -> &Heavy {
        &self.0.heavy
    }

    /// Takes the tokens of the first calls of a reconcile that is to start.
    ///
    /// # Errors
    /// How long until it can; nothing was taken.
    pub fn permit(&self, key: KeyId, caller: &Caller, tokens: u32, now: Instant) -> Result<Permit, NotYet> {
        Permit::take(&self.0, key, caller, tokens, now)
    }

    /// Counts a check of the key of a Workspace.
    ///
    /// # Errors
    /// How long until it may be: a key that is rotated for ever causes a bounded number of calls.
    pub fn permit_check(&self, workspace: &Handle, now: Instant) -> Result<(), Duration> {
        self.0.keys.check(workspace, now)
    }

    /// Forgets the rates of keys and Workspaces that nobody uses any more.
    pub fn sweep(&self) {
        self.0.keys.sweep(clock::instant());
    }

    /// How many keys and Workspaces have rates that are remembered.
    pub fn rates(&self) -> usize {
        let (keys, workspaces) = self.0.keys.len();
        keys + workspaces
    }
}

// === impl SetupError ===

impl SetupError {
    fn http(error: reqwest::Error) -> Self {
        Self::Http(error.without_url().to_string())
    }
}

// === impl Inner ===

impl Inner {
    /// One request, its answer judged, and what it says about the key remembered.
    /// `None` where its answer is large and another large one is in memory: a read is made again.
    async fn exchange<T>(
        &self,
        state: &KeyState,
        key: &ApiKey,
        operation: Operation,
        request: RequestBuilder,
        slot: &HeavySlot,
        decode: fn(Value) -> Result<T, ApiError>,
    ) -> Option<Result<T, ApiError>> {
        let started = clock::instant();
        let span = traces::call(operation.name());
        let request = request.header(ACCEPT, "application/json").headers(traces::headers(&span));
        let reply = http::send(request, slot, operation.is_read()).instrument(span.clone()).await;
        let now = clock::instant();
        if matches!(reply, Reply::NoRoom) {
            traces::called(&span, None, None);
            self.metrics.api_request(operation.name(), reply.class(), now.saturating_duration_since(started));
            return None;
        }
        let result =
            answer::judge(operation, &reply.raw(), state.redactor(key), clock::now()).and_then(decode);
        let class = match (&result, reply.class()) {
            (Err(_), "2xx") => "invalid_body",
            (_, class) => class,
        };
        traces::called(&span, reply.status(), result.is_err().then_some(class));
        let took = now.saturating_duration_since(started);
        self.metrics.api_request(operation.name(), class, took);
        tracing::debug!(
            operation = operation.name(),
            status = reply.status(),
            class,
            took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "called oHallo"
        );
        if reply.is_good() {
            state.answered_well(now);
        }
        if let Err(error) = &result {
            self.pause(state, error, now);
        }
        Some(result)
    }

    fn pause(&self, state: &KeyState, error: &ApiError, now: Instant) {
        let limited = error.kind == Kind::RateLimited;
        if limited {
            self.metrics.rate_limited();
        }
        if let Some(wait) = error.retry_after.or_else(|| limited.then_some(DEFAULT_PAUSE)) {
            state.pause(now + wait);
        }
    }
}
