//! When an object can be reconciled again.

use std::time::{Duration, Instant};

/// Lasts from a reconcile until its requeue time or until a trigger changes. So the operator's own status write causes
/// no call.
#[derive(Clone, Debug)]
pub struct Cooldown<I> {
    inputs: I,
    until: Instant,
}

// === impl Cooldown ===

impl<I> Cooldown<I> {
    pub fn new(inputs: I, until: Instant) -> Self {
        Self { inputs, until }
    }

    /// The remaining time for these triggers; `None` where the cooldown is over. `changed` compares the old triggers with the current ones.
    pub fn remaining(&self, now: Instant, changed: impl FnOnce(&I) -> bool) -> Option<Duration> {
        let rest = self.until.checked_duration_since(now).filter(|rest| !rest.is_zero())?;
        if changed(&self.inputs) { None } else { Some(rest) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock;

    #[test]
    fn ends_when_a_trigger_changes_or_at_its_time() {
        let now = test_clock::instant();
        let gate = Cooldown::new("a", now + Duration::from_secs(10));
        assert_eq!(gate.remaining(now, |inputs| *inputs != "a"), Some(Duration::from_secs(10)));
        assert_eq!(gate.remaining(now, |inputs| *inputs != "b"), None);
        assert_eq!(gate.remaining(now + Duration::from_secs(10), |inputs| *inputs != "a"), None);
    }
}
