//! Creates a channel and records its id. The POST and the record run in their own task: no reconcile timeout,
//! conflict or lost response of the API server may drop an id.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use kube::ResourceExt;
use tracing::Instrument;

use crate::channel::observe::{candidates, found, refused};
use crate::channel::reconciliation::{Next, Reconciliation, StatusWrite};
use crate::channel::{claims, report};
use crate::context::Context;
use crate::kubernetes::error;
use crate::kubernetes::events::PendingEvent;
use ohallo_client::{CreatePermit, clock};
use ohallo_core::api::annotation;
use ohallo_core::api::channel::{AppliedStatus, CreateStatus};
use ohallo_core::api::conditions::Reason;
use ohallo_core::api::values::{Origin, RecordedOutcome};
use ohallo_core::backoff;
use ohallo_core::channel::binding::{AttemptId, classify_create_error, conflicting_id, unbound};
use ohallo_core::channel::consistency::Write;
use ohallo_core::channel::in_memory_state::{self, AttemptOutcome, UnrecordedGuard};
use ohallo_core::channel::model::{Outcome, Plan};
use ohallo_core::channel::plan::{CREATE_UNSUPPORTED, plan, update};
use ohallo_core::channel::stored;
use ohallo_core::classify::{ApiError, CallError, Class, ErrorKind};
use ohallo_core::failure::{Failure, Retry};
use ohallo_core::index::{Claim, NamespacedName, WorkspaceKey};
use ohallo_core::lease::election::Epoch;
use ohallo_core::remote::{Id, NewChannel, RemoteChannel};
use ohallo_core::text::seconds;

/// Creates the channel: permission, preflight, intent, POST, record.
pub async fn create(
    mut reconciliation: Box<Reconciliation>,
    number: i64,
    body: NewChannel,
) -> (Box<Reconciliation>, Result<Next, Failure>) {
    let (permit, workspace) = match prepare(&mut reconciliation).await {
        Ok(prepared) => prepared,
        Err(failure) => return (reconciliation, Err(failure)),
    };
    if let Err(failure) = reconciliation.fence() {
        return (reconciliation, Err(failure));
    }
    let attempt = AttemptId { uid: reconciliation.uid(), number };
    let sent_at = clock::now();
    let intent = attempt.intent(sent_at);
    // If the intent is stored although its write reported an error, memory knows that nothing was sent.
    let past = reconciliation.memory.attempt.replace(in_memory_state::CreateAttempt {
        intent: Some(intent.clone()),
        after: reconciliation.input().annotation(annotation::CREATE_INTENT).map(Into::into),
        ..in_memory_state::CreateAttempt::new(number, AttemptOutcome::NotSent)
    });
    remember(&mut reconciliation, number, AttemptOutcome::NotSent);
    creating(&reconciliation, true);
    if let Err(failure) = reconciliation.patch_metadata(Some(intent)).await {
        creating(&reconciliation, false);
        create_not_sent(&mut reconciliation, &failure, number, past);
        return (reconciliation, Err(failure));
    }
    reconciliation.status.create = Some(CreateStatus {
        attempt: number,
        outcome: RecordedOutcome::Unknown.as_str().into(),
        sent_at: Some(seconds(sent_at)),
    });
    if let Some(own) = &mut reconciliation.memory.attempt {
        own.last = true;
    }
    remember(&mut reconciliation, number, AttemptOutcome::InFlight);
    spawn(reconciliation, number, async move |mut reconciliation: Box<Reconciliation>| {
        // The lease may have been lost since the intent was written.
        if let Err(failure) = reconciliation.fence() {
            remember(&mut reconciliation, number, AttemptOutcome::NotSent);
            creating(&reconciliation, false);
            if let Some(create) = &mut reconciliation.status.create {
                create.outcome = RecordedOutcome::NotSent.as_str().into();
            }
            return (reconciliation, Err(failure));
        }
        let answer = permit.create(&workspace, &body, &attempt.to_string()).await;
        match answer {
            Ok(remote) => {
                let (name, uid) = (NamespacedName::of(&reconciliation.channel), reconciliation.uid());
                if !reconciliation.ctx.index().claim(remote.id.as_str(), &name, &uid, Claim::Create) {
                    tracing::error!(
                        channel_id = %remote.id,
                        "a create returned an id that another Channel is binding"
                    );
                }
                let digest = reconciliation.input().digest();
                reconciliation.memory.note_update(digest.clone());
                reconciliation.memory.last_create_body =
                    Some(AppliedStatus { enabled: body.enabled, digest: Some(digest) });
                let answer = update::answer_values(&reconciliation.input(), &remote);
                reconciliation.ctx.consistency().wrote(
                    remote.id.as_str(),
                    Write::Values(answer),
                    clock::instant(),
                );
                remember(&mut reconciliation, number, AttemptOutcome::Answered(Box::new(remote)));
                record_id(reconciliation, number).await
            }
            Err(error) => {
                let result = not_created(&mut reconciliation, number, error).await;
                (reconciliation, result)
            }
        }
    })
    .await
}

/// The API server did not store the intent as it was sent, so nothing was sent to oHallo. If the object shows
/// the earlier intent, this attempt never existed. A changed intent belongs to this attempt.
fn create_not_sent(
    reconciliation: &mut Reconciliation,
    failure: &Failure,
    number: i64,
    past: Option<in_memory_state::CreateAttempt>,
) {
    let shown = reconciliation.input().annotation(annotation::CREATE_INTENT).map(str::to_owned);
    let refused = matches!(failure.retry, Retry::Deferred(_));
    let stripped = failure.reason == Reason::StatusNotStored;
    match &mut reconciliation.memory.attempt {
        Some(own) if refused || (stripped && own.after == shown) => reconciliation.memory.attempt = past,
        Some(own) if stripped => {
            own.intent = shown;
            // The intent remains, and the next process must not ask a user about it.
            reconciliation.status.create = Some(CreateStatus {
                attempt: number,
                outcome: RecordedOutcome::NotSent.as_str().into(),
                sent_at: None,
            });
        }
        _ => return,
    }
    reconciliation.remember();
}

/// Records an id that oHallo returned to an earlier reconcile.
pub async fn record(
    reconciliation: Box<Reconciliation>,
    number: i64,
) -> (Box<Reconciliation>, Result<Next, Failure>) {
    spawn(reconciliation, number, async move |reconciliation: Box<Reconciliation>| {
        record_id(reconciliation, number).await
    })
    .await
}

/// Runs the task to its end, even if the reconcile that waits for it ends first.
async fn spawn<F, T>(
    mut reconciliation: Box<Reconciliation>,
    number: i64,
    task: T,
) -> (Box<Reconciliation>, Result<Next, Failure>)
where
    T: FnOnce(Box<Reconciliation>) -> F + Send + 'static,
    F: Future<Output = (Box<Reconciliation>, Result<Next, Failure>)> + Send + 'static,
{
    let (ctx, channel, epoch) =
        (reconciliation.ctx.clone(), reconciliation.channel.without_config(), reconciliation.epoch);
    match ctx.tasks.spawn(task(reconciliation).in_current_span()).await {
        Ok(done) => done,
        Err(_) => {
            // The task panicked: whether the request was sent is unknown.
            ctx.metrics.panicked();
            let slot = ctx.ohallo.heavy().slot();
            let mut reconciliation = Box::new(Reconciliation::new(&ctx, channel, epoch, slot));
            if matches!(&reconciliation.memory.attempt, Some(own) if own.outcome == AttemptOutcome::InFlight)
            {
                remember(&mut reconciliation, number, AttemptOutcome::Unknown);
            }
            (
                reconciliation,
                Err(Failure::transient(
                    Reason::InternalError,
                    "The operator failed while it created the channel.",
                )),
            )
        }
    }
}

/// Everything that may wait or fail comes before the intent: a crash while waiting leaves no unresolved create.
async fn prepare(reconciliation: &mut Reconciliation) -> Result<(CreatePermit, Id), Failure> {
    let place = reconciliation.observed.workspace.clone()?;
    // The API server would not store the id.
    reconciliation.schema_serves()?;
    let now = clock::instant();
    let session = reconciliation.session()?;
    let preflight = session.must_preflight(now);
    let permit = session.permit_create().map_err(Failure::from)?;
    if preflight {
        match session.get_workspace(&place.workspace_id).await {
            Ok(_) => {}
            // A well-formed refusal to read workspaces also shows that oHallo responds.
            Err(CallError::Failed(error)) if error.kind == ErrorKind::Forbidden => {}
            Err(CallError::Failed(error)) if error.kind == ErrorKind::NotFound => {
                return Err(workspace_gone(reconciliation));
            }
            Err(error) => return Err(refused(reconciliation, error)),
        }
    }
    Ok((permit, place.workspace_id))
}

fn workspace_gone(reconciliation: &Reconciliation) -> Failure {
    reconciliation.ctx.request_key_check(&WorkspaceKey::of(&reconciliation.channel));
    Failure::missing_input(
        Reason::WorkspaceNotReady,
        "The workspace is not ready: oHallo shows no such workspace to this API key.",
    )
}

fn remember(reconciliation: &mut Reconciliation, number: i64, outcome: AttemptOutcome) {
    reconciliation.owns_attempt = true;
    let own = reconciliation.memory.attempt.take().filter(|own| own.number == number);
    let own = own.unwrap_or_else(|| in_memory_state::CreateAttempt::new(number, AttemptOutcome::Unknown));
    reconciliation.memory.attempt = Some(in_memory_state::CreateAttempt { outcome, ..own });
    reconciliation.remember();
}

/// Keeps the Workspace's finalizer while a create in it is in flight.
fn creating(reconciliation: &Reconciliation, creating: bool) {
    let requeues = reconciliation.ctx.index().creating(
        &NamespacedName::of(&reconciliation.channel),
        &reconciliation.uid(),
        creating,
    );
    reconciliation.ctx.requeue(requeues);
}

/// Binds the object to the channel.
pub fn bind(reconciliation: &mut Reconciliation, remote: &RemoteChannel, origin: &str) {
    let uid = reconciliation.uid();
    let workspace =
        reconciliation.observed.workspace.as_ref().ok().map(|place| place.workspace_id.to_string());
    if reconciliation.status.bound_to(&uid).is_none() {
        // The other status fields describe the channel of another object.
        reconciliation.status = unbound(std::mem::take(&mut reconciliation.status));
    }
    let status = &mut reconciliation.status;
    status.channel_id = Some(remote.id.to_string());
    status.bound_uid = Some(uid);
    status.workspace_id = workspace;
    status.origin = Some(origin.to_owned());
    status.create = None;
    reconciliation.memory.bound_by_this_process = true;
}

/// Writes the id into the status before any further call, and retries until the write succeeds.
async fn record_id(
    mut reconciliation: Box<Reconciliation>,
    number: i64,
) -> (Box<Reconciliation>, Result<Next, Failure>) {
    let Some(in_memory_state::CreateAttempt { outcome: AttemptOutcome::Answered(remote), .. }) =
        reconciliation.memory.attempt.clone()
    else {
        return (reconciliation, Ok(Next::Requeue));
    };
    let metrics = Arc::clone(&reconciliation.ctx.metrics);
    if let Some(own) = &mut reconciliation.memory.attempt {
        own.unrecorded.get_or_insert_with(|| UnrecordedGuard::new(metrics.id_unrecorded()));
    }
    reconciliation.owns_attempt = true;
    reconciliation.remember();
    let result = try_record_id(&mut reconciliation, number, &remote).await;
    // The metric counts an id until the API server stores it.
    let kept_in_memory = matches!(&result, Err(failure) if failure.reason == Reason::StatusNotStored);
    if let Some(own) = reconciliation.memory.attempt.as_mut().filter(|_| !kept_in_memory) {
        own.unrecorded = None;
        reconciliation.remember();
    }
    (reconciliation, result)
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
    for channel in ctx.channels.state() {
        let cell = ctx.memory(&channel.uid().unwrap_or_default());
        let memory = cell.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // A separate task waits for an API server that does not respond.
        let (Some(_), Some(own), false) = (memory.unrecorded_id(), &memory.attempt, memory.lost.is_empty())
        else {
            continue;
        };
        let epoch = memory.epoch.unwrap_or(Epoch { term: 0, transitions: 0 });
        let slot = ctx.ohallo.heavy().slot();
        let reconciliation = Box::new(Reconciliation::new(ctx, (*channel).clone(), epoch, slot));
        let Ok(Some(fresh)) = reconciliation.fresh().await else {
            left += 1;
            continue;
        };
        let slot = ctx.ohallo.heavy().slot();
        let reconciliation = Box::new(Reconciliation::new(ctx, fresh, epoch, slot));
        let (reconciliation, result) = record_id(reconciliation, own.number).await;
        reconciliation.remember();
        left += usize::from(result.is_err());
    }
    left
}

async fn try_record_id(
    reconciliation: &mut Reconciliation,
    number: i64,
    remote: &RemoteChannel,
) -> Result<Next, Failure> {
    let mut failures = 0;
    loop {
        if let Some(other) =
            conflicting_id(&reconciliation.channel, &reconciliation.status, remote.id.as_str())
        {
            conflicting_ids(reconciliation, &remote.id, &other);
            // Only the id is needed until the user has decided.
            let bare = RemoteChannel { config: Default::default(), ..remote.clone() };
            remember(reconciliation, number, AttemptOutcome::Answered(Box::new(bare)));
            return Ok(Next::Continue);
        }
        apply_answer(reconciliation, remote);
        let outcome = match plan(&reconciliation.input()) {
            Plan::Settled(verdict) if !reconciliation.superseded => Outcome::Settled(verdict),
            _ => Outcome::More,
        };
        let summary = report::summary(reconciliation, &outcome);
        match report::write(reconciliation, &summary.status, false).await {
            Ok(StatusWrite::NotStored(lost)) if lost.iter().any(|field| field.binds()) => {
                let failure = stored::failure(&lost);
                if !reconciliation.input().terminating() {
                    return Err(failure);
                }
                let release = annotation::RELEASE;
                let message = format!(
                    "{} To leave the channel in oHallo, annotate this object with {release}={}.",
                    failure.message, remote.id
                );
                return Err(Failure { message, ..failure });
            }
            Ok(StatusWrite::Applied | StatusWrite::NotStored(_)) => {
                reconciliation.status = summary.status;
                remember(reconciliation, number, AttemptOutcome::Unknown);
                reconciliation.memory.attempt = None;
                reconciliation.remember();
                reconciliation
                    .note(PendingEvent::normal("Created", format!("Created channel {}.", remote.id)));
                return Ok(Next::Continue);
            }
            Ok(StatusWrite::ObjectGone) => {
                report::orphaned(reconciliation, remote.id.as_str());
                return Ok(Next::Finished);
            }
            Ok(StatusWrite::Conflict) => {
                if let Ok(Some(fresh)) = reconciliation.fresh().await {
                    reconciliation.status = fresh.status.clone().unwrap_or_default();
                    reconciliation.replace_object(fresh);
                }
            }
            Err(error) => tracing::error!(
                channel = reconciliation.channel.name_any(),
                namespace = reconciliation.channel.namespace(),
                channel_id = %remote.id,
                error = %error::describe(&error),
                "a channel was created and its id is not in a status yet"
            ),
        }
        failures += 1;
        tokio::select! {
            () = tokio::time::sleep(backoff::backoff(failures, 1.0).min(Duration::from_secs(10))) => {}
            () = reconciliation.ctx.ended.cancelled() => {
                let text = "The operator stopped before it recorded the id.";
                return Err(Failure::transient(Reason::InternalError, text));
            }
        }
    }
}

fn apply_answer(reconciliation: &mut Reconciliation, remote: &RemoteChannel) {
    reconciliation.ctx.edit_cached_key(&WorkspaceKey::of(&reconciliation.channel), |held| {
        held.create_unsupported = None;
        held.has_created = true;
    });
    bind(reconciliation, remote, Origin::Created.as_str());
    reconciliation.status.applied.clone_from(&reconciliation.memory.last_create_body);
    // Before the answer is applied: a create's response does not count as a read after the create.
    reconciliation.take_window(remote.id.as_str());
    found(reconciliation, remote.clone());
}

fn conflicting_ids(reconciliation: &mut Reconciliation, answered: &Id, declared: &str) {
    claims::release(reconciliation);
    tracing::error!(
        channel = reconciliation.channel.name_any(),
        namespace = reconciliation.channel.namespace(),
        channel_id = %answered,
        declared,
        "a create returned another channel than the manifest now names; neither is bound"
    );
    let text = format!(
        "A create returned channel {answered}, but spec.channelId names {declared}; neither is bound."
    );
    reconciliation.note(PendingEvent::warning("CreateOutcomeUnknown", text));
}

/// The create failed, or its outcome is unknown.
async fn not_created(
    reconciliation: &mut Reconciliation,
    number: i64,
    mut error: ApiError,
) -> Result<Next, Failure> {
    error.class =
        classify_create_error(&error, reconciliation.input().annotation(annotation::CREATE_AGAIN).is_some());
    let (outcome, word) = match error.class {
        Class::NotSent => (AttemptOutcome::NotSent, RecordedOutcome::NotSent),
        Class::Rejected => (AttemptOutcome::Rejected, RecordedOutcome::Rejected),
        Class::Ambiguous => (AttemptOutcome::Unknown, RecordedOutcome::Unknown),
    };
    remember(reconciliation, number, outcome);
    if error.class != Class::Ambiguous {
        creating(reconciliation, false);
    }
    if let Some(create) = &mut reconciliation.status.create {
        create.outcome = word.as_str().into();
    }
    if error.class == Class::Ambiguous {
        reconciliation.observed.candidates = candidates(reconciliation).await;
        return Ok(Next::Continue);
    }
    let unsupported = match error.kind {
        ErrorKind::Unsupported => true,
        ErrorKind::NotFound => match readable(reconciliation).await {
            Ok(true) => true,
            Ok(false) => return Err(workspace_gone(reconciliation)),
            Err(failure) => return Err(failure),
        },
        _ => false,
    };
    let handle = WorkspaceKey::of(&reconciliation.channel);
    if unsupported && !reconciliation.ctx.cached_key(&handle).is_some_and(|held| held.has_created) {
        let at = clock::instant();
        reconciliation.ctx.edit_cached_key(&handle, |held| held.create_unsupported = Some(at));
        return Err(Failure {
            class: Some(error.class),
            ..Failure::user_action(Reason::CreateUnsupported, CREATE_UNSUPPORTED)
        });
    }
    Err(refused(reconciliation, CallError::Failed(error)))
}

/// Whether the workspace exists. If the key may not read workspaces, it counts as existing.
async fn readable(reconciliation: &mut Reconciliation) -> Result<bool, Failure> {
    let place = reconciliation.observed.workspace.clone()?;
    match reconciliation.session()?.get_workspace(&place.workspace_id).await {
        Ok(_) => Ok(true),
        Err(CallError::Failed(error)) if error.kind == ErrorKind::Forbidden => Ok(true),
        Err(CallError::Failed(error)) if error.kind == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(refused(reconciliation, error)),
    }
}
