//! One Channel's whole life as its user sees it, and what a person does where the operator asks for one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures::future::{Either, select};
use ohallo_core::api::channel::Channel;
use ohallo_core::api::workspace::Workspace;
use ohallo_sim::Operation;
use serde_json::{Value, json};

use crate::support::harness::{Harness, condition};
use crate::support::invariants::Evidence;
use crate::support::steps::{CREATE_AGAIN, RECONCILE_REQUESTED, uid, value_in_message};

pub const FIRST: &str = "first-provider-key-value";
pub const SECOND: &str = "second-provider-key-value";

const RETRY: &str = "ohallo.eu/retry-requested-at";
const TEST: &str = "ohallo.eu/test-requested-at";
/// How often the user checks whether something is left to do.
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

/// Runs the scenario to its end.
pub async fn run_scenario(harness: &Harness, killed: &AtomicBool) -> End {
    let person = Person { harness, killed, requests: AtomicU32::new(0) };
    let spec = json!({
        "channelType": "voice", "enabled": true, "config": {"greeting": "Hello"}, "deletionPolicy": "Delete",
        "credentials": [{"secretRef": {"name": "provider"}}], "provisioningRetry": {"limit": 0},
    });
    harness.create("a", spec).await;
    person.until("failed", |channel| reason(channel) == "ProvisioningFailed").await;
    harness.annotate("a", RETRY, "0").await;
    person.until("available", |channel| current(channel, "Available")).await;
    harness.edit("a", json!({"spec": {"displayName": "Later", "config": {"greeting": "Goodbye"}}})).await;
    person
        .until("updated", |channel| current(channel, "Available") && display_name(harness) == "Later")
        .await;
    let changed = json!({"metadata": {"name": "provider"}, "stringData": {"apiKey": SECOND}});
    harness.put_secret(changed).await;
    let version = harness.secrets().get("provider").await.unwrap().metadata.resource_version.unwrap();
    person.until("rotated", |channel| pushed(channel, &version)).await;
    harness.annotate("a", TEST, "1").await;
    let channel = person.until("tested", |channel| tested(channel).is_some()).await;
    let result = tested(&channel).unwrap();
    assert!(result == "Passed" || (result == "Unknown" && killed.load(Ordering::SeqCst)), "{result}");
    let channel = person.until("settled", |channel| current(channel, "Available")).await;
    let evidence = Evidence::of(harness, vec![channel.clone()]);
    assert!(evidence.ready_is_true().is_empty(), "{:?}", evidence.ready_is_true());
    let secrets = harness.secret_values().await;
    assert!(evidence.secrets_arrived(&secrets).is_empty(), "{:?}", evidence.secrets_arrived(&secrets));
    let (remote, credentials) = (remote(harness), credentials(&channel));
    harness.delete_and_wait("a").await;
    assert!(harness.kubectl(&["delete", "workspace", "default", "--wait=false"], None).status.success());
    freed(harness).await;
    let committed = |operation| {
        let of = |entry: &&ohallo_sim::Entry| entry.operation == operation && entry.committed;
        harness.sim.ledger().iter().filter(of).count()
    };
    bounded(harness);
    End {
        remote,
        reason: reason(&channel).to_owned(),
        state: channel.status.as_ref().and_then(|status| status.state.clone()),
        credentials,
        creates: committed(Operation::CreateChannel),
        deletes: committed(Operation::DeleteChannel),
        left: harness.sim.channels().len(),
    }
}

/// What a kill may add: content may be sent again, a request never.
fn bounded(harness: &Harness) {
    for (operation, most) in [
        (Operation::CreateChannel, 2),
        (Operation::UpdateChannel, 3),
        (Operation::StoreCredentials, 5),
        (Operation::TestChannel, 1),
        (Operation::RetryProvisioning, 2),
        (Operation::DeleteChannel, 3),
    ] {
        let count = harness.count(operation);
        assert!(count <= most, "{operation:?} was called {count} times: {:#?}", harness.sim.ledger());
    }
}

async fn freed(harness: &Harness) {
    let api: kube::Api<Workspace> = kube::Api::namespaced(harness.admin.clone(), &harness.namespace);
    harness
        .eventually("the Workspace is deleted", || async {
            api.get_opt("default").await.unwrap().is_none().then_some(())
        })
        .await;
}

struct Person<'a> {
    harness: &'a Harness,
    killed: &'a AtomicBool,
    requests: AtomicU32,
}

// === impl Person ===

impl Person<'_> {
    /// Waits until the Channel is so, and does meanwhile what only a person can.
    async fn until(&self, what: &str, holds: impl Fn(&Channel) -> bool) -> Channel {
        let found = std::pin::pin!(self.harness.until("a", what, holds));
        let help = std::pin::pin!(self.help());
        match select(found, help).await {
            Either::Left((channel, _)) => channel,
            Either::Right(((), _)) => unreachable!("a person never ends"),
        }
    }

    async fn help(&self) {
        loop {
            tokio::time::sleep(GLANCE).await;
            let Ok(channel) = self.harness.channels().get("a").await else { continue };
            match reason(&channel) {
                "CreateOutcomeUnknown" => self.decide(&channel).await,
                "ProvisioningFailed" if self.killed.load(Ordering::SeqCst) => self.again(&channel).await,
                _ => {}
            }
        }
    }

    /// Reads oHallo: the channel exists, or it does not.
    async fn decide(&self, channel: &Channel) {
        let uid = uid(channel);
        let created = self
            .harness
            .sim
            .channels()
            .into_iter()
            .find(|created| created.idempotency_key.as_deref().is_some_and(|key| key.starts_with(&uid)));
        match created {
            Some(created) => drop(self.harness.edit("a", json!({"spec": {"channelId": created.id}})).await),
            None => {
                self.harness
                    .annotate("a", CREATE_AGAIN, &value_in_message(channel, "Ready", CREATE_AGAIN))
                    .await
            }
        }
    }

    /// A retry that was counted and not sent is requested again, when a reconcile has shown it.
    async fn again(&self, channel: &Channel) {
        let status = channel.status.clone().unwrap_or_default();
        let handled = status.provisioning.and_then(|provisioning| provisioning.handled_request);
        let asked = channel.metadata.annotations.as_ref().and_then(|all| all.get(RETRY)).cloned();
        if asked.is_none() || handled != asked {
            return;
        }
        let number = self.requests.fetch_add(1, Ordering::SeqCst).to_string();
        if status.last_handled_reconcile_at.is_none() {
            return self.harness.annotate("a", RECONCILE_REQUESTED, &number).await;
        }
        self.harness.annotate("a", RETRY, &format!("again-{number}")).await;
    }
}

fn reason(channel: &Channel) -> &str {
    condition(channel, "Ready").map_or("", |ready| ready.2)
}

fn current(channel: &Channel, wanted: &str) -> bool {
    condition(channel, "Ready")
        .is_some_and(|ready| ready.1 == "True" && ready.2 == wanted && ready.3 == channel.metadata.generation)
}

fn display_name(harness: &Harness) -> String {
    harness.sim.channels().first().map(|channel| channel.display_name.clone()).unwrap_or_default()
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

fn remote(harness: &Harness) -> Vec<(String, Value, bool, BTreeMap<String, String>)> {
    let view = |channel: ohallo_sim::Channel| {
        (channel.display_name, json!(channel.config), channel.enabled, channel.credentials)
    };
    harness.sim.channels().into_iter().map(view).collect()
}
