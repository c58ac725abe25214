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
pub fn summary(reconciliation: &Reconciliation, outcome: &Outcome) -> Summary {
    let view = reconciliation.input();
    let interval = reconciliation.ctx.read_interval(&reconciliation.channel);
    status::summarize(
        &view,
        outcome,
        &SummaryInput { random: rand::random(), redactor: &reconciliation.redactor, interval },
    )
}

/// Reports the end of a reconcile.
pub async fn report(mut reconciliation: Box<Reconciliation>, outcome: &Outcome) -> (Report, ReconcileResult) {
    // No further call follows.
    reconciliation.memory.tokens = reconciliation.session.take().map_or(0, |session| session.needed());
    reconciliation.permit = None;
    let now = clock::instant();
    let summary = summary(&reconciliation, outcome);
    // What happened before the rate limit or concurrency slot ran out is kept.
    let status = if summary.silent { reconciliation.status.clone() } else { summary.status.clone() };
    let old = reconciliation.channel.status.clone().unwrap_or_default();
    if status != old && summary.result != ReconcileResult::Gone {
        match write(&mut reconciliation, &status, true).await {
            Ok(StatusWrite::Applied) if reconciliation.resends => {
                return stored_at_last(reconciliation, &summary, now);
            }
            Ok(StatusWrite::Applied) => {}
            // The message about the blocked deletion is reported anyway.
            Ok(StatusWrite::NotStored(_)) if reconciliation.input().terminating() => {}
            Ok(StatusWrite::NotStored(lost)) => return unstored(reconciliation, &lost, status, now).await,
            Ok(StatusWrite::ObjectGone) => {
                if let Some(id) = reconciliation.memory.unrecorded_id().map(str::to_owned) {
                    orphaned(&mut reconciliation, &id);
                }
                return finished(reconciliation);
            }
            Ok(StatusWrite::Conflict) => {
                return (Report::Wake(Duration::from_millis(300)), ReconcileResult::Conflict);
            }
            Err(error) => return (Report::Unwritten(error), ReconcileResult::Unwritten),
        }
    }
    if !summary.silent && !stored::is_loss(outcome) {
        reconciliation.memory.unstored = None;
        if !reconciliation.input().terminating() {
            reconciliation.memory.lost.clear();
        }
    }
    if !summary.silent {
        for (reason, message) in &summary.warnings {
            reconciliation.note(PendingEvent::warning(reason, message));
        }
        noted(&mut reconciliation, &old, &status);
        ready_at_last(&mut reconciliation, &status);
    }
    reconciliation.publish_notes();
    let uid = reconciliation.uid();
    if reconciliation.status.bound_to(&uid).is_none() && !reconciliation.memory.binding_unsure {
        let requeues = reconciliation.ctx.index().give_up_adoption(&uid);
        reconciliation.ctx.requeue(requeues);
    }
    remember(&mut reconciliation, &summary, now);
    match summary.wake {
        Some(wake) => (Report::Wake(wake), summary.result),
        None => finished(reconciliation),
    }
}

/// The API server did not store all of the status: the object reports it, and the next reconcile resends it.
async fn unstored(
    mut reconciliation: Box<Reconciliation>,
    lost: &[PersistedField],
    sent: ChannelStatus,
    now: Instant,
) -> (Report, ReconcileResult) {
    reconciliation.status = sent;
    let summary = summary(&reconciliation, &Outcome::Failed(stored::failure(lost)));
    let mut kept = false;
    if summary.status != reconciliation.status {
        match write(&mut reconciliation, &summary.status, true).await {
            Ok(StatusWrite::Applied) => kept = true,
            Ok(StatusWrite::NotStored(_)) => {}
            Ok(StatusWrite::ObjectGone) => return finished(reconciliation),
            Ok(StatusWrite::Conflict) => {
                return (Report::Wake(Duration::from_millis(300)), ReconcileResult::Conflict);
            }
            Err(error) => return (Report::Unwritten(error), ReconcileResult::Unwritten),
        }
    }
    reconciliation.memory.unstored = (!kept).then(|| Box::new(summary.status.clone()));
    // Nothing counts as bound before the API server shows it.
    reconciliation.notes.retain(|note| note.reason != "Adopted");
    for (reason, message) in &summary.warnings {
        reconciliation.note(PendingEvent::warning(reason, message));
    }
    reconciliation.publish_notes();
    remember(&mut reconciliation, &summary, now);
    (Report::Wake(summary.wake.unwrap_or(CACHE_LAG)), summary.result)
}

/// The API server stored what it had dropped before: the next reconcile continues from there.
fn stored_at_last(
    mut reconciliation: Box<Reconciliation>,
    summary: &Summary,
    now: Instant,
) -> (Report, ReconcileResult) {
    if let Some(id) = reconciliation.memory.unrecorded_id().map(str::to_owned) {
        reconciliation.owns_attempt = true;
        reconciliation.memory.attempt = None;
        reconciliation.note(PendingEvent::normal("Created", format!("Created channel {id}.")));
    }
    reconciliation.memory.unstored = None;
    reconciliation.memory.lost.clear();
    reconciliation.publish_notes();
    let wake = Some(Duration::from_secs(1));
    remember(&mut reconciliation, &Summary { wake, failures: 0, ..summary.clone() }, now);
    reconciliation.memory.cooldown = None;
    reconciliation.remember();
    (Report::Wake(Duration::from_secs(1)), ReconcileResult::Progressing)
}

/// The end of a deleted object. The cache may still hold it for a moment, so it is requeued in case no event
/// comes.
pub fn finished(mut reconciliation: Box<Reconciliation>) -> (Report, ReconcileResult) {
    let inputs = reconciliation.began().clone();
    reconciliation.memory.cooldown = Some(Cooldown::new(inputs, clock::instant() + CACHE_LAG));
    reconciliation.remember();
    (Report::Wake(CACHE_LAG), ReconcileResult::Gone)
}

/// Publishes changes that the status shows and no step reported.
fn noted(reconciliation: &mut Reconciliation, old: &ChannelStatus, new: &ChannelStatus) {
    if old.credentials.is_some() && new.credentials.is_none() {
        let text =
            "Credentials are no longer declared; those in oHallo remain, because its API can't remove them.";
        reconciliation.note(PendingEvent::normal("NoLongerManaged", text));
    }
    if !new.drift.is_empty() && old.drift.is_empty() {
        let names: Vec<_> = new.drift.iter().map(|entry| entry.path.as_str()).collect();
        let text = format!("oHallo has other values than declared: {}.", names.join(", "));
        names.into_iter().for_each(|path| reconciliation.ctx.metrics.drift_detected(path));
        reconciliation.note(PendingEvent::warning("DriftDetected", text));
    }
    // The parts of the spec that were left out are unknown: no change is reported.
    if reconciliation.channel.spec.left_out.is_some() {
        return;
    }
    let none = serde_json::Map::new();
    let declared = reconciliation.channel.spec.config.as_ref().unwrap_or(&none);
    if let Some(past) = reconciliation.memory.paths.replace(config::paths(declared)) {
        let dropped = config::dropped(&past, declared);
        if !dropped.is_empty() && reconciliation.channel.metadata.deletion_timestamp.is_none() {
            let text =
                format!("No longer managed, and unchanged in oHallo: config.{}.", dropped.join(", config."));
            reconciliation.note(PendingEvent::normal("NoLongerManaged", text));
        }
    }
}

/// Measures the time from the object's creation to its first Ready.
fn ready_at_last(reconciliation: &mut Reconciliation, status: &ChannelStatus) {
    if reconciliation.memory.first_ready(status)
        && let Some(created) = reconciliation.channel.creation_timestamp()
    {
        let took = Duration::try_from(clock::now().duration_since(created.0)).unwrap_or_default();
        reconciliation
            .ctx
            .metrics
            .time_to_ready(reconciliation.channel.spec.channel_type.as_deref().unwrap_or_default(), took);
    }
}

/// Starts the cooldown until the requeue time. A deferred reconcile does not change the cooldown, because its
/// rate limit or slot may be free at any event.
fn remember(reconciliation: &mut Reconciliation, summary: &Summary, now: Instant) {
    let mut inputs = reconciliation.inputs();
    if summary.result == ReconcileResult::InSync {
        inputs.key = None;
    }
    let memory: &mut InMemoryState = &mut reconciliation.memory;
    memory.failures = summary.failures;
    memory.waiting_since = summary.busy.then(|| memory.waiting_since.unwrap_or(now));
    memory.stale_reads = summary.stale;
    memory.reconciled_once = true;
    if let Some(wait) = &mut memory.wait {
        wait.warned |= summary.warns_of_claims;
    }
    if summary.result != ReconcileResult::Deferred {
        let closed = summary.wake.filter(|_| !reconciliation.outdated);
        memory.cooldown = closed.map(|wake| Cooldown::new(inputs, clock::instant() + wake));
    }
    reconciliation.remember();
}

/// Writes the status. If the API server finds it invalid, the operator retries with a reduced status.
pub async fn write(
    reconciliation: &mut Reconciliation,
    status: &ChannelStatus,
    fenced: bool,
) -> Result<StatusWrite, kube::Error> {
    let mut written = reconciliation.write(status, fenced).await;
    for less in cut(status.clone()) {
        if !matches!(&written, Err(kube::Error::Api(answer)) if answer.code == 422) {
            break;
        }
        reconciliation.ctx.metrics.status_rejected();
        tracing::error!(
            channel = reconciliation.channel.name_any(),
            namespace = reconciliation.channel.namespace(),
            "API server rejected the status; retrying with a reduced status"
        );
        written = reconciliation.write(&less, fenced).await;
    }
    written
}

/// Reports that another client removed the finalizer while the POST was in flight.
pub fn orphaned(reconciliation: &mut Reconciliation, id: &str) {
    if !std::mem::replace(&mut reconciliation.memory.deletion_reported, true) {
        let orphan = Orphan::Channel(id.to_owned());
        orphan_reports::report(
            &reconciliation.ctx,
            &NamespacedName::of(&reconciliation.channel),
            &reconciliation.uid(),
            &orphan,
        );
    }
    reconciliation.remember();
}
