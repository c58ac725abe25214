//! Runs reconciles: the workers behind the work queue that the whole process shares.
//!
//! It replaces `kube::runtime::Controller`, whose scheduler is first in, first out over all namespaces. That
//! scheduler also starts a reconcile before the rate limit of its API key allows it, and has an unbounded
//! channel for requeues.
//! - A reconciler gets the newest stored object. An object that is not stored is dropped from the queue.
//! - An object never runs twice at the same time. An event during a run requeues the object after it.
//! - An event replaces a requeue time.
//! - Nothing starts before every kind was listed once.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::queue::IDLE;
use crate::{channel, kinds};
use ohallo_client::{Caller, NotYet, Permit, clock};
use ohallo_core::backoff::Requeue;
use ohallo_core::priority::Priority;
use ohallo_core::rate_limiter::Refusal;
use ohallo_core::work_queue::{Blocked, Gate, ObjectKey, Resolved, Route, Started};

/// The wait after a reconcile whose panic nothing else caught.
const AFTER_PANIC: Duration = Duration::from_secs(60);

/// How often a Channel asks whether the check of its API key is over.
const KEY_CHECK_POLL: Duration = Duration::from_secs(1);

/// Decides what may start: by the objects' cooldowns and by the rate limits of the API keys.
struct QueueGate<'a>(&'a Arc<Context>);

/// Runs reconciles until the stop, then waits for those that run.
pub async fn run(ctx: &Arc<Context>, stop: &CancellationToken) {
    // An incomplete list must not make an object look missing.
    if stop.run_until_cancelled(ctx.listed.wait()).await.is_none() {
        return;
    }
    let mut running = JoinSet::new();
    while !stop.is_cancelled() {
        let again = match ctx.queue.pop(&mut QueueGate(ctx)) {
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
            () = ctx.queue.added() => {}
            // Yields between batches when more objects are to be resolved.
            () = tokio::time::sleep(wait) => {}
        }
    }
    while running.join_next().await.is_some() {}
}

/// Runs one reconcile. A panic affects only its own object.
async fn reconcile(ctx: Arc<Context>, started: Started<Option<Permit>>) -> (Arc<ObjectKey>, Requeue) {
    let Started { object, permit, .. } = started;
    let work = AssertUnwindSafe(kinds::reconcile(&ctx, &object, permit)).catch_unwind();
    let requeue = work.await.unwrap_or_else(|_| {
        ctx.metrics.panicked();
        Requeue::Retry(AFTER_PANIC)
    });
    (object, requeue)
}

// === impl QueueGate ===

impl Gate for QueueGate<'_> {
    type Permit = Option<Permit>;

    fn resolve(&mut self, object: &ObjectKey, now: Instant) -> Resolved {
        kinds::resolve(self.0, object, now)
    }

    fn admit(
        &mut self,
        object: &ObjectKey,
        route: &Route,
        now: Instant,
    ) -> Result<(Self::Permit, u32), Blocked> {
        let Some(key) = route.key else { return Ok((None, 1)) };
        // A deleted object ends at once.
        let Some(found) = self.0.stores.channels.get(&kinds::reference(object)) else { return Ok((None, 1)) };
        let Some((workspace, tokens)) = channel::tokens(&found, self.0) else {
            return Err(Blocked::Object { until: now + KEY_CHECK_POLL });
        };
        let caller =
            Caller { namespace: object.namespace.clone(), workspace, priority: Priority::Interactive };
        match self.0.ohallo.permit(key, &caller, tokens, now) {
            Ok(permit) => Ok((Some(permit), tokens)),
            Err(NotYet::Key(Refusal { wait, for_all })) => Err(Blocked::Key { until: now + wait, for_all }),
            Err(NotYet::AllKeys(Refusal { wait, for_all })) => {
                Err(Blocked::AllKeys { until: now + wait, for_all })
            }
        }
    }
}
