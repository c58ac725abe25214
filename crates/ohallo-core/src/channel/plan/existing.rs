//! The plan for a channel that exists: one table, evaluated from top to bottom.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::api::channel::ProvisioningStatus;
use crate::api::conditions::{Reason, kind};
use crate::api::values::{ChannelType, ConnectivityTest, Origin, RemoteState};
use crate::api::{annotation, same_id};
use crate::backoff;
use crate::channel::config::Differs;
use crate::channel::consistency::{self, ReadFreshness};
use crate::channel::freshness;
use crate::channel::model::{
    Conclusion, ConclusionKind, DesiredCredentials, MAX_POLL_INTERVAL, Plan, PlanInput, Remote, Step,
};
use crate::channel::plan::update::{self, MAX_DIFFERENCES, applied_enabled, to_status};
use crate::channel::spec::invalid_spec;
use crate::conditions::{self, Status};
use crate::failure::Retry;
use crate::remote::{Id, RemoteChannel};
use crate::text::cut_request;

/// Plans for the channel `id`, which is bound or to be adopted.
pub fn plan(view: &PlanInput, id: &str) -> Plan {
    let Some(id) = Id::parse(id) else {
        let message =
            "spec.channelId is not a valid id: copy it from the URL of the channel's page in oHallo.";
        return Conclusion::user(Reason::ValidationFailed, message).settled();
    };
    if let Some(verdict) = ownership_problem(view) {
        return verdict.settled();
    }
    let remote = match &view.observed.remote {
        Remote::Found(remote) => remote,
        Remote::SkippedRead { .. } if known_active(view) => {
            let active = || active(view, &id).unwrap_or_else(Conclusion::settled);
            return credentials(view, &id).unwrap_or_else(active);
        }
        other => return not_readable(&id, other).settled(),
    };
    if let Some(verdict) = identity_mismatch(view, remote).or_else(|| invalid_spec(view.spec())) {
        return verdict.settled();
    }
    if let Some((end, message)) = maybe_deleted(view) {
        return stale(view, end, message).settled();
    }
    let differs = view.differences(remote);
    if view.observing() {
        return observed(view, &differs).settled();
    }
    if view.bound_id().is_none() {
        return Plan::Work(Step::Adopt { id });
    }
    if metadata_incomplete(view) {
        return Plan::Work(Step::RestoreMetadata);
    }
    let read = freshness::judge_read(view, remote, &differs);
    if let Some(plan) = update::plan(view, &id, remote, &differs, read) {
        return plan;
    }
    if let Some(plan) = credentials(view, &id) {
        return plan;
    }
    let mut verdict = match state(view, &id, remote) {
        Ok(plan) => return plan,
        Err(verdict) => verdict,
    };
    match read {
        ReadFreshness::Stale(end) if verdict.kind == ConclusionKind::InSync => {
            return stale(view, end, OLDER).settled();
        }
        ReadFreshness::Kept(_) if verdict.kind == ConclusionKind::InSync => {
            verdict = Conclusion { drift: to_status(&differs), ..update::remote_rewrote_values(&differs) };
        }
        // The drift that the status shows remains.
        ReadFreshness::Stale(_) | ReadFreshness::Kept(_) => verdict.drift.clone_from(&view.status.drift),
        ReadFreshness::Current | ReadFreshness::Doubtful if update::is_report_only(view) => {
            verdict.drift = to_status(&differs)
        }
        ReadFreshness::Current | ReadFreshness::Doubtful => {}
    }
    verdict.settled()
}

const OLDER: &str = "oHallo does not show the last update yet; the operator reads the channel again.";
const DELETED: &str =
    "The operator deleted this channel a moment ago, and oHallo still shows it; the operator reads it again.";
const MAYBE_DELETED: &str = "A Channel that is being deleted is bound to this channel, and an earlier process may have deleted the channel; the operator reads the channel again.";
const NOT_THERE: &str = "oHallo answers 404 for the channel, but this answer may be older than the last write: the operator reads the channel again before it reports it as deleted.";
const STILL_FAILED: &str = "The operator requested another provisioning, and oHallo does not show it yet; the operator reads the channel again.";

fn stale(view: &PlanInput, end: Instant, message: &str) -> Conclusion {
    Conclusion::stale(consistency::next_stale_poll(view.memory.stale_reads, end, view.instant), message)
}

/// Until when a read of a channel to adopt may be older than the DELETE of that channel.
fn maybe_deleted(view: &PlanInput) -> Option<(Instant, &'static str)> {
    if view.bound_id().is_some() {
        return None;
    }
    let window = &view.observed.window;
    let earlier = window.began.filter(|_| view.observed.predecessor.is_some());
    let deleted = window.deleted.map(|end| (end, DELETED));
    deleted.or(earlier.map(|end| (end, MAYBE_DELETED)))
}

/// Why the operator must not make calls for the channel.
fn ownership_problem(view: &PlanInput) -> Option<Conclusion> {
    let place = match &view.observed.workspace {
        Err(failure) => return Some(Conclusion::failed(failure)),
        Ok(place) => place,
    };
    if view
        .status
        .workspace_id
        .as_deref()
        .is_some_and(|recorded| !same_id(recorded, place.workspace_id.as_str()))
    {
        return Some(Conclusion::user(
            Reason::IdentityMismatch,
            "The channel was bound in another oHallo workspace than its Workspace names: restore the Workspace with the old workspaceId, or create another Channel.",
        ));
    }
    let owner = view.observed.owner.as_ref()?;
    let who = owner.as_ref().map_or("another Channel".to_owned(), |name| format!("the Channel {name:?}"));
    Some(Conclusion::user(
        Reason::OwnershipConflict,
        format!("{who} manages this oHallo channel: delete one of the two, or set another spec.channelId."),
    ))
}

/// Whether the status reports for this manifest that the channel was in sync and active.
pub fn known_active(view: &PlanInput) -> bool {
    let ready = conditions::find(&view.status.conditions, kind::READY);
    ready.is_some_and(|ready| {
        Status::of(ready) == Status::True && ready.observed_generation == Some(view.generation())
    }) && view.status.state() == RemoteState::Active
        && view.bound_id().is_some()
        && !view.observing()
        && !metadata_incomplete(view)
}

fn not_readable(id: &Id, remote: &Remote) -> Conclusion {
    match remote {
        Remote::Stale { again } => Conclusion::stale(*again, NOT_THERE),
        Remote::Absent { proven: true } => Conclusion::user(
            Reason::ChannelNotFound,
            format!(
                "oHallo shows no channel {id} in this workspace. Search oHallo's dashboard: if the channel exists, check the permissions of the API key. Only if it does not exist, delete this object and apply it again, without this spec.channelId."
            ),
        ),
        Remote::Absent { proven: false } => Conclusion::of(
            ConclusionKind::Failed(Retry::Backoff),
            Reason::UnexpectedResponse,
            format!(
                "oHallo answered 404 for channel {id}, which does not prove that it is deleted: the API key can't read the workspace, or has read none of its channels. Check that the API key belongs to the workspace and can read the channel."
            ),
        ),
        Remote::Unread | Remote::SkippedRead { .. } | Remote::Found(_) => Conclusion::of(
            ConclusionKind::Failed(Retry::Backoff),
            Reason::Progressing,
            "The channel was not read yet.",
        ),
    }
}

/// Why the channel that was read is not the one that the manifest describes: another type, or another workspace.
pub fn identity_mismatch(view: &PlanInput, remote: &RemoteChannel) -> Option<Conclusion> {
    let place = view.observed.workspace.as_ref().ok()?;
    let declared = view.spec().channel_type.as_deref().unwrap_or_default();
    let adopting = view.bound_id().is_none();
    let fits = |found: Option<&str>, wanted: &str| found.map_or(!adopting, |found| found == wanted);
    if !fits(remote.channel_type.as_deref(), declared) {
        let found = remote.channel_type.as_deref().unwrap_or("of no type");
        let message = format!(
            "The channel in oHallo is {found}, not {declared}: set another spec.channelId, or create another Channel."
        );
        return Some(Conclusion::user(Reason::IdentityMismatch, message));
    }
    (!fits(remote.workspace_id.as_deref(), place.workspace_id.as_str())).then(|| {
        let message = "The channel belongs to another oHallo workspace: create a Channel with the Workspace that names that workspace, or set another spec.channelId.";
        Conclusion::user(Reason::IdentityMismatch, message)
    })
}

fn observed(view: &PlanInput, differs: &[Differs]) -> Conclusion {
    let mut verdict = Conclusion::of(
        ConclusionKind::InSync,
        Reason::Observed,
        "managementPolicy is Observe: the operator reads the channel and writes nothing to oHallo.",
    );
    verdict.planned = planned(view, differs);
    verdict
}

fn planned(view: &PlanInput, differs: &[Differs]) -> Vec<String> {
    let updates = differs.iter().map(|differs| format!("update {}", differs.path));
    let enabled = view.spec().enabled.filter(|enabled| applied_enabled(view) != Some(*enabled));
    let enabled = enabled.map(|enabled| format!("set enabled to {enabled}"));
    let push = match &view.observed.credentials {
        DesiredCredentials::Ready { keys, .. } if push_due(view) => Some(match keys.len() {
            1 => "send 1 credential".to_owned(),
            count => format!("send {count} credentials"),
        }),
        DesiredCredentials::Ready { .. } | DesiredCredentials::Invalid(_) | DesiredCredentials::None => None,
    };
    let all = updates.chain(enabled).chain(push);
    all.map(|line| line.chars().take(256).collect()).take(MAX_DIFFERENCES).collect()
}

fn metadata_incomplete(view: &PlanInput) -> bool {
    let intent_lost = view.status.origin() == Some(Origin::Created) && !view.has_own_intent();
    !view.has_finalizer() || intent_lost
}

/// Whether the declared credentials differ from those that were last sent.
pub fn push_due(view: &PlanInput) -> bool {
    let DesiredCredentials::Ready { digest, keys, sources } = &view.observed.credentials else {
        return false;
    };
    let Some(sent) = &view.status.credentials else { return true };
    if view.memory.resend_credentials_at.is_some_and(|due| due <= view.instant) {
        return true;
    }
    if let Some(pushed) = view.memory.last_push_digest {
        return pushed != *digest;
    }
    // After a restart the content can't be compared: the same versions of the same Secrets have the same content. The
    // exception is a manifest that selects other entries: it is newer than the last one that was reported as applied.
    let same_keys = sent.keys.iter().eq(keys.iter().take(sent.keys.len().max(64)));
    let said = conditions::find(&view.status.conditions, kind::CREDENTIALS_APPLIED)
        .filter(|said| said.reason == Reason::Applied.as_str());
    let current = said.is_some_and(|said| said.observed_generation == Some(view.generation()));
    sent.sources != *sources || !same_keys || !current
}

fn credentials(view: &PlanInput, id: &Id) -> Option<Plan> {
    match &view.observed.credentials {
        DesiredCredentials::Ready { .. } if push_due(view) => {
            Some(Plan::Work(Step::PushCredentials { id: id.clone() }))
        }
        // The credentials that were sent before remain valid; the condition CredentialsApplied names what is missing.
        DesiredCredentials::Invalid(failure)
            if !(failure.retry == Retry::MissingInput && view.status.credentials.is_some()) =>
        {
            Some(Conclusion::failed(failure).settled())
        }
        DesiredCredentials::Ready { .. } | DesiredCredentials::Invalid(_) | DesiredCredentials::None => None,
    }
}

/// Follows oHallo's provisioning. `Ok`: the plan. `Err`: a conclusion, to which the caller may add drift.
fn state(view: &PlanInput, id: &Id, remote: &RemoteChannel) -> Result<Plan, Conclusion> {
    let busy = |longest, reason, message: &str| {
        Err(Conclusion::of(ConclusionKind::WaitingForRemote { longest }, reason, message))
    };
    match remote.state() {
        RemoteState::Active => active(view, id),
        RemoteState::Provisioning => {
            busy(MAX_POLL_INTERVAL, Reason::Provisioning, "oHallo is provisioning the channel.")
        }
        RemoteState::PendingDns => busy(
            view.spec().interval(),
            Reason::WaitingForDns,
            "oHallo waits for DNS records: add the records that oHallo's dashboard shows for the channel.",
        ),
        RemoteState::Error => failed_provisioning(view, id),
        RemoteState::Other(other) => {
            let message = format!(
                "oHallo reports the state {other:?}, which this version of the operator does not know; the operator keeps reading the channel."
            );
            busy(MAX_POLL_INTERVAL, Reason::UnknownState, &message)
        }
    }
}

fn active(view: &PlanInput, id: &Id) -> Result<Plan, Conclusion> {
    if let Some(request) = test_due(view) {
        return Ok(Plan::Work(Step::Test { id: id.clone(), request }));
    }
    Err(if view.spec().enabled == Some(false) {
        Conclusion::of(ConclusionKind::InSync, Reason::Disabled, "The channel is as declared and disabled.")
    } else {
        Conclusion::of(ConclusionKind::InSync, Reason::Available, "The channel is as declared and active.")
    })
}

fn test_due(view: &PlanInput) -> Option<String> {
    let handled = view.status.test.as_ref().and_then(|test| test.handled_request.as_deref());
    let asked = view.annotation(annotation::TEST_REQUESTED).map(cut_request);
    if let Some(asked) = asked.filter(|asked| handled != Some(asked)) {
        return Some(asked);
    }
    let on_change = view.spec().connectivity_test() == ConnectivityTest::OnChange;
    (on_change && view.memory.test_due && view.spec().channel_type() != Some(ChannelType::Email))
        .then(|| format!("change:{}", view.generation()))
}

/// Until when the state `error` may be older than the last retry. An earlier process may have sent a retry, but not to a
/// channel that this process bound, nor where the status still announces the first retry.
fn retried(view: &PlanInput, past: &ProvisioningStatus) -> Option<Instant> {
    let window = &view.observed.window;
    let announced = past.attempts == 0 && past.next_attempt_at.is_some();
    let earlier = window.began.filter(|_| !announced && !view.memory.bound_by_this_process);
    window.retry.or(earlier)
}

fn failed_provisioning(view: &PlanInput, id: &Id) -> Result<Plan, Conclusion> {
    let past = view.status.provisioning.clone().unwrap_or_default();
    let retry = view.spec().provisioning_retry.clone().unwrap_or_default();
    let (limit, backoff) = (retry.limit(), retry.backoff());
    let asked = view.annotation(annotation::RETRY_REQUESTED).map(cut_request);
    if asked.is_some() && asked != past.handled_request {
        return Ok(Plan::Work(Step::Retry { id: id.clone(), attempts: 1, request: asked }));
    }
    if let Some(end) = retried(view, &past) {
        return Err(stale(view, end, STILL_FAILED));
    }
    // A count that a user edited below zero must not add retries.
    let attempts = past.attempts.max(0);
    if attempts >= limit {
        let message = format!(
            "Provisioning failed after {limit} retries: fix the cause in oHallo, then annotate this object with {}=<any new value>.",
            annotation::RETRY_REQUESTED
        );
        return Err(Conclusion::user(Reason::ProvisioningFailed, message));
    }
    let rest =
        time_to_retry(past.next_attempt_at.as_deref(), view.now, backoff::provisioning(backoff, attempts));
    if rest.is_zero() {
        let attempts = attempts.saturating_add(1);
        return Ok(Plan::Work(Step::Retry { id: id.clone(), attempts, request: past.handled_request }));
    }
    let message = "Provisioning failed in oHallo; the operator retries (status.provisioning.nextAttemptAt).";
    Err(Conclusion::of(ConclusionKind::RetryIn(rest), Reason::ProvisioningFailed, message))
}

/// How long until a stored time. This version writes no time later than `longest` from now. A later time, or one that
/// can't be parsed, comes from another clock or another writer: the full wait begins now.
fn time_to_retry(stored: Option<&str>, now: Timestamp, longest: Duration) -> Duration {
    let due = stored.and_then(|at| at.parse::<Timestamp>().ok());
    let rest = due.map(|due| Duration::try_from(due.duration_since(now)).unwrap_or(Duration::ZERO));
    rest.unwrap_or(longest).min(longest)
}

#[cfg(test)]
mod tests;
