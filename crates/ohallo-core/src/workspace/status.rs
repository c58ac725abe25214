//! The status of a workspace: one match from the key check to conditions and requeue time.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use crate::api::annotation;
use crate::api::conditions::{Reason, kind};
use crate::api::values::ReconcileResult;
use crate::api::workspace::WorkspaceStatus;
use crate::backoff;
use crate::conditions::{self, MESSAGE, Progress, Status, Writer};
use crate::failure::{Failure, Retry};
use crate::text::{self, cut_request};
use crate::workspace::kind::WorkspaceKind;
use crate::workspace::model::KeyCheck;

/// How often a valid API key is checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1800);

pub struct Summary {
    pub status: WorkspaceStatus,
    pub wake: Duration,
    pub failures: u32,
    pub warnings: Vec<(Reason, String)>,
    pub result: ReconcileResult,
}

/// Summarizes a key check.
pub fn summarize<K: WorkspaceKind>(
    object: &K,
    finding: &KeyCheck,
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
    if let KeyCheck::Good { workspace, environment } = finding {
        let name = workspace.as_ref().and_then(|workspace| workspace.name.as_deref());
        status.name = name.map(|name| text::sanitize(name, 256));
        status.environment = environment.map(Into::into);
    }
    let mut writer = Writer::new(&mut status.conditions, generation, now);
    if !matches!(finding, KeyCheck::Suspended) {
        writer.remove(kind::SUSPENDED);
    }
    let (wake, failures, result) = match finding {
        KeyCheck::Suspended => {
            suspended(&mut writer);
            (backoff::STALLED_INTERVAL, 0, ReconcileResult::Suspended)
        }
        KeyCheck::Good { workspace, .. } => {
            let (reason, message) = match workspace {
                Some(_) => (Reason::Verified, "The API key reads the workspace."),
                None => (
                    Reason::Unverified,
                    "The API key lacks the permission to read workspaces, so the operator can't verify that it belongs to this one; Channels use it.",
                ),
            };
            writer.ready(Status::True, Progress::Done, reason, message);
            (backoff::jitter(CHECK_INTERVAL, random), 0, ReconcileResult::InSync)
        }
        KeyCheck::Failed(failure) => failed(&mut writer, failure, failures, random),
    };
    let warnings = warnings(&old, &status);
    Summary { status, wake, failures, warnings, result }
}

fn suspended(writer: &mut Writer) {
    let message = "spec.suspend is true: the operator makes no calls with this API key until it is false.";
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
) -> (Duration, u32, ReconcileResult) {
    let message = text::sanitize(&failure.message, MESSAGE);
    match failure.retry {
        Retry::UserAction | Retry::ClusterAction => {
            writer.ready(Status::False, Progress::Stalled, failure.reason, &message);
            let failures = failures.saturating_add(1);
            (backoff::refused_key(failures, random), failures, ReconcileResult::Stalled)
        }
        Retry::MissingInput => {
            writer.ready(Status::False, Progress::Reconciling, failure.reason, &message);
            (backoff::jitter(backoff::MISSING_INPUT_INTERVAL, random), 0, ReconcileResult::InputMissing)
        }
        Retry::Deferred(wait) => (wait, failures, ReconcileResult::Deferred),
        Retry::Backoff | Retry::RetryAfter(_) => {
            let failures = failures.saturating_add(1);
            if failures > backoff::TRANSIENT_TOLERANCE || !writer.ready_is_current() {
                writer.ready(Status::Unknown, Progress::Reconciling, failure.reason, &message);
            }
            let wake = match failure.retry {
                Retry::RetryAfter(after) => after,
                _ => backoff::backoff(failures, random),
            };
            (wake, failures, ReconcileResult::Transient)
        }
    }
}

/// Failure reasons that were not in the old conditions.
fn warnings(old: &WorkspaceStatus, new: &WorkspaceStatus) -> Vec<(Reason, String)> {
    let before = conditions::find(&old.conditions, kind::READY).map(|ready| ready.reason.as_str());
    let now = conditions::find(&new.conditions, kind::READY);
    let bad = now.filter(|ready| Status::of(ready) != Status::True && before != Some(&ready.reason));
    let reason = bad.and_then(Reason::of).filter(|reason| *reason != Reason::Progressing);
    reason.zip(bad).map(|(reason, ready)| (reason, ready.message.clone())).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::workspace::Workspace;

    fn after(failures: u32, finding: &KeyCheck) -> Summary {
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
    fn a_rejected_key_is_checked_again_within_a_minute_and_then_with_backoff() {
        let refused = KeyCheck::Failed(Failure::user_action(Reason::AuthenticationFailed, "401"));
        let mut failures = 0;
        let mut wakes = vec![];
        for _ in 0..4 {
            let summary = after(failures, &refused);
            assert_eq!(summary.result, ReconcileResult::Stalled);
            failures = summary.failures;
            wakes.push(summary.wake.as_secs());
        }
        assert_eq!(wakes, [30, 60, 120, 240]);
        let good = KeyCheck::Good { workspace: None, environment: None };
        assert_eq!(after(failures, &good).failures, 0);
    }
}
