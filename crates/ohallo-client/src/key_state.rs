//! State that all reconciles with one API key share, and rates of a Workspace that outlive its key: rate limits, and
//! the outcome of the key's last calls.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::clock;
use ohallo_core::index::WorkspaceKey;
use ohallo_core::rate_limiter::{Claimant, Limiter, Namespace, Refusal};
use ohallo_core::secret::{ApiKey, KeyId, Redactor};

/// How long a good response proves that oHallo is available to the key.
const FRESH: Duration = Duration::from_secs(30);
/// How long an unused key remembers that the outcome of a create is unknown.
const AMBIGUITY_TTL: Duration = Duration::from_secs(600);
/// The wait of a create that must follow another one.
const AFTER_ANOTHER: Duration = Duration::from_secs(1);
/// How often unused keys and Workspaces are removed.
const SWEEP: Duration = Duration::from_secs(10);
/// The burst of key checks of one Workspace; after it, one each [`CHECK_INTERVAL`]. It bounds the calls that endless
/// key rotation causes.
const CHECK_BURST: u32 = 5;
const CHECK_INTERVAL: Duration = Duration::from_secs(3);

/// The keys and Workspaces in use.
pub(super) struct Keys {
    rate: f64,
    burst: u32,
    /// Of all keys.
    total: Mutex<Limiter>,
    used: Mutex<Used>,
}

#[derive(Default)]
struct Used {
    keys: HashMap<KeyId, Arc<KeyState>>,
    workspaces: HashMap<WorkspaceKey, Arc<WorkspaceState>>,
    swept: Option<Instant>,
}

pub(super) struct KeyState {
    standing: Mutex<Standing>,
    redactor: OnceLock<Redactor>,
}

struct Standing {
    limiter: Limiter,
    last_used: Instant,
    last_good: Option<Instant>,
    /// Since when the outcome of a create is unknown, without a later successful create.
    ambiguous: Option<Instant>,
    /// Creates that are permitted or in flight.
    creating: usize,
}

/// The rate of a Workspace over all its keys: a rotated key gets no new burst.
pub(super) struct WorkspaceState {
    calls: Mutex<Limiter>,
    checks: Mutex<Limiter>,
}

/// The three rates that limit a call with one key of one Workspace.
#[derive(Clone)]
pub(super) struct Rates {
    pub(super) key: Arc<KeyState>,
    workspace: Arc<WorkspaceState>,
}

/// Which rate delayed a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// The rate of the key or its Workspace.
    Key(Refusal),
    /// The rate of all keys.
    All(Refusal),
}

/// Counts a create as in flight until it is dropped. A create that was sent and ends neither done nor without effect,
/// by its response or because its task was dropped, makes the key ambiguous.
pub(super) struct Creating {
    state: Arc<KeyState>,
    unsettled: bool,
}

// === impl Keys ===

impl Keys {
    /// Rates in calls per second, for each key and for all keys; 0 means no limit.
    pub(super) fn new(rate: f64, burst: u32, total: f64) -> Self {
        // The burst for all keys is one second of the rate, and at least the burst of one key.
        let total_burst = burst.max(total.clamp(0.0, f64::from(u32::MAX)) as u32);
        let total = Mutex::new(Limiter::new(total, total_burst));
        Self { rate, burst, total, used: Mutex::default() }
    }

    pub(super) fn get(&self, id: KeyId, workspace: &WorkspaceKey, now: Instant) -> Rates {
        let mut used = lock(&self.used);
        used.sweep(now);
        let new = || Arc::new(KeyState::new(Limiter::new(self.rate, self.burst), now));
        let key = Arc::clone(used.keys.entry(id).or_insert_with(new));
        lock(&key.standing).last_used = now;
        let workspace = used.workspace(workspace, || WorkspaceState::new(self.rate, self.burst));
        Rates { key, workspace }
    }

    /// Takes the tokens for `tokens` calls from all three rates, or from none.
    pub(super) fn take(
        &self,
        rates: &Rates,
        claimant: &Claimant,
        tokens: u32,
        now: Instant,
    ) -> Result<(), Wait> {
        let mut key = lock(&rates.key.standing);
        let mut workspace = lock(&rates.workspace.calls);
        let mut total = lock(&self.total);
        let of_key = key.limiter.check(claimant, tokens, now);
        // Another Workspace of the key may have tokens.
        let of_workspace = workspace.check(claimant, tokens, now);
        let of_workspace = of_workspace.map_err(|refusal| Refusal { for_all: false, ..refusal });
        if let Some(refusal) = [of_key, of_workspace].into_iter().filter_map(Result::err).max() {
            return Err(Wait::Key(refusal));
        }
        total.check(claimant, tokens, now).map_err(Wait::All)?;
        key.limiter.spend(claimant, tokens);
        workspace.spend(claimant, tokens);
        total.spend(claimant, tokens);
        Ok(())
    }

    pub(super) fn refund(&self, rates: &Rates, namespace: &Namespace, tokens: u32) {
        lock(&rates.key.standing).limiter.refund(namespace, tokens);
        lock(&rates.workspace.calls).refund(namespace, tokens);
        lock(&self.total).refund(namespace, tokens);
    }

    /// Counts a key check of a Workspace.
    ///
    /// # Errors
    /// How long until the check is allowed.
    pub(super) fn check(&self, workspace: &WorkspaceKey, now: Instant) -> Result<(), Duration> {
        let mut used = lock(&self.used);
        used.sweep(now);
        let state = used.workspace(workspace, || WorkspaceState::new(self.rate, self.burst));
        let mut checks = lock(&state.checks);
        let claimant = Claimant { namespace: workspace.namespace.as_deref().map(Into::into), running: false };
        checks.check(&claimant, 1, now).map_err(|refusal| refusal.wait)?;
        checks.spend(&claimant, 1);
        Ok(())
    }

    /// Removes entries that equal a new one.
    pub(super) fn sweep(&self, now: Instant) {
        lock(&self.used).sweep(now);
    }

    /// The number of keys and Workspaces with an entry.
    pub(super) fn len(&self) -> (usize, usize) {
        let used = lock(&self.used);
        (used.keys.len(), used.workspaces.len())
    }
}

// === impl Used ===

impl Used {
    fn workspace(
        &mut self,
        handle: &WorkspaceKey,
        new: impl FnOnce() -> WorkspaceState,
    ) -> Arc<WorkspaceState> {
        Arc::clone(self.workspaces.entry(handle.clone()).or_insert_with(|| Arc::new(new())))
    }

    /// Removes entries that equal a new one. Not at each call: the cost grows with the number of keys.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < SWEEP) {
            return;
        }
        self.swept = Some(now);
        self.keys.retain(|_, state| Arc::strong_count(state) > 1 || !lock(&state.standing).is_as_new(now));
        self.workspaces.retain(|_, state| Arc::strong_count(state) > 1 || !state.is_as_new(now));
    }
}

// === impl WorkspaceState ===

impl WorkspaceState {
    fn new(rate: f64, burst: u32) -> Self {
        let checks = Limiter::new(1.0 / CHECK_INTERVAL.as_secs_f64(), CHECK_BURST);
        Self { calls: Mutex::new(Limiter::new(rate, burst)), checks: Mutex::new(checks) }
    }

    fn is_as_new(&self, now: Instant) -> bool {
        lock(&self.calls).is_full(now) && lock(&self.checks).is_full(now)
    }
}

// === impl Standing ===

impl Standing {
    fn is_as_new(&mut self, now: Instant) -> bool {
        let past = |at: Option<Instant>, time| at.is_none_or(|at| now.saturating_duration_since(at) > time);
        let unsettled = self.ambiguous.map(|_| self.last_used);
        self.creating == 0
            && past(self.last_good, FRESH)
            && past(unsettled, AMBIGUITY_TTL)
            && self.limiter.is_full(now)
    }
}

// === impl KeyState ===

impl KeyState {
    fn new(limiter: Limiter, now: Instant) -> Self {
        let standing = Standing { limiter, last_used: now, last_good: None, ambiguous: None, creating: 0 };
        Self { standing: Mutex::new(standing), redactor: OnceLock::new() }
    }

    /// The redactor for oHallo's responses to `key`, which must be this state's key; created once.
    pub(super) fn redactor(&self, key: &ApiKey) -> &Redactor {
        self.redactor.get_or_init(|| Redactor::of(key))
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

    /// Admits a create.
    ///
    /// # Errors
    /// The wait, while the outcome of the key's last create is unknown and another one is in flight.
    pub(super) fn permit_create(self: &Arc<Self>) -> Result<Creating, Duration> {
        let mut standing = lock(&self.standing);
        if standing.ambiguous.is_some() && standing.creating > 0 {
            return Err(AFTER_ANOTHER);
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

    /// From this call on, a drop means that the outcome is unknown.
    pub(super) fn sending(&mut self) {
        self.unsettled = true;
    }

    /// The create succeeded: the key's creates can run concurrently again.
    pub(super) fn done(&mut self) {
        self.unsettled = false;
        self.state.clear_ambiguity();
    }

    /// The create had no effect; the outcome of others remains as it was.
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

/// Ignores poisoning: the guarded state is consistent at every step, also after a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
