//! One id, one Channel; and ids of what is not there, or not what is declared.

use ohallo_sim::{Action, Fault, NewChannel, Operation};
use serde_json::json;

use crate::acts::{LOOK, by_hand, finalized, is, looked, once, so};
use crate::rig::{Rig, TENANT, id_of, message};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_of_another_type_or_workspace_is_not_adopted() {
    let rig = Rig::start().await;
    rig.sim.add_workspace(TENANT, "other-workspace", "Other");
    let email = by_hand(&rig, "email", "Channel a");
    let foreign = rig.sim.insert_channel(NewChannel::new("other-workspace", "chat", "Channel a"));
    for (name, id) in [("email", &email), ("foreign", &foreign)] {
        rig.create(name, json!({"channelId": id})).await;
        let channel = rig.reason(name, "IdentityMismatch").await;
        assert_eq!(is(&channel, "Stalled"), so("True", "IdentityMismatch"));
        assert!(channel.status.as_ref().unwrap().channel_id.is_none());
        assert!(message(&channel, "Ready").contains("spec.channelId"));
        once(&rig, name, "IdentityMismatch").await;
    }
    let right = by_hand(&rig, "chat", "Channel email");
    rig.edit("email", json!({"spec": {"channelId": right}})).await;
    rig.reason("email", "Available").await;
    assert!(rig.sim.ledger().iter().all(|entry| !entry.operation.is_write()), "nothing was written");
    rig.deleted("foreign").await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_of_nothing_is_reported_and_taken_once_it_is_right() {
    let rig = Rig::start().await;
    rig.create("a", json!({"channelId": "nothing-has-this-id"})).await;
    let channel = rig.reason("a", "ChannelNotFound").await;
    assert_eq!(is(&channel, "Ready"), so("False", "ChannelNotFound"));
    assert!(message(&channel, "Ready").contains("nothing-has-this-id"));
    once(&rig, "a", "ChannelNotFound").await;
    let id = by_hand(&rig, "chat", "Channel a");
    rig.edit("a", json!({"spec": {"channelId": id}})).await;
    let channel = rig.reason("a", "Available").await;
    assert_eq!(id_of(&channel), id);
    assert_eq!(rig.count(Operation::CreateChannel), 0);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_another_channel_holds_is_refused_until_that_one_goes() {
    let rig = Rig::start().await;
    let id = by_hand(&rig, "chat", "shared");
    rig.ready("winner", json!({"channelId": id, "displayName": "shared"})).await;
    rig.create("loser", json!({"channelId": id, "displayName": "mine now"})).await;
    let loser = rig.reason("loser", "OwnershipConflict").await;
    assert!(message(&loser, "Ready").contains("winner"), "{}", message(&loser, "Ready"));
    once(&rig, "loser", "OwnershipConflict").await;
    looked(&rig, "loser", "1").await;
    assert_eq!(rig.sim.channel(&id).unwrap().display_name, "shared");
    rig.deleted("winner").await;
    rig.reason("loser", "Available").await;
    assert_eq!(rig.sim.channel(&id).unwrap().display_name, "mine now");
    assert_eq!(rig.count(Operation::DeleteChannel), 0);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loser_is_deleted_without_the_channel_that_it_named() {
    let rig = Rig::start().await;
    let id = id_of(&rig.ready("winner", json!({})).await);
    rig.create("loser", json!({"channelId": id, "deletionPolicy": "Delete"})).await;
    rig.reason("loser", "OwnershipConflict").await;
    rig.deleted("loser").await;
    assert_eq!(rig.count(Operation::DeleteChannel), 0);
    assert_eq!(is(&looked(&rig, "winner", "1").await, "Ready"), so("True", "Available"));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_that_adopt_at_the_same_instant_one_wins() {
    let rig = Rig::start().await;
    let id = by_hand(&rig, "chat", "shared");
    let spec = |number: usize| json!({"channelId": id, "displayName": format!("name {number}")});
    let names = ["c0", "c1", "c2", "c3"];
    futures::future::join_all(names.iter().enumerate().map(|(number, name)| rig.create(name, spec(number))))
        .await;
    let decided = names.map(|name| {
        rig.until(name, "decided", |channel| {
            is(channel, "Ready").is_some_and(|ready| ["Available", "OwnershipConflict"].contains(&&*ready.1))
        })
    });
    let channels = futures::future::join_all(decided).await;
    let winners: Vec<_> = channels.iter().filter(|one| is(one, "Ready") == so("True", "Available")).collect();
    assert_eq!(winners.len(), 1);
    let writes = rig.count(Operation::UpdateChannel);
    for name in names {
        looked(&rig, name, "1").await;
    }
    assert_eq!((writes, rig.count(Operation::UpdateChannel)), (1, 1), "nobody fights");
    let bound = channels.iter().filter(|one| one.status.as_ref().unwrap().channel_id.is_some());
    assert_eq!(bound.count(), 1);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bound_channel_that_is_removed_in_ohallo_is_reported_and_not_made_again() {
    let mut rig = Rig::start().await;
    let id = id_of(&rig.ready("a", json!({})).await);
    rig.sim.remove_channel(&id);
    rig.annotate("a", LOOK, "1").await;
    let channel = rig.reason("a", "ChannelNotFound").await;
    assert!(finalized(&channel));
    assert_eq!(id_of(&channel), id, "the id is kept");
    rig.edit("a", json!({"spec": {"displayName": "New"}})).await;
    rig.until("a", "looked at", |channel| {
        channel.status.as_ref().is_some_and(|status| status.observed_generation == Some(2))
    })
    .await;
    rig.stop_operator().await;
    rig.start_operator().await;
    looked(&rig, "a", "2").await;
    assert_eq!((rig.count(Operation::CreateChannel), rig.sim.channels().len()), (1, 0));
    once(&rig, "a", "ChannelNotFound").await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_not_found_and_then_the_channel_again_loses_nothing() {
    let rig = Rig::start().await;
    let id = id_of(&rig.ready("a", json!({})).await);
    rig.sim.add_fault(Fault::on(Operation::GetChannel, Action::status(404)).times(1));
    let channel = looked(&rig, "a", "1").await;
    assert!(finalized(&channel));
    assert_eq!(is(&channel, "Ready"), so("True", "Available"), "one 404 says nothing");
    let channel = looked(&rig, "a", "2").await;
    assert_eq!(is(&channel, "Ready"), so("True", "Available"));
    assert_eq!(id_of(&channel), id);
    assert_eq!((rig.count(Operation::CreateChannel), rig.count(Operation::DeleteChannel)), (1, 0));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_found_under_a_key_of_another_tenant_is_no_absence() {
    let rig = Rig::start().await;
    rig.ready("a", json!({})).await;
    rig.sim.edit_key(&rig.key, |key| key.tenant = "other".into());
    rig.edit("a", json!({"spec": {"displayName": "New"}})).await;
    let channel = rig.reason("a", "UnexpectedResponse").await;
    assert_eq!(is(&channel, "Ready"), so("Unknown", "UnexpectedResponse"));
    rig.sim.edit_key(&rig.key, |key| key.tenant = TENANT.into());
    rig.reason("a", "Available").await;
    assert_eq!(rig.count(Operation::CreateChannel), 1);
    rig.finish().await;
}
