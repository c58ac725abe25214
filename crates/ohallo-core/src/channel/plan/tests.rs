use serde_json::json;

use super::*;
use crate::api::channel::{ChannelSpec, ChannelStatus, ConfigSize, CreateStatus, LeftOut};
use crate::channel::config;
use crate::channel::fixtures::*;
use crate::channel::in_memory_state::AttemptOutcome;
use crate::failure::Failure;
use crate::remote::NewChannel;
use crate::text::cut_request;

fn recorded(number: i64, outcome: &str) -> Option<CreateStatus> {
    Some(CreateStatus { attempt: number, outcome: outcome.into(), sent_at: None })
}

fn not_ready() -> Failure {
    Failure::missing_input(Reason::WorkspaceNotReady, "The workspace is not ready.")
}

fn not_allowed() -> Failure {
    Failure::user_action(Reason::WorkspaceNotAllowed, "The workspace does not allow this.")
}

const INPUT: ConclusionKind = ConclusionKind::Failed(Retry::MissingInput);
const USER: ConclusionKind = ConclusionKind::Failed(Retry::UserAction);

#[test]
fn a_new_channel_is_created_as_declared_without_nulls() {
    let sample = Sample::unbound().with(|it| {
        it.channel.spec.config = Some(map(json!({"a": 1, "n": null, "o": {"n": null}})));
        it.channel.spec.enabled = Some(false);
    });
    let body = NewChannel {
        channel_type: "chat".into(),
        display_name: "Support".into(),
        config: Some(map(json!({"a": 1, "o": {}}))),
        enabled: Some(false),
    };
    assert_eq!(sample.step(), Step::WriteIntent { attempt: 1 });
    let intended = sample.with(|it| it.observed.intent_written = Some(1));
    assert_eq!(intended.step(), Step::PostCreate { attempt: 1, body });
    let bare = Sample::unbound().with(|it| it.observed.intent_written = Some(1));
    assert!(matches!(bare.step(), Step::PostCreate { attempt: 1, body } if body.config.is_none()));
}

#[test]
fn a_create_waits_for_all_that_it_needs() {
    type Edit = fn(&mut Sample);
    let rows: [(&str, Edit, ConclusionKind, Reason); 9] = [
        (
            "suspended",
            |it| it.channel.spec.suspend = Some(true),
            ConclusionKind::Suspended,
            Reason::Suspended,
        ),
        (
            "workspace suspended",
            |it| it.observed.workspace_suspended = true,
            ConclusionKind::Suspended,
            Reason::WorkspaceSuspended,
        ),
        (
            "observe",
            |it| it.channel.spec.management_policy = Some("Observe".into()),
            INPUT,
            Reason::NotCreated,
        ),
        ("not ready", |it| it.observed.workspace = Err(not_ready()), INPUT, Reason::WorkspaceNotReady),
        ("not allowed", |it| it.observed.workspace = Err(not_allowed()), USER, Reason::WorkspaceNotAllowed),
        ("too large", |it| it.channel.spec.config = Some(too_large()), USER, Reason::ValidationFailed),
        ("no Secret", |it| it.credentials(missing(), None), INPUT, Reason::SecretNotFound),
        ("bad Secret", |it| it.credentials(invalid(), None), USER, Reason::SecretInvalid),
        ("unsupported", |it| it.place().create_unsupported = true, USER, Reason::CreateUnsupported),
    ];
    for (name, edit, is, reason) in rows {
        assert_eq!(Sample::unbound().with(edit).says(), (is, reason), "{name}");
    }
}

#[test]
fn a_refused_create_is_tried_again_at_once_only_for_a_new_request() {
    let mut sample = Sample::unbound().with(|it| it.place().create_unsupported = true);
    sample.annotate(annotation::RECONCILE_REQUESTED, "1");
    assert!(matches!(sample.step(), Step::WriteIntent { .. }));
    sample.status.last_handled_reconcile_at = Some("1".into());
    assert_eq!(sample.says(), (USER, Reason::CreateUnsupported));
}

#[test]
fn observe_reports_that_manage_would_create() {
    let sample = Sample::unbound().with(|it| it.channel.spec.management_policy = Some("Observe".into()));
    assert_eq!(sample.verdict().planned, ["create channel"]);
}

/// A Channel whose create was sent, by its finalizer and annotation.
fn sent() -> Sample {
    Sample::unbound().with(|it| {
        it.annotate(annotation::CREATE_INTENT, INTENT);
        it.channel.metadata.finalizers = Some(vec![crate::api::finalizer::CHANNEL.into()]);
    })
}

#[test]
fn the_finalizer_of_an_unresolved_channel_is_restored() {
    let unmarked = sent().with(|it| it.channel.metadata.finalizers = None);
    assert_eq!(unmarked.step(), Step::RestoreMetadata);
    let replaced = unmarked.clone().with(|it| {
        it.channel.metadata.annotations = None;
        it.status.create = recorded(1, "Unknown");
    });
    assert_eq!(replaced.step(), Step::RestoreMetadata);
    let observing = unmarked.clone().with(|it| it.channel.spec.management_policy = Some("Observe".into()));
    assert_eq!(observing.says(), (USER, Reason::CreateOutcomeUnknown));
    let copied = unmarked.with(|it| it.annotate(annotation::CREATE_INTENT, "uid-0/1/2026-01-10T07:00:00Z"));
    assert_eq!(copied.says(), (USER, Reason::CreateOutcomeUnknown), "another object's attempt");
}

#[test]
fn an_unresolved_attempt_is_recorded_by_a_process_that_only_finds_its_intent() {
    for sample in [sent(), sent().with(Sample::terminate)] {
        let create = sample.settle().status.create.unwrap();
        assert_eq!((create.attempt, create.outcome.as_str()), (1, "Unknown"));
        assert_eq!(create.sent_at.as_deref(), Some("2026-01-10T07:00:00Z"));
        let replaced = sample.clone().with(|it| {
            it.status = sample.settle().status;
            it.channel.metadata.annotations = None;
        });
        assert!(!matches!(replaced.plan(), Plan::Work(Step::WriteIntent { .. } | Step::RemoveFinalizer(_))));
    }
}

#[test]
fn only_an_attempt_that_created_nothing_is_followed_by_another() {
    for (outcome, next) in [("Rejected", Some(2)), ("NotSent", Some(2)), ("Unknown", None), ("", None)] {
        let sample = sent().with(|it| it.status.create = recorded(1, outcome));
        match next {
            Some(next) => {
                assert!(
                    matches!(sample.step(), Step::WriteIntent { attempt } if attempt == next),
                    "{outcome}"
                );
            }
            None => assert_eq!(sample.says(), (USER, Reason::CreateOutcomeUnknown), "{outcome}"),
        }
    }
}

#[test]
fn an_unresolved_create_names_both_remedies_and_the_candidates() {
    let sample = sent().with(|it| {
        it.observed.candidates = vec!["c7".into(), "c8".into()];
    });
    let message = sample.verdict().message;
    for part in
        ["status.create.sentAt", "chat", "\"Support\"", "c7, c8", "spec.channelId", "create-again=uid-1/1"]
    {
        assert!(message.contains(part), "{part}: {message}");
    }
    let again = sample.clone().with(|it| it.annotate(annotation::CREATE_AGAIN, "uid-1/1"));
    assert!(matches!(again.step(), Step::WriteIntent { attempt: 2 }));
    let wrong = sample.with(|it| it.annotate(annotation::CREATE_AGAIN, "uid-1/2"));
    assert_eq!(wrong.says(), (USER, Reason::CreateOutcomeUnknown));
}

#[test]
fn an_attempt_of_this_process_is_waited_for_and_its_answer_recorded_first() {
    let flying = |it: &mut Sample| it.memory.attempt = attempt(1, AttemptOutcome::InFlight);
    assert_eq!(Sample::unbound().with(flying).says().0, ConclusionKind::InFlight);
    assert_eq!(Sample::terminating().with(flying).says().0, ConclusionKind::InFlight);
    let answered = Sample::bound().with(|it| {
        let remote = Box::new(it.remote().clone());
        it.memory.attempt = attempt(1, AttemptOutcome::Answered(remote));
        it.status = ChannelStatus::default();
    });
    assert_eq!(answered.step(), Step::RecordId { attempt: 1 });
    let suspended = answered.clone().with(|it| it.channel.spec.suspend = Some(true));
    assert_eq!(suspended.step(), Step::RecordId { attempt: 1 });
    let gone = answered.clone().with(Sample::terminate);
    assert_eq!(gone.step(), Step::RecordId { attempt: 1 });
    let other = answered.with(|it| it.channel.spec.channel_id = Some("c2".into()));
    assert_eq!(other.says(), (USER, Reason::CreateOutcomeUnknown));
    assert!(other.verdict().message.contains("c1") && other.verdict().message.contains("c2"));
}

#[test]
fn a_status_of_another_object_is_only_read_until_the_manifest_names_its_id() {
    let foreign = Sample::bound().with(|it| it.status.bound_uid = Some("uid-0".into()));
    assert_eq!(foreign.says(), (USER, Reason::CreateOutcomeUnknown));
    assert!(foreign.verdict().message.contains("spec.channelId to c1"));
    let named = foreign.with(|it| it.channel.spec.channel_id = Some(ID.into()));
    assert_eq!(named.step(), Step::Adopt { id: id() }, "it is adopted again");
    let observing = named.with(|it| it.channel.spec.management_policy = Some("Observe".into()));
    assert_eq!(observing.says(), (ConclusionKind::InSync, Reason::Observed));
}

#[test]
fn a_suspended_channel_is_left_alone_whatever_else_is_wrong() {
    for sample in [Sample::unbound(), Sample::bound(), Sample::adopting()] {
        let sample = sample.with(|it| {
            it.channel.spec.suspend = Some(true);
            it.channel.spec.display_name = Some("Other".into());
            it.observed.workspace = Err(not_allowed());
        });
        assert_eq!(sample.says(), (ConclusionKind::Suspended, Reason::Suspended));
    }
}

#[test]
fn a_request_longer_than_the_status_field_is_handled_once() {
    let long = "9".repeat(300);
    let mut sample = Sample::bound();
    sample.annotate(annotation::RECONCILE_REQUESTED, &long);
    assert!(sample.view().reconcile_requested());
    sample.status.last_handled_reconcile_at = Some(cut_request(&long));
    assert!(!sample.view().reconcile_requested());
    assert_eq!(cut_request(&"ä".repeat(300)).chars().count(), 256);
}

#[test]
fn config_is_judged_by_its_bytes_of_json() {
    let with = |length: usize| {
        let config = Some(map(json!({ "a": "x".repeat(length) })));
        invalid_spec(&ChannelSpec { config, ..ChannelSpec::default() }).is_some()
    };
    let rest = json!({"a": ""}).to_string().len();
    assert!(!with(65_536 - rest));
    assert!(with(65_536 - rest + 1));
    assert!(invalid_spec(&ChannelSpec::default()).is_none());
}

#[test]
fn a_config_that_was_left_out_is_judged_by_its_size_and_is_else_unknown() {
    for (bytes, decoded, reason) in [
        (65_537, 65_537, Reason::ValidationFailed),
        (65_536, config::MAX_DECODED + 1, Reason::ValidationFailed),
        (65_536, config::MAX_DECODED, Reason::Progressing),
        (2, 2, Reason::Progressing),
    ] {
        let config = Some(ConfigSize { bytes, decoded });
        let left_out = Some(Box::new(LeftOut { config, ..LeftOut::default() }));
        let missing = |it: &mut Sample| it.channel.spec.left_out = left_out.clone();
        for sample in [Sample::unbound(), Sample::bound()].map(|sample| sample.with(missing)) {
            let Plan::Settled(verdict) = plan(&sample.view()) else {
                panic!("it acts on what it does not know")
            };
            assert_eq!(verdict.reason, reason, "{bytes} {decoded}");
        }
    }
}
