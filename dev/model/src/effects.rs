//! The effects of a step, one after the other, in the operator's own order. Each is answered by the model's API server
//! and oHallo, and the operator's own `State` applies the answer.

use crate::guards::Guard;
use crate::kubernetes::{Fate, Stored};
use crate::properties::Invariant;
use crate::run::Run;
use crate::state::*;
use crate::{decide, real, say};
use ohallo_core::api::conditions::Reason;
use ohallo_core::channel::effect::{self, Answer, Effect, EffectError, Next};
use ohallo_core::channel::notice::Notice;
use ohallo_core::classify::{ApiError, CallError, Class, ErrorKind};
use ohallo_core::failure::Failure;

/// How the request of a transition fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum How {
    Write(Fate),
    /// No connection to oHallo: nothing was sent.
    NotSent,
    /// oHallo says 404 though the channel is there.
    Lie,
    /// The same, because it does not show the channel yet.
    Lagging,
}

/// The answer, and the object in it.
pub type Answered = (effect::Answered, Option<Object>);

/// The first effect from here on that is seen outside of the process.
pub fn next_request(mut cursor: Cursor) -> Option<Effect> {
    while let Some(effect) = cursor.effect() {
        if is_request(effect) {
            return Some(effect);
        }
        cursor.advance(Next::Effect);
    }
    None
}

/// Whether time passes with the effect: other processes may act before the next one.
fn is_request(effect: Effect) -> bool {
    match effect {
        Effect::CheckSchema
        | Effect::Fence
        | Effect::PermitCreate
        | Effect::ReserveId
        // From the cache.
        | Effect::FindClaims
        // With the answer that asks for it.
        | Effect::ProbeWorkspace
        | Effect::ListCandidates => false,
        Effect::AwaitToken
        | Effect::Preflight
        | Effect::WriteIntent
        | Effect::WriteFinalizer
        | Effect::WriteMetadata
        | Effect::PostChannel
        | Effect::WriteId
        | Effect::WriteAhead
        | Effect::PatchChannel
        | Effect::PostCredentials
        | Effect::PostRetry
        | Effect::PostTest
        | Effect::ReadObject
        | Effect::DeleteChannel
        | Effect::RemoveFinalizer => true,
    }
}

// === impl Run ===

impl Run<'_> {
    /// One transition of a reconcile: up to its next request, and what follows the answer without waiting.
    pub fn step(&mut self, replica: usize, slot: usize, how: How) -> bool {
        let Some(reconcile) = self.state.replicas[replica].reconciles[slot] else { return false };
        let fate = if let How::Write(fate) = how { fate } else { Fate::Well };
        match reconcile.at {
            At::Effect { step, cursor } => {
                return self.perform(replica, slot, reconcile, (step, cursor), Some(how));
            }
            At::Waiting { .. } => return false,
            At::Rest => {
                say!(self, "replica {replica} ends a reconcile that found a create in flight");
                self.end(replica, slot, &reconcile);
            }
            At::Write { .. } | At::WriteLoss if !self.fence(replica, &reconcile) => {
                say!(self, "replica {replica} does not lead any more and writes no status");
                self.replica(replica).reconciles[slot] = None;
            }
            At::Write { .. } | At::WriteLoss => self.write_report(replica, slot, reconcile, fate),
        }
        true
    }

    /// Executes effects up to the next request after this one; `None`: up to the next request.
    pub fn perform(
        &mut self,
        replica: usize,
        slot: usize,
        mut reconcile: Reconcile,
        (step, mut cursor): (Step, Cursor),
        how: Option<How>,
    ) -> bool {
        let (now, real_step) = (self.now(replica), real::step(step, &reconcile.object));
        let (mut requested, how) = (how.is_none(), how.unwrap_or(How::Write(Fate::Well)));
        while let Some(effect) = cursor.effect() {
            let request = is_request(effect);
            if requested && (request || effect == Effect::Fence) {
                self.put(replica, slot, reconcile, At::Effect { step, cursor });
                return true;
            }
            requested |= request;
            if effect.is_prepared() {
                self.change_state(&mut reconcile, |state| state.prepare(&real_step, effect, now));
                self.remember(replica, &reconcile);
            }
            if effect == Effect::PostChannel && how != How::NotSent {
                return self.send_create(replica, reconcile, (step, cursor));
            }
            let (answer, object) = self.answer(replica, &mut reconcile, step, effect, how);
            let next = self.apply(replica, &mut reconcile, (step, effect), answer, object);
            let next = match next {
                Ok(next) => next,
                Err(failure) => return self.step_ended(replica, slot, reconcile, Err(failure)),
            };
            // Whoever claims the id later finds it reserved.
            if let (Effect::ReserveId, Next::Effect, Step::Delete(id)) = (effect, next, step) {
                self.judge_claims(replica, &reconcile, id);
            }
            if !cursor.advance(next) {
                return self.step_ended(replica, slot, reconcile, Ok(next));
            }
        }
        self.step_ended(replica, slot, reconcile, Ok(Next::Plan))
    }

    /// The operator's own `State::apply`, with what it publishes.
    pub fn apply(
        &mut self,
        replica: usize,
        reconcile: &mut Reconcile,
        (step, effect): (Step, Effect),
        answer: effect::Answered,
        object: Option<Object>,
    ) -> effect::Applied {
        let (now, real_step) = (self.now(replica), real::step(step, &reconcile.object));
        let id = match (&answer, step) {
            (Ok(Answer::Channel(remote)), _) => real::number(remote.id.as_str()),
            (_, Step::Delete(id) | Step::Adopt(id)) => Some(id),
            _ => reconcile.status.id,
        };
        let id = id.unwrap_or_default();
        let lags = self.scenario.lags;
        let mut consistency = self.state.replicas[replica].windows.consistency(id, lags);
        let mut notices = Vec::new();
        let hides = effect == Effect::PostChannel && self.is_off(Guard::ConflictAfterCreateAgain);
        let past = *reconcile;
        if hides {
            reconcile.object.create_again = None;
        }
        let next = self.change_object(reconcile, object, |state| {
            let next = state.apply(&real_step, effect, answer, &mut consistency, now);
            notices = state.take_notices();
            next
        });
        if hides {
            reconcile.object.create_again = past.object.create_again;
        }
        if lags && self.replica(replica).windows.read_back(id, &consistency) {
            reconcile.window = self.window(replica, id);
        }
        if effect == Effect::ProbeWorkspace && next.is_ok() && self.is_off(Guard::AbsenceTwice) {
            reconcile.memory.absent = Absent::LongAgo;
            reconcile.read = Read::Absent { proven: true };
        }
        self.forget_in_memory(reconcile);
        let bound = reconcile.status.id.filter(|_| reconcile.status.bound_uid == Some(reconcile.object.uid));
        if let Some(id) = bound.filter(|_| matches!(step, Step::Adopt(_) | Step::RecordId { .. })) {
            self.knows(reconcile.object.uid, id);
        }
        for notice in notices {
            match notice {
                Notice::ReleaseId => self.unclaim(replica, reconcile.object.uid),
                Notice::Created(id) => {
                    let id = real::number(id.as_str()).unwrap_or_default();
                    decide::claim(&mut self.replica(replica).claims, id, reconcile.object.uid);
                }
                _ => {}
            }
        }
        self.remember(replica, reconcile);
        next
    }

    /// The answer to an effect, by the model's API server, oHallo and the process itself.
    fn answer(
        &mut self,
        replica: usize,
        reconcile: &mut Reconcile,
        step: Step,
        effect: Effect,
        how: How,
    ) -> Answered {
        let fate = if let How::Write(fate) = how { fate } else { Fate::Well };
        match effect {
            Effect::CheckSchema | Effect::PermitCreate => done(),
            Effect::AwaitToken => {
                say!(self, "replica {replica} waits for the rate limit");
                done()
            }
            Effect::Preflight => {
                say!(self, "replica {replica} reads the workspace");
                done()
            }
            Effect::Fence if self.fence(replica, reconcile) => done(),
            Effect::Fence => {
                say!(self, "replica {replica} does not lead any more and drops what it was about to do");
                if matches!(step, Step::RecordId { .. }) {
                    self.broken(Invariant::AnswersAreRecorded);
                }
                (Err(EffectError::NotLeader), None)
            }
            Effect::ReserveId => self.reserve(replica, reconcile, step),
            Effect::WriteIntent if self.is_off(Guard::IntentFirst) => {
                say!(self, "replica {replica} writes no intent");
                done()
            }
            Effect::WriteFinalizer if reconcile.object.finalizer => {
                say!(self, "replica {replica} finds the finalizer set");
                done()
            }
            Effect::WriteIntent | Effect::WriteFinalizer | Effect::WriteMetadata => {
                self.write_metadata(replica, reconcile, effect, fate)
            }
            Effect::PostChannel => {
                say!(self, "replica {replica} has no connection to oHallo: nothing was sent");
                failed(Class::NotSent, 0, ErrorKind::NotConnected)
            }
            Effect::WriteId | Effect::WriteAhead => {
                let status = reconcile.before.record.unwrap_or(reconcile.status);
                let (answer, object) = self.write_status(replica, reconcile, status, fate);
                (answer.map(|answer| self.shown_status(reconcile, answer)), object)
            }
            Effect::PatchChannel => self.patch_channel(replica, reconcile, step, how),
            Effect::PostRetry | Effect::PostTest => self.post(replica, reconcile, step, how),
            Effect::ReadObject => {
                say!(self, "replica {replica} reads the object afresh");
                match self.current(reconcile) {
                    Some(fresh) => (Ok(Answer::Object(Box::new(self.channel(&fresh)))), Some(fresh)),
                    None => (Ok(Answer::ObjectGone), None),
                }
            }
            Effect::FindClaims => self.find_claims(replica, reconcile, step),
            Effect::DeleteChannel => self.delete_channel(replica, reconcile, step, how),
            Effect::RemoveFinalizer => self.write_removal(replica, reconcile, step, fate),
            Effect::ProbeWorkspace => (Ok(Answer::Workspace(self.probe(reconcile))), None),
            Effect::ListCandidates => (Ok(Answer::Candidates(Vec::new())), None),
            Effect::PostCredentials => {
                self.broken(Invariant::Modelled);
                done()
            }
        }
    }

    fn reserve(&mut self, replica: usize, reconcile: &Reconcile, step: Step) -> Answered {
        let (Step::Adopt(id) | Step::Delete(id)) = step else { return done() };
        let free = decide::claim(&mut self.replica(replica).claims, id, reconcile.object.uid);
        (Ok(if free { Answer::Done } else { Answer::Reserved }), None)
    }

    /// A patch of the finalizer and, if prepared, the intent.
    fn write_metadata(
        &mut self,
        replica: usize,
        reconcile: &Reconcile,
        effect: Effect,
        fate: Fate,
    ) -> Answered {
        let intent = reconcile.before.intent;
        let unguarded = self.is_off(Guard::IntentVersion) && effect == Effect::WriteIntent;
        let marks = effect != Effect::WriteIntent || !self.is_off(Guard::FinalizerWithIntent);
        let wrote = self.write(reconcile, unguarded, fate, |object| {
            object.intent = intent.or(object.intent);
            object.finalizer |= marks;
            !object.terminating
        });
        let named =
            intent.map(|intent| format!(" with the intent uid-{}/{}", intent.of.uid, intent.of.number));
        self.say_write(replica, format_args!("the finalizer{}", named.unwrap_or_default()), wrote);
        match wrote {
            Stored::Stands(stored) => {
                let mut shown = stored;
                let skips = !self.scenario.kept;
                shown.finalizer |= skips || self.is_off(Guard::FinalizerShown);
                if skips || self.is_off(Guard::IntentShown) {
                    shown.intent = intent.or(shown.intent);
                }
                (Ok(Answer::Object(Box::new(self.channel(&shown)))), Some(stored))
            }
            Stored::Refused(_) => (Ok(Answer::Rejected), None),
            other => answer_of(other),
        }
    }

    /// A status of the operator's.
    pub fn write_status(
        &mut self,
        replica: usize,
        reconcile: &Reconcile,
        status: Status,
        fate: Fate,
    ) -> Answered {
        let what = match status.id {
            Some(id) if reconcile.object.status.id.is_none() => format!("the id c{id} into the status"),
            _ => "the status".to_owned(),
        };
        let wrote = self.store_status(replica, reconcile, status, fate);
        self.say_write(replica, format_args!("{what}"), wrote);
        match wrote {
            Stored::Stands(stored) => (Ok(Answer::Object(Box::new(self.channel(&stored)))), Some(stored)),
            Stored::Refused(fresh) => {
                let mut judged = fresh;
                if self.is_off(Guard::StatusUnchanged) {
                    judged.status = reconcile.object.status;
                }
                if self.is_off(Guard::TerminatingAdoptsNothing) {
                    judged.terminating = false;
                }
                if self.is_off(Guard::SameManifestId) {
                    judged.spec_id = reconcile.object.spec_id;
                }
                (Ok(Answer::Conflict(Box::new(self.channel(&judged)))), Some(fresh))
            }
            other => answer_of(other),
        }
    }

    /// The removal of the finalizer.
    fn write_removal(&mut self, replica: usize, reconcile: &Reconcile, step: Step, fate: Fate) -> Answered {
        let Step::RemoveFinalizer(outcome) = step else { return done() };
        let wrote = self.remove_finalizer(replica, reconcile, outcome, fate);
        self.say_write(replica, format_args!("the removal of the finalizer ({outcome:?})"), wrote);
        match wrote {
            Stored::Stands(stored) => {
                let shown = Object { finalizer: false, ..stored };
                (Ok(Answer::Object(Box::new(self.channel(&shown)))), Some(stored))
            }
            Stored::Refused(fresh) => {
                let mut judged = fresh;
                if self.is_off(Guard::RemovalDecidedAgain) {
                    judged = Object { version: fresh.version, ..reconcile.object };
                }
                (Ok(Answer::Conflict(Box::new(self.channel(&judged)))), Some(fresh))
            }
            other => answer_of(other),
        }
    }

    /// `claims::last`.
    fn find_claims(&mut self, replica: usize, reconcile: &mut Reconcile, step: Step) -> Answered {
        let Step::Delete(id) = step else { return done() };
        let mut found = decide::rivals(self.known(replica), id, &reconcile.object, self.off);
        if self.is_off(Guard::LastCheck) {
            found = Claims { elsewhere: Some(Elsewhere::Nobody), ..reconcile.claims.unwrap_or_default() };
        }
        reconcile.retained = self.retained(reconcile);
        (Ok(Answer::Claims(real::claims(found))), None)
    }

    /// Whether the DELETE may leave: nobody of the same namespace claims the id, as far as the deletion had to know, and
    /// its owner's confirmation overrules claims of other namespaces.
    fn judge_claims(&mut self, replica: usize, reconcile: &Reconcile, id: Id) {
        let object = reconcile.object;
        let confirmed = self.current(reconcile).is_some_and(|current| current.confirmed);
        let own = &self.state.replicas[replica];
        let claims = |other: &Object| {
            other.uid != object.uid
                && !other.terminating
                && (other.spec_id == Some(id) || other.status.id == Some(id))
        };
        let lives = |other: &Object| {
            self.state.kube.objects.iter().flatten().any(|o| o.uid == other.uid && claims(o))
        };
        let known = |other: &Object| {
            let cached = own.cache.iter().flatten().any(|o| o.uid == other.uid && claims(o));
            cached || self.state.ghost.claimed[object.name()] == Some(other.uid)
        };
        let held = |other: &Object| {
            let beside = other.elsewhere == object.elsewhere;
            let right = matches!(own.shown(other.uid), Shown::Right | Shown::Able);
            claims(other) && lives(other) && known(other) && (beside || (right && !confirmed))
        };
        if self.state.kube.objects.iter().flatten().any(held) {
            self.broken(Invariant::I23);
        }
    }

    fn delete_channel(&mut self, replica: usize, reconcile: &Reconcile, step: Step, how: How) -> Answered {
        let Step::Delete(id) = step else { return done() };
        self.judge_call(reconcile, id);
        if reconcile.retained {
            self.broken(Invariant::I2);
        }
        let found = self.state.answers(reconcile.place, id) && !matches!(how, How::Lie | How::Lagging);
        let lands = found && how != How::Write(Fate::LostBefore);
        if lands {
            self.change(id, |remote| (remote.live, remote.wrote) = (false, None));
        }
        let answer = match how {
            How::Write(Fate::Well) if found => "ok",
            How::Write(Fate::Well) | How::Lie | How::Lagging | How::NotSent => "404",
            How::Write(_) if lands => "no answer, and it took effect",
            How::Write(_) => "no answer, and it had no effect",
        };
        let untrue = if matches!(how, How::Lie | How::Lagging) { ", which is not true" } else { "" };
        say!(self, "replica {replica} sends DELETE c{id}: {answer}{untrue}");
        match answer {
            "ok" => {
                self.note(id, Wrote::Deleted);
                done()
            }
            "404" => failed(Class::Rejected, 404, ErrorKind::NotFound),
            _ => failed(Class::Ambiguous, 0, ErrorKind::TimedOut),
        }
    }

    fn patch_channel(&mut self, replica: usize, reconcile: &Reconcile, step: Step, how: How) -> Answered {
        let Step::Update { id, .. } = step else { return done() };
        self.judge_call(reconcile, id);
        let value = reconcile.object.value;
        if how == How::Lagging || !self.state.answers(reconcile.place, id) {
            say!(self, "replica {replica} sends PATCH c{id} to value {value}: 404");
            return failed(Class::Rejected, 404, ErrorKind::NotFound);
        }
        if how != How::Write(Fate::LostBefore) {
            self.change(id, |remote| (remote.value, remote.drifted, remote.wrote) = (value, false, None));
        }
        let answer = match how {
            How::Write(Fate::Well) => "ok",
            How::Write(Fate::LostAfter) => "no answer, and it took effect",
            _ => "no answer, and it had no effect",
        };
        say!(self, "replica {replica} sends PATCH c{id} to value {value}: {answer}");
        if answer != "ok" {
            return failed(Class::Ambiguous, 0, ErrorKind::TimedOut);
        }
        self.note(id, Wrote::Value(value));
        let look = Look { value, failing: matches!(reconcile.read, Read::Found(Look { failing: true, .. })) };
        let remote = real::found(id, reconcile.place.workspace, look);
        (Ok(Answer::Channel(Box::new(remote))), None)
    }

    /// A test or a retry. A retry helps where it is received.
    fn post(&mut self, replica: usize, reconcile: &Reconcile, step: Step, how: How) -> Answered {
        let (counts, id, request) = match step {
            Step::Test { id, request } => (&mut self.state.ghost.tests, id, request),
            Step::Retry { id, request, .. } => (&mut self.state.ghost.retries, id, request),
            _ => return done(),
        };
        let count = &mut counts[reconcile.object.name()][usize::from(request)];
        *count += 1;
        let twice = *count > 1 && request > 0;
        *count *= u8::from(request > 0);
        self.judge_call(reconcile, id);
        say!(self, "replica {replica} sends {step:?}");
        if twice {
            self.broken(Invariant::I13);
        }
        if matches!(step, Step::Test { .. }) {
            return (Ok(Answer::TestPassed(true)), None);
        }
        let received = how != How::Lagging && how != How::Write(Fate::LostBefore);
        if received && self.scenario.lags {
            self.change(id, |remote| (remote.failing, remote.helped) = (false, true));
        }
        match how {
            How::Lagging => failed(Class::Rejected, 404, ErrorKind::NotFound),
            How::Write(Fate::LostAfter | Fate::LostBefore) => {
                failed(Class::Ambiguous, 0, ErrorKind::TimedOut)
            }
            _ => done(),
        }
    }

    pub fn say_write(&mut self, replica: usize, what: std::fmt::Arguments, wrote: Stored) {
        let came = match wrote {
            Stored::Stands(_) => "stands",
            Stored::NoAnswer => "no answer",
            Stored::Refused(_) => "409",
            Stored::Gone => "404, or removed with it",
        };
        say!(self, "replica {replica} writes {what}: {came}");
    }
}

fn done() -> Answered {
    (Ok(Answer::Done), None)
}

fn failed(class: Class, status: u16, kind: ErrorKind) -> Answered {
    let error = ApiError { status: (status > 0).then_some(status), ..ApiError::new(class, kind, "") };
    (Err(EffectError::Call(CallError::Failed(error))), None)
}

fn answer_of(wrote: Stored) -> Answered {
    match wrote {
        Stored::Gone => (Ok(Answer::ObjectGone), None),
        Stored::NoAnswer | Stored::Stands(_) | Stored::Refused(_) => {
            let failure = Failure::transient(Reason::InternalError, "No answer.");
            (Err(EffectError::Kubernetes { failure, refused: false }), None)
        }
    }
}
