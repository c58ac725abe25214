// pure
//! Which oHallo channels a Channel leaves behind when its object disappears without a deletion by this operator.

use std::fmt;
use std::sync::Arc;

use kube::ResourceExt;

use super::create::{self, Facts, Standing};
use super::memory::Memory;
use crate::api::channel::Channel;
use crate::api::{annotation, canonical_id, finalizer};

/// An oHallo channel that no object stands for any more, or may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Orphan {
    Channel(String),
    /// A create whose outcome is not known.
    Attempt(create::Attempt),
}

/// What a Channel last said of its oHallo channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastSeen {
    pub uid: String,
    /// The id that it was bound to.
    pub bound: Option<String>,
    pub create: Option<Arc<CreateRecord>>,
    /// [`finalizer_removed`] of the object.
    pub finalizer_removed: bool,
}

/// What a Channel that is not bound says of the creates that were sent for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateRecord {
    intent: Option<String>,
    create_again: Option<String>,
    /// `status.create`: attempt and outcome.
    recorded: Option<(i64, String)>,
    /// `status.channelId` is set, and was not bound to this object.
    foreign: bool,
}

/// Whether the operator removed its finalizer from this very object, which others keep. The same for an object of the cache.
pub fn finalizer_removed(channel: &Channel) -> bool {
    if let Some(kept) = channel.spec.left_out.as_ref().and_then(|left_out| left_out.kept.as_ref()) {
        return kept.finalizer_removed;
    }
    let of = channel.annotations().get(annotation::FINALIZER_REMOVED);
    of.is_some() && of == channel.metadata.uid.as_ref()
}

/// Whether other finalizers alone keep the object.
pub fn is_unprotected(channel: &Channel) -> bool {
    channel.metadata.deletion_timestamp.is_some()
        && !channel.finalizers().iter().any(|name| name == finalizer::CHANNEL)
}

/// What the object leaves behind, as it was last seen and as far as this process remembers it.
pub fn orphans(last: &LastSeen, memory: &Memory) -> Vec<Orphan> {
    // What says so may be forged while this process leads.
    let removed_before = last.finalizer_removed && !memory.protected;
    if removed_before || memory.parted || memory.removes_finalizer || memory.deleted {
        return Vec::new();
    }
    let none = CreateRecord::default();
    let record = last.create.as_deref().unwrap_or(&none);
    // The status may have been written after the object was last seen.
    let bound = last.bound.as_ref().or(memory.binding.as_ref().map(|binding| &binding.channel_id));
    let standing = create::standing(&Facts {
        uid: &last.uid,
        terminating: true,
        status_id: bound.map(String::as_str).or(record.foreign.then_some("of another object")),
        bound_uid: bound.map(|_| last.uid.as_str()),
        intent: record.intent.as_deref(),
        recorded: record.recorded.as_ref().map(|(attempt, outcome)| (*attempt, outcome.as_str())),
        create_again: record.create_again.as_deref(),
        remembered: memory.attempt.as_ref().map(super::memory::Attempt::remembered),
        ..Facts::default()
    });
    let attempt = |number| create::Attempt { uid: last.uid.clone(), number };
    match standing {
        Standing::Bound(id) | Standing::Record { id, .. } => vec![Orphan::Channel(id)],
        Standing::TwoIds { answered, declared } => [answered, declared].map(Orphan::Channel).into(),
        Standing::MayExist(attempt) => vec![Orphan::Attempt(attempt)],
        Standing::InFlight => {
            let number = memory.attempt.as_ref().map_or(0, |own| own.number);
            vec![Orphan::Attempt(attempt(number))]
        }
        Standing::NothingThere
        | Standing::ForeignStatus(_)
        | Standing::Adopt(_)
        | Standing::NotCreated
        | Standing::Create { .. }
        | Standing::OutcomeUnknown(_) => Vec::new(),
    }
}

// === impl LastSeen ===

impl LastSeen {
    pub fn of(channel: &Channel) -> Self {
        let uid = channel.uid().unwrap_or_default();
        let bound = channel.status.as_ref().and_then(|status| status.bound_to(&uid));
        let bound = bound.map(|id| canonical_id(id).into_owned());
        let finalizer_removed = finalizer_removed(channel);
        Self { create: CreateRecord::of(channel), bound, uid, finalizer_removed }
    }
}

// === impl CreateRecord ===

impl CreateRecord {
    /// `None` for a bound object, and where nothing was ever sent. The same for an object of the cache.
    pub fn of(channel: &Channel) -> Option<Arc<Self>> {
        if let Some(kept) = channel.spec.left_out.as_ref().and_then(|left_out| left_out.kept.as_ref()) {
            return kept.create.clone();
        }
        let status = channel.status.as_ref();
        let uid = channel.metadata.uid.as_deref().unwrap_or_default();
        if status.is_some_and(|status| status.bound_to(uid).is_some()) {
            return None;
        }
        let annotation = |name: &str| channel.annotations().get(name).cloned();
        let recorded = status.and_then(|status| status.create.as_ref());
        let record = Self {
            intent: annotation(annotation::CREATE_INTENT),
            create_again: annotation(annotation::CREATE_AGAIN),
            recorded: recorded.map(|create| (create.attempt, create.outcome.clone())),
            foreign: status.is_some_and(|status| status.channel_id.is_some()),
        };
        (record.intent.is_some() || record.recorded.is_some()).then(|| Arc::new(record))
    }
}

impl fmt::Display for Orphan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(id) => f.write_str(id),
            Self::Attempt(attempt) => attempt.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests;
