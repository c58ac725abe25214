//! "Channel statuses": what a channel goes through.

use std::time::Duration;

use ohallo_sim::{Behaviour, Provisioning, Until};
use serde_json::json;

use crate::harness::{Harness, SOON, WORKSPACE, path};

async fn harness(provisioning: Provisioning) -> Harness {
    Harness::with(Behaviour { provisioning, ..Behaviour::default() }).await
}

async fn state(harness: &Harness, id: &str) -> String {
    harness.get(&path(id)).await.done(200)["status"].as_str().unwrap().to_owned()
}

async fn made(harness: &Harness, name: &str) -> String {
    harness.create(name).await.done(201)["id"].as_str().unwrap().to_owned()
}

// "active | Fully operational"
#[tokio::test]
async fn a_channel_is_active_at_once_by_default() {
    let harness = Harness::new().await;
    assert_eq!(harness.create("X").await.done(201)["status"], "active");
}

// "provisioning | The provisioning workflow is in progress"
#[tokio::test]
async fn provisioning_takes_its_time() {
    let harness = harness(Provisioning::millis(600)).await;
    let made = harness.create("X").await.body;
    assert_eq!(made["status"], "provisioning");
    let id = made["id"].as_str().unwrap();
    let active = |sim: &ohallo_sim::Sim| sim.channel(id).unwrap().status == "active";
    assert!(!active(&harness.sim));
    harness.sim.wait_until(active, SOON).await.unwrap();
    assert!(harness.sim.elapsed_ms() >= 600);
    assert_eq!(state(&harness, id).await, "active");
}

// "pending_dns | Waiting for DNS records to propagate (email channels)"
#[tokio::test]
async fn pending_dns_waits_until_advanced_and_for_email_only() {
    let workflow = Provisioning::default()
        .step("provisioning", Until::Polls(2))
        .step("pending_dns", Until::Advanced)
        .step("provisioning", Until::Polls(1));
    let harness = harness(workflow).await;
    let id = made(&harness, "X").await;
    harness.sim.resolve_dns(&id);
    assert_eq!(state(&harness, &id).await, "provisioning");
    assert_eq!(state(&harness, &id).await, "provisioning");
    assert_eq!(state(&harness, &id).await, "pending_dns");
    assert_eq!(state(&harness, &id).await, "pending_dns");
    harness.sim.resolve_dns(&id);
    assert_eq!(state(&harness, &id).await, "provisioning");
    assert_eq!(state(&harness, &id).await, "active");

    let chat = json!({"channelType": "chat", "displayName": "Chat"});
    let chat = harness.post(&format!("/api/workspaces/{WORKSPACE}/channels"), chat).await.body;
    let chat = chat["id"].as_str().unwrap();
    for expected in ["provisioning", "provisioning", "provisioning", "active"] {
        assert_eq!(state(&harness, chat).await, expected);
    }
}

// "error | Provisioning failed — use the retry endpoint to attempt again"
// "This re-runs the provisioning workflow from the beginning"
#[tokio::test]
async fn the_first_runs_fail_and_a_retry_starts_from_the_beginning() {
    let harness = harness(Provisioning::default().step("provisioning", Until::Polls(1)).failing(2)).await;
    let id = made(&harness, "X").await;
    let retry = format!("{}/retry-provisioning", path(&id));
    for end in ["error", "error", "active"] {
        harness.call(&retry).await.refused(409);
        assert_eq!(state(&harness, &id).await, "provisioning");
        assert_eq!(state(&harness, &id).await, end);
        if end == "error" {
            harness.call(&retry).await.done(200);
        }
    }
    assert_eq!(harness.sim.channel(&id).unwrap().runs, 3);
}

#[tokio::test]
async fn an_edited_state_ends_the_workflow() {
    let harness = harness(Provisioning::millis(100)).await;
    let id = made(&harness, "X").await;
    harness.sim.edit_channel(&id, |channel| channel.status = "error".to_owned());
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(state(&harness, &id).await, "error");
}
