//! A ClusterWorkspace: shared with the namespaces it allows, and taken away from them again.

use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use ohallo_core::api::workspace::ClusterWorkspace;
use ohallo_sim::{Config, Operation};
use serde_json::{Value, json};

use crate::rig::{Rig, WORKSPACE, condition, id_of, message};
use crate::workspaces::put_key;

/// A rig whose operator serves this test's ClusterWorkspaces; their Secrets lie in the test's namespace.
pub async fn rig() -> Rig {
    rig_with(&[]).await
}

/// The same with more flags. What the shipped Role grants in the operator's namespace is granted in the test's.
pub async fn rig_with(flags: &[&str]) -> Rig {
    let flags: Vec<_> = ["--cluster-workspaces=true"].iter().chain(flags).copied().collect();
    let mut rig = Rig::bare(Config::default(), &flags).await;
    crate::replicas::allow_lease(&rig);
    rig.flag(format!("--operator-namespace={}", rig.namespace));
    rig.flag(format!("--workspace-selector=test={}", rig.namespace));
    put_key(&rig, "ohallo-api-key", &rig.key.clone()).await;
    rig.start_operator().await;
    rig
}

pub fn api(rig: &Rig) -> Api<ClusterWorkspace> {
    Api::all(rig.admin.clone())
}

/// Applies the test's ClusterWorkspace; its name.
pub fn share(rig: &Rig, allowed: Option<Value>) -> String {
    let name = format!("shared-{}", rig.namespace);
    let mut spec = json!({"workspaceId": WORKSPACE, "apiKeySecretRef": {"name": "ohallo-api-key"}});
    if let Some(allowed) = allowed {
        spec["allowedNamespaces"] = allowed;
    }
    rig.apply(&json!({
        "apiVersion": "ohallo.eu/v1alpha1", "kind": "ClusterWorkspace",
        "metadata": {"name": name, "labels": {"test": rig.namespace}}, "spec": spec,
    }));
    name
}

pub fn using(name: &str) -> Value {
    json!({"workspaceRef": {"kind": "ClusterWorkspace", "name": name}})
}

pub async fn until(rig: &Rig, name: &str, what: &str, holds: impl Fn(&ClusterWorkspace) -> bool) {
    let holds = &holds;
    rig.eventually(&format!("ClusterWorkspace {what}"), || async move {
        Some(api(rig).get(name).await.unwrap()).filter(holds)
    })
    .await;
}

pub fn has_reason(workspace: &ClusterWorkspace, reason: &str) -> bool {
    let conditions = workspace.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|c| c.type_ == "Ready" && c.reason == reason)
}

pub fn in_use(workspace: &ClusterWorkspace) -> bool {
    workspace.finalizers().iter().any(|name| name == "ohallo.eu/in-use")
}

async fn label(rig: &Rig, value: Option<&str>) {
    let namespaces: Api<Namespace> = Api::all(rig.admin.clone());
    let patch = Patch::Merge(json!({"metadata": {"labels": {"team": value}}}));
    namespaces.patch(&rig.namespace, &PatchParams::default(), &patch).await.unwrap();
}

pub async fn gone(rig: &Rig, name: &str) {
    api(rig).delete(name, &Default::default()).await.unwrap();
    rig.eventually("the ClusterWorkspace gone", || async {
        api(rig).get_opt(name).await.unwrap().is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_may_use_a_cluster_workspace_until_their_namespace_is_named() {
    let rig = rig().await;
    let name = share(&rig, None);
    until(&rig, &name, "verified", |workspace| has_reason(workspace, "Verified")).await;
    rig.create("a", using(&name)).await;
    let refused = rig.reason("a", "WorkspaceNotAllowed").await;
    assert_eq!(condition(&refused, "Ready").map(|ready| ready.1), Some("False"));
    assert_eq!(condition(&refused, "Stalled").map(|stalled| stalled.2), Some("WorkspaceNotAllowed"));
    assert!(message(&refused, "Ready").contains("spec.allowedNamespaces"));
    rig.event("a", "WorkspaceNotAllowed").await;
    assert_eq!(rig.count(Operation::CreateChannel), 0);
    assert!(rig.get("a").await.finalizers().is_empty());
    share(&rig, Some(json!({"names": [rig.namespace]})));
    let channel = rig.reason("a", "Available").await;
    assert_eq!(rig.sim.channel(&id_of(&channel)).unwrap().workspace, WORKSPACE);
    until(&rig, &name, "in use", in_use).await;
    rig.deleted("a").await;
    until(&rig, &name, "free", |workspace| !in_use(workspace)).await;
    gone(&rig, &name).await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_withdrawn_namespace_changes_nothing_more_and_may_still_delete() {
    let rig = rig().await;
    let allowed = json!({"selector": {"matchLabels": {"team": "green"}}});
    let name = share(&rig, Some(allowed));
    rig.create("a", using(&name)).await;
    rig.create("b", using(&name)).await;
    rig.reason("a", "WorkspaceNotAllowed").await;
    label(&rig, Some("green")).await;
    let channel = rig.reason("a", "Available").await;
    rig.reason("b", "Available").await;
    label(&rig, Some("red")).await;
    rig.reason("a", "WorkspaceNotAllowed").await;
    rig.reason("b", "WorkspaceNotAllowed").await;
    let calls = rig.sim.ledger().len();
    rig.edit("a", json!({"spec": {"displayName": "Changed"}})).await;
    let refused = rig.reason("a", "WorkspaceNotAllowed").await;
    assert_eq!(id_of(&refused), id_of(&channel), "the id is kept");
    assert_eq!(rig.sim.ledger().len(), calls, "nothing is called");
    rig.deleted("b").await;
    assert_eq!(rig.sim.channels().len(), 1, "the channel of b is deleted");
    // Allowed again, what was declared meanwhile is applied.
    label(&rig, Some("green")).await;
    rig.reason("a", "Available").await;
    assert_eq!(rig.sim.channel(&id_of(&channel)).unwrap().display_name, "Changed");
    // An empty selector selects all, whatever their labels.
    share(&rig, Some(json!({"selector": {}})));
    label(&rig, None).await;
    rig.edit("a", json!({"spec": {"displayName": "Once more"}})).await;
    rig.reason("a", "Available").await;
    // Its deletion waits for the last Channel.
    api(&rig).delete(&name, &Default::default()).await.unwrap();
    until(&rig, &name, "terminating", |workspace| workspace.metadata.deletion_timestamp.is_some()).await;
    rig.deleted("a").await;
    rig.eventually("the ClusterWorkspace gone", || async {
        api(&rig).get_opt(&name).await.unwrap().is_none().then_some(())
    })
    .await;
    assert!(rig.sim.channels().is_empty());
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_of_a_cluster_workspace_is_rotated_without_a_restart() {
    let rig = rig().await;
    let name = share(&rig, Some(json!({"names": [rig.namespace]})));
    put_key(&rig, "ohallo-api-key", "sf_test_v1_unknown-to-ohallo").await;
    until(&rig, &name, "refused", |workspace| has_reason(workspace, "AuthenticationFailed")).await;
    rig.create("a", using(&name)).await;
    rig.reason("a", "WorkspaceNotReady").await;
    rig.secrets().delete("ohallo-api-key", &Default::default()).await.unwrap();
    until(&rig, &name, "without a Secret", |workspace| has_reason(workspace, "SecretNotFound")).await;
    put_key(&rig, "ohallo-api-key", &rig.key.clone()).await;
    until(&rig, &name, "verified", |workspace| has_reason(workspace, "Verified")).await;
    rig.reason("a", "Available").await;
    rig.deleted("a").await;
    gone(&rig, &name).await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_serves_no_cluster_workspaces_says_so() {
    let rig = Rig::start().await;
    rig.create("a", using("shared")).await;
    let refused = rig.reason("a", "WorkspaceNotAllowed").await;
    assert!(message(&refused, "Ready").contains("--cluster-workspaces"));
    rig.deleted("a").await;
    rig.finish().await;
}
