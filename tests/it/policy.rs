//! What a Channel asks for beside being there: observing, suspending, tests, intervals, restarts.

use std::time::Duration;

use ohallo_sim::{Action, Config, Fault, Listening, NewChannel, Operation};
use serde_json::json;
use testbed::{Act, Rule, When};

use crate::acts::looked;
use crate::rig::{Rig, WORKSPACE, condition, id_of, message};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn observe_writes_nothing_and_tells_what_manage_would_do() {
    let rig = Rig::start().await;
    rig.secret("provider", &[("apiKey", "whatsapp-api-key-abc123")]).await;
    let id = rig.sim.insert_channel(NewChannel::new(WORKSPACE, "whatsapp", "Theirs"));
    let spec = json!({
        "channelType": "whatsapp", "managementPolicy": "Observe", "channelId": id, "enabled": true,
        "config": {"number": "+4512345678"}, "credentials": [{"secretRef": {"name": "provider"}}],
    });
    rig.create("a", spec).await;
    let channel = rig.reason("a", "Observed").await;
    let status = channel.status.as_ref().unwrap();
    let planned =
        ["update displayName", "update config.number", "set enabled to true", "push credentials (1 key)"];
    assert_eq!(status.planned_changes, planned);
    assert_eq!((status.channel_id.as_deref(), status.state.as_deref()), (None, Some("active")));
    assert_eq!(status.deletion_policy.as_deref(), Some("Retain"));
    rig.create("b", json!({"managementPolicy": "Observe"})).await;
    let channel = rig.reason("b", "NotCreated").await;
    assert_eq!(condition(&channel, "Ready").map(|c| c.1), Some("Unknown"));
    assert_eq!(channel.status.as_ref().unwrap().planned_changes, ["create channel"]);
    rig.deleted("a").await;
    rig.deleted("b").await;
    assert!(rig.sim.ledger().iter().all(|entry| !entry.operation.is_write()));
    assert!(rig.sim.channel(&id).is_some());
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn observe_becomes_manage_when_it_is_told_to() {
    let rig = Rig::start().await;
    let id = rig.sim.insert_channel(NewChannel::new(WORKSPACE, "chat", "Theirs"));
    rig.create("a", json!({"managementPolicy": "Observe", "channelId": id})).await;
    rig.reason("a", "Observed").await;
    rig.edit("a", json!({"spec": {"managementPolicy": "Manage"}})).await;
    let channel = rig.reason("a", "Available").await;
    assert_eq!(id_of(&channel), id);
    assert!(channel.status.as_ref().unwrap().planned_changes.is_empty());
    assert_eq!(rig.sim.channel(&id).unwrap().display_name, "Channel a");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_channel_is_left_alone_and_keeps_its_ready() {
    let rig = Rig::start().await;
    let id = id_of(&rig.ready("a", json!({})).await);
    rig.edit("a", json!({"spec": {"suspend": true, "displayName": "Later"}})).await;
    let channel = rig.has("a", "Suspended", "Suspended").await;
    let ready = condition(&channel, "Ready").unwrap();
    assert_eq!((ready.1, ready.2, ready.3), ("True", "Available", Some(1)));
    assert_eq!(channel.status.as_ref().unwrap().observed_generation, Some(2));
    assert_eq!(rig.count(Operation::UpdateChannel), 0);
    rig.edit("a", json!({"spec": {"suspend": false}})).await;
    rig.reason("a", "Available").await;
    assert_eq!(rig.sim.channel(&id).unwrap().display_name, "Later");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tests_the_connection_once_per_request_with_two_writes_and_one_call() {
    let rig = Rig::start().await;
    let id = id_of(&rig.ready("a", json!({"channelType": "voice"})).await);
    rig.eventually("two writes", || async { (rig.writes_of("a").len() == 2).then_some(()) }).await;
    rig.annotate("a", "ohallo.eu/test-requested-at", "1").await;
    let channel = rig.has("a", "Connected", "TestPassed").await;
    assert_eq!(channel.status.as_ref().unwrap().test.as_ref().unwrap().request.as_deref(), Some("1"));
    rig.eventually("two more", || async { (rig.writes_of("a").len() >= 4).then_some(()) }).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(rig.writes_of("a").len(), 4);
    rig.sim.edit_channel(&id, |channel| channel.test_result = Some(false));
    rig.annotate("a", "ohallo.eu/test-requested-at", "2").await;
    rig.has("a", "Connected", "TestFailed").await;
    rig.event("a", "TestFailed").await;
    rig.sim.add_fault(Fault::on(Operation::TestChannel, Action::Reset { commit: true }).times(1));
    rig.annotate("a", "ohallo.eu/test-requested-at", "3").await;
    rig.has("a", "Connected", "TestOutcomeUnknown").await;
    assert_eq!(rig.count(Operation::TestChannel), 3, "a test whose answer was lost is not repeated");
    assert_eq!(condition(&rig.get("a").await, "Ready").map(|c| c.2), Some("Available"));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tests_the_connection_after_a_change_where_that_is_asked_for() {
    let rig = Rig::start().await;
    rig.secret("provider", &[("apiKey", "first-api-key-value")]).await;
    let spec = json!({"channelType": "whatsapp", "connectivityTest": "OnChange", "credentials": [{"secretRef": {"name": "provider"}}]});
    rig.ready("a", spec).await;
    rig.has("a", "Connected", "TestPassed").await;
    assert_eq!(rig.count(Operation::TestChannel), 1);
    rig.edit("a", json!({"spec": {"displayName": "Only a name"}})).await;
    rig.reason("a", "Available").await;
    rig.secret("provider", &[("apiKey", "second-api-key-value")]).await;
    rig.eventually("a second test", || async { (rig.count(Operation::TestChannel) == 2).then_some(()) })
        .await;
    assert_eq!(rig.count(Operation::StoreCredentials), 2);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_secret_is_pushed_once_to_all_its_users_after_one_read() {
    let rig = Rig::start().await;
    rig.secret("shared", &[("apiKey", "first-api-key-value")]).await;
    for i in 0..20 {
        rig.create(&format!("a{i}"), json!({"credentials": [{"secretRef": {"name": "shared"}}]})).await;
    }
    for i in 0..20 {
        rig.has(&format!("a{i}"), "CredentialsApplied", "Applied").await;
    }
    assert_eq!(rig.count(Operation::StoreCredentials), 20);
    rig.secret("shared", &[("apiKey", "second-api-key-value")]).await;
    rig.eventually("all pushed", || async { (rig.count(Operation::StoreCredentials) == 40).then_some(()) })
        .await;
    let label = json!({"metadata": {"name": "shared", "labels": {"x": "y"}}, "stringData": {"apiKey": "second-api-key-value"}});
    rig.put_secret(label).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(rig.count(Operation::StoreCredentials), 40, "a label pushes nothing");
    assert!(rig.sim.channels().iter().all(|channel| channel.credentials["apiKey"] == "second-api-key-value"));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_with_settled_channels_writes_nothing_and_reads_none_at_once() {
    let mut rig = Rig::start().await;
    rig.secret("provider", &[("apiKey", "first-api-key-value")]).await;
    for i in 0..20 {
        rig.create(
            &format!("a{i}"),
            json!({"credentials": [{"secretRef": {"name": "provider"}}], "intervalSeconds": 86400}),
        )
        .await;
    }
    for i in 0..20 {
        rig.reason(&format!("a{i}"), "Available").await;
    }
    rig.stop_operator().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let writes = rig.writes().len();
    rig.sim.clear_ledger();
    rig.start_operator().await;
    rig.eventually("ready", || async { (rig.http("/readyz").await.0 == 200).then_some(()) }).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(rig.writes().len(), writes, "{:?}", &rig.writes()[writes..]);
    let calls = rig.calls();
    assert!(calls.keys().all(|operation| operation == "GetWorkspace"), "{calls:?}");
    rig.stop_operator().await;
    rig.secret("provider", &[("apiKey", "rotated-while-it-was-down")]).await;
    rig.start_operator().await;
    rig.eventually("pushed", || async { (rig.count(Operation::StoreCredentials) == 20).then_some(()) }).await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_channel_is_read_at_its_interval_and_written_never() {
    let rig = Rig::with(Config::default(), &["--requests-per-second=0"]).await;
    rig.ready("a", json!({"intervalSeconds": 60})).await;
    rig.eventually("two writes", || async { (rig.writes_of("a").len() == 2).then_some(()) }).await;
    let read = rig.sim.wait_until(|sim| sim.count(Operation::GetChannel) >= 1, Duration::from_secs(75)).await;
    assert!(read.is_ok(), "it was never looked at");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!((rig.count(Operation::GetChannel), rig.writes_of("a").len()), (1, 2));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_no_longer_managed_is_told_of_once_and_left() {
    let rig = Rig::start().await;
    let id = id_of(&rig.ready("a", json!({"config": {"one": 1, "two": {"a": 1, "b": 2}}})).await);
    rig.edit("a", json!({"spec": {"config": {"two": {"b": null}}}})).await;
    rig.reason("a", "Available").await;
    assert_eq!(
        rig.event("a", "NoLongerManaged").await,
        "No longer managed, and left as it is in oHallo: config.two.b."
    );
    assert_eq!(rig.sim.channel(&id).unwrap().config.unwrap()["two"]["b"], 2);
    rig.edit("a", json!({"spec": {"config": {"big": "x".repeat(100 * 1024)}}})).await;
    let channel = rig.reason("a", "ValidationFailed").await;
    assert!(message(&channel, "Ready").starts_with("spec.config has"), "{}", message(&channel, "Ready"));
    assert_eq!(rig.count(Operation::UpdateChannel), 0);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_that_was_asked_for_while_nobody_ran_is_made_at_once_and_one_cut_short_is_unknown() {
    let mut rig = Rig::start().await;
    rig.ready("a", json!({"channelType": "voice"})).await;
    rig.stop_operator().await;
    rig.annotate("a", "ohallo.eu/test-requested-at", "1").await;
    rig.start_operator().await;
    rig.has("a", "Connected", "TestPassed").await;
    rig.stop_operator().await;
    // As a process leaves it that ends between the record and the answer.
    let cut = json!({"status": {"test": {"request": "2", "handledRequest": "2", "result": null, "finishedAt": null}}});
    let args = ["patch", "channel", "a", "--subresource=status", "--type=merge", "-p", &cut.to_string()];
    assert!(rig.kubectl(&args, None).status.success());
    rig.annotate("a", "ohallo.eu/test-requested-at", "2").await;
    rig.start_operator().await;
    rig.has("a", "Connected", "TestOutcomeUnknown").await;
    assert_eq!(rig.count(Operation::TestChannel), 1);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_that_the_api_server_refuses_costs_no_second_test() {
    let rig = Rig::proxied(Config::default(), &[]).await;
    rig.ready("a", json!({"channelType": "voice"})).await;
    let held =
        rig.sim.add_fault(Fault::on(Operation::TestChannel, Action::Hold { commit_first: true }).times(1));
    rig.annotate("a", "ohallo.eu/test-requested-at", "1").await;
    rig.eventually("a held test", || async { (rig.count(Operation::TestChannel) == 1).then_some(()) }).await;
    let refused = Act::Answer { code: 422, body: String::new() };
    let rule = rig.proxy().add(Rule::write(When::Before, refused).part("/a/status").times(1));
    rig.sim.release(held);
    let channel = rig.has("a", "Connected", "TestPassed").await;
    assert_eq!(rule.met(), 1);
    assert_eq!(channel.status.unwrap().test.unwrap().handled_request.as_deref(), Some("1"));
    looked(&rig, "a", "1").await;
    assert_eq!(rig.count(Operation::TestChannel), 1);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_after_a_change_that_could_not_be_sent_is_sent_when_ohallo_is_there() {
    let rig = Rig::proxied(Config::default(), &[]).await;
    rig.secret("provider", &[("apiKey", "first-api-key-value")]).await;
    let spec = json!({"channelType": "voice", "connectivityTest": "OnChange", "credentials": [{"secretRef": {"name": "provider"}}]});
    rig.ready("a", spec).await;
    rig.has("a", "Connected", "TestPassed").await;
    let ahead = rig.proxy().add(Rule::write(When::Before, Act::Hold).part("/a/status"));
    rig.secret("provider", &[("apiKey", "second-api-key-value")]).await;
    ahead.reached().await.unwrap();
    assert_eq!(rig.count(Operation::StoreCredentials), 2);
    rig.sim.set_listening(Listening::Refuse);
    let address = rig.sim.url().replace("http://", "");
    rig.eventually("nobody listens", || async {
        tokio::net::TcpStream::connect(&address).await.is_err().then_some(())
    })
    .await;
    rig.proxy().clear();
    rig.reason("a", "ApiUnavailable").await;
    rig.sim.set_listening(Listening::Accept);
    rig.eventually("a second test", || async { (rig.count(Operation::TestChannel) == 2).then_some(()) })
        .await;
    rig.reason("a", "Available").await;
    rig.has("a", "Connected", "TestPassed").await;
    assert_eq!((rig.count(Operation::TestChannel), rig.count(Operation::StoreCredentials)), (2, 2));
    rig.finish().await;
}
