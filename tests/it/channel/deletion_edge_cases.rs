//! Deletion of what is suspended, unknown, contested or half done.

use ohallo_sim::{Action, Fault, Operation};
use serde_json::json;
use testbed::{Act, Rule, When};

use crate::support::harness::{Harness, message};
use crate::support::steps::{RELEASE, has_finalizer, reconcile_now, single_event, uid, unresolved_create};

const DELETE: Operation = Operation::DeleteChannel;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_channel_is_not_deleted_but_released_where_it_is_retained() {
    let harness = Harness::start().await;
    for (name, policy) in [("kept", "Retain"), ("a", "Delete"), ("b", "Delete")] {
        harness.ready(name, json!({"deletionPolicy": policy})).await;
    }
    for name in ["kept", "a"] {
        harness.edit(name, json!({"spec": {"suspend": true}})).await;
        harness.has(name, "Suspended", "Suspended").await;
    }
    harness.delete_and_wait("kept").await;
    harness.delete("a").await;
    harness.has("a", "DeletionBlocked", "Suspended").await;
    harness.edit("a", json!({"spec": {"suspend": false}})).await;
    harness.wait_deleted("a").await;
    assert_eq!(harness.count(DELETE), 1);
    let suspend = |on: bool| {
        let patch = json!({"spec": {"suspend": on}}).to_string();
        assert!(
            harness
                .kubectl(&["patch", "workspace", "default", "--type=merge", "-p", &patch], None)
                .status
                .success()
        );
    };
    suspend(true);
    harness.has("b", "Suspended", "WorkspaceSuspended").await;
    harness.delete("b").await;
    harness.has("b", "DeletionBlocked", "Suspended").await;
    assert_eq!(harness.count(DELETE), 1);
    suspend(false);
    harness.wait_deleted("b").await;
    assert_eq!((harness.count(DELETE), harness.sim.channels().len()), (2, 1));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_may_have_been_created_blocks_until_it_is_released_by_id() {
    let harness = Harness::start().await;
    let channel = unresolved_create(&harness, "a", true).await;
    let attempt = format!("{}/1", uid(&channel));
    harness.delete("a").await;
    let blocked = harness.has("a", "DeletionBlocked", "CreateOutcomeUnknown").await;
    assert!(message(&blocked, "DeletionBlocked").contains(&format!("{RELEASE}={attempt}")));
    harness.annotate("a", RELEASE, &format!("{}/2", uid(&channel))).await;
    assert!(has_finalizer(&reconcile_now(&harness, "a", "1").await));
    harness.annotate("a", RELEASE, &attempt).await;
    harness.wait_deleted("a").await;
    single_event(&harness, "a", "Released").await;
    assert_eq!((harness.count(Operation::CreateChannel), harness.count(DELETE)), (1, 0));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_rejected_create_the_object_is_deleted_at_once() {
    let harness = Harness::start().await;
    harness.sim.add_fault(Fault::on(Operation::CreateChannel, Action::status(422)));
    harness.create("a", json!({})).await;
    harness.reason("a", "ValidationFailed").await;
    harness.delete_and_wait("a").await;
    assert_eq!((harness.count(Operation::CreateChannel), harness.count(DELETE)), (1, 0));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_policy_before_the_end_counts() {
    let harness = Harness::start().await;
    harness.ready("a", json!({})).await;
    harness.sim.add_fault(Fault::on(DELETE, Action::status(403)));
    harness.delete("a").await;
    harness.has("a", "DeletionBlocked", "PermissionDenied").await;
    harness.edit("a", json!({"spec": {"deletionPolicy": "Retain"}})).await;
    harness.wait_deleted("a").await;
    single_event(&harness, "a", "Retained").await;
    assert_eq!((harness.count(DELETE), harness.sim.channels().len()), (1, 1));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retained_channel_is_deleted_where_the_policy_is_flipped_before_the_finalizer_is_removed() {
    let harness = Harness::proxied(ohallo_sim::Config::default(), &[]).await;
    harness.ready("a", json!({"deletionPolicy": "Retain"})).await;
    let deleting =
        harness.proxy().add(Rule::write(When::Before, Act::Hold).method("PATCH").part("/channels/a"));
    harness.delete("a").await;
    deleting.reached().await.unwrap();
    harness.edit("a", json!({"spec": {"deletionPolicy": "Delete"}})).await;
    harness.proxy().clear();
    harness.wait_deleted("a").await;
    single_event(&harness, "a", "Deleted").await;
    assert_eq!((harness.count(DELETE), harness.sim.channels().len()), (1, 0));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_finalizers_of_others_keep_their_order_wherever_the_own_one_is() {
    let harness = Harness::start().await;
    let mut others: Vec<_> = (0..300).map(|number| format!("example.com/{number}")).collect();
    let own = "ohallo.eu/channel".to_owned();
    let mut manifest = harness.manifest("a", json!({}));
    manifest["metadata"]["finalizers"] = json!(others);
    harness.apply(&manifest);
    let created = harness.reason("a", "Available").await;
    let finalizers = created.metadata.finalizers.unwrap();
    assert_eq!(finalizers.split_last().unwrap(), (&own, others.as_slice()));
    let mut mixed = others.clone();
    mixed.insert(200, own);
    harness.edit("a", json!({"metadata": {"finalizers": mixed}})).await;
    let hold = harness.sim.add_fault(Fault::on(DELETE, Action::Hold { commit_first: true }));
    harness.delete("a").await;
    harness.sim.held(hold).await.unwrap();
    // The position that the operator knows becomes that of another.
    others.remove(100);
    mixed.remove(100);
    harness.edit("a", json!({"metadata": {"finalizers": mixed}})).await;
    harness.sim.release(hold);
    let channel = harness.until("a", "without the own finalizer", |channel| !has_finalizer(channel)).await;
    assert_eq!(channel.metadata.finalizers.unwrap(), others);
    harness.edit("a", json!({"metadata": {"finalizers": null}})).await;
    harness.wait_deleted("a").await;
    assert_eq!((harness.count(DELETE), harness.count(Operation::CreateChannel)), (1, 1));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_own_finalizer_is_removed_and_only_after_the_channel() {
    let harness = Harness::start().await;
    harness.ready("a", json!({})).await;
    harness.edit("a", json!({"metadata": {"finalizers": ["ohallo.eu/channel", "example.com/backup"]}})).await;
    let hold = harness.sim.add_fault(Fault::on(DELETE, Action::Hold { commit_first: true }));
    harness.delete("a").await;
    harness.sim.held(hold).await.unwrap();
    // The answer meets an object that was changed meanwhile.
    harness.annotate("a", "example.com/note", "changed").await;
    assert!(has_finalizer(&harness.get("a").await));
    harness.sim.release(hold);
    let channel = harness.until("a", "finalizer removed", |channel| !has_finalizer(channel)).await;
    assert_eq!(channel.metadata.finalizers.as_deref(), Some(&["example.com/backup".to_owned()][..]));
    harness.annotate("a", "ohallo.eu/reconcile-requested-at", "1").await;
    single_event(&harness, "a", "Deleted").await;
    harness.edit("a", json!({"metadata": {"finalizers": null}})).await;
    harness.wait_deleted("a").await;
    assert_eq!((harness.count(DELETE), harness.count(Operation::CreateChannel)), (1, 1));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_whose_response_was_lost_is_retried_and_its_absence_proven() {
    let harness = Harness::start().await;
    harness.ready("a", json!({})).await;
    harness.sim.add_fault(Fault::on(DELETE, Action::Reset { commit: true }).times(1));
    harness.delete_and_wait("a").await;
    assert_eq!((harness.count(DELETE), harness.sim.channels().len()), (3, 0));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_deleted_while_its_create_is_under_way_leaves_no_channel() {
    let harness = Harness::start().await;
    let fault = Fault::on(Operation::CreateChannel, Action::Hold { commit_first: true });
    let hold = harness.sim.add_fault(fault);
    harness.create("a", json!({})).await;
    harness.sim.held(hold).await.unwrap();
    harness.delete("a").await;
    harness.sim.release(hold);
    harness.wait_deleted("a").await;
    assert_eq!((harness.count(Operation::CreateChannel), harness.count(DELETE)), (1, 1));
    assert!(harness.sim.channels().is_empty());
    harness.finish().await;
}
