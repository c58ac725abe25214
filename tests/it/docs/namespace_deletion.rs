//! The way out of a namespace that was deleted with the operator's Role, as docs/safety.md has it.

use ohallo_sim::{Action, Config, Fault, Operation};
use serde_json::json;
use testbed::User;

use crate::support::clusters::{empty, end, established, kubectl};
use crate::support::harness::Harness;
use crate::support::helm::{CHART, OPERATOR_NAMESPACE, RELEASE, on, stored_arguments};
use crate::support::pages;
use crate::support::program::Program;
use crate::support::shell::Shell;

const SAFETY: &str = include_str!("../../../docs/safety.md");

/// The commands of that part, in its order.
pub fn commands() -> Vec<String> {
    let (_, text) = SAFETY.split_once("### A namespace that was deleted with the operator's Role\n").unwrap();
    pages::commands(text.split("\n#").next().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_deleted_with_the_operators_role_ends_with_temporary_rights_and_without_an_orphan() {
    let plane = empty().await;
    on(plane, &["install", RELEASE, CHART, "-n", OPERATOR_NAMESPACE, "--create-namespace"]);
    established(plane);
    let mut harness = Harness::on(plane, Config::default(), &[]).await;
    let namespace = harness.namespace.clone();
    let watched = format!("watchNamespaces={{{namespace}}}");
    let api = format!("ohallo.apiUrl={}", harness.sim.url());
    on(plane, &["upgrade", RELEASE, CHART, "-n", OPERATOR_NAMESPACE, "--set", &watched, "--set", &api]);
    harness
        .put_secret(json!({"metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": harness.key}}))
        .await;
    harness.workspace("default", "ohallo-api-key").await;
    let operator = Program::named(plane, User::Operator, "pod", &stored_arguments(plane));
    for name in ["a", "b", "left"] {
        harness.ready(name, json!({})).await;
    }
    let commands = commands();
    let [first, role, binding, annotate, wait, delete, ids, remove] = commands.as_slice() else {
        panic!("{commands:?}")
    };
    let shell = Shell::new(plane, &namespace);
    let does = |command: &str| shell.run(&command.replace("team-a", &namespace).replace("NAME ", "left "));
    // Deletions wait until the Role is deleted.
    let refused = harness.sim.add_fault(Fault::on(Operation::DeleteChannel, Action::status(403)));
    kubectl(plane, &["delete", "namespace", &namespace, "--wait=false"]);
    kubectl(plane, &["-n", &namespace, "wait", "--for=delete", "role,rolebinding", "--all", "--timeout=60s"]);
    harness.sim.remove_fault(refused);
    // One that is ended by hand, as a person must where no operator is left.
    harness.excused.push("left".into());
    harness.takes_rights = true;
    let reported = does(ids);
    assert!(harness.sim.channels().iter().all(|channel| reported.contains(&channel.id)), "{reported}");
    does(remove);
    assert!(does(annotate).contains("a annotated"));
    harness.eventually("refused", || async { operator.log().contains("is forbidden").then_some(()) }).await;
    does(role);
    does(binding);
    does(annotate);
    does(wait);
    does(delete);
    assert_eq!((harness.count(Operation::DeleteChannel) >= 2, harness.sim.channel_count()), (true, 1));
    assert!(kubectl(plane, &["get", "clusterrole", "-o", "name"]).lines().all(|name| !name.contains("lent")));
    assert!(first.contains("kubectl delete channels.ohallo.eu --all"));
    drop(operator);
    harness.finish().await;
    end(plane).await;
}
