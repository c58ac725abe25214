// I/O
//! What all passes under one API key share: rate, slots, and what its last answers say.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::slots::{Slot, Slots, Wake};
use crate::clock;
use crate::ohallo::limiter::{Lane, Limiter};
use crate::secret::{ApiKey, KeyId, Redactor};

/// How long a good answer proves that the key's oHallo is there.
const FRESH: Duration = Duration::from_secs(30);
/// How long a key that nobody uses is remembered.
const IDLE: Duration = Duration::from_secs(3600);
/// The wait of a create that another one must end before.
const AFTER_ANOTHER: Duration = Duration::from_secs(1);
/// The wait of a pass for which no slot is free, should nobody wake it before.
pub(super) const BUSY: Duration = Duration::from_secs(10);

/// The keys in use.
#[derive(Default)]
pub(super) struct Keys(Mutex<HashMap<KeyId, Arc<KeyState>>>);

pub(super) struct KeyState {
    redactor: Redactor,
    slots: Arc<Slots>,
    standing: Mutex<Standing>,
}

struct Standing {
    limiter: Limiter,
    last_used: Instant,
    last_good: Option<Instant>,
    /// Since when a create's outcome is unknown and none was done.
    ambiguous: Option<Instant>,
    /// Creates permitted or under way.
    creating: usize,
}

/// A create's place: while it lives, it counts as under way. One that was sent and ends neither done nor without
/// effect, be it by an answer or because its task was dropped, leaves the key ambiguous.
pub(super) struct Creating {
    state: Arc<KeyState>,
    unsettled: bool,
}

// === impl Keys ===

impl Keys {
    pub(super) fn get(
        &self,
        key: &ApiKey,
        now: Instant,
        new: impl FnOnce() -> (Limiter, usize),
    ) -> Arc<KeyState> {
        let mut keys = lock(&self.0);
        keys.retain(|_, state| Arc::strong_count(state) > 1 || !state.is_idle(now));
        let state = keys.entry(key.id()).or_insert_with(|| {
            let (limiter, slots) = new();
            Arc::new(KeyState::new(Redactor::of(key), limiter, slots, now))
        });
        lock(&state.standing).last_used = now;
        Arc::clone(state)
    }

    pub(super) fn waiting(&self, now: Instant) -> usize {
        lock(&self.0).values().map(|state| state.slots.waiting(now)).sum()
    }
}

// === impl KeyState ===

impl KeyState {
    fn new(redactor: Redactor, limiter: Limiter, slots: usize, now: Instant) -> Self {
        Self {
            redactor,
            slots: Arc::new(Slots::new(slots)),
            standing: Mutex::new(Standing {
                limiter,
                last_used: now,
                last_good: None,
                ambiguous: None,
                creating: 0,
            }),
        }
    }

    /// Of what oHallo answers under this key.
    pub(super) fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    fn is_idle(&self, now: Instant) -> bool {
        now.saturating_duration_since(lock(&self.standing).last_used) > IDLE
    }

    /// A slot for the calls of one pass, if one is free; else `who` is woken when one is.
    pub(super) fn slot(&self, who: &str, wake: &Wake) -> Option<Slot> {
        self.slots.take(who, wake, clock::instant())
    }

    /// The token of one call, or the wait for it.
    pub(super) fn take(&self, who: &str, lane: Lane, now: Instant) -> Result<(), Duration> {
        lock(&self.standing).limiter.take(who, 1, lane, now)
    }

    /// After a refusal: reserves the `made` calls of the pass and the refused one, so that the next pass, which
    /// begins again, comes past it. Answers the wait for all of them.
    pub(super) fn reserve(&self, who: &str, made: u32, lane: Lane, now: Instant) -> Duration {
        lock(&self.standing).limiter.reserve(who, made.saturating_add(1), lane, now)
    }

    pub(super) fn release(&self, who: &str) {
        lock(&self.standing).limiter.release(who);
    }

    pub(super) fn pause(&self, until: Instant) {
        lock(&self.standing).limiter.pause(until);
    }

    pub(super) fn answered_well(&self, now: Instant) {
        let mut standing = lock(&self.standing);
        standing.last_good = standing.last_good.max(Some(now));
    }

    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        let last = lock(&self.standing).last_good;
        last.is_some_and(|last| now.saturating_duration_since(last) <= FRESH)
    }

    pub(super) fn is_good_since(&self, since: Instant) -> bool {
        lock(&self.standing).last_good.is_some_and(|last| last >= since)
    }

    pub(super) fn ambiguous_since(&self) -> Option<Instant> {
        lock(&self.standing).ambiguous
    }

    pub(super) fn clear_ambiguity(&self) {
        lock(&self.standing).ambiguous = None;
    }

    /// Token and turn for a create.
    pub(super) fn permit_create(
        self: &Arc<Self>,
        who: &str,
        made: u32,
        lane: Lane,
        now: Instant,
    ) -> Result<Creating, Duration> {
        let mut standing = lock(&self.standing);
        if standing.ambiguous.is_some() && standing.creating > 0 {
            return Err(AFTER_ANOTHER);
        }
        if standing.limiter.take(who, 1, lane, now).is_err() {
            return Err(standing.limiter.reserve(who, made.saturating_add(1), lane, now));
        }
        standing.creating += 1;
        Ok(Creating { state: Arc::clone(self), unsettled: false })
    }
}

// === impl Creating ===

impl Creating {
    pub(super) fn state(&self) -> &KeyState {
        &self.state
    }

    /// From here on, being dropped means that the outcome is unknown.
    pub(super) fn sending(&mut self) {
        self.unsettled = true;
    }

    /// The create was done: the key's creates may go together again.
    pub(super) fn done(&mut self) {
        self.unsettled = false;
        self.state.clear_ambiguity();
    }

    /// The create had no effect, which says nothing about others.
    pub(super) fn without_effect(&mut self) {
        self.unsettled = false;
    }
}

impl Drop for Creating {
    fn drop(&mut self) {
        let mut standing = lock(&self.state.standing);
        standing.creating = standing.creating.saturating_sub(1);
        if self.unsettled {
            standing.ambiguous = Some(clock::instant());
        }
    }
}

/// What is guarded stays right at every step, so a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
