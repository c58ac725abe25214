use strum::VariantArray;

use super::*;
use crate::classify::ErrorKind;

const UID: &str = "uid-1";
const INTENT: &str = "uid-1/1/2026-01-10T08:00:00Z";

fn facts() -> BindingFacts<'static> {
    BindingFacts { uid: UID, ..BindingFacts::default() }
}

fn own(attempt: i64, outcome: CreateOutcome<'static>) -> Remembered<'static> {
    Remembered { attempt, outcome, intent: Some(INTENT), after: None, last: true }
}

fn unknown(uid: &str, number: i64) -> Binding {
    Binding::UnresolvedCreate(AttemptId { uid: uid.into(), number })
}

#[test]
fn creates_only_when_nothing_was_ever_sent() {
    assert_eq!(binding(&facts()), Binding::Create { attempt: 1 });
    assert_eq!(binding(&BindingFacts { intent: Some(INTENT), ..facts() }), unknown(UID, 1));
}

#[test]
fn never_creates_twice_after_an_unknown_outcome() {
    for (recorded, outcome) in [
        (Some((1, Some(RecordedOutcome::Unknown))), None),
        (None, Some(CreateOutcome::Unknown)),
        (Some((2, Some(RecordedOutcome::Rejected))), None),
        (None, None),
    ] {
        let remembered = outcome.map(|outcome| own(1, outcome));
        let found = binding(&BindingFacts { intent: Some(INTENT), recorded, remembered, ..facts() });
        assert_eq!(found, unknown(UID, 1), "{recorded:?} {remembered:?}");
    }
}

#[test]
fn a_record_that_contradicts_memory_is_not_trusted() {
    let remembered = Some(own(1, CreateOutcome::Unknown));
    for intent in [INTENT, "", "uid-1/x/y"] {
        let forged = BindingFacts {
            intent: Some(intent),
            recorded: Some((1, Some(RecordedOutcome::Rejected))),
            remembered,
            ..facts()
        };
        assert!(matches!(binding(&forged), Binding::UnresolvedCreate(_)), "{intent:?}");
    }
    let later = Some("uid-1/2/2026-01-10T09:00:00Z");
    let of_another_process = BindingFacts {
        intent: later,
        recorded: Some((2, Some(RecordedOutcome::Rejected))),
        remembered,
        ..facts()
    };
    assert_eq!(binding(&of_another_process), Binding::Create { attempt: 3 }, "it remembers an earlier one");
}

#[test]
fn retries_after_an_attempt_that_created_nothing() {
    for outcome in [RecordedOutcome::Rejected, RecordedOutcome::NotSent] {
        let found =
            binding(&BindingFacts { intent: Some(INTENT), recorded: Some((1, Some(outcome))), ..facts() });
        assert_eq!(found, Binding::Create { attempt: 2 });
    }
    for outcome in [CreateOutcome::Rejected, CreateOutcome::NotSent] {
        let remembered = Some(own(1, outcome));
        assert_eq!(
            binding(&BindingFacts { intent: Some(INTENT), remembered, ..facts() }),
            Binding::Create { attempt: 2 }
        );
    }
}

#[test]
fn a_user_can_confirm_that_an_attempt_created_nothing_and_must_name_it() {
    let with = |again| BindingFacts { intent: Some(INTENT), create_again: Some(again), ..facts() };
    assert_eq!(binding(&with("uid-1/1")), Binding::Create { attempt: 2 });
    for wrong in ["uid-1/2", "uid-2/1", "uid-1", "", "true"] {
        assert_eq!(binding(&with(wrong)), unknown(UID, 1), "{wrong:?}");
    }
}

#[test]
fn an_intent_of_another_object_or_a_malformed_one_is_never_trusted() {
    let copied = BindingFacts { intent: Some("uid-0/3/2026-01-10T08:00:00Z"), ..facts() };
    assert_eq!(binding(&copied), unknown("uid-0", 3));
    assert_eq!(
        binding(&BindingFacts { create_again: Some("uid-0/3"), ..copied }),
        Binding::Create { attempt: 1 }
    );
    let too_long = format!("{}/1/2026-01-10T08:00:00Z", "u".repeat(65));
    for malformed in [
        "",
        "x",
        "uid-1/1",
        "uid-1/x/2026-01-10T08:00:00Z",
        "uid-1/-1/2026-01-10T08:00:00Z",
        "uid-0/0/2026-01-10T08:00:00Z",
        "/1/2026-01-10T08:00:00Z",
        &too_long,
    ] {
        let found = binding(&BindingFacts { intent: Some(malformed), ..facts() });
        assert_eq!(found, unknown(UID, 0), "{malformed:?}");
    }
    assert!(AttemptId::of_intent(&too_long[1..]).is_some());
}

#[test]
fn the_last_attempt_is_the_later_one_of_the_intent_s_and_the_remembered_one() {
    let attempts = |intent, number| {
        let remembered = Some(Remembered { intent: None, ..own(number, CreateOutcome::Unknown) });
        binding(&BindingFacts { intent: Some(intent), remembered, ..facts() })
    };
    for (intent, number, expected) in [
        (INTENT, 1, unknown(UID, 1)),
        (INTENT, 2, unknown(UID, 2)),
        ("uid-1/3/2026-01-10T08:00:00Z", 2, unknown(UID, 3)),
        // An intent of another object does not count.
        ("uid-0/3/2026-01-10T08:00:00Z", 2, unknown("uid-0", 3)),
        ("uid-0/1/2026-01-10T08:00:00Z", 2, unknown("uid-0", 1)),
    ] {
        assert_eq!(attempts(intent, number), expected, "{intent} {number}");
    }
}

#[test]
fn a_record_without_its_intent_is_unresolved() {
    for outcome in RecordedOutcome::VARIANTS.iter().copied().map(Some).chain([None]) {
        assert_eq!(binding(&BindingFacts { recorded: Some((2, outcome)), ..facts() }), unknown(UID, 2));
    }
}

#[test]
fn an_intent_that_was_removed_is_still_remembered_by_the_process_that_wrote_it() {
    let remembered = Some(own(1, CreateOutcome::Unknown));
    assert_eq!(binding(&BindingFacts { remembered, ..facts() }), unknown(UID, 1));
}

#[test]
fn an_answer_is_recorded_before_anything_else() {
    let remembered = Some(own(2, CreateOutcome::Answered("c1")));
    let record = Binding::Record { id: "c1".into(), attempt: 2 };
    assert_eq!(binding(&BindingFacts { remembered, ..facts() }), record);
    assert_eq!(
        deletion_binding(&BindingFacts { remembered, ..facts() }),
        DeletionBinding::Record { id: "c1".into(), attempt: 2 }
    );
    assert_eq!(binding(&BindingFacts { remembered, spec_id: Some("c1"), ..facts() }), record);
    assert_eq!(
        binding(&BindingFacts { remembered, spec_id: Some("c2"), ..facts() }),
        Binding::ConflictingIds { answered: "c1".into(), declared: "c2".into() }
    );
    let written = BindingFacts { remembered, status_id: Some("c1"), bound_uid: Some(UID), ..facts() };
    assert_eq!(binding(&written), Binding::Bound("c1".into()), "bound after the write");
}

#[test]
fn an_answer_names_another_channel_than_the_one_that_is_bound_or_else_declared() {
    for (bound, bound_uid, declared, another) in [
        (None, None, None, None),
        (None, None, Some("c1"), None),
        (None, None, Some("c2"), Some("c2")),
        (Some("c1"), Some(UID), Some("c2"), None),
        (Some("c2"), Some(UID), Some("c1"), Some("c2")),
        (Some("c2"), Some(UID), None, Some("c2")),
        (Some("c2"), Some("uid-0"), None, None),
        (Some("c1"), Some("uid-0"), Some("c3"), Some("c3")),
        (Some("c2"), None, Some("c1"), None),
    ] {
        let mut channel = Channel::new("a", Default::default());
        channel.metadata.uid = Some(UID.into());
        channel.spec.channel_id = declared.map(Into::into);
        let status = ChannelStatus {
            channel_id: bound.map(Into::into),
            bound_uid: bound_uid.map(Into::into),
            ..ChannelStatus::default()
        };
        let found = conflicting_id(&channel, &status, "c1");
        assert_eq!(found.as_deref(), another, "{bound:?} {bound_uid:?} {declared:?}");
    }
}

#[test]
fn a_conflict_after_create_again_may_be_with_the_channel_that_was_given_up() {
    for (status, again, expected) in [
        (Some(409), true, Class::Ambiguous),
        (Some(409), false, Class::Rejected),
        (Some(422), true, Class::Rejected),
        (None, true, Class::Rejected),
        (None, false, Class::Rejected),
    ] {
        let error = ApiError { status, ..ApiError::new(Class::Rejected, ErrorKind::Invalid, "no") };
        assert_eq!(classify_create_error(&error, again), expected, "{status:?} {again}");
    }
}

#[test]
fn an_unresolved_create_keeps_its_record_or_gets_one_from_the_intent() {
    let attempt = AttemptId { uid: UID.into(), number: 1 };
    let record = |number, outcome: &str| CreateStatus {
        attempt: number,
        outcome: outcome.into(),
        sent_at: Some("2026-01-10T07:00:00Z".into()),
    };
    let by_intent = CreateStatus { sent_at: Some("2026-01-10T08:00:00Z".into()), ..record(1, "Unknown") };
    for (past, expected) in [
        (Some(record(1, "Unknown")), record(1, "Unknown")),
        (Some(record(2, "Unknown")), by_intent.clone()),
        (Some(record(1, "Rejected")), by_intent.clone()),
        (None, by_intent),
    ] {
        assert_eq!(unresolved(past.as_ref(), &attempt, Some(INTENT)), expected, "{past:?}");
    }
    for unreadable in [None, Some(""), Some("uid-1/1/yesterday")] {
        assert_eq!(unresolved(None, &attempt, unreadable).sent_at, None, "{unreadable:?}");
    }
}

#[test]
fn a_copied_status_is_not_trusted_until_the_manifest_names_its_id() {
    let copied = BindingFacts { status_id: Some("c1"), bound_uid: Some("uid-0"), ..facts() };
    assert_eq!(binding(&copied), Binding::StatusOfOtherObject("c1".into()));
    assert_eq!(
        binding(&BindingFacts { spec_id: Some("c2"), ..copied }),
        Binding::StatusOfOtherObject("c1".into())
    );
    let adopt = Binding::Adopt("c1".into());
    for facts in
        [copied, BindingFacts { intent: Some(INTENT), ..copied }, BindingFacts { observe: true, ..copied }]
    {
        assert_eq!(binding(&BindingFacts { spec_id: Some("c1"), ..facts }), adopt, "adopted again");
    }
    let bound = BindingFacts { status_id: Some("c1"), bound_uid: Some(UID), ..facts() };
    assert_eq!(binding(&bound), Binding::Bound("c1".into()));
}

#[test]
fn a_terminating_channel_is_deleted_only_when_nothing_can_be_left() {
    let gone = |facts: BindingFacts| deletion_binding(&facts);
    assert_eq!(gone(facts()), DeletionBinding::NeverCreated);
    assert_eq!(gone(BindingFacts { spec_id: Some("c1"), ..facts() }), DeletionBinding::NeverCreated);
    let rejected = BindingFacts {
        intent: Some(INTENT),
        recorded: Some((1, Some(RecordedOutcome::Rejected))),
        ..facts()
    };
    assert_eq!(gone(rejected), DeletionBinding::NeverCreated);
    let may_exist = DeletionBinding::UnresolvedCreate(AttemptId { uid: UID.into(), number: 1 });
    assert_eq!(gone(BindingFacts { intent: Some(INTENT), ..facts() }), may_exist);
    assert_eq!(gone(BindingFacts { intent: Some(INTENT), spec_id: Some("c1"), ..facts() }), may_exist);
}

#[test]
fn a_terminating_channel_with_the_status_of_another_is_released_unless_its_own_create_is_unresolved() {
    let copied = BindingFacts { status_id: Some("c1"), bound_uid: Some("uid-0"), ..facts() };
    let retained = DeletionBinding::StatusOfOtherObject("c1".into());
    let held = DeletionBinding::UnresolvedCreate(AttemptId { uid: UID.into(), number: 1 });
    let own_intent = BindingFacts { intent: Some(INTENT), ..copied };
    for (what, facts, expected) in [
        ("as it is", copied, &retained),
        ("the manifest names the id", BindingFacts { spec_id: Some("c1"), ..copied }, &retained),
        (
            "a copied intent",
            BindingFacts { intent: Some("uid-0/1/2026-01-10T08:00:00Z"), ..copied },
            &retained,
        ),
        ("an intent of its own", own_intent, &held),
        ("an intent of its own and the id named", BindingFacts { spec_id: Some("c1"), ..own_intent }, &held),
        (
            "which the copied status calls rejected",
            BindingFacts { recorded: Some((1, Some(RecordedOutcome::Rejected))), ..own_intent },
            &held,
        ),
        ("which created nothing", BindingFacts { create_again: Some("uid-1/1"), ..own_intent }, &retained),
        (
            "which this process knows was not sent",
            BindingFacts { remembered: Some(own(1, CreateOutcome::NotSent)), ..own_intent },
            &retained,
        ),
    ] {
        assert_eq!(deletion_binding(&facts), *expected, "{what}");
    }
}

#[test]
fn two_spellings_of_an_id_are_one() {
    let (lower, upper) = ("d4e5f6a7-b8c9-0123-def0-456789abcdef", "D4E5F6A7-B8C9-0123-DEF0-456789ABCDEF");
    let remembered = Some(own(1, CreateOutcome::Answered(lower)));
    let record = Binding::Record { id: lower.into(), attempt: 1 };
    assert_eq!(binding(&BindingFacts { remembered, spec_id: Some(upper), ..facts() }), record);
    let copied =
        BindingFacts { status_id: Some(lower), bound_uid: Some("uid-0"), spec_id: Some(upper), ..facts() };
    assert_eq!(binding(&copied), Binding::Adopt(lower.into()));
}

#[test]
fn adopts_also_after_an_unknown_attempt_and_observes_without_creating() {
    let adopt = Binding::Adopt("c1".into());
    assert_eq!(binding(&BindingFacts { spec_id: Some("c1"), ..facts() }), adopt);
    assert_eq!(binding(&BindingFacts { spec_id: Some("c1"), intent: Some(INTENT), ..facts() }), adopt);
    assert_eq!(binding(&BindingFacts { observe: true, ..facts() }), Binding::NotCreated);
}

#[test]
fn an_intent_survives_its_round_trip() {
    let attempt = AttemptId { uid: UID.into(), number: 7 };
    let at = "2026-01-10T08:00:00.123Z".parse().unwrap();
    assert_eq!(attempt.intent(at), "uid-1/7/2026-01-10T08:00:00.123000Z");
    assert_eq!(AttemptId::of_intent(&attempt.intent(at)), Some(attempt));
}

#[test]
fn a_candidate_was_created_about_when_the_create_was_sent() {
    let sent = Some("2026-01-10T08:00:00Z");
    for (created, may_be) in [
        (Some("2026-01-10T08:00:01.000Z"), true),
        (Some("2026-01-10T07:55:00Z"), true),
        (Some("2026-01-10T07:54:59Z"), false),
        (Some("2026-01-10T08:10:00Z"), true),
        (Some("2026-01-10T08:10:01Z"), false),
        (Some("yesterday"), true),
        (None, true),
    ] {
        let now = "2026-01-10T09:00:00Z".parse().unwrap();
        assert_eq!(could_originate_from(sent, created, now), may_be, "{created:?}");
        assert!(could_originate_from(None, created, now));
        // The clock that wrote the time was ahead: the time of the create is unknown.
        let back = "2026-01-10T07:54:59Z".parse().unwrap();
        assert!(could_originate_from(sent, created, back), "{created:?}");
    }
}

#[test]
fn a_remembered_attempt_has_no_effect_on_another_processs_intent_of_the_same_number() {
    let theirs = "uid-1/1/2026-01-10T08:00:01Z";
    for outcome in [CreateOutcome::NotSent, CreateOutcome::Rejected] {
        let remembered = Some(own(1, outcome));
        let found = binding(&BindingFacts { intent: Some(theirs), remembered, ..facts() });
        assert_eq!(found, unknown(UID, 1), "a refused write of our own intent left theirs");
        let deposed = remembered.map(|own| Remembered { last: false, ..own });
        for recorded in
            [Some((1, Some(RecordedOutcome::Unknown))), Some((1, Some(RecordedOutcome::Rejected)))]
        {
            let found = binding(&BindingFacts { remembered: deposed, recorded, ..facts() });
            assert_eq!(found, unknown(UID, 1), "and it was removed");
        }
    }
}

#[test]
fn an_intent_whose_write_failed_leaves_nothing_unresolved() {
    let first = Some(INTENT);
    let remembered = Some(Remembered {
        intent: Some("uid-1/2/2026-01-10T09:00:00Z"),
        after: first,
        ..own(2, CreateOutcome::NotSent)
    });
    for intent in [first, Some("uid-1/2/2026-01-10T09:00:00Z"), None] {
        assert_eq!(binding(&BindingFacts { intent, remembered, ..facts() }), Binding::Create { attempt: 3 });
    }
}
