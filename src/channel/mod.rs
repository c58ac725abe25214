// I/O
//! Channels: one reconcile, as the picture in the crate's documentation shows it.

pub mod ahead;
pub mod config;
pub mod conflict;
pub mod create;
pub mod cut;
pub mod delete;
pub mod inputs;
pub mod kept;
pub mod memory;
pub mod plan;
#[cfg(test)]
pub mod sample;
pub mod status;
pub mod update;

mod act;
mod born;
pub mod credentials;
mod observe;
mod pass;
mod report;
mod work;

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use tracing::Instrument;

use crate::api::channel::{Channel, ChannelStatus};
use crate::api::conditions::{Reason, kind};
use crate::api::{annotation, finalizer};
use crate::clock;
use crate::conditions;
use crate::context::Context;
use crate::error::Failure;
use crate::heavy::{self, HeavySlot};
use crate::leader::Epoch;
use crate::retry;
use crate::secret_id::SecretId;
use crate::sieve;
use crate::telemetry::traces;
pub use report::plain;

use act::{Next, perform};
use inputs::{Inputs, Version};
use pass::Pass;
use plan::{Plan, Step, plan};
use report::{Report, report};
use status::Outcome;

/// The longest that one pass may take.
const LONGEST: Duration = Duration::from_secs(120);

/// How long a pass waits for the first list of the workspaces before it gives way.
const LISTED: Duration = Duration::from_secs(1);

/// How long a heavy object waits while another is reconciled, at least.
const BUSY: Duration = Duration::from_secs(1);

/// How long the cache may have an object that the API server has not.
const GONE: Duration = Duration::from_secs(60);

/// The most steps of one pass: more can only be a mistake of ours.
const MOST_STEPS: usize = 12;

/// The status of a Channel could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the status can't be written: {0}")]
pub struct Unwritten(String);

/// Brings one Channel closer to what it declares.
///
/// # Errors
/// Only if the status could not be written; every other failure is in the status.
pub async fn reconcile(channel: Arc<Channel>, ctx: Arc<Context>) -> Result<Action, Unwritten> {
    let Some(uid) = channel.uid() else { return Ok(Action::await_change()) };
    // Nothing is judged missing by a list that has not come yet.
    if !ctx.listed.within(LISTED).await {
        return Ok(Action::requeue(LISTED));
    }
    // A standby does nothing: whoever begins to lead looks at everything.
    let Some(epoch) = ctx.leadership.epoch() else { return Ok(Action::await_change()) };
    if let Some(rest) = rests(&channel, &uid, &ctx, epoch) {
        return Ok(Action::requeue(rest));
    }
    let slot = ctx.ohallo.heavy().slot();
    let whole = match in_full(&channel, &ctx, &slot).await? {
        InFull::Found(whole) => whole,
        InFull::Gone => return Ok(Action::requeue(GONE)),
        InFull::Busy => return Ok(Action::requeue(BUSY + BUSY.mul_f64(rand::random()))),
    };
    let started = clock::instant();
    let _active = ctx.metrics.reconciling("Channel");
    let span = traces::pass(&*whole);
    let mut first = Box::new(Pass::new(&ctx, *whole, epoch, slot));
    let channel = first.channel.without_config();
    let (report, result) = pass(first, &channel, &ctx, epoch).instrument(span.clone()).await;
    traces::passed(&span, result);
    let took = clock::instant().saturating_duration_since(started);
    ctx.metrics.reconciled("Channel", result, took);
    log(&channel, result, took, &report);
    match report {
        Report::Wake(wake) => Ok(Action::requeue(wake)),
        Report::Unwritten(error) => Err(Unwritten(report::plain(&error))),
    }
}

/// An object with all that a reconcile needs of it.
enum InFull {
    Found(Box<Channel>),
    Gone,
    /// It is heavy, and another heavy one is being reconciled.
    Busy,
}

/// The object as the cache keeps it, else as the API server has it.
async fn in_full(light: &Channel, ctx: &Context, slot: &HeavySlot) -> Result<InFull, Unwritten> {
    if let Some(kept) = ctx.kept.get(light) {
        return Ok(InFull::Found(Box::new(kept)));
    }
    let read = async |whole| {
        // Never closed; a request ends within its own time.
        let _permit = ctx.reads.acquire().await;
        sieve::read(&ctx.client, light, whole).await
    };
    let unread = |error: kube::Error| Unwritten(report::plain(&error));
    let Some(found) = read(false).await.map_err(unread)? else { return Ok(InFull::Gone) };
    if !is_heavy(&found) {
        return Ok(InFull::Found(Box::new(found)));
    }
    drop(found);
    if !slot.try_take() {
        return Ok(InFull::Busy);
    }
    let found = read(true).await.map_err(unread)?;
    Ok(found.map_or(InFull::Gone, |found| InFull::Found(Box::new(found))))
}

/// Whether a reconcile of this object takes some MiB of memory: what a config that may be sent becomes once decoded.
/// An object of the cache may say so too.
pub fn is_heavy(channel: &Channel) -> bool {
    let config = channel.spec.left_out.as_ref().and_then(|left_out| left_out.config);
    let calls = channel.spec.suspend != Some(true) && channel.metadata.deletion_timestamp.is_none();
    calls && config.is_some_and(|size| size.decoded > heavy::LIGHT && config::fits(size))
}

/// One pass within its time, and its report. A bug in it stays in its object.
async fn pass(
    first: Box<Pass>,
    channel: &Channel,
    ctx: &Arc<Context>,
    epoch: Epoch,
) -> (Report, &'static str) {
    let work = tokio::time::timeout(LONGEST, run(first));
    let failed = |reason, text| {
        let failure = Failure::transient(reason, text);
        let slot = ctx.ohallo.heavy().slot();
        (Box::new(Pass::new(ctx, channel.clone(), epoch, slot)), Some(Outcome::Failed(failure)))
    };
    let (pass, outcome) = match AssertUnwindSafe(work).catch_unwind().await {
        Ok(Ok(done)) => done,
        Ok(Err(_)) => failed(Reason::ApiUnavailable, "A pass took too long; it is tried again by itself."),
        Err(_) => {
            ctx.metrics.panicked();
            let text = "The operator failed on this object; its log has the place. It is tried again.";
            failed(Reason::InternalError, text)
        }
    };
    let Some(outcome) = outcome else { return report::gone(pass) };
    AssertUnwindSafe(report(pass, &outcome)).catch_unwind().await.unwrap_or_else(|_| {
        ctx.metrics.panicked();
        (Report::Wake(LONGEST), "transient")
    })
}

/// How the controller goes on when a status could not be written.
pub fn error_policy(channel: Arc<Channel>, _: &Unwritten, ctx: Arc<Context>) -> Action {
    let cell = ctx.memory(&channel.uid().unwrap_or_default());
    let mut memory = cell.lock().unwrap_or_else(PoisonError::into_inner);
    memory.failures = memory.failures.saturating_add(1);
    Action::requeue(retry::backoff(memory.failures, rand::random()))
}

/// One line for each pass.
fn log(channel: &Channel, outcome: &str, took: Duration, report: &Report) {
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let (name, namespace, generation) =
        (channel.name_any(), channel.namespace(), channel.metadata.generation);
    if let Report::Unwritten(error) = report {
        let error = report::plain(error);
        tracing::warn!(channel = name, namespace, generation, outcome, took_ms, error, "reconciled");
    } else if matches!(outcome, "in_sync" | "deferred" | "in_flight" | "waiting") {
        tracing::debug!(channel = name, namespace, generation, outcome, took_ms, "reconciled");
    } else {
        tracing::info!(channel = name, namespace, generation, outcome, took_ms, "reconciled");
    }
}

/// How long this object need not be looked at: it is older than what this process wrote, or nothing has changed since its last pass.
fn rests(channel: &Channel, uid: &str, ctx: &Context, epoch: Epoch) -> Option<Duration> {
    let cell = ctx.memory(uid);
    let now = clock::instant();
    let now_inputs = pass::inputs(ctx, channel);
    let mut memory = cell.lock().unwrap_or_else(PoisonError::into_inner);
    memory.enter(epoch);
    memory.read.get_or_insert(now);
    if memory.outran(pass::version(channel), now) {
        return Some(Duration::from_secs(5));
    }
    if !memory.seen && memory.gate.is_none() {
        // One that is not kept is reconciled at once.
        memory.gate = ctx.kept.get(channel).and_then(|whole| first_look(&whole, &now_inputs));
    }
    let rest = memory.gate.as_ref()?.closed(now, |closed_with| closed_with.changed(&now_inputs))?;
    Some(rest)
}

/// After a restart a settled Channel is first read at a random point of its interval.
fn first_look(channel: &Channel, now: &Inputs) -> Option<retry::Gate<Inputs>> {
    let status = channel.status.as_ref()?;
    let requested =
        channel.annotations().get(annotation::RECONCILE_REQUESTED).map(|value| plan::cut_request(value));
    let settled = conditions::is_true(&status.conditions, kind::READY)
        && status.observed_generation == channel.metadata.generation
        && status.last_handled_reconcile_at == requested
        && test_is_over(channel, status)
        && channel.metadata.deletion_timestamp.is_none()
        && (channel.finalizers().iter().any(|name| name == finalizer::CHANNEL)
            || status.planned_changes.is_empty());
    let namespace = channel.namespace().unwrap_or_default();
    let sources = status.credentials.iter().flat_map(|credentials| &credentials.sources);
    let pushed = sources
        .map(|source| (SecretId::of(&namespace, &source.name), Version::present(&source.resource_version)));
    let inputs = Inputs { secrets: pushed.collect(), key: None, ..now.clone() };
    let seconds = channel.spec.interval_seconds.unwrap_or(600).clamp(60, 86_400).unsigned_abs();
    let first = Duration::from_secs(seconds).mul_f64(rand::random());
    settled.then(|| retry::Gate::new(inputs, clock::instant() + first))
}

/// No connectivity test is asked for, and none was recorded whose result was not.
fn test_is_over(channel: &Channel, status: &ChannelStatus) -> bool {
    let asked = channel.annotations().get(annotation::TEST_REQUESTED).map(|value| plan::cut_request(value));
    let test = status.test.clone().unwrap_or_default();
    (asked.is_none() || asked == test.handled_request) && (test.request.is_none() || test.result.is_some())
}

/// Observes, plans and acts until there is nothing to do, a look is needed, or a step fails. `None`: the object is gone.
async fn run(mut pass: Box<Pass>) -> (Box<Pass>, Option<Outcome>) {
    if let Err(failure) = observe::observe(&mut pass).await {
        return (pass, Some(Outcome::Failed(failure)));
    }
    for _ in 0..MOST_STEPS {
        let step = match plan(&pass.view()) {
            Plan::Settled(verdict) => return (pass, Some(Outcome::Settled(verdict))),
            Plan::Work(step) => step,
        };
        let pushes = matches!(step, Step::PushCredentials { .. });
        let (after, next) = perform(pass, step).await;
        pass = after;
        match next {
            Ok(Next::Plan) if pass.superseded => return (pass, Some(Outcome::More)),
            Ok(Next::Plan) => {}
            Ok(Next::Look) => return (pass, Some(Outcome::More)),
            Ok(Next::Gone) => return (pass, None),
            Err(failure) if pushes => return (pass, Some(Outcome::PushFailed(failure))),
            Err(failure) => return (pass, Some(Outcome::Failed(failure))),
        }
    }
    (pass, Some(Outcome::More))
}
