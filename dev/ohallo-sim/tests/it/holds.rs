//! Calls that wait until the test lets them go.

use std::time::Duration;

use ohallo_sim::{Action, Fault, FaultId, Operation};
use reqwest::Method;
use serde_json::json;

use crate::harness::{Harness, SOON, WORKSPACE};

async fn with(commit_first: bool) -> (Harness, FaultId) {
    let harness = Harness::new().await;
    let id = harness.sim.add_fault(Fault::on(Operation::CreateChannel, Action::Hold { commit_first }));
    (harness, id)
}

fn create(harness: &Harness) -> tokio::task::JoinHandle<reqwest::Result<reqwest::Response>> {
    let call = harness.request(Method::POST, &format!("/api/workspaces/{WORKSPACE}/channels"));
    tokio::spawn(call.json(&json!({"channelType": "chat", "displayName": "Held"})).timeout(SOON).send())
}

#[tokio::test]
async fn a_held_call_waits_before_or_after_its_commit() {
    for commit_first in [false, true] {
        let (harness, id) = with(commit_first).await;
        let call = create(&harness);
        harness.sim.held(id).await.unwrap();
        assert_eq!(harness.sim.channel_count(), 1 + usize::from(commit_first));
        assert!(!call.is_finished());
        harness.sim.release(id);
        assert_eq!(call.await.unwrap().unwrap().status(), 201);
        assert_eq!(harness.sim.channel_count(), 2);
        // A released fault holds nobody.
        harness.create("Next").await.done(201);
    }
}

#[tokio::test]
async fn a_held_call_takes_effect_even_when_its_client_has_left() {
    let (harness, id) = with(false).await;
    let call = create(&harness);
    harness.sim.held(id).await.unwrap();
    call.abort();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(harness.sim.channel_count(), 1);
    harness.sim.release(id);
    harness.sim.wait_until(|sim| sim.channel_count() == 2, SOON).await.unwrap();
    harness.sim.wait_for(|entries| entries[0].committed && entries[0].status.is_none(), SOON).await.unwrap();
}

#[tokio::test]
async fn several_calls_are_held_and_others_pass() {
    let (harness, id) = with(false).await;
    let calls = [create(&harness), create(&harness), create(&harness)];
    harness.sim.held_calls(id, 3).await.unwrap();
    harness.get("/api/workspaces").await.done(200);
    harness.sim.release(id);
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().status(), 201);
    }
}

#[tokio::test]
async fn clearing_the_faults_lets_held_calls_go() {
    let (harness, id) = with(false).await;
    let call = create(&harness);
    harness.sim.held(id).await.unwrap();
    harness.sim.clear_faults();
    assert_eq!(call.await.unwrap().unwrap().status(), 201);
    assert!(harness.sim.held(id).await.is_err());
}

#[tokio::test]
async fn a_hold_by_times_holds_the_first_only() {
    let harness = Harness::new().await;
    let hold = Action::Hold { commit_first: true };
    let id = harness.sim.add_fault(Fault::on(Operation::CreateChannel, hold).times(1));
    let first = create(&harness);
    harness.sim.held(id).await.unwrap();
    harness.create("Second").await.done(201);
    harness.sim.release(id);
    assert_eq!(first.await.unwrap().unwrap().status(), 201);
    assert_eq!(harness.sim.channel_count(), 3);
}
