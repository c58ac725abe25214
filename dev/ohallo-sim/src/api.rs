//! The documented API as one function: store and call in, answer out.

use std::collections::BTreeMap;

use axum::body::Bytes;
use serde_json::{Value, json};

use crate::behaviour::{ConfigUpdate, Switch};
use crate::clock::Now;
use crate::ledger::Operation;
use crate::model::{Key, READ, WRITE};
use crate::schema::{
    TYPES, boolean, config, credentials, display_name, normalise, nothing_else, object, view, workspace_view,
};
use crate::store::{Birth, Store};

/// A call as it arrived. Who calls is judged on arrival.
#[derive(Clone)]
pub(crate) struct Call {
    pub operation: Operation,
    /// The id in the path, percent-decoded once.
    pub target: Option<String>,
    pub key: Option<Key>,
    pub content_type: Option<String>,
    pub idempotency_key: Option<String>,
    pub body: Result<Bytes, Refusal>,
}

#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub status: u16,
    pub body: Value,
    /// Something changed.
    pub committed: bool,
    /// The channel that a create created.
    pub created: Option<String>,
}

/// An answer of the form `{"error": …}`.
#[derive(Debug, Clone)]
pub(crate) struct Refusal(pub u16, pub &'static str);

type Reply = Result<Answer, Refusal>;

const NOT_FOUND: Refusal = Refusal(404, "Not found");
const NO_CHANNEL: Refusal = Refusal(404, "Channel not found");
const NO_WORKSPACE: Refusal = Refusal(404, "Workspace not found");
pub(crate) const TOO_LARGE: Refusal = Refusal(413, "Request body too large");

/// Does what the call asks for.
pub(crate) fn perform(store: &mut Store, call: &Call, now: Now) -> Answer {
    let target = call.target.as_deref().unwrap_or_default();
    let before = store.channels.get(target).cloned();
    let answer = answer(store, call, now).unwrap_or_else(Answer::from);
    if answer.committed {
        store.note(answer.created.as_deref().unwrap_or(target), before, now);
    }
    answer
}

/// Whether a read shows this channel; where writes do not lag it is asked for nothing.
fn shown(store: &mut Store, call: &Call, key: &Key, now: Now) -> Result<(), Refusal> {
    use Operation::{DeleteChannel, RetryProvisioning, StoreCredentials, TestChannel, UpdateChannel};
    let changes = [UpdateChannel, DeleteChannel, StoreCredentials, TestChannel, RetryProvisioning];
    if !store.behaviour.writes_lag || !changes.contains(&call.operation) {
        return Ok(());
    }
    store.read(key, call.target.as_deref().unwrap_or_default(), now).map(|_| ()).ok_or(NO_CHANNEL)
}

fn answer(store: &mut Store, call: &Call, now: Now) -> Reply {
    if call.operation == Operation::Other {
        return Err(NOT_FOUND);
    }
    let key = call.key.as_ref().ok_or(Refusal(401, "Invalid or missing API key"))?;
    call.body.as_ref().map_err(Clone::clone)?;
    let target = call.target.as_deref().unwrap_or_default();
    shown(store, call, key, now)?;
    match call.operation {
        Operation::GetChannel => {
            scope(key, READ)?;
            let channel = store.read(key, target, now).ok_or(NO_CHANNEL)?;
            if let Some(channel) = store.channel(key, target, now) {
                channel.run.polled();
            }
            Ok(Answer::read(view(&channel, &store.behaviour)))
        }
        Operation::UpdateChannel => update(store, call, key, target, now),
        Operation::DeleteChannel => {
            scope(key, WRITE)?;
            store.channel(key, target, now).ok_or(NO_CHANNEL)?;
            store.remove(target);
            Ok(Answer::ok())
        }
        Operation::StoreCredentials => {
            scope(key, WRITE)?;
            let channel = store.channel(key, target, now).ok_or(NO_CHANNEL)?;
            channel.credentials = credentials(object(call)?)?;
            channel.credential_pushes += 1;
            let reference = format!("channels/{}/{}", channel.workspace, channel.id);
            Ok(Answer::wrote(200, json!({"ok": true, "credentialsRef": reference})))
        }
        Operation::TestChannel => {
            scope(key, WRITE)?;
            let default = store.behaviour.test_result;
            let channel = store.channel(key, target, now).ok_or(NO_CHANNEL)?;
            channel.tests += 1;
            if channel.channel_type == "email" {
                channel.test_mails += 1;
            }
            Ok(Answer::wrote(200, json!({"ok": channel.test_result.unwrap_or(default)})))
        }
        Operation::RetryProvisioning => {
            scope(key, WRITE)?;
            let workflow = store.behaviour.provisioning.clone();
            let channel = store.channel(key, target, now).ok_or(NO_CHANNEL)?;
            if channel.status != "error" {
                return Err(Refusal(409, "Channel is not in error status"));
            }
            channel.runs += 1;
            channel.run = workflow.run(&channel.channel_type, channel.runs, now.ms);
            Ok(Answer::ok())
        }
        Operation::CreateChannel => create(store, call, key, target, now),
        Operation::ListChannels => list(store, key, target, now),
        Operation::GetWorkspace => {
            readable(store)?;
            Ok(Answer::read(workspace_view(store.workspace(key, target).ok_or(NO_WORKSPACE)?)))
        }
        Operation::ListWorkspaces => {
            readable(store)?;
            let seen = store.workspace_order.iter().filter_map(|id| store.workspace(key, id));
            Ok(Answer::read(seen.map(workspace_view).collect()))
        }
        Operation::Other => Err(NOT_FOUND),
    }
}

fn update(store: &mut Store, call: &Call, key: &Key, id: &str, now: Now) -> Reply {
    scope(key, WRITE)?;
    store.channel(key, id, now).ok_or(NO_CHANNEL)?;
    let mut fields = object(call)?;
    let name = display_name(&mut fields)?;
    let config = config(&mut fields)?;
    let enabled = boolean(&mut fields, "enabled")?;
    nothing_else(&fields)?;

    let behaviour = store.behaviour.clone();
    let channel = store.channel(key, id, now).ok_or(NO_CHANNEL)?;
    let old = channel.clone();
    if let Some(name) = name {
        channel.display_name = if behaviour.normalise { name.trim().to_owned() } else { name };
    }
    if let Some(mut config) = config {
        if behaviour.normalise {
            normalise(&mut config);
        }
        let before = channel.config.clone();
        for name in &behaviour.ignored_keys {
            match before.as_ref().and_then(|before| before.get(name)) {
                Some(kept) => config.insert(name.clone(), kept.clone()),
                None => config.remove(name),
            };
        }
        match behaviour.config_update {
            ConfigUpdate::Merge => channel.config.get_or_insert_default().extend(config),
            ConfigUpdate::Replace => channel.config = Some(config),
        }
        if behaviour.reprovision_on_config && channel.config != before {
            channel.runs += 1;
            channel.run = behaviour.provisioning.run(&channel.channel_type, channel.runs, now.ms);
            channel.settle(now.ms);
        }
    }
    if let Some(enabled) = enabled {
        channel.enabled = enabled;
    }
    Ok(Answer::wrote(200, view(if behaviour.answers_lag { &old } else { channel }, &behaviour)))
}

fn create(store: &mut Store, call: &Call, key: &Key, workspace: &str, now: Now) -> Reply {
    scope(key, WRITE)?;
    switched(store.behaviour.create)?;
    store.workspace(key, workspace).ok_or(NO_WORKSPACE)?;
    let mut fields = object(call)?;
    let channel_type = match fields.remove("channelType") {
        Some(Value::String(found)) if TYPES.contains(&found.as_str()) => found,
        _ => return Err(Refusal(400, "channelType must be one of email, chat, whatsapp, voice")),
    };
    let name = display_name(&mut fields)?.ok_or(Refusal(400, "displayName is required"))?;
    let mut config = config(&mut fields)?.unwrap_or_default();
    let enabled = boolean(&mut fields, "enabled")?.unwrap_or(true);
    nothing_else(&fields)?;

    let behaviour = store.behaviour.clone();
    if behaviour.normalise {
        normalise(&mut config);
    }
    let birth = Birth {
        id: None,
        workspace: workspace.to_owned(),
        display_name: if behaviour.normalise { name.trim().to_owned() } else { name },
        config: Some(config),
        enabled,
        status: "provisioning".to_owned(),
        run: behaviour.provisioning.run(&channel_type, 1, now.ms),
        channel_type,
        created_by: Some(key.name.clone()),
        idempotency_key: call.idempotency_key.clone(),
        credentials: BTreeMap::new(),
    };
    let id = store.insert(birth, now);
    let created = store.channels.get(&id).ok_or(NO_CHANNEL)?;
    Ok(Answer { created: Some(id), ..Answer::wrote(201, view(created, &behaviour)) })
}

fn list(store: &mut Store, key: &Key, workspace: &str, now: Now) -> Reply {
    scope(key, READ)?;
    switched(store.behaviour.list)?;
    let found = store.workspace(key, workspace).ok_or(NO_WORKSPACE)?;
    let ids: Vec<String> = found.channels.values().cloned().collect();
    let mut channels = Vec::with_capacity(ids.len());
    for id in &ids {
        if let Some(channel) = store.read(key, id, now) {
            channels.push(view(&channel, &store.behaviour));
        }
    }
    Ok(Answer::read(Value::Array(channels)))
}

// === what is checked ===

fn scope(key: &Key, needed: &str) -> Result<(), Refusal> {
    key.scopes.contains(needed).then_some(()).ok_or(Refusal(403, "API key lacks the required scope"))
}

fn readable(store: &Store) -> Result<(), Refusal> {
    let refusal = Refusal(403, "API key may not read workspaces");
    store.behaviour.workspaces_readable.then_some(()).ok_or(refusal)
}

fn switched(switch: Switch) -> Result<(), Refusal> {
    match switch {
        Switch::On => Ok(()),
        Switch::Status(405) => Err(Refusal(405, "Method not allowed")),
        Switch::Status(501) => Err(Refusal(501, "Not implemented")),
        Switch::Status(404) => Err(NOT_FOUND),
        Switch::Status(status) => Err(Refusal(status, "Not available")),
    }
}

// === impl Answer ===

impl Answer {
    fn read(body: Value) -> Self {
        Answer { status: 200, body, committed: false, created: None }
    }

    fn wrote(status: u16, body: Value) -> Self {
        Answer { status, body, committed: true, created: None }
    }

    fn ok() -> Self {
        Answer::wrote(200, json!({"ok": true}))
    }
}

impl From<Refusal> for Answer {
    fn from(Refusal(status, text): Refusal) -> Self {
        Answer { status, body: json!({"error": text}), committed: false, created: None }
    }
}
