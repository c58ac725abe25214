//! Reads everything that a decision depends on into the state; the first error ends it.

use std::collections::{BTreeMap, BTreeSet};

use crate::channel::io::{Io, now};
use crate::channel::{claims, inputs};
use ohallo_client::Caller;
use ohallo_core::channel::credentials;
use ohallo_core::channel::model::{DesiredCredentials, WorkspaceAccess};
use ohallo_core::channel::observation::RemoteRead;
use ohallo_core::channel::plan::delete::WorkspaceProbe;
use ohallo_core::channel::state::{Now, State};
use ohallo_core::classify::{CallError, ErrorKind};
use ohallo_core::failure::Failure;
use ohallo_core::index::{self, NamespacedName};
use ohallo_core::remote::Id;
use ohallo_core::secret_content::Content;
use ohallo_core::secret_id::SecretId;

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

/// Opens the session with which this reconcile calls oHallo.
fn workspace_access(io: &mut Io, state: &State, now: Now) -> Result<WorkspaceAccess, Failure> {
    let snapshot = io.snapshot.as_ref();
    let facts =
        inputs::workspace_facts(&io.ctx, &io.workspace, snapshot, state.object(), Some(state.status()));
    let held = facts.usable_key()?;
    let caller = Caller {
        namespace: Some(io.name.namespace.as_str().into()),
        workspace: io.workspace.clone(),
        priority: state.priority(now),
    };
    let session = io.ctx.ohallo.session(held.key.clone(), caller, io.permit.take());
    io.session = Some(session.with_slot(io.slot.clone()));
    Ok(WorkspaceAccess::of(&held, &io.uid, now.instant))
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
