//! One Channel's whole life as its user sees it, and what a person does where the operator asks for one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures::future::{Either, select};
use ohallo_core::api::channel::Channel;
use ohallo_core::api::workspace::Workspace;
use ohallo_sim::Operation;
use serde_json::{Value, json};

use crate::acts::{AGAIN, LOOK, told, uid};
use crate::invariants::World;
use crate::rig::{Rig, condition};

pub const FIRST: &str = "first-provider-key-value";
pub const SECOND: &str = "second-provider-key-value";

const RETRY: &str = "ohallo.eu/retry-requested-at";
const TEST: &str = "ohallo.eu/test-requested-at";
/// How often the person looks whether something is left to do.
const GLANCE: Duration = Duration::from_millis(500);

/// What must be the same whether it was killed or not.
#[derive(Debug, PartialEq)]
pub struct End {
    remote: Vec<(String, Value, bool, BTreeMap<String, String>)>,
    reason: String,
    state: Option<String>,
    credentials: Vec<String>,
    creates: usize,
    deletes: usize,
    left: usize,
}

/// Tells it to the end.
pub async fn tell(rig: &Rig, killed: &AtomicBool) -> End {
    let person = Person { rig, killed, requests: AtomicU32::new(0) };
    let spec = json!({
        "channelType": "voice", "enabled": true, "config": {"greeting": "Hello"}, "deletionPolicy": "Delete",
        "credentials": [{"secretRef": {"name": "provider"}}], "provisioningRetry": {"limit": 0},
    });
    rig.create("a", spec).await;
    person.until("failed", |channel| reason(channel) == "ProvisioningFailed").await;
    rig.annotate("a", RETRY, "0").await;
    person.until("available", |channel| current(channel, "Available")).await;
    rig.edit("a", json!({"spec": {"displayName": "Later", "config": {"greeting": "Goodbye"}}})).await;
    person.until("updated", |channel| current(channel, "Available") && display_name(rig) == "Later").await;
    let changed = json!({"metadata": {"name": "provider"}, "stringData": {"apiKey": SECOND}});
    rig.put_secret(changed).await;
    let version = rig.secrets().get("provider").await.unwrap().metadata.resource_version.unwrap();
    person.until("rotated", |channel| pushed(channel, &version)).await;
    rig.annotate("a", TEST, "1").await;
    let channel = person.until("tested", |channel| tested(channel).is_some()).await;
    let result = tested(&channel).unwrap();
    assert!(result == "Passed" || (result == "Unknown" && killed.load(Ordering::SeqCst)), "{result}");
    let channel = person.until("settled", |channel| current(channel, "Available")).await;
    let world = World::of(rig, vec![channel.clone()]);
    assert!(world.ready_is_true().is_empty(), "{:?}", world.ready_is_true());
    let secrets = rig.secret_values().await;
    assert!(world.secrets_arrived(&secrets).is_empty(), "{:?}", world.secrets_arrived(&secrets));
    let (remote, credentials) = (remote(rig), credentials(&channel));
    rig.deleted("a").await;
    assert!(rig.kubectl(&["delete", "workspace", "default", "--wait=false"], None).status.success());
    freed(rig).await;
    let committed = |operation| {
        let of = |entry: &&ohallo_sim::Entry| entry.operation == operation && entry.committed;
        rig.sim.ledger().iter().filter(of).count()
    };
    bounded(rig);
    End {
        remote,
        reason: reason(&channel).to_owned(),
        state: channel.status.as_ref().and_then(|status| status.state.clone()),
        credentials,
        creates: committed(Operation::CreateChannel),
        deletes: committed(Operation::DeleteChannel),
        left: rig.sim.channels().len(),
    }
}

/// What a kill may add: content may be sent again, a request never.
fn bounded(rig: &Rig) {
    for (operation, most) in [
        (Operation::CreateChannel, 2),
        (Operation::UpdateChannel, 3),
        (Operation::StoreCredentials, 5),
        (Operation::TestChannel, 1),
        (Operation::RetryProvisioning, 2),
        (Operation::DeleteChannel, 3),
    ] {
        let count = rig.count(operation);
        assert!(count <= most, "{operation:?} was called {count} times: {:#?}", rig.sim.ledger());
    }
}

async fn freed(rig: &Rig) {
    let api: kube::Api<Workspace> = kube::Api::namespaced(rig.admin.clone(), &rig.namespace);
    rig.eventually("the Workspace is gone", || async {
        api.get_opt("default").await.unwrap().is_none().then_some(())
    })
    .await;
}

struct Person<'a> {
    rig: &'a Rig,
    killed: &'a AtomicBool,
    requests: AtomicU32,
}

// === impl Person ===

impl Person<'_> {
    /// Waits until the Channel is so, and does meanwhile what only a person can.
    async fn until(&self, what: &str, holds: impl Fn(&Channel) -> bool) -> Channel {
        let found = std::pin::pin!(self.rig.until("a", what, holds));
        let help = std::pin::pin!(self.help());
        match select(found, help).await {
            Either::Left((channel, _)) => channel,
            Either::Right(((), _)) => unreachable!("a person never ends"),
        }
    }

    async fn help(&self) {
        loop {
            tokio::time::sleep(GLANCE).await;
            let Ok(channel) = self.rig.channels().get("a").await else { continue };
            match reason(&channel) {
                "CreateOutcomeUnknown" => self.decide(&channel).await,
                "ProvisioningFailed" if self.killed.load(Ordering::SeqCst) => self.again(&channel).await,
                _ => {}
            }
        }
    }

    /// Looks in oHallo: the channel is there, or it is not.
    async fn decide(&self, channel: &Channel) {
        let uid = uid(channel);
        let made = self
            .rig
            .sim
            .channels()
            .into_iter()
            .find(|made| made.idempotency_key.as_deref().is_some_and(|key| key.starts_with(&uid)));
        match made {
            Some(made) => drop(self.rig.edit("a", json!({"spec": {"channelId": made.id}})).await),
            None => self.rig.annotate("a", AGAIN, &told(channel, "Ready", AGAIN)).await,
        }
    }

    /// A retry that was counted and not sent is asked for once more, when a look has shown that it is so.
    async fn again(&self, channel: &Channel) {
        let status = channel.status.clone().unwrap_or_default();
        let handled = status.provisioning.and_then(|provisioning| provisioning.handled_request);
        let asked = channel.metadata.annotations.as_ref().and_then(|all| all.get(RETRY)).cloned();
        if asked.is_none() || handled != asked {
            return;
        }
        let number = self.requests.fetch_add(1, Ordering::SeqCst).to_string();
        if status.last_handled_reconcile_at.is_none() {
            return self.rig.annotate("a", LOOK, &number).await;
        }
        self.rig.annotate("a", RETRY, &format!("again-{number}")).await;
    }
}

fn reason(channel: &Channel) -> &str {
    condition(channel, "Ready").map_or("", |ready| ready.2)
}

fn current(channel: &Channel, wanted: &str) -> bool {
    condition(channel, "Ready")
        .is_some_and(|ready| ready.1 == "True" && ready.2 == wanted && ready.3 == channel.metadata.generation)
}

fn display_name(rig: &Rig) -> String {
    rig.sim.channels().first().map(|channel| channel.display_name.clone()).unwrap_or_default()
}

fn pushed(channel: &Channel, version: &str) -> bool {
    let credentials = channel.status.iter().flat_map(|status| &status.credentials);
    credentials.flat_map(|all| &all.sources).any(|source| source.resource_version == version)
}

fn tested(channel: &Channel) -> Option<String> {
    channel.status.as_ref()?.test.as_ref()?.result.clone()
}

fn credentials(channel: &Channel) -> Vec<String> {
    channel.status.iter().flat_map(|status| &status.credentials).flat_map(|all| all.keys.clone()).collect()
}

fn remote(rig: &Rig) -> Vec<(String, Value, bool, BTreeMap<String, String>)> {
    let view = |channel: ohallo_sim::Channel| {
        (channel.display_name, json!(channel.config), channel.enabled, channel.credentials)
    };
    rig.sim.channels().into_iter().map(view).collect()
}
