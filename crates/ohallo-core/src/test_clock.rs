//! The monotonic clock, for tests that only need a start time.

use std::time::Instant;

#[expect(
    clippy::disallowed_methods,
    reason = "decisions take the time as an argument, and their tests need a start time"
)]
pub fn instant() -> Instant {
    Instant::now()
}
