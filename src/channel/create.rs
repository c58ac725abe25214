// pure
//! Whether a channel may be created: the table of the create protocol, asked from top to bottom.
//!
//! The API has no idempotency key and no documented list, so an attempt whose answer was lost can't be looked up.
//! The rule that follows: a POST leaves only when it is certain that no earlier attempt may have made a channel.

use std::fmt;

use jiff::Timestamp;

/// What the decision rests on; every field as it was read, none interpreted.
#[derive(Clone, Debug, Default)]
pub struct Facts<'a> {
    pub uid: &'a str,
    pub terminating: bool,
    /// `managementPolicy: Observe`.
    pub observe: bool,
    pub spec_id: Option<&'a str>,
    pub status_id: Option<&'a str>,
    pub bound_uid: Option<&'a str>,
    /// The annotation `create-intent`.
    pub intent: Option<&'a str>,
    /// `status.create`: attempt and outcome.
    pub recorded: Option<(i64, &'a str)>,
    /// The annotation `create-again`.
    pub create_again: Option<&'a str>,
    /// What this process knows of an attempt for this uid.
    pub remembered: Option<Remembered<'a>>,
}

/// What this process knows of its own last attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Remembered<'a> {
    pub attempt: i64,
    pub outcome: Outcome<'a>,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome<'a> {
    InFlight,
    Answered(&'a str),
    Rejected,
    NotSent,
    Unknown,
}

/// Names an attempt the way messages, `create-again` and `release` do: `<uid>/<attempt>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub uid: String,
    pub number: i64,
}

/// Where a Channel stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    /// A POST of this process is under way.
    InFlight,
    /// Answered with this id, which is not written yet.
    Record { id: String, attempt: i64 },
    /// Answered with one id while the manifest names another.
    TwoIds { answered: String, declared: String },
    /// Terminating, and nothing was ever made.
    NothingThere,
    /// Terminating, and a channel may exist that nobody knows the id of.
    MayExist(Attempt),
    /// Bound to this channel.
    Bound(String),
    /// The status holds an id that was not bound to this object.
    ForeignStatus(String),
    /// To be adopted.
    Adopt(String),
    /// Observe, and there is no channel.
    NotCreated,
    /// To be created, as this attempt.
    Create { attempt: i64 },
    /// A create may have been sent and its outcome is not known: never POST.
    OutcomeUnknown(Attempt),
}

/// The table of the create protocol.
pub fn standing(facts: &Facts) -> Standing {
    if let Some(standing) = answered(facts) {
        return standing;
    }
    if let Some(id) = facts.status_id {
        let ours = facts.bound_uid == Some(facts.uid) || facts.spec_id == Some(id);
        return if ours { Standing::Bound(id.into()) } else { Standing::ForeignStatus(id.into()) };
    }
    if facts.terminating {
        return match last_attempt(facts) {
            Last::None | Last::Over(_) => Standing::NothingThere,
            Last::Open(attempt) => Standing::MayExist(attempt),
        };
    }
    if let Some(id) = facts.spec_id {
        return Standing::Adopt(id.into());
    }
    match last_attempt(facts) {
        Last::Open(attempt) => Standing::OutcomeUnknown(attempt),
        _ if facts.observe => Standing::NotCreated,
        Last::None => Standing::Create { attempt: 1 },
        Last::Over(attempt) => Standing::Create { attempt: attempt.saturating_add(1) },
    }
}

fn answered(facts: &Facts) -> Option<Standing> {
    let Remembered { attempt, outcome } = facts.remembered?;
    match outcome {
        Outcome::InFlight => Some(Standing::InFlight),
        Outcome::Answered(id) => match facts.status_id.or(facts.spec_id) {
            None => Some(Standing::Record { id: id.into(), attempt }),
            Some(other) if other == id && facts.status_id.is_none() => {
                Some(Standing::Record { id: id.into(), attempt })
            }
            Some(other) if other == id => None,
            Some(other) => Some(Standing::TwoIds { answered: id.into(), declared: other.into() }),
        },
        _ => None,
    }
}

enum Last {
    /// Nothing was ever sent.
    None,
    /// The attempt with this number made no channel.
    Over(i64),
    /// The attempt may have made a channel.
    Open(Attempt),
}

fn last_attempt(facts: &Facts) -> Last {
    let Some(attempt) = named_attempt(facts) else { return Last::None };
    let text = attempt.to_string();
    let ours = attempt.uid == facts.uid;
    if facts.create_again == Some(text.as_str()) {
        return Last::Over(if ours { attempt.number } else { 0 });
    }
    let remembered_open =
        facts.remembered.is_some_and(|own| own.attempt == attempt.number && own.outcome == Outcome::Unknown);
    // Without the intent a record is not enough: a later attempt's intent may be what was removed. Nor is one that
    // says otherwise than this process remembers.
    let recorded_over = facts.intent.is_some()
        && !remembered_open
        && facts.recorded.is_some_and(|(number, outcome)| {
            number == attempt.number && matches!(outcome, "Rejected" | "NotSent")
        });
    let remembered_over = facts.remembered.is_some_and(|own| {
        own.attempt == attempt.number && matches!(own.outcome, Outcome::Rejected | Outcome::NotSent)
    });
    if ours && (recorded_over || remembered_over) { Last::Over(attempt.number) } else { Last::Open(attempt) }
}

/// The attempt that the object or this process speaks of; a malformed intent counts as attempt 0 of this object.
fn named_attempt(facts: &Facts) -> Option<Attempt> {
    let own = |number| Attempt { uid: facts.uid.into(), number };
    let remembered = facts.remembered.map(|own| own.attempt);
    let from_intent = facts.intent.map(|text| Attempt::of_intent(text).unwrap_or_else(|| own(0)));
    match (from_intent, remembered) {
        (Some(intent), Some(number)) if intent.uid == facts.uid && number > intent.number => {
            Some(own(number))
        }
        (Some(intent), _) => Some(intent),
        (None, Some(number)) => Some(own(number)),
        (None, None) => facts.recorded.map(|(number, _)| own(number)),
    }
}

// === impl Attempt ===

impl Attempt {
    /// The attempt that a `create-intent` annotation speaks of; `None` when it is malformed.
    pub fn of_intent(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '/');
        let uid = parts.next().filter(|uid| !uid.is_empty() && uid.len() <= 64)?;
        let number = parts.next()?.parse().ok().filter(|number| *number > 0)?;
        parts.next()?.parse::<Timestamp>().ok()?;
        Some(Self { uid: uid.into(), number })
    }

    /// The `create-intent` annotation of this attempt.
    pub fn intent(&self, at: Timestamp) -> String {
        format!("{self}/{at:.0}")
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.uid, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "uid-1";
    const INTENT: &str = "uid-1/1/2026-01-10T08:00:00Z";

    fn facts() -> Facts<'static> {
        Facts { uid: UID, ..Facts::default() }
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
            let remembered = outcome.map(|outcome| Remembered { attempt: 1, outcome });
            let found = standing(&Facts { intent: Some(INTENT), recorded, remembered, ..facts() });
            assert_eq!(found, unknown(UID, 1), "{recorded:?} {remembered:?}");
        }
    }

    #[test]
    fn a_record_is_not_believed_against_what_this_process_remembers() {
        let remembered = Some(Remembered { attempt: 1, outcome: Outcome::Unknown });
        for intent in [INTENT, "", "uid-1/x/y"] {
            let forged =
                Facts { intent: Some(intent), recorded: Some((1, "Rejected")), remembered, ..facts() };
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
            let remembered = Some(Remembered { attempt: 1, outcome });
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
        assert_eq!(
            standing(&Facts { create_again: Some("uid-0/3"), ..copied }),
            Standing::Create { attempt: 1 }
        );
        for malformed in ["", "x", "uid-1/1", "uid-1/x/2026-01-10T08:00:00Z", "uid-1/-1/2026-01-10T08:00:00Z"]
        {
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
        let remembered = Some(Remembered { attempt: 1, outcome: Outcome::Unknown });
        assert_eq!(standing(&Facts { remembered, ..facts() }), unknown(UID, 1));
    }

    #[test]
    fn an_answer_is_recorded_before_anything_else() {
        let remembered = Some(Remembered { attempt: 2, outcome: Outcome::Answered("c1") });
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
        assert_eq!(attempt.intent(at), "uid-1/7/2026-01-10T08:00:00Z");
        assert_eq!(Attempt::of_intent(&attempt.intent(at)), Some(attempt));
    }
}
