mod credentials;
mod state;

use serde_json::json;

use super::*;
use crate::api::channel::{ProvisioningRetry, ProvisioningStatus, TestStatus};
use crate::api::conditions::kind;
use crate::channel::fixtures::*;
use crate::channel::model::WorkspaceAccess;
use crate::conditions::{Status, Writer};
use crate::failure::Failure;

type Edit = fn(&mut Sample);

const USER: ConclusionKind = ConclusionKind::Failed(Retry::UserAction);
const TIME: ConclusionKind = ConclusionKind::Failed(Retry::Backoff);
const SOON: ConclusionKind = ConclusionKind::WaitingForRemote { longest: MAX_POLL_INTERVAL };

fn pushes(sample: &Sample) -> bool {
    matches!(sample.plan(), Plan::Work(Step::PushCredentials { .. }))
}

/// The credentials were reported as applied for this generation.
fn said_applied(it: &mut Sample, generation: i64) {
    let mut writer = Writer::new(&mut it.status.conditions, generation, it.now);
    writer.set(kind::CREDENTIALS_APPLIED, Status::True, Reason::Applied, "Sent.");
}

#[test]
fn nothing_is_written_for_a_foreign_or_missing_channel() {
    let rows: [(&str, Edit, ConclusionKind, Reason); 12] = [
        ("no id", |it| it.channel.spec.channel_id = Some("..".into()), USER, Reason::ValidationFailed),
        (
            "not ready",
            |it| it.observed.workspace = Err(Failure::missing_input(Reason::WorkspaceNotReady, "")),
            ConclusionKind::Failed(Retry::MissingInput),
            Reason::WorkspaceNotReady,
        ),
        (
            "not allowed",
            |it| it.observed.workspace = Err(Failure::user_action(Reason::WorkspaceNotAllowed, "")),
            USER,
            Reason::WorkspaceNotAllowed,
        ),
        ("owned", |it| it.observed.owner = Some(None), USER, Reason::OwnershipConflict),
        ("owned here", |it| it.observed.owner = Some(Some("a".into())), USER, Reason::OwnershipConflict),
        ("absent", |it| it.observed.remote = Remote::Absent { proven: true }, USER, Reason::ChannelNotFound),
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
        (
            "suspended",
            |it| it.observed.workspace_suspended = true,
            ConclusionKind::Suspended,
            Reason::WorkspaceSuspended,
        ),
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
fn a_conflict_names_the_winner_only_within_its_namespace() {
    let named = Sample::bound().with(|it| it.observed.owner = Some(Some("first".into())));
    assert!(named.verdict().message.contains("\"first\""));
    let hidden = Sample::bound().with(|it| it.observed.owner = Some(None));
    assert!(hidden.verdict().message.contains("nother Channel"));
}

#[test]
fn a_bound_channel_is_not_touched_under_another_workspace_than_its_own() {
    let moved = Sample::bound().with(|it| it.place().workspace_id = Id::parse("ws2").unwrap());
    assert_eq!(moved.says(), (USER, Reason::IdentityMismatch));
    assert!(matches!(&moved.observed.workspace, Ok(WorkspaceAccess { .. })));
}

#[test]
fn fields_that_ohallo_omits_keep_a_channel_bound_and_prevent_an_adoption() {
    for edit in [(|it| it.remote().channel_type = None) as Edit, |it| it.remote().workspace_id = None] {
        assert_eq!(Sample::bound().with(edit).says(), (ConclusionKind::InSync, Reason::Available));
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
    assert_eq!(
        Sample::bound().with(|it| it.channel.metadata.finalizers = None).step(),
        Step::RestoreMetadata
    );
    assert_eq!(Sample::bound().with(intent).step(), Step::RestoreMetadata);
    let adopted = Sample::bound().with(intent).with(|it| it.status.origin = Some("Adopted".into()));
    assert_eq!(
        adopted.says(),
        (ConclusionKind::InSync, Reason::Available),
        "an adopted one never had an intent"
    );
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
    assert_eq!((verdict.kind, verdict.reason), (ConclusionKind::InSync, Reason::Observed));
    let expected = ["update displayName", "update config.a", "set enabled to true", "send 1 credential"];
    assert_eq!(verdict.planned, expected);
    let sent = sample.with(|it| it.credentials(ready("x", "1"), Some(("x", "1"))));
    assert_eq!(sent.verdict().planned, expected[..3]);
    let two = sent.with(|it| {
        let keys = vec!["a".into(), "b".into()];
        it.observed.credentials =
            DesiredCredentials::Ready { digest: digest("y"), keys, sources: vec![source("2")] };
    });
    assert_eq!(two.verdict().planned[3], "send 2 credentials");
    let as_declared =
        Sample::adopting().with(|it| it.channel.spec.management_policy = Some("Observe".into()));
    assert_eq!(as_declared.says(), (ConclusionKind::InSync, Reason::Observed), "no id is claimed");
    assert!(as_declared.verdict().planned.is_empty());
}
