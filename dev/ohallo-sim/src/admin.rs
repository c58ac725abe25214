//! The controls under `/_admin/`, for a person with curl. They need no key and no fault meets them.
//!
//! | call | body |
//! |---|---|
//! | `GET state` | |
//! | `GET ledger?since=<seq>`, `DELETE ledger` | |
//! | `GET faults`, `POST faults`, `DELETE faults`, `DELETE faults/{id}` | a `Fault` |
//! | `POST faults/{id}/release` | |
//! | `GET behaviour`, `PATCH behaviour` | the fields of `Behaviour` to change |
//! | `POST keys`, `POST keys/revoke`, `POST keys/restore` | a `Key`; `{"secret": …}` |
//! | `POST workspaces` | `{"tenant", "id", "name"}` |
//! | `POST channels`, `PATCH channels/{id}`, `DELETE channels/{id}` | a `NewChannel`; an [`Edit`] |
//! | `POST channels/{id}/resolve-dns` | |

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::fault::{Fault, FaultId};
use crate::model::{Channel, Key, NewChannel};
use crate::routes::Shared;

type App = State<Arc<Shared>>;
type Reply = Result<Json<Value>, Refusal>;

pub(crate) struct Refusal(StatusCode, String);

#[derive(Deserialize)]
struct Since {
    #[serde(default)]
    since: u64,
}

#[derive(Deserialize)]
struct Secret {
    secret: String,
}

#[derive(Deserialize)]
struct NewWorkspace {
    tenant: String,
    id: String,
    name: String,
}

/// What can be changed in the dashboard.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Edit {
    display_name: Option<String>,
    config: Option<Map<String, Value>>,
    status: Option<String>,
    enabled: Option<bool>,
    test_result: Option<bool>,
}

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/state", get(state))
        .route("/ledger", get(ledger).delete(clear_ledger))
        .route("/faults", get(faults).post(add_fault).delete(clear_faults))
        .route("/faults/{id}", delete(remove_fault))
        .route("/faults/{id}/release", post(release))
        .route("/behaviour", get(behaviour).patch(change_behaviour))
        .route("/keys", post(add_key))
        .route("/keys/revoke", post(|app: App, body: Bytes| set_revoked(app, body, true)))
        .route("/keys/restore", post(|app: App, body: Bytes| set_revoked(app, body, false)))
        .route("/workspaces", post(add_workspace))
        .route("/channels", post(insert_channel))
        .route("/channels/{id}", delete(remove_channel).patch(edit_channel))
        .route("/channels/{id}/resolve-dns", post(resolve_dns))
        .with_state(shared)
}

async fn state(State(app): App) -> Reply {
    let now = app.clock.now();
    let mut store = app.store();
    let channels: Vec<Value> = store.all(now).iter().map(channel_view).collect();
    let workspaces: Vec<Value> = store
        .workspace_order
        .iter()
        .filter_map(|id| store.workspaces.get(id))
        .map(|found| json!({"id": found.id, "tenant": found.tenant, "name": found.name}))
        .collect();
    let keys: Vec<Value> = store.keys.values().map(key_view).collect();
    let behaviour = &store.behaviour;
    Ok(Json(json!({"channels": channels, "workspaces": workspaces, "keys": keys, "behaviour": behaviour})))
}

async fn ledger(State(app): App, Query(Since { since }): Query<Since>) -> Reply {
    let entries = app.ledger().since(since);
    Ok(Json(json!(entries)))
}

async fn clear_ledger(State(app): App) -> Reply {
    app.ledger().clear();
    done()
}

async fn faults(State(app): App) -> Reply {
    let faults = app.faults();
    let rules = faults.rules().iter().map(|(id, fault)| {
        // `key` may hold a secret and is not shown.
        json!({
            "id": id, "operation": fault.operation, "channel": fault.channel,
            "skip": fault.skip, "times": fault.times, "action": fault.action,
        })
    });
    Ok(Json(rules.collect()))
}

async fn add_fault(State(app): App, body: Bytes) -> Reply {
    let fault: Fault = parse(&body)?;
    let id = app.faults().add(fault);
    Ok(Json(json!({"id": id})))
}

async fn clear_faults(State(app): App) -> Reply {
    app.faults().clear();
    done()
}

async fn remove_fault(State(app): App, Path(id): Path<u64>) -> Reply {
    app.faults().remove(FaultId(id));
    done()
}

async fn release(State(app): App, Path(id): Path<u64>) -> Reply {
    app.faults().open(FaultId(id));
    done()
}

async fn behaviour(State(app): App) -> Reply {
    Ok(Json(json!(app.store().behaviour)))
}

async fn change_behaviour(State(app): App, body: Bytes) -> Reply {
    let change: Map<String, Value> = parse(&body)?;
    let mut store = app.store();
    let mut whole = json!(store.behaviour);
    if let Some(fields) = whole.as_object_mut() {
        fields.extend(change);
    }
    store.behaviour = serde_json::from_value(whole).map_err(bad)?;
    Ok(Json(json!(store.behaviour)))
}

async fn add_key(State(app): App, body: Bytes) -> Reply {
    let key: Key = parse(&body)?;
    app.store().add_key(key);
    done()
}

async fn set_revoked(State(app): App, body: Bytes, revoked: bool) -> Reply {
    let Secret { secret } = parse(&body)?;
    let found = app.store().keys.get_mut(&secret).map(|key| key.revoked = revoked);
    found.map_or_else(missing, |()| done())
}

async fn add_workspace(State(app): App, body: Bytes) -> Reply {
    let NewWorkspace { tenant, id, name } = parse(&body)?;
    app.store().add_workspace(&tenant, &id, &name);
    done()
}

async fn insert_channel(State(app): App, body: Bytes) -> Reply {
    let new: NewChannel = parse(&body)?;
    let now = app.clock.now();
    let mut store = app.store();
    if !store.workspaces.contains_key(&new.workspace) {
        return missing();
    }
    Ok(Json(json!({"id": store.insert_in_dashboard(new, now)})))
}

async fn edit_channel(State(app): App, Path(id): Path<String>, body: Bytes) -> Reply {
    let edit: Edit = parse(&body)?;
    let found = app.store().edit(&id, app.clock.now(), |channel| {
        channel.display_name = edit.display_name.unwrap_or_else(|| channel.display_name.clone());
        channel.config = edit.config.or_else(|| channel.config.clone());
        channel.status = edit.status.unwrap_or_else(|| channel.status.clone());
        channel.enabled = edit.enabled.unwrap_or(channel.enabled);
        channel.test_result = edit.test_result.or(channel.test_result);
    });
    if found { done() } else { missing() }
}

async fn remove_channel(State(app): App, Path(id): Path<String>) -> Reply {
    if app.store().remove(&id) { done() } else { missing() }
}

async fn resolve_dns(State(app): App, Path(id): Path<String>) -> Reply {
    let found = app.store().edit(&id, app.clock.now(), |channel| channel.run.advance());
    if found { done() } else { missing() }
}

fn channel_view(channel: &Channel) -> Value {
    json!({
        "id": channel.id,
        "workspace": channel.workspace,
        "tenant": channel.tenant,
        "channelType": channel.channel_type,
        "displayName": channel.display_name,
        "config": channel.config,
        "status": channel.status,
        "createdAt": channel.created_at,
        "enabled": channel.enabled,
        "credentialNames": channel.credentials.keys().collect::<Vec<_>>(),
        "credentialPushes": channel.credential_pushes,
        "createdBy": channel.created_by,
        "idempotencyKey": channel.idempotency_key,
        "tests": channel.tests,
        "testMails": channel.test_mails,
        "runs": channel.runs,
    })
}

fn key_view(key: &Key) -> Value {
    json!({
        "name": key.name, "tenant": key.tenant, "scopes": key.scopes, "workspace": key.workspace,
        "revoked": key.revoked, "expired": key.expired,
    })
}

/// The content type is ignored: curl's `-d` calls everything a form.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(bad)
}

fn bad(error: serde_json::Error) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, error.to_string())
}

fn missing() -> Reply {
    Err(Refusal(StatusCode::NOT_FOUND, "Not found".to_owned()))
}

fn done() -> Reply {
    Ok(Json(json!({"ok": true})))
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}
