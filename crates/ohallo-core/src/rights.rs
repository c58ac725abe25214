//! The permissions that an operator needs, by what it serves.

use k8s_openapi::api::authorization::v1::ResourceAttributes;

use crate::api::{GROUP, ObjectKind};

/// The API group of Leases.
const LEASES: &str = "coordination.k8s.io";

/// What an operator serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// The watched namespaces; empty: all.
    pub namespaces: Vec<String>,
    /// The namespace of its Lease and of the Secrets of ClusterWorkspaces.
    pub operator_namespace: String,
    pub cluster_workspaces: bool,
    /// The name of its Lease, if it elects a leader.
    pub lease: Option<String>,
}

/// One permission that an operator needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Right {
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    subresource: Option<&'static str>,
    /// `None`: all namespaces, or a cluster-scoped resource.
    namespace: Option<String>,
    name: Option<String>,
}

// === impl Served ===

impl Served {
    /// The permissions without which the operator does not start. `get secrets` is not among them: it may be granted for
    /// single Secrets, and their users report a missing permission.
    pub fn rights(&self) -> Vec<Right> {
        let home = Some(self.operator_namespace.clone());
        let mut rights: Vec<Right> =
            self.scopes().iter().flat_map(|scope| in_namespace(scope.as_ref())).collect();
        if self.cluster_workspaces {
            let none = None;
            rights.extend(of_kinds(false, none));
            rights.extend(each(&["list", "watch"], "", "namespaces", none));
            if !self.namespaces.is_empty() && !self.namespaces.contains(&self.operator_namespace) {
                rights.extend(each(&["list", "watch"], "", "secrets", home.as_ref()));
            }
        }
        if let Some(lease) = &self.lease {
            rights.extend(each(&["create"], LEASES, "leases", home.as_ref()));
            let named = |right: Right| Right { name: Some(lease.clone()), ..right };
            rights.extend(each(&["get", "update"], LEASES, "leases", home.as_ref()).map(named));
        }
        rights
    }

    /// Permissions that the operator works without: to publish Events, and to count a repeated one in its series.
    pub fn optional_rights(&self) -> Vec<Right> {
        let events = |scope: &Option<String>| -> Vec<Right> {
            each(&["create", "patch"], "events.k8s.io", "events", scope.as_ref()).collect()
        };
        self.scopes().iter().flat_map(events).collect()
    }

    /// The watched namespaces; `None` stands for all.
    fn scopes(&self) -> Vec<Option<String>> {
        let all = self.namespaces.is_empty().then_some(None);
        self.namespaces.iter().cloned().map(Some).chain(all).collect()
    }
}

fn in_namespace(scope: Option<&String>) -> Vec<Right> {
    of_kinds(true, scope).chain(each(&["list", "watch"], "", "secrets", scope)).collect()
}

/// The permissions for the kinds that are namespaced, or for those that are not.
fn of_kinds(namespaced: bool, scope: Option<&String>) -> impl Iterator<Item = Right> {
    let kinds = move || ObjectKind::ALL.into_iter().filter(move |kind| kind.is_namespaced() == namespaced);
    let objects = kinds().flat_map(move |kind| each(kind.verbs(), GROUP, kind.plural(), scope));
    let statuses = kinds().flat_map(move |kind| each(&["update"], GROUP, kind.plural(), scope));
    objects.chain(statuses.map(|right| right.of(Some("status"))))
}

fn each(
    verbs: &'static [&'static str],
    group: &'static str,
    resource: &'static str,
    namespace: Option<&String>,
) -> impl Iterator<Item = Right> {
    let namespace = namespace.cloned();
    verbs.iter().map(move |verb| Right {
        verb,
        group,
        resource,
        subresource: None,
        namespace: namespace.clone(),
        name: None,
    })
}

// === impl Right ===

impl Right {
    fn of(self, subresource: Option<&'static str>) -> Self {
        Self { subresource, ..self }
    }

    /// In words, such as `update channels.ohallo.eu/status in namespace team-a`.
    pub fn description(&self) -> String {
        let group = if self.group.is_empty() { String::new() } else { format!(".{}", self.group) };
        let part = self.subresource.map(|name| format!("/{name}")).unwrap_or_default();
        let name = self.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        let place = self.namespace.as_ref().map(|name| format!(" in namespace {name}")).unwrap_or_default();
        format!("{} {}{group}{part}{name}{place}", self.verb, self.resource)
    }

    /// The question about it in an access review.
    pub fn attributes(&self) -> ResourceAttributes {
        ResourceAttributes {
            verb: Some(self.verb.into()),
            group: Some(self.group.into()),
            resource: Some(self.resource.into()),
            subresource: self.subresource.map(Into::into),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            ..ResourceAttributes::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use k8s_openapi::api::rbac::v1::PolicyRule;

    use super::*;

    fn asked(served: &Served) -> BTreeSet<String> {
        served.rights().iter().map(Right::description).collect()
    }

    fn served(namespaces: &[&str]) -> Served {
        Served {
            namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
            operator_namespace: "home".into(),
            ..Served::default()
        }
    }

    /// The permissions that the shipped roles grant, in the same words. The Lease is excluded, because its rule
    /// names a namespace.
    fn shipped() -> BTreeSet<String> {
        let text = include_str!("../../../deploy/kustomize/base/rbac.yaml");
        let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(text).unwrap();
        let role = documents.iter().find(|object| object["kind"] == "ClusterRole").unwrap();
        let rules: Vec<PolicyRule> = serde_json::from_value(role["rules"].clone()).unwrap();
        let mut granted = BTreeSet::new();
        for rule in rules {
            let group = rule.api_groups.unwrap_or_default().concat();
            let group = if group.is_empty() { group } else { format!(".{group}") };
            for resource in rule.resources.iter().flatten() {
                let (resource, part) = resource.split_once('/').unwrap_or((resource, ""));
                let part = if part.is_empty() { String::new() } else { format!("/{part}") };
                granted.extend(rule.verbs.iter().map(|verb| format!("{verb} {resource}{group}{part}")));
            }
        }
        granted
    }

    #[test]
    fn it_asks_for_every_permission_of_the_shipped_role_that_it_needs() {
        let asked = asked(&Served { cluster_workspaces: true, ..served(&[]) });
        let left: Vec<_> = shipped().difference(&asked).cloned().collect();
        assert_eq!(left, ["create events.events.k8s.io", "get secrets", "patch events.events.k8s.io"]);
        assert_eq!(asked.difference(&shipped()).collect::<Vec<_>>(), [] as [&String; 0]);
    }

    #[test]
    fn with_listed_namespaces_it_asks_for_each_and_for_nothing_cluster_wide() {
        let listed = asked(&Served { lease: Some("ohallo-operator".into()), ..served(&["a", "b"]) });
        assert!(listed.contains("patch channels.ohallo.eu in namespace b"), "{listed:?}");
        assert!(listed.contains("update leases.coordination.k8s.io ohallo-operator in namespace home"));
        assert!(listed.iter().all(|right| right.contains(" in namespace ")), "{listed:?}");
        let shared = asked(&Served { cluster_workspaces: true, ..served(&["a"]) });
        assert!(shared.contains("watch secrets in namespace home"), "{shared:?}");
        assert!(shared.contains("patch clusterworkspaces.ohallo.eu") && shared.contains("list namespaces"));
    }
}
