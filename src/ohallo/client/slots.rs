// I/O: a slot that is given back calls whoever waits for it.
//! How many passes of one key may call at a time. A pass that finds no slot free ends, and is woken in its
//! turn when one is given back: a key that is slow holds its own passes, and no worker.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Who waits asks again long before. One that does not waits no more: the process does not lead now, or its object needs no call.
const GONE: Duration = Duration::from_secs(60);

/// Makes an object's next pass begin.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

pub(super) struct Slots(Mutex<State>);

struct State {
    free: usize,
    waiting: VecDeque<Waiter>,
}

struct Waiter {
    who: String,
    wake: Wake,
    asked: Instant,
}

/// One pass's place; free again when dropped.
pub(super) struct Slot(Arc<Slots>);

// === impl Slots ===

impl Slots {
    pub(super) fn new(count: usize) -> Self {
        Self(Mutex::new(State { free: count.max(1), waiting: VecDeque::new() }))
    }

    /// A slot, if one is free; else `who` is woken when its turn has come.
    pub(super) fn take(self: &Arc<Self>, who: &str, wake: &Wake, now: Instant) -> Option<Slot> {
        let mut state = self.state();
        let place = state.waiting.iter().position(|waiter| waiter.who == who);
        if state.free == 0 {
            let waiter = Waiter { who: who.to_owned(), wake: Arc::clone(wake), asked: now };
            match place.and_then(|place| state.waiting.get_mut(place)) {
                Some(before) => *before = waiter,
                None => state.waiting.push_back(waiter),
            }
            return None;
        }
        if let Some(place) = place {
            state.waiting.remove(place);
        }
        state.free -= 1;
        Some(Slot(Arc::clone(self)))
    }

    /// How many wait for one.
    pub(super) fn waiting(&self, now: Instant) -> usize {
        let state = self.state();
        state.waiting.iter().filter(|waiter| now.saturating_duration_since(waiter.asked) < GONE).count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Slot ===

impl Drop for Slot {
    fn drop(&mut self) {
        let next = {
            let mut state = self.0.state();
            state.free += 1;
            state.waiting.pop_front()
        };
        if let Some(waiter) = next {
            (waiter.wake)();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::clock;

    fn counting() -> (Arc<AtomicU32>, Wake) {
        let count = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&count);
        (count, Arc::new(move || _ = counted.fetch_add(1, Ordering::Relaxed)))
    }

    #[test]
    fn a_slot_that_is_given_back_wakes_who_has_waited_longest_and_nobody_else() {
        let (slots, now) = (Arc::new(Slots::new(1)), clock::instant());
        let ((first, wake_first), (second, wake_second)) = (counting(), counting());
        let slot = slots.take("holder", &wake_first, now).unwrap();
        assert!(slots.take("first", &wake_first, now).is_none());
        assert!(slots.take("second", &wake_second, now).is_none());
        assert!(slots.take("first", &wake_first, now).is_none(), "asking again keeps the place");
        drop(slot);
        assert_eq!((first.load(Ordering::Relaxed), second.load(Ordering::Relaxed)), (1, 0));
        drop(slots.take("first", &wake_first, now).unwrap());
        assert_eq!((first.load(Ordering::Relaxed), second.load(Ordering::Relaxed)), (1, 1));
        drop(slots.take("second", &wake_second, now).unwrap());
        assert_eq!((first.load(Ordering::Relaxed), second.load(Ordering::Relaxed)), (1, 1));
    }

    #[test]
    fn who_took_a_slot_waits_for_none() {
        let (slots, now) = (Arc::new(Slots::new(1)), clock::instant());
        let (count, wake) = counting();
        let slot = slots.take("a", &wake, now).unwrap();
        assert!(slots.take("b", &wake, now).is_none());
        drop(slot);
        let slot = slots.take("b", &wake, now).unwrap();
        drop(slot);
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn who_asks_no_more_is_not_counted_as_waiting() {
        let (slots, now) = (Arc::new(Slots::new(1)), clock::instant());
        let (_, wake) = counting();
        let _slot = slots.take("holder", &wake, now).unwrap();
        assert!(slots.take("a", &wake, now).is_none());
        assert!(slots.take("b", &wake, now).is_none());
        assert!(slots.take("b", &wake, now + GONE / 2).is_none());
        let seen = [now, now + GONE, now + GONE * 2].map(|then| slots.waiting(then));
        assert_eq!(seen, [2, 1, 0]);
    }
}
