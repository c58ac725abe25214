//! The shipped roles grant what the operator does, and nothing that it does not.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use serde::Deserialize;
use serde_json::json;
use testbed::{AuditEvent, ControlPlane, User};

use crate::cluster_workspaces::{gone, has_reason, in_use, rig_with, share, until, using};
use crate::rig::PATIENCE;

/// Verb, API group and resource.
pub type Grant = (String, String, String);

/// The shipped objects of a kind.
pub fn shipped(kind: &str) -> Vec<serde_json::Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kustomize/base/rbac.yaml");
    let text = std::fs::read_to_string(file).unwrap();
    let documents = serde_yaml_ng::Deserializer::from_str(&text);
    let objects: Vec<_> =
        documents.map(|document| serde_json::Value::deserialize(document).unwrap()).collect();
    objects.into_iter().filter(|object| object["kind"] == kind).collect()
}

/// What the ClusterRole grants.
fn granted() -> BTreeSet<Grant> {
    let roles = shipped("ClusterRole");
    assert_eq!(roles.len(), 1);
    let role: ClusterRole = serde_json::from_value(roles[0].clone()).unwrap();
    let rules = role.rules.unwrap_or_default();
    assert!(rules.iter().all(|rule| rule.resource_names.is_none()), "{rules:?}");
    grants(rules)
}

/// What the Role in the operator's own namespace grants; all but creating only for the one lease.
fn granted_at_home() -> BTreeSet<Grant> {
    let roles = shipped("Role");
    assert_eq!(roles.len(), 1);
    let role: Role = serde_json::from_value(roles[0].clone()).unwrap();
    let rules = role.rules.unwrap_or_default();
    for rule in &rules {
        let named = rule.resource_names.as_deref() == Some(&["ohallo-operator".to_owned()]);
        assert!(named || rule.verbs == ["create"], "{rule:?}");
    }
    grants(rules)
}

pub fn grants(rules: Vec<PolicyRule>) -> BTreeSet<Grant> {
    let mut granted = BTreeSet::new();
    for rule in rules {
        assert!(rule.non_resource_urls.is_none(), "{rule:?}");
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for verb in &rule.verbs {
                    granted.insert((verb.clone(), group.clone(), resource.clone()));
                }
            }
        }
    }
    granted
}

pub fn grant(event: &AuditEvent) -> Grant {
    let subresource = event.subresource.as_deref().map(|name| format!("/{name}")).unwrap_or_default();
    (event.verb.clone(), event.api_group.clone(), format!("{}{subresource}", event.resource))
}

/// What the operators of this run asked of the API server. What it may do itself anybody may ask.
pub fn requests(plane: &ControlPlane) -> Vec<AuditEvent> {
    let events = plane.audit_since(&mut 0).unwrap();
    let ours = |event: &AuditEvent| event.user == User::Operator.name();
    events.into_iter().filter(ours).filter(|event| event.api_group != "authorization.k8s.io").collect()
}

/// What of this is not granted, or was refused. Each rig asks it of its own operator at the end.
pub fn outside(asked: &[AuditEvent]) -> Vec<&AuditEvent> {
    let granted: BTreeSet<_> = granted().into_iter().chain(granted_at_home()).collect();
    let refused = |event: &AuditEvent| {
        // What is no resource, such as the list of what the server offers, is anybody's.
        let ungranted = !granted.contains(&grant(event)) && !event.resource.is_empty();
        // An event in a namespace that is being deleted is refused whatever the role says.
        ungranted || event.code == 403 && event.resource != "events"
    };
    asked.iter().filter(|event| refused(event)).collect()
}

#[test]
fn the_role_names_no_wildcard() {
    for (verb, group, resource) in granted().into_iter().chain(granted_at_home()) {
        assert!(![&verb, &group, &resource].iter().any(|word| word.contains('*')), "{verb} {resource}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_uses_every_verb_that_it_is_granted_and_no_other() {
    let mut rig = rig_with(&["--leader-elect"]).await;
    // A Workspace and a ClusterWorkspace, each with a Channel, from nothing to nothing.
    rig.apply(&json!({
        "apiVersion": "ohallo.eu/v1alpha1", "kind": "Workspace",
        "metadata": {"name": "default", "labels": {"test": rig.namespace}},
        "spec": {"workspaceId": crate::rig::WORKSPACE, "apiKeySecretRef": {"name": "ohallo-api-key"}},
    }));
    rig.workspace_reason("default", "Verified").await;
    let name = share(&rig, Some(json!({"names": [rig.namespace]})));
    until(&rig, &name, "verified", |workspace| has_reason(workspace, "Verified")).await;
    rig.secret("credentials", &[("token", "canary-token-of-rbac")]).await;
    let credentials = json!([{"secretRef": {"name": "credentials"}}]);
    rig.ready("a", json!({"credentials": credentials})).await;
    rig.ready("b", using(&name)).await;
    until(&rig, &name, "in use", in_use).await;
    rig.edit("a", json!({"spec": {"displayName": "Changed"}})).await;
    rig.reason("a", "Available").await;
    rig.event("a", "Updated").await;
    rig.deleted("a").await;
    rig.deleted("b").await;
    until(&rig, &name, "free", |workspace| !in_use(workspace)).await;
    gone(&rig, &name).await;
    let workspaces = crate::workspaces::api(&rig);
    workspaces.delete("default", &Default::default()).await.unwrap();
    rig.eventually("the Workspace gone", || async {
        workspaces.get_opt("default").await.unwrap().is_none().then_some(())
    })
    .await;
    rig.stop_operator().await;
    // The audit log may lag a little behind.
    let granted: BTreeSet<_> = granted().into_iter().chain(granted_at_home()).collect();
    let here = |event: &AuditEvent| {
        event.namespace.as_ref().is_none_or(|namespace| *namespace == rig.namespace)
            && event.name.as_ref().is_none_or(|name| !name.starts_with("shared-"))
            || event.name.as_ref() == Some(&name)
    };
    let unused = || {
        let used: BTreeSet<_> = requests(rig.plane).iter().filter(|event| here(event)).map(grant).collect();
        granted.difference(&used).cloned().collect::<Vec<_>>()
    };
    let all_used = async {
        while !unused().is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    // What is missing then, the next line tells.
    let _late = tokio::time::timeout(PATIENCE, all_used).await;
    assert_eq!(unused(), [], "granted and never used");
    assert!(outside(&requests(rig.plane)).is_empty(), "{:#?}", outside(&requests(rig.plane)));
    rig.finish().await;
}
