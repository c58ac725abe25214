// I/O
//! Every command of the documents is run as it stands there, or is listed with the reason why not.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use ohallo_sim::Config;
use serde_json::json;
use testbed::{ControlPlane, User};

use super::pages;
use crate::helm::install::{empty, established};
use crate::helm::said;
use crate::rig::{Rig, id_of, kubectl_as};

/// Commands that a person gives, in an order that makes sense on a cluster that has nothing of ours.
const INSTALL: [&str; 21] = [
    "kubectl apply -k deploy/kustomize/base",
    "kubectl --namespace ohallo-system delete deployment ohallo-operator",
    "helm install ohallo-operator deploy/helm/ohallo-operator --namespace ohallo-system --take-ownership --force-conflicts",
    "kubectl label namespace ohallo-system pod-security.kubernetes.io/enforce=restricted",
    "helm upgrade ohallo-operator deploy/helm/ohallo-operator --namespace ohallo-system",
    "helm upgrade ohallo-operator deploy/helm/ohallo-operator --namespace ohallo-system --reuse-values --set replicas=2,podDisruptionBudget.enabled=true",
    "helm upgrade ohallo-operator deploy/helm/ohallo-operator --namespace ohallo-system --reuse-values --set 'watchNamespaces={team-a,team-b}'",
    "kubectl create clusterrole ohallo-override --verb=override --resource=channels.ohallo.eu",
    "helm rollback ohallo-operator --namespace ohallo-system",
    "helm uninstall ohallo-operator --namespace ohallo-system",
    "helm install ohallo-operator deploy/helm/ohallo-operator --namespace ohallo-system --create-namespace",
    "kubectl -n ohallo-system rollout restart deployment/ohallo-operator",
    "kubectl -n team-a create rolebinding team-a --clusterrole=edit --group=team-a",
    "kubectl auth can-i create channels.ohallo.eu -n team-a --as=jane --as-group=team-a",
    "! kubectl auth can-i create channels.ohallo.eu -n team-b --as=jane --as-group=team-a",
    "kubectl -n team-a create quota channels --hard=count/channels.ohallo.eu=20",
    "helm uninstall ohallo-operator --namespace ohallo-system",
    "helm install ohallo-operator deploy/helm/ohallo-operator --namespace ohallo-system --create-namespace --set image.repository=registry.example/ohallo-operator",
    "kubectl delete channels --all --all-namespaces",
    "helm uninstall ohallo-operator --namespace ohallo-system",
    "kubectl delete crd channels.ohallo.eu workspaces.ohallo.eu clusterworkspaces.ohallo.eu",
];

/// From a key to a Channel that is Ready, in this order.
const START: [&str; 9] = [
    "kubectl create namespace support",
    "kubectl -n support create secret generic ohallo-api-key --from-literal=apiKey=\"$OHALLO_API_KEY\"",
    "kubectl -n support apply -f support.yaml",
    "kubectl -n support wait --for=condition=Ready workspace/default --timeout=1m",
    "kubectl -n support wait --for=condition=Ready channel/support-email --timeout=10m",
    "kubectl -n support get workspaces,channels.ohallo.eu",
    "kubectl -n support describe channel support-email",
    "kubectl -n support annotate channel support-email ohallo.eu/test-requested-at=\"$(date +%s)\"",
    "kubectl -n support get channel support-email -o jsonpath='{.status.conditions[?(@.type==\"Connected\")].message}'",
];

/// Commands about the Channel `support-email`, where `NAME`, `ID`, `UID` and `ATTEMPT` stand for what it has.
const USE: [&str; 17] = [
    "kubectl wait --for=condition=Ready channel/support-email",
    "kubectl explain channel.spec",
    "kubectl get channel support-email -o jsonpath='{.status.plannedChanges}'",
    "kubectl get channels.ohallo.eu -A -o custom-columns=NAMESPACE:.metadata.namespace,NAME:.metadata.name,ID:.status.channelId",
    "kubectl patch channel NAME --type=merge -p '{\"spec\":{\"channelId\":\"ID\"}}'",
    "kubectl annotate channel NAME --overwrite ohallo.eu/create-again=UID/ATTEMPT",
    "kubectl annotate channel NAME --overwrite ohallo.eu/release=UID/ATTEMPT",
    "kubectl annotate channel NAME --overwrite ohallo.eu/release=ID",
    "kubectl annotate channel NAME --overwrite ohallo.eu/reconcile-requested-at=now",
    "kubectl annotate channel NAME --overwrite ohallo.eu/reconcile-requested-at=\"$(date +%s)\"",
    "kubectl annotate channel NAME --overwrite ohallo.eu/retry-requested-at=1",
    "kubectl get channels.ohallo.eu -A",
    "kubectl get channel NAME -o wide",
    "kubectl describe channel NAME",
    "kubectl describe workspace NAME",
    "kubectl patch workspace NAME --type=merge -p '{\"spec\":{\"suspend\":true}}'",
    "kubectl get events --field-selector involvedObject.name=NAME",
];

const NOT_RUN: [(&str, &str); 3] = [
    ("kubectl -n ohallo-system rollout status deployment/ohallo-operator", "needs a kubelet"),
    ("kubectl delete -k deploy/kustomize/base", "is what the text warns of"),
    ("kubectl create secret generic NAME --from-literal=apiKey=…", "is told with its value left out"),
];

/// A shell in a folder that has what the project's has, with the real kubectl and Helm.
struct Shell {
    folder: tempfile::TempDir,
    key: String,
}

// === impl Shell ===

impl Shell {
    fn new(plane: &ControlPlane, namespace: &str) -> Self {
        let shell = Self { folder: tempfile::tempdir().unwrap(), key: String::new() };
        std::fs::copy(plane.kubeconfig(User::Admin), shell.file("kubeconfig")).unwrap();
        symlink(testbed::tool("helm").unwrap(), shell.file("helm")).unwrap();
        symlink(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy"), shell.file("deploy")).unwrap();
        shell.run(&format!("kubectl config set-context --current --namespace={namespace}"));
        shell
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, command: &str) -> String {
        let path = format!("{}:{}", self.folder.path().display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(self.folder.path()).stdin(Stdio::null());
        shell.env("KUBECONFIG", self.file("kubeconfig")).env("PATH", path).env("OHALLO_API_KEY", &self.key);
        for folder in ["CACHE", "CONFIG", "DATA"] {
            shell.env(format!("HELM_{folder}_HOME"), self.file(folder));
        }
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{command}: {}", said(&output));
        said(&output)
    }
}

#[test]
fn every_command_of_the_documents_is_run_or_listed_with_the_reason_why_not() {
    let pages = pages::all();
    let written: BTreeSet<_> = pages.iter().flat_map(|(_, text)| pages::commands(text)).collect();
    let known = INSTALL.iter().chain(&START).chain(&USE).chain(NOT_RUN.iter().map(|(command, _)| command));
    let known: BTreeSet<_> = known.map(|command| command.trim_start_matches("! ").to_owned()).collect();
    let unknown: Vec<_> = written.difference(&known).collect();
    assert!(unknown.is_empty(), "nobody runs: {unknown:#?}");
    let unwritten: Vec<_> = known.difference(&written).collect();
    assert!(unwritten.is_empty(), "no page has: {unwritten:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_that_install_upgrade_and_remove_do_what_they_say() {
    let plane = empty().await;
    let shell = Shell::new(plane, "default");
    for namespace in ["team-a", "team-b"] {
        shell.run(&format!("kubectl create namespace {namespace}"));
    }
    for command in INSTALL {
        shell.run(command);
        if command.contains(" install ") || command.contains("base") {
            established(plane);
        }
    }
    let left =
        kubectl_as(plane, User::Admin, &["get", "crd,deployment,clusterrole", "-A", "-o", "name"], None);
    let left = said(&left).replace("clusterrole.rbac.authorization.k8s.io/ohallo-override", "");
    assert!(!left.contains("ohallo"), "{left}");
    plane.kill().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_to_get_started_end_with_a_channel_that_is_ready_and_tested() {
    let mut rig = Rig::bare(Config::default(), &[]).await;
    rig.start_operator().await;
    let mut shell = Shell::new(rig.plane, &rig.namespace);
    shell.key.clone_from(&rig.key);
    let manifests = pages::yaml(include_str!("../../../docs/getting-started.md")).concat();
    std::fs::write(shell.file("support.yaml"), manifests).unwrap();
    for command in START {
        shell.run(&command.replace("-n support", ""));
    }
    rig.has("support-email", "Connected", "TestPassed").await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_that_look_at_a_channel_and_answer_the_operator_are_taken() {
    let rig = Rig::start().await;
    let shell = Shell::new(rig.plane, &rig.namespace);
    let channel = rig.ready("support-email", json!({})).await;
    let (uid, id) = (channel.metadata.uid.clone().unwrap(), id_of(&channel));
    for command in USE {
        let name = if command.contains(" workspace ") { "default" } else { "support-email" };
        let words = command.split(' ').map(|word| {
            let word = word
                .replace("UID/ATTEMPT", &format!("{uid}/1"))
                .replace("release=ID", &format!("release={id}"));
            let word = word.replace("\"ID\"", &json!(id).to_string());
            word.strip_suffix("NAME").map(|start| format!("{start}{name}")).unwrap_or(word)
        });
        shell.run(&words.collect::<Vec<_>>().join(" "));
    }
    rig.reason("support-email", "Available").await;
    rig.finish().await;
}
