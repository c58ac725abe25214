//! I10: what becomes of healthy Channels while another Channel, key or namespace is poisoned.

use kube::client::ClientBuilder;
use ohallo_sim::{Action, Config, Fault, FaultId, Key, NewChannel, Operation, Sim};
use serde_json::{Value, json};

use super::objects::PanicsLayer;
use crate::acts::LOOK;
use crate::canary;
use crate::rig::{PATIENCE, Rig, TENANT, WORKSPACE, id_of};

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
    rig: Rig,
    elsewhere: String,
    /// Whose answers are huge, and without end; under the key of the healthy ones.
    large: Vec<String>,
}

// === impl Poisoned ===

impl Poisoned {
    /// All that is to be poisoned, and is well.
    async fn start() -> Self {
        let mut rig = Rig::bare(Config::default(), &[]).await;
        let elsewhere = format!("{}-elsewhere", rig.namespace);
        rig.flag(format!("--namespace={elsewhere}"));
        let mut config = rig.plane.client_config(rig.user);
        config.default_retry = false;
        rig.client = Some(ClientBuilder::try_from(config).unwrap().with_layer(&PanicsLayer).build());
        rig.begin().await;
        rig.secret("explodes", &[("apiKey", "provider-key-that-explodes")]).await;
        let mut large = Vec::new();
        for name in ["huge", "endless"] {
            large.push(id_of(&rig.ready(name, json!({})).await));
        }
        rig.ready("panics", json!({})).await;
        let poisoned = Self { rig, elsewhere, large };
        poisoned.rig.kubectl_ok(&["create", "namespace", &poisoned.elsewhere], "");
        for (number, (workspace, key)) in KEYS.into_iter().enumerate() {
            canary::register(key);
            poisoned.rig.sim.add_key(Key::new(key, TENANT));
            let namespace =
                if number == KEYS.len() - 1 { &poisoned.elsewhere } else { &poisoned.rig.namespace };
            poisoned.rig.apply_in(namespace, &poisoned.under(workspace, key));
        }
        poisoned.looked("at first");
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
            let id = self.rig.sim.insert_channel(NewChannel::new(WORKSPACE, "chat", &name));
            let place = json!({"kind": "Workspace", "name": workspace});
            objects.push(json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel", "metadata": {"name": name},
                                "spec": {"channelType": "chat", "channelId": id, "displayName": name, "workspaceRef": place}}));
        }
        objects
    }

    fn namespaces(&self) -> [&str; 2] {
        [&self.rig.namespace, &self.elsewhere]
    }

    /// Asks for a look at every Channel, and waits until each has had it and nothing is under way.
    fn looked(&self, value: &str) {
        let (asked, handled) =
            (format!("{LOOK}={value}"), format!("jsonpath={{.status.lastHandledReconcileAt}}={value}"));
        let wait = ["wait", "channels.ohallo.eu", "--all", "--timeout=180s"];
        for namespace in self.namespaces() {
            self.rig.kubectl_ok(
                &["-n", namespace, "annotate", "channels.ohallo.eu", "--all", "--overwrite", &asked],
                "",
            );
        }
        for namespace in self.namespaces() {
            let until = |what: &str| {
                self.rig.kubectl_ok(&[&["-n", namespace][..], &wait, &["--for", what]].concat(), "")
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
        let faults = faults.map(|fault| self.rig.sim.add_fault(fault));
        let explodes = json!([{"secretRef": {"name": "explodes"}}]);
        self.rig.edit("panics", json!({"spec": {"credentials": explodes}})).await;
        let asked = format!("{LOOK}=poisoned-{round}");
        for namespace in self.namespaces() {
            self.rig.kubectl_ok(
                &["-n", namespace, "annotate", "channels.ohallo.eu", "--all", "--overwrite", &asked],
                "",
            );
        }
        self.rig.reason("panics", "InternalError").await;
        // Of the key that hangs, all calls that it may have under way in one namespace.
        let least = |number: usize| if number == 0 { 9 } else { 1 };
        let met = |sim: &Sim, fault: FaultId| {
            sim.ledger().iter().filter(|entry| entry.fault == Some(fault)).count()
        };
        let all =
            |sim: &Sim| faults.iter().enumerate().all(|(number, fault)| met(sim, *fault) >= least(number));
        self.rig.sim.wait_until(all, PATIENCE).await.unwrap();
    }

    async fn heal(&self, round: usize) {
        self.rig.sim.clear_faults();
        self.rig.edit("panics", json!({"spec": {"credentials": []}})).await;
        self.looked(&format!("healed-{round}"));
    }

    /// How long the slowest of some new Channels takes from apply to Ready, in milliseconds.
    async fn slowest(&self, name: &str) -> u64 {
        let mut slowest = 0;
        for number in 0..TIMED {
            let from = self.rig.sim.elapsed_ms();
            self.rig.ready(&format!("{name}-{number}"), json!({})).await;
            slowest = slowest.max(self.rig.sim.elapsed_ms() - from);
        }
        slowest
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f06_f07_f39_beside_poisoned_channels_keys_and_namespaces_healthy_channels_are_ready_as_soon() {
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
    assert_eq!(poisoned.rig.count(Operation::CreateChannel), creates);
    poisoned.rig.sim.clear_faults();
    poisoned.rig.finish().await;
}
