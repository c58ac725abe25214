//! Asks the operator's own functions: `plan`, `binding`, `summarize`, `owner` and what stands beside them. A guard
//! that is off hands them mangled facts.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use crate::guards::Guard;
use crate::real::{self, Facts, Real, Tracks};
use crate::state::*;
use ohallo_core::api::channel::Channel;
use ohallo_core::api::conditions::Reason;
use ohallo_core::api::{annotation, finalizer};
use ohallo_core::channel::binding::Binding;
use ohallo_core::channel::in_memory_state::AttemptOutcome;
use ohallo_core::channel::model::{self, Outcome, Plan, Step};
use ohallo_core::channel::plan::plan;
use ohallo_core::channel::status::{Summary, SummaryInput, summarize};
use ohallo_core::channel::{consistency, stored};
use ohallo_core::failure::Failure;
use ohallo_core::index::{self, Claim, Index, NamespacedName};
use ohallo_core::secret::Redactor;

/// What the operator's functions say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decided {
    Record {
        number: u8,
    },
    Create {
        number: u8,
    },
    Adopt(Id),
    Update {
        id: Id,
        drift: bool,
    },
    RestoreMarks,
    Ask(Ask),
    Delete(Id),
    LetGo(Parting),
    Settled {
        status: Status,
        says: Says,
    },
    /// A step that no scenario should lead to.
    Unmodelled,
}

/// What a verdict says, as far as the properties ask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Says {
    InFlight,
    InSync,
    Parked,
    NotFound,
    Conflict,
    NotConverging,
    /// Provisioning failed.
    Failed,
    Else,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Question {
    Plan,
    Holds,
    Failed,
    Looks,
    Unstored,
}

#[derive(Clone, Copy)]
enum Answer {
    Decided(Decided),
    Holds(Option<Id>),
    Status(Status),
}

type Answers = HashMap<(Facts, Option<Guard>, Question), Answer>;

thread_local! {
    static ANSWERS: RefCell<Answers> = RefCell::default();
}

/// The plan.
pub fn next(facts: &Facts, off: Option<Guard>) -> Decided {
    match once(facts, off, Question::Plan, |view| Answer::Decided(decided(&view.view(), facts.tracks))) {
        Answer::Decided(Decided::Settled { mut status, says }) => {
            if off == Some(Guard::ParkedIsRecorded) && says == Says::Parked {
                status.create = facts.status.create;
            }
            Decided::Settled { status, says }
        }
        Answer::Decided(decided) => decided,
        _ => Decided::Unmodelled,
    }
}

/// The channel that the object is bound to or shall adopt.
pub fn holds(facts: &Facts, off: Option<Guard>) -> Option<Id> {
    let ask = |real: &Real| match real.view().binding() {
        Binding::Bound(id) | Binding::Adopt(id) => Answer::Holds(real::number(&id)),
        _ => Answer::Holds(None),
    };
    match once(facts, off, Question::Holds, ask) {
        Answer::Holds(id) => id,
        _ => None,
    }
}

/// The status after a step that failed for a while.
pub fn failed(facts: &Facts, off: Option<Guard>) -> Status {
    let failure = Failure::transient(Reason::ApiUnavailable, "No answer.");
    said(facts, off, Question::Failed, &Outcome::Failed(failure))
}

/// The status after a step that is looked at again.
pub fn looks(facts: &Facts, off: Option<Guard>) -> Status {
    said(facts, off, Question::Looks, &Outcome::More)
}

/// The status after a write that the API server did not keep whole.
pub fn unstored(facts: &Facts, off: Option<Guard>, lost: Strip) -> Status {
    let failure = stored::failure(&[crate::stored::field(lost)]);
    said(facts, off, Question::Unstored, &Outcome::Failed(failure))
}

fn said(facts: &Facts, off: Option<Guard>, question: Question, outcome: &Outcome) -> Status {
    let ask =
        |real: &Real| Answer::Status(real::read_back(&summary(&real.view(), outcome).status, facts.tracks));
    match once(facts, off, question, ask) {
        Answer::Status(status) => status,
        _ => facts.status,
    }
}

/// The same is asked only once in a thread.
fn once(facts: &Facts, off: Option<Guard>, question: Question, ask: impl FnOnce(&Real) -> Answer) -> Answer {
    let mut facts = *facts;
    facts.object.version = 0;
    facts.memory.written = 0;
    facts.memory.epoch = 0;
    let key = (facts, off, question);
    if let Some(known) = ANSWERS.with_borrow(|answers| answers.get(&key).copied()) {
        return known;
    }
    let mut real = real::real(&facts);
    if let Some(off) = off {
        mangle(off, &facts, &mut real);
    }
    let answer = ask(&real);
    ANSWERS.with_borrow_mut(|answers| answers.insert(key, answer));
    answer
}

fn summary(view: &model::PlanInput, outcome: &Outcome) -> Summary {
    let redactor = Redactor::none();
    let setting = SummaryInput { random: 0.5, redactor: &redactor, interval: Duration::from_secs(600) };
    summarize(view, outcome, &setting)
}

fn decided(view: &model::PlanInput, tracks: Tracks) -> Decided {
    let number = |attempt: i64| u8::try_from(attempt).unwrap_or(u8::MAX);
    let id = |id: &ohallo_core::remote::Id| real::number(id.as_str()).unwrap_or_default();
    match plan(view) {
        Plan::Work(step) => match step {
            Step::RecordId { attempt } => Decided::Record { number: number(attempt) },
            Step::Create { attempt, .. } => Decided::Create { number: number(attempt) },
            Step::Adopt { id: to } => Decided::Adopt(id(&to)),
            Step::RestoreMetadata => Decided::RestoreMarks,
            Step::Retry { attempts, request, .. } => Decided::Ask(Ask::Retry {
                attempts: number(attempts),
                request: request.as_deref().and_then(real::number).unwrap_or(0),
            }),
            Step::Test { .. } => Decided::Ask(Ask::Test),
            Step::Delete { id: of } => Decided::Delete(id(&of)),
            Step::RemoveFinalizer(parting) => Decided::LetGo(match parting {
                model::DeletionOutcome::NeverCreated => Parting::NothingThere,
                model::DeletionOutcome::Deleted => Parting::Deleted,
                model::DeletionOutcome::Retained => Parting::Retained,
                model::DeletionOutcome::Released => Parting::Released,
                model::DeletionOutcome::HandedOver => Parting::HandedOver,
            }),
            Step::Update { id: of, cause, .. } => {
                Decided::Update { id: id(&of), drift: cause == model::Cause::Drift }
            }
            Step::PushCredentials { .. } => Decided::Unmodelled,
        },
        Plan::Settled(verdict) => {
            let says = match (verdict.kind, verdict.reason) {
                (model::ConclusionKind::InFlight, _) => Says::InFlight,
                (model::ConclusionKind::InSync, _) => Says::InSync,
                (_, Reason::CreateOutcomeUnknown) => Says::Parked,
                (_, Reason::ChannelNotFound) => Says::NotFound,
                (_, Reason::OwnershipConflict) => Says::Conflict,
                (_, Reason::NotConverging) => Says::NotConverging,
                (_, Reason::ProvisioningFailed) => Says::Failed,
                _ => Says::Else,
            };
            let outcome = Outcome::Settled(verdict);
            let status = if outcome.silent() { view.status.clone() } else { summary(view, &outcome).status };
            Decided::Settled { status: real::read_back(&status, tracks), says }
        }
    }
}

/// The facts as they would be without the guard.
fn mangle(off: Guard, facts: &Facts, real: &mut Real) {
    if facts.tracks.lags {
        real.observed.window = window(&facts.window, &facts.object, Some(off));
    }
    let annotations = real.channel.metadata.annotations.get_or_insert_default();
    match off {
        Guard::UnknownNeverPosts => {
            if let Some(named) = facts.object.attempt() {
                let text = format!("{}/{}", real::uid(named.uid), named.number);
                annotations.insert(annotation::CREATE_AGAIN.into(), text);
            }
            real.memory.attempt.take_if(|own| own.outcome == AttemptOutcome::Unknown);
        }
        Guard::AnsweredFirst => {
            real.memory.attempt.take_if(|own| matches!(own.outcome, AttemptOutcome::Answered(_)));
        }
        Guard::OwnIntentOnly => {
            if let Some(own) = &mut real.memory.attempt {
                own.intent = annotations.get(annotation::CREATE_INTENT).cloned();
            }
        }
        Guard::LastAttemptOnly => {
            if let Some(own) = &mut real.memory.attempt {
                own.last = true;
            }
        }
        Guard::OwnWordFirst => {
            real.memory.attempt.take_if(|own| own.outcome == AttemptOutcome::Unknown);
        }
        Guard::RecordWithoutIntent if facts.object.intent.is_none() => real.status.create = None,
        Guard::BoundUid if facts.status.id.is_some() => {
            real.status.bound_uid.clone_from(&real.channel.metadata.uid);
        }
        Guard::StartGeneration => {
            real.memory.doubted = false;
            real.status.observed_generation = real.channel.metadata.generation;
        }
        Guard::StartAdopted if real.memory.bound_by_this_process && real.status.applied.is_none() => {
            real.observed.window.began = None;
        }
        Guard::WorkspaceRecorded => real.status.workspace_id = None,
        Guard::FinalizerPutBack if !facts.object.terminating => {
            real.channel.metadata.finalizers = Some(vec![finalizer::CHANNEL.into()]);
        }
        _ => {}
    }
}

/// The windows of the channel that the object is bound to, as they would be without the guard.
pub fn window(window: &Window, object: &Object, off: Option<Guard>) -> consistency::Window {
    let mut real = window.real();
    let Some(off) = off else { return real };
    match off {
        Guard::AbsenceWindow if !object.terminating => real.absence = None,
        Guard::DeleteWindow if object.terminating => real.absence = None,
        Guard::ValuesWindow | Guard::RevertsAfterwards => real.values = None,
        Guard::SentWhole => {
            real.values.take_if(|(_, sent)| value_of(&sent.declared) != Some(object.value));
        }
        Guard::LostIsSentAgain => {
            let same = |sent: &consistency::Values| value_of(&sent.declared) == Some(object.value);
            real.values.take_if(|(_, sent)| sent.answer == consistency::Answer::Lost && same(sent));
        }
        Guard::StartDeleted if object.status.id.is_none() => real.began = None,
        Guard::RetryWindow => real.retry = None,
        Guard::DeletedWindow => real.deleted = None,
        Guard::StartAbsence => real.absence = Window { began: false, ..*window }.real().absence,
        Guard::StartValues | Guard::StartRetry => real.began = None,
        _ => {}
    }
    real
}

/// Objects as a process knows them.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    pub objects: &'a [Option<Object>; NAMES],
    pub claims: &'a [Option<Uid>; IDS],
    pub shown: &'a [Shown; UIDS],
}

/// Whether another Channel holds the id before this one, and whether it hands the id over to this one.
pub fn owner(known: Known, id: Id, of: &Object, off: Option<Guard>) -> (bool, Option<Uid>) {
    if known.objects.iter().flatten().count() < 2 {
        return (false, None);
    }
    let index = index(known, off);
    let me = name(of, off);
    let from = index.takes_over(&id_text(id), &me);
    let from = from.and_then(|from| known.objects.iter().flatten().find(|object| name(object, off) == from));
    (index.owner(&id_text(id), &me, &real::uid(of.uid)).is_some(), from.map(|from| from.uid))
}

/// Who else claims the id of this terminating object.
pub fn rivals(known: Known, id: Id, of: &Object, off: Option<Guard>) -> Claims {
    let rivals = index(known, off).rivals(&id_text(id), &name(of, off));
    Claims {
        heir: rivals.heir.is_some() && off != Some(Guard::HandOver),
        outranked: rivals.outranked,
        beside: !rivals.beside.is_empty() && off != Some(Guard::ClaimsHold),
        elsewhere: Some(match rivals.elsewhere {
            _ if off == Some(Guard::OwnersWord) => Elsewhere::Nobody,
            index::Elsewhere::Nobody => Elsewhere::Nobody,
            index::Elsewhere::Named => Elsewhere::Named,
            index::Elsewhere::Shown => Elsewhere::Shown,
        }),
    }
}

/// Reserves the id; whether that was possible.
pub fn claim(claims: &mut [Option<Uid>; IDS], id: Id, uid: Uid) -> bool {
    let mut index = Index::default();
    let held = claims[usize::from(id)];
    let mut claim = |uid| index.claim(&id_text(id), &nobody(), &real::uid(uid), Claim::Adopt);
    let free = held.is_none_or(&mut claim) && claim(uid);
    if free {
        claims[usize::from(id)] = Some(uid);
    }
    free
}

/// The claims that are left once the process has seen these objects.
pub fn claims_left(known: Known, new: &[Option<Object>; NAMES]) -> [Option<Uid>; IDS] {
    if known.claims.iter().all(Option::is_none) {
        return *known.claims;
    }
    let mut index = index(known, None);
    for (old, new) in known.objects.iter().zip(new) {
        if let Some(old) = old
            && new.is_none_or(|new| new.uid != old.uid)
        {
            index.remove(&NamespacedName::of(&real::channel(old)));
            index.unclaim(&real::uid(old.uid));
        }
        if let Some(new) = new {
            index.put(&real::channel(new));
        }
    }
    let mut left = *known.claims;
    for (id, claim) in left.iter_mut().enumerate() {
        claim.take_if(|_| index.claim(&id_text(id as Id), &nobody(), "nobody", Claim::Adopt));
    }
    left
}

fn nobody() -> NamespacedName {
    NamespacedName::new("", "")
}

fn channel(object: &Object, off: Option<Guard>) -> Channel {
    let mut object = *object;
    if off == Some(Guard::BoundUid) && object.status.id.is_some() {
        object.status.bound_uid = Some(object.uid);
    }
    if off == Some(Guard::OwnNamespace) {
        object.elsewhere = false;
    }
    if off == Some(Guard::ShownRanks) {
        object.suspended = false;
    }
    real::channel(&object)
}

fn name(object: &Object, off: Option<Guard>) -> NamespacedName {
    NamespacedName::of(&channel(object, off))
}

fn index(known: Known, off: Option<Guard>) -> Index {
    let mut index = Index::default();
    for object in known.objects.iter().flatten() {
        let channel = channel(object, off);
        index.put(&channel);
        let shown = match known.shown[usize::from(object.uid) - 1] {
            _ if off == Some(Guard::ShownRanks) => index::Shown::Able,
            Shown::Unasked | Shown::Nothing => index::Shown::Nothing,
            Shown::Right => index::Shown::Reads,
            Shown::Able => index::Shown::Able,
        };
        if let Some(id) = object.spec_id {
            index.judge(&NamespacedName::of(&channel), &real::uid(object.uid), &id_text(id), shown);
        }
    }
    for (id, uid) in known.claims.iter().enumerate() {
        if let Some(uid) = uid {
            let holder = known.objects.iter().flatten().find(|object| object.uid == *uid);
            let deletes = holder.is_some_and(|object| object.terminating);
            let why = if deletes { Claim::Delete } else { Claim::Adopt };
            index.claim(
                &id_text(id as Id),
                &holder.map_or_else(nobody, |of| name(of, off)),
                &real::uid(*uid),
                why,
            );
        }
    }
    index
}

fn id_text(id: Id) -> String {
    real::channel_id(id).to_string()
}
