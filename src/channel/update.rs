// pure
//! Which declared values are sent to oHallo, and when it is no use to send them again.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::config::{self, Differs};
use super::consistency::{self, Read};
use super::plan::{Cause, Is, Plan, Step, Verdict, View};
use super::work::LONGEST_POLL;
use crate::api::channel::{ChannelStatus, Difference};
use crate::api::conditions::Reason;
use crate::ohallo::{Changes, Id, RemoteChannel};
use crate::text;

/// The most differences that a status lists.
pub const MOST_DIFFERENCES: usize = 16;

/// The longest path that a status shows, in characters.
pub const MAX_PATH_CHARS: usize = 256;

/// What `enabled` was last sent as.
pub fn applied_enabled(view: &View) -> Option<bool> {
    view.status.applied.as_ref().and_then(|applied| applied.enabled)
}

/// What a process that looks for the first time can't know: a call that an earlier one made for a newer manifest than
/// the status speaks of. `enabled` can't be read back, so it counts as not sent.
pub fn doubt(status: &mut ChannelStatus, generation: Option<i64>) {
    if status.observed_generation != generation
        && let Some(applied) = &mut status.applied
    {
        applied.enabled = None;
    }
}

/// The update that is due, or why it is not sent.
pub fn plan(view: &View, id: &Id, remote: &RemoteChannel, differs: &[Differs], read: Read) -> Option<Plan> {
    let (due, reported) = match read {
        Read::Current => due(view, differs),
        Read::Stale(_) | Read::Kept(_) => (Vec::new(), Vec::new()),
        Read::Doubtful => due(view, &view.declared()),
    };
    if !due.is_empty() {
        // Listed as drift, what is yet to be sent would be taken for what is only to be reported.
        let drift = listed(if reports(view) { &reported } else { &due });
        if view.contested() {
            return Some(Verdict { drift, ..not_converging(&due) }.settled());
        }
        if view.observed.updated {
            return Some(Verdict { drift, ..kept_another(&due) }.settled());
        }
    }
    let again = view.memory.enabled_again.is_some_and(|at| at <= view.instant);
    let enabled = view.spec().enabled.filter(|enabled| applied_enabled(view) != Some(*enabled) || again);
    if due.is_empty() && enabled.is_none() {
        return None;
    }
    let sends = |path: &str| due.iter().any(|differs| differs.path.starts_with(path));
    let config = view.spec().config.as_ref().filter(|_| sends("config."));
    let changes = Changes {
        display_name: view.spec().display_name.clone().filter(|_| sends("displayName")),
        config: config.map(|declared| config::overlay(&without(declared, &reported), &remote.config)),
        enabled,
    };
    // Of values that are sent because the read is in doubt, those are named that are seen to change.
    let seen: Vec<_> =
        due.iter().filter(|due| differs.iter().any(|differs| differs.path == due.path)).collect();
    let named = if seen.is_empty() { due.iter().collect() } else { seen };
    let fields = named.into_iter().map(|differs| differs.path.clone());
    let fields = fields.chain(enabled.map(|_| "enabled".to_owned())).collect();
    let manifest = manifest_changed(view) || due.is_empty() || read == Read::Doubtful;
    let cause = if manifest { Cause::Manifest } else { Cause::Drift };
    Some(Plan::Work(Step::Update { id: id.clone(), changes, fields, cause }))
}

/// The differences that are to be sent, and those that are only reported. With `driftPolicy: Report` that is what oHallo
/// made: what the status shows as drift from a value that is still the declared one.
pub fn due(view: &View, differs: &[Differs]) -> (Vec<Differs>, Vec<Differs>) {
    if !reports(view) {
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
pub fn is_applied(view: &View, remote: &RemoteChannel) -> Option<bool> {
    let differs = view.differences(remote);
    match consistency::judge(view, remote, &differs) {
        Read::Current => Some(due(view, &differs).0.is_empty()),
        Read::Stale(_) | Read::Kept(_) => Some(false),
        Read::Doubtful => None,
    }
}

pub fn reports(view: &View) -> bool {
    view.spec().drift_policy.as_deref() == Some("Report")
}

/// The declared config but what is only reported.
fn without(declared: &Map<String, Value>, reported: &[Differs]) -> Map<String, Value> {
    let reported: HashSet<_> =
        reported.iter().filter_map(|drift| drift.path.strip_prefix("config.")).collect();
    config::without(declared, &|path| reported.contains(path))
}

fn manifest_changed(view: &View) -> bool {
    let applied = view.status.applied.as_ref().and_then(|applied| applied.digest.as_deref());
    // A leader whose cache lagged may have sent an older manifest than the one that the status says was applied.
    let sent = view.observed.window.values.as_ref().map(|(_, sent)| sent.declared.as_str());
    applied != Some(view.digest().as_str()) || sent.is_some_and(|sent| sent != view.values_digest())
}

fn not_converging(differs: &[Differs]) -> Verdict {
    Verdict::user(
        Reason::NotConverging,
        format!(
            "oHallo again and again has other values than were written ({}): write what oHallo keeps, stop whatever else writes them, or set driftPolicy to Report.",
            names(differs)
        ),
    )
}

/// oHallo answered an update with other values.
pub fn kept_another(differs: &[Differs]) -> Verdict {
    let message =
        format!("oHallo took the update but kept other values ({}); it is looked at again.", names(differs));
    Verdict::of(Is::Busy { longest: LONGEST_POLL }, Reason::Progressing, message)
}

fn names(differs: &[Differs]) -> String {
    let names: Vec<_> = differs.iter().take(4).map(|differs| differs.path.as_str()).collect();
    if differs.len() > names.len() { format!("{}, …", names.join(", ")) } else { names.join(", ") }
}

/// As the status lists them.
pub fn listed(differs: &[Differs]) -> Vec<Difference> {
    let entry = |differs: &Differs| Difference {
        path: differs.path.clone(),
        declared: Some(as_text(&differs.declared)),
        actual: differs.actual.as_ref().map(as_text),
    };
    differs.iter().take(MOST_DIFFERENCES).map(entry).collect()
}

fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
