//! Many creates at once: no reconcile starts before it can run, and no event is lost.

use std::time::Duration;

use futures::{TryStreamExt, stream};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams, PostParams};
use ohallo_client::clock;
use ohallo_core::api::channel::Channel;
use ohallo_sim::{Action, Config, Fault, Key, Operation};
use serde_json::{Value, json};

use crate::operator::metrics::samples;
use crate::support::canary;
use crate::support::harness::{Harness, TENANT, WORKSPACE, condition};
use crate::support::workspaces::put_key;

const MANY: usize = 1000;
/// Requests of the test under way at a time.
const DRIVERS: usize = 16;
/// Only a failing test waits so long; a thousand of anything takes a while beside all other tests.
const WAIT_TIMEOUT: Duration = Duration::from_secs(400);

async fn create_many(api: &Api<Channel>, count: usize, spec: impl Fn(usize) -> Value) {
    let create = |number: usize| {
        let mut object = json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel",
                                "metadata": {"name": format!("c{number}")}, "spec": spec(number)});
        object["spec"]["channelType"] = "chat".into();
        object["spec"]["displayName"] = format!("Channel {number}").into();
        let channel: Channel = serde_json::from_value(object).unwrap();
        async move { api.create(&PostParams::default(), &channel).await.map(drop) }
    };
    let all = stream::iter((0..count).map(|number| Ok(create(number))));
    all.try_buffer_unordered(DRIVERS).try_collect::<Vec<()>>().await.unwrap();
}

async fn all_ready(api: &Api<Channel>, count: usize) {
    let ready = async {
        loop {
            let all = api.list(&ListParams::default()).await.unwrap().items;
            let is_ready = |channel: &&Channel| condition(channel, "Ready").is_some_and(|it| it.1 == "True");
            if all.iter().filter(is_ready).count() == count {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT, ready).await.expect("all are Ready");
}

/// The sum of the series that begin so.
async fn sum(harness: &Harness, series: &str) -> f64 {
    samples(harness).await.iter().filter(|(name, _)| name.starts_with(series)).map(|(_, value)| value).sum()
}

const DEFERRED: &str = "ohallo_reconcile_deferred_total";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_creates_without_a_rate_limit_defer_no_reconcile_and_lose_no_event() {
    let harness = Harness::with(Config::default(), &["--requests-per-second=0"]).await;
    create_many(&harness.channels(), MANY, |_| json!({"intervalSeconds": 86400})).await;
    all_ready(&harness.channels(), MANY).await;
    assert_eq!(sum(&harness, DEFERRED).await, 0.0, "{:?}", samples(&harness).await);
    let events: Api<Event> = Api::namespaced(harness.admin.clone(), &harness.namespace);
    let published = async {
        loop {
            let all = events.list(&ListParams::default()).await.unwrap().items;
            let created = all.iter().filter(|event| event.reason.as_deref() == Some("Created")).count();
            if created >= MANY {
                break created;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let created = tokio::time::timeout(WAIT_TIMEOUT, published).await;
    let metrics = samples(&harness).await;
    let left = (metrics["ohallo_events_dropped_total"], metrics["ohallo_queue_depth{queue=\"events\"}"]);
    assert_eq!((created.ok(), left), (Some(MANY), (0.0, 0.0)));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_creates_that_wait_for_the_rate_limit_start_once() {
    let harness = Harness::with(Config::default(), &["--requests-per-second=50"]).await;
    harness.secret("provider", &[("apiKey", "provider-key-0123456789")]).await;
    let credentials = json!([{"secretRef": {"name": "provider"}}]);
    create_many(&harness.channels(), MANY, |number| match number % 4 {
        0 => json!({"intervalSeconds": 86400, "credentials": credentials}),
        _ => json!({"intervalSeconds": 86400}),
    })
    .await;
    all_ready(&harness.channels(), MANY).await;
    let deferred = sum(&harness, DEFERRED).await;
    let reconciles = sum(&harness, "ohallo_reconcile_total{kind=\"Channel\"").await;
    eprintln!("{deferred} of {reconciles} reconciles were deferred");
    assert!(deferred <= 10.0, "{deferred} of {reconciles} reconciles were deferred");
    assert!(reconciles <= 1.1 * MANY as f64 + deferred, "{reconciles}");
    harness.finish().await;
}

/// The Workspace is checked while its Channels wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_wait_in_the_queue_until_their_key_is_checked() {
    let harness = Harness::with(Config::default(), &["--requests-per-second=0"]).await;
    let key = "sf_test_v1_key_that_is_checked_late";
    canary::register(key);
    harness.sim.add_key(Key::new(key, TENANT));
    put_key(&harness, "late", key).await;
    let hold = Fault::on(Operation::GetWorkspace, Action::Hold { commit_first: true }).key(key).times(1);
    let hold = harness.sim.add_fault(hold);
    harness.workspace("late", "late").await;
    harness.sim.held(hold).await.unwrap();
    create_many(&harness.channels(), 20, |_| json!({"workspaceRef": {"name": "late"}})).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = sum(&harness, "ohallo_reconcile_total{kind=\"Channel\"").await;
    harness.sim.release(hold);
    all_ready(&harness.channels(), 20).await;
    assert_eq!((before, sum(&harness, DEFERRED).await), (0.0, 0.0));
    harness.finish().await;
}

/// How many Channels the other namespace creates.
fn burst() -> usize {
    std::env::var("OHALLO_TEST_EVENT_BURST").ok().and_then(|count| count.parse().ok()).unwrap_or(1000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warning_of_a_quiet_namespace_beside_a_burst_is_out_within_five_seconds() {
    let mut harness = Harness::bare(Config::default(), &["--requests-per-second=0"]).await;
    let busy = format!("{}-busy", harness.namespace);
    harness.flag(format!("--namespace={busy}"));
    harness.begin().await;
    harness.kubectl_ok(&["create", "namespace", &busy], "");
    let key = "sf_test_v1_key_of_the_busy_namespace";
    canary::register(key);
    harness.sim.add_key(Key::new(key, TENANT));
    let api = ("ohallo.eu/v1alpha1", "Workspace");
    harness.apply_in(
        &busy,
        &[
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": {"apiKey": key}}),
            json!({"apiVersion": api.0, "kind": api.1, "metadata": {"name": "default"},
                   "spec": {"workspaceId": WORKSPACE, "apiKeySecretRef": {"name": "key"}}}),
        ],
    );
    let refused = Fault::on(Operation::CreateChannel, Action::status(422)).key(&harness.key);
    harness.sim.add_fault(refused);
    let others: Api<Channel> = Api::namespaced(harness.admin.clone(), &busy);
    let (all, creating) = (burst(), others.clone());
    let creates =
        tokio::spawn(async move { create_many(&creating, all, |_| json!({"intervalSeconds": 86400})).await });
    let mut waited = Vec::new();
    for number in 0..3 {
        let under_way = |sim: &ohallo_sim::Sim| sim.count(Operation::CreateChannel) > all * (number + 1) / 5;
        harness.sim.wait_until(under_way, WAIT_TIMEOUT).await.unwrap();
        let name = format!("quiet-{number}");
        harness.create(&name, json!({})).await;
        harness.reason(&name, "ValidationFailed").await;
        let from = clock::instant();
        harness.event(&name, "ValidationFailed").await;
        waited.push(clock::instant() - from);
    }
    eprintln!(
        "Warnings beside a burst of {all}: {waited:?}; {:?}",
        sum(&harness, "ohallo_events_dropped").await
    );
    assert!(waited.iter().all(|waited| *waited < Duration::from_secs(5)), "{waited:?}");
    creates.await.unwrap();
    all_ready(&others, all).await;
    harness.finish().await;
}
