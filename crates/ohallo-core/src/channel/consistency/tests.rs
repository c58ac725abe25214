use serde_json::json;

use super::*;
use crate::api::annotation;
use crate::api::channel::ProvisioningStatus;
use crate::api::conditions::{Reason, kind};
use crate::api::values::Origin;
use crate::channel::fixtures::*;
use crate::channel::freshness::note_absence;
use crate::channel::in_memory_state::{InMemoryState, REVERT_HORIZON};
use crate::channel::model::{Cause, ConclusionKind, Outcome, Predecessor, Remote, Step};
use crate::channel::plan::update::answer_values;
use crate::conditions;

type Edit = fn(&mut Sample);
type Sent = fn(&Step) -> bool;

const LENGTH: Duration = s(60);

fn values(answer: Answer) -> Write {
    Write::Values(Values { declared: "d".into(), answer })
}

/// A bound Channel, Ready, whose last write of values was confirmed by its response, and whose read has older values.
fn lagging() -> Sample {
    let ready = Sample::bound().with(|it| it.config(json!({"a": 2}), json!({"a": 2}))).with(Sample::applied);
    let outcome = Outcome::Settled(ready.verdict());
    ready.after(&outcome).with(|it| {
        let remote = it.remote().clone();
        let answer = answer_values(&it.view(), &remote);
        it.observed.window.values = Some((it.instant + s(50), answer));
        it.remote().config = map(json!({"a": 1}));
    })
}

fn is_stale(sample: &Sample) -> bool {
    matches!(sample.plan(), crate::channel::model::Plan::Settled(verdict) if matches!(verdict.kind, ConclusionKind::Stale { .. }))
}

#[test]
fn each_write_opens_its_windows_for_the_id_in_any_case_and_they_end() {
    let began = crate::test_clock::instant();
    let at = |seconds| began + s(seconds);
    let rows: [(&str, Write, [bool; 4]); 4] = [
        ("values", values(Answer::Lost), [true, true, false, false]),
        ("retry", Write::Retry, [true, false, true, false]),
        ("other", Write::Other, [true, false, false, false]),
        ("delete", Write::Delete, [false, false, false, true]),
    ];
    let id = "A1B2C3D4-E5F6-7890-ABCD-EF1234567890";
    for (name, write, open) in rows {
        let mut windows = Consistency::new(LENGTH, began);
        windows.wrote(id, write, at(100));
        let shows = |seconds: u64| {
            let window = windows.window(&id.to_lowercase(), at(seconds));
            [
                window.absence.is_some(),
                window.values.is_some(),
                window.retry.is_some(),
                window.deleted.is_some(),
            ]
        };
        assert_eq!(shows(100), open, "{name}");
        assert_eq!(shows(159), open, "{name}");
        assert_eq!(shows(160), [false; 4], "{name}");
        windows.sweep(at(159));
        assert_eq!(windows.len(), 1, "{name}");
        windows.sweep(at(160));
        assert!(windows.is_empty(), "{name}");
    }
}

#[test]
fn a_start_and_each_taking_of_the_lease_opens_a_window_for_every_id() {
    let began = crate::test_clock::instant();
    let at = |seconds| began + s(seconds);
    let epoch = |term| Epoch { term, transitions: 1 };
    let mut windows = Consistency::new(LENGTH, began);
    windows.enter(epoch(1), at(1));
    windows.wrote("c1", values(Answer::Lost), at(200));
    windows.wrote("c1", Write::Retry, at(200));
    let first = Window { absence: Some(at(61)), began: Some(at(61)), ..Window::default() };
    assert_eq!(windows.window("other", at(60)), first);
    windows.enter(epoch(1), at(190));
    assert_eq!(windows.window("other", at(200)), Window::default(), "the same lease");
    windows.enter(epoch(2), at(220));
    let window = windows.window("c1", at(230));
    assert_eq!((window.began, window.absence), (Some(at(280)), Some(at(280))));
    assert_eq!((window.values, window.retry), (None, None), "another leader may have written since");
}

#[test]
fn a_delete_that_was_answered_ok_ends_what_a_404_could_be_older_than() {
    let began = crate::test_clock::instant();
    let mut windows = Consistency::new(LENGTH, began);
    windows.wrote("c1", Write::Other, began + s(1));
    windows.wrote("c1", Write::Delete, began + s(2));
    assert_eq!(windows.window("c1", began + s(3)).absence, None);
    windows.wrote("c1", Write::Other, began + s(4));
    assert!(windows.window("c1", began + s(5)).absence.is_some());
}

#[test]
fn without_a_window_every_read_is_trusted() {
    let now = crate::test_clock::instant();
    let mut windows = Consistency::new(Duration::ZERO, now);
    windows.wrote("c1", values(Answer::Lost), now);
    assert_eq!(windows.window("c1", now), Window::default());
    assert!(windows.is_empty());
}

#[test]
fn a_stale_read_is_repeated_at_growing_distances_within_the_window() {
    let now = crate::test_clock::instant();
    let waits: Vec<_> = (0..7).map(|stale| next_stale_poll(stale, now + s(600), now).as_secs()).collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 16, 16]);
    assert_eq!(next_stale_poll(u32::MAX, now + s(5), now), s(5));
    assert_eq!(next_stale_poll(0, now, now), Duration::from_millis(200));
}

#[test]
fn older_values_than_the_last_write_are_neither_drift_nor_sent_again_nor_a_revert() {
    let sample = lagging();
    assert!(is_stale(&sample));
    let before = sample.status.clone();
    let after = sample.summarize(&Outcome::Settled(sample.verdict()));
    assert_eq!(after.status, before);
    assert_eq!((after.failures, after.stale, after.wake), (0, 1, Some(s(1))));
    assert!(after.warnings.is_empty());
    let reported = lagging().with(|it| it.channel.spec.drift_policy = Some("Report".into()));
    assert!(is_stale(&reported), "it is no drift to report either");
    let closed = lagging().with(|it| it.observed.window = Window::default());
    assert!(
        matches!(closed.step(), Step::Update { cause: Cause::Drift, .. }),
        "without the window it is drift"
    );
}

#[test]
fn what_else_is_due_does_not_wait_for_a_stale_read() {
    let rows: [(&str, Edit, Sent); 3] = [
        (
            "credentials",
            |it| it.credentials(ready("b", "2"), Some(("a", "1"))),
            |step| matches!(step, Step::PushCredentials { .. }),
        ),
        (
            "enabled",
            |it| it.channel.spec.enabled = Some(false),
            |step| matches!(step, Step::Update { changes, .. } if changes.config.is_none() && changes.enabled == Some(false)),
        ),
        (
            "a test",
            |it| it.annotate(annotation::TEST_REQUESTED, "now"),
            |step| matches!(step, Step::Test { .. }),
        ),
    ];
    for (name, edit, sent) in rows {
        let step = lagging().with(edit).step();
        assert!(sent(&step), "{name}: {step:?}");
    }
}

#[test]
fn a_newer_manifest_is_sent_whole_where_the_read_may_be_older_than_the_last_write() {
    // The manifest returns to the value that the stale read still has.
    let back = lagging().with(|it| it.channel.spec.config = Some(map(json!({"a": 1}))));
    let Step::Update { changes, .. } = back.step() else { panic!("it is not sent") };
    assert_eq!(changes.config, Some(map(json!({"a": 1}))));
    assert_eq!(changes.display_name.as_deref(), Some("Support"));
    // A read that equals the response to the last write is not older.
    let current = lagging().with(|it| {
        it.remote().config = map(json!({"a": 2}));
        it.channel.spec.config = Some(map(json!({"a": 3})));
    });
    let Step::Update { changes, fields, .. } = current.step() else { panic!("it is not sent") };
    assert_eq!((changes.display_name, fields), (None, vec!["config.a".to_owned()]));
}

#[test]
fn an_older_manifest_that_this_process_sent_is_no_drift() {
    let sent = lagging().with(|it| {
        it.remote().config = map(json!({"a": 2}));
        it.channel.spec.config = Some(map(json!({"a": 1})));
        it.applied();
    });
    assert!(matches!(sent.step(), Step::Update { cause: Cause::Manifest, .. }));
    let reported = sent.with(|it| it.channel.spec.drift_policy = Some("Report".into()));
    assert!(matches!(reported.step(), Step::Update { .. }), "nor only reported");
}

#[test]
fn what_a_read_in_doubt_shows_does_not_count_as_applied() {
    let back = lagging().with(|it| it.channel.spec.config = Some(map(json!({"a": 1}))));
    let applied = |sample: &Sample| sample.summarize(&Outcome::More).status.applied.unwrap().digest;
    assert_eq!(applied(&back), None, "nor does what was applied before: the next process must doubt it too");
    let current = back.clone().with(|it| it.observed.window = Window::default());
    assert_eq!(applied(&current), Some(current.view().digest()));
}

#[test]
fn an_update_whose_answer_was_lost_is_sent_again_in_its_window() {
    let lost = lagging().with(|it| {
        let (end, sent) = it.observed.window.values.take().unwrap();
        it.observed.window.values = Some((end, Values { answer: Answer::Lost, ..sent }));
    });
    assert!(matches!(lost.step(), Step::Update { cause: Cause::Manifest, .. }), "and is no drift");
    let same = lost.with(|it| it.remote().config = map(json!({"a": 2})));
    assert!(matches!(same.step(), Step::Update { .. }), "the read may be older than an earlier update");
}

#[test]
fn an_update_that_was_answered_with_other_values_is_not_repeated_before_its_window_ends() {
    let kept = Sample::bound().with(|it| {
        it.config(json!({"a": "A"}), json!({"a": "a"}));
        let remote = it.remote().clone();
        let answer = answer_values(&it.view(), &remote);
        it.observed.window.values = Some((it.instant + s(50), answer));
    });
    assert_eq!(
        kept.says(),
        (
            ConclusionKind::WaitingForRemote { longest: crate::channel::model::MAX_POLL_INTERVAL },
            Reason::Progressing
        )
    );
    assert_eq!(kept.verdict().drift.len(), 1);
    assert!(matches!(kept.with(|it| it.observed.window = Window::default()).step(), Step::Update { .. }));
}

#[test]
fn after_a_start_the_status_records_the_last_write() {
    let begun: Edit = |it| {
        it.observed.window = Window { began: Some(it.instant + s(50)), ..Window::default() };
        it.status.observed_generation = Some(1);
    };
    let updates =
        |sample: &Sample| matches!(sample.plan(), crate::channel::model::Plan::Work(Step::Update { .. }));
    let older = lagging().with(begun);
    assert!(is_stale(&older), "values that differ from what was applied");
    let fits = older.clone().with(|it| it.remote().config = map(json!({"a": 2})));
    assert_eq!(fits.says(), (ConclusionKind::InSync, Reason::Available));
    let changed = older.clone().with(|it| it.channel.spec.config = Some(map(json!({"a": 1}))));
    assert!(updates(&changed), "a manifest that was changed meanwhile, to what the read has");
    let unseen = fits.with(|it| it.memory.doubted = true);
    assert!(
        matches!(unseen.step(), Step::Update { cause: Cause::Manifest, .. }),
        "an earlier process may have written for a generation that no status records"
    );
    let ours = older.clone().with(|it| it.memory.bound_by_this_process = true);
    assert!(updates(&ours), "this process bound it, so no earlier one wrote");
    let never = older.with(|it| it.status.applied = None);
    assert!(updates(&never));
    let adopted = never.with(|it| it.remote().config = map(json!({"a": 2})));
    assert!(updates(&adopted), "an earlier process may have updated it before it wrote a status");
    let adopted = adopted.with(|it| it.memory.bound_by_this_process = true);
    assert!(updates(&adopted), "and this one adopts it again");
    let marked = adopted.with(|it| it.memory.finalizer_set_by_this_process = true);
    assert_eq!(
        marked.says(),
        (ConclusionKind::InSync, Reason::Available),
        "no earlier one had its finalizer on it"
    );
}

#[test]
fn a_404_inside_a_window_keeps_the_status_of_this_generation() {
    for (name, generation, ready) in
        [("current", 1, ("True", "Available")), ("older", 2, ("Unknown", "Progressing"))]
    {
        let sample = lagging().with(|it| {
            it.channel.metadata.generation = Some(generation);
            it.observed.remote = Remote::Stale { again: s(4) };
        });
        let after = sample.settle();
        assert_eq!(condition(&after.status, kind::READY), Some(ready), "{name}");
        let reconciling = condition(&after.status, kind::RECONCILING);
        assert_eq!(reconciling, (generation == 2).then_some(("True", "Progressing")), "{name}");
        assert!(!conditions::is_true(&after.status.conditions, kind::STALLED), "{name}");
        assert_eq!((after.wake, after.failures), (Some(s(4)), 0), "{name}");
    }
    // A stale read does not revert an existing conclusion.
    let stalled = Sample::bound().with(|it| it.observed.remote = Remote::Absent { proven: true });
    let outcome = Outcome::Settled(stalled.verdict());
    let stalled = stalled.after(&outcome).with(|it| it.observed.remote = Remote::Stale { again: s(4) });
    assert_eq!(stalled.settle().status.conditions, stalled.status.conditions);
}

#[test]
fn a_404_to_a_delete_inside_a_window_neither_blocks_nor_removes_the_finalizer() {
    let sample = Sample::terminating().with(|it| it.observed.remote = Remote::Stale { again: s(4) });
    assert!(is_stale(&sample));
    assert_eq!(condition(&sample.settle().status, kind::DELETION_BLOCKED), None);
    assert_eq!(sample.settle().wake, Some(s(4)));
}

#[test]
fn an_absence_counts_after_two_404s_thirty_seconds_apart_for_one_id_and_one_kind_of_call() {
    let (mut memory, now) = (InMemoryState::default(), crate::test_clock::instant());
    for (id, to_delete, after, rest) in [
        ("c1", false, 0, Some(30)),
        ("c1", false, 10, Some(20)),
        ("c2", false, 29, Some(30)),
        ("c1", false, 30, Some(30)),
        ("c1", false, 60, None),
        ("c1", false, 90, None),
        ("c1", true, 90, Some(30)),
        ("c1", true, 120, None),
    ] {
        assert_eq!(
            note_absence(&mut memory, id, to_delete, now + s(after)),
            rest.map(s),
            "{id} after {after} s"
        );
    }
}

#[test]
fn the_error_of_before_the_last_retry_is_no_failed_retry() {
    let failing = Sample::bound().with(|it| {
        it.status.observed_generation = Some(1);
        it.remote().status = Some("error".into());
        it.status.provisioning = Some(ProvisioningStatus { attempts: 5, ..Default::default() });
    });
    assert_eq!(failing.verdict().reason, Reason::ProvisioningFailed);
    for edit in [(|it| it.observed.window.retry = Some(it.instant + s(50))) as Edit, |it| {
        it.observed.window.began = Some(it.instant + s(50))
    }] {
        let stale = failing.clone().with(edit);
        assert!(is_stale(&stale));
        let asked = stale.clone().with(|it| it.annotate(annotation::RETRY_REQUESTED, "now"));
        assert!(matches!(asked.step(), Step::Retry { .. }), "a person's request does not wait");
    }
    let started = failing.with(|it| {
        it.status.provisioning = None;
        it.observed.window.began = Some(it.instant + s(50));
    });
    assert!(is_stale(&started), "an earlier process may have sent one that helped");
    for (name, edit) in [
        (
            "the status announces the first",
            (|it| {
                let next_attempt_at = Some("2026-01-10T08:01:00Z".into());
                it.status.provisioning = Some(ProvisioningStatus { next_attempt_at, ..Default::default() });
            }) as Edit,
        ),
        ("this process bound the channel", |it| it.memory.bound_by_this_process = true),
    ] {
        let first = started.clone().with(edit);
        assert_eq!(first.verdict().reason, Reason::ProvisioningFailed, "{name}");
    }
}

#[test]
fn what_was_just_deleted_is_not_adopted() {
    let adopting = Sample::adopting().with(|it| it.observed.window.deleted = Some(it.instant + s(50)));
    assert!(is_stale(&adopting));
    let later = adopting.with(|it| it.observed.window = Window::default());
    assert!(matches!(later.step(), Step::Adopt { .. }));
    // Shortly after a start only a bound Channel that is being deleted indicates a DELETE.
    let started = later.with(|it| it.observed.window.began = Some(it.instant + s(50)));
    assert!(matches!(started.step(), Step::Adopt { .. }));
    let handed_over = started.with(|it| {
        it.observed.predecessor = Some(Predecessor { name: "a".into(), origin: Origin::Created });
    });
    assert!(is_stale(&handed_over));
}

#[test]
fn reverts_of_one_field_count_within_the_horizon_and_once_for_each_write() {
    let now = crate::test_clock::instant();
    let fights = |reads: &[(&str, u64)]| {
        let mut memory = InMemoryState::default();
        for (path, at) in reads {
            memory.note_update("d".into());
            memory.note_differences([*path].into_iter(), "d", now + s(*at), REVERT_HORIZON);
            memory.note_differences([*path].into_iter(), "d", now + s(at + 1), REVERT_HORIZON);
        }
        memory.reverts.contested
    };
    assert!(fights(&[("a", 0), ("a", 1800), ("a", 3600)]));
    assert!(!fights(&[("a", 0), ("a", 1800), ("a", 3601)]), "more than an hour");
    assert!(!fights(&[("a", 0), ("b", 60), ("a", 120)]), "two fields");
    assert!(fights(&[("a", 0), ("b", 60), ("a", 120), ("a", 180)]));
    assert!(!fights(&[("a", 0), ("a", 60)]));
}

#[test]
fn drift_that_is_only_reported_is_no_value_that_an_update_was_not_answered_with() {
    let mut sample = Sample::bound().with(|it| {
        it.channel.spec.drift_policy = Some("Report".into());
        it.config(json!({"a": 1, "b": 1}), json!({"a": 9, "b": 1}));
        it.applied();
        it.status.drift = it.verdict().drift;
        it.channel.spec.config = Some(map(json!({"a": 1, "b": 2})));
    });
    let mut answered = sample.remote().clone();
    answered.config = map(json!({"a": 9, "b": 2}));
    assert!(matches!(answer_values(&sample.view(), &answered).answer, Answer::Shows(_)));
    answered.config = map(json!({"a": 9, "b": 1}));
    assert!(matches!(answer_values(&sample.view(), &answered).answer, Answer::Differs(_)));
}
