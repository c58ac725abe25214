//! A create: its intent, its answer, and the record of its id.

use crate::api::annotation;
use crate::api::channel::{AppliedStatus, CreateStatus};
use crate::api::conditions::Reason;
use crate::api::values::{Origin, RecordedOutcome};
use crate::channel::binding::{AttemptId, classify_create_error, conflicting_id};
use crate::channel::consistency::{Consistency, Write};
use crate::channel::effect::{Answer, Answered, Applied, Effect, EffectError, Next};
use crate::channel::in_memory_state::{AttemptOutcome, CreateAttempt, UnrecordedGuard};
use crate::channel::model::{Outcome, Plan, Step};
use crate::channel::notice::Notice;
use crate::channel::persisted::PersistedField;
use crate::channel::plan::delete::WorkspaceProbe;
use crate::channel::plan::update;
use crate::channel::plan::{CREATE_UNSUPPORTED, plan};
use crate::channel::state::{AttemptChange, Now, State, StatusWrite};
use crate::channel::stored;
use crate::channel::transition::unexpected;
use crate::classify::{ApiError, CallError, Class, ErrorKind};
use crate::event::{EventReason, PendingEvent};
use crate::failure::{Failure, Retry};
use crate::remote::{Id, RemoteChannel};
use crate::text;

// === impl State ===

impl State {
    pub(super) fn note_attempt(&mut self, number: i64, outcome: AttemptOutcome) {
        self.attempt_recorded();
        let own = self.memory.attempt.take().filter(|own| own.number == number);
        let own = own.unwrap_or_else(|| CreateAttempt::new(number, AttemptOutcome::Unknown));
        self.memory.attempt = Some(CreateAttempt { outcome, ..own });
    }

    pub(super) fn record_outcome(&mut self, outcome: RecordedOutcome) {
        if let Some(create) = &mut self.status.create {
            create.outcome = outcome.as_str().into();
        }
    }

    /// No create of this object is in flight any more.
    pub(super) fn create_ended(&mut self) {
        self.observed.intent_written = None;
        self.notices.push(Notice::CreateInFlight(false));
    }

    pub(super) fn preflighted(&mut self, answer: Answered) -> Applied {
        match answer {
            Ok(Answer::Done) => Ok(Next::Effect),
            Err(EffectError::Call(CallError::Failed(error))) => match error.kind {
                // A well-formed refusal to read workspaces also shows that oHallo responds.
                ErrorKind::Forbidden => Ok(Next::Effect),
                ErrorKind::NotFound => Err(self.workspace_gone(error)),
                _ => Err(self.refused(CallError::Failed(error))),
            },
            other => Err(self.failed(other)),
        }
    }

    fn workspace_gone(&mut self, error: ApiError) -> Failure {
        self.notices.push(Notice::KeyRejected);
        Failure::missing_input(
            Reason::WorkspaceNotReady,
            "The Workspace is not Ready: oHallo shows no such workspace to this API key.",
        )
        .caused_by(error)
    }

    pub(super) fn prepare_intent(&mut self, step: &Step, now: Now) {
        let Step::WriteIntent { attempt: number } = step else { return };
        let intent = AttemptId { uid: self.uid().to_owned(), number: *number }.intent(now.wall);
        // If the intent is stored although its write reported an error, memory knows that nothing was sent.
        let own = CreateAttempt {
            intent: Some(intent.clone()),
            after: self.input(now).annotation(annotation::CREATE_INTENT).map(Into::into),
            ..CreateAttempt::new(*number, AttemptOutcome::NotSent)
        };
        self.before.intent = Some(intent);
        self.before.attempt = self.memory.attempt.replace(own);
        self.attempt_recorded();
        self.notices.push(Notice::CreateInFlight(true));
    }

    /// The intent that the object of a created channel lacks.
    pub(super) fn lost_intent(&self, now: Now) -> Option<String> {
        let created = self.status.origin() == Some(Origin::Created);
        let number = self.memory.attempt.as_ref().map_or(1, |own| own.number);
        let attempt = AttemptId { uid: self.uid().to_owned(), number };
        (created && !self.input(now).has_own_intent()).then(|| attempt.intent(now.wall))
    }

    pub(super) fn intent_written(&mut self, answer: Answered, now: Now) -> Applied {
        let Some(number) = self.memory.attempt.as_ref().map(|own| own.number) else {
            return Err(unexpected());
        };
        let intent = self.before.intent.as_deref();
        let sent_at = intent.and_then(|intent| text::time(AttemptId::time_of(intent)?));
        if let Err(failure) = self.metadata_written(answer, now) {
            self.notices.push(Notice::CreateInFlight(false));
            self.intent_not_written(number, &failure, now);
            return Err(failure);
        }
        self.status.create = Some(CreateStatus {
            attempt: number,
            outcome: RecordedOutcome::Unknown.as_str().into(),
            sent_at,
        });
        if let Some(own) = &mut self.memory.attempt {
            own.last = true;
        }
        self.note_attempt(number, AttemptOutcome::InFlight);
        self.observed.intent_written = Some(number);
        Ok(Next::Plan)
    }

    /// The API server did not store the intent as it was sent, so nothing was sent to oHallo. If the object shows the
    /// earlier intent, this attempt never existed. A changed intent belongs to this attempt.
    fn intent_not_written(&mut self, number: i64, failure: &Failure, now: Now) {
        let shown = self.input(now).annotation(annotation::CREATE_INTENT).map(str::to_owned);
        let refused = matches!(failure.retry, Retry::Deferred(_));
        let stripped = failure.reason == Reason::StatusNotStored;
        let before = self.before.attempt.take();
        match &mut self.memory.attempt {
            Some(own) if refused || (stripped && own.after == shown) => self.memory.attempt = before,
            Some(own) if stripped => {
                own.intent = shown;
                // The intent remains, and the next process must not ask a user about it.
                self.status.create = Some(CreateStatus {
                    attempt: number,
                    outcome: RecordedOutcome::NotSent.as_str().into(),
                    sent_at: None,
                });
            }
            _ => {}
        }
    }

    pub(super) fn create_answered(
        &mut self,
        step: &Step,
        answer: Answered,
        consistency: &mut Consistency,
        now: Now,
    ) -> Applied {
        let Step::PostCreate { attempt, body } = step else { return Err(unexpected()) };
        match answer {
            Ok(Answer::Channel(remote)) => {
                self.created(*attempt, body.enabled, *remote, consistency, now);
                Ok(Next::Plan)
            }
            Err(EffectError::Call(CallError::Failed(error))) => self.not_created(*attempt, error, now),
            other => Err(self.failed(other)),
        }
    }

    /// oHallo created the channel: nothing may lose its id from here on.
    fn created(
        &mut self,
        number: i64,
        enabled: Option<bool>,
        remote: RemoteChannel,
        consistency: &mut Consistency,
        now: Now,
    ) {
        self.observed.intent_written = None;
        self.attempt_change = AttemptChange::Created;
        self.notices.push(Notice::Created(remote.id.clone()));
        let digest = self.input(now).digest();
        self.memory.note_update(digest.clone());
        self.memory.last_create_body = Some(AppliedStatus { enabled, digest: Some(digest) });
        let answer = update::answer_values(&self.input(now), &remote);
        consistency.wrote(remote.id.as_str(), Write::Values(answer), now.instant);
        // A create's answer does not count as a read after the create.
        self.take_window(remote.id.as_str(), consistency, now);
        self.note_attempt(number, AttemptOutcome::Answered(Box::new(remote)));
        self.note_conflicting_ids();
    }

    /// The create failed, or its outcome is unknown.
    fn not_created(&mut self, number: i64, mut error: ApiError, now: Now) -> Applied {
        let created_again = self.input(now).annotation(annotation::CREATE_AGAIN).is_some();
        error.class = classify_create_error(&error, created_again);
        let (outcome, recorded) = match error.class {
            Class::NotSent => (AttemptOutcome::NotSent, RecordedOutcome::NotSent),
            Class::Rejected => (AttemptOutcome::Rejected, RecordedOutcome::Rejected),
            Class::Ambiguous => (AttemptOutcome::Unknown, RecordedOutcome::Unknown),
        };
        self.note_attempt(number, outcome);
        self.record_outcome(recorded);
        if error.class == Class::Ambiguous {
            self.observed.intent_written = None;
            return Ok(Next::Then(Effect::ListCandidates));
        }
        self.create_ended();
        match error.kind {
            ErrorKind::Unsupported => Err(self.create_unsupported(error, now)),
            ErrorKind::NotFound => {
                self.before.create_error = Some(error);
                Ok(Next::Then(Effect::ProbeWorkspace))
            }
            _ => Err(self.refused(CallError::Failed(error))),
        }
    }

    /// A create was answered with 404: does the workspace exist? If the key may not read workspaces, it counts as existing.
    pub(super) fn create_probed(&mut self, error: ApiError, answer: Answered, now: Now) -> Applied {
        match answer {
            Ok(Answer::Workspace(WorkspaceProbe::NotFound)) => Err(self.workspace_gone(error)),
            Ok(Answer::Workspace(WorkspaceProbe::Found | WorkspaceProbe::Forbidden)) => {
                Err(self.create_unsupported(error, now))
            }
            answer => Err(self.failed(answer)),
        }
    }

    pub(super) fn candidates_listed(&mut self, answer: Answered) {
        self.see_candidates(match answer {
            Ok(Answer::Candidates(ids)) => Ok(ids),
            Err(EffectError::Call(error)) => Err(error),
            // The message then names no candidates.
            Ok(_) | Err(_) => Ok(Vec::new()),
        });
    }

    fn create_unsupported(&mut self, error: ApiError, now: Now) -> Failure {
        if self.observed.workspace.as_ref().is_ok_and(|place| place.has_created) {
            return self.refused(CallError::Failed(error));
        }
        self.notices.push(Notice::CreateUnsupported(now.instant));
        let failure = Failure::user_action(Reason::CreateUnsupported, CREATE_UNSUPPORTED);
        Failure { class: Some(error.class), ..failure }.caused_by(error)
    }

    /// The task of a create panicked: whether the request was sent is unknown.
    pub fn create_panicked(&mut self) {
        let in_flight = |own: &&mut CreateAttempt| own.outcome == AttemptOutcome::InFlight;
        if let Some(own) = self.memory.attempt.as_mut().filter(in_flight) {
            own.outcome = AttemptOutcome::Unknown;
            self.attempt_recorded();
        }
    }

    /// Begins to count an answered id that no status holds, for as long as the guard lives.
    pub fn count_unrecorded(&mut self, guard: impl FnOnce() -> UnrecordedGuard) {
        if let Some(own) = &mut self.memory.attempt
            && own.outcome.answered().is_some()
        {
            own.unrecorded.get_or_insert_with(guard);
            self.attempt_recorded();
        }
    }

    fn answered(&self) -> Option<RemoteChannel> {
        self.memory.attempt.as_ref()?.outcome.answered().cloned()
    }

    /// Binds the object to the channel that the create returned, before the status says so.
    pub(super) fn prepare_record(&mut self, now: Now) {
        let Some(remote) = self.answered() else { return };
        self.attempt_recorded();
        self.notices.push(Notice::CreateSupported);
        // The write may be repeated on a newer version: then the status is bound already.
        if self.before.status.is_none() {
            self.before.status = Some(Box::new(self.status.clone()));
        }
        self.bind(&remote, Origin::Created);
        self.status.applied.clone_from(&self.memory.last_create_body);
        let mut outcome = Outcome::More;
        // The answer to an earlier reconcile may be that to another API key, which this one's key must not count as its own.
        if self.created_here() {
            self.found(remote, now);
            if let Plan::Settled(conclusion) = plan(&self.input(now))
                && !self.is_superseded()
            {
                outcome = Outcome::Settled(conclusion);
            }
        }
        let status = self.summarize(&outcome, 0.5, now).status;
        self.prepare_status(&status);
        self.before.record = Some(Box::new(status));
    }

    /// The status with the id was written, or not. No id is given up: only the API server's own loss of it ends the step.
    pub(super) fn id_written(&mut self, answer: Answered, now: Now) -> Applied {
        let (Some(remote), Some(sent)) = (self.answered(), self.before.record.take()) else {
            return Ok(Next::Requeue);
        };
        let Ok(answer) = answer else {
            // The object counts as bound only once the API server shows it.
            if let Some(before) = self.before.status.take() {
                self.status = *before;
            }
            return Ok(Next::PlanAfterBackoff);
        };
        let fresh = match &answer {
            Answer::Conflict(fresh) => Some(fresh.clone()),
            _ => None,
        };
        match self.status_answered(&sent, answer, now) {
            StatusWrite::NotStored(lost) if lost.iter().any(|field| field.binds()) => {
                Err(self.id_not_stored(&lost, &remote.id))
            }
            StatusWrite::Applied | StatusWrite::NotStored(_) => {
                self.status = *sent;
                self.memory.attempt = None;
                self.attempt_recorded();
                self.event(PendingEvent::normal(
                    EventReason::Created,
                    format!("Created channel {}.", remote.id),
                ));
                Ok(if self.created_here() { Next::Plan } else { Next::Requeue })
            }
            StatusWrite::ObjectGone => {
                self.orphaned(remote.id.as_str());
                if let Some(own) = &mut self.memory.attempt {
                    own.unrecorded = None;
                }
                Ok(Next::Finished)
            }
            StatusWrite::Repeat => Ok(Next::Repeat),
            StatusWrite::Conflict => {
                if let Some(fresh) = fresh {
                    self.status = fresh.status.clone().unwrap_or_default();
                    self.replace_object(*fresh);
                    // A write whose answer was lost may have recorded the id.
                    self.memory.note_read(&self.object);
                    self.note_conflicting_ids();
                }
                Ok(Next::PlanAfterBackoff)
            }
        }
    }

    fn id_not_stored(&mut self, lost: &[PersistedField], id: &Id) -> Failure {
        let failure = stored::failure(lost);
        if !self.terminating() {
            return failure;
        }
        let release = annotation::RELEASE;
        let message = format!(
            "{} To leave the channel in oHallo, annotate this object with {release}={id}.",
            failure.message
        );
        Failure { message, ..failure }
    }

    /// A create returned another channel than the manifest now names: neither is bound.
    fn note_conflicting_ids(&mut self) {
        let Some(remote) = self.answered() else { return };
        let Some(declared) = conflicting_id(&self.object, &self.status, remote.id.as_str()) else { return };
        self.release_id();
        let text = format!(
            "A create returned channel {}, but spec.channelId names {declared}; neither is bound.",
            remote.id
        );
        self.notices.push(Notice::ConflictingIds { answered: remote.id.clone(), declared });
        self.event(PendingEvent::warning(Reason::CreateOutcomeUnknown, text));
        // Only the id is needed until the user has decided.
        let bare = RemoteChannel { config: Default::default(), ..remote };
        self.attempt_recorded();
        if let Some(own) = &mut self.memory.attempt {
            own.outcome = AttemptOutcome::Answered(Box::new(bare));
            own.unrecorded = None;
        }
    }
}
