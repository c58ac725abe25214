//! The rights that each command needs, as the audit log shows them.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::User;

use crate::cli::support::installation::Installation;
use crate::cli::support::program::command;
use crate::support::clusters::{empty, kubectl};
use crate::support::harness::kubectl_as;
use crate::support::helm::{OPERATOR_NAMESPACE, output_text};

const USER: User = User::Spare(5);

/// What a command asks of the API server, beside the discovery and the schemas that every user may read.
pub struct Rights {
    /// The commands, as they are written.
    pub commands: &'static [&'static str],
    /// Without these it has no answer: verb and resource.
    pub required: &'static [&'static str],
    /// Without these it leaves something out, and says so.
    pub optional: &'static [&'static str],
}

pub const RIGHTS: [Rights; 10] = [
    Rights { commands: &["validate", "schema", "completion"], required: &[], optional: &[] },
    Rights {
        commands: &["plan"],
        required: &["list channels.ohallo.eu", "list workspaces.ohallo.eu"],
        optional: &[
            "get namespaces",
            "list clusterworkspaces.ohallo.eu",
            "list deployments.apps",
            "list validatingadmissionpolicies.admissionregistration.k8s.io",
            "list validatingadmissionpolicybindings.admissionregistration.k8s.io",
        ],
    },
    Rights {
        commands: &["status"],
        required: &["list channels.ohallo.eu", "list workspaces.ohallo.eu"],
        optional: &["list clusterworkspaces.ohallo.eu"],
    },
    Rights {
        commands: &["why"],
        required: &["get channels.ohallo.eu"],
        optional: &["get workspaces.ohallo.eu", "list events.events.k8s.io"],
    },
    Rights {
        commands: &[
            "reconcile",
            "test",
            "retry",
            "suspend",
            "resume",
            "release",
            "confirm-deletion",
            "create-again",
            "adopt",
        ],
        required: &["get channels.ohallo.eu", "patch channels.ohallo.eu"],
        optional: &[],
    },
    Rights { commands: &["import"], required: &["get workspaces.ohallo.eu"], optional: &["get secrets"] },
    Rights {
        commands: &["export"],
        required: &["list channels.ohallo.eu", "list workspaces.ohallo.eu"],
        optional: &["list clusterworkspaces.ohallo.eu"],
    },
    Rights {
        commands: &["check"],
        required: &[],
        optional: &[
            "create subjectaccessreviews.authorization.k8s.io",
            "get customresourcedefinitions.apiextensions.k8s.io",
            "get leases.coordination.k8s.io",
            "list deployments.apps",
        ],
    },
    Rights {
        commands: &["report"],
        required: &[],
        optional: &[
            "create subjectaccessreviews.authorization.k8s.io",
            "get customresourcedefinitions.apiextensions.k8s.io",
            "get leases.coordination.k8s.io",
            "get pods/log",
            "get pods/proxy",
            "list channels.ohallo.eu",
            "list clusterworkspaces.ohallo.eu",
            "list deployments.apps",
            "list events.events.k8s.io",
            "list pods",
            "list workspaces.ohallo.eu",
        ],
    },
    Rights {
        commands: &["version"],
        required: &[],
        optional: &["list customresourcedefinitions.apiextensions.k8s.io", "list deployments.apps"],
    },
];

/// How each is run in the test.
const RUNS: [&[&str]; 12] = [
    &["plan", "channel.yaml"],
    &["status"],
    &["why", "a"],
    &["reconcile", "a", "--wait"],
    &["suspend", "a", "--wait"],
    &["resume", "a", "--wait"],
    &["test", "a", "--yes", "--wait"],
    &["import", "no-such-channel", "--api-url={url}"],
    &["export"],
    &["check"],
    &["report"],
    &["version"],
];

/// A rule of a role for `verb resource.group/subresource`.
fn rule(right: &str) -> Value {
    let (verb, resource) = right.split_once(' ').unwrap();
    let (resource, subresource) =
        resource.split_once('/').map_or((resource, ""), |(name, part)| (name, part));
    let (name, group) = resource.split_once('.').unwrap_or((resource, ""));
    let part = if subresource.is_empty() { String::new() } else { format!("/{subresource}") };
    json!({"verbs": [verb], "apiGroups": [group], "resources": [format!("{name}{part}")]})
}

/// Gives the user these rights and no other, and waits until they hold.
async fn grant(installation: &Installation, rights: &[&str]) {
    let rules: Vec<_> = rights.iter().map(|right| rule(right)).collect();
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "person"}, "rules": rules});
    let output = kubectl_as(installation.plane, User::Admin, &["apply", "-f", "-"], Some(&role.to_string()));
    assert!(output.status.success(), "{}", output_text(&output));
    let user = format!("--as={}", USER.name());
    for right in rights {
        let (verb, resource) = right.split_once(' ').unwrap();
        let (resource, part) = resource.split_once('/').unwrap_or((resource, ""));
        let subresource = format!("--subresource={part}");
        let ask = ["auth", "can-i", verb, resource, &subresource, "--all-namespaces", &user];
        while !kubectl_as(installation.plane, User::Admin, &ask, None).status.success() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_command_works_with_the_documented_rights_and_uses_each_of_them() {
    let plane = empty().await;
    let mut installation = Installation::new(plane).await;
    installation.run();
    // Nothing starts it here; the report still asks for its log and its metrics.
    installation.create(&json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "operator", "namespace": OPERATOR_NAMESPACE, "labels": {"app.kubernetes.io/name": "ohallo-operator"}},
        "spec": {"containers": [{"name": "operator", "image": "none"}]},
    }));
    let user = USER.name();
    kubectl(plane, &["create", "clusterrole", "person", "--verb=get", "--resource=pods"]);
    kubectl(
        plane,
        &["create", "clusterrolebinding", "person", "--clusterrole=person", &format!("--user={user}")],
    );
    let folder = tempfile::tempdir().unwrap();
    let manifest = json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel", "metadata": {"name": "planned"}, "spec": {"channelType": "chat", "displayName": "A"}});
    std::fs::write(folder.path().join("channel.yaml"), manifest.to_string()).unwrap();
    for args in RUNS {
        let rights = RIGHTS.iter().find(|rights| rights.commands.contains(&args[0])).unwrap();
        let granted: Vec<_> = rights.required.iter().chain(rights.optional).copied().collect();
        grant(&installation, &granted).await;
        let mut audit = plane.audit_end().unwrap();
        let mut run = command();
        run.arg("--kubeconfig").arg(plane.kubeconfig(USER)).current_dir(folder.path());
        run.args(args.iter().map(|arg| arg.replace("{url}", &installation.url())));
        let output = run.output().unwrap();
        // `check` and `version` may find a problem: no pod runs.
        assert!(matches!(output.status.code(), Some(0 | 1)), "{args:?}: {}", output_text(&output));
        let used = used(plane, &mut audit).await;
        assert_eq!(used, granted.iter().map(|right| (*right).to_owned()).collect(), "{args:?}");
    }
    installation.finish().await;
}

/// The rights that the user has used since.
async fn used(plane: &testbed::ControlPlane, audit: &mut u64) -> BTreeSet<String> {
    // The log of a request that was answered may be a moment late: this one is later.
    let marker = format!("marker-{audit}");
    kubectl_as(plane, User::Admin, &["get", "configmap", &marker], None);
    let mut found = BTreeSet::new();
    loop {
        let events = plane.audit_since(audit).unwrap();
        for event in &events {
            if event.user == USER.name() && !event.resource.is_empty() {
                let group =
                    if event.api_group.is_empty() { String::new() } else { format!(".{}", event.api_group) };
                let part = event.subresource.as_ref().map(|part| format!("/{part}")).unwrap_or_default();
                found.insert(format!("{} {}{group}{part}", event.verb, event.resource));
            }
        }
        if events.iter().any(|event| event.name.as_deref() == Some(&marker)) {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
