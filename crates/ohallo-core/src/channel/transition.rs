//! Every change that an effect makes to the state: [`State::prepare`] before its request, so that a process that loses the
//! answer still knows of the request, and [`State::apply`] after its answer.

mod counted;
mod create;
mod delete;
mod update;

use std::time::Duration;

use crate::api::channel::ChannelStatus;
use crate::api::conditions::Reason;
use crate::api::values::{Origin, RecordedOutcome};
use crate::channel::consistency::{Consistency, Write};
use crate::channel::effect::{Answer, Answered, Applied, Effect, EffectError, Next};
use crate::channel::in_memory_state::AttemptOutcome;
use crate::channel::model::{Remote, Step};
use crate::channel::notice::Notice;
use crate::channel::state::{Now, State};
use crate::channel::stored;
use crate::classify::{ApiError, CallError, Class, ErrorKind};
use crate::event::{EventReason, PendingEvent};
use crate::failure::{Failure, Retry};
use crate::remote::Id;

/// How many consecutive refusals with a definite 4xx are retried; after that, a user has to act.
const MAX_REJECTED_CALLS: u32 = 5;

// === impl State ===

impl State {
    /// Changes what must be known before the request of this effect is sent, because its answer may be lost. The caller
    /// remembers the state before it executes the effect.
    pub fn prepare(&mut self, step: &Step, effect: Effect, now: Now) {
        match effect {
            Effect::WriteIntent => self.prepare_intent(step, now),
            Effect::WriteMetadata => self.before.intent = self.lost_intent(now),
            Effect::WriteId => self.prepare_record(now),
            Effect::WriteAhead => self.count_ahead(step, now),
            Effect::PostRetry => self.observed.remote = Remote::Unread,
            // The reservation of the id must end, even if this reconcile ends while it waits for the answer.
            Effect::DeleteChannel => self.memory.delete_unsure = Some(now.instant),
            // The watch may show the effect before the answer arrives.
            Effect::RemoveFinalizer => self.memory.removes_finalizer = true,
            Effect::CheckSchema
            | Effect::Fence
            | Effect::AwaitToken
            | Effect::PermitCreate
            | Effect::Preflight
            | Effect::ReserveId
            | Effect::WriteFinalizer
            | Effect::PostChannel
            | Effect::PatchChannel
            | Effect::PostCredentials
            | Effect::PostTest
            | Effect::ReadObject
            | Effect::FindClaims
            | Effect::ProbeWorkspace
            | Effect::ListCandidates => {}
        }
    }

    /// The status that the prepared [`Effect::WriteAhead`] or [`Effect::WriteId`] writes.
    pub fn status_to_write(&self) -> &ChannelStatus {
        self.before.record.as_deref().unwrap_or(&self.status)
    }

    /// The intent that the prepared patch writes beside the finalizer.
    pub fn intent_to_write(&self) -> Option<&str> {
        self.before.intent.as_deref()
    }

    /// Applies the answer to an effect of this step, or its failure.
    ///
    /// # Errors
    /// Why the step failed.
    pub fn apply(
        &mut self,
        step: &Step,
        effect: Effect,
        answer: Answered,
        consistency: &mut Consistency,
        now: Now,
    ) -> Applied {
        match effect {
            Effect::CheckSchema | Effect::AwaitToken | Effect::PermitCreate => match answer {
                Ok(Answer::Done) => Ok(Next::Effect),
                error => Err(self.failed(error)),
            },
            Effect::Fence => match answer {
                Ok(Answer::Done) => Ok(Next::Effect),
                Ok(_) | Err(_) => Err(self.fenced(step)),
            },
            Effect::Preflight => self.preflighted(answer),
            Effect::ReserveId => self.reserved(step, answer),
            Effect::WriteIntent => self.intent_written(answer, now),
            Effect::PostChannel => self.create_answered(step, answer, consistency, now),
            Effect::ListCandidates => {
                self.candidates_listed(answer);
                Ok(Next::Plan)
            }
            Effect::WriteId => self.id_written(answer, now),
            Effect::WriteFinalizer => self.adopted(answer, now),
            Effect::WriteMetadata => {
                self.metadata_written(answer, now)?;
                Ok(Next::Plan)
            }
            Effect::PatchChannel => self.update_answered(step, answer, consistency, now),
            Effect::PostCredentials => self.credentials_answered(step, answer, consistency, now),
            Effect::WriteAhead => self.counted_ahead(answer, now),
            Effect::PostRetry => self.retry_answered(step, answer, consistency, now),
            Effect::PostTest => self.test_answered(step, answer, consistency, now),
            Effect::ReadObject => self.object_read(step, answer, now),
            Effect::FindClaims => self.claims_found(answer, now),
            Effect::DeleteChannel => self.delete_answered(step, answer, consistency, now),
            Effect::ProbeWorkspace => match self.before.create_error.take() {
                Some(error) => self.create_probed(error, answer, now),
                None => self.absence_probed(step, answer, now),
            },
            Effect::RemoveFinalizer => self.finalizer_removed(step, answer, now),
        }
    }

    /// The failure of an effect whose answer needs no other change.
    fn failed(&mut self, answer: Answered) -> Failure {
        match answer {
            Err(EffectError::NotLeader) => not_leader(),
            Err(EffectError::Call(error)) => self.refused(error),
            Err(EffectError::Kubernetes { failure, .. } | EffectError::NotSent(failure)) => failure,
            Ok(_) => unexpected(),
        }
    }

    /// A rejected key concerns the Workspace, which then checks it.
    pub fn refused(&mut self, error: CallError) -> Failure {
        if matches!(&error, CallError::Failed(ApiError { kind: ErrorKind::Unauthorized, .. })) {
            self.notices.push(Notice::KeyRejected);
        }
        let mut failure = Failure::from(error);
        if failure.reason == Reason::Rejected && self.memory.failures >= MAX_REJECTED_CALLS {
            failure.retry = Retry::UserAction;
        }
        if failure.reason == Reason::AuthenticationFailed && self.memory.failures < 2 {
            // The Workspace's key check comes first: only if it finds the key valid does the refusal concern the Channel.
            failure.retry = Retry::Backoff;
        }
        failure
    }

    /// Another process leads: the request of this step is not sent.
    fn fenced(&mut self, step: &Step) -> Failure {
        match step {
            Step::PostCreate { attempt, .. } => {
                self.note_attempt(*attempt, AttemptOutcome::NotSent);
                self.record_outcome(RecordedOutcome::NotSent);
                self.create_ended();
            }
            Step::Delete { .. } => self.release_id(),
            Step::WriteIntent { .. }
            | Step::RecordId { .. }
            | Step::Adopt { .. }
            | Step::RestoreMetadata
            | Step::Update { .. }
            | Step::PushCredentials { .. }
            | Step::Retry { .. }
            | Step::Test { .. }
            | Step::RemoveFinalizer(_) => {}
        }
        not_leader()
    }

    /// The id is reserved for this object, or another Channel of this process binds or deletes it.
    fn reserved(&mut self, step: &Step, answer: Answered) -> Applied {
        match answer {
            Ok(Answer::Done) => Ok(Next::Effect),
            Ok(Answer::Reserved) if matches!(step, Step::Adopt { .. }) => {
                self.observed.owner = Some(None);
                Ok(Next::Plan)
            }
            Ok(Answer::Reserved) => Err(Failure::deferred(Duration::from_secs(1))),
            answer => Err(self.failed(answer)),
        }
    }

    /// Opens the consistency window of a write.
    fn wrote(&mut self, id: &Id, write: Write, consistency: &mut Consistency, now: Now) {
        consistency.wrote(id.as_str(), write, now.instant);
        self.take_window(id.as_str(), consistency, now);
        // The channel existed.
        self.memory.absence = None;
    }

    /// Whether oHallo answered 404 where a read may be older than a write. The next plan then treats the channel as stale.
    fn is_stale(&mut self, error: &CallError, now: Now) -> bool {
        let CallError::Failed(error) = error else { return false };
        let stale = self.stale_absence(now).filter(|_| error.kind == ErrorKind::NotFound);
        let is_stale = stale.is_some();
        if let Some(remote) = stale {
            self.observed.remote = remote;
        }
        is_stale
    }

    /// Applies a patch of the finalizer and, if prepared, the intent.
    fn metadata_written(&mut self, answer: Answered, now: Now) -> Result<(), Failure> {
        let was_marked = self.object.has_finalizer();
        match answer {
            Ok(Answer::Done) => Ok(()),
            Ok(Answer::Object(object)) => {
                self.adopt_version(*object, now);
                let lost = stored::lost_metadata(self.before.intent.as_deref(), &self.object);
                if lost.is_empty() {
                    self.memory.finalizer_set_by_this_process |= !was_marked;
                    return Ok(());
                }
                self.not_stored(&lost, None);
                Err(stored::failure(&lost))
            }
            Ok(Answer::ObjectGone) => Err(Failure::deferred(Duration::from_secs(1))),
            Ok(Answer::Conflict(_) | Answer::Rejected) => Err(changed()),
            other => Err(self.failed(other)),
        }
    }

    fn adopted(&mut self, answer: Answered, now: Now) -> Applied {
        self.metadata_written(answer, now)?;
        let Remote::Found(remote) = self.observed.remote.clone() else { return Ok(Next::Requeue) };
        let predecessor = self.observed.predecessor.clone();
        let origin = predecessor.as_ref().map_or(Origin::Adopted, |from| from.origin);
        self.bind(&remote, origin);
        let from =
            predecessor.map(|from| format!(" from the Channel {:?}, which is being deleted", from.name));
        let text = format!("Adopted channel {}{}.", remote.id, from.unwrap_or_default());
        self.event(PendingEvent::normal(EventReason::Adopted, text));
        Ok(Next::Plan)
    }
}

fn is_ambiguous(error: &CallError) -> bool {
    matches!(error, CallError::Failed(error) if error.class == Class::Ambiguous)
}

/// An answer to another effect, or an effect of another step: a bug of the operator.
fn unexpected() -> Failure {
    Failure::transient(Reason::InternalError, "The operator got an answer that it did not expect.")
}

fn not_leader() -> Failure {
    Failure {
        message: "This process is no longer the leader.".into(),
        ..Failure::deferred(Duration::from_secs(1))
    }
}

fn changed() -> Failure {
    Failure {
        message: "The object changed during the reconcile.".into(),
        ..Failure::deferred(Duration::from_millis(300))
    }
}

#[cfg(test)]
mod tests;
