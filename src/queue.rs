//! The work queue of the process: the objects that wait to be reconciled, shared by the watches and the
//! workers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::telemetry::metrics::Metrics;
use ohallo_client::clock;
use ohallo_core::api::ObjectKind;
use ohallo_core::backoff::Requeue;
use ohallo_core::work_queue::{Again, Gate, Limits, ObjectKey, Priority, Started, WorkQueue};

/// The work queue of the process.
pub struct Queue {
    inner: Mutex<WorkQueue>,
    changed: Notify,
    metrics: Arc<Metrics>,
}

// === impl Queue ===

impl Queue {
    /// A queue for this many workers.
    pub fn new(concurrency: u16, metrics: Arc<Metrics>) -> Self {
        let limits = Limits::of(usize::from(concurrency), KEY_CONCURRENCY);
        Self { inner: Mutex::new(WorkQueue::new(limits)), changed: Notify::new(), metrics }
    }

    /// Adds an object: it is reconciled as soon as it can run.
    pub fn add(&self, object: ObjectKey, priority: Priority) {
        self.metrics.workqueue_add(object.kind.name());
        self.lock().add(object, priority, clock::instant());
        self.changed.notify_one();
    }

    /// How many objects wait to run, by kind and priority.
    pub fn depth(&self) -> BTreeMap<(ObjectKind, Priority), usize> {
        self.lock().depth().clone()
    }

    /// The next object to start, or when to ask again.
    pub fn pop<G: Gate>(&self, gate: &mut G) -> Result<Started<G::Permit>, Option<Instant>> {
        let now = clock::instant();
        let mut queue = self.lock();
        let started = queue.pop(now, gate);
        let again = if queue.has_new() { Some(now) } else { queue.next_wake() };
        started.ok_or(again)
    }

    pub fn done(&self, object: &ObjectKey, requeue: Requeue) {
        let now = clock::instant();
        let at = |after: Duration| now.checked_add(after).unwrap_or(now + IDLE);
        if matches!(requeue, Requeue::Retry(_)) {
            self.metrics.workqueue_retry(object.kind.name());
        }
        let again = match requeue {
            Requeue::Never => Again::Never,
            Requeue::After(after) | Requeue::Retry(after) => Again::At(at(after)),
            Requeue::Deferred(after) => Again::Deferred(at(after)),
        };
        self.lock().done(object, again, now);
    }

    /// Waits until an object is added.
    pub async fn added(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, WorkQueue> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Concurrent reconciles under one API key, in all namespaces.
const KEY_CONCURRENCY: usize = 12;

/// The longest sleep if no object has a requeue time.
pub const IDLE: Duration = Duration::from_secs(3600);
