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
    mut pass: Box<Reconciliation>,
    step: Step,
) -> (Box<Reconciliation>, Result<Next, Failure>) {
    let result = match step {
        Step::Create { attempt, body } => return born::create(pass, attempt, body).await,
        Step::RecordId { attempt } => return born::record(pass, attempt).await,
        Step::Adopt { id } => adopt(&mut pass, &id).await,
        Step::RestoreMetadata => restore_metadata(&mut pass).await,
        Step::Update { id, changes, fields, cause } => update(&mut pass, &id, &changes, &fields, cause).await,
        Step::PushCredentials { id } => push_credentials(&mut pass, &id).await,
        Step::Retry { id, attempts, request } => retry(&mut pass, &id, attempts, request).await,
        Step::Test { id, request } => test(&mut pass, &id, request).await,
        Step::Delete { id } => delete(&mut pass, &id).await,
        Step::RemoveFinalizer(outcome) => remove_finalizer(&mut pass, &outcome).await,
    };
    pass.remember();
    (pass, result)
}

async fn adopt(pass: &mut Reconciliation, id: &Id) -> Result<Next, Failure> {
    pass.schema_serves()?;
    let (name, uid) = (NamespacedName::of(&pass.channel), pass.uid());
    if !pass.ctx.index().claim(id.as_str(), &name, &uid, Claim::Adopt) {
        pass.observed.owner = Some(None);
        return Ok(Next::Continue);
    }
    if !pass.input().has_finalizer() {
        pass.patch_metadata(None).await?;
    }
    let Remote::Found(remote) = pass.observed.remote.clone() else { return Ok(Next::Requeue) };
    let predecessor = pass.observed.predecessor.clone();
    born::bind(pass, &remote, predecessor.as_ref().map_or(Origin::Adopted.as_str(), |from| &from.origin));
    let from = predecessor.map(|from| format!(" from the Channel {:?}, which is being deleted", from.name));
    pass.note(PendingEvent::normal("Adopted", format!("Adopted channel {id}{}.", from.unwrap_or_default())));
    Ok(Next::Continue)
}

async fn restore_metadata(pass: &mut Reconciliation) -> Result<Next, Failure> {
    let created = pass.status.origin() == Some(Origin::Created);
    let lost = created && !pass.input().has_own_intent();
    let number = pass.memory.attempt.as_ref().map_or(1, |own| own.number);
    let attempt = ohallo_core::channel::binding::AttemptId { uid: pass.uid(), number };
    pass.patch_metadata(lost.then(|| attempt.intent(clock::now()))).await?;
    Ok(Next::Continue)
}

async fn update(
    pass: &mut Reconciliation,
    id: &Id,
    changes: &Changes,
    fields: &[String],
    cause: Cause,
) -> Result<Next, Failure> {
    let digest = pass.input().digest();
    let values = changes.display_name.is_some() || changes.config.is_some();
    let first = changes.enabled.is_some()
        && !pass.memory.bound_by_this_process
        && pass.memory.last_update_digest.is_none();
    pass.permitted().await?;
    let answer = pass.session()?.update(id, changes).await;
    let late = clock::instant() + CACHE_LAG;
    match answer {
        Ok(remote) => {
            if changes.enabled.is_some() {
                pass.memory.resend_enabled_at = pass
                    .memory
                    .resend_enabled_at
                    .filter(|due| *due > clock::instant())
                    .or(first.then_some(late));
            }
            let ignored = if values { ignored(pass, &remote) } else { Vec::new() };
            let answer = update::answer_values(&pass.input(), &remote);
            let past = pass.status.applied.take().unwrap_or_default();
            pass.status.applied = Some(AppliedStatus {
                enabled: changes.enabled.or(past.enabled),
                digest: if values && ignored.is_empty() { Some(digest.clone()) } else { past.digest },
            });
            if values {
                pass.memory.note_update(digest);
                wrote(pass, id, Write::Values(answer));
            } else {
                wrote(pass, id, Write::Other);
            }
            pass.memory.test_due |=
                changes.config.is_some() && cause == Cause::Manifest && ignored.is_empty();
            pass.observed.remote = Remote::Found(Box::new(remote));
            // The response to a change of `enabled` alone may be older than the last update of the values.
            pass.observed.updated = values;
            let applied: Vec<_> = fields.iter().filter(|field| !ignored.contains(field)).cloned().collect();
            note_update(pass, &applied, cause);
            Ok(Next::Continue)
        }
        Err(error) if is_stale(pass, &error) => Ok(Next::Continue),
        Err(error) => {
            if is_ambiguous(&error) {
                let declared = pass.input().values_digest();
                let lost = Write::Values(Values { declared, answer: Answer::Lost });
                wrote(pass, id, if values { lost } else { Write::Other });
            }
            if changes.enabled.is_some() && is_ambiguous(&error) {
                pass.memory.resend_enabled_at = Some(late);
                // `enabled` can't be read back, and a later process knows of no call in flight.
                if let Some(applied) = &mut pass.status.applied {
                    applied.enabled = None;
                }
            }
            Err(refused(pass, error))
        }
    }
}

/// The paths at which an update returned the previous value: oHallo ignored the update.
fn ignored(pass: &Reconciliation, answer: &RemoteChannel) -> Vec<String> {
    let Remote::Found(before) = &pass.observed.remote else { return Vec::new() };
    let view = pass.input();
    let before = view.differences(before);
    // Report-only fields were not sent.
    let kept = update::split_by_drift_policy(&view, &view.differences(answer))
        .0
        .into_iter()
        .filter(|differs| before.contains(differs));
    kept.map(|differs| differs.path).collect()
}

/// Opens the consistency window of a write.
fn wrote(pass: &mut Reconciliation, id: &Id, write: Write) {
    pass.ctx.consistency().wrote(id.as_str(), write, clock::instant());
    pass.take_window(id.as_str());
    // The channel existed.
    pass.memory.absence = None;
}

/// Whether oHallo answered 404 where a read may be older than a write. The next plan then treats the channel as
/// stale.
fn is_stale(pass: &mut Reconciliation, error: &CallError) -> bool {
    let CallError::Failed(error) = error else { return false };
    let stale = stale_absence(pass).filter(|_| error.kind == ErrorKind::NotFound);
    if let Some(remote) = &stale {
        pass.observed.remote = remote.clone();
    }
    stale.is_some()
}

fn note_update(pass: &mut Reconciliation, fields: &[String], cause: Cause) {
    if fields.is_empty() {
        return;
    }
    match cause {
        Cause::Manifest => {
            let names = text::list(fields.iter().map(String::as_str), MAX_DIFFERENCES);
            pass.note(PendingEvent::normal("Updated", format!("Updated {names}.")));
        }
        Cause::Drift => {
            // `enabled` can't be read: it is sent along with every correction, so it is not reported as drift.
            let drifted: Vec<_> =
                fields.iter().map(String::as_str).filter(|field| *field != "enabled").collect();
            let names = text::list(drifted.iter().copied(), MAX_DIFFERENCES);
            let names = format!("Reverted {names}, changed in oHallo.");
            pass.note(PendingEvent::normal("DriftCorrected", names));
            drifted.into_iter().for_each(|path| pass.ctx.metrics.drift_detected(path));
        }
    }
}

fn is_ambiguous(error: &CallError) -> bool {
    matches!(error, CallError::Failed(error) if error.class == Class::Ambiguous)
}

async fn push_credentials(pass: &mut Reconciliation, id: &Id) -> Result<Next, Failure> {
    let (Some(credentials), DesiredCredentials::Ready { digest, keys, sources }) =
        (pass.credentials.clone(), pass.observed.credentials.clone())
    else {
        return Ok(Next::Requeue);
    };
    let changed = pass.memory.last_push_digest != Some(digest);
    let first = !pass.memory.bound_by_this_process && pass.memory.last_push_digest.is_none();
    pass.permitted().await?;
    let answer = pass.session()?.store_credentials(id, &credentials).await;
    let now = clock::instant();
    match answer {
        Ok(()) => {
            wrote(pass, id, Write::Other);
            pass.ctx.metrics.credential_push("success");
            pass.memory.resend_credentials_at =
                pass.memory.resend_credentials_at.filter(|due| *due > now).or(first.then(|| now + CACHE_LAG));
            pass.memory.last_push_digest = Some(digest);
            if changed {
                pass.memory.test_due = true;
                pass.note(PendingEvent::normal(
                    "CredentialsPushed",
                    format!(
                        "Sent the credentials {}.",
                        text::list(keys.iter().map(String::as_str), MAX_DIFFERENCES)
                    ),
                ));
            }
            let pushed_at = Some(seconds(clock::now()));
            pass.status.credentials = Some(CredentialsStatus { keys, pushed_at, sources });
            Ok(Next::Continue)
        }
        Err(error) if is_stale(pass, &error) => Ok(Next::Continue),
        Err(error) => {
            if is_ambiguous(&error) {
                wrote(pass, id, Write::Other);
                pass.memory.last_push_digest = None;
                pass.memory.resend_credentials_at = Some(now + CACHE_LAG);
            }
            if !matches!(error, CallError::Deferred(_)) {
                pass.ctx.metrics.credential_push("error");
            }
            let message = Failure::of_credentials(error.clone(), &keys).message;
            Err(Failure { message, ..refused(pass, error) })
        }
    }
}

async fn retry(
    pass: &mut Reconciliation,
    id: &Id,
    attempts: i64,
    request: Option<String>,
) -> Result<Next, Failure> {
    pass.permitted().await?;
    let counted = transition::retry(&pass.input(), attempts, request);
    let past = pass.status.provisioning.replace(counted);
    if let Err(failure) = pass.write_ahead().await {
        // Nothing was sent.
        pass.status.provisioning = past;
        return Err(failure);
    }
    // A retry that is counted but not sent costs one attempt. That is better than one attempt too many.
    pass.fence()?;
    pass.observed.remote = Remote::Unread;
    let answer = pass.session()?.retry_provisioning(id).await;
    // A 404 that may be older than a write does not show the outcome of the retry either.
    let unknown = match &answer {
        Ok(()) => false,
        Err(error) => is_ambiguous(error) || is_stale(pass, error),
    };
    if unknown || answer.is_ok() {
        wrote(pass, id, Write::Retry);
    }
    let result = match &answer {
        Ok(()) => "success",
        Err(_) if unknown => "unknown",
        Err(_) => "error",
    };
    pass.ctx.metrics.provisioning_retry(result);
    match answer {
        Ok(()) => {
            pass.note(PendingEvent::normal(
                "ProvisioningRetried",
                "Asked oHallo to provision the channel again.",
            ));
            Ok(Next::Requeue)
        }
        // oHallo may have accepted it, and it is counted: the next poll shows the outcome.
        Err(_) if unknown => Ok(Next::Requeue),
        Err(error) => Err(refused(pass, error)),
    }
}

async fn test(pass: &mut Reconciliation, id: &Id, request: String) -> Result<Next, Failure> {
    pass.permitted().await?;
    let past = pass.status.test.clone();
    let mut test = transition::test(&pass.input(), request);
    pass.status.test = Some(test.clone());
    if let Err(failure) = pass.write_ahead().await {
        // Nothing was sent.
        pass.status.test = past;
        return Err(failure);
    }
    pass.fence()?;
    let due = std::mem::take(&mut pass.memory.test_due);
    let mut refusal = None;
    let answer = pass.session()?.test(id).await;
    let stale = answer.as_ref().err().is_some_and(|error| is_stale(pass, error));
    if answer.is_ok() || answer.as_ref().err().is_some_and(is_ambiguous) {
        wrote(pass, id, Write::Other);
    }
    let result = match answer {
        Ok(true) => TestResult::Passed,
        Ok(false) => TestResult::Failed,
        Err(_) if stale => TestResult::Unknown,
        Err(CallError::Failed(error)) if error.class == Class::NotSent => {
            pass.status.test = past;
            pass.memory.test_due = due;
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
    pass.status.test = Some(test);
    let channel_type = pass.channel.spec.channel_type.clone().unwrap_or_default();
    let label = match result {
        TestResult::Passed => "passed",
        TestResult::Failed => "failed",
        TestResult::Unknown => "unknown",
    };
    pass.ctx.metrics.connectivity_test(&channel_type, label);
    match result {
        TestResult::Passed => pass.note(PendingEvent::normal("TestPassed", "The connectivity test passed.")),
        TestResult::Failed => pass.note(PendingEvent::warning("TestFailed", "The connectivity test failed.")),
        TestResult::Unknown => pass.note(PendingEvent::warning(
            "TestOutcomeUnknown",
            refusal.unwrap_or_else(|| "A connectivity test was sent and its answer was lost.".into()),
        )),
    }
    Ok(Next::Continue)
}

async fn delete(pass: &mut Reconciliation, id: &Id) -> Result<Next, Failure> {
    pass.permitted().await?;
    // Irreversible: decide again on the object as it now is.
    let Some(fresh) = pass.fresh().await? else { return Ok(Next::Finished) };
    if delete::must_replan(&pass.channel, &fresh, id) {
        pass.channel = fresh;
        pass.status = pass.channel.status.clone().unwrap_or_default();
        // An id that this process has seen bound is not lost with the status.
        if let Some(binding) = pass.memory.binding.clone() {
            binding.restore(&pass.channel, &mut pass.status);
        }
        return Ok(if pass.input().terminating() { Next::Continue } else { Next::Requeue });
    }
    let sends = claims::last(pass, id.as_str(), &fresh).await?;
    pass.channel = fresh;
    if !sends {
        return Ok(Next::Continue);
    }
    if let Err(failure) = pass.fence() {
        claims::release(pass);
        return Err(failure);
    }
    // Before the request: this reconcile may end while it waits for the response, and the reservation must end
    // anyway.
    pass.memory.delete_unsure = Some(clock::instant());
    pass.remember();
    match pass.session()?.delete(id).await {
        // Until the object is removed, no other Channel adopts the deleted channel.
        Ok(()) => {
            wrote(pass, id, Write::Delete);
            pass.memory.delete_unsure = None;
            pass.memory.deleted = true;
            pass.remember();
            Ok(Next::Continue)
        }
        Err(error) if is_stale(pass, &error) => {
            claims::release(pass);
            Ok(Next::Continue)
        }
        Err(CallError::Failed(error)) if error.kind == ErrorKind::NotFound => {
            claims::release(pass);
            absent(pass, id).await
        }
        Err(error) => {
            if !is_ambiguous(&error) {
                claims::release(pass);
            }
            pass.memory.absence = None;
            Err(refused(pass, error))
        }
    }
}

async fn absent(pass: &mut Reconciliation, id: &Id) -> Result<Next, Failure> {
    if !absence_proven(pass).await? {
        pass.memory.absence = None;
        let message = format!(
            "oHallo answers 404 for channel {id}, but the API key can't show that it belongs to the channel's workspace, so the channel may still exist. Restore the key, or leave the channel in oHallo: annotate this object with {}={id}.",
            annotation::RELEASE
        );
        return Err(Failure::missing_input(Reason::AbsenceNotProven, message));
    }
    delete::record_absence(&mut pass.memory, &mut pass.observed.remote, id.as_str(), clock::instant());
    Ok(Next::Continue)
}

async fn remove_finalizer(pass: &mut Reconciliation, outcome: &DeletionOutcome) -> Result<Next, Failure> {
    pass.remove_finalizer(*outcome != DeletionOutcome::Deleted).await?;
    let id = pass.status.channel_id.as_deref().or(pass.memory.unrecorded_id());
    let id = id.unwrap_or("of unknown id").to_owned();
    let heir = pass.observed.claims.as_ref().and_then(|claims| claims.heir.clone()).flatten();
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
    let reported = std::mem::replace(&mut pass.memory.deletion_reported, true);
    if !reported {
        tracing::info!(
            channel = pass.channel.name_any(),
            namespace = pass.channel.namespace(),
            channel_id = id,
            outcome = ?outcome,
            "removed the finalizer"
        );
    }
    if let Some(note) = note.filter(|_| !reported) {
        pass.note(note);
    }
    pass.publish_notes();
    claims::release(pass);
    Ok(Next::Finished)
}
