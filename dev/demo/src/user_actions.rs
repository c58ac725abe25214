//! What a person does to the objects of namespace `default`, and waits for.

use std::time::Duration;

use anyhow::{Context, Result};
use kube::Client;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams};
use serde_json::{Value, json};

const NAMESPACE: &str = "default";
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

pub struct UserActions {
    client: Client,
    channels: Api<DynamicObject>,
}

// === impl UserActions ===

impl UserActions {
    pub fn new(client: Client) -> Self {
        let channels = Api::namespaced_with(client.clone(), NAMESPACE, &ohallo("Channel"));
        Self { client, channels }
    }

    pub async fn secret(&self, name: &str, values: Value) -> Result<()> {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Secret"));
        self.apply(&kind, name, "stringData", values).await
    }

    pub async fn workspace(&self, name: &str, spec: Value) -> Result<()> {
        self.apply(&ohallo("Workspace"), name, "spec", spec).await
    }

    pub async fn channel(&self, name: &str, spec: Value) -> Result<()> {
        self.apply(&ohallo("Channel"), name, "spec", spec).await
    }

    async fn apply(&self, kind: &ApiResource, name: &str, field: &str, value: Value) -> Result<()> {
        let object = json!({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}, field: value});
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), NAMESPACE, kind);
        let patched = api.patch(name, &PatchParams::apply("team").force(), &Patch::Apply(object)).await;
        patched.map(drop).with_context(|| format!("{} {name} can't be applied", kind.kind))
    }

    /// Merges into a Channel.
    pub async fn edit(&self, name: &str, patch: Value) -> Result<()> {
        let patched = self.channels.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.map(drop).with_context(|| format!("Channel {name} can't be edited"))
    }

    pub async fn annotate(&self, name: &str, annotation: &str, value: &str) -> Result<()> {
        self.edit(name, json!({"metadata": {"annotations": {annotation: value}}})).await
    }

    pub async fn delete(&self, name: &str) -> Result<()> {
        let deleted = self.channels.delete(name, &DeleteParams::default()).await;
        deleted.map(drop).with_context(|| format!("Channel {name} can't be deleted"))
    }

    /// The id of the channel that a Channel has in oHallo.
    pub async fn id(&self, name: &str) -> Result<String> {
        let channel = self.channels.get(name).await?;
        let id = channel.data.pointer("/status/channelId").and_then(Value::as_str);
        id.map(str::to_owned).with_context(|| format!("Channel {name} has no channel"))
    }

    /// Waits until a condition of a Channel has this reason.
    pub async fn has(&self, name: &str, condition: &str, reason: &str) -> Result<()> {
        let wanted = |channel: &DynamicObject| {
            let all = channel.data.pointer("/status/conditions").and_then(Value::as_array);
            all.into_iter().flatten().any(|one| one["type"] == condition && one["reason"] == reason)
        };
        let has = || async {
            self.channels.get_opt(name).await.map(|channel| channel.as_ref().is_some_and(wanted))
        };
        wait(has, &format!("Channel {name} did not have {condition}/{reason}")).await
    }

    /// Waits until a Channel is deleted.
    pub async fn wait_deleted(&self, name: &str) -> Result<()> {
        let wait_deleted = || async { self.channels.get_opt(name).await.map(|channel| channel.is_none()) };
        wait(wait_deleted, &format!("Channel {name} is still there")).await
    }
}

fn ohallo(kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("ohallo.eu", "v1alpha1", kind))
}

async fn wait<E, F>(holds: impl Fn() -> F, otherwise: &str) -> Result<()>
where
    F: Future<Output = Result<bool, E>>,
    anyhow::Error: From<E>,
{
    let until = async {
        while !holds().await? {
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, until).await.with_context(|| otherwise.to_owned())?
}
