//! Where the documentation is silent, each reading can be had.

use ohallo_sim::{Behaviour, ConfigUpdate, NewChannel, Provisioning, Until};
use serde_json::{Value, json};

use crate::harness::{CHANNEL, Harness, WORKSPACE, path};

#[tokio::test]
async fn config_is_merged_or_replaced() {
    let harness = Harness::new().await;
    let name = json!({"config": {"fromName": "New"}});
    let merged = harness.patch(&path(CHANNEL), name.clone()).await.body;
    let both = json!({"inboundAddress": "support@nordic-parts.dk", "fromName": "New"});
    assert_eq!(merged["config"], both);
    harness.sim.set(|behaviour| behaviour.config_update = ConfigUpdate::Replace);
    assert_eq!(harness.patch(&path(CHANNEL), name).await.body["config"], json!({"fromName": "New"}));
}

#[tokio::test]
async fn a_config_can_be_null() {
    let harness = Harness::new().await;
    let id = harness.sim.insert_channel(NewChannel::new(WORKSPACE, "chat", "Chat").config(Value::Null));
    assert_eq!(harness.get(&path(&id)).await.body["config"], Value::Null);
    let patched = harness.patch(&path(&id), json!({"config": {"a": 1}})).await;
    assert_eq!(patched.done(200)["config"], json!({"a": 1}));

    assert_eq!(harness.create("Empty").await.body["config"], json!({}));
    harness.sim.set(|behaviour| behaviour.null_config = true);
    assert_eq!(harness.create("Null").await.body["config"], Value::Null);
}

#[tokio::test]
async fn values_can_be_normalised() {
    let harness = Harness::with(Behaviour { normalise: true, ..Behaviour::default() }).await;
    let config = json!({"inboundAddress": " Support@Nordic-Parts.DK ", "fromName": " Nordic Parts ", "n": 1});
    let got = harness.patch(&path(CHANNEL), json!({"displayName": " Support ", "config": config})).await;
    assert_eq!(got.done(200)["displayName"], "Support");
    let stored = json!({"inboundAddress": "support@nordic-parts.dk", "fromName": "Nordic Parts", "n": 1});
    assert_eq!(got.body["config"], stored);
}

#[tokio::test]
async fn an_unknown_state_and_extra_fields_can_be_shown() {
    let harness = Harness::new().await;
    harness.sim.set(|behaviour| {
        behaviour.unknown_state = Some("hibernating".to_owned());
        behaviour.extra_fields.insert("brandId".to_owned(), json!("b"));
        behaviour.extra_fields.insert("id".to_owned(), json!("not this"));
    });
    let got = harness.get(&path(CHANNEL)).await.body;
    assert_eq!(
        (&got["status"], &got["brandId"], &got["id"]),
        (&json!("hibernating"), &json!("b"), &json!(CHANNEL))
    );
}

#[tokio::test]
async fn a_config_change_can_run_provisioning_again() {
    let provisioning = Provisioning::default().step("provisioning", Until::Polls(1));
    let harness =
        Harness::with(Behaviour { reprovision_on_config: true, provisioning, ..Behaviour::default() }).await;
    let same = harness.patch(&path(CHANNEL), json!({"config": {"fromName": "Nordic Parts Support"}})).await;
    assert_eq!(same.body["status"], "active");
    let other = harness.patch(&path(CHANNEL), json!({"config": {"fromName": "Other"}})).await;
    assert_eq!(other.body["status"], "provisioning");
    assert_eq!(harness.get(&path(CHANNEL)).await.body["status"], "provisioning");
    assert_eq!(harness.get(&path(CHANNEL)).await.body["status"], "active");
}

#[tokio::test]
async fn the_default_test_result_can_be_a_failure() {
    let harness = Harness::with(Behaviour { test_result: false, ..Behaviour::default() }).await;
    assert_eq!(harness.call(&format!("{}/test", path(CHANNEL))).await.body, json!({"ok": false}));
}

#[tokio::test]
async fn the_dashboard_edits_and_removes() {
    let harness = Harness::new().await;
    assert!(harness.sim.edit_channel(CHANNEL, |channel| {
        channel.display_name = "Edited".to_owned();
        channel.id = "not changed".to_owned();
    }));
    assert_eq!(harness.get(&path(CHANNEL)).await.body["displayName"], "Edited");
    assert!(harness.sim.remove_channel(CHANNEL) && !harness.sim.remove_channel(CHANNEL));
    harness.get(&path(CHANNEL)).await.refused(404);
}
