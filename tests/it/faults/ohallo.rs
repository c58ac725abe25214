//! F6–F16 and F40: what oHallo may do to a call.

use std::time::Duration;

use ohallo_sim::{Action, Config, Fault, Key, Listening, NewChannel, Operation, Sim};
use serde_json::json;

use crate::acts::{is, looked, so};
use crate::rig::{PATIENCE, Rig, TENANT, WORKSPACE, id_of};

pub const QUICK: [&str; 2] = ["--request-timeout=1", "--create-timeout=1"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f06_huge_and_malformed_answers_are_read_no_further_than_a_mebibyte_and_hold_nobody_up() {
    let rig = Rig::bare(Config::default(), &QUICK).await;
    let flags: Vec<_> = QUICK.iter().map(ToString::to_string).collect();
    let program = crate::binary::at_work(&rig, &flags).await;
    let id = id_of(&rig.ready("a", json!({})).await);
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
            let fault = rig.sim.add_fault(Fault::on(operation, action.clone()).channel(&id));
            let name = format!("{operation:?} {number}");
            rig.edit("a", json!({"spec": {"displayName": name}})).await;
            let met = |sim: &Sim| sim.ledger().iter().any(|entry| entry.fault == Some(fault));
            rig.sim.wait_until(met, PATIENCE).await.unwrap();
            // Another Channel under the same key is served meanwhile.
            let other = format!("b{number}-{}", operation as usize);
            rig.ready(&other, json!({})).await;
            rig.sim.remove_fault(fault);
            looked(&rig, "a", &name).await;
            rig.reason("a", "Available").await;
            assert_eq!(rig.sim.channel(&id).unwrap().display_name, name);
        }
    }
    let peak = program.peak_memory_kib();
    assert!(peak < 96 * 1024, "the operator has had {peak} KiB");
    drop(program);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f06_answers_without_end_to_many_calls_at_once_cost_a_bounded_memory() {
    let rig = Rig::bare(Config::default(), &QUICK).await;
    let flags: Vec<_> =
        QUICK.iter().map(ToString::to_string).chain(["--requests-per-second=0".into()]).collect();
    let program = crate::binary::at_work(&rig, &flags).await;
    let names: Vec<_> = (0..12).map(|number| format!("a{number}")).collect();
    for name in &names {
        rig.ready(name, json!({})).await;
    }
    let before = program.peak_memory_kib();
    for code in [200, 500] {
        let fault = rig.sim.add_fault(Fault::any(Action::Endless { code }));
        for name in &names {
            rig.edit(name, json!({"spec": {"displayName": format!("Name {code}")}})).await;
        }
        let met =
            |sim: &Sim| sim.ledger().iter().filter(|entry| entry.fault == Some(fault)).count() >= names.len();
        rig.sim.wait_until(met, PATIENCE).await.unwrap();
        rig.sim.remove_fault(fault);
        for name in &names {
            looked(&rig, name, &code.to_string()).await;
            rig.reason(name, "Available").await;
        }
    }
    let grown = program.peak_memory_kib() - before;
    assert!(grown < 48 * 1024, "by {grown} KiB from {before} KiB");
    drop(program);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f07_a_key_whose_calls_hang_holds_up_no_other_key() {
    let rig = Rig::with(Config::default(), &["--request-timeout=5", "--create-timeout=5"]).await;
    let other = "sf_test_v1_of_another_team_0123456789";
    rig.sim.add_key(Key::new(other, TENANT));
    rig.put_secret(json!({"metadata": {"name": "other-key"}, "stringData": {"apiKey": other}})).await;
    rig.workspace("other", "other-key").await;
    rig.workspace_reason("other", "Verified").await;
    for number in 0..20 {
        rig.ready(&format!("a{number}"), json!({})).await;
    }
    let fault = rig.sim.add_fault(Fault::any(Action::Hang { commit: false }).key(&rig.key));
    for number in 0..20 {
        rig.edit(&format!("a{number}"), json!({"spec": {"displayName": "Hanging"}})).await;
    }
    let hanging = |sim: &Sim| sim.ledger().iter().filter(|entry| entry.fault == Some(fault)).count() >= 9;
    rig.sim.wait_until(hanging, PATIENCE).await.unwrap();
    let begun = rig.sim.elapsed_ms();
    let place = json!({"workspaceRef": {"kind": "Workspace", "name": "other"}});
    rig.ready("b", place).await;
    let took = rig.sim.elapsed_ms() - begun;
    assert!(took < 4000, "it waited {took} ms for a key that hangs for 5 s");
    rig.sim.remove_fault(fault);
    rig.sim.add_fault(Fault::on(Operation::UpdateChannel, Action::Slow { bytes_per_second: 1 }).times(1));
    for number in 0..20 {
        let name = format!("a{number}");
        looked(&rig, &name, "1").await;
        rig.reason(&name, "Available").await;
    }
    // And where nobody accepts connections any more.
    rig.sim.set_listening(Listening::Refuse);
    let address = rig.sim.url().trim_start_matches("http://").to_owned();
    rig.eventually("nobody listens", || async {
        tokio::net::TcpStream::connect(&address).await.is_err().then_some(())
    })
    .await;
    rig.sim.set_listening(Listening::Accept);
    rig.eventually("the port is open", || async {
        tokio::net::TcpStream::connect(&address).await.is_ok().then_some(())
    })
    .await;
    rig.sim.set_listening(Listening::Ignore);
    rig.edit("b", json!({"spec": {"displayName": "Later"}})).await;
    rig.until("b", "waiting", |channel| is(channel, "Reconciling").is_some()).await;
    rig.sim.set_listening(Listening::Accept);
    looked(&rig, "b", "1").await;
    rig.reason("b", "Available").await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f08_every_retry_after_is_taken_as_at_least_a_second_and_at_most_a_quarter_of_an_hour() {
    let rig = Rig::start().await;
    rig.ready("a", json!({})).await;
    let past = "Sun, 06 Nov 1994 08:49:37 GMT";
    for (number, value) in ["0", "-1", past, "soon", "", "1.5", "\u{7f}"].into_iter().enumerate() {
        let action = Action::retry_after(429, value);
        let fault = rig.sim.add_fault(Fault::on(Operation::UpdateChannel, action).times(2));
        rig.edit("a", json!({"spec": {"displayName": format!("Name {number}")}})).await;
        rig.reason("a", "Available").await;
        let calls: Vec<_> = rig
            .sim
            .ledger()
            .into_iter()
            .filter(|entry| entry.operation == Operation::UpdateChannel)
            .collect();
        let last: Vec<_> = calls.iter().rev().take(3).map(|entry| entry.at_ms).collect();
        assert!(last[0] - last[1] >= 900 && last[1] - last[2] >= 900, "{value:?}: {last:?}");
        rig.sim.remove_fault(fault);
    }
    let action = Action::retry_after(429, "1000000000000000000");
    rig.sim.add_fault(Fault::on(Operation::UpdateChannel, action).times(1));
    rig.edit("a", json!({"spec": {"displayName": "Never"}})).await;
    rig.until("a", "limited", |channel| is(channel, "Reconciling") == so("True", "RateLimited")).await;
    let calls = rig.sim.ledger().len();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(rig.sim.ledger().len(), calls, "the key is paused");
    rig.finish().await;
}

/// I15. It takes two of the shortest intervals.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f08_a_channel_that_may_not_be_read_for_two_intervals_is_ready_no_more() {
    let rig = Rig::start().await;
    rig.ready("a", json!({"intervalSeconds": 60})).await;
    rig.sim.add_fault(Fault::on(Operation::GetChannel, Action::retry_after(429, "140")).times(1));
    let refused = looked(&rig, "a", "1").await;
    assert_eq!(is(&refused, "Ready"), so("True", "Available"), "one look that failed is no news");
    let patience = Duration::from_secs(180);
    let unknown = so("Unknown", "RateLimited");
    rig.until_within(patience, "a", "unknown", |channel| is(channel, "Ready") == unknown).await;
    assert_eq!(rig.count(Operation::GetChannel), 1, "the key is paused all the while");
    rig.until_within(patience, "a", "ready", |channel| is(channel, "Ready") == so("True", "Available")).await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f09_a_redirect_to_another_origin_is_not_followed_by_any_call() {
    let rig = Rig::start().await;
    let elsewhere = Sim::start(Config::default()).await.unwrap();
    let id = id_of(&rig.ready("a", json!({})).await);
    for code in [301, 302, 303, 307, 308] {
        let location = format!("{}/api/channels/{id}", elsewhere.url());
        let fault = rig.sim.add_fault(Fault::any(Action::Redirect { code, location }));
        rig.edit("a", json!({"spec": {"displayName": format!("Name {code}")}})).await;
        rig.until("a", "told", |channel| is(channel, "Reconciling").is_some()).await;
        rig.sim.remove_fault(fault);
        looked(&rig, "a", &code.to_string()).await;
        rig.reason("a", "Available").await;
    }
    assert!(elsewhere.ledger().is_empty(), "{:?}", elsewhere.ledger());
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f10_one_401_and_one_403_among_good_answers_change_nothing_for_good() {
    let rig = Rig::start().await;
    let id = id_of(&rig.ready("a", json!({})).await);
    for (number, code) in [401, 403, 401].into_iter().enumerate() {
        for operation in [Operation::GetChannel, Operation::UpdateChannel] {
            rig.sim.add_fault(Fault::on(operation, Action::status(code)).times(1));
            rig.edit("a", json!({"spec": {"displayName": format!("Name {number} {operation:?}")}})).await;
            rig.until("a", "told", |channel| is(channel, "Ready").is_some_and(|ready| ready.0 != "True"))
                .await;
            rig.annotate("a", crate::acts::LOOK, &format!("{number} {operation:?}")).await;
            rig.reason("a", "Available").await;
        }
    }
    assert_eq!((rig.count(Operation::CreateChannel), rig.count(Operation::DeleteChannel)), (1, 0));
    assert!(rig.sim.channel(&id).is_some());
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f16_edits_in_the_dashboard_for_ever_are_put_back_three_times_and_then_only_told() {
    let rig = Rig::start().await;
    let id = id_of(&rig.ready("a", json!({"config": {"greeting": "Hello"}})).await);
    let greeting = |sim: &Sim| sim.channel(&id).unwrap().config.unwrap()["greeting"].clone();
    let told = async || is(&rig.get("a").await, "Ready") == so("False", "NotConverging");
    let mut rounds = 0;
    while !told().await {
        rounds += 1;
        assert!(rounds < 8, "it never gives up");
        rig.sim.edit_channel(&id, |channel| {
            channel.config.get_or_insert_default().insert("greeting".into(), json!("Another"));
        });
        // An input of no meaning: a look that a person asks for would begin the count anew.
        rig.edit("a", json!({"spec": {"intervalSeconds": 700 + rounds}})).await;
        rig.eventually("put back, or given up", || async {
            (greeting(&rig.sim) == "Hello" || told().await).then_some(())
        })
        .await;
    }
    let updates = rig.count(Operation::UpdateChannel);
    assert!(updates <= 4, "{updates}");
    let reads = rig.count(Operation::GetChannel);
    rig.edit("a", json!({"spec": {"intervalSeconds": 900}})).await;
    rig.sim.wait_until(|sim| sim.count(Operation::GetChannel) > reads, PATIENCE).await.unwrap();
    assert_eq!(rig.count(Operation::UpdateChannel), updates);
    rig.edit("a", json!({"spec": {"config": {"greeting": "Another"}}})).await;
    rig.reason("a", "Available").await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f40_many_channels_at_a_cold_start_are_taken_up_without_a_storm() {
    let count: usize = std::env::var("OHALLO_TEST_COLD_START").map_or(200, |text| text.parse().unwrap());
    let mut rig = Rig::with(Config::default(), &["--requests-per-second=100", "--burst=20"]).await;
    rig.stop_operator().await;
    for number in 0..count {
        let id = rig.sim.insert_channel(NewChannel::new(WORKSPACE, "chat", &format!("Channel a{number}")));
        rig.create(&format!("a{number}"), json!({"channelId": id})).await;
    }
    let from = rig.sim.elapsed_ms();
    rig.start_operator().await;
    rig.ready("new", json!({})).await;
    for number in 0..count {
        rig.reason(&format!("a{number}"), "Available").await;
    }
    let calls = rig.sim.ledger().into_iter().filter(|entry| entry.at_ms >= from);
    let reads: Vec<_> = calls.filter(|entry| entry.operation == Operation::GetChannel).collect();
    assert!(reads.len() <= count + count / 10 + 2, "{} reads of {count}", reads.len());
    assert_eq!(rig.count(Operation::UpdateChannel), 0);
    rig.finish().await;
}
