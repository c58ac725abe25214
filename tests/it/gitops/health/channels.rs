//! Channels in every state.

use serde_json::{Value, json};

use crate::gitops::health::{DONE, IN_PROGRESS, NEEDS_USER, SUSPENDED, SUSPENDED_NOT_READY, Set, Tools};
use ohallo_core::api::annotation;
use ohallo_core::api::channel::{ProvisioningStatus, TestStatus};
use ohallo_core::api::conditions::{Reason, kind};
use ohallo_core::channel::fixtures::{Sample, absence, invalid, missing, ready, s, too_large};
use ohallo_core::channel::model::{DesiredCredentials, Outcome, Remote};
use ohallo_core::channel::persisted::PersistedField;
use ohallo_core::channel::stored;
use ohallo_core::classify::{Operation, Raw, classify};
use ohallo_core::failure::{Failure, Retry};
use ohallo_core::secret::Redactor;

/// Being deleted, and nothing is wrong.
const DELETING: Tools = ["Terminating", "Progressing", "InProgress"];
/// Being deleted, and a user has to act.
const DELETION_BLOCKED: Tools = ["Terminating", "Degraded", "Failed"];

pub fn sets() -> Vec<Set> {
    let mut sets = active();
    for more in [
        waiting(),
        needing_user(),
        failing(),
        with_other_conditions(),
        suspended(),
        deleting(),
        not_yet_reconciled(),
    ] {
        sets.extend(more);
    }
    sets
}

fn shown(sample: &Sample, outcome: &Outcome) -> Value {
    let mut channel = sample.channel.clone();
    channel.status = Some(sample.summarize(outcome).status);
    serde_json::to_value(channel).unwrap()
}

fn planned(sample: Sample) -> Value {
    shown(&sample, &Outcome::Settled(sample.verdict()))
}

fn failed(sample: Sample, failure: Failure) -> Value {
    shown(&sample, &Outcome::Failed(failure))
}

fn user(reason: Reason) -> Failure {
    Failure::user_action(reason, "A user has to change something.")
}

/// A channel in sync, with an edit before the next reconcile.
fn then(edit: impl FnOnce(&mut Sample)) -> Sample {
    let settled = Sample::bound();
    let outcome = Outcome::Settled(settled.verdict());
    settled.after(&outcome).with(edit)
}

fn in_state(state: &str) -> Sample {
    Sample::bound().with(|it| it.remote().status = Some(state.into()))
}

fn set(kind: &'static str, reason: Reason, tools: Tools, object: Value) -> Set {
    Set { shows: Some((kind, reason)), object, tools }
}

fn active() -> Vec<Set> {
    let disabled = Sample::bound().with(|it| {
        it.channel.spec.enabled = Some(false);
        it.applied();
    });
    let observed = Sample::bound().with(|it| it.channel.spec.management_policy = Some("Observe".into()));
    vec![
        set(kind::READY, Reason::Available, DONE, planned(Sample::bound())),
        set(kind::READY, Reason::Disabled, DONE, planned(disabled)),
        set(kind::READY, Reason::Observed, DONE, planned(observed)),
    ]
}

fn waiting() -> Vec<Set> {
    let place = |reason| {
        Sample::unbound().with(|it| it.observed.workspace = Err(Failure::missing_input(reason, "Not there.")))
    };
    let secret = Sample::unbound().with(|it| it.credentials(missing(), None));
    let key = Failure::missing_input(Reason::SecretKeyMissing, "The Secret has no such key.");
    let observing = Sample::unbound().with(|it| it.channel.spec.management_policy = Some("Observe".into()));
    let bound =
        failed(then(|_| {}), Failure::missing_input(Reason::WorkspaceNotReady, "Its key was refused."));
    let rows = [
        (Reason::Provisioning, planned(in_state("provisioning"))),
        (Reason::WaitingForDns, planned(in_state("pending_dns"))),
        (Reason::UnknownState, planned(in_state("moonlit"))),
        (Reason::ProvisioningFailed, planned(in_state("error"))),
        (Reason::Rejected, failed(Sample::bound(), answered(402, None))),
        (Reason::SecretNotFound, planned(secret)),
        (Reason::SecretKeyMissing, failed(Sample::unbound(), key)),
        (Reason::WorkspaceNotFound, planned(place(Reason::WorkspaceNotFound))),
        (Reason::WorkspaceNotReady, planned(place(Reason::WorkspaceNotReady))),
        (Reason::WorkspaceNotReady, bound),
        (Reason::NotCreated, planned(observing)),
        (Reason::Progressing, shown(&Sample::bound(), &Outcome::More)),
    ];
    // Ready, and a read contradicts the last write.
    let stale = planned(then(|it| it.observed.remote = Remote::Stale { again: s(4) }));
    let mut sets: Vec<_> = rows.map(|(reason, object)| set(kind::READY, reason, IN_PROGRESS, object)).into();
    sets.push(set(kind::READY, Reason::Available, DONE, stale));
    sets
}

fn needing_user() -> Vec<Set> {
    let retried = in_state("error").with(|it| {
        it.status.provisioning = Some(ProvisioningStatus { attempts: 5, ..Default::default() });
    });
    let place = |reason| Sample::unbound().with(|it| it.observed.workspace = Err(user(reason)));
    let unsupported = Sample::unbound().with(|it| it.place().create_unsupported = true);
    let unknown = Sample::bound().with(|it| {
        it.status = Default::default();
        it.observed.remote = Remote::Unread;
    });
    let large = Sample::bound().with(|it| it.channel.spec.config = Some(too_large()));
    let gone = Sample::bound().with(|it| it.observed.remote = Remote::Absent { proven: true });
    let other = Sample::bound().with(|it| it.remote().channel_type = Some("voice".into()));
    let taken = Sample::bound().with(|it| it.observed.owner = Some(None));
    let contested = Sample::bound().with(|it| {
        it.remote().display_name = Some("Another".into());
        it.memory.reverts.contested = true;
    });
    let rows = [
        (Reason::ProvisioningFailed, planned(retried)),
        (Reason::SecretInvalid, planned(Sample::unbound().with(|it| it.credentials(invalid(), None)))),
        (Reason::WorkspaceNotAllowed, planned(place(Reason::WorkspaceNotAllowed))),
        (Reason::PermissionDenied, failed(Sample::bound(), answered(403, None))),
        (Reason::AuthenticationFailed, failed(Sample::bound(), answered(401, None))),
        (Reason::ValidationFailed, planned(large)),
        (Reason::ValidationFailed, failed(Sample::bound(), answered(422, None))),
        (
            Reason::Rejected,
            failed(Sample::bound(), Failure { retry: Retry::UserAction, ..answered(402, None) }),
        ),
        (Reason::CreateUnsupported, planned(unsupported)),
        (Reason::CreateOutcomeUnknown, planned(unknown)),
        (Reason::ChannelNotFound, planned(gone)),
        (Reason::IdentityMismatch, planned(other)),
        (Reason::OwnershipConflict, planned(taken)),
        (Reason::NotConverging, planned(contested)),
        (Reason::StatusNotStored, failed(Sample::bound(), stored::failure(&[PersistedField::ChannelId]))),
        (Reason::StatusNotStored, failed(Sample::unbound(), stored::failure(&[PersistedField::Intent]))),
    ];
    rows.map(|(reason, object)| set(kind::READY, reason, NEEDS_USER, object)).into()
}

/// The failure that the operator derives from a response of oHallo.
pub fn answered(status: u16, retry_after: Option<&str>) -> Failure {
    let raw = Raw::Answered { status, retry_after, body: Ok(br#"{"error": "So it is."}"#) };
    classify(Operation::GetChannel, &raw, &Redactor::none(), Sample::unbound().now).unwrap_err().into()
}

/// Each reason of a call that is retried, as the operator derives it.
pub fn transient() -> [(Reason, Failure); 9] {
    let unanswered = |raw: Raw| {
        Failure::from(
            classify(Operation::GetChannel, &raw, &Redactor::none(), Sample::unbound().now).unwrap_err(),
        )
    };
    [
        (Reason::ApiUnavailable, unanswered(Raw::TimedOut)),
        (Reason::ApiUnavailable, unanswered(Raw::NotConnected("no route".into()))),
        (Reason::ApiUnavailable, answered(503, None)),
        (Reason::ApiUnavailable, answered(503, Some("30"))),
        (Reason::RateLimited, answered(429, None)),
        (Reason::RateLimited, answered(429, Some("30"))),
        (Reason::UnexpectedResponse, answered(404, None)),
        (Reason::UnexpectedResponse, answered(302, None)),
        (Reason::InternalError, Failure::transient(Reason::InternalError, "It is tried again.")),
    ]
}

fn failing() -> Vec<Set> {
    // Not read for two intervals.
    let unread = || then(|it| it.memory.last_read_at = Some(it.instant - s(7200)));
    let mut sets = Vec::new();
    for (reason, failure) in transient() {
        assert_eq!(failure.reason, reason);
        sets.push(set(kind::READY, reason, IN_PROGRESS, failed(Sample::bound(), failure.clone())));
        // A failed read keeps a Channel Ready, until reads have failed for a while.
        sets.push(set(kind::READY, Reason::Available, DONE, failed(then(|_| {}), failure.clone())));
        let named_a_time = matches!(failure.retry, Retry::RetryAfter(_));
        let for_long = failed(then(|it| it.memory.failures = 3), failure.clone());
        let (shown, tools) = if named_a_time { (Reason::Available, DONE) } else { (reason, IN_PROGRESS) };
        sets.push(set(kind::READY, shown, tools, for_long));
        // The last read is too old to confirm Ready.
        sets.push(set(kind::READY, reason, IN_PROGRESS, failed(unread(), failure)));
    }
    sets.push(set(kind::READY, Reason::RateLimited, IN_PROGRESS, failed(unread(), Failure::deferred(s(60)))));
    sets.push(set(kind::READY, Reason::Available, DONE, failed(then(|_| {}), Failure::deferred(s(60)))));
    sets
}

/// A channel that is Ready, with another condition.
fn with_other_conditions() -> Vec<Set> {
    let sent = Sample::bound().with(|it| it.credentials(ready("a", "1"), Some(("a", "1"))));
    let settled = Outcome::Settled(sent.verdict());
    let refused = Outcome::PushFailed(answered(403, None));
    let tested = |result: &str| {
        then(|it| it.status.test = Some(TestStatus { result: Some(result.into()), ..Default::default() }))
    };
    let drifted = then(|it| {
        it.channel.spec.drift_policy = Some("Report".into());
        it.remote().display_name = Some("Another".into());
    });
    let only_flux_waits = ["Current", "Healthy", "InProgress"];
    let only_flux_fails = ["Current", "Healthy", "Failed"];
    // Of credentials that were sent, and that never were.
    let unread = |failure: &Failure, before: Tools, never: Tools| {
        let problem = || DesiredCredentials::Invalid(failure.clone());
        let lost = sent.clone().after(&settled).with(|it| it.credentials(problem(), Some(("a", "1"))));
        let unsent = Sample::bound().with(|it| it.credentials(problem(), None));
        [(lost, before), (unsent, never)]
            .map(|(sample, tools)| set(kind::CREDENTIALS_APPLIED, failure.reason, tools, planned(sample)))
    };
    let input = |reason| Failure::missing_input(reason, "It is not there.");
    let own = Failure::transient(Reason::InternalError, "The Secret can't be read.");
    let mut sets = Vec::new();
    sets.extend(unread(&input(Reason::SecretNotFound), only_flux_waits, IN_PROGRESS));
    sets.extend(unread(&input(Reason::SecretKeyMissing), only_flux_waits, IN_PROGRESS));
    sets.extend(unread(&user(Reason::SecretInvalid), NEEDS_USER, NEEDS_USER));
    sets.extend(unread(&own, only_flux_waits, IN_PROGRESS));
    let ready = sent.clone().after(&settled);
    for failure in [answered(429, None), answered(503, None)] {
        let later = shown(&ready, &Outcome::PushFailed(failure));
        sets.push(set(kind::CREDENTIALS_APPLIED, Reason::PushFailed, only_flux_waits, later));
    }
    sets.extend([
        set(kind::CREDENTIALS_APPLIED, Reason::Applied, DONE, planned(sent.clone())),
        set(kind::CREDENTIALS_APPLIED, Reason::PushFailed, NEEDS_USER, shown(&sent, &refused)),
        set(kind::CONNECTED, Reason::TestPassed, DONE, planned(tested("Passed"))),
        set(kind::CONNECTED, Reason::TestFailed, only_flux_fails, planned(tested("Failed"))),
        set(kind::CONNECTED, Reason::TestOutcomeUnknown, DONE, planned(tested("Unknown"))),
        set(kind::DRIFTED, Reason::DriftDetected, DONE, planned(drifted)),
    ]);
    sets
}

fn suspended() -> Vec<Set> {
    let mut sets = Vec::new();
    let needing_user = Sample::bound().with(|it| it.observed.remote = Remote::Absent { proven: true });
    let outcome = Outcome::Settled(needing_user.verdict());
    let needing_user = needing_user.after(&outcome);
    for (sample, tools) in [
        (then(|_| {}), SUSPENDED),
        (Sample::unbound(), SUSPENDED_NOT_READY),
        (needing_user, SUSPENDED_NOT_READY),
    ] {
        let own = sample.clone().with(|it| it.channel.spec.suspend = Some(true));
        sets.push(set(kind::SUSPENDED, Reason::Suspended, tools, planned(own)));
        let workspaces = sample.with(|it| it.observed.workspace_suspended = true);
        sets.push(set(kind::SUSPENDED, Reason::WorkspaceSuspended, tools, planned(workspaces)));
    }
    sets
}

/// As the API server counts: a deletion is a new generation.
fn deleted(edit: impl FnOnce(&mut Sample)) -> Sample {
    then(|it| {
        it.terminate();
        it.channel.metadata.generation = Some(2);
        edit(it);
    })
}

/// The operator stopped between its finalizer and its first status, and now oHallo limits the rate.
pub fn deleted_unseen() -> Set {
    let object = failed(Sample::terminating(), answered(429, None));
    assert!(object["status"]["conditions"].is_null(), "{object}");
    Set { shows: None, object, tools: DELETING }
}

fn deleting() -> Vec<Set> {
    let suspended = deleted(|it| it.channel.spec.suspend = Some(true));
    let no_key = deleted(|it| {
        it.observed.workspace = Err(Failure::missing_input(Reason::SecretNotFound, "No Secret."))
    });
    let once = deleted(|it| it.memory.absence = absence(it.instant));
    let unknown = deleted(|it| it.status = Default::default());
    let claimed = deleted(|it| it.observed.claims.as_mut().unwrap().beside = vec!["renamed".into()]);
    let refused = |status| failed(deleted(|_| {}), answered(status, None));
    let unproven = Failure::transient(Reason::AbsenceNotProven, "It may be there.");
    let rows = [
        (Reason::Suspended, planned(suspended)),
        (Reason::KeyUnavailable, planned(no_key)),
        (Reason::AbsenceNotProven, planned(once)),
        (Reason::CreateOutcomeUnknown, planned(unknown)),
        (Reason::ClaimedByAnother, planned(claimed)),
        (Reason::AbsenceNotProven, failed(deleted(|_| {}), unproven)),
        (Reason::PermissionDenied, refused(403)),
        (Reason::KeyUnavailable, refused(401)),
        (Reason::Rejected, refused(423)),
        (Reason::ApiUnavailable, refused(503)),
        (Reason::StatusNotStored, failed(deleted(|_| {}), stored::finalizer_returned())),
    ];
    rows.map(|(reason, object)| set(kind::DELETION_BLOCKED, reason, DELETION_BLOCKED, object)).into()
}

/// Objects that changed and are not reconciled yet.
fn not_yet_reconciled() -> Vec<Set> {
    let old = |sample: Sample| {
        let mut object = planned(sample);
        object["metadata"]["generation"] = json!(2);
        object
    };
    let mut going = old(Sample::bound());
    going["metadata"]["deletionTimestamp"] = json!("2026-01-10T08:00:00Z");
    let mut asked = planned(Sample::bound());
    asked["metadata"]["annotations"][annotation::RECONCILE_REQUESTED] = json!("now");
    let needing_user = Sample::bound().with(|it| it.observed.remote = Remote::Absent { proven: true });
    let suspended = then(|it| it.channel.spec.suspend = Some(true));
    vec![
        set(kind::READY, Reason::Available, IN_PROGRESS, old(Sample::bound())),
        set(kind::READY, Reason::ChannelNotFound, IN_PROGRESS, old(needing_user)),
        set(kind::SUSPENDED, Reason::Suspended, IN_PROGRESS, old(suspended)),
        set(kind::READY, Reason::Available, DELETING, going),
        set(kind::READY, Reason::Available, DELETING, failed(deleted(|_| {}), answered(429, None))),
        set(kind::READY, Reason::Available, DONE, asked),
    ]
}
