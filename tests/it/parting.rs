//! Deletion of what is suspended, unknown, contested or half done.

use ohallo_sim::{Action, Fault, Operation};
use serde_json::json;
use testbed::{Act, Rule, When};

use crate::acts::{RELEASE, finalized, looked, once, parked, uid};
use crate::rig::{Rig, message};

const DELETE: Operation = Operation::DeleteChannel;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_suspended_is_not_deleted_but_let_go_where_it_is_kept() {
    let rig = Rig::start().await;
    for (name, policy) in [("kept", "Retain"), ("a", "Delete"), ("b", "Delete")] {
        rig.ready(name, json!({"deletionPolicy": policy})).await;
    }
    for name in ["kept", "a"] {
        rig.edit(name, json!({"spec": {"suspend": true}})).await;
        rig.has(name, "Suspended", "Suspended").await;
    }
    rig.deleted("kept").await;
    rig.delete("a").await;
    rig.has("a", "DeletionBlocked", "Suspended").await;
    rig.edit("a", json!({"spec": {"suspend": false}})).await;
    rig.gone("a").await;
    assert_eq!(rig.count(DELETE), 1);
    let suspend = |on: bool| {
        let patch = json!({"spec": {"suspend": on}}).to_string();
        assert!(
            rig.kubectl(&["patch", "workspace", "default", "--type=merge", "-p", &patch], None)
                .status
                .success()
        );
    };
    suspend(true);
    rig.has("b", "Suspended", "WorkspaceSuspended").await;
    rig.delete("b").await;
    rig.has("b", "DeletionBlocked", "Suspended").await;
    assert_eq!(rig.count(DELETE), 1);
    suspend(false);
    rig.gone("b").await;
    assert_eq!((rig.count(DELETE), rig.sim.channels().len()), (2, 1));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_have_been_made_blocks_until_it_is_released_by_name() {
    let rig = Rig::start().await;
    let channel = parked(&rig, "a", true).await;
    let attempt = format!("{}/1", uid(&channel));
    rig.delete("a").await;
    let blocked = rig.has("a", "DeletionBlocked", "CreateOutcomeUnknown").await;
    assert!(message(&blocked, "DeletionBlocked").contains(&format!("{RELEASE}={attempt}")));
    rig.annotate("a", RELEASE, &format!("{}/2", uid(&channel))).await;
    assert!(finalized(&looked(&rig, "a", "1").await));
    rig.annotate("a", RELEASE, &attempt).await;
    rig.gone("a").await;
    once(&rig, "a", "Released").await;
    assert_eq!((rig.count(Operation::CreateChannel), rig.count(DELETE)), (1, 0));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_that_was_refused_left_nothing_and_its_object_goes_at_once() {
    let rig = Rig::start().await;
    rig.sim.add_fault(Fault::on(Operation::CreateChannel, Action::status(422)));
    rig.create("a", json!({})).await;
    rig.reason("a", "ValidationFailed").await;
    rig.deleted("a").await;
    assert_eq!((rig.count(Operation::CreateChannel), rig.count(DELETE)), (1, 0));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_policy_before_the_end_counts() {
    let rig = Rig::start().await;
    rig.ready("a", json!({})).await;
    rig.sim.add_fault(Fault::on(DELETE, Action::status(403)));
    rig.delete("a").await;
    rig.has("a", "DeletionBlocked", "PermissionDenied").await;
    rig.edit("a", json!({"spec": {"deletionPolicy": "Retain"}})).await;
    rig.gone("a").await;
    once(&rig, "a", "Retained").await;
    assert_eq!((rig.count(DELETE), rig.sim.channels().len()), (1, 1));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_to_be_kept_is_deleted_where_the_policy_is_flipped_before_the_finalizer_goes() {
    let rig = Rig::proxied(ohallo_sim::Config::default(), &[]).await;
    rig.ready("a", json!({"deletionPolicy": "Retain"})).await;
    let parting = rig.proxy().add(Rule::write(When::Before, Act::Hold).method("PATCH").part("/channels/a"));
    rig.delete("a").await;
    parting.reached().await.unwrap();
    rig.edit("a", json!({"spec": {"deletionPolicy": "Delete"}})).await;
    rig.proxy().clear();
    rig.gone("a").await;
    once(&rig, "a", "Deleted").await;
    assert_eq!((rig.count(DELETE), rig.sim.channels().len()), (1, 0));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_finalizers_of_others_keep_their_order_wherever_the_own_one_is() {
    let rig = Rig::start().await;
    let mut others: Vec<_> = (0..300).map(|number| format!("example.com/{number}")).collect();
    let own = "ohallo.eu/channel".to_owned();
    let mut manifest = rig.manifest("a", json!({}));
    manifest["metadata"]["finalizers"] = json!(others);
    rig.apply(&manifest);
    let created = rig.reason("a", "Available").await;
    let finalizers = created.metadata.finalizers.unwrap();
    assert_eq!(finalizers.split_last().unwrap(), (&own, others.as_slice()));
    let mut mixed = others.clone();
    mixed.insert(200, own);
    rig.edit("a", json!({"metadata": {"finalizers": mixed}})).await;
    let hold = rig.sim.add_fault(Fault::on(DELETE, Action::Hold { commit_first: true }));
    rig.delete("a").await;
    rig.sim.held(hold).await.unwrap();
    // The position that the operator knows becomes that of another.
    others.remove(100);
    mixed.remove(100);
    rig.edit("a", json!({"metadata": {"finalizers": mixed}})).await;
    rig.sim.release(hold);
    let channel = rig.until("a", "without the own finalizer", |channel| !finalized(channel)).await;
    assert_eq!(channel.metadata.finalizers.unwrap(), others);
    rig.edit("a", json!({"metadata": {"finalizers": null}})).await;
    rig.gone("a").await;
    assert_eq!((rig.count(DELETE), rig.count(Operation::CreateChannel)), (1, 1));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_own_finalizer_goes_and_only_after_the_channel() {
    let rig = Rig::start().await;
    rig.ready("a", json!({})).await;
    rig.edit("a", json!({"metadata": {"finalizers": ["ohallo.eu/channel", "example.com/backup"]}})).await;
    let hold = rig.sim.add_fault(Fault::on(DELETE, Action::Hold { commit_first: true }));
    rig.delete("a").await;
    rig.sim.held(hold).await.unwrap();
    // The answer meets an object that was changed meanwhile.
    rig.annotate("a", "example.com/note", "changed").await;
    assert!(finalized(&rig.get("a").await));
    rig.sim.release(hold);
    let channel = rig.until("a", "let go", |channel| !finalized(channel)).await;
    assert_eq!(channel.metadata.finalizers.as_deref(), Some(&["example.com/backup".to_owned()][..]));
    rig.annotate("a", "ohallo.eu/reconcile-requested-at", "1").await;
    once(&rig, "a", "Deleted").await;
    rig.edit("a", json!({"metadata": {"finalizers": null}})).await;
    rig.gone("a").await;
    assert_eq!((rig.count(DELETE), rig.count(Operation::CreateChannel)), (1, 1));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_whose_answer_was_lost_is_sent_again_and_its_absence_proven() {
    let rig = Rig::start().await;
    rig.ready("a", json!({})).await;
    rig.sim.add_fault(Fault::on(DELETE, Action::Reset { commit: true }).times(1));
    rig.deleted("a").await;
    assert_eq!((rig.count(DELETE), rig.sim.channels().len()), (3, 0));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_deleted_while_its_create_is_under_way_leaves_no_channel() {
    let rig = Rig::start().await;
    let fault = Fault::on(Operation::CreateChannel, Action::Hold { commit_first: true });
    let hold = rig.sim.add_fault(fault);
    rig.create("a", json!({})).await;
    rig.sim.held(hold).await.unwrap();
    rig.delete("a").await;
    rig.sim.release(hold);
    rig.gone("a").await;
    assert_eq!((rig.count(Operation::CreateChannel), rig.count(DELETE)), (1, 1));
    assert!(rig.sim.channels().is_empty());
    rig.finish().await;
}
