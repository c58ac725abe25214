// pure
//! What a look at a workspace says: one match to conditions and wake.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use super::check::Finding;
use super::kind::Kind;
use crate::api::annotation;
use crate::api::conditions::{Reason, kind};
use crate::api::workspace::WorkspaceStatus;
use crate::channel::plan::cut_request;
use crate::conditions::{self, MESSAGE, Progress, Status, Writer};
use crate::error::{Failure, Need};
use crate::retry;
use crate::text;

/// How often a good key is looked at.
const INTERVAL: Duration = Duration::from_secs(1800);

/// Transient failures in a row over which Ready keeps its value.
const PATIENCE: u32 = 3;

pub struct Summary {
    pub status: WorkspaceStatus,
    pub wake: Duration,
    pub failures: u32,
    pub warnings: Vec<(String, String)>,
    pub result: &'static str,
}

/// Says what a look found.
pub fn summarize<K: Kind>(
    object: &K,
    finding: &Finding,
    failures: u32,
    random: f64,
    now: Timestamp,
) -> Summary {
    let old = object.status().cloned().unwrap_or_default();
    let mut status = old.clone();
    let generation = object.meta().generation.unwrap_or_default();
    status.observed_generation = Some(generation);
    status.last_handled_reconcile_at =
        object.annotations().get(annotation::RECONCILE_REQUESTED).map(|value| cut_request(value));
    if let Finding::Good { workspace, environment } = finding {
        let name = workspace.as_ref().and_then(|workspace| workspace.name.as_deref());
        status.name = name.map(|name| text::sanitize(name, 256));
        status.environment = environment.map(Into::into);
    }
    let mut writer = Writer::new(&mut status.conditions, generation, now);
    if !matches!(finding, Finding::Suspended) {
        writer.remove(kind::SUSPENDED);
    }
    let (wake, failures, result) = match finding {
        Finding::Suspended => {
            suspended(&mut writer);
            (retry::STALLED, 0, "suspended")
        }
        Finding::Good { workspace, .. } => {
            let (reason, message) = match workspace {
                Some(_) => (Reason::Verified, "The API key reads the workspace."),
                None => (
                    Reason::Unverified,
                    "The API key may not read workspaces, so it can't be shown that it belongs to this one; Channels use it.",
                ),
            };
            writer.ready(Status::True, Progress::Done, reason, message);
            (retry::spread(INTERVAL, random), 0, "in_sync")
        }
        Finding::Failed(failure) => failed(&mut writer, failure, failures, random),
    };
    let warnings = warnings(&old, &status);
    Summary { status, wake, failures, warnings, result }
}

fn suspended(writer: &mut Writer) {
    let message = "spec.suspend is true: no call is made with this key until it is false.";
    writer.set(kind::SUSPENDED, Status::True, Reason::Suspended, message);
    if !writer.has(kind::READY) {
        writer.set(kind::READY, Status::Unknown, Reason::Progressing, "The API key was not checked yet.");
    }
    writer.progress(Progress::Done, Reason::Suspended, "");
}

fn failed(
    writer: &mut Writer,
    failure: &Failure,
    failures: u32,
    random: f64,
) -> (Duration, u32, &'static str) {
    let message = text::sanitize(&failure.message, MESSAGE);
    match failure.need {
        Need::User | Need::Cluster => {
            writer.ready(Status::False, Progress::Stalled, failure.reason, &message);
            let failures = failures.saturating_add(1);
            (retry::refused_key(failures, random), failures, "stalled")
        }
        Need::Input => {
            writer.ready(Status::False, Progress::Reconciling, failure.reason, &message);
            (retry::spread(retry::INPUT, random), 0, "input_missing")
        }
        Need::Turn(wait) => (wait, failures, "deferred"),
        Need::Time | Need::Until(_) => {
            let failures = failures.saturating_add(1);
            if failures > PATIENCE || !writer.ready_is_current() {
                writer.ready(Status::Unknown, Progress::Reconciling, failure.reason, &message);
            }
            let wake = match failure.need {
                Need::Until(after) => after,
                _ => retry::backoff(failures, random),
            };
            (wake, failures, "transient")
        }
    }
}

/// A bad reason that was not there before.
fn warnings(old: &WorkspaceStatus, new: &WorkspaceStatus) -> Vec<(String, String)> {
    let before = conditions::find(&old.conditions, kind::READY).map(|ready| ready.reason.as_str());
    let now = conditions::find(&new.conditions, kind::READY);
    let bad = now.filter(|ready| {
        ready.status != "True" && before != Some(&ready.reason) && ready.reason != "Progressing"
    });
    bad.map(|ready| (ready.reason.clone(), ready.message.clone())).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::workspace::Workspace;

    fn after(failures: u32, finding: &Finding) -> Summary {
        let object: Workspace = serde_json::from_value(json!({
            "apiVersion": "ohallo.eu/v1alpha1", "kind": "Workspace",
            "metadata": {"name": "w", "namespace": "n", "generation": 1},
            "spec": {"workspaceId": "a1b2c3d4-e5f6-7890-abcd-ef1234567890", "apiKeySecretRef": {"name": "key"}},
        }))
        .unwrap();
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        summarize(&object, finding, failures, 0.5, now)
    }

    #[test]
    fn a_key_that_was_refused_is_looked_at_again_within_a_minute_and_ever_later() {
        let refused = Finding::Failed(Failure::user(Reason::AuthenticationFailed, "401"));
        let mut failures = 0;
        let mut wakes = vec![];
        for _ in 0..4 {
            let summary = after(failures, &refused);
            assert_eq!(summary.result, "stalled");
            failures = summary.failures;
            wakes.push(summary.wake.as_secs());
        }
        assert_eq!(wakes, [30, 60, 120, 240]);
        let good = Finding::Good { workspace: None, environment: None };
        assert_eq!(after(failures, &good).failures, 0);
    }
}
