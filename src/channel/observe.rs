//! Reads everything that a decision depends on into the state; the first error ends it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::channel::io::{Io, now};
use crate::channel::{claims, inputs};
use crate::context::WorkspaceSnapshot;
use ohallo_client::Caller;
use ohallo_core::api::ObjectKind;
use ohallo_core::api::conditions::{Reason, kind};
use ohallo_core::backoff;
use ohallo_core::channel::credentials;
use ohallo_core::channel::model::{DesiredCredentials, WorkspaceAccess};
use ohallo_core::channel::observation::RemoteRead;
use ohallo_core::channel::plan::delete::WorkspaceProbe;
use ohallo_core::channel::state::{Now, State};
use ohallo_core::classify::{CallError, ErrorKind};
use ohallo_core::conditions::{self, Status};
use ohallo_core::failure::Failure;
use ohallo_core::index::{self, NamespacedName};
use ohallo_core::remote::Id;
use ohallo_core::secret_content::Content;
use ohallo_core::secret_id::SecretId;
use ohallo_core::workspace::access::allows;

/// Reads the caches, the Secrets and oHallo.
///
/// # Errors
/// Of the first read that failed.
pub async fn observe(io: &mut Io, state: &mut State) -> Result<(), Failure> {
    let suspended = io.snapshot.as_ref().is_some_and(|snapshot| snapshot.suspended);
    let access = workspace_access(io, state, now());
    let redactor = io.session.as_ref().map(|session| session.redactor().clone());
    state.see_workspace(access, suspended, redactor);
    let Some(id) = state.own_id(now()) else { return observe_living(io, state).await };
    state.see_window(&id, &io.ctx.consistency(), now());
    if state.terminating() {
        return observe_claims(io, state, &id).await;
    }
    let observed = observe_living(io, state).await;
    observe_owner(io, state, &id, observed.as_ref().err());
    observed
}

async fn observe_claims(io: &Io, state: &mut State, id: &str) -> Result<(), Failure> {
    state.forget_lost_delete(now());
    // A lost DELETE reserves its id: that must end before the claims are read.
    io.remember(state);
    let claims = claims::first(io, state, id).await?;
    state.see_claims(claims, now());
    Ok(())
}

async fn observe_living(io: &mut Io, state: &mut State) -> Result<(), Failure> {
    if state.terminating() || state.is_suspended() {
        return Ok(());
    }
    let credentials = desired_credentials(io, state).await?;
    state.see_credentials(credentials);
    match state.remote_read(io.began(), now()) {
        RemoteRead::Nothing => Ok(()),
        RemoteRead::Skip { next_look } => {
            state.skip_read(next_look);
            Ok(())
        }
        RemoteRead::Channel(id) => read(io, state, &id).await,
        RemoteRead::Candidates => {
            let listed = list_candidates(io, state, now()).await;
            state.see_candidates(listed);
            Ok(())
        }
        RemoteRead::AnsweredChannel(id) => {
            state.see_window(id.as_str(), &io.ctx.consistency(), now());
            read(io, state, &id).await?;
            state.resolve_conflicting_ids()
        }
    }
}

/// The workspace and its API key, if this reconcile can use them.
fn workspace_access(io: &mut Io, state: &State, now: Now) -> Result<WorkspaceAccess, Failure> {
    let handle = io.workspace.clone();
    let terminating = state.terminating();
    let usable = match &io.snapshot {
        Some(snapshot) => usable(io, state, snapshot),
        None if handle.namespace.is_none() && !io.ctx.settings.serves_cluster_workspaces() => {
            Err(Failure::user_action(
                Reason::WorkspaceNotAllowed,
                "This operator does not serve ClusterWorkspaces: name a Workspace, or run the operator with --cluster-workspaces.",
            ))
        }
        None => {
            let namespaced = handle.namespace.is_some();
            let kind = if namespaced { ObjectKind::Workspace } else { ObjectKind::ClusterWorkspace };
            let what = kind.name();
            let message = format!(
                "No {what} is named {:?}: create it, with the id of the oHallo workspace and the Secret with its API key.",
                handle.name
            );
            Err(Failure::missing_input(Reason::WorkspaceNotFound, message))
        }
    };
    let held = io.ctx.cached_key(&handle);
    let held = match (usable, held) {
        // The last valid key serves the deletion of a channel, even if its Workspace has changed since.
        (_, Some(held)) if terminating => held,
        (Err(failure), _) => return Err(failure),
        // oHallo refused the key a moment ago: no call until the Workspace has checked it.
        (Ok(()), _) if io.ctx.key_check_requested(&handle) => {
            return Err(Failure::deferred(Duration::from_secs(1)));
        }
        (Ok(()), Some(held)) if io.snapshot.as_ref().is_some_and(|snapshot| snapshot.uid == held.uid) => held,
        // The first key check of this process is in progress; it requeues the Workspace's Channels.
        (Ok(()), _) => return Err(Failure::deferred(Duration::from_secs(1))),
    };
    let namespace = Some(io.name.namespace.as_str().into());
    let caller = Caller { namespace, workspace: handle, priority: state.priority(now) };
    let session = io.ctx.ohallo.session(held.key.clone(), caller, io.permit.take());
    io.session = Some(session.with_slot(io.slot.clone()));
    let hour_ago = now.instant.checked_sub(backoff::STALLED_INTERVAL);
    Ok(WorkspaceAccess {
        workspace_id: held.workspace_id.clone(),
        key: held.key.id(),
        read_with: held.key.read_with(&io.uid),
        has_read: held.has_read,
        has_created: held.has_created,
        create_unsupported: held.create_unsupported.is_some_and(|at| hour_ago.is_none_or(|ago| at > ago)),
    })
}

fn usable(io: &Io, state: &State, snapshot: &WorkspaceSnapshot) -> Result<(), Failure> {
    let held = io.ctx.cached_key(&io.workspace).is_some_and(|held| held.uid == snapshot.uid);
    let namespace = &io.name.namespace;
    if let Some(allowed) = &snapshot.allowed
        && !allows(allowed, namespace, io.ctx.namespace_labels(namespace).as_ref())
    {
        let message = format!(
            "ClusterWorkspace {:?} does not allow this namespace: ask for it to be added to spec.allowedNamespaces.",
            io.workspace.name
        );
        return Err(Failure::user_action(Reason::WorkspaceNotAllowed, message));
    }
    let ready = conditions::find(&snapshot.status.conditions, kind::READY);
    match ready {
        // This process has verified it and the cache does not show that yet. Otherwise its first key check is in progress
        // and requeues its Channels.
        None if held => Ok(()),
        None => Err(Failure::deferred(Duration::from_secs(1))),
        Some(ready) if Status::of(ready) == Status::False => {
            Err(not_ready(&format!("{}: {}", ready.reason, ready.message)))
        }
        Some(_) if snapshot.terminating && state.status().channel_id.is_none() => {
            Err(not_ready("it is being deleted."))
        }
        Some(_) => Ok(()),
    }
}

fn not_ready(why: &str) -> Failure {
    Failure::missing_input(Reason::WorkspaceNotReady, format!("The Workspace is not Ready: {why}"))
}

/// Records in the index what this reconcile learned about the id, and in the state who holds it.
fn observe_owner(io: &Io, state: &mut State, id: &str, failure: Option<&Failure>) {
    let Some(shown) = state.shown(failure, now()) else { return };
    let requeues = io.ctx.index().judge(&io.name, &io.uid, id, shown);
    io.ctx.requeue(requeues);
    if !state.asks_for_owner(shown) {
        return;
    }
    let predecessor = inputs::predecessor(&io.ctx, id, &io.name);
    let owner = io.ctx.index().owner(id, &io.name, &io.uid);
    let owner = owner.map(|owner| (owner.namespace == io.name.namespace).then_some(owner.name));
    state.see_owner(predecessor, owner);
}

async fn desired_credentials(io: &mut Io, state: &State) -> Result<DesiredCredentials, Failure> {
    let mut contents: BTreeMap<String, Content> = BTreeMap::new();
    let sources = &state.object().spec.credentials;
    for secret in index::secrets(state.object()).map(str::to_owned).collect::<BTreeSet<_>>() {
        let content = io.ctx.secrets.get(&NamespacedName::new(&io.name.namespace, &secret)).await?;
        io.secret_versions.push((SecretId::of(&io.name.namespace, &secret), content.version()));
        contents.insert(secret.clone(), credentials::named(sources, &secret, &content));
        if contents.values().map(Content::bytes).sum::<usize>() > credentials::MAX_READ {
            return Ok(DesiredCredentials::Invalid(credentials::too_many_bytes()));
        }
    }
    let found = credentials::assemble(sources, |name| contents.get(name));
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
            io.credentials = Some(bundle.credentials);
            declared
        }
    })
}

async fn read(io: &mut Io, state: &mut State, id: &Id) -> Result<(), Failure> {
    match io.session()?.get_channel(id).await {
        Ok(remote) => {
            state.found(remote, now());
            Ok(())
        }
        Err(CallError::Failed(error)) if error.kind == ErrorKind::NotFound => {
            if state.not_found(now()) {
                let probe = probe_workspace(io, state).await.map_err(Failure::from)?;
                state.probed(id, probe, now());
            }
            Ok(())
        }
        Err(error) => Err(state.refused(error)),
    }
}

/// Reads the workspace after a 404, to learn whether the API key belongs to it.
///
/// # Errors
/// Of the call, except where oHallo shows no such workspace or the key may not read it.
pub async fn probe_workspace(io: &mut Io, state: &State) -> Result<WorkspaceProbe, CallError> {
    let (Some(workspace), Some(session)) = (state.workspace_to_probe(), io.session.as_mut()) else {
        return Ok(WorkspaceProbe::NotFound);
    };
    match session.get_workspace(&workspace).await {
        Ok(found) if found.id == workspace => Ok(WorkspaceProbe::Found),
        Ok(_) => Ok(WorkspaceProbe::NotFound),
        Err(CallError::Failed(error)) if error.kind == ErrorKind::Forbidden => Ok(WorkspaceProbe::Forbidden),
        Err(CallError::Failed(error)) if error.kind == ErrorKind::NotFound => Ok(WorkspaceProbe::NotFound),
        Err(error) => Err(error),
    }
}

/// Channels that an unresolved create may have created. The list is undocumented: where oHallo lacks it, none is made.
///
/// # Errors
/// Of the call.
pub async fn list_candidates(io: &mut Io, state: &State, now: Now) -> Result<Vec<String>, CallError> {
    let unsupported = io.ctx.cached_key(&io.workspace).is_none_or(|held| held.list_unsupported);
    let (Ok(place), Some(session), false) = (&state.observed().workspace, io.session.as_mut(), unsupported)
    else {
        return Ok(Vec::new());
    };
    let listed = session.list_channels(&place.workspace_id).await?;
    let index = io.ctx.index();
    Ok(state.candidates(&listed, |id| index.owner(id, &io.name, &io.uid).is_some(), now))
}
