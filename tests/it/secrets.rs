//! Credentials from Secrets: what is missing or unfit, and what is sent when.

use ohallo_sim::{Action, Config, Fault, Operation};
use serde_json::json;
use testbed::User;

use crate::acts::{LOOK, is, looked, once, so};
use crate::rig::{Rig, id_of, message};

const PUSH: Operation = Operation::StoreCredentials;

/// How often the operator has read this Secret.
pub fn reads(rig: &Rig, name: &str) -> usize {
    let audited = rig.audited();
    let ours = audited.iter().filter(|event| {
        event.user == User::Operator.name()
            && (event.verb.as_str(), event.resource.as_str()) == ("get", "secrets")
            && event.name.as_deref() == Some(name)
    });
    ours.count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_secret_lacks_is_said_and_taken_once_it_is_there() {
    let rig = Rig::start().await;
    rig.create("missing", json!({"credentials": [{"secretRef": {"name": "late"}}]})).await;
    rig.create(
        "key",
        json!({"credentials": [{"name": "x", "secretKeyRef": {"name": "partial", "key": "b"}}]}),
    )
    .await;
    rig.secret("partial", &[("a", "value-a-0123456789")]).await;
    let channel = rig.reason("missing", "SecretNotFound").await;
    assert!(message(&channel, "Ready").contains("\"late\""));
    assert_eq!(is(&channel, "CredentialsApplied"), so("False", "SecretNotFound"));
    let channel = rig.reason("key", "SecretKeyMissing").await;
    assert!(message(&channel, "Ready").contains("\"b\""));
    assert_eq!(rig.count(Operation::CreateChannel), 0, "it waits before it creates");
    rig.secret("late", &[("a", "value-late-0123456789")]).await;
    rig.secret("partial", &[("b", "value-b-0123456789")]).await;
    for name in ["missing", "key"] {
        let channel = rig.reason(name, "Available").await;
        assert_eq!(is(&channel, "CredentialsApplied"), so("True", "Applied"));
    }
    assert_eq!((rig.count(Operation::CreateChannel), rig.count(PUSH)), (2, 2));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_is_unfit_stalls_until_it_is_corrected() {
    let rig = Rig::start().await;
    let (large, big) = ("large-value-01234567".repeat(5_000), "big-value-0123456789".repeat(50_000));
    let whole = |name: &str| json!({"credentials": [{"secretRef": {"name": name}}]});
    rig.put_secret(json!({"metadata": {"name": "empty"}})).await;
    rig.put_secret(json!({"metadata": {"name": "blank"}, "stringData": {"a": ""}})).await;
    rig.put_secret(json!({"metadata": {"name": "bytes"}, "data": {"a": "//79/A=="}})).await;
    rig.put_secret(json!({"metadata": {"name": "large"}, "stringData": {"a": large}})).await;
    rig.put_secret(json!({"metadata": {"name": "big"}, "stringData": {"a": big}})).await;
    for (name, says) in [
        ("empty", "is empty"),
        ("blank", "is empty"),
        ("bytes", "UTF-8"),
        ("large", "64 KiB"),
        ("big", "256 KiB"),
    ] {
        rig.create(name, whole(name)).await;
        let channel = rig.reason(name, "SecretInvalid").await;
        assert_eq!(is(&channel, "Stalled"), so("True", "SecretInvalid"));
        assert!(message(&channel, "Ready").contains(says), "{}", message(&channel, "Ready"));
        once(&rig, name, "SecretInvalid").await;
    }
    assert_eq!(rig.count(Operation::CreateChannel), 0);
    for name in ["empty", "blank", "bytes", "large", "big"] {
        rig.secret(name, &[("a", "corrected-value-01")]).await;
        rig.reason(name, "Available").await;
    }
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_forms_are_put_together_and_later_items_win() {
    let rig = Rig::start().await;
    rig.secret("one", &[("a", "one-a-0123456789"), ("b", "one-b-0123456789")]).await;
    rig.secret("two", &[("b", "two-b-0123456789"), ("other", "two-o-0123456789")]).await;
    let spec = json!({"credentials": [
        {"secretRef": {"name": "one"}},
        {"secretRef": {"name": "nowhere", "optional": true}},
        {"name": "b", "secretKeyRef": {"name": "two", "key": "b"}},
        {"name": "c", "secretKeyRef": {"name": "two", "key": "none", "optional": true}},
    ]});
    let channel = rig.ready("a", spec).await;
    let sent = rig.sim.channel(&id_of(&channel)).unwrap().credentials;
    let sent: Vec<_> = sent.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(sent, [("a", "one-a-0123456789"), ("b", "two-b-0123456789")]);
    assert_eq!(channel.status.as_ref().unwrap().credentials.as_ref().unwrap().keys, ["a", "b"]);
    rig.create("nothing", json!({"credentials": [{"secretRef": {"name": "nowhere", "optional": true}}]}))
        .await;
    rig.reason("nothing", "Available").await;
    assert_eq!(rig.count(PUSH), 1);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_secret_is_read_once_and_sent_once_for_each_of_its_users() {
    let rig = Rig::start().await;
    rig.secret("shared", &[("a", "first-value-0123456789")]).await;
    let names = ["c0", "c1", "c2", "c3", "c4"];
    let mut ids = Vec::new();
    for name in names {
        ids.push(id_of(&rig.ready(name, json!({"credentials": [{"secretRef": {"name": "shared"}}]})).await));
    }
    assert_eq!((rig.count(PUSH), reads(&rig, "shared")), (5, 1));
    rig.secret("shared", &[("a", "second-value-0123456789")]).await;
    rig.sim
        .wait_for(
            |calls| calls.iter().filter(|call| call.operation == PUSH && call.status.is_some()).count() >= 10,
            crate::rig::PATIENCE,
        )
        .await
        .unwrap();
    for (name, id) in names.iter().zip(&ids) {
        looked(&rig, name, "1").await;
        assert_eq!(rig.sim.channel(id).unwrap().credentials["a"], "second-value-0123456789");
    }
    assert_eq!(rig.count(PUSH), 10);
    rig.eventually("the read is audited", || async { (reads(&rig, "shared") >= 2).then_some(()) }).await;
    assert_eq!(reads(&rig, "shared"), 2);
    let labelled = rig.kubectl(&["label", "secret", "shared", "team=support"], None);
    assert!(labelled.status.success());
    rig.eventually("the label is seen", || async { (reads(&rig, "shared") >= 3).then_some(()) }).await;
    for name in names {
        looked(&rig, name, "2").await;
    }
    assert_eq!(rig.count(PUSH), 10, "a label is no credential");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_changed_while_nobody_used_it_is_read_anew() {
    let rig = Rig::start().await;
    let spec = || json!({"credentials": [{"secretRef": {"name": "shared"}}]});
    rig.secret("shared", &[("a", "first-value-0123456789")]).await;
    rig.ready("before", spec()).await;
    rig.deleted("before").await;
    rig.secret("shared", &[("a", "second-value-0123456789")]).await;
    let id = id_of(&rig.ready("after", spec()).await);
    let sent = || rig.sim.channel(&id).unwrap().credentials["a"].clone();
    rig.eventually("the second value", || async { (sent() == "second-value-0123456789").then_some(()) })
        .await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_vanishes_leaves_an_active_channel_ready_and_says_so() {
    let rig = Rig::start().await;
    rig.secret("s", &[("a", "first-value-0123456789")]).await;
    rig.ready("a", json!({"credentials": [{"secretRef": {"name": "s"}}]})).await;
    rig.secrets().delete("s", &Default::default()).await.unwrap();
    let channel = rig.has("a", "CredentialsApplied", "SecretNotFound").await;
    assert_eq!(is(&channel, "Ready"), so("True", "Available"));
    rig.secret("s", &[("a", "second-value-0123456789")]).await;
    rig.has("a", "CredentialsApplied", "Applied").await;
    assert_eq!(rig.count(PUSH), 2);
    rig.edit("a", json!({"spec": {"credentials": []}})).await;
    let channel =
        rig.until("a", "without credentials", |channel| is(channel, "CredentialsApplied").is_none()).await;
    assert!(channel.status.as_ref().unwrap().credentials.is_none());
    once(&rig, "a", "NoLongerManaged").await;
    looked(&rig, "a", "1").await;
    assert_eq!(rig.count(PUSH), 2);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_that_is_refused_says_so_and_a_lost_one_is_sent_again() {
    let rig = Rig::with(Config::default(), &["--request-timeout=1"]).await;
    rig.secret("s", &[("a", "first-value-0123456789")]).await;
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
        let fault = rig.sim.add_fault(Fault::on(PUSH, action.clone()));
        rig.create(&name, json!({"credentials": [{"secretRef": {"name": "s"}}]})).await;
        let channel = rig.has(&name, "CredentialsApplied", "PushFailed").await;
        assert!(is(&channel, "Ready") != so("True", "Available"), "{action:?}");
        let id = id_of(&channel);
        rig.sim.remove_fault(fault);
        rig.annotate(&name, LOOK, "1").await;
        let channel = rig.reason(&name, "Available").await;
        assert_eq!(
            (is(&channel, "CredentialsApplied"), id_of(&channel)),
            (so("True", "Applied"), id.clone())
        );
        assert_eq!(rig.sim.channel(&id).unwrap().credentials["a"], "first-value-0123456789");
        once(&rig, &name, "CredentialsPushed").await;
    }
    assert_eq!(rig.count(Operation::CreateChannel), 9);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_sends_nothing_where_nothing_has_changed() {
    let mut rig = Rig::start().await;
    rig.secret("s", &[("a", "first-value-0123456789")]).await;
    let spec = json!({"enabled": true, "credentials": [{"secretRef": {"name": "s"}}]});
    rig.ready("a", spec).await;
    let before = rig.writes_of("a").len();
    rig.stop_operator().await;
    rig.start_operator().await;
    looked(&rig, "a", "1").await;
    assert_eq!((rig.count(PUSH), rig.count(Operation::UpdateChannel)), (1, 0));
    rig.eventually("one write", || async { (rig.writes_of("a").len() > before).then_some(()) }).await;
    rig.stop_operator().await;
    rig.secret("s", &[("a", "second-value-0123456789")]).await;
    rig.start_operator().await;
    rig.sim
        .wait_for(
            |calls| calls.iter().filter(|call| call.operation == PUSH).count() == 2,
            crate::rig::PATIENCE,
        )
        .await
        .unwrap();
    rig.finish().await;
}
