//! The conditions besides Ready.

use super::*;
use crate::backoff;
use crate::channel::plan::existing;

#[test]
fn a_suspended_channel_keeps_ready_and_its_generation() {
    let sample = settled().with(|it| {
        it.channel.metadata.generation = Some(2);
        it.channel.spec.suspend = Some(true);
        it.observed.remote = Remote::Unread;
    });
    let before = conditions::find(&sample.status.conditions, kind::READY).cloned();
    let status = sample.settle().status;
    assert_eq!(conditions::find(&status.conditions, kind::READY).cloned(), before);
    assert_eq!(condition(&status, kind::SUSPENDED), Some(("True", "Suspended")));
    assert_eq!((status.observed_generation, generation(&status, kind::SUSPENDED)), (Some(2), Some(2)));
    let stalled = Sample::bound().after(&fails(Retry::UserAction, Reason::ValidationFailed));
    let quiet = stalled.summarize(&says(ConclusionKind::Suspended, Reason::WorkspaceSuspended)).status;
    assert_eq!(shown(&quiet), (Some(("False", "ValidationFailed")), false, false));
    let resumed = Sample { status, ..settled() }.settle().status;
    assert_eq!(condition(&resumed, kind::SUSPENDED), None);
}

#[test]
fn drift_is_reported_until_a_read_shows_otherwise() {
    let drifted = Sample::bound().with(|it| {
        it.channel.spec.drift_policy = Some("Report".into());
        it.remote().display_name = Some("Theirs".into());
    });
    let status = drifted.settle().status;
    assert_eq!(condition(&status, kind::DRIFTED), Some(("True", "DriftDetected")));
    assert_eq!(shown(&status), (Some(("True", "Available")), false, false));
    let drifted = Sample { status: status.clone(), ..drifted };
    let looked_away: [Edit; 4] = [
        |it| it.channel.spec.suspend = Some(true),
        |it| it.observed.workspace_suspended = true,
        |it| it.observed.workspace = Err(Failure::missing_input(Reason::WorkspaceNotReady, "Not ready.")),
        |it| it.terminate(),
    ];
    for edit in looked_away {
        let sample = drifted.clone().with(|it| it.observed.remote = Remote::Unread).with(edit);
        let outcome = match sample.plan() {
            crate::channel::model::Plan::Settled(verdict) => Outcome::Settled(verdict),
            crate::channel::model::Plan::Work(_) => fails(Retry::Backoff, Reason::ApiUnavailable),
        };
        let kept = sample.summarize(&outcome).status;
        assert_eq!(condition(&kept, kind::DRIFTED), Some(("True", "DriftDetected")), "{outcome:?}");
        assert_eq!(kept.drift, status.drift, "{outcome:?}");
    }
    let gone = drifted.clone().with(|it| it.observed.remote = Remote::Absent { proven: true });
    let healed = drifted.with(|it| it.remote().display_name = Some("Support".into()));
    for sample in [gone, healed] {
        let status = sample.settle().status;
        assert_eq!((condition(&status, kind::DRIFTED), status.drift.len()), (None, 0));
    }
}

#[test]
fn a_blocked_deletion_reports_its_cause() {
    let rows = [
        (
            fails(Retry::UserAction, Reason::AuthenticationFailed),
            "KeyUnavailable",
            backoff::MISSING_INPUT_INTERVAL,
        ),
        (
            fails(Retry::UserAction, Reason::PermissionDenied),
            "PermissionDenied",
            backoff::MISSING_INPUT_INTERVAL,
        ),
        (
            fails(Retry::MissingInput, Reason::AbsenceNotProven),
            "AbsenceNotProven",
            backoff::MISSING_INPUT_INTERVAL,
        ),
        (fails(Retry::Backoff, Reason::ApiUnavailable), "ApiUnavailable", Duration::from_millis(500)),
        (fails(Retry::Backoff, Reason::UnexpectedResponse), "ApiUnavailable", Duration::from_millis(500)),
        (fails(Retry::RetryAfter(s(9)), Reason::ApiUnavailable), "ApiUnavailable", s(9)),
        (says(ConclusionKind::Blocked { again: s(8) }, Reason::Suspended), "Suspended", s(8)),
        (says(ConclusionKind::Blocked { again: s(8) }, Reason::KeyUnavailable), "KeyUnavailable", s(8)),
        (
            says(ConclusionKind::Blocked { again: s(8) }, Reason::CreateOutcomeUnknown),
            "CreateOutcomeUnknown",
            s(8),
        ),
    ];
    for (outcome, reason, wake) in rows {
        let sample = settled().with(Sample::terminate);
        let summary = sample.summarize(&outcome);
        assert_eq!(condition(&summary.status, kind::DELETION_BLOCKED), Some(("True", reason)));
        assert_eq!(shown(&summary.status), (Some(("True", "Available")), false, false), "Ready is kept");
        assert_eq!(summary.wake, Some(wake), "{outcome:?}");
    }
    let limited = settled().with(Sample::terminate);
    let summary = limited.summarize(&fails(Retry::RetryAfter(s(9)), Reason::RateLimited));
    assert_eq!(condition(&summary.status, kind::DELETION_BLOCKED), None, "it is only slow");
    assert_eq!(summary.wake, Some(s(9)));
}

#[test]
fn each_row_of_credentials_applied() {
    let failed = || Failure {
        class: Some(Class::Rejected),
        ..Failure::user_action(Reason::PermissionDenied, "The API key may not do this.")
    };
    let sent = Some(("x", "1"));
    let in_sync = || says(ConclusionKind::InSync, Reason::Available);
    let rows = [
        (ready("x", "1"), sent, in_sync(), Some(("True", "Applied"))),
        (
            missing(),
            None,
            fails(Retry::MissingInput, Reason::SecretNotFound),
            Some(("False", "SecretNotFound")),
        ),
        (missing(), sent, in_sync(), Some(("False", "SecretNotFound"))),
        (invalid(), sent, fails(Retry::UserAction, Reason::SecretInvalid), Some(("False", "SecretInvalid"))),
        (ready("y", "2"), sent, Outcome::PushFailed(failed()), Some(("False", "PushFailed"))),
        (ready("y", "2"), sent, fails(Retry::Backoff, Reason::ApiUnavailable), None),
        (ready("x", "1"), None, fails(Retry::Backoff, Reason::ApiUnavailable), None),
    ];
    for (declared, sent, outcome, expected) in rows {
        let sample = Sample::bound().with(|it| it.credentials(declared, sent));
        let status = sample.summarize(&outcome).status;
        assert_eq!(condition(&status, kind::CREDENTIALS_APPLIED), expected, "{outcome:?}");
        let none = sample.with(|it| {
            it.status = status.clone();
            it.channel.spec.credentials.clear();
            it.observed.credentials = DesiredCredentials::None;
        });
        let status = none.summarize(&in_sync()).status;
        assert_eq!(condition(&status, kind::CREDENTIALS_APPLIED), None);
        assert_eq!(status.credentials, None);
    }
}

#[test]
fn deferred_credentials_are_not_reported_as_rejected_when_ready_expires() {
    let waits = Outcome::PushFailed(Failure {
        retry: Retry::Deferred(s(3)),
        ..Failure::transient(Reason::Progressing, "It waits for the rate limit.")
    });
    let sample = settled().with(|it| {
        it.credentials(ready("y", "2"), Some(("x", "1")));
        it.memory.last_read_at = it.instant.checked_sub(s(100_000));
    });
    let lapsed = sample.summarize(&waits);
    assert!(!lapsed.silent);
    assert_eq!(condition(&lapsed.status, kind::CREDENTIALS_APPLIED), None);
}

#[test]
fn credentials_that_could_not_be_sent_are_not_reported_as_applied_by_the_next_reconcile() {
    let rejected = Outcome::PushFailed(Failure::transient(Reason::ApiUnavailable, "oHallo is unavailable."));
    // After a restart: the content can't be compared, and the new manifest selects another entry of the same Secret.
    let sample = Sample::bound().with(|it| {
        it.credentials(ready("x", "1"), Some(("w", "1")));
        it.memory.last_push_digest = None;
        it.status.observed_generation = Some(1);
        it.channel.metadata.generation = Some(2);
    });
    assert!(existing::push_due(&sample.view()));
    for outcome in [rejected, fails(Retry::Backoff, Reason::ApiUnavailable)] {
        let next = sample.clone().after(&outcome);
        assert!(existing::push_due(&next.view()), "{outcome:?}");
        let status = next.summarize(&outcome).status;
        assert!(!conditions::is_true(&status.conditions, kind::CREDENTIALS_APPLIED));
    }
}

#[test]
fn each_row_of_connected_also_where_the_result_was_lost() {
    for (result, expected) in [
        (Some("Passed"), ("True", "TestPassed")),
        (Some("Failed"), ("False", "TestFailed")),
        (Some("Unknown"), ("Unknown", "TestOutcomeUnknown")),
        (None, ("Unknown", "TestOutcomeUnknown")),
    ] {
        let test = TestStatus {
            request: Some("a".into()),
            handled_request: Some("a".into()),
            result: result.map(Into::into),
            ..TestStatus::default()
        };
        let sample = Sample::bound().with(|it| it.status.test = Some(test));
        let status = sample.settle().status;
        assert_eq!(condition(&status, kind::CONNECTED), Some(expected));
        assert_eq!(status.test.and_then(|test| test.result).as_deref(), result.or(Some("Unknown")));
    }
    assert_eq!(condition(&Sample::bound().settle().status, kind::CONNECTED), None);
}

#[test]
fn connected_describes_the_generation_of_its_test() {
    for (status, reason, shown) in [
        (Status::True, Reason::TestPassed, 1),
        (Status::True, Reason::TestFailed, 2),
        (Status::False, Reason::TestPassed, 2),
        (Status::False, Reason::TestFailed, 2),
    ] {
        let sample = Sample::bound().with(|it| {
            Writer::new(&mut it.status.conditions, 1, it.now).set(kind::CONNECTED, status, reason, "So.");
            it.status.test = Some(TestStatus { result: Some("Passed".into()), ..TestStatus::default() });
            it.channel.metadata.generation = Some(2);
        });
        let after = sample.settle().status;
        assert_eq!(condition(&after, kind::CONNECTED), Some(("True", "TestPassed")));
        assert_eq!(generation(&after, kind::CONNECTED), Some(shown), "{status:?} {reason:?}");
    }
}

#[test]
fn a_warning_begins_with_a_bad_reason_and_is_not_repeated() {
    let stalls = fails(Retry::UserAction, Reason::ValidationFailed);
    let sample = settled();
    let warned = |sample: &Sample, outcome: &Outcome| {
        let warnings = sample.summarize(outcome).warnings;
        warnings.into_iter().map(|(reason, _)| reason).collect::<Vec<_>>()
    };
    assert_eq!(warned(&sample, &stalls), [Reason::ValidationFailed]);
    assert!(warned(&sample.clone().after(&stalls), &stalls).is_empty());
    for quiet in [
        says(ConclusionKind::InSync, Reason::Available),
        says(ConclusionKind::Suspended, Reason::Suspended),
        says(ConclusionKind::WaitingForRemote { longest: s(60) }, Reason::Provisioning),
        Outcome::More,
    ] {
        assert!(warned(&sample, &quiet).is_empty(), "{quiet:?}");
    }
    let gone = sample.clone().with(|it| it.credentials(missing(), Some(("x", "1"))));
    let in_sync = says(ConclusionKind::InSync, Reason::Available);
    assert_eq!(warned(&gone, &in_sync), [Reason::SecretNotFound]);
    assert!(warned(&gone.clone().after(&in_sync), &in_sync).is_empty());
    let waits = fails(Retry::MissingInput, Reason::SecretNotFound);
    assert_eq!(
        warned(&gone, &waits),
        [Reason::SecretNotFound],
        "once, although two conditions have the reason"
    );
    let sent = sample.clone().with(|it| it.credentials(ready("x", "1"), Some(("x", "1"))));
    assert!(warned(&sent, &in_sync).is_empty(), "that they are applied is no warning");
    let blocked = sample.with(Sample::terminate);
    let outcome = says(ConclusionKind::Blocked { again: s(1) }, Reason::KeyUnavailable);
    assert_eq!(warned(&blocked, &outcome), [Reason::KeyUnavailable]);
}
