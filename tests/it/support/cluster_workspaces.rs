//! The ClusterWorkspace of a test.

use kube::ResourceExt;
use kube::api::Api;
use ohallo_core::api::workspace::ClusterWorkspace;
use ohallo_sim::Config;
use serde_json::{Value, json};

use crate::support::harness::{Harness, WORKSPACE};
use crate::support::leases::allow_lease;
use crate::support::workspaces::put_key;

/// A harness whose operator serves this test's ClusterWorkspaces; their Secrets lie in the test's namespace.
pub async fn harness() -> Harness {
    harness_with(&[]).await
}

/// The same with more flags. What the shipped Role grants in the operator's namespace is granted in the test's.
pub async fn harness_with(flags: &[&str]) -> Harness {
    harness_of(Config::default(), flags).await
}

/// The same with another simulator.
pub async fn harness_of(config: Config, flags: &[&str]) -> Harness {
    let flags: Vec<_> = ["--cluster-workspaces=true"].iter().chain(flags).copied().collect();
    let mut harness = Harness::bare(config, &flags).await;
    allow_lease(&harness);
    harness.flag(format!("--operator-namespace={}", harness.namespace));
    harness.flag(format!("--workspace-selector=test={}", harness.namespace));
    put_key(&harness, "ohallo-api-key", &harness.key.clone()).await;
    harness.start_operator().await;
    harness
}

pub fn api(harness: &Harness) -> Api<ClusterWorkspace> {
    Api::all(harness.admin.clone())
}

/// Applies the test's ClusterWorkspace; its name.
pub fn share(harness: &Harness, allowed: Option<Value>) -> String {
    let name = format!("shared-{}", harness.namespace);
    let mut spec = json!({"workspaceId": WORKSPACE, "apiKeySecretRef": {"name": "ohallo-api-key"}});
    if let Some(allowed) = allowed {
        spec["allowedNamespaces"] = allowed;
    }
    harness.apply(&json!({
        "apiVersion": "ohallo.eu/v1alpha1", "kind": "ClusterWorkspace",
        "metadata": {"name": name, "labels": {"test": harness.namespace}}, "spec": spec,
    }));
    name
}

pub fn using(name: &str) -> Value {
    json!({"workspaceRef": {"kind": "ClusterWorkspace", "name": name}})
}

pub async fn until(harness: &Harness, name: &str, what: &str, holds: impl Fn(&ClusterWorkspace) -> bool) {
    let holds = &holds;
    harness
        .eventually(&format!("ClusterWorkspace {what}"), || async move {
            Some(api(harness).get(name).await.unwrap()).filter(holds)
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

pub async fn delete_and_wait(harness: &Harness, name: &str) {
    api(harness).delete(name, &Default::default()).await.unwrap();
    harness
        .eventually("the ClusterWorkspace deleted", || async {
            api(harness).get_opt(name).await.unwrap().is_none().then_some(())
        })
        .await;
}
