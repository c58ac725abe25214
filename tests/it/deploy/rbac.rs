//! The shipped roles grant what the operator does, and nothing that it does not.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use testbed::AuditEvent;

use crate::support::cluster_workspaces::{
    delete_and_wait, harness_with, has_reason, in_use, share, until, using,
};
use crate::support::harness::WAIT_TIMEOUT;
use crate::support::roles::{grant, granted, granted_at_home, outside, requests};

#[test]
fn the_role_names_no_wildcard() {
    for (verb, group, resource) in granted().into_iter().chain(granted_at_home()) {
        assert!(![&verb, &group, &resource].iter().any(|word| word.contains('*')), "{verb} {resource}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_uses_every_verb_that_it_is_granted_and_no_other() {
    let mut harness = harness_with(&["--leader-elect"]).await;
    // A Workspace and a ClusterWorkspace, each with a Channel, from nothing to nothing.
    harness.apply(&json!({
        "apiVersion": "ohallo.eu/v1alpha1", "kind": "Workspace",
        "metadata": {"name": "default", "labels": {"test": harness.namespace}},
        "spec": {"workspaceId": crate::support::harness::WORKSPACE, "apiKeySecretRef": {"name": "ohallo-api-key"}},
    }));
    harness.workspace_reason("default", "Verified").await;
    let name = share(&harness, Some(json!({"names": [harness.namespace]})));
    until(&harness, &name, "verified", |workspace| has_reason(workspace, "Verified")).await;
    harness.secret("credentials", &[("token", "canary-token-of-rbac")]).await;
    let credentials = json!([{"secretRef": {"name": "credentials"}}]);
    harness.ready("a", json!({"credentials": credentials})).await;
    harness.ready("b", using(&name)).await;
    until(&harness, &name, "in use", in_use).await;
    harness.repeat_event("a").await;
    harness.delete_and_wait("a").await;
    harness.delete_and_wait("b").await;
    until(&harness, &name, "free", |workspace| !in_use(workspace)).await;
    delete_and_wait(&harness, &name).await;
    let workspaces = crate::support::workspaces::api(&harness);
    workspaces.delete("default", &Default::default()).await.unwrap();
    harness
        .eventually("the Workspace deleted", || async {
            workspaces.get_opt("default").await.unwrap().is_none().then_some(())
        })
        .await;
    harness.stop_operator().await;
    // The audit log may lag a little behind.
    let granted: BTreeSet<_> = granted().into_iter().chain(granted_at_home()).collect();
    let here = |event: &AuditEvent| {
        event.namespace.as_ref().is_none_or(|namespace| *namespace == harness.namespace)
            && event.name.as_ref().is_none_or(|name| !name.starts_with("shared-"))
            || event.name.as_ref() == Some(&name)
    };
    let unused = || {
        let used: BTreeSet<_> =
            requests(harness.plane).iter().filter(|event| here(event)).map(grant).collect();
        granted.difference(&used).cloned().collect::<Vec<_>>()
    };
    let all_used = async {
        while !unused().is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    // What is missing then, the next line tells.
    let _late = tokio::time::timeout(WAIT_TIMEOUT, all_used).await;
    assert_eq!(unused(), [], "granted and never used");
    assert!(outside(&requests(harness.plane)).is_empty(), "{:#?}", outside(&requests(harness.plane)));
    harness.finish().await;
}
