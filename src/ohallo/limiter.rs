// pure
//! The rate of one API key: a token bucket with two lanes and reservations.
//!
//! A pass never sleeps: refused, it ends and starts again from its first call. So a refusal reserves what the pass
//! needs up to the refused call, and the reservation waits for it: else, in a crowd, no pass would ever come to
//! its last call. Reserved tokens count as in the bucket, so that late comers together never exceed the burst.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

mod lane;

pub use lane::Lane;

/// How long a reservation is kept after it came due.
const LAPSE: Duration = Duration::from_secs(30);
/// What the background lane gets of the rate while users want all of it.
const SHARE: f64 = 0.1;
/// The wait that is told while tokens are held for passes that have not come back yet.
const HELD_UP: Duration = Duration::from_millis(500);
/// Rounding of the bucket, in tokens.
const DUST: f64 = 1e-6;

/// The limiter of one key.
#[derive(Debug)]
pub struct Limiter {
    rate: f64,
    burst: f64,
    /// Free tokens.
    tokens: f64,
    /// The background's guaranteed share that it has not had yet, in tokens.
    owed: f64,
    /// Up to when time is accounted for.
    accounted: Option<Instant>,
    paused_until: Option<Instant>,
    user: BTreeMap<u64, Waiting>,
    background: BTreeMap<u64, Waiting>,
    places: HashMap<String, (Lane, u64)>,
    held: BTreeMap<String, Held>,
    next_place: u64,
}

#[derive(Debug)]
struct Waiting {
    who: String,
    calls: u32,
}

#[derive(Debug)]
struct Held {
    calls: u32,
    since: Instant,
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
            owed: 0.0,
            accounted: None,
            paused_until: None,
            user: BTreeMap::new(),
            background: BTreeMap::new(),
            places: HashMap::new(),
            held: BTreeMap::new(),
            next_place: 0,
        }
    }

    /// Takes `calls` tokens for `who`, reserved ones first.
    ///
    /// # Errors
    /// As [`Limiter::reserve`], which it does then.
    pub fn take(&mut self, who: &str, calls: u32, lane: Lane, now: Instant) -> Result<(), Duration> {
        if self.rate <= 0.0 {
            return self.paused(now).map_or(Ok(()), Err);
        }
        self.account(now);
        if self.paused(now).is_none() && self.use_held(who, calls) {
            return Ok(());
        }
        let wait = self.reserve(who, calls, lane, now);
        if self.paused(now).is_none() && self.use_held(who, calls) { Ok(()) } else { Err(wait) }
    }

    /// Reserves `calls` tokens for `who` until 30 s after they are due, and tells how long until then, as things
    /// stand. Asking again before gives the same reservation, raised where `calls` is larger.
    ///
    /// More than the burst is granted whole all the same: a pass that could never make all its calls would never
    /// end.
    pub fn reserve(&mut self, who: &str, calls: u32, lane: Lane, now: Instant) -> Duration {
        let paused = self.paused(now);
        if self.rate <= 0.0 {
            return paused.unwrap_or_default();
        }
        self.account(now);
        self.wait_for(who, calls, lane);
        if paused.is_none() {
            self.grant(now);
        }
        paused.unwrap_or_default().saturating_add(self.wait(who))
    }

    /// Gives back what is reserved for `who`: its pass has ended.
    pub fn release(&mut self, who: &str) {
        self.leave(who);
        if let Some(held) = self.held.remove(who) {
            self.tokens += f64::from(held.calls);
        }
        self.overflow();
    }

    /// Grants nothing before `until` (`Retry-After`). An earlier end than a pause already has changes nothing.
    pub fn pause(&mut self, until: Instant) {
        self.paused_until = self.paused_until.max(Some(until));
    }

    /// How long the pause still lasts.
    pub fn paused(&self, now: Instant) -> Option<Duration> {
        self.paused_until?.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    fn use_held(&mut self, who: &str, calls: u32) -> bool {
        let Some(held) = self.held.get_mut(who).filter(|held| held.calls >= calls) else { return false };
        held.calls -= calls;
        if held.calls == 0 {
            self.held.remove(who);
        }
        true
    }

    /// Puts `who` into its lane's queue, or leaves it where it is with the larger number. A user's wish moves a
    /// background reservation to the user lane, never back.
    fn wait_for(&mut self, who: &str, calls: u32, lane: Lane) {
        let held = self.held.remove(who).map_or(0, |held| held.calls);
        self.tokens += f64::from(held);
        let mut calls = calls.max(held);
        match self.places.get(who).copied() {
            Some((Lane::Background, _)) if lane == Lane::User => calls = calls.max(self.leave(who)),
            Some((lane, place)) => {
                if let Some(waiting) = self.queue(lane).get_mut(&place) {
                    waiting.calls = waiting.calls.max(calls);
                }
                return;
            }
            None => {}
        }
        let place = self.next_place;
        self.next_place += 1;
        self.queue(lane).insert(place, Waiting { who: who.to_owned(), calls });
        self.places.insert(who.to_owned(), (lane, place));
    }

    fn leave(&mut self, who: &str) -> u32 {
        let Some((lane, place)) = self.places.remove(who) else { return 0 };
        self.queue(lane).remove(&place).map_or(0, |waiting| waiting.calls)
    }

    fn queue(&mut self, lane: Lane) -> &mut BTreeMap<u64, Waiting> {
        match lane {
            Lane::User => &mut self.user,
            Lane::Background => &mut self.background,
        }
    }

    /// Lets the time since the last call pass, from event to event: grants come at their time, also when nobody
    /// asked then. A pause is no time.
    fn account(&mut self, now: Instant) {
        let Some(mut at) = self.accounted else {
            self.accounted = Some(now);
            return;
        };
        at = at.max(self.paused_until.unwrap_or(at));
        while at < now {
            self.lapse(at);
            self.grant(at);
            let step = self.next_event(at).min(now - at).max(Duration::from_nanos(1));
            self.accrue(step);
            at += step;
        }
        self.accounted = self.accounted.max(Some(now));
        self.lapse(now);
        if self.paused(now).is_none() {
            self.grant(now);
        }
    }

    fn accrue(&mut self, step: Duration) {
        let gain = self.rate * step.as_secs_f64();
        self.tokens += gain.min(self.room()).max(0.0);
        if let Some(first) = first(&self.background) {
            self.owed = (self.owed + SHARE * gain).min(self.burst.max(first));
        }
    }

    /// How long until something can change but the number of tokens.
    fn next_event(&self, at: Instant) -> Duration {
        let lapse = self
            .held
            .values()
            .map(|held| lapse_of(held, self.paused_until).saturating_duration_since(at))
            .min();
        let owed = first(&self.background).filter(|first| self.owed < *first);
        let owed = owed.map(|first| seconds((first - self.owed) / (self.rate * SHARE)));
        let missing = self.next_lane().map(|(_, calls)| calls - self.tokens);
        let grant = missing
            .filter(|missing| *missing <= self.room() + DUST)
            .map(|missing| seconds(missing / self.rate));
        [lapse, owed, grant].into_iter().flatten().min().unwrap_or(Duration::MAX)
    }

    /// How many tokens the bucket still takes, those held included in it.
    fn room(&self) -> f64 {
        let held: u32 = self.held.values().map(|held| held.calls).sum();
        let largest = self.next_lane().map_or(0.0, |(_, calls)| calls);
        self.burst.max(largest) - f64::from(held) - self.tokens
    }

    /// Whose turn it is, and how many tokens that takes.
    fn next_lane(&self) -> Option<(Lane, f64)> {
        let user = first(&self.user).map(|calls| (Lane::User, calls));
        let background = first(&self.background).map(|calls| (Lane::Background, calls));
        match background {
            Some((_, calls)) if self.owed + DUST >= calls => background,
            _ => user.or(background),
        }
    }

    fn grant(&mut self, at: Instant) {
        while let Some((lane, calls)) = self.next_lane().filter(|(_, calls)| self.tokens + DUST >= *calls) {
            let Some((_, waiting)) = self.queue(lane).pop_first() else { return };
            self.places.remove(&waiting.who);
            self.tokens = (self.tokens - calls).max(0.0);
            if lane == Lane::Background {
                self.owed = (self.owed - calls).max(0.0);
            }
            self.held.insert(waiting.who, Held { calls: waiting.calls, since: at });
        }
    }

    fn lapse(&mut self, at: Instant) {
        let paused_until = self.paused_until;
        let mut freed = 0;
        self.held.retain(|_, held| {
            let stays = lapse_of(held, paused_until) > at;
            freed += if stays { 0 } else { held.calls };
            stays
        });
        self.tokens += f64::from(freed);
        self.overflow();
    }

    /// What was given back for more than the burst does not stay.
    fn overflow(&mut self) {
        self.tokens = (self.tokens + self.room().min(0.0)).max(0.0);
    }

    /// How long `who` waits if nobody else comes.
    fn wait(&self, who: &str) -> Duration {
        let Some((lane, place)) = self.places.get(who).copied() else { return Duration::ZERO };
        let users = |until| before(&self.user, until) - self.tokens;
        let wait = match lane {
            Lane::User if self.background.is_empty() => users(place) / self.rate,
            Lane::User => users(place) / (self.rate * (1.0 - SHARE)),
            Lane::Background => {
                let ahead = before(&self.background, place);
                // By its share alone, which takes tokens too, or after the users that wait now.
                let share = (ahead - self.owed) / (self.rate * SHARE);
                let share = share.max((ahead - self.tokens) / self.rate);
                share.min((users(u64::MAX) + ahead) / self.rate)
            }
        };
        let held_up = self.next_lane().is_some_and(|(_, calls)| calls - self.tokens > self.room() + DUST);
        seconds(wait).max(if held_up { HELD_UP } else { Duration::ZERO })
    }
}

fn lapse_of(held: &Held, paused_until: Option<Instant>) -> Instant {
    held.since.max(paused_until.unwrap_or(held.since)) + LAPSE
}

fn first(queue: &BTreeMap<u64, Waiting>) -> Option<f64> {
    queue.first_key_value().map(|(_, waiting)| f64::from(waiting.calls))
}

fn before(queue: &BTreeMap<u64, Waiting>, place: u64) -> f64 {
    queue.range(..=place).map(|(_, waiting)| f64::from(waiting.calls)).sum()
}

/// At least a nanosecond more than asked, so that the time is really over then.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0))
        .unwrap_or(Duration::MAX / 2)
        .saturating_add(Duration::from_nanos(1))
}

#[cfg(test)]
mod tests;
