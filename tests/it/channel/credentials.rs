//! Credentials from Secrets: what is missing or unfit, and what is sent when.

use ohallo_sim::{Action, Config, Fault, Operation};
use serde_json::json;

use crate::support::harness::{Harness, id_of, message};
use crate::support::steps::reads;
use crate::support::steps::{RECONCILE_REQUESTED, reconcile_now, single_event, state, state_of};

const PUSH: Operation = Operation::StoreCredentials;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_secret_lacks_is_reported_and_sent_once_it_exists() {
    let harness = Harness::start().await;
    harness.create("missing", json!({"credentials": [{"secretRef": {"name": "late"}}]})).await;
    harness
        .create(
            "key",
            json!({"credentials": [{"name": "x", "secretKeyRef": {"name": "partial", "key": "b"}}]}),
        )
        .await;
    harness.secret("partial", &[("a", "value-a-0123456789")]).await;
    let channel = harness.reason("missing", "SecretNotFound").await;
    assert!(message(&channel, "Ready").contains("\"late\""));
    assert_eq!(state_of(&channel, "CredentialsApplied"), state("False", "SecretNotFound"));
    let channel = harness.reason("key", "SecretKeyMissing").await;
    assert!(message(&channel, "Ready").contains("\"b\""));
    assert_eq!(harness.count(Operation::CreateChannel), 0, "it waits before it creates");
    harness.secret("late", &[("a", "value-late-0123456789")]).await;
    harness.secret("partial", &[("b", "value-b-0123456789")]).await;
    for name in ["missing", "key"] {
        let channel = harness.reason(name, "Available").await;
        assert_eq!(state_of(&channel, "CredentialsApplied"), state("True", "Applied"));
    }
    assert_eq!((harness.count(Operation::CreateChannel), harness.count(PUSH)), (2, 2));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_is_unfit_stalls_until_it_is_corrected() {
    let harness = Harness::start().await;
    let (large, big) = ("large-value-01234567".repeat(5_000), "big-value-0123456789".repeat(50_000));
    let whole = |name: &str| json!({"credentials": [{"secretRef": {"name": name}}]});
    harness.put_secret(json!({"metadata": {"name": "empty"}})).await;
    harness.put_secret(json!({"metadata": {"name": "blank"}, "stringData": {"a": ""}})).await;
    harness.put_secret(json!({"metadata": {"name": "bytes"}, "data": {"a": "//79/A=="}})).await;
    harness.put_secret(json!({"metadata": {"name": "large"}, "stringData": {"a": large}})).await;
    harness.put_secret(json!({"metadata": {"name": "big"}, "stringData": {"a": big}})).await;
    for (name, part) in [
        ("empty", "is empty"),
        ("blank", "is empty"),
        ("bytes", "UTF-8"),
        ("large", "64 KiB"),
        ("big", "256 KiB"),
    ] {
        harness.create(name, whole(name)).await;
        let channel = harness.reason(name, "SecretInvalid").await;
        assert_eq!(state_of(&channel, "Stalled"), state("True", "SecretInvalid"));
        assert!(message(&channel, "Ready").contains(part), "{}", message(&channel, "Ready"));
        single_event(&harness, name, "SecretInvalid").await;
    }
    assert_eq!(harness.count(Operation::CreateChannel), 0);
    for name in ["empty", "blank", "bytes", "large", "big"] {
        harness.secret(name, &[("a", "corrected-value-01")]).await;
        harness.reason(name, "Available").await;
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_forms_are_put_together_and_later_items_win() {
    let harness = Harness::start().await;
    harness.secret("one", &[("a", "one-a-0123456789"), ("b", "one-b-0123456789")]).await;
    harness.secret("two", &[("b", "two-b-0123456789"), ("other", "two-o-0123456789")]).await;
    let spec = json!({"credentials": [
        {"secretRef": {"name": "one"}},
        {"secretRef": {"name": "nowhere", "optional": true}},
        {"name": "b", "secretKeyRef": {"name": "two", "key": "b"}},
        {"name": "c", "secretKeyRef": {"name": "two", "key": "none", "optional": true}},
    ]});
    let channel = harness.ready("a", spec).await;
    let sent = harness.sim.channel(&id_of(&channel)).unwrap().credentials;
    let sent: Vec<_> = sent.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(sent, [("a", "one-a-0123456789"), ("b", "two-b-0123456789")]);
    assert_eq!(channel.status.as_ref().unwrap().credentials.as_ref().unwrap().keys, ["a", "b"]);
    harness
        .create("nothing", json!({"credentials": [{"secretRef": {"name": "nowhere", "optional": true}}]}))
        .await;
    harness.reason("nothing", "Available").await;
    assert_eq!(harness.count(PUSH), 1);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_secret_is_read_once_and_sent_once_for_each_of_its_users() {
    let harness = Harness::start().await;
    harness.secret("shared", &[("a", "first-value-0123456789")]).await;
    let names = ["c0", "c1", "c2", "c3", "c4"];
    let mut ids = Vec::new();
    for name in names {
        ids.push(id_of(
            &harness.ready(name, json!({"credentials": [{"secretRef": {"name": "shared"}}]})).await,
        ));
    }
    assert_eq!((harness.count(PUSH), reads(&harness, "shared")), (5, 1));
    harness.secret("shared", &[("a", "second-value-0123456789")]).await;
    harness
        .sim
        .wait_for(
            |calls| calls.iter().filter(|call| call.operation == PUSH && call.status.is_some()).count() >= 10,
            crate::support::harness::WAIT_TIMEOUT,
        )
        .await
        .unwrap();
    for (name, id) in names.iter().zip(&ids) {
        reconcile_now(&harness, name, "1").await;
        assert_eq!(harness.sim.channel(id).unwrap().credentials["a"], "second-value-0123456789");
    }
    assert_eq!(harness.count(PUSH), 10);
    harness
        .eventually("the read is audited", || async { (reads(&harness, "shared") >= 2).then_some(()) })
        .await;
    assert_eq!(reads(&harness, "shared"), 2);
    let labelled = harness.kubectl(&["label", "secret", "shared", "team=support"], None);
    assert!(labelled.status.success());
    harness
        .eventually("the label is seen", || async { (reads(&harness, "shared") >= 3).then_some(()) })
        .await;
    for name in names {
        reconcile_now(&harness, name, "2").await;
    }
    assert_eq!(harness.count(PUSH), 10, "a label is no credential");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_changed_while_unused_is_read_again() {
    let harness = Harness::start().await;
    let spec = || json!({"credentials": [{"secretRef": {"name": "shared"}}]});
    harness.secret("shared", &[("a", "first-value-0123456789")]).await;
    harness.ready("before", spec()).await;
    harness.delete_and_wait("before").await;
    harness.secret("shared", &[("a", "second-value-0123456789")]).await;
    let id = id_of(&harness.ready("after", spec()).await);
    let sent = || harness.sim.channel(&id).unwrap().credentials["a"].clone();
    harness
        .eventually("the second value", || async { (sent() == "second-value-0123456789").then_some(()) })
        .await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_vanishes_leaves_an_active_channel_ready_and_is_reported() {
    let harness = Harness::start().await;
    harness.secret("s", &[("a", "first-value-0123456789")]).await;
    harness.ready("a", json!({"credentials": [{"secretRef": {"name": "s"}}]})).await;
    harness.secrets().delete("s", &Default::default()).await.unwrap();
    let channel = harness.has("a", "CredentialsApplied", "SecretNotFound").await;
    assert_eq!(state_of(&channel, "Ready"), state("True", "Available"));
    harness.secret("s", &[("a", "second-value-0123456789")]).await;
    harness.has("a", "CredentialsApplied", "Applied").await;
    assert_eq!(harness.count(PUSH), 2);
    harness.edit("a", json!({"spec": {"credentials": []}})).await;
    let channel = harness
        .until("a", "without credentials", |channel| state_of(channel, "CredentialsApplied").is_none())
        .await;
    assert!(channel.status.as_ref().unwrap().credentials.is_none());
    single_event(&harness, "a", "NoLongerManaged").await;
    reconcile_now(&harness, "a", "1").await;
    assert_eq!(harness.count(PUSH), 2);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_push_is_reported_and_a_lost_one_is_retried() {
    let harness = Harness::with(Config::default(), &["--request-timeout=1"]).await;
    harness.secret("s", &[("a", "first-value-0123456789")]).await;
    for (number, action) in [
        Action::status(400),
        Action::status(403),
        Action::status(405),
        Action::status(422),
        Action::status(500),
        Action::Garbage { commit: true },
        Action::Reset { commit: true },
        Action::Hang { commit: false },
        Action::Redirect { code: 308, location: "http://127.0.0.1:9/".into() },
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("c{number}");
        let fault = harness.sim.add_fault(Fault::on(PUSH, action.clone()));
        harness.create(&name, json!({"credentials": [{"secretRef": {"name": "s"}}]})).await;
        let channel = harness.has(&name, "CredentialsApplied", "PushFailed").await;
        assert!(state_of(&channel, "Ready") != state("True", "Available"), "{action:?}");
        let id = id_of(&channel);
        harness.sim.remove_fault(fault);
        harness.annotate(&name, RECONCILE_REQUESTED, "1").await;
        let channel = harness.reason(&name, "Available").await;
        assert_eq!(
            (state_of(&channel, "CredentialsApplied"), id_of(&channel)),
            (state("True", "Applied"), id.clone())
        );
        assert_eq!(harness.sim.channel(&id).unwrap().credentials["a"], "first-value-0123456789");
        single_event(&harness, &name, "CredentialsPushed").await;
    }
    assert_eq!(harness.count(Operation::CreateChannel), 9);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_sends_nothing_where_nothing_has_changed() {
    let mut harness = Harness::start().await;
    harness.secret("s", &[("a", "first-value-0123456789")]).await;
    let spec = json!({"enabled": true, "credentials": [{"secretRef": {"name": "s"}}]});
    harness.ready("a", spec).await;
    let before = harness.writes_of("a").len();
    harness.stop_operator().await;
    harness.start_operator().await;
    reconcile_now(&harness, "a", "1").await;
    assert_eq!((harness.count(PUSH), harness.count(Operation::UpdateChannel)), (1, 0));
    harness.eventually("one write", || async { (harness.writes_of("a").len() > before).then_some(()) }).await;
    harness.stop_operator().await;
    harness.secret("s", &[("a", "second-value-0123456789")]).await;
    harness.start_operator().await;
    harness
        .sim
        .wait_for(
            |calls| calls.iter().filter(|call| call.operation == PUSH).count() == 2,
            crate::support::harness::WAIT_TIMEOUT,
        )
        .await
        .unwrap();
    harness.finish().await;
}
