//! What the ledger contains, and what it must not.

use std::time::Duration;

use ohallo_sim::{Config, Operation, Sim};
use serde_json::json;

use crate::harness::{CHANNEL, Got, Harness, SECRET, SOON, WORKSPACE, path};

#[tokio::test]
async fn every_call_is_entered_in_order_with_what_became_of_it() {
    let harness = Harness::new().await;
    harness.get(&path(CHANNEL)).await;
    harness.patch(&path(CHANNEL), json!({"enabled": true})).await;
    harness.patch(&path(CHANNEL), json!({"enabled": 1})).await;
    harness.post(&format!("{}/credentials", path(CHANNEL)), json!({"a": "hush-hush"})).await;
    harness.call(&format!("{}/test", path(CHANNEL))).await;
    harness.call(&format!("{}/retry-provisioning", path(CHANNEL))).await;
    let made = harness.create("New").await.body["id"].as_str().unwrap().to_owned();
    harness.get(&format!("/api/workspaces/{WORKSPACE}/channels")).await;
    harness.get(&format!("/api/workspaces/{WORKSPACE}")).await;
    harness.get("/api/workspaces").await;
    harness.delete(&path(CHANNEL)).await;
    harness.get("/nowhere").await;

    use Operation::*;
    let channel = Some(CHANNEL);
    let workspace = Some(WORKSPACE);
    let expected = [
        ("GET", GetChannel, channel, None, 200, false),
        ("PATCH", UpdateChannel, channel, None, 200, true),
        ("PATCH", UpdateChannel, channel, None, 400, false),
        ("POST", StoreCredentials, channel, None, 200, true),
        ("POST", TestChannel, channel, None, 200, true),
        ("POST", RetryProvisioning, channel, None, 409, false),
        ("POST", CreateChannel, Some(made.as_str()), workspace, 201, true),
        ("GET", ListChannels, None, workspace, 404, false),
        ("GET", GetWorkspace, None, workspace, 200, false),
        ("GET", ListWorkspaces, None, None, 200, false),
        ("DELETE", DeleteChannel, channel, None, 200, true),
        ("GET", Other, None, None, 404, false),
    ];
    let ledger = harness.sim.ledger();
    assert_eq!(ledger.len(), expected.len());
    for (seq, (entry, expected)) in ledger.iter().zip(expected).enumerate() {
        let got = (
            entry.method.as_str(),
            entry.operation,
            entry.channel.as_deref(),
            entry.workspace.as_deref(),
            entry.status.unwrap(),
            entry.committed,
        );
        assert_eq!(got, expected);
        assert_eq!((entry.seq, entry.fault), (seq as u64, None));
        assert_eq!((entry.tenant.as_deref(), entry.key.as_deref()), (Some("nordic-parts"), Some("key-1")));
        assert!(entry.ended_ms.unwrap() >= entry.at_ms);
    }
    assert!(ledger.is_sorted_by_key(|entry| entry.at_ms));
    let text = format!("{ledger:?}{}", json!(ledger));
    assert!(!text.contains(SECRET) && !text.contains("hush"), "a secret in the ledger");
}

#[tokio::test]
async fn a_path_is_entered_as_it_arrived() {
    let harness = Harness::new().await;
    let long = format!("/{}", "a".repeat(2000));
    for path in ["/api/channels/%2e%2e%2Fx?a=%20b", "/api//channels", &long] {
        harness.get(path).await;
    }
    let paths: Vec<_> = harness.sim.ledger().into_iter().map(|entry| entry.path).collect();
    assert_eq!(paths, ["/api/channels/%2e%2e%2Fx?a=%20b", "/api//channels", &long[..512]]);
}

#[tokio::test]
async fn calls_are_counted_and_the_ledger_can_be_cleared() {
    let harness = Harness::new().await;
    for _ in 0..3 {
        harness.get(&path(CHANNEL)).await;
    }
    harness.delete(&path("no-such")).await;
    assert_eq!(harness.sim.count(Operation::GetChannel), 3);
    assert_eq!(harness.sim.count(Operation::DeleteChannel), 1);
    assert_eq!(harness.sim.ledger_since(2).len(), 2);
    harness.sim.clear_ledger();
    assert_eq!((harness.sim.count(Operation::GetChannel), harness.sim.ledger().len()), (0, 0));
    harness.get(&path(CHANNEL)).await;
    assert_eq!(harness.sim.ledger()[0].seq, 4);
}

#[tokio::test]
async fn waiting_ends_when_the_ledger_fits_or_the_time_is_over() {
    let harness = Harness::new().await;
    let none = harness.sim.wait_for(|entries| !entries.is_empty(), Duration::from_millis(50)).await;
    assert!(none.is_err());
    let url = format!("{}{}", harness.sim.url(), path(CHANNEL));
    let call = tokio::spawn(harness.http.get(url).send());
    // The predicate may ask the simulator itself.
    harness.sim.wait_for(|_| harness.sim.count(Operation::GetChannel) == 1, SOON).await.unwrap();
    let answered = |entries: &[ohallo_sim::Entry]| entries.iter().any(|entry| entry.status == Some(401));
    harness.sim.wait_for(answered, SOON).await.unwrap();
    assert_eq!(
        (&harness.sim.ledger()[0].tenant, call.await.unwrap().unwrap().status().as_u16()),
        (&None, 401)
    );
}

#[tokio::test]
async fn the_ledger_drops_the_oldest_calls_when_it_is_full() {
    let harness = Harness::new().await;
    let small = Sim::start(Config { ledger_cap: 3, ..Config::default() }).await.unwrap();
    for _ in 0..5 {
        Got::of(harness.http.get(small.url())).await.refused(404);
    }
    let seqs: Vec<u64> = small.ledger().iter().map(|entry| entry.seq).collect();
    assert_eq!((seqs, small.count(Operation::Other)), (vec![2, 3, 4], 5));
    assert!(small.ledger().iter().all(|entry| entry.status == Some(404)));
}

#[tokio::test]
async fn latency_delays_every_call() {
    let harness = Harness::new().await;
    harness.sim.set(|behaviour| behaviour.latency_ms = 120);
    harness.get(&path(CHANNEL)).await.done(200);
    let entry = &harness.sim.ledger()[0];
    assert!(entry.ended_ms.unwrap() - entry.at_ms >= 120);
}
