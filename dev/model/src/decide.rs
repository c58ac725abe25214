//! Asks the operator's own functions: `plan`, `binding`, `summarize`, `owner` and what stands beside them. A guard
//! that is off hands them mangled facts.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::guards::Guard;
use crate::objects::*;
use crate::process::{Outcome as AttemptEnd, *};
use crate::real::{self, Tracks};
use crate::run::Run;
use crate::state::{IDS, Id, NAMES, UIDS, Uid};
use crate::windows::*;
use ohallo_core::api::channel::Channel;
use ohallo_core::api::conditions::Reason;
use ohallo_core::api::{annotation, finalizer};
use ohallo_core::channel::consistency;
use ohallo_core::channel::effect::Effect;
use ohallo_core::channel::in_memory_state::AttemptOutcome;
use ohallo_core::channel::model::{Conclusion, ConclusionKind, Outcome, Plan};
use ohallo_core::channel::plan::plan;
use ohallo_core::channel::state::{Now, Parts, State};
use ohallo_core::index::{self, Claim, Index, NamespacedName};

/// The next step, or the conclusion.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Planned {
    Step(Step),
    Settled {
        status: Status,
        says: Says,
    },
    /// A step that no scenario should lead to.
    Unmodelled,
}

/// What a conclusion says, as far as the properties ask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Says {
    InFlight,
    InSync,
    Unresolved,
    NotFound,
    Conflict,
    NotConverging,
    /// Provisioning failed.
    Failed,
    Else,
}

/// The plan.
pub fn planned(run: &Run, replica: usize, reconcile: &Reconcile) -> Planned {
    let mut key = *reconcile;
    (key.object.version, key.memory.written, key.memory.epoch, key.epoch) = (0, 0, 0, 0);
    (key.before, key.at, key.detached, key.retained) = (Before::default(), At::Rest, false, false);
    let key = (key, run.off, run.tracks());
    if let Some(known) = PLANNED.with_borrow(|known| known.get(&key).copied()) {
        return known;
    }
    let now = run.now(replica);
    let planned = run.decided(reconcile, |state| match plan(&state.input(now)) {
        Plan::Work(step) => real::step_back(&step).map_or(Planned::Unmodelled, Planned::Step),
        Plan::Settled(conclusion) => {
            let says = says(&conclusion);
            let outcome = Outcome::Settled(conclusion);
            Planned::Settled { status: status_of(state, &outcome, now, run.tracks()), says }
        }
    });
    PLANNED.with_borrow_mut(|known| known.insert(key, planned));
    planned
}

/// The status that reports this outcome.
pub fn summarized(run: &Run, replica: usize, reconcile: &Reconcile, outcome: &Outcome) -> Status {
    let now = run.now(replica);
    run.decided(reconcile, |state| status_of(state, outcome, now, run.tracks()))
}

fn status_of(state: &State, outcome: &Outcome, now: Now, tracks: Tracks) -> Status {
    let summary = state.summarize(outcome, 0.5, now);
    real::read_back(if summary.silent { state.status() } else { &summary.status }, tracks)
}

fn says(conclusion: &Conclusion) -> Says {
    match (conclusion.kind, conclusion.reason) {
        (ConclusionKind::InFlight, _) => Says::InFlight,
        (ConclusionKind::InSync, _) => Says::InSync,
        (_, Reason::CreateOutcomeUnknown) => Says::Unresolved,
        (_, Reason::ChannelNotFound) => Says::NotFound,
        (_, Reason::OwnershipConflict) => Says::Conflict,
        (_, Reason::NotConverging) => Says::NotConverging,
        (_, Reason::ProvisioningFailed) => Says::Failed,
        _ => Says::Else,
    }
}

/// The same is planned only once in a thread.
type Plans = HashMap<(Reconcile, Option<Guard>, Tracks), Planned>;

thread_local! {
    static PLANNED: RefCell<Plans> = RefCell::default();
}

/// The operator's own order of this step's effects, without those that the guard is about.
pub fn order(step: Step, off: Option<Guard>) -> Cursor {
    let effects = real::step(step, &Object::default()).effects();
    let without = |removed: Effect| {
        let kept = effects.iter().copied().filter(|effect| *effect != removed);
        Cursor::of(interned(kept.collect()))
    };
    use Effect::{
        AwaitToken, DeleteChannel, Fence, FindClaims, PatchChannel, PostChannel, PostRetry, PostTest,
        ReadObject, ReserveId, WriteAhead, WriteId,
    };
    let Some(off) = off else { return Cursor::of(effects) };
    match (off, step) {
        (Guard::Claims, Step::Adopt(_)) | (Guard::DeleteReserves, Step::Delete(_)) => without(ReserveId),
        (Guard::FreshRead, _) => without(ReadObject),
        (Guard::WriteAhead, _) => without(WriteAhead),
        (Guard::EpochFence, _) => without(Fence),
        (Guard::RecordUnfenced, Step::RecordId { .. }) => Cursor::of(&[Fence, WriteId]),
        (Guard::FenceRightBeforePost, Step::PostCreate { .. }) => Cursor::of(&[PostChannel]),
        (Guard::FreshReadAfterWait, Step::Delete(_)) => {
            Cursor::of(&[ReadObject, AwaitToken, FindClaims, ReserveId, Fence, DeleteChannel])
        }
        (Guard::ClaimsAfterWait, Step::Delete(_)) => {
            Cursor::of(&[FindClaims, AwaitToken, ReadObject, ReserveId, Fence, DeleteChannel])
        }
        (Guard::ReserveBeforeDelete, Step::Delete(_)) => {
            Cursor::of(&[AwaitToken, ReadObject, FindClaims, Fence, DeleteChannel, ReserveId])
        }
        (Guard::CountBeforeRetry, Step::Retry { .. }) => {
            Cursor::of(&[AwaitToken, Fence, PostRetry, WriteAhead])
        }
        (Guard::CountBeforeTest, Step::Test { .. }) => Cursor::of(&[AwaitToken, Fence, PostTest, WriteAhead]),
        (Guard::FenceAfterWait, Step::Update { .. }) => Cursor::of(&[Fence, AwaitToken, PatchChannel]),
        _ => Cursor::of(effects),
    }
}

/// The few orders that are not the operator's live as long as the program.
fn interned(effects: Vec<Effect>) -> &'static [Effect] {
    static ORDERS: Mutex<Vec<&'static [Effect]>> = Mutex::new(Vec::new());
    let mut orders = ORDERS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = orders.iter().find(|known| ***known == *effects) {
        return known;
    }
    let new: &'static [Effect] = Vec::leak(effects);
    orders.push(new);
    new
}

/// The state as it would be without the guard.
pub fn mangled(run: &Run, reconcile: &Reconcile) -> State {
    let mut parts = run.state_of(reconcile).into_parts();
    if let Some(off) = run.off {
        mangle(off, reconcile, &mut parts);
    }
    State::from_parts(parts, real::INTERVAL)
}

fn mangle(off: Guard, facts: &Reconcile, real: &mut Parts) {
    let annotations = real.object.metadata.annotations.get_or_insert_default();
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
        Guard::ManifestWins
            if matches!(facts.memory.attempt, Some(Attempt { outcome: AttemptEnd::Answered(_), .. })) =>
        {
            real.object.spec.channel_id = None;
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
        Guard::MemoryFirst => {
            real.memory.attempt.take_if(|own| own.outcome == AttemptOutcome::Unknown);
        }
        Guard::RecordWithoutIntent if facts.object.intent.is_none() => real.status.create = None,
        Guard::BoundUid if facts.status.id.is_some() => {
            real.status.bound_uid.clone_from(&real.object.metadata.uid);
        }
        Guard::StartGeneration => {
            real.memory.doubted = false;
            real.status.observed_generation = real.object.metadata.generation;
        }
        Guard::StartAdopted if real.memory.bound_by_this_process && real.status.applied.is_none() => {
            real.observed.window.began = None;
        }
        Guard::WorkspaceRecorded => real.status.workspace_id = None,
        Guard::FinalizerRestored if !facts.object.terminating => {
            real.object.metadata.finalizers = Some(vec![finalizer::CHANNEL.into()]);
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
            _ if off == Some(Guard::OwnersConfirmation) => Elsewhere::Nobody,
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
            index.remove(&NamespacedName::of(&real::channel(old, Tracks::default())));
            index.unclaim(&real::uid(old.uid));
        }
        if let Some(new) = new {
            index.put(&real::channel(new, Tracks::default()));
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
    real::channel(&object, Tracks::default())
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
