//! Which declared values the operator sends to oHallo, and when it stops sending them again.

use serde_json::Value;

use crate::api::channel::{ChannelStatus, Difference};
use crate::api::conditions::Reason;
use crate::api::values::DriftPolicy;
use crate::channel::config::Differs;
use crate::channel::consistency::{Answer, ReadFreshness, Values};
use crate::channel::declared::{self, answer_digest};
use crate::channel::freshness;
use crate::channel::model::{Cause, Conclusion, ConclusionKind, MAX_POLL_INTERVAL, Plan, PlanInput, Step};
use crate::channel::plan::update;
use crate::remote::{Id, RemoteChannel};
use crate::text;

/// The maximum number of differences that a status lists.
pub const MAX_DIFFERENCES: usize = 16;

/// The maximum length of a path in a status, in characters.
pub const MAX_PATH_CHARS: usize = 256;

/// The value of `enabled` that was last sent.
pub fn applied_enabled(view: &PlanInput) -> Option<bool> {
    view.status.applied.as_ref().and_then(|applied| applied.enabled)
}

/// At the first reconcile of a process: an earlier process may have made a call for a newer manifest than the status
/// describes. `enabled` can't be read back, so it counts as not sent.
pub fn distrust_unconfirmed(status: &mut ChannelStatus, generation: Option<i64>) {
    if status.observed_generation != generation
        && let Some(applied) = &mut status.applied
    {
        applied.enabled = None;
    }
}

/// The update that is due, or why it is not sent.
pub fn plan(
    view: &PlanInput,
    id: &Id,
    remote: &RemoteChannel,
    differs: &[Differs],
    read: ReadFreshness,
) -> Option<Plan> {
    let (due, reported) = match read {
        ReadFreshness::Current => split_by_drift_policy(view, differs),
        ReadFreshness::Stale(_) | ReadFreshness::Kept(_) => (Vec::new(), Vec::new()),
        ReadFreshness::Doubtful => split_by_drift_policy(view, &view.declared()),
    };
    if !due.is_empty() {
        // With `driftPolicy: Report`, values that are still to be sent must not be listed as drift: the next reconcile
        // would then only report them.
        let drift = to_status(if is_report_only(view) { &reported } else { &due });
        if view.contested() {
            return Some(Conclusion { drift, ..not_converging(&due) }.settled());
        }
        if view.observed.updated {
            return Some(Conclusion { drift, ..remote_rewrote_values(&due) }.settled());
        }
    }
    let again = view.memory.resend_enabled_at.is_some_and(|at| at <= view.instant);
    let enabled = view.spec().enabled.filter(|enabled| applied_enabled(view) != Some(*enabled) || again);
    if due.is_empty() && enabled.is_none() {
        return None;
    }
    let changes = declared::changes(view.spec(), remote, &due, &reported, enabled);
    // A doubtful read sends all values; the event names only those that differ, if any do.
    let seen: Vec<_> =
        due.iter().filter(|due| differs.iter().any(|differs| differs.path == due.path)).collect();
    let named = if seen.is_empty() { due.iter().collect() } else { seen };
    let fields = named.into_iter().map(|differs| differs.path.clone());
    let fields = fields.chain(enabled.map(|_| "enabled".to_owned())).collect();
    let manifest = manifest_changed(view) || due.is_empty() || read == ReadFreshness::Doubtful;
    let cause = if manifest { Cause::Manifest } else { Cause::Drift };
    Some(Plan::Work(Step::Update { id: id.clone(), changes, fields, cause }))
}

/// The differences to send, and those to report only. With `driftPolicy: Report` the latter are the changes made in
/// oHallo: those that the status lists as drift from a value that is still declared.
pub fn split_by_drift_policy(view: &PlanInput, differs: &[Differs]) -> (Vec<Differs>, Vec<Differs>) {
    if !is_report_only(view) {
        return (differs.to_vec(), Vec::new());
    }
    if !manifest_changed(view) {
        return (Vec::new(), differs.to_vec());
    }
    let shown = |differs: &Differs| {
        let (path, declared) =
            (text::sanitize(&differs.path, MAX_PATH_CHARS), Some(as_text(&differs.declared)));
        view.status.drift.iter().any(|shown| shown.path == path && shown.declared == declared)
    };
    differs.iter().cloned().partition(|differs| !shown(differs))
}

/// Whether the channel, as it was read, shows that nothing is left to send; `None` where the read is in doubt.
pub fn is_applied(view: &PlanInput, remote: &RemoteChannel) -> Option<bool> {
    let differs = view.differences(remote);
    match freshness::judge_read(view, remote, &differs) {
        ReadFreshness::Current => Some(split_by_drift_policy(view, &differs).0.is_empty()),
        ReadFreshness::Stale(_) | ReadFreshness::Kept(_) => Some(false),
        ReadFreshness::Doubtful => None,
    }
}

pub fn is_report_only(view: &PlanInput) -> bool {
    view.spec().drift_policy() == DriftPolicy::Report
}

fn manifest_changed(view: &PlanInput) -> bool {
    let applied = view.status.applied.as_ref().and_then(|applied| applied.digest.as_deref());
    // A leader whose cache lagged may have sent an older manifest than the one that the status says was applied.
    let sent = view.observed.window.values.as_ref().map(|(_, sent)| sent.declared.as_str());
    applied != Some(view.digest().as_str()) || sent.is_some_and(|sent| sent != view.values_digest())
}

fn not_converging(differs: &[Differs]) -> Conclusion {
    Conclusion::user(
        Reason::NotConverging,
        format!(
            "oHallo keeps changing these fields back: {}. Set them to the stored values, stop the other writer, or set spec.driftPolicy to Report.",
            names(differs)
        ),
    )
}

/// oHallo accepted an update and answered with other values.
pub fn remote_rewrote_values(differs: &[Differs]) -> Conclusion {
    let message = format!(
        "oHallo accepted the update but stored other values ({}); the operator reads the channel again.",
        names(differs)
    );
    Conclusion::of(
        ConclusionKind::WaitingForRemote { longest: MAX_POLL_INTERVAL },
        Reason::Progressing,
        message,
    )
}

fn names(differs: &[Differs]) -> String {
    let names: Vec<_> = differs.iter().take(4).map(|differs| differs.path.as_str()).collect();
    if differs.len() > names.len() { format!("{}, …", names.join(", ")) } else { names.join(", ") }
}

/// As the status lists them.
pub fn to_status(differs: &[Differs]) -> Vec<Difference> {
    let entry = |differs: &Differs| Difference {
        path: differs.path.clone(),
        declared: Some(as_text(&differs.declared)),
        actual: differs.actual.as_ref().map(as_text),
    };
    differs.iter().take(MAX_DIFFERENCES).map(entry).collect()
}

fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What the response to a write of the declared values shows.
pub fn answer_values(view: &PlanInput, remote: &RemoteChannel) -> Values {
    let digest = answer_digest(remote);
    // Differences that are only reported were not sent.
    let shows = update::split_by_drift_policy(view, &view.differences(remote)).0.is_empty();
    let answer = if shows { Answer::Shows(digest) } else { Answer::Differs(digest) };
    Values { declared: view.values_digest(), answer }
}

#[cfg(test)]
mod tests;
