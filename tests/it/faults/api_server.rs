//! F17–F22 and F25: what may happen between the operator and the API server.

use std::time::Duration;

use ohallo_sim::{Action, Config, Fault, Operation};
use serde_json::json;
use testbed::{Act, Rule, When};

use crate::support::harness::{Harness, WAIT_TIMEOUT, bound, id_of};
use crate::support::steps::{RECONCILE_REQUESTED, assert_settled, state_of, uid};

fn answer(code: u16) -> Act {
    Act::Answer { code, body: String::new() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f17_withheld_events_of_its_own_writes_make_it_repeat_nothing() {
    let harness = Harness::proxied(Config::default(), &[]).await;
    harness.ready("a", json!({})).await;
    let hold =
        harness.sim.add_fault(Fault::on(Operation::CreateChannel, Action::Hold { commit_first: true }));
    harness.create("b", json!({})).await;
    harness.sim.held(hold).await.unwrap();
    harness.proxy().withhold("/channels");
    harness.sim.release(hold);
    // The id is written though the watch shows nothing of it.
    harness.until("b", "bound", |channel| bound(channel).is_some()).await;
    harness.edit("a", json!({"spec": {"displayName": "Unseen"}})).await;
    harness.annotate("b", RECONCILE_REQUESTED, "unseen").await;
    let writes = harness.proxy().writes();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(harness.proxy().writes() <= writes + 1, "it goes on writing without seeing");
    harness.proxy().release();
    harness.reason("a", "Available").await;
    harness.reason("b", "Available").await;
    assert_eq!((harness.count(Operation::CreateChannel), harness.sim.channel_count()), (2, 2));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f18_an_object_that_is_recreated_behind_withheld_events_gets_a_channel_of_its_own() {
    let harness = Harness::proxied(Config::default(), &[]).await;
    let first = harness.ready("a", json!({"deletionPolicy": "Delete"})).await;
    harness.delete("a").await;
    harness.wait_deleted("a").await;
    harness.proxy().withhold("/channels");
    let second = harness.create("a", json!({})).await;
    let patched = harness.kubectl(&["delete", "channel", "a"], None);
    assert!(patched.status.success());
    let third = harness.create("a", json!({})).await;
    harness.proxy().release();
    let third_is = harness.reason("a", "Available").await;
    assert_eq!(uid(&third), uid(&third_is));
    assert!(uid(&first) != uid(&second) && uid(&second) != uid(&third));
    assert_eq!((harness.count(Operation::CreateChannel), harness.sim.channel_count()), (2, 1));
    assert_ne!(id_of(&first), id_of(&third_is));
    assert_settled(&harness, "a").await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f19_watches_that_break_and_are_answered_410_lose_and_repeat_nothing() {
    let harness = Harness::proxied(Config::default(), &[]).await;
    harness.secret("provider", &[("apiKey", "first-provider-key")]).await;
    let spec = json!({"credentials": [{"secretRef": {"name": "provider"}}]});
    let id = id_of(&harness.ready("a", spec).await);
    harness.ready("b", json!({})).await;
    for number in 0..3 {
        harness.proxy().withhold("");
        harness.edit("a", json!({"spec": {"displayName": format!("Name {number}")}})).await;
        let value = format!("provider-key-number-{number}");
        harness.secret("provider", &[("apiKey", &value)]).await;
        harness.delete("b").await;
        harness.create("c", json!({})).await;
        // Those that are waiting to come back from the round before are not counted.
        assert!(harness.proxy().expire_watches("") >= 1);
        harness.proxy().release();
        harness.wait_deleted("b").await;
        let newest = |sim: &ohallo_sim::Sim| {
            let channel = sim.channel(&id).unwrap();
            channel.display_name == format!("Name {number}") && channel.credentials["apiKey"] == value
        };
        harness.sim.wait_until(newest, WAIT_TIMEOUT).await.unwrap();
        harness.reason("c", "Available").await;
        harness.delete_and_wait("c").await;
        harness.ready("b", json!({})).await;
    }
    assert_eq!(harness.count(Operation::CreateChannel), 8);
    assert_settled(&harness, "a").await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f20_doubled_events_cause_no_second_call_or_write() {
    let harness = Harness::proxied(Config::default(), &[]).await;
    harness.proxy().repeat(3);
    let id = id_of(&harness.ready("a", json!({})).await);
    harness.edit("a", json!({"spec": {"displayName": "Later"}})).await;
    harness.reason("a", "Available").await;
    assert_eq!(harness.sim.channel(&id).unwrap().display_name, "Later");
    // One for each: intent, id and verdict; the update's.
    harness.eventually("three writes", || async { (harness.writes_of("a").len() == 3).then_some(()) }).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(harness.writes_of("a").len(), 3, "{:?}", harness.writes_of("a"));
    assert_eq!((harness.count(Operation::CreateChannel), harness.count(Operation::UpdateChannel)), (1, 1));
    harness.delete_and_wait("a").await;
    assert_eq!(harness.count(Operation::DeleteChannel), 1);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f21_a_storm_of_conflicts_on_the_status_loses_no_id() {
    let harness = Harness::proxied(Config::default(), &[]).await;
    let hold =
        harness.sim.add_fault(Fault::on(Operation::CreateChannel, Action::Hold { commit_first: true }));
    harness.create("a", json!({})).await;
    harness.sim.held(hold).await.unwrap();
    let storm =
        harness.proxy().add(Rule::any(When::Before, answer(409)).method("PUT").part("/a/status").times(12));
    harness.sim.release(hold);
    // And real ones: the object is never the one that was read.
    for number in 0..20 {
        harness.annotate("a", "example.org/touched", &number.to_string()).await;
    }
    harness.reason("a", "Available").await;
    assert_eq!(storm.met(), 12);
    assert_eq!((harness.count(Operation::CreateChannel), harness.sim.channel_count()), (1, 1));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f22_a_status_write_that_took_effect_and_was_answered_503_or_504_is_no_reason_to_create_again() {
    let harness = Harness::proxied(Config::default(), &[]).await;
    for (number, act) in [answer(503), answer(504), Act::Drop, answer(500)].into_iter().enumerate() {
        for part in ["/status", "/channels/"] {
            let name = format!("a{number}{}", part.len());
            let path =
                if part == "/status" { format!("/{name}/status") } else { format!("/channels/{name}?") };
            let rule = harness.proxy().add(Rule::write(When::After, act.clone()).part(&path).times(2));
            harness.create(&name, json!({})).await;
            rule.reached().await.unwrap();
            harness.reason(&name, "Available").await;
            rule.release();
        }
    }
    assert_eq!((harness.count(Operation::CreateChannel), harness.sim.channel_count()), (8, 8));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f25_one_request_that_hangs_delays_its_own_object_only() {
    let harness = Harness::proxied(Config::default(), &[]).await;
    for (part, method) in [("/channels/a?", "PATCH"), ("/channels/c/status", "PUT")] {
        let name = part.split('/').nth(2).unwrap().trim_end_matches('?');
        let hang = harness.proxy().add(Rule::any(When::Before, Act::Hold).method(method).part(part));
        harness.create(name, json!({})).await;
        hang.reached().await.unwrap();
        let other = format!("b-{name}");
        harness.ready(&other, json!({})).await;
        harness.delete_and_wait(&other).await;
        assert!(state_of(&harness.get(name).await, "Ready").is_none());
        hang.release();
        harness.reason(name, "Available").await;
    }
    assert_eq!(harness.count(Operation::CreateChannel), 4);
    harness.finish().await;
}
