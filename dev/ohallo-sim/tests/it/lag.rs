//! Reads that lag behind writes.

use std::time::Duration;

use serde_json::json;

use crate::rig::{CHANNEL, Rig, path};

const LAG: u64 = 300;

async fn lagging() -> Rig {
    let rig = Rig::new().await;
    rig.sim.set(|behaviour| behaviour.read_lag_ms = LAG);
    rig
}

async fn caught_up(rig: &Rig) {
    let from = rig.sim.elapsed_ms();
    rig.sim.wait_until(|sim| sim.elapsed_ms() >= from + LAG, Duration::from_secs(10)).await.unwrap();
}

#[tokio::test]
async fn a_read_shows_a_create_an_update_and_a_delete_after_the_lag() {
    let rig = lagging().await;
    let made = rig.create("New").await;
    made.done(201);
    let new = path(made.body["id"].as_str().unwrap());
    rig.get(&new).await.refused(404);
    rig.patch(&path(CHANNEL), json!({"displayName": "Newer"})).await.done(200);
    assert_eq!(rig.get(&path(CHANNEL)).await.body["displayName"], "Support Email");
    caught_up(&rig).await;
    rig.get(&new).await.done(200);
    assert_eq!(rig.get(&path(CHANNEL)).await.body["displayName"], "Newer");
    rig.delete(&new).await.done(200);
    rig.get(&new).await.done(200);
    caught_up(&rig).await;
    rig.get(&new).await.refused(404);
}

#[tokio::test]
async fn a_change_in_the_dashboard_lags_as_well() {
    let rig = lagging().await;
    rig.sim.edit_channel(CHANNEL, |channel| channel.display_name = "Theirs".into());
    assert_eq!(rig.get(&path(CHANNEL)).await.body["displayName"], "Support Email");
    caught_up(&rig).await;
    assert_eq!(rig.get(&path(CHANNEL)).await.body["displayName"], "Theirs");
}

#[tokio::test]
async fn calls_that_change_a_channel_answer_404_until_a_read_shows_it_where_writes_lag() {
    let rig = lagging().await;
    rig.sim.set(|behaviour| behaviour.writes_lag = true);
    let made = rig.create("New").await;
    let new = path(made.body["id"].as_str().unwrap());
    rig.patch(&new, json!({"displayName": "Newer"})).await.refused(404);
    rig.delete(&new).await.refused(404);
    caught_up(&rig).await;
    rig.patch(&new, json!({"displayName": "Newer"})).await.done(200);
}

#[tokio::test]
async fn a_patch_may_answer_what_was_there_before_and_ignore_keys() {
    let rig = Rig::new().await;
    rig.sim.set(|behaviour| behaviour.answers_lag = true);
    let answer = rig.patch(&path(CHANNEL), json!({"displayName": "Newer"})).await;
    assert_eq!(answer.body["displayName"], "Support Email");
    assert_eq!(rig.get(&path(CHANNEL)).await.body["displayName"], "Newer");
    rig.sim.set(|behaviour| behaviour.ignored_keys = ["fromName".to_owned(), "new".to_owned()].into());
    rig.patch(&path(CHANNEL), json!({"config": {"fromName": "X", "new": 1, "other": 2}})).await.done(200);
    let config = rig.get(&path(CHANNEL)).await.body["config"].clone();
    assert_eq!((&config["fromName"], &config["other"]), (&json!("Nordic Parts Support"), &json!(2)));
    assert!(config.get("new").is_none());
}
