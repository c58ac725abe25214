// I/O
//! Every metric moves when what it counts happens.

use std::collections::BTreeMap;
use std::time::Duration;

use ohallo_sim::{Action, Config, Fault, NewChannel, Operation, Provisioning};
use serde_json::json;
use testbed::{Act, Rule, When};

use crate::rig::{Rig, WORKSPACE, id_of};

const PROVIDER: &str = "provider-key-of-the-metric-tests";

/// The samples of `/metrics`, by series.
async fn samples(rig: &Rig) -> BTreeMap<String, f64> {
    let (status, text) = rig.http("/metrics").await;
    assert_eq!(status, 200);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, value)| (name.into(), value.parse().unwrap()))
        .collect()
}

/// Waits until the series that begin so add up to this.
async fn reaches(rig: &Rig, series: &str, least: f64) {
    rig.eventually(series, || async {
        let sum: f64 = samples(rig).await.iter().filter(|it| it.0.starts_with(series)).map(|it| it.1).sum();
        (sum >= least).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_of_a_channels_life_moves() {
    let rig = Rig::proxied(Config::default(), &["--requests-per-second=20", "--burst=1"]).await;
    rig.secret("provider", &[("apiKey", PROVIDER)]).await;
    let credentials = json!([{"name": "apiKey", "secretKeyRef": {"name": "provider", "key": "apiKey"}}]);
    let id = id_of(&rig.ready("a", json!({"channelType": "chat", "credentials": credentials})).await);
    for series in [
        "ohallo_channel_time_to_ready_seconds_count{type=\"chat\"}",
        "ohallo_credential_pushes_total{result=\"success\"}",
        "ohallo_api_requests_total{operation=\"create\",class=\"2xx\"}",
        "ohallo_api_request_duration_seconds_count{operation=\"store_credentials\"}",
        "ohallo_api_limiter_wait_seconds_count{lane=\"user\"}",
        "ohallo_reconcile_total{kind=\"Channel\",result=\"in_sync\"}",
        "ohallo_reconcile_duration_seconds_count{kind=\"Workspace\"}",
        "ohallo_workspaces{ready=\"True\",reason=\"Verified\"}",
        "ohallo_leader",
    ] {
        reaches(&rig, series, 1.0).await;
    }
    rig.sim.edit_channel(&id, |channel| channel.display_name = "Edited".into());
    rig.sim.add_fault(Fault::on(Operation::GetChannel, Action::status(429)).times(1));
    rig.annotate("a", "ohallo.eu/test-requested-at", "1").await;
    reaches(&rig, "ohallo_drift_detected_total{field=\"displayName\"}", 1.0).await;
    reaches(&rig, "ohallo_api_rate_limited_total", 1.0).await;
    reaches(&rig, "ohallo_connectivity_tests_total{type=\"chat\",result=", 1.0).await;
    let refused = Act::Answer { code: 422, body: String::new() };
    let rule = rig.proxy().add(Rule::write(When::Before, refused).part("/a/status").times(1));
    rig.edit("a", json!({"spec": {"displayName": "Another"}})).await;
    reaches(&rig, "ohallo_status_rejected_total", 1.0).await;
    assert_eq!(rule.met(), 1);
    assert!(rig.proxy().expire_watches("") >= 1);
    reaches(&rig, "ohallo_watch_restarts_total", 1.0).await;
    rig.sim.set(|behaviour| behaviour.provisioning = Provisioning::default().failing(1));
    rig.create("b", json!({"provisioningRetry": {"limit": 1, "backoffSeconds": 10}})).await;
    reaches(&rig, "ohallo_provisioning_retries_total{result=\"success\"}", 1.0).await;
    rig.sim.add_fault(Fault::on(Operation::DeleteChannel, Action::status(403)).times(1));
    rig.delete("a").await;
    reaches(&rig, "ohallo_deletions_blocked{reason=\"PermissionDenied\"}", 1.0).await;
    rig.annotate("a", "ohallo.eu/reconcile-requested-at", "1").await;
    rig.gone("a").await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_ready_of_each_channel_is_timed_once_however_it_came_about() {
    let rig = Rig::start().await;
    rig.ready("made-active-at-once", json!({})).await;
    let new = NewChannel::new(WORKSPACE, "chat", "Channel adopted");
    let id = rig.sim.insert_channel(new.clone());
    rig.ready("adopted", json!({"channelId": id, "displayName": "Channel adopted"})).await;
    let id = rig.sim.insert_channel(new);
    rig.create("observed", json!({"channelId": id, "managementPolicy": "Observe"})).await;
    rig.reason("observed", "Observed").await;
    rig.create("edited-before", json!({"workspaceRef": {"name": "later"}})).await;
    rig.reason("edited-before", "WorkspaceNotFound").await;
    rig.edit("edited-before", json!({"spec": {"displayName": "Edited"}})).await;
    rig.workspace("later", "ohallo-api-key").await;
    rig.reason("edited-before", "Available").await;
    // Ready a second time.
    let fault = rig.sim.add_fault(Fault::on(Operation::UpdateChannel, Action::status(422)));
    rig.edit("made-active-at-once", json!({"spec": {"displayName": "Refused"}})).await;
    rig.reason("made-active-at-once", "ValidationFailed").await;
    rig.sim.remove_fault(fault);
    rig.edit("made-active-at-once", json!({"spec": {"displayName": "Taken"}})).await;
    rig.reason("made-active-at-once", "Available").await;
    let series = "ohallo_channel_time_to_ready_seconds_count{type=\"chat\"}";
    reaches(&rig, series, 4.0).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(samples(&rig).await[series], 4.0);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_and_what_is_not_written_down_yet_is_shown_and_each_channel_where_that_is_wished() {
    let rig = Rig::proxied(Config::default(), &["--object-metrics"]).await;
    let hold = rig.sim.add_fault(Fault::on(Operation::CreateChannel, Action::Hold { commit_first: true }));
    for number in 0..14 {
        rig.create(&format!("a{number}"), json!({})).await;
    }
    reaches(&rig, "ohallo_queue_depth{queue=\"calls\"}", 1.0).await;
    reaches(&rig, "ohallo_reconcile_active{kind=\"Channel\"}", 12.0).await;
    let away = rig
        .proxy()
        .add(Rule::any(When::Before, Act::Answer { code: 503, body: String::new() }).method("PUT"));
    rig.sim.clear_faults();
    rig.sim.release(hold);
    reaches(&rig, "ohallo_ids_unrecorded", 1.0).await;
    away.release();
    rig.proxy().clear();
    for number in 0..14 {
        rig.reason(&format!("a{number}"), "Available").await;
    }
    let id = id_of(&rig.get("a3").await);
    let namespace = &rig.namespace;
    let series = format!(
        "ohallo_channel_info{{namespace=\"{namespace}\",name=\"a3\",type=\"chat\",channel_id=\"{id}\",state=\"active\"}}"
    );
    reaches(&rig, &series, 1.0).await;
    let series = format!(
        "ohallo_channel_condition{{namespace=\"{namespace}\",name=\"a3\",condition=\"Ready\",status=\"True\",reason=\"Available\"}}"
    );
    reaches(&rig, &series, 1.0).await;
    let last = samples(&rig).await;
    assert_eq!((last["ohallo_ids_unrecorded"], last["ohallo_queue_depth{queue=\"calls\"}"]), (0.0, 0.0));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_was_made_for_an_object_that_is_gone_is_counted() {
    let mut rig = Rig::start().await;
    let hold = Fault::on(Operation::CreateChannel, Action::Hold { commit_first: true }).times(1);
    let hold = rig.sim.add_fault(hold);
    rig.create("a", json!({})).await;
    rig.sim.held(hold).await.unwrap();
    // A person takes the finalizer off by hand.
    rig.excused.push("a".into());
    rig.edit("a", json!({"metadata": {"finalizers": null}})).await;
    rig.deleted("a").await;
    assert_eq!(samples(&rig).await["ohallo_channel_ids_orphaned_total"], 0.0);
    rig.sim.release(hold);
    reaches(&rig, "ohallo_channel_ids_orphaned_total", 1.0).await;
    rig.finish().await;
}
