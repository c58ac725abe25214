//! A Git repository, Flux's own controllers, the operator.

use std::net::TcpListener;
use std::path::Path;

use ohallo_client::clock;
use ohallo_sim::{Action, Fault, Operation};
use serde_json::{Value, json};
use testbed::{Process, User};

use super::git::Git;
use crate::helm::documents;
use crate::rig::{Rig, condition, kubectl_as};

const NAME: &str = "ohallo-channels";
/// Of the wait for Ready.
const TIMEOUT_SECONDS: u64 = 300;

/// Flux, for one namespace.
struct Flux {
    _processes: [Process; 2],
}

// === impl Flux ===

impl Flux {
    async fn start(rig: &Rig) -> Self {
        for name in ["source-controller", "kustomize-controller"] {
            let crds = testbed::tool_source(name).unwrap().join("config/crd/bases");
            let args = ["apply", "--server-side", "-f", crds.to_str().unwrap()];
            let applied = kubectl_as(rig.plane, User::Admin, &args, None);
            assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
        }
        let storage = format!("127.0.0.1:{}", free_port());
        let folder = rig.plane.logs_dir().join("flux");
        std::fs::create_dir_all(&folder).unwrap();
        let source = [
            format!("--storage-path={}", folder.display()),
            format!("--storage-addr={storage}"),
            format!("--storage-adv-addr={storage}"),
        ];
        Self {
            _processes: [
                controller(rig, "source-controller", &source),
                controller(rig, "kustomize-controller", &["--requeue-dependency=2s".to_owned()]),
            ],
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn controller(rig: &Rig, name: &'static str, more: &[String]) -> Process {
    let program = testbed::tool(name).unwrap();
    let mut args = vec![
        format!("KUBECONFIG={}", rig.plane.kubeconfig(User::Admin).display()),
        format!("RUNTIME_NAMESPACE={}", rig.namespace),
        program.display().to_string(),
        "--watch-all-namespaces=false".to_owned(),
        "--metrics-addr=0".to_owned(),
        "--health-addr=127.0.0.1:0".to_owned(),
    ];
    args.extend_from_slice(more);
    rig.plane.spawn(name, Path::new("/usr/bin/env"), &args).unwrap()
}

/// Applies what the documentation shows, for this repository.
fn apply(rig: &Rig, git: &Git) {
    for mut object in documents(include_str!("../../../deploy/flux/channels.yaml")) {
        match object["kind"].as_str().unwrap() {
            "GitRepository" => object["spec"]["url"] = git.url.as_str().into(),
            _ => assert_eq!(object["spec"]["timeout"], format!("{}m", TIMEOUT_SECONDS / 60)),
        }
        rig.apply(&object);
    }
}

fn kustomization(rig: &Rig) -> Value {
    let got = rig.kubectl(&["get", "kustomization.kustomize.toolkit.fluxcd.io", NAME, "-o", "json"], None);
    serde_json::from_slice(&got.stdout).unwrap()
}

fn says(object: &Value, kind: &str) -> Option<Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind).cloned()
}

/// Has Flux look at the repository and apply it, which it else does in its own time.
fn ask(rig: &Rig, kind: &str) {
    let at = format!("reconcile.fluxcd.io/requestedAt={}", clock::now());
    let asked = rig.kubectl(&["annotate", "--overwrite", kind, NAME, &at], None);
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
}

/// Waits until the Kustomization is Ready with this commit.
async fn ready(rig: &Rig, commit: &str) {
    let of_commit = |revision: &Value| revision.as_str().is_some_and(|text| text.ends_with(commit));
    rig.eventually(&format!("Ready with {commit}"), || async {
        let found = kustomization(rig);
        let is_ready = says(&found, "Ready").is_some_and(|ready| ready["status"] == "True");
        (is_ready && of_commit(&found["status"]["lastAppliedRevision"])).then_some(())
    })
    .await;
}

/// So that the repository is never empty.
fn beside(rig: &Rig) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "beside", "namespace": rig.namespace}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "builds Flux for minutes, once; .ci/full runs it"]
async fn flux_waits_for_ready_fails_at_once_corrects_and_prunes() {
    let rig = Rig::start().await;
    let git = Git::serve().await;
    let _flux = Flux::start(&rig).await;

    // It waits for Ready.
    let hold = rig.sim.add_fault(Fault::on(Operation::CreateChannel, Action::Hold { commit_first: false }));
    let a = rig.manifest("a", json!({}));
    let commit = git.commit(&[a.clone(), beside(&rig)]);
    apply(&rig, &git);
    let held = rig.sim.held(hold).await;
    assert!(held.is_ok(), "nothing is created: {}", kustomization(&rig)["status"]);
    rig.eventually("it checks the health", || async {
        let reconciling = says(&kustomization(&rig), "Reconciling")?;
        reconciling["message"].as_str()?.contains("health checks").then_some(())
    })
    .await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert_eq!(says(&kustomization(&rig), "Ready").unwrap()["status"], "Unknown");
    rig.sim.release(hold);
    ready(&rig, &commit).await;
    assert_eq!(condition(&rig.get("a").await, "Ready").map(|found| found.2), Some("Available"));

    // A Channel that needs somebody fails it at once, not after the timeout.
    let large = json!({"config": {"text": "x".repeat(70_000)}});
    git.commit(&[a.clone(), rig.manifest("b", large), beside(&rig)]);
    let begun = clock::instant();
    ask(&rig, "gitrepository.source.toolkit.fluxcd.io");
    let failed = rig
        .eventually("it fails", || async {
            says(&kustomization(&rig), "Ready").filter(|ready| ready["reason"] == "HealthCheckFailed")
        })
        .await;
    assert!(begun.elapsed().as_secs() < TIMEOUT_SECONDS / 4, "{:?}", begun.elapsed());
    let message = failed["message"].as_str().unwrap();
    assert!(message.contains(&format!("Channel/{}/b status: 'Failed'", rig.namespace)), "{message}");
    rig.reason("b", "ValidationFailed").await;

    // What is taken out of Git goes.
    let commit = git.commit(&[a.clone(), beside(&rig)]);
    ask(&rig, "gitrepository.source.toolkit.fluxcd.io");
    ready(&rig, &commit).await;
    rig.gone("b").await;

    // A change by hand is taken back.
    let by_hand = rig.edit("a", json!({"spec": {"displayName": "By hand"}})).await;
    rig.until("a", "changed", |channel| {
        channel
            .status
            .as_ref()
            .is_some_and(|status| status.observed_generation == by_hand.metadata.generation)
            && condition(channel, "Ready").is_some_and(|found| found.1 == "True")
    })
    .await;
    let name_in_ohallo = || rig.sim.channels()[0].display_name.clone();
    assert_eq!(name_in_ohallo(), "By hand");
    ask(&rig, "kustomization.kustomize.toolkit.fluxcd.io");
    rig.eventually("it is taken back", || async { (name_in_ohallo() == "Channel a").then_some(()) }).await;
    ready(&rig, &commit).await;

    // So does the channel in oHallo of the last one.
    let commit = git.commit(&[beside(&rig)]);
    ask(&rig, "gitrepository.source.toolkit.fluxcd.io");
    ready(&rig, &commit).await;
    rig.gone("a").await;
    assert!(rig.sim.channels().is_empty());
    rig.finish().await;
}
