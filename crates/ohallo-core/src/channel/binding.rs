//! Whether a channel may be created: the table of the create protocol, evaluated from top to bottom.
//!
//! The API has no idempotency key and no documented list, so the operator can't find the channel of an attempt
//! whose response was lost. Therefore it sends a POST only when no earlier attempt can have created a channel.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use crate::api::channel::{Channel, ChannelStatus, CreateStatus};
use crate::api::values::RecordedOutcome;
use crate::api::{annotation, same_id};
use crate::classify::{ApiError, Class};
use crate::text;

/// The inputs of the decision; every field as it was read, uninterpreted.
#[derive(Clone, Copy, Debug, Default)]
pub struct BindingFacts<'a> {
    pub uid: &'a str,
    /// `managementPolicy: Observe`.
    pub observe: bool,
    pub spec_id: Option<&'a str>,
    pub status_id: Option<&'a str>,
    pub bound_uid: Option<&'a str>,
    /// The annotation `create-intent`.
    pub intent: Option<&'a str>,
    /// `status.create`: attempt and outcome; `None` for an outcome that this version does not know.
    pub recorded: Option<(i64, Option<RecordedOutcome>)>,
    /// The annotation `create-again`.
    pub create_again: Option<&'a str>,
    /// What this process remembers of an attempt for this uid.
    pub remembered: Option<Remembered<'a>>,
}

/// What this process remembers of its own last attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Remembered<'a> {
    pub attempt: i64,
    pub outcome: CreateOutcome<'a>,
    /// The intent that it wrote, and the previous one, whose attempt had created no channel.
    pub intent: Option<&'a str>,
    pub after: Option<&'a str>,
    /// The API server stored that intent, and this process has been the leader ever since.
    pub last: bool,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CreateOutcome<'a> {
    InFlight,
    Answered(&'a str),
    Rejected,
    NotSent,
    Unknown,
}

/// Names an attempt the way messages, `create-again` and `release` do: `<uid>/<attempt>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptId {
    pub uid: String,
    pub number: i64,
}

/// The state of a living Channel in the create protocol.
#[derive(Clone, Debug, PartialEq)]
pub enum Binding {
    /// A POST of this process is in flight.
    InFlight,
    /// oHallo answered with this id, which no status holds yet.
    Record { id: String, attempt: i64 },
    /// oHallo answered with one id while the manifest names another.
    ConflictingIds { answered: String, declared: String },
    /// Bound to this channel.
    Bound(String),
    /// The status holds an id that was not bound to this object.
    StatusOfOtherObject(String),
    /// To be adopted.
    Adopt(String),
    /// `managementPolicy: Observe` without a channel id.
    NotCreated,
    /// To be created, as this attempt.
    Create { attempt: i64 },
    /// A create may have been sent and its outcome is unknown: never POST.
    UnresolvedCreate(AttemptId),
}

/// The state of a terminating Channel in the create protocol.
#[derive(Clone, Debug, PartialEq)]
pub enum DeletionBinding {
    /// As [`Binding::InFlight`].
    InFlight,
    /// As [`Binding::Record`].
    Record { id: String, attempt: i64 },
    /// As [`Binding::ConflictingIds`].
    ConflictingIds { answered: String, declared: String },
    /// Bound to this channel.
    Bound(String),
    /// The status holds an id that was not bound to this object, and no create of this object is unresolved.
    StatusOfOtherObject(String),
    /// No channel was created.
    NeverCreated,
    /// A channel with an unknown id may exist.
    UnresolvedCreate(AttemptId),
}

/// The state of a Channel, living or terminating.
#[derive(Clone, Debug, PartialEq)]
pub enum ObjectBinding {
    Living(Binding),
    Terminating(DeletionBinding),
}

/// What this process knows of its own create: it precedes all that the object records.
enum OwnCreate {
    InFlight,
    Record { id: String, attempt: i64 },
    ConflictingIds { answered: String, declared: String },
}

/// The table of the create protocol for a living object.
pub fn binding(facts: &BindingFacts) -> Binding {
    if let Some(own) = own_create(facts) {
        return own.into();
    }
    if let Some(id) = facts.status_id {
        // If the manifest names the id of another object's status as well, the channel is adopted again; nothing else of
        // that status counts.
        let named = facts.spec_id.is_some_and(|named| same_id(named, id));
        return if facts.bound_uid == Some(facts.uid) {
            Binding::Bound(id.into())
        } else if named {
            Binding::Adopt(id.into())
        } else {
            Binding::StatusOfOtherObject(id.into())
        };
    }
    if let Some(id) = facts.spec_id {
        return Binding::Adopt(id.into());
    }
    match last_attempt(facts) {
        LastCreate::Unresolved(attempt) => Binding::UnresolvedCreate(attempt),
        LastCreate::None | LastCreate::Concluded(_) if facts.observe => Binding::NotCreated,
        LastCreate::None => Binding::Create { attempt: 1 },
        LastCreate::Concluded(attempt) => Binding::Create { attempt: attempt.saturating_add(1) },
    }
}

/// The table of the create protocol for a terminating object.
pub fn deletion_binding(facts: &BindingFacts) -> DeletionBinding {
    if let Some(own) = own_create(facts) {
        return own.into();
    }
    let Some(id) = facts.status_id else {
        return match last_attempt(facts) {
            LastCreate::None | LastCreate::Concluded(_) => DeletionBinding::NeverCreated,
            LastCreate::Unresolved(attempt) => DeletionBinding::UnresolvedCreate(attempt),
        };
    };
    if facts.bound_uid == Some(facts.uid) {
        return DeletionBinding::Bound(id.into());
    }
    // The record in another object's status does not count.
    match last_attempt(&BindingFacts { recorded: None, ..*facts }) {
        LastCreate::Unresolved(attempt) if attempt.uid == facts.uid => {
            DeletionBinding::UnresolvedCreate(attempt)
        }
        LastCreate::None | LastCreate::Concluded(_) | LastCreate::Unresolved(_) => {
            DeletionBinding::StatusOfOtherObject(id.into())
        }
    }
}

fn own_create(facts: &BindingFacts) -> Option<OwnCreate> {
    let Remembered { attempt, outcome, .. } = facts.remembered?;
    match outcome {
        CreateOutcome::InFlight => Some(OwnCreate::InFlight),
        CreateOutcome::Answered(id) => {
            let bound = facts.status_id.filter(|_| facts.bound_uid == Some(facts.uid));
            match bound.or(facts.spec_id) {
                Some(other) if !same_id(other, id) => {
                    Some(OwnCreate::ConflictingIds { answered: id.into(), declared: other.into() })
                }
                _ if bound.is_some() => None,
                _ => Some(OwnCreate::Record { id: id.into(), attempt }),
            }
        }
        CreateOutcome::Rejected | CreateOutcome::NotSent | CreateOutcome::Unknown => None,
    }
}

/// The class of a create error. After `create-again` a conflict may come from the abandoned attempt, which took effect
/// late.
pub fn classify_create_error(error: &ApiError, created_again: bool) -> Class {
    if error.status == Some(409) && created_again { Class::Ambiguous } else { error.class }
}

/// The id that the manifest names instead of the id that the create returned: a user changed it while the POST was in
/// flight.
pub fn conflicting_id(channel: &Channel, status: &ChannelStatus, answered: &str) -> Option<String> {
    let bound = status.bound_to(channel.metadata.uid.as_deref().unwrap_or_default());
    let named = bound.or(channel.spec.channel_id.as_deref())?;
    (!same_id(named, answered)).then(|| named.to_owned())
}

/// The part of the status that belongs to this object. Where the manifest names the id of a status that was bound to
/// another object, the channel is adopted again, and what the status reports of the channel does not count.
pub fn trusted_status(channel: &Channel) -> ChannelStatus {
    let status = channel.status.clone().unwrap_or_default();
    let uid = channel.metadata.uid.as_deref().unwrap_or_default();
    let named = channel.spec.channel_id.as_deref().zip(status.channel_id.as_deref());
    let adopted_again = channel.metadata.deletion_timestamp.is_none()
        && status.bound_to(uid).is_none()
        && named.is_some_and(|(declared, copied)| same_id(declared, copied));
    if adopted_again { unbound(status) } else { status }
}

/// The part of a status that describes the object alone, and not a channel.
pub fn unbound(status: ChannelStatus) -> ChannelStatus {
    ChannelStatus {
        observed_generation: status.observed_generation,
        last_handled_reconcile_at: status.last_handled_reconcile_at,
        conditions: status.conditions,
        ..ChannelStatus::default()
    }
}

/// Whether the object's `create-intent` annotation is well-formed and names this object.
pub fn is_own_intent(channel: &Channel) -> bool {
    let intent = channel.metadata.annotations.as_ref().and_then(|all| all.get(annotation::CREATE_INTENT));
    let attempt = intent.and_then(|text| AttemptId::of_intent(text));
    attempt.is_some_and(|attempt| channel.metadata.uid.as_deref() == Some(&attempt.uid))
}

enum LastCreate {
    /// No create was sent.
    None,
    /// The attempt with this number created no channel.
    Concluded(i64),
    /// The attempt may have created a channel.
    Unresolved(AttemptId),
}

fn last_attempt(facts: &BindingFacts) -> LastCreate {
    let Some(attempt) = named_attempt(facts) else { return LastCreate::None };
    let text = attempt.to_string();
    let ours = attempt.uid == facts.uid;
    if facts.create_again == Some(text.as_str()) {
        return LastCreate::Concluded(if ours { attempt.number } else { 0 });
    }
    let remembered_open = facts
        .remembered
        .is_some_and(|own| own.attempt == attempt.number && own.outcome == CreateOutcome::Unknown);
    // Without the intent a record is not enough: the removed intent may be that of a later attempt. A record that
    // contradicts what this process remembers is not enough either.
    let recorded_over = facts.intent.is_some()
        && !remembered_open
        && facts.recorded.is_some_and(|(number, outcome)| {
            number == attempt.number && outcome.is_some_and(RecordedOutcome::created_nothing)
        });
    let remembered_over = facts.remembered.is_some_and(|own| {
        let over = matches!(own.outcome, CreateOutcome::Rejected | CreateOutcome::NotSent);
        over && own.attempt == attempt.number && refers_to(&own, facts)
    });
    if ours && (recorded_over || remembered_over) {
        LastCreate::Concluded(attempt.number)
    } else {
        LastCreate::Unresolved(attempt)
    }
}

/// What the status records of an unresolved create: the intent may be removed later, and another process may have sent
/// the create.
pub fn unresolved(past: Option<&CreateStatus>, attempt: &AttemptId, intent: Option<&str>) -> CreateStatus {
    let known = past
        .filter(|past| past.attempt == attempt.number && past.outcome() == Some(RecordedOutcome::Unknown));
    known.cloned().unwrap_or_else(|| CreateStatus {
        attempt: attempt.number,
        outcome: RecordedOutcome::Unknown.as_str().into(),
        sent_at: intent.and_then(|text| text::time(AttemptId::time_of(text)?)),
    })
}

/// Whether the object's last attempt is the one that this process remembers: another process may have written an intent
/// of the same number, and a removed intent may have been a later one.
fn refers_to(own: &Remembered, facts: &BindingFacts) -> bool {
    match facts.intent {
        Some(_) => facts.intent == own.intent || facts.intent == own.after,
        None => own.last || (own.after.is_none() && facts.recorded.is_none()),
    }
}

/// The attempt that the object or this process records; a malformed intent counts as attempt 0 of this object.
fn named_attempt(facts: &BindingFacts) -> Option<AttemptId> {
    let own = |number| AttemptId { uid: facts.uid.into(), number };
    let remembered = facts.remembered.map(|own| own.attempt);
    let from_intent = facts.intent.map(|text| AttemptId::of_intent(text).unwrap_or_else(|| own(0)));
    match (from_intent, remembered) {
        (Some(intent), Some(number)) if intent.uid == facts.uid => Some(own(number.max(intent.number))),
        (Some(intent), _) => Some(intent),
        (None, Some(number)) => Some(own(number)),
        (None, None) => facts.recorded.map(|(number, _)| own(number)),
    }
}

/// How far oHallo's clock may be behind the one that wrote the intent.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);
/// How long after its intent a create may still take effect, clock skew included.
const CREATE_WINDOW: SignedDuration = SignedDuration::from_mins(10);

/// Whether a create that was sent at `sent_at` can have created a channel at `created_at`. True where a time is unknown,
/// or comes from a clock that was ahead of this one.
pub fn could_originate_from(sent_at: Option<&str>, created_at: Option<&str>, now: Timestamp) -> bool {
    let time = |text: Option<&str>| text?.parse::<Timestamp>().ok();
    let sent = time(sent_at).filter(|sent| sent.duration_since(now) <= CLOCK_SKEW);
    let Some((sent, created)) = sent.zip(time(created_at)) else { return true };
    (-CLOCK_SKEW..=CREATE_WINDOW).contains(&created.duration_since(sent))
}

// === impl ObjectBinding ===

impl ObjectBinding {
    /// The attempt that may have created a channel.
    pub fn unresolved_create(self) -> Option<AttemptId> {
        match self {
            Self::Living(Binding::UnresolvedCreate(attempt))
            | Self::Terminating(DeletionBinding::UnresolvedCreate(attempt)) => Some(attempt),
            Self::Living(
                Binding::InFlight
                | Binding::Record { .. }
                | Binding::ConflictingIds { .. }
                | Binding::Bound(_)
                | Binding::StatusOfOtherObject(_)
                | Binding::Adopt(_)
                | Binding::NotCreated
                | Binding::Create { .. },
            )
            | Self::Terminating(
                DeletionBinding::InFlight
                | DeletionBinding::Record { .. }
                | DeletionBinding::ConflictingIds { .. }
                | DeletionBinding::Bound(_)
                | DeletionBinding::StatusOfOtherObject(_)
                | DeletionBinding::NeverCreated,
            ) => None,
        }
    }

    /// The id that the object is bound to, or that a living one adopts.
    pub fn channel_id(self) -> Option<String> {
        match self {
            Self::Living(Binding::Bound(id) | Binding::Adopt(id))
            | Self::Terminating(DeletionBinding::Bound(id)) => Some(id),
            Self::Living(
                Binding::InFlight
                | Binding::Record { .. }
                | Binding::ConflictingIds { .. }
                | Binding::StatusOfOtherObject(_)
                | Binding::NotCreated
                | Binding::Create { .. }
                | Binding::UnresolvedCreate(_),
            )
            | Self::Terminating(
                DeletionBinding::InFlight
                | DeletionBinding::Record { .. }
                | DeletionBinding::ConflictingIds { .. }
                | DeletionBinding::StatusOfOtherObject(_)
                | DeletionBinding::NeverCreated
                | DeletionBinding::UnresolvedCreate(_),
            ) => None,
        }
    }
}

// === impl OwnCreate ===

impl From<OwnCreate> for Binding {
    fn from(own: OwnCreate) -> Self {
        match own {
            OwnCreate::InFlight => Self::InFlight,
            OwnCreate::Record { id, attempt } => Self::Record { id, attempt },
            OwnCreate::ConflictingIds { answered, declared } => Self::ConflictingIds { answered, declared },
        }
    }
}

impl From<OwnCreate> for DeletionBinding {
    fn from(own: OwnCreate) -> Self {
        match own {
            OwnCreate::InFlight => Self::InFlight,
            OwnCreate::Record { id, attempt } => Self::Record { id, attempt },
            OwnCreate::ConflictingIds { answered, declared } => Self::ConflictingIds { answered, declared },
        }
    }
}

// === impl AttemptId ===

impl AttemptId {
    /// The attempt that a `create-intent` annotation names; `None` when it is malformed.
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

    /// The `create-intent` annotation of this attempt. The time distinguishes intents of two processes with the same number.
    pub fn intent(&self, at: Timestamp) -> String {
        format!("{self}/{at:.6}")
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.uid, self.number)
    }
}

#[cfg(test)]
mod tests;
