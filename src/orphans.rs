//! Objects whose end is not reported yet, because a reconcile of them is in progress or no replica leads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use ohallo_core::channel::in_memory_state::InMemoryState;
use ohallo_core::channel::last_seen::LastSeen;
use ohallo_core::index::NamespacedName;

/// Objects whose end is not reported yet.
#[derive(Default)]
pub struct Orphans {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    /// One entry for each object, by the address of its in-memory state, which the entry keeps alive: each of two entries
    /// would take the other for a reconcile in progress.
    waiting: HashMap<usize, Ended>,
    /// Another replica holds the lease, and reports what this one also sees.
    other_leads: bool,
    /// Objects that exceeded the limit and were only counted.
    dropped: u64,
}

/// A deleted object, or one that the operator's finalizer no longer protects.
pub struct Ended {
    pub name: NamespacedName,
    pub last: LastSeen,
    pub memory: Arc<Mutex<InMemoryState>>,
    /// This process led when it saw the end.
    pub led: bool,
}

// === impl Inner ===

impl Inner {
    fn wait(&mut self, mut ended: Ended) {
        let address = Arc::as_ptr(&ended.memory).addr();
        ended.led |= self.waiting.get(&address).is_some_and(|known| known.led);
        self.waiting.insert(address, ended);
    }
}

// === impl Orphans ===

impl Orphans {
    /// Records the end of an object. The report follows once no reconcile of it is in progress and this process
    /// leads.
    pub fn ended(&self, name: NamespacedName, last: LastSeen, memory: Arc<Mutex<InMemoryState>>, led: bool) {
        {
            let memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
            let at_work = memory.attempt.is_some();
            if memory.deletion_reported
                || memory.removes_finalizer
                || !at_work && last.bound.is_none() && last.create.is_none() && memory.binding.is_none()
            {
                return;
            }
        }
        let mut inner = self.lock();
        if !led && inner.other_leads {
            return;
        }
        if !led && inner.waiting.len() >= MAX_WAITING {
            inner.dropped += 1;
            return;
        }
        inner.wait(Ended { name, last, memory, led });
        drop(inner);
        self.changed.notify_one();
    }

    /// Records whether another replica holds the lease: that replica reports what this one also sees.
    pub fn other_leads(&self, leads: bool) {
        let mut inner = self.lock();
        inner.other_leads = leads;
        if leads {
            inner.waiting.retain(|_, ended| ended.led);
            inner.dropped = 0;
        }
    }

    /// Records that this process has begun to lead.
    pub fn leads(&self) {
        self.lock().other_leads = false;
        self.changed.notify_one();
    }

    /// Takes the objects that may be reported now.
    pub fn take(&self, leads: bool) -> (Vec<Ended>, u64) {
        let mut inner = self.lock();
        let waiting = std::mem::take(&mut inner.waiting);
        let (now, later) = waiting.into_iter().partition(|(_, ended)| leads || ended.led);
        inner.waiting = later;
        let now: HashMap<_, _> = now;
        (now.into_values().collect(), if leads { std::mem::take(&mut inner.dropped) } else { 0 })
    }

    pub fn put_back(&self, ended: Ended) {
        self.lock().wait(ended);
    }

    /// Waits until something can be reported that could not before.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The most objects that a standby keeps until it leads.
const MAX_WAITING: usize = 1000;

#[cfg(test)]
impl Orphans {
    /// The uids of the waiting objects.
    pub fn waiting(&self) -> Vec<String> {
        self.lock().waiting.values().map(|ended| ended.last.uid.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(orphans: &Orphans, led: bool, edit: impl FnOnce(&mut InMemoryState)) {
        let mut memory = InMemoryState::default();
        edit(&mut memory);
        let last = LastSeen { uid: "u".into(), bound: Some("c1".into()), ..LastSeen::default() };
        orphans.ended(NamespacedName::new("t", "a"), last, Arc::new(Mutex::new(memory)), led);
    }

    fn taken(orphans: &Orphans, leads: bool) -> usize {
        orphans.take(leads).0.len()
    }

    #[test]
    fn a_standby_keeps_what_ends_while_nobody_leads_and_leaves_the_rest_to_the_leader() {
        let orphans = Orphans::default();
        // The lease was not read yet.
        note(&orphans, false, |_| {});
        assert_eq!(taken(&orphans, false), 0);
        orphans.other_leads(true);
        note(&orphans, false, |_| {});
        assert_eq!(taken(&orphans, true), 0, "the leader has reported both");
        orphans.other_leads(false);
        note(&orphans, false, |_| {});
        assert_eq!(taken(&orphans, false), 0);
        orphans.leads();
        assert_eq!((taken(&orphans, true), taken(&orphans, true)), (1, 0));
        // A process reports what it saw as leader, whichever replica leads by then.
        note(&orphans, true, |_| {});
        orphans.other_leads(true);
        assert_eq!(taken(&orphans, false), 1);
    }

    #[test]
    fn an_object_that_the_operator_released_or_that_never_had_a_channel_is_not_kept() {
        let orphans = Orphans::default();
        note(&orphans, true, |memory| memory.deletion_reported = true);
        note(&orphans, true, |memory| memory.removes_finalizer = true);
        let nothing = LastSeen { uid: "u".into(), ..LastSeen::default() };
        orphans.ended(NamespacedName::new("t", "a"), nothing, Arc::default(), true);
        assert_eq!(taken(&orphans, true), 0);
    }

    #[test]
    fn a_standby_keeps_a_bounded_number_and_counts_the_rest_and_a_leader_keeps_all() {
        let orphans = Orphans::default();
        (0..MAX_WAITING + 7).for_each(|_| note(&orphans, false, |_| {}));
        let (kept, dropped) = orphans.take(true);
        assert_eq!((kept.len(), dropped), (MAX_WAITING, 7));
        (0..MAX_WAITING + 7).for_each(|_| note(&orphans, true, |_| {}));
        let (kept, dropped) = orphans.take(true);
        assert_eq!((kept.len(), dropped), (MAX_WAITING + 7, 0));
    }

    #[test]
    fn an_object_that_ends_twice_waits_once_and_counts_as_led_if_either_was() {
        let (orphans, memory) = (Orphans::default(), Arc::new(Mutex::new(InMemoryState::default())));
        let last = || LastSeen { uid: "u".into(), bound: Some("c1".into()), ..LastSeen::default() };
        for led in [true, false] {
            orphans.ended(NamespacedName::new("a", "b"), last(), Arc::clone(&memory), led);
        }
        assert_eq!(orphans.waiting(), ["u"]);
        assert_eq!(Arc::strong_count(&memory), 2, "the other entry is no reconcile in progress");
        let (now, _) = orphans.take(false);
        assert_eq!(now.len(), 1);
    }
}
