//! A deletion, to the removal of the finalizer.

use std::time::Duration;

use crate::api::annotation;
use crate::api::channel::version;
use crate::api::conditions::Reason;
use crate::channel::consistency::{Consistency, Write};
use crate::channel::effect::{Answer, Answered, Applied, Effect, EffectError, Next};
use crate::channel::model::{DeletionOutcome, Plan, Step};
use crate::channel::notice::Notice;
use crate::channel::persisted::PersistedField;
use crate::channel::plan::delete;
use crate::channel::plan::plan;
use crate::channel::state::{Now, State};
use crate::channel::transition::{changed, is_ambiguous, unexpected};
use crate::channel::{conflict, stored};
use crate::classify::{CallError, ErrorKind};
use crate::event::{EventReason, PendingEvent};
use crate::failure::Failure;

// === impl State ===

impl State {
    /// Decides again on the object as it is now.
    pub(super) fn object_read(&mut self, step: &Step, answer: Answered, now: Now) -> Applied {
        let Step::Delete { id } = step else { return Err(unexpected()) };
        let fresh = match answer {
            Ok(Answer::Object(fresh)) => *fresh,
            Ok(Answer::ObjectGone) => return Ok(Next::Finished),
            other => return Err(self.failed(other)),
        };
        let replans = delete::must_replan(&self.object, &fresh, id);
        self.restored = version(&fresh) < version(&self.object);
        self.object = fresh;
        if !replans {
            return Ok(Next::Effect);
        }
        self.status = self.object.status.clone().unwrap_or_default();
        // An id that this process has seen bound is not lost with the status.
        if let Some(binding) = self.memory.binding.clone() {
            binding.restore(&self.object, &mut self.status);
        }
        Ok(if self.input(now).terminating() { Next::Plan } else { Next::Requeue })
    }

    /// The claims right before the DELETE. A living Channel that has become bound to the id takes it over.
    pub(super) fn claims_found(&mut self, answer: Answered, now: Now) -> Applied {
        let claims = match answer {
            Ok(Answer::Claims(claims)) => claims,
            other => return Err(self.failed(other)),
        };
        if claims.heir.is_some() {
            return Err(Failure::deferred(Duration::from_millis(300)));
        }
        self.see_claims(claims, now);
        let deletes = matches!(plan(&self.input(now)), Plan::Work(Step::Delete { .. }));
        Ok(if deletes { Next::Effect } else { Next::Plan })
    }

    pub(super) fn delete_answered(
        &mut self,
        step: &Step,
        answer: Answered,
        consistency: &mut Consistency,
        now: Now,
    ) -> Applied {
        let Step::Delete { id } = step else { return Err(unexpected()) };
        let error = match answer {
            // Until the object is removed, no other Channel adopts the deleted channel.
            Ok(Answer::Done) => {
                self.wrote(id, Write::Delete, consistency, now);
                self.memory.delete_unsure = None;
                self.memory.deleted = true;
                return Ok(Next::Plan);
            }
            Err(EffectError::Call(error)) => error,
            other => return Err(self.failed(other)),
        };
        if self.is_stale(&error, now) {
            self.release_id();
            return Ok(Next::Plan);
        }
        if matches!(&error, CallError::Failed(error) if error.kind == ErrorKind::NotFound) {
            self.release_id();
            return Ok(Next::Then(Effect::ProbeWorkspace));
        }
        if !is_ambiguous(&error) {
            self.release_id();
        }
        self.memory.absence = None;
        Err(self.refused(error))
    }

    /// The DELETE was answered with 404 outside every window.
    pub(super) fn absence_probed(&mut self, step: &Step, answer: Answered, now: Now) -> Applied {
        let Step::Delete { id } = step else { return Err(unexpected()) };
        let probe = match answer {
            Ok(Answer::Workspace(probe)) => probe,
            // The key is not checked because of this call: the DELETE has already used it.
            Err(EffectError::Call(error)) => return Err(error.into()),
            other => return Err(self.failed(other)),
        };
        if !self.proves_absence(probe) {
            self.memory.absence = None;
            let message = format!(
                "oHallo answers 404 for channel {id}, but the API key can't show that it belongs to the channel's workspace, so the channel may still exist. Restore the API key, or leave the channel in oHallo: annotate this object with {}={id}.",
                annotation::RELEASE
            );
            return Err(Failure::missing_input(Reason::AbsenceNotProven, message));
        }
        delete::record_absence(&mut self.memory, &mut self.observed.remote, id.as_str(), now.instant);
        Ok(Next::Plan)
    }

    pub(super) fn finalizer_removed(&mut self, step: &Step, answer: Answered, now: Now) -> Applied {
        let Step::RemoveFinalizer(outcome) = step else { return Err(unexpected()) };
        match answer {
            Ok(Answer::Object(object)) => {
                self.adopt_version(*object, now);
                if self.object.has_finalizer() {
                    self.memory.removes_finalizer = false;
                    self.not_stored(&[PersistedField::Finalizer], None);
                    return Err(stored::finalizer_returned());
                }
            }
            Ok(Answer::ObjectGone) => {}
            Ok(Answer::Conflict(fresh)) => {
                self.memory.removes_finalizer = false;
                // A changed manifest can change this decision, unless the channel is already deleted.
                let revocable = *outcome != DeletionOutcome::Deleted;
                if fresh.metadata.uid == self.object.metadata.uid {
                    let still = conflict::of_finalizer_removal(&self.object, revocable, &fresh);
                    if !still || !self.repeats() {
                        return Err(changed());
                    }
                    self.object = *fresh;
                    return Ok(Next::Repeat);
                }
            }
            Err(EffectError::Kubernetes { failure, refused, .. }) => {
                if refused {
                    self.memory.removes_finalizer = false;
                }
                return Err(failure);
            }
            other => return Err(self.failed(other)),
        }
        self.deletion_ended(*outcome);
        Ok(Next::Finished)
    }

    fn deletion_ended(&mut self, outcome: DeletionOutcome) {
        let id = self.status.channel_id.as_deref().or(self.memory.unrecorded_id());
        let id = id.unwrap_or("of unknown id").to_owned();
        let event = match outcome {
            DeletionOutcome::HandedOver => {
                let heir = self.observed.claims.as_ref().and_then(|claims| claims.heir.clone()).flatten();
                let to = heir.map_or("another Channel".to_owned(), |name| format!("the Channel {name:?}"));
                let text = format!("Channel {id} was handed over to {to}, which is bound to it.");
                Some(PendingEvent::normal(EventReason::HandedOver, text))
            }
            DeletionOutcome::NeverCreated => None,
            DeletionOutcome::Deleted => Some(PendingEvent::normal(
                EventReason::Deleted,
                format!("Channel {id} was deleted in oHallo."),
            )),
            DeletionOutcome::Retained => {
                Some(PendingEvent::normal(EventReason::Retained, format!("Channel {id} stays in oHallo.")))
            }
            DeletionOutcome::Released => {
                let text = format!("Channel {id} was released and stays in oHallo.");
                Some(PendingEvent::normal(EventReason::Released, text))
            }
        };
        if !std::mem::replace(&mut self.memory.deletion_reported, true) {
            self.notices.push(Notice::FinalizerRemoved { id, outcome });
            if let Some(event) = event {
                self.event(event);
            }
        }
        self.release_id();
    }
}
