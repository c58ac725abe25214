//! Executes one effect and returns its answer. It decides nothing and changes no state.

use crate::channel::claims;
use crate::channel::io::{Io, now};
use crate::channel::observe::{list_candidates, probe_workspace};
use crate::kubernetes::error;
use crate::kubernetes::object_store::{self, Written, has_code};
use ohallo_client::clock;
use ohallo_core::api::channel::{Channel, ChannelSpec, ChannelStatus};
use ohallo_core::api::conditions::Reason;
use ohallo_core::api::{annotation, finalizer};
use ohallo_core::channel::binding::AttemptId;
use ohallo_core::channel::effect::{Answer, Answered, Effect, EffectError};
use ohallo_core::channel::model::Step;
use ohallo_core::channel::state::State;
use ohallo_core::channel::status::fallback::reduced;
use ohallo_core::channel::stored;
use ohallo_core::failure::Failure;
use ohallo_core::index::Claim;
use ohallo_core::metadata_patch;

/// Executes the effect of this step.
///
/// # Errors
/// Why it was not permitted, or how it failed.
pub async fn execute(io: &mut Io, state: &State, step: &Step, effect: Effect) -> Answered {
    match effect {
        Effect::CheckSchema => match io.ctx.schema.lacks() {
            Some(lacks) => Err(stored::outdated(&lacks).into()),
            None => Ok(Answer::Done),
        },
        Effect::Fence if io.leads() => Ok(Answer::Done),
        Effect::Fence => Err(EffectError::NotLeader),
        Effect::AwaitToken => Ok(io.session()?.ready().await.map(|()| Answer::Done)?),
        Effect::PermitCreate => {
            let session = io.session()?;
            let preflights = session.must_preflight(clock::instant());
            let permit = session.permit_create()?;
            (io.preflights, io.create_permit) = (preflights, Some(permit));
            Ok(Answer::Done)
        }
        Effect::Preflight => preflight(io, state).await,
        Effect::ReserveId => reserve(io, step),
        Effect::WriteFinalizer if state.object().has_finalizer() => Ok(Answer::Done),
        Effect::WriteIntent | Effect::WriteMetadata | Effect::WriteFinalizer => set_metadata(io, state).await,
        Effect::PostChannel => post_channel(io, state, step).await,
        Effect::WriteId => write_id(io, state).await,
        Effect::WriteAhead => write_status(io, state, state.status_to_write()).await,
        Effect::PatchChannel
        | Effect::PostCredentials
        | Effect::PostRetry
        | Effect::PostTest
        | Effect::DeleteChannel => call(io, step).await,
        Effect::ReadObject => read_object(io, state, Answer::Object).await,
        Effect::FindClaims => find_claims(io, state, step).await,
        Effect::RemoveFinalizer => remove_finalizer(io, state).await,
        Effect::ProbeWorkspace => Ok(Answer::Workspace(probe_workspace(io, state).await?)),
        Effect::ListCandidates => Ok(Answer::Candidates(list_candidates(io, state, now()).await?)),
    }
}

/// The call to oHallo that the step is for.
async fn call(io: &mut Io, step: &Step) -> Answered {
    let Io { session, credentials, .. } = io;
    let session = session.as_mut().ok_or_else(unexpected)?;
    match step {
        Step::Update { id, changes, .. } => Ok(Answer::Channel(Box::new(session.update(id, changes).await?))),
        Step::PushCredentials { id } => {
            let credentials = credentials.as_ref().ok_or_else(unexpected)?;
            Ok(session.store_credentials(id, credentials).await.map(|()| Answer::Done)?)
        }
        Step::Retry { id, .. } => Ok(session.retry_provisioning(id).await.map(|()| Answer::Done)?),
        Step::Test { id, .. } => Ok(Answer::TestPassed(session.test(id).await?)),
        Step::Delete { id } => Ok(session.delete(id).await.map(|()| Answer::Done)?),
        Step::WriteIntent { .. }
        | Step::PostCreate { .. }
        | Step::RecordId { .. }
        | Step::Adopt { .. }
        | Step::RestoreMetadata
        | Step::RemoveFinalizer(_) => Err(unexpected().into()),
    }
}

async fn preflight(io: &mut Io, state: &State) -> Answered {
    let workspace = state.observed().workspace.clone()?.workspace_id;
    if io.preflights {
        io.session()?.get_workspace(&workspace).await?;
    }
    Ok(Answer::Done)
}

async fn post_channel(io: &mut Io, state: &State, step: &Step) -> Answered {
    let (Step::PostCreate { attempt, body }, Some(permit)) = (step, io.create_permit.take()) else {
        return Err(unexpected().into());
    };
    let workspace = state.observed().workspace.clone()?.workspace_id;
    let attempt = AttemptId { uid: io.uid.clone(), number: *attempt };
    match permit.create(&workspace, body, &attempt.to_string()).await {
        Ok(remote) => Ok(Answer::Channel(Box::new(remote))),
        Err(error) => Err(EffectError::Call(error.into())),
    }
}

fn reserve(io: &Io, step: &Step) -> Answered {
    let (id, claim) = match step {
        Step::Adopt { id } => (id, Claim::Adopt),
        Step::Delete { id } => (id, Claim::Delete),
        Step::WriteIntent { .. }
        | Step::PostCreate { .. }
        | Step::RecordId { .. }
        | Step::RestoreMetadata
        | Step::Update { .. }
        | Step::PushCredentials { .. }
        | Step::Retry { .. }
        | Step::Test { .. }
        | Step::RemoveFinalizer(_) => return Err(unexpected().into()),
    };
    let reserved = io.ctx.index().claim(id.as_str(), &io.name, &io.uid, claim);
    Ok(if reserved { Answer::Done } else { Answer::Reserved })
}

async fn find_claims(io: &Io, state: &State, step: &Step) -> Answered {
    let Step::Delete { id } = step else { return Err(unexpected().into()) };
    Ok(Answer::Claims(claims::last(io, state, id.as_str()).await?))
}

/// Sets the operator's finalizer and the prepared intent, in one patch.
async fn set_metadata(io: &Io, state: &State) -> Answered {
    let object = state.object();
    let annotation = state.intent_to_write().map(|intent| (annotation::CREATE_INTENT, intent));
    let patch = metadata_patch::set(&object.metadata, finalizer::CHANNEL, annotation);
    match patch_metadata(io, object, patch).await? {
        Written::Stored(stored) => Ok(Answer::Object(stored)),
        Written::Gone => Ok(Answer::ObjectGone),
        Written::Conflict => Ok(Answer::Rejected),
    }
}

async fn patch_metadata(
    io: &Io,
    object: &Channel,
    patch: json_patch::Patch,
) -> Result<Written<Channel>, EffectError> {
    match object_store::patch_metadata(&io.api(), object, patch).await {
        Ok(written) => Ok(written),
        Err(error) if has_code(&error, 422) => {
            let fresh = object_store::read(&io.api(), object).await.map_err(kubernetes)?;
            let version = |channel: &Channel| channel.metadata.resource_version.clone();
            let same = fresh.is_some_and(|fresh| version(&fresh) == version(object));
            if same { Err(kubernetes(error)) } else { Ok(Written::Conflict) }
        }
        Err(error) => Err(kubernetes(error)),
    }
}

/// Removes only the operator's finalizer. A later process can tell this from a removal by another client.
async fn remove_finalizer(io: &Io, state: &State) -> Answered {
    let object = state.object();
    let removed = (annotation::FINALIZER_REMOVED, io.uid.as_str());
    let patch = metadata_patch::remove(&object.metadata, finalizer::CHANNEL, Some(removed));
    match patch_metadata(io, object, patch).await? {
        Written::Stored(stored) => Ok(Answer::Object(stored)),
        Written::Gone => Ok(Answer::ObjectGone),
        Written::Conflict => read_object(io, state, Answer::Conflict).await,
    }
}

async fn read_object(io: &Io, state: &State, found: impl FnOnce(Box<Channel>) -> Answer) -> Answered {
    let read = object_store::read(&io.api(), state.object()).await.map_err(kubernetes)?;
    Ok(read.map_or(Answer::ObjectGone, |fresh| found(Box::new(fresh))))
}

async fn write_id(io: &Io, state: &State) -> Answered {
    let status = state.status_to_write();
    let answer = write_status(io, state, status).await;
    if let Err(EffectError::Kubernetes { failure, .. }) = &answer {
        tracing::error!(
            channel = io.name.name,
            namespace = io.name.namespace,
            channel_id = status.channel_id,
            error = failure.chain(),
            "a channel was created and its id is not in a status yet"
        );
    }
    answer
}

/// Writes the status. If the API server finds it invalid, a reduced status is written instead.
///
/// # Errors
/// The API server's.
pub async fn write_status(io: &Io, state: &State, status: &ChannelStatus) -> Answered {
    let object = state.object();
    let mut written = replace_status(io, object, status.clone()).await;
    if matches!(&written, Err(error) if has_code(error, 422)) {
        for less in reduced(status) {
            io.ctx.metrics.status_rejected();
            tracing::error!(
                channel = io.name.name,
                namespace = io.name.namespace,
                "API server rejected the status; retrying with a reduced status"
            );
            written = replace_status(io, object, less).await;
            if !matches!(&written, Err(error) if has_code(error, 422)) {
                break;
            }
        }
    }
    match written.map_err(kubernetes)? {
        Written::Stored(stored) => Ok(Answer::Object(stored)),
        Written::Gone => Ok(Answer::ObjectGone),
        Written::Conflict => read_object(io, state, Answer::Conflict).await,
    }
}

async fn replace_status(
    io: &Io,
    object: &Channel,
    status: ChannelStatus,
) -> Result<Written<Channel>, kube::Error> {
    let mut metadata = object.metadata.clone();
    metadata.managed_fields = None;
    // The API server ignores the spec in it.
    let written = Channel { metadata, spec: ChannelSpec::default(), status: Some(status) };
    object_store::replace_status(&io.api(), &written).await
}

fn kubernetes(error: kube::Error) -> EffectError {
    let refused = matches!(&error, kube::Error::Api(status) if (400..500).contains(&status.code));
    EffectError::Kubernetes { failure: error::to_failure(&error), refused }
}

/// A step without what its effect needs: a bug of the operator.
fn unexpected() -> Failure {
    Failure::transient(Reason::InternalError, "The operator executed an effect of another step.")
}
