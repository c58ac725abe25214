//! Deletion: the finalizer is removed only when the channel is proven deleted, retained by policy, or released by id.

use ohallo_sim::{Action, Fault, Key, Operation};
use serde_json::{Value, json};

use crate::support::harness::{Harness, id_of, message};
use crate::support::steps::{
    RECONCILE_REQUESTED, RELEASE, has_finalizer, insert_in_dashboard, reconcile_now, single_event,
};

const DELETE: Operation = Operation::DeleteChannel;

async fn key_is(harness: &Harness, key: &str) {
    harness.put_secret(json!({"metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": key}})).await;
}

async fn delete_key(harness: &Harness) {
    harness.secrets().delete("ohallo-api-key", &Default::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policy_or_else_origin_decides_whether_the_channel_is_deleted() {
    let harness = Harness::start().await;
    let adopted = |id: &str, more: Value| {
        let mut spec = json!({"channelId": id, "displayName": "by hand"});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let dashboard = [0; 4].map(|_| insert_in_dashboard(&harness, "chat", "by hand"));
    let observed = json!({"managementPolicy": "Observe", "deletionPolicy": "Delete"});
    for (name, spec, reason, deletes) in [
        ("created", json!({}), "Available", true),
        ("created-kept", json!({"deletionPolicy": "Retain"}), "Available", false),
        ("adopted", adopted(&dashboard[0], json!({})), "Available", false),
        ("adopted-deleted", adopted(&dashboard[1], json!({"deletionPolicy": "Delete"})), "Available", true),
        ("observed", adopted(&dashboard[2], observed), "Observed", false),
    ] {
        harness.create(name, spec).await;
        let channel = harness.reason(name, reason).await;
        let status = channel.status.as_ref().unwrap();
        let policy = if deletes { "Delete" } else { "Retain" };
        assert_eq!(status.deletion_policy.as_deref(), Some(policy), "{name}");
        let id = status.channel_id.clone().or(channel.spec.channel_id.clone()).unwrap();
        let before = harness.count(DELETE);
        harness.delete_and_wait(name).await;
        assert_eq!(harness.sim.channel(&id).is_none(), deletes, "{name}");
        assert_eq!(harness.count(DELETE), before + usize::from(deletes), "{name}");
        if name != "observed" {
            single_event(&harness, name, if deletes { "Deleted" } else { "Retained" }).await;
        }
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_absence_of_a_channel_is_confirmed_by_two_reads() {
    let harness = Harness::start().await;
    let id = id_of(&harness.ready("a", json!({})).await);
    harness.sim.remove_channel(&id);
    harness.delete("a").await;
    let channel = harness.has("a", "DeletionBlocked", "AbsenceNotProven").await;
    assert!(has_finalizer(&channel));
    harness.wait_deleted("a").await;
    let reconciles = harness.sim.ledger().into_iter().filter(|entry| entry.operation == DELETE);
    let at: Vec<_> = reconciles.map(|entry| entry.at_ms).collect();
    assert_eq!(at.len(), 2);
    assert!(at[1] - at[0] >= 30_000, "{at:?}");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_found_under_a_key_of_another_tenant_is_no_proof() {
    let harness = Harness::start().await;
    let id = id_of(&harness.ready("a", json!({})).await);
    harness.sim.edit_key(&harness.key, |key| key.tenant = "other".into());
    harness.delete("a").await;
    let channel = harness.has("a", "DeletionBlocked", "AbsenceNotProven").await;
    assert!(message(&channel, "DeletionBlocked").contains(&format!("{RELEASE}={id}")));
    harness.annotate("a", RELEASE, "yes").await;
    let channel = reconcile_now(&harness, "a", "1").await;
    assert!(has_finalizer(&channel));
    let asked = harness.count(DELETE);
    harness.annotate("a", RELEASE, &id).await;
    harness.wait_deleted("a").await;
    single_event(&harness, "a", "Released").await;
    assert_eq!((harness.sim.channels().len(), harness.count(DELETE)), (1, asked));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_workspaces_cannot_be_read_only_the_key_that_last_read_the_channel_proves_anything() {
    let harness = Harness::start().await;
    harness.sim.set(|behaviour| behaviour.workspaces_readable = false);
    harness.ready("a", json!({})).await;
    let other = "sf_test_v1_of_another_tenant_0123456789";
    harness.sim.add_key(Key::new(other, "other"));
    key_is(&harness, other).await;
    harness.workspace_reason("default", "Unverified").await;
    harness.delete("a").await;
    let channel = harness.has("a", "DeletionBlocked", "AbsenceNotProven").await;
    assert!(has_finalizer(&channel));
    key_is(&harness, &harness.key.clone()).await;
    harness.wait_deleted("a").await;
    assert!(harness.sim.channels().is_empty());
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_delete_blocks_reports_why_and_continues_when_the_cause_ends() {
    let harness = Harness::with(ohallo_sim::Config::default(), &["--request-timeout=1"]).await;
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
        harness.ready(&name, json!({})).await;
        let fault = harness.sim.add_fault(Fault::on(DELETE, action.clone()));
        harness.delete(&name).await;
        let channel = harness.has(&name, "DeletionBlocked", reason).await;
        assert!(has_finalizer(&channel), "{action:?}");
        assert!(!message(&channel, "DeletionBlocked").is_empty());
        harness.sim.remove_fault(fault);
        harness.annotate(&name, RECONCILE_REQUESTED, "1").await;
        harness.wait_deleted(&name).await;
        single_event(&harness, &name, "Deleted").await;
    }
    assert!(harness.sim.channels().is_empty());
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_limited_delete_continues_automatically() {
    let harness = Harness::start().await;
    harness.ready("a", json!({})).await;
    harness.sim.add_fault(Fault::on(DELETE, Action::retry_after(429, "1")).times(2));
    harness.delete_and_wait("a").await;
    assert_eq!((harness.count(DELETE), harness.sim.channels().len()), (3, 0));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_was_deleted_first_still_serves_the_deletion() {
    let harness = Harness::start().await;
    harness.ready("a", json!({})).await;
    harness.ready("b", json!({})).await;
    delete_key(&harness).await;
    harness.workspace_reason("default", "SecretNotFound").await;
    harness.delete_and_wait("a").await;
    let deleted = harness.kubectl(&["delete", "workspace", "default", "--wait=false"], None);
    assert!(deleted.status.success());
    harness.delete_and_wait("b").await;
    assert!(harness.sim.channels().is_empty());
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_without_the_key_the_deletion_waits_for_it() {
    let mut harness = Harness::start().await;
    let id = id_of(&harness.ready("a", json!({})).await);
    harness.stop_operator().await;
    delete_key(&harness).await;
    harness.delete("a").await;
    harness.start_operator().await;
    harness.has("a", "DeletionBlocked", "KeyUnavailable").await;
    let channel = harness
        .until("a", "naming the Secret", |channel| {
            message(channel, "DeletionBlocked").contains("ohallo-api-key")
        })
        .await;
    let text = message(&channel, "DeletionBlocked");
    assert!(text.contains(&format!("{RELEASE}={id}")), "{text}");
    key_is(&harness, &harness.key.clone()).await;
    harness.wait_deleted("a").await;
    assert_eq!((harness.count(DELETE), harness.sim.channels().len()), (1, 0));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_is_deleted_takes_its_channels_along() {
    let harness = Harness::start().await;
    for name in ["a", "b", "c"] {
        harness.ready(name, json!({})).await;
    }
    let namespace = harness.namespace.clone();
    assert!(harness.kubectl(&["delete", "namespace", &namespace, "--wait=false"], None).status.success());
    for name in ["a", "b", "c"] {
        harness.wait_deleted(name).await;
    }
    assert_eq!((harness.count(DELETE), harness.sim.channels().len()), (3, 0));
    let deleted =
        harness.kubectl(&["wait", "--for=delete", &format!("namespace/{namespace}"), "--timeout=60s"], None);
    assert!(deleted.status.success(), "{}", String::from_utf8_lossy(&deleted.stderr));
    harness.finish().await;
}
