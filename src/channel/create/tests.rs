// pure
use super::*;

const UID: &str = "uid-1";
const INTENT: &str = "uid-1/1/2026-01-10T08:00:00Z";

fn facts() -> Facts<'static> {
    Facts { uid: UID, ..Facts::default() }
}

fn own(attempt: i64, outcome: Outcome<'static>) -> Remembered<'static> {
    Remembered { attempt, outcome, intent: Some(INTENT), after: None, last: true }
}

fn unknown(uid: &str, number: i64) -> Standing {
    Standing::OutcomeUnknown(Attempt { uid: uid.into(), number })
}

#[test]
fn creates_only_when_nothing_was_ever_sent() {
    assert_eq!(standing(&facts()), Standing::Create { attempt: 1 });
    assert_eq!(standing(&Facts { intent: Some(INTENT), ..facts() }), unknown(UID, 1));
}

#[test]
fn never_creates_twice_after_an_unknown_outcome() {
    for (recorded, outcome) in [
        (Some((1, "Unknown")), None),
        (None, Some(Outcome::Unknown)),
        (Some((2, "Rejected")), None),
        (None, None),
    ] {
        let remembered = outcome.map(|outcome| own(1, outcome));
        let found = standing(&Facts { intent: Some(INTENT), recorded, remembered, ..facts() });
        assert_eq!(found, unknown(UID, 1), "{recorded:?} {remembered:?}");
    }
}

#[test]
fn a_record_is_not_believed_against_what_this_process_remembers() {
    let remembered = Some(own(1, Outcome::Unknown));
    for intent in [INTENT, "", "uid-1/x/y"] {
        let forged = Facts { intent: Some(intent), recorded: Some((1, "Rejected")), remembered, ..facts() };
        assert!(matches!(standing(&forged), Standing::OutcomeUnknown(_)), "{intent:?}");
    }
}

#[test]
fn tries_again_after_an_attempt_that_made_nothing() {
    for outcome in ["Rejected", "NotSent"] {
        let found = standing(&Facts { intent: Some(INTENT), recorded: Some((1, outcome)), ..facts() });
        assert_eq!(found, Standing::Create { attempt: 2 });
    }
    for outcome in [Outcome::Rejected, Outcome::NotSent] {
        let remembered = Some(own(1, outcome));
        assert_eq!(
            standing(&Facts { intent: Some(INTENT), remembered, ..facts() }),
            Standing::Create { attempt: 2 }
        );
    }
}

#[test]
fn a_person_may_say_that_an_attempt_made_nothing_but_must_name_it() {
    let with = |again| Facts { intent: Some(INTENT), create_again: Some(again), ..facts() };
    assert_eq!(standing(&with("uid-1/1")), Standing::Create { attempt: 2 });
    for wrong in ["uid-1/2", "uid-2/1", "uid-1", "", "true"] {
        assert_eq!(standing(&with(wrong)), unknown(UID, 1), "{wrong:?}");
    }
}

#[test]
fn an_intent_of_another_object_or_a_malformed_one_is_never_believed() {
    let copied = Facts { intent: Some("uid-0/3/2026-01-10T08:00:00Z"), ..facts() };
    assert_eq!(standing(&copied), unknown("uid-0", 3));
    assert_eq!(standing(&Facts { create_again: Some("uid-0/3"), ..copied }), Standing::Create { attempt: 1 });
    for malformed in ["", "x", "uid-1/1", "uid-1/x/2026-01-10T08:00:00Z", "uid-1/-1/2026-01-10T08:00:00Z"] {
        let found = standing(&Facts { intent: Some(malformed), ..facts() });
        assert_eq!(found, unknown(UID, 0), "{malformed:?}");
    }
}

#[test]
fn a_record_without_its_intent_parks() {
    for outcome in ["Unknown", "Rejected", "NotSent"] {
        assert_eq!(standing(&Facts { recorded: Some((2, outcome)), ..facts() }), unknown(UID, 2));
    }
}

#[test]
fn an_intent_that_was_removed_is_still_remembered_by_the_process_that_wrote_it() {
    let remembered = Some(own(1, Outcome::Unknown));
    assert_eq!(standing(&Facts { remembered, ..facts() }), unknown(UID, 1));
}

#[test]
fn an_answer_is_recorded_before_anything_else() {
    let remembered = Some(own(2, Outcome::Answered("c1")));
    let record = Standing::Record { id: "c1".into(), attempt: 2 };
    assert_eq!(standing(&Facts { remembered, ..facts() }), record);
    assert_eq!(standing(&Facts { remembered, terminating: true, ..facts() }), record);
    assert_eq!(standing(&Facts { remembered, spec_id: Some("c1"), ..facts() }), record);
    assert_eq!(
        standing(&Facts { remembered, spec_id: Some("c2"), ..facts() }),
        Standing::TwoIds { answered: "c1".into(), declared: "c2".into() }
    );
}

#[test]
fn a_copied_status_is_not_believed_until_the_manifest_names_its_id() {
    let copied = Facts { status_id: Some("c1"), bound_uid: Some("uid-0"), ..facts() };
    assert_eq!(standing(&copied), Standing::ForeignStatus("c1".into()));
    assert_eq!(standing(&Facts { spec_id: Some("c1"), ..copied }), Standing::Bound("c1".into()));
    let bound = Facts { status_id: Some("c1"), bound_uid: Some(UID), ..facts() };
    assert_eq!(standing(&bound), Standing::Bound("c1".into()));
}

#[test]
fn a_terminating_channel_goes_only_when_nothing_can_be_left() {
    let gone = |facts: Facts| standing(&Facts { terminating: true, ..facts });
    assert_eq!(gone(facts()), Standing::NothingThere);
    assert_eq!(gone(Facts { spec_id: Some("c1"), ..facts() }), Standing::NothingThere);
    let rejected = Facts { intent: Some(INTENT), recorded: Some((1, "Rejected")), ..facts() };
    assert_eq!(gone(rejected), Standing::NothingThere);
    let may_exist = Standing::MayExist(Attempt { uid: UID.into(), number: 1 });
    assert_eq!(gone(Facts { intent: Some(INTENT), ..facts() }), may_exist);
    assert_eq!(gone(Facts { intent: Some(INTENT), spec_id: Some("c1"), ..facts() }), may_exist);
}

#[test]
fn adopts_also_after_an_unknown_attempt_and_observes_without_creating() {
    let adopt = Standing::Adopt("c1".into());
    assert_eq!(standing(&Facts { spec_id: Some("c1"), ..facts() }), adopt);
    assert_eq!(standing(&Facts { spec_id: Some("c1"), intent: Some(INTENT), ..facts() }), adopt);
    assert_eq!(standing(&Facts { observe: true, ..facts() }), Standing::NotCreated);
}

#[test]
fn an_intent_survives_its_round_trip() {
    let attempt = Attempt { uid: UID.into(), number: 7 };
    let at = "2026-01-10T08:00:00.123Z".parse().unwrap();
    assert_eq!(attempt.intent(at), "uid-1/7/2026-01-10T08:00:00.123000Z");
    assert_eq!(Attempt::of_intent(&attempt.intent(at)), Some(attempt));
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
        assert_eq!(may_be_of(sent, created), may_be, "{created:?}");
        assert!(may_be_of(None, created));
    }
}

#[test]
fn what_is_remembered_of_an_attempt_says_nothing_of_another_processs_intent_of_the_same_number() {
    let theirs = "uid-1/1/2026-01-10T08:00:01Z";
    for outcome in [Outcome::NotSent, Outcome::Rejected] {
        let remembered = Some(own(1, outcome));
        let found = standing(&Facts { intent: Some(theirs), remembered, ..facts() });
        assert_eq!(found, unknown(UID, 1), "a refused write of our own intent left theirs");
        let deposed = remembered.map(|own| Remembered { last: false, ..own });
        for recorded in [Some((1, "Unknown")), Some((1, "Rejected"))] {
            let found = standing(&Facts { remembered: deposed, recorded, ..facts() });
            assert_eq!(found, unknown(UID, 1), "and it was removed");
        }
    }
}

#[test]
fn an_intent_whose_write_failed_parks_nobody() {
    let first = Some(INTENT);
    let remembered = Some(Remembered {
        intent: Some("uid-1/2/2026-01-10T09:00:00Z"),
        after: first,
        ..own(2, Outcome::NotSent)
    });
    for intent in [first, Some("uid-1/2/2026-01-10T09:00:00Z"), None] {
        assert_eq!(standing(&Facts { intent, remembered, ..facts() }), Standing::Create { attempt: 3 });
    }
}
