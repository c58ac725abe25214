//! Everything is deleted at once, in the worst order.

use kube::ResourceExt;
use kube::api::Api;
use ohallo_core::api::workspace::Workspace;
use ohallo_sim::{Action, Fault, Operation};
use serde_json::json;

use crate::acts::finalized;
use crate::rig::{Rig, condition, id_of, message};

fn delete(rig: &Rig, objects: &[&str]) {
    for object in objects {
        let deleted = rig.kubectl(&["delete", object, "--wait=false"], None);
        assert!(deleted.status.success(), "{object}: {}", String::from_utf8_lossy(&deleted.stderr));
    }
}

async fn workspace(rig: &Rig) -> Option<Workspace> {
    Api::<Workspace>::namespaced(rig.admin.clone(), &rig.namespace).get_opt("default").await.unwrap()
}

async fn all_is_gone(rig: &Rig) {
    rig.gone("a").await;
    rig.gone("b").await;
    rig.eventually("the Workspace gone", || async { workspace(rig).await.is_none().then_some(()) }).await;
    assert!(rig.sim.channels().is_empty(), "they are deleted in oHallo as well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workspace_that_is_pruned_before_its_channels_waits_for_them() {
    let rig = Rig::start().await;
    rig.ready("a", json!({})).await;
    rig.ready("b", json!({})).await;
    let hold = rig.sim.add_fault(Fault::on(Operation::DeleteChannel, Action::Hold { commit_first: false }));
    delete(&rig, &["workspace/default", "channel/a", "channel/b"]);
    rig.sim.held(hold).await.unwrap();
    let waiting = workspace(&rig).await.unwrap();
    assert!(waiting.metadata.deletion_timestamp.is_some());
    assert_eq!(waiting.finalizers(), ["ohallo.eu/in-use"]);
    rig.sim.release(hold);
    all_is_gone(&rig).await;
    rig.finish().await;
}

/// What a tool does to a folder that is emptied, which waits for nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_may_be_pruned_at_once_in_any_order() {
    let rig = Rig::start().await;
    let key = rig.key.clone();
    let parts = [&["secret/ohallo-api-key"][..], &["workspace/default"], &["channel/a", "channel/b"]];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        rig.secret("ohallo-api-key", &[("apiKey", &key)]).await;
        rig.workspace("default", "ohallo-api-key").await;
        rig.ready("a", json!({})).await;
        rig.ready("b", json!({})).await;
        order.iter().for_each(|part| delete(&rig, parts[*part]));
        all_is_gone(&rig).await;
    }
    assert_eq!(rig.count(Operation::DeleteChannel), 12);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_begins_after_the_key_was_pruned_holds_everything_until_it_is_back() {
    let mut rig = Rig::start().await;
    let id = id_of(&rig.ready("a", json!({})).await);
    rig.ready("b", json!({})).await;
    rig.stop_operator().await;
    delete(&rig, &["secret/ohallo-api-key", "workspace/default", "channel/a", "channel/b"]);
    rig.start_operator().await;
    for name in ["a", "b"] {
        let blocked = rig
            .until(name, "naming the Secret", |channel| {
                message(channel, "DeletionBlocked").contains("ohallo-api-key")
            })
            .await;
        assert_eq!(condition(&blocked, "DeletionBlocked").map(|found| found.2), Some("KeyUnavailable"));
        assert!(finalized(&blocked));
    }
    assert_eq!(rig.count(Operation::DeleteChannel), 0);
    assert!(rig.sim.channel(&id).is_some());
    assert!(workspace(&rig).await.is_some(), "it is in use");
    let key = rig.key.clone();
    rig.secret("ohallo-api-key", &[("apiKey", &key)]).await;
    all_is_gone(&rig).await;
    rig.finish().await;
}
