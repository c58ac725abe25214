use serde_json::{Map, json};

use super::*;
use crate::api::annotation;
use crate::api::channel::Channel;
use crate::channel::effect::Cursor;
use crate::channel::fixtures::*;
use crate::channel::in_memory_state::CreateAttempt;
use crate::channel::model::{Cause, DeletionOutcome, Observed, Plan};
use crate::channel::plan::delete::WorkspaceProbe;
use crate::channel::plan::plan;
use crate::event::EventReason;
use crate::remote::{Changes, NewChannel, RemoteChannel};

const NUMBER: i64 = 1;

/// A state as this sample, whose workspace was read.
fn state(sample: Sample) -> State {
    let mut state = State::begin(sample.channel, sample.memory, INTERVAL);
    (state.status, state.observed) = (sample.status, sample.observed);
    state
}

fn at(sample: &Sample) -> Now {
    Now { wall: sample.now, instant: sample.instant }
}

fn consistency(now: Now) -> Consistency {
    Consistency::new(s(60), now.instant - s(3600))
}

fn apply(
    state: &mut State,
    step: &Step,
    effect: Effect,
    answer: Result<Answer, EffectError>,
    now: Now,
) -> Result<Next, Failure> {
    state.apply(step, effect, answer, &mut consistency(now), now)
}

fn call(class: Class, kind: ErrorKind) -> Result<Answer, EffectError> {
    Err(EffectError::Call(CallError::Failed(ApiError::new(class, kind, "why"))))
}

fn no_answer() -> Result<Answer, EffectError> {
    let failure = Failure::transient(Reason::InternalError, "No answer.");
    Err(EffectError::Kubernetes { failure, refused: false })
}

fn body() -> NewChannel {
    NewChannel { channel_type: "chat".into(), display_name: "Support".into(), config: None, enabled: None }
}

fn remote() -> RemoteChannel {
    let mut sample = Sample::bound();
    sample.remote().clone()
}

/// Every step, once.
fn steps() -> Vec<Step> {
    let changes = Changes { display_name: None, config: Some(Map::new()), enabled: None };
    vec![
        Step::WriteIntent { attempt: NUMBER },
        Step::PostCreate { attempt: NUMBER, body: body() },
        Step::RecordId { attempt: NUMBER },
        Step::Adopt { id: id() },
        Step::RestoreMetadata,
        Step::Update { id: id(), changes, fields: vec!["config.a".into()], cause: Cause::Manifest },
        Step::PushCredentials { id: id() },
        Step::Retry { id: id(), attempts: 1, request: None },
        Step::Test { id: id(), request: "r".into() },
        Step::Delete { id: id() },
        Step::RemoveFinalizer(DeletionOutcome::Deleted),
    ]
}

/// A state right after the intent of a create was stored, and the object as it was stored.
fn intended() -> (State, Channel, Now) {
    let sample = Sample::unbound();
    let now = at(&sample);
    let mut state = state(sample);
    let step = Step::WriteIntent { attempt: NUMBER };
    state.begin_step();
    state.prepare(&step, Effect::WriteIntent, now);
    let mut stored = state.object().clone();
    stored.metadata.finalizers = Some(vec![crate::api::finalizer::CHANNEL.into()]);
    let intent = state.intent_to_write().unwrap().to_owned();
    stored.metadata.annotations.get_or_insert_default().insert(annotation::CREATE_INTENT.into(), intent);
    let next =
        apply(&mut state, &step, Effect::WriteIntent, Ok(Answer::Object(Box::new(stored.clone()))), now);
    assert_eq!(next, Ok(Next::Plan));
    (state, stored, now)
}

/// The same after oHallo answered the create.
fn created() -> (State, Channel, Now) {
    let (mut state, stored, now) = intended();
    let step = Step::PostCreate { attempt: NUMBER, body: body() };
    state.begin_step();
    let answer = Ok(Answer::Channel(Box::new(remote())));
    assert_eq!(apply(&mut state, &step, Effect::PostChannel, answer, now), Ok(Next::Plan));
    (state, stored, now)
}

fn record(state: &mut State, now: Now) -> ChannelStatus {
    state.begin_step();
    state.prepare(&Step::RecordId { attempt: NUMBER }, Effect::WriteId, now);
    state.status_to_write().clone()
}

#[test]
fn a_call_that_changes_ohallo_follows_a_fence_directly() {
    let calls = [
        Effect::PostChannel,
        Effect::PatchChannel,
        Effect::PostCredentials,
        Effect::PostRetry,
        Effect::PostTest,
        Effect::DeleteChannel,
    ];
    let mut seen = Vec::new();
    for step in steps() {
        for pair in step.effects().windows(2).filter(|pair| calls.contains(&pair[1])) {
            assert_eq!(pair[0], Effect::Fence, "{step:?}");
            seen.push(pair[1]);
        }
    }
    assert_eq!(seen.len(), calls.len(), "{seen:?}");
}

#[test]
fn what_must_not_be_repeated_is_written_before_it_is_sent() {
    let before = |step: Step, first: Effect, then: Effect| {
        let at = |effect| step.effects().iter().position(|found| *found == effect);
        assert!(at(first).is_some() && at(first) < at(then), "{step:?}");
    };
    before(Step::Retry { id: id(), attempts: 1, request: None }, Effect::WriteAhead, Effect::PostRetry);
    before(Step::Test { id: id(), request: "r".into() }, Effect::WriteAhead, Effect::PostTest);
    before(Step::Delete { id: id() }, Effect::ReadObject, Effect::FindClaims);
    before(Step::Delete { id: id() }, Effect::FindClaims, Effect::ReserveId);
    before(Step::Delete { id: id() }, Effect::ReserveId, Effect::DeleteChannel);
    before(Step::Adopt { id: id() }, Effect::ReserveId, Effect::WriteFinalizer);
}

#[test]
fn a_step_ends_after_its_last_effect_and_a_repeat_passes_the_fence_again() {
    let mut cursor = Cursor::new(&Step::Test { id: id(), request: "r".into() });
    for expected in [Effect::AwaitToken, Effect::Fence] {
        assert_eq!(cursor.effect(), Some(expected));
        assert!(cursor.advance(Next::Effect));
    }
    assert_eq!(cursor.effect(), Some(Effect::WriteAhead));
    assert!(cursor.advance(Next::Repeat));
    assert_eq!(cursor.effect(), Some(Effect::Fence));
    for _ in 0..3 {
        assert!(cursor.advance(Next::Effect));
    }
    assert_eq!(cursor.effect(), Some(Effect::PostTest));
    assert!(cursor.advance(Next::Then(Effect::ProbeWorkspace)));
    assert_eq!(cursor.effect(), Some(Effect::ProbeWorkspace));
    assert!(!cursor.advance(Next::Effect) && cursor.effect().is_none());
}

#[test]
fn a_create_is_planned_as_intent_post_and_record() {
    let (mut state, _, now) = intended();
    assert!(matches!(plan(&state.input(now)), Plan::Work(Step::PostCreate { attempt: NUMBER, .. })));
    let other = state.remembered(&Default::default());
    assert!(matches!(other.attempt, Some(CreateAttempt { outcome: AttemptOutcome::InFlight, .. })));
    state = created().0;
    assert!(matches!(plan(&state.input(now)), Plan::Work(Step::RecordId { attempt: NUMBER })));
    assert!(state.take_notices().contains(&Notice::Created(id())));
}

#[test]
fn a_deposed_leader_does_not_post_and_records_that_nothing_was_sent() {
    let (mut state, _, now) = intended();
    let step = Step::PostCreate { attempt: NUMBER, body: body() };
    state.begin_step();
    assert!(apply(&mut state, &step, Effect::Fence, Err(EffectError::NotLeader), now).is_err());
    assert_eq!(state.status().create.as_ref().unwrap().outcome, "NotSent");
    assert_eq!(state.memory().attempt.as_ref().unwrap().outcome, AttemptOutcome::NotSent);
    assert_eq!(state.take_notices().last(), Some(&Notice::CreateInFlight(false)));
    assert!(!matches!(plan(&state.input(now)), Plan::Work(Step::PostCreate { .. })));
}

#[test]
fn a_create_without_an_answer_is_unresolved_and_looks_for_candidates() {
    let (mut state, _, now) = intended();
    let step = Step::PostCreate { attempt: NUMBER, body: body() };
    let next =
        apply(&mut state, &step, Effect::PostChannel, call(Class::Ambiguous, ErrorKind::TimedOut), now);
    assert_eq!(next, Ok(Next::Then(Effect::ListCandidates)));
    let listed = Ok(Answer::Candidates(vec!["c7".into()]));
    assert_eq!(apply(&mut state, &step, Effect::ListCandidates, listed, now), Ok(Next::Plan));
    let Plan::Settled(conclusion) = plan(&state.input(now)) else { panic!("it must not create again") };
    assert!(conclusion.reason == Reason::CreateOutcomeUnknown && conclusion.message.contains("c7"));
}

#[test]
fn an_id_is_recorded_with_the_status_that_was_sent() {
    let (mut state, mut stored, now) = created();
    let sent = record(&mut state, now);
    assert_eq!((sent.channel_id.as_deref(), sent.bound_uid.as_deref()), (Some(ID), Some(UID)));
    stored.status = Some(sent.clone());
    let step = Step::RecordId { attempt: NUMBER };
    let next = apply(&mut state, &step, Effect::WriteId, Ok(Answer::Object(Box::new(stored))), now);
    assert_eq!(next, Ok(Next::Plan));
    assert!(state.memory().attempt.is_none() && *state.status() == sent);
    assert_eq!(state.take_events().last().unwrap().reason, EventReason::Created);
}

#[test]
fn an_id_without_an_answer_is_planned_again_also_after_a_repeated_write() {
    let (mut state, mut stored, now) = created();
    let step = Step::RecordId { attempt: NUMBER };
    record(&mut state, now);
    stored.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
    let conflict = Ok(Answer::Conflict(Box::new(stored)));
    assert_eq!(apply(&mut state, &step, Effect::WriteId, conflict, now), Ok(Next::Repeat));
    state.prepare(&step, Effect::WriteId, now);
    assert_eq!(apply(&mut state, &step, Effect::WriteId, no_answer(), now), Ok(Next::PlanAfterBackoff));
    assert!(state.status().channel_id.is_none(), "the object is bound only once the API server shows it");
    assert_eq!(plan(&state.input(now)).step(), Some(step));
}

#[test]
fn a_lost_write_that_recorded_the_id_ends_the_attempt() {
    let (mut state, mut stored, now) = created();
    stored.status = Some(record(&mut state, now));
    let step = Step::RecordId { attempt: NUMBER };
    let conflict = Ok(Answer::Conflict(Box::new(stored)));
    assert_eq!(apply(&mut state, &step, Effect::WriteId, conflict, now), Ok(Next::PlanAfterBackoff));
    assert!(state.memory().attempt.is_none() && state.status().channel_id.as_deref() == Some(ID));
}

#[test]
fn an_id_of_an_earlier_reconcile_does_not_count_as_read_by_this_key() {
    let (mut state, _, now) = created();
    assert!(record(&mut state, now).read_with.is_some());
    let (first, stored, now) = created();
    let memory = first.remembered(&Default::default());
    let mut later = State::begin(stored, memory, INTERVAL);
    later.observed = Observed { ..Sample::unbound().observed };
    let sent = record(&mut later, now);
    assert_eq!((sent.channel_id.as_deref(), sent.read_with), (Some(ID), None));
}

#[test]
fn two_ids_bind_the_object_to_neither() {
    let (mut state, _, now) = intended();
    state.object.spec.channel_id = Some("c9".into());
    let step = Step::PostCreate { attempt: NUMBER, body: body() };
    let answer = Ok(Answer::Channel(Box::new(remote())));
    assert_eq!(apply(&mut state, &step, Effect::PostChannel, answer, now), Ok(Next::Plan));
    let declared = "c9".to_owned();
    assert!(state.take_notices().contains(&Notice::ConflictingIds { answered: id(), declared }));
    assert!(
        matches!(plan(&state.input(now)), Plan::Settled(it) if it.reason == Reason::CreateOutcomeUnknown)
    );
}

#[test]
fn a_count_that_was_not_written_is_taken_back() {
    let sample = Sample::bound();
    let now = at(&sample);
    let mut state = state(sample);
    let step = Step::Retry { id: id(), attempts: 1, request: Some("r".into()) };
    state.begin_step();
    state.prepare(&step, Effect::WriteAhead, now);
    assert_eq!(state.status_to_write().provisioning.as_ref().unwrap().attempts, 1);
    assert!(apply(&mut state, &step, Effect::WriteAhead, no_answer(), now).is_err());
    assert!(state.status().provisioning.is_none());
}

#[test]
fn a_test_that_was_not_sent_is_still_due() {
    let sample = Sample::bound().with(|it| it.memory.test_due = true);
    let now = at(&sample);
    let mut state = state(sample);
    let step = Step::Test { id: id(), request: "change:a".into() };
    state.begin_step();
    state.prepare(&step, Effect::WriteAhead, now);
    let not_sent = call(Class::NotSent, ErrorKind::NotConnected);
    assert!(apply(&mut state, &step, Effect::PostTest, not_sent, now).is_err());
    assert!(state.memory().test_due && state.status().test.is_none());
    let passed = Ok(Answer::TestPassed(true));
    assert_eq!(apply(&mut state, &step, Effect::PostTest, passed, now), Ok(Next::Plan));
    assert!(!state.memory().test_due);
}

#[test]
fn an_update_is_applied_as_far_as_its_answer_shows_it() {
    let sample = Sample::bound().with(|it| it.config(json!({"a": 1, "b": 1}), json!({"a": 0, "b": 0})));
    let now = at(&sample);
    let Step::Update { id, changes, fields, cause } = sample.step() else { panic!("an update is due") };
    let mut answer = remote();
    answer.config = map(json!({"a": 1, "b": 0}));
    let past = sample.status.applied.clone();
    let mut state = state(sample);
    let step = Step::Update { id, changes, fields, cause };
    let answer = Ok(Answer::Channel(Box::new(answer)));
    assert_eq!(apply(&mut state, &step, Effect::PatchChannel, answer, now), Ok(Next::Plan));
    assert_eq!(state.status().applied, past, "oHallo ignored one value");
    assert_eq!(state.take_events().last().unwrap().text, "Updated config.a.");
}

#[test]
fn a_404_to_a_delete_needs_the_workspace_and_ends_the_reservation() {
    let sample = Sample::terminating();
    let now = at(&sample);
    let mut state = state(sample);
    let step = Step::Delete { id: id() };
    state.begin_step();
    state.prepare(&step, Effect::DeleteChannel, now);
    assert!(state.memory().delete_unsure.is_some(), "the answer may be lost");
    let next =
        apply(&mut state, &step, Effect::DeleteChannel, call(Class::Rejected, ErrorKind::NotFound), now);
    assert_eq!(next, Ok(Next::Then(Effect::ProbeWorkspace)));
    assert!(state.memory().delete_unsure.is_none());
    assert_eq!(state.take_notices(), [Notice::ReleaseId]);
    let foreign = Ok(Answer::Workspace(WorkspaceProbe::NotFound));
    let failure = apply(&mut state, &step, Effect::ProbeWorkspace, foreign, now).unwrap_err();
    assert_eq!(failure.reason, Reason::AbsenceNotProven);
}

#[test]
fn a_lost_delete_keeps_the_reservation_of_its_id() {
    let sample = Sample::terminating();
    let now = at(&sample);
    let mut state = state(sample);
    let step = Step::Delete { id: id() };
    state.prepare(&step, Effect::DeleteChannel, now);
    assert!(
        apply(&mut state, &step, Effect::DeleteChannel, call(Class::Ambiguous, ErrorKind::TimedOut), now)
            .is_err()
    );
    assert!(state.memory().delete_unsure.is_some() && state.take_notices().is_empty());
}

#[test]
fn a_finalizer_that_comes_back_is_reported() {
    let sample = Sample::terminating();
    let now = at(&sample);
    let mut state = state(sample);
    let step = Step::RemoveFinalizer(DeletionOutcome::Deleted);
    state.prepare(&step, Effect::RemoveFinalizer, now);
    let kept = Ok(Answer::Object(Box::new(state.object().clone())));
    let failure = apply(&mut state, &step, Effect::RemoveFinalizer, kept, now).unwrap_err();
    assert_eq!(failure.reason, Reason::StatusNotStored);
    assert!(!state.memory().removes_finalizer);
    state.prepare(&step, Effect::RemoveFinalizer, now);
    let gone = Ok(Answer::ObjectGone);
    assert_eq!(apply(&mut state, &step, Effect::RemoveFinalizer, gone, now), Ok(Next::Finished));
    assert_eq!(state.take_events().last().unwrap().reason, EventReason::Deleted);
}

#[test]
fn an_answer_of_another_effect_fails_the_step_and_changes_nothing() {
    let sample = Sample::bound();
    let now = at(&sample);
    for step in steps() {
        for effect in step.effects().iter().filter(|effect| !effect.is_immediate() && !effect.is_prepared()) {
            let mut state = state(sample.clone());
            let before = state.status().clone();
            let strange = Ok(Answer::Workspace(WorkspaceProbe::Forbidden));
            let next = apply(&mut state, &step, *effect, strange, now);
            // Without declared credentials, nothing is left to push.
            let nothing = *effect == Effect::PostCredentials && next == Ok(Next::Requeue);
            assert!(next.is_err() || nothing, "{step:?} {effect:?}");
            assert_eq!(*state.status(), before, "{step:?} {effect:?}");
        }
    }
}

// === impl Plan ===

impl Plan {
    fn step(self) -> Option<Step> {
        match self {
            Self::Work(step) => Some(step),
            Self::Settled(_) => None,
        }
    }
}
