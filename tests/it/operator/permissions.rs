//! A service account that may do less than it should.

use ohallo_sim::{Config, Operation};
use serde_json::{Value, json};
use testbed::User;

use crate::support::harness::Harness;
use crate::support::program::Program;

const RBAC: &str = "rbac.authorization.k8s.io";

fn role(name: &str, rules: &[(&str, &[&str], &[&str])]) -> Value {
    let rules: Vec<_> = rules
        .iter()
        .map(
            |(group, resources, verbs)| json!({"apiGroups": [group], "resources": resources, "verbs": verbs}),
        )
        .collect();
    json!({"apiVersion": format!("{RBAC}/v1"), "kind": "Role", "metadata": {"name": name}, "rules": rules})
}

fn binding(name: &str, user: &User) -> Value {
    json!({
        "apiVersion": format!("{RBAC}/v1"), "kind": "RoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": user.name()}],
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_permission_is_named_by_verb_and_resource_and_nothing_is_created_until_it_is_granted() {
    let user = User::Spare(4);
    let harness = Harness::bare(Config::default(), &[]).await;
    harness
        .put_secret(json!({"metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": harness.key}}))
        .await;
    harness.workspace("default", "ohallo-api-key").await;
    harness.create("a", json!({})).await;
    harness.apply(&role(
        "reader",
        &[
            ("ohallo.eu", &["channels", "workspaces"], &["get", "list", "watch"]),
            ("ohallo.eu", &["workspaces"], &["patch"]),
            ("ohallo.eu", &["workspaces/status"], &["update"]),
            ("", &["secrets"], &["get", "list"]),
        ],
    ));
    harness.apply(&binding("reader", &user));
    let flags = [format!("--api-url={}", harness.sim.url()), format!("--namespace={}", harness.namespace)];
    let program = Program::named(harness.plane, user, "", &flags);
    let here = format!("in namespace {}", harness.namespace);
    let missing = format!(
        "permissions: the service account is not allowed to patch channels.ohallo.eu {here}, \
         update channels.ohallo.eu/status {here}, watch secrets {here}: grant"
    );
    program.until("/readyz", 503, &missing).await;
    program.until("/livez", 200, "ok").await;
    assert!(program.log().contains("is not allowed to patch channels.ohallo.eu"), "{}", program.log());

    harness
        .apply(&role("writer", &[("ohallo.eu", &["channels"], &["patch"]), ("", &["secrets"], &["watch"])]));
    harness.apply(&binding("writer", &user));
    let rest = format!(
        "permissions: the service account is not allowed to update channels.ohallo.eu/status {here}: grant"
    );
    program.until("/readyz", 503, &rest).await;
    assert_eq!(
        harness.count(Operation::CreateChannel),
        0,
        "an id that can't be written down is not asked for"
    );

    harness.apply(&role("status", &[("ohallo.eu", &["channels/status"], &["update"])]));
    harness.apply(&binding("status", &user));
    program.until("/readyz", 200, "permissions: ok").await;
    harness.reason("a", "Available").await;
    let events = format!("is not allowed to create events.events.k8s.io {here}");
    assert!(
        program.log().contains(&events) && program.log().contains("continuing without events"),
        "{}",
        program.log()
    );
    harness.delete_and_wait("a").await;
    drop(program);
    harness.finish().await;
}
