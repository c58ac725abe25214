//! Whether the reconcile of a Channel is urgent, from the object alone; works on cached objects as well.

use kube::ResourceExt;

use crate::api::channel::{Channel, ChannelStatus, Remainder};
use crate::api::conditions::{Reason, kind};
use crate::api::values::{Origin, RemoteState};
use crate::api::{annotation, same_id};
use crate::channel::binding;
use crate::channel::plan::delete;
use crate::secret_id::SecretId;
use crate::secret_version::Version;
use crate::{conditions, text};

/// Whether the reconcile is not urgent: the Channel is Ready for its manifest, and no user requested a reconcile.
pub fn settled(channel: &Channel) -> bool {
    if let Some(kept) = remainder(channel) {
        return kept.settled;
    }
    let Some(status) = &channel.status else { return false };
    let requested =
        channel.annotations().get(annotation::RECONCILE_REQUESTED).map(|value| text::cut_request(value));
    conditions::is_true(&status.conditions, kind::READY)
        && status.observed_generation == channel.metadata.generation
        && status.last_handled_reconcile_at == requested
        && channel.metadata.deletion_timestamp.is_none()
}

/// The Secrets that were pushed, of a Channel whose first reconcile after a restart can wait; `None` where it can't.
pub fn pushed_at_rest(channel: &Channel) -> Option<Vec<(SecretId, Version)>> {
    if let Some(kept) = remainder(channel) {
        return kept.pushed_at_rest.clone();
    }
    let status = channel.status.as_ref().filter(|status| !status.left_out)?;
    let rests = settled(channel) && test_is_over(channel, status) && is_whole(channel, status);
    let namespace = channel.namespace().unwrap_or_default();
    let sources = status.credentials.iter().flat_map(|credentials| &credentials.sources);
    let pushed = sources
        .map(|source| (SecretId::of(&namespace, &source.name), Version::present(&source.resource_version)));
    rests.then(|| pushed.collect())
}

fn remainder(channel: &Channel) -> Option<&Remainder> {
    channel.spec.left_out.as_ref()?.kept.as_ref()
}

/// Whether a Ready Channel has every field that this version writes. A Channel that was replaced, restored or edited
/// while no operator ran does not, and is reconciled immediately.
fn is_whole(channel: &Channel, status: &ChannelStatus) -> bool {
    let observes = channel.spec.is_observe();
    let policy = delete::policy_in_force(channel, status).as_str();
    let holds = |kind| conditions::is_true(&status.conditions, kind);
    let said = !holds(kind::RECONCILING)
        && !holds(kind::STALLED)
        && !holds(kind::DELETION_BLOCKED)
        && holds(kind::DRIFTED) != status.drift.is_empty()
        && status.create.is_none()
        && status.deletion_policy.as_deref() == Some(policy)
        && (observes || status.planned_changes.is_empty());
    said && ready_is_whole(channel, status, observes) && binding_is_whole(channel, status, observes)
}

/// Ready describes this generation, with a reason that matches the policy and the state.
fn ready_is_whole(channel: &Channel, status: &ChannelStatus, observes: bool) -> bool {
    let Some(ready) = conditions::find(&status.conditions, kind::READY) else { return false };
    if ready.observed_generation != channel.metadata.generation {
        return false;
    }
    if observes {
        return ready.reason == Reason::Observed.as_str();
    }
    let enabled = channel.spec.enabled;
    let reason = if enabled == Some(false) { Reason::Disabled } else { Reason::Available };
    let applied = status.applied.as_ref().and_then(|applied| applied.enabled);
    let pushed = conditions::is_true(&status.conditions, kind::CREDENTIALS_APPLIED);
    ready.reason == reason.as_str()
        && status.state() == RemoteState::Active
        && (enabled.is_none() || applied == enabled)
        && (!pushed || status.credentials.is_some())
        && status.provisioning.as_ref().is_none_or(|past| past.attempts == 0)
}

/// The id is bound to this object, with the finalizer, and with its own intent where the operator created the channel.
fn binding_is_whole(channel: &Channel, status: &ChannelStatus, observes: bool) -> bool {
    let bound = status.bound_to(channel.metadata.uid.as_deref().unwrap_or_default());
    let named = channel.spec.channel_id.as_deref();
    if observes {
        // With Observe, the operator reads the named channel and binds nothing.
        return match &status.channel_id {
            Some(_) => bound.is_some(),
            None => named.is_some(),
        };
    }
    let marked = channel.has_finalizer();
    let intended = match status.origin() {
        Some(Origin::Created) => binding::is_own_intent(channel),
        Some(Origin::Adopted) => true,
        None => false,
    };
    let fits = bound.is_some_and(|id| named.is_none_or(|named| same_id(named, id)));
    fits && marked && intended && status.workspace_id.is_some() && status.read_with.is_some()
}

/// No connectivity test is requested, and every recorded test has a result.
fn test_is_over(channel: &Channel, status: &ChannelStatus) -> bool {
    let asked = channel.annotations().get(annotation::TEST_REQUESTED).map(|value| text::cut_request(value));
    let test = status.test.clone().unwrap_or_default();
    (asked.is_none() || asked == test.handled_request) && (test.request.is_none() || test.result.is_some())
}

#[cfg(test)]
mod tests;
