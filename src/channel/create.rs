// pure
//! Whether a channel may be created: the table of the create protocol, asked from top to bottom.
//!
//! The API has no idempotency key and no documented list, so an attempt whose answer was lost can't be looked up.
//! The rule that follows: a POST leaves only when it is certain that no earlier attempt may have made a channel.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::status::seconds;
use crate::api::channel::{Channel, ChannelStatus, CreateStatus};
use crate::api::{annotation, same_id};
use crate::ohallo::{ApiError, Class};

/// What the decision rests on; every field as it was read, none interpreted.
#[derive(Clone, Copy, Debug, Default)]
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
    /// The intent that it wrote, and the one that stood before, whose attempt had made no channel.
    pub intent: Option<&'a str>,
    pub after: Option<&'a str>,
    /// That intent is known to have stood, and this process has led ever since.
    pub last: bool,
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
        return if facts.bound_uid == Some(facts.uid) {
            Standing::Bound(id.into())
        } else {
            foreign(facts, id)
        };
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

/// The status holds an id that was bound to another object. A manifest that names the id as well asks to adopt it anew;
/// nothing else of that status counts.
fn foreign(facts: &Facts, id: &str) -> Standing {
    if !facts.terminating {
        let named = facts.spec_id.is_some_and(|named| same_id(named, id));
        return if named { Standing::Adopt(id.into()) } else { Standing::ForeignStatus(id.into()) };
    }
    match last_attempt(&Facts { recorded: None, ..*facts }) {
        Last::Open(attempt) if attempt.uid == facts.uid => Standing::MayExist(attempt),
        _ => Standing::ForeignStatus(id.into()),
    }
}

fn answered(facts: &Facts) -> Option<Standing> {
    let Remembered { attempt, outcome, .. } = facts.remembered?;
    match outcome {
        Outcome::InFlight => Some(Standing::InFlight),
        Outcome::Answered(id) => {
            let bound = facts.status_id.filter(|_| facts.bound_uid == Some(facts.uid));
            match bound.or(facts.spec_id) {
                Some(other) if !same_id(other, id) => {
                    Some(Standing::TwoIds { answered: id.into(), declared: other.into() })
                }
                _ if bound.is_some() => None,
                _ => Some(Standing::Record { id: id.into(), attempt }),
            }
        }
        _ => None,
    }
}

/// What a create that was not answered with a channel came to. After `create-again` a conflict may be with the channel
/// of the attempt that was given up, which has landed since.
pub fn came_to(error: &ApiError, created_again: bool) -> Class {
    if error.status == Some(409) && created_again { Class::Ambiguous } else { error.class }
}

/// The id that the object names instead of the one that its create was answered with: the manifest was made to name
/// another channel while the POST was under way.
pub fn names_another(channel: &Channel, status: &ChannelStatus, answered: &str) -> Option<String> {
    let bound = status.bound_to(channel.metadata.uid.as_deref().unwrap_or_default());
    let named = bound.or(channel.spec.channel_id.as_deref())?;
    (!same_id(named, answered)).then(|| named.to_owned())
}

/// The status as far as it is this object's own. Where the manifest names the id of a status that another object was bound
/// with, the id is adopted anew, and nothing that the status says of the channel counts.
pub fn believed(channel: &Channel) -> ChannelStatus {
    let status = channel.status.clone().unwrap_or_default();
    let uid = channel.metadata.uid.as_deref().unwrap_or_default();
    let named = channel.spec.channel_id.as_deref().zip(status.channel_id.as_deref());
    let anew = channel.metadata.deletion_timestamp.is_none()
        && status.bound_to(uid).is_none()
        && named.is_some_and(|(declared, copied)| same_id(declared, copied));
    if anew { unbound(status) } else { status }
}

/// What a status says of the object alone, and not of a channel.
pub fn unbound(status: ChannelStatus) -> ChannelStatus {
    ChannelStatus {
        observed_generation: status.observed_generation,
        last_handled_reconcile_at: status.last_handled_reconcile_at,
        conditions: status.conditions,
        ..ChannelStatus::default()
    }
}

/// Whether the object's `create-intent` annotation is well-formed and of this very object.
pub fn is_own_intent(channel: &Channel) -> bool {
    let intent = channel.metadata.annotations.as_ref().and_then(|all| all.get(annotation::CREATE_INTENT));
    let attempt = intent.and_then(|text| Attempt::of_intent(text));
    attempt.is_some_and(|attempt| channel.metadata.uid.as_deref() == Some(&attempt.uid))
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
        let over = matches!(own.outcome, Outcome::Rejected | Outcome::NotSent);
        over && own.attempt == attempt.number && speaks_of(&own, facts)
    });
    if ours && (recorded_over || remembered_over) { Last::Over(attempt.number) } else { Last::Open(attempt) }
}

/// What the status records of an attempt of unknown outcome: the intent may be removed, and this process may not have
/// made the attempt itself.
pub fn parked(past: Option<&CreateStatus>, attempt: &Attempt, intent: Option<&str>) -> CreateStatus {
    let known = past.filter(|past| past.attempt == attempt.number && past.outcome == "Unknown");
    let time = intent.and_then(|text| Attempt::time_of(text)?.parse().ok());
    known.cloned().unwrap_or_else(|| CreateStatus {
        attempt: attempt.number,
        outcome: "Unknown".into(),
        sent_at: time.map(seconds),
    })
}

/// Whether the object's last attempt is the one that this process remembers: another process may have written an intent
/// of the same number, and an intent that was removed may have been a later one's.
fn speaks_of(own: &Remembered, facts: &Facts) -> bool {
    match facts.intent {
        Some(_) => facts.intent == own.intent || facts.intent == own.after,
        None => own.last || (own.after.is_none() && facts.recorded.is_none()),
    }
}

/// The attempt that the object or this process speaks of; a malformed intent counts as attempt 0 of this object.
fn named_attempt(facts: &Facts) -> Option<Attempt> {
    let own = |number| Attempt { uid: facts.uid.into(), number };
    let remembered = facts.remembered.map(|own| own.attempt);
    let from_intent = facts.intent.map(|text| Attempt::of_intent(text).unwrap_or_else(|| own(0)));
    match (from_intent, remembered) {
        (Some(intent), Some(number)) if intent.uid == facts.uid => Some(own(number.max(intent.number))),
        (Some(intent), _) => Some(intent),
        (None, Some(number)) => Some(own(number)),
        (None, None) => facts.recorded.map(|(number, _)| own(number)),
    }
}

/// How far oHallo's clock may be behind the one that wrote the intent.
const CLOCKS: SignedDuration = SignedDuration::from_mins(5);
/// How long after its intent a create may still have taken effect, clocks included.
const LANDED: SignedDuration = SignedDuration::from_mins(10);

/// Whether a channel that was created at one time may be of a create that was sent at the other; yes where a time is
/// not known.
pub fn may_be_of(sent_at: Option<&str>, created_at: Option<&str>) -> bool {
    let time = |text: Option<&str>| text?.parse::<Timestamp>().ok();
    let Some((sent, created)) = time(sent_at).zip(time(created_at)) else { return true };
    (-CLOCKS..=LANDED).contains(&created.duration_since(sent))
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

    /// When, by its text, an intent was written.
    pub fn time_of(intent: &str) -> Option<&str> {
        intent.splitn(3, '/').nth(2)
    }

    /// The `create-intent` annotation of this attempt. The time tells two processes' intents of one number apart.
    pub fn intent(&self, at: Timestamp) -> String {
        format!("{self}/{at:.6}")
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.uid, self.number)
    }
}

#[cfg(test)]
mod tests;
