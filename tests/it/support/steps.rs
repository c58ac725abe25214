//! What several tests do and observe.

use ohallo_core::api::channel::Channel;
use ohallo_sim::{Action, Fault, NewChannel, Operation};
use serde_json::json;
use testbed::User;

use crate::support::harness::{Harness, WORKSPACE, condition, message};

pub const RECONCILE_REQUESTED: &str = "ohallo.eu/reconcile-requested-at";
pub const CREATE_AGAIN: &str = "ohallo.eu/create-again";
pub const CONFIRM_DELETION: &str = "ohallo.eu/confirm-deletion";
pub const RELEASE: &str = "ohallo.eu/release";
pub const CREATE_INTENT: &str = "ohallo.eu/create-intent";
pub const FINALIZER: &str = "ohallo.eu/channel";

/// Requests a reconcile and waits until it is done.
pub async fn reconcile_now(harness: &Harness, name: &str, value: &str) -> Channel {
    harness.annotate(name, RECONCILE_REQUESTED, value).await;
    harness
        .until(name, "reconciled", |channel| {
            channel.status.as_ref().is_some_and(|s| s.last_handled_reconcile_at.as_deref() == Some(value))
        })
        .await
}

/// Asserts that nothing is left to do: a requested reconcile costs one read and one write.
pub async fn assert_settled(harness: &Harness, name: &str) {
    const RECONCILES: usize = 3;
    let cost = || async {
        harness.caught_up().await;
        let writes = harness.sim.ledger().iter().filter(|entry| entry.operation.is_write()).count();
        (harness.count(Operation::GetChannel), writes, harness.writes_of(name).len())
    };
    reconcile_now(harness, name, "rest").await;
    let (reads, calls, writes) = cost().await;
    for number in 0..RECONCILES {
        reconcile_now(harness, name, &format!("rest-{number}")).await;
    }
    assert_eq!(
        cost().await,
        (reads + RECONCILES, calls, writes + RECONCILES),
        "reads, oHallo writes, Kubernetes writes"
    );
}

/// Waits for the event, and asserts that it is the only one.
pub async fn single_event(harness: &Harness, name: &str, reason: &str) -> String {
    let note = harness.event(name, reason).await;
    let all = harness.events(name).await;
    assert_eq!(all.iter().filter(|event| event.0 == reason).count(), 1, "{all:?}");
    note
}

/// A reset of the next create.
pub fn lose_create_response(harness: &Harness, commit: bool) {
    harness.sim.add_fault(Fault::on(Operation::CreateChannel, Action::Reset { commit }).times(1));
}

/// A Channel whose create was sent and not answered.
pub async fn unresolved_create(harness: &Harness, name: &str, commit: bool) -> Channel {
    lose_create_response(harness, commit);
    harness.create(name, json!({})).await;
    harness.reason(name, "CreateOutcomeUnknown").await
}

/// A channel created in the dashboard.
pub fn insert_in_dashboard(harness: &Harness, channel_type: &str, name: &str) -> String {
    harness.sim.insert_channel(NewChannel::new(WORKSPACE, channel_type, name))
}

pub fn state_of(channel: &Channel, kind: &str) -> Option<(String, String)> {
    condition(channel, kind).map(|found| (found.1.to_owned(), found.2.to_owned()))
}

/// Status and reason, as [`state_of`] gives them.
pub fn state(status: &str, reason: &str) -> Option<(String, String)> {
    Some((status.to_owned(), reason.to_owned()))
}

/// The value that the message of a condition has of an annotation.
pub fn value_in_message(channel: &Channel, kind: &str, annotation: &str) -> String {
    let text = message(channel, kind);
    let (_, value) = text.split_once(&format!("{annotation}=")).unwrap_or_else(|| panic!("{text}"));
    value.split_whitespace().next().unwrap().trim_end_matches(['.', ',', '`']).to_owned()
}

pub fn uid(channel: &Channel) -> String {
    channel.metadata.uid.clone().unwrap()
}

pub fn has_finalizer(channel: &Channel) -> bool {
    channel.metadata.finalizers.iter().flatten().any(|name| name == FINALIZER)
}

/// How often the operator has read this Secret.
pub fn reads(harness: &Harness, name: &str) -> usize {
    let audited = harness.audited();
    let ours = audited.iter().filter(|event| {
        event.user == User::Operator.name()
            && (event.verb.as_str(), event.resource.as_str()) == ("get", "secrets")
            && event.name.as_deref() == Some(name)
    });
    ours.count()
}

pub const SHORT_TIMEOUTS: [&str; 2] = ["--request-timeout=1", "--create-timeout=1"];
