// I/O
//! Runs reconciles: the work queue that the whole process shares, and the workers behind it.
//!
//! Our own in place of `kube::runtime::Controller`, whose scheduler is first in, first out over all namespaces, starts a
//! reconcile before its API key can serve it, and has an unbounded channel for requeues.
//! - A reconciler gets the newest stored object. An object that is not stored is dropped from the queue.
//! - An object never runs twice at the same time. An event during a run requeues the object after it.
//! - An event replaces a requeue time.
//! - Nothing starts before every kind was listed once.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::workspace::{ClusterWorkspace, Workspace};
use crate::context::Context;
use crate::metrics::Metrics;
use crate::ohallo::{Caller, Lane, NotYet, Permit, Refusal};
use crate::retry::Requeue;
use crate::work_queue::{
    Again, Blocked, Gate, Kind, Limits, ObjectKey, Priority, Resolved, Route, Started, WorkQueue,
};
use crate::{channel, clock, workspace};

/// Reconciles under one API key at the same time, in all namespaces.
const KEY_CONCURRENCY: usize = 12;

/// The wait after a reconcile that panicked outside of what it catches itself.
const AFTER_PANIC: Duration = Duration::from_secs(60);

/// The longest sleep, where nothing has a time.
const IDLE: Duration = Duration::from_secs(3600);

/// The work queue of the process.
pub struct Queue {
    inner: Mutex<WorkQueue>,
    changed: Notify,
    metrics: Arc<Metrics>,
}

/// Asks the objects and the API keys.
struct Door<'a>(&'a Arc<Context>);

// === impl Queue ===

impl Queue {
    /// For so many workers.
    pub fn new(concurrency: u16, metrics: Arc<Metrics>) -> Self {
        let limits = Limits::of(usize::from(concurrency), KEY_CONCURRENCY);
        Self { inner: Mutex::new(WorkQueue::new(limits)), changed: Notify::new(), metrics }
    }

    /// Reconciles an object as soon as it can run.
    pub fn add(&self, object: ObjectKey, priority: Priority) {
        self.metrics.workqueue_add(object.kind.name());
        self.lock().add(object, priority, clock::instant());
        self.changed.notify_one();
    }

    /// How many objects wait to run.
    pub fn depth(&self) -> BTreeMap<(Kind, Priority), usize> {
        self.lock().depth().clone()
    }

    /// The next start, or when to ask again.
    fn pop(&self, door: &mut Door<'_>) -> Result<Started<Option<Permit>>, Option<Instant>> {
        let now = clock::instant();
        let mut queue = self.lock();
        let started = queue.pop(now, door);
        let again = if queue.has_new() { Some(now) } else { queue.next_wake() };
        started.ok_or(again)
    }

    fn done(&self, object: &ObjectKey, requeue: Requeue) {
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

    fn lock(&self) -> MutexGuard<'_, WorkQueue> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs reconciles until the stop, then waits for those that run.
pub async fn run(ctx: &Arc<Context>, stop: &CancellationToken) {
    // Nothing is judged missing by a list that is not complete.
    if stop.run_until_cancelled(ctx.listed.wait()).await.is_none() {
        return;
    }
    let mut running = JoinSet::new();
    while !stop.is_cancelled() {
        let again = match ctx.queue.pop(&mut Door(ctx)) {
            Ok(started) => {
                let kind = started.object.kind.name();
                ctx.metrics.workqueue_waited(kind, started.waited);
                running.spawn(reconcile(Arc::clone(ctx), started));
                continue;
            }
            Err(again) => again,
        };
        let wait = again.map_or(IDLE, |again| again.saturating_duration_since(clock::instant()));
        tokio::select! {
            () = stop.cancelled() => {}
            Some(Ok((object, requeue))) = running.join_next() => ctx.queue.done(&object, requeue),
            () = ctx.queue.changed.notified() => {}
            // Yields where more objects are to be resolved.
            () = tokio::time::sleep(wait) => {}
        }
    }
    while running.join_next().await.is_some() {}
}

/// One reconcile. A bug in it stays in its object.
async fn reconcile(ctx: Arc<Context>, started: Started<Option<Permit>>) -> (Arc<ObjectKey>, Requeue) {
    let Started { object, permit, .. } = started;
    let work = AssertUnwindSafe(reconcile_kind(&ctx, &object, permit)).catch_unwind();
    let requeue = work.await.unwrap_or_else(|_| {
        ctx.metrics.panicked();
        Requeue::Retry(AFTER_PANIC)
    });
    (object, requeue)
}

async fn reconcile_kind(ctx: &Arc<Context>, object: &ObjectKey, permit: Option<Permit>) -> Requeue {
    match object.kind {
        Kind::Channel => {
            let Some(found) = ctx.channels.get(&reference(object)) else { return Requeue::Never };
            match channel::reconcile(Arc::clone(&found), Arc::clone(ctx), permit).await {
                Ok(requeue) => requeue,
                Err(error) => channel::error_policy(found, &error, Arc::clone(ctx)),
            }
        }
        Kind::Workspace => reconcile_workspace(ctx.workspaces.get(&reference(object)), ctx).await,
        Kind::ClusterWorkspace => {
            reconcile_workspace(ctx.cluster_workspaces.get(&reference(object)), ctx).await
        }
    }
}

async fn reconcile_workspace<K: workspace::Kind>(found: Option<Arc<K>>, ctx: &Arc<Context>) -> Requeue {
    let Some(found) = found else { return Requeue::Never };
    match workspace::reconcile(Arc::clone(&found), Arc::clone(ctx)).await {
        Ok(requeue) => requeue,
        Err(error) => workspace::error_policy(found, &error, Arc::clone(ctx)),
    }
}

fn reference<K: kube::runtime::reflector::Lookup<DynamicType = ()>>(object: &ObjectKey) -> ObjectRef<K> {
    let reference = ObjectRef::new(&object.name);
    match &object.namespace {
        Some(namespace) => reference.within(namespace),
        None => reference,
    }
}

// === impl Door ===

impl Gate for Door<'_> {
    type Permit = Option<Permit>;

    fn resolve(&mut self, object: &ObjectKey, now: Instant) -> Resolved {
        let ctx = self.0;
        match object.kind {
            Kind::Channel => {
                let found = ctx.channels.get(&reference(object));
                found.map_or(Resolved::Gone, |found| channel::resolve(&found, ctx, now))
            }
            Kind::Workspace => {
                let found = ctx.workspaces.get(&reference::<Workspace>(object));
                found.map_or(Resolved::Gone, |found| workspace::resolve(&*found, ctx, now))
            }
            Kind::ClusterWorkspace => {
                let found = ctx.cluster_workspaces.get(&reference::<ClusterWorkspace>(object));
                found.map_or(Resolved::Gone, |found| workspace::resolve(&*found, ctx, now))
            }
        }
    }

    fn admit(
        &mut self,
        object: &ObjectKey,
        route: &Route,
        now: Instant,
    ) -> Result<(Self::Permit, u32), Blocked> {
        let Some(key) = route.key else { return Ok((None, 1)) };
        // An object that does not exist any more ends at once.
        let Some(found) = self.0.channels.get(&reference(object)) else { return Ok((None, 1)) };
        let (workspace, tokens) = channel::tokens(&found, self.0);
        let caller = Caller { namespace: object.namespace.clone(), workspace, lane: Lane::User };
        match self.0.ohallo.permit(key, &caller, tokens, now) {
            Ok(permit) => Ok((Some(permit), tokens)),
            Err(NotYet::Key(Refusal { wait, for_all })) => Err(Blocked::Key { until: now + wait, for_all }),
            Err(NotYet::AllKeys(Refusal { wait, for_all })) => {
                Err(Blocked::AllKeys { until: now + wait, for_all })
            }
        }
    }
}
