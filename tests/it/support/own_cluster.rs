//! A cluster of a test's own, which it may restore, stop and freeze: with the operator's program, a simulator and a
//! verified Workspace `default`.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use ohallo_core::api::channel::Channel;
use ohallo_core::api::workspace::Workspace;
use ohallo_sim::{Config, Key, Sim};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use testbed::{ControlPlane, Options, User};

use crate::support::harness::{TENANT, WAIT_TIMEOUT, WORKSPACE, bound, install, kubectl_as};
use crate::support::program::Program;
use crate::support::steps::{state, state_of};
use crate::support::{canary, leaks};

const KEY: &str = "sf_test_v1_of_a_cluster_of_its_own";

pub struct Own {
    pub plane: ControlPlane,
    pub sim: Sim,
    pub client: Client,
    program: Option<Program>,
}

// === impl Own ===

impl Own {
    pub async fn start() -> Self {
        let plane = ControlPlane::start(Options::default()).await.unwrap();
        install(&plane).await;
        let sim = Sim::start(Config::default()).await.unwrap();
        sim.add_workspace(TENANT, WORKSPACE, "Nordic Parts");
        sim.add_key(Key::new(KEY, TENANT));
        canary::register(KEY);
        let client = plane.client(User::Admin).unwrap();
        create::<Secret>(&client, json!({"metadata": {"name": "key"}, "stringData": {"apiKey": KEY}})).await;
        let place = json!({"workspaceId": WORKSPACE, "apiKeySecretRef": {"name": "key"}});
        let workspace = json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "Workspace", "metadata": {"name": "default"}, "spec": place});
        create::<Workspace>(&client, workspace).await;
        let mut own = Self { plane, sim, client, program: None };
        own.restart_operator();
        own
    }

    /// Kills the operator, where one runs.
    pub fn kill_operator(&mut self) {
        if let Some(mut program) = self.program.take() {
            program.kill();
        }
    }

    /// Kills the operator, where one runs, and starts it.
    pub fn restart_operator(&mut self) {
        self.kill_operator();
        let url = format!("--api-url={}", self.sim.url());
        let flags = [url, "--requests-per-second=0".into(), "--consistency-window-seconds=0".into()];
        self.program = Some(Program::start(&self.plane, &flags));
    }

    pub fn operator(&self) -> &Program {
        self.program.as_ref().expect("the operator runs")
    }

    /// An older definition of Channels: without these fields of the status.
    pub fn prunes(&self, fields: &[&str]) {
        self.prunes_at("status", fields);
    }

    /// The same with fields of the spec or the status.
    pub fn prunes_at(&self, part: &str, fields: &[&str]) {
        let all = format!("/spec/versions/0/schema/openAPIV3Schema/properties/{part}/properties");
        let mut patches: Vec<_> =
            fields.iter().map(|field| json!({"op": "remove", "path": format!("{all}/{field}")})).collect();
        // They name what is removed.
        let rules = "/spec/versions/0/schema/openAPIV3Schema/x-kubernetes-validations";
        patches.push(json!({"op": "remove", "path": rules}));
        let patch = Value::Array(patches).to_string();
        let args = ["patch", "crd", "channels.ohallo.eu", "--type=json", "-p", &patch];
        let output = kubectl_as(&self.plane, User::Admin, &args, None);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The definitions of this version again.
    pub async fn install(&self) {
        install(&self.plane).await;
    }

    pub async fn create(&self, name: &str) {
        self.create_with(name, json!({})).await;
    }

    /// The same with more in the spec.
    pub async fn create_with(&self, name: &str, more: Value) {
        let mut spec =
            json!({"channelType": "chat", "displayName": format!("Channel {name}"), "intervalSeconds": 60});
        more.as_object().unwrap().iter().for_each(|(key, value)| spec[key] = value.clone());
        let object = json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel", "metadata": {"name": name}, "spec": spec});
        create::<Channel>(&self.client, object).await;
    }

    /// Creates it and waits until it is available; its id.
    pub async fn ready(&self, name: &str) -> String {
        self.create(name).await;
        self.available(name).await
    }

    pub async fn rename(&self, name: &str, display_name: &str) {
        let api: Api<Channel> = Api::namespaced(self.client.clone(), "default");
        let patch = Patch::Merge(json!({"spec": {"displayName": display_name}}));
        taken(async || api.patch(name, &PatchParams::default(), &patch).await.map(drop)).await;
    }

    pub async fn delete(&self, name: &str) {
        let api: Api<Channel> = Api::namespaced(self.client.clone(), "default");
        taken(async || api.delete(name, &Default::default()).await.map(drop)).await;
    }

    /// Waits until the object is removed.
    pub async fn wait_deleted(&self, name: &str) {
        let api: Api<Channel> = Api::namespaced(self.client.clone(), "default");
        let removed = tokio::time::timeout(WAIT_TIMEOUT * 3, async {
            while !matches!(api.get_opt(name).await, Ok(None)) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        removed.await.unwrap_or_else(|_| panic!("{name} was never removed"));
    }

    /// Waits until it is available as it is declared; its id.
    pub async fn available(&self, name: &str) -> String {
        bound(&self.until(name, "available", available).await).unwrap()
    }

    pub async fn until(&self, name: &str, what: &str, holds: impl Fn(&Channel) -> bool) -> Channel {
        let api: Api<Channel> = Api::namespaced(self.client.clone(), "default");
        let reconcile_now = tokio::time::timeout(WAIT_TIMEOUT * 3, async {
            loop {
                if let Ok(Some(found)) = api.get_opt(name).await
                    && holds(&found)
                {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        reconcile_now.await.unwrap_or_else(|_| panic!("{name} never became {what}"))
    }

    /// Ends it when all that it holds is scanned for secrets.
    pub async fn finish(mut self) {
        drop(self.program.take());
        leaks::dump(&self.plane).await;
        canary::nothing_leaked();
        let Self { plane, .. } = self;
        tokio::task::spawn_blocking(|| plane.stop()).await.unwrap();
    }
}

async fn create<K>(client: &Client, object: Value)
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize,
    K::DynamicType: Default,
{
    let object: K = serde_json::from_value(object).unwrap();
    let api = Api::<K>::namespaced(client.clone(), "default");
    taken(async || api.create(&PostParams::default(), &object).await.map(drop)).await;
}

/// Asks until there is an answer; one that was given up on may have taken effect.
async fn taken(ask: impl AsyncFn() -> kube::Result<()>) {
    loop {
        match ask().await {
            Ok(()) => return,
            Err(kube::Error::Api(status)) => return assert_eq!(status.code, 409, "{status:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

pub fn available(channel: &Channel) -> bool {
    let observed = channel.status.as_ref().and_then(|status| status.observed_generation);
    state_of(channel, "Ready") == state("True", "Available") && observed == channel.metadata.generation
}
