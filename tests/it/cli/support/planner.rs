//! `plan` as a user who may only read, and what it leaves behind: nothing.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use ohallo_sim::Config;
use serde_json::{Value, json};
use testbed::User;

use crate::cli::support::program::command;
use crate::support::harness::Harness;

/// The user of every plan. No other test uses it.
pub const PLANNER: User = User::Spare(8);

static SEED: AtomicU64 = AtomicU64::new(1_000);

/// A simulator whose ids are in no other namespace: a plan knows all Channels of the cluster, and every other simulator
/// gives out the same ids.
pub fn unique_ids() -> Config {
    Config { seed: SEED.fetch_add(1, Ordering::Relaxed), ..Config::default() }
}

/// Grants what `docs/pipelines.md` says that a plan needs.
pub fn grant_reads(harness: &Harness) {
    let rule = |group: &str, resources: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": ["get", "list"]});
    let rules = [
        rule("ohallo.eu", &["channels", "workspaces", "clusterworkspaces"]),
        rule("", &["namespaces", "secrets"]),
        rule("apps", &["deployments"]),
        rule(
            "admissionregistration.k8s.io",
            &["validatingadmissionpolicies", "validatingadmissionpolicybindings"],
        ),
    ];
    // Two that apply the same new object at once: one is refused.
    static APPLYING: Mutex<()> = Mutex::new(());
    let _applying = APPLYING.lock().unwrap_or_else(PoisonError::into_inner);
    let api = "rbac.authorization.k8s.io";
    let subject = json!({"kind": "User", "name": PLANNER.name(), "apiGroup": api});
    let role = json!({"kind": "ClusterRole", "name": "planner", "apiGroup": api});
    for object in [
        json!({"apiVersion": format!("{api}/v1"), "kind": "ClusterRole", "metadata": {"name": "planner"}, "rules": rules}),
        json!({"apiVersion": format!("{api}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": "planner"}, "roleRef": role, "subjects": [subject]}),
    ] {
        harness.apply(&object);
    }
}

/// The program with the kubeconfig of the planner and the simulator of this test.
pub fn planner(harness: &Harness, args: &[&str]) -> Command {
    let mut command = command();
    command.arg("--kubeconfig").arg(harness.plane.kubeconfig(PLANNER));
    command.args(["--namespace", &harness.namespace, "plan"]).args(args);
    if args.contains(&"--live") {
        command.args(["--api-url", &harness.sim.url()]);
    }
    command
}

/// The plan, if it ends with this code.
pub fn planned(harness: &Harness, code: i32, args: &[&str]) -> Value {
    let output = planner(harness, &[args, &["--output=json"]].concat()).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(&output)))
}

/// stdout and stderr.
pub fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

/// The effect and the name of each change.
pub fn effects(plan: &Value) -> Vec<(String, String)> {
    let text = |change: &Value, key: &str| change[key].as_str().unwrap().to_owned();
    let changes = plan["changes"].as_array().unwrap().iter();
    changes.map(|change| (text(change, "effect"), text(change, "name"))).collect()
}

/// Asserts that the planner has only read: in the audit log of the API server, and in the ledger of the simulator since
/// this entry.
pub async fn assert_only_read(harness: &Harness, since: u64) {
    harness.caught_up().await;
    let requests: Vec<_> =
        harness.audited().into_iter().filter(|event| event.user == PLANNER.name()).collect();
    assert!(!requests.is_empty(), "the planner asked nothing");
    let reads = ["get", "list"];
    let writes: Vec<_> = requests.iter().filter(|event| !reads.contains(&event.verb.as_str())).collect();
    assert!(writes.is_empty(), "{writes:#?}");
    let calls = harness.sim.ledger_since(since);
    let calls: Vec<_> = calls.iter().filter(|entry| entry.method != "GET").collect();
    assert!(calls.is_empty(), "{calls:#?}");
}
