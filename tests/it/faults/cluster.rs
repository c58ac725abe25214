//! F17–F22 and F25: what may happen between the operator and the API server.

use std::time::Duration;

use ohallo_sim::{Action, Config, Fault, Operation};
use serde_json::json;
use testbed::{Act, Rule, When};

use crate::acts::{LOOK, at_rest, is, uid};
use crate::rig::{PATIENCE, Rig, bound, id_of};

fn answer(code: u16) -> Act {
    Act::Answer { code, body: String::new() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f17_withheld_events_of_its_own_writes_make_it_repeat_nothing() {
    let rig = Rig::proxied(Config::default(), &[]).await;
    rig.ready("a", json!({})).await;
    let hold = rig.sim.add_fault(Fault::on(Operation::CreateChannel, Action::Hold { commit_first: true }));
    rig.create("b", json!({})).await;
    rig.sim.held(hold).await.unwrap();
    rig.proxy().withhold("/channels");
    rig.sim.release(hold);
    // The id is written though the watch shows nothing of it.
    rig.until("b", "bound", |channel| bound(channel).is_some()).await;
    rig.edit("a", json!({"spec": {"displayName": "Unseen"}})).await;
    rig.annotate("b", LOOK, "unseen").await;
    let writes = rig.proxy().writes();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(rig.proxy().writes() <= writes + 1, "it goes on writing without seeing");
    rig.proxy().release();
    rig.reason("a", "Available").await;
    rig.reason("b", "Available").await;
    assert_eq!((rig.count(Operation::CreateChannel), rig.sim.channel_count()), (2, 2));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f18_an_object_that_is_recreated_behind_withheld_events_gets_a_channel_of_its_own() {
    let rig = Rig::proxied(Config::default(), &[]).await;
    let first = rig.ready("a", json!({"deletionPolicy": "Delete"})).await;
    rig.delete("a").await;
    rig.gone("a").await;
    rig.proxy().withhold("/channels");
    let second = rig.create("a", json!({})).await;
    let patched = rig.kubectl(&["delete", "channel", "a"], None);
    assert!(patched.status.success());
    let third = rig.create("a", json!({})).await;
    rig.proxy().release();
    let third_is = rig.reason("a", "Available").await;
    assert_eq!(uid(&third), uid(&third_is));
    assert!(uid(&first) != uid(&second) && uid(&second) != uid(&third));
    assert_eq!((rig.count(Operation::CreateChannel), rig.sim.channel_count()), (2, 1));
    assert_ne!(id_of(&first), id_of(&third_is));
    at_rest(&rig, "a").await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f19_watches_that_break_and_are_answered_410_lose_and_repeat_nothing() {
    let rig = Rig::proxied(Config::default(), &[]).await;
    rig.secret("provider", &[("apiKey", "first-provider-key")]).await;
    let spec = json!({"credentials": [{"secretRef": {"name": "provider"}}]});
    let id = id_of(&rig.ready("a", spec).await);
    rig.ready("b", json!({})).await;
    for number in 0..3 {
        rig.proxy().withhold("");
        rig.edit("a", json!({"spec": {"displayName": format!("Name {number}")}})).await;
        let value = format!("provider-key-number-{number}");
        rig.secret("provider", &[("apiKey", &value)]).await;
        rig.delete("b").await;
        rig.create("c", json!({})).await;
        // Those that are waiting to come back from the round before are not counted.
        assert!(rig.proxy().expire_watches("") >= 1);
        rig.proxy().release();
        rig.gone("b").await;
        let newest = |sim: &ohallo_sim::Sim| {
            let channel = sim.channel(&id).unwrap();
            channel.display_name == format!("Name {number}") && channel.credentials["apiKey"] == value
        };
        rig.sim.wait_until(newest, PATIENCE).await.unwrap();
        rig.reason("c", "Available").await;
        rig.deleted("c").await;
        rig.ready("b", json!({})).await;
    }
    assert_eq!(rig.count(Operation::CreateChannel), 8);
    at_rest(&rig, "a").await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f20_doubled_events_cause_no_second_call_or_write() {
    let rig = Rig::proxied(Config::default(), &[]).await;
    rig.proxy().repeat(3);
    let id = id_of(&rig.ready("a", json!({})).await);
    rig.edit("a", json!({"spec": {"displayName": "Later"}})).await;
    rig.reason("a", "Available").await;
    assert_eq!(rig.sim.channel(&id).unwrap().display_name, "Later");
    // One for each: intent, id and verdict; the update's.
    rig.eventually("three writes", || async { (rig.writes_of("a").len() == 3).then_some(()) }).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(rig.writes_of("a").len(), 3, "{:?}", rig.writes_of("a"));
    assert_eq!((rig.count(Operation::CreateChannel), rig.count(Operation::UpdateChannel)), (1, 1));
    rig.deleted("a").await;
    assert_eq!(rig.count(Operation::DeleteChannel), 1);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f21_a_storm_of_conflicts_on_the_status_loses_no_id() {
    let rig = Rig::proxied(Config::default(), &[]).await;
    let hold = rig.sim.add_fault(Fault::on(Operation::CreateChannel, Action::Hold { commit_first: true }));
    rig.create("a", json!({})).await;
    rig.sim.held(hold).await.unwrap();
    let storm =
        rig.proxy().add(Rule::any(When::Before, answer(409)).method("PUT").part("/a/status").times(12));
    rig.sim.release(hold);
    // And real ones: the object is never the one that was read.
    for number in 0..20 {
        rig.annotate("a", "example.org/touched", &number.to_string()).await;
    }
    rig.reason("a", "Available").await;
    assert_eq!(storm.met(), 12);
    assert_eq!((rig.count(Operation::CreateChannel), rig.sim.channel_count()), (1, 1));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f22_a_status_write_that_took_effect_and_was_answered_503_or_504_is_no_reason_to_create_again() {
    let rig = Rig::proxied(Config::default(), &[]).await;
    for (number, act) in [answer(503), answer(504), Act::Drop, answer(500)].into_iter().enumerate() {
        for part in ["/status", "/channels/"] {
            let name = format!("a{number}{}", part.len());
            let path =
                if part == "/status" { format!("/{name}/status") } else { format!("/channels/{name}?") };
            let rule = rig.proxy().add(Rule::write(When::After, act.clone()).part(&path).times(2));
            rig.create(&name, json!({})).await;
            rule.reached().await.unwrap();
            rig.reason(&name, "Available").await;
            rule.release();
        }
    }
    assert_eq!((rig.count(Operation::CreateChannel), rig.sim.channel_count()), (8, 8));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f25_one_request_that_hangs_holds_up_its_own_object_alone() {
    let rig = Rig::proxied(Config::default(), &[]).await;
    for (part, method) in [("/channels/a?", "PATCH"), ("/channels/c/status", "PUT")] {
        let name = part.split('/').nth(2).unwrap().trim_end_matches('?');
        let hang = rig.proxy().add(Rule::any(When::Before, Act::Hold).method(method).part(part));
        rig.create(name, json!({})).await;
        hang.reached().await.unwrap();
        let other = format!("b-{name}");
        rig.ready(&other, json!({})).await;
        rig.deleted(&other).await;
        assert!(is(&rig.get(name).await, "Ready").is_none());
        hang.release();
        rig.reason(name, "Available").await;
    }
    assert_eq!(rig.count(Operation::CreateChannel), 4);
    rig.finish().await;
}
