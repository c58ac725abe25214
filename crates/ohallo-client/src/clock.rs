//! The only reader of the clocks: all other code takes the time as an argument.

use std::time::Instant;

use jiff::Timestamp;

/// Wall-clock time, for texts that users and other processes read. Never compared with another machine's clock.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Monotonic time, for every duration this process measures.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
pub fn instant() -> Instant {
    Instant::now()
}
