//! Limits work that takes some MiB of memory, such as a config of thousands of values, to one reconcile at a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A response or object that takes more memory after decoding is heavy; in bytes.
pub const LIGHT: u64 = 64 * 1024;

/// The minimum requeue time of heavy work that found the permit taken.
pub const AGAIN: Duration = Duration::from_secs(1);

/// The permit for heavy work, shared by the process.
#[derive(Clone)]
pub struct Heavy(Arc<Semaphore>);

/// Holds the permit of one reconcile. Clones share the slot; dropping the last clone releases the permit.
#[derive(Clone)]
pub struct HeavySlot {
    right: Arc<Semaphore>,
    held: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

// === impl Heavy ===

impl Default for Heavy {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Heavy {
    pub fn slot(&self) -> HeavySlot {
        HeavySlot { right: Arc::clone(&self.0), held: Arc::default() }
    }
}

// === impl HeavySlot ===

impl HeavySlot {
    /// Takes the permit. True if it was free or this slot already holds it.
    pub fn try_take(&self) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_none() {
            *held = Arc::clone(&self.right).try_acquire_owned().ok();
        }
        held.is_some()
    }

    /// Waits for the permit: for a call whose response must not be lost.
    pub async fn take(&self) {
        if self.try_take() {
            return;
        }
        if let Ok(permit) = Arc::clone(&self.right).acquire_owned().await {
            self.held.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(permit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_reconcile_at_a_time_does_heavy_work_and_its_clones_are_the_same() {
        let heavy = Heavy::default();
        let (one, other) = (heavy.slot(), heavy.slot());
        let clone = one.clone();
        assert!(one.try_take() && clone.try_take() && one.try_take());
        assert!(!other.try_take());
        drop(one);
        assert!(!other.try_take(), "a clone holds it");
        let waiting = tokio::spawn(async move {
            other.take().await;
            other
        });
        drop(clone);
        let other = waiting.await.unwrap();
        assert!(!heavy.slot().try_take());
        drop(other);
        assert!(heavy.slot().try_take());
    }
}
