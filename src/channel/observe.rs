//! Reads everything that a decision depends on; the first error ends it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube::ResourceExt;

use crate::channel::reconciliation::Reconciliation;
use crate::channel::{claims, inputs};
use crate::context::WorkspaceSnapshot;
use ohallo_client::{Caller, clock};
use ohallo_core::api::conditions::{Reason, kind};
use ohallo_core::api::{annotation, same_id};
use ohallo_core::channel::binding::{self, Binding};
use ohallo_core::channel::consistency;
use ohallo_core::channel::in_memory_state::REVERT_HORIZON;
use ohallo_core::channel::model::{DesiredCredentials, Observed, Remote, WorkspaceAccess};
use ohallo_core::channel::plan::delete::{self, WorkspaceProbe};
use ohallo_core::channel::plan::existing;
use ohallo_core::channel::{credentials, freshness, spec};
use ohallo_core::classify::{ApiError, CallError, ErrorKind};
use ohallo_core::failure::{Failure, Retry};
use ohallo_core::index::{self, NamespacedName, Shown, WorkspaceKey};
use ohallo_core::remote::{Id, RemoteChannel};
use ohallo_core::secret_content::Content;
use ohallo_core::secret_id::SecretId;
use ohallo_core::workspace::access::allows;
use ohallo_core::{backoff, conditions};

/// How many consecutive refusals with a definite 4xx are retried; after that, a user has to act.
const MAX_REJECTED_READS: u32 = 5;

/// The most candidates that a message names.
const MAX_CANDIDATES: usize = 3;

/// Reads the caches, the Secrets and oHallo into `observed`.
pub async fn observe(reconciliation: &mut Reconciliation) -> Result<(), Failure> {
    let suspended = reconciliation.lookup.as_ref().is_some_and(|lookup| lookup.suspended);
    reconciliation.observed = Observed::unread(workspace_access(reconciliation), suspended);
    let binding = reconciliation.input().binding();
    if reconciliation.input().terminating() {
        if let Binding::Bound(id) = &binding {
            reconciliation.take_window(id);
            claims::first(reconciliation, id).await?;
        }
        return Ok(());
    }
    let id = match &binding {
        Binding::Bound(id) | Binding::Adopt(id) => Some(id.clone()),
        _ => None,
    };
    if let Some(id) = &id {
        reconciliation.take_window(id);
    }
    let observed = observe_living(reconciliation, binding).await;
    if let Some(id) = id {
        note_claim(reconciliation, &id, observed.as_ref().err());
    }
    observed
}

async fn observe_living(reconciliation: &mut Reconciliation, binding: Binding) -> Result<(), Failure> {
    if reconciliation.channel.spec.suspend == Some(true) || reconciliation.observed.workspace_suspended {
        return Ok(());
    }
    reconciliation.observed.credentials = desired_credentials(reconciliation).await?;
    if reconciliation.observed.workspace.is_err() {
        return Ok(());
    }
    match binding {
        Binding::Bound(id) | Binding::Adopt(id) if identity_holds(reconciliation) => {
            match skipped_read(reconciliation) {
                Some(next_look) => {
                    reconciliation.observed.remote = Remote::SkippedRead { next_look };
                    Ok(())
                }
                None => read(reconciliation, &id).await,
            }
        }
        Binding::UnresolvedCreate(_) => {
            reconciliation.observed.candidates = candidates(reconciliation).await;
            Ok(())
        }
        Binding::ConflictingIds { answered, .. } => resolved_by_user(reconciliation, &answered).await,
        _ => Ok(()),
    }
}

/// The workspace and its API key, if this reconcile can use them.
fn workspace_access(reconciliation: &mut Reconciliation) -> Result<WorkspaceAccess, Failure> {
    let handle = WorkspaceKey::of(&reconciliation.channel);
    let terminating = reconciliation.channel.metadata.deletion_timestamp.is_some();
    let usable = match &reconciliation.lookup {
        Some(lookup) => usable(reconciliation, &handle, lookup),
        None if handle.namespace.is_none() && !reconciliation.ctx.settings.serves_cluster_workspaces() => {
            Err(Failure::user_action(
                Reason::WorkspaceNotAllowed,
                "This operator does not serve ClusterWorkspaces: name a Workspace, or run the operator with --cluster-workspaces.",
            ))
        }
        None => {
            let what = if handle.namespace.is_some() { "Workspace" } else { "ClusterWorkspace" };
            let message = format!(
                "No {what} is named {:?}: create it, with the id of the oHallo workspace and the Secret with its API key.",
                handle.name
            );
            Err(Failure::missing_input(Reason::WorkspaceNotFound, message))
        }
    };
    let held = reconciliation.ctx.cached_key(&handle);
    let held = match (usable, held) {
        // The last valid key serves the deletion of a channel, even if its Workspace has changed since.
        (_, Some(held)) if terminating => held,
        (Err(failure), _) => return Err(failure),
        // oHallo refused the key a moment ago: no call until the Workspace has checked it.
        (Ok(()), _) if reconciliation.ctx.key_check_requested(&handle) => {
            return Err(Failure::deferred(Duration::from_secs(1)));
        }
        (Ok(()), Some(held))
            if reconciliation.lookup.as_ref().is_some_and(|lookup| lookup.uid == held.uid) =>
        {
            held
        }
        // The first key check of this process is in progress; it requeues the Workspace's Channels.
        (Ok(()), _) => return Err(Failure::deferred(Duration::from_secs(1))),
    };
    let uid = reconciliation.channel.uid().unwrap_or_default();
    let namespace = reconciliation.channel.namespace().map(Into::into);
    let caller = Caller { namespace, workspace: handle, lane: reconciliation.lane() };
    let session = reconciliation.ctx.ohallo.session(held.key.clone(), caller, reconciliation.permit.take());
    reconciliation.redactor = session.redactor().clone();
    reconciliation.session = Some(session.with_slot(reconciliation.slot.clone()));
    let hour_ago = clock::instant().checked_sub(backoff::STALLED_INTERVAL);
    Ok(WorkspaceAccess {
        workspace_id: held.workspace_id.clone(),
        key: held.key.id(),
        read_with: held.key.read_with(&uid),
        has_read: held.has_read,
        create_unsupported: held.create_unsupported.is_some_and(|at| hour_ago.is_none_or(|ago| at > ago)),
    })
}

fn usable(
    reconciliation: &Reconciliation,
    handle: &WorkspaceKey,
    lookup: &WorkspaceSnapshot,
) -> Result<(), Failure> {
    let held = reconciliation.ctx.cached_key(handle).is_some_and(|held| held.uid == lookup.uid);
    let namespace = reconciliation.channel.namespace().unwrap_or_default();
    if let Some(allowed) = &lookup.allowed
        && !allows(allowed, &namespace, reconciliation.ctx.namespace_labels(&namespace).as_ref())
    {
        let message = format!(
            "ClusterWorkspace {:?} does not allow this namespace: ask for it to be added to spec.allowedNamespaces.",
            handle.name
        );
        return Err(Failure::user_action(Reason::WorkspaceNotAllowed, message));
    }
    let ready = conditions::find(&lookup.status.conditions, kind::READY);
    match ready {
        // This process has verified it and the cache does not show that yet. Otherwise its first key check is
        // in progress and requeues its Channels.
        None if held => Ok(()),
        None => Err(Failure::deferred(Duration::from_secs(1))),
        Some(ready) if ready.status == "False" => {
            Err(not_ready(&format!("{}: {}", ready.reason, ready.message)))
        }
        Some(_) if lookup.terminating && reconciliation.status.channel_id.is_none() => {
            Err(not_ready("it is being deleted."))
        }
        Some(_) => Ok(()),
    }
}

fn not_ready(why: &str) -> Failure {
    Failure::missing_input(Reason::WorkspaceNotReady, format!("The workspace is not ready: {why}"))
}

/// A rotated Secret requires no new read of a channel that was active a moment ago: one call for each Channel,
/// not two.
fn skipped_read(reconciliation: &Reconciliation) -> Option<Duration> {
    let gate = reconciliation
        .memory
        .cooldown
        .as_ref()
        .filter(|_| existing::known_active(&reconciliation.input()))?;
    gate.remaining(clock::instant(), |was| was.changed_but_secrets(reconciliation.began()))
}

/// Whether the workspace is still the one in which the channel was bound: no call is made in another.
fn identity_holds(reconciliation: &Reconciliation) -> bool {
    let recorded = reconciliation.status.workspace_id.as_deref();
    reconciliation
        .observed
        .workspace
        .as_ref()
        .is_ok_and(|place| recorded.is_none_or(|id| same_id(id, place.workspace_id.as_str())))
}

/// Records what this reconcile learned about the id, and who holds it. Only a Channel that can read the channel
/// learns who holds it.
fn note_claim(reconciliation: &mut Reconciliation, id: &str, failure: Option<&Failure>) {
    let view = reconciliation.input();
    let fits = match &view.observed.remote {
        Remote::Found(remote) => existing::identity_mismatch(&view, remote).is_none(),
        Remote::SkippedRead { .. } => true,
        // Nothing was learned.
        Remote::Stale { .. } => return,
        Remote::Unread | Remote::Absent { .. } => false,
    };
    let adopts = !view.observing() && view.bound_id().is_none() && spec::invalid_spec(view.spec()).is_none();
    let shown = match failure.or(view.observed.workspace.as_ref().err()) {
        // Nothing was read.
        Some(Failure { retry: Retry::Deferred(_), .. }) => return,
        Some(Failure { reason: Reason::WorkspaceNotAllowed, .. }) => Shown::Denied,
        Some(_) => Shown::Nothing,
        None if fits && adopts => Shown::Able,
        None if fits => Shown::Reads,
        None => Shown::Nothing,
    };
    let observing = view.observing();
    let (me, uid) = (NamespacedName::of(&reconciliation.channel), reconciliation.uid());
    let requeues = reconciliation.ctx.index().judge(&me, &uid, id, shown);
    reconciliation.ctx.requeue(requeues);
    if !fits || observing {
        return;
    }
    reconciliation.observed.predecessor = inputs::predecessor(&reconciliation.ctx, id, &me);
    let owner = reconciliation.ctx.index().owner(id, &me, &uid);
    let owner = owner.filter(|_| reconciliation.observed.predecessor.is_none());
    reconciliation.observed.owner =
        owner.map(|owner| (owner.namespace == me.namespace).then_some(owner.name));
}

async fn desired_credentials(reconciliation: &mut Reconciliation) -> Result<DesiredCredentials, Failure> {
    let namespace = reconciliation.channel.namespace().unwrap_or_default();
    let mut contents: BTreeMap<String, Content> = BTreeMap::new();
    let sources = reconciliation.channel.spec.credentials.clone();
    for secret in index::secrets(&reconciliation.channel).map(str::to_owned).collect::<BTreeSet<_>>() {
        let content = reconciliation.ctx.secrets.get(&NamespacedName::new(&namespace, &secret)).await?;
        reconciliation.secret_versions.push((SecretId::of(&namespace, &secret), content.version()));
        contents.insert(secret.clone(), credentials::named(&sources, &secret, &content));
        if contents.values().map(Content::bytes).sum::<usize>() > credentials::MAX_READ {
            return Ok(DesiredCredentials::Invalid(credentials::too_many_bytes()));
        }
    }
    let found = credentials::assemble(&sources, |name| contents.get(name));
    drop(contents);
    Ok(match found {
        Err(failure) => DesiredCredentials::Invalid(failure),
        Ok(None) => DesiredCredentials::None,
        Ok(Some(bundle)) => {
            let declared = DesiredCredentials::Ready {
                digest: bundle.digest,
                keys: bundle.credentials.keys(),
                sources: bundle.sources,
            };
            reconciliation.credentials = Some(bundle.credentials);
            declared
        }
    })
}

/// A create returned one channel, but the manifest now names another. Once the created channel is deleted, the
/// named one is bound.
async fn resolved_by_user(reconciliation: &mut Reconciliation, answered: &str) -> Result<(), Failure> {
    reconciliation.take_window(answered);
    read(reconciliation, answered).await?;
    let stale = match reconciliation.observed.remote {
        Remote::Stale { again } => Some(again),
        _ => None,
    };
    let gone = matches!(reconciliation.observed.remote, Remote::Absent { proven: true });
    reconciliation.observed.remote = Remote::Unread;
    if gone {
        reconciliation.owns_attempt = true;
        reconciliation.memory.attempt = None;
        reconciliation.remember();
        return Err(Failure::deferred(Duration::from_secs(1)));
    }
    stale.map_or(Ok(()), |again| Err(Failure::deferred(again)))
}

async fn read(reconciliation: &mut Reconciliation, id: &str) -> Result<(), Failure> {
    let Some(id) = Id::parse(id) else { return Ok(()) };
    match reconciliation.session()?.get_channel(&id).await {
        Ok(remote) => {
            found(reconciliation, remote);
            Ok(())
        }
        Err(CallError::Failed(error)) if error.kind == ErrorKind::NotFound => {
            reconciliation.observed.remote = not_found(reconciliation, &id).await?;
            Ok(())
        }
        Err(error) => Err(refused(reconciliation, error)),
    }
}

/// Interprets a 404: inside a consistency window it means nothing, afterwards it counts when it is seen twice.
async fn not_found(reconciliation: &mut Reconciliation, id: &Id) -> Result<Remote, Failure> {
    if let Some(remote) = stale_absence(reconciliation) {
        return Ok(remote);
    }
    if !absence_proven(reconciliation).await? {
        reconciliation.memory.absence = None;
        return Ok(Remote::Absent { proven: false });
    }
    let rest = freshness::note_absence(&mut reconciliation.memory, id.as_str(), false, clock::instant());
    Ok(rest.map_or(Remote::Absent { proven: true }, |again| Remote::Stale { again }))
}

/// The state of a channel whose 404 may be older than a write; `None` outside a consistency window.
pub fn stale_absence(reconciliation: &Reconciliation) -> Option<Remote> {
    let end = reconciliation.observed.window.absence?;
    Some(Remote::Stale {
        again: consistency::next_stale_poll(reconciliation.memory.stale_reads, end, clock::instant()),
    })
}

/// Records the channel as oHallo returned it.
pub fn found(reconciliation: &mut Reconciliation, remote: RemoteChannel) {
    if reconciliation.input().reconcile_requested() {
        reconciliation.memory.last_update_digest = None;
    }
    // A partly read manifest can't be compared, nor can a read that may be older than the last write.
    let window = &reconciliation.observed.window;
    if reconciliation.channel.spec.left_out.is_none() && window.values.is_none() && window.began.is_none() {
        let differs = reconciliation.input().differences(&remote);
        let digest = reconciliation.input().digest();
        let horizon = REVERT_HORIZON.max(reconciliation.ctx.read_interval(&reconciliation.channel) * 4);
        let paths = differs.iter().map(|differs| differs.path.as_str());
        reconciliation.memory.note_differences(paths, &digest, clock::instant(), horizon);
    }
    if let Ok(place) = &mut reconciliation.observed.workspace
        && !std::mem::replace(&mut place.has_read, true)
    {
        reconciliation
            .ctx
            .edit_cached_key(&WorkspaceKey::of(&reconciliation.channel), |held| held.has_read = true);
    }
    reconciliation.memory.absence = None;
    reconciliation.memory.last_read_at = Some(clock::instant());
    reconciliation.observed.remote = Remote::Found(Box::new(remote));
}

/// A 404 alone proves nothing: the key must also show that it belongs to the channel's workspace.
pub async fn absence_proven(reconciliation: &mut Reconciliation) -> Result<bool, Failure> {
    let Ok(place) = reconciliation.observed.workspace.clone() else { return Ok(false) };
    let recorded = reconciliation.status.workspace_id.as_deref().and_then(Id::parse);
    let workspace = recorded.unwrap_or_else(|| place.workspace_id.clone());
    let probe = match reconciliation.session()?.get_workspace(&workspace).await {
        Ok(found) if found.id == workspace => WorkspaceProbe::Found,
        Ok(_) => WorkspaceProbe::NotFound,
        Err(CallError::Failed(error)) => match error.kind {
            ErrorKind::Forbidden => WorkspaceProbe::Forbidden,
            ErrorKind::NotFound => WorkspaceProbe::NotFound,
            _ => return Err(error.into()),
        },
        Err(deferred) => return Err(deferred.into()),
    };
    Ok(delete::absence_is_proven(&reconciliation.status, &place, probe))
}

/// A refused key concerns the Workspace: this requests a check of its key.
pub fn refused(reconciliation: &Reconciliation, error: CallError) -> Failure {
    if let CallError::Failed(ApiError { kind: ErrorKind::Unauthorized, .. }) = &error {
        reconciliation.ctx.request_key_check(&WorkspaceKey::of(&reconciliation.channel));
    }
    let mut failure = Failure::from(error);
    if failure.reason == Reason::Rejected && reconciliation.memory.failures >= MAX_REJECTED_READS {
        failure.retry = Retry::UserAction;
    }
    if failure.reason == Reason::AuthenticationFailed && reconciliation.memory.failures < 2 {
        // The Workspace's key check comes first: only if it finds the key valid does the refusal concern the
        // Channel.
        failure.retry = Retry::Backoff;
    }
    failure
}

/// Channels that an unresolved create may have created. The list is undocumented: the operator remembers if
/// oHallo lacks it.
pub async fn candidates(reconciliation: &mut Reconciliation) -> Vec<String> {
    let handle = WorkspaceKey::of(&reconciliation.channel);
    let Ok(place) = reconciliation.observed.workspace.clone() else { return Vec::new() };
    if reconciliation.ctx.cached_key(&handle).is_none_or(|held| held.list_unsupported) {
        return Vec::new();
    }
    let Ok(session) = reconciliation.session() else { return Vec::new() };
    let listed = match session.list_channels(&place.workspace_id).await {
        Ok(listed) => listed,
        Err(error) => {
            if matches!(&error, CallError::Failed(e) if matches!(e.kind, ErrorKind::NotFound | ErrorKind::Unsupported | ErrorKind::Forbidden))
            {
                reconciliation.ctx.edit_cached_key(&handle, |held| held.list_unsupported = true);
            }
            return Vec::new();
        }
    };
    let recorded = reconciliation.status.create.as_ref().and_then(|create| create.sent_at.as_deref());
    let intent = reconciliation.channel.annotations().get(annotation::CREATE_INTENT);
    let sent_at = recorded.or(intent.and_then(|intent| binding::AttemptId::time_of(intent)));
    let spec = &reconciliation.channel.spec;
    let me = NamespacedName::of(&reconciliation.channel);
    let uid = reconciliation.channel.uid().unwrap_or_default();
    let now = clock::now();
    let index = reconciliation.ctx.index();
    let fits = |remote: &&RemoteChannel| {
        remote.channel_type == spec.channel_type
            && remote.display_name == spec.display_name
            && binding::could_originate_from(sent_at, remote.created_at.as_deref(), now)
            && index.owner(remote.id.as_str(), &me, &uid).is_none()
    };
    listed.iter().filter(fits).take(MAX_CANDIDATES).map(|remote| remote.id.to_string()).collect()
}
