//! Reads the API key and asks oHallo whether it is valid for the workspace.

use secrecy::ExposeSecret;

use crate::context::Context;
use ohallo_client::Caller;
use ohallo_core::api::conditions::Reason;
use ohallo_core::classify::{CallError, ErrorKind as Refusal};
use ohallo_core::failure::{Failure, Retry};
use ohallo_core::placeholder::SECRET_DATA;
use ohallo_core::priority::Priority;
use ohallo_core::remote::Id;
use ohallo_core::secret::ApiKey;
use ohallo_core::secret_content::Content;
use ohallo_core::secret_version::Version;
use ohallo_core::workspace::cached::CachedApiKey;
use ohallo_core::workspace::kind::WorkspaceKind;
use ohallo_core::workspace::model::KeyCheck;

/// Checks the key. Sets `used` to the version of the Secret that it read.
pub async fn check_key<K: WorkspaceKind>(object: &K, ctx: &Context, used: &mut Version) -> KeyCheck {
    try_check_key(object, ctx, used).await.unwrap_or_else(KeyCheck::Failed)
}

async fn try_check_key<K: WorkspaceKind>(
    object: &K,
    ctx: &Context,
    used: &mut Version,
) -> Result<KeyCheck, Failure> {
    let Some(id) = object.workspace_id().and_then(Id::parse) else {
        let message =
            "spec.workspaceId is not an id: copy it from the URL of the workspace's page in oHallo.";
        return Err(Failure::user_action(Reason::WorkspaceNotFound, message));
    };
    let key = read_key(object, ctx, used).await?;
    let uid = object.uid_or_default();
    let held = ctx.cached_key(&object.handle());
    let changed = held
        .as_ref()
        .is_none_or(|held| held.key.id() != key.id() || held.uid != uid || held.workspace_id != id);
    let environment = key.environment();
    if object.suspended() {
        if held.is_none() {
            cache_key(object, ctx, key, id);
        }
        return Ok(KeyCheck::Suspended);
    }
    let namespace = object.meta().namespace.as_deref().map(Into::into);
    let caller = Caller { namespace, workspace: object.handle(), priority: Priority::Interactive };
    let mut session = ctx.ohallo.session(key.clone(), caller, None);
    let answer = session.get_workspace(&id).await;
    let workspace = match answer {
        Ok(found) if found.id == id => Some(found),
        Ok(_) => return Err(not_found()),
        Err(CallError::Failed(error)) if error.kind == Refusal::Forbidden => None,
        Err(CallError::Failed(error)) if error.kind == Refusal::NotFound => {
            return Err(not_found().caused_by(error));
        }
        Err(error) => {
            let failure = Failure::from(error);
            // The key may be valid: its Channels find out when they use it.
            if held.is_none_or(|held| held.uid != uid) && failure.retry != Retry::UserAction {
                cache_key(object, ctx, key, id);
            }
            return Err(failure);
        }
    };
    if changed {
        cache_key(object, ctx, key, id);
    }
    Ok(KeyCheck::Good { workspace, environment })
}

fn cache_key<K: WorkspaceKind>(object: &K, ctx: &Context, key: ApiKey, workspace_id: Id) {
    let handle = object.handle();
    let uid = object.uid_or_default();
    ctx.cache_key(
        &handle,
        CachedApiKey {
            uid,
            key,
            workspace_id,
            create_unsupported: None,
            has_created: false,
            has_read: false,
            list_unsupported: false,
        },
    );
    let users = ctx.index().users_of_workspace(&handle);
    users.iter().for_each(|name| ctx.requeue_channel(name));
}

fn not_found() -> Failure {
    let message = "oHallo shows no such workspace to this API key: store an API key of that workspace in the Secret, or create another Workspace with the right spec.workspaceId.";
    Failure::user_action(Reason::WorkspaceNotFound, message)
}

async fn read_key<K: WorkspaceKind>(
    object: &K,
    ctx: &Context,
    used: &mut Version,
) -> Result<ApiKey, Failure> {
    let (Some(secret), Some(reference)) =
        (object.key_secret(&ctx.settings.operator_namespace), object.key_ref())
    else {
        return Err(Failure::missing_input(
            Reason::SecretNotFound,
            "spec.apiKeySecretRef is missing: name the Secret with the API key.",
        ));
    };
    let key = reference.key();
    let content = ctx.secrets.get(&secret).await?;
    *used = content.version();
    if let Content::TooLarge { .. } = &*content {
        let message = format!(
            "The Secret {:?} holds more than {} KiB: put the API key into a separate Secret.",
            secret.name,
            SECRET_DATA / 1024
        );
        return Err(Failure::missing_input(Reason::SecretKeyMissing, message));
    }
    let Content::Present { data, .. } = &*content else {
        let message = format!(
            "The Secret {:?} does not exist in namespace {:?}: create it with the API key.",
            secret.name, secret.namespace
        );
        return Err(Failure::missing_input(Reason::SecretNotFound, message));
    };
    let value = data.get(key).map(|value| value.expose_secret());
    ApiKey::decode(value).map_err(|what| {
        let message = format!("The Secret {:?} {what} {key:?}: put the API key there.", secret.name);
        Failure::missing_input(Reason::SecretKeyMissing, message)
    })
}

#[cfg(test)]
mod fuzz;
