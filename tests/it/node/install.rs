//! Install, use and uninstall, with nothing but the image and what users apply.

use serde_json::json;

use super::cluster::{API_ADDRESS, API_URL, Cluster};
use crate::support::helm::{OPERATOR_NAMESPACE, RELEASE, on};
use crate::support::shell::Shell;
use crate::support::{canary, leaks, pages};

/// Commands of the documents that need a node: each matches what begins so.
const NEED_A_NODE: [&str; 3] =
    ["kubectl logs ", "kubectl -n ohallo-system rollout status ", "kubectl get lease "];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a node: .ci/full node"]
async fn the_chart_installs_and_a_channel_becomes_ready_in_a_restricted_pod() {
    let cluster = Cluster::start().await;
    cluster.install(&[]);
    cluster.workspace();
    cluster.channel("a");
    let id = cluster.ready("a");
    assert_eq!(cluster.simulated().await[0]["id"], id.as_str());
    cluster.renames("a", "Renamed").await;
    assert_eq!((cluster.ready("a"), cluster.creates().await), (id, 1));
    cluster.kubectl("delete channels.ohallo.eu --all --all-namespaces --timeout=120s");
    assert!(cluster.simulated().await.is_empty());
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a node: .ci/full node"]
async fn an_uninstalled_operator_leaves_every_channel_and_continues_when_it_is_installed_again() {
    let cluster = Cluster::start().await;
    cluster.install(&[]);
    cluster.workspace();
    cluster.channel("a");
    let id = cluster.ready("a");
    on(cluster.plane(), &["uninstall", RELEASE, "-n", OPERATOR_NAMESPACE]);
    cluster.kubectl("-n ohallo-system wait --for=delete pods --all --timeout=120s");
    assert_eq!(cluster.ready("a"), id, "the Channel stays");
    cluster.install(&[]);
    // Helm removes the permission for the Lease before the pod ends, so the new operator waits until the Lease expires.
    cluster.renames("a", "Renamed").await;
    assert_eq!((cluster.ready("a"), cluster.creates().await), (id, 1));
    cluster.kubectl("delete channels.ohallo.eu --all --all-namespaces --timeout=120s");
    assert!(cluster.simulated().await.is_empty());
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a node: .ci/full node"]
async fn the_documents_commands_that_need_a_node_do_what_they_say() {
    let cluster = Cluster::start().await;
    cluster.install(&[]);
    cluster.workspace();
    // `kubectl logs --previous` needs a container that has ended.
    cluster.signal(&cluster.pod(), "SIGKILL");
    cluster.until_restarted().await;
    run_documented(&cluster);
    cluster.finish().await;
}

/// Runs each command of the documents that needs a node.
fn run_documented(cluster: &Cluster) {
    let shell = Shell::new(cluster.plane(), "default");
    let mut found = 0;
    for (path, text) in pages::all() {
        for command in pages::commands(&text) {
            if NEED_A_NODE.iter().any(|start| command.starts_with(start)) {
                // Its answer need not contain what is searched for.
                shell.run(command.split(" | ").next().unwrap_or_default());
                found += 1;
                eprintln!("{path}: {command}");
            }
        }
    }
    assert!(found >= NEED_A_NODE.len(), "{found} commands");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a node: .ci/full node"]
async fn the_plain_manifests_install_and_a_channel_becomes_ready() {
    let cluster = Cluster::start().await;
    cluster.kubectl(concat!("apply -k ", env!("CARGO_MANIFEST_DIR"), "/deploy/kustomize/base"));
    let namespace = cluster.get("namespace ohallo-system");
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
    cluster.kubectl(&format!(
        "-n ohallo-system set env deployment/ohallo-operator OHALLO_API_URL={API_URL} OHALLO_ALLOW_INSECURE_API=true"
    ));
    cluster.rolled_out();
    cluster.workspace();
    cluster.channel("a");
    let id = cluster.ready("a");
    cluster.renames("a", "Renamed").await;
    assert_eq!((cluster.ready("a"), cluster.creates().await), (id, 1));
    cluster.kubectl("-n support delete channels.ohallo.eu a --timeout=120s");
    assert!(cluster.simulated().await.is_empty());
    cluster.finish().await;
}

/// The try-out, with what a cluster has and this node lacks: DNS.
fn try_out_without_dns() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let up = "../".repeat(folder.path().components().count() - 1);
    let root = env!("CARGO_MANIFEST_DIR").trim_start_matches('/');
    let patch = |kind: &str, name: &str, path: &str, value: serde_json::Value| {
        let patch = json!([{"op": "add", "path": path, "value": value}]);
        json!({"target": {"kind": kind, "name": name}, "patch": patch.to_string()})
    };
    let names = json!([{"ip": API_ADDRESS, "hostnames": ["ohallo-sim.ohallo-sim"]}]);
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": [format!("{up}{root}/deploy/kustomize/overlays/try")],
        "patches": [
            patch("Service", "ohallo-sim", "/spec/clusterIP", json!(API_ADDRESS)),
            patch("Deployment", "ohallo-operator", "/spec/template/spec/hostAliases", names),
        ],
    });
    std::fs::write(folder.path().join("kustomization.yaml"), kustomization.to_string()).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a node: .ci/full node"]
async fn the_try_out_ends_with_four_ready_channels_after_two_commands() {
    let cluster = Cluster::bare().await;
    let folder = try_out_without_dns();
    cluster.kubectl(&format!("apply -k {}", folder.path().display()));
    cluster.kubectl(concat!("apply -k ", env!("CARGO_MANIFEST_DIR"), "/deploy/samples"));
    cluster.kubectl("wait --for=condition=Ready channels.ohallo.eu --all --timeout=180s");
    let ready = cluster.get("channels.ohallo.eu");
    assert_eq!(ready["items"].as_array().unwrap().len(), 4, "{ready:#}");
    assert_eq!((cluster.simulated().await.len(), cluster.creates().await), (4, 4));
    // In the order of the document: what goes first needs the operator.
    cluster.kubectl(concat!("delete -k ", env!("CARGO_MANIFEST_DIR"), "/deploy/samples --timeout=120s"));
    let retained = |channel: &&serde_json::Value| channel["spec"]["deletionPolicy"] == "Retain";
    let kept = ready["items"].as_array().unwrap().iter().filter(retained).count();
    assert_eq!(cluster.simulated().await.len(), kept);
    canary::scan("a pod's log", cluster.logs());
    cluster.kubectl(&format!("delete -k {} --timeout=120s", folder.path().display()));
    let left = cluster.kubectl("get crd,namespaces,clusterroles,clusterrolebindings -o name");
    assert!(!left.contains("ohallo"), "{left}");
    leaks::up_to_now(cluster.plane()).await;
    canary::nothing_leaked();
}
