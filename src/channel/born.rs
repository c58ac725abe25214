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
    mut pass: Box<Reconciliation>,
    number: i64,
    body: NewChannel,
) -> (Box<Reconciliation>, Result<Next, Failure>) {
    let (permit, workspace) = match prepare(&mut pass).await {
        Ok(prepared) => prepared,
        Err(failure) => return (pass, Err(failure)),
    };
    if let Err(failure) = pass.fence() {
        return (pass, Err(failure));
    }
    let attempt = AttemptId { uid: pass.uid(), number };
    let sent_at = clock::now();
    let intent = attempt.intent(sent_at);
    // If the intent is stored although its write reported an error, memory knows that nothing was sent.
    let past = pass.memory.attempt.replace(in_memory_state::CreateAttempt {
        intent: Some(intent.clone()),
        after: pass.input().annotation(annotation::CREATE_INTENT).map(Into::into),
        ..in_memory_state::CreateAttempt::new(number, AttemptOutcome::NotSent)
    });
    remember(&mut pass, number, AttemptOutcome::NotSent);
    creating(&pass, true);
    if let Err(failure) = pass.patch_metadata(Some(intent)).await {
        creating(&pass, false);
        create_not_sent(&mut pass, &failure, number, past);
        return (pass, Err(failure));
    }
    pass.status.create = Some(CreateStatus {
        attempt: number,
        outcome: RecordedOutcome::Unknown.as_str().into(),
        sent_at: Some(seconds(sent_at)),
    });
    if let Some(own) = &mut pass.memory.attempt {
        own.last = true;
    }
    remember(&mut pass, number, AttemptOutcome::InFlight);
    spawn(pass, number, async move |mut pass: Box<Reconciliation>| {
        // The lease may have been lost since the intent was written.
        if let Err(failure) = pass.fence() {
            remember(&mut pass, number, AttemptOutcome::NotSent);
            creating(&pass, false);
            if let Some(create) = &mut pass.status.create {
                create.outcome = RecordedOutcome::NotSent.as_str().into();
            }
            return (pass, Err(failure));
        }
        let answer = permit.create(&workspace, &body, &attempt.to_string()).await;
        match answer {
            Ok(remote) => {
                let (name, uid) = (NamespacedName::of(&pass.channel), pass.uid());
                if !pass.ctx.index().claim(remote.id.as_str(), &name, &uid, Claim::Create) {
                    tracing::error!(channel_id = %remote.id, "a create returned an id that another Channel is binding");
                }
                let digest = pass.input().digest();
                pass.memory.note_update(digest.clone());
                pass.memory.last_create_body = Some(AppliedStatus { enabled: body.enabled, digest: Some(digest) });
                let answer = update::answer_values(&pass.input(), &remote);
                pass.ctx.consistency().wrote(remote.id.as_str(), Write::Values(answer), clock::instant());
                remember(&mut pass, number, AttemptOutcome::Answered(Box::new(remote)));
                record_id(pass, number).await
            }
            Err(error) => {
                let result = not_created(&mut pass, number, error).await;
                (pass, result)
            }
        }
    })
    .await
}

/// The API server did not store the intent as it was sent, so nothing was sent to oHallo. If the object shows
/// the earlier intent, this attempt never existed. A changed intent belongs to this attempt.
fn create_not_sent(
    pass: &mut Reconciliation,
    failure: &Failure,
    number: i64,
    past: Option<in_memory_state::CreateAttempt>,
) {
    let shown = pass.input().annotation(annotation::CREATE_INTENT).map(str::to_owned);
    let refused = matches!(failure.retry, Retry::Deferred(_));
    let stripped = failure.reason == Reason::StatusNotStored;
    match &mut pass.memory.attempt {
        Some(own) if refused || (stripped && own.after == shown) => pass.memory.attempt = past,
        Some(own) if stripped => {
            own.intent = shown;
            // The intent remains, and the next process must not ask a user about it.
            pass.status.create = Some(CreateStatus {
                attempt: number,
                outcome: RecordedOutcome::NotSent.as_str().into(),
                sent_at: None,
            });
        }
        _ => return,
    }
    pass.remember();
}

/// Records an id that oHallo returned to an earlier reconcile.
pub async fn record(pass: Box<Reconciliation>, number: i64) -> (Box<Reconciliation>, Result<Next, Failure>) {
    spawn(pass, number, async move |pass: Box<Reconciliation>| record_id(pass, number).await).await
}

/// Runs the task to its end, even if the reconcile that waits for it ends first.
async fn spawn<F, T>(
    mut pass: Box<Reconciliation>,
    number: i64,
    task: T,
) -> (Box<Reconciliation>, Result<Next, Failure>)
where
    T: FnOnce(Box<Reconciliation>) -> F + Send + 'static,
    F: Future<Output = (Box<Reconciliation>, Result<Next, Failure>)> + Send + 'static,
{
    let (ctx, channel, epoch) = (pass.ctx.clone(), pass.channel.without_config(), pass.epoch);
    match ctx.tasks.spawn(task(pass).in_current_span()).await {
        Ok(done) => done,
        Err(_) => {
            // The task panicked: whether the request was sent is unknown.
            ctx.metrics.panicked();
            let slot = ctx.ohallo.heavy().slot();
            let mut pass = Box::new(Reconciliation::new(&ctx, channel, epoch, slot));
            if matches!(&pass.memory.attempt, Some(own) if own.outcome == AttemptOutcome::InFlight) {
                remember(&mut pass, number, AttemptOutcome::Unknown);
            }
            (
                pass,
                Err(Failure::transient(
                    Reason::InternalError,
                    "The operator failed while it created the channel.",
                )),
            )
        }
    }
}

/// Everything that may wait or fail comes before the intent: a crash while waiting leaves no unresolved create.
async fn prepare(pass: &mut Reconciliation) -> Result<(CreatePermit, Id), Failure> {
    let place = pass.observed.workspace.clone()?;
    // The API server would not store the id.
    pass.schema_serves()?;
    let now = clock::instant();
    let session = pass.session()?;
    let preflight = session.must_preflight(now);
    let permit = session.permit_create().map_err(Failure::from)?;
    if preflight {
        match session.get_workspace(&place.workspace_id).await {
            Ok(_) => {}
            // A well-formed refusal to read workspaces also shows that oHallo responds.
            Err(CallError::Failed(error)) if error.kind == ErrorKind::Forbidden => {}
            Err(CallError::Failed(error)) if error.kind == ErrorKind::NotFound => {
                return Err(workspace_gone(pass));
            }
            Err(error) => return Err(refused(pass, error)),
        }
    }
    Ok((permit, place.workspace_id))
}

fn workspace_gone(pass: &Reconciliation) -> Failure {
    pass.ctx.request_key_check(&WorkspaceKey::of(&pass.channel));
    Failure::missing_input(
        Reason::WorkspaceNotReady,
        "The workspace is not ready: oHallo shows no such workspace to this API key.",
    )
}

fn remember(pass: &mut Reconciliation, number: i64, outcome: AttemptOutcome) {
    pass.owns_attempt = true;
    let own = pass.memory.attempt.take().filter(|own| own.number == number);
    let own = own.unwrap_or_else(|| in_memory_state::CreateAttempt::new(number, AttemptOutcome::Unknown));
    pass.memory.attempt = Some(in_memory_state::CreateAttempt { outcome, ..own });
    pass.remember();
}

/// Keeps the Workspace's finalizer while a create in it is in flight.
fn creating(pass: &Reconciliation, creating: bool) {
    let requeues = pass.ctx.index().creating(&NamespacedName::of(&pass.channel), &pass.uid(), creating);
    pass.ctx.requeue(requeues);
}

/// Binds the object to the channel.
pub fn bind(pass: &mut Reconciliation, remote: &RemoteChannel, origin: &str) {
    let uid = pass.uid();
    let workspace = pass.observed.workspace.as_ref().ok().map(|place| place.workspace_id.to_string());
    if pass.status.bound_to(&uid).is_none() {
        // The other status fields describe the channel of another object.
        pass.status = unbound(std::mem::take(&mut pass.status));
    }
    let status = &mut pass.status;
    status.channel_id = Some(remote.id.to_string());
    status.bound_uid = Some(uid);
    status.workspace_id = workspace;
    status.origin = Some(origin.to_owned());
    status.create = None;
    pass.memory.bound_by_this_process = true;
}

/// Writes the id into the status before any further call, and retries until the write succeeds.
async fn record_id(
    mut pass: Box<Reconciliation>,
    number: i64,
) -> (Box<Reconciliation>, Result<Next, Failure>) {
    let Some(in_memory_state::CreateAttempt { outcome: AttemptOutcome::Answered(remote), .. }) =
        pass.memory.attempt.clone()
    else {
        return (pass, Ok(Next::Requeue));
    };
    let metrics = Arc::clone(&pass.ctx.metrics);
    if let Some(own) = &mut pass.memory.attempt {
        own.unrecorded.get_or_insert_with(|| UnrecordedGuard::new(metrics.id_unrecorded()));
    }
    pass.owns_attempt = true;
    pass.remember();
    let result = try_record_id(&mut pass, number, &remote).await;
    // The metric counts an id until the API server stores it.
    let kept_in_memory = matches!(&result, Err(failure) if failure.reason == Reason::StatusNotStored);
    if let Some(own) = pass.memory.attempt.as_mut().filter(|_| !kept_in_memory) {
        own.unrecorded = None;
        pass.remember();
    }
    (pass, result)
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
        let pass = Box::new(Reconciliation::new(ctx, (*channel).clone(), epoch, slot));
        let Ok(Some(fresh)) = pass.fresh().await else {
            left += 1;
            continue;
        };
        let slot = ctx.ohallo.heavy().slot();
        let pass = Box::new(Reconciliation::new(ctx, fresh, epoch, slot));
        let (pass, result) = record_id(pass, own.number).await;
        pass.remember();
        left += usize::from(result.is_err());
    }
    left
}

async fn try_record_id(
    pass: &mut Reconciliation,
    number: i64,
    remote: &RemoteChannel,
) -> Result<Next, Failure> {
    let mut failures = 0;
    loop {
        if let Some(other) = conflicting_id(&pass.channel, &pass.status, remote.id.as_str()) {
            conflicting_ids(pass, &remote.id, &other);
            // Only the id is needed until the user has decided.
            let bare = RemoteChannel { config: Default::default(), ..remote.clone() };
            remember(pass, number, AttemptOutcome::Answered(Box::new(bare)));
            return Ok(Next::Continue);
        }
        apply_answer(pass, remote);
        let outcome = match plan(&pass.input()) {
            Plan::Settled(verdict) if !pass.superseded => Outcome::Settled(verdict),
            _ => Outcome::More,
        };
        let summary = report::summary(pass, &outcome);
        match report::write(pass, &summary.status, false).await {
            Ok(StatusWrite::NotStored(lost)) if lost.iter().any(|field| field.binds()) => {
                let failure = stored::failure(&lost);
                if !pass.input().terminating() {
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
                pass.status = summary.status;
                remember(pass, number, AttemptOutcome::Unknown);
                pass.memory.attempt = None;
                pass.remember();
                pass.note(PendingEvent::normal("Created", format!("Created channel {}.", remote.id)));
                return Ok(Next::Continue);
            }
            Ok(StatusWrite::ObjectGone) => {
                report::orphaned(pass, remote.id.as_str());
                return Ok(Next::Finished);
            }
            Ok(StatusWrite::Conflict) => {
                if let Ok(Some(fresh)) = pass.fresh().await {
                    pass.status = fresh.status.clone().unwrap_or_default();
                    pass.replace_object(fresh);
                }
            }
            Err(error) => tracing::error!(
                channel = pass.channel.name_any(),
                namespace = pass.channel.namespace(),
                channel_id = %remote.id,
                error = %error::describe(&error),
                "a channel was created and its id is not in a status yet"
            ),
        }
        failures += 1;
        tokio::select! {
            () = tokio::time::sleep(backoff::backoff(failures, 1.0).min(Duration::from_secs(10))) => {}
            () = pass.ctx.ended.cancelled() => return Err(Failure::transient(Reason::InternalError, "The operator stopped before it recorded the id.")),
        }
    }
}

fn apply_answer(pass: &mut Reconciliation, remote: &RemoteChannel) {
    pass.ctx.edit_cached_key(&WorkspaceKey::of(&pass.channel), |held| {
        held.create_unsupported = None;
        held.has_created = true;
    });
    bind(pass, remote, Origin::Created.as_str());
    pass.status.applied.clone_from(&pass.memory.last_create_body);
    // Before the answer is applied: a create's response does not count as a read after the create.
    pass.take_window(remote.id.as_str());
    found(pass, remote.clone());
}

fn conflicting_ids(pass: &mut Reconciliation, answered: &Id, declared: &str) {
    claims::release(pass);
    tracing::error!(
        channel = pass.channel.name_any(),
        namespace = pass.channel.namespace(),
        channel_id = %answered,
        declared,
        "a create returned another channel than the manifest now names; neither is bound"
    );
    let text = format!(
        "A create returned channel {answered}, but spec.channelId names {declared}; neither is bound."
    );
    pass.note(PendingEvent::warning("CreateOutcomeUnknown", text));
}

/// The create failed, or its outcome is unknown.
async fn not_created(pass: &mut Reconciliation, number: i64, mut error: ApiError) -> Result<Next, Failure> {
    error.class = classify_create_error(&error, pass.input().annotation(annotation::CREATE_AGAIN).is_some());
    let (outcome, word) = match error.class {
        Class::NotSent => (AttemptOutcome::NotSent, RecordedOutcome::NotSent),
        Class::Rejected => (AttemptOutcome::Rejected, RecordedOutcome::Rejected),
        Class::Ambiguous => (AttemptOutcome::Unknown, RecordedOutcome::Unknown),
    };
    remember(pass, number, outcome);
    if error.class != Class::Ambiguous {
        creating(pass, false);
    }
    if let Some(create) = &mut pass.status.create {
        create.outcome = word.as_str().into();
    }
    if error.class == Class::Ambiguous {
        pass.observed.candidates = candidates(pass).await;
        return Ok(Next::Continue);
    }
    let unsupported = match error.kind {
        ErrorKind::Unsupported => true,
        ErrorKind::NotFound => match readable(pass).await {
            Ok(true) => true,
            Ok(false) => return Err(workspace_gone(pass)),
            Err(failure) => return Err(failure),
        },
        _ => false,
    };
    let handle = WorkspaceKey::of(&pass.channel);
    if unsupported && !pass.ctx.cached_key(&handle).is_some_and(|held| held.has_created) {
        let at = clock::instant();
        pass.ctx.edit_cached_key(&handle, |held| held.create_unsupported = Some(at));
        return Err(Failure {
            class: Some(error.class),
            ..Failure::user_action(Reason::CreateUnsupported, CREATE_UNSUPPORTED)
        });
    }
    Err(refused(pass, CallError::Failed(error)))
}

/// Whether the workspace exists. If the key may not read workspaces, it counts as existing.
async fn readable(pass: &mut Reconciliation) -> Result<bool, Failure> {
    let place = pass.observed.workspace.clone()?;
    match pass.session()?.get_workspace(&place.workspace_id).await {
        Ok(_) => Ok(true),
        Err(CallError::Failed(error)) if error.kind == ErrorKind::Forbidden => Ok(true),
        Err(CallError::Failed(error)) if error.kind == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(refused(pass, error)),
    }
}
