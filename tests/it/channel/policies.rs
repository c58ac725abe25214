//! What a Channel asks for besides its existence: observing, suspending, tests, intervals, restarts.

use std::time::Duration;

use ohallo_sim::{Action, Config, Fault, Listening, NewChannel, Operation};
use serde_json::json;
use testbed::{Act, Rule, When};

use crate::support::harness::{Harness, WORKSPACE, condition, id_of, message};
use crate::support::steps::reconcile_now;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn observe_writes_nothing_and_reports_what_manage_would_do() {
    let harness = Harness::start().await;
    harness.secret("provider", &[("apiKey", "whatsapp-api-key-abc123")]).await;
    let id = harness.sim.insert_channel(NewChannel::new(WORKSPACE, "whatsapp", "Theirs"));
    let spec = json!({
        "channelType": "whatsapp", "managementPolicy": "Observe", "channelId": id, "enabled": true,
        "config": {"number": "+4512345678"}, "credentials": [{"secretRef": {"name": "provider"}}],
    });
    harness.create("a", spec).await;
    let channel = harness.reason("a", "Observed").await;
    let status = channel.status.as_ref().unwrap();
    let planned = ["update displayName", "update config.number", "set enabled to true", "send 1 credential"];
    assert_eq!(status.planned_changes, planned);
    assert_eq!((status.channel_id.as_deref(), status.state.as_deref()), (None, Some("active")));
    assert_eq!(status.deletion_policy.as_deref(), Some("Retain"));
    harness.create("b", json!({"managementPolicy": "Observe"})).await;
    let channel = harness.reason("b", "NotCreated").await;
    assert_eq!(condition(&channel, "Ready").map(|c| c.1), Some("Unknown"));
    assert_eq!(channel.status.as_ref().unwrap().planned_changes, ["create channel"]);
    harness.delete_and_wait("a").await;
    harness.delete_and_wait("b").await;
    assert!(harness.sim.ledger().iter().all(|entry| !entry.operation.is_write()));
    assert!(harness.sim.channel(&id).is_some());
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn observe_becomes_manage_when_the_policy_changes() {
    let harness = Harness::start().await;
    let id = harness.sim.insert_channel(NewChannel::new(WORKSPACE, "chat", "Theirs"));
    harness.create("a", json!({"managementPolicy": "Observe", "channelId": id})).await;
    harness.reason("a", "Observed").await;
    harness.edit("a", json!({"spec": {"managementPolicy": "Manage"}})).await;
    let channel = harness.reason("a", "Available").await;
    assert_eq!(id_of(&channel), id);
    assert!(channel.status.as_ref().unwrap().planned_changes.is_empty());
    assert_eq!(harness.sim.channel(&id).unwrap().display_name, "Channel a");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_channel_is_not_reconciled_and_keeps_its_ready() {
    let harness = Harness::start().await;
    let id = id_of(&harness.ready("a", json!({})).await);
    harness.edit("a", json!({"spec": {"suspend": true, "displayName": "Later"}})).await;
    let channel = harness.has("a", "Suspended", "Suspended").await;
    let ready = condition(&channel, "Ready").unwrap();
    assert_eq!((ready.1, ready.2, ready.3), ("True", "Available", Some(1)));
    assert_eq!(channel.status.as_ref().unwrap().observed_generation, Some(2));
    assert_eq!(harness.count(Operation::UpdateChannel), 0);
    harness.edit("a", json!({"spec": {"suspend": false}})).await;
    harness.reason("a", "Available").await;
    assert_eq!(harness.sim.channel(&id).unwrap().display_name, "Later");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tests_the_connection_once_per_request_with_two_writes_and_one_call() {
    let harness = Harness::start().await;
    let id = id_of(&harness.ready("a", json!({"channelType": "voice"})).await);
    harness.eventually("two writes", || async { (harness.writes_of("a").len() == 2).then_some(()) }).await;
    harness.annotate("a", "ohallo.eu/test-requested-at", "1").await;
    let channel = harness.has("a", "Connected", "TestPassed").await;
    assert_eq!(channel.status.as_ref().unwrap().test.as_ref().unwrap().request.as_deref(), Some("1"));
    harness.eventually("two more", || async { (harness.writes_of("a").len() >= 4).then_some(()) }).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(harness.writes_of("a").len(), 4);
    harness.sim.edit_channel(&id, |channel| channel.test_result = Some(false));
    harness.annotate("a", "ohallo.eu/test-requested-at", "2").await;
    harness.has("a", "Connected", "TestFailed").await;
    harness.event("a", "TestFailed").await;
    harness.sim.add_fault(Fault::on(Operation::TestChannel, Action::Reset { commit: true }).times(1));
    harness.annotate("a", "ohallo.eu/test-requested-at", "3").await;
    harness.has("a", "Connected", "TestOutcomeUnknown").await;
    assert_eq!(harness.count(Operation::TestChannel), 3, "a test whose answer was lost is not repeated");
    assert_eq!(condition(&harness.get("a").await, "Ready").map(|c| c.2), Some("Available"));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tests_the_connection_after_a_change_where_that_is_asked_for() {
    let harness = Harness::start().await;
    harness.secret("provider", &[("apiKey", "first-api-key-value")]).await;
    let spec = json!({"channelType": "whatsapp", "connectivityTest": "OnChange", "credentials": [{"secretRef": {"name": "provider"}}]});
    harness.ready("a", spec).await;
    harness.has("a", "Connected", "TestPassed").await;
    assert_eq!(harness.count(Operation::TestChannel), 1);
    harness.edit("a", json!({"spec": {"displayName": "Only a name"}})).await;
    harness.reason("a", "Available").await;
    harness.secret("provider", &[("apiKey", "second-api-key-value")]).await;
    harness
        .eventually("a second test", || async { (harness.count(Operation::TestChannel) == 2).then_some(()) })
        .await;
    assert_eq!(harness.count(Operation::StoreCredentials), 2);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_secret_is_pushed_once_to_all_its_users_after_one_read() {
    let harness = Harness::start().await;
    harness.secret("shared", &[("apiKey", "first-api-key-value")]).await;
    for i in 0..20 {
        harness.create(&format!("a{i}"), json!({"credentials": [{"secretRef": {"name": "shared"}}]})).await;
    }
    for i in 0..20 {
        harness.has(&format!("a{i}"), "CredentialsApplied", "Applied").await;
    }
    assert_eq!(harness.count(Operation::StoreCredentials), 20);
    harness.secret("shared", &[("apiKey", "second-api-key-value")]).await;
    harness
        .eventually("all pushed", || async {
            (harness.count(Operation::StoreCredentials) == 40).then_some(())
        })
        .await;
    let label = json!({"metadata": {"name": "shared", "labels": {"x": "y"}}, "stringData": {"apiKey": "second-api-key-value"}});
    harness.put_secret(label).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(harness.count(Operation::StoreCredentials), 40, "a label pushes nothing");
    assert!(
        harness.sim.channels().iter().all(|channel| channel.credentials["apiKey"] == "second-api-key-value")
    );
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_with_settled_channels_writes_nothing_and_reads_none_at_once() {
    let mut harness = Harness::start().await;
    harness.secret("provider", &[("apiKey", "first-api-key-value")]).await;
    for i in 0..20 {
        harness
            .create(
                &format!("a{i}"),
                json!({"credentials": [{"secretRef": {"name": "provider"}}], "intervalSeconds": 86400}),
            )
            .await;
    }
    for i in 0..20 {
        harness.reason(&format!("a{i}"), "Available").await;
    }
    harness.stop_operator().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let writes = harness.writes().len();
    harness.sim.clear_ledger();
    harness.start_operator().await;
    harness.eventually("ready", || async { (harness.http("/readyz").await.0 == 200).then_some(()) }).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(harness.writes().len(), writes, "{:?}", &harness.writes()[writes..]);
    let calls = harness.calls();
    assert!(calls.keys().all(|operation| operation == "GetWorkspace"), "{calls:?}");
    harness.stop_operator().await;
    harness.secret("provider", &[("apiKey", "rotated-while-it-was-down")]).await;
    harness.start_operator().await;
    harness
        .eventually("pushed", || async { (harness.count(Operation::StoreCredentials) == 20).then_some(()) })
        .await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_channel_is_read_at_its_interval_and_written_never() {
    let harness = Harness::with(Config::default(), &["--requests-per-second=0"]).await;
    harness.ready("a", json!({"intervalSeconds": 60})).await;
    harness.eventually("two writes", || async { (harness.writes_of("a").len() == 2).then_some(()) }).await;
    let read =
        harness.sim.wait_until(|sim| sim.count(Operation::GetChannel) >= 1, Duration::from_secs(75)).await;
    assert!(read.is_ok(), "it was never read");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!((harness.count(Operation::GetChannel), harness.writes_of("a").len()), (1, 2));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_no_longer_managed_is_reported_once_and_kept() {
    let harness = Harness::start().await;
    let id = id_of(&harness.ready("a", json!({"config": {"one": 1, "two": {"a": 1, "b": 2}}})).await);
    harness.edit("a", json!({"spec": {"config": {"two": {"b": null}}}})).await;
    harness.reason("a", "Available").await;
    assert_eq!(
        harness.event("a", "NoLongerManaged").await,
        "No longer managed, and unchanged in oHallo: config.two.b."
    );
    assert_eq!(harness.sim.channel(&id).unwrap().config.unwrap()["two"]["b"], 2);
    harness.edit("a", json!({"spec": {"config": {"big": "x".repeat(100 * 1024)}}})).await;
    let channel = harness.reason("a", "ValidationFailed").await;
    assert!(message(&channel, "Ready").starts_with("spec.config has"), "{}", message(&channel, "Ready"));
    assert_eq!(harness.count(Operation::UpdateChannel), 0);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_requested_while_no_operator_ran_is_sent_at_once_and_an_interrupted_one_is_unknown() {
    let mut harness = Harness::start().await;
    harness.ready("a", json!({"channelType": "voice"})).await;
    harness.stop_operator().await;
    harness.annotate("a", "ohallo.eu/test-requested-at", "1").await;
    harness.start_operator().await;
    harness.has("a", "Connected", "TestPassed").await;
    harness.stop_operator().await;
    // As a process leaves it that ends between the record and the answer.
    let cut = json!({"status": {"test": {"request": "2", "handledRequest": "2", "result": null, "finishedAt": null}}});
    let args = ["patch", "channel", "a", "--subresource=status", "--type=merge", "-p", &cut.to_string()];
    assert!(harness.kubectl(&args, None).status.success());
    harness.annotate("a", "ohallo.eu/test-requested-at", "2").await;
    harness.start_operator().await;
    harness.has("a", "Connected", "TestOutcomeUnknown").await;
    assert_eq!(harness.count(Operation::TestChannel), 1);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_that_the_api_server_rejects_costs_no_second_test() {
    let harness = Harness::proxied(Config::default(), &[]).await;
    harness.ready("a", json!({"channelType": "voice"})).await;
    let held = harness
        .sim
        .add_fault(Fault::on(Operation::TestChannel, Action::Hold { commit_first: true }).times(1));
    harness.annotate("a", "ohallo.eu/test-requested-at", "1").await;
    harness
        .eventually("a held test", || async { (harness.count(Operation::TestChannel) == 1).then_some(()) })
        .await;
    let refused = Act::Answer { code: 422, body: String::new() };
    let rule = harness.proxy().add(Rule::write(When::Before, refused).part("/a/status").times(1));
    harness.sim.release(held);
    let channel = harness.has("a", "Connected", "TestPassed").await;
    assert_eq!(rule.met(), 1);
    assert_eq!(channel.status.unwrap().test.unwrap().handled_request.as_deref(), Some("1"));
    reconcile_now(&harness, "a", "1").await;
    assert_eq!(harness.count(Operation::TestChannel), 1);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_after_a_change_that_could_not_be_sent_is_sent_when_ohallo_is_there() {
    let harness = Harness::proxied(Config::default(), &[]).await;
    harness.secret("provider", &[("apiKey", "first-api-key-value")]).await;
    let spec = json!({"channelType": "voice", "connectivityTest": "OnChange", "credentials": [{"secretRef": {"name": "provider"}}]});
    harness.ready("a", spec).await;
    harness.has("a", "Connected", "TestPassed").await;
    let held_status = harness.proxy().add(Rule::write(When::Before, Act::Hold).part("/a/status"));
    harness.secret("provider", &[("apiKey", "second-api-key-value")]).await;
    held_status.reached().await.unwrap();
    assert_eq!(harness.count(Operation::StoreCredentials), 2);
    harness.sim.set_listening(Listening::Refuse);
    let address = harness.sim.url().replace("http://", "");
    harness
        .eventually("nobody listens", || async {
            tokio::net::TcpStream::connect(&address).await.is_err().then_some(())
        })
        .await;
    harness.proxy().clear();
    harness.reason("a", "ApiUnavailable").await;
    harness.sim.set_listening(Listening::Accept);
    harness
        .eventually("a second test", || async { (harness.count(Operation::TestChannel) == 2).then_some(()) })
        .await;
    harness.reason("a", "Available").await;
    harness.has("a", "Connected", "TestPassed").await;
    assert_eq!((harness.count(Operation::TestChannel), harness.count(Operation::StoreCredentials)), (2, 2));
    harness.finish().await;
}
