//! The monotonic clock: how long an exploration took, and a moment that the model's instants count from.

use std::time::Instant;

#[expect(clippy::disallowed_methods, reason = "the one place of the model that reads a clock")]
pub fn instant() -> Instant {
    Instant::now()
}
