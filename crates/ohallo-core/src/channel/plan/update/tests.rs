use serde_json::json;

use super::*;
use crate::api::channel::AppliedStatus;
use crate::channel::fixtures::*;
use crate::channel::in_memory_state::{CACHE_LAG, MAX_REVERTS_OF_A_FIELD, REVERT_HORIZON};
use crate::failure::Retry;
use crate::remote::Changes;

const USER: ConclusionKind = ConclusionKind::Failed(Retry::UserAction);
const SOON: ConclusionKind = ConclusionKind::WaitingForRemote { longest: MAX_POLL_INTERVAL };

fn update_of(sample: &Sample) -> (Changes, Vec<String>, Cause) {
    match sample.step() {
        Step::Update { id, changes, fields, cause } if id.as_str() == ID => (changes, fields, cause),
        other => panic!("{other:?}"),
    }
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
    assert_eq!((verdict.kind, verdict.reason), (ConclusionKind::InSync, Reason::Available));
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
fn a_key_with_a_dot_and_nested_keys_of_the_same_path_are_reported_and_sent_separately() {
    let mut sample = Sample::bound().with(|it| {
        it.channel.spec.drift_policy = Some("Report".into());
        it.config(json!({"a.b": 1, "a": {"b": 1}}), json!({"a.b": 2, "a": {"b": 1}}));
        it.applied();
        it.status.drift = it.verdict().drift;
    });
    let paths: Vec<_> = sample.status.drift.iter().map(|drift| drift.path.as_str()).collect();
    assert_eq!(paths, [r#"config."a.b""#]);
    // Its declared value equals the one in the other key's drift.
    sample.channel.spec.config = Some(map(json!({"a.b": 1, "a": {"b": 1}, "c": 1})));
    sample.remote().config = map(json!({"a.b": 2, "a": {"b": 3}}));
    let (changes, fields, _) = update_of(&sample);
    assert_eq!(changes.config, Some(map(json!({"a.b": 2, "a": {"b": 1}, "c": 1}))));
    assert_eq!(fields, ["config.a.b", "config.c"]);
}

#[test]
fn drift_that_is_only_reported_is_not_reverted_by_a_change_of_another_value() {
    let mut sample = Sample::bound().with(|it| {
        it.channel.spec.drift_policy = Some("Report".into());
        it.config(json!({"a": {"b": 1, "c": 1}, "d": 1}), json!({"a": {"b": 2, "c": 1}, "d": 1}));
        it.remote().display_name = Some("Theirs".into());
        it.applied();
        it.status.drift = it.verdict().drift;
    });
    assert_eq!(sample.status.drift.len(), 2);
    sample.channel.spec.config = Some(map(json!({"a": {"b": 1, "c": 1}, "d": 9})));
    let config = Some(map(json!({"a": {"b": 2, "c": 1}, "d": 9})));
    let expected = Changes { config, ..Changes::default() };
    assert_eq!(update_of(&sample), (expected, vec!["config.d".into()], Cause::Manifest));
    sample.channel.spec.config = Some(map(json!({"a": {"b": 3, "c": 1}, "d": 1})));
    let config = Some(map(json!({"a": {"b": 3, "c": 1}, "d": 1})));
    let expected = Changes { config, ..Changes::default() };
    assert_eq!(update_of(&sample), (expected, vec!["config.a.b".into()], Cause::Manifest));
    sample.channel.spec.config = Some(map(json!({"a": {"b": 1}})));
    assert_eq!(sample.verdict().drift.len(), 2, "nothing is left to send, and the drift still shows");
}

#[test]
fn what_is_due_and_not_taken_is_not_listed_as_drift_that_is_only_reported() {
    let mut sample = Sample::bound().with(|it| {
        it.channel.spec.drift_policy = Some("Report".into());
        it.config(json!({"a": 1}), json!({"a": 2}));
        it.applied();
        it.status.drift = it.verdict().drift;
    });
    sample.channel.spec.display_name = Some("New".into());
    for (edit, reason) in [
        ((|it| it.observed.updated = true) as fn(&mut Sample), Reason::Progressing),
        (|it| it.memory.reverts.contested = true, Reason::NotConverging),
    ] {
        let verdict = sample.clone().with(edit).verdict();
        let listed: Vec<_> = verdict.drift.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!((verdict.reason, listed), (reason, vec!["config.a"]));
    }
}

#[test]
fn enabled_is_sent_when_it_differs_from_the_last_sent_value() {
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
        assert_eq!(
            enabled(declared, applied).says(),
            (ConclusionKind::InSync, reason),
            "{declared:?} {applied:?}"
        );
    }
}

#[test]
fn values_sent_for_an_unrecorded_generation_are_unknown() {
    for (observed, kept) in [(Some(2), Some(true)), (Some(1), None), (None, None)] {
        let mut sample = Sample::bound().with(|it| {
            it.status.observed_generation = observed;
            it.status.applied = Some(AppliedStatus { enabled: Some(true), digest: None });
        });
        distrust_unconfirmed(&mut sample.status, Some(2));
        assert_eq!(applied_enabled(&sample.view()), kept, "{observed:?}");
    }
}

#[test]
fn enabled_is_sent_again_when_a_late_request_can_no_longer_take_effect() {
    let at = |rest: i64| {
        Sample::bound().with(|it| {
            it.channel.spec.enabled = Some(true);
            it.applied();
            let due = if rest > 0 { it.instant + s(rest.unsigned_abs()) } else { it.instant };
            it.memory.resend_enabled_at = Some(due);
        })
    };
    assert_eq!(at(1).says(), (ConclusionKind::InSync, Reason::Available));
    assert_eq!(update_of(&at(0)).0, Changes { enabled: Some(true), ..Changes::default() });
    let unmanaged = at(0).with(|it| it.channel.spec.enabled = None).with(Sample::applied);
    assert_eq!(unmanaged.says(), (ConclusionKind::InSync, Reason::Available));
    assert_eq!(CACHE_LAG, s(60));
}

#[test]
fn values_that_ohallo_rewrites_are_not_sent_again_in_the_same_reconcile() {
    let sample = Sample::bound().with(|it| {
        it.config(json!({"address": "A@x"}), json!({"address": "a@x"}));
        it.applied();
        it.observed.updated = true;
    });
    let verdict = sample.verdict();
    assert_eq!((verdict.kind, verdict.reason), (SOON, Reason::Progressing));
    assert_eq!(verdict.drift.len(), 1);
    let reported = sample.with(|it| it.channel.spec.drift_policy = Some("Report".into()));
    assert_eq!(reported.says(), (ConclusionKind::InSync, Reason::Available));
}

#[test]
fn three_reverts_of_a_field_end_the_fight_until_the_manifest_changes() {
    let mut sample = Sample::bound().with(|it| it.config(json!({"a": "A"}), json!({"a": "a"})));
    sample.applied();
    let sent = sample.view().digest();
    let began = sample.instant;
    let at = |seconds| began + s(seconds);
    for look in 1..=MAX_REVERTS_OF_A_FIELD as u64 {
        assert!(matches!(sample.step(), Step::Update { .. }), "before read {look}");
        sample.memory.note_update(sent.clone());
        for read in 0..3 {
            sample.memory.note_differences(
                ["config.a"].into_iter(),
                &sent,
                at(look * 60 + read),
                REVERT_HORIZON,
            );
        }
    }
    assert_eq!(sample.says(), (USER, Reason::NotConverging));
    assert_eq!(sample.verdict().drift.len(), 1);
    let calm =
        sample.clone().with(|it| it.memory.note_differences([].into_iter(), &sent, at(300), REVERT_HORIZON));
    assert!(!calm.memory.reverts.contested);
    sample.channel.spec.config = Some(map(json!({"a": "B"})));
    let digest = sample.view().digest();
    sample.memory.note_differences(["config.a"].into_iter(), &digest, at(300), REVERT_HORIZON);
    assert!(matches!(sample.step(), Step::Update { .. }));
}

#[test]
fn names_at_most_four_rewritten_values_and_shows_that_there_are_more() {
    for (keys, named) in [
        (&["a"][..], "(config.a)"),
        (&["a", "b", "c", "d"], "(config.a, config.b, config.c, config.d)"),
        (&["a", "b", "c", "d", "e"], "(config.a, config.b, config.c, config.d, …)"),
    ] {
        let declared: serde_json::Map<_, _> = keys.iter().map(|key| ((*key).into(), json!(1))).collect();
        let mut sample = Sample::bound().with(|it| it.config(json!(declared), json!({})));
        sample.observed.updated = true;
        let message = sample.verdict().message;
        assert!(message.contains(named), "{message}");
    }
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
