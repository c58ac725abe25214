//! A ClusterWorkspace: shared with the namespaces it allows, and taken away from them again.

use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use ohallo_sim::Operation;
use serde_json::json;

use crate::support::cluster_workspaces::{
    api, delete_and_wait, harness, has_reason, in_use, share, until, using,
};
use crate::support::harness::{Harness, WORKSPACE, condition, id_of, message};
use crate::support::workspaces::put_key;

async fn label(harness: &Harness, value: Option<&str>) {
    let namespaces: Api<Namespace> = Api::all(harness.admin.clone());
    let patch = Patch::Merge(json!({"metadata": {"labels": {"team": value}}}));
    namespaces.patch(&harness.namespace, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_may_use_a_cluster_workspace_until_their_namespace_is_named() {
    let harness = harness().await;
    let name = share(&harness, None);
    until(&harness, &name, "verified", |workspace| has_reason(workspace, "Verified")).await;
    harness.create("a", using(&name)).await;
    let refused = harness.reason("a", "WorkspaceNotAllowed").await;
    assert_eq!(condition(&refused, "Ready").map(|ready| ready.1), Some("False"));
    assert_eq!(condition(&refused, "Stalled").map(|stalled| stalled.2), Some("WorkspaceNotAllowed"));
    assert!(message(&refused, "Ready").contains("spec.allowedNamespaces"));
    harness.event("a", "WorkspaceNotAllowed").await;
    assert_eq!(harness.count(Operation::CreateChannel), 0);
    assert!(harness.get("a").await.finalizers().is_empty());
    share(&harness, Some(json!({"names": [harness.namespace]})));
    let channel = harness.reason("a", "Available").await;
    assert_eq!(harness.sim.channel(&id_of(&channel)).unwrap().workspace, WORKSPACE);
    until(&harness, &name, "in use", in_use).await;
    harness.delete_and_wait("a").await;
    until(&harness, &name, "free", |workspace| !in_use(workspace)).await;
    delete_and_wait(&harness, &name).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_withdrawn_namespace_changes_nothing_more_and_may_still_delete() {
    let harness = harness().await;
    let allowed = json!({"selector": {"matchLabels": {"team": "green"}}});
    let name = share(&harness, Some(allowed));
    harness.create("a", using(&name)).await;
    harness.create("b", using(&name)).await;
    harness.reason("a", "WorkspaceNotAllowed").await;
    label(&harness, Some("green")).await;
    let channel = harness.reason("a", "Available").await;
    harness.reason("b", "Available").await;
    label(&harness, Some("red")).await;
    harness.reason("a", "WorkspaceNotAllowed").await;
    harness.reason("b", "WorkspaceNotAllowed").await;
    let calls = harness.sim.ledger().len();
    harness.edit("a", json!({"spec": {"displayName": "Changed"}})).await;
    let refused = harness.reason("a", "WorkspaceNotAllowed").await;
    assert_eq!(id_of(&refused), id_of(&channel), "the id is kept");
    assert_eq!(harness.sim.ledger().len(), calls, "nothing is called");
    harness.delete_and_wait("b").await;
    assert_eq!(harness.sim.channels().len(), 1, "the channel of b is deleted");
    // Allowed again, what was declared meanwhile is applied.
    label(&harness, Some("green")).await;
    harness.reason("a", "Available").await;
    assert_eq!(harness.sim.channel(&id_of(&channel)).unwrap().display_name, "Changed");
    // An empty selector selects all, whatever their labels.
    share(&harness, Some(json!({"selector": {}})));
    label(&harness, None).await;
    harness.edit("a", json!({"spec": {"displayName": "Again"}})).await;
    harness.reason("a", "Available").await;
    // Its deletion waits for the last Channel.
    api(&harness).delete(&name, &Default::default()).await.unwrap();
    until(&harness, &name, "terminating", |workspace| workspace.metadata.deletion_timestamp.is_some()).await;
    harness.delete_and_wait("a").await;
    harness
        .eventually("the ClusterWorkspace deleted", || async {
            api(&harness).get_opt(&name).await.unwrap().is_none().then_some(())
        })
        .await;
    assert!(harness.sim.channels().is_empty());
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_of_a_cluster_workspace_is_rotated_without_a_restart() {
    let harness = harness().await;
    let name = share(&harness, Some(json!({"names": [harness.namespace]})));
    put_key(&harness, "ohallo-api-key", "sf_test_v1_unknown-to-ohallo").await;
    until(&harness, &name, "refused", |workspace| has_reason(workspace, "AuthenticationFailed")).await;
    harness.create("a", using(&name)).await;
    harness.reason("a", "WorkspaceNotReady").await;
    harness.secrets().delete("ohallo-api-key", &Default::default()).await.unwrap();
    until(&harness, &name, "without a Secret", |workspace| has_reason(workspace, "SecretNotFound")).await;
    put_key(&harness, "ohallo-api-key", &harness.key.clone()).await;
    until(&harness, &name, "verified", |workspace| has_reason(workspace, "Verified")).await;
    harness.reason("a", "Available").await;
    harness.delete_and_wait("a").await;
    delete_and_wait(&harness, &name).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_serves_no_cluster_workspaces_reports_it() {
    let harness = Harness::start().await;
    harness.create("a", using("shared")).await;
    let refused = harness.reason("a", "WorkspaceNotAllowed").await;
    assert!(message(&refused, "Ready").contains("--cluster-workspaces"));
    harness.delete_and_wait("a").await;
    harness.finish().await;
}
