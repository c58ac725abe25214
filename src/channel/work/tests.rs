mod credentials;
mod state;

use serde_json::json;

use super::*;
use crate::api::channel::{ProvisioningRetry, ProvisioningStatus, TestStatus};
use crate::api::conditions::kind;
use crate::channel::memory::{CONTESTED, LATE};
use crate::channel::plan::Place;
use crate::channel::sample::*;
use crate::conditions::{Status, Writer};
use crate::error::Failure;

type Edit = fn(&mut Sample);

const USER: Is = Is::Needs(Need::User);
const TIME: Is = Is::Needs(Need::Time);
const SOON: Is = Is::Busy { longest: LONGEST_POLL };

fn update_of(sample: &Sample) -> (Changes, Vec<String>, Cause) {
    match sample.step() {
        Step::Update { id, changes, fields, cause } if id.as_str() == ID => (changes, fields, cause),
        other => panic!("{other:?}"),
    }
}

fn pushes(sample: &Sample) -> bool {
    matches!(sample.plan(), Plan::Work(Step::PushCredentials { .. }))
}

/// The credentials were said to be applied for this generation.
fn said_applied(it: &mut Sample, generation: i64) {
    let mut writer = Writer::new(&mut it.status.conditions, generation, it.now);
    writer.set(kind::CREDENTIALS_APPLIED, Status::True, Reason::Applied, "Sent.");
}

#[test]
fn nothing_is_written_for_a_channel_that_is_not_ours_or_not_there() {
    let rows: [(&str, Edit, Is, Reason); 12] = [
        ("no id", |it| it.channel.spec.channel_id = Some("..".into()), USER, Reason::ValidationFailed),
        (
            "not ready",
            |it| it.observed.place = Err(Failure::input(Reason::WorkspaceNotReady, "")),
            Is::Needs(Need::Input),
            Reason::WorkspaceNotReady,
        ),
        (
            "not allowed",
            |it| it.observed.place = Err(Failure::user(Reason::WorkspaceNotAllowed, "")),
            USER,
            Reason::WorkspaceNotAllowed,
        ),
        ("owned", |it| it.observed.owner = Some(None), USER, Reason::OwnershipConflict),
        ("owned here", |it| it.observed.owner = Some(Some("a".into())), USER, Reason::OwnershipConflict),
        ("gone", |it| it.observed.remote = Remote::Absent { proven: true }, USER, Reason::ChannelNotFound),
        (
            "not proven",
            |it| it.observed.remote = Remote::Absent { proven: false },
            TIME,
            Reason::UnexpectedResponse,
        ),
        ("unread", |it| it.observed.remote = Remote::Unread, TIME, Reason::Progressing),
        (
            "another type",
            |it| it.remote().channel_type = Some("email".into()),
            USER,
            Reason::IdentityMismatch,
        ),
        (
            "another workspace",
            |it| it.remote().workspace_id = Some("ws2".into()),
            USER,
            Reason::IdentityMismatch,
        ),
        ("too large", |it| it.channel.spec.config = Some(too_large()), USER, Reason::ValidationFailed),
        ("suspended", |it| it.observed.workspace_suspended = true, Is::Suspended, Reason::WorkspaceSuspended),
    ];
    for (name, edit, is, reason) in rows {
        let adopting = Sample::adopting().with(edit);
        assert_eq!(adopting.says(), (is, reason), "adopting, {name}");
        if name != "no id" {
            let bound = Sample::bound().with(|it| it.channel.spec.display_name = Some("B".into())).with(edit);
            assert_eq!(bound.says(), (is, reason), "bound, {name}");
        }
    }
}

#[test]
fn a_conflict_names_the_winner_only_where_it_may_be_told() {
    let named = Sample::bound().with(|it| it.observed.owner = Some(Some("first".into())));
    assert!(named.verdict().message.contains("\"first\""));
    let hidden = Sample::bound().with(|it| it.observed.owner = Some(None));
    assert!(hidden.verdict().message.contains("nother Channel"));
}

#[test]
fn a_bound_channel_is_not_touched_under_another_workspace_than_its_own() {
    let moved = Sample::bound().with(|it| it.place().workspace_id = Id::parse("ws2").unwrap());
    assert_eq!(moved.says(), (USER, Reason::IdentityMismatch));
    assert!(matches!(&moved.observed.place, Ok(Place { .. })));
}

#[test]
fn what_ohallo_does_not_tell_is_enough_to_keep_a_channel_and_not_to_adopt_one() {
    for edit in [(|it| it.remote().channel_type = None) as Edit, |it| it.remote().workspace_id = None] {
        assert_eq!(Sample::bound().with(edit).says(), (Is::InSync, Reason::Available));
        assert_eq!(Sample::adopting().with(edit).says(), (USER, Reason::IdentityMismatch));
    }
}

#[test]
fn a_channel_is_adopted_before_anything_of_it_is_changed() {
    let sample = Sample::adopting().with(|it| it.channel.spec.display_name = Some("Other".into()));
    assert_eq!(sample.step(), Step::Adopt { id: id() });
    let after_unknown = sample.with(|it| it.annotate(annotation::CREATE_INTENT, INTENT));
    assert_eq!(after_unknown.step(), Step::Adopt { id: id() });
}

#[test]
fn marks_that_were_removed_are_put_back() {
    let intent = |it: &mut Sample| it.channel.metadata.annotations = None;
    assert_eq!(Sample::bound().with(|it| it.channel.metadata.finalizers = None).step(), Step::RestoreMarks);
    assert_eq!(Sample::bound().with(intent).step(), Step::RestoreMarks);
    let adopted = Sample::bound().with(intent).with(|it| it.status.origin = Some("Adopted".into()));
    assert_eq!(adopted.says(), (Is::InSync, Reason::Available), "an adopted one never had an intent");
}

#[test]
fn an_update_carries_the_whole_config_and_only_fields_that_differ() {
    let sample = Sample::bound().with(|it| it.config(json!({"a": 2}), json!({"a": 1, "kept": true})));
    let config = Some(map(json!({"a": 2, "kept": true})));
    let expected = Changes { config, ..Changes::default() };
    assert_eq!(update_of(&sample), (expected, vec!["config.a".into()], Cause::Manifest));
    let sample = Sample::bound().with(|it| it.channel.spec.display_name = Some("New".into()));
    let expected = Changes { display_name: Some("New".into()), ..Changes::default() };
    assert_eq!(update_of(&sample), (expected, vec!["displayName".into()], Cause::Manifest));
}

#[test]
fn drift_is_put_back_or_reported() {
    let drifted = Sample::bound().with(|it| it.remote().display_name = Some("Theirs".into()));
    let (changes, _, cause) = update_of(&drifted);
    assert_eq!((changes.display_name.as_deref(), cause), (Some("Support"), Cause::Drift));
    let reported = drifted.with(|it| it.channel.spec.drift_policy = Some("Report".into()));
    let verdict = reported.verdict();
    assert_eq!((verdict.is, verdict.reason), (Is::InSync, Reason::Available));
    let drift = Difference {
        path: "displayName".into(),
        declared: Some("Support".into()),
        actual: Some("Theirs".into()),
    };
    assert_eq!(verdict.drift, [drift]);
    let changed = reported.with(|it| it.channel.spec.display_name = Some("New".into()));
    assert_eq!(update_of(&changed).2, Cause::Manifest, "a change of the manifest is applied");
}

#[test]
fn enabled_is_sent_when_it_is_another_than_was_last_sent() {
    let enabled = |declared: Option<bool>, applied: Option<bool>| {
        Sample::bound().with(|it| {
            it.channel.spec.enabled = declared;
            it.applied();
            it.status.applied.as_mut().unwrap().enabled = applied;
        })
    };
    for (declared, applied) in [(true, None), (true, Some(false)), (false, None), (false, Some(true))] {
        let expected = Changes { enabled: Some(declared), ..Changes::default() };
        assert_eq!(
            update_of(&enabled(Some(declared), applied)),
            (expected, vec!["enabled".into()], Cause::Manifest)
        );
    }
    for (declared, applied, reason) in [
        (Some(true), Some(true), Reason::Available),
        (Some(false), Some(false), Reason::Disabled),
        (None, Some(false), Reason::Available),
        (None, None, Reason::Available),
    ] {
        assert_eq!(enabled(declared, applied).says(), (Is::InSync, reason), "{declared:?} {applied:?}");
    }
}

#[test]
fn enabled_is_sent_once_more_when_a_late_request_can_no_longer_land() {
    let at = |rest: i64| {
        Sample::bound().with(|it| {
            it.channel.spec.enabled = Some(true);
            it.applied();
            let due = if rest > 0 { it.instant + s(rest.unsigned_abs()) } else { it.instant };
            it.memory.enabled_again = Some(due);
        })
    };
    assert_eq!(at(1).says(), (Is::InSync, Reason::Available));
    assert_eq!(update_of(&at(0)).0, Changes { enabled: Some(true), ..Changes::default() });
    let unmanaged = at(0).with(|it| it.channel.spec.enabled = None).with(Sample::applied);
    assert_eq!(unmanaged.says(), (Is::InSync, Reason::Available));
    assert_eq!(LATE, s(60));
}

#[test]
fn values_that_ohallo_keeps_different_are_not_fought_in_the_same_pass() {
    let sample = Sample::bound().with(|it| {
        it.config(json!({"address": "A@x"}), json!({"address": "a@x"}));
        it.applied();
        it.observed.updated = true;
    });
    let verdict = sample.verdict();
    assert_eq!((verdict.is, verdict.reason), (SOON, Reason::Progressing));
    assert_eq!(verdict.drift.len(), 1);
    let reported = sample.with(|it| it.channel.spec.drift_policy = Some("Report".into()));
    assert_eq!(reported.says(), (Is::InSync, Reason::Available));
}

#[test]
fn three_looks_at_another_value_end_the_fight_until_the_manifest_changes() {
    let mut sample = Sample::bound().with(|it| it.config(json!({"a": "A"}), json!({"a": "a"})));
    sample.applied();
    let sent = sample.view().digest();
    sample.memory.sent = Some(sent.clone());
    for look in 1..=CONTESTED {
        assert!(matches!(sample.step(), Step::Update { .. }), "before look {look}");
        sample.memory.look(true, &sent);
    }
    assert_eq!(sample.says(), (USER, Reason::NotConverging));
    assert_eq!(sample.verdict().drift.len(), 1);
    let calm = sample.clone().with(|it| it.memory.look(false, &sent));
    assert_eq!(calm.memory.contested, 0);
    sample.channel.spec.config = Some(map(json!({"a": "B"})));
    let digest = sample.view().digest();
    sample.memory.look(true, &digest);
    assert!(matches!(sample.step(), Step::Update { .. }));
}

#[test]
fn observe_plans_what_manage_would_do_and_does_nothing() {
    let sample = Sample::bound().with(|it| {
        it.channel.spec.management_policy = Some("Observe".into());
        it.channel.spec.display_name = Some("New".into());
        it.config(json!({"a": 1}), json!({}));
        it.channel.spec.enabled = Some(true);
        it.credentials(ready("x", "1"), None);
        it.channel.metadata.finalizers = None;
        it.remote().status = Some("error".into());
        it.annotate(annotation::TEST_REQUESTED, "a");
        it.annotate(annotation::RETRY_REQUESTED, "a");
    });
    let verdict = sample.verdict();
    assert_eq!((verdict.is, verdict.reason), (Is::InSync, Reason::Observed));
    let expected =
        ["update displayName", "update config.a", "set enabled to true", "push credentials (1 key)"];
    assert_eq!(verdict.planned, expected);
    let as_declared =
        Sample::adopting().with(|it| it.channel.spec.management_policy = Some("Observe".into()));
    assert_eq!(as_declared.says(), (Is::InSync, Reason::Observed), "no id is claimed");
    assert!(as_declared.verdict().planned.is_empty());
}

#[test]
fn lists_at_most_sixteen_differences() {
    let many: serde_json::Map<_, _> = (0..40).map(|n| (format!("k{n:02}"), json!(n))).collect();
    let sample = Sample::bound().with(|it| {
        it.config(json!(many), json!({}));
        it.applied();
        it.channel.spec.drift_policy = Some("Report".into());
    });
    assert_eq!(sample.verdict().drift.len(), 16);
    let observed = sample.with(|it| it.channel.spec.management_policy = Some("Observe".into()));
    assert_eq!(observed.verdict().planned.len(), 16);
}
