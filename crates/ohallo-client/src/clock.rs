//! Time, asked for here only, so that every other file takes it as an argument.

use std::time::Instant;

use jiff::Timestamp;

/// Wall-clock time, for texts that people and other processes read. Never compared with another machine's.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Monotonic time, for every duration this process measures.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
pub fn instant() -> Instant {
    Instant::now()
}
