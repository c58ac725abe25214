//! A Workspace: what it says of its key, and how it rests, waits and is let go.

use kube::api::{Api, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use ohallo_core::api::workspace::Workspace;
use ohallo_sim::{Action, Behaviour, Config, Fault, Key, NewChannel, Operation};
use serde_json::{Value, json};

use crate::rig::{Rig, TENANT, WORKSPACE, condition, id_of};

const REQUESTED: &str = "ohallo.eu/reconcile-requested-at";

pub fn api(rig: &Rig) -> Api<Workspace> {
    Api::namespaced(rig.admin.clone(), &rig.namespace)
}

pub async fn edit(rig: &Rig, name: &str, patch: Value) {
    api(rig).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

/// Writes the key where a Workspace looks for it.
pub async fn put_key(rig: &Rig, secret: &str, key: &str) {
    rig.put_secret(json!({"metadata": {"name": secret}, "stringData": {"apiKey": key}})).await;
}

/// Waits until a Workspace is so.
pub async fn until(rig: &Rig, name: &str, what: &str, holds: impl Fn(&Workspace) -> bool) -> Workspace {
    let holds = &holds;
    rig.eventually(&format!("Workspace {name} {what}"), || async move {
        Some(api(rig).get(name).await.unwrap()).filter(holds)
    })
    .await
}

/// Its conditions as `type=status/reason`, sorted.
pub fn said(workspace: &Workspace) -> Vec<String> {
    let conditions = workspace.status.iter().flat_map(|status| &status.conditions);
    let mut said: Vec<_> = conditions.map(|c| format!("{}={}/{}", c.type_, c.status, c.reason)).collect();
    said.sort();
    said
}

fn ready_message(workspace: &Workspace) -> String {
    let status = workspace.status.clone().unwrap_or_default();
    status.conditions.into_iter().find(|c| c.type_ == "Ready").map(|c| c.message).unwrap_or_default()
}

fn in_use(workspace: &Workspace) -> bool {
    workspace.finalizers().iter().any(|name| name == "ohallo.eu/in-use")
}

fn writes_of_status(rig: &Rig) -> usize {
    rig.writes().iter().filter(|write| write.starts_with("update workspaces/status default")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_key_is_verified_with_one_call_and_one_write_and_shows_name_and_environment() {
    let rig = Rig::start().await;
    let workspace = rig.workspace_reason("default", "Verified").await;
    let status = workspace.status.clone().unwrap();
    assert_eq!(said(&workspace), ["Ready=True/Verified"]);
    assert_eq!((status.name.as_deref(), status.environment.as_deref()), (Some("Nordic Parts"), Some("Test")));
    assert_eq!(status.observed_generation, workspace.metadata.generation);
    assert_eq!(rig.count(Operation::GetWorkspace), 1);
    rig.eventually("the write in the audit log", || async { (writes_of_status(&rig) >= 1).then_some(()) })
        .await;
    assert_eq!(writes_of_status(&rig), 1);
    // Asked to look again it does, and tells so.
    edit(&rig, "default", json!({"metadata": {"annotations": {REQUESTED: "now"}}})).await;
    let looked = until(&rig, "default", "looked", |workspace| {
        workspace.status.as_ref().is_some_and(|s| s.last_handled_reconcile_at.as_deref() == Some("now"))
    })
    .await;
    assert_eq!(rig.count(Operation::GetWorkspace), 2);
    assert_eq!(said(&looked), ["Ready=True/Verified"]);
    assert!(rig.events("default").await.is_empty(), "nothing is wrong");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_may_not_read_workspaces_is_unverified_and_used() {
    let behaviour = Behaviour { workspaces_readable: false, ..Behaviour::default() };
    let mut rig = Rig::bare(Config { behaviour, ..Config::default() }, &[]).await;
    let key = "sf_live_v1_canary-live-key-of-production".to_owned();
    rig.sim.add_key(Key::new(&key, TENANT));
    put_key(&rig, "ohallo-api-key", &key).await;
    rig.workspace("default", "ohallo-api-key").await;
    rig.start_operator().await;
    let workspace = rig.workspace_reason("default", "Unverified").await;
    assert_eq!(said(&workspace), ["Ready=True/Unverified"]);
    let status = workspace.status.unwrap();
    assert_eq!((status.name, status.environment.as_deref()), (None, Some("Live")));
    let channel = rig.ready("a", json!({})).await;
    assert!(rig.sim.channel(&id_of(&channel)).is_some());
    rig.deleted("a").await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_tenants_or_no_workspace_is_not_found_until_the_key_can_read_it() {
    let mut rig = Rig::bare(Config::default(), &[]).await;
    rig.sim.add_workspace("others", "theirs", "Theirs");
    put_key(&rig, "ohallo-api-key", &rig.key.clone()).await;
    for id in ["theirs", "nowhere"] {
        rig.apply(&json!({
            "apiVersion": "ohallo.eu/v1alpha1", "kind": "Workspace", "metadata": {"name": id},
            "spec": {"workspaceId": id, "apiKeySecretRef": {"name": "ohallo-api-key"}},
        }));
    }
    rig.start_operator().await;
    for id in ["theirs", "nowhere"] {
        let workspace = rig.workspace_reason(id, "WorkspaceNotFound").await;
        assert_eq!(said(&workspace), ["Ready=False/WorkspaceNotFound", "Stalled=True/WorkspaceNotFound"]);
        assert!(ready_message(&workspace).contains("spec.workspaceId"));
        rig.event(id, "WorkspaceNotFound").await;
    }
    // A Channel of it makes no call.
    rig.create("a", json!({"workspaceRef": {"name": "theirs"}})).await;
    rig.reason("a", "WorkspaceNotReady").await;
    assert_eq!(rig.count(Operation::CreateChannel), 0);
    // Another key in the Secret is looked at at once.
    let key = "sf_test_v1_canary-of-the-others".to_owned();
    rig.sim.add_key(Key::new(&key, "others"));
    put_key(&rig, "ohallo-api-key", &key).await;
    let workspace = rig.workspace_reason("theirs", "Verified").await;
    assert_eq!(said(&workspace), ["Ready=True/Verified"]);
    rig.reason("a", "Available").await;
    assert_eq!(rig.workspace_reason("nowhere", "WorkspaceNotFound").await.status.unwrap().name, None);
    rig.deleted("a").await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ohallo_that_does_not_answer_is_unknown_and_looked_at_again_by_itself() {
    let mut rig = Rig::bare(Config::default(), &[]).await;
    let fault = rig.sim.add_fault(Fault::on(Operation::GetWorkspace, Action::status(503)));
    let id = rig.sim.insert_channel(NewChannel::new(WORKSPACE, "chat", "Channel a"));
    put_key(&rig, "ohallo-api-key", &rig.key.clone()).await;
    rig.workspace("default", "ohallo-api-key").await;
    rig.start_operator().await;
    let workspace = rig.workspace_reason("default", "ApiUnavailable").await;
    assert_eq!(said(&workspace), ["Ready=Unknown/ApiUnavailable", "Reconciling=True/ApiUnavailable"]);
    rig.event("default", "ApiUnavailable").await;
    // The key may well be good: its Channels find out for themselves.
    let channel = rig.ready("a", json!({"channelId": id})).await;
    assert_eq!(id_of(&channel), id);
    rig.sim.remove_fault(fault);
    let workspace = rig.workspace_reason("default", "Verified").await;
    assert_eq!(said(&workspace), ["Ready=True/Verified"]);
    rig.deleted("a").await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_workspace_rests_with_its_channels_and_goes_on_where_it_was() {
    let rig = Rig::start().await;
    let channel = rig.ready("a", json!({})).await;
    edit(&rig, "default", json!({"spec": {"suspend": true}})).await;
    let workspace = until(&rig, "default", "suspended", |w| said(w).len() == 2).await;
    assert_eq!(said(&workspace), ["Ready=True/Verified", "Suspended=True/Suspended"]);
    rig.has("a", "Suspended", "WorkspaceSuspended").await;
    let calls = rig.sim.ledger().len();
    let edited = rig.edit("a", json!({"spec": {"displayName": "Changed"}})).await;
    rig.create("b", json!({})).await;
    rig.has("b", "Suspended", "WorkspaceSuspended").await;
    let generation = edited.metadata.generation;
    let rests = rig
        .until("a", "observed", |channel| {
            channel.status.as_ref().is_some_and(|status| status.observed_generation == generation)
        })
        .await;
    assert_eq!(condition(&rests, "Ready").map(|ready| (ready.1, ready.2)), Some(("True", "Available")));
    assert_eq!(rig.sim.ledger().len(), calls, "nothing is called");
    edit(&rig, "default", json!({"spec": {"suspend": false}})).await;
    let workspace = until(&rig, "default", "no more suspended", |w| said(w).len() == 1).await;
    assert_eq!(said(&workspace), ["Ready=True/Verified"]);
    let changed = rig.reason("a", "Available").await;
    assert_eq!(condition(&changed, "Suspended"), None);
    assert_eq!(rig.sim.channel(&id_of(&channel)).unwrap().display_name, "Changed");
    rig.reason("b", "Available").await;
    rig.deleted("a").await;
    rig.deleted("b").await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workspace_in_use_is_held_until_its_last_channel_is_gone() {
    let rig = Rig::start().await;
    assert!(!in_use(&api(&rig).get("default").await.unwrap()), "nobody uses it");
    rig.create("watching", json!({"managementPolicy": "Observe"})).await;
    rig.reason("watching", "NotCreated").await;
    rig.ready("a", json!({})).await;
    rig.ready("b", json!({})).await;
    until(&rig, "default", "in use", in_use).await;
    api(&rig).delete("default", &Default::default()).await.unwrap();
    let waiting = until(&rig, "default", "terminating", |w| w.meta().deletion_timestamp.is_some()).await;
    assert!(in_use(&waiting));
    rig.deleted("a").await;
    assert!(in_use(&api(&rig).get("default").await.unwrap()), "b needs it");
    rig.deleted("b").await;
    rig.eventually("the Workspace gone", || async {
        api(&rig).get_opt("default").await.unwrap().is_none().then_some(())
    })
    .await;
    assert!(rig.sim.channels().is_empty());
    // What only looks needs no Workspace to go.
    rig.deleted("watching").await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workspace_keeps_hundreds_of_finalizers_of_others_in_their_order() {
    let rig = Rig::start().await;
    let others: Vec<_> = (0..300).map(|number| format!("example.com/{number}")).collect();
    edit(&rig, "default", json!({"metadata": {"finalizers": others}})).await;
    rig.ready("a", json!({})).await;
    let used = until(&rig, "default", "in use", in_use).await;
    assert_eq!(used.finalizers().split_last().unwrap().1, others);
    let mut mixed = others.clone();
    mixed.insert(200, "ohallo.eu/in-use".into());
    edit(&rig, "default", json!({"metadata": {"finalizers": mixed}})).await;
    rig.deleted("a").await;
    let freed = until(&rig, "default", "free", |workspace| !in_use(workspace)).await;
    assert_eq!(freed.finalizers(), others);
    edit(&rig, "default", json!({"metadata": {"finalizers": null}})).await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workspace_is_freed_when_nobody_uses_it_any_more() {
    let rig = Rig::start().await;
    rig.ready("a", json!({})).await;
    until(&rig, "default", "in use", in_use).await;
    edit(&rig, "default", json!({"metadata": {"finalizers": ["example.com/other", "ohallo.eu/in-use"]}}))
        .await;
    rig.deleted("a").await;
    let freed = until(&rig, "default", "free", |workspace| !in_use(workspace)).await;
    assert_eq!(freed.finalizers(), ["example.com/other"], "only ours is taken off");
    edit(&rig, "default", json!({"metadata": {"finalizers": null}})).await;
    api(&rig).delete("default", &Default::default()).await.unwrap();
    rig.eventually("the Workspace gone", || async {
        api(&rig).get_opt("default").await.unwrap().is_none().then_some(())
    })
    .await;
    rig.finish().await;
}
