//! What the chart grants: to the operator, for listed namespaces or all, and to people.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, Subject};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use ohallo_sim::Config;
use serde_json::json;
use testbed::User;

use super::install::{empty, established, kubectl};
use super::{CHART, HOME, RELEASE, on, said, stored_arguments};
use crate::binary::Program;
use crate::cluster_workspaces::{gone, has_reason, in_use, until, using};
use crate::rbac::{Grant, grant, grants, requests};
use crate::rig::{PATIENCE, Rig, WORKSPACE, kubectl_as};

/// A right, and the namespace in which it holds.
type Placed = (Option<String>, Grant);

/// What is bound to the operator's service account, whatever it is called.
async fn granted(client: &Client) -> BTreeSet<Placed> {
    let all = ListParams::default();
    let is_ours = |subjects: &Option<Vec<Subject>>| {
        let ours = |subject: &Subject| {
            subject.kind == "ServiceAccount"
                && subject.name == RELEASE
                && subject.namespace.as_deref() == Some(HOME)
        };
        subjects.iter().flatten().any(ours)
    };
    let cluster_role =
        async |name: &str| Api::<ClusterRole>::all(client.clone()).get(name).await.unwrap().rules;
    let mut found = BTreeSet::new();
    let mut place = |namespace: Option<String>, rules: Option<Vec<PolicyRule>>| {
        found.extend(grants(rules.unwrap_or_default()).into_iter().map(|grant| (namespace.clone(), grant)));
    };
    let bindings = Api::<ClusterRoleBinding>::all(client.clone()).list(&all).await.unwrap();
    for binding in bindings.items.iter().filter(|binding| is_ours(&binding.subjects)) {
        place(None, cluster_role(&binding.role_ref.name).await);
    }
    let bindings = Api::<RoleBinding>::all(client.clone()).list(&all).await.unwrap();
    for binding in bindings.items.iter().filter(|binding| is_ours(&binding.subjects)) {
        let namespace = binding.namespace().unwrap();
        assert_eq!(binding.role_ref.kind, "Role", "{binding:?}");
        let roles = Api::<Role>::namespaced(client.clone(), &namespace);
        place(Some(namespace), roles.get(&binding.role_ref.name).await.unwrap().rules);
    }
    found
}

/// Whether the first is what the second needs: a right of everywhere is one of every namespace.
fn covers(granted: &Placed, asked: &Placed) -> bool {
    granted.1 == asked.1 && (granted.0.is_none() || granted.0 == asked.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_listed_namespaces_with_cluster_workspaces_every_right_is_used_and_no_other() {
    let rights = Rights::start(true, Some(true)).await;
    rights.are_used(true).await;
    people(&rights.rig);
    rights.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_listed_namespaces_alone_every_right_is_used_and_no_other() {
    let rights = Rights::start(true, None).await;
    rights.are_used(false).await;
    rights.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_all_namespaces_every_right_is_used_and_no_other() {
    let rights = Rights::start(false, None).await;
    rights.are_used(true).await;
    rights.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_all_namespaces_without_cluster_workspaces_every_right_is_used_and_no_other() {
    let rights = Rights::start(false, Some(false)).await;
    rights.are_used(false).await;
    rights.finish().await;
}

/// A release, and its operator.
struct Rights {
    rig: Rig,
    operator: Program,
}

// === impl Rights ===

impl Rights {
    /// For the rig's namespace alone or for all, with this value of `clusterWorkspaces`.
    async fn start(listed: bool, cluster_workspaces: Option<bool>) -> Self {
        let plane = empty().await;
        on(plane, &["install", RELEASE, CHART, "-n", HOME, "--create-namespace"]);
        established(plane);
        let rig = Rig::on(plane, Config::default(), &[]).await;
        let mut values = format!("ohallo.apiUrl={}", rig.sim.url());
        if listed {
            values += &format!(",watchNamespaces={{{}}}", rig.namespace);
        }
        if let Some(served) = cluster_workspaces {
            values += &format!(",clusterWorkspaces={served}");
        }
        on(plane, &["upgrade", RELEASE, CHART, "-n", HOME, "--set", &values]);
        let operator = Program::named(plane, User::Operator, "pod", &stored_arguments(plane));
        operator.until("/readyz", 200, "this replica: leader").await;
        Self { rig, operator }
    }

    /// A Workspace, and a ClusterWorkspace where they are served, each with a Channel, from nothing to nothing.
    async fn life(&self, shared: bool) {
        let rig = &self.rig;
        let name = format!("shared-{}", rig.namespace);
        if shared {
            rig.apply(&json!({
                "apiVersion": "ohallo.eu/v1alpha1", "kind": "ClusterWorkspace", "metadata": {"name": name},
                "spec": {"workspaceId": WORKSPACE, "apiKeySecretRef": {"name": "shared"},
                         "allowedNamespaces": {"names": [rig.namespace]}},
            }));
            until(rig, &name, "without its key", |workspace| has_reason(workspace, "SecretNotFound")).await;
            let literal = format!("--from-literal=apiKey={}", rig.key);
            kubectl(rig.plane, &["-n", HOME, "create", "secret", "generic", "shared", &literal]);
            until(rig, &name, "verified", |workspace| has_reason(workspace, "Verified")).await;
        }
        rig.put_secret(json!({"metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": rig.key}}))
            .await;
        rig.workspace("default", "ohallo-api-key").await;
        rig.ready("a", json!({})).await;
        if shared {
            rig.ready("b", using(&name)).await;
            until(rig, &name, "in use", in_use).await;
            rig.deleted("b").await;
        }
        rig.deleted("a").await;
        if shared {
            until(rig, &name, "free", |workspace| !in_use(workspace)).await;
            gone(rig, &name).await;
        }
    }

    async fn are_used(&self, shared: bool) {
        self.life(shared).await;
        let granted = granted(&self.rig.admin).await;
        let used = || -> BTreeSet<Placed> {
            let asked = requests(self.rig.plane).into_iter().filter(|event| !event.resource.is_empty());
            asked.map(|event| (event.namespace.clone(), grant(&event))).collect()
        };
        let unused = || {
            let used = used();
            let unused = granted.iter().filter(|right| !used.iter().any(|asked| covers(right, asked)));
            unused.cloned().collect::<Vec<_>>()
        };
        let all_used = async {
            while !unused().is_empty() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        // What is missing then, the next line tells.
        let _late = tokio::time::timeout(PATIENCE, all_used).await;
        assert_eq!(unused(), [], "granted and never used there");
        let mut more = used();
        more.retain(|asked| !granted.iter().any(|right| covers(right, asked)));
        assert_eq!(more, [].into(), "used and not granted there");
    }

    async fn finish(mut self) {
        self.operator.terminate();
        assert_eq!(self.operator.ended().await.0, Some(0), "{}", self.operator.log());
        let plane = self.rig.plane;
        self.rig.finish().await;
        plane.kill().unwrap();
    }
}

/// Who may do what, as the real kubectl tells it.
fn people(rig: &Rig) {
    for (user, role) in [("viewer", "view"), ("editor", "edit"), ("chief", "admin")] {
        let binding =
            ["create", "rolebinding", user, &format!("--clusterrole={role}"), &format!("--user={user}")];
        assert!(rig.kubectl(&binding, None).status.success());
    }
    let operator = User::Operator.name();
    let write = ["create", "update", "patch", "delete", "deletecollection"];
    let read = ["get", "list", "watch"];
    let mut table: Vec<(&str, &str, String, bool)> = Vec::new();
    let mut rows = |who, verbs: &[&'static str], what: &str, may| {
        table.extend(verbs.iter().map(|verb| (who, *verb, what.to_owned(), may)));
    };
    for what in ["channels.ohallo.eu", "workspaces.ohallo.eu"] {
        rows("viewer", &read, what, true);
        rows("viewer", &write, what, false);
        for who in ["editor", "chief"] {
            rows(who, &["get", "create", "patch", "delete"], what, true);
            rows(who, &["override"], what, false);
            for verb in ["update", "patch"] {
                rows(who, &[verb], &format!("{what} --subresource=status"), false);
            }
        }
    }
    for who in ["viewer", "editor", "chief"] {
        rows(who, &["create", "patch"], "clusterworkspaces.ohallo.eu", false);
    }
    rows("nobody", &["get"], "channels.ohallo.eu", false);
    rows(&operator, &["get", "patch"], "channels.ohallo.eu", true);
    rows(&operator, &["create", "update", "delete"], "channels.ohallo.eu", false);
    rows(&operator, &["create", "update", "delete"], "secrets", false);
    rows(&operator, &["get"], "secrets", true);
    // The table's namespace is the one that is listed; the operator has nothing in others.
    rows(&operator, &["get", "list"], "secrets --namespace=kube-system", false);
    rows(&operator, &["list"], "channels.ohallo.eu --namespace=kube-system", false);
    let can = |(who, verb, what, _): &(&str, &str, String, bool)| {
        let mut args = vec!["auth", "can-i", verb];
        args.extend(what.split(' '));
        args.extend(["--as", who]);
        let here = ["--namespace", rig.namespace.as_str()];
        let args: Vec<_> = here.into_iter().chain(args).collect();
        let output = kubectl_as(rig.plane, User::Admin, &args, None);
        let said = said(&output);
        assert!(said.contains("yes") || said.contains("no"), "{args:?}: {said}");
        output.status.success()
    };
    let wrong: Vec<_> = table.iter().filter(|row| can(row) != row.3).collect();
    assert!(wrong.is_empty(), "who, verb, resource, whether they should: {wrong:#?}");
}
