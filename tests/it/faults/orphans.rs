//! F76: what becomes of a channel whose object ends without its operator.

use std::time::Duration;

use kube::ResourceExt;
use kube::api::Api;
use ohallo_core::api::workspace::Workspace;
use ohallo_sim::{Action, Config, Fault, Operation};
use serde_json::json;

use crate::support::harness::{Harness, id_of};
use crate::support::leases::{SHORT_LEASE, allow_lease};
use crate::support::program::Program;
use crate::support::steps::{RELEASE, has_finalizer, single_event, uid, unresolved_create};

const OTHER: &str = "example.com/backup";
const LINE: &str = "another client removed the finalizer of a Channel";
const EVENT: &str = "ChannelOrphaned";

async fn prepare() -> Harness {
    let mut harness = Harness::bare(Config::default(), &[]).await;
    harness.put_proxy().await;
    harness
        .put_secret(json!({"metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": harness.key}}))
        .await;
    harness.workspace("default", "ohallo-api-key").await;
    harness
}

async fn operator(harness: &Harness) -> Program {
    operator_with(harness, &[]).await
}

async fn operator_with(harness: &Harness, more: &[String]) -> Program {
    let mut flags = vec![
        format!("--api-url={}", harness.sim.url()),
        format!("--namespace={}", harness.namespace),
        "--requests-per-second=0".to_owned(),
    ];
    flags.extend_from_slice(more);
    let program = Program::logging(harness.proxy().kubeconfig(), "info", &flags);
    harness.workspace_reason("default", "Verified").await;
    program
}

/// Waits until so many orphans were counted; each with exactly one line at ERROR that names it.
async fn reported(program: &Program, names: &[&str]) {
    let count = format!("ohallo_channel_ids_orphaned_total {}\n", names.len());
    program.until("/metrics", 200, &count).await;
    let log = program.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains(LINE)).collect();
    assert_eq!(lines.len(), names.len(), "{lines:#?}");
    for name in names {
        let of_it: Vec<_> = lines.iter().filter(|line| line.contains(name)).collect();
        assert!(of_it.len() == 1 && of_it[0].contains("ERROR"), "{name}: {of_it:?}");
    }
}

/// Removes finalizers as a person would.
async fn leave(harness: &Harness, name: &str, finalizers: &[&str]) {
    harness.edit(name, json!({"metadata": {"finalizers": finalizers}})).await;
}

/// Deletes it behind withheld watch events, so that the operator no longer protects it.
async fn vanish(harness: &Harness, name: &str) {
    leave(harness, name, &[]).await;
    assert!(harness.kubectl(&["delete", "channel", name], None).status.success());
    harness.wait_deleted(name).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f76_a_finalizer_that_someone_else_removes_is_reported_once_with_the_id_at_every_stage() {
    let mut harness = prepare().await;
    harness.excused = ["bound", "unknown", "shared", "kept", "relisted", "replaced"].map(String::from).into();
    let program = operator(&harness).await;
    let unknown = format!("{}/1", uid(&unresolved_create(&harness, "unknown", true).await));
    let refused = harness.sim.add_fault(Fault::on(Operation::DeleteChannel, Action::status(403)));
    let bound = id_of(&harness.ready("bound", json!({})).await);
    let shared = id_of(&harness.ready("shared", json!({})).await);
    leave(&harness, "shared", &["ohallo.eu/channel", OTHER]).await;
    for name in ["bound", "unknown", "shared"] {
        harness.delete(name).await;
    }
    for (name, reason) in
        [("bound", "PermissionDenied"), ("shared", "PermissionDenied"), ("unknown", "CreateOutcomeUnknown")]
    {
        harness.has(name, "DeletionBlocked", reason).await;
    }
    leave(&harness, "bound", &[]).await;
    reported(&program, &[&bound]).await;
    leave(&harness, "unknown", &[]).await;
    reported(&program, &[&bound, &unknown]).await;
    // It is reported while others still keep the object, and not again when it disappears.
    leave(&harness, "shared", &[OTHER]).await;
    reported(&program, &[&bound, &unknown, &shared]).await;
    leave(&harness, "shared", &[]).await;
    harness.wait_deleted("shared").await;

    let kept = id_of(&harness.ready("kept", json!({"deletionPolicy": "Retain"})).await);
    let relisted = id_of(&harness.ready("relisted", json!({"deletionPolicy": "Retain"})).await);
    let replaced = id_of(&harness.ready("replaced", json!({})).await);
    harness.proxy().withhold("/channels");
    vanish(&harness, "kept").await;
    harness.proxy().release();
    let mut all = vec![bound.as_str(), &unknown, &shared, &kept];
    reported(&program, &all).await;
    harness.proxy().withhold("/channels");
    vanish(&harness, "relisted").await;
    vanish(&harness, "replaced").await;
    harness.create("replaced", json!({})).await;
    assert!(harness.proxy().expire_watches("/channels") >= 1);
    harness.proxy().release();
    harness.reason("replaced", "Available").await;
    all.extend([relisted.as_str(), &replaced]);
    reported(&program, &all).await;

    harness.sim.remove_fault(refused);
    for (name, policy) in [("a", "Delete"), ("b", "Retain")] {
        harness.ready(name, json!({"deletionPolicy": policy})).await;
        harness.delete_and_wait(name).await;
    }
    harness.ready("c", json!({})).await;
    harness.delete_and_wait("c").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    reported(&program, &all).await;
    for (name, id) in [("bound", &bound), ("unknown", &unknown), ("shared", &shared), ("kept", &kept)] {
        assert!(single_event(&harness, name, EVENT).await.contains(id.as_str()), "{name}");
    }
    drop(program);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f76_an_object_that_lost_its_finalizer_while_no_operator_ran_is_reported_unless_the_operator_removed_it()
 {
    let mut harness = prepare().await;
    harness.excused = ["lost", "released"].map(String::from).into();
    // The lease of the process that was killed is still there when the next one begins.
    allow_lease(&harness);
    let mut elects: Vec<_> = SHORT_LEASE.map(str::to_owned).into();
    elects.extend(["--leader-elect".to_owned(), format!("--operator-namespace={}", harness.namespace)]);
    let mut program = operator_with(&harness, &elects).await;
    harness.sim.add_fault(Fault::on(Operation::DeleteChannel, Action::status(403)));
    let lost = id_of(&harness.ready("lost", json!({})).await);
    let released = id_of(&harness.ready("released", json!({})).await);
    for name in ["lost", "released"] {
        leave(&harness, name, &["ohallo.eu/channel", OTHER]).await;
        harness.delete(name).await;
        harness.has(name, "DeletionBlocked", "PermissionDenied").await;
    }
    harness.annotate("released", RELEASE, &released).await;
    harness.until("released", "finalizer removed", |channel| !has_finalizer(channel)).await;
    single_event(&harness, "released", "Released").await;
    reported(&program, &[]).await;
    program.kill();
    leave(&harness, "lost", &[OTHER]).await;
    let program = operator_with(&harness, &elects).await;
    reported(&program, &[&lost]).await;
    for name in ["lost", "released"] {
        leave(&harness, name, &[]).await;
        harness.wait_deleted(name).await;
    }
    harness.ready("a", json!({})).await;
    reported(&program, &[&lost]).await;
    drop(program);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f76_a_workspace_whose_channels_disappeared_while_no_operator_ran_is_reported_once_and_freed() {
    let mut harness = prepare().await;
    harness.excused = vec!["a".into()];
    let mut program = operator(&harness).await;
    harness.ready("a", json!({})).await;
    let workspace = || async {
        Api::<Workspace>::namespaced(harness.admin.clone(), &harness.namespace).get("default").await.unwrap()
    };
    harness
        .eventually("in use", || async { (!workspace().await.finalizers().is_empty()).then_some(()) })
        .await;
    // One that uses it is no orphan.
    program.kill();
    let mut program = operator(&harness).await;
    harness.ready("b", json!({})).await;
    reported(&program, &[]).await;
    harness.delete_and_wait("b").await;
    program.kill();
    vanish(&harness, "a").await;
    let mut program = operator(&harness).await;
    program.until("/metrics", 200, "ohallo_channel_ids_orphaned_total 1\n").await;
    let log = program.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("while no operator ran")).collect();
    assert!(lines.len() == 1 && lines[0].contains("ERROR") && lines[0].contains("default"), "{lines:?}");
    harness.eventually("free", || async { workspace().await.finalizers().is_empty().then_some(()) }).await;
    single_event(&harness, "default", EVENT).await;
    program.kill();
    let program = operator(&harness).await;
    harness.ready("c", json!({})).await;
    reported(&program, &[]).await;
    drop(program);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f76_a_channel_that_loses_the_label_of_the_selector_is_no_orphan_and_one_that_is_lost_is() {
    let mut harness = prepare().await;
    harness.excused = vec!["lost".into()];
    let program = operator_with(&harness, &["--channel-selector=team=a".to_owned()]).await;
    let mut ids = Vec::new();
    for name in ["moved", "lost"] {
        harness.apply(&json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel", "metadata": {"name": name, "labels": {"team": "a"}},
            "spec": {"channelType": "chat", "displayName": name}}));
        ids.push(id_of(&harness.reason(name, "Available").await));
    }
    harness.edit("moved", json!({"metadata": {"labels": {"team": "b"}}})).await;
    harness.proxy().withhold("/channels");
    vanish(&harness, "lost").await;
    harness.proxy().release();
    // It comes after the other.
    reported(&program, &[&ids[1]]).await;
    harness.edit("moved", json!({"metadata": {"labels": {"team": "a"}}})).await;
    harness.delete_and_wait("moved").await;
    reported(&program, &[&ids[1]]).await;
    drop(program);
    harness.finish().await;
}
