//! Reports a reconcile: the status if it differs, then the events.

use std::time::{Duration, Instant};

use kube::ResourceExt;

use crate::channel::reconciliation::{Reconciliation, StatusWrite};
use crate::kubernetes::events::PendingEvent;
use crate::orphan_reports;
use ohallo_client::clock;
use ohallo_core::api::channel::ChannelStatus;
use ohallo_core::api::values::ReconcileResult;
use ohallo_core::channel::in_memory_state::InMemoryState;
use ohallo_core::channel::model::Outcome;
use ohallo_core::channel::orphan::Orphan;
use ohallo_core::channel::persisted::PersistedField;
use ohallo_core::channel::status::fallback::cut;
use ohallo_core::channel::status::{self, Summary, SummaryInput};
use ohallo_core::channel::{config, stored};
use ohallo_core::cooldown::Cooldown;
use ohallo_core::index::NamespacedName;

/// How long the cache may hold an object that the API server has deleted.
pub(super) const CACHE_LAG: Duration = Duration::from_secs(60);

/// What the controller does next.
pub enum Report {
    /// Requeue after this duration.
    Wake(Duration),
    /// The status could not be written.
    Unwritten(kube::Error),
}

/// Summarizes the outcome as a status.
pub fn summary(pass: &Reconciliation, outcome: &Outcome) -> Summary {
    let view = pass.input();
    let interval = pass.ctx.read_interval(&pass.channel);
    status::summarize(
        &view,
        outcome,
        &SummaryInput { random: rand::random(), redactor: &pass.redactor, interval },
    )
}

/// Reports the end of a reconcile.
pub async fn report(mut pass: Box<Reconciliation>, outcome: &Outcome) -> (Report, ReconcileResult) {
    // No further call follows.
    pass.memory.tokens = pass.session.take().map_or(0, |session| session.needed());
    pass.permit = None;
    let now = clock::instant();
    let summary = summary(&pass, outcome);
    // What happened before the rate limit or concurrency slot ran out is kept.
    let status = if summary.silent { pass.status.clone() } else { summary.status.clone() };
    let old = pass.channel.status.clone().unwrap_or_default();
    if status != old && summary.result != ReconcileResult::Gone {
        match write(&mut pass, &status, true).await {
            Ok(StatusWrite::Applied) if pass.resends => return stored_at_last(pass, &summary, now),
            Ok(StatusWrite::Applied) => {}
            // The message about the blocked deletion is reported anyway.
            Ok(StatusWrite::NotStored(_)) if pass.input().terminating() => {}
            Ok(StatusWrite::NotStored(lost)) => return unstored(pass, &lost, status, now).await,
            Ok(StatusWrite::ObjectGone) => {
                if let Some(id) = pass.memory.unrecorded_id().map(str::to_owned) {
                    orphaned(&mut pass, &id);
                }
                return finished(pass);
            }
            Ok(StatusWrite::Conflict) => {
                return (Report::Wake(Duration::from_millis(300)), ReconcileResult::Conflict);
            }
            Err(error) => return (Report::Unwritten(error), ReconcileResult::Unwritten),
        }
    }
    if !summary.silent && !stored::is_loss(outcome) {
        pass.memory.unstored = None;
        if !pass.input().terminating() {
            pass.memory.lost.clear();
        }
    }
    if !summary.silent {
        for (reason, message) in &summary.warnings {
            pass.note(PendingEvent::warning(reason, message));
        }
        noted(&mut pass, &old, &status);
        ready_at_last(&mut pass, &status);
    }
    pass.publish_notes();
    let uid = pass.uid();
    if pass.status.bound_to(&uid).is_none() && !pass.memory.binding_unsure {
        let requeues = pass.ctx.index().give_up_adoption(&uid);
        pass.ctx.requeue(requeues);
    }
    remember(&mut pass, &summary, now);
    match summary.wake {
        Some(wake) => (Report::Wake(wake), summary.result),
        None => finished(pass),
    }
}

/// The API server did not store all of the status: the object reports it, and the next reconcile resends it.
async fn unstored(
    mut pass: Box<Reconciliation>,
    lost: &[PersistedField],
    sent: ChannelStatus,
    now: Instant,
) -> (Report, ReconcileResult) {
    pass.status = sent;
    let summary = summary(&pass, &Outcome::Failed(stored::failure(lost)));
    let mut kept = false;
    if summary.status != pass.status {
        match write(&mut pass, &summary.status, true).await {
            Ok(StatusWrite::Applied) => kept = true,
            Ok(StatusWrite::NotStored(_)) => {}
            Ok(StatusWrite::ObjectGone) => return finished(pass),
            Ok(StatusWrite::Conflict) => {
                return (Report::Wake(Duration::from_millis(300)), ReconcileResult::Conflict);
            }
            Err(error) => return (Report::Unwritten(error), ReconcileResult::Unwritten),
        }
    }
    pass.memory.unstored = (!kept).then(|| Box::new(summary.status.clone()));
    // Nothing counts as bound before the API server shows it.
    pass.notes.retain(|note| note.reason != "Adopted");
    for (reason, message) in &summary.warnings {
        pass.note(PendingEvent::warning(reason, message));
    }
    pass.publish_notes();
    remember(&mut pass, &summary, now);
    (Report::Wake(summary.wake.unwrap_or(CACHE_LAG)), summary.result)
}

/// The API server stored what it had dropped before: the next reconcile continues from there.
fn stored_at_last(
    mut pass: Box<Reconciliation>,
    summary: &Summary,
    now: Instant,
) -> (Report, ReconcileResult) {
    if let Some(id) = pass.memory.unrecorded_id().map(str::to_owned) {
        pass.owns_attempt = true;
        pass.memory.attempt = None;
        pass.note(PendingEvent::normal("Created", format!("Created channel {id}.")));
    }
    pass.memory.unstored = None;
    pass.memory.lost.clear();
    pass.publish_notes();
    let wake = Some(Duration::from_secs(1));
    remember(&mut pass, &Summary { wake, failures: 0, ..summary.clone() }, now);
    pass.memory.cooldown = None;
    pass.remember();
    (Report::Wake(Duration::from_secs(1)), ReconcileResult::Progressing)
}

/// The end of a deleted object. The cache may still hold it for a moment, so it is requeued in case no event
/// comes.
pub fn finished(mut pass: Box<Reconciliation>) -> (Report, ReconcileResult) {
    let inputs = pass.began().clone();
    pass.memory.cooldown = Some(Cooldown::new(inputs, clock::instant() + CACHE_LAG));
    pass.remember();
    (Report::Wake(CACHE_LAG), ReconcileResult::Gone)
}

/// Publishes changes that the status shows and no step reported.
fn noted(pass: &mut Reconciliation, old: &ChannelStatus, new: &ChannelStatus) {
    if old.credentials.is_some() && new.credentials.is_none() {
        let text =
            "Credentials are no longer declared; those in oHallo remain, because its API can't remove them.";
        pass.note(PendingEvent::normal("NoLongerManaged", text));
    }
    if !new.drift.is_empty() && old.drift.is_empty() {
        let names: Vec<_> = new.drift.iter().map(|entry| entry.path.as_str()).collect();
        let text = format!("oHallo has other values than declared: {}.", names.join(", "));
        names.into_iter().for_each(|path| pass.ctx.metrics.drift_detected(path));
        pass.note(PendingEvent::warning("DriftDetected", text));
    }
    // The parts of the spec that were left out are unknown: no change is reported.
    if pass.channel.spec.left_out.is_some() {
        return;
    }
    let none = serde_json::Map::new();
    let declared = pass.channel.spec.config.as_ref().unwrap_or(&none);
    if let Some(past) = pass.memory.paths.replace(config::paths(declared)) {
        let dropped = config::dropped(&past, declared);
        if !dropped.is_empty() && pass.channel.metadata.deletion_timestamp.is_none() {
            let text =
                format!("No longer managed, and unchanged in oHallo: config.{}.", dropped.join(", config."));
            pass.note(PendingEvent::normal("NoLongerManaged", text));
        }
    }
}

/// Measures the time from the object's creation to its first Ready.
fn ready_at_last(pass: &mut Reconciliation, status: &ChannelStatus) {
    if pass.memory.first_ready(status)
        && let Some(created) = pass.channel.creation_timestamp()
    {
        let took = Duration::try_from(clock::now().duration_since(created.0)).unwrap_or_default();
        pass.ctx.metrics.time_to_ready(pass.channel.spec.channel_type.as_deref().unwrap_or_default(), took);
    }
}

/// Starts the cooldown until the requeue time. A deferred reconcile does not change the cooldown, because its
/// rate limit or slot may be free at any event.
fn remember(pass: &mut Reconciliation, summary: &Summary, now: Instant) {
    let mut inputs = pass.inputs();
    if summary.result == ReconcileResult::InSync {
        inputs.key = None;
    }
    let memory: &mut InMemoryState = &mut pass.memory;
    memory.failures = summary.failures;
    memory.waiting_since = summary.busy.then(|| memory.waiting_since.unwrap_or(now));
    memory.stale_reads = summary.stale;
    memory.reconciled_once = true;
    if let Some(wait) = &mut memory.wait {
        wait.warned |= summary.warns_of_claims;
    }
    if summary.result != ReconcileResult::Deferred {
        let closed = summary.wake.filter(|_| !pass.outdated);
        memory.cooldown = closed.map(|wake| Cooldown::new(inputs, clock::instant() + wake));
    }
    pass.remember();
}

/// Writes the status. If the API server finds it invalid, the operator retries with a reduced status.
pub async fn write(
    pass: &mut Reconciliation,
    status: &ChannelStatus,
    fenced: bool,
) -> Result<StatusWrite, kube::Error> {
    let mut written = pass.write(status, fenced).await;
    for less in cut(status.clone()) {
        if !matches!(&written, Err(kube::Error::Api(answer)) if answer.code == 422) {
            break;
        }
        pass.ctx.metrics.status_rejected();
        tracing::error!(
            channel = pass.channel.name_any(),
            namespace = pass.channel.namespace(),
            "API server rejected the status; retrying with a reduced status"
        );
        written = pass.write(&less, fenced).await;
    }
    written
}

/// Reports that another client removed the finalizer while the POST was in flight.
pub fn orphaned(pass: &mut Reconciliation, id: &str) {
    if !std::mem::replace(&mut pass.memory.deletion_reported, true) {
        let orphan = Orphan::Channel(id.to_owned());
        orphan_reports::report(&pass.ctx, &NamespacedName::of(&pass.channel), &pass.uid(), &orphan);
    }
    pass.remember();
}
