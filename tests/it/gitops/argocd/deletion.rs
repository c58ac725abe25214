//! The deletion of an Application, with and without its resources.

use ohallo_sim::{Action, Fault, Operation};
use serde_json::json;

use super::*;

/// With it the deletion of the Application deletes what it has applied.
const CASCADE: &str = "resources-finalizer.argocd.argoproj.io";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "builds Argo CD for minutes, once, and needs redis-server; .ci/full runs it"]
async fn an_application_without_cascade_leaves_its_channels_and_with_it_waits_for_them() {
    let argo = ArgoCd::start().await;
    let harness = &argo.harness;
    let a = harness.manifest("a", json!({}));
    let commit = argo.git.commit(&[&argo.inputs()[..], &[a]].concat());
    let deleted = async || {
        harness
            .eventually("the Application is deleted", || async {
                (argo.application() == Value::Null).then_some(())
            })
            .await;
    };

    // Without the finalizer everything stays.
    argo.create_application(&[]);
    argo.until(&commit, "Synced", "Healthy").await;
    assert!(argo.kubectl(&["delete", APPLICATION, NAME, "--wait=false"]).status.success());
    deleted().await;
    let left = harness.get("a").await;
    assert_eq!(left.metadata.deletion_timestamp, None);
    assert_eq!(harness.sim.channels().len(), 1);

    // A new Application takes the objects over, and changes nothing in oHallo.
    let writes = |operation| harness.count(operation);
    let before = (writes(Operation::CreateChannel), writes(Operation::UpdateChannel));
    argo.create_application(&[CASCADE]);
    argo.until(&commit, "Synced", "Healthy").await;
    assert_eq!((writes(Operation::CreateChannel), writes(Operation::UpdateChannel)), before);

    // With it the Application stays until oHallo has deleted the channel.
    let hold =
        harness.sim.add_fault(Fault::on(Operation::DeleteChannel, Action::Hold { commit_first: false }));
    assert!(argo.kubectl(&["delete", APPLICATION, NAME, "--wait=false"]).status.success());
    assert!(harness.sim.held(hold).await.is_ok());
    assert_ne!(argo.application(), Value::Null);
    // The wave before that of the Channels is still as it was.
    for input in ["workspace.ohallo.eu/default", "secret/ohallo-api-key"] {
        let got = harness.kubectl(&["get", input, "-o", "json"], None);
        let got: Value = serde_json::from_slice(&got.stdout).unwrap();
        assert!(got["metadata"]["deletionTimestamp"].is_null(), "{input}");
    }
    harness.sim.release(hold);
    deleted().await;
    harness.wait_deleted("a").await;
    assert!(harness.sim.channels().is_empty());
    assert!(!harness.kubectl(&["get", "workspace.ohallo.eu", "default"], None).status.success());
    argo.finish().await;
}
