//! Flux's own controllers with what it applies: a Git repository, an artifact of a release.

mod artifact;
mod order;
mod sync;

use std::path::Path;

use ohallo_client::clock;
use serde_json::{Value, json};
use testbed::{ControlPlane, Process, User};

use crate::support::git_server::Git;
use crate::support::harness::{Harness, established, kubectl_as};
use crate::support::helm::documents;
use crate::support::ports;

const NAME: &str = "ohallo-channels";
/// Of the wait for Ready.
const TIMEOUT_SECONDS: u64 = 300;

/// Flux, for one namespace.
struct Flux {
    _processes: [Process; 2],
}

// === impl Flux ===

impl Flux {
    fn start(plane: &ControlPlane, namespace: &str) -> Self {
        for name in ["source-controller", "kustomize-controller"] {
            let crds = testbed::tool_source(name).unwrap().join("config/crd/bases");
            let args = ["apply", "--server-side", "-f", crds.to_str().unwrap()];
            let applied = kubectl_as(plane, User::Admin, &args, None);
            assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
        }
        let kinds =
            ["gitrepositories", "ocirepositories"].map(|kind| format!("{kind}.source.toolkit.fluxcd.io"));
        let kustomizations = "kustomizations.kustomize.toolkit.fluxcd.io";
        established(plane, &[&kinds[0], &kinds[1], kustomizations]);
        let [port] = ports::free();
        let storage = format!("127.0.0.1:{port}");
        let folder = plane.logs_dir().join(format!("flux-{namespace}"));
        std::fs::create_dir_all(&folder).unwrap();
        let source = [
            format!("--storage-path={}", folder.display()),
            format!("--storage-addr={storage}"),
            format!("--storage-adv-addr={storage}"),
        ];
        Self {
            _processes: [
                controller(plane, namespace, "source-controller", &source),
                controller(plane, namespace, "kustomize-controller", &["--requeue-dependency=2s".to_owned()]),
            ],
        }
    }
}

fn controller(plane: &ControlPlane, namespace: &str, name: &'static str, more: &[String]) -> Process {
    let program = testbed::tool(name).unwrap();
    let mut args = vec![
        format!("KUBECONFIG={}", plane.kubeconfig(User::Admin).display()),
        format!("RUNTIME_NAMESPACE={namespace}"),
        program.display().to_string(),
        "--watch-all-namespaces=false".to_owned(),
        "--metrics-addr=0".to_owned(),
        "--health-addr=127.0.0.1:0".to_owned(),
    ];
    args.extend_from_slice(more);
    plane.spawn(name, Path::new("/usr/bin/env"), &args).unwrap()
}

/// Applies what the documentation shows, for this repository.
fn apply(harness: &Harness, git: &Git) {
    for mut object in documents(include_str!("../../../deploy/flux/channels.yaml")) {
        match object["kind"].as_str().unwrap() {
            "GitRepository" => object["spec"]["url"] = git.url.as_str().into(),
            _ => assert_eq!(object["spec"]["timeout"], format!("{}m", TIMEOUT_SECONDS / 60)),
        }
        harness.apply(&object);
    }
}

const KUSTOMIZATION: &str = "kustomization.kustomize.toolkit.fluxcd.io";

fn kustomization(harness: &Harness) -> Value {
    kustomization_named(harness, NAME)
}

/// Null where there is none.
fn kustomization_named(harness: &Harness, name: &str) -> Value {
    let got = harness.kubectl(&["get", KUSTOMIZATION, name, "-o", "json", "--ignore-not-found"], None);
    assert!(got.status.success(), "{}", String::from_utf8_lossy(&got.stderr));
    serde_json::from_slice(&got.stdout).unwrap_or_default()
}

fn flux_condition(object: &Value, kind: &str) -> Option<Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind).cloned()
}

/// Has Flux fetch the repository and apply it, which it otherwise does at its interval.
fn ask(harness: &Harness, kind: &str) {
    let at = format!("reconcile.fluxcd.io/requestedAt={}", clock::now());
    let asked = harness.kubectl(&["annotate", "--overwrite", kind, NAME, &at], None);
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
}

/// Waits until the Kustomization is Ready with this commit.
async fn ready(harness: &Harness, commit: &str) {
    let of_commit = |revision: &Value| revision.as_str().is_some_and(|text| text.ends_with(commit));
    harness
        .eventually(&format!("Ready with {commit}"), || async {
            let found = kustomization(harness);
            let is_ready = flux_condition(&found, "Ready").is_some_and(|ready| ready["status"] == "True");
            (is_ready && of_commit(&found["status"]["lastAppliedRevision"])).then_some(())
        })
        .await;
}

/// So that the repository is never empty.
fn beside(harness: &Harness) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "beside", "namespace": harness.namespace}})
}
