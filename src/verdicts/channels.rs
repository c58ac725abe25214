//! Channels in every state.

use serde_json::{Value, json};

use super::{DONE, GOES_ON, NEEDS_SOMEBODY, RESTS, Set, Tools};
use crate::api::annotation;
use crate::api::channel::{ProvisioningStatus, TestStatus};
use crate::api::conditions::{Reason, kind};
use crate::channel::memory::CONTESTED;
use crate::channel::plan::Remote;
use crate::channel::sample::{Sample, invalid, missing, ready, s, too_large};
use crate::channel::status::Outcome;
use crate::error::{Failure, Need};

/// Being deleted, and nothing is wrong.
const GOES: Tools = ["Terminating", "Progressing", "InProgress"];
/// Being deleted, and somebody has to help.
const STAYS: Tools = ["Terminating", "Degraded", "Failed"];

pub fn sets() -> Vec<Set> {
    let mut sets = active();
    for more in [waiting(), stuck(), failing(), beside(), resting(), parting(), behind()] {
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
    Failure::user(reason, "Somebody has to change something.")
}

/// A channel as declared, and what is done to the sample before the next pass looks.
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
    let place =
        |reason| Sample::new().with(|it| it.observed.place = Err(Failure::input(reason, "Not there.")));
    let secret = Sample::new().with(|it| it.credentials(missing(), None));
    let key = Failure::input(Reason::SecretKeyMissing, "The Secret has no such key.");
    let observing = Sample::new().with(|it| it.channel.spec.management_policy = Some("Observe".into()));
    let bound = failed(then(|_| {}), Failure::input(Reason::WorkspaceNotReady, "Its key was refused."));
    let rows = [
        (Reason::Provisioning, planned(in_state("provisioning"))),
        (Reason::WaitingForDns, planned(in_state("pending_dns"))),
        (Reason::UnknownState, planned(in_state("moonlit"))),
        (Reason::ProvisioningFailed, planned(in_state("error"))),
        (Reason::SecretNotFound, planned(secret)),
        (Reason::SecretKeyMissing, failed(Sample::new(), key)),
        (Reason::WorkspaceNotFound, planned(place(Reason::WorkspaceNotFound))),
        (Reason::WorkspaceNotReady, planned(place(Reason::WorkspaceNotReady))),
        (Reason::WorkspaceNotReady, bound),
        (Reason::NotCreated, planned(observing)),
        (Reason::Progressing, shown(&Sample::bound(), &Outcome::More)),
    ];
    rows.map(|(reason, object)| set(kind::READY, reason, GOES_ON, object)).into()
}

fn stuck() -> Vec<Set> {
    let retried = in_state("error").with(|it| {
        it.status.provisioning = Some(ProvisioningStatus { attempts: 5, ..Default::default() });
    });
    let place = |reason| Sample::new().with(|it| it.observed.place = Err(user(reason)));
    let unsupported = Sample::new().with(|it| it.place().create_unsupported = true);
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
        it.memory.contested = CONTESTED;
    });
    let rows = [
        (Reason::ProvisioningFailed, planned(retried)),
        (Reason::SecretInvalid, planned(Sample::new().with(|it| it.credentials(invalid(), None)))),
        (Reason::WorkspaceNotAllowed, planned(place(Reason::WorkspaceNotAllowed))),
        (Reason::PermissionDenied, failed(Sample::bound(), user(Reason::PermissionDenied))),
        (Reason::AuthenticationFailed, failed(Sample::bound(), user(Reason::AuthenticationFailed))),
        (Reason::ValidationFailed, planned(large)),
        (Reason::CreateUnsupported, planned(unsupported)),
        (Reason::CreateOutcomeUnknown, planned(unknown)),
        (Reason::ChannelNotFound, planned(gone)),
        (Reason::IdentityMismatch, planned(other)),
        (Reason::OwnershipConflict, planned(taken)),
        (Reason::NotConverging, planned(contested)),
    ];
    rows.map(|(reason, object)| set(kind::READY, reason, NEEDS_SOMEBODY, object)).into()
}

fn failing() -> Vec<Set> {
    let mut sets = Vec::new();
    for reason in
        [Reason::ApiUnavailable, Reason::RateLimited, Reason::UnexpectedResponse, Reason::InternalError]
    {
        let failure = || Failure::transient(reason, "It is tried again.");
        sets.push(set(kind::READY, reason, GOES_ON, failed(Sample::bound(), failure())));
        // A look that fails does not make a Channel that is Ready less so, until it has failed for a while.
        sets.push(set(kind::READY, Reason::Available, DONE, failed(then(|_| {}), failure())));
        let for_long = failed(then(|it| it.memory.failures = 3), failure());
        sets.push(set(kind::READY, reason, GOES_ON, for_long));
    }
    sets
}

/// A channel that is Ready, and something else is to be said of it.
fn beside() -> Vec<Set> {
    let sent = Sample::bound().with(|it| it.credentials(ready("a", "1"), Some(("a", "1"))));
    let settled = Outcome::Settled(sent.verdict());
    let lost = sent.clone().after(&settled).with(|it| it.credentials(missing(), Some(("a", "1"))));
    let refused = Outcome::PushFailed(user(Reason::PermissionDenied));
    let tested = |result: &str| {
        then(|it| it.status.test = Some(TestStatus { result: Some(result.into()), ..Default::default() }))
    };
    let drifted = then(|it| {
        it.channel.spec.drift_policy = Some("Report".into());
        it.remote().display_name = Some("Another".into());
    });
    let only_flux_waits = ["Current", "Healthy", "InProgress"];
    let only_flux_fails = ["Current", "Healthy", "Failed"];
    vec![
        set(kind::CREDENTIALS_APPLIED, Reason::Applied, DONE, planned(sent.clone())),
        set(kind::CREDENTIALS_APPLIED, Reason::SecretNotFound, only_flux_waits, planned(lost)),
        set(kind::CREDENTIALS_APPLIED, Reason::PushFailed, NEEDS_SOMEBODY, shown(&sent, &refused)),
        set(kind::CONNECTED, Reason::TestPassed, DONE, planned(tested("Passed"))),
        set(kind::CONNECTED, Reason::TestFailed, only_flux_fails, planned(tested("Failed"))),
        set(kind::CONNECTED, Reason::TestOutcomeUnknown, DONE, planned(tested("Unknown"))),
        set(kind::DRIFTED, Reason::DriftDetected, DONE, planned(drifted)),
    ]
}

fn resting() -> Vec<Set> {
    let mut sets = Vec::new();
    let never_ready = ["InProgress", "Suspended", "InProgress"];
    for (sample, tools) in [(then(|_| {}), RESTS), (Sample::new(), never_ready)] {
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

fn parting() -> Vec<Set> {
    let suspended = deleted(|it| it.channel.spec.suspend = Some(true));
    let no_key = deleted(|it| it.observed.place = Err(Failure::input(Reason::SecretNotFound, "No Secret.")));
    let once = deleted(|it| it.memory.absent_since = Some(it.instant));
    let unknown = deleted(|it| it.status = Default::default());
    let refused = |reason| failed(deleted(|_| {}), user(reason));
    let away = failed(deleted(|_| {}), Failure::transient(Reason::ApiUnavailable, "It is tried again."));
    let rows = [
        (Reason::Suspended, planned(suspended)),
        (Reason::KeyUnavailable, planned(no_key)),
        (Reason::AbsenceNotProven, planned(once)),
        (Reason::CreateOutcomeUnknown, planned(unknown)),
        (Reason::PermissionDenied, refused(Reason::PermissionDenied)),
        (Reason::KeyUnavailable, refused(Reason::AuthenticationFailed)),
        (Reason::ApiUnavailable, away),
    ];
    rows.map(|(reason, object)| set(kind::DELETION_BLOCKED, reason, STAYS, object)).into()
}

/// What the operator has not looked at since it changed.
fn behind() -> Vec<Set> {
    let old = |sample: Sample| {
        let mut object = planned(sample);
        object["metadata"]["generation"] = json!(2);
        object
    };
    let mut going = old(Sample::bound());
    going["metadata"]["deletionTimestamp"] = json!("2026-01-10T08:00:00Z");
    let mut asked = planned(Sample::bound());
    asked["metadata"]["annotations"][annotation::RECONCILE_REQUESTED] = json!("now");
    let stuck = Sample::bound().with(|it| it.observed.remote = Remote::Absent { proven: true });
    let suspended = then(|it| it.channel.spec.suspend = Some(true));
    let limited = Failure { need: Need::Until(s(60)), ..Failure::transient(Reason::RateLimited, "Later.") };
    vec![
        set(kind::READY, Reason::Available, GOES_ON, old(Sample::bound())),
        set(kind::READY, Reason::ChannelNotFound, GOES_ON, old(stuck)),
        set(kind::SUSPENDED, Reason::Suspended, GOES_ON, old(suspended)),
        set(kind::READY, Reason::Available, GOES, going),
        set(kind::READY, Reason::Available, GOES, failed(deleted(|_| {}), limited)),
        set(kind::READY, Reason::Available, DONE, asked),
    ]
}
