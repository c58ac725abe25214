//! Reports a pass: the status if it differs, then the events, then one line of log.

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

/// How long the cache may have an object that the API server has not.
pub(super) const CACHE_LAG: Duration = Duration::from_secs(60);

/// What the controller is to do next.
pub enum Report {
    /// Look again after this long.
    Wake(Duration),
    /// The status could not be written.
    Unwritten(kube::Error),
}

/// Says what the outcome means for the status.
pub fn summary(pass: &Reconciliation, outcome: &Outcome) -> Summary {
    let view = pass.input();
    let interval = pass.ctx.read_interval(&pass.channel);
    status::summarize(
        &view,
        outcome,
        &SummaryInput { random: rand::random(), redactor: &pass.redactor, interval },
    )
}

/// Reports the end of a pass.
pub async fn report(mut pass: Box<Reconciliation>, outcome: &Outcome) -> (Report, ReconcileResult) {
    // Its last call is made.
    pass.memory.tokens = pass.session.take().map_or(0, |session| session.needed());
    pass.permit = None;
    let now = clock::instant();
    let summary = summary(&pass, outcome);
    // What was done before the turn ran out is not lost.
    let status = if summary.silent { pass.status.clone() } else { summary.status.clone() };
    let old = pass.channel.status.clone().unwrap_or_default();
    if status != old && summary.result != ReconcileResult::Gone {
        match write(&mut pass, &status, true).await {
            Ok(StatusWrite::Applied) if pass.resends => return stored_at_last(pass, &summary, now),
            Ok(StatusWrite::Applied) => {}
            // What blocks the deletion is said all the same.
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
        let wakes = pass.ctx.index().give_up_adoption(&uid);
        pass.ctx.requeue(wakes);
    }
    remember(&mut pass, &summary, now);
    match summary.wake {
        Some(wake) => (Report::Wake(wake), summary.result),
        None => finished(pass),
    }
}

/// The API server did not keep all of the status: the object says so, and the pass that follows sends it again.
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
    // Nothing is bound before the API server shows it.
    pass.notes.retain(|note| note.reason != "Adopted");
    for (reason, message) in &summary.warnings {
        pass.note(PendingEvent::warning(reason, message));
    }
    pass.publish_notes();
    remember(&mut pass, &summary, now);
    (Report::Wake(summary.wake.unwrap_or(CACHE_LAG)), summary.result)
}

/// The API server kept what it had dropped before: the next pass goes on from there.
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

/// The end of an object that is gone, though the store may have it for a moment. Should it be there after all, no event
/// would tell.
pub fn finished(mut pass: Box<Reconciliation>) -> (Report, ReconcileResult) {
    let inputs = pass.began().clone();
    pass.memory.cooldown = Some(Cooldown::new(inputs, clock::instant() + CACHE_LAG));
    pass.remember();
    (Report::Wake(CACHE_LAG), ReconcileResult::Gone)
}

/// Changes that the status shows and no step told of.
fn noted(pass: &mut Reconciliation, old: &ChannelStatus, new: &ChannelStatus) {
    if old.credentials.is_some() && new.credentials.is_none() {
        let text =
            "No credentials are declared any more; those in oHallo stay, as its API can't remove them.";
        pass.note(PendingEvent::normal("NoLongerManaged", text));
    }
    if !new.drift.is_empty() && old.drift.is_empty() {
        let names: Vec<_> = new.drift.iter().map(|entry| entry.path.as_str()).collect();
        let text = format!("oHallo has other values than declared: {}.", names.join(", "));
        names.into_iter().for_each(|path| pass.ctx.metrics.drift_detected(path));
        pass.note(PendingEvent::warning("DriftDetected", text));
    }
    // What was left out is not known: nothing is said of it.
    if pass.channel.spec.left_out.is_some() {
        return;
    }
    let none = serde_json::Map::new();
    let declared = pass.channel.spec.config.as_ref().unwrap_or(&none);
    if let Some(past) = pass.memory.paths.replace(config::paths(declared)) {
        let dropped = config::dropped(&past, declared);
        if !dropped.is_empty() && pass.channel.metadata.deletion_timestamp.is_none() {
            let text = format!(
                "No longer managed, and left as it is in oHallo: config.{}.",
                dropped.join(", config.")
            );
            pass.note(PendingEvent::normal("NoLongerManaged", text));
        }
    }
}

/// How long the user waited from the object's creation to its first Ready.
fn ready_at_last(pass: &mut Reconciliation, status: &ChannelStatus) {
    if pass.memory.first_ready(status)
        && let Some(created) = pass.channel.creation_timestamp()
    {
        let took = Duration::try_from(clock::now().duration_since(created.0)).unwrap_or_default();
        pass.ctx.metrics.time_to_ready(pass.channel.spec.channel_type.as_deref().unwrap_or_default(), took);
    }
}

/// Closes the gate until the wake. A pass whose turn had not come leaves it as it was: whatever wakes the next one,
/// its turn may have come.
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

/// Writes the status. One that the API server finds invalid is cut down to what must not be lost.
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
            "the API server refused the status; it is written without what can be read again"
        );
        written = pass.write(&less, fenced).await;
    }
    written
}

/// The finalizer was removed by someone else while the POST was under way.
pub fn orphaned(pass: &mut Reconciliation, id: &str) {
    if !std::mem::replace(&mut pass.memory.deletion_reported, true) {
        let orphan = Orphan::Channel(id.to_owned());
        orphan_reports::report(&pass.ctx, &NamespacedName::of(&pass.channel), &pass.uid(), &orphan);
    }
    pass.remember();
}
