//! What both candidates run on: one control plane with our kinds, one oHallo simulator, namespaces with a Workspace.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{GroupVersionKind, Object};
use ohallo_sim::{Config, Key, Sim};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use testbed::{ControlPlane, Options, Profile, User, kubectl};
use tokio::time::{sleep, timeout};

pub const WORKSPACE: &str = "a1b2c3d4-e5f6-7890-abcd-ef1234567890";
pub const KEY: &str = "sf_test_v1_bench000000000000000000000000";
const TENANT: &str = "bench";
const VERIFIED_WITHIN: Duration = Duration::from_secs(60);

pub struct Environment {
    pub client: Client,
    pub sim: Sim,
    pub operator: PathBuf,
    pub plane: ControlPlane,
    namespaces: u32,
}

/// The little of a Channel that a raw client needs.
pub type RawChannel = Object<RawSpec, RawStatus>;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RawSpec {
    pub channel_type: String,
    pub display_name: String,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub config: Value,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RawStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    pub conditions: Vec<RawCondition>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RawCondition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    pub reason: String,
    #[serde(default)]
    pub message: String,
    pub last_transition_time: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

pub fn resource(kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("ohallo.eu", "v1alpha1", kind))
}

pub fn channels(client: &Client, namespace: &str) -> Api<RawChannel> {
    Api::namespaced_with(client.clone(), namespace, &resource("Channel"))
}

/// Whether a Channel is Ready for its current generation.
pub fn is_ready(channel: &RawChannel) -> bool {
    let ready = |condition: &RawCondition| {
        condition.kind == "Ready"
            && condition.status == "True"
            && condition.observed_generation == channel.metadata.generation
    };
    channel.status.iter().flat_map(|status| &status.conditions).any(ready)
}

/// A Channel as a user writes it.
pub fn manifest(name: &str, display_name: &str) -> Value {
    json!({
        "apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel", "metadata": {"name": name},
        "spec": {"channelType": "chat", "displayName": display_name, "config": {"greeting": "Hello", "colour": "blue"}},
    })
}

fn is_verified(workspace: &DynamicObject) -> bool {
    let conditions = workspace.data.pointer("/status/conditions").and_then(Value::as_array);
    let ready = |condition: &Value| {
        condition.get("type") == Some(&json!("Ready")) && condition.get("status") == Some(&json!("True"))
    };
    conditions.into_iter().flatten().any(ready)
}

// === impl Evidence ===

impl Environment {
    pub async fn start() -> Result<Self> {
        let operator = tokio::task::spawn_blocking(|| testbed::operator(Profile::Release)).await??;
        eprintln!("starting the control plane…");
        let plane = ControlPlane::start(Options::default()).await?;
        let admin = plane.kubeconfig(User::Admin);
        let base = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/kustomize/base");
        kubectl(&admin, &["apply", "-k", base])?;
        let wait = [
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "crd/channels.ohallo.eu",
            "crd/workspaces.ohallo.eu",
        ];
        kubectl(&admin, &wait)?;
        let client = plane.client(User::Admin)?;
        let sim = Sim::start(Config::default()).await?;
        sim.add_workspace(TENANT, WORKSPACE, "Bench");
        sim.add_key(Key::new(KEY, TENANT));
        Ok(Self { client, sim, operator, plane, namespaces: 0 })
    }

    /// A new namespace with a key and a Workspace.
    pub async fn namespace(&mut self) -> Result<String> {
        self.namespaces += 1;
        let name = format!("bench-{}", self.namespaces);
        let post = PostParams::default();
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        Api::<Namespace>::all(self.client.clone()).create(&post, &namespace).await?;
        let secret: Secret = serde_json::from_value(
            json!({"metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": KEY}}),
        )?;
        Api::<Secret>::namespaced(self.client.clone(), &name).create(&post, &secret).await?;
        let workspace: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "ohallo.eu/v1alpha1", "kind": "Workspace", "metadata": {"name": "default"},
            "spec": {"workspaceId": WORKSPACE, "apiKeySecretRef": {"name": "ohallo-api-key"}},
        }))?;
        let workspaces: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &name, &resource("Workspace"));
        workspaces.create(&post, &workspace).await?;
        Ok(name)
    }

    /// Waits until the operator has verified the namespace's Workspace, which is no part of any Channel's cost.
    pub async fn verified(&self, namespace: &str) -> Result<()> {
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, &resource("Workspace"));
        let reconcile_now = timeout(VERIFIED_WITHIN, async {
            while !is_verified(&api.get("default").await?) {
                sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        });
        reconcile_now.await.context("the Workspace was not verified in time")?
    }

    /// Creates a Channel.
    pub async fn create(&self, namespace: &str, manifest: Value) -> Result<()> {
        let channel: DynamicObject = serde_json::from_value(manifest)?;
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, &resource("Channel"));
        api.create(&PostParams::default(), &channel).await?;
        Ok(())
    }

    /// Edits a Channel.
    pub async fn rename(&self, namespace: &str, name: &str) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": {"displayName": "Renamed"}}));
        channels(&self.client, namespace).patch(name, &PatchParams::default(), &patch).await?;
        Ok(())
    }
}
