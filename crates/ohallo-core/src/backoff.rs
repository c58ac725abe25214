//! Requeue times: backoff and polling. Time and jitter are arguments.

use std::time::Duration;

/// The maximum backoff after a failure.
const MAX_BACKOFF: Duration = Duration::from_secs(300);

/// The number of transient failures in a row during which Ready keeps its value.
pub const TRANSIENT_TOLERANCE: u32 = 3;

/// The requeue time of a stalled object.
pub const STALLED_INTERVAL: Duration = Duration::from_secs(3600);

/// The requeue time of an object with a missing input; its arrival triggers a reconcile earlier.
pub const MISSING_INPUT_INTERVAL: Duration = Duration::from_secs(600);

/// 1 s · 2ⁿ up to 5 min, full jitter: `random` is from 0 to 1. `failures` counts from 1.
pub fn backoff(failures: u32, random: f64) -> Duration {
    let ceiling =
        Duration::from_secs(1).saturating_mul(1 << failures.saturating_sub(1).min(16)).min(MAX_BACKOFF);
    ceiling.mul_f64(random.clamp(0.0, 1.0)).max(Duration::from_millis(200))
}

/// The next check of an API key that oHallo rejected, because oHallo may have rejected it by mistake and all its Channels wait. 30 s · 2ⁿ
/// up to [`STALLED_INTERVAL`], ±10 %. `failures` counts from 1.
pub fn refused_key(failures: u32, random: f64) -> Duration {
    let wait = Duration::from_secs(30).saturating_mul(1 << failures.saturating_sub(1).min(16));
    jitter(wait.min(STALLED_INTERVAL), random)
}

/// The next poll while oHallo has not finished: a quarter of the elapsed time, 1 s to `longest`.
pub fn poll(elapsed: Duration, longest: Duration) -> Duration {
    (elapsed / 4).clamp(Duration::from_secs(1), longest.max(Duration::from_secs(1)))
}

/// `interval` ±10 %.
pub fn jitter(interval: Duration, random: f64) -> Duration {
    interval.mul_f64(0.9 + 0.2 * random.clamp(0.0, 1.0))
}

/// Retries of a failed provisioning: `backoff` doubled for each one sent, up to 30 min.
pub fn provisioning(backoff: Duration, sent: i64) -> Duration {
    let doublings = u32::try_from(sent.clamp(0, 16)).unwrap_or(16);
    backoff.saturating_mul(1 << doublings).min(Duration::from_secs(1800))
}

/// How often a settled Channel is read: its interval, stretched where the Channels are too many for a rate that serves
/// them. `shares` holds, for each such rate, how many Channels share it and the rate per second; 0 is no limit.
pub fn interval(declared: Duration, shares: &[(usize, f64)]) -> Duration {
    let limited = shares.iter().filter(|(_, rate)| *rate > 0.0);
    let least = limited.map(|(channels, rate)| 1.25 * *channels as f64 / rate).fold(0.0, f64::max);
    declared.max(Duration::try_from_secs_f64(least).unwrap_or(declared))
}

/// When an object is reconciled again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    /// When a trigger changes.
    Never,
    After(Duration),
    /// After a failure.
    Retry(Duration),
    /// When the rate limiter has a token for the next call.
    Deferred(Duration),
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn backs_off_to_five_minutes_and_never_overflows() {
        let ceilings: Vec<_> = (1..=10).map(|n| backoff(n, 1.0).as_secs()).collect();
        assert_eq!(ceilings, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(backoff(u32::MAX, 1.0), s(300));
        assert_eq!(backoff(0, 0.0), Duration::from_millis(200));
    }

    #[test]
    fn looks_at_a_refused_key_soon_and_then_hourly() {
        let waits: Vec<_> = (1..=9).map(|n| refused_key(n, 0.5).as_secs()).collect();
        assert_eq!(waits, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
        assert_eq!(refused_key(u32::MAX, 0.5), STALLED_INTERVAL);
    }

    #[test]
    fn polls_at_a_quarter_of_the_time_so_far() {
        for (elapsed, wait) in [(0, 1), (4, 1), (40, 10), (4000, 60)] {
            assert_eq!(poll(s(elapsed), s(60)), s(wait));
        }
        assert_eq!(poll(s(0), s(0)), s(1));
    }

    #[test]
    fn retries_provisioning_at_doubled_distances_up_to_half_an_hour() {
        let waits: Vec<_> = (0..7).map(|sent| provisioning(s(60), sent).as_secs()).collect();
        assert_eq!(waits, [60, 120, 240, 480, 960, 1800, 1800]);
        assert_eq!(provisioning(s(3600), 0), s(1800));
    }

    #[test]
    fn stretches_the_interval_where_a_key_has_too_many_channels() {
        assert_eq!(interval(s(600), &[(100, 10.0), (400, 5.0)]), s(600));
        assert_eq!(interval(s(60), &[(10_000, 10.0)]), s(1250));
        assert_eq!(interval(s(60), &[(100, 10.0), (400, 5.0)]), s(100));
        assert_eq!(interval(s(60), &[(10_000, 0.0)]), s(60));
    }
}
