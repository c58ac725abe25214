//! F6–F16 and F40: what oHallo may do to a call.

use std::time::Duration;

use ohallo_sim::{Action, Config, Fault, Key, Listening, NewChannel, Operation, Sim};
use serde_json::json;

use crate::support::harness::{Harness, TENANT, WAIT_TIMEOUT, WORKSPACE, id_of};
use crate::support::steps::SHORT_TIMEOUTS;
use crate::support::steps::{reconcile_now, state, state_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f06_huge_and_malformed_responses_are_read_no_further_than_a_mebibyte_and_delay_nobody() {
    let harness = Harness::bare(Config::default(), &SHORT_TIMEOUTS).await;
    let flags: Vec<_> = SHORT_TIMEOUTS.iter().map(ToString::to_string).collect();
    let program = crate::support::program::at_work(&harness, &flags).await;
    let id = id_of(&harness.ready("a", json!({})).await);
    let text = |body: &str| Action::Body {
        code: 200,
        body: body.into(),
        content_type: "application/json".into(),
        commit: true,
    };
    let actions = [
        Action::Huge { bytes: 1 << 30 },
        Action::GzipBomb,
        Action::Garbage { commit: true },
        text("{}"),
        text("[]"),
        text(r#"{"id": 7, "status": [], "config": "x"}"#),
        text(&"[".repeat(100_000)),
    ];
    for operation in [Operation::GetChannel, Operation::UpdateChannel] {
        for (number, action) in actions.iter().enumerate() {
            let fault = harness.sim.add_fault(Fault::on(operation, action.clone()).channel(&id));
            let name = format!("{operation:?} {number}");
            harness.edit("a", json!({"spec": {"displayName": name}})).await;
            let met = |sim: &Sim| sim.ledger().iter().any(|entry| entry.fault == Some(fault));
            harness.sim.wait_until(met, WAIT_TIMEOUT).await.unwrap();
            // Another Channel under the same key is served meanwhile.
            let other = format!("b{number}-{}", operation as usize);
            harness.ready(&other, json!({})).await;
            harness.sim.remove_fault(fault);
            reconcile_now(&harness, "a", &name).await;
            harness.reason("a", "Available").await;
            assert_eq!(harness.sim.channel(&id).unwrap().display_name, name);
        }
    }
    let peak = program.peak_memory_kib();
    assert!(peak < 96 * 1024, "the operator has had {peak} KiB");
    drop(program);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f06_answers_without_end_to_many_calls_at_once_cost_a_bounded_memory() {
    let harness = Harness::bare(Config::default(), &SHORT_TIMEOUTS).await;
    let flags: Vec<_> =
        SHORT_TIMEOUTS.iter().map(ToString::to_string).chain(["--requests-per-second=0".into()]).collect();
    let program = crate::support::program::at_work(&harness, &flags).await;
    let names: Vec<_> = (0..12).map(|number| format!("a{number}")).collect();
    for name in &names {
        harness.ready(name, json!({})).await;
    }
    let before = program.peak_memory_kib();
    for code in [200, 500] {
        let fault = harness.sim.add_fault(Fault::any(Action::Endless { code }));
        for name in &names {
            harness.edit(name, json!({"spec": {"displayName": format!("Name {code}")}})).await;
        }
        let met =
            |sim: &Sim| sim.ledger().iter().filter(|entry| entry.fault == Some(fault)).count() >= names.len();
        harness.sim.wait_until(met, WAIT_TIMEOUT).await.unwrap();
        harness.sim.remove_fault(fault);
        for name in &names {
            reconcile_now(&harness, name, &code.to_string()).await;
            harness.reason(name, "Available").await;
        }
    }
    let grown = program.peak_memory_kib() - before;
    assert!(grown < 48 * 1024, "by {grown} KiB from {before} KiB");
    drop(program);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f07_a_key_whose_calls_hang_delays_no_other_key() {
    let harness = Harness::with(Config::default(), &["--request-timeout=5", "--create-timeout=5"]).await;
    let other = "sf_test_v1_of_another_team_0123456789";
    harness.sim.add_key(Key::new(other, TENANT));
    harness.put_secret(json!({"metadata": {"name": "other-key"}, "stringData": {"apiKey": other}})).await;
    harness.workspace("other", "other-key").await;
    harness.workspace_reason("other", "Verified").await;
    for number in 0..20 {
        harness.ready(&format!("a{number}"), json!({})).await;
    }
    let fault = harness.sim.add_fault(Fault::any(Action::Hang { commit: false }).key(&harness.key));
    for number in 0..20 {
        harness.edit(&format!("a{number}"), json!({"spec": {"displayName": "Hanging"}})).await;
    }
    let hanging = |sim: &Sim| sim.ledger().iter().filter(|entry| entry.fault == Some(fault)).count() >= 9;
    harness.sim.wait_until(hanging, WAIT_TIMEOUT).await.unwrap();
    let begun = harness.sim.elapsed_ms();
    let place = json!({"workspaceRef": {"kind": "Workspace", "name": "other"}});
    harness.ready("b", place).await;
    let took = harness.sim.elapsed_ms() - begun;
    assert!(took < 4000, "it waited {took} ms for a key that hangs for 5 s");
    harness.sim.remove_fault(fault);
    harness.sim.add_fault(Fault::on(Operation::UpdateChannel, Action::Slow { bytes_per_second: 1 }).times(1));
    for number in 0..20 {
        let name = format!("a{number}");
        reconcile_now(&harness, &name, "1").await;
        harness.reason(&name, "Available").await;
    }
    // And where nobody accepts connections any more.
    harness.sim.set_listening(Listening::Refuse);
    let address = harness.sim.url().trim_start_matches("http://").to_owned();
    harness
        .eventually("nobody listens", || async {
            tokio::net::TcpStream::connect(&address).await.is_err().then_some(())
        })
        .await;
    harness.sim.set_listening(Listening::Accept);
    harness
        .eventually("the port is open", || async {
            tokio::net::TcpStream::connect(&address).await.is_ok().then_some(())
        })
        .await;
    harness.sim.set_listening(Listening::Ignore);
    harness.edit("b", json!({"spec": {"displayName": "Later"}})).await;
    harness.until("b", "waiting", |channel| state_of(channel, "Reconciling").is_some()).await;
    harness.sim.set_listening(Listening::Accept);
    reconcile_now(&harness, "b", "1").await;
    harness.reason("b", "Available").await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f08_every_retry_after_is_taken_as_at_least_a_second_and_at_most_a_quarter_of_an_hour() {
    let harness = Harness::start().await;
    harness.ready("a", json!({})).await;
    let past = "Sun, 06 Nov 1994 08:49:37 GMT";
    for (number, value) in ["0", "-1", past, "soon", "", "1.5", "\u{7f}"].into_iter().enumerate() {
        let action = Action::retry_after(429, value);
        let fault = harness.sim.add_fault(Fault::on(Operation::UpdateChannel, action).times(2));
        harness.edit("a", json!({"spec": {"displayName": format!("Name {number}")}})).await;
        harness.reason("a", "Available").await;
        let calls: Vec<_> = harness
            .sim
            .ledger()
            .into_iter()
            .filter(|entry| entry.operation == Operation::UpdateChannel)
            .collect();
        let last: Vec<_> = calls.iter().rev().take(3).map(|entry| entry.at_ms).collect();
        assert!(last[0] - last[1] >= 900 && last[1] - last[2] >= 900, "{value:?}: {last:?}");
        harness.sim.remove_fault(fault);
    }
    let action = Action::retry_after(429, "1000000000000000000");
    harness.sim.add_fault(Fault::on(Operation::UpdateChannel, action).times(1));
    harness.edit("a", json!({"spec": {"displayName": "Never"}})).await;
    harness
        .until("a", "limited", |channel| state_of(channel, "Reconciling") == state("True", "RateLimited"))
        .await;
    let calls = harness.sim.ledger().len();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(harness.sim.ledger().len(), calls, "the key is paused");
    harness.finish().await;
}

/// I15. It takes two of the shortest intervals.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f08_a_channel_that_may_not_be_read_for_two_intervals_is_no_longer_ready() {
    let harness = Harness::start().await;
    harness.ready("a", json!({"intervalSeconds": 60})).await;
    harness.sim.add_fault(Fault::on(Operation::GetChannel, Action::retry_after(429, "140")).times(1));
    let refused = reconcile_now(&harness, "a", "1").await;
    assert_eq!(state_of(&refused, "Ready"), state("True", "Available"), "one failed read changes nothing");
    let patience = Duration::from_secs(180);
    let unknown = state("Unknown", "RateLimited");
    harness.until_within(patience, "a", "unknown", |channel| state_of(channel, "Ready") == unknown).await;
    assert_eq!(harness.count(Operation::GetChannel), 1, "the key is paused all the while");
    harness
        .until_within(patience, "a", "ready", |channel| {
            state_of(channel, "Ready") == state("True", "Available")
        })
        .await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f09_a_redirect_to_another_origin_is_not_followed_by_any_call() {
    let harness = Harness::start().await;
    let other_namespace = Sim::start(Config::default()).await.unwrap();
    let id = id_of(&harness.ready("a", json!({})).await);
    for code in [301, 302, 303, 307, 308] {
        let location = format!("{}/api/channels/{id}", other_namespace.url());
        let fault = harness.sim.add_fault(Fault::any(Action::Redirect { code, location }));
        harness.edit("a", json!({"spec": {"displayName": format!("Name {code}")}})).await;
        harness.until("a", "reported", |channel| state_of(channel, "Reconciling").is_some()).await;
        harness.sim.remove_fault(fault);
        reconcile_now(&harness, "a", &code.to_string()).await;
        harness.reason("a", "Available").await;
    }
    assert!(other_namespace.ledger().is_empty(), "{:?}", other_namespace.ledger());
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f10_one_401_and_one_403_among_good_answers_change_nothing_for_good() {
    let harness = Harness::start().await;
    let id = id_of(&harness.ready("a", json!({})).await);
    for (number, code) in [401, 403, 401].into_iter().enumerate() {
        for operation in [Operation::GetChannel, Operation::UpdateChannel] {
            harness.sim.add_fault(Fault::on(operation, Action::status(code)).times(1));
            harness.edit("a", json!({"spec": {"displayName": format!("Name {number} {operation:?}")}})).await;
            harness
                .until("a", "reported", |channel| {
                    state_of(channel, "Ready").is_some_and(|ready| ready.0 != "True")
                })
                .await;
            harness
                .annotate("a", crate::support::steps::RECONCILE_REQUESTED, &format!("{number} {operation:?}"))
                .await;
            harness.reason("a", "Available").await;
        }
    }
    assert_eq!((harness.count(Operation::CreateChannel), harness.count(Operation::DeleteChannel)), (1, 0));
    assert!(harness.sim.channel(&id).is_some());
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f16_continuous_edits_in_the_dashboard_are_reverted_three_times_and_then_only_reported() {
    let harness = Harness::start().await;
    let id = id_of(&harness.ready("a", json!({"config": {"greeting": "Hello"}})).await);
    let greeting = |sim: &Sim| sim.channel(&id).unwrap().config.unwrap()["greeting"].clone();
    let reported = async || state_of(&harness.get("a").await, "Ready") == state("False", "NotConverging");
    let mut rounds = 0;
    while !reported().await {
        rounds += 1;
        assert!(rounds < 8, "it never gives up");
        harness.sim.edit_channel(&id, |channel| {
            channel.config.get_or_insert_default().insert("greeting".into(), json!("Another"));
        });
        // An input of no meaning: a reconcile that a user requests would restart the count.
        harness.edit("a", json!({"spec": {"intervalSeconds": 700 + rounds}})).await;
        harness
            .eventually("put back, or given up", || async {
                (greeting(&harness.sim) == "Hello" || reported().await).then_some(())
            })
            .await;
    }
    let updates = harness.count(Operation::UpdateChannel);
    assert!(updates <= 4, "{updates}");
    let reads = harness.count(Operation::GetChannel);
    harness.edit("a", json!({"spec": {"intervalSeconds": 900}})).await;
    harness.sim.wait_until(|sim| sim.count(Operation::GetChannel) > reads, WAIT_TIMEOUT).await.unwrap();
    assert_eq!(harness.count(Operation::UpdateChannel), updates);
    harness.edit("a", json!({"spec": {"config": {"greeting": "Another"}}})).await;
    harness.reason("a", "Available").await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f40_many_channels_at_a_cold_start_are_reconciled_without_a_storm() {
    let count: usize = std::env::var("OHALLO_TEST_COLD_START").map_or(200, |text| text.parse().unwrap());
    let mut harness = Harness::with(Config::default(), &["--requests-per-second=100", "--burst=20"]).await;
    harness.stop_operator().await;
    for number in 0..count {
        let id =
            harness.sim.insert_channel(NewChannel::new(WORKSPACE, "chat", &format!("Channel a{number}")));
        harness.create(&format!("a{number}"), json!({"channelId": id})).await;
    }
    let from = harness.sim.elapsed_ms();
    harness.start_operator().await;
    harness.ready("new", json!({})).await;
    for number in 0..count {
        harness.reason(&format!("a{number}"), "Available").await;
    }
    let calls = harness.sim.ledger().into_iter().filter(|entry| entry.at_ms >= from);
    let reads: Vec<_> = calls.filter(|entry| entry.operation == Operation::GetChannel).collect();
    assert!(reads.len() <= count + count / 10 + 2, "{} reads of {count}", reads.len());
    assert_eq!(harness.count(Operation::UpdateChannel), 0);
    harness.finish().await;
}
