// pure
//! Which reads may be older than a write: the consistency window of each channel id.
//!
//! oHallo may be eventually consistent; nobody has said that it is not. For a while after a write, a read that
//! contradicts the write's answer is taken for a stale read, and no verdict is drawn from it. The same holds after the
//! start of the process and after each taking of the lease, because an earlier process may have written just before.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::config::{self, Differs};
use super::memory::{ABSENCE, Absence, Memory};
use super::plan::View;
use super::update;
use crate::api::canonical_id;
use crate::leader::Epoch;
use crate::ohallo::RemoteChannel;

/// The longest distance between two reads inside a window.
const LONGEST_POLL: Duration = Duration::from_secs(16);

/// The windows of this process. An entry ends with its last window.
#[derive(Debug)]
pub struct Consistency {
    length: Duration,
    epoch: Option<Epoch>,
    /// The start of the process, or the last taking of the lease.
    began: Instant,
    /// By [`canonical_id`].
    writes: HashMap<String, Writes>,
}

/// When each kind of write to one channel was last answered.
#[derive(Clone, Debug, Default)]
struct Writes {
    /// Any but DELETE: the channel was there.
    any: Option<Instant>,
    values: Option<(Instant, Values)>,
    retry: Option<Instant>,
    deleted: Option<Instant>,
}

/// A write that was answered, or whose answer was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// A create, or a PATCH with `displayName` or `config`.
    Values(Values),
    /// A provisioning retry.
    Retry,
    /// A PATCH of `enabled` alone, credentials, or a test: nothing of them can be read back.
    Other,
    /// A DELETE that was answered ok.
    Delete,
}

/// What was written, and what the answer said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Values {
    /// [`View::values_digest`] of what was declared.
    pub declared: String,
    pub answer: Answer,
}

/// The digests are [`answered`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The answer has every declared value.
    Shows(String),
    /// The answer has other values, old or normalised ones.
    Differs(String),
    /// The answer was lost.
    Lost,
}

/// The open windows of one channel id, each with its end. `None` is closed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    /// A 404 may be older than a write.
    pub absence: Option<Instant>,
    /// `displayName` and `config` may be older than the last write of them.
    pub values: Option<(Instant, Values)>,
    /// The state `error` may be older than the last provisioning retry.
    pub retry: Option<Instant>,
    /// A read that finds the channel may be older than a DELETE that was answered ok.
    pub deleted: Option<Instant>,
    /// Any read may be older than a write of an earlier process or of another leader.
    pub began: Option<Instant>,
}

/// What the `displayName` and `config` of a read are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// It is at least as new as the last write.
    Current,
    /// It contradicts the last write's answer, until this moment.
    Stale(Instant),
    /// The last write's answer had other values, and so has the read: not sent again before this moment.
    Kept(Instant),
    /// The manifest is newer than the last write, and the read may be older than that write: what it shows is no reason
    /// to leave a declared value out.
    Doubtful,
}

// === impl Consistency ===

impl Consistency {
    /// `length` of zero: every read is believed.
    pub fn new(length: Duration, now: Instant) -> Self {
        Self { length, epoch: None, began: now, writes: HashMap::new() }
    }

    /// Where this process has begun to lead, another one may have written until now.
    pub fn enter(&mut self, epoch: Epoch, now: Instant) {
        if self.epoch.replace(epoch) == Some(epoch) {
            return;
        }
        self.began = now;
        for writes in self.writes.values_mut() {
            (writes.values, writes.retry) = (None, None);
        }
    }

    pub fn wrote(&mut self, id: &str, write: Write, now: Instant) {
        if self.length.is_zero() {
            return;
        }
        let writes = self.writes.entry(canonical_id(id).into_owned()).or_default();
        match write {
            Write::Delete => *writes = Writes { deleted: Some(now), ..Writes::default() },
            Write::Values(values) => {
                writes.any = Some(now);
                writes.values = Some((now, values));
            }
            Write::Retry => (writes.any, writes.retry) = (Some(now), Some(now)),
            Write::Other => writes.any = Some(now),
        }
    }

    pub fn window(&self, id: &str, now: Instant) -> Window {
        let open = |at: Instant| Some(at + self.length).filter(|end| *end > now);
        let began = open(self.began);
        let Some(writes) = self.writes.get(&*canonical_id(id)) else {
            return Window { absence: began, began, ..Window::default() };
        };
        let values = writes.values.as_ref();
        let deleted = writes.deleted.and_then(open);
        Window {
            // A DELETE that was answered ok is what a 404 shows, whoever wrote before.
            absence: writes.any.and_then(open).max(began.filter(|_| deleted.is_none())),
            values: values.and_then(|(at, values)| Some((open(*at)?, values.clone()))),
            retry: writes.retry.and_then(open),
            deleted,
            began,
        }
    }

    /// Forgets the ids all windows of which have ended.
    pub fn sweep(&mut self, now: Instant) {
        let length = self.length;
        let open = |at: Option<Instant>| at.is_some_and(|at| at + length > now);
        self.writes.retain(|_, writes| open(writes.any) || open(writes.deleted));
        if self.writes.capacity() / 4 > self.writes.len() {
            self.writes.shrink_to_fit();
        }
    }

    /// How many ids have an entry.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

/// SHA-256 of the `displayName` and `config` that oHallo answered.
pub fn answered(remote: &RemoteChannel) -> String {
    config::digest(remote.display_name.as_deref().unwrap_or_default(), Some(&remote.config), None)
}

/// What an answer to a write of the declared values says.
pub fn answer(view: &View, remote: &RemoteChannel) -> Values {
    let digest = answered(remote);
    // What is only reported was not sent.
    let shows = update::due(view, &view.differences(remote)).0.is_empty();
    let answer = if shows { Answer::Shows(digest) } else { Answer::Differs(digest) };
    Values { declared: view.values_digest(), answer }
}

/// Judges a read of a bound channel, whose values differ from the declared ones at `differs`.
pub fn judge(view: &View, remote: &RemoteChannel, differs: &[Differs]) -> Read {
    // What was found is the answer to this reconcile's own write.
    if view.observed.updated {
        return Read::Current;
    }
    let window = &view.observed.window;
    let Some((end, sent)) = &window.values else {
        return window.began.map_or(Read::Current, |end| judge_first(view, differs, end));
    };
    if sent.declared == view.values_digest() {
        return match sent.answer {
            // It is sent again: what the read shows may be older than an earlier write.
            Answer::Lost => Read::Doubtful,
            _ if differs.is_empty() => Read::Current,
            Answer::Shows(_) => Read::Stale(*end),
            Answer::Differs(_) => Read::Kept(*end),
        };
    }
    match &sent.answer {
        Answer::Shows(digest) | Answer::Differs(digest) if *digest == answered(remote) => Read::Current,
        _ => Read::Doubtful,
    }
}

/// A read shortly after the start: only the status says what was written last.
fn judge_first(view: &View, differs: &[Differs], end: Instant) -> Read {
    let applied = view.status.applied.as_ref().and_then(|applied| applied.digest.as_deref());
    match applied {
        // What this process adopts an earlier one may have adopted and updated before a status said so, but not without the
        // finalizer.
        _ if view.memory.bound_here && (applied.is_some() || view.memory.marked_here) => Read::Current,
        // An earlier process may have written for a manifest that no status speaks of.
        _ if view.memory.doubted => Read::Doubtful,
        Some(applied) if applied == view.digest() && differs.is_empty() => Read::Current,
        Some(applied) if applied == view.digest() => Read::Stale(end),
        _ => Read::Doubtful,
    }
}

/// When a stale read is repeated: after 1, 2, 4 … s, and no later than the window ends. `stale` counts the stale reads
/// in a row so far.
pub fn again(stale: u32, end: Instant, now: Instant) -> Duration {
    let wait = Duration::from_secs(1).saturating_mul(1 << stale.min(16)).min(LONGEST_POLL);
    wait.min(end.saturating_duration_since(now)).max(Duration::from_millis(200))
}

/// Notes a 404 outside every window, with proof that the key is the tenant's. `None`: it is the second one, far enough
/// from the first, and the channel is absent. Else how long until it counts as the second. `to_delete`: it answered a
/// DELETE.
pub fn absent(memory: &mut Memory, id: &str, to_delete: bool, now: Instant) -> Option<Duration> {
    let id = canonical_id(id);
    match &memory.absent {
        Some(first) if first.id == *id && first.to_delete == to_delete => {
            ABSENCE.checked_sub(now.saturating_duration_since(first.since)).filter(|rest| !rest.is_zero())
        }
        _ => {
            memory.absent = Some(Absence { id: id.into_owned(), to_delete, since: now });
            Some(ABSENCE)
        }
    }
}

#[cfg(test)]
mod tests;
