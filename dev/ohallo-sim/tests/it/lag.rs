//! Reads that lag behind writes.

use std::time::Duration;

use serde_json::json;

use crate::harness::{CHANNEL, Harness, path};

const LAG: u64 = 300;

async fn lagging() -> Harness {
    let harness = Harness::new().await;
    harness.sim.set(|behaviour| behaviour.read_lag_ms = LAG);
    harness
}

async fn caught_up(harness: &Harness) {
    let from = harness.sim.elapsed_ms();
    harness.sim.wait_until(|sim| sim.elapsed_ms() >= from + LAG, Duration::from_secs(10)).await.unwrap();
}

#[tokio::test]
async fn a_read_shows_a_create_an_update_and_a_delete_after_the_lag() {
    let harness = lagging().await;
    let made = harness.create("New").await;
    made.done(201);
    let new = path(made.body["id"].as_str().unwrap());
    harness.get(&new).await.refused(404);
    harness.patch(&path(CHANNEL), json!({"displayName": "Newer"})).await.done(200);
    assert_eq!(harness.get(&path(CHANNEL)).await.body["displayName"], "Support Email");
    caught_up(&harness).await;
    harness.get(&new).await.done(200);
    assert_eq!(harness.get(&path(CHANNEL)).await.body["displayName"], "Newer");
    harness.delete(&new).await.done(200);
    harness.get(&new).await.done(200);
    caught_up(&harness).await;
    harness.get(&new).await.refused(404);
}

#[tokio::test]
async fn a_change_in_the_dashboard_lags_as_well() {
    let harness = lagging().await;
    harness.sim.edit_channel(CHANNEL, |channel| channel.display_name = "Theirs".into());
    assert_eq!(harness.get(&path(CHANNEL)).await.body["displayName"], "Support Email");
    caught_up(&harness).await;
    assert_eq!(harness.get(&path(CHANNEL)).await.body["displayName"], "Theirs");
}

#[tokio::test]
async fn calls_that_change_a_channel_answer_404_until_a_read_shows_it_where_writes_lag() {
    let harness = lagging().await;
    harness.sim.set(|behaviour| behaviour.writes_lag = true);
    let made = harness.create("New").await;
    let new = path(made.body["id"].as_str().unwrap());
    harness.patch(&new, json!({"displayName": "Newer"})).await.refused(404);
    harness.delete(&new).await.refused(404);
    caught_up(&harness).await;
    harness.patch(&new, json!({"displayName": "Newer"})).await.done(200);
}

#[tokio::test]
async fn a_patch_may_answer_what_was_there_before_and_ignore_keys() {
    let harness = Harness::new().await;
    harness.sim.set(|behaviour| behaviour.answers_lag = true);
    let answer = harness.patch(&path(CHANNEL), json!({"displayName": "Newer"})).await;
    assert_eq!(answer.body["displayName"], "Support Email");
    assert_eq!(harness.get(&path(CHANNEL)).await.body["displayName"], "Newer");
    harness.sim.set(|behaviour| behaviour.ignored_keys = ["fromName".to_owned(), "new".to_owned()].into());
    harness.patch(&path(CHANNEL), json!({"config": {"fromName": "X", "new": 1, "other": 2}})).await.done(200);
    let config = harness.get(&path(CHANNEL)).await.body["config"].clone();
    assert_eq!((&config["fromName"], &config["other"]), (&json!("Nordic Parts Support"), &json!(2)));
    assert!(config.get("new").is_none());
}
