//! F23: the API server is unreachable, through a proxy before it or stopped. `OHALLO_TEST_OUTAGE_SECONDS` sets for how long.

use std::time::Duration;

use ohallo_sim::{Action, Config, Fault, FaultId, Operation, Sim};
use serde_json::json;
use testbed::{Act, Rule, When};

use crate::support::harness::{Harness, bound, id_of};
use crate::support::own_cluster::{Own, available};
use crate::support::steps::reconcile_now;

/// The time is what is tested: it may be longer than any retry waits.
async fn outage() {
    let seconds = std::env::var("OHALLO_TEST_OUTAGE_SECONDS").map_or(5, |text| text.parse().unwrap());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn hold(sim: &Sim, operation: Operation) -> FaultId {
    sim.add_fault(Fault::on(operation, Action::Hold { commit_first: true }).times(1))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f23_an_api_server_that_stops_during_a_create_gets_its_id_when_it_returns() {
    let harness = Harness::proxied(Config::default(), &[]).await;
    harness.ready("b", json!({})).await;
    let held = hold(&harness.sim, Operation::CreateChannel);
    harness.create("a", json!({})).await;
    harness.sim.held(held).await.unwrap();
    let away = harness.proxy().add(Rule::any(When::Before, Act::Drop));
    let _ended = harness.proxy().expire_watches("");
    harness.sim.release(held);
    outage().await;
    assert!(away.met() > 0 && bound(&harness.get("a").await).is_none());
    away.release();
    harness.until("a", "bound", |channel| bound(channel).is_some()).await;
    reconcile_now(&harness, "a", "1").await;
    harness.reason("a", "Available").await;
    harness.edit("b", json!({"spec": {"displayName": "Later"}})).await;
    harness.reason("b", "Available").await;
    assert_eq!((harness.count(Operation::CreateChannel), harness.sim.channel_count()), (2, 2));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f23_a_frozen_api_server_is_waited_for() {
    let harness = Harness::proxied(Config::default(), &[]).await;
    harness.ready("a", json!({})).await;
    harness.proxy().freeze();
    harness.edit("a", json!({"spec": {"displayName": "Later"}})).await;
    harness.create("b", json!({})).await;
    outage().await;
    harness.proxy().thaw();
    harness.reason("a", "Available").await;
    harness.reason("b", "Available").await;
    assert_eq!((harness.count(Operation::CreateChannel), harness.sim.channel_count()), (2, 2));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f23_an_api_server_that_is_killed_during_a_create_and_started_again_gets_its_id() {
    let mut own = Own::start().await;
    let a = own.ready("a").await;
    let held = hold(&own.sim, Operation::CreateChannel);
    own.create("b").await;
    own.sim.held(held).await.unwrap();
    own.plane.kill_apiserver().await;
    own.sim.release(held);
    outage().await;
    own.plane.start_apiserver().await.unwrap();
    let b = own.until("b", "bound", |channel| bound(channel).is_some()).await;
    assert!(own.sim.channel(&id_of(&b)).is_some());
    own.rename("a", "Later").await;
    own.available("a").await;
    own.available("b").await;
    assert_eq!(own.sim.channel(&a).unwrap().display_name, "Later");
    assert_eq!((own.sim.count(Operation::CreateChannel), own.sim.channel_count()), (2, 2));
    own.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f23_an_api_server_that_freezes_while_manifests_change_is_caught_up_with() {
    let own = Own::start().await;
    let a = own.ready("a").await;
    let c = own.ready("c").await;
    let held = [Operation::CreateChannel, Operation::UpdateChannel].map(|call| hold(&own.sim, call));
    own.create("b").await;
    own.rename("a", "Later").await;
    for call in held {
        own.sim.held(call).await.unwrap();
    }
    own.plane.pause_apiserver().await.unwrap();
    held.into_iter().for_each(|call| own.sim.release(call));
    // What it receives meanwhile takes effect when it continues.
    let while_frozen = async {
        tokio::join!(own.rename("a", "Last"), own.rename("c", "Last"), own.create("d"));
    };
    let thaw = async {
        outage().await;
        own.plane.resume_apiserver().await.unwrap();
    };
    tokio::join!(while_frozen, thaw);
    for name in ["a", "b", "c", "d"] {
        own.until(name, "available", available).await;
    }
    for id in [a, c] {
        assert_eq!(own.sim.channel(&id).unwrap().display_name, "Last");
    }
    assert_eq!((own.sim.count(Operation::CreateChannel), own.sim.channel_count()), (4, 4));
    own.finish().await;
}
