//! The shell that every kind shares: timeout, `catch_unwind`, a report on every path, the error policy, the log line, the
//! span and the metrics of a reconcile. A kind brings its types, and how it begins, runs and reports.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use kube::ResourceExt;
use kube::runtime::reflector::Store;
use tracing::Instrument;

use crate::context::Context;
use crate::kubernetes::error;
use crate::kubernetes::object_store::{Object, has_code};
use crate::telemetry::traces;
use ohallo_client::{Permit, clock};
use ohallo_core::api::ObjectKind;
use ohallo_core::api::conditions::Reason;
use ohallo_core::api::values::ReconcileResult;
use ohallo_core::backoff::{self, Requeue};
use ohallo_core::failure::{Failure, Retry};
use ohallo_core::shortage::Shortage;
use ohallo_core::work_queue::Resolved;

/// How soon an object is requeued whose report panicked.
const AFTER_PANIC: Duration = Duration::from_secs(120);

/// A kind that the operator reconciles.
pub trait Reconciler: Object + Send + Sync + 'static {
    /// Its name in logs, metrics and traces.
    const KIND: ObjectKind;
    /// The longest duration of one reconcile.
    const TIMEOUT: Duration;
    /// One reconcile: its state, and what it uses.
    type Reconcile: Send;
    /// How its run ended.
    type Outcome: From<Failure> + Send;

    fn store(ctx: &Context) -> &Store<Self>;

    /// Resolves the object for the work queue: deleted, resting, or ready to run.
    fn resolve(&self, ctx: &Context, now: Instant) -> Resolved;

    /// Begins a reconcile, unless the object rests. `permit`: tokens that were taken before.
    fn begin(
        self: Arc<Self>,
        ctx: &Arc<Context>,
        permit: Option<Permit>,
    ) -> impl Future<Output = Result<Start<Self>, WriteError>> + Send;

    /// Observes, plans, executes and applies. `None` in `reconcile`: a task has taken the state along.
    fn run(reconcile: &mut Option<Box<Self::Reconcile>>) -> impl Future<Output = Self::Outcome> + Send;

    /// Reports the outcome: one status if it differs, then the events. `None`: begins again from what is remembered.
    fn report(
        reconcile: Option<Box<Self::Reconcile>>,
        object: &Self,
        ctx: &Arc<Context>,
        outcome: Self::Outcome,
    ) -> impl Future<Output = Ended> + Send;

    /// Counts a write that the API server did not accept; how many in a row.
    fn count_unwritten(&self, ctx: &Context) -> u32;

    /// The name of the object in the log line: the fields `channel`, `kind` and `name`.
    fn log_names(&self) -> [Option<String>; 3] {
        [None, Some(Self::KIND.name().into()), Some(self.name_any())]
    }
}

/// Whether a reconcile starts.
pub enum Start<K: Reconciler> {
    /// It starts, of this object.
    Now(Box<K::Reconcile>, Box<K>),
    Later(Requeue),
}

/// How a reconcile ended.
pub struct Ended {
    pub result: ReconcileResult,
    pub requeue: Result<Requeue, WriteError>,
    /// Why it ended early.
    pub failure: Option<Failure>,
    /// What it lacked, if it ended for want of something.
    pub shortage: Option<Shortage>,
    /// It is worth a log line at the default level.
    pub notable: bool,
}

/// The API server did not accept a write, or did not answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    #[error("the API server did not accept a write")]
    Failed(#[source] Failure),
    #[error("the API server did not keep the status")]
    NotKept,
    /// The object changed during the reconcile. This is no error: it is reconciled again.
    #[error("the object has a newer version")]
    Outdated,
}

/// Reconciles the object once. A panic affects only this object.
pub async fn reconcile<K: Reconciler>(object: Arc<K>, ctx: &Arc<Context>, permit: Option<Permit>) -> Requeue {
    let began = clock::instant();
    let (reconcile, current) = match K::begin(Arc::clone(&object), ctx, permit).await {
        Ok(Start::Now(reconcile, current)) => (reconcile, *current),
        Ok(Start::Later(requeue)) => return requeue,
        Err(error) => {
            finish(&*object, ctx, began, &Ended::unwritten(error.clone()));
            return retry(&*object, ctx);
        }
    };
    let _active = ctx.metrics.reconciling(K::KIND.name());
    let span = traces::reconcile(&current);
    // Boxed: the wrappers below and here would each copy some KiB of state.
    let ended = Box::pin(run_and_report(reconcile, &current, ctx)).instrument(span.clone()).await;
    traces::reconciled(&span, ended.result);
    finish(&current, ctx, began, &ended);
    ended.requeue.unwrap_or_else(|_| retry(&*object, ctx))
}

/// Runs one reconcile with its timeout and reports it. Neither a timeout nor a panic loses an answer that was received:
/// the state has it already.
async fn run_and_report<K: Reconciler>(
    reconcile: Box<K::Reconcile>,
    object: &K,
    ctx: &Arc<Context>,
) -> Ended {
    let mut held = Some(reconcile);
    let work = tokio::time::timeout(K::TIMEOUT, Box::pin(K::run(&mut held)));
    let failed = |reason, text| K::Outcome::from(Failure::transient(reason, text));
    let outcome = match AssertUnwindSafe(work).catch_unwind().await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => failed(Reason::ApiUnavailable, "The reconcile timed out; the operator retries."),
        Err(_) => {
            ctx.metrics.panicked();
            let text =
                "The operator failed on this object; its log names the source line. The operator retries.";
            failed(Reason::InternalError, text)
        }
    };
    AssertUnwindSafe(K::report(held, object, ctx, outcome)).catch_unwind().await.unwrap_or_else(|_| {
        ctx.metrics.panicked();
        let requeue = Ok(Requeue::Retry(AFTER_PANIC));
        Ended { result: ReconcileResult::Transient, requeue, failure: None, shortage: None, notable: true }
    })
}

/// The error policy: with backoff after a write that the API server did not accept.
fn retry<K: Reconciler>(object: &K, ctx: &Context) -> Requeue {
    Requeue::Retry(backoff::backoff(object.count_unwritten(ctx), rand::random()))
}

/// Counts the reconcile by its result, and logs it in one line.
fn finish<K: Reconciler>(object: &K, ctx: &Context, began: Instant, ended: &Ended) {
    let took = clock::instant().saturating_duration_since(began);
    ctx.metrics.reconciled(K::KIND.name(), ended.result, took);
    if let Some(shortage) = ended.shortage {
        ctx.metrics.deferred(shortage);
    }
    log(object, took, ended);
}

/// One line; that of a failed reconcile has its chain of causes in `error`.
fn log<K: Reconciler>(object: &K, took: Duration, ended: &Ended) {
    let outcome = ended.result.as_str();
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let [channel, kind, name] = object.log_names();
    let (namespace, generation) = (object.namespace(), object.meta().generation);
    // A deferred call is no failure.
    let failed = ended.failure.as_ref().filter(|failure| !matches!(failure.retry, Retry::Deferred(_)));
    match &ended.requeue {
        Err(error @ (WriteError::Failed(_) | WriteError::NotKept)) => {
            let error = match error {
                WriteError::Failed(failure) => failure.chain(),
                other => other.to_string(),
            };
            tracing::warn!(channel, kind, name, namespace, generation, outcome, took_ms, error, "reconciled");
        }
        Ok(_) | Err(WriteError::Outdated) if ended.notable => {
            let error = failed.map(Failure::chain);
            tracing::info!(channel, kind, name, namespace, generation, outcome, took_ms, error, "reconciled");
        }
        Ok(_) | Err(WriteError::Outdated) => {
            let error = failed.map(Failure::chain);
            tracing::debug!(
                channel,
                kind,
                name,
                namespace,
                generation,
                outcome,
                took_ms,
                error,
                "reconciled"
            );
        }
    }
}

// === impl Ended ===

impl Ended {
    /// The API server did not accept a write.
    pub fn unwritten(error: WriteError) -> Self {
        let result = match error {
            WriteError::Outdated => ReconcileResult::Conflict,
            WriteError::Failed(_) | WriteError::NotKept => ReconcileResult::Unwritten,
        };
        Self { result, requeue: Err(error), failure: None, shortage: None, notable: false }
    }
}

// === impl WriteError ===

impl From<kube::Error> for WriteError {
    fn from(error: kube::Error) -> Self {
        if has_code(&error, 409) { Self::Outdated } else { Self::Failed(error::to_failure(&error)) }
    }
}

#[cfg(test)]
mod tests {
    use ohallo_core::api::channel::Channel;
    use ohallo_core::classify::{ApiError, Class, ErrorKind};

    use super::*;
    use crate::telemetry::logs::tests::logged;

    fn line(ended: &Ended) -> String {
        let channel = Channel::new("sales", Default::default());
        logged("debug", true, || log(&channel, Duration::ZERO, ended))
    }

    #[test]
    fn the_log_line_of_a_failed_reconcile_shows_the_chain_of_causes() {
        let ended = |result, failure| {
            let requeue = Ok(Requeue::After(Duration::ZERO));
            line(&Ended { result, requeue, failure, shortage: None, notable: true })
        };
        let refused = "tcp connect error: Connection refused (os error 111)";
        let failure = Failure::from(ApiError::new(Class::NotSent, ErrorKind::NotConnected, refused));
        let text = ended(ReconcileResult::Transient, Some(failure));
        let chain = format!("\"error\":\"ApiUnavailable: {refused}\"");
        assert!(text.contains(&chain), "{text}");
        let denied = Failure::transient(Reason::InternalError, "The status was not written.");
        let denied = denied.caused_by(std::io::Error::other("403 Forbidden"));
        let text = line(&Ended::unwritten(WriteError::Failed(denied)));
        assert!(text.contains("\"error\":\"InternalError: 403 Forbidden\""), "{text}");
        let deferred = Some(Failure::deferred(Duration::ZERO));
        for quiet in [
            ended(ReconcileResult::InSync, None),
            ended(ReconcileResult::Deferred, deferred),
            line(&Ended::unwritten(WriteError::Outdated)),
        ] {
            assert!(quiet.contains("reconciled") && !quiet.contains("error"), "{quiet}");
        }
    }
}
