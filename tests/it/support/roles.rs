//! The shipped roles, and what the operator requested of the API server.

use std::collections::BTreeSet;
use std::path::Path;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use testbed::{AuditEvent, ControlPlane, User};

/// Verb, API group and resource.
pub type Grant = (String, String, String);

/// The shipped objects of a kind.
pub fn shipped(kind: &str) -> Vec<serde_json::Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kustomize/base/rbac.yaml");
    let text = std::fs::read_to_string(file).unwrap();
    let objects: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).unwrap();
    objects.into_iter().filter(|object| object["kind"] == kind).collect()
}

/// What the ClusterRole grants.
pub fn granted() -> BTreeSet<Grant> {
    let roles = shipped("ClusterRole");
    assert_eq!(roles.len(), 1);
    let role: ClusterRole = serde_json::from_value(roles[0].clone()).unwrap();
    let rules = role.rules.unwrap_or_default();
    assert!(rules.iter().all(|rule| rule.resource_names.is_none()), "{rules:?}");
    grants(rules)
}

/// What the Role in the operator's own namespace grants; all but creating only for the one lease.
pub fn granted_at_home() -> BTreeSet<Grant> {
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

/// What of this is not granted, or was refused. Each harness asks it of its own operator at the end.
pub fn outside(asked: &[AuditEvent]) -> Vec<&AuditEvent> {
    let granted: BTreeSet<_> = granted().into_iter().chain(granted_at_home()).collect();
    let refused = |event: &AuditEvent| {
        // What is no resource, such as the list of what the server offers, is anybody's.
        let ungranted = !granted.contains(&grant(event)) && !event.resource.is_empty();
        // An event in a namespace that is being deleted is refused whatever the role grants.
        ungranted || event.code == 403 && event.resource != "events"
    };
    asked.iter().filter(|event| refused(event)).collect()
}
