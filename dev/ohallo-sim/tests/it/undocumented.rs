//! Create and list, which no page documents.

use ohallo_sim::Switch;
use reqwest::Method;
use serde_json::json;

use crate::harness::{CHANNEL, Got, Harness, WORKSPACE, path};

fn collection() -> String {
    format!("/api/workspaces/{WORKSPACE}/channels")
}

#[tokio::test]
async fn create_answers_the_full_channel() {
    let harness = Harness::new().await;
    let body = json!({
        "channelType": "whatsapp", "displayName": "WhatsApp", "config": {"a": {"b": 1}}, "enabled": false
    });
    let got = harness.post(&collection(), body).await;
    let made = got.done(201);
    assert_eq!(made["workspaceId"], WORKSPACE);
    assert_eq!(made["channelType"], "whatsapp");
    assert_eq!(made["config"], json!({"a": {"b": 1}}));
    assert_eq!(made["status"], "active");
    let id = made["id"].as_str().unwrap();
    assert_eq!(harness.get(&path(id)).await.body, *made);
    let channel = harness.sim.channel(id).unwrap();
    assert_eq!((channel.enabled, channel.created_by.as_deref()), (false, Some("key-1")));
}

#[tokio::test]
async fn create_records_the_idempotency_key_and_does_not_honour_it() {
    let harness = Harness::new().await;
    for _ in 0..2 {
        let call = harness.request(Method::POST, &collection()).header("Idempotency-Key", "uid/1");
        Got::of(call.json(&json!({"channelType": "chat", "displayName": "Chat"}))).await.done(201);
    }
    let made = harness.sim.channels();
    let same = made.iter().filter(|channel| channel.idempotency_key.as_deref() == Some("uid/1"));
    assert_eq!(same.count(), 2);
}

#[tokio::test]
async fn create_is_strict() {
    let harness = Harness::new().await;
    for wrong in [
        json!({}),
        json!({"channelType": "email"}),
        json!({"displayName": "X"}),
        json!({"channelType": "fax", "displayName": "X"}),
        json!({"channelType": 1, "displayName": "X"}),
        json!({"channelType": "email", "displayName": ""}),
        json!({"channelType": "email", "displayName": "X", "config": 1}),
        json!({"channelType": "email", "displayName": "X", "enabled": "yes"}),
        json!({"channelType": "email", "displayName": "X", "workspaceId": WORKSPACE}),
    ] {
        harness.post(&collection(), wrong).await.refused(400);
    }
    let body = json!({"channelType": "email", "displayName": "X"});
    harness.post("/api/workspaces/no-such/channels", body).await.refused(404);
    assert_eq!(harness.sim.channel_count(), 1);
}

#[tokio::test]
async fn create_and_list_are_switches() {
    let harness = Harness::new().await;
    harness.get(&collection()).await.refused(404);
    for status in [404, 405, 501] {
        harness.sim.set(|behaviour| {
            behaviour.create = Switch::Status(status);
            behaviour.list = Switch::Status(status);
        });
        harness.create("X").await.refused(status);
        harness.get(&collection()).await.refused(status);
    }
    assert_eq!(harness.sim.channel_count(), 1);
}

#[tokio::test]
async fn list_is_a_bare_array_by_age_without_what_is_deleted() {
    let harness = Harness::new().await;
    harness.sim.set(|behaviour| behaviour.list = Switch::On);
    let second = harness.create("Second").await.body;
    let third = harness.create("Third").await.body;
    harness.delete(&path(second["id"].as_str().unwrap())).await.done(200);
    let first = harness.get(&path(CHANNEL)).await.body;
    assert_eq!(*harness.get(&collection()).await.done(200), json!([first, third]));
}
