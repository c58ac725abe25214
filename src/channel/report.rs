// I/O
//! Reports a pass: the status if it differs, then the events, then one line of log.

use std::time::{Duration, Instant};

use kube::ResourceExt;

use super::born;
use super::config;
use super::cut::cut;
use super::memory::Memory;
use super::pass::{Pass, Written};
use super::status::{self, Outcome, Setting, Summary};
use super::stored::{self, Field};
use super::work;
use crate::api::channel::{Channel, ChannelStatus};
use crate::clock;
use crate::context::Context;
use crate::events::Note;
use crate::index::Handle;
use crate::retry::{self, Gate};

/// Of the API server's words about a missing permission; names of resources and namespaces are no longer.
const LONGEST_RIGHT: usize = 300;

/// How long the cache may have an object that the API server has not.
pub(super) const GONE: Duration = Duration::from_secs(60);

/// What the controller is to do next.
pub enum Report {
    /// Look again after this long.
    Wake(Duration),
    /// The status could not be written.
    Unwritten(kube::Error),
}

/// Says what the outcome means for the status.
pub fn summary(pass: &Pass, outcome: &Outcome) -> Summary {
    let view = pass.view();
    let interval = interval(&pass.ctx, &pass.channel);
    status::summarize(&view, outcome, &Setting { random: rand::random(), redactor: &pass.redactor, interval })
}

/// How often a settled Channel is read: as declared, or as the rate of its key and its namespace's share of the rate of all
/// keys allow.
pub fn interval(ctx: &Context, channel: &Channel) -> Duration {
    let (of_key, of_namespace, namespaces) = {
        let index = ctx.index();
        let (of_namespace, namespaces) = index.population(&channel.namespace().unwrap_or_default());
        (index.count(&Handle::of(channel)), of_namespace, namespaces)
    };
    let share = ctx.settings.total_rate().unwrap_or_default() / namespaces.max(1) as f64;
    let shares = [(of_key, ctx.settings.requests_per_second), (of_namespace, share)];
    retry::interval(work::declared_interval(&channel.spec), &shares)
}

/// Reports the end of a pass.
pub async fn report(mut pass: Box<Pass>, outcome: &Outcome) -> (Report, &'static str) {
    // Its last call is made.
    pass.memory.tokens = pass.session.take().map_or(0, |session| session.needed());
    pass.permit = None;
    let now = clock::instant();
    let summary = summary(&pass, outcome);
    // What was done before the turn ran out is not lost.
    let status = if summary.silent { pass.status.clone() } else { summary.status.clone() };
    let old = pass.channel.status.clone().unwrap_or_default();
    if status != old && summary.result != "gone" {
        match write(&mut pass, &status, true).await {
            Ok(Written::Stands) if pass.resends => return stored_at_last(pass, &summary, now),
            Ok(Written::Stands) => {}
            // What blocks the deletion is said all the same.
            Ok(Written::Lost(_)) if pass.view().terminating() => {}
            Ok(Written::Lost(lost)) => return unstored(pass, &lost, status, now).await,
            Ok(Written::Gone) => {
                if let Some(id) = pass.memory.unrecorded_id() {
                    born::orphaned(&pass, id);
                }
                return gone(pass);
            }
            Ok(Written::Stale) => return (Report::Wake(Duration::from_millis(300)), "conflict"),
            Err(error) => return (Report::Unwritten(error), "unwritten"),
        }
    }
    if !summary.silent && !stored::is_loss(outcome) {
        pass.memory.unstored = None;
        if !pass.view().terminating() {
            pass.memory.lost.clear();
        }
    }
    if !summary.silent {
        for (reason, message) in &summary.warnings {
            pass.note(Note::warning(reason, message));
        }
        noted(&mut pass, &old, &status);
        ready_at_last(&mut pass, &status);
    }
    pass.publish_notes();
    let uid = pass.uid();
    if pass.status.bound_to(&uid).is_none() && !pass.memory.binding_unsure {
        let wakes = pass.ctx.index().give_up_adoption(&uid);
        pass.ctx.wake(wakes);
    }
    remember(&mut pass, &summary, now);
    match summary.wake {
        Some(wake) => (Report::Wake(wake), summary.result),
        None => gone(pass),
    }
}

/// The API server did not keep all of the status: the object says so, and the pass that follows sends it again.
async fn unstored(
    mut pass: Box<Pass>,
    lost: &[Field],
    sent: ChannelStatus,
    now: Instant,
) -> (Report, &'static str) {
    pass.status = sent;
    let summary = summary(&pass, &Outcome::Failed(stored::failure(lost)));
    let mut kept = false;
    if summary.status != pass.status {
        match write(&mut pass, &summary.status, true).await {
            Ok(Written::Stands) => kept = true,
            Ok(Written::Lost(_)) => {}
            Ok(Written::Gone) => return gone(pass),
            Ok(Written::Stale) => return (Report::Wake(Duration::from_millis(300)), "conflict"),
            Err(error) => return (Report::Unwritten(error), "unwritten"),
        }
    }
    pass.memory.unstored = (!kept).then(|| Box::new(summary.status.clone()));
    // Nothing is bound before the API server shows it.
    pass.notes.retain(|note| note.reason != "Adopted");
    for (reason, message) in &summary.warnings {
        pass.note(Note::warning(reason, message));
    }
    pass.publish_notes();
    remember(&mut pass, &summary, now);
    (Report::Wake(summary.wake.unwrap_or(GONE)), summary.result)
}

/// The API server kept what it had dropped before: the next pass goes on from there.
fn stored_at_last(mut pass: Box<Pass>, summary: &Summary, now: Instant) -> (Report, &'static str) {
    if let Some(id) = pass.memory.unrecorded_id().map(str::to_owned) {
        pass.owns_attempt = true;
        pass.memory.attempt = None;
        pass.note(Note::normal("Created", format!("Created channel {id}.")));
    }
    pass.memory.unstored = None;
    pass.memory.lost.clear();
    pass.publish_notes();
    let wake = Some(Duration::from_secs(1));
    remember(&mut pass, &Summary { wake, failures: 0, ..summary.clone() }, now);
    pass.memory.gate = None;
    pass.remember();
    (Report::Wake(Duration::from_secs(1)), "progressing")
}

/// The end of an object that is gone, though the store may have it for a moment. Should it be there after all, no event
/// would tell.
pub fn gone(mut pass: Box<Pass>) -> (Report, &'static str) {
    let inputs = pass.began().clone();
    pass.memory.gate = Some(Gate::new(inputs, clock::instant() + GONE));
    pass.remember();
    (Report::Wake(GONE), "gone")
}

/// Changes that the status shows and no step told of.
fn noted(pass: &mut Pass, old: &ChannelStatus, new: &ChannelStatus) {
    if old.credentials.is_some() && new.credentials.is_none() {
        let text =
            "No credentials are declared any more; those in oHallo stay, as its API can't remove them.";
        pass.note(Note::normal("NoLongerManaged", text));
    }
    if !new.drift.is_empty() && old.drift.is_empty() {
        let names: Vec<_> = new.drift.iter().map(|entry| entry.path.as_str()).collect();
        let text = format!("oHallo has other values than declared: {}.", names.join(", "));
        names.into_iter().for_each(|path| pass.ctx.metrics.drift_detected(path));
        pass.note(Note::warning("DriftDetected", text));
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
            pass.note(Note::normal("NoLongerManaged", text));
        }
    }
}

/// How long the user waited from the object's creation to its first Ready.
fn ready_at_last(pass: &mut Pass, status: &ChannelStatus) {
    if pass.memory.first_ready(status)
        && let Some(created) = pass.channel.creation_timestamp()
    {
        let took = Duration::try_from(clock::now().duration_since(created.0)).unwrap_or_default();
        pass.ctx.metrics.time_to_ready(pass.channel.spec.channel_type.as_deref().unwrap_or_default(), took);
    }
}

/// Closes the gate until the wake. A pass whose turn had not come leaves it as it was: whatever wakes the next one,
/// its turn may have come.
fn remember(pass: &mut Pass, summary: &Summary, now: Instant) {
    let mut inputs = pass.inputs();
    if summary.result == "in_sync" {
        inputs.key = None;
    }
    let memory: &mut Memory = &mut pass.memory;
    memory.failures = summary.failures;
    memory.waiting_since = summary.busy.then(|| memory.waiting_since.unwrap_or(now));
    memory.stale = summary.stale;
    memory.seen = true;
    if let Some(wait) = &mut memory.wait {
        wait.warned |= summary.warns_of_claims;
    }
    if summary.result != "deferred" {
        let closed = summary.wake.filter(|_| !pass.outdated);
        memory.gate = closed.map(|wake| Gate::new(inputs, clock::instant() + wake));
    }
    pass.remember();
}

/// Writes the status. One that the API server finds invalid is cut down to what must not be lost.
pub async fn write(pass: &mut Pass, status: &ChannelStatus, fenced: bool) -> Result<Written, kube::Error> {
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

/// The API server's error without anything it quotes; of a missing permission also which.
pub fn plain(error: &kube::Error) -> String {
    let kube::Error::Api(status) = error else { return "no answer".into() };
    let said = format!("{} {}", status.code, status.reason);
    match status
        .message
        .split_once("\" is forbidden: User \"")
        .and_then(|(_, rest)| rest.split_once("\" cannot "))
    {
        Some((_, what)) if status.code == 403 => {
            let what: String = what.chars().filter(|c| !c.is_control()).take(LONGEST_RIGHT).collect();
            format!("{said}: the service account cannot {what}")
        }
        _ => said,
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn refused(message: &str) -> String {
        plain(&kube::Error::Api(Box::new(Status::failure(message, "Forbidden").with_code(403))))
    }

    #[test]
    fn a_missing_permission_is_named_and_nothing_else_is_quoted() {
        let rbac = "channels.ohallo.eu \"a\" is forbidden: User \"system:serviceaccount:x:y\" cannot patch resource \
                    \"channels\" in API group \"ohallo.eu\" in the namespace \"t\"";
        let named = "403 Forbidden: the service account cannot patch resource \"channels\" in API group \"ohallo.eu\" \
                     in the namespace \"t\"";
        assert_eq!(refused(rbac), named);
        assert_eq!(refused("admission webhook denied the request: a secret cannot be told"), "403 Forbidden");
    }
}
