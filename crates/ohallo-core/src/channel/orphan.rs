//! The oHallo channels that a Channel orphans when its object disappears without a deletion by this operator.

use std::fmt;

use crate::api::channel::CreateRecord;
use crate::channel::binding::{self, BindingFacts, DeletionBinding};
use crate::channel::in_memory_state::{CreateAttempt, InMemoryState};
use crate::channel::last_seen::LastSeen;

/// An oHallo channel that no object manages any more, or a create that may have left one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Orphan {
    Channel(String),
    /// A create whose outcome is not known.
    Attempt(binding::AttemptId),
}

/// What the object orphans, from its last version and from what this process remembers.
pub fn orphans(last: &LastSeen, memory: &InMemoryState) -> Vec<Orphan> {
    // The marker may be forged while this process is the leader.
    let removed_before = last.finalizer_removed && !memory.protected;
    if removed_before || memory.deletion_reported || memory.removes_finalizer || memory.deleted {
        return Vec::new();
    }
    let none = CreateRecord::default();
    let record = last.create.as_deref().unwrap_or(&none);
    // The status may have been written after the object was last seen.
    let bound = last.bound.as_ref().or(memory.binding.as_ref().map(|binding| &binding.channel_id));
    let standing = binding::deletion_binding(&BindingFacts {
        uid: &last.uid,
        status_id: bound.map(String::as_str).or(record.foreign.then_some("of another object")),
        bound_uid: bound.map(|_| last.uid.as_str()),
        intent: record.intent.as_deref(),
        recorded: record.recorded,
        create_again: record.create_again.as_deref(),
        remembered: memory.attempt.as_ref().map(CreateAttempt::remembered),
        ..BindingFacts::default()
    });
    let attempt = |number| binding::AttemptId { uid: last.uid.clone(), number };
    match standing {
        DeletionBinding::Bound(id) | DeletionBinding::Record { id, .. } => vec![Orphan::Channel(id)],
        DeletionBinding::ConflictingIds { answered, declared } => {
            [answered, declared].map(Orphan::Channel).into()
        }
        DeletionBinding::UnresolvedCreate(attempt) => vec![Orphan::Attempt(attempt)],
        DeletionBinding::InFlight => {
            let number = memory.attempt.as_ref().map_or(0, |own| own.number);
            vec![Orphan::Attempt(attempt(number))]
        }
        DeletionBinding::NeverCreated | DeletionBinding::StatusOfOtherObject(_) => Vec::new(),
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
