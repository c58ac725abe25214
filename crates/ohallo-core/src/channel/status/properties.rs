//! Properties of every status that is written.

use proptest::prelude::*;

use super::*;
use crate::api::values::RecordedOutcome;
use crate::channel::fixtures::arbitrary::odd;
use crate::channel::fixtures::*;
use crate::channel::model::Plan;

/// A possible outcome of the reconcile: its plan, or a failure.
fn outcome_of(sample: &Sample, dice: u8) -> Outcome {
    let failure =
        |need, reason| Failure { retry: need, ..Failure::transient(reason, "It failed\r\n  here.") };
    match dice {
        0 => Outcome::Failed(failure(Retry::Backoff, Reason::ApiUnavailable)),
        1 => Outcome::Failed(failure(Retry::Backoff, Reason::InternalError)),
        2 => Outcome::Failed(failure(Retry::UserAction, Reason::AuthenticationFailed)),
        3 => Outcome::Failed(failure(Retry::MissingInput, Reason::WorkspaceNotReady)),
        4 => Outcome::Failed(failure(Retry::RetryAfter(s(30)), Reason::RateLimited)),
        5 => Outcome::PushFailed(failure(Retry::Backoff, Reason::ApiUnavailable)),
        6 => Outcome::PushFailed(failure(Retry::UserAction, Reason::PermissionDenied)),
        7 => Outcome::More,
        _ => match sample.plan() {
            Plan::Settled(verdict) => Outcome::Settled(verdict),
            Plan::Work(_) => Outcome::More,
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn saying_the_same_twice_writes_nothing(sample in odd(), first in 0..20_u8, second in 0..16_u8) {
        let sample = if first < 16 { sample.clone().after(&outcome_of(&sample, first)) } else { sample };
        let outcome = outcome_of(&sample, second);
        let failures = sample.memory.failures;
        let said = sample.after(&outcome);
        let again = said.clone().with(|it| {
            it.memory.failures = failures;
            it.now += jiff::SignedDuration::from_secs(5);
            it.instant += s(5);
        });
        prop_assert_eq!(again.summarize(&outcome).status, said.status, "{:?}", outcome);
    }

    #[test]
    fn conditions_are_as_kstatus_reads_them(sample in odd(), outcomes in prop::collection::vec(0..16_u8, 1..4)) {
        let mut sample = sample;
        for dice in outcomes {
            let outcome = outcome_of(&sample, dice);
            sample = sample.after(&outcome);
            let list = &sample.status.conditions;
            let is = |kind| conditions::is_true(list, kind);
            prop_assert!(!(is(kind::RECONCILING) && is(kind::STALLED)));
            for kind in [kind::RECONCILING, kind::STALLED, kind::DRIFTED, kind::SUSPENDED, kind::DELETION_BLOCKED] {
                prop_assert!(conditions::find(list, kind).is_none() || is(kind), "{} is not True", kind);
            }
            let ready = conditions::find(list, kind::READY);
            for kind in [kind::RECONCILING, kind::STALLED] {
                let beside = conditions::find(list, kind);
                prop_assert!(beside.is_none_or(|beside| Some(&beside.reason) == ready.map(|ready| &ready.reason)));
            }
            prop_assert!(!(is(kind::READY) && (is(kind::RECONCILING) || is(kind::STALLED))));
            for condition in list {
                let message = &condition.message;
                prop_assert!(!message.is_empty() && message.trim() == message && !message.contains(['\n', '\r']), "{:?}", message);
                prop_assert!(condition.observed_generation.is_some() && message.chars().count() <= conditions::MESSAGE);
            }
        }
    }

    #[test]
    fn what_must_not_be_lost_is_never_changed(sample in odd(), dice in 0..16_u8) {
        let outcome = outcome_of(&sample, dice);
        let status = sample.summarize(&outcome).status;
        let (old, new) = (&sample.status, &status);
        prop_assert_eq!(&old.channel_id, &new.channel_id);
        prop_assert_eq!(&old.bound_uid, &new.bound_uid);
        // Removed fields of a binding are restored.
        prop_assert!(old.workspace_id.is_none() || old.workspace_id == new.workspace_id);
        let known = matches!(old.origin.as_deref(), Some("Created" | "Adopted"));
        prop_assert!(old.origin == new.origin || (!known && sample.view().bound_id().is_some()));
        let unresolved = sample.view().binding().unresolved_create().is_some_and(|attempt| {
            new.create.as_ref().is_some_and(|new| {
                new.attempt == attempt.number && new.outcome() == Some(RecordedOutcome::Unknown)
            })
        });
        prop_assert!(new.create == old.create || new.channel_id.is_some() || unresolved);
    }

    #[test]
    fn only_a_reconcile_in_flight_or_finished_omits_ready(sample in odd(), dice in 0..16_u8) {
        let outcome = outcome_of(&sample, dice);
        let summary = sample.summarize(&outcome);
        let terminating = sample.view().terminating();
        if !matches!(summary.result.as_str(), "in_flight" | "gone") && !terminating {
            prop_assert!(conditions::find(&summary.status.conditions, kind::READY).is_some(), "{:?}", outcome);
        }
        prop_assert_eq!(summary.wake.is_none(), summary.result.as_str() == "gone");
    }
}
