use serde_json::json;

use super::*;
use crate::api::channel::{ProvisioningStatus, TestStatus};
use crate::channel::sample::*;
use crate::ohallo::Class;
use crate::secret::ApiKey;

type Edit = fn(&mut Sample);

/// Ready's status and reason, Reconciling, Stalled.
type Shown<'a> = (Option<(&'a str, &'a str)>, bool, bool);

fn shown(status: &ChannelStatus) -> Shown<'_> {
    let is = |kind| conditions::is_true(&status.conditions, kind);
    (condition(status, kind::READY), is(kind::RECONCILING), is(kind::STALLED))
}

fn fails(need: Need, reason: Reason) -> Outcome {
    Outcome::Failed(Failure { need, reason, message: "It failed.".into(), class: None })
}

fn says(is: Is, reason: Reason) -> Outcome {
    Outcome::Settled(Verdict::of(is, reason, "So it is."))
}

/// Ready for its generation.
fn settled() -> Sample {
    let sample = Sample::bound();
    let outcome = Outcome::Settled(sample.verdict());
    sample.after(&outcome)
}

fn generation(of: &ChannelStatus, kind: &str) -> Option<i64> {
    conditions::find(&of.conditions, kind)?.observed_generation
}

#[test]
fn each_outcome_of_a_pass_over_a_new_channel() {
    let hour = retry::STALLED;
    let busy = Is::Busy { longest: s(60) };
    let rows = [
        (says(Is::InSync, Reason::Available), ("True", "Available"), (false, false), INTERVAL, "in_sync"),
        (says(Is::InSync, Reason::Disabled), ("True", "Disabled"), (false, false), INTERVAL, "in_sync"),
        (says(Is::InSync, Reason::Observed), ("True", "Observed"), (false, false), INTERVAL, "in_sync"),
        (says(busy, Reason::Provisioning), ("False", "Provisioning"), (true, false), s(1), "waiting"),
        (says(busy, Reason::WaitingForDns), ("False", "WaitingForDNS"), (true, false), s(1), "waiting"),
        (says(busy, Reason::UnknownState), ("False", "UnknownState"), (true, false), s(1), "waiting"),
        (says(busy, Reason::Progressing), ("Unknown", "Progressing"), (true, false), s(1), "waiting"),
        (
            says(Is::RetryIn(s(60)), Reason::ProvisioningFailed),
            ("False", "ProvisioningFailed"),
            (true, false),
            s(60),
            "waiting",
        ),
        (
            fails(Need::Input, Reason::SecretNotFound),
            ("False", "SecretNotFound"),
            (true, false),
            retry::INPUT,
            "input_missing",
        ),
        (
            says(Is::Needs(Need::Input), Reason::NotCreated),
            ("Unknown", "NotCreated"),
            (true, false),
            retry::INPUT,
            "input_missing",
        ),
        (
            fails(Need::User, Reason::ValidationFailed),
            ("False", "ValidationFailed"),
            (false, true),
            hour,
            "stalled",
        ),
        (
            fails(Need::Time, Reason::ApiUnavailable),
            ("Unknown", "ApiUnavailable"),
            (true, false),
            Duration::from_millis(500),
            "transient",
        ),
        (
            fails(Need::Until(s(77)), Reason::RateLimited),
            ("Unknown", "RateLimited"),
            (true, false),
            s(77),
            "rate_limited",
        ),
        (Outcome::More, ("Unknown", "Progressing"), (true, false), s(1), "progressing"),
        (
            says(Is::Suspended, Reason::Suspended),
            ("Unknown", "Progressing"),
            (false, false),
            hour,
            "suspended",
        ),
    ];
    for (outcome, ready, (reconciling, stalled), wake, result) in rows {
        let mut sample = Sample::bound();
        sample.channel.metadata.generation = Some(7);
        let summary = sample.summarize(&outcome);
        let (status, word) = shown_word(&summary);
        assert_eq!(status, (Some(ready), reconciling, stalled), "{outcome:?}");
        assert_eq!((summary.wake, word), (Some(wake), result), "{outcome:?}");
        assert_eq!(generation(&summary.status, kind::READY), Some(7));
        assert_eq!(summary.status.observed_generation, Some(7));
        assert_eq!(
            summary.busy,
            result == "waiting"
                && !matches!(outcome, Outcome::Settled(ref v) if matches!(v.is, Is::RetryIn(_)))
        );
    }
}

fn shown_word(summary: &Summary) -> (Shown<'_>, &'static str) {
    (shown(&summary.status), summary.result)
}

#[test]
fn what_waits_or_is_in_flight_or_gone_writes_nothing_of_its_own() {
    let sample = settled();
    for (outcome, wake) in [
        (fails(Need::Turn(s(3)), Reason::Progressing), Some(s(3))),
        (says(Is::InFlight, Reason::Progressing), Some(s(1))),
        (says(Is::Gone, Reason::Progressing), None),
    ] {
        let summary = sample.summarize(&outcome);
        assert_eq!(summary.status, sample.status, "{outcome:?}");
        assert_eq!(summary.wake, wake);
    }
}

#[test]
fn failures_are_counted_kept_or_forgotten() {
    let counted = |outcome: &Outcome| {
        let sample = settled().with(|it| it.memory.failures = 2);
        sample.summarize(outcome).failures
    };
    for (outcome, expected) in [
        (says(Is::InSync, Reason::Available), 0),
        (says(Is::Busy { longest: s(60) }, Reason::Provisioning), 0),
        (fails(Need::Input, Reason::SecretNotFound), 0),
        (fails(Need::User, Reason::ValidationFailed), 0),
        (fails(Need::Time, Reason::InternalError), 3),
        (fails(Need::Until(s(9)), Reason::RateLimited), 2),
        (fails(Need::Turn(s(9)), Reason::Progressing), 2),
        (Outcome::More, 2),
    ] {
        assert_eq!(counted(&outcome), expected, "{outcome:?}");
    }
}

#[test]
fn ready_outlives_three_failures_in_a_row_and_nothing_is_written_meanwhile() {
    let mut sample = settled();
    let before = sample.status.clone();
    let unavailable = fails(Need::Time, Reason::ApiUnavailable);
    for failure in 1..=3 {
        sample = sample.after(&unavailable);
        assert_eq!((&sample.status, sample.memory.failures), (&before, failure));
    }
    sample = sample.after(&unavailable);
    assert_eq!(shown(&sample.status), (Some(("Unknown", "ApiUnavailable")), true, false));
    let back = sample.settle();
    assert_eq!((shown(&back.status), back.failures), ((Some(("True", "Available")), false, false), 0));
}

#[test]
fn ready_of_an_older_generation_outlives_no_failure() {
    for (outcome, reason) in [
        (fails(Need::Time, Reason::ApiUnavailable), "ApiUnavailable"),
        (fails(Need::Until(s(5)), Reason::RateLimited), "RateLimited"),
        (Outcome::More, "Progressing"),
    ] {
        let current = settled();
        assert_eq!(shown(&current.summarize(&outcome).status), (Some(("True", "Available")), false, false));
        let changed = current.with(|it| it.channel.metadata.generation = Some(2));
        let status = changed.summarize(&outcome).status;
        assert_eq!(shown(&status), (Some(("Unknown", reason)), true, false));
        assert_eq!(generation(&status, kind::READY), Some(2));
    }
}

#[test]
fn a_channel_that_was_stalled_stays_so_over_a_failure() {
    let stalled = Sample::bound().after(&fails(Need::User, Reason::ValidationFailed));
    let status = stalled.summarize(&fails(Need::Time, Reason::ApiUnavailable)).status;
    assert_eq!(shown(&status), (Some(("False", "ValidationFailed")), false, true));
}

#[test]
fn a_workspace_that_is_not_ready_makes_a_bound_channel_unknown_and_another_false() {
    let outcome = fails(Need::Input, Reason::WorkspaceNotReady);
    let bound = settled().summarize(&outcome).status;
    assert_eq!(shown(&bound), (Some(("Unknown", "WorkspaceNotReady")), true, false));
    let new = Sample::new().summarize(&outcome).status;
    assert_eq!(shown(&new), (Some(("False", "WorkspaceNotReady")), true, false));
}

#[test]
fn a_suspended_channel_keeps_ready_and_what_it_speaks_of() {
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
    let stalled = Sample::bound().after(&fails(Need::User, Reason::ValidationFailed));
    let quiet = stalled.summarize(&says(Is::Suspended, Reason::WorkspaceSuspended)).status;
    assert_eq!(shown(&quiet), (Some(("False", "ValidationFailed")), false, false));
    let resumed = Sample { status, ..settled() }.settle().status;
    assert_eq!(condition(&resumed, kind::SUSPENDED), None);
}

#[test]
fn drift_is_shown_until_a_look_shows_otherwise() {
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
        |it| it.observed.place = Err(Failure::input(Reason::WorkspaceNotReady, "Not ready.")),
        |it| it.terminate(),
    ];
    for edit in looked_away {
        let sample = drifted.clone().with(|it| it.observed.remote = Remote::Unread).with(edit);
        let outcome = match sample.plan() {
            crate::channel::plan::Plan::Settled(verdict) => Outcome::Settled(verdict),
            crate::channel::plan::Plan::Work(_) => fails(Need::Time, Reason::ApiUnavailable),
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
fn a_blocked_deletion_says_why() {
    let rows = [
        (fails(Need::User, Reason::AuthenticationFailed), "KeyUnavailable", retry::INPUT),
        (fails(Need::User, Reason::PermissionDenied), "PermissionDenied", retry::INPUT),
        (fails(Need::Input, Reason::AbsenceNotProven), "AbsenceNotProven", retry::INPUT),
        (fails(Need::Time, Reason::ApiUnavailable), "ApiUnavailable", Duration::from_millis(500)),
        (fails(Need::Time, Reason::UnexpectedResponse), "ApiUnavailable", Duration::from_millis(500)),
        (fails(Need::Until(s(9)), Reason::ApiUnavailable), "ApiUnavailable", s(9)),
        (says(Is::Blocked { again: s(8) }, Reason::Suspended), "Suspended", s(8)),
        (says(Is::Blocked { again: s(8) }, Reason::KeyUnavailable), "KeyUnavailable", s(8)),
        (says(Is::Blocked { again: s(8) }, Reason::CreateOutcomeUnknown), "CreateOutcomeUnknown", s(8)),
    ];
    for (outcome, reason, wake) in rows {
        let sample = settled().with(Sample::terminate);
        let summary = sample.summarize(&outcome);
        assert_eq!(condition(&summary.status, kind::DELETION_BLOCKED), Some(("True", reason)));
        assert_eq!(shown(&summary.status), (Some(("True", "Available")), false, false), "Ready is kept");
        assert_eq!(summary.wake, Some(wake), "{outcome:?}");
    }
    let limited = settled().with(Sample::terminate);
    let summary = limited.summarize(&fails(Need::Until(s(9)), Reason::RateLimited));
    assert_eq!(condition(&summary.status, kind::DELETION_BLOCKED), None, "it is only slow");
    assert_eq!(summary.wake, Some(s(9)));
}

#[test]
fn each_row_of_credentials_applied() {
    let failed = || Failure {
        class: Some(Class::Rejected),
        ..Failure::user(Reason::PermissionDenied, "The API key may not do this.")
    };
    let sent = Some(("x", "1"));
    let in_sync = || says(Is::InSync, Reason::Available);
    let rows = [
        (ready("x", "1"), sent, in_sync(), Some(("True", "Applied"))),
        (missing(), None, fails(Need::Input, Reason::SecretNotFound), Some(("False", "SecretNotFound"))),
        (missing(), sent, in_sync(), Some(("False", "SecretNotFound"))),
        (invalid(), sent, fails(Need::User, Reason::SecretInvalid), Some(("False", "SecretInvalid"))),
        (ready("y", "2"), sent, Outcome::PushFailed(failed()), Some(("False", "PushFailed"))),
        (ready("y", "2"), sent, fails(Need::Time, Reason::ApiUnavailable), None),
        (ready("x", "1"), None, fails(Need::Time, Reason::ApiUnavailable), None),
    ];
    for (declared, sent, outcome, expected) in rows {
        let sample = Sample::bound().with(|it| it.credentials(declared, sent));
        let status = sample.summarize(&outcome).status;
        assert_eq!(condition(&status, kind::CREDENTIALS_APPLIED), expected, "{outcome:?}");
        let none = sample.with(|it| {
            it.status = status.clone();
            it.channel.spec.credentials.clear();
            it.observed.credentials = Declared::None;
        });
        let status = none.summarize(&in_sync()).status;
        assert_eq!(condition(&status, kind::CREDENTIALS_APPLIED), None);
        assert_eq!(status.credentials, None);
    }
}

#[test]
fn credentials_that_could_not_be_sent_are_never_said_to_be_applied_at_the_next_look() {
    let rejected = Outcome::PushFailed(Failure::transient(Reason::ApiUnavailable, "oHallo is unavailable."));
    // After a restart: the content can't be compared, and the new manifest takes another key of the same Secret.
    let sample = Sample::bound().with(|it| {
        it.credentials(ready("x", "1"), Some(("w", "1")));
        it.memory.pushed = None;
        it.status.observed_generation = Some(1);
        it.channel.metadata.generation = Some(2);
    });
    assert!(work::push_due(&sample.view()));
    for outcome in [rejected, fails(Need::Time, Reason::ApiUnavailable)] {
        let next = sample.clone().after(&outcome);
        assert!(work::push_due(&next.view()), "{outcome:?}");
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
fn facts_follow_the_channel_and_the_manifest() {
    let sample = Sample::bound().with(|it| {
        it.annotate(annotation::RECONCILE_REQUESTED, "r1");
        it.annotate(annotation::RETRY_REQUESTED, "r2");
        it.status.provisioning = Some(ProvisioningStatus { attempts: 3, ..Default::default() });
        it.status.planned_changes = vec!["update x".into()];
        it.status.create = Some(Default::default());
    });
    let status = sample.settle().status;
    assert_eq!(status.state.as_deref(), Some("active"));
    assert_eq!(status.created_at.as_deref(), Some("2026-01-10T07:00:01.000Z"));
    assert_eq!(status.read_with.as_deref(), Some("0123456789abcdef"));
    assert_eq!(status.last_handled_reconcile_at.as_deref(), Some("r1"));
    let provisioning = status.provisioning.unwrap();
    assert_eq!((provisioning.attempts, provisioning.handled_request.as_deref()), (0, Some("r2")));
    assert_eq!((status.create, status.planned_changes.len()), (None, 0));
}

#[test]
fn what_the_manifest_says_counts_as_applied_only_when_it_was_seen() {
    let changed: Edit = |it| it.channel.spec.display_name = Some("New".into());
    let digest =
        |sample: &Sample| sample.summarize(&Outcome::More).status.applied.and_then(|applied| applied.digest);
    let seen = Sample::bound().with(changed).with(|it| it.remote().display_name = Some("New".into()));
    assert_eq!(digest(&seen), Some(seen.view().digest()));
    let unseen = Sample::bound().with(changed);
    assert_ne!(digest(&unseen), Some(unseen.view().digest()));
    let observed = seen.with(|it| it.channel.spec.management_policy = Some("Observe".into()));
    assert_ne!(digest(&observed), Some(observed.view().digest()));
}

#[test]
fn the_deletion_policy_in_force_is_shown() {
    for (policy, origin, expected) in
        [(None, "Created", "Delete"), (None, "Adopted", "Retain"), (Some("Retain"), "Created", "Retain")]
    {
        let sample = Sample::bound().with(|it| {
            it.channel.spec.deletion_policy = policy.map(Into::into);
            it.status.origin = Some(origin.into());
        });
        assert_eq!(sample.settle().status.deletion_policy.as_deref(), Some(expected));
    }
}

#[test]
fn values_from_outside_are_cleaned_and_cut_to_the_bounds_of_the_crd() {
    let long = "ä\u{1}".repeat(300);
    let sample = Sample::bound().with(|it| {
        it.channel.spec.drift_policy = Some("Report".into());
        it.config(
            json!({ (long.clone()): long.clone(), "b": {"c": long.clone()} }),
            json!({"b": long.clone()}),
        );
        it.applied();
        let remote = it.remote();
        remote.created_at = Some(long.clone());
        remote.display_name = Some(long.clone());
    });
    let fits = |text: Option<&String>, max: usize| {
        let text = text.unwrap();
        assert!(text.chars().count() <= max && !text.chars().any(char::is_control), "{text}");
    };
    let status = sample.settle().status;
    fits(status.created_at.as_ref(), 64);
    assert_eq!(status.drift.len(), 3);
    for entry in &status.drift {
        fits(Some(&entry.path), 256);
        fits(entry.declared.as_ref(), 128);
        fits(entry.actual.as_ref().or(Some(&String::new())), 128);
    }
    let observed = sample.clone().with(|it| it.channel.spec.management_policy = Some("Observe".into()));
    for line in &observed.settle().status.planned_changes {
        fits(Some(line), 256);
    }
    let strange = sample.with(|it| it.remote().status = Some(long.clone()));
    let status = strange.settle().status;
    fits(status.state.as_ref(), 128);
    fits(conditions::find(&status.conditions, kind::READY).map(|ready| &ready.message), 1024);
}

#[test]
fn no_secret_of_the_pass_gets_into_a_status() {
    let secret = "sf_live_v1_quoted";
    let sample = Sample::bound().with(|it| it.remote().status = Some(format!("bad {secret}")));
    let mut redactor = Redactor::none();
    redactor.add_key(&ApiKey::new(secret.into()));
    let setting = Setting { random: 0.0, redactor: &redactor, interval: INTERVAL };
    let refused = Failure::user(Reason::ValidationFailed, format!("oHallo refused {secret}."));
    for outcome in [Outcome::Settled(sample.verdict()), Outcome::Failed(refused)] {
        let status = summarize(&sample.view(), &outcome, &setting).status;
        assert!(!json!(status).to_string().contains(secret));
    }
}

#[test]
fn the_next_look_at_a_busy_channel_is_a_quarter_of_the_time_it_has_been_busy_away() {
    let busy = says(Is::Busy { longest: s(60) }, Reason::Provisioning);
    let sample = Sample::bound().with(|it| it.memory.waiting_since = Some(it.instant - s(40)));
    assert_eq!(sample.summarize(&busy).wake, Some(s(10)));
    let restarted = Sample::bound().after(&busy).with(|it| it.now += jiff::SignedDuration::from_secs(100));
    assert_eq!(restarted.summarize(&busy).wake, Some(s(25)));
    let was_ready = settled().with(|it| it.now += jiff::SignedDuration::from_secs(100));
    assert_eq!(was_ready.summarize(&busy).wake, Some(s(1)));
}

#[test]
fn what_is_to_be_sent_once_more_wakes_in_time_and_only_once() {
    let wake = |outcome: &Outcome, ahead: u64, ago: u64| {
        let sample = settled().with(|it| {
            it.memory.credentials_again = (ahead > 0).then(|| it.instant + s(ahead));
            it.memory.enabled_again = (ago > 0).then(|| it.instant - s(ago));
        });
        sample.summarize(outcome).wake.unwrap()
    };
    let in_sync = says(Is::InSync, Reason::Available);
    assert_eq!(wake(&in_sync, 60, 0), s(60));
    assert_eq!(wake(&in_sync, 60, 5), s(60));
    for (outcome, regular) in [
        (in_sync, INTERVAL),
        (fails(Need::User, Reason::PermissionDenied), retry::STALLED),
        (fails(Need::Until(s(900)), Reason::RateLimited), s(900)),
        (says(Is::Suspended, Reason::Suspended), retry::STALLED),
    ] {
        assert_eq!(wake(&outcome, 0, 5), regular, "{outcome:?}: what is overdue must not spin");
    }
}

#[test]
fn a_warning_begins_with_a_bad_reason_and_is_not_repeated() {
    let stalls = fails(Need::User, Reason::ValidationFailed);
    let sample = settled();
    let warned = |sample: &Sample, outcome: &Outcome| {
        let warnings = sample.summarize(outcome).warnings;
        warnings.into_iter().map(|(reason, _)| reason).collect::<Vec<_>>()
    };
    assert_eq!(warned(&sample, &stalls), ["ValidationFailed"]);
    assert!(warned(&sample.clone().after(&stalls), &stalls).is_empty());
    for quiet in [
        says(Is::InSync, Reason::Available),
        says(Is::Suspended, Reason::Suspended),
        says(Is::Busy { longest: s(60) }, Reason::Provisioning),
        Outcome::More,
    ] {
        assert!(warned(&sample, &quiet).is_empty(), "{quiet:?}");
    }
    let gone = sample.clone().with(|it| it.credentials(missing(), Some(("x", "1"))));
    assert_eq!(warned(&gone, &says(Is::InSync, Reason::Available)), ["SecretNotFound"]);
    let blocked = sample.with(Sample::terminate);
    let outcome = says(Is::Blocked { again: s(1) }, Reason::KeyUnavailable);
    assert_eq!(warned(&blocked, &outcome), ["KeyUnavailable"]);
}

#[test]
fn the_next_retry_is_written_once() {
    let sample = Sample::bound().with(|it| it.remote().status = Some("error".into()));
    let first = sample.settle().status;
    assert_eq!(
        first.provisioning.as_ref().and_then(|it| it.next_attempt_at.as_deref()),
        Some("2026-01-10T08:01:00Z")
    );
    let later =
        Sample { status: first.clone(), ..sample }.with(|it| it.now += jiff::SignedDuration::from_secs(20));
    let second = later.settle();
    assert_eq!((second.status, second.wake), (first, Some(s(40))));
}
