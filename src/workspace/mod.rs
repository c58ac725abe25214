//! Workspaces and ClusterWorkspaces: observe, summarize and write, in fewer steps than for Channels.

mod observe;

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::api::Api;
use kube::runtime::reflector::Store;
use kube::{Client, ResourceExt};

use crate::context::Context;
use crate::kubernetes::object_store::{self, Written};
use crate::orphan_reports;
use crate::reconciler::{Ended, Reconciler, Start, WriteError};
use crate::workspace::observe::check_key;
use ohallo_client::{Permit, clock};
use ohallo_core::api::conditions::Reason;
use ohallo_core::api::values::ReconcileResult;
use ohallo_core::api::workspace::{ClusterWorkspace, Workspace, WorkspaceStatus};
use ohallo_core::api::{ObjectKind, annotation, conditions as words, finalizer};
use ohallo_core::backoff::{self, Requeue};
use ohallo_core::cooldown::Cooldown;
use ohallo_core::event::PendingEvent;
use ohallo_core::failure::Failure;
use ohallo_core::lease::election::Epoch;
use ohallo_core::secret_id::SecretId;
use ohallo_core::secret_version::Version;
use ohallo_core::shortage::Shortage;
use ohallo_core::work_queue::{Priority, Resolved, Route};
use ohallo_core::workspace::kind::WorkspaceKind;
use ohallo_core::workspace::model::KeyCheck;
use ohallo_core::workspace::status::{self, Summary};
use ohallo_core::{conditions, metadata_patch};

/// A kind of workspace with its endpoint of the Kubernetes API.
pub trait WorkspaceApi: WorkspaceKind {
    fn api(&self, client: &Client) -> Api<Self>;
    fn workspaces(ctx: &Context) -> &Store<Self>;
}

impl WorkspaceApi for Workspace {
    fn api(&self, client: &Client) -> Api<Self> {
        Api::namespaced(client.clone(), &self.namespace().unwrap_or_default())
    }

    fn workspaces(ctx: &Context) -> &Store<Self> {
        &ctx.stores.workspaces
    }
}

impl WorkspaceApi for ClusterWorkspace {
    fn api(&self, client: &Client) -> Api<Self> {
        Api::all(client.clone())
    }

    fn workspaces(ctx: &Context) -> &Store<Self> {
        &ctx.stores.cluster_workspaces
    }
}

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
    /// Drops what another leader may have changed since.
    fn enter(&mut self, epoch: Option<Epoch>) {
        if self.epoch == epoch {
            return;
        }
        *self = Self {
            epoch,
            used: self.used,
            finalizer_failures: self.finalizer_failures,
            resend_finalizer_at: self.resend_finalizer_at,
            finalizer_at_start: self.finalizer_at_start,
            ..Self::default()
        };
    }

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

/// One reconcile of a Workspace: its state, and what it uses.
pub struct Reconcile<K> {
    ctx: Arc<Context>,
    object: K,
    epoch: Option<Epoch>,
    memory: InMemoryState,
    /// The version of the Secret that the key check uses; a later version triggers another check.
    used: Version,
}

/// A standby also checks and caches the API key, but writes nothing.
impl<K: WorkspaceApi> Reconciler for K {
    const KIND: ObjectKind = <K as WorkspaceKind>::KIND;
    const TIMEOUT: Duration = Duration::from_secs(60);
    type Reconcile = Reconcile<K>;
    type Outcome = KeyCheck;

    fn store(ctx: &Context) -> &Store<Self> {
        K::workspaces(ctx)
    }

    fn resolve(&self, ctx: &Context, now: Instant) -> Resolved {
        resolve(self, ctx, now)
    }

    async fn begin(
        self: Arc<Self>,
        ctx: &Arc<Context>,
        _: Option<Permit>,
    ) -> Result<Start<Self>, WriteError> {
        let later = |requeue| Ok(Start::Later(requeue));
        let Some(uid) = self.uid() else { return later(Requeue::Never) };
        let handle = self.handle();
        let epoch = ctx.leadership.epoch();
        let now = clock::instant();
        let Some(object) = patch_metadata(&*self, &uid, ctx, epoch).await? else {
            ctx.forget_key(&handle);
            ctx.forget_workspace(&uid);
            return later(Requeue::Never);
        };
        let mut memory = ctx.workspace_memory(&uid);
        memory.enter(epoch);
        let used = secret_version(&object, ctx);
        if let Some(wait) = rest_before_check(&object, ctx, &memory, &used, now) {
            return later(Requeue::After(wait));
        }
        if let Err(wait) = ctx.ohallo.permit_check(&handle, now) {
            return later(Requeue::After(wait));
        }
        ctx.take_key_check_request(&handle);
        memory.checked = Some(now);
        let shown = Box::new(object.clone());
        let reconcile = Reconcile { ctx: Arc::clone(ctx), object, epoch, memory, used };
        Ok(Start::Now(Box::new(reconcile), shown))
    }

    async fn run(reconcile: &mut Option<Box<Reconcile<K>>>) -> KeyCheck {
        let Some(Reconcile { ctx, object, used, .. }) = reconcile.as_deref_mut() else {
            return Failure::transient(Reason::InternalError, "The operator lost the state of this check.")
                .into();
        };
        check_key(object, ctx, used).await
    }

    async fn report(
        reconcile: Option<Box<Reconcile<K>>>,
        _: &Self,
        _: &Arc<Context>,
        outcome: KeyCheck,
    ) -> Ended {
        let Some(reconcile) = reconcile else {
            return Ended::unwritten(WriteError::NotKept);
        };
        reconcile.report(&outcome).await
    }

    fn count_unwritten(&self, ctx: &Context) -> u32 {
        let uid = self.uid_or_default();
        let memory = ctx.workspace_memory(&uid);
        let unwritten = memory.unwritten.saturating_add(1);
        ctx.remember_workspace(&uid, InMemoryState { unwritten, ..memory });
        unwritten
    }
}

impl<K: WorkspaceApi> Reconcile<K> {
    async fn report(self, finding: &KeyCheck) -> Ended {
        let Self { ctx, object, epoch, mut memory, used } = self;
        let summary = status::summarize(&object, finding, memory.failures, rand::random(), clock::now());
        let written = match write(&object, &summary, &ctx, epoch).await {
            Ok(written) => written,
            Err(error) => return Ended::unwritten(error),
        };
        memory.failures = summary.failures;
        memory.unwritten = 0;
        let wake = memory.until_finalizer_retry(summary.wake, clock::instant());
        memory.cooldown = Some(Cooldown::new(inputs(&object, &used), clock::instant() + wake));
        ctx.remember_workspace(&object.uid_or_default(), memory);
        let failure = match finding {
            KeyCheck::Failed(failure) => Some(failure.clone()),
            KeyCheck::Suspended | KeyCheck::Good { .. } => None,
        };
        let requeue = if summary.failures > 0 { Requeue::Retry(wake) } else { Requeue::After(wake) };
        // Its only call waits for nothing but a token.
        let shortage = (summary.result == ReconcileResult::Deferred).then_some(Shortage::Token);
        Ended { result: summary.result, requeue: Ok(requeue), failure, shortage, notable: written }
    }
}

/// The version of the Secret with the API key.
fn secret_version<K: WorkspaceApi>(object: &K, ctx: &Context) -> Version {
    let secret = object.key_secret(&ctx.settings.operator_namespace);
    secret
        .map_or(Version::Unknown, |secret| ctx.secrets.version(SecretId::of(&secret.namespace, &secret.name)))
}

/// How long the key is not checked: its inputs are unchanged, and no Channel requests a check, or one was a moment ago.
fn rest_before_check<K: WorkspaceApi>(
    object: &K,
    ctx: &Context,
    memory: &InMemoryState,
    used: &Version,
    now: Instant,
) -> Option<Duration> {
    let now_inputs = inputs(object, used);
    let rest = memory.cooldown.as_ref()?.remaining(now, |was| *was != now_inputs)?;
    if !ctx.key_check_requested(&object.handle()) {
        return Some(memory.until_finalizer_retry(rest, now));
    }
    let early = KEY_CHECK_INTERVAL.saturating_sub(now.duration_since(memory.checked?));
    (!early.is_zero()).then(|| early.min(rest))
}

/// Resolves a Workspace for the work queue. Its check makes one call, under a key that is not known yet.
fn resolve<K: WorkspaceApi>(object: &K, ctx: &Context, now: Instant) -> Resolved {
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
    let now_inputs = inputs(object, &secret_version(object, ctx));
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
    memory.finalizer_at_start && !memory.used && watches_all && !ctx.index().has_users(&handle)
}

/// Sets or removes the finalizer, depending on whether Channels use the workspace. `None` if the object is
/// deleted. A process that has never seen users leaves the finalizer: it may belong to another operator with
/// other Channels.
async fn patch_metadata<K: WorkspaceApi>(
    object: &K,
    uid: &str,
    ctx: &Context,
    epoch: Option<Epoch>,
) -> Result<Option<K>, WriteError> {
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
    let patched = match object_store::patch_metadata(&object.api(&ctx.client), object, patch).await? {
        Written::Stored(object) => {
            note_finalizer(&*object, uid, ctx, used);
            (!terminating || has_finalizer(&*object)).then_some(*object)
        }
        Written::Gone => None,
        Written::Conflict => return Err(WriteError::Outdated),
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
    ctx.metrics.write_not_stored(<K as WorkspaceKind>::KIND.name());
    if finalizer_failures == 1 {
        let (kind, name, namespace) =
            (<K as WorkspaceKind>::KIND.name(), returned.name_any(), returned.namespace());
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
            <K as WorkspaceKind>::KIND.name()
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
) -> Result<bool, WriteError> {
    if object.status() == Some(&summary.status) || !leads(ctx, epoch) {
        return Ok(false);
    }
    let sent = object.with_status(summary.status.clone());
    let written = match object_store::replace_status(&object.api(&ctx.client), &sent).await? {
        Written::Stored(written) => written,
        Written::Gone => return Ok(false),
        Written::Conflict => return Err(WriteError::Outdated),
    };
    if is_kept(&summary.status, written.status()) {
        let warnings = summary.warnings.iter();
        let events = warnings.map(|(reason, message)| PendingEvent::warning(*reason, message)).collect();
        ctx.publish(&*written, events);
        return Ok(true);
    }
    ctx.metrics.write_not_stored(<K as WorkspaceKind>::KIND.name());
    ctx.schema.check();
    if ctx.workspace_memory(&object.uid_or_default()).unwritten == 0 {
        let (kind, name, namespace) =
            (<K as WorkspaceKind>::KIND.name(), object.name_any(), object.namespace());
        tracing::error!(
            kind,
            name,
            namespace,
            lost = "status",
            "the API server accepted a write and did not keep it"
        );
        let text = "The API server accepted the status but did not keep it: apply the CustomResourceDefinitions of this operator version, and \
                    exempt the status from the admission policy or webhook that changes it.";
        ctx.publish(&*written, vec![PendingEvent::warning(Reason::StatusNotStored, text)]);
    }
    Err(WriteError::NotKept)
}

/// Whether the returned status shows the parts that Channels and users read.
fn is_kept(sent: &WorkspaceStatus, returned: Option<&WorkspaceStatus>) -> bool {
    returned.is_some_and(|kept| {
        let same = conditions::facts(&kept.conditions) == conditions::facts(&sent.conditions);
        kept.observed_generation == sent.observed_generation && same
    })
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
