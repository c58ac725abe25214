//! Who sees what.

use ohallo_sim::{Key, NewChannel, Switch};
use reqwest::Method;
use serde_json::json;

use crate::harness::{CHANNEL, Got, Harness, SECRET, WORKSPACE, path};

/// A second workspace of the same tenant, with a channel.
fn second_workspace(harness: &Harness) -> String {
    harness.sim.add_workspace("nordic-parts", "second", "Second");
    harness.sim.insert_channel(NewChannel::new("second", "chat", "Chat"))
}

#[tokio::test]
async fn ids_of_another_tenant_are_not_found() {
    let harness = Harness::new().await;
    harness.sim.add_workspace("other", "theirs", "Theirs");
    let id = harness.sim.insert_channel(NewChannel::new("theirs", "email", "Theirs"));
    harness.get(&path(&id)).await.refused(404);
    harness.patch(&path(&id), json!({"enabled": false})).await.refused(404);
    harness.delete(&path(&id)).await.refused(404);
    for action in ["credentials", "test", "retry-provisioning"] {
        harness.post(&format!("{}/{action}", path(&id)), json!({"a": "b"})).await.refused(404);
    }
    harness.get("/api/workspaces/theirs").await.refused(404);
    let body = json!({"channelType": "email", "displayName": "X"});
    harness.post("/api/workspaces/theirs/channels", body).await.refused(404);
    assert_eq!(harness.get("/api/workspaces").await.done(200).as_array().unwrap().len(), 1);
    assert!(harness.sim.channel(&id).unwrap().enabled);
}

#[tokio::test]
async fn a_key_swapped_to_another_tenant_hides_every_channel() {
    let harness = Harness::new().await;
    harness.sim.add_key(Key::new("sf_test_v1_other", "other"));
    let url = format!("{}{}", harness.sim.url(), path(CHANNEL));
    Got::of(harness.http.get(url).bearer_auth("sf_test_v1_other")).await.refused(404);
    harness.get(&path(CHANNEL)).await.done(200);
}

#[tokio::test]
async fn a_restricted_key_sees_its_workspace_only() {
    let harness = Harness::new().await;
    harness.sim.set(|behaviour| behaviour.list = Switch::On);
    let there = second_workspace(&harness);
    harness.get(&path(&there)).await.done(200);
    harness.sim.add_key(Key::new(SECRET, "nordic-parts").workspace(WORKSPACE));
    harness.get(&path(CHANNEL)).await.done(200);
    harness.get(&path(&there)).await.refused(404);
    harness.delete(&path(&there)).await.refused(404);
    harness.get("/api/workspaces/second").await.refused(404);
    harness.get("/api/workspaces/second/channels").await.refused(404);
    let body = json!({"channelType": "email", "displayName": "X"});
    harness.post("/api/workspaces/second/channels", body).await.refused(404);
    let seen = harness.get("/api/workspaces").await;
    assert_eq!(seen.done(200).as_array().unwrap().len(), 1);
    assert_eq!(seen.body[0]["id"], WORKSPACE);
}

#[tokio::test]
async fn workspaces_can_be_unreadable() {
    let harness = Harness::new().await;
    harness.sim.set(|behaviour| behaviour.workspaces_readable = false);
    harness.get("/api/workspaces").await.refused(403);
    harness.get(&format!("/api/workspaces/{WORKSPACE}")).await.refused(403);
    harness.get(&path(CHANNEL)).await.done(200);
}

#[tokio::test]
async fn a_channel_remembers_the_key_that_created_it() {
    let harness = Harness::new().await;
    harness.sim.add_key(Key { name: "second".to_owned(), ..Key::new("sf_test_v1_second", "nordic-parts") });
    let url = format!("{}/api/workspaces/{WORKSPACE}/channels", harness.sim.url());
    let call = harness.http.request(Method::POST, url).bearer_auth("sf_test_v1_second");
    let made = Got::of(call.json(&json!({"channelType": "chat", "displayName": "X"}))).await;
    let made = harness.sim.channel(made.done(201)["id"].as_str().unwrap()).unwrap();
    assert_eq!(made.created_by.as_deref(), Some("second"));
    assert_eq!(harness.sim.channel(CHANNEL).unwrap().created_by, None);
}

#[tokio::test]
async fn debug_of_a_key_hides_its_secret() {
    assert!(!format!("{:?}", Key::new(SECRET, "t")).contains("a3Bx9"));
}
