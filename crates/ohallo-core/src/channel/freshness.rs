//! Compares a read with the consistency windows: whether it may be older than a write.

use std::time::{Duration, Instant};

use crate::api::canonical_id;
use crate::channel::config::Differs;
use crate::channel::consistency::{Answer, ReadFreshness};
use crate::channel::declared::answer_digest;
use crate::channel::in_memory_state::{ABSENCE_INTERVAL, Absence, InMemoryState};
use crate::channel::model::PlanInput;
use crate::remote::RemoteChannel;

/// The freshness of a read of a bound channel, whose values differ from the declared ones at `differs`.
pub fn judge_read(view: &PlanInput, remote: &RemoteChannel, differs: &[Differs]) -> ReadFreshness {
    // The observed channel is the response to this reconcile's own write.
    if view.observed.updated {
        return ReadFreshness::Current;
    }
    let window = &view.observed.window;
    let Some((end, sent)) = &window.values else {
        return window.began.map_or(ReadFreshness::Current, |end| judge_first(view, differs, end));
    };
    if sent.declared == view.values_digest() {
        return match sent.answer {
            // The values are sent again: the read may be older than an earlier write.
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

/// A read shortly after the start: only the status records what was written last.
fn judge_first(view: &PlanInput, differs: &[Differs], end: Instant) -> ReadFreshness {
    let applied = view.status.applied.as_ref().and_then(|applied| applied.digest.as_deref());
    match applied {
        // An earlier process may have adopted and updated this channel before a status recorded it, but not without the
        // finalizer.
        _ if view.memory.bound_by_this_process
            && (applied.is_some() || view.memory.finalizer_set_by_this_process) =>
        {
            ReadFreshness::Current
        }
        // An earlier process may have written for a manifest that no status records.
        _ if view.memory.doubted => ReadFreshness::Doubtful,
        Some(applied) if applied == view.digest() && differs.is_empty() => ReadFreshness::Current,
        Some(applied) if applied == view.digest() => ReadFreshness::Stale(end),
        _ => ReadFreshness::Doubtful,
    }
}

/// Records a proven 404 outside every window. `None`: it is the second one, [`ABSENCE_INTERVAL`] after the first, and
/// the channel is deleted. Otherwise the time until a 404 counts as the second. `to_delete`: the 404 answered a DELETE.
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
