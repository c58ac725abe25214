//! Flux's `dependsOn`, and the deletion of a Kustomization that waits for its Channels.

use ohallo_sim::{Action, Fault, Operation};
use serde_json::json;

use super::*;
use crate::support::git_server::Git;
use crate::support::harness::{Harness, WORKSPACE};

/// The Secret and the Workspace, as the documentation advises.
const INPUTS: &str = "inputs";

/// The shipped objects for this repository, with more in the spec of the Kustomization.
fn objects(git: &Git, name: &str, more: &Value) -> Vec<Value> {
    let mut objects = documents(include_str!("../../../../deploy/flux/channels.yaml"));
    for object in &mut objects {
        object["metadata"]["name"] = name.into();
        if object["kind"] == "GitRepository" {
            object["spec"]["url"] = git.url.as_str().into();
            continue;
        }
        object["spec"]["sourceRef"]["name"] = name.into();
        let spec = object["spec"].as_object_mut().unwrap();
        spec.extend(more.as_object().unwrap().clone());
    }
    objects
}

async fn reason(harness: &Harness, name: &str, reason: &str) {
    let what = format!("{name} is {reason}");
    let is_so = || async {
        let ready = flux_condition(&kustomization_named(harness, name), "Ready")?;
        (ready["reason"] == reason).then_some(())
    };
    harness.eventually(&what, is_so).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "builds Flux for minutes, once; .ci/full runs it"]
async fn channels_follow_their_workspace_and_go_before_it() {
    let harness = Harness::start().await;
    let (inputs, channels) = (Git::serve().await, Git::serve().await);
    let _flux = Flux::start(harness.plane, &harness.namespace);
    let metadata = |name: &str| json!({"name": name, "namespace": harness.namespace});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata("second-key"), "stringData": {"apiKey": harness.key}});
    let workspace = json!({
        "apiVersion": "ohallo.eu/v1alpha1", "kind": "Workspace", "metadata": metadata("second"),
        "spec": {"workspaceId": WORKSPACE, "apiKeySecretRef": {"name": "second-key"}},
    });
    inputs.commit(&[secret, workspace]);
    let reference = json!({"workspaceRef": {"name": "second"}});
    channels.commit(&[harness.manifest("a", reference.clone()), harness.manifest("b", reference)]);

    // Nothing is applied before the Workspace is Ready.
    let hold =
        harness.sim.add_fault(Fault::on(Operation::GetWorkspace, Action::Hold { commit_first: false }));
    let depends = json!({"dependsOn": [{"name": INPUTS}], "deletionPolicy": "WaitForTermination"});
    for object in objects(&inputs, INPUTS, &json!({})).iter().chain(&objects(&channels, NAME, &depends)) {
        harness.apply(object);
    }
    assert!(harness.sim.held(hold).await.is_ok(), "{}", kustomization_named(&harness, INPUTS)["status"]);
    reason(&harness, NAME, "DependencyNotReady").await;
    assert!(harness.sim.channels().is_empty());
    harness.sim.release(hold);
    reason(&harness, INPUTS, "ReconciliationSucceeded").await;
    reason(&harness, NAME, "ReconciliationSucceeded").await;
    assert_eq!(harness.sim.channels().len(), 2);

    // The deletion of a Kustomization waits for its Channels.
    let hold =
        harness.sim.add_fault(Fault::on(Operation::DeleteChannel, Action::Hold { commit_first: false }));
    assert!(harness.kubectl(&["delete", KUSTOMIZATION, NAME, "--wait=false"], None).status.success());
    assert!(harness.sim.held(hold).await.is_ok());
    assert_ne!(kustomization(&harness), Value::Null);
    harness.sim.release(hold);
    let deleted = async |name: &str| {
        let what = format!("{name} is deleted");
        harness
            .eventually(&what, || async {
                (kustomization_named(&harness, name) == Value::Null).then_some(())
            })
            .await;
    };
    deleted(NAME).await;
    for name in ["a", "b"] {
        harness.wait_deleted(name).await;
    }
    assert!(harness.sim.channels().is_empty());

    // Then the Workspace has no Channels to wait for.
    assert!(harness.kubectl(&["delete", KUSTOMIZATION, INPUTS, "--wait=false"], None).status.success());
    deleted(INPUTS).await;
    harness
        .eventually("the Workspace is deleted", || async {
            let got = harness.kubectl(&["get", "workspace.ohallo.eu", "second"], None);
            (!got.status.success()).then_some(())
        })
        .await;
    harness.finish().await;
}
