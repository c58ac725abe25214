//! Workspaces and ClusterWorkspaces: observe, summarize and write, in fewer steps than for Channels.

mod observe;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use tracing::Instrument;

use crate::context::Context;
use crate::orphan_reports;
use crate::telemetry::traces;
use crate::workspace::observe::check_key;
use ohallo_client::clock;
use ohallo_core::api::conditions::Reason;
use ohallo_core::api::values::ReconcileResult;
use ohallo_core::api::workspace::{ClusterWorkspace, Workspace, WorkspaceStatus};
use ohallo_core::api::{MANAGER, annotation, conditions as words, finalizer};
use ohallo_core::backoff::{self, Requeue};
use ohallo_core::cooldown::Cooldown;
use ohallo_core::event::PendingEvent;
use ohallo_core::failure::{Failure, Retry};
use ohallo_core::lease::election::Epoch;
use ohallo_core::secret_id::SecretId;
use ohallo_core::secret_version::Version;
use ohallo_core::work_queue::{Priority, Resolved, Route};
use ohallo_core::workspace::kind::WorkspaceKind;
use ohallo_core::workspace::model::KeyCheck;
use ohallo_core::workspace::status::{self, Summary};
use ohallo_core::{conditions, metadata_patch};

/// A kind of workspace with its endpoint of the Kubernetes API.
pub trait WorkspaceApi: WorkspaceKind {
    fn api(&self, client: &Client) -> Api<Self>;
}

impl WorkspaceApi for Workspace {
    fn api(&self, client: &Client) -> Api<Self> {
        Api::namespaced(client.clone(), &self.namespace().unwrap_or_default())
    }
}

impl WorkspaceApi for ClusterWorkspace {
    fn api(&self, client: &Client) -> Api<Self> {
        Api::all(client.clone())
    }
}

/// The longest duration of one reconcile.
const RECONCILE_TIMEOUT: Duration = Duration::from_secs(60);

/// A Channel whose key oHallo refused triggers a key check of its Workspace, at most this often.
const KEY_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// What this process remembers of one Workspace between reconciles.
#[derive(Clone, Debug, Default)]
pub struct InMemoryState {
    cooldown: Option<Cooldown<u64>>,
    /// The leadership epoch of this state; `None` on a standby.
    epoch: Option<Epoch>,
    failures: u32,
    /// Consecutive writes that the API server did not accept.
    unwritten: u32,
    checked: Option<Instant>,
    /// Channels have used it since this process began.
    used: bool,
    /// How often in a row the API server did not store the finalizer, and when it is resent.
    finalizer_failures: u32,
    resend_finalizer_at: Option<Instant>,
    /// Its finalizer existed when this process first listed it, and its users are not known yet.
    finalizer_at_start: bool,
}

impl InMemoryState {
    /// How long it rests: at most until its finalizer is resent. An elapsed resend time is ignored, because a
    /// standby sends nothing.
    fn until_finalizer_retry(&self, rest: Duration, now: Instant) -> Duration {
        let again = self
            .resend_finalizer_at
            .and_then(|at| at.checked_duration_since(now))
            .filter(|again| !again.is_zero());
        again.map_or(rest, |again| rest.min(again))
    }

    /// The state of a Workspace that has the finalizer when this process starts.
    pub fn of_earlier_process() -> Self {
        Self { finalizer_at_start: true, ..Self::default() }
    }
}

/// The API server did not accept a write.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct StatusWriteError {
    why: String,
    /// The object changed during the reconcile. This is no error: it is reconciled again.
    outdated: bool,
}

/// Reconciles one Workspace. A standby also checks and caches the key, but writes nothing.
///
/// # Errors
/// Only if the API server did not accept a write; every other failure is in the status.
pub async fn reconcile<K: WorkspaceApi>(
    object: Arc<K>,
    ctx: Arc<Context>,
) -> Result<Requeue, StatusWriteError> {
    let Some(uid) = object.uid() else { return Ok(Requeue::Never) };
    let handle = object.handle();
    let epoch = ctx.leadership.epoch();
    let now = clock::instant();
    let refused = |error: &StatusWriteError| done(&*object, &ctx, now, Err(error), None);
    let Some(object) = patch_metadata(&*object, &uid, &ctx, epoch).await.inspect_err(refused)? else {
        ctx.forget_key(&handle);
        ctx.forget_workspace(&uid);
        return Ok(Requeue::Never);
    };
    let mut memory = ctx.workspace_memory(&uid);
    if memory.epoch != epoch {
        let InMemoryState { used, finalizer_failures, resend_finalizer_at, finalizer_at_start, .. } = memory;
        memory = InMemoryState {
            epoch,
            used,
            finalizer_failures,
            resend_finalizer_at,
            finalizer_at_start,
            ..InMemoryState::default()
        };
    }
    let secret = object.key_secret(&ctx.settings.operator_namespace);
    // The version of the Secret that the key check uses; a later version triggers another check.
    let mut used = secret.map_or(Version::Unknown, |secret| {
        ctx.secrets.version(SecretId::of(&secret.namespace, &secret.name))
    });
    let now_inputs = inputs(&object, &used);
    if let Some(rest) =
        memory.cooldown.as_ref().and_then(|cooldown| cooldown.remaining(now, |was| *was != now_inputs))
    {
        let early = memory.checked.map(|at| KEY_CHECK_INTERVAL.saturating_sub(now.duration_since(at)));
        match early.filter(|early| !early.is_zero()) {
            _ if !ctx.key_check_requested(&handle) => {
                return Ok(Requeue::After(memory.until_finalizer_retry(rest, now)));
            }
            Some(early) => return Ok(Requeue::After(early.min(rest))),
            None => {}
        }
    }
    if let Err(wait) = ctx.ohallo.permit_check(&handle, now) {
        return Ok(Requeue::After(wait));
    }
    ctx.take_key_check_request(&handle);
    memory.checked = Some(now);
    let _active = ctx.metrics.reconciling(K::NAME);
    let span = traces::reconcile(&object);
    let (summary, failure) =
        check_and_summarize(&object, &ctx, &memory, &mut used).instrument(span.clone()).await;
    traces::reconciled(&span, summary.result);
    let written = write(&object, &summary, &ctx, epoch).await;
    let result = written.as_ref().map(|written| (summary.result, *written));
    done(&object, &ctx, now, result, failure.as_ref());
    written?;
    memory.failures = summary.failures;
    memory.unwritten = 0;
    let wake = memory.until_finalizer_retry(summary.wake, clock::instant());
    memory.cooldown = Some(Cooldown::new(inputs(&object, &used), clock::instant() + wake));
    ctx.remember_workspace(&uid, memory);
    let failed = summary.failures > 0;
    Ok(if failed { Requeue::Retry(wake) } else { Requeue::After(wake) })
}

/// Counts a reconcile by its result or its failed write, and logs it in one line; a failed key check with its chain of
/// causes in `error`.
fn done<K: WorkspaceApi>(
    object: &K,
    ctx: &Context,
    began: Instant,
    result: Result<(ReconcileResult, bool), &StatusWriteError>,
    failure: Option<&Failure>,
) {
    let (outcome, written) = match result {
        Ok(result) => result,
        Err(refused) if refused.outdated => (ReconcileResult::Conflict, false),
        Err(_) => (ReconcileResult::Unwritten, false),
    };
    let took = clock::instant().saturating_duration_since(began);
    ctx.metrics.reconciled(K::NAME, outcome, took);
    let outcome = outcome.as_str();
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let (kind, name, namespace) = (K::NAME, object.name_any(), object.namespace());
    let generation = object.meta().generation;
    // A deferred call is no failure.
    let failure = failure.filter(|failure| !matches!(failure.retry, Retry::Deferred(_)));
    let chain = failure.map(Failure::chain);
    match result {
        Err(error) if !error.outdated => {
            tracing::warn!(kind, name, namespace, generation, outcome, took_ms, %error, "reconciled");
        }
        Ok(_) if written => {
            tracing::info!(kind, name, namespace, generation, outcome, took_ms, error = chain, "reconciled");
        }
        Ok(_) | Err(_) => {
            tracing::debug!(kind, name, namespace, generation, outcome, took_ms, error = chain, "reconciled");
        }
    }
}

/// One key check with its timeout. A panic affects only its own object.
async fn check_and_summarize<K: WorkspaceApi>(
    object: &K,
    ctx: &Arc<Context>,
    memory: &InMemoryState,
    used: &mut Version,
) -> (Summary, Option<Failure>) {
    let work = tokio::time::timeout(RECONCILE_TIMEOUT, check_key(object, ctx, used));
    let failed = |reason, text| KeyCheck::Failed(Failure::transient(reason, text));
    let finding = match AssertUnwindSafe(work).catch_unwind().await {
        Ok(Ok(finding)) => finding,
        Ok(Err(_)) => failed(Reason::ApiUnavailable, "The API key check timed out."),
        Err(_) => {
            ctx.metrics.panicked();
            failed(
                Reason::InternalError,
                "The operator failed on this object; its log names the source line.",
            )
        }
    };
    let summary = status::summarize(object, &finding, memory.failures, rand::random(), clock::now());
    let failure = match finding {
        KeyCheck::Failed(failure) => Some(failure),
        KeyCheck::Good { .. } | KeyCheck::Suspended => None,
    };
    (summary, failure)
}

/// When to retry after the API server did not accept a write.
pub fn error_policy<K: WorkspaceApi>(object: Arc<K>, _: &StatusWriteError, ctx: Arc<Context>) -> Requeue {
    let uid = object.uid().unwrap_or_default();
    let memory = ctx.workspace_memory(&uid);
    let unwritten = memory.unwritten.saturating_add(1);
    ctx.remember_workspace(&uid, InMemoryState { unwritten, ..memory });
    Requeue::Retry(backoff::backoff(unwritten, rand::random()))
}

/// Resolves a Workspace for the work queue. Its check makes one call, under a key that is not known yet.
pub fn resolve<K: WorkspaceApi>(object: &K, ctx: &Context, now: Instant) -> Resolved {
    let Some(uid) = object.uid() else { return Resolved::Gone };
    if let Some(rest) = cooldown_remaining(object, &uid, ctx, now) {
        return Resolved::Resting(now + rest);
    }
    let ready =
        object.status().is_some_and(|status| conditions::is_true(&status.conditions, words::kind::READY));
    let priority = if ready { Priority::Background } else { Priority::Interactive };
    Resolved::Ready(Route { key: None, heavy: false, priority, latest: None })
}

/// How long it needs no reconcile: its finalizer and inputs are unchanged, and no key check is requested.
fn cooldown_remaining<K: WorkspaceApi>(
    object: &K,
    uid: &str,
    ctx: &Context,
    now: Instant,
) -> Option<Duration> {
    let handle = object.handle();
    let memory = ctx.workspace_memory(uid);
    let used = ctx.in_use(&handle);
    let marked = has_finalizer(object) || memory.resend_finalizer_at.is_some_and(|at| at > now);
    if memory.epoch != ctx.leadership.epoch() || used != marked || ctx.key_check_requested(&handle) {
        return None;
    }
    let secret = object.key_secret(&ctx.settings.operator_namespace);
    let used = secret.map_or(Version::Unknown, |secret| {
        ctx.secrets.version(SecretId::of(&secret.namespace, &secret.name))
    });
    let now_inputs = inputs(object, &used);
    memory.cooldown.as_ref()?.remaining(now, |was| *was != now_inputs)
}

/// A hash of the inputs that end the cooldown when they change.
fn inputs<K: WorkspaceApi>(object: &K, key: &Version) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    object.meta().generation.hash(&mut hasher);
    object.meta().deletion_timestamp.is_some().hash(&mut hasher);
    object.annotations().get(annotation::RECONCILE_REQUESTED).hash(&mut hasher);
    key.hash(&mut hasher);
    hasher.finish()
}

/// Whether the finalizer protects Channels that disappeared while no operator ran. True if an earlier process
/// set it and this one, which watches all Channels, finds none that names the Workspace.
fn is_abandoned<K: WorkspaceApi>(object: &K, memory: &InMemoryState, ctx: &Context) -> bool {
    let handle = object.handle();
    let watches_all = ctx.settings.channel_selector.is_none()
        && (handle.namespace.is_some() || ctx.settings.namespaces.is_empty());
    memory.finalizer_at_start
        && !memory.used
        && watches_all
        && ctx.index().users_of_workspace(&handle).is_empty()
}

/// Sets or removes the finalizer, depending on whether Channels use the workspace. `None` if the object is
/// deleted. A process that has never seen users leaves the finalizer: it may belong to another operator with
/// other Channels.
async fn patch_metadata<K: WorkspaceApi>(
    object: &K,
    uid: &str,
    ctx: &Context,
    epoch: Option<Epoch>,
) -> Result<Option<K>, StatusWriteError> {
    let used = ctx.in_use(&object.handle());
    let memory = ctx.workspace_memory(uid);
    if used && !memory.used {
        ctx.remember_workspace(uid, InMemoryState { used, ..memory.clone() });
    }
    let marked = has_finalizer(object);
    let terminating = object.meta().deletion_timestamp.is_some();
    let abandoned = marked && !used && is_abandoned(object, &memory, ctx);
    let foreign = marked && !used && !terminating && !memory.used && !abandoned;
    let done = used == marked || foreign || (used && terminating);
    if done && memory.resend_finalizer_at.is_some() {
        // Nothing is left to resend.
        ctx.remember_workspace(
            uid,
            InMemoryState { finalizer_failures: 0, resend_finalizer_at: None, ..ctx.workspace_memory(uid) },
        );
    }
    let waits = memory.resend_finalizer_at.is_some_and(|at| at > clock::instant());
    if done || waits || !leads(ctx, epoch) {
        return Ok((used || !terminating).then(|| object.clone()));
    }
    let metadata = object.meta();
    let patch = if used {
        metadata_patch::set(metadata, finalizer::IN_USE, None)
    } else {
        metadata_patch::remove(metadata, finalizer::IN_USE, None)
    };
    let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    let patch = Patch::Json::<()>(patch);
    let patched = match object.api(&ctx.client).patch(&object.name_any(), &params, &patch).await {
        Ok(object) => {
            note_finalizer(&object, uid, ctx, used);
            (!terminating || has_finalizer(&object)).then_some(object)
        }
        Err(kube::Error::Api(status)) if status.code == 404 => None,
        Err(error) => return Err(error.into()),
    };
    if abandoned {
        ctx.remember_workspace(uid, InMemoryState { finalizer_at_start: false, ..ctx.workspace_memory(uid) });
        orphan_reports::report_abandoned(ctx, object);
    }
    Ok(patched)
}

fn has_finalizer<K: WorkspaceApi>(object: &K) -> bool {
    object.finalizers().iter().any(|name| name == finalizer::IN_USE)
}

/// Checks that a successful patch of the finalizer was stored. If not, it is resent with backoff and reported
/// once; the key still serves.
fn note_finalizer<K: WorkspaceApi>(returned: &K, uid: &str, ctx: &Context, used: bool) {
    let memory = ctx.workspace_memory(uid);
    if has_finalizer(returned) == used {
        ctx.remember_workspace(
            uid,
            InMemoryState { finalizer_failures: 0, resend_finalizer_at: None, ..memory },
        );
        return;
    }
    let finalizer_failures = memory.finalizer_failures.saturating_add(1);
    let resend_finalizer_at = Some(clock::instant() + backoff::backoff(finalizer_failures, rand::random()));
    ctx.metrics.write_not_stored(K::NAME);
    if finalizer_failures == 1 {
        let (kind, name, namespace) = (K::NAME, returned.name_any(), returned.namespace());
        tracing::error!(
            kind,
            name,
            namespace,
            lost = finalizer::IN_USE,
            "the API server accepted a write and did not keep it"
        );
        let text = format!(
            "The API server accepted the patch of the finalizer {} but did not keep it: exempt the operator's patches from the admission policy or \
             mutating webhook that changes it. Until then this {} can be deleted while Channels use it.",
            finalizer::IN_USE,
            K::NAME
        );
        ctx.publish(returned, vec![PendingEvent::warning(Reason::StatusNotStored, text)]);
    }
    ctx.remember_workspace(uid, InMemoryState { finalizer_failures, resend_finalizer_at, ..memory });
}

/// Whether a write that belongs to this epoch is still allowed.
fn leads(ctx: &Context, epoch: Option<Epoch>) -> bool {
    epoch.is_some() && ctx.leadership.epoch() == epoch
}

/// Writes the status if it differs. Returns whether it was written.
async fn write<K: WorkspaceApi>(
    object: &K,
    summary: &Summary,
    ctx: &Context,
    epoch: Option<Epoch>,
) -> Result<bool, StatusWriteError> {
    if object.status() == Some(&summary.status) || !leads(ctx, epoch) {
        return Ok(false);
    }
    let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
    let api: Api<K> = object.api(&ctx.client);
    match api.replace_status(&object.name_any(), &params, &object.with_status(summary.status.clone())).await {
        Ok(written) if !is_kept(&summary.status, written.status()) => {
            ctx.metrics.write_not_stored(K::NAME);
            ctx.schema.check();
            if ctx.workspace_memory(&object.uid_or_default()).unwritten == 0 {
                let (kind, name, namespace) = (K::NAME, object.name_any(), object.namespace());
                tracing::error!(
                    kind,
                    name,
                    namespace,
                    lost = "status",
                    "the API server accepted a write and did not keep it"
                );
                let text = "The API server accepted the status but did not keep it: apply the CustomResourceDefinitions of this operator version, and \
                            exempt the status from the admission policy or webhook that changes it.";
                ctx.publish(&written, vec![PendingEvent::warning(Reason::StatusNotStored, text)]);
            }
            Err(StatusWriteError { why: "the API server did not keep the status".into(), outdated: false })
        }
        Ok(written) => {
            let notes: Vec<_> = summary
                .warnings
                .iter()
                .map(|(reason, message)| PendingEvent::warning(*reason, message))
                .collect();
            ctx.publish(&written, notes);
            Ok(true)
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether the returned status shows the parts that Channels and users read.
fn is_kept(sent: &WorkspaceStatus, returned: Option<&WorkspaceStatus>) -> bool {
    returned.is_some_and(|kept| {
        let same = conditions::facts(&kept.conditions) == conditions::facts(&sent.conditions);
        kept.observed_generation == sent.observed_generation && same
    })
}

// === impl StatusWriteError ===

impl From<kube::Error> for StatusWriteError {
    fn from(error: kube::Error) -> Self {
        let outdated = matches!(&error, kube::Error::Api(status) if status.code == 409);
        Self { why: crate::kubernetes::error::describe(&error), outdated }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finalizer_to_resend_shortens_the_rest_until_it_is_due_and_not_after() {
        let (now, rest) = (clock::instant(), Duration::from_secs(600));
        for (again, expected) in [(None, 600), (Some(0), 600), (Some(5), 5), (Some(900), 600)] {
            let resend_finalizer_at = again.map(|seconds| now + Duration::from_secs(seconds));
            let memory = InMemoryState { resend_finalizer_at, ..InMemoryState::default() };
            assert_eq!(memory.until_finalizer_retry(rest, now).as_secs(), expected, "{again:?}");
        }
    }
}
