//! Executes one step of a plan. Only this file and `born.rs` change anything in oHallo.

use kube::ResourceExt;

use crate::channel::observe::{absence_proven, refused, stale_absence};
use crate::channel::reconciliation::{Next, Reconciliation};
use crate::channel::{born, claims};
use crate::kubernetes::events::PendingEvent;
use ohallo_client::clock;
use ohallo_core::api::annotation;
use ohallo_core::api::channel::{AppliedStatus, CredentialsStatus};
use ohallo_core::api::conditions::Reason;
use ohallo_core::api::values::{Origin, TestResult};
use ohallo_core::channel::consistency::{Answer, Values, Write};
use ohallo_core::channel::in_memory_state::CACHE_LAG;
use ohallo_core::channel::model::{Cause, DeletionOutcome, DesiredCredentials, Remote, Step};
use ohallo_core::channel::plan::delete;
use ohallo_core::channel::plan::update::{self, MAX_DIFFERENCES};
use ohallo_core::channel::transition;
use ohallo_core::classify::{CallError, Class, ErrorKind};
use ohallo_core::failure::Failure;
use ohallo_core::index::{Claim, NamespacedName};
use ohallo_core::remote::{Changes, Id, RemoteChannel};
use ohallo_core::text::{self, seconds};

/// Executes the step. Takes ownership of the reconciliation, because a create continues in its own task.
pub async fn execute(
    mut reconciliation: Box<Reconciliation>,
    step: Step,
) -> (Box<Reconciliation>, Result<Next, Failure>) {
    let result = match step {
        Step::Create { attempt, body } => return born::create(reconciliation, attempt, body).await,
        Step::RecordId { attempt } => return born::record(reconciliation, attempt).await,
        Step::Adopt { id } => adopt(&mut reconciliation, &id).await,
        Step::RestoreMetadata => restore_metadata(&mut reconciliation).await,
        Step::Update { id, changes, fields, cause } => {
            update(&mut reconciliation, &id, &changes, &fields, cause).await
        }
        Step::PushCredentials { id } => push_credentials(&mut reconciliation, &id).await,
        Step::Retry { id, attempts, request } => retry(&mut reconciliation, &id, attempts, request).await,
        Step::Test { id, request } => test(&mut reconciliation, &id, request).await,
        Step::Delete { id } => delete(&mut reconciliation, &id).await,
        Step::RemoveFinalizer(outcome) => remove_finalizer(&mut reconciliation, &outcome).await,
    };
    reconciliation.remember();
    (reconciliation, result)
}

async fn adopt(reconciliation: &mut Reconciliation, id: &Id) -> Result<Next, Failure> {
    reconciliation.schema_serves()?;
    let (name, uid) = (NamespacedName::of(&reconciliation.channel), reconciliation.uid());
    if !reconciliation.ctx.index().claim(id.as_str(), &name, &uid, Claim::Adopt) {
        reconciliation.observed.owner = Some(None);
        return Ok(Next::Continue);
    }
    if !reconciliation.input().has_finalizer() {
        reconciliation.patch_metadata(None).await?;
    }
    let Remote::Found(remote) = reconciliation.observed.remote.clone() else { return Ok(Next::Requeue) };
    let predecessor = reconciliation.observed.predecessor.clone();
    born::bind(
        reconciliation,
        &remote,
        predecessor.as_ref().map_or(Origin::Adopted.as_str(), |from| &from.origin),
    );
    let from = predecessor.map(|from| format!(" from the Channel {:?}, which is being deleted", from.name));
    reconciliation
        .note(PendingEvent::normal("Adopted", format!("Adopted channel {id}{}.", from.unwrap_or_default())));
    Ok(Next::Continue)
}

async fn restore_metadata(reconciliation: &mut Reconciliation) -> Result<Next, Failure> {
    let created = reconciliation.status.origin() == Some(Origin::Created);
    let lost = created && !reconciliation.input().has_own_intent();
    let number = reconciliation.memory.attempt.as_ref().map_or(1, |own| own.number);
    let attempt = ohallo_core::channel::binding::AttemptId { uid: reconciliation.uid(), number };
    reconciliation.patch_metadata(lost.then(|| attempt.intent(clock::now()))).await?;
    Ok(Next::Continue)
}

async fn update(
    reconciliation: &mut Reconciliation,
    id: &Id,
    changes: &Changes,
    fields: &[String],
    cause: Cause,
) -> Result<Next, Failure> {
    let digest = reconciliation.input().digest();
    let values = changes.display_name.is_some() || changes.config.is_some();
    let first = changes.enabled.is_some()
        && !reconciliation.memory.bound_by_this_process
        && reconciliation.memory.last_update_digest.is_none();
    reconciliation.permitted().await?;
    let answer = reconciliation.session()?.update(id, changes).await;
    let late = clock::instant() + CACHE_LAG;
    match answer {
        Ok(remote) => {
            if changes.enabled.is_some() {
                reconciliation.memory.resend_enabled_at = reconciliation
                    .memory
                    .resend_enabled_at
                    .filter(|due| *due > clock::instant())
                    .or(first.then_some(late));
            }
            let ignored = if values { ignored(reconciliation, &remote) } else { Vec::new() };
            let answer = update::answer_values(&reconciliation.input(), &remote);
            let past = reconciliation.status.applied.take().unwrap_or_default();
            reconciliation.status.applied = Some(AppliedStatus {
                enabled: changes.enabled.or(past.enabled),
                digest: if values && ignored.is_empty() { Some(digest.clone()) } else { past.digest },
            });
            if values {
                reconciliation.memory.note_update(digest);
                wrote(reconciliation, id, Write::Values(answer));
            } else {
                wrote(reconciliation, id, Write::Other);
            }
            reconciliation.memory.test_due |=
                changes.config.is_some() && cause == Cause::Manifest && ignored.is_empty();
            reconciliation.observed.remote = Remote::Found(Box::new(remote));
            // The response to a change of `enabled` alone may be older than the last update of the values.
            reconciliation.observed.updated = values;
            let applied: Vec<_> = fields.iter().filter(|field| !ignored.contains(field)).cloned().collect();
            note_update(reconciliation, &applied, cause);
            Ok(Next::Continue)
        }
        Err(error) if is_stale(reconciliation, &error) => Ok(Next::Continue),
        Err(error) => {
            if is_ambiguous(&error) {
                let declared = reconciliation.input().values_digest();
                let lost = Write::Values(Values { declared, answer: Answer::Lost });
                wrote(reconciliation, id, if values { lost } else { Write::Other });
            }
            if changes.enabled.is_some() && is_ambiguous(&error) {
                reconciliation.memory.resend_enabled_at = Some(late);
                // `enabled` can't be read back, and a later process knows of no call in flight.
                if let Some(applied) = &mut reconciliation.status.applied {
                    applied.enabled = None;
                }
            }
            Err(refused(reconciliation, error))
        }
    }
}

/// The paths at which an update returned the previous value: oHallo ignored the update.
fn ignored(reconciliation: &Reconciliation, answer: &RemoteChannel) -> Vec<String> {
    let Remote::Found(before) = &reconciliation.observed.remote else { return Vec::new() };
    let view = reconciliation.input();
    let before = view.differences(before);
    // Report-only fields were not sent.
    let kept = update::split_by_drift_policy(&view, &view.differences(answer))
        .0
        .into_iter()
        .filter(|differs| before.contains(differs));
    kept.map(|differs| differs.path).collect()
}

/// Opens the consistency window of a write.
fn wrote(reconciliation: &mut Reconciliation, id: &Id, write: Write) {
    reconciliation.ctx.consistency().wrote(id.as_str(), write, clock::instant());
    reconciliation.take_window(id.as_str());
    // The channel existed.
    reconciliation.memory.absence = None;
}

/// Whether oHallo answered 404 where a read may be older than a write. The next plan then treats the channel as
/// stale.
fn is_stale(reconciliation: &mut Reconciliation, error: &CallError) -> bool {
    let CallError::Failed(error) = error else { return false };
    let stale = stale_absence(reconciliation).filter(|_| error.kind == ErrorKind::NotFound);
    if let Some(remote) = &stale {
        reconciliation.observed.remote = remote.clone();
    }
    stale.is_some()
}

fn note_update(reconciliation: &mut Reconciliation, fields: &[String], cause: Cause) {
    if fields.is_empty() {
        return;
    }
    match cause {
        Cause::Manifest => {
            let names = text::list(fields.iter().map(String::as_str), MAX_DIFFERENCES);
            reconciliation.note(PendingEvent::normal("Updated", format!("Updated {names}.")));
        }
        Cause::Drift => {
            // `enabled` can't be read: it is sent along with every correction, so it is not reported as drift.
            let drifted: Vec<_> =
                fields.iter().map(String::as_str).filter(|field| *field != "enabled").collect();
            let names = text::list(drifted.iter().copied(), MAX_DIFFERENCES);
            let names = format!("Reverted {names}, changed in oHallo.");
            reconciliation.note(PendingEvent::normal("DriftCorrected", names));
            drifted.into_iter().for_each(|path| reconciliation.ctx.metrics.drift_detected(path));
        }
    }
}

fn is_ambiguous(error: &CallError) -> bool {
    matches!(error, CallError::Failed(error) if error.class == Class::Ambiguous)
}

async fn push_credentials(reconciliation: &mut Reconciliation, id: &Id) -> Result<Next, Failure> {
    let (Some(credentials), DesiredCredentials::Ready { digest, keys, sources }) =
        (reconciliation.credentials.clone(), reconciliation.observed.credentials.clone())
    else {
        return Ok(Next::Requeue);
    };
    let changed = reconciliation.memory.last_push_digest != Some(digest);
    let first =
        !reconciliation.memory.bound_by_this_process && reconciliation.memory.last_push_digest.is_none();
    reconciliation.permitted().await?;
    let answer = reconciliation.session()?.store_credentials(id, &credentials).await;
    let now = clock::instant();
    match answer {
        Ok(()) => {
            wrote(reconciliation, id, Write::Other);
            reconciliation.ctx.metrics.credential_push("success");
            reconciliation.memory.resend_credentials_at = reconciliation
                .memory
                .resend_credentials_at
                .filter(|due| *due > now)
                .or(first.then(|| now + CACHE_LAG));
            reconciliation.memory.last_push_digest = Some(digest);
            if changed {
                reconciliation.memory.test_due = true;
                reconciliation.note(PendingEvent::normal(
                    "CredentialsPushed",
                    format!(
                        "Sent the credentials {}.",
                        text::list(keys.iter().map(String::as_str), MAX_DIFFERENCES)
                    ),
                ));
            }
            let pushed_at = Some(seconds(clock::now()));
            reconciliation.status.credentials = Some(CredentialsStatus { keys, pushed_at, sources });
            Ok(Next::Continue)
        }
        Err(error) if is_stale(reconciliation, &error) => Ok(Next::Continue),
        Err(error) => {
            if is_ambiguous(&error) {
                wrote(reconciliation, id, Write::Other);
                reconciliation.memory.last_push_digest = None;
                reconciliation.memory.resend_credentials_at = Some(now + CACHE_LAG);
            }
            if !matches!(error, CallError::Deferred(_)) {
                reconciliation.ctx.metrics.credential_push("error");
            }
            let message = Failure::of_credentials(error.clone(), &keys).message;
            Err(Failure { message, ..refused(reconciliation, error) })
        }
    }
}

async fn retry(
    reconciliation: &mut Reconciliation,
    id: &Id,
    attempts: i64,
    request: Option<String>,
) -> Result<Next, Failure> {
    reconciliation.permitted().await?;
    let counted = transition::retry(&reconciliation.input(), attempts, request);
    let past = reconciliation.status.provisioning.replace(counted);
    if let Err(failure) = reconciliation.write_ahead().await {
        // Nothing was sent.
        reconciliation.status.provisioning = past;
        return Err(failure);
    }
    // A retry that is counted but not sent costs one attempt. That is better than one attempt too many.
    reconciliation.fence()?;
    reconciliation.observed.remote = Remote::Unread;
    let answer = reconciliation.session()?.retry_provisioning(id).await;
    // A 404 that may be older than a write does not show the outcome of the retry either.
    let unknown = match &answer {
        Ok(()) => false,
        Err(error) => is_ambiguous(error) || is_stale(reconciliation, error),
    };
    if unknown || answer.is_ok() {
        wrote(reconciliation, id, Write::Retry);
    }
    let result = match &answer {
        Ok(()) => "success",
        Err(_) if unknown => "unknown",
        Err(_) => "error",
    };
    reconciliation.ctx.metrics.provisioning_retry(result);
    match answer {
        Ok(()) => {
            reconciliation.note(PendingEvent::normal(
                "ProvisioningRetried",
                "Asked oHallo to provision the channel again.",
            ));
            Ok(Next::Requeue)
        }
        // oHallo may have accepted it, and it is counted: the next poll shows the outcome.
        Err(_) if unknown => Ok(Next::Requeue),
        Err(error) => Err(refused(reconciliation, error)),
    }
}

async fn test(reconciliation: &mut Reconciliation, id: &Id, request: String) -> Result<Next, Failure> {
    reconciliation.permitted().await?;
    let past = reconciliation.status.test.clone();
    let mut test = transition::test(&reconciliation.input(), request);
    reconciliation.status.test = Some(test.clone());
    if let Err(failure) = reconciliation.write_ahead().await {
        // Nothing was sent.
        reconciliation.status.test = past;
        return Err(failure);
    }
    reconciliation.fence()?;
    let due = std::mem::take(&mut reconciliation.memory.test_due);
    let mut refusal = None;
    let answer = reconciliation.session()?.test(id).await;
    let stale = answer.as_ref().err().is_some_and(|error| is_stale(reconciliation, error));
    if answer.is_ok() || answer.as_ref().err().is_some_and(is_ambiguous) {
        wrote(reconciliation, id, Write::Other);
    }
    let result = match answer {
        Ok(true) => TestResult::Passed,
        Ok(false) => TestResult::Failed,
        Err(_) if stale => TestResult::Unknown,
        Err(CallError::Failed(error)) if error.class == Class::NotSent => {
            reconciliation.status.test = past;
            reconciliation.memory.test_due = due;
            return Err(error.into());
        }
        Err(CallError::Failed(error)) => {
            refusal = (error.class == Class::Rejected).then(|| Failure::from(error).message);
            TestResult::Unknown
        }
        Err(CallError::Deferred(_)) => TestResult::Unknown,
    };
    test.result = Some(result.as_str().into());
    test.finished_at = Some(seconds(clock::now()));
    reconciliation.status.test = Some(test);
    let channel_type = reconciliation.channel.spec.channel_type.clone().unwrap_or_default();
    let label = match result {
        TestResult::Passed => "passed",
        TestResult::Failed => "failed",
        TestResult::Unknown => "unknown",
    };
    reconciliation.ctx.metrics.connectivity_test(&channel_type, label);
    match result {
        TestResult::Passed => {
            reconciliation.note(PendingEvent::normal("TestPassed", "The connectivity test passed."))
        }
        TestResult::Failed => {
            reconciliation.note(PendingEvent::warning("TestFailed", "The connectivity test failed."))
        }
        TestResult::Unknown => reconciliation.note(PendingEvent::warning(
            "TestOutcomeUnknown",
            refusal.unwrap_or_else(|| "A connectivity test was sent and its answer was lost.".into()),
        )),
    }
    Ok(Next::Continue)
}

async fn delete(reconciliation: &mut Reconciliation, id: &Id) -> Result<Next, Failure> {
    reconciliation.permitted().await?;
    // Irreversible: decide again on the object as it now is.
    let Some(fresh) = reconciliation.fresh().await? else { return Ok(Next::Finished) };
    if delete::must_replan(&reconciliation.channel, &fresh, id) {
        reconciliation.channel = fresh;
        reconciliation.status = reconciliation.channel.status.clone().unwrap_or_default();
        // An id that this process has seen bound is not lost with the status.
        if let Some(binding) = reconciliation.memory.binding.clone() {
            binding.restore(&reconciliation.channel, &mut reconciliation.status);
        }
        return Ok(if reconciliation.input().terminating() { Next::Continue } else { Next::Requeue });
    }
    let sends = claims::last(reconciliation, id.as_str(), &fresh).await?;
    reconciliation.channel = fresh;
    if !sends {
        return Ok(Next::Continue);
    }
    if let Err(failure) = reconciliation.fence() {
        claims::release(reconciliation);
        return Err(failure);
    }
    // Before the request: this reconcile may end while it waits for the response, and the reservation must end
    // anyway.
    reconciliation.memory.delete_unsure = Some(clock::instant());
    reconciliation.remember();
    match reconciliation.session()?.delete(id).await {
        // Until the object is removed, no other Channel adopts the deleted channel.
        Ok(()) => {
            wrote(reconciliation, id, Write::Delete);
            reconciliation.memory.delete_unsure = None;
            reconciliation.memory.deleted = true;
            reconciliation.remember();
            Ok(Next::Continue)
        }
        Err(error) if is_stale(reconciliation, &error) => {
            claims::release(reconciliation);
            Ok(Next::Continue)
        }
        Err(CallError::Failed(error)) if error.kind == ErrorKind::NotFound => {
            claims::release(reconciliation);
            absent(reconciliation, id).await
        }
        Err(error) => {
            if !is_ambiguous(&error) {
                claims::release(reconciliation);
            }
            reconciliation.memory.absence = None;
            Err(refused(reconciliation, error))
        }
    }
}

async fn absent(reconciliation: &mut Reconciliation, id: &Id) -> Result<Next, Failure> {
    if !absence_proven(reconciliation).await? {
        reconciliation.memory.absence = None;
        let message = format!(
            "oHallo answers 404 for channel {id}, but the API key can't show that it belongs to the channel's workspace, so the channel may still exist. Restore the key, or leave the channel in oHallo: annotate this object with {}={id}.",
            annotation::RELEASE
        );
        return Err(Failure::missing_input(Reason::AbsenceNotProven, message));
    }
    delete::record_absence(
        &mut reconciliation.memory,
        &mut reconciliation.observed.remote,
        id.as_str(),
        clock::instant(),
    );
    Ok(Next::Continue)
}

async fn remove_finalizer(
    reconciliation: &mut Reconciliation,
    outcome: &DeletionOutcome,
) -> Result<Next, Failure> {
    reconciliation.remove_finalizer(*outcome != DeletionOutcome::Deleted).await?;
    let id = reconciliation.status.channel_id.as_deref().or(reconciliation.memory.unrecorded_id());
    let id = id.unwrap_or("of unknown id").to_owned();
    let heir = reconciliation.observed.claims.as_ref().and_then(|claims| claims.heir.clone()).flatten();
    let note = match outcome {
        DeletionOutcome::HandedOver => {
            let to = heir.map_or("another Channel".to_owned(), |name| format!("the Channel {name:?}"));
            Some(PendingEvent::normal(
                "HandedOver",
                format!("Channel {id} was handed over to {to}, which is bound to it."),
            ))
        }
        DeletionOutcome::NeverCreated => None,
        DeletionOutcome::Deleted => {
            Some(PendingEvent::normal("Deleted", format!("Channel {id} was deleted in oHallo.")))
        }
        DeletionOutcome::Retained => {
            Some(PendingEvent::normal("Retained", format!("Channel {id} stays in oHallo.")))
        }
        DeletionOutcome::Released => {
            Some(PendingEvent::normal("Released", format!("Channel {id} was released and stays in oHallo.")))
        }
    };
    let reported = std::mem::replace(&mut reconciliation.memory.deletion_reported, true);
    if !reported {
        tracing::info!(
            channel = reconciliation.channel.name_any(),
            namespace = reconciliation.channel.namespace(),
            channel_id = id,
            outcome = ?outcome,
            "removed the finalizer"
        );
    }
    if let Some(note) = note.filter(|_| !reported) {
        reconciliation.note(note);
    }
    reconciliation.publish_notes();
    claims::release(reconciliation);
    Ok(Next::Finished)
}
