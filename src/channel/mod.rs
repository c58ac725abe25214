//! Channels: one reconcile, as the picture in the crate's documentation shows it.

mod claims;
mod execute;
mod inputs;
mod io;
mod observe;
mod run;

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use kube::ResourceExt;
use tracing::Instrument;

use crate::channel::run::{Reconcile, Report};
use crate::context::Context;
use crate::kubernetes::{error, response_sanitizer};
use crate::telemetry::traces;
use ohallo_client::heavy::{self, HeavySlot};
use ohallo_client::{Permit, clock};
use ohallo_core::api::channel::{Channel, version};
use ohallo_core::api::conditions::kind;
use ohallo_core::api::values::ReconcileResult;
use ohallo_core::backoff::{self, Requeue};
use ohallo_core::channel::in_memory_state::InMemoryState;
use ohallo_core::channel::plan::delete;
use ohallo_core::channel::state::DELETED_CACHE_LAG;
use ohallo_core::channel::triggers::Triggers;
use ohallo_core::channel::{config, settled};
use ohallo_core::conditions::{self, Status};
use ohallo_core::cooldown;
use ohallo_core::failure::{Failure, Retry};
use ohallo_core::index::WorkspaceKey;
use ohallo_core::lease::election::Epoch;
use ohallo_core::work_queue::{ObjectKind, Priority, Resolved, Route};

pub use crate::channel::run::record_unrecorded;

/// The status of a Channel could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the status can't be written")]
pub struct StatusWriteError(#[source] Failure);

/// Brings one Channel closer to what it declares.
///
/// # Errors
/// Only if the status could not be written; every other failure is in the status.
pub async fn reconcile(
    channel: Arc<Channel>,
    ctx: Arc<Context>,
    permit: Option<Permit>,
) -> Result<Requeue, StatusWriteError> {
    let Some(uid) = channel.uid() else { return Ok(Requeue::Never) };
    // A standby does nothing: a new leader requeues every object.
    let Some(epoch) = ctx.leadership.epoch() else { return Ok(Requeue::Never) };
    // Checked again: the inputs may have changed while the object waited in the queue.
    if let Some(rest) = cooldown_remaining(&channel, &uid, &ctx, epoch) {
        return Ok(Requeue::After(rest));
    }
    let slot = ctx.ohallo.heavy().slot();
    let whole = match read_in_full(&channel, &ctx, &slot).await? {
        FullObject::Found(whole) => whole,
        FullObject::Gone => return Ok(Requeue::After(DELETED_CACHE_LAG)),
        FullObject::Busy => return Ok(Requeue::After(heavy::AGAIN + heavy::AGAIN.mul_f64(rand::random()))),
    };
    let started = clock::instant();
    let _active = ctx.metrics.reconciling(ObjectKind::Channel.name());
    let span = traces::reconcile(&*whole);
    let mut reconcile = Reconcile::begin(&ctx, *whole, epoch, slot);
    reconcile.io.permit = permit;
    let channel = reconcile.state.light_object();
    let (report, result) =
        run::run_and_report(reconcile, &channel, &ctx, epoch).instrument(span.clone()).await;
    traces::reconciled(&span, result);
    let took = clock::instant().saturating_duration_since(started);
    ctx.metrics.reconciled(ObjectKind::Channel.name(), result, took);
    log(&channel, result, took, &report);
    match report {
        Report::Wake { after, .. } if result == ReconcileResult::Deferred => Ok(Requeue::Deferred(after)),
        Report::Wake { after, .. } if result == ReconcileResult::Transient => Ok(Requeue::Retry(after)),
        Report::Wake { after, .. } => Ok(Requeue::After(after)),
        Report::Unwritten(failure) => Err(StatusWriteError(failure)),
    }
}

/// An object with everything that its reconcile needs.
enum FullObject {
    Found(Box<Channel>),
    Gone,
    /// The object is heavy, and another heavy object is being reconciled.
    Busy,
}

/// Returns the object from the cache if it is complete there, else from the API server.
async fn read_in_full(
    light: &Channel,
    ctx: &Context,
    slot: &HeavySlot,
) -> Result<FullObject, StatusWriteError> {
    if let Some(kept) = ctx.kept.get(light) {
        return Ok(FullObject::Found(Box::new(kept)));
    }
    let read = async |whole| {
        // The semaphore is never closed; a request ends within its own timeout.
        let _permit = ctx.reads.acquire().await;
        response_sanitizer::read(&ctx.client, light, whole).await
    };
    let unread = |error: kube::Error| StatusWriteError(error::to_failure(&error));
    let Some(found) = read(false).await.map_err(unread)? else { return Ok(FullObject::Gone) };
    if !is_heavy(&found) {
        return Ok(FullObject::Found(Box::new(found)));
    }
    drop(found);
    if !slot.try_take() {
        return Ok(FullObject::Busy);
    }
    let found = read(true).await.map_err(unread)?;
    Ok(found.map_or(FullObject::Gone, |found| FullObject::Found(Box::new(found))))
}

/// Whether a reconcile of this object takes some MiB of memory, for a decoded config that may be sent. Also
/// works on an object of the cache.
pub fn is_heavy(channel: &Channel) -> bool {
    let config = channel.spec.left_out.as_ref().and_then(|left_out| left_out.config);
    let calls = channel.spec.suspend != Some(true) && channel.metadata.deletion_timestamp.is_none();
    calls && config.is_some_and(|size| size.decoded > heavy::LIGHT && config::fits(size))
}

/// When to retry after a status write failed.
pub fn error_policy(channel: Arc<Channel>, _: &StatusWriteError, ctx: Arc<Context>) -> Requeue {
    let cell = ctx.memory(&channel.uid().unwrap_or_default());
    let mut memory = cell.lock().unwrap_or_else(PoisonError::into_inner);
    memory.failures = memory.failures.saturating_add(1);
    Requeue::Retry(backoff::backoff(memory.failures, rand::random()))
}

/// Resolves a Channel for the work queue: deleted, resting, or ready to run.
pub fn resolve(channel: &Channel, ctx: &Context, now: Instant) -> Resolved {
    let (Some(uid), Some(epoch)) = (channel.uid(), ctx.leadership.epoch()) else { return Resolved::Gone };
    if let Some(rest) = cooldown_remaining(channel, &uid, ctx, epoch) {
        return Resolved::Resting(now + rest);
    }
    let handle = WorkspaceKey::of(channel);
    let settled = settled::settled(channel);
    let status = channel.status.clone().unwrap_or_default();
    let deletes =
        channel.metadata.deletion_timestamp.is_none() || delete::should_delete_remote(channel, &status);
    let suspended = channel.spec.suspend == Some(true)
        || ctx.workspace_snapshot(&handle).is_none_or(|workspace| workspace.suspended);
    let held = ctx.cached_key(&handle).filter(|_| deletes && !suspended);
    // Ready expires two read intervals after the last read: the read must happen before that, if the rate limit
    // allows.
    let read = ctx.memory(&uid).lock().unwrap_or_else(PoisonError::into_inner).last_read_at;
    let ready =
        conditions::find(&status.conditions, kind::READY).filter(|ready| Status::of(ready) == Status::True);
    let lapses = ready.is_some_and(|ready| ready.observed_generation == channel.metadata.generation)
        && channel.metadata.deletion_timestamp.is_none();
    let latest = read.filter(|_| lapses).map(|read| read + ctx.read_interval(channel) * 2);
    Resolved::Ready(Route {
        key: held.map(|held| held.key.id()),
        heavy: is_heavy(channel),
        priority: if settled { Priority::Background } else { Priority::Interactive },
        latest,
    })
}

/// The Workspace whose rate limit its calls count against, and how many tokens its reconcile starts with.
pub fn tokens(channel: &Channel, ctx: &Context) -> (WorkspaceKey, u32) {
    let cell = ctx.memory(&channel.uid().unwrap_or_default());
    let tokens = cell.lock().unwrap_or_else(PoisonError::into_inner).tokens;
    (WorkspaceKey::of(channel), tokens.max(1))
}

/// Logs one line for each reconcile; a failed one with its chain of causes in `error`.
fn log(channel: &Channel, result: ReconcileResult, took: Duration, report: &Report) {
    let outcome = result.as_str();
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let (name, namespace, generation) =
        (channel.name_any(), channel.namespace(), channel.metadata.generation);
    let failure = match report {
        Report::Wake { failure, .. } => failure.as_ref(),
        Report::Unwritten(failure) => Some(failure),
    };
    // A deferred call is no failure.
    let failure = failure.filter(|failure| !matches!(failure.retry, Retry::Deferred(_)));
    let error = failure.map(Failure::chain);
    if matches!(report, Report::Unwritten(_)) {
        tracing::warn!(channel = name, namespace, generation, outcome, took_ms, error, "reconciled");
    } else if matches!(
        result,
        ReconcileResult::InSync
            | ReconcileResult::Deferred
            | ReconcileResult::InFlight
            | ReconcileResult::Waiting
    ) {
        tracing::debug!(channel = name, namespace, generation, outcome, took_ms, error, "reconciled");
    } else {
        tracing::info!(channel = name, namespace, generation, outcome, took_ms, error, "reconciled");
    }
}

/// How soon an object that waits for the CustomResourceDefinitions is resolved again. Their return also
/// requeues it.
const OUTDATED_REQUEUE: Duration = Duration::from_secs(30);

/// Whether a status write would destroy what the API server still stores of this object: with an older
/// CustomResourceDefinition it reads objects without the new fields. A status that only memory holds is resent
/// anyway.
fn would_lose(channel: &Channel, memory: &InMemoryState) -> bool {
    let in_memory = memory.unstored.is_some() || memory.unrecorded_id().is_some();
    let marked = channel.has_finalizer();
    let holds = channel.status.as_ref().is_some_and(|it| it.channel_id.is_some() || it.create.is_some());
    (marked || holds) && !in_memory
}

/// How long this object needs no reconcile: it is older than this process's last write, or nothing has changed
/// since its last reconcile.
fn cooldown_remaining(channel: &Channel, uid: &str, ctx: &Context, epoch: Epoch) -> Option<Duration> {
    let cell = ctx.memory(uid);
    let now = clock::instant();
    ctx.consistency().enter(epoch, now);
    let now_inputs = inputs::inputs(ctx, channel);
    let mut memory = cell.lock().unwrap_or_else(PoisonError::into_inner);
    memory.enter(epoch);
    memory.last_read_at.get_or_insert(now);
    if memory.outran(version(channel), now) {
        return Some(Duration::from_secs(5));
    }
    memory.note_read(channel);
    if ctx.schema.lacks().is_some() && would_lose(channel, &memory) {
        return Some(OUTDATED_REQUEUE);
    }
    if !memory.reconciled_once && memory.cooldown.is_none() {
        memory.cooldown = initial_cooldown(channel, &now_inputs);
    }
    let rest = memory.cooldown.as_ref()?.remaining(now, |closed_with| closed_with.changed(&now_inputs))?;
    Some(rest)
}

/// After a restart, a settled Channel is first read at a random point of its interval.
fn initial_cooldown(channel: &Channel, now: &Triggers) -> Option<cooldown::Cooldown<Triggers>> {
    let inputs = Triggers { secrets: settled::pushed_at_rest(channel)?, key: None, ..now.clone() };
    let first = channel.spec.interval().mul_f64(rand::random());
    Some(cooldown::Cooldown::new(inputs, clock::instant() + first))
}

#[cfg(test)]
mod tests {
    use ohallo_core::api::conditions::Reason;
    use ohallo_core::classify::{ApiError, Class, ErrorKind};

    use super::*;
    use crate::telemetry::logs::tests::logged;

    #[test]
    fn the_log_line_of_a_failed_reconcile_shows_the_chain_of_causes() {
        let refused = "tcp connect error: Connection refused (os error 111)";
        let failure = Failure::from(ApiError::new(Class::NotSent, ErrorKind::NotConnected, refused));
        let channel = Channel::new("sales", Default::default());
        let line = |failure, result| {
            let report = Report::Wake { after: Duration::ZERO, failure };
            logged("debug", true, || log(&channel, result, Duration::ZERO, &report))
        };
        let text = line(Some(failure), ReconcileResult::Transient);
        let chain = format!("\"error\":\"oHallo's API can't be reached; the operator retries: {refused}\"");
        assert!(text.contains(&chain), "{text}");
        let denied = Failure::transient(Reason::InternalError, "The status was not written.");
        let report = Report::Unwritten(denied.caused_by(std::io::Error::other("403 Forbidden")));
        let text =
            logged("debug", true, || log(&channel, ReconcileResult::Unwritten, Duration::ZERO, &report));
        assert!(text.contains("\"error\":\"The status was not written: 403 Forbidden\""), "{text}");
        for quiet in [
            line(None, ReconcileResult::InSync),
            line(Some(Failure::deferred(Duration::ZERO)), ReconcileResult::Deferred),
        ] {
            assert!(quiet.contains("reconciled") && !quiet.contains("error"), "{quiet}");
        }
    }
}
