// pure
//! What is to be done for a Channel that is being deleted. The finalizer goes only when the channel is gone by
//! proof, kept by policy, or released by name.

use std::time::{Duration, Instant};

use kube::ResourceExt;

use super::consistency;
use super::create::{self, Attempt, Standing};
use super::inputs::Inputs;
use super::memory::{ABSENCE, Memory};
use super::plan::{Is, Parting, Place, Plan, Remote, Step, Verdict, View};
use crate::api::channel::{Channel, ChannelStatus};
use crate::api::conditions::{Reason, kind};
use crate::api::{annotation, same_id};
use crate::conditions;
use crate::error::Need;
use crate::ohallo::Id;
use crate::retry;

pub mod claims;

/// Nothing is known yet of who else claims the channel: silently asked again.
fn asks(again: Duration) -> Plan {
    let message = "Other Channels may claim the oHallo channel; they are asked again.";
    Verdict::of(Is::Needs(Need::Turn(again)), Reason::Progressing, message).settled()
}

/// Decides for a terminating Channel.
pub fn plan(view: &View, standing: &Standing) -> Plan {
    if !view.finalized() {
        return Verdict::of(Is::Gone, Reason::Progressing, "").settled();
    }
    match standing {
        Standing::Bound(id) => bound(view, id),
        Standing::MayExist(attempt) => may_exist(view, attempt),
        Standing::TwoIds { answered, declared } => two_ids(view, answered, declared),
        // A channel of another object is never deleted for this one.
        Standing::ForeignStatus(_) => Plan::Work(Step::LetGo(Parting::Retained)),
        _ => Plan::Work(Step::LetGo(Parting::NothingThere)),
    }
}

/// The policy in force: the declared one, else by origin. The origin of a channel that another object was bound to says
/// nothing of this one.
pub fn deletes(channel: &Channel, status: &ChannelStatus) -> bool {
    if channel.spec.management_policy.as_deref() == Some("Observe") {
        return false;
    }
    match channel.spec.deletion_policy.as_deref() {
        Some(policy) => policy == "Delete",
        None if was_retained(channel, status) => false,
        None => match status.origin.as_deref().filter(|_| believed(channel, status)) {
            Some("Created") => true,
            Some("Adopted") => false,
            // Somebody took the origin of a bound channel away: only an intent of its own shows that it was created.
            _ if status.channel_id.is_some() && believed(channel, status) => create::is_own_intent(channel),
            _ => channel.spec.channel_id.is_none(),
        },
    }
}

/// The policy in force was Retain, and no change of the manifest took it away: of a terminating object the generation moves with the
/// deletion alone. An older CustomResourceDefinition drops a declared policy from the spec without a new generation.
fn was_retained(channel: &Channel, status: &ChannelStatus) -> bool {
    let generations = channel.metadata.generation.zip(status.observed_generation);
    // A pass that found it terminating has seen that generation.
    let seen = conditions::is_true(&status.conditions, kind::DELETION_BLOCKED);
    let moved = if seen { 0..=0 } else { 0..=1 };
    channel.metadata.deletion_timestamp.is_some()
        && believed(channel, status)
        && status.deletion_policy.as_deref() == Some("Retain")
        && generations.is_some_and(|(now, observed)| moved.contains(&now.saturating_sub(observed)))
}

fn believed(channel: &Channel, status: &ChannelStatus) -> bool {
    status.channel_id.is_none()
        || status.bound_to(channel.metadata.uid.as_deref().unwrap_or_default()).is_some()
}

pub(super) fn released(view: &View, what: &str) -> bool {
    view.annotation(annotation::RELEASE).is_some_and(|word| same_id(word, what))
}

fn may_exist(view: &View, attempt: &Attempt) -> Plan {
    let name = attempt.to_string();
    if released(view, &name) {
        return Plan::Work(Step::LetGo(Parting::Released));
    }
    if !deletes(view.channel, view.status) {
        return Plan::Work(Step::LetGo(Parting::Retained));
    }
    let message = format!(
        "A create was sent (status.create.sentAt) and its answer was lost, so a channel may be left in oHallo. Look in its dashboard, delete the channel there \
         if you find it, then annotate this object with {}={name}.",
        annotation::RELEASE
    );
    blocked(Reason::CreateOutcomeUnknown, message, retry::STALLED)
}

fn two_ids(view: &View, answered: &str, declared: &str) -> Plan {
    if released(view, answered) {
        return Plan::Work(Step::LetGo(Parting::Released));
    }
    // Only a declared policy: by origin it would be that of the channel to adopt.
    if view.observing() || view.spec().deletion_policy.as_deref() == Some("Retain") {
        return Plan::Work(Step::LetGo(Parting::Retained));
    }
    let message = format!(
        "A create made channel {answered} while spec.channelId names {declared}. Delete {answered} in oHallo if nobody needs it, then annotate this object with {}={answered}.",
        annotation::RELEASE
    );
    blocked(Reason::CreateOutcomeUnknown, message, retry::STALLED)
}

fn bound(view: &View, id: &str) -> Plan {
    if released(view, id) {
        return Plan::Work(Step::LetGo(Parting::Released));
    }
    if !deletes(view.channel, view.status) {
        return Plan::Work(Step::LetGo(Parting::Retained));
    }
    if view.memory.deleted || absent(view) {
        return Plan::Work(Step::LetGo(Parting::Deleted));
    }
    if let Remote::Stale { again } = view.observed.remote {
        return Verdict::stale(again, STALE_ABSENCE).settled();
    }
    // A hand-over needs no key, slot or token, so the Channels of the same namespace are asked for first.
    let Some(claims) = &view.observed.claims else {
        return asks(ASK_AGAIN);
    };
    if claims.heir.is_some() {
        return Plan::Work(Step::LetGo(Parting::HandedOver));
    }
    if let Some(plan) = claims::beside(view, claims) {
        return plan;
    }
    let Some(id) = Id::parse(id) else {
        return blocked(Reason::AbsenceNotProven, unfit_message(id), retry::STALLED);
    };
    if let Some(plan) = cannot_call(view, &id) {
        return plan;
    }
    if let Some(rest) = second_look(view) {
        return blocked(Reason::AbsenceNotProven, absence_message(&id), rest);
    }
    claims::anywhere(view, claims, id.as_str()).unwrap_or(Plan::Work(Step::Delete { id }))
}

const STALE_ABSENCE: &str = "oHallo answers 404 to the DELETE. That may be older than the operator's last write: the DELETE is sent again.";

/// How soon a reconcile that did not begin with a terminating object is repeated with one.
const ASK_AGAIN: Duration = Duration::from_millis(300);

/// Somebody has written over the id, so the channel can't be asked for any more.
fn unfit_message(id: &str) -> String {
    format!(
        "status.channelId holds {id:?}, which is no id of oHallo's: look in its dashboard for the channel of this object and delete it there, then annotate \
         this object with {} and that text.",
        annotation::RELEASE
    )
}

/// What the message of `AbsenceNotProven` says while the absence was seen once.
pub fn absence_message(id: &Id) -> String {
    format!("oHallo says that channel {id} is not there; it is asked once more before this object goes.")
}

/// Whether the object as it now is must be decided on again before its channel is deleted: anything that a decision rests
/// on has changed. An API server that was restored from a backup may have an object that is not terminating.
pub fn decided_again(known: &Channel, fresh: &Channel, id: &Id) -> bool {
    let uid = fresh.uid().unwrap_or_default();
    let bound = fresh.status.as_ref().and_then(|status| status.bound_to(&uid));
    fresh.metadata.resource_version != known.metadata.resource_version
        && (Inputs::own(fresh) != Inputs::own(known)
            || fresh.metadata.deletion_timestamp.is_none()
            || !bound.is_some_and(|bound| same_id(bound, id.as_str()))
            || fresh.status.as_ref().map(|status| &status.origin)
                != known.status.as_ref().map(|status| &status.origin))
}

/// What the workspace's read, asked after a 404 and with the same key, was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vouched {
    /// It is the tenant's: this workspace was found.
    Found,
    /// Another one, or none.
    NotFound,
    /// The key may not read workspaces.
    Forbidden,
}

/// Whether a 404 proves that the channel is gone. A key may see the workspace and not its channels: of a bound channel only
/// one that has read it, or another one of that workspace, proves anything.
pub fn proven(status: &ChannelStatus, place: &Place, vouched: Vouched) -> bool {
    let read_it = status.read_with.as_deref() == Some(&place.read_with);
    match vouched {
        Vouched::Found => place.has_read || read_it || status.channel_id.is_none(),
        Vouched::NotFound => false,
        Vouched::Forbidden => read_it,
    }
}

fn cannot_call(view: &View, id: &Id) -> Option<Plan> {
    if view.spec().suspend == Some(true) || view.observed.workspace_suspended {
        let message = "The channel is to be deleted in oHallo, but this Channel or its workspace is suspended: end that, or set deletionPolicy to Retain.";
        return Some(blocked(Reason::Suspended, message.into(), retry::STALLED));
    }
    let key_unavailable = |why: &str| {
        let message = format!(
            "{why} Restore it, or leave the channel in oHallo: annotate this object with {}={id}.",
            annotation::RELEASE
        );
        Some(blocked(Reason::KeyUnavailable, message, retry::INPUT))
    };
    match &view.observed.place {
        // The key is about to be read: a restart is no reason to say that it is missing.
        Err(failure) if matches!(failure.need, Need::Turn(_)) => Some(Verdict::failed(failure).settled()),
        Err(failure) => key_unavailable(&format!(
            "The API key to delete the channel with is not there: {}.",
            failure.message.trim_end_matches('.')
        )),
        Ok(place)
            if view
                .status
                .workspace_id
                .as_deref()
                .is_some_and(|recorded| !same_id(recorded, place.workspace_id.as_str())) =>
        {
            key_unavailable(
                "The Workspace now names another oHallo workspace than the one the channel was made in.",
            )
        }
        Ok(_) => None,
    }
}

/// The absence was proven twice, far enough apart.
fn absent(view: &View) -> bool {
    matches!(view.observed.remote, Remote::Absent { proven: true })
        && first_absence(view).is_some_and(|since| view.instant.duration_since(since) >= ABSENCE)
}

/// What a proven absence, met by a DELETE, makes of memory and view: the first is noted, the second said.
pub fn absent_now(memory: &mut Memory, remote: &mut Remote, id: &str, instant: Instant) {
    if consistency::absent(memory, id, true, instant).is_none() {
        *remote = Remote::Absent { proven: true };
    }
}

/// When a DELETE first met a proven absence.
fn first_absence(view: &View) -> Option<Instant> {
    view.memory.absent.as_ref().filter(|first| first.to_delete).map(|first| first.since)
}

/// How long until the second look at an absence.
fn second_look(view: &View) -> Option<Duration> {
    let since = first_absence(view)?;
    ABSENCE.checked_sub(view.instant.duration_since(since)).filter(|rest| !rest.is_zero())
}

fn blocked(reason: Reason, message: String, again: Duration) -> Plan {
    Verdict::of(Is::Blocked { again }, reason, message).settled()
}

#[cfg(test)]
mod tests;
