//! The shapes of bodies: what a request may contain, decoded strictly, and what an answer shows.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::api::{Call, Refusal};
use crate::behaviour::Behaviour;
use crate::model::{Channel, Workspace};

pub(crate) const TYPES: [&str; 4] = ["email", "chat", "whatsapp", "voice"];

// === what is asked ===

/// The body as a JSON object.
pub(crate) fn object(call: &Call) -> Result<Map<String, Value>, Refusal> {
    let body = call.body.as_ref().map_err(Clone::clone)?;
    let kind = call.content_type.as_deref().and_then(|kind| kind.split(';').next()).unwrap_or_default();
    if !kind.trim().eq_ignore_ascii_case("application/json") {
        return Err(Refusal(415, "Content-Type must be application/json"));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Refusal(400, "Request body must be an object")),
        Err(_) => Err(Refusal(400, "Request body is not valid JSON")),
    }
}

pub(crate) fn credentials(fields: Map<String, Value>) -> Result<BTreeMap<String, String>, Refusal> {
    let text = |(name, value)| match value {
        Value::String(value) => Ok((name, value)),
        _ => Err(Refusal(400, "Credentials must be a flat object of strings")),
    };
    fields.into_iter().map(text).collect()
}

pub(crate) fn display_name(fields: &mut Map<String, Value>) -> Result<Option<String>, Refusal> {
    match fields.remove("displayName") {
        None => Ok(None),
        Some(Value::String(name)) if !name.is_empty() => Ok(Some(name)),
        Some(_) => Err(Refusal(400, "displayName must be a string of at least 1 character")),
    }
}

pub(crate) fn config(fields: &mut Map<String, Value>) -> Result<Option<Map<String, Value>>, Refusal> {
    match fields.remove("config") {
        None => Ok(None),
        Some(Value::Object(config)) => Ok(Some(config)),
        Some(_) => Err(Refusal(400, "config must be an object")),
    }
}

pub(crate) fn boolean(fields: &mut Map<String, Value>, name: &str) -> Result<Option<bool>, Refusal> {
    match fields.remove(name) {
        None => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(value)),
        Some(_) => Err(Refusal(400, "enabled must be a boolean")),
    }
}

pub(crate) fn nothing_else(fields: &Map<String, Value>) -> Result<(), Refusal> {
    fields.is_empty().then_some(()).ok_or(Refusal(400, "Request body has unknown fields"))
}

pub(crate) fn normalise(config: &mut Map<String, Value>) {
    for value in config.values_mut() {
        if let Value::String(text) = value {
            let trimmed = text.trim();
            *text = if trimmed.contains('@') { trimmed.to_lowercase() } else { trimmed.to_owned() };
        }
    }
}

// === what is shown ===

pub(crate) fn view(channel: &Channel, behaviour: &Behaviour) -> Value {
    let config = match &channel.config {
        None => Value::Null,
        Some(config) if config.is_empty() && behaviour.null_config => Value::Null,
        Some(config) => Value::Object(config.clone()),
    };
    let mut fields = behaviour.extra_fields.clone();
    let documented = [
        ("id", json!(channel.id)),
        ("workspaceId", json!(channel.workspace)),
        ("channelType", json!(channel.channel_type)),
        ("displayName", json!(channel.display_name)),
        ("status", json!(behaviour.unknown_state.as_ref().unwrap_or(&channel.status))),
        ("config", config),
        ("createdAt", json!(channel.created_at)),
    ];
    fields.extend(documented.map(|(name, value)| (name.to_owned(), value)));
    Value::Object(fields)
}

pub(crate) fn workspace_view(workspace: &Workspace) -> Value {
    json!({
        "id": workspace.id,
        "tenantId": workspace.tenant,
        "brandId": workspace.brand,
        "name": workspace.name,
        "country": "DK",
        "operatingLanguage": "da",
        "currency": "DKK",
        "workspaceType": "b2b",
        "workspaceInstructions": null,
    })
}
