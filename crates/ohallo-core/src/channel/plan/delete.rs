//! The plan for a Channel that is being deleted. The operator removes the finalizer only when the channel is proven to
//! be deleted, is retained by policy, or is released by name.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use crate::api::channel::{Channel, ChannelStatus};
use crate::api::conditions::{Reason, kind};
use crate::api::values::{DeletionPolicy, Origin};
use crate::api::{annotation, same_id};
use crate::channel::binding::{self, AttemptId, DeletionBinding};
use crate::channel::freshness;
use crate::channel::in_memory_state::{ABSENCE_INTERVAL, InMemoryState};
use crate::channel::model::{
    Conclusion, ConclusionKind, DeletionOutcome, Plan, PlanInput, Predecessor, Remote, Step, WorkspaceAccess,
};
use crate::channel::triggers::Triggers;
use crate::failure::Retry;
use crate::remote::Id;
use crate::{backoff, conditions};

pub mod claims;

/// The claims of other Channels are not known yet: requeue without a status write.
fn wait_for_claims(again: Duration) -> Plan {
    let message = "Other Channels may claim the oHallo channel; the operator checks again.";
    Conclusion::of(ConclusionKind::Failed(Retry::Deferred(again)), Reason::Progressing, message).settled()
}

/// Plans for a terminating Channel.
pub fn plan(view: &PlanInput, binding: &DeletionBinding) -> Plan {
    match binding {
        DeletionBinding::InFlight => super::in_flight(),
        // The API server does not store the id, so only a user can end the wait.
        DeletionBinding::Record { id, .. } if !view.memory.lost.is_empty() && released(view, id) => {
            Plan::Work(Step::RemoveFinalizer(DeletionOutcome::Released))
        }
        DeletionBinding::Record { attempt, .. } => Plan::Work(Step::RecordId { attempt: *attempt }),
        DeletionBinding::ConflictingIds { .. }
        | DeletionBinding::Bound(_)
        | DeletionBinding::StatusOfOtherObject(_)
        | DeletionBinding::NeverCreated
        | DeletionBinding::UnresolvedCreate(_)
            if !view.has_finalizer() =>
        {
            Conclusion::of(ConclusionKind::Finished, Reason::Progressing, "").settled()
        }
        DeletionBinding::ConflictingIds { answered, declared } => conflicting_ids(view, answered, declared),
        DeletionBinding::Bound(id) => bound(view, id),
        // A channel of another object is never deleted for this one.
        DeletionBinding::StatusOfOtherObject(_) => {
            Plan::Work(Step::RemoveFinalizer(DeletionOutcome::Retained))
        }
        DeletionBinding::NeverCreated => Plan::Work(Step::RemoveFinalizer(DeletionOutcome::NeverCreated)),
        DeletionBinding::UnresolvedCreate(attempt) => unresolved_create(view, attempt),
    }
}

/// The policy in force: the declared one, else by origin. The origin of a channel that another object was bound to has
/// no effect on this one.
pub fn should_delete_remote(channel: &Channel, status: &ChannelStatus) -> bool {
    if channel.spec.is_observe() {
        return false;
    }
    match channel.spec.deletion_policy() {
        Some(policy) => policy == DeletionPolicy::Delete,
        None if was_retained(channel, status) => false,
        None => match status.origin().filter(|_| believed(channel, status)) {
            Some(Origin::Created) => true,
            Some(Origin::Adopted) => false,
            // The origin of a bound channel was removed: only the object's own intent proves that the operator created it.
            None if status.channel_id.is_some() && believed(channel, status) => {
                binding::is_own_intent(channel)
            }
            None => channel.spec.channel_id.is_none(),
        },
    }
}

/// The terminating Channel as the one that hands its channel over. A Channel that retains its channel hands nothing over:
/// after its deletion, the id is adopted like any other.
pub fn as_predecessor(channel: &Channel) -> Option<Predecessor> {
    let status = channel.status.clone().unwrap_or_default();
    status.origin.as_ref().filter(|_| should_delete_remote(channel, &status))?;
    // An unknown word: the origin of which the default policy deletes nothing.
    let origin = status.origin().unwrap_or(Origin::Adopted);
    Some(Predecessor { name: channel.name_any(), origin })
}

/// The policy in force, as `status.deletionPolicy` shows it.
pub fn policy_in_force(channel: &Channel, status: &ChannelStatus) -> DeletionPolicy {
    if should_delete_remote(channel, status) { DeletionPolicy::Delete } else { DeletionPolicy::Retain }
}

/// The bound channel that a deletion of this object, beginning now, would delete in oHallo, unless a confirmation names it. The
/// deletion protection of the chart derives the same from the object.
pub fn unconfirmed_deletion(channel: &Channel) -> Option<&str> {
    let uid = channel.metadata.uid.as_deref()?;
    let status = channel.status.as_ref()?;
    let id = status.bound_to(uid)?;
    let mut deleted = channel.clone();
    deleted.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    deleted.metadata.generation = channel.metadata.generation.map(|generation| generation.saturating_add(1));
    let word = channel.annotations().get(annotation::CONFIRM_DELETION);
    let is_confirmed = word.is_some_and(|word| {
        let named = word.strip_suffix(uid).and_then(|word| word.strip_suffix('/'));
        same_id(named.unwrap_or(word), id)
    });
    (should_delete_remote(&deleted, status) && !is_confirmed).then_some(id)
}

/// The policy in force was Retain, and no change of the manifest removed it: only the deletion itself changes the generation of a
/// terminating object. An older CustomResourceDefinition drops a declared policy from the spec without a new generation.
fn was_retained(channel: &Channel, status: &ChannelStatus) -> bool {
    let generations = channel.metadata.generation.zip(status.observed_generation);
    // A reconcile of the terminating object has already observed that generation.
    let seen = conditions::is_true(&status.conditions, kind::DELETION_BLOCKED);
    let moved = if seen { 0..=0 } else { 0..=1 };
    channel.metadata.deletion_timestamp.is_some()
        && believed(channel, status)
        && status.deletion_policy() == Some(DeletionPolicy::Retain)
        && generations.is_some_and(|(now, observed)| moved.contains(&now.saturating_sub(observed)))
}

fn believed(channel: &Channel, status: &ChannelStatus) -> bool {
    status.channel_id.is_none()
        || status.bound_to(channel.metadata.uid.as_deref().unwrap_or_default()).is_some()
}

fn released(view: &PlanInput, what: &str) -> bool {
    view.annotation(annotation::RELEASE).is_some_and(|word| same_id(word, what))
}

fn unresolved_create(view: &PlanInput, attempt: &AttemptId) -> Plan {
    let name = attempt.to_string();
    if released(view, &name) {
        return Plan::Work(Step::RemoveFinalizer(DeletionOutcome::Released));
    }
    if !should_delete_remote(view.channel, view.status) {
        return Plan::Work(Step::RemoveFinalizer(DeletionOutcome::Retained));
    }
    let message = format!(
        "A create was sent (status.create.sentAt) and its response was lost, so a channel may remain in oHallo. Search oHallo's dashboard, delete the channel there \
         if it exists, then annotate this object with {}={name}.",
        annotation::RELEASE
    );
    blocked(Reason::CreateOutcomeUnknown, message, backoff::STALLED_INTERVAL)
}

fn conflicting_ids(view: &PlanInput, answered: &str, declared: &str) -> Plan {
    if released(view, answered) {
        return Plan::Work(Step::RemoveFinalizer(DeletionOutcome::Released));
    }
    // Only a declared policy counts: the origin would be that of the channel to adopt.
    if view.observing() || view.spec().deletion_policy() == Some(DeletionPolicy::Retain) {
        return Plan::Work(Step::RemoveFinalizer(DeletionOutcome::Retained));
    }
    let message = format!(
        "A create returned channel {answered} while spec.channelId names {declared}. Delete {answered} in oHallo if it is not needed, then annotate this object with {}={answered}.",
        annotation::RELEASE
    );
    blocked(Reason::CreateOutcomeUnknown, message, backoff::STALLED_INTERVAL)
}

fn bound(view: &PlanInput, id: &str) -> Plan {
    if released(view, id) {
        return Plan::Work(Step::RemoveFinalizer(DeletionOutcome::Released));
    }
    if !should_delete_remote(view.channel, view.status) {
        return Plan::Work(Step::RemoveFinalizer(DeletionOutcome::Retained));
    }
    if view.memory.deleted || absent(view) {
        return Plan::Work(Step::RemoveFinalizer(DeletionOutcome::Deleted));
    }
    if let Remote::Stale { again } = view.observed.remote {
        return Conclusion::stale(again, STALE_ABSENCE).settled();
    }
    // A hand-over needs no API key, concurrency slot or token, so the claims of the same namespace come first.
    let Some(claims) = &view.observed.claims else {
        return wait_for_claims(ASK_AGAIN);
    };
    if claims.heir.is_some() {
        return Plan::Work(Step::RemoveFinalizer(DeletionOutcome::HandedOver));
    }
    if let Some(plan) = claims::beside(view, claims) {
        return plan;
    }
    let Some(id) = Id::parse(id) else {
        return blocked(Reason::AbsenceNotProven, unfit_message(id), backoff::STALLED_INTERVAL);
    };
    if let Some(plan) = deletion_blocker(view, &id) {
        return plan;
    }
    if let Some(rest) = time_until_recheck(view) {
        return blocked(Reason::AbsenceNotProven, absence_message(&id), rest);
    }
    claims::anywhere(view, claims, id.as_str()).unwrap_or(Plan::Work(Step::Delete { id }))
}

const STALE_ABSENCE: &str = "oHallo answered 404 to the DELETE, but this answer may be older than the operator's last write; the operator sends the DELETE again.";

/// The requeue time of a reconcile that did not begin with a terminating object.
const ASK_AGAIN: Duration = Duration::from_millis(300);

/// The id in the status was overwritten, so the channel can't be read any more.
fn unfit_message(id: &str) -> String {
    format!(
        "status.channelId holds {id:?}, which is not a valid oHallo id: find this object's channel in oHallo's dashboard and delete it there, then annotate \
         this object with {} and that text as the value.",
        annotation::RELEASE
    )
}

/// The message of `AbsenceNotProven` after the first of two absences.
pub fn absence_message(id: &Id) -> String {
    format!("oHallo answers 404 for channel {id}; the operator checks again before it removes the finalizer.")
}

/// Whether the current object must be planned again before its channel is deleted: an input of the decision has changed.
/// An API server that was restored from a backup may have an object that is not terminating.
pub fn must_replan(known: &Channel, fresh: &Channel, id: &Id) -> bool {
    let uid = fresh.uid().unwrap_or_default();
    let bound = fresh.status.as_ref().and_then(|status| status.bound_to(&uid));
    fresh.metadata.resource_version != known.metadata.resource_version
        && (Triggers::own(fresh) != Triggers::own(known)
            || fresh.metadata.deletion_timestamp.is_none()
            || !bound.is_some_and(|bound| same_id(bound, id.as_str()))
            || fresh.status.as_ref().map(|status| &status.origin)
                != known.status.as_ref().map(|status| &status.origin))
}

/// The result of a read of the workspace, after a 404 and with the same API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkspaceProbe {
    /// oHallo returned this workspace.
    Found,
    /// oHallo returned another workspace, or none.
    NotFound,
    /// The API key lacks the permission to read workspaces.
    Forbidden,
}

/// Whether a 404 proves that the channel is deleted. A key may see the workspace and not its channels. For a bound channel
/// only a key that has read this channel, or another one of the workspace, proves the absence.
pub fn absence_is_proven(status: &ChannelStatus, place: &WorkspaceAccess, probe: WorkspaceProbe) -> bool {
    let read_it = status.read_with.as_deref() == Some(&place.read_with);
    match probe {
        WorkspaceProbe::Found => place.has_read || read_it || status.channel_id.is_none(),
        WorkspaceProbe::NotFound => false,
        WorkspaceProbe::Forbidden => read_it,
    }
}

fn deletion_blocker(view: &PlanInput, id: &Id) -> Option<Plan> {
    if view.spec().suspend == Some(true) || view.observed.workspace_suspended {
        let message = "This Channel or its Workspace is suspended, so its channel is not deleted in oHallo: set spec.suspend to false there, or set spec.deletionPolicy to Retain.";
        return Some(blocked(Reason::Suspended, message.into(), backoff::STALLED_INTERVAL));
    }
    let key_unavailable = |why: &str| {
        let message = format!(
            "{why} Restore it, or leave the channel in oHallo: annotate this object with {}={id}.",
            annotation::RELEASE
        );
        Some(blocked(Reason::KeyUnavailable, message, backoff::MISSING_INPUT_INTERVAL))
    };
    match &view.observed.workspace {
        // The API key is not loaded yet after a restart: it must not be reported as missing.
        Err(failure) if matches!(failure.retry, Retry::Deferred(_)) => {
            Some(Conclusion::failed(failure).settled())
        }
        Err(failure) => key_unavailable(&format!(
            "The API key to delete the channel is missing: {}.",
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
                "The Workspace names another oHallo workspace than the one the channel was bound in.",
            )
        }
        Ok(_) => None,
    }
}

/// The absence was proven twice, at least [`ABSENCE_INTERVAL`] apart.
fn absent(view: &PlanInput) -> bool {
    matches!(view.observed.remote, Remote::Absent { proven: true })
        && first_absence(view).is_some_and(|since| view.instant.duration_since(since) >= ABSENCE_INTERVAL)
}

/// Records a proven absence after a DELETE: the first in memory, the second in what was observed.
pub fn record_absence(memory: &mut InMemoryState, remote: &mut Remote, id: &str, instant: Instant) {
    if freshness::note_absence(memory, id, true, instant).is_none() {
        *remote = Remote::Absent { proven: true };
    }
}

/// When a DELETE first found a proven absence.
fn first_absence(view: &PlanInput) -> Option<Instant> {
    view.memory.absence.as_ref().filter(|first| first.to_delete).map(|first| first.since)
}

/// How long until the absence is checked a second time.
fn time_until_recheck(view: &PlanInput) -> Option<Duration> {
    let since = first_absence(view)?;
    ABSENCE_INTERVAL.checked_sub(view.instant.duration_since(since)).filter(|rest| !rest.is_zero())
}

fn blocked(reason: Reason, message: String, again: Duration) -> Plan {
    Conclusion::of(ConclusionKind::Blocked { again }, reason, message).settled()
}

#[cfg(test)]
mod tests;
