//! Which reads may be older than a write: the consistency window of each channel id.
//!
//! oHallo may be eventually consistent; it documents no guarantee. During the window after a write, a read that
//! contradicts the write's response counts as stale, and no decision depends on it. The same holds after the start of
//! the process and after each acquisition of the Lease, because another process may have written just before.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::api::canonical_id;
use crate::lease::election::Epoch;

/// The maximum interval between two reads inside a window.
const MAX_STALE_POLL: Duration = Duration::from_secs(16);

/// The windows of this process. An entry ends with its last window.
#[derive(Debug)]
pub struct Consistency {
    length: Duration,
    epoch: Option<Epoch>,
    /// The start of the process, or the last acquisition of the Lease.
    began: Instant,
    /// By [`canonical_id`].
    writes: HashMap<String, Writes>,
}

/// When each kind of write to one channel was last answered.
#[derive(Clone, Debug, Default)]
struct Writes {
    /// Any write except DELETE: the channel existed.
    any: Option<Instant>,
    values: Option<(Instant, Values)>,
    retry: Option<Instant>,
    deleted: Option<Instant>,
}

/// A write whose response was received or lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// A create, or a PATCH with `displayName` or `config`.
    Values(Values),
    /// A provisioning retry.
    Retry,
    /// A PATCH of `enabled` alone, credentials, or a test: none of these can be read back.
    Other,
    /// A DELETE that succeeded.
    Delete,
}

/// What was written, and what the response showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Values {
    /// [`PlanInput::values_digest`] of the declared values.
    pub declared: String,
    pub answer: Answer,
}

/// The digests are [`answer_digest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The response has every declared value.
    Shows(String),
    /// The response has other values: old or normalised ones.
    Differs(String),
    /// The response was lost.
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
    /// A read that finds the channel may be older than a successful DELETE.
    pub deleted: Option<Instant>,
    /// Any read may be older than a write of an earlier process or of another leader.
    pub began: Option<Instant>,
}

/// Whether the `displayName` and `config` of a read can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFreshness {
    /// It is at least as new as the last write.
    Current,
    /// It contradicts the last write's response; the window ends at this time.
    Stale(Instant),
    /// Both the last write's response and the read have other values: not sent again before this time.
    Kept(Instant),
    /// The manifest is newer than the last write, and the read may be older than that write: all declared values are
    /// sent, whatever the read shows.
    Doubtful,
}

// === impl Consistency ===

impl Consistency {
    /// With a `length` of zero every read is trusted.
    pub fn new(length: Duration, now: Instant) -> Self {
        Self { length, epoch: None, began: now, writes: HashMap::new() }
    }

    /// When this process becomes the leader, another one may have written until now.
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
            // After a successful DELETE a 404 is expected, whoever wrote before.
            absence: writes.any.and_then(open).max(began.filter(|_| deleted.is_none())),
            values: values.and_then(|(at, values)| Some((open(*at)?, values.clone()))),
            retry: writes.retry.and_then(open),
            deleted,
            began,
        }
    }

    /// Removes the ids whose windows have all ended.
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

/// When a stale read is repeated: after 1, 2, 4 … s, and no later than the window ends. `stale` counts the stale reads
/// in a row so far.
pub fn next_stale_poll(stale: u32, end: Instant, now: Instant) -> Duration {
    let wait = Duration::from_secs(1).saturating_mul(1 << stale.min(16)).min(MAX_STALE_POLL);
    wait.min(end.saturating_duration_since(now)).max(Duration::from_millis(200))
}

#[cfg(test)]
mod tests;
