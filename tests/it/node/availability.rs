//! What ends pods and containers, and what becomes of the work.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::support::helm::CHART;

use super::cluster::{Cluster, POD_TIMEOUT, eventually, is_ready, name, restarts};

const DELETIONS: usize = 20;
const CREATES: usize = 200;
/// Of the chart: no more creates are in flight.
const CONCURRENCY: usize = 16;
const ALL_READY: Duration = Duration::from_secs(300);
const MOST_UNDER_9_MIB: usize = 20_000;
/// Two replicas, and a rate limit that does not decide how long anything takes.
const REPLICAS: &str = "replicas=2,podDisruptionBudget.enabled=true,ohallo.requestsPerSecond=0";

async fn until_ready(cluster: &Cluster, count: usize) {
    eventually(&format!("{count} replicas are ready"), POD_TIMEOUT, async || {
        let pods = cluster.pods();
        (pods.len() == count && pods.iter().all(is_ready)).then_some(())
    })
    .await;
}

/// Waits until that many Channels are Ready, and compares them with what oHallo has.
async fn assert_all_created_once(cluster: &Cluster, count: usize) {
    cluster.kubectl("-n support wait --for=condition=Ready channels.ohallo.eu --all --timeout=300s");
    let list = cluster.get("channels.ohallo.eu -n support");
    let ids: BTreeSet<_> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["status"]["channelId"].as_str().unwrap())
        .collect();
    let remote = cluster.simulated().await;
    let remote: BTreeSet<_> = remote.iter().map(|channel| channel["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), count, "no id is lost or shared");
    assert_eq!(ids, remote, "each channel of oHallo belongs to one object");
    assert_eq!(cluster.creates().await, count, "no create is repeated");
}

fn ready_reason(channel: &Value) -> String {
    let conditions = channel["status"]["conditions"].as_array();
    let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
    ready.and_then(|ready| ready["reason"].as_str()).unwrap_or_default().to_owned()
}

/// The percentile of the times, in milliseconds.
fn percentile(times: &[Duration], percent: usize) -> u128 {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted[(sorted.len() * percent).div_ceil(100) - 1].as_millis()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a node: .ci/full node"]
async fn a_rolling_update_during_200_creates_repeats_and_loses_none() {
    let cluster = Cluster::start().await;
    cluster.install(&[REPLICAS]);
    cluster.workspace();
    let before: BTreeSet<_> = cluster.pods().iter().map(name).collect();
    let names: Vec<_> = (0..CREATES).map(|n| format!("c{n}")).collect();
    let (first, second) = names.split_at(CREATES / 2);
    cluster.channels(first);
    cluster.kubectl("-n ohallo-system rollout restart deployment/ohallo-operator");
    cluster.channels(second);
    cluster.rolled_out();
    eventually("the old pods have ended", POD_TIMEOUT, async || {
        let after: BTreeSet<_> = cluster.pods().iter().map(name).collect();
        (after.len() == 2 && after.is_disjoint(&before)).then_some(())
    })
    .await;
    assert_all_created_once(&cluster, CREATES).await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a node: .ci/full node"]
async fn the_standby_takes_over_within_seconds_of_the_deletion_of_the_leaders_pod() {
    let cluster = Cluster::start().await;
    cluster.install(&[REPLICAS]);
    cluster.workspace();
    cluster.channel("a");
    let id = cluster.ready("a");
    let mut handovers = Vec::new();
    for round in 0..DELETIONS {
        until_ready(&cluster, 2).await;
        let old = cluster.until_led().await;
        let begun = ohallo_client::clock::instant();
        cluster.kubectl(&format!("-n ohallo-system delete pod {old} --wait=false"));
        let new = eventually("another leads", POD_TIMEOUT, async || {
            cluster.leader().filter(|holder| *holder != old)
        })
        .await;
        assert_ne!(new, old);
        handovers.push(begun.elapsed());
        cluster.renames("a", &format!("Round {round}")).await;
    }
    let (median, worst) = (percentile(&handovers, 50), percentile(&handovers, 99));
    eprintln!("handover in pods: p50 {median} ms, p99 {worst} ms of {DELETIONS}");
    assert!(worst < 10_000, "{handovers:?}");
    assert_eq!((cluster.ready("a"), cluster.creates().await), (id, 1));
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a node: .ci/full node"]
async fn a_container_that_is_killed_restarts_and_continues() {
    let cluster = Cluster::start().await;
    cluster.install(&[]);
    cluster.workspace();
    cluster.channel("a");
    let id = cluster.ready("a");
    let pod = cluster.pod();
    cluster.signal(&pod, "SIGKILL");
    cluster.until_restarted().await;
    assert_eq!(name(&cluster.pod()), name(&pod), "the pod stays");
    cluster.renames("a", "Renamed").await;
    assert_eq!((cluster.ready("a"), cluster.creates().await), (id, 1));
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a node: .ci/full node"]
async fn a_container_over_its_memory_limit_is_killed_during_creates_and_repeats_none() {
    let cluster = Cluster::start().await;
    // Enough for an operator that has little to do.
    cluster
        .install(&["ohallo.requestsPerSecond=0,resources.limits.memory=9Mi,resources.requests.memory=9Mi"]);
    cluster.workspace();
    let killed = |pod: &Value| {
        let status = &pod["status"]["containerStatuses"][0];
        ["state", "lastState"].iter().any(|state| status[state]["terminated"]["reason"] == "OOMKilled")
    };
    let mut created = 0;
    while !cluster.pods().iter().any(killed) {
        assert!(created < MOST_UNDER_9_MIB, "the kernel never killed it");
        let names: Vec<_> = (created..created + CREATES).map(|n| format!("c{n}")).collect();
        cluster.channels(&names);
        created += CREATES;
    }
    eprintln!("killed with up to {created} Channels, of which {} had been created", cluster.creates().await);
    cluster.helm("upgrade", CHART, &["ohallo.requestsPerSecond=0"]);
    // Of creates that were in flight the operator does not know the outcome: it asks a user, and repeats none.
    let unresolved = eventually("each Channel is Ready or asks", ALL_READY, async || {
        let list = cluster.get("channels.ohallo.eu -n support");
        let reasons: Vec<_> = list["items"].as_array().unwrap().iter().map(ready_reason).collect();
        let asks = reasons.iter().filter(|reason| *reason == "CreateOutcomeUnknown").count();
        let ready = reasons.iter().filter(|reason| *reason == "Available").count();
        (ready + asks == created).then_some(asks)
    })
    .await;
    eprintln!("{unresolved} ask a user");
    assert!(unresolved <= CONCURRENCY, "{unresolved}");
    let remote = cluster.simulated().await;
    let names: BTreeSet<_> = remote.iter().map(|channel| channel["displayName"].as_str().unwrap()).collect();
    assert_eq!((names.len(), cluster.creates().await), (remote.len(), remote.len()), "no create is repeated");
    assert!(created - remote.len() <= unresolved, "{} of {created}", remote.len());
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a node: .ci/full node"]
async fn a_drain_leaves_one_replica_at_work() {
    let cluster = Cluster::start().await;
    cluster.install(&[REPLICAS]);
    cluster.workspace();
    cluster.channel("a");
    let id = cluster.ready("a");
    until_ready(&cluster, 2).await;
    // There is no other node for the first evicted pod, so the budget keeps the second one.
    let drain = format!(
        "drain {} --pod-selector=app.kubernetes.io/name=ohallo-operator --timeout=20s",
        cluster.node.name()
    );
    let output = crate::support::helm::output_text(&cluster.try_kubectl(&drain));
    assert!(output.contains("would violate the pod's disruption budget"), "{output}");
    let ready = cluster.pods().iter().filter(|pod| is_ready(pod)).count();
    assert_eq!(ready, 1, "{output}");
    cluster.renames("a", "During the drain").await;
    cluster.kubectl(&format!("uncordon {}", cluster.node.name()));
    until_ready(&cluster, 2).await;
    cluster.renames("a", "After the drain").await;
    assert_eq!((cluster.ready("a"), cluster.creates().await), (id, 1));
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a node: .ci/full node"]
async fn probes_fail_while_the_process_is_stopped_and_then_recover() {
    let cluster = Cluster::start().await;
    cluster.install(&[]);
    cluster.workspace();
    cluster.channel("a");
    let id = cluster.ready("a");
    let pod = cluster.pod();
    // Shorter than the liveness probe allows: only the Service loses the pod.
    cluster.signal(&pod, "SIGSTOP");
    eventually("the readiness probe fails", POD_TIMEOUT, async || (!is_ready(&cluster.pod())).then_some(()))
        .await;
    cluster.signal(&pod, "SIGCONT");
    eventually("the pod is ready again", POD_TIMEOUT, async || is_ready(&cluster.pod()).then_some(())).await;
    assert_eq!(restarts(&cluster.pod()), 0, "the liveness probe waits");
    cluster.renames("a", "Continued").await;
    // For longer than it allows.
    cluster.signal(&pod, "SIGSTOP");
    cluster.until_restarted().await;
    let events = cluster.kubectl("-n ohallo-system get events");
    assert!(
        events.contains("Readiness probe failed") && events.contains("Liveness probe failed"),
        "{events}"
    );
    cluster.renames("a", "Restarted").await;
    assert_eq!((cluster.ready("a"), cluster.creates().await), (id, 1));
    cluster.finish().await;
}
