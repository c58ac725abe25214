//! Everything is deleted at once, in the worst order.

use kube::ResourceExt;
use kube::api::Api;
use ohallo_core::api::workspace::Workspace;
use ohallo_sim::{Action, Fault, Operation};
use serde_json::json;

use crate::support::harness::{Harness, condition, id_of, message};
use crate::support::steps::has_finalizer;

fn delete(harness: &Harness, objects: &[&str]) {
    for object in objects {
        let deleted = harness.kubectl(&["delete", object, "--wait=false"], None);
        assert!(deleted.status.success(), "{object}: {}", String::from_utf8_lossy(&deleted.stderr));
    }
}

async fn workspace(harness: &Harness) -> Option<Workspace> {
    Api::<Workspace>::namespaced(harness.admin.clone(), &harness.namespace).get_opt("default").await.unwrap()
}

async fn all_deleted(harness: &Harness) {
    harness.wait_deleted("a").await;
    harness.wait_deleted("b").await;
    harness
        .eventually("the Workspace deleted", || async { workspace(harness).await.is_none().then_some(()) })
        .await;
    assert!(harness.sim.channels().is_empty(), "they are deleted in oHallo as well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workspace_that_is_pruned_before_its_channels_waits_for_them() {
    let harness = Harness::start().await;
    harness.ready("a", json!({})).await;
    harness.ready("b", json!({})).await;
    let hold =
        harness.sim.add_fault(Fault::on(Operation::DeleteChannel, Action::Hold { commit_first: false }));
    delete(&harness, &["workspace/default", "channel/a", "channel/b"]);
    harness.sim.held(hold).await.unwrap();
    let waiting = workspace(&harness).await.unwrap();
    assert!(waiting.metadata.deletion_timestamp.is_some());
    assert_eq!(waiting.finalizers(), ["ohallo.eu/in-use"]);
    harness.sim.release(hold);
    all_deleted(&harness).await;
    harness.finish().await;
}

/// What a tool does to a folder that is emptied, which waits for nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_may_be_pruned_at_once_in_any_order() {
    let harness = Harness::start().await;
    let key = harness.key.clone();
    let parts = [&["secret/ohallo-api-key"][..], &["workspace/default"], &["channel/a", "channel/b"]];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        harness.secret("ohallo-api-key", &[("apiKey", &key)]).await;
        harness.workspace("default", "ohallo-api-key").await;
        harness.ready("a", json!({})).await;
        harness.ready("b", json!({})).await;
        order.iter().for_each(|part| delete(&harness, parts[*part]));
        all_deleted(&harness).await;
    }
    assert_eq!(harness.count(Operation::DeleteChannel), 12);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_begins_after_the_key_was_pruned_holds_everything_until_it_is_back() {
    let mut harness = Harness::start().await;
    let id = id_of(&harness.ready("a", json!({})).await);
    harness.ready("b", json!({})).await;
    harness.stop_operator().await;
    delete(&harness, &["secret/ohallo-api-key", "workspace/default", "channel/a", "channel/b"]);
    harness.start_operator().await;
    for name in ["a", "b"] {
        let blocked = harness
            .until(name, "naming the Secret", |channel| {
                message(channel, "DeletionBlocked").contains("ohallo-api-key")
            })
            .await;
        assert_eq!(condition(&blocked, "DeletionBlocked").map(|found| found.2), Some("KeyUnavailable"));
        assert!(has_finalizer(&blocked));
    }
    assert_eq!(harness.count(Operation::DeleteChannel), 0);
    assert!(harness.sim.channel(&id).is_some());
    assert!(workspace(&harness).await.is_some(), "it is in use");
    let key = harness.key.clone();
    harness.secret("ohallo-api-key", &[("apiKey", &key)]).await;
    all_deleted(&harness).await;
    harness.finish().await;
}
