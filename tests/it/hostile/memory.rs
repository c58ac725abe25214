//! I12, I21, I27: what tenants write costs no more memory than the chart grants, at run time and after a restart.
//!
//! `OHALLO_TEST_TENANT_OBJECTS` is the number of hostile objects in each test; a fifth as many Channels are healthy.

use std::future::Future;

use futures::StreamExt;
use kube::api::{Api, PostParams};
use ohallo_core::api::GROUP;
use ohallo_core::api::channel::Channel;
use ohallo_core::api::workspace::Workspace;
use ohallo_sim::{Action, Config, Fault, Key, Operation};
use serde_json::{Value, json};

use crate::support::cgroup::Cgroup;
use crate::support::harness::{Harness, TENANT, WAIT_TIMEOUT, WORKSPACE, id_of};
use crate::support::program::Program;
use crate::support::steps::RECONCILE_REQUESTED;

/// The most that may be resident, in KiB.
const MOST: u64 = 96 * 1024;

/// What each hostile object may add to the peak, in KiB, beside what a test allows for those at work.
const EACH: u64 = 12;

/// How many requests make objects at a time.
const AT_ONCE: usize = 8;

fn objects() -> usize {
    std::env::var("OHALLO_TEST_TENANT_OBJECTS").map_or(50, |text| text.parse().unwrap())
}

/// The built operator under the chart's limit.
struct Confined {
    program: Program,
    cgroup: Option<Cgroup>,
    begun: std::time::Instant,
    /// Its peak before anything hostile, in KiB.
    before: u64,
}

// === impl Confined ===

impl Confined {
    fn start(harness: &Harness) -> Self {
        let flags = [
            format!("--api-url={}", harness.sim.url()),
            format!("--namespace={}", harness.namespace),
            "--requests-per-second=0".to_owned(),
            "--consistency-window-seconds=5".to_owned(),
        ];
        let cgroup = Cgroup::new();
        let direct = harness.plane.kubeconfig(harness.user);
        let kubeconfig = harness.proxy.as_ref().map_or(direct.as_path(), |proxy| proxy.kubeconfig());
        let program = Program::logging(kubeconfig, "info", &flags);
        if let Some(cgroup) = &cgroup {
            cgroup.take(program.id());
        }
        Self { program, cgroup, begun: ohallo_client::clock::instant(), before: 0 }
    }

    /// Serves a newcomer, within its memory limit. Its peak, in KiB.
    async fn serves(&self, harness: &Harness, name: &str, what: &str) -> u64 {
        harness.ready(name, json!({"config": {"greeting": "Hello"}})).await;
        let peak = self.bounded(what);
        let seconds = self.begun.elapsed().as_secs();
        eprintln!("{what}: peak {peak} KiB resident, {seconds} s");
        peak
    }

    /// Near its limit it may also hang, without being killed.
    fn bounded(&self, what: &str) -> u64 {
        let killed = self.cgroup.as_ref().map_or(0, Cgroup::killed);
        assert_eq!(killed, 0, "{what}: the kernel killed the operator");
        let peak = self.program.peak_memory_kib();
        assert!(peak < MOST, "{what}: {peak} KiB were resident");
        peak
    }

    async fn cache(&self, cache: &str) -> f64 {
        self.metric(&format!("ohallo_cache_entries{{cache=\"{cache}\"}} ")).await
    }

    /// The sum of all series that begin so.
    async fn metric(&self, series: &str) -> f64 {
        let (_, text) = self.program.get("/metrics").await.unwrap();
        let values = text.lines().filter(|line| line.starts_with(series));
        values.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }
}

/// A namespace with a verified Workspace and healthy Channels.
async fn healthy() -> (Harness, Confined) {
    healthy_in(Harness::bare(Config::default(), &[]).await).await
}

async fn healthy_in(harness: Harness) -> (Harness, Confined) {
    harness
        .put_secret(json!({"metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": harness.key}}))
        .await;
    harness.workspace("default", "ohallo-api-key").await;
    let mut confined = Confined::start(&harness);
    harness.workspace_reason("default", "Verified").await;
    let config = json!({"greeting": "Hello", "hours": {"from": "08:00", "to": "18:00"}});
    many(objects() / 5, |number| create(&harness, format!("healthy-{number}"), json!({"config": config})))
        .await;
    all(&harness, &confined, "healthy-", "Available").await;
    confined.before = confined.serves(&harness, "first", "healthy Channels").await;
    (harness, confined)
}

async fn many<F: Future<Output = ()>>(count: usize, make: impl Fn(usize) -> F) {
    futures::stream::iter(0..count).map(make).buffer_unordered(AT_ONCE).collect::<()>().await;
}

async fn create(harness: &Harness, name: String, spec: Value) {
    put(harness, harness.manifest(&name, spec)).await;
}

async fn put(harness: &Harness, manifest: Value) {
    let channel: Channel = serde_json::from_value(manifest).unwrap();
    harness.channels().create(&PostParams::default(), &channel).await.unwrap();
}

/// Name and reason of every Channel: a table without the objects, which are no output to read by thousands.
async fn reasons(harness: &Harness) -> Vec<(String, String)> {
    let path = format!("/apis/{GROUP}/v1alpha1/namespaces/{}/channels?includeObject=None", harness.namespace);
    let request = http::Request::get(path).header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    let table: Value = harness.admin.request(request.body(Vec::new()).unwrap()).await.unwrap();
    let text = |row: &Value, column: usize| row["cells"][column].as_str().unwrap_or_default().to_owned();
    table["rows"].as_array().unwrap().iter().map(|row| (text(row, 0), text(row, 2))).collect()
}

/// Waits until every Channel whose name begins so has this reason.
async fn all(harness: &Harness, confined: &Confined, prefix: &str, reason: &str) {
    let deadline = ohallo_client::clock::instant() + WAIT_TIMEOUT * 20;
    loop {
        let all = reasons(harness).await;
        let missing = all.iter().filter(|(name, found)| name.starts_with(prefix) && found != reason);
        let missing: Vec<_> = missing.take(3).collect();
        if missing.is_empty() {
            return;
        }
        confined.bounded(prefix);
        assert!(ohallo_client::clock::instant() < deadline, "not {reason}: {missing:?}");
        tokio::time::sleep(std::time::Duration::from_millis(500 + objects() as u64)).await;
    }
}

/// Both at run time and after a restart. `at_work`: what objects at work may add to the peak, in KiB.
async fn holds(harness: &Harness, confined: Confined, what: &str, at_work: u64) -> Confined {
    let most = confined.before + at_work + EACH * objects() as u64;
    let bounded = |peak: u64| assert!(peak < most, "{what}: {peak} KiB of {most} KiB were resident");
    bounded(confined.serves(harness, "while", what).await);
    let before = confined.before;
    drop(confined);
    let confined = Confined { before, ..Confined::start(harness) };
    confined.program.until("/readyz", 200, "channels: ok").await;
    confined.serves(harness, "after", &format!("{what}, after a restart")).await;
    all(harness, &confined, "healthy-", "Available").await;
    bounded(confined.serves(harness, "last", &format!("{what}, settled")).await);
    confined
}

/// Small objects: the text of which takes most memory once it is decoded.
fn wide(bytes: usize) -> Value {
    json!({"a": vec![json!({"": 0}); bytes / 8]})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f53_huge_and_wide_configs_one_and_many_cost_a_bounded_memory() {
    let (harness, confined) = healthy().await;
    create(&harness, "huge".into(), json!({"config": {"a": "x".repeat(1_400_000)}})).await;
    create(&harness, "wide".into(), json!({"config": wide(400_000)})).await;
    harness.reason("huge", "ValidationFailed").await;
    harness.reason("wide", "ValidationFailed").await;
    let peak = confined.serves(&harness, "beside", "one huge and one wide config").await;
    assert!(peak < confined.before + 8 * 1024, "{peak} KiB for one huge and one wide config");
    let fits = wide(20_000);
    many(objects(), |number| {
        let (name, config) = match number % 50 {
            0 => ("refused-huge", json!({"a": "x".repeat(1_400_000)})),
            1..=4 => ("refused-wide", wide(60_000)),
            5..=14 => ("large-text", json!({"a": "x".repeat(60_000)})),
            15..=19 => ("large-wide", fits.clone()),
            _ => ("large-usual", json!({"a": "x".repeat(12_000)})),
        };
        create(&harness, format!("{name}-{number}"), json!({ "config": config }))
    })
    .await;
    all(&harness, &confined, "refused-", "ValidationFailed").await;
    all(&harness, &confined, "large-", "Available").await;
    let sent = harness
        .sim
        .channels()
        .into_iter()
        .filter(|channel| channel.config == fits.as_object().cloned())
        .count();
    assert_eq!(sent, objects().div_ceil(50) * 5, "what was left out of the cache is sent all the same");
    let confined = holds(&harness, confined, "many huge and wide configs", 24 * 1024).await;
    // What was left out is read before anything is decided: an edit keeps the rest of the config.
    let name = format!("large-wide-{}", 15);
    harness.edit(&name, json!({"spec": {"config": {"b": "added"}}})).await;
    harness
        .eventually("the edit", || async {
            let edited = |config: &serde_json::Map<String, Value>| {
                config.get("b") == Some(&json!("added")) && config.get("a") == fits.get("a")
            };
            harness
                .sim
                .channels()
                .iter()
                .any(|channel| channel.config.as_ref().is_some_and(edited))
                .then_some(())
        })
        .await;
    assert_eq!(harness.count(Operation::DeleteChannel), 0);
    drop(confined);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f54_huge_and_wide_answers_one_and_many_cost_a_bounded_memory() {
    let (harness, confined) = healthy().await;
    let body = |id: &str, config: Value| {
        let channel = json!({"id": id, "workspaceId": WORKSPACE, "channelType": "chat", "displayName": "A", "status": "active", "config": config});
        Action::Body {
            code: 200,
            body: channel.to_string(),
            content_type: "application/json".into(),
            commit: false,
        }
    };
    let mut names = Vec::new();
    for number in 0..objects().min(200) {
        names.push(format!("answered-{number}"));
    }
    many(names.len(), |number| {
        create(&harness, format!("answered-{number}"), json!({"displayName": "A", "suspend": false}))
    })
    .await;
    all(&harness, &confined, "answered-", "Available").await;
    for (number, name) in names.iter().enumerate() {
        let id = id_of(&harness.get(name).await);
        let config = match number % 4 {
            0 => json!({"a": "x".repeat(1_000_000)}),
            1 => wide(1_000_000),
            2 => wide(30_000),
            _ => json!({"a": vec![json!(0); 400_000]}),
        };
        harness.sim.add_fault(Fault::on(Operation::GetChannel, body(&id, config)).channel(&id));
    }
    harness.annotate(&names[0], RECONCILE_REQUESTED, "one").await;
    harness.until(&names[0], "reconciled", |channel| reconcile_now(channel, "one")).await;
    many(names.len(), |number| {
        let (harness, name) = (&harness, &names[number]);
        async move { harness.annotate(name, RECONCILE_REQUESTED, "many").await }
    })
    .await;
    for name in &names {
        harness.until(name, "reconciled", |channel| reconcile_now(channel, "many") || !ready(channel)).await;
    }
    let confined = holds(&harness, confined, "many huge and wide answers", 10 * 1024).await;
    drop(confined);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f53_a_relist_after_410_holds_no_object_twice() {
    let mut harness = Harness::bare(Config::default(), &[]).await;
    harness.put_proxy().await;
    let (harness, confined) = healthy_in(harness).await;
    let count = objects().max(2000);
    let config = json!({"greeting": "x".repeat(400), "hours": {"from": "08:00", "to": "18:00"}});
    let spec = json!({"suspend": true, "config": config});
    many(count, |number| create(&harness, format!("listed-{number}"), spec.clone())).await;
    harness
        .eventually("listed", || async { (confined.cache("manifests").await > count as f64).then_some(()) })
        .await;
    confined.serves(&harness, "before", "thousands of usual Channels").await;
    let resident = confined.program.forget_peak_memory();
    let restarts = "ohallo_watch_restarts_total{kind=\"channels\"} ";
    let before = confined.metric(restarts).await;
    assert_eq!(harness.proxy().expire_watches("channels"), 1);
    // Served only once the list is complete.
    confined.serves(&harness, "relisted", "a relist of them").await;
    assert!(confined.metric(restarts).await > before, "nothing was listed again");
    let more = confined.program.peak_memory_kib() - resident;
    eprintln!("a relist of {count}: {more} KiB more resident, of {resident}");
    // Beside the store a list of them takes 2.5 KiB for each.
    assert!(more < 2 * count as u64, "{more} KiB for a relist of {count}");
    drop(confined);
    harness.finish().await;
}

fn ready(channel: &Channel) -> bool {
    crate::support::steps::state_of(channel, "Ready").is_some_and(|(status, _)| status == "True")
}

fn reconcile_now(channel: &Channel, value: &str) -> bool {
    channel.status.as_ref().and_then(|status| status.last_handled_reconcile_at.as_deref()) == Some(value)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f55_many_and_huge_secrets_named_and_foreign_cost_a_bounded_memory() {
    let (harness, confined) = healthy().await;
    let secret = |name: String, bytes: usize| {
        let data = json!({"a": "value", "b": "x".repeat(bytes)});
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})
    };
    let api = harness.secrets();
    let channels = objects().div_ceil(10).max(20);
    many(objects(), |number| {
        let bytes = if number.is_multiple_of(25) { 900_000 } else { 30_000 };
        let object = serde_json::from_value(secret(format!("s-{number}"), bytes)).unwrap();
        let api = api.clone();
        async move { drop(api.create(&PostParams::default(), &object).await.unwrap()) }
    })
    .await;
    many(channels, |number| {
        let sources: Vec<_> = (0..32)
            .map(|k| json!({"name": format!("k{k}"), "secretKeyRef": {"name": format!("s-{}", (number * 7 + k * 2) % objects()), "key": "a"}}))
            .collect();
        create(&harness, format!("named-{number}"), json!({ "credentials": sources }))
    })
    .await;
    // Those that name a huge one report it; all others are served.
    let settled = |channel: &Channel| {
        crate::support::steps::state_of(channel, "CredentialsApplied").is_some() || !ready(channel)
    };
    for number in (0..channels).step_by(channels.div_ceil(50)) {
        harness.until(&format!("named-{number}"), "settled", settled).await;
    }
    harness.reason("named-0", "SecretInvalid").await;
    let confined = holds(&harness, confined, "many and huge Secrets", 8 * 1024).await;
    drop(confined);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f56_huge_foreign_metadata_at_a_list_costs_a_bounded_memory_and_is_kept() {
    let (harness, confined) = healthy().await;
    let huge = |number: usize| {
        let mut manifest = harness.manifest(&format!("meta-{number}"), json!({}));
        let labels: serde_json::Map<_, _> =
            (0..200).map(|k| (format!("example.com/{k:050}"), json!("v".repeat(60)))).collect();
        let finalizers: Vec<_> = (0..300).map(|k| format!("example.com/{number}-{k:040}")).collect();
        manifest["metadata"]["annotations"] = json!({"example.com/a": "x".repeat(if number.is_multiple_of(10) { 200_000 } else { 2_000 }), "ohallo.eu/test-requested-at": "é".repeat(10_000)});
        // Some only: of labels the API server takes a hundred times the memory that the operator does.
        if number.is_multiple_of(10) {
            manifest["metadata"]["labels"] = labels.into();
        }
        manifest["metadata"]["finalizers"] = finalizers.into();
        manifest
    };
    many(objects(), |number| put(&harness, huge(number))).await;
    let workspaces: Api<Workspace> = Api::namespaced(harness.admin.clone(), &harness.namespace);
    many(objects() / 5, |number| {
        let mut manifest = huge(number);
        manifest["kind"] = "Workspace".into();
        manifest["spec"] = json!({"workspaceId": WORKSPACE, "apiKeySecretRef": {"name": "ohallo-api-key"}});
        let workspace: Workspace = serde_json::from_value(manifest).unwrap();
        let workspaces = workspaces.clone();
        async move { drop(workspaces.create(&PostParams::default(), &workspace).await.unwrap()) }
    })
    .await;
    all(&harness, &confined, "meta-", "Available").await;
    harness.workspace_reason(&format!("meta-{}", objects() / 5 - 1), "Verified").await;
    // No object waits for another, however much there is of it.
    let reconciles = confined.metric("ohallo_reconcile_total{").await;
    eprintln!("{reconciles} reconciles");
    assert!(reconciles <= 3.0 * (objects() + objects() / 5) as f64, "{reconciles} reconciles");
    // The finalizers of others are all there still, with the operator's own.
    let channel = harness.get("meta-0").await;
    assert_eq!(channel.metadata.finalizers.as_ref().map(Vec::len), Some(301));
    assert_eq!(channel.metadata.labels.as_ref().map(|labels| labels.len()), Some(200));
    let confined = holds(&harness, confined, "huge labels, annotations and finalizers", 6 * 1024).await;
    harness.delete("meta-0").await;
    harness
        .until("meta-0", "without the own finalizer", |channel| {
            channel.metadata.finalizers.as_ref().is_some_and(|all| all.len() == 300)
        })
        .await;
    let none = json!({"metadata": {"finalizers": null}});
    // Of thousands the end of their control plane is the end.
    let kept = if objects() < 1000 { objects() } else { 1 };
    many(kept, |number| {
        let (harness, none) = (&harness, &none);
        async move {
            let name = format!("meta-{number}");
            if number == 0 {
                drop(harness.edit(&name, none.clone()).await);
            } else {
                drop(harness.edit(&name, json!({"metadata": {"finalizers": ["ohallo.eu/channel"]}})).await);
            }
        }
    })
    .await;
    drop(confined);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f57_f58_keys_names_and_objects_that_come_and_go_leave_nothing_behind() {
    let (harness, confined) = healthy().await;
    const CACHES: [&str; 8] =
        ["channels", "workspaces", "keys", "manifests", "secrets", "rechecks", "rates", "writes"];
    let sizes = async || {
        let mut all = Vec::new();
        for cache in CACHES {
            all.push((cache, confined.cache(cache).await));
        }
        all
    };
    let before = sizes().await;
    // A day in fast motion: a round for each hour.
    let rounds = if objects() < 1000 { 3 } else { 24 };
    let count = objects().div_ceil(rounds);
    let mut resident = Vec::new();
    for round in 0..rounds {
        many(count, |number| {
            let sources: Vec<_> = (0..32)
                .map(|k| json!({"secretRef": {"name": format!("{round}-{:0230}", number * 100 + k)}}))
                .collect();
            create(&harness, format!("absent-{round}-{number}"), json!({ "credentials": sources }))
        })
        .await;
        let names: Vec<_> = (0..5).map(|number| format!("w-{round}-{number}")).collect();
        for rotation in ["first", "second"] {
            for name in &names {
                let key = format!("sf_test_v1_{rotation}_key_of_{name}");
                harness.sim.add_key(Key::new(&key, TENANT));
                harness.put_secret(json!({"metadata": {"name": name}, "stringData": {"apiKey": key}})).await;
                if rotation == "first" {
                    harness.workspace(name, name).await;
                    create(&harness, format!("of-{name}"), json!({"workspaceRef": {"name": name}})).await;
                }
            }
            for name in &names {
                harness.annotate(&format!("of-{name}"), RECONCILE_REQUESTED, rotation).await;
                let seen = |channel: &Channel| ready(channel) && reconcile_now(channel, rotation);
                harness.until(&format!("of-{name}"), "read with its key", seen).await;
            }
        }
        all(&harness, &confined, &format!("absent-{round}-"), "SecretNotFound").await;
        confined.serves(&harness, &format!("round-{round}"), "names of absent Secrets").await;
        let grown = sizes().await;
        assert!(grown[4].1 >= 32.0 * count as f64, "names are not remembered: {grown:?}");
        assert!(grown[6].1 > before[6].1, "rates are not remembered: {grown:?}");
        assert!(grown[7].1 > 0.0, "writes are not remembered: {grown:?}");
        let workspaces: Vec<_> = names.iter().map(|name| format!("workspace/{name}")).collect();
        let workspaces: Vec<_> = workspaces.iter().map(String::as_str).collect();
        for what in [&["channels", "--all"][..], &workspaces] {
            let deleted = harness.kubectl(&[&["delete", "--wait=false"][..], what].concat(), None);
            assert!(deleted.status.success(), "{deleted:?}");
        }
        harness.eventually("deleted", || async { reasons(&harness).await.is_empty().then_some(()) }).await;
        resident.push(confined.program.forget_peak_memory());
    }
    eprintln!("resident after each round, in KiB: {resident:?}");
    let emptied = |sizes: &[(&str, f64)]| {
        sizes.iter().all(|(cache, size)| match *cache {
            // The Workspace "default", its key, and the Secret that holds it.
            "workspaces" | "keys" | "secrets" => *size <= 1.0,
            "rates" => *size <= 2.0,
            _ => *size == 0.0,
        })
    };
    let deadline = ohallo_client::clock::instant() + WAIT_TIMEOUT * 3;
    loop {
        let now = sizes().await;
        if emptied(&now) {
            break;
        }
        assert!(ohallo_client::clock::instant() < deadline, "{now:?} is left of {before:?}");
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    drop(confined);
    harness.finish().await;
}
