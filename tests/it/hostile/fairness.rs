//! I22: what one namespace does costs another at most twice the latency that it has while the same objects are suspended.

use std::time::Duration;

use futures::{TryStreamExt, stream};
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use ohallo_core::api::channel::Channel;
use ohallo_sim::{Action, Config, Fault, Key, NewChannel, Sim};
use serde_json::{Value, json};

use crate::support::canary;
use crate::support::harness::{Harness, TENANT, WAIT_TIMEOUT, WORKSPACE, condition};

/// How many Channels of the healthy namespace are timed; with so few the 99th percentile is the slowest.
const TIMED: usize = 30;
/// A new Channel of the healthy namespace each so often: with two namespaces its share of the rate is 5 calls a second.
const PACE: Duration = Duration::from_millis(250);
/// What a busy machine may add to any of them, in milliseconds.
const NOISE: u64 = 150;
/// Requests of the test under way at a time.
const DRIVERS: usize = 16;
/// A machine that is busy for a moment is no reason to fail.
const ROUNDS: usize = 3;

/// A healthy namespace, that of the harness, and a hostile one.
struct Tenants {
    harness: Harness,
    hostile: String,
}

// === impl Tenants ===

impl Tenants {
    async fn start(flags: &[&str]) -> Self {
        let mut harness = Harness::bare(Config::default(), flags).await;
        let hostile = format!("{}-hostile", harness.namespace);
        harness.flag(format!("--namespace={hostile}"));
        harness.begin().await;
        let tenants = Self { harness, hostile };
        tenants.harness.kubectl_ok(&["create", "namespace", &tenants.hostile], "");
        tenants
    }

    fn apply(&self, objects: &[Value]) {
        self.harness.apply_in(&self.hostile, objects);
    }

    /// A Workspace of the hostile namespace under this key.
    async fn workspace(&self, name: &str, key: &str) {
        let secret = format!("key-{name}");
        self.apply(&[
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret}, "stringData": {"apiKey": key}}),
            json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "Workspace", "metadata": {"name": name},
                   "spec": {"workspaceId": WORKSPACE, "apiKeySecretRef": {"name": secret}}}),
        ]);
        let ready = format!("workspace/{name}");
        self.harness
            .kubectl_ok(&["-n", &self.hostile, "wait", &ready, "--for=condition=Ready", "--timeout=60s"], "");
    }

    fn channels(&self) -> Api<Channel> {
        Api::namespaced(self.harness.admin.clone(), &self.hostile)
    }

    /// Suspended Channels of the hostile namespace, one for each id.
    async fn suspended(&self, prefix: &str, workspace: &str, ids: &[String]) {
        let api = self.channels();
        let create = |(number, id): (usize, &String)| {
            let name = format!("{prefix}-{number}");
            let place = json!({"kind": "Workspace", "name": workspace});
            let spec = json!({"channelType": "chat", "channelId": id, "displayName": name, "workspaceRef": place,
                              "suspend": true});
            let object = json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel", "metadata": {"name": name},
                                "spec": spec});
            let channel: Channel = serde_json::from_value(object).unwrap();
            let api = api.clone();
            async move { api.create(&PostParams::default(), &channel).await.map(drop) }
        };
        let all = stream::iter(ids.iter().enumerate().map(|one| Ok(create(one))));
        all.try_buffer_unordered(DRIVERS).try_collect::<Vec<()>>().await.unwrap();
        self.all_suspended().await;
    }

    async fn all_suspended(&self) {
        let suspended = async {
            loop {
                let all = self.channels().list(&ListParams::default()).await.unwrap().items;
                if all.iter().all(|channel| condition(channel, "Suspended").is_some()) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        tokio::time::timeout(5 * WAIT_TIMEOUT, suspended).await.expect("they are suspended");
    }

    /// Suspends or resumes all Channels of the hostile namespace.
    async fn suspend(&self, suspend: bool) {
        let api = self.channels();
        let patch = Patch::Merge(json!({"spec": {"suspend": suspend}}));
        let all = api.list_metadata(&ListParams::default()).await.unwrap().items;
        let resume = |name: String| {
            let (api, patch) = (api.clone(), &patch);
            async move { api.patch(&name, &PatchParams::default(), patch).await.map(drop) }
        };
        let all = stream::iter(all.iter().map(|channel| Ok(resume(channel.name_any()))));
        all.try_buffer_unordered(DRIVERS).try_collect::<Vec<()>>().await.unwrap();
        if suspend {
            self.all_suspended().await;
        }
    }

    /// How long the slowest of some new Channels of the healthy namespace takes from create to Ready, in milliseconds.
    async fn slowest(&self, name: &str) -> u64 {
        let mut slowest = 0;
        for number in 0..TIMED {
            let from = self.harness.sim.elapsed_ms();
            let next = tokio::time::Instant::now() + PACE;
            self.harness.ready(&format!("{name}-{number}"), json!({})).await;
            let took = self.harness.sim.elapsed_ms() - from;
            eprintln!("{name}-{number}: {took} ms");
            slowest = slowest.max(took);
            tokio::time::sleep_until(next).await;
        }
        slowest
    }

    /// Times the healthy namespace beside the hostile objects, suspended and at work. `under_way` waits for the attack.
    async fn compare(&self, what: &str, under_way: impl AsyncFn(&Self)) {
        let mut rounds = Vec::new();
        for round in 0..ROUNDS {
            eprintln!("{what}: round {round} begins after {} ms", self.harness.sim.elapsed_ms());
            let quiet = self.slowest(&format!("quiet-{round}")).await;
            self.suspend(false).await;
            under_way(self).await;
            let beside = self.slowest(&format!("beside-{round}")).await;
            rounds.push((quiet, beside));
            if beside <= 2 * quiet + NOISE {
                break;
            }
            self.suspend(true).await;
        }
        let ratio = rounds.last().map_or(0.0, |(quiet, beside)| *beside as f64 / *quiet as f64);
        eprintln!("{what}: the slowest of {TIMED} in ms, suspended and beside: {rounds:?}, ratio {ratio:.2}");
        assert!(rounds.last().is_some_and(|(quiet, beside)| *beside <= 2 * quiet + NOISE), "{rounds:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f59_a_healthy_namespace_is_as_fast_during_a_burst_of_requests_under_a_shared_key() {
    let tenants = Tenants::start(&["--requests-per-second=10"]).await;
    tenants.workspace("shared", &tenants.harness.key).await;
    let ids: Vec<_> = (0..400)
        .map(|number| {
            tenants.harness.sim.insert_channel(NewChannel::new(WORKSPACE, "chat", &format!("h{number}")))
        })
        .collect();
    tenants.suspended("burst", "shared", &ids).await;
    let before = tenants.harness.sim.ledger().len();
    tenants
        .compare("400 requests under a shared key", async |tenants| {
            let under_way = |sim: &Sim| sim.ledger().len() >= before + TIMED + 20;
            tenants.harness.sim.wait_until(under_way, WAIT_TIMEOUT).await.unwrap();
        })
        .await;
    let done = ids
        .iter()
        .filter(|id| tenants.harness.sim.ledger().iter().any(|entry| entry.path.contains(id.as_str())));
    let done = done.count();
    assert!(done < 400, "the burst was over before the last Channel was timed");
    tenants.harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f60_a_healthy_namespace_is_as_fast_while_a_tenant_has_two_slow_keys() {
    let tenants = Tenants::start(&[]).await;
    let keys = ["sf_test_v1_slow_key_one_of_the_hostile", "sf_test_v1_slow_key_two_of_the_hostile"];
    for (number, key) in keys.into_iter().enumerate() {
        canary::register(key);
        tenants.harness.sim.add_key(Key::new(key, TENANT));
        tenants.workspace(&format!("slow-{number}"), key).await;
        let ids: Vec<_> = (0..20)
            .map(|n| {
                let new = NewChannel::new(WORKSPACE, "chat", &format!("slow-{number}-{n}"));
                tenants.harness.sim.insert_channel(new)
            })
            .collect();
        tenants.suspended(&format!("slow-{number}"), &format!("slow-{number}"), &ids).await;
    }
    let hang = |key| tenants.harness.sim.add_fault(Fault::any(Action::Hang { commit: false }).key(key));
    let hangs = keys.map(hang);
    tenants
        .compare("two slow keys of one tenant", async |tenants| {
            // All that a namespace may have under way.
            let hanging = |sim: &Sim| {
                let calls = sim.ledger();
                let hangs =
                    calls.iter().filter(|call| call.fault.is_some_and(|fault| hangs.contains(&fault)));
                hangs.filter(|call| call.ended_ms.is_none()).count()
            };
            tenants.harness.sim.wait_until(|sim| hanging(sim) >= 12, WAIT_TIMEOUT).await.unwrap();
        })
        .await;
    tenants.harness.sim.clear_faults();
    tenants.harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f61_a_healthy_namespace_is_as_fast_while_thousands_of_objects_name_one_id() {
    let count = std::env::var("OHALLO_TEST_ONE_ID").ok().and_then(|count| count.parse().ok()).unwrap_or(300);
    let tenants = Tenants::start(&["--requests-per-second=10"]).await;
    let key = "sf_test_v1_key_of_the_hostile_namespace";
    canary::register(key);
    tenants.harness.sim.add_key(Key::new(key, TENANT));
    tenants.workspace("default", key).await;
    let id = tenants.harness.sim.insert_channel(NewChannel::new(WORKSPACE, "chat", "one"));
    tenants.suspended("one", "default", &vec![id; count]).await;
    tenants.compare(&format!("{count} objects on one id"), async |_| {}).await;
    tenants.harness.finish().await;
}
