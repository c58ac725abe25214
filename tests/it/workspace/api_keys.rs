//! The key of a Workspace: missing, wrong, revoked, rotated, and each time good again without a restart.

use std::time::Duration;

use ohallo_core::api::channel::Channel;
use ohallo_sim::{Config, Key, Operation};
use serde_json::json;
use testbed::{Act, Rule, When};

use crate::support::harness::{Harness, TENANT, condition, id_of, message};
use crate::support::steps::RELEASE;
use crate::support::workspaces::{condition_summary, edit, put_key, until};

const REQUESTED: &str = "ohallo.eu/reconcile-requested-at";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_is_missing_or_holds_no_key_is_waited_for() {
    let mut harness = Harness::bare(Config::default(), &[]).await;
    harness.workspace("default", "ohallo-api-key").await;
    harness.start_operator().await;
    let workspace = harness.workspace_reason("default", "SecretNotFound").await;
    assert_eq!(
        condition_summary(&workspace),
        ["Ready=False/SecretNotFound", "Reconciling=True/SecretNotFound"]
    );
    harness.event("default", "SecretNotFound").await;
    harness.create("a", json!({})).await;
    let waiting = harness.reason("a", "WorkspaceNotReady").await;
    assert!(message(&waiting, "Ready").contains("ohallo-api-key"), "{}", message(&waiting, "Ready"));
    let missing = ["Ready=False/SecretKeyMissing", "Reconciling=True/SecretKeyMissing"];
    for (unfit, part) in [
        (json!({"stringData": {"other": "sf_test_v1_x"}}), "has no entry \"apiKey\""),
        (json!({"stringData": {"apiKey": ""}}), "holds no API key in the entry \"apiKey\""),
        (json!({"stringData": {"apiKey": "two words"}}), "holds no API key in the entry \"apiKey\""),
        (json!({"data": {"apiKey": "/+8="}}), "holds no text in the entry \"apiKey\""),
        (json!({"stringData": {"apiKey": "k".repeat(5000)}}), "holds no API key in the entry \"apiKey\""),
    ] {
        let mut secret = unfit;
        secret["metadata"] = json!({"name": "ohallo-api-key"});
        harness.put_secret(secret).await;
        let workspace = until(&harness, "default", part, |workspace| {
            let conditions = workspace.status.iter().flat_map(|status| &status.conditions);
            conditions.into_iter().any(|c| c.type_ == "Ready" && c.message.contains(part))
        })
        .await;
        assert_eq!(condition_summary(&workspace), missing);
    }
    assert!(harness.sim.ledger().is_empty(), "nothing is called without a key");
    // A line break at the end of a file is no part of the key.
    put_key(&harness, "ohallo-api-key", &format!("{}\n", harness.key)).await;
    let workspace = harness.workspace_reason("default", "Verified").await;
    assert_eq!(condition_summary(&workspace), ["Ready=True/Verified"]);
    harness.reason("a", "Available").await;
    harness.delete_and_wait("a").await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_may_lie_under_another_name_in_the_secret() {
    let mut harness = Harness::bare(Config::default(), &[]).await;
    harness
        .put_secret(json!({"metadata": {"name": "keys"}, "stringData": {"production": harness.key}}))
        .await;
    harness.apply(&json!({
        "apiVersion": "ohallo.eu/v1alpha1", "kind": "Workspace", "metadata": {"name": "default"},
        "spec": {"workspaceId": crate::support::harness::WORKSPACE,
            "apiKeySecretRef": {"name": "keys", "key": "production"}},
    }));
    harness.start_operator().await;
    harness.workspace_reason("default", "Verified").await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_ohallo_does_not_know_stalls_until_the_secret_changes() {
    let mut harness = Harness::bare(Config::default(), &[]).await;
    let wrong = "sf_test_v1_canary-unknown-key".to_owned();
    put_key(&harness, "ohallo-api-key", &wrong).await;
    harness.workspace("default", "ohallo-api-key").await;
    harness.start_operator().await;
    let workspace = harness.workspace_reason("default", "AuthenticationFailed").await;
    assert_eq!(
        condition_summary(&workspace),
        ["Ready=False/AuthenticationFailed", "Stalled=True/AuthenticationFailed"]
    );
    harness.event("default", "AuthenticationFailed").await;
    put_key(&harness, "ohallo-api-key", &harness.key.clone()).await;
    let workspace = harness.workspace_reason("default", "Verified").await;
    assert_eq!(condition_summary(&workspace), ["Ready=True/Verified"]);
    assert_eq!(harness.count(Operation::GetWorkspace), 2);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_key_is_checked_at_once_and_its_channels_continue() {
    let harness = Harness::start().await;
    let channel = harness.ready("a", json!({})).await;
    let rotated = "sf_live_v1_canary-rotated-key".to_owned();
    let mut key = Key::new(&rotated, TENANT);
    key.name = "rotated".into();
    harness.sim.add_key(key);
    put_key(&harness, "ohallo-api-key", &rotated).await;
    let workspace = until(&harness, "default", "live", |workspace| {
        workspace.status.as_ref().is_some_and(|s| s.environment.as_deref() == Some("Live"))
    })
    .await;
    assert_eq!(condition_summary(&workspace), ["Ready=True/Verified"]);
    harness.sim.revoke_key(&harness.key);
    harness.edit("a", json!({"spec": {"displayName": "Renamed"}})).await;
    harness.reason("a", "Available").await;
    assert_eq!(harness.sim.channel(&id_of(&channel)).unwrap().display_name, "Renamed");
    let ledger = harness.sim.ledger();
    let write = ledger.iter().rfind(|entry| entry.operation == Operation::UpdateChannel).unwrap();
    assert_eq!(write.key.as_deref(), Some("rotated"));
    assert!(ledger.iter().all(|entry| entry.status != Some(401)), "the old key is not used any more");
    harness.delete_and_wait("a").await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_key_is_reported_by_the_workspace_and_its_channels_make_no_calls() {
    let harness = Harness::start().await;
    harness.ready("a", json!({})).await;
    harness.ready("b", json!({})).await;
    harness.sim.revoke_key(&harness.key);
    // The first reconcile meets it.
    harness.annotate("a", REQUESTED, "1").await;
    let workspace = harness.workspace_reason("default", "AuthenticationFailed").await;
    assert_eq!(
        condition_summary(&workspace),
        ["Ready=False/AuthenticationFailed", "Stalled=True/AuthenticationFailed"]
    );
    harness.event("default", "AuthenticationFailed").await;
    let unknown = harness.reason("a", "WorkspaceNotReady").await;
    assert_eq!(condition(&unknown, "Ready").map(|ready| ready.1), Some("Unknown"));
    // The others keep their status until they reconcile, and then call nothing.
    let calls = harness.sim.ledger().len();
    assert_eq!(condition(&harness.get("b").await, "Ready").map(|ready| ready.1), Some("True"));
    harness.annotate("b", REQUESTED, "1").await;
    let unknown = harness.reason("b", "WorkspaceNotReady").await;
    assert_eq!(condition(&unknown, "Ready").map(|ready| ready.1), Some("Unknown"));
    assert!(message(&unknown, "Ready").contains("AuthenticationFailed"), "{}", message(&unknown, "Ready"));
    harness.create("c", json!({})).await;
    let new = harness.reason("c", "WorkspaceNotReady").await;
    assert_eq!(condition(&new, "Ready").map(|ready| ready.1), Some("False"));
    assert_eq!(harness.sim.ledger().len(), calls, "{:#?}", harness.sim.ledger());
    // The key is good again: a reconcile of the Workspace is requested, and its Channels continue automatically.
    harness.sim.restore_key(&harness.key);
    edit(&harness, "default", json!({"metadata": {"annotations": {REQUESTED: "2"}}})).await;
    harness.workspace_reason("default", "Verified").await;
    for name in ["a", "b", "c"] {
        harness.reason(name, "Available").await;
        harness.delete_and_wait(name).await;
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_key_stops_new_work_and_the_last_good_key_still_serves_deletion() {
    let harness = Harness::start().await;
    harness.ready("a", json!({})).await;
    harness.secrets().delete("ohallo-api-key", &Default::default()).await.unwrap();
    harness.workspace_reason("default", "SecretNotFound").await;
    harness.create("b", json!({})).await;
    harness.reason("b", "WorkspaceNotReady").await;
    harness.delete_and_wait("a").await;
    assert!(harness.sim.channels().is_empty());
    put_key(&harness, "ohallo-api-key", &harness.key.clone()).await;
    harness.workspace_reason("default", "Verified").await;
    harness.reason("b", "Available").await;
    harness.delete_and_wait("b").await;
    harness.finish().await;
}

/// After a restart, the Secret can't be read for some time: the Workspace is Unknown, and no key is loaded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_loaded_key_a_channel_is_released_and_a_new_one_still_reports() {
    let mut harness = Harness::proxied(Config::default(), &[]).await;
    let id = id_of(&harness.ready("a", json!({})).await);
    harness.stop_operator().await;
    let refused = Act::Answer { code: 500, body: String::new() };
    let _unread =
        harness.proxy().add(Rule::any(When::Before, refused).method("GET").part("/secrets/ohallo-api-key"));
    harness.annotate("a", RELEASE, &id).await;
    harness.delete("a").await;
    harness.start_operator().await;
    harness.wait_deleted("a").await;
    assert!(harness.sim.channel(&id).is_some());
    // What needs no key is reported, within the time that a Channel rests for the check of its key.
    harness.create("invalid", json!({"config": {"text": "x".repeat(70_000)}})).await;
    let limit = Duration::from_secs(90);
    let invalid =
        |channel: &Channel| condition(channel, "Ready").is_some_and(|ready| ready.2 == "ValidationFailed");
    harness.until_within(limit, "invalid", "it is invalid", invalid).await;
    harness.proxy().clear();
    harness.delete_and_wait("invalid").await;
    harness.finish().await;
}
