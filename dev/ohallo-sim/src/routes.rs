//! From an HTTP request to a call, through the faults, to an answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::{HeaderMap, Response, header};
use axum::routing::{MethodFilter, MethodRouter, on};
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::answers;
use crate::api::{self, Answer, Call, Refusal, TOO_LARGE};
use crate::clock::Clock;
use crate::fault::{Action, FaultId, Faults, Met};
use crate::ledger::{Entry, Ledger, Operation};
use crate::server::Cut;
use crate::store::Store;

/// Everything a call can touch. The locks are taken one at a time and never held over an await.
#[derive(Debug)]
pub(crate) struct Shared {
    pub clock: Clock,
    pub stop: CancellationToken,
    store: Mutex<Store>,
    ledger: Mutex<Ledger>,
    faults: Mutex<Faults>,
}

type App = State<Arc<Shared>>;
type Reply = Response<Body>;

const BODY_LIMIT: usize = 1024 * 1024;
/// Of a body that is too large so much is read, for a client that sends all before it listens.
const DRAIN_LIMIT: usize = 16 * BODY_LIMIT;
/// Longest id and idempotency key that is remembered, in bytes.
const TEXT_LIMIT: usize = 256;

/// Longest path that is remembered, in characters.
const PATH_LIMIT: usize = 512;

/// The documented routes, and create and list under a workspace.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    use Operation::*;
    let get = MethodFilter::GET;
    let post = MethodFilter::POST;
    let channel = route(get, GetChannel)
        .merge(route(MethodFilter::PATCH, UpdateChannel))
        .merge(route(MethodFilter::DELETE, DeleteChannel));
    Router::new()
        .route("/api/channels/{id}", channel)
        .route("/api/channels/{id}/credentials", route(post, StoreCredentials))
        .route("/api/channels/{id}/test", route(post, TestChannel))
        .route("/api/channels/{id}/retry-provisioning", route(post, RetryProvisioning))
        .route("/api/workspaces", route(get, ListWorkspaces))
        .route("/api/workspaces/{id}", route(get, GetWorkspace))
        .route("/api/workspaces/{id}/channels", route(get, ListChannels).merge(route(post, CreateChannel)))
        .fallback(other)
        .method_not_allowed_fallback(other)
        .with_state(shared)
}

fn route(method: MethodFilter, operation: Operation) -> MethodRouter<Arc<Shared>> {
    on(
        method,
        move |State(shared): App,
              ConnectInfo(cut): ConnectInfo<Cut>,
              id: Result<Path<String>, PathRejection>,
              request: Request| async move {
            let id = id.ok().map(|Path(id)| id);
            serve(shared, cut, operation, id, request).await
        },
    )
}

async fn other(State(shared): App, ConnectInfo(cut): ConnectInfo<Cut>, request: Request) -> Reply {
    serve(shared, cut, Operation::Other, None, request).await
}

async fn serve(
    shared: Arc<Shared>,
    cut: Cut,
    operation: Operation,
    target: Option<String>,
    request: Request,
) -> Reply {
    let (head, body) = request.into_parts();
    let secret = bearer(&head.headers).map(str::to_owned);
    let key = secret.as_deref().and_then(|secret| shared.store().identify(secret).cloned());
    let id = target.clone().filter(|id| id.len() <= TEXT_LIMIT);
    let (workspace, channel) = if operation.on_workspace() { (id, None) } else { (None, id) };
    let seq = shared.ledger().open(Entry {
        seq: 0,
        at_ms: shared.clock.ms(),
        ended_ms: None,
        method: head.method.as_str().chars().take(16).collect(),
        path: head.uri.to_string().chars().take(PATH_LIMIT).collect(),
        operation,
        channel,
        workspace,
        status: None,
        committed: false,
        fault: None,
        tenant: key.as_ref().map(|key| key.tenant.clone()),
        key: key.as_ref().map(|key| key.name.clone()),
        idempotency_key: text(&head.headers, "idempotency-key"),
        traceparent: text(&head.headers, "traceparent"),
    });
    let call = Call {
        operation,
        target,
        key,
        content_type: text(&head.headers, header::CONTENT_TYPE.as_str()),
        idempotency_key: text(&head.headers, "idempotency-key"),
        body: read(body).await,
    };
    let latency = shared.store().behaviour.latency_ms;
    if latency > 0 {
        tokio::time::sleep(Duration::from_millis(latency)).await;
    }
    let met = Met {
        operation,
        target: call.target.as_deref(),
        secret: secret.as_deref(),
        key_name: call.key.as_ref().map(|key| key.name.as_str()),
    };
    let fault = shared.faults().meet(met);
    let spoilt = match fault {
        None => Some(answers::plain(&shared.commit(seq, &call))),
        Some((id, action)) => {
            shared.ledger().update(seq, |entry| entry.fault = Some(id));
            spoil(&shared, seq, call, id, action).await
        }
    };
    let response = spoilt.unwrap_or_else(|| {
        cut.now();
        Response::new(Body::empty())
    });
    let status = (!cut.is_set()).then(|| response.status().as_u16());
    let now_ms = shared.clock.ms();
    shared.ledger().update(seq, |entry| {
        entry.status = status;
        entry.ended_ms = Some(now_ms);
    });
    response
}

/// The answer under a fault; `None` resets the connection.
async fn spoil(shared: &Arc<Shared>, seq: u64, call: Call, id: FaultId, action: Action) -> Option<Reply> {
    let commit_if = |yes: bool| {
        if yes {
            shared.commit(seq, &call);
        }
    };
    Some(match action {
        Action::Status { code, body, headers, commit } => {
            commit_if(commit);
            answers::status(code, body, &headers)
        }
        Action::Reset { commit } => {
            commit_if(commit);
            return None;
        }
        Action::Hang { commit } => {
            commit_if(commit);
            std::future::pending().await
        }
        Action::LateCommit { after } => {
            let later = Arc::clone(shared);
            tokio::spawn(async move {
                if later.stop.run_until_cancelled(tokio::time::sleep(after)).await.is_some() {
                    later.commit(seq, &call);
                }
            });
            return None;
        }
        Action::Garbage { commit } => {
            commit_if(commit);
            answers::garbage()
        }
        Action::Body { code, body, content_type, commit } => {
            commit_if(commit);
            answers::with_type(code, &content_type, body)
        }
        Action::Huge { bytes } => {
            commit_if(true);
            answers::huge(bytes)
        }
        Action::Endless { code } => {
            commit_if(true);
            answers::endless(code)
        }
        Action::GzipBomb => {
            commit_if(true);
            answers::gzip_bomb()
        }
        Action::Slow { bytes_per_second } => answers::slow(&shared.commit(seq, &call), bytes_per_second),
        Action::Redirect { code, location } => answers::redirect(code, &location),
        Action::Hold { commit_first } => answers::plain(&hold(shared, seq, call, id, commit_first).await?),
        Action::NoAnswerDelay { millis } => {
            let answer = shared.commit(seq, &call);
            tokio::time::sleep(Duration::from_millis(millis)).await;
            answers::plain(&answer)
        }
    })
}

/// Runs on when the client leaves: what oHallo has read it may still do.
async fn hold(shared: &Arc<Shared>, seq: u64, call: Call, id: FaultId, commit_first: bool) -> Option<Answer> {
    let shared = Arc::clone(shared);
    let task = tokio::spawn(async move {
        let early = commit_first.then(|| shared.commit(seq, &call));
        let pass = shared.faults().pass(id);
        if let Some(pass) = pass {
            shared.stop.run_until_cancelled(pass.wait()).await?;
        }
        Some(early.unwrap_or_else(|| shared.commit(seq, &call)))
    });
    task.await.ok().flatten()
}

// === impl Shared ===

impl Shared {
    pub fn new(store: Store, ledger: Ledger) -> Self {
        Shared {
            clock: Clock::start(),
            stop: CancellationToken::new(),
            store: Mutex::new(store),
            ledger: Mutex::new(ledger),
            faults: Mutex::new(Faults::new()),
        }
    }

    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit(&self, seq: u64, call: &Call) -> Answer {
        let now = self.clock.now();
        let answer = api::perform(&mut self.store(), call, now);
        if answer.committed {
            self.ledger().update(seq, |entry| {
                entry.committed = true;
                if answer.created.is_some() {
                    entry.channel.clone_from(&answer.created);
                }
            });
        }
        answer
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(|text| text.chars().take(TEXT_LIMIT).collect())
}

async fn read(body: Body) -> Result<Bytes, Refusal> {
    let mut chunks = body.into_data_stream();
    let mut kept = Vec::new();
    let mut seen = 0;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Refusal(400, "Request body ended early"))?;
        seen += chunk.len();
        if seen > DRAIN_LIMIT {
            break;
        }
        if seen <= BODY_LIMIT {
            kept.extend_from_slice(&chunk);
        }
    }
    if seen > BODY_LIMIT { Err(TOO_LARGE) } else { Ok(kept.into()) }
}
