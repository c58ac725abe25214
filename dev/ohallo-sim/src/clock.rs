use std::time::Instant;

use jiff::Timestamp;

/// Counts from the start of one [`crate::Sim`].
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
}

/// One moment: milliseconds since the start, and the same moment for `createdAt`.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    pub ms: u64,
    pub wall: Timestamp,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
    pub fn start() -> Self {
        Clock { started: Instant::now() }
    }

    pub fn ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    pub fn now(&self) -> Now {
        Now { ms: self.ms(), wall: Timestamp::now() }
    }
}
