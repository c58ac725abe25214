//! Who sees what.

use ohallo_sim::{Key, NewChannel, Switch};
use reqwest::Method;
use serde_json::json;

use crate::rig::{CHANNEL, Got, Rig, SECRET, WORKSPACE, path};

/// A second workspace of the same tenant, with a channel.
fn second_workspace(rig: &Rig) -> String {
    rig.sim.add_workspace("nordic-parts", "second", "Second");
    rig.sim.insert_channel(NewChannel::new("second", "chat", "Chat"))
}

#[tokio::test]
async fn ids_of_another_tenant_are_not_found() {
    let rig = Rig::new().await;
    rig.sim.add_workspace("other", "theirs", "Theirs");
    let id = rig.sim.insert_channel(NewChannel::new("theirs", "email", "Theirs"));
    rig.get(&path(&id)).await.refused(404);
    rig.patch(&path(&id), json!({"enabled": false})).await.refused(404);
    rig.delete(&path(&id)).await.refused(404);
    for action in ["credentials", "test", "retry-provisioning"] {
        rig.post(&format!("{}/{action}", path(&id)), json!({"a": "b"})).await.refused(404);
    }
    rig.get("/api/workspaces/theirs").await.refused(404);
    let body = json!({"channelType": "email", "displayName": "X"});
    rig.post("/api/workspaces/theirs/channels", body).await.refused(404);
    assert_eq!(rig.get("/api/workspaces").await.done(200).as_array().unwrap().len(), 1);
    assert!(rig.sim.channel(&id).unwrap().enabled);
}

#[tokio::test]
async fn a_key_swapped_to_another_tenant_makes_every_channel_look_gone() {
    let rig = Rig::new().await;
    rig.sim.add_key(Key::new("sf_test_v1_other", "other"));
    let url = format!("{}{}", rig.sim.url(), path(CHANNEL));
    Got::of(rig.http.get(url).bearer_auth("sf_test_v1_other")).await.refused(404);
    rig.get(&path(CHANNEL)).await.done(200);
}

#[tokio::test]
async fn a_restricted_key_sees_its_workspace_only() {
    let rig = Rig::new().await;
    rig.sim.set(|behaviour| behaviour.list = Switch::On);
    let there = second_workspace(&rig);
    rig.get(&path(&there)).await.done(200);
    rig.sim.add_key(Key::new(SECRET, "nordic-parts").workspace(WORKSPACE));
    rig.get(&path(CHANNEL)).await.done(200);
    rig.get(&path(&there)).await.refused(404);
    rig.delete(&path(&there)).await.refused(404);
    rig.get("/api/workspaces/second").await.refused(404);
    rig.get("/api/workspaces/second/channels").await.refused(404);
    let body = json!({"channelType": "email", "displayName": "X"});
    rig.post("/api/workspaces/second/channels", body).await.refused(404);
    let seen = rig.get("/api/workspaces").await;
    assert_eq!(seen.done(200).as_array().unwrap().len(), 1);
    assert_eq!(seen.body[0]["id"], WORKSPACE);
}

#[tokio::test]
async fn workspaces_can_be_unreadable() {
    let rig = Rig::new().await;
    rig.sim.set(|behaviour| behaviour.workspaces_readable = false);
    rig.get("/api/workspaces").await.refused(403);
    rig.get(&format!("/api/workspaces/{WORKSPACE}")).await.refused(403);
    rig.get(&path(CHANNEL)).await.done(200);
}

#[tokio::test]
async fn a_channel_remembers_the_key_that_made_it() {
    let rig = Rig::new().await;
    rig.sim.add_key(Key { name: "second".to_owned(), ..Key::new("sf_test_v1_second", "nordic-parts") });
    let url = format!("{}/api/workspaces/{WORKSPACE}/channels", rig.sim.url());
    let call = rig.http.request(Method::POST, url).bearer_auth("sf_test_v1_second");
    let made = Got::of(call.json(&json!({"channelType": "chat", "displayName": "X"}))).await;
    let made = rig.sim.channel(made.done(201)["id"].as_str().unwrap()).unwrap();
    assert_eq!(made.created_by.as_deref(), Some("second"));
    assert_eq!(rig.sim.channel(CHANNEL).unwrap().created_by, None);
}

#[tokio::test]
async fn debug_of_a_key_hides_its_secret() {
    assert!(!format!("{:?}", Key::new(SECRET, "t")).contains("a3Bx9"));
}
