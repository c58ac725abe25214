//! A Workspace: what it reports about its key, and how it is suspended, waits and is released.

use kube::{Resource, ResourceExt};
use ohallo_core::api::workspace::Workspace;
use ohallo_sim::{Action, Behaviour, Config, Fault, Key, NewChannel, Operation};
use serde_json::json;

use crate::support::harness::{Harness, TENANT, WORKSPACE, condition, id_of};
use crate::support::workspaces::{api, condition_summary, edit, put_key, until};

const REQUESTED: &str = "ohallo.eu/reconcile-requested-at";

fn ready_message(workspace: &Workspace) -> String {
    let status = workspace.status.clone().unwrap_or_default();
    status.conditions.into_iter().find(|c| c.type_ == "Ready").map(|c| c.message).unwrap_or_default()
}

fn in_use(workspace: &Workspace) -> bool {
    workspace.finalizers().iter().any(|name| name == "ohallo.eu/in-use")
}

fn writes_of_status(harness: &Harness) -> usize {
    harness.writes().iter().filter(|write| write.starts_with("update workspaces/status default")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_key_is_verified_with_one_call_and_one_write_and_shows_name_and_environment() {
    let harness = Harness::start().await;
    let workspace = harness.workspace_reason("default", "Verified").await;
    let status = workspace.status.clone().unwrap();
    assert_eq!(condition_summary(&workspace), ["Ready=True/Verified"]);
    assert_eq!((status.name.as_deref(), status.environment.as_deref()), (Some("Nordic Parts"), Some("Test")));
    assert_eq!(status.observed_generation, workspace.metadata.generation);
    assert_eq!(harness.count(Operation::GetWorkspace), 1);
    harness
        .eventually("the write in the audit log", || async {
            (writes_of_status(&harness) >= 1).then_some(())
        })
        .await;
    assert_eq!(writes_of_status(&harness), 1);
    // A requested reconcile happens and is acknowledged.
    edit(&harness, "default", json!({"metadata": {"annotations": {REQUESTED: "now"}}})).await;
    let reconcile_now = until(&harness, "default", "reconciled", |workspace| {
        workspace.status.as_ref().is_some_and(|s| s.last_handled_reconcile_at.as_deref() == Some("now"))
    })
    .await;
    assert_eq!(harness.count(Operation::GetWorkspace), 2);
    assert_eq!(condition_summary(&reconcile_now), ["Ready=True/Verified"]);
    assert!(harness.events("default").await.is_empty(), "nothing is wrong");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_may_not_read_workspaces_is_unverified_and_used() {
    let behaviour = Behaviour { workspaces_readable: false, ..Behaviour::default() };
    let mut harness = Harness::bare(Config { behaviour, ..Config::default() }, &[]).await;
    let key = "sf_live_v1_canary-live-key-of-production".to_owned();
    harness.sim.add_key(Key::new(&key, TENANT));
    put_key(&harness, "ohallo-api-key", &key).await;
    harness.workspace("default", "ohallo-api-key").await;
    harness.start_operator().await;
    let workspace = harness.workspace_reason("default", "Unverified").await;
    assert_eq!(condition_summary(&workspace), ["Ready=True/Unverified"]);
    let status = workspace.status.unwrap();
    assert_eq!((status.name, status.environment.as_deref()), (None, Some("Live")));
    let channel = harness.ready("a", json!({})).await;
    assert!(harness.sim.channel(&id_of(&channel)).is_some());
    harness.delete_and_wait("a").await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_tenants_or_no_workspace_is_not_found_until_the_key_can_read_it() {
    let mut harness = Harness::bare(Config::default(), &[]).await;
    harness.sim.add_workspace("others", "theirs", "Theirs");
    put_key(&harness, "ohallo-api-key", &harness.key.clone()).await;
    for id in ["theirs", "nowhere"] {
        harness.apply(&json!({
            "apiVersion": "ohallo.eu/v1alpha1", "kind": "Workspace", "metadata": {"name": id},
            "spec": {"workspaceId": id, "apiKeySecretRef": {"name": "ohallo-api-key"}},
        }));
    }
    harness.start_operator().await;
    for id in ["theirs", "nowhere"] {
        let workspace = harness.workspace_reason(id, "WorkspaceNotFound").await;
        assert_eq!(
            condition_summary(&workspace),
            ["Ready=False/WorkspaceNotFound", "Stalled=True/WorkspaceNotFound"]
        );
        assert!(ready_message(&workspace).contains("spec.workspaceId"));
        harness.event(id, "WorkspaceNotFound").await;
    }
    // Its Channel makes no call.
    harness.create("a", json!({"workspaceRef": {"name": "theirs"}})).await;
    harness.reason("a", "WorkspaceNotReady").await;
    assert_eq!(harness.count(Operation::CreateChannel), 0);
    // Another key in the Secret is checked at once.
    let key = "sf_test_v1_canary-of-the-others".to_owned();
    harness.sim.add_key(Key::new(&key, "others"));
    put_key(&harness, "ohallo-api-key", &key).await;
    let workspace = harness.workspace_reason("theirs", "Verified").await;
    assert_eq!(condition_summary(&workspace), ["Ready=True/Verified"]);
    harness.reason("a", "Available").await;
    assert_eq!(harness.workspace_reason("nowhere", "WorkspaceNotFound").await.status.unwrap().name, None);
    harness.delete_and_wait("a").await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_ohallo_is_unknown_and_polled_again_automatically() {
    let mut harness = Harness::bare(Config::default(), &[]).await;
    let fault = harness.sim.add_fault(Fault::on(Operation::GetWorkspace, Action::status(503)));
    let id = harness.sim.insert_channel(NewChannel::new(WORKSPACE, "chat", "Channel a"));
    put_key(&harness, "ohallo-api-key", &harness.key.clone()).await;
    harness.workspace("default", "ohallo-api-key").await;
    harness.start_operator().await;
    let workspace = harness.workspace_reason("default", "ApiUnavailable").await;
    assert_eq!(
        condition_summary(&workspace),
        ["Ready=Unknown/ApiUnavailable", "Reconciling=True/ApiUnavailable"]
    );
    harness.event("default", "ApiUnavailable").await;
    // The key may well be good: its Channels find out for themselves.
    let channel = harness.ready("a", json!({"channelId": id})).await;
    assert_eq!(id_of(&channel), id);
    harness.sim.remove_fault(fault);
    let workspace = harness.workspace_reason("default", "Verified").await;
    assert_eq!(condition_summary(&workspace), ["Ready=True/Verified"]);
    harness.delete_and_wait("a").await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_workspace_stops_with_its_channels_and_continues_where_it_was() {
    let harness = Harness::start().await;
    let channel = harness.ready("a", json!({})).await;
    edit(&harness, "default", json!({"spec": {"suspend": true}})).await;
    let workspace = until(&harness, "default", "suspended", |w| condition_summary(w).len() == 2).await;
    assert_eq!(condition_summary(&workspace), ["Ready=True/Verified", "Suspended=True/Suspended"]);
    harness.has("a", "Suspended", "WorkspaceSuspended").await;
    let calls = harness.sim.ledger().len();
    let edited = harness.edit("a", json!({"spec": {"displayName": "Changed"}})).await;
    harness.create("b", json!({})).await;
    harness.has("b", "Suspended", "WorkspaceSuspended").await;
    let generation = edited.metadata.generation;
    let rests = harness
        .until("a", "observed", |channel| {
            channel.status.as_ref().is_some_and(|status| status.observed_generation == generation)
        })
        .await;
    assert_eq!(condition(&rests, "Ready").map(|ready| (ready.1, ready.2)), Some(("True", "Available")));
    assert_eq!(harness.sim.ledger().len(), calls, "nothing is called");
    edit(&harness, "default", json!({"spec": {"suspend": false}})).await;
    let workspace =
        until(&harness, "default", "no more suspended", |w| condition_summary(w).len() == 1).await;
    assert_eq!(condition_summary(&workspace), ["Ready=True/Verified"]);
    let changed = harness.reason("a", "Available").await;
    assert_eq!(condition(&changed, "Suspended"), None);
    assert_eq!(harness.sim.channel(&id_of(&channel)).unwrap().display_name, "Changed");
    harness.reason("b", "Available").await;
    harness.delete_and_wait("a").await;
    harness.delete_and_wait("b").await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workspace_in_use_is_kept_until_its_last_channel_is_deleted() {
    let harness = Harness::start().await;
    assert!(!in_use(&api(&harness).get("default").await.unwrap()), "nobody uses it");
    harness.create("watching", json!({"managementPolicy": "Observe"})).await;
    harness.reason("watching", "NotCreated").await;
    harness.ready("a", json!({})).await;
    harness.ready("b", json!({})).await;
    until(&harness, "default", "in use", in_use).await;
    api(&harness).delete("default", &Default::default()).await.unwrap();
    let waiting = until(&harness, "default", "terminating", |w| w.meta().deletion_timestamp.is_some()).await;
    assert!(in_use(&waiting));
    harness.delete_and_wait("a").await;
    assert!(in_use(&api(&harness).get("default").await.unwrap()), "b needs it");
    harness.delete_and_wait("b").await;
    harness
        .eventually("the Workspace deleted", || async {
            api(&harness).get_opt("default").await.unwrap().is_none().then_some(())
        })
        .await;
    assert!(harness.sim.channels().is_empty());
    // What only observes needs no Workspace to be deleted.
    harness.delete_and_wait("watching").await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workspace_keeps_hundreds_of_finalizers_of_others_in_their_order() {
    let harness = Harness::start().await;
    let others: Vec<_> = (0..300).map(|number| format!("example.com/{number}")).collect();
    edit(&harness, "default", json!({"metadata": {"finalizers": others}})).await;
    harness.ready("a", json!({})).await;
    let used = until(&harness, "default", "in use", in_use).await;
    assert_eq!(used.finalizers().split_last().unwrap().1, others);
    let mut mixed = others.clone();
    mixed.insert(200, "ohallo.eu/in-use".into());
    edit(&harness, "default", json!({"metadata": {"finalizers": mixed}})).await;
    harness.delete_and_wait("a").await;
    let freed = until(&harness, "default", "free", |workspace| !in_use(workspace)).await;
    assert_eq!(freed.finalizers(), others);
    edit(&harness, "default", json!({"metadata": {"finalizers": null}})).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workspace_is_released_when_no_channel_uses_it() {
    let harness = Harness::start().await;
    harness.ready("a", json!({})).await;
    until(&harness, "default", "in use", in_use).await;
    edit(&harness, "default", json!({"metadata": {"finalizers": ["example.com/other", "ohallo.eu/in-use"]}}))
        .await;
    harness.delete_and_wait("a").await;
    let freed = until(&harness, "default", "free", |workspace| !in_use(workspace)).await;
    assert_eq!(freed.finalizers(), ["example.com/other"], "only ours is taken off");
    edit(&harness, "default", json!({"metadata": {"finalizers": null}})).await;
    api(&harness).delete("default", &Default::default()).await.unwrap();
    harness
        .eventually("the Workspace deleted", || async {
            api(&harness).get_opt("default").await.unwrap().is_none().then_some(())
        })
        .await;
    harness.finish().await;
}
