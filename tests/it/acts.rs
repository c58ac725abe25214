//! What several tests do and look at.

use ohallo_core::api::channel::Channel;
use ohallo_sim::{Action, Fault, NewChannel, Operation};
use serde_json::json;

use crate::rig::{Rig, WORKSPACE, condition, message};

pub const LOOK: &str = "ohallo.eu/reconcile-requested-at";
pub const AGAIN: &str = "ohallo.eu/create-again";
pub const RELEASE: &str = "ohallo.eu/release";
pub const INTENT: &str = "ohallo.eu/create-intent";
pub const FINALIZER: &str = "ohallo.eu/channel";

/// Asks for a look and waits until a pass has answered it.
pub async fn looked(rig: &Rig, name: &str, value: &str) -> Channel {
    rig.annotate(name, LOOK, value).await;
    rig.until(name, "looked at", |channel| {
        channel.status.as_ref().is_some_and(|s| s.last_handled_reconcile_at.as_deref() == Some(value))
    })
    .await
}

/// That nothing is left to do: a look costs one read and one write, which answers it.
pub async fn at_rest(rig: &Rig, name: &str) {
    const LOOKS: usize = 3;
    let cost = || async {
        rig.caught_up().await;
        let writes = rig.sim.ledger().iter().filter(|entry| entry.operation.is_write()).count();
        (rig.count(Operation::GetChannel), writes, rig.writes_of(name).len())
    };
    looked(rig, name, "rest").await;
    let (reads, calls, writes) = cost().await;
    for number in 0..LOOKS {
        looked(rig, name, &format!("rest-{number}")).await;
    }
    assert_eq!(
        cost().await,
        (reads + LOOKS, calls, writes + LOOKS),
        "reads, oHallo writes, Kubernetes writes"
    );
}

/// Waits for the event, and that there is one and no more.
pub async fn once(rig: &Rig, name: &str, reason: &str) -> String {
    let note = rig.event(name, reason).await;
    let all = rig.events(name).await;
    assert_eq!(all.iter().filter(|event| event.0 == reason).count(), 1, "{all:?}");
    note
}

/// A reset of the next create.
pub fn lose(rig: &Rig, commit: bool) {
    rig.sim.add_fault(Fault::on(Operation::CreateChannel, Action::Reset { commit }).times(1));
}

/// A Channel whose create was sent and not answered.
pub async fn parked(rig: &Rig, name: &str, commit: bool) -> Channel {
    lose(rig, commit);
    rig.create(name, json!({})).await;
    rig.reason(name, "CreateOutcomeUnknown").await
}

/// A channel made in the dashboard.
pub fn by_hand(rig: &Rig, channel_type: &str, name: &str) -> String {
    rig.sim.insert_channel(NewChannel::new(WORKSPACE, channel_type, name))
}

pub fn is(channel: &Channel, kind: &str) -> Option<(String, String)> {
    condition(channel, kind).map(|found| (found.1.to_owned(), found.2.to_owned()))
}

/// Status and reason, as [`is`] gives them.
pub fn so(status: &str, reason: &str) -> Option<(String, String)> {
    Some((status.to_owned(), reason.to_owned()))
}

/// The value that the message of a condition has of an annotation.
pub fn told(channel: &Channel, kind: &str, annotation: &str) -> String {
    let text = message(channel, kind);
    let (_, value) = text.split_once(&format!("{annotation}=")).unwrap_or_else(|| panic!("{text}"));
    value.split_whitespace().next().unwrap().trim_end_matches(['.', ',', '`']).to_owned()
}

pub fn uid(channel: &Channel) -> String {
    channel.metadata.uid.clone().unwrap()
}

pub fn finalized(channel: &Channel) -> bool {
    channel.metadata.finalizers.iter().flatten().any(|name| name == FINALIZER)
}
