//! Deletion: the finalizer goes only when the channel is gone by proof, kept by policy, or released by name.

use ohallo_sim::{Action, Fault, Key, Operation};
use serde_json::{Value, json};

use crate::acts::{LOOK, RELEASE, by_hand, finalized, looked, once};
use crate::rig::{Rig, id_of, message};

const DELETE: Operation = Operation::DeleteChannel;

async fn key_is(rig: &Rig, key: &str) {
    rig.put_secret(json!({"metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": key}})).await;
}

async fn key_goes(rig: &Rig) {
    rig.secrets().delete("ohallo-api-key", &Default::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policy_or_else_origin_says_whether_the_channel_goes() {
    let rig = Rig::start().await;
    let adopted = |id: &str, more: Value| {
        let mut spec = json!({"channelId": id, "displayName": "by hand"});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let hand = [0; 4].map(|_| by_hand(&rig, "chat", "by hand"));
    let observed = json!({"managementPolicy": "Observe", "deletionPolicy": "Delete"});
    for (name, spec, reason, deletes) in [
        ("created", json!({}), "Available", true),
        ("created-kept", json!({"deletionPolicy": "Retain"}), "Available", false),
        ("adopted", adopted(&hand[0], json!({})), "Available", false),
        ("adopted-gone", adopted(&hand[1], json!({"deletionPolicy": "Delete"})), "Available", true),
        ("observed", adopted(&hand[2], observed), "Observed", false),
    ] {
        rig.create(name, spec).await;
        let channel = rig.reason(name, reason).await;
        let status = channel.status.as_ref().unwrap();
        let policy = if deletes { "Delete" } else { "Retain" };
        assert_eq!(status.deletion_policy.as_deref(), Some(policy), "{name}");
        let id = status.channel_id.clone().or(channel.spec.channel_id.clone()).unwrap();
        let before = rig.count(DELETE);
        rig.deleted(name).await;
        assert_eq!(rig.sim.channel(&id).is_none(), deletes, "{name}");
        assert_eq!(rig.count(DELETE), before + usize::from(deletes), "{name}");
        if name != "observed" {
            once(&rig, name, if deletes { "Deleted" } else { "Retained" }).await;
        }
    }
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_is_gone_already_is_looked_for_twice() {
    let rig = Rig::start().await;
    let id = id_of(&rig.ready("a", json!({})).await);
    rig.sim.remove_channel(&id);
    rig.delete("a").await;
    let channel = rig.has("a", "DeletionBlocked", "AbsenceNotProven").await;
    assert!(finalized(&channel));
    rig.gone("a").await;
    let looks = rig.sim.ledger().into_iter().filter(|entry| entry.operation == DELETE);
    let at: Vec<_> = looks.map(|entry| entry.at_ms).collect();
    assert_eq!(at.len(), 2);
    assert!(at[1] - at[0] >= 30_000, "{at:?}");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_found_under_a_key_of_another_tenant_is_no_proof() {
    let rig = Rig::start().await;
    let id = id_of(&rig.ready("a", json!({})).await);
    rig.sim.edit_key(&rig.key, |key| key.tenant = "other".into());
    rig.delete("a").await;
    let channel = rig.has("a", "DeletionBlocked", "AbsenceNotProven").await;
    assert!(message(&channel, "DeletionBlocked").contains(&format!("{RELEASE}={id}")));
    rig.annotate("a", RELEASE, "yes").await;
    let channel = looked(&rig, "a", "1").await;
    assert!(finalized(&channel));
    let asked = rig.count(DELETE);
    rig.annotate("a", RELEASE, &id).await;
    rig.gone("a").await;
    once(&rig, "a", "Released").await;
    assert_eq!((rig.sim.channels().len(), rig.count(DELETE)), (1, asked));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_workspaces_cannot_be_read_only_the_key_that_last_read_the_channel_proves_anything() {
    let rig = Rig::start().await;
    rig.sim.set(|behaviour| behaviour.workspaces_readable = false);
    rig.ready("a", json!({})).await;
    let other = "sf_test_v1_of_another_tenant_0123456789";
    rig.sim.add_key(Key::new(other, "other"));
    key_is(&rig, other).await;
    rig.workspace_reason("default", "Unverified").await;
    rig.delete("a").await;
    let channel = rig.has("a", "DeletionBlocked", "AbsenceNotProven").await;
    assert!(finalized(&channel));
    key_is(&rig, &rig.key.clone()).await;
    rig.gone("a").await;
    assert!(rig.sim.channels().is_empty());
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_that_is_refused_blocks_says_why_and_goes_on_when_the_cause_is_gone() {
    let rig = Rig::with(ohallo_sim::Config::default(), &["--request-timeout=1"]).await;
    let status = |code| Action::status(code);
    for (number, (action, reason)) in [
        (status(401), "KeyUnavailable"),
        (status(403), "PermissionDenied"),
        (status(400), "Rejected"),
        (status(405), "Rejected"),
        (status(409), "Rejected"),
        (status(500), "ApiUnavailable"),
        (status(501), "Rejected"),
        (status(503), "ApiUnavailable"),
        (Action::Garbage { commit: false }, "ApiUnavailable"),
        (Action::Reset { commit: false }, "ApiUnavailable"),
        (Action::Hang { commit: false }, "ApiUnavailable"),
        (Action::Redirect { code: 307, location: "http://127.0.0.1:9/".into() }, "Rejected"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("c{number}");
        rig.ready(&name, json!({})).await;
        let fault = rig.sim.add_fault(Fault::on(DELETE, action.clone()));
        rig.delete(&name).await;
        let channel = rig.has(&name, "DeletionBlocked", reason).await;
        assert!(finalized(&channel), "{action:?}");
        assert!(!message(&channel, "DeletionBlocked").is_empty());
        rig.sim.remove_fault(fault);
        rig.annotate(&name, LOOK, "1").await;
        rig.gone(&name).await;
        once(&rig, &name, "Deleted").await;
    }
    assert!(rig.sim.channels().is_empty());
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_limited_delete_goes_on_by_itself() {
    let rig = Rig::start().await;
    rig.ready("a", json!({})).await;
    rig.sim.add_fault(Fault::on(DELETE, Action::retry_after(429, "1")).times(2));
    rig.deleted("a").await;
    assert_eq!((rig.count(DELETE), rig.sim.channels().len()), (3, 0));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_was_deleted_first_still_serves_the_deletion() {
    let rig = Rig::start().await;
    rig.ready("a", json!({})).await;
    rig.ready("b", json!({})).await;
    key_goes(&rig).await;
    rig.workspace_reason("default", "SecretNotFound").await;
    rig.deleted("a").await;
    let deleted = rig.kubectl(&["delete", "workspace", "default", "--wait=false"], None);
    assert!(deleted.status.success());
    rig.deleted("b").await;
    assert!(rig.sim.channels().is_empty());
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_without_the_key_the_deletion_waits_for_it() {
    let mut rig = Rig::start().await;
    let id = id_of(&rig.ready("a", json!({})).await);
    rig.stop_operator().await;
    key_goes(&rig).await;
    rig.delete("a").await;
    rig.start_operator().await;
    rig.has("a", "DeletionBlocked", "KeyUnavailable").await;
    let channel = rig
        .until("a", "naming the Secret", |channel| {
            message(channel, "DeletionBlocked").contains("ohallo-api-key")
        })
        .await;
    let text = message(&channel, "DeletionBlocked");
    assert!(text.contains(&format!("{RELEASE}={id}")), "{text}");
    key_is(&rig, &rig.key.clone()).await;
    rig.gone("a").await;
    assert_eq!((rig.count(DELETE), rig.sim.channels().len()), (1, 0));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_is_deleted_takes_its_channels_along() {
    let rig = Rig::start().await;
    for name in ["a", "b", "c"] {
        rig.ready(name, json!({})).await;
    }
    let namespace = rig.namespace.clone();
    assert!(rig.kubectl(&["delete", "namespace", &namespace, "--wait=false"], None).status.success());
    for name in ["a", "b", "c"] {
        rig.gone(name).await;
    }
    assert_eq!((rig.count(DELETE), rig.sim.channels().len()), (3, 0));
    let gone =
        rig.kubectl(&["wait", "--for=delete", &format!("namespace/{namespace}"), "--timeout=60s"], None);
    assert!(gone.status.success(), "{}", String::from_utf8_lossy(&gone.stderr));
    rig.finish().await;
}
