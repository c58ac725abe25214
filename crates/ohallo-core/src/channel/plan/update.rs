//! Which declared values are sent to oHallo, and when it is no use to send them again.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::api::channel::{ChannelStatus, Difference};
use crate::api::conditions::Reason;
use crate::api::values::DriftPolicy;
use crate::channel::config::{self, Differs};
use crate::channel::consistency::{Answer, ReadFreshness, Values};
use crate::channel::freshness::{self, answer_digest};
use crate::channel::model::{Cause, Conclusion, ConclusionKind, MAX_POLL_INTERVAL, Plan, PlanInput, Step};
use crate::channel::plan::update;
use crate::remote::{Changes, Id, RemoteChannel};
use crate::text;

/// The most differences that a status lists.
pub const MAX_DIFFERENCES: usize = 16;

/// The longest path that a status shows, in characters.
pub const MAX_PATH_CHARS: usize = 256;

/// What `enabled` was last sent as.
pub fn applied_enabled(view: &PlanInput) -> Option<bool> {
    view.status.applied.as_ref().and_then(|applied| applied.enabled)
}

/// What a process that looks for the first time can't know: a call that an earlier one made for a newer manifest than
/// the status speaks of. `enabled` can't be read back, so it counts as not sent.
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
        // Listed as drift, what is yet to be sent would be taken for what is only to be reported.
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
    let sends = |path: &str| due.iter().any(|differs| differs.path.starts_with(path));
    let config = view.spec().config.as_ref().filter(|_| sends("config."));
    let changes = Changes {
        display_name: view.spec().display_name.clone().filter(|_| sends("displayName")),
        config: config.map(|declared| config::overlay(&excluding(declared, &reported), &remote.config)),
        enabled,
    };
    // Of values that are sent because the read is in doubt, those are named that are seen to change.
    let seen: Vec<_> =
        due.iter().filter(|due| differs.iter().any(|differs| differs.path == due.path)).collect();
    let named = if seen.is_empty() { due.iter().collect() } else { seen };
    let fields = named.into_iter().map(|differs| differs.path.clone());
    let fields = fields.chain(enabled.map(|_| "enabled".to_owned())).collect();
    let manifest = manifest_changed(view) || due.is_empty() || read == ReadFreshness::Doubtful;
    let cause = if manifest { Cause::Manifest } else { Cause::Drift };
    Some(Plan::Work(Step::Update { id: id.clone(), changes, fields, cause }))
}

/// The differences that are to be sent, and those that are only reported. With `driftPolicy: Report` that is what oHallo
/// made: what the status shows as drift from a value that is still the declared one.
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

/// The declared config but what is only reported.
fn excluding(declared: &Map<String, Value>, reported: &[Differs]) -> Map<String, Value> {
    let reported: HashSet<_> =
        reported.iter().filter_map(|drift| drift.path.strip_prefix("config.")).collect();
    config::without(declared, &|path| reported.contains(path))
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
            "oHallo again and again has other values than were written ({}): write what oHallo keeps, stop whatever else writes them, or set driftPolicy to Report.",
            names(differs)
        ),
    )
}

/// oHallo answered an update with other values.
pub fn remote_rewrote_values(differs: &[Differs]) -> Conclusion {
    let message =
        format!("oHallo took the update but kept other values ({}); it is looked at again.", names(differs));
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

/// What an answer to a write of the declared values says.
pub fn answer_values(view: &PlanInput, remote: &RemoteChannel) -> Values {
    let digest = answer_digest(remote);
    // What is only reported was not sent.
    let shows = update::split_by_drift_policy(view, &view.differences(remote)).0.is_empty();
    let answer = if shows { Answer::Shows(digest) } else { Answer::Differs(digest) };
    Values { declared: view.values_digest(), answer }
}

#[cfg(test)]
mod tests;
