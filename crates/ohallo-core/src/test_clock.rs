//! The monotonic clock, for tests that only need a moment to start from.

use std::time::Instant;

#[expect(
    clippy::disallowed_methods,
    reason = "decisions take the time as an argument, and their tests begin somewhere"
)]
pub fn instant() -> Instant {
    Instant::now()
}
