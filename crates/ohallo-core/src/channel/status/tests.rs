mod beside;
mod facts;

use serde_json::json;

use super::*;
use crate::api::channel::{ProvisioningStatus, TestStatus};
use crate::backoff;
use crate::channel::fixtures::*;
use crate::classify::Class;
use crate::secret::ApiKey;

type Edit = fn(&mut Sample);

/// Ready's status and reason, Reconciling, Stalled.
type Shown<'a> = (Option<(&'a str, &'a str)>, bool, bool);

fn shown(status: &ChannelStatus) -> Shown<'_> {
    let is = |kind| conditions::is_true(&status.conditions, kind);
    (condition(status, kind::READY), is(kind::RECONCILING), is(kind::STALLED))
}

fn fails(need: Retry, reason: Reason) -> Outcome {
    Outcome::Failed(Failure { retry: need, ..Failure::transient(reason, "It failed.") })
}

fn says(is: ConclusionKind, reason: Reason) -> Outcome {
    Outcome::Settled(Conclusion::of(is, reason, "So it is."))
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
fn each_outcome_of_a_reconcile_of_a_new_channel() {
    let hour = backoff::STALLED_INTERVAL;
    let busy = ConclusionKind::WaitingForRemote { longest: s(60) };
    let rows = [
        (
            says(ConclusionKind::InSync, Reason::Available),
            ("True", "Available"),
            (false, false),
            INTERVAL,
            "in_sync",
        ),
        (
            says(ConclusionKind::InSync, Reason::Disabled),
            ("True", "Disabled"),
            (false, false),
            INTERVAL,
            "in_sync",
        ),
        (
            says(ConclusionKind::InSync, Reason::Observed),
            ("True", "Observed"),
            (false, false),
            INTERVAL,
            "in_sync",
        ),
        (says(busy, Reason::Provisioning), ("False", "Provisioning"), (true, false), s(1), "waiting"),
        (says(busy, Reason::WaitingForDns), ("False", "WaitingForDNS"), (true, false), s(1), "waiting"),
        (says(busy, Reason::UnknownState), ("False", "UnknownState"), (true, false), s(1), "waiting"),
        (says(busy, Reason::Progressing), ("Unknown", "Progressing"), (true, false), s(1), "waiting"),
        (
            says(ConclusionKind::RetryIn(s(60)), Reason::ProvisioningFailed),
            ("False", "ProvisioningFailed"),
            (true, false),
            s(60),
            "waiting",
        ),
        (
            fails(Retry::MissingInput, Reason::SecretNotFound),
            ("False", "SecretNotFound"),
            (true, false),
            backoff::MISSING_INPUT_INTERVAL,
            "input_missing",
        ),
        (
            says(ConclusionKind::Failed(Retry::MissingInput), Reason::NotCreated),
            ("Unknown", "NotCreated"),
            (true, false),
            backoff::MISSING_INPUT_INTERVAL,
            "input_missing",
        ),
        (
            fails(Retry::UserAction, Reason::ValidationFailed),
            ("False", "ValidationFailed"),
            (false, true),
            hour,
            "stalled",
        ),
        (
            fails(Retry::Backoff, Reason::ApiUnavailable),
            ("Unknown", "ApiUnavailable"),
            (true, false),
            Duration::from_millis(500),
            "transient",
        ),
        (
            fails(Retry::RetryAfter(s(77)), Reason::RateLimited),
            ("Unknown", "RateLimited"),
            (true, false),
            s(77),
            "rate_limited",
        ),
        (Outcome::More, ("Unknown", "Progressing"), (true, false), s(1), "progressing"),
        (
            says(ConclusionKind::Suspended, Reason::Suspended),
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
                && !matches!(outcome, Outcome::Settled(ref v) if matches!(v.kind, ConclusionKind::RetryIn(_)))
        );
    }
}

fn shown_word(summary: &Summary) -> (Shown<'_>, &'static str) {
    (shown(&summary.status), summary.result.as_str())
}

#[test]
fn deferred_in_flight_and_finished_reconciles_write_nothing() {
    let sample = settled();
    for (outcome, wake) in [
        (fails(Retry::Deferred(s(3)), Reason::Progressing), Some(s(3))),
        (says(ConclusionKind::InFlight, Reason::Progressing), Some(s(1))),
        (says(ConclusionKind::Finished, Reason::Progressing), None),
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
        (says(ConclusionKind::InSync, Reason::Available), 0),
        (says(ConclusionKind::WaitingForRemote { longest: s(60) }, Reason::Provisioning), 0),
        (fails(Retry::MissingInput, Reason::SecretNotFound), 0),
        (fails(Retry::UserAction, Reason::ValidationFailed), 0),
        (fails(Retry::Backoff, Reason::InternalError), 3),
        (fails(Retry::RetryAfter(s(9)), Reason::RateLimited), 2),
        (fails(Retry::Deferred(s(9)), Reason::Progressing), 2),
        (Outcome::More, 2),
    ] {
        assert_eq!(counted(&outcome), expected, "{outcome:?}");
    }
}

#[test]
fn ready_outlives_three_failures_in_a_row_and_nothing_is_written_meanwhile() {
    let mut sample = settled();
    let before = sample.status.clone();
    let unavailable = fails(Retry::Backoff, Reason::ApiUnavailable);
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
fn ready_lapses_when_the_channel_was_not_read_for_two_intervals() {
    let turn = fails(Retry::Deferred(s(3)), Reason::Progressing);
    let limited = fails(Retry::RetryAfter(s(900)), Reason::RateLimited);
    let unavailable = fails(Retry::Backoff, Reason::ApiUnavailable);
    for (outcome, said) in [
        (&turn, "RateLimited"),
        (&limited, "RateLimited"),
        (&unavailable, "ApiUnavailable"),
        (&Outcome::More, "Progressing"),
    ] {
        let read = |ago| settled().with(|it| it.memory.last_read_at = it.instant.checked_sub(ago));
        let fresh = read(INTERVAL * 2 - s(1)).summarize(outcome);
        assert_eq!(shown(&fresh.status), (Some(("True", "Available")), false, false), "{outcome:?}");
        assert!(fresh.wake <= Some(s(1)), "requeued when Ready expires: {:?}", fresh.wake);
        assert_eq!(fresh.silent, outcome.silent());
        let old = read(INTERVAL * 2);
        let lapsed = old.summarize(outcome);
        assert_eq!(shown(&lapsed.status), (Some(("Unknown", said)), true, false), "{outcome:?}");
        assert!(!lapsed.silent);
        // It is reported once.
        let after = Sample { status: lapsed.status.clone(), ..old };
        assert_eq!(after.summarize(outcome).silent, outcome.silent());
    }
    let unread = settled().summarize(&limited);
    assert_eq!(unread.wake, Some(s(900)), "a process that has just started waits for its first read");
    let terminating = Sample::terminating()
        .after(&Outcome::More)
        .with(|it| it.memory.last_read_at = it.instant.checked_sub(INTERVAL * 9));
    assert!(terminating.summarize(&turn).silent);
}

#[test]
fn ready_of_an_older_generation_outlives_no_failure() {
    for (outcome, reason) in [
        (fails(Retry::Backoff, Reason::ApiUnavailable), "ApiUnavailable"),
        (fails(Retry::RetryAfter(s(5)), Reason::RateLimited), "RateLimited"),
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
    let stalled = Sample::bound().after(&fails(Retry::UserAction, Reason::ValidationFailed));
    let status = stalled.summarize(&fails(Retry::Backoff, Reason::ApiUnavailable)).status;
    assert_eq!(shown(&status), (Some(("False", "ValidationFailed")), false, true));
}

#[test]
fn a_workspace_that_is_not_ready_sets_a_bound_channel_to_unknown_and_another_to_false() {
    let outcome = fails(Retry::MissingInput, Reason::WorkspaceNotReady);
    let bound = settled().summarize(&outcome).status;
    assert_eq!(shown(&bound), (Some(("Unknown", "WorkspaceNotReady")), true, false));
    let new = Sample::unbound().summarize(&outcome).status;
    assert_eq!(shown(&new), (Some(("False", "WorkspaceNotReady")), true, false));
}

#[test]
fn the_next_poll_of_an_unfinished_channel_is_after_a_quarter_of_the_elapsed_time() {
    let busy = says(ConclusionKind::WaitingForRemote { longest: s(60) }, Reason::Provisioning);
    let sample = Sample::bound().with(|it| it.memory.waiting_since = Some(it.instant - s(40)));
    assert_eq!(sample.summarize(&busy).wake, Some(s(10)));
    let restarted = Sample::bound().after(&busy).with(|it| it.now += jiff::SignedDuration::from_secs(100));
    assert_eq!(restarted.summarize(&busy).wake, Some(s(25)));
    let was_ready = settled().with(|it| it.now += jiff::SignedDuration::from_secs(100));
    assert_eq!(was_ready.summarize(&busy).wake, Some(s(1)));
}

#[test]
fn values_to_send_again_requeue_in_time_and_only_once() {
    let wake = |outcome: &Outcome, ahead: u64, ago: u64| {
        let sample = settled().with(|it| {
            it.memory.resend_credentials_at = (ahead > 0).then(|| it.instant + s(ahead));
            it.memory.resend_enabled_at = (ago > 0).then(|| it.instant - s(ago));
        });
        sample.summarize(outcome).wake.unwrap()
    };
    let in_sync = says(ConclusionKind::InSync, Reason::Available);
    assert_eq!(wake(&in_sync, 60, 0), s(60));
    assert_eq!(wake(&in_sync, 60, 5), s(60));
    for (outcome, regular) in [
        (in_sync, INTERVAL),
        (fails(Retry::UserAction, Reason::PermissionDenied), backoff::STALLED_INTERVAL),
        (fails(Retry::RetryAfter(s(900)), Reason::RateLimited), s(900)),
        (says(ConclusionKind::Suspended, Reason::Suspended), backoff::STALLED_INTERVAL),
    ] {
        assert_eq!(wake(&outcome, 0, 5), regular, "{outcome:?}: what is overdue must not spin");
    }
}
