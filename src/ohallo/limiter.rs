// pure
//! A rate: a token bucket.
//!
//! Nobody waits here. A call that finds no token is refused with the time until its token comes, and keeps its place
//! for that long: claimants are served in the order of their first refusal, so that reconciles that run and the work
//! queue, and among the running ones the namespaces, have equal shares.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

mod lane;

pub use lane::Lane;

/// How long a place is kept after its tokens came.
const PLACE_TTL: Duration = Duration::from_millis(500);
/// The most claimants that keep a place; one more is refused without.
const MAX_PLACES: usize = 64;
/// Rounding of the bucket, in tokens.
const EPSILON: f64 = 1e-6;

/// A namespace; `None` for ClusterWorkspaces.
pub type Namespace = Option<Arc<str>>;

/// Who asks for tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimant {
    /// The work queue, for a reconcile that is to start. It keeps its own order of namespaces.
    Queue,
    /// The running reconciles of a namespace, for their later calls.
    Running(Namespace),
}

/// The rate of one API key, of one Workspace, or of all.
#[derive(Debug)]
pub struct Limiter {
    rate: f64,
    burst: f64,
    /// Negative after a claim above the burst.
    tokens: f64,
    /// Up to when time is accounted for.
    accounted: Option<Instant>,
    paused_until: Option<Instant>,
    places: VecDeque<Place>,
}

#[derive(Debug)]
struct Place {
    claimant: Claimant,
    tokens: f64,
    until: Instant,
}

// === impl Limiter ===

impl Limiter {
    /// `rate_per_second` 0 (or no number) is no limit; a burst below 1 is 1.
    pub fn new(rate_per_second: f64, burst: u32) -> Self {
        let burst = f64::from(burst.max(1));
        Self {
            rate: if rate_per_second.is_finite() { rate_per_second.max(0.0) } else { 0.0 },
            burst,
            tokens: burst,
            accounted: None,
            paused_until: None,
            places: VecDeque::new(),
        }
    }

    /// Whether the claimant can [`Self::spend`] so many tokens now. A claim above the burst waits for a full bucket and
    /// leaves a debt, so that a reconcile with many calls is served too.
    ///
    /// # Errors
    /// How long until then, as things are; the claimant keeps its place until [`PLACE_TTL`] later.
    pub fn check(&mut self, claimant: &Claimant, tokens: u32, now: Instant) -> Result<(), Duration> {
        let paused = self.paused(now);
        if self.rate <= 0.0 {
            return paused.map_or(Ok(()), Err);
        }
        self.account(now);
        let wanted = f64::from(tokens).min(self.burst);
        let place = self.places.iter().position(|place| place.claimant == *claimant);
        let ahead: f64 = self.places.iter().take(place.unwrap_or(usize::MAX)).map(|place| place.tokens).sum();
        let missing = wanted + ahead - self.tokens;
        if paused.is_none() && missing <= EPSILON {
            return Ok(());
        }
        // At least a nanosecond, so that the time is really over then.
        let wait = Duration::try_from_secs_f64(missing.max(0.0) / self.rate).unwrap_or(Duration::MAX / 4);
        let wait = paused.unwrap_or_default().saturating_add(wait).saturating_add(Duration::from_nanos(1));
        let until = now.checked_add(wait.saturating_add(PLACE_TTL)).unwrap_or(now);
        if let Some(place) = place {
            if let Some(place) = self.places.get_mut(place) {
                (place.tokens, place.until) = (wanted, until);
            }
        } else if self.places.len() < MAX_PLACES {
            self.places.push_back(Place { claimant: claimant.clone(), tokens: wanted, until });
        }
        Err(wait)
    }

    /// Takes tokens that [`Self::check`] found.
    pub fn spend(&mut self, claimant: &Claimant, tokens: u32) {
        if self.rate > 0.0 {
            self.tokens -= f64::from(tokens);
            self.places.retain(|place| place.claimant != *claimant);
        }
    }

    /// Gives back tokens that were not used.
    pub fn refund(&mut self, tokens: u32) {
        self.tokens = (self.tokens + f64::from(tokens)).min(self.burst);
    }

    /// Grants nothing before `until` (`Retry-After`). An earlier end than a pause already has changes nothing.
    pub fn pause(&mut self, until: Instant) {
        self.paused_until = self.paused_until.max(Some(until));
    }

    /// How long the pause still lasts.
    pub fn paused(&self, now: Instant) -> Option<Duration> {
        self.paused_until?.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// Whether it is as a new one.
    pub fn is_full(&mut self, now: Instant) -> bool {
        self.account(now);
        self.paused(now).is_none() && (self.rate <= 0.0 || self.tokens + EPSILON >= self.burst)
    }

    /// Lets the time since the last call pass. A pause is no time.
    fn account(&mut self, now: Instant) {
        let from = self.accounted.unwrap_or(now);
        let from = self.paused_until.map_or(from, |until| from.max(until.min(now)));
        let gain = self.rate * now.saturating_duration_since(from).as_secs_f64();
        self.tokens = (self.tokens + gain).min(self.burst);
        self.accounted = self.accounted.max(Some(now));
        self.places.retain(|place| place.until > now);
    }
}

#[cfg(test)]
mod tests;
