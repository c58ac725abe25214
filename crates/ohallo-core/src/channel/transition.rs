//! Every change that an effect makes to the state: [`State::prepare`] before its request, so that a process that loses the
//! answer still knows of the request, and [`State::apply`] after its answer.

use std::time::Duration;

use crate::api::annotation;
use crate::api::channel::{AppliedStatus, ChannelStatus, CreateStatus, CredentialsStatus, version};
use crate::api::conditions::Reason;
use crate::api::values::{Origin, RecordedOutcome, TestResult};
use crate::channel::binding::{AttemptId, classify_create_error, conflicting_id};
use crate::channel::conflict;
use crate::channel::consistency::{self, Consistency, Write};
use crate::channel::declared;
use crate::channel::effect::{Answer, Answered, Applied, Effect, EffectError, Next};
use crate::channel::in_memory_state::{AttemptOutcome, CACHE_LAG, CreateAttempt, UnrecordedGuard};
use crate::channel::model::{Cause, DeletionOutcome, DesiredCredentials, Outcome, Plan, Remote, Step};
use crate::channel::notice::{CallResult, Notice};
use crate::channel::persisted::PersistedField;
use crate::channel::plan::delete::{self, WorkspaceProbe};
use crate::channel::plan::update::{self, MAX_DIFFERENCES};
use crate::channel::plan::{CREATE_UNSUPPORTED, plan};
use crate::channel::state::{Now, State, StatusWrite};
use crate::channel::{stored, write_ahead};
use crate::classify::{ApiError, CallError, Class, ErrorKind};
use crate::event::{EventReason, PendingEvent};
use crate::failure::{Failure, Retry};
use crate::remote::{Changes, Id, RemoteChannel};
use crate::text::{self, seconds};

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

    // --- create

    fn note_attempt(&mut self, number: i64, outcome: AttemptOutcome) {
        self.owns_attempt = true;
        let own = self.memory.attempt.take().filter(|own| own.number == number);
        let own = own.unwrap_or_else(|| CreateAttempt::new(number, AttemptOutcome::Unknown));
        self.memory.attempt = Some(CreateAttempt { outcome, ..own });
    }

    fn record_outcome(&mut self, outcome: RecordedOutcome) {
        if let Some(create) = &mut self.status.create {
            create.outcome = outcome.as_str().into();
        }
    }

    /// No create of this object is in flight any more.
    fn create_ended(&mut self) {
        self.observed.intent_written = None;
        self.notices.push(Notice::CreateInFlight(false));
    }

    fn preflighted(&mut self, answer: Answered) -> Applied {
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

    fn prepare_intent(&mut self, step: &Step, now: Now) {
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
        self.owns_attempt = true;
        self.notices.push(Notice::CreateInFlight(true));
    }

    /// The intent that the object of a created channel lacks.
    fn lost_intent(&self, now: Now) -> Option<String> {
        let created = self.status.origin() == Some(Origin::Created);
        let number = self.memory.attempt.as_ref().map_or(1, |own| own.number);
        let attempt = AttemptId { uid: self.uid().to_owned(), number };
        (created && !self.input(now).has_own_intent()).then(|| attempt.intent(now.wall))
    }

    fn intent_written(&mut self, answer: Answered, now: Now) -> Applied {
        let Some(number) = self.memory.attempt.as_ref().map(|own| own.number) else {
            return Err(unexpected());
        };
        let intent = self.before.intent.as_deref();
        let sent_at = intent.and_then(|intent| AttemptId::time_of(intent)?.parse().ok()).map(seconds);
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

    fn create_answered(
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
        self.created = true;
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
    fn create_probed(&mut self, error: ApiError, answer: Answered, now: Now) -> Applied {
        match answer {
            Ok(Answer::Workspace(WorkspaceProbe::NotFound)) => Err(self.workspace_gone(error)),
            Ok(Answer::Workspace(WorkspaceProbe::Found | WorkspaceProbe::Forbidden)) => {
                Err(self.create_unsupported(error, now))
            }
            answer => Err(self.failed(answer)),
        }
    }

    fn candidates_listed(&mut self, answer: Answered) {
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
            self.owns_attempt = true;
        }
    }

    // --- record

    /// Begins to count an answered id that no status holds, for as long as the guard lives.
    pub fn count_unrecorded(&mut self, guard: impl FnOnce() -> UnrecordedGuard) {
        if let Some(own) = &mut self.memory.attempt
            && own.outcome.answered().is_some()
        {
            own.unrecorded.get_or_insert_with(guard);
            self.owns_attempt = true;
        }
    }

    fn answered(&self) -> Option<RemoteChannel> {
        self.memory.attempt.as_ref()?.outcome.answered().cloned()
    }

    /// Binds the object to the channel that the create returned, before the status says so.
    fn prepare_record(&mut self, now: Now) {
        let Some(remote) = self.answered() else { return };
        self.owns_attempt = true;
        self.notices.push(Notice::CreateSupported);
        // The write may be repeated on a newer version: then the status is bound already.
        if self.before.status.is_none() {
            self.before.status = Some(Box::new(self.status.clone()));
        }
        self.bind(&remote, Origin::Created);
        self.status.applied.clone_from(&self.memory.last_create_body);
        let mut outcome = Outcome::More;
        // The answer to an earlier reconcile may be that to another API key, which this one's key must not count as its own.
        if self.created {
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
    fn id_written(&mut self, answer: Answered, now: Now) -> Applied {
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
                self.owns_attempt = true;
                self.event(PendingEvent::normal(
                    EventReason::Created,
                    format!("Created channel {}.", remote.id),
                ));
                Ok(if self.created { Next::Plan } else { Next::Requeue })
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
        self.owns_attempt = true;
        if let Some(own) = &mut self.memory.attempt {
            own.outcome = AttemptOutcome::Answered(Box::new(bare));
            own.unrecorded = None;
        }
    }

    // --- metadata

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

    // --- update

    fn update_answered(
        &mut self,
        step: &Step,
        answer: Answered,
        consistency: &mut Consistency,
        now: Now,
    ) -> Applied {
        let Step::Update { id, changes, fields, cause } = step else { return Err(unexpected()) };
        match answer {
            Ok(Answer::Channel(remote)) => {
                self.updated((id, changes, fields, *cause), *remote, consistency, now);
                Ok(Next::Plan)
            }
            Err(EffectError::Call(error)) => self.not_updated((id, changes), error, consistency, now),
            other => Err(self.failed(other)),
        }
    }

    fn updated(
        &mut self,
        (id, changes, fields, cause): (&Id, &Changes, &[String], Cause),
        remote: RemoteChannel,
        consistency: &mut Consistency,
        now: Now,
    ) {
        let digest = self.input(now).digest();
        let values = declared::has_values(changes);
        if changes.enabled.is_some() {
            let first = !self.memory.bound_by_this_process && self.memory.last_update_digest.is_none();
            let ahead = self.memory.resend_enabled_at.filter(|due| *due > now.instant);
            self.memory.resend_enabled_at = ahead.or(first.then(|| now.instant + CACHE_LAG));
        }
        let ignored = if values { self.ignored(&remote, now) } else { Vec::new() };
        let answer = update::answer_values(&self.input(now), &remote);
        let past = self.status.applied.take().unwrap_or_default();
        self.status.applied = Some(AppliedStatus {
            enabled: changes.enabled.or(past.enabled),
            digest: if values && ignored.is_empty() { Some(digest.clone()) } else { past.digest },
        });
        if values {
            self.memory.note_update(digest);
        }
        self.wrote(id, if values { Write::Values(answer) } else { Write::Other }, consistency, now);
        self.memory.test_due |= changes.config.is_some() && cause == Cause::Manifest && ignored.is_empty();
        self.observed.remote = Remote::Found(Box::new(remote));
        // The answer to a change of `enabled` alone may be older than the last update of the values.
        self.observed.updated = values;
        let applied: Vec<_> =
            fields.iter().map(String::as_str).filter(|field| !ignored.iter().any(|it| it == field)).collect();
        self.note_update(&applied, cause);
    }

    /// The paths at which an update returned the previous value: oHallo ignored the update.
    fn ignored(&self, answer: &RemoteChannel, now: Now) -> Vec<String> {
        let Remote::Found(before) = &self.observed.remote else { return Vec::new() };
        let view = self.input(now);
        let before = view.differences(before);
        // Report-only fields were not sent.
        let kept = update::split_by_drift_policy(&view, &view.differences(answer)).0;
        kept.into_iter().filter(|differs| before.contains(differs)).map(|differs| differs.path).collect()
    }

    fn note_update(&mut self, fields: &[&str], cause: Cause) {
        if fields.is_empty() {
            return;
        }
        match cause {
            Cause::Manifest => {
                let names = text::list(fields.iter().copied(), MAX_DIFFERENCES);
                self.event(PendingEvent::normal(EventReason::Updated, format!("Updated {names}.")));
            }
            Cause::Drift => {
                // `enabled` can't be read: it is sent along with every correction, so it is not reported as drift.
                let drifted: Vec<_> = fields.iter().copied().filter(|field| *field != "enabled").collect();
                let names = text::list(drifted.iter().copied(), MAX_DIFFERENCES);
                let text = format!("Reverted {names}, changed in oHallo.");
                self.event(PendingEvent::normal(EventReason::DriftCorrected, text));
                self.notices.extend(drifted.into_iter().map(|path| Notice::Drift(path.to_owned())));
            }
        }
    }

    fn not_updated(
        &mut self,
        (id, changes): (&Id, &Changes),
        error: CallError,
        consistency: &mut Consistency,
        now: Now,
    ) -> Applied {
        if self.is_stale(&error, now) {
            return Ok(Next::Plan);
        }
        if is_ambiguous(&error) {
            let values = declared::has_values(changes);
            let declared = self.input(now).values_digest();
            let lost = consistency::Values { declared, answer: consistency::Answer::Lost };
            self.wrote(id, if values { Write::Values(lost) } else { Write::Other }, consistency, now);
            if changes.enabled.is_some() {
                self.memory.resend_enabled_at = Some(now.instant + CACHE_LAG);
                // `enabled` can't be read back, and a later process knows of no call in flight.
                if let Some(applied) = &mut self.status.applied {
                    applied.enabled = None;
                }
            }
        }
        Err(self.refused(error))
    }

    // --- credentials

    fn credentials_answered(
        &mut self,
        step: &Step,
        answer: Answered,
        consistency: &mut Consistency,
        now: Now,
    ) -> Applied {
        let Step::PushCredentials { id } = step else { return Err(unexpected()) };
        let DesiredCredentials::Ready { digest, keys, sources } = self.observed.credentials.clone() else {
            return Ok(Next::Requeue);
        };
        let error = match answer {
            Ok(Answer::Done) => {
                self.wrote(id, Write::Other, consistency, now);
                self.notices.push(Notice::CredentialsSent(CallResult::Success));
                let changed = self.memory.last_push_digest != Some(digest);
                let first = !self.memory.bound_by_this_process && self.memory.last_push_digest.is_none();
                let ahead = self.memory.resend_credentials_at.filter(|due| *due > now.instant);
                self.memory.resend_credentials_at = ahead.or(first.then(|| now.instant + CACHE_LAG));
                self.memory.last_push_digest = Some(digest);
                if changed {
                    self.memory.test_due = true;
                    let sent = text::list(keys.iter().map(String::as_str), MAX_DIFFERENCES);
                    let text = format!("Sent the credentials {sent}.");
                    self.event(PendingEvent::normal(EventReason::CredentialsPushed, text));
                }
                let pushed_at = Some(seconds(now.wall));
                self.status.credentials = Some(CredentialsStatus { keys, pushed_at, sources });
                return Ok(Next::Plan);
            }
            Err(EffectError::Call(error)) => error,
            other => return Err(self.failed(other)),
        };
        if self.is_stale(&error, now) {
            return Ok(Next::Plan);
        }
        if is_ambiguous(&error) {
            self.wrote(id, Write::Other, consistency, now);
            self.memory.last_push_digest = None;
            self.memory.resend_credentials_at = Some(now.instant + CACHE_LAG);
        }
        if !matches!(error, CallError::Deferred(_)) {
            self.notices.push(Notice::CredentialsSent(CallResult::Error));
        }
        let message = Failure::of_credentials(error.clone(), &keys).message;
        Err(Failure { message, ..self.refused(error) })
    }

    // --- calls that must not be repeated

    fn count_ahead(&mut self, step: &Step, now: Now) {
        // The write may be repeated on a newer version.
        if self.before.status.is_none() {
            self.before.status = Some(Box::new(self.status.clone()));
            if let Step::Retry { attempts, request, .. } = step {
                let counted = write_ahead::retry(&self.input(now), *attempts, request.clone());
                self.status.provisioning = Some(counted);
            }
            if let Step::Test { request, .. } = step {
                self.status.test = Some(write_ahead::test(&self.input(now), request.clone()));
            }
        }
        self.memory.binding_unsure |= self.newly_binds(&self.status);
    }

    fn counted_ahead(&mut self, answer: Answered, now: Now) -> Applied {
        let failure = match answer {
            Ok(answer) => {
                let sent = std::mem::take(&mut self.status);
                let written = self.status_answered(&sent, answer, now);
                self.status = sent;
                match written {
                    StatusWrite::Applied => return Ok(Next::Effect),
                    StatusWrite::Repeat => return Ok(Next::Repeat),
                    StatusWrite::NotStored(lost) => stored::failure(&lost),
                    StatusWrite::ObjectGone | StatusWrite::Conflict => changed(),
                }
            }
            error => self.failed(error),
        };
        // Nothing was sent.
        if let Some(before) = self.before.status.take() {
            self.status = *before;
        }
        Err(failure)
    }

    /// A retry that is counted but not sent costs one attempt. That is better than one attempt too many.
    fn retry_answered(
        &mut self,
        step: &Step,
        answer: Answered,
        consistency: &mut Consistency,
        now: Now,
    ) -> Applied {
        let Step::Retry { id, .. } = step else { return Err(unexpected()) };
        let error = match answer {
            Ok(Answer::Done) => None,
            Err(EffectError::Call(error)) => Some(error),
            other => return Err(self.failed(other)),
        };
        // A 404 that may be older than a write does not show the outcome of the retry either.
        let unknown = error.as_ref().is_some_and(|error| is_ambiguous(error) || self.is_stale(error, now));
        if unknown || error.is_none() {
            self.wrote(id, Write::Retry, consistency, now);
        }
        let result = match &error {
            None => CallResult::Success,
            Some(_) if unknown => CallResult::Unknown,
            Some(_) => CallResult::Error,
        };
        self.notices.push(Notice::RetrySent(result));
        match error {
            None => {
                let text = "Asked oHallo to provision the channel again.";
                self.event(PendingEvent::normal(EventReason::ProvisioningRetried, text));
                Ok(Next::Requeue)
            }
            // oHallo may have accepted it, and it is counted: the next poll shows the outcome.
            Some(_) if unknown => Ok(Next::Requeue),
            Some(error) => Err(self.refused(error)),
        }
    }

    fn test_answered(
        &mut self,
        step: &Step,
        answer: Answered,
        consistency: &mut Consistency,
        now: Now,
    ) -> Applied {
        let Step::Test { id, .. } = step else { return Err(unexpected()) };
        let mut refusal = None;
        let result = match answer {
            Ok(Answer::TestPassed(passed)) => {
                self.wrote(id, Write::Other, consistency, now);
                if passed { TestResult::Passed } else { TestResult::Failed }
            }
            Err(EffectError::Call(error)) if self.is_stale(&error, now) => TestResult::Unknown,
            Err(EffectError::Call(CallError::Failed(error))) => match error.class {
                Class::NotSent => {
                    if let Some(before) = self.before.status.take() {
                        self.status.test = before.test;
                    }
                    return Err(error.into());
                }
                Class::Rejected => {
                    refusal = Some(Failure::from(error).message);
                    TestResult::Unknown
                }
                Class::Ambiguous => {
                    self.wrote(id, Write::Other, consistency, now);
                    TestResult::Unknown
                }
            },
            Err(EffectError::Call(CallError::Deferred(_))) => TestResult::Unknown,
            other => return Err(self.failed(other)),
        };
        self.memory.test_due = false;
        if let Some(test) = &mut self.status.test {
            test.result = Some(result.as_str().into());
            test.finished_at = Some(seconds(now.wall));
        }
        self.notices.push(Notice::TestSent(result));
        self.event(match result {
            TestResult::Passed => PendingEvent::normal(Reason::TestPassed, "The connectivity test passed."),
            TestResult::Failed => PendingEvent::warning(Reason::TestFailed, "The connectivity test failed."),
            TestResult::Unknown => PendingEvent::warning(
                Reason::TestOutcomeUnknown,
                refusal.unwrap_or_else(|| "A connectivity test was sent and its response was lost.".into()),
            ),
        });
        Ok(Next::Plan)
    }

    // --- delete

    /// Decides again on the object as it is now.
    fn object_read(&mut self, step: &Step, answer: Answered, now: Now) -> Applied {
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
    fn claims_found(&mut self, answer: Answered, now: Now) -> Applied {
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

    fn delete_answered(
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
    fn absence_probed(&mut self, step: &Step, answer: Answered, now: Now) -> Applied {
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

    fn finalizer_removed(&mut self, step: &Step, answer: Answered, now: Now) -> Applied {
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
