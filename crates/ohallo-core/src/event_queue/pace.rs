//! How fast events follow one another: as fast as the API server answers them while it answers quickly, and slower while it
//! is slow, so that the reconciles that they report go first.

use std::time::{Duration, Instant};

/// The rest after an answer, in multiples of the time that it took longer than a quick one.
const YIELD_FACTOR: f64 = 4.0;

/// By what part the quickest known answer is forgotten with each answer.
const FORGET: u32 = 128;

/// The maximum rest.
const MAX_REST: Duration = Duration::from_secs(2);

/// The pause after the first busy answer in a row without a `Retry-After`, and the maximum pause.
const BUSY: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(4);

/// The longest `Retry-After` that is honoured.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub struct Pace {
    /// The duration of the quickest of the last answers.
    quick: Option<Duration>,
    resting: Option<Instant>,
    paused: Option<Instant>,
    /// The number of busy answers in a row.
    busy: u32,
}

// === impl Pace ===

impl Pace {
    /// No Normal before this time.
    pub fn resting(&self) -> Option<Instant> {
        self.resting
    }

    /// No event before this time.
    pub fn paused(&self) -> Option<Instant> {
        self.paused
    }

    /// An event is stored, after this time. `fill` is the used part of the queue: the fuller, the shorter the rest.
    pub fn answered(&mut self, took: Duration, fill: f64, now: Instant) {
        let quick = self.quick.map_or(took, |quick| took.min(quick + quick / FORGET));
        self.quick = Some(quick);
        // A pause goes on: another namespace may be the one that is limited.
        self.busy = 0;
        let rest = (took - quick).mul_f64(YIELD_FACTOR * (1.0 - fill.clamp(0.0, 1.0))).min(MAX_REST);
        self.resting = now.checked_add(rest);
    }

    /// The API server is overloaded or unreachable.
    pub fn busy(&mut self, retry_after: Option<Duration>, now: Instant) {
        let backoff = BUSY.saturating_mul(1 << self.busy.min(8));
        self.busy = self.busy.saturating_add(1);
        let pause = retry_after.map_or(backoff.min(MAX_PAUSE), |after| after.min(MAX_RETRY_AFTER));
        self.paused = now.checked_add(pause).max(self.paused);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn normals_rest_for_a_slow_answer_and_not_for_a_quick_one_or_with_a_full_queue() {
        let now = test_clock::instant();
        for (took, fill, rest) in
            [(2, 0.0, 0), (12, 0.0, 40), (12, 0.5, 20), (12, 1.0, 0), (30_000, 0.0, 2_000)]
        {
            let mut pace = Pace::default();
            pace.answered(ms(2), 0.0, now);
            assert_eq!(pace.resting(), Some(now));
            pace.answered(ms(took), fill, now);
            let rested = pace.resting().unwrap() - now;
            assert!(rested.abs_diff(ms(rest)) < ms(1), "{took} ms, fill {fill}: {rested:?}");
        }
    }

    #[test]
    fn what_was_quick_long_ago_is_forgotten() {
        let (mut pace, now) = (Pace::default(), test_clock::instant());
        pace.answered(ms(1), 0.0, now);
        (0..1_000).for_each(|_| pace.answered(ms(10), 0.0, now));
        assert_eq!(pace.resting(), Some(now), "every answer takes as long");
    }

    #[test]
    fn a_busy_api_server_is_asked_at_growing_distances_until_it_answers() {
        let (mut pace, now) = (Pace::default(), test_clock::instant());
        let pauses: Vec<_> = (0..7)
            .map(|_| {
                pace.paused = None;
                pace.busy(None, now);
                (pace.paused().unwrap() - now).as_millis()
            })
            .collect();
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 4000, 4000]);
        pace.busy(Some(ms(100)), now);
        assert_eq!(pace.paused(), Some(now + ms(4000)), "a pause is never shortened");
        pace.answered(ms(1), 0.0, now);
        assert_eq!(pace.paused(), Some(now + ms(4000)), "the answer to another namespace ends no pause");
        let later = now + ms(5000);
        pace.busy(Some(ms(100)), later);
        assert_eq!(pace.paused(), Some(later + ms(100)));
        pace.busy(Some(ms(60_000)), later);
        assert_eq!(pace.paused(), Some(later + ms(30_000)));
    }
}
