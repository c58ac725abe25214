//! Properties of every plan input, however unusual.

use proptest::prelude::*;

use super::*;
use crate::channel::binding::DeletionBinding;
use crate::channel::consistency::Answer;
use crate::channel::fixtures::arbitrary::odd;
use crate::channel::fixtures::*;
use crate::channel::model::{DeletionOutcome, Outcome, Remote};
use crate::channel::plan::existing;

/// Whether the step changes something in oHallo.
fn writes(step: &Step) -> bool {
    match step {
        Step::WriteIntent { .. }
        | Step::PostCreate { .. }
        | Step::Update { .. }
        | Step::PushCredentials { .. }
        | Step::Retry { .. }
        | Step::Test { .. }
        | Step::Delete { .. } => true,
        Step::RecordId { .. } | Step::Adopt { .. } | Step::RestoreMetadata | Step::RemoveFinalizer(_) => {
            false
        }
    }
}

fn usable(sample: &Sample) -> bool {
    let recorded = sample.status.workspace_id.as_deref().filter(|_| sample.status.channel_id.is_some());
    sample
        .observed
        .workspace
        .as_ref()
        .is_ok_and(|place| recorded.is_none_or(|id| id == place.workspace_id.as_str()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_written_to_ohallo_where_nothing_may_be(sample in odd()) {
        let Plan::Work(step) = sample.plan() else { return Ok(()) };
        if !writes(&step) {
            return Ok(());
        }
        let view = sample.view();
        prop_assert!(!view.observing(), "{:?}", step);
        prop_assert!(view.spec().suspend != Some(true) && !sample.observed.workspace_suspended, "{:?}", step);
        prop_assert!(usable(&sample), "{:?}", step);
        let ranks = sample.observed.owner.is_none();
        prop_assert!(ranks || matches!(step, Step::WriteIntent { .. } | Step::Delete { .. }), "{:?}", step);
    }

    #[test]
    fn only_a_channel_that_was_read_and_bound_and_marked_is_changed(sample in odd()) {
        let Plan::Work(step) = sample.plan() else { return Ok(()) };
        if matches!(step, Step::Update { .. } | Step::PushCredentials { .. } | Step::Retry { .. } | Step::Test { .. }) {
            let view = sample.view();
            prop_assert!(matches!(view.binding(), ObjectBinding::Living(Binding::Bound(_))));
            let known = matches!(sample.observed.remote, Remote::SkippedRead { .. })
                && matches!(step, Step::PushCredentials { .. } | Step::Test { .. });
            prop_assert!(known || matches!(sample.observed.remote, Remote::Found(_)));
            prop_assert!(view.has_finalizer() && !view.terminating());
        }
    }

    #[test]
    fn a_create_needs_the_standing_to_create(sample in odd()) {
        if let Plan::Work(Step::WriteIntent { attempt }) = sample.plan() {
            prop_assert_eq!(sample.view().binding(), ObjectBinding::Living(Binding::Create { attempt }));
            prop_assert!(sample.status.channel_id.is_none() && sample.channel.spec.channel_id.is_none());
        }
    }

    #[test]
    fn a_delete_needs_the_policy_the_finalizer_and_an_id_of_its_own(sample in odd()) {
        if let Plan::Work(Step::Delete { id }) = sample.plan() {
            let view = sample.view();
            prop_assert!(view.terminating() && view.has_finalizer());
            prop_assert!(delete::should_delete_remote(&sample.channel, &sample.status));
            prop_assert!(view.spec().deletion_policy.as_deref() != Some("Retain"));
            prop_assert_eq!(sample.status.channel_id.as_deref(), Some(id.as_str()));
            prop_assert!(matches!(view.binding(), ObjectBinding::Terminating(DeletionBinding::Bound(_))));
            let claims = sample.observed.claims.as_ref().unwrap();
            prop_assert!(claims.heir.is_none() && !claims.outranked && claims.beside.is_empty());
            let word = delete::claims::confirmed(&view, id.as_str());
            prop_assert!(word || claims.elsewhere != Some(crate::index::Elsewhere::Shown));
            prop_assert!(word || sample.memory.wait.as_ref().is_none_or(|wait| wait.free.is_some()));
        }
    }

    #[test]
    fn the_finalizer_is_removed_only_when_nothing_is_left_or_may_be_left(sample in odd()) {
        let Plan::Work(Step::RemoveFinalizer(outcome)) = sample.plan() else { return Ok(()) };
        let view = sample.view();
        prop_assert!(view.terminating() && view.has_finalizer());
        let ObjectBinding::Terminating(binding) = view.binding() else { panic!("living") };
        match outcome {
            DeletionOutcome::NeverCreated => prop_assert_eq!(binding, DeletionBinding::NeverCreated),
            DeletionOutcome::Deleted => {
                let absent = matches!(sample.observed.remote, Remote::Absent { proven } if proven);
                prop_assert!(sample.memory.deleted || absent);
            }
            DeletionOutcome::Released => prop_assert!(view.annotation(annotation::RELEASE).is_some()),
            DeletionOutcome::HandedOver => {
                prop_assert!(sample.observed.claims.as_ref().is_some_and(|claims| claims.heir.is_some()));
            }
            DeletionOutcome::Retained => prop_assert!(
                !delete::should_delete_remote(&sample.channel, &sample.status)
                    || matches!(binding, DeletionBinding::StatusOfOtherObject(_))
            ),
        }
    }

    #[test]
    fn inside_a_window_no_step_and_no_verdict_contradicts_the_last_write(sample in odd()) {
        let window = &sample.observed.window;
        let shown = window.values.as_ref().is_some_and(|(_, sent)| {
            matches!(sent.answer, Answer::Shows(_)) && sent.declared == sample.view().values_digest()
        });
        let stale = matches!(sample.observed.remote, Remote::Stale { .. });
        match sample.plan() {
            Plan::Work(Step::Update { changes, .. }) if shown && !sample.observed.updated => {
                prop_assert!(changes.display_name.is_none() && changes.config.is_none(), "it is sent again");
            }
            Plan::Work(Step::Adopt { .. }) => prop_assert!(window.deleted.is_none(), "its DELETE was ok"),
            Plan::Work(Step::RemoveFinalizer(DeletionOutcome::Deleted)) => prop_assert!(sample.memory.deleted || !stale),
            Plan::Work(_) => {}
            Plan::Settled(verdict) => {
                prop_assert!(!stale || verdict.reason != Reason::ChannelNotFound);
                let fights = verdict.reason == Reason::NotConverging;
                prop_assert!(!fights || !shown || sample.observed.updated, "{:?}", verdict);
                let failed = verdict.reason == Reason::ProvisioningFailed;
                prop_assert!(!failed || window.retry.is_none(), "{:?}", verdict);
            }
        }
    }

    #[test]
    fn every_conclusion_has_one_plain_sentence(sample in odd()) {
        let Plan::Settled(verdict) = sample.plan() else { return Ok(()) };
        if !matches!(verdict.kind, ConclusionKind::InFlight | ConclusionKind::Finished) {
            prop_assert!(verdict.message.ends_with('.') && !verdict.message.ends_with(".."), "{}", verdict.message);
        }
        prop_assert!(verdict.drift.len() <= 16 && verdict.planned.len() <= 16);
        prop_assert!(verdict.planned.is_empty() || sample.view().observing());
    }

    #[test]
    fn ready_is_claimed_only_with_nothing_left_to_do(sample in odd()) {
        let Plan::Settled(verdict) = sample.plan() else { return Ok(()) };
        if verdict.kind == ConclusionKind::InSync && verdict.reason != Reason::Observed {
            prop_assert!(!existing::push_due(&sample.view()));
            let Remote::Found(remote) = &sample.observed.remote else {
                prop_assert!(existing::known_active(&sample.view()), "not read");
                return Ok(());
            };
            prop_assert_eq!(remote.status.as_deref(), Some("active"));
            let report = sample.channel.spec.drift_policy.as_deref() == Some("Report");
            prop_assert!(sample.view().differences(remote).is_empty() || report);
            let enabled = sample.channel.spec.enabled;
            let applied = sample.status.applied.as_ref().and_then(|applied| applied.enabled);
            prop_assert!(enabled.is_none() || enabled == applied);
        }
        let summary = sample.summarize(&Outcome::Settled(verdict));
        prop_assert!(summary.wake.is_none_or(|wake| wake > s(0)));
    }
}
