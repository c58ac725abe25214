//! I10: what becomes of healthy Channels while another Channel, key or namespace is poisoned.

use kube::client::ClientBuilder;
use ohallo_sim::{Action, Config, Fault, FaultId, Key, NewChannel, Operation, Sim};
use serde_json::{Value, json};

use crate::support::canary;
use crate::support::harness::{Harness, TENANT, WAIT_TIMEOUT, WORKSPACE, id_of};
use crate::support::panics::PanicsLayer;
use crate::support::steps::RECONCILE_REQUESTED;

/// How many healthy Channels are timed; with so few the 99th percentile is the slowest.
const TIMED: usize = 30;
/// What a busy machine may add to any of them, in milliseconds.
const NOISE: u64 = 250;
/// A machine that is busy for a moment is no reason to fail.
const ROUNDS: usize = 3;
/// The keys that are poisoned, by Workspace; the last is that of another namespace.
const KEYS: [(&str, &str); 4] = [
    ("hanging", "sf_test_v1_whose_calls_hang_for_ever"),
    ("limited", "sf_test_v1_whose_calls_are_limited_for_ever"),
    ("broken", "sf_test_v1_whose_calls_fail_for_ever"),
    ("default", "sf_test_v1_of_the_other_namespace"),
];
/// More than one key may have under way.
const OF_A_KEY: usize = 20;

struct Poisoned {
    harness: Harness,
    other_namespace: String,
    /// Whose answers are huge, and without end; under the key of the healthy ones.
    large: Vec<String>,
}

// === impl Poisoned ===

impl Poisoned {
    /// All that is to be poisoned, and is well.
    async fn start() -> Self {
        let mut harness = Harness::bare(Config::default(), &[]).await;
        let other_namespace = format!("{}-elsewhere", harness.namespace);
        harness.flag(format!("--namespace={other_namespace}"));
        let mut config = harness.plane.client_config(harness.user);
        config.default_retry = false;
        harness.client = Some(ClientBuilder::try_from(config).unwrap().with_layer(&PanicsLayer).build());
        harness.begin().await;
        harness.secret("explodes", &[("apiKey", "provider-key-that-explodes")]).await;
        let mut large = Vec::new();
        for name in ["huge", "endless"] {
            large.push(id_of(&harness.ready(name, json!({})).await));
        }
        harness.ready("panics", json!({})).await;
        let poisoned = Self { harness, other_namespace, large };
        poisoned.harness.kubectl_ok(&["create", "namespace", &poisoned.other_namespace], "");
        for (number, (workspace, key)) in KEYS.into_iter().enumerate() {
            canary::register(key);
            poisoned.harness.sim.add_key(Key::new(key, TENANT));
            let namespace = if number == KEYS.len() - 1 {
                &poisoned.other_namespace
            } else {
                &poisoned.harness.namespace
            };
            poisoned.harness.apply_in(namespace, &poisoned.under(workspace, key));
        }
        poisoned.reconcile_now("at first");
        poisoned
    }

    /// A Workspace and its Channels.
    fn under(&self, workspace: &str, key: &str) -> Vec<Value> {
        let secret = format!("key-{workspace}");
        let mut objects = vec![
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret}, "stringData": {"apiKey": key}}),
            json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "Workspace", "metadata": {"name": workspace},
                   "spec": {"workspaceId": WORKSPACE, "apiKeySecretRef": {"name": secret}}}),
        ];
        for number in 0..OF_A_KEY {
            let name = format!("{workspace}-{number}");
            let id = self.harness.sim.insert_channel(NewChannel::new(WORKSPACE, "chat", &name));
            let place = json!({"kind": "Workspace", "name": workspace});
            objects.push(json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel", "metadata": {"name": name},
                                "spec": {"channelType": "chat", "channelId": id, "displayName": name, "workspaceRef": place}}));
        }
        objects
    }

    fn namespaces(&self) -> [&str; 2] {
        [&self.harness.namespace, &self.other_namespace]
    }

    /// Requests a reconcile of every Channel, and waits until each is done and nothing is under way.
    fn reconcile_now(&self, value: &str) {
        let (asked, handled) = (
            format!("{RECONCILE_REQUESTED}={value}"),
            format!("jsonpath={{.status.lastHandledReconcileAt}}={value}"),
        );
        let wait = ["wait", "channels.ohallo.eu", "--all", "--timeout=180s"];
        for namespace in self.namespaces() {
            self.harness.kubectl_ok(
                &["-n", namespace, "annotate", "channels.ohallo.eu", "--all", "--overwrite", &asked],
                "",
            );
        }
        for namespace in self.namespaces() {
            let until = |what: &str| {
                self.harness.kubectl_ok(&[&["-n", namespace][..], &wait, &["--for", what]].concat(), "")
            };
            until(&handled);
            until("condition=Ready");
        }
    }

    /// From now on all fail, and try again and again.
    async fn poison(&self, round: usize) {
        let key = |number: usize, action| Fault::any(action).key(KEYS[number].1);
        let channel = |number: usize, action| Fault::any(action).channel(&self.large[number]);
        let faults = [
            key(0, Action::Hang { commit: false }),
            key(1, Action::retry_after(429, "1")),
            key(2, Action::status(500)),
            key(3, Action::status(500)),
            channel(0, Action::Huge { bytes: 1 << 30 }),
            channel(1, Action::Endless { code: 200 }),
        ];
        let faults = faults.map(|fault| self.harness.sim.add_fault(fault));
        let explodes = json!([{"secretRef": {"name": "explodes"}}]);
        self.harness.edit("panics", json!({"spec": {"credentials": explodes}})).await;
        let asked = format!("{RECONCILE_REQUESTED}=poisoned-{round}");
        for namespace in self.namespaces() {
            self.harness.kubectl_ok(
                &["-n", namespace, "annotate", "channels.ohallo.eu", "--all", "--overwrite", &asked],
                "",
            );
        }
        self.harness.reason("panics", "InternalError").await;
        // Of the key that hangs, all calls that it may have under way in one namespace.
        let least = |number: usize| if number == 0 { 9 } else { 1 };
        let met = |sim: &Sim, fault: FaultId| {
            sim.ledger().iter().filter(|entry| entry.fault == Some(fault)).count()
        };
        let all =
            |sim: &Sim| faults.iter().enumerate().all(|(number, fault)| met(sim, *fault) >= least(number));
        self.harness.sim.wait_until(all, WAIT_TIMEOUT).await.unwrap();
    }

    async fn heal(&self, round: usize) {
        self.harness.sim.clear_faults();
        self.harness.edit("panics", json!({"spec": {"credentials": []}})).await;
        self.reconcile_now(&format!("healed-{round}"));
    }

    /// How long the slowest of some new Channels takes from apply to Ready, in milliseconds.
    async fn slowest(&self, name: &str) -> u64 {
        let mut slowest = 0;
        for number in 0..TIMED {
            let from = self.harness.sim.elapsed_ms();
            self.harness.ready(&format!("{name}-{number}"), json!({})).await;
            slowest = slowest.max(self.harness.sim.elapsed_ms() - from);
        }
        slowest
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f06_f07_f39_healthy_channels_are_as_fast_while_other_channels_keys_and_namespaces_are_poisoned() {
    let poisoned = Poisoned::start().await;
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        let quiet = poisoned.slowest(&format!("quiet-{round}")).await;
        poisoned.poison(round).await;
        let beside = poisoned.slowest(&format!("beside-{round}")).await;
        rounds.push((quiet, beside));
        if beside <= 2 * quiet + NOISE {
            break;
        }
        poisoned.heal(round).await;
    }
    eprintln!("the slowest of {TIMED} in ms, quiet and beside the poisoned: {rounds:?}");
    assert!(rounds.last().is_some_and(|(quiet, beside)| *beside <= 2 * quiet + NOISE), "{rounds:?}");
    let creates = 3 + rounds.len() * 2 * TIMED;
    assert_eq!(poisoned.harness.count(Operation::CreateChannel), creates);
    poisoned.harness.sim.clear_faults();
    poisoned.harness.finish().await;
}
