//! F76: what becomes of a channel whose object ends without its operator.

use std::time::Duration;

use kube::ResourceExt;
use kube::api::Api;
use ohallo_core::api::workspace::Workspace;
use ohallo_sim::{Action, Config, Fault, Operation};
use serde_json::json;

use crate::acts::{RELEASE, finalized, once, parked, uid};
use crate::binary::Program;
use crate::replicas::{SHORT, allow_lease};
use crate::rig::{Rig, id_of};

const OTHER: &str = "example.com/backup";
const LINE: &str = "lost its finalizer to someone else";
const EVENT: &str = "ChannelOrphaned";

async fn prepare() -> Rig {
    let mut rig = Rig::bare(Config::default(), &[]).await;
    rig.put_proxy().await;
    rig.put_secret(json!({"metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": rig.key}})).await;
    rig.workspace("default", "ohallo-api-key").await;
    rig
}

async fn operator(rig: &Rig) -> Program {
    operator_with(rig, &[]).await
}

async fn operator_with(rig: &Rig, more: &[String]) -> Program {
    let mut flags = vec![
        format!("--api-url={}", rig.sim.url()),
        format!("--namespace={}", rig.namespace),
        "--requests-per-second=0".to_owned(),
    ];
    flags.extend_from_slice(more);
    let program = Program::logging(rig.proxy().kubeconfig(), "info", &flags);
    rig.workspace_reason("default", "Verified").await;
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
async fn leave(rig: &Rig, name: &str, finalizers: &[&str]) {
    rig.edit(name, json!({"metadata": {"finalizers": finalizers}})).await;
}

/// Deletes it behind withheld watch events, so that the operator protects it no more.
async fn vanish(rig: &Rig, name: &str) {
    leave(rig, name, &[]).await;
    assert!(rig.kubectl(&["delete", "channel", name], None).status.success());
    rig.gone(name).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f76_a_finalizer_that_someone_else_removes_is_reported_once_with_the_id_at_every_stage() {
    let mut rig = prepare().await;
    rig.excused = ["bound", "unknown", "shared", "kept", "relisted", "replaced"].map(String::from).into();
    let program = operator(&rig).await;
    let unknown = format!("{}/1", uid(&parked(&rig, "unknown", true).await));
    let refused = rig.sim.add_fault(Fault::on(Operation::DeleteChannel, Action::status(403)));
    let bound = id_of(&rig.ready("bound", json!({})).await);
    let shared = id_of(&rig.ready("shared", json!({})).await);
    leave(&rig, "shared", &["ohallo.eu/channel", OTHER]).await;
    for name in ["bound", "unknown", "shared"] {
        rig.delete(name).await;
    }
    for (name, reason) in
        [("bound", "PermissionDenied"), ("shared", "PermissionDenied"), ("unknown", "CreateOutcomeUnknown")]
    {
        rig.has(name, "DeletionBlocked", reason).await;
    }
    leave(&rig, "bound", &[]).await;
    reported(&program, &[&bound]).await;
    leave(&rig, "unknown", &[]).await;
    reported(&program, &[&bound, &unknown]).await;
    // It is reported while others still keep the object, and no more when it disappears.
    leave(&rig, "shared", &[OTHER]).await;
    reported(&program, &[&bound, &unknown, &shared]).await;
    leave(&rig, "shared", &[]).await;
    rig.gone("shared").await;

    let kept = id_of(&rig.ready("kept", json!({"deletionPolicy": "Retain"})).await);
    let relisted = id_of(&rig.ready("relisted", json!({"deletionPolicy": "Retain"})).await);
    let replaced = id_of(&rig.ready("replaced", json!({})).await);
    rig.proxy().withhold("/channels");
    vanish(&rig, "kept").await;
    rig.proxy().release();
    let mut all = vec![bound.as_str(), &unknown, &shared, &kept];
    reported(&program, &all).await;
    rig.proxy().withhold("/channels");
    vanish(&rig, "relisted").await;
    vanish(&rig, "replaced").await;
    rig.create("replaced", json!({})).await;
    assert!(rig.proxy().expire_watches("/channels") >= 1);
    rig.proxy().release();
    rig.reason("replaced", "Available").await;
    all.extend([relisted.as_str(), &replaced]);
    reported(&program, &all).await;

    rig.sim.remove_fault(refused);
    for (name, policy) in [("a", "Delete"), ("b", "Retain")] {
        rig.ready(name, json!({"deletionPolicy": policy})).await;
        rig.deleted(name).await;
    }
    rig.ready("c", json!({})).await;
    rig.deleted("c").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    reported(&program, &all).await;
    for (name, id) in [("bound", &bound), ("unknown", &unknown), ("shared", &shared), ("kept", &kept)] {
        assert!(once(&rig, name, EVENT).await.contains(id.as_str()), "{name}");
    }
    drop(program);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f76_what_lost_its_finalizer_while_no_operator_ran_is_reported_and_what_the_operator_let_go_is_not() {
    let mut rig = prepare().await;
    rig.excused = ["lost", "released"].map(String::from).into();
    // The lease of the process that was killed is still there when the next one begins.
    allow_lease(&rig);
    let mut elects: Vec<_> = SHORT.map(str::to_owned).into();
    elects.extend(["--leader-elect".to_owned(), format!("--operator-namespace={}", rig.namespace)]);
    let mut program = operator_with(&rig, &elects).await;
    rig.sim.add_fault(Fault::on(Operation::DeleteChannel, Action::status(403)));
    let lost = id_of(&rig.ready("lost", json!({})).await);
    let released = id_of(&rig.ready("released", json!({})).await);
    for name in ["lost", "released"] {
        leave(&rig, name, &["ohallo.eu/channel", OTHER]).await;
        rig.delete(name).await;
        rig.has(name, "DeletionBlocked", "PermissionDenied").await;
    }
    rig.annotate("released", RELEASE, &released).await;
    rig.until("released", "let go", |channel| !finalized(channel)).await;
    once(&rig, "released", "Released").await;
    reported(&program, &[]).await;
    program.kill();
    leave(&rig, "lost", &[OTHER]).await;
    let program = operator_with(&rig, &elects).await;
    reported(&program, &[&lost]).await;
    for name in ["lost", "released"] {
        leave(&rig, name, &[]).await;
        rig.gone(name).await;
    }
    rig.ready("a", json!({})).await;
    reported(&program, &[&lost]).await;
    drop(program);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f76_a_workspace_whose_channels_disappeared_while_no_operator_ran_is_reported_once_and_freed() {
    let mut rig = prepare().await;
    rig.excused = vec!["a".into()];
    let mut program = operator(&rig).await;
    rig.ready("a", json!({})).await;
    let workspace = || async {
        Api::<Workspace>::namespaced(rig.admin.clone(), &rig.namespace).get("default").await.unwrap()
    };
    rig.eventually("in use", || async { (!workspace().await.finalizers().is_empty()).then_some(()) }).await;
    // One that uses it is no orphan.
    program.kill();
    let mut program = operator(&rig).await;
    rig.ready("b", json!({})).await;
    reported(&program, &[]).await;
    rig.deleted("b").await;
    program.kill();
    vanish(&rig, "a").await;
    let mut program = operator(&rig).await;
    program.until("/metrics", 200, "ohallo_channel_ids_orphaned_total 1\n").await;
    let log = program.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("while no operator ran")).collect();
    assert!(lines.len() == 1 && lines[0].contains("ERROR") && lines[0].contains("default"), "{lines:?}");
    rig.eventually("free", || async { workspace().await.finalizers().is_empty().then_some(()) }).await;
    once(&rig, "default", EVENT).await;
    program.kill();
    let program = operator(&rig).await;
    rig.ready("c", json!({})).await;
    reported(&program, &[]).await;
    drop(program);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f76_a_channel_that_loses_the_label_of_the_selector_is_no_orphan_and_one_that_is_lost_is() {
    let mut rig = prepare().await;
    rig.excused = vec!["lost".into()];
    let program = operator_with(&rig, &["--channel-selector=team=a".to_owned()]).await;
    let mut ids = Vec::new();
    for name in ["moved", "lost"] {
        rig.apply(&json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel", "metadata": {"name": name, "labels": {"team": "a"}},
            "spec": {"channelType": "chat", "displayName": name}}));
        ids.push(id_of(&rig.reason(name, "Available").await));
    }
    rig.edit("moved", json!({"metadata": {"labels": {"team": "b"}}})).await;
    rig.proxy().withhold("/channels");
    vanish(&rig, "lost").await;
    rig.proxy().release();
    // It comes after the other.
    reported(&program, &[&ids[1]]).await;
    rig.edit("moved", json!({"metadata": {"labels": {"team": "a"}}})).await;
    rig.deleted("moved").await;
    reported(&program, &[&ids[1]]).await;
    drop(program);
    rig.finish().await;
}
