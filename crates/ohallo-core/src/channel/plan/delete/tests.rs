use super::*;
use crate::api::channel::{ChannelSpec, CreateStatus};
use crate::api::finalizer;
use crate::backoff;
use crate::channel::fixtures::*;
use crate::channel::in_memory_state::AttemptOutcome;
use crate::channel::model::{Outcome, Remote};
use crate::failure::Failure;

const SOON: Duration = Duration::from_secs(1);

type Edit = fn(&mut Sample);

/// The planned step or conclusion.
#[derive(Debug, PartialEq)]
enum Does {
    Step(Step),
    Blocked(Reason, Duration),
    Waits(Duration),
    Nothing,
}

fn does(sample: &Sample) -> Does {
    match sample.plan() {
        Plan::Work(step) => Does::Step(step),
        Plan::Settled(Conclusion { kind: ConclusionKind::Blocked { again }, reason, .. }) => {
            Does::Blocked(reason, again)
        }
        Plan::Settled(Conclusion { kind: ConclusionKind::Failed(Retry::Deferred(wait)), .. }) => {
            Does::Waits(wait)
        }
        Plan::Settled(Conclusion { kind: ConclusionKind::Finished, .. }) => Does::Nothing,
        Plan::Settled(other) => panic!("{other:?}"),
    }
}

fn lets_go(outcome: DeletionOutcome) -> Does {
    Does::Step(Step::RemoveFinalizer(outcome))
}

fn deletes_it() -> Does {
    Does::Step(Step::Delete { id: id() })
}

fn no_key() -> Failure {
    Failure::missing_input(Reason::WorkspaceNotFound, "There is no Workspace named \"default\".")
}

/// A create was sent, its response was lost, and the object is being deleted.
fn unresolved_and_terminating() -> Sample {
    Sample::unbound().with(|it| {
        it.channel.metadata.finalizers = Some(vec![finalizer::CHANNEL.into()]);
        it.annotate(annotation::CREATE_INTENT, INTENT);
        it.terminate();
    })
}

#[test]
fn the_policy_is_the_declared_one_else_by_origin_and_observe_always_retains() {
    let with = |management: Option<&str>, policy: Option<&str>, origin: Option<&str>, id: Option<&str>| {
        let spec = ChannelSpec {
            management_policy: management.map(Into::into),
            deletion_policy: policy.map(Into::into),
            channel_id: id.map(Into::into),
            ..ChannelSpec::default()
        };
        let status = ChannelStatus { origin: origin.map(Into::into), ..ChannelStatus::default() };
        should_delete_remote(&Channel::new("a", spec), &status)
    };
    for (management, policy, origin, id, expected) in [
        (None, None, Some("Created"), None, true),
        (None, None, Some("Created"), Some("c1"), true),
        (None, None, Some("Adopted"), Some("c1"), false),
        (None, None, None, None, true),
        (None, None, None, Some("c1"), false),
        (None, Some("Delete"), Some("Adopted"), Some("c1"), true),
        (None, Some("Retain"), Some("Created"), None, false),
        (None, Some("nonsense"), Some("Created"), None, false),
        (Some("Manage"), None, Some("Created"), None, true),
        (Some("Observe"), None, Some("Created"), None, false),
        (Some("Observe"), Some("Delete"), Some("Created"), None, false),
    ] {
        let found = with(management, policy, origin, id);
        assert_eq!(found, expected, "{management:?} {policy:?} {origin:?} {id:?}");
    }
}

fn of_another(it: &mut Sample) {
    it.status.bound_uid = Some("uid-0".into());
    it.channel.metadata.annotations = None;
}

#[test]
fn each_row_of_a_bound_channel_that_is_deleted() {
    let key_gone = Does::Blocked(Reason::KeyUnavailable, backoff::MISSING_INPUT_INTERVAL);
    let suspended = || Does::Blocked(Reason::Suspended, backoff::STALLED_INTERVAL);
    let rows: [(&str, Edit, Does); 23] = [
        ("as it is", |_| {}, deletes_it()),
        ("no finalizer", |it| it.channel.metadata.finalizers = None, Does::Nothing),
        (
            "only another's finalizer",
            |it| it.channel.metadata.finalizers = Some(vec!["x.io/y".into()]),
            Does::Nothing,
        ),
        (
            "Retain",
            |it| it.channel.spec.deletion_policy = Some("Retain".into()),
            lets_go(DeletionOutcome::Retained),
        ),
        ("adopted", |it| it.status.origin = Some("Adopted".into()), lets_go(DeletionOutcome::Retained)),
        (
            "Observe",
            |it| {
                it.channel.spec.management_policy = Some("Observe".into());
                it.channel.spec.deletion_policy = Some("Delete".into());
            },
            lets_go(DeletionOutcome::Retained),
        ),
        ("another owner that is not bound", |it| it.observed.owner = Some(None), deletes_it()),
        ("of another object", of_another, lets_go(DeletionOutcome::Retained)),
        (
            "of another object, after a create of its own",
            |it| {
                of_another(it);
                it.annotate(annotation::CREATE_INTENT, INTENT);
            },
            Does::Blocked(Reason::CreateOutcomeUnknown, backoff::STALLED_INTERVAL),
        ),
        ("released", |it| it.annotate(annotation::RELEASE, ID), lets_go(DeletionOutcome::Released)),
        ("another released", |it| it.annotate(annotation::RELEASE, "c2"), deletes_it()),
        ("everything released", |it| it.annotate(annotation::RELEASE, "true"), deletes_it()),
        (
            "an invalid id",
            |it| it.status.channel_id = Some("../x".into()),
            Does::Blocked(Reason::AbsenceNotProven, backoff::STALLED_INTERVAL),
        ),
        (
            "an invalid id, Retain",
            |it| {
                it.status.channel_id = Some("..".into());
                it.channel.spec.deletion_policy = Some("Retain".into());
            },
            lets_go(DeletionOutcome::Retained),
        ),
        (
            "an invalid id, released",
            |it| {
                it.status.channel_id = Some("a/b".into());
                it.annotate(annotation::RELEASE, "a/b");
            },
            lets_go(DeletionOutcome::Released),
        ),
        ("suspended", |it| it.channel.spec.suspend = Some(true), suspended()),
        ("workspace suspended", |it| it.observed.workspace_suspended = true, suspended()),
        (
            "suspended, Retain",
            |it| {
                it.channel.spec.suspend = Some(true);
                it.channel.spec.deletion_policy = Some("Retain".into());
            },
            lets_go(DeletionOutcome::Retained),
        ),
        ("no key", |it| it.observed.workspace = Err(no_key()), key_gone),
        (
            "the key not read yet",
            |it| it.observed.workspace = Err(Failure::deferred(SOON)),
            Does::Waits(SOON),
        ),
        (
            "no key, released",
            |it| {
                it.observed.workspace = Err(no_key());
                it.annotate(annotation::RELEASE, ID);
            },
            lets_go(DeletionOutcome::Released),
        ),
        (
            "another workspace",
            |it| it.status.workspace_id = Some("ws2".into()),
            Does::Blocked(Reason::KeyUnavailable, backoff::MISSING_INPUT_INTERVAL),
        ),
        (
            "deleted, then suspended and without key",
            |it| {
                it.memory.deleted = true;
                it.channel.spec.suspend = Some(true);
                it.observed.workspace = Err(no_key());
            },
            lets_go(DeletionOutcome::Deleted),
        ),
    ];
    for (name, edit, expected) in rows {
        assert_eq!(does(&Sample::terminating().with(edit)), expected, "{name}");
    }
}

#[test]
fn a_missing_key_is_reported_with_both_remedies() {
    let message = Sample::terminating().with(|it| it.observed.workspace = Err(no_key())).verdict().message;
    assert!(message.contains("no Workspace named") && message.contains("release=c1"), "{message}");
}

#[test]
fn an_invalid_id_is_reported_with_both_remedies_and_an_absence_with_its_id() {
    let invalid =
        Sample::terminating().with(|it| it.status.channel_id = Some("../x".into())).verdict().message;
    for part in ["\"../x\"", "delete it there", annotation::RELEASE] {
        assert!(invalid.contains(part), "{invalid}");
    }
    let absent = Sample::terminating().with(|it| it.memory.absence = absence(it.instant)).verdict().message;
    assert!(absent.contains("channel c1") && absent.contains("404"), "{absent}");
}

#[test]
fn the_object_is_planned_again_when_its_channel_may_no_longer_be_deleted() {
    fn retain(it: &mut Sample) {
        it.channel.spec.deletion_policy = Some("Retain".into());
        it.channel.metadata.generation = Some(2);
    }
    let rows: [(&str, Edit, bool); 9] = [
        ("as it was", |_| {}, false),
        ("something else changed", |it| it.annotate("note", "a"), false),
        ("Retain", retain, true),
        ("an annotation of ours", |it| it.annotate(annotation::RELEASE, "c2"), true),
        ("another id", |it| it.status.channel_id = Some("c2".into()), true),
        ("no id", |it| it.status.channel_id = None, true),
        ("the status of another object", |it| it.status.bound_uid = Some("uid-0".into()), true),
        ("another origin", |it| it.status.origin = Some("Adopted".into()), true),
        ("not terminating", |it| it.channel.metadata.deletion_timestamp = None, true),
    ];
    for (name, edit, again) in rows {
        let known = Sample::terminating().with(|it| {
            it.channel.metadata.resource_version = Some("1".into());
            it.channel.status = Some(it.status.clone());
        });
        let read = |version: &str| {
            let fresh = known.clone().with(edit);
            let mut channel = fresh.channel;
            channel.metadata.resource_version = Some(version.into());
            channel.status = Some(fresh.status);
            channel
        };
        let decided = |fresh| must_replan(&known.channel, &fresh, &id());
        assert_eq!(decided(read("2")), again, "{name}");
        assert!(!decided(read("1")), "{name}, and it is the version that was decided on");
    }
}

#[test]
fn a_404_proves_an_absence_to_the_key_that_sees_the_workspace_or_has_read_the_channel() {
    let mut sample = Sample::terminating();
    let place = sample.place().clone();
    let same = Some(place.read_with.as_str());
    for (probe, has_read, read_with, bound, proves) in [
        (WorkspaceProbe::Found, true, None, true, true),
        (WorkspaceProbe::Found, false, same, true, true),
        (WorkspaceProbe::Found, false, Some("another"), true, false),
        (WorkspaceProbe::Found, false, None, true, false),
        (WorkspaceProbe::Found, false, None, false, true),
        (WorkspaceProbe::NotFound, true, same, true, false),
        (WorkspaceProbe::NotFound, true, None, false, false),
        (WorkspaceProbe::Forbidden, false, same, true, true),
        (WorkspaceProbe::Forbidden, true, Some("another"), true, false),
        (WorkspaceProbe::Forbidden, true, None, false, false),
    ] {
        let place = WorkspaceAccess { has_read, ..place.clone() };
        let status = ChannelStatus {
            read_with: read_with.map(Into::into),
            channel_id: bound.then(|| ID.into()),
            ..ChannelStatus::default()
        };
        assert_eq!(
            absence_is_proven(&status, &place, probe),
            proves,
            "{probe:?} {has_read} {read_with:?} {bound}"
        );
    }
}

#[test]
fn a_delete_that_finds_an_absence_records_the_first_and_reports_the_second() {
    let Sample { mut memory, mut observed, instant, .. } = Sample::terminating();
    record_absence(&mut memory, &mut observed.remote, ID, instant);
    assert_eq!((&memory.absence, &observed.remote), (&absence(instant), &Remote::Unread));
    record_absence(&mut memory, &mut observed.remote, ID, instant + ABSENCE_INTERVAL - s(1));
    assert_eq!((&memory.absence, &observed.remote), (&absence(instant), &Remote::Unread));
    record_absence(&mut memory, &mut observed.remote, ID, instant + ABSENCE_INTERVAL);
    assert_eq!((&memory.absence, &observed.remote), (&absence(instant), &Remote::Absent { proven: true }));
}

#[test]
fn absence_counts_when_it_was_proven_twice_thirty_seconds_apart() {
    let seen = |ago: Option<u64>, remote: Remote| {
        Sample::terminating().with(|it| {
            it.memory.absence = ago.and_then(|ago| absence(it.instant - s(ago)));
            it.observed.remote = remote;
        })
    };
    let absent = |proven| Remote::Absent { proven };
    for (ago, remote, expected) in [
        (None, Remote::Unread, deletes_it()),
        (None, absent(true), deletes_it()),
        (Some(0), Remote::Unread, Does::Blocked(Reason::AbsenceNotProven, s(30))),
        (Some(10), absent(true), Does::Blocked(Reason::AbsenceNotProven, s(20))),
        (Some(29), absent(true), Does::Blocked(Reason::AbsenceNotProven, s(1))),
        (Some(30), Remote::Unread, deletes_it()),
        (Some(30), absent(false), deletes_it()),
        (Some(30), absent(true), lets_go(DeletionOutcome::Deleted)),
        (Some(3000), absent(true), lets_go(DeletionOutcome::Deleted)),
    ] {
        assert_eq!(does(&seen(ago, remote.clone())), expected, "{ago:?} {remote:?}");
    }
}

#[test]
fn without_an_id_the_finalizer_is_removed_only_when_nothing_can_be_left() {
    let unknown = || Does::Blocked(Reason::CreateOutcomeUnknown, backoff::STALLED_INTERVAL);
    let rows: [(&str, Edit, Does); 12] = [
        ("unknown", |_| {}, unknown()),
        ("nothing sent", |it| it.channel.metadata.annotations = None, lets_go(DeletionOutcome::NeverCreated)),
        (
            "rejected",
            |it| {
                it.status.create =
                    Some(CreateStatus { attempt: 1, outcome: "Rejected".into(), sent_at: None })
            },
            lets_go(DeletionOutcome::NeverCreated),
        ),
        (
            "an earlier one rejected",
            |it| {
                it.status.create =
                    Some(CreateStatus { attempt: 2, outcome: "Rejected".into(), sent_at: None })
            },
            unknown(),
        ),
        (
            "not sent, as this process knows",
            |it| it.memory.attempt = attempt(1, AttemptOutcome::NotSent),
            lets_go(DeletionOutcome::NeverCreated),
        ),
        ("unknown here", |it| it.memory.attempt = attempt(1, AttemptOutcome::Unknown), unknown()),
        (
            "intent of another object",
            |it| it.annotate(annotation::CREATE_INTENT, "uid-0/1/2026-01-10T07:00:00Z"),
            Does::Blocked(Reason::CreateOutcomeUnknown, backoff::STALLED_INTERVAL),
        ),
        ("released", |it| it.annotate(annotation::RELEASE, "uid-1/1"), lets_go(DeletionOutcome::Released)),
        ("another attempt released", |it| it.annotate(annotation::RELEASE, "uid-1/2"), unknown()),
        (
            "created nothing",
            |it| it.annotate(annotation::CREATE_AGAIN, "uid-1/1"),
            lets_go(DeletionOutcome::NeverCreated),
        ),
        (
            "Retain",
            |it| it.channel.spec.deletion_policy = Some("Retain".into()),
            lets_go(DeletionOutcome::Retained),
        ),
        ("suspended", |it| it.channel.spec.suspend = Some(true), unknown()),
    ];
    for (name, edit, expected) in rows {
        assert_eq!(does(&unresolved_and_terminating().with(edit)), expected, "{name}");
    }
    let message = unresolved_and_terminating().verdict().message;
    assert!(message.contains("release=uid-1/1"), "{message}");
}

#[test]
fn a_policy_that_was_retain_counts_until_the_manifest_changes() {
    // The observed generation, and the generation of the object that is being deleted.
    for (declared, in_force, observed, generation, blocked, retains) in [
        (None, Some("Retain"), Some(1), 2, false, true),
        (None, Some("Retain"), Some(2), 2, false, true),
        (None, Some("Retain"), Some(1), 3, false, false),
        (None, Some("Retain"), Some(2), 2, true, true),
        (None, Some("Retain"), Some(2), 3, true, false),
        (None, Some("Retain"), None, 2, false, false),
        (None, Some("Delete"), Some(1), 2, false, false),
        (None, None, Some(1), 2, false, false),
        (Some("Delete"), Some("Retain"), Some(1), 2, false, false),
        (Some("Retain"), Some("Delete"), Some(1), 2, false, true),
    ] {
        let mut sample = Sample::terminating().with(|it| {
            it.channel.metadata.generation = Some(generation);
            it.channel.spec.deletion_policy = declared.map(Into::into);
            it.status.deletion_policy = in_force.map(Into::into);
            it.status.observed_generation = observed;
        });
        if blocked {
            let outcome = Outcome::Failed(Failure::user_action(Reason::Rejected, "It is refused."));
            let observed = sample.status.observed_generation;
            let policy = sample.status.deletion_policy.clone();
            sample = sample.after(&outcome);
            sample.status.observed_generation = observed;
            sample.status.deletion_policy = policy;
        }
        let expected = if retains { lets_go(DeletionOutcome::Retained) } else { deletes_it() };
        assert_eq!(does(&sample), expected, "{declared:?} {in_force:?} {observed:?} {generation} {blocked}");
        // The written status does not change the next plan.
        let policy = sample.summarize(&Outcome::More).status.deletion_policy;
        assert_eq!(policy.as_deref(), Some(if retains { "Retain" } else { "Delete" }));
    }
    // For a living object only the manifest counts.
    let living = Sample::bound().with(|it| {
        it.status.deletion_policy = Some("Retain".into());
        it.status.observed_generation = Some(1);
    });
    assert!(should_delete_remote(&living.channel, &living.status));
}

#[test]
fn two_ids_block_the_deletion_until_the_created_one_is_released_by_name_or_retained() {
    let two = |edit: Edit| {
        let sample = Sample::bound().with(|it| {
            let remote = Box::new(it.remote().clone());
            it.memory.attempt = attempt(1, AttemptOutcome::Answered(remote));
            it.status = ChannelStatus::default();
            it.channel.spec.channel_id = Some("c2".into());
            it.terminate();
        });
        does(&sample.with(edit))
    };
    let held = || Does::Blocked(Reason::CreateOutcomeUnknown, backoff::STALLED_INTERVAL);
    assert_eq!(two(|_| {}), held());
    assert_eq!(two(|it| it.annotate(annotation::RELEASE, "c2")), held());
    assert_eq!(two(|it| it.annotate(annotation::RELEASE, ID)), lets_go(DeletionOutcome::Released));
    let retain: Edit = |it| it.channel.spec.deletion_policy = Some("Retain".into());
    assert_eq!(two(retain), lets_go(DeletionOutcome::Retained));
    assert_eq!(two(|it| it.channel.spec.deletion_policy = Some("Delete".into())), held());
}

#[test]
fn a_deletion_that_deletes_the_channel_is_unconfirmed_until_its_id_is_named() {
    const ID: &str = "7c9e6679-7425-40de-944b-e07fc1f90ae7";
    let (shouted, own) = (ID.to_uppercase(), format!("{ID}/u1"));
    let channel = |spec: &str, status: serde_json::Value, word: &str| -> Channel {
        let mut object = serde_json::json!({
            "apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel",
            "metadata": {"name": "a", "uid": "u1", "generation": 3, "annotations": {annotation::CONFIRM_DELETION: word}},
            "spec": {"channelType": "chat", "displayName": "A"},
            "status": {"channelId": ID, "boundUid": "u1", "origin": "Created", "observedGeneration": 3},
        });
        if !spec.is_empty() {
            object["spec"]["deletionPolicy"] = spec.into();
        }
        for (key, value) in status.as_object().into_iter().flatten() {
            object["status"][key] = value.clone();
        }
        serde_json::from_value(object).unwrap()
    };
    let nothing = || serde_json::json!({});
    for (spec, status, word, unconfirmed) in [
        ("", nothing(), "", true),
        ("Delete", nothing(), "", true),
        ("Retain", nothing(), "", false),
        ("", serde_json::json!({"origin": "Adopted"}), "", false),
        ("Delete", serde_json::json!({"origin": "Adopted"}), "", true),
        ("Delete", serde_json::json!({"boundUid": "u2"}), "", false),
        // Older definitions dropped Retain from the spec; a later change of the spec counts.
        ("", serde_json::json!({"deletionPolicy": "Retain"}), "", false),
        ("", serde_json::json!({"deletionPolicy": "Retain", "observedGeneration": 2}), "", true),
        ("", nothing(), ID, false),
        ("", nothing(), &shouted, false),
        ("", nothing(), &own, false),
        ("", nothing(), "u1", true),
        ("", nothing(), "/u1", true),
        ("", nothing(), "7c9e6679-7425-40de-944b-e07fc1f90ae7/u2", true),
        ("", nothing(), "true", true),
    ] {
        let channel = channel(spec, status.clone(), word);
        assert_eq!(unconfirmed_deletion(&channel), unconfirmed.then_some(ID), "{spec} {status} {word}");
    }
}
