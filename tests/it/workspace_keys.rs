//! The key of a Workspace: missing, wrong, revoked, rotated, and each time good again without a restart.

use ohallo_sim::{Config, Key, Operation};
use serde_json::json;

use crate::rig::{Rig, TENANT, condition, id_of, message};
use crate::workspaces::{edit, put_key, said, until};

const REQUESTED: &str = "ohallo.eu/reconcile-requested-at";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_is_missing_or_holds_no_key_is_waited_for() {
    let mut rig = Rig::bare(Config::default(), &[]).await;
    rig.workspace("default", "ohallo-api-key").await;
    rig.start_operator().await;
    let workspace = rig.workspace_reason("default", "SecretNotFound").await;
    assert_eq!(said(&workspace), ["Ready=False/SecretNotFound", "Reconciling=True/SecretNotFound"]);
    rig.event("default", "SecretNotFound").await;
    rig.create("a", json!({})).await;
    let waiting = rig.reason("a", "WorkspaceNotReady").await;
    assert!(message(&waiting, "Ready").contains("ohallo-api-key"), "{}", message(&waiting, "Ready"));
    let missing = ["Ready=False/SecretKeyMissing", "Reconciling=True/SecretKeyMissing"];
    for (unfit, says) in [
        (json!({"stringData": {"other": "sf_test_v1_x"}}), "has no key \"apiKey\""),
        (json!({"stringData": {"apiKey": ""}}), "holds no API key under \"apiKey\""),
        (json!({"stringData": {"apiKey": "two words"}}), "holds no API key under \"apiKey\""),
        (json!({"data": {"apiKey": "/+8="}}), "holds no text under \"apiKey\""),
        (json!({"stringData": {"apiKey": "k".repeat(5000)}}), "holds no API key under \"apiKey\""),
    ] {
        let mut secret = unfit;
        secret["metadata"] = json!({"name": "ohallo-api-key"});
        rig.put_secret(secret).await;
        let workspace = until(&rig, "default", says, |workspace| {
            let conditions = workspace.status.iter().flat_map(|status| &status.conditions);
            conditions.into_iter().any(|c| c.type_ == "Ready" && c.message.contains(says))
        })
        .await;
        assert_eq!(said(&workspace), missing);
    }
    assert!(rig.sim.ledger().is_empty(), "nothing is called without a key");
    // A line break at the end of a file is no part of the key.
    put_key(&rig, "ohallo-api-key", &format!("{}\n", rig.key)).await;
    let workspace = rig.workspace_reason("default", "Verified").await;
    assert_eq!(said(&workspace), ["Ready=True/Verified"]);
    rig.reason("a", "Available").await;
    rig.deleted("a").await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_may_lie_under_another_name_in_the_secret() {
    let mut rig = Rig::bare(Config::default(), &[]).await;
    rig.put_secret(json!({"metadata": {"name": "keys"}, "stringData": {"production": rig.key}})).await;
    rig.apply(&json!({
        "apiVersion": "ohallo.eu/v1alpha1", "kind": "Workspace", "metadata": {"name": "default"},
        "spec": {"workspaceId": crate::rig::WORKSPACE,
            "apiKeySecretRef": {"name": "keys", "key": "production"}},
    }));
    rig.start_operator().await;
    rig.workspace_reason("default", "Verified").await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_ohallo_does_not_know_stalls_until_the_secret_changes() {
    let mut rig = Rig::bare(Config::default(), &[]).await;
    let wrong = "sf_test_v1_canary-unknown-key".to_owned();
    put_key(&rig, "ohallo-api-key", &wrong).await;
    rig.workspace("default", "ohallo-api-key").await;
    rig.start_operator().await;
    let workspace = rig.workspace_reason("default", "AuthenticationFailed").await;
    assert_eq!(said(&workspace), ["Ready=False/AuthenticationFailed", "Stalled=True/AuthenticationFailed"]);
    rig.event("default", "AuthenticationFailed").await;
    put_key(&rig, "ohallo-api-key", &rig.key.clone()).await;
    let workspace = rig.workspace_reason("default", "Verified").await;
    assert_eq!(said(&workspace), ["Ready=True/Verified"]);
    assert_eq!(rig.count(Operation::GetWorkspace), 2);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_key_is_looked_at_at_once_and_its_channels_go_on() {
    let rig = Rig::start().await;
    let channel = rig.ready("a", json!({})).await;
    let rotated = "sf_live_v1_canary-rotated-key".to_owned();
    let mut key = Key::new(&rotated, TENANT);
    key.name = "rotated".into();
    rig.sim.add_key(key);
    put_key(&rig, "ohallo-api-key", &rotated).await;
    let workspace = until(&rig, "default", "live", |workspace| {
        workspace.status.as_ref().is_some_and(|s| s.environment.as_deref() == Some("Live"))
    })
    .await;
    assert_eq!(said(&workspace), ["Ready=True/Verified"]);
    rig.sim.revoke_key(&rig.key);
    rig.edit("a", json!({"spec": {"displayName": "Renamed"}})).await;
    rig.reason("a", "Available").await;
    assert_eq!(rig.sim.channel(&id_of(&channel)).unwrap().display_name, "Renamed");
    let ledger = rig.sim.ledger();
    let write = ledger.iter().rfind(|entry| entry.operation == Operation::UpdateChannel).unwrap();
    assert_eq!(write.key.as_deref(), Some("rotated"));
    assert!(ledger.iter().all(|entry| entry.status != Some(401)), "the old key is not used any more");
    rig.deleted("a").await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_revoked_key_the_workspace_tells_and_its_channels_make_no_calls() {
    let rig = Rig::start().await;
    rig.ready("a", json!({})).await;
    rig.ready("b", json!({})).await;
    rig.sim.revoke_key(&rig.key);
    // The first that looks meets it.
    rig.annotate("a", REQUESTED, "1").await;
    let workspace = rig.workspace_reason("default", "AuthenticationFailed").await;
    assert_eq!(said(&workspace), ["Ready=False/AuthenticationFailed", "Stalled=True/AuthenticationFailed"]);
    rig.event("default", "AuthenticationFailed").await;
    let unknown = rig.reason("a", "WorkspaceNotReady").await;
    assert_eq!(condition(&unknown, "Ready").map(|ready| ready.1), Some("Unknown"));
    // The others keep what they know until they look, and then call nothing.
    let calls = rig.sim.ledger().len();
    assert_eq!(condition(&rig.get("b").await, "Ready").map(|ready| ready.1), Some("True"));
    rig.annotate("b", REQUESTED, "1").await;
    let unknown = rig.reason("b", "WorkspaceNotReady").await;
    assert_eq!(condition(&unknown, "Ready").map(|ready| ready.1), Some("Unknown"));
    assert!(message(&unknown, "Ready").contains("AuthenticationFailed"), "{}", message(&unknown, "Ready"));
    rig.create("c", json!({})).await;
    let new = rig.reason("c", "WorkspaceNotReady").await;
    assert_eq!(condition(&new, "Ready").map(|ready| ready.1), Some("False"));
    assert_eq!(rig.sim.ledger().len(), calls, "{:#?}", rig.sim.ledger());
    // The key is good again: the Workspace is asked to look, and its Channels go on by themselves.
    rig.sim.restore_key(&rig.key);
    edit(&rig, "default", json!({"metadata": {"annotations": {REQUESTED: "2"}}})).await;
    rig.workspace_reason("default", "Verified").await;
    for name in ["a", "b", "c"] {
        rig.reason(name, "Available").await;
        rig.deleted(name).await;
    }
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_key_stops_new_work_and_the_last_good_key_still_serves_deletion() {
    let rig = Rig::start().await;
    rig.ready("a", json!({})).await;
    rig.secrets().delete("ohallo-api-key", &Default::default()).await.unwrap();
    rig.workspace_reason("default", "SecretNotFound").await;
    rig.create("b", json!({})).await;
    rig.reason("b", "WorkspaceNotReady").await;
    rig.deleted("a").await;
    assert!(rig.sim.channels().is_empty());
    put_key(&rig, "ohallo-api-key", &rig.key.clone()).await;
    rig.workspace_reason("default", "Verified").await;
    rig.reason("b", "Available").await;
    rig.deleted("b").await;
    rig.finish().await;
}
