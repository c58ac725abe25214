// I/O
//! What the chart grants: to the operator for listed namespaces, and to people.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
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

/// What the release's roles grant to the operator: all that carry its name, but those for people.
async fn granted(client: &Client) -> BTreeSet<Placed> {
    let ours = |name: &str| name.starts_with(RELEASE);
    let placed = |namespace: Option<String>, rules: Option<Vec<PolicyRule>>| {
        grants(rules.unwrap_or_default()).into_iter().map(move |grant| (namespace.clone(), grant))
    };
    let roles = Api::<Role>::all(client.clone()).list(&ListParams::default()).await.unwrap();
    let roles = roles.items.into_iter().filter(|role| ours(&role.name_any()));
    let cluster = Api::<ClusterRole>::all(client.clone()).list(&ListParams::default()).await.unwrap();
    let cluster = cluster.items.into_iter().filter(|role| role.name_any() == RELEASE);
    roles
        .flat_map(|role| placed(role.namespace(), role.rules))
        .chain(cluster.flat_map(|role| placed(None, role.rules)))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_listed_namespaces_the_operator_uses_every_right_that_it_has_and_has_no_other() {
    let plane = empty().await;
    on(plane, &["install", RELEASE, CHART, "-n", HOME, "--create-namespace"]);
    established(plane);
    let rig = Rig::on(plane, Config::default(), &[]).await;
    let values = format!(
        "watchNamespaces={{{}}},clusterWorkspaces=true,ohallo.apiUrl={}",
        rig.namespace,
        rig.sim.url()
    );
    on(plane, &["upgrade", RELEASE, CHART, "-n", HOME, "--set", &values]);
    let mut operator = Program::named(plane, User::Operator, "pod", &stored_arguments(plane));
    operator.until("/readyz", 200, "this replica: leader").await;

    let name = format!("shared-{}", rig.namespace);
    rig.apply(&json!({
        "apiVersion": "ohallo.eu/v1alpha1", "kind": "ClusterWorkspace", "metadata": {"name": name},
        "spec": {"workspaceId": WORKSPACE, "apiKeySecretRef": {"name": "shared"},
                 "allowedNamespaces": {"names": [rig.namespace]}},
    }));
    until(&rig, &name, "without its key", |workspace| has_reason(workspace, "SecretNotFound")).await;
    let literal = format!("--from-literal=apiKey={}", rig.key);
    kubectl(plane, &["-n", HOME, "create", "secret", "generic", "shared", &literal]);
    until(&rig, &name, "verified", |workspace| has_reason(workspace, "Verified")).await;
    rig.put_secret(json!({"metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": rig.key}})).await;
    rig.workspace("default", "ohallo-api-key").await;
    rig.ready("a", json!({})).await;
    rig.ready("b", using(&name)).await;
    until(&rig, &name, "in use", in_use).await;
    rig.deleted("a").await;
    rig.deleted("b").await;
    until(&rig, &name, "free", |workspace| !in_use(workspace)).await;
    gone(&rig, &name).await;

    let granted = granted(&rig.admin).await;
    let used = || -> BTreeSet<Placed> {
        let asked = requests(plane).into_iter().filter(|event| !event.resource.is_empty());
        asked.map(|event| (event.namespace.clone(), grant(&event))).collect()
    };
    let unused = || granted.difference(&used()).cloned().collect::<Vec<_>>();
    let all_used = async {
        while !unused().is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    // What is missing then, the next line tells.
    let _late = tokio::time::timeout(PATIENCE, all_used).await;
    assert_eq!(unused(), [], "granted and never used there");
    let more: Vec<_> = used().difference(&granted).cloned().collect();
    assert_eq!(more, [], "used and not granted there");
    people(&rig);
    operator.terminate();
    assert_eq!(operator.ended().await.0, Some(0), "{}", operator.log());
    rig.finish().await;
    plane.kill().unwrap();
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
