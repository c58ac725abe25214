//! Workspaces of a test.

use kube::api::{Api, Patch, PatchParams};
use ohallo_core::api::workspace::Workspace;
use serde_json::{Value, json};

use crate::support::harness::Harness;

pub fn api(harness: &Harness) -> Api<Workspace> {
    Api::namespaced(harness.admin.clone(), &harness.namespace)
}

pub async fn edit(harness: &Harness, name: &str, patch: Value) {
    api(harness).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

/// Writes the key where a Workspace reads it.
pub async fn put_key(harness: &Harness, secret: &str, key: &str) {
    harness.put_secret(json!({"metadata": {"name": secret}, "stringData": {"apiKey": key}})).await;
}

/// Waits until a Workspace is so.
pub async fn until(
    harness: &Harness,
    name: &str,
    what: &str,
    holds: impl Fn(&Workspace) -> bool,
) -> Workspace {
    let holds = &holds;
    harness
        .eventually(&format!("Workspace {name} {what}"), || async move {
            Some(api(harness).get(name).await.unwrap()).filter(holds)
        })
        .await
}

/// Its conditions as `type=status/reason`, sorted.
pub fn condition_summary(workspace: &Workspace) -> Vec<String> {
    let conditions = workspace.status.iter().flat_map(|status| &status.conditions);
    let mut condition_summary: Vec<_> =
        conditions.map(|c| format!("{}={}/{}", c.type_, c.status, c.reason)).collect();
    condition_summary.sort();
    condition_summary
}
