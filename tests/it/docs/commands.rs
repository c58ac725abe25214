//! Every command of the documents is run verbatim, but for those that are listed with the reason why not.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;

use ohallo_sim::Config;
use serde_json::json;
use testbed::User;

use crate::support::clusters::{empty, end, established};
use crate::support::harness::{Harness, id_of, kubectl_as};
use crate::support::helm::output_text;
use crate::support::pages;
use crate::support::samples::samples;
use crate::support::shell::Shell;

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
    "kubectl -n team-a create rolebinding team-a --clusterrole=edit --group=team-a",
    "kubectl auth can-i create channels.ohallo.eu -n team-a --as=jane --as-group=team-a",
    "! kubectl auth can-i create channels.ohallo.eu -n team-b --as=jane --as-group=team-a",
    "kubectl --namespace argocd patch configmap argocd-cm --patch-file deploy/argocd/argocd-cm.yaml",
    "kubectl -n team-a create quota channels --hard=count/channels.ohallo.eu=20",
    "helm uninstall ohallo-operator --namespace ohallo-system",
    "helm install ohallo-operator deploy/helm/ohallo-operator --namespace ohallo-system --create-namespace --set image.repository=registry.example/ohallo-operator",
    "kubectl delete channels.ohallo.eu --all --all-namespaces",
    "helm uninstall ohallo-operator --namespace ohallo-system",
    "kubectl delete crd channels.ohallo.eu workspaces.ohallo.eu clusterworkspaces.ohallo.eu",
];

/// From a key to a Channel that is Ready, in this order.
const START: [&str; 10] = [
    "kubectl create namespace support",
    "kubectl -n support create secret generic ohallo-api-key --from-literal=apiKey=\"$OHALLO_API_KEY\"",
    "kubectl -n support apply -f support.yaml",
    "kubectl -n support wait --for=condition=Ready workspace/default --timeout=1m",
    "kubectl -n support wait --for=condition=Ready channel/support-email --timeout=10m",
    "kubectl -n support get workspaces,channels.ohallo.eu",
    "kubectl -n support describe channel support-email",
    "kubectl -n support annotate channel support-email ohallo.eu/test-requested-at=\"$(date +%s)\"",
    "kubectl -n support wait --for=condition=Connected channel/support-email --timeout=1m",
    "kubectl -n support get channel support-email -o jsonpath='{.status.conditions[?(@.type==\"Connected\")].message}'",
];

/// For a folder of manifests, in this order.
const APPLY: [&str; 4] = [
    "kubectl apply -k channels/ --dry-run=server",
    "kubectl apply -k channels/",
    "kubectl wait --for=condition=Ready channels.ohallo.eu --all --timeout=5m",
    "kubectl diff -k channels/",
];

/// What begins so is not run.
const NOT_RUN: [(&str, &str); 11] = [
    ("kubectl ohallo ", "is run by tests/it/cli and tests/it/docs/pipelines.rs"),
    ("kubectl logs ", "is run by tests/it/node/install.rs"),
    ("kubectl -n ohallo-system rollout status ", "is run by tests/it/node/install.rs"),
    ("kubectl get lease ", "is run by tests/it/node/install.rs"),
    ("kubectl delete -k deploy/kustomize/base", "is what the text warns of"),
    ("kubectl create secret generic NAME ", "is reported without its value"),
    ("kubectl apply -k deploy/kustomize/overlays/try", "is run by tests/it/node/install.rs"),
    ("kubectl apply -k deploy/samples", "is run by tests/it/node/install.rs"),
    ("kubectl delete -k deploy/", "is run by tests/it/node/install.rs"),
    ("kubectl apply --namespace flux-system ", "is applied by tests/it/gitops/flux/artifact.rs"),
    ("kubectl apply -k deploy/kustomize/overlays/", "is applied by tests/it/deploy/kustomize.rs"),
];

/// Pages whose commands have tests of their own: `remedies`, `stories`, `pipelines` and `api::versions`.
const ELSEWHERE: [&str; 6] = [
    "docs/versioning.md",
    "docs/safety.md",
    "docs/rotate-key.md",
    "docs/several-operators.md",
    "docs/pipelines.md",
    "docs/kubectl-ohallo.md",
];

/// All the others: about the Channel `support-email`, where `NAME`, `ID`, `UID` and `ATTEMPT` are placeholders for its values.
fn others() -> BTreeSet<String> {
    let mut others = written();
    let known: BTreeSet<_> = run_commands().collect();
    others.retain(|command| !known.contains(command.as_str()));
    others.retain(|command| !NOT_RUN.iter().any(|(start, _)| command.starts_with(start)));
    others
}

fn written() -> BTreeSet<String> {
    let pages = pages::all().into_iter().filter(|(path, _)| !ELSEWHERE.contains(&path.as_str()));
    pages.flat_map(|(_, text)| pages::commands(&text)).collect()
}

/// Those of the stories.
fn run_commands() -> impl Iterator<Item = &'static str> {
    let all = INSTALL.iter().chain(&START).chain(&APPLY);
    all.map(|command| command.trim_start_matches("! "))
}

#[test]
fn what_is_run_or_skipped_is_what_the_documents_say() {
    let written = written();
    for command in run_commands() {
        assert!(written.contains(command), "no page has: {command}");
    }
    for (start, why) in NOT_RUN {
        assert!(written.iter().any(|command| command.starts_with(start)), "no page has what {why}: {start}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_that_install_upgrade_and_remove_do_what_they_say() {
    let plane = empty().await;
    let shell = Shell::new(plane, "default");
    for namespace in ["team-a", "team-b", "argocd"] {
        shell.run(&format!("kubectl create namespace {namespace}"));
    }
    shell.run("kubectl --namespace argocd create configmap argocd-cm");
    for command in INSTALL {
        shell.run(command);
        if command.contains(" install ") || command.contains("base") {
            established(plane);
        }
    }
    let left =
        kubectl_as(plane, User::Admin, &["get", "crd,deployment,clusterrole", "-A", "-o", "name"], None);
    let left = output_text(&left).replace("clusterrole.rbac.authorization.k8s.io/ohallo-override", "");
    assert!(!left.contains("ohallo"), "{left}");
    end(plane).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_to_get_started_end_with_a_channel_that_is_ready_and_tested() {
    let mut harness = Harness::bare(Config::default(), &[]).await;
    harness.start_operator().await;
    let mut shell = Shell::new(harness.plane, &harness.namespace);
    shell.key.clone_from(&harness.key);
    let manifests = pages::yaml(include_str!("../../../docs/getting-started.md")).concat();
    std::fs::write(shell.file("support.yaml"), manifests).unwrap();
    for command in START {
        shell.run(&command.replace("-n support", ""));
    }
    harness.has("support-email", "Connected", "TestPassed").await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_that_apply_a_folder_end_with_nothing_that_differs() {
    let mut harness = Harness::bare(Config::default(), &[]).await;
    samples(&harness);
    harness.start_operator().await;
    let shell = Shell::new(harness.plane, &harness.namespace);
    symlink("deploy/samples", shell.file("channels")).unwrap();
    for command in APPLY {
        shell.run(command);
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_that_inspect_a_channel_and_answer_the_operator_are_accepted() {
    let harness = Harness::start().await;
    let shell = Shell::new(harness.plane, &harness.namespace);
    let channel = harness.ready("support-email", json!({})).await;
    let (uid, id) = (channel.metadata.uid.clone().unwrap(), id_of(&channel));
    for command in others() {
        let name = if command.contains(" workspace ") { "default" } else { "support-email" };
        let words = command.split(' ').map(|word| {
            let word = word
                .replace("UID/ATTEMPT", &format!("{uid}/1"))
                .replace("release=ID", &format!("release={id}"))
                .replace("\"ID\"", &json!(id).to_string());
            match word.as_str() {
                "NAMESPACE" => harness.namespace.clone(),
                other => other.strip_suffix("NAME").map(|start| format!("{start}{name}")).unwrap_or(word),
            }
        });
        let filled: Vec<_> = words.collect();
        // Its answer need not contain what is searched for.
        shell.run(filled.join(" ").split(" | ").next().unwrap_or_default());
    }
    harness.reason("support-email", "Available").await;
    harness.finish().await;
}
