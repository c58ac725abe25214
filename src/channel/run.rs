//! The loop of one reconcile: observe, plan, execute one effect after the other, apply each answer, write one status.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use kube::ResourceExt;
use tracing::Instrument;

use crate::channel::execute::{execute, write_status};
use crate::channel::io::{Io, now};
use crate::channel::observe::observe;
use crate::context::Context;
use crate::kubernetes::object_store;
use crate::reconciler::{Ended, WriteError};
use ohallo_client::Session;
use ohallo_client::heavy::HeavySlot;
use ohallo_core::api::channel::{Channel, ChannelStatus};
use ohallo_core::api::conditions::Reason;
use ohallo_core::api::values::ReconcileResult;
use ohallo_core::backoff::{self, Requeue};
use ohallo_core::channel::effect::{Answer, Cursor, EffectError, Next};
use ohallo_core::channel::in_memory_state::UnrecordedGuard;
use ohallo_core::channel::model::{Outcome, Plan, Step};
use ohallo_core::channel::plan::plan;
use ohallo_core::channel::state::{Reported, State, StatusWrite};
use ohallo_core::channel::stored;
use ohallo_core::failure::{Failure, Retry};
use ohallo_core::lease::election::Epoch;
use ohallo_core::shortage::Shortage;

/// The most steps of one reconcile: more indicate a bug of the operator.
const MAX_STEPS: usize = 12;

/// The longest wait before an id that no status holds is written again.
const MAX_RECORD_BACKOFF: Duration = Duration::from_secs(10);

/// One reconcile of one Channel.
pub struct Reconcile {
    pub io: Io,
    pub state: State,
}

/// How the run of a reconcile ended; `None`: the object is deleted.
pub struct Finish(Option<Outcome>);

impl From<Failure> for Finish {
    fn from(failure: Failure) -> Self {
        Self(Some(Outcome::Failed(failure)))
    }
}

/// Runs one reconcile.
pub async fn run(held: &mut Option<Box<Reconcile>>) -> Finish {
    Finish(execute_plans(held).await)
}

/// Reports one reconcile. A create that continues in its task has taken the state along: then what it remembered counts.
pub async fn report(
    held: Option<Box<Reconcile>>,
    object: &Channel,
    ctx: &Arc<Context>,
    outcome: Finish,
) -> Ended {
    let mut reconcile = match (held, ctx.leadership.epoch()) {
        (Some(reconcile), _) => reconcile,
        (None, Some(epoch)) => Reconcile::begin(ctx, object.clone(), epoch, ctx.ohallo.heavy().slot()),
        (None, None) => {
            let requeue = Ok(Requeue::Never);
            let (result, failure, shortage) = (ReconcileResult::Deferred, None, None);
            return Ended { result, requeue, failure, shortage, notable: false };
        }
    };
    let failure = outcome.0.as_ref().and_then(Outcome::failure).cloned();
    let shortage = reconcile.shortage();
    let (requeue, result) = match outcome.0 {
        Some(outcome) => reconcile.report(&outcome).await,
        None => {
            let (wake, result) = reconcile.finish();
            (Ok(wake), result)
        }
    };
    let requeue = match requeue {
        Ok(wake) if result == ReconcileResult::Deferred => Ok(Requeue::Deferred(wake)),
        Ok(wake) if result == ReconcileResult::Transient => Ok(Requeue::Retry(wake)),
        Ok(wake) => Ok(Requeue::After(wake)),
        Err(failure) => return Ended::unwritten(WriteError::Failed(failure)),
    };
    let quiet = matches!(
        result,
        ReconcileResult::InSync
            | ReconcileResult::Deferred
            | ReconcileResult::InFlight
            | ReconcileResult::Waiting
    );
    let shortage = shortage.filter(|_| result == ReconcileResult::Deferred);
    Ended { result, requeue, failure, shortage, notable: !quiet }
}

/// Observes, plans and executes until nothing is left to do, a requeue is needed, or a step fails. `None`: the object is
/// deleted. `held` is empty while a create has the state.
async fn execute_plans(held: &mut Option<Box<Reconcile>>) -> Option<Outcome> {
    if let Some(Reconcile { io, state }) = held.as_deref_mut() {
        if let Some(lost) = state.resent() {
            // The report resends the status, and nothing else is decided before the API server stores it.
            return Some(Outcome::Failed(stored::failure(lost)));
        }
        if let Err(failure) = observe(io, state).await {
            return Some(Outcome::Failed(failure));
        }
    }
    for _ in 0..MAX_STEPS {
        let step = match plan(&held.as_ref()?.state.input(now())) {
            Plan::Settled(conclusion) => return Some(Outcome::Settled(conclusion)),
            Plan::Work(step) => step,
        };
        let pushes = matches!(step, Step::PushCredentials { .. });
        let next = if step.outlives_reconcile() {
            let (back, next) = held.take()?.create_in_task(step).await;
            *held = Some(back);
            next
        } else {
            held.as_mut()?.perform(&step).await
        };
        let superseded = held.as_ref().is_some_and(|reconcile| reconcile.state.is_superseded());
        match next {
            Ok(Next::Finished) => return None,
            Ok(Next::Plan) if !superseded => {}
            Ok(_) => return Some(Outcome::More),
            Err(failure) if pushes => return Some(Outcome::PushFailed(failure)),
            Err(failure) => return Some(Outcome::Failed(failure)),
        }
    }
    Some(Outcome::More)
}

/// Tries to record every id that oHallo returned and no status holds. Returns how many are left.
///
/// For a process that does not reconcile: one that is shutting down, or a standby.
pub async fn record_unrecorded(ctx: &Arc<Context>) -> usize {
    let mut left = 0;
    // Usually there are none: this check avoids a copy of each object's in-memory state.
    if ctx.metrics.ids_unrecorded() == 0 {
        return left;
    }
    for channel in ctx.stores.channels.state() {
        let cell = ctx.memory(&channel.uid().unwrap_or_default());
        let memory = cell.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // The task of a create waits for an API server that does not respond.
        let (Some(_), Some(own), false) = (memory.unrecorded_id(), &memory.attempt, memory.lost.is_empty())
        else {
            continue;
        };
        let epoch = memory.epoch.unwrap_or(Epoch { term: 0, transitions: 0 });
        let api = kube::Api::namespaced(ctx.client.clone(), &channel.namespace().unwrap_or_default());
        let Ok(Some(fresh)) = object_store::read(&api, &*channel).await else {
            left += 1;
            continue;
        };
        let reconcile = Reconcile::begin(ctx, fresh, epoch, ctx.ohallo.heavy().slot());
        let (reconcile, _) = reconcile.create(Step::RecordId { attempt: own.number }).await;
        left += usize::from(reconcile.state.memory().unrecorded_id().is_some());
    }
    left
}

// === impl Reconcile ===

impl Reconcile {
    /// Begins a reconcile of the object, with what this process remembers of it.
    pub fn begin(ctx: &Arc<Context>, channel: Channel, epoch: Epoch, slot: HeavySlot) -> Box<Self> {
        let (io, state) = Io::begin(ctx, channel, epoch, slot);
        Box::new(Self { io, state })
    }

    /// What deferred its last call, or kept it from the first one.
    fn shortage(&self) -> Option<Shortage> {
        let no_key = || match &self.state.observed().workspace {
            Err(failure) if matches!(failure.retry, Retry::Deferred(_)) => Some(Shortage::Key),
            Err(_) | Ok(_) => None,
        };
        self.io.session.as_ref().map_or_else(no_key, Session::shortage)
    }

    /// Executes the effects of one step, in their order.
    async fn perform(&mut self, step: &Step) -> Result<Next, Failure> {
        let Self { io, state } = self;
        let mut cursor = Cursor::new(step);
        state.begin_step();
        while let Some(effect) = cursor.effect() {
            if effect.is_prepared() {
                state.prepare(step, effect, now());
                io.remember(state);
            }
            let answer = execute(io, state, step, effect).await;
            let next = state.apply(step, effect, answer, &mut io.ctx.consistency(), now());
            if !effect.is_immediate() || next.is_err() {
                io.remember(state);
            }
            let next = next?;
            if !cursor.advance(next) {
                return Ok(next);
            }
        }
        Ok(Next::Plan)
    }

    /// Runs the create in a task of its own, to its end, even if the reconcile that waits for it ends first.
    async fn create_in_task(mut self: Box<Self>, step: Step) -> (Box<Self>, Result<Next, Failure>) {
        let (ctx, channel, epoch) = (Arc::clone(&self.io.ctx), self.state.light_object(), self.io.epoch);
        match ctx.tasks.spawn(Box::pin(self.create(step)).in_current_span()).await {
            Ok(done) => done,
            Err(_) => {
                ctx.metrics.panicked();
                let mut reconcile = Self::begin(&ctx, channel, epoch, ctx.ohallo.heavy().slot());
                reconcile.state.create_panicked();
                reconcile.io.remember(&mut reconcile.state);
                let text = "The operator failed while it created the channel.";
                (reconcile, Err(Failure::transient(Reason::InternalError, text)))
            }
        }
    }

    /// Sends a create whose intent is written, and writes the id into the status until that succeeds. `step` is the first
    /// of these steps.
    async fn create(mut self: Box<Self>, mut step: Step) -> (Box<Self>, Result<Next, Failure>) {
        let mut failures = 0;
        loop {
            if let Step::RecordId { .. } = step {
                let metrics = Arc::clone(&self.io.ctx.metrics);
                self.state.count_unrecorded(|| UnrecordedGuard::new(metrics.id_unrecorded()));
            }
            match self.perform(&step).await {
                Ok(Next::Plan) => {}
                Ok(Next::PlanAfterBackoff) => {
                    failures += 1;
                    let wait = backoff::backoff(failures, 1.0).min(MAX_RECORD_BACKOFF);
                    if self.io.ctx.ended.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                        let text = "The operator stopped before it recorded the id.";
                        return (self, Err(Failure::transient(Reason::InternalError, text)));
                    }
                }
                ended => return (self, ended),
            }
            step = match plan(&self.state.input(now())) {
                Plan::Work(step) if step.outlives_reconcile() => step,
                Plan::Work(_) | Plan::Settled(_) => return (self, Ok(Next::Plan)),
            };
        }
    }

    /// Reports the end of a reconcile: the status if it differs, then the events. Returns when to requeue, or why the
    /// status could not be written.
    async fn report(&mut self, outcome: &Outcome) -> (Result<Duration, Failure>, ReconcileResult) {
        // No further call follows.
        let tokens = self.io.session.take().map_or(0, |session| session.needed());
        self.io.permit = None;
        self.state.needs_tokens(tokens);
        let random = rand::random();
        let summary = self.state.summarize(outcome, random, now());
        let status = self.state.status_to_report(&summary);
        let written = match self.write(status).await {
            Ok(written) => written,
            Err(error) => return (Err(error), ReconcileResult::Unwritten),
        };
        let inputs = self.io.inputs(&self.state);
        let reported = self.state.reported(outcome, &summary, written, inputs, random, now());
        let (wake, result) = match reported {
            Reported::Done(wake, result) => (wake, result),
            Reported::NotStored(summary) => {
                let status = self.state.loss_to_report(&summary);
                let written = match self.write(status).await {
                    Ok(written) => written,
                    Err(error) => return (Err(error), ReconcileResult::Unwritten),
                };
                let inputs = self.io.inputs(&self.state);
                self.state.loss_reported(&summary, written, inputs, now())
            }
        };
        self.io.remember(&mut self.state);
        if result != ReconcileResult::Conflict {
            self.io.publish_events(&mut self.state);
        }
        if self.state.gives_up_id(result) {
            let requeues = self.io.ctx.index().give_up_adoption(&self.io.uid);
            self.io.ctx.requeue(requeues);
        }
        (Ok(wake), result)
    }

    /// Writes the status, if there is one to write. On a newer version with the same inputs it is written again.
    async fn write(&mut self, status: Option<ChannelStatus>) -> Result<Option<StatusWrite>, Failure> {
        let Some(status) = status else { return Ok(None) };
        self.state.prepare_status(&status);
        self.io.remember(&mut self.state);
        loop {
            let answer = if self.io.leads() {
                write_status(&self.io, &self.state, &status).await
            } else {
                Ok(Answer::Rejected)
            };
            let answer = match answer {
                Ok(answer) => answer,
                Err(EffectError::Kubernetes { failure, .. }) => return Err(failure),
                Err(_) => Answer::Rejected,
            };
            let written = self.state.status_answered(&status, answer, now());
            self.io.remember(&mut self.state);
            if written != StatusWrite::Repeat {
                return Ok(Some(written));
            }
        }
    }

    /// The end of a deleted object.
    fn finish(&mut self) -> (Duration, ReconcileResult) {
        let inputs = self.io.began().clone();
        let (wake, result) = self.state.finished(inputs, now());
        self.io.remember(&mut self.state);
        self.io.publish_events(&mut self.state);
        (wake, result)
    }
}
