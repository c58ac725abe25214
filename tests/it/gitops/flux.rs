//! A Git repository, Flux's own controllers, the operator.

use std::net::TcpListener;
use std::path::Path;

use ohallo_client::clock;
use ohallo_sim::{Action, Fault, Operation};
use serde_json::{Value, json};
use testbed::{Process, User};

use crate::support::git_server::Git;
use crate::support::harness::{Harness, condition, kubectl_as};
use crate::support::helm::documents;

const NAME: &str = "ohallo-channels";
/// Of the wait for Ready.
const TIMEOUT_SECONDS: u64 = 300;

/// Flux, for one namespace.
struct Flux {
    _processes: [Process; 2],
}

// === impl Flux ===

impl Flux {
    async fn start(harness: &Harness) -> Self {
        for name in ["source-controller", "kustomize-controller"] {
            let crds = testbed::tool_source(name).unwrap().join("config/crd/bases");
            let args = ["apply", "--server-side", "-f", crds.to_str().unwrap()];
            let applied = kubectl_as(harness.plane, User::Admin, &args, None);
            assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
        }
        let storage = format!("127.0.0.1:{}", free_port());
        let folder = harness.plane.logs_dir().join("flux");
        std::fs::create_dir_all(&folder).unwrap();
        let source = [
            format!("--storage-path={}", folder.display()),
            format!("--storage-addr={storage}"),
            format!("--storage-adv-addr={storage}"),
        ];
        Self {
            _processes: [
                controller(harness, "source-controller", &source),
                controller(harness, "kustomize-controller", &["--requeue-dependency=2s".to_owned()]),
            ],
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn controller(harness: &Harness, name: &'static str, more: &[String]) -> Process {
    let program = testbed::tool(name).unwrap();
    let mut args = vec![
        format!("KUBECONFIG={}", harness.plane.kubeconfig(User::Admin).display()),
        format!("RUNTIME_NAMESPACE={}", harness.namespace),
        program.display().to_string(),
        "--watch-all-namespaces=false".to_owned(),
        "--metrics-addr=0".to_owned(),
        "--health-addr=127.0.0.1:0".to_owned(),
    ];
    args.extend_from_slice(more);
    harness.plane.spawn(name, Path::new("/usr/bin/env"), &args).unwrap()
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

fn kustomization(harness: &Harness) -> Value {
    let got =
        harness.kubectl(&["get", "kustomization.kustomize.toolkit.fluxcd.io", NAME, "-o", "json"], None);
    serde_json::from_slice(&got.stdout).unwrap()
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "builds Flux for minutes, once; .ci/full runs it"]
async fn flux_waits_for_ready_fails_at_once_corrects_and_prunes() {
    let harness = Harness::start().await;
    let git = Git::serve().await;
    let _flux = Flux::start(&harness).await;

    // It waits for Ready.
    let hold =
        harness.sim.add_fault(Fault::on(Operation::CreateChannel, Action::Hold { commit_first: false }));
    let a = harness.manifest("a", json!({}));
    let commit = git.commit(&[a.clone(), beside(&harness)]);
    apply(&harness, &git);
    let held = harness.sim.held(hold).await;
    assert!(held.is_ok(), "nothing is created: {}", kustomization(&harness)["status"]);
    harness
        .eventually("it checks the health", || async {
            let reconciling = flux_condition(&kustomization(&harness), "Reconciling")?;
            reconciling["message"].as_str()?.contains("health checks").then_some(())
        })
        .await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert_eq!(flux_condition(&kustomization(&harness), "Ready").unwrap()["status"], "Unknown");
    harness.sim.release(hold);
    ready(&harness, &commit).await;
    assert_eq!(condition(&harness.get("a").await, "Ready").map(|found| found.2), Some("Available"));

    // A Channel that needs a user fails it at once, not after the timeout.
    let large = json!({"config": {"text": "x".repeat(70_000)}});
    git.commit(&[a.clone(), harness.manifest("b", large), beside(&harness)]);
    let begun = clock::instant();
    ask(&harness, "gitrepository.source.toolkit.fluxcd.io");
    let failed = harness
        .eventually("it fails", || async {
            flux_condition(&kustomization(&harness), "Ready")
                .filter(|ready| ready["reason"] == "HealthCheckFailed")
        })
        .await;
    assert!(begun.elapsed().as_secs() < TIMEOUT_SECONDS / 4, "{:?}", begun.elapsed());
    let message = failed["message"].as_str().unwrap();
    assert!(message.contains(&format!("Channel/{}/b status: 'Failed'", harness.namespace)), "{message}");
    harness.reason("b", "ValidationFailed").await;

    // What is taken out of Git goes.
    let commit = git.commit(&[a.clone(), beside(&harness)]);
    ask(&harness, "gitrepository.source.toolkit.fluxcd.io");
    ready(&harness, &commit).await;
    harness.wait_deleted("b").await;

    // A manual change is reverted.
    let insert_in_dashboard = harness.edit("a", json!({"spec": {"displayName": "By hand"}})).await;
    harness
        .until("a", "changed", |channel| {
            channel
                .status
                .as_ref()
                .is_some_and(|status| status.observed_generation == insert_in_dashboard.metadata.generation)
                && condition(channel, "Ready").is_some_and(|found| found.1 == "True")
        })
        .await;
    let name_in_ohallo = || harness.sim.channels()[0].display_name.clone();
    assert_eq!(name_in_ohallo(), "By hand");
    ask(&harness, "kustomization.kustomize.toolkit.fluxcd.io");
    harness
        .eventually("it is taken back", || async { (name_in_ohallo() == "Channel a").then_some(()) })
        .await;
    ready(&harness, &commit).await;

    // So does the channel in oHallo of the last one.
    let commit = git.commit(&[beside(&harness)]);
    ask(&harness, "gitrepository.source.toolkit.fluxcd.io");
    ready(&harness, &commit).await;
    harness.wait_deleted("a").await;
    assert!(harness.sim.channels().is_empty());
    harness.finish().await;
}
