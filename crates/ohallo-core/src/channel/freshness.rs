//! Judges a read against the consistency windows: whether it may be older than a write.

use std::time::{Duration, Instant};

use crate::api::canonical_id;
use crate::channel::config::{self, Differs};
use crate::channel::consistency::{Answer, ReadFreshness};
use crate::channel::in_memory_state::{ABSENCE_INTERVAL, Absence, InMemoryState};
use crate::channel::model::PlanInput;
use crate::remote::RemoteChannel;

/// SHA-256 of the `displayName` and `config` that oHallo answered.
pub fn answer_digest(remote: &RemoteChannel) -> String {
    config::digest(remote.display_name.as_deref().unwrap_or_default(), Some(&remote.config), None)
}

/// Judges a read of a bound channel, whose values differ from the declared ones at `differs`.
pub fn judge_read(view: &PlanInput, remote: &RemoteChannel, differs: &[Differs]) -> ReadFreshness {
    // What was found is the answer to this reconcile's own write.
    if view.observed.updated {
        return ReadFreshness::Current;
    }
    let window = &view.observed.window;
    let Some((end, sent)) = &window.values else {
        return window.began.map_or(ReadFreshness::Current, |end| judge_first(view, differs, end));
    };
    if sent.declared == view.values_digest() {
        return match sent.answer {
            // It is sent again: what the read shows may be older than an earlier write.
            Answer::Lost => ReadFreshness::Doubtful,
            _ if differs.is_empty() => ReadFreshness::Current,
            Answer::Shows(_) => ReadFreshness::Stale(*end),
            Answer::Differs(_) => ReadFreshness::Kept(*end),
        };
    }
    match &sent.answer {
        Answer::Shows(digest) | Answer::Differs(digest) if *digest == answer_digest(remote) => {
            ReadFreshness::Current
        }
        _ => ReadFreshness::Doubtful,
    }
}

/// A read shortly after the start: only the status says what was written last.
fn judge_first(view: &PlanInput, differs: &[Differs], end: Instant) -> ReadFreshness {
    let applied = view.status.applied.as_ref().and_then(|applied| applied.digest.as_deref());
    match applied {
        // What this process adopts an earlier one may have adopted and updated before a status said so, but not without the
        // finalizer.
        _ if view.memory.bound_by_this_process
            && (applied.is_some() || view.memory.finalizer_set_by_this_process) =>
        {
            ReadFreshness::Current
        }
        // An earlier process may have written for a manifest that no status speaks of.
        _ if view.memory.doubted => ReadFreshness::Doubtful,
        Some(applied) if applied == view.digest() && differs.is_empty() => ReadFreshness::Current,
        Some(applied) if applied == view.digest() => ReadFreshness::Stale(end),
        _ => ReadFreshness::Doubtful,
    }
}

/// Notes a 404 outside every window, with proof that the key is the tenant's. `None`: it is the second one, far enough
/// from the first, and the channel is absent. Else how long until it counts as the second. `to_delete`: it answered a
/// DELETE.
pub fn note_absence(memory: &mut InMemoryState, id: &str, to_delete: bool, now: Instant) -> Option<Duration> {
    let id = canonical_id(id);
    match &memory.absence {
        Some(first) if first.id == *id && first.to_delete == to_delete => ABSENCE_INTERVAL
            .checked_sub(now.saturating_duration_since(first.since))
            .filter(|rest| !rest.is_zero()),
        _ => {
            memory.absence = Some(Absence { id: id.into_owned(), to_delete, since: now });
            Some(ABSENCE_INTERVAL)
        }
    }
}
