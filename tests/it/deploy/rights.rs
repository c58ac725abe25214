//! What the chart grants: to the operator, for listed namespaces or all, and to people.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, Subject};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use ohallo_sim::Config;
use serde_json::json;
use testbed::User;

use crate::support::cluster_workspaces::{delete_and_wait, has_reason, in_use, until, using};
use crate::support::clusters::{empty, established, kubectl};
use crate::support::harness::{Harness, WAIT_TIMEOUT, WORKSPACE, kubectl_as};
use crate::support::helm::{CHART, OPERATOR_NAMESPACE, RELEASE, on, output_text, stored_arguments};
use crate::support::program::Program;
use crate::support::roles::{Grant, grant, grants, requests};

/// A right, and the namespace in which it holds.
type Placed = (Option<String>, Grant);

/// What is bound to the operator's service account, whatever it is called.
async fn granted(client: &Client) -> BTreeSet<Placed> {
    let all = ListParams::default();
    let is_ours = |subjects: &Option<Vec<Subject>>| {
        let ours = |subject: &Subject| {
            subject.kind == "ServiceAccount"
                && subject.name == RELEASE
                && subject.namespace.as_deref() == Some(OPERATOR_NAMESPACE)
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
    people(&rights.harness);
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
    harness: Harness,
    operator: Program,
}

// === impl Rights ===

impl Rights {
    /// For the harness's namespace alone or for all, with this value of `clusterWorkspaces`.
    async fn start(listed: bool, cluster_workspaces: Option<bool>) -> Self {
        let plane = empty().await;
        on(plane, &["install", RELEASE, CHART, "-n", OPERATOR_NAMESPACE, "--create-namespace"]);
        established(plane);
        let harness = Harness::on(plane, Config::default(), &[]).await;
        let mut values = format!("ohallo.apiUrl={}", harness.sim.url());
        if listed {
            values += &format!(",watchNamespaces={{{}}}", harness.namespace);
        }
        if let Some(served) = cluster_workspaces {
            values += &format!(",clusterWorkspaces={served}");
        }
        on(plane, &["upgrade", RELEASE, CHART, "-n", OPERATOR_NAMESPACE, "--set", &values]);
        let operator = Program::named(plane, User::Operator, "pod", &stored_arguments(plane));
        operator.until("/readyz", 200, "this replica: leader").await;
        Self { harness, operator }
    }

    /// A Workspace, and a ClusterWorkspace where they are served, each with a Channel, from nothing to nothing.
    async fn life(&self, shared: bool) {
        let harness = &self.harness;
        let name = format!("shared-{}", harness.namespace);
        if shared {
            harness.apply(&json!({
                "apiVersion": "ohallo.eu/v1alpha1", "kind": "ClusterWorkspace", "metadata": {"name": name},
                "spec": {"workspaceId": WORKSPACE, "apiKeySecretRef": {"name": "shared"},
                         "allowedNamespaces": {"names": [harness.namespace]}},
            }));
            let literal = format!("--from-literal=apiKey={}", harness.key);
            let secret =
                |args: &[&str]| kubectl(harness.plane, &[&["-n", OPERATOR_NAMESPACE], args].concat());
            // Twice, so that its Warning is repeated.
            for again in [true, false] {
                until(harness, &name, "without its key", |workspace| has_reason(workspace, "SecretNotFound"))
                    .await;
                secret(&["create", "secret", "generic", "shared", &literal]);
                until(harness, &name, "verified", |workspace| has_reason(workspace, "Verified")).await;
                if again {
                    secret(&["delete", "secret", "shared"]);
                }
            }
        }
        harness
            .put_secret(
                json!({"metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": harness.key}}),
            )
            .await;
        harness.workspace("default", "ohallo-api-key").await;
        harness.ready("a", json!({})).await;
        harness.repeat_event("a").await;
        if shared {
            harness.ready("b", using(&name)).await;
            until(harness, &name, "in use", in_use).await;
            harness.delete_and_wait("b").await;
        }
        harness.delete_and_wait("a").await;
        if shared {
            until(harness, &name, "free", |workspace| !in_use(workspace)).await;
            delete_and_wait(harness, &name).await;
        }
    }

    async fn are_used(&self, shared: bool) {
        self.life(shared).await;
        let granted = granted(&self.harness.admin).await;
        let used = || -> BTreeSet<Placed> {
            let asked = requests(self.harness.plane).into_iter().filter(|event| !event.resource.is_empty());
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
        let _late = tokio::time::timeout(WAIT_TIMEOUT, all_used).await;
        assert_eq!(unused(), [], "granted and never used there");
        let mut more = used();
        more.retain(|asked| !granted.iter().any(|right| covers(right, asked)));
        assert_eq!(more, [].into(), "used and not granted there");
    }

    async fn finish(mut self) {
        self.operator.terminate();
        assert_eq!(self.operator.ended().await.0, Some(0), "{}", self.operator.log());
        let plane = self.harness.plane;
        self.harness.finish().await;
        plane.kill().unwrap();
    }
}

/// Who may do what, as the real kubectl tells it.
fn people(harness: &Harness) {
    for (user, role) in [("viewer", "view"), ("editor", "edit"), ("chief", "admin")] {
        let binding =
            ["create", "rolebinding", user, &format!("--clusterrole={role}"), &format!("--user={user}")];
        assert!(harness.kubectl(&binding, None).status.success());
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
        let here = ["--namespace", harness.namespace.as_str()];
        let args: Vec<_> = here.into_iter().chain(args).collect();
        let output = kubectl_as(harness.plane, User::Admin, &args, None);
        let reported = output_text(&output);
        assert!(reported.contains("yes") || reported.contains("no"), "{args:?}: {reported}");
        output.status.success()
    };
    let wrong: Vec<_> = table.iter().filter(|row| can(row) != row.3).collect();
    assert!(wrong.is_empty(), "who, verb, resource, whether they should: {wrong:#?}");
}
