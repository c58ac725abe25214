//! Every metric moves when what it counts happens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use ohallo_sim::{Action, Config, Fault, Listening, NewChannel, Operation, Provisioning};
use serde_json::json;
use testbed::{Act, Rule, When};

use crate::support::harness::{Harness, WORKSPACE, id_of};

const PROVIDER: &str = "provider-key-of-the-metric-tests";

/// The samples of `/metrics`, by series.
pub async fn samples(harness: &Harness) -> BTreeMap<String, f64> {
    let (status, text) = harness.http("/metrics").await;
    assert_eq!(status, 200);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, value)| (name.into(), value.parse().unwrap()))
        .collect()
}

/// What one test has seen move: families, and with each the values of its labels, as docs/monitoring.md calls them.
#[derive(Default)]
struct Moved(Mutex<BTreeSet<String>>);

// === impl Moved ===

impl Moved {
    /// Waits until the series that begin so add up to this.
    async fn reaches(&self, harness: &Harness, series: &str, least: f64) {
        harness
            .eventually(series, || async {
                let sum: f64 =
                    samples(harness).await.iter().filter(|it| it.0.starts_with(series)).map(|it| it.1).sum();
                (sum >= least).then_some(())
            })
            .await;
        let family = series.split('{').next().unwrap();
        let family = family.strip_suffix("_count").unwrap_or(family);
        let mut moved = self.0.lock().unwrap();
        moved.insert(family.to_owned());
        moved.extend(series.split('"').skip(1).step_by(2).map(|value| format!("{family} {value}")));
    }

    /// All of them, and no other, are those that the list promises, which the documents are compared with.
    fn are(&self, listed: &[&str]) {
        let moved = self.0.lock().unwrap();
        let families = moved.iter().map(String::as_str).filter(|name| !name.contains(' '));
        let listed_families = listed.iter().copied().filter(|name| !name.contains(' '));
        assert_eq!(families.collect::<BTreeSet<_>>(), listed_families.collect());
        let missing: Vec<_> = listed.iter().filter(|name| !moved.contains(**name)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}

/// What each test moves.
const IN_A_LIFE: [&str; 34] = [
    "ohallo_api_limiter_wait_seconds",
    "ohallo_api_limiter_wait_seconds user",
    "ohallo_api_limiter_wait_seconds background",
    "ohallo_api_rate_limited_total",
    "ohallo_api_request_duration_seconds",
    "ohallo_api_requests_total",
    "ohallo_build_info",
    "ohallo_channel_time_to_ready_seconds",
    "ohallo_channels",
    "ohallo_connectivity_tests_total",
    "ohallo_connectivity_tests_total passed",
    "ohallo_connectivity_tests_total failed",
    "ohallo_connectivity_tests_total unknown",
    "ohallo_credential_pushes_total",
    "ohallo_credential_pushes_total success",
    "ohallo_credential_pushes_total error",
    "ohallo_deletions_blocked",
    "ohallo_drift_detected_total",
    "ohallo_drift_detected_total displayName",
    "ohallo_drift_detected_total config",
    "ohallo_leader",
    "ohallo_provisioning_retries_total",
    "ohallo_provisioning_retries_total success",
    "ohallo_provisioning_retries_total error",
    "ohallo_provisioning_retries_total unknown",
    "ohallo_reconcile_duration_seconds",
    "ohallo_reconcile_total",
    "ohallo_status_rejected_total",
    "ohallo_watch_restarts_total",
    "ohallo_workspaces",
    "ohallo_workspaces Verified",
    "ohallo_workqueue_adds_total",
    "ohallo_workqueue_queue_duration_seconds",
    "ohallo_workqueue_retries_total",
];
const BY_AN_ANSWER: [&str; 9] = [
    "ohallo_api_requests_total",
    "ohallo_api_requests_total 2xx",
    "ohallo_api_requests_total 3xx",
    "ohallo_api_requests_total 4xx",
    "ohallo_api_requests_total 5xx",
    "ohallo_api_requests_total not_sent",
    "ohallo_api_requests_total timeout",
    "ohallo_api_requests_total broken",
    "ohallo_api_requests_total invalid_body",
];
const WHERE_SOMETHING_WAITS: [&str; 8] = [
    "ohallo_channel_condition",
    "ohallo_channel_info",
    "ohallo_deletions_claimed",
    "ohallo_ids_unrecorded",
    "ohallo_queue_depth",
    "ohallo_queue_depth calls",
    "ohallo_reconcile_active",
    "ohallo_workqueue_depth",
];
const WITHOUT_EVENTS: [&str; 3] =
    ["ohallo_events_dropped_total", "ohallo_queue_depth", "ohallo_queue_depth events"];
const WITHOUT_A_TOKEN: [&str; 1] = ["ohallo_reconcile_deferred_total"];
const BY_OBJECTS: [&str; 9] = [
    "ohallo_cache_entries",
    "ohallo_cache_entries channels",
    "ohallo_cache_entries workspaces",
    "ohallo_cache_entries keys",
    "ohallo_cache_entries manifests",
    "ohallo_cache_entries secrets",
    "ohallo_cache_entries rechecks",
    "ohallo_cache_entries rates",
    "ohallo_cache_entries writes",
];
const OF_DELETED_OBJECTS: [&str; 1] = ["ohallo_channel_ids_orphaned_total"];
/// What no input moves, and the test that puts in the bug.
const BY_A_BUG: [&str; 1] = ["ohallo_panics_total"];
const BUG: &str = include_str!("../faults/objects.rs");
/// What moves only where the API server does not keep a write, and the tests that make it so.
const BY_A_WRITE_THAT_IS_NOT_KEPT: [&str; 2] =
    ["ohallo_crd_fields_missing", "ohallo_writes_not_stored_total"];
const NOT_KEPT: &str = include_str!("../faults/discarded_writes.rs");

#[test]
fn every_documented_metric_and_value_is_one_that_a_test_moves() {
    let lists: [&[&str]; 9] = [
        &BY_OBJECTS,
        &IN_A_LIFE,
        &BY_AN_ANSWER,
        &WHERE_SOMETHING_WAITS,
        &WITHOUT_EVENTS,
        &WITHOUT_A_TOKEN,
        &OF_DELETED_OBJECTS,
        &BY_A_BUG,
        &BY_A_WRITE_THAT_IS_NOT_KEPT,
    ];
    let moved: BTreeSet<_> = lists.concat().into_iter().map(str::to_owned).collect();
    let documented = documented(include_str!("../../../docs/monitoring.md"));
    let families = |names: &BTreeSet<String>| -> BTreeSet<_> {
        names.iter().filter(|name| !name.contains(' ')).cloned().collect()
    };
    assert_eq!(families(&documented), families(&moved), "documented | moved");
    let still: Vec<_> = documented.difference(&moved).collect();
    assert!(still.is_empty(), "documented and never moved: {still:?}");
    for metric in BY_A_WRITE_THAT_IS_NOT_KEPT {
        assert!(NOT_KEPT.contains(metric), "{metric}");
    }
    assert!(BUG.contains("async fn f39_a_panic_in_one_object_is_reported_counted_and_contained()"));
}

/// The metrics of the page's table, and with each the values of labels that its row names.
fn documented(page: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for row in page.lines().filter(|line| line.starts_with("| `ohallo_")) {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").collect();
        let name = cells[0].trim().trim_matches('`');
        found.insert(name.to_owned());
        let values = cells[cells.len() - 1].split('`').skip(1).step_by(2);
        let values = values.filter(|value| !value.starts_with("ohallo_") && !value.starts_with("--"));
        found.extend(values.map(|value| format!("{name} {value}")));
    }
    assert!(found.contains("ohallo_api_requests_total 2xx") && found.len() > 40, "{found:?}");
    found
}

/// The deletion of this Channel waits for one of its namespace that names its id.
async fn claimed(harness: &Harness, moved: &Moved, name: &str, id: &str) {
    harness.create("claimant", json!({"channelId": id, "suspend": true})).await;
    harness.delete(name).await;
    moved.reaches(harness, "ohallo_deletions_claimed{", 1.0).await;
    harness.annotate(name, "ohallo.eu/release", id).await;
    harness.wait_deleted(name).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_of_a_channels_life_moves() {
    let harness = Harness::proxied(Config::default(), &["--requests-per-second=20", "--burst=1"]).await;
    let moved = Moved::default();
    born_and_drifting(&harness, &moved).await;
    refused_and_retried(&harness, &moved).await;
    // Credentials whose answer was lost are sent again when they may have come late: nobody waits for that.
    moved.reaches(&harness, "ohallo_api_limiter_wait_seconds_count{lane=\"background\"}", 1.0).await;
    harness.sim.add_fault(Fault::on(Operation::DeleteChannel, Action::status(403)).times(1));
    harness.delete("a").await;
    moved.reaches(&harness, "ohallo_deletions_blocked{reason=\"PermissionDenied\"}", 1.0).await;
    harness.annotate("a", "ohallo.eu/reconcile-requested-at", "1").await;
    harness.wait_deleted("a").await;
    moved.are(&IN_A_LIFE);
    harness.finish().await;
}

async fn born_and_drifting(harness: &Harness, moved: &Moved) {
    harness.secret("provider", &[("apiKey", PROVIDER)]).await;
    harness.sim.add_fault(Fault::on(Operation::StoreCredentials, Action::status(503)).times(1));
    let credentials = json!([{"name": "apiKey", "secretKeyRef": {"name": "provider", "key": "apiKey"}}]);
    let spec = json!({"channelType": "chat", "credentials": credentials, "config": {"tone": "warm"}});
    let id = id_of(&harness.ready("a", spec).await);
    let channels = format!(
        "ohallo_channels{{namespace=\"{}\",type=\"chat\",ready=\"True\",reason=\"Available\"}}",
        harness.namespace
    );
    for series in [
        channels.as_str(),
        "ohallo_channel_time_to_ready_seconds_count{type=\"chat\"}",
        "ohallo_credential_pushes_total{result=\"error\"}",
        "ohallo_credential_pushes_total{result=\"success\"}",
        "ohallo_api_requests_total{operation=\"create\",class=\"2xx\"}",
        "ohallo_api_request_duration_seconds_count{operation=\"store_credentials\"}",
        "ohallo_api_limiter_wait_seconds_count{lane=\"user\"}",
        "ohallo_reconcile_total{kind=\"Channel\",result=\"in_sync\"}",
        "ohallo_reconcile_duration_seconds_count{kind=\"Workspace\"}",
        "ohallo_workspaces{ready=\"True\",reason=\"Verified\"}",
        "ohallo_build_info",
        "ohallo_leader",
        "ohallo_workqueue_adds_total{kind=\"Channel\"}",
        "ohallo_workqueue_queue_duration_seconds_count{kind=\"Channel\"}",
        "ohallo_workqueue_retries_total{kind=\"Channel\"}",
    ] {
        moved.reaches(harness, series, 1.0).await;
    }
    harness.sim.edit_channel(&id, |channel| {
        channel.display_name = "Edited".into();
        channel.config = json!({"tone": "cold"}).as_object().cloned();
    });
    harness.sim.add_fault(Fault::on(Operation::GetChannel, Action::status(429)).times(1));
    harness.annotate("a", "ohallo.eu/test-requested-at", "1").await;
    moved.reaches(harness, "ohallo_drift_detected_total{field=\"displayName\"}", 1.0).await;
    moved.reaches(harness, "ohallo_drift_detected_total{field=\"config\"}", 1.0).await;
    moved.reaches(harness, "ohallo_api_rate_limited_total", 1.0).await;
    moved.reaches(harness, "ohallo_connectivity_tests_total{type=\"chat\",result=\"passed\"}", 1.0).await;
    harness.sim.set(|behaviour| behaviour.test_result = false);
    harness.annotate("a", "ohallo.eu/test-requested-at", "2").await;
    moved.reaches(harness, "ohallo_connectivity_tests_total{type=\"chat\",result=\"failed\"}", 1.0).await;
    harness.sim.add_fault(Fault::on(Operation::TestChannel, Action::Reset { commit: true }).times(1));
    harness.annotate("a", "ohallo.eu/test-requested-at", "3").await;
    moved.reaches(harness, "ohallo_connectivity_tests_total{type=\"chat\",result=\"unknown\"}", 1.0).await;
}

async fn refused_and_retried(harness: &Harness, moved: &Moved) {
    let refused = Act::Answer { code: 422, body: String::new() };
    let rule = harness.proxy().add(Rule::write(When::Before, refused).part("/a/status").times(1));
    harness.edit("a", json!({"spec": {"displayName": "Another"}})).await;
    moved.reaches(harness, "ohallo_status_rejected_total", 1.0).await;
    assert_eq!(rule.met(), 1);
    assert!(harness.proxy().expire_watches("") >= 1);
    moved.reaches(harness, "ohallo_watch_restarts_total", 1.0).await;
    harness.sim.set(|behaviour| behaviour.provisioning = Provisioning::default().failing(1));
    for action in [Action::status(403), Action::Reset { commit: true }] {
        harness.sim.add_fault(Fault::on(Operation::RetryProvisioning, action).times(1));
    }
    for name in ["b", "c", "d"] {
        harness.create(name, json!({"provisioningRetry": {"limit": 1, "backoffSeconds": 10}})).await;
    }
    for result in ["success", "error", "unknown"] {
        let series = format!("ohallo_provisioning_retries_total{{result=\"{result}\"}}");
        moved.reaches(harness, &series, 1.0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_class_of_answer_is_counted() {
    let harness = Harness::with(Config::default(), &["--request-timeout=1"]).await;
    let moved = Moved::default();
    harness.ready("a", json!({})).await;
    let series =
        |class: &str| format!("ohallo_api_requests_total{{operation=\"get_channel\",class=\"{class}\"}}");
    harness.annotate("a", "ohallo.eu/reconcile-requested-at", "first").await;
    moved.reaches(&harness, &series("2xx"), 1.0).await;
    for (n, (class, action)) in [
        ("3xx", Action::status(302)),
        ("4xx", Action::status(403)),
        ("5xx", Action::status(502)),
        ("broken", Action::Reset { commit: false }),
        ("timeout", Action::Hang { commit: false }),
        ("invalid_body", Action::Garbage { commit: false }),
    ]
    .into_iter()
    .enumerate()
    {
        harness.sim.add_fault(Fault::on(Operation::GetChannel, action).times(1));
        harness.annotate("a", "ohallo.eu/reconcile-requested-at", &n.to_string()).await;
        moved.reaches(&harness, &series(class), 1.0).await;
    }
    harness.sim.set_listening(Listening::Refuse);
    harness.annotate("a", "ohallo.eu/reconcile-requested-at", "refused").await;
    moved.reaches(&harness, &series("not_sent"), 1.0).await;
    harness.sim.set_listening(Listening::Accept);
    harness.annotate("a", "ohallo.eu/reconcile-requested-at", "again").await;
    harness.reason("a", "Available").await;
    moved.are(&BY_AN_ANSWER);
    harness.finish().await;
}

/// Of some thousand events that wait none is lost; of more, the oldest. Their texts differ: repeated ones are one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_there_is_no_room_for_are_counted() {
    let harness = Harness::proxied(Config::default(), &["--requests-per-second=0"]).await;
    let moved = Moved::default();
    let away = harness.proxy().add(Rule::any(When::Before, Act::Hold).method("POST").part("/events"));
    let names: Vec<_> = (0..50).map(|number| format!("a{number}")).collect();
    for name in &names {
        harness.create(name, json!({})).await;
    }
    let series = "ohallo_queue_depth{queue=\"events\"}";
    let mut round = 0;
    let is_full = async || {
        let samples = samples(&harness).await;
        samples["ohallo_events_dropped_total"] > 0.0 && samples[series] >= 1000.0
    };
    while !is_full().await {
        let keys =
            (0..16).map(|number| (format!("round-{round:02}-{number:02}-{}", "x".repeat(40)), true.into()));
        let config: serde_json::Map<_, _> = keys.collect();
        for name in &names {
            harness.edit(name, json!({"spec": {"config": null}})).await;
            harness.edit(name, json!({"spec": {"config": config}})).await;
        }
        round += 1;
        assert!(round < 40, "{:?}", samples(&harness).await.get(series));
    }
    moved.reaches(&harness, series, 1000.0).await;
    moved.reaches(&harness, "ohallo_events_dropped_total", 1.0).await;
    moved.are(&WITHOUT_EVENTS);
    away.release();
    harness.proxy().clear();
    for name in &names {
        harness.reason(name, "Available").await;
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reconcile_that_needs_more_calls_than_expected_is_deferred_and_counted() {
    let harness = Harness::with(Config::default(), &["--requests-per-second=1", "--burst=1"]).await;
    let moved = Moved::default();
    harness.ready("a", json!({})).await;
    // The poll and the test.
    harness.annotate("a", "ohallo.eu/test-requested-at", "1").await;
    moved.reaches(&harness, "ohallo_connectivity_tests_total{type=\"chat\",result=\"passed\"}", 1.0).await;
    let moved = Moved::default();
    moved.reaches(&harness, "ohallo_reconcile_deferred_total{why=\"token\"}", 1.0).await;
    moved.are(&WITHOUT_A_TOKEN);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_ready_of_each_channel_is_timed_once_however_it_came_about() {
    let harness = Harness::start().await;
    let moved = Moved::default();
    harness.ready("created-active-at-once", json!({})).await;
    let new = NewChannel::new(WORKSPACE, "chat", "Channel adopted");
    let id = harness.sim.insert_channel(new.clone());
    harness.ready("adopted", json!({"channelId": id, "displayName": "Channel adopted"})).await;
    let id = harness.sim.insert_channel(new);
    harness.create("observed", json!({"channelId": id, "managementPolicy": "Observe"})).await;
    harness.reason("observed", "Observed").await;
    harness.create("edited-before", json!({"workspaceRef": {"name": "later"}})).await;
    harness.reason("edited-before", "WorkspaceNotFound").await;
    harness.edit("edited-before", json!({"spec": {"displayName": "Edited"}})).await;
    harness.workspace("later", "ohallo-api-key").await;
    harness.reason("edited-before", "Available").await;
    // Ready a second time.
    let fault = harness.sim.add_fault(Fault::on(Operation::UpdateChannel, Action::status(422)));
    harness.edit("created-active-at-once", json!({"spec": {"displayName": "Refused"}})).await;
    harness.reason("created-active-at-once", "ValidationFailed").await;
    harness.sim.remove_fault(fault);
    harness.edit("created-active-at-once", json!({"spec": {"displayName": "Taken"}})).await;
    harness.reason("created-active-at-once", "Available").await;
    let series = "ohallo_channel_time_to_ready_seconds_count{type=\"chat\"}";
    moved.reaches(&harness, series, 4.0).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(samples(&harness).await[series], 4.0);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_and_what_is_not_written_down_yet_is_shown_and_each_channel_where_that_is_wished() {
    let harness = Harness::proxied(Config::default(), &["--object-metrics"]).await;
    let moved = Moved::default();
    let hold =
        harness.sim.add_fault(Fault::on(Operation::CreateChannel, Action::Hold { commit_first: true }));
    for number in 0..14 {
        harness.create(&format!("a{number}"), json!({})).await;
    }
    moved.reaches(&harness, "ohallo_queue_depth{queue=\"calls\"}", 1.0).await;
    let waiting = "ohallo_workqueue_depth{kind=\"Channel\",priority=\"interactive\"}";
    moved.reaches(&harness, waiting, 1.0).await;
    // What an API key may have in one namespace.
    moved.reaches(&harness, "ohallo_reconcile_active{kind=\"Channel\"}", 9.0).await;
    let away = harness
        .proxy()
        .add(Rule::any(When::Before, Act::Answer { code: 503, body: String::new() }).method("PUT"));
    harness.sim.clear_faults();
    harness.sim.release(hold);
    moved.reaches(&harness, "ohallo_ids_unrecorded", 1.0).await;
    away.release();
    harness.proxy().clear();
    for number in 0..14 {
        harness.reason(&format!("a{number}"), "Available").await;
    }
    let id = id_of(&harness.get("a3").await);
    let namespace = &harness.namespace;
    let series = format!(
        "ohallo_channel_info{{namespace=\"{namespace}\",name=\"a3\",type=\"chat\",channel_id=\"{id}\",state=\"active\"}}"
    );
    moved.reaches(&harness, &series, 1.0).await;
    let series = format!(
        "ohallo_channel_condition{{namespace=\"{namespace}\",name=\"a3\",condition=\"Ready\",status=\"True\",reason=\"Available\"}}"
    );
    moved.reaches(&harness, &series, 1.0).await;
    let last = samples(&harness).await;
    assert_eq!((last["ohallo_ids_unrecorded"], last["ohallo_queue_depth{queue=\"calls\"}"]), (0.0, 0.0));
    claimed(&harness, &moved, "a3", &id).await;
    moved.are(&WHERE_SOMETHING_WAITS);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_created_for_a_deleted_object_is_counted() {
    let mut harness = Harness::start().await;
    let moved = Moved::default();
    let hold = Fault::on(Operation::CreateChannel, Action::Hold { commit_first: true }).times(1);
    let hold = harness.sim.add_fault(hold);
    harness.create("a", json!({})).await;
    harness.sim.held(hold).await.unwrap();
    // A user removes the finalizer.
    harness.excused.push("a".into());
    harness.edit("a", json!({"metadata": {"finalizers": null}})).await;
    harness.delete_and_wait("a").await;
    assert_eq!(samples(&harness).await["ohallo_channel_ids_orphaned_total"], 0.0);
    harness.sim.release(hold);
    moved.reaches(&harness, "ohallo_channel_ids_orphaned_total", 1.0).await;
    moved.are(&OF_DELETED_OBJECTS);
    harness.finish().await;
}
