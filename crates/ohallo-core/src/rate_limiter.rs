//! A rate limiter: a token bucket that namespaces share.
//!
//! No call blocks. A call without a token is refused with the time until its token is available, and keeps its place
//! for that time. Claimants are served in the order of their first refusal, so that running reconciles and the work
//! queue get equal shares.
//!
//! Three quarters of the burst are a reserve for light namespaces, as soon as more than one uses the bucket. A namespace is light
//! while it uses no more than its equal share of the rate, with a part of the burst on top, or less than half of what
//! the heaviest used. So a namespace at its limit does not delay the calls of another.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a place is kept after its tokens are available.
const PLACE_TTL: Duration = Duration::from_millis(500);
/// The maximum number of places; further claimants are refused without a place.
const MAX_PLACES: usize = 64;
/// The part of the burst that heavy namespaces leave to light ones.
const RESERVE: f64 = 0.75;
/// The maximum recorded use of a namespace above its share, in bursts.
const MAX_USAGE: f64 = 10.0;
/// How long a namespace that makes no calls counts among those that share the rate.
const NAMESPACE_TTL: Duration = Duration::from_secs(900);
/// Rounding of the bucket, in tokens.
const EPSILON: f64 = 1e-6;

/// A namespace; `None` for ClusterWorkspaces.
pub type Namespace = Option<Arc<str>>;

/// The requester of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimant {
    pub namespace: Namespace,
    /// A running reconcile, for its later calls; otherwise the work queue, for a reconcile to start.
    pub running: bool,
}

/// Why there are no tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// The time until tokens are available, at the current use.
    pub wait: Duration,
    /// No other namespace has tokens either.
    pub for_all: bool,
}

/// The rate limit of one API key, of one Workspace, or of all keys.
#[derive(Debug)]
pub struct Limiter {
    rate: f64,
    burst: f64,
    /// Negative after a claim above the burst.
    tokens: f64,
    /// The time up to which tokens were added.
    accounted: Option<Instant>,
    paused_until: Option<Instant>,
    places: VecDeque<Place>,
    namespaces: BTreeMap<Namespace, Usage>,
    /// When each namespace is removed, unless it has made calls since: one entry for each.
    ends: BTreeSet<(Instant, Namespace)>,
    /// The accumulated equal share of a namespace, in tokens.
    share: f64,
    /// The largest [`Usage::paid`].
    heaviest: f64,
}

#[derive(Debug)]
struct Place {
    claimant: Claimant,
    tokens: f64,
    /// The tokens that a heavy namespace leaves to others.
    reserve: f64,
    until: Instant,
}

/// The use of a namespace above its equal share of the rate.
#[derive(Clone, Copy, Debug)]
struct Usage {
    /// The value of the share that covers the use, in tokens.
    paid: f64,
    last: Instant,
}

// === impl Limiter ===

impl Limiter {
    /// `rate_per_second` 0 (or NaN) means no limit; a burst below 1 counts as 1.
    pub fn new(rate_per_second: f64, burst: u32) -> Self {
        let burst = f64::from(burst.max(1));
        Self {
            rate: if rate_per_second.is_finite() { rate_per_second.max(0.0) } else { 0.0 },
            burst,
            tokens: burst,
            accounted: None,
            paused_until: None,
            places: VecDeque::new(),
            namespaces: BTreeMap::new(),
            share: 0.0,
            ends: BTreeSet::new(),
            heaviest: 0.0,
        }
    }

    /// Whether the claimant can [`Self::spend`] this number of tokens now. A claim above the burst waits for a full bucket and
    /// leaves a debt, so that a reconcile with many calls is served as well.
    ///
    /// # Errors
    /// The claimant keeps its place until [`PLACE_TTL`] after the wait.
    pub fn check(&mut self, claimant: &Claimant, tokens: u32, now: Instant) -> Result<(), Refusal> {
        let paused = self.paused(now);
        if self.rate <= 0.0 {
            return paused.map_or(Ok(()), |wait| Err(Refusal { wait, for_all: true }));
        }
        self.account(now);
        let reserve = self.left_to_others(&claimant.namespace, f64::from(tokens), now);
        let wanted = (f64::from(tokens) + reserve).min(self.burst);
        let place = self.places.iter().position(|place| place.claimant == *claimant);
        let before = self.places.iter().take(place.unwrap_or(usize::MAX));
        let ahead: f64 = before.filter(|place| place.reserve <= reserve).map(|place| place.tokens).sum();
        let missing = wanted + ahead - self.tokens;
        if paused.is_none() && missing <= EPSILON {
            return Ok(());
        }
        // Rounded up by a nanosecond, so that the tokens are available after the wait.
        let wait = Duration::try_from_secs_f64(missing.max(0.0) / self.rate).unwrap_or(Duration::MAX / 4);
        let wait = paused.unwrap_or_default().saturating_add(wait).saturating_add(Duration::from_nanos(1));
        let until = now.checked_add(wait.saturating_add(PLACE_TTL)).unwrap_or(now);
        let tokens = f64::from(tokens).min(self.burst);
        if let Some(place) = place {
            if let Some(place) = self.places.get_mut(place) {
                (place.tokens, place.reserve, place.until) = (tokens, reserve, until);
            }
        } else if self.places.len() < MAX_PLACES {
            self.places.push_back(Place { claimant: claimant.clone(), tokens, reserve, until });
        }
        Err(Refusal { wait, for_all: reserve <= 0.0 || paused.is_some() })
    }

    /// Takes tokens that [`Self::check`] found.
    pub fn spend(&mut self, claimant: &Claimant, tokens: u32) {
        if self.rate <= 0.0 {
            return;
        }
        self.tokens -= f64::from(tokens);
        self.places.retain(|place| place.claimant != *claimant);
        let most = self.share + MAX_USAGE * self.burst;
        if let Some(usage) = self.namespaces.get_mut(&claimant.namespace) {
            usage.paid = (usage.paid.max(self.share) + f64::from(tokens)).min(most);
            self.heaviest = self.heaviest.max(usage.paid);
        }
    }

    /// Refunds unused tokens.
    pub fn refund(&mut self, namespace: &Namespace, tokens: u32) {
        self.tokens = (self.tokens + f64::from(tokens)).min(self.burst);
        if let Some(usage) = self.namespaces.get_mut(namespace) {
            usage.paid -= f64::from(tokens);
        }
    }

    /// Grants nothing before `until` (`Retry-After`). It never shortens a pause.
    pub fn pause(&mut self, until: Instant) {
        self.paused_until = self.paused_until.max(Some(until));
    }

    /// The remaining time of the pause.
    pub fn paused(&self, now: Instant) -> Option<Duration> {
        self.paused_until?.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// Whether the limiter equals a new one.
    pub fn is_full(&mut self, now: Instant) -> bool {
        self.account(now);
        self.paused(now).is_none() && (self.rate <= 0.0 || self.tokens + EPSILON >= self.burst)
    }

    fn reserve(&self) -> f64 {
        (self.burst * RESERVE).floor()
    }

    /// How many tokens the namespace leaves to others. The number grows with its use above that of a light namespace, up
    /// to the reserve: a namespace that has just become heavy need not wait for a full reserve.
    fn left_to_others(&mut self, namespace: &Namespace, tokens: f64, now: Instant) -> f64 {
        self.forget(now);
        let (share, ends) = (self.share, &mut self.ends);
        let usage = self.namespaces.entry(namespace.clone()).or_insert_with(|| {
            ends.insert((now + NAMESPACE_TTL, namespace.clone()));
            Usage { paid: share, last: now }
        });
        usage.last = now;
        let own = (usage.paid - self.share).max(0.0);
        let most = (self.heaviest - self.share).max(0.0);
        let alone = self.namespaces.len() == 1;
        let above = if alone { 0.0 } else { own + tokens - (most / 2.0).max(self.reserve()) };
        above.clamp(0.0, self.reserve())
    }

    /// Removes namespaces that no longer make calls.
    fn forget(&mut self, now: Instant) {
        while let Some((_, namespace)) = self.ends.first().filter(|(end, _)| *end <= now).cloned() {
            self.ends.pop_first();
            let end = self.namespaces.get(&namespace).map(|usage| usage.last + NAMESPACE_TTL);
            match end.filter(|end| *end > now) {
                Some(end) => drop(self.ends.insert((end, namespace))),
                None => drop(self.namespaces.remove(&namespace)),
            }
        }
    }

    /// Adds the tokens since the last call. A pause adds none.
    fn account(&mut self, now: Instant) {
        let from = self.accounted.unwrap_or(now);
        let from = self.paused_until.map_or(from, |until| from.max(until.min(now)));
        let gain = self.rate * now.saturating_duration_since(from).as_secs_f64();
        self.tokens = (self.tokens + gain).min(self.burst);
        self.share += gain / self.namespaces.len().max(1) as f64;
        self.accounted = self.accounted.max(Some(now));
        self.places.retain(|place| place.until > now);
    }
}

#[cfg(test)]
mod tests;
