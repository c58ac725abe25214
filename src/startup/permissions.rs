//! Checks whether the service account has the permissions that the operator needs. The check comes first: an
//! operator that can create a channel but can't record its id does harm.

use futures::stream::{self, StreamExt};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::{Api, PostParams};
use kube::{Client, Error};

use crate::settings::Settings;
use crate::startup::checks::{MAX_CHECK_TIME, Prerequisite, list_with_ellipsis};
use crate::telemetry::http_server::Readiness;
use ohallo_core::api::{GROUP, ObjectKind};

const PERMISSIONS: Prerequisite = Prerequisite {
    part: "permissions",
    waiting: "waiting for permissions of the service account",
    remedy: "grant what the chart's or the base's roles grant",
};
const AT_ONCE: usize = 8;

const LEASES: &str = "coordination.k8s.io";

/// One permission that the operator needs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Right {
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    subresource: Option<&'static str>,
    /// `None`: all namespaces, or a cluster-scoped resource.
    namespace: Option<String>,
    name: Option<String>,
}

/// Waits for all permissions; reports in the log and in `/readyz` which are missing.
pub async fn wait_for_permissions(client: &Client, settings: &Settings, readiness: &Readiness) {
    let (rights, events) = (rights(settings), events(settings));
    PERMISSIONS.met(readiness, || missing(client, &rights)).await;
    let without = missing(client, &events).await;
    if !without.is_empty() {
        tracing::warn!(missing = without, "continuing without events: {}", PERMISSIONS.remedy);
    }
}

/// Permissions that the operator works without.
fn events(settings: &Settings) -> Vec<Right> {
    let group = "events.k8s.io";
    scopes(settings)
        .iter()
        .flat_map(|scope| each(&["create", "patch"], group, "events", scope.as_ref()))
        .collect()
}

/// The watched namespaces; `None` stands for all.
fn scopes(settings: &Settings) -> Vec<Option<String>> {
    let all = settings.namespaces.is_empty().then_some(None);
    settings.namespaces.iter().cloned().map(Some).chain(all).collect()
}

/// The denied permissions as a text; empty if none is denied.
async fn missing(client: &Client, rights: &[Right]) -> String {
    let asked: Vec<_> = rights.iter().map(|right| denied(client.clone(), right.clone())).collect();
    let denied: Vec<Option<Right>> = stream::iter(asked).buffered(AT_ONCE).collect().await;
    let described: Vec<_> = denied.iter().flatten().map(Right::description).collect();
    if described.is_empty() {
        String::new()
    } else {
        format!("the service account is not allowed to {}", list_with_ellipsis(&described))
    }
}

/// Returns the permission if it is denied. Without an answer the operator assumes that it is granted: the work
/// itself would fail.
async fn denied(client: Client, right: Right) -> Option<Right> {
    let api: Api<SelfSubjectAccessReview> = Api::all(client);
    let (params, review) = (PostParams::default(), right.review());
    match tokio::time::timeout(MAX_CHECK_TIME, api.create(&params, &review)).await {
        Ok(Ok(review)) => review.status.filter(|status| !status.allowed).map(|_| right),
        Ok(Err(Error::Api(status))) => {
            tracing::debug!(code = status.code, "permissions can't be asked for");
            None
        }
        Ok(Err(_)) | Err(_) => None,
    }
}

/// The permissions that the operator needs. `get secrets` is not among them: it may be granted for single
/// Secrets, and their users report a missing permission.
fn rights(settings: &Settings) -> Vec<Right> {
    let home = Some(settings.operator_namespace.clone());
    let mut rights: Vec<Right> =
        scopes(settings).iter().flat_map(|scope| in_namespace(scope.as_ref())).collect();
    if settings.serves_cluster_workspaces() {
        let none = None;
        rights.extend(of_kinds(false, none));
        rights.extend(each(&["list", "watch"], "", "namespaces", none));
        if !settings.namespaces.is_empty() && !settings.namespaces.contains(&settings.operator_namespace) {
            rights.extend(each(&["list", "watch"], "", "secrets", home.as_ref()));
        }
    }
    if settings.leader_elect {
        rights.extend(each(&["create"], LEASES, "leases", home.as_ref()));
        let named = |right: Right| Right { name: Some(settings.lease_name.clone()), ..right };
        rights.extend(each(&["get", "update"], LEASES, "leases", home.as_ref()).map(named));
    }
    rights
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

    fn description(&self) -> String {
        let group = if self.group.is_empty() { String::new() } else { format!(".{}", self.group) };
        let part = self.subresource.map(|name| format!("/{name}")).unwrap_or_default();
        let name = self.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        let place = self.namespace.as_ref().map(|name| format!(" in namespace {name}")).unwrap_or_default();
        format!("{} {}{group}{part}{name}{place}", self.verb, self.resource)
    }

    fn review(&self) -> SelfSubjectAccessReview {
        let attributes = ResourceAttributes {
            verb: Some(self.verb.into()),
            group: Some(self.group.into()),
            resource: Some(self.resource.into()),
            subresource: self.subresource.map(Into::into),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            ..ResourceAttributes::default()
        };
        SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(attributes),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use k8s_openapi::api::rbac::v1::PolicyRule;

    use super::*;
    use crate::settings::tests::parse;

    fn asked(flags: &[&str]) -> BTreeSet<String> {
        rights(&parse(flags).unwrap()).iter().map(Right::description).collect()
    }

    /// The permissions that the shipped roles grant, in the same words. The Lease is excluded, because its rule
    /// names a namespace.
    fn shipped() -> BTreeSet<String> {
        let text = include_str!("../../deploy/kustomize/base/rbac.yaml");
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
        let asked = asked(&[]);
        let left: Vec<_> = shipped().difference(&asked).cloned().collect();
        assert_eq!(left, ["create events.events.k8s.io", "get secrets", "patch events.events.k8s.io"]);
        assert_eq!(asked.difference(&shipped()).collect::<Vec<_>>(), [] as [&String; 0]);
    }

    #[test]
    fn with_listed_namespaces_it_asks_for_each_and_for_nothing_cluster_wide() {
        let listed = asked(&["--namespace=a,b", "--leader-elect", "--operator-namespace=home"]);
        assert!(listed.contains("patch channels.ohallo.eu in namespace b"), "{listed:?}");
        assert!(listed.contains("update leases.coordination.k8s.io ohallo-operator in namespace home"));
        assert!(listed.iter().all(|right| right.contains(" in namespace ")), "{listed:?}");
        let shared = asked(&["--namespace=a", "--cluster-workspaces", "--operator-namespace=home"]);
        assert!(shared.contains("watch secrets in namespace home"), "{shared:?}");
        assert!(shared.contains("patch clusterworkspaces.ohallo.eu") && shared.contains("list namespaces"));
    }
}
