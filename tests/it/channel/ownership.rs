//! One id, one Channel; and ids of what is not there, or not what is declared.

use ohallo_sim::{Action, Fault, NewChannel, Operation};
use serde_json::json;

use crate::support::harness::{Harness, TENANT, id_of, message};
use crate::support::steps::{
    RECONCILE_REQUESTED, has_finalizer, insert_in_dashboard, reconcile_now, single_event, state, state_of,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_of_another_type_or_workspace_is_not_adopted() {
    let harness = Harness::start().await;
    harness.sim.add_workspace(TENANT, "other-workspace", "Other");
    let email = insert_in_dashboard(&harness, "email", "Channel a");
    let foreign = harness.sim.insert_channel(NewChannel::new("other-workspace", "chat", "Channel a"));
    for (name, id) in [("email", &email), ("foreign", &foreign)] {
        harness.create(name, json!({"channelId": id})).await;
        let channel = harness.reason(name, "IdentityMismatch").await;
        assert_eq!(state_of(&channel, "Stalled"), state("True", "IdentityMismatch"));
        assert!(channel.status.as_ref().unwrap().channel_id.is_none());
        assert!(message(&channel, "Ready").contains("spec.channelId"));
        single_event(&harness, name, "IdentityMismatch").await;
    }
    let right = insert_in_dashboard(&harness, "chat", "Channel email");
    harness.edit("email", json!({"spec": {"channelId": right}})).await;
    harness.reason("email", "Available").await;
    assert!(harness.sim.ledger().iter().all(|entry| !entry.operation.is_write()), "nothing was written");
    harness.delete_and_wait("foreign").await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_of_no_channel_is_reported_and_adopted_once_it_is_right() {
    let harness = Harness::start().await;
    harness.create("a", json!({"channelId": "nothing-has-this-id"})).await;
    let channel = harness.reason("a", "ChannelNotFound").await;
    assert_eq!(state_of(&channel, "Ready"), state("False", "ChannelNotFound"));
    assert!(message(&channel, "Ready").contains("nothing-has-this-id"));
    single_event(&harness, "a", "ChannelNotFound").await;
    let id = insert_in_dashboard(&harness, "chat", "Channel a");
    harness.edit("a", json!({"spec": {"channelId": id}})).await;
    let channel = harness.reason("a", "Available").await;
    assert_eq!(id_of(&channel), id);
    assert_eq!(harness.count(Operation::CreateChannel), 0);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_another_channel_holds_is_rejected_until_that_one_is_deleted() {
    let harness = Harness::start().await;
    let id = insert_in_dashboard(&harness, "chat", "shared");
    harness.ready("winner", json!({"channelId": id, "displayName": "shared"})).await;
    harness.create("loser", json!({"channelId": id, "displayName": "mine now"})).await;
    let loser = harness.reason("loser", "OwnershipConflict").await;
    assert!(message(&loser, "Ready").contains("winner"), "{}", message(&loser, "Ready"));
    single_event(&harness, "loser", "OwnershipConflict").await;
    reconcile_now(&harness, "loser", "1").await;
    assert_eq!(harness.sim.channel(&id).unwrap().display_name, "shared");
    harness.delete_and_wait("winner").await;
    harness.reason("loser", "Available").await;
    assert_eq!(harness.sim.channel(&id).unwrap().display_name, "mine now");
    assert_eq!(harness.count(Operation::DeleteChannel), 0);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loser_is_deleted_without_the_channel_that_it_named() {
    let harness = Harness::start().await;
    let id = id_of(&harness.ready("winner", json!({})).await);
    harness.create("loser", json!({"channelId": id, "deletionPolicy": "Delete"})).await;
    harness.reason("loser", "OwnershipConflict").await;
    harness.delete_and_wait("loser").await;
    assert_eq!(harness.count(Operation::DeleteChannel), 0);
    assert_eq!(state_of(&reconcile_now(&harness, "winner", "1").await, "Ready"), state("True", "Available"));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_that_adopt_at_the_same_instant_one_wins() {
    let harness = Harness::start().await;
    let id = insert_in_dashboard(&harness, "chat", "shared");
    let spec = |number: usize| json!({"channelId": id, "displayName": format!("name {number}")});
    let names = ["c0", "c1", "c2", "c3"];
    futures::future::join_all(
        names.iter().enumerate().map(|(number, name)| harness.create(name, spec(number))),
    )
    .await;
    let decided = names.map(|name| {
        harness.until(name, "decided", |channel| {
            state_of(channel, "Ready")
                .is_some_and(|ready| ["Available", "OwnershipConflict"].contains(&&*ready.1))
        })
    });
    let channels = futures::future::join_all(decided).await;
    let winners: Vec<_> =
        channels.iter().filter(|one| state_of(one, "Ready") == state("True", "Available")).collect();
    assert_eq!(winners.len(), 1);
    let writes = harness.count(Operation::UpdateChannel);
    for name in names {
        reconcile_now(&harness, name, "1").await;
    }
    assert_eq!((writes, harness.count(Operation::UpdateChannel)), (1, 1), "nobody fights");
    let bound = channels.iter().filter(|one| one.status.as_ref().unwrap().channel_id.is_some());
    assert_eq!(bound.count(), 1);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bound_channel_that_is_removed_in_ohallo_is_reported_and_not_recreated() {
    let mut harness = Harness::start().await;
    let id = id_of(&harness.ready("a", json!({})).await);
    harness.sim.remove_channel(&id);
    harness.annotate("a", RECONCILE_REQUESTED, "1").await;
    let channel = harness.reason("a", "ChannelNotFound").await;
    assert!(has_finalizer(&channel));
    assert_eq!(id_of(&channel), id, "the id is kept");
    harness.edit("a", json!({"spec": {"displayName": "New"}})).await;
    harness
        .until("a", "reconciled", |channel| {
            channel.status.as_ref().is_some_and(|status| status.observed_generation == Some(2))
        })
        .await;
    harness.stop_operator().await;
    harness.start_operator().await;
    reconcile_now(&harness, "a", "2").await;
    assert_eq!((harness.count(Operation::CreateChannel), harness.sim.channels().len()), (1, 0));
    single_event(&harness, "a", "ChannelNotFound").await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_not_found_and_then_the_channel_again_loses_nothing() {
    let harness = Harness::start().await;
    let id = id_of(&harness.ready("a", json!({})).await);
    harness.sim.add_fault(Fault::on(Operation::GetChannel, Action::status(404)).times(1));
    let channel = reconcile_now(&harness, "a", "1").await;
    assert!(has_finalizer(&channel));
    assert_eq!(state_of(&channel, "Ready"), state("True", "Available"), "one 404 proves nothing");
    let channel = reconcile_now(&harness, "a", "2").await;
    assert_eq!(state_of(&channel, "Ready"), state("True", "Available"));
    assert_eq!(id_of(&channel), id);
    assert_eq!((harness.count(Operation::CreateChannel), harness.count(Operation::DeleteChannel)), (1, 0));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_found_under_a_key_of_another_tenant_is_no_absence() {
    let harness = Harness::start().await;
    harness.ready("a", json!({})).await;
    harness.sim.edit_key(&harness.key, |key| key.tenant = "other".into());
    harness.edit("a", json!({"spec": {"displayName": "New"}})).await;
    let channel = harness.reason("a", "UnexpectedResponse").await;
    assert_eq!(state_of(&channel, "Ready"), state("Unknown", "UnexpectedResponse"));
    harness.sim.edit_key(&harness.key, |key| key.tenant = TENANT.into());
    harness.reason("a", "Available").await;
    assert_eq!(harness.count(Operation::CreateChannel), 1);
    harness.finish().await;
}
