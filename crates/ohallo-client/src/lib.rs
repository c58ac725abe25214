//! The client of oHallo's API. A [`Session`] makes the calls of one reconcile with one API key. Every call passes the
//! key's rate limiter, and every response passes [`ohallo_core::classify::classify`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::RequestBuilder;
use reqwest::header::ACCEPT;
use serde_json::Value;
use tracing::Instrument;

use crate::heavy::{Heavy, HeavySlot};
use crate::http::{Http, Reply};
use crate::key_state::{KeyState, Keys};
use ohallo_core::classify::{self, ApiError, ErrorKind, Operation};
use ohallo_core::index::WorkspaceKey;
use ohallo_core::secret::{ApiKey, KeyId};

pub mod clock;
pub mod heavy;
mod http;
mod key_state;
mod observer;
mod options;
mod session;

pub use observer::{CallObserver, CallResult, FinishedCall, NoObserver, ResponseClass};
pub use options::{Options, SetupError};
pub use session::{Caller, CreatePermit, NotYet, Permit, Session};

/// The pause of a key after a 429 without `Retry-After`.
const DEFAULT_PAUSE: Duration = Duration::from_secs(5);

/// The client of oHallo's API. Cheap to clone.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    http: Http,
    options: Options,
    observer: Arc<dyn CallObserver>,
    keys: Keys,
    heavy: Heavy,
}

// === impl Client ===

impl Client {
    /// # Errors
    /// Options that are invalid, or that would send API keys unencrypted.
    pub fn new(options: Options, observer: Arc<dyn CallObserver>) -> Result<Self, SetupError> {
        let http = Http::new(&options)?;
        let keys = Keys::new(options.requests_per_second, options.burst, options.total_requests_per_second);
        Ok(Self(Arc::new(Inner { http, options, observer, keys, heavy: Heavy::default() })))
    }

    /// Trusts these certificate authorities (PEM) from the next connection on. Requests in flight are not affected.
    ///
    /// # Errors
    /// No readable certificate; the old certificates remain trusted.
    pub fn trust(&self, ca_pem: Vec<u8>) -> Result<(), SetupError> {
        self.0.http.replace(&Options { ca_pem: Some(ca_pem), ..self.0.options.clone() })
    }

    /// Starts the calls of one reconcile. `permit` holds the tokens of its first calls.
    pub fn session(&self, key: ApiKey, caller: Caller, permit: Option<Permit>) -> Session {
        Session::new(Arc::clone(&self.0), key, caller, permit)
    }

    /// The permit for heavy work, which large responses take.
    pub fn heavy(&self) -> &Heavy {
        &self.0.heavy
    }

    /// Takes the tokens of the first calls of a reconcile that is about to start.
    ///
    /// # Errors
    /// How long until it can start; no token was taken.
    pub fn permit(&self, key: KeyId, caller: &Caller, tokens: u32, now: Instant) -> Result<Permit, NotYet> {
        Permit::take(&self.0, key, caller, tokens, now)
    }

    /// Counts a check of the key of a Workspace.
    ///
    /// # Errors
    /// How long until the check is allowed: endless key rotation causes a bounded number of calls.
    pub fn permit_check(&self, workspace: &WorkspaceKey, now: Instant) -> Result<(), Duration> {
        self.0.keys.check(workspace, now)
    }

    /// Removes the rates of unused keys and Workspaces.
    pub fn sweep(&self) {
        self.0.keys.sweep(clock::instant());
    }

    /// The number of keys and Workspaces with an entry.
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
    /// Sends one request, classifies its response, and updates the state of the key.
    /// `None` where the response is large and another large one is in memory: the read is repeated later.
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
        let (span, headers) = self.observer.started(operation);
        let request = request.header(ACCEPT, "application/json").headers(headers);
        let reply = http::send(request, slot, operation.is_read()).instrument(span.clone()).await;
        let now = clock::instant();
        let took = now.saturating_duration_since(started);
        let (status, class) = (reply.status(), reply.class());
        if matches!(reply, Reply::NoRoom) {
            let call = FinishedCall { operation, status: None, class, result: CallResult::Deferred, took };
            self.observer.finished(&span, &call);
            return None;
        }
        let judged =
            classify::classify(operation, &reply.raw(), state.redactor(key), clock::now()).and_then(decode);
        let (class, result) = match (&judged, class) {
            (Err(_), ResponseClass::Success) => (ResponseClass::InvalidBody, CallResult::Failed),
            (Err(_), _) => (class, CallResult::Failed),
            (Ok(_), _) => (class, CallResult::Succeeded),
        };
        self.observer.finished(&span, &FinishedCall { operation, status, class, result, took });
        if reply.is_good() {
            state.answered_well(now);
        }
        if let Err(error) = &judged {
            self.pause(state, error, now);
        }
        Some(judged)
    }

    fn pause(&self, state: &KeyState, error: &ApiError, now: Instant) {
        let limited = error.kind == ErrorKind::RateLimited;
        if limited {
            self.observer.rate_limited();
        }
        if let Some(wait) = error.retry_after.or_else(|| limited.then_some(DEFAULT_PAUSE)) {
            state.pause(now + wait);
        }
    }
}

/// The crate does not compile if one of these has Debug: they hold API keys, or a proxy's password.
const _: () = {
    use ohallo_core::secret::no_debug::{No as _, Told};
    assert!(!Told::<Session>::DEBUG && !Told::<CreatePermit>::DEBUG && !Told::<Client>::DEBUG);
    assert!(!Told::<Options>::DEBUG);
};
