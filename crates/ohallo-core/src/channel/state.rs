//! The state of one reconcile: the only holder of change. Its fields are private, so only this crate's methods change
//! them: [`State::begin`], what `observation.rs` adds from reads, [`State::prepare`] and [`State::apply`] around each
//! effect, and [`State::summarize`] with [`State::reported`] at the end.
//!
//! All of it is a function of its arguments: no clock, no randomness, no call. The state survives a timeout or a panic of
//! the reconcile, so every answer that was applied is reported.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::api::channel::{Channel, ChannelStatus, version};
use crate::api::conditions::{Reason, kind};
use crate::api::values::{Origin, ReconcileResult};
use crate::channel::binding::{self, unbound};
use crate::channel::conflict::{self, Refused};
use crate::channel::consistency::Consistency;
use crate::channel::effect::Answer;
use crate::channel::in_memory_state::{CreateAttempt, InMemoryState};
use crate::channel::model::{Observed, Outcome, PlanInput};
use crate::channel::notice::Notice;
use crate::channel::persisted::PersistedField;
use crate::channel::plan::update;
use crate::channel::status::{self, Summary, SummaryInput};
use crate::channel::triggers::Triggers;
use crate::channel::{config, stored};
use crate::classify::ApiError;
use crate::conditions;
use crate::cooldown::Cooldown;
use crate::event::{EventReason, PendingEvent};
use crate::failure::Failure;
use crate::priority::Priority;
use crate::remote::RemoteChannel;
use crate::secret::Redactor;

/// How often a guarded write is repeated on a newer version before the object is requeued.
const MAX_REPEATS: u32 = 3;

/// How long the cache may hold an object that the API server has deleted.
pub const DELETED_CACHE_LAG: Duration = Duration::from_secs(60);

/// The requeue time after a conflict.
const CONFLICT_AGAIN: Duration = Duration::from_millis(300);

/// The time of one iteration: every decision in it uses the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For what others read: the status, and times in the object.
    pub wall: Timestamp,
    /// For intervals within this process.
    pub instant: Instant,
}

/// See the module.
pub struct State {
    /// The object as this reconcile knows it: from the watch, then from the answers to its own writes.
    pub(super) object: Channel,
    /// The status to be written.
    pub(super) status: ChannelStatus,
    pub(super) observed: Observed,
    pub(super) memory: InMemoryState,
    pub(super) notices: Vec<Notice>,
    /// Published after the status is written.
    events: Vec<PendingEvent>,
    /// Redacts the API key of this reconcile from the values of oHallo that the status shows.
    pub(super) redactor: Redactor,
    /// The effective interval of reads.
    pub(super) interval: Duration,
    pub(super) attempt_change: AttemptChange,
    /// What a user changed while this reconcile worked on an older version of the object.
    user_change: UserChange,
    /// This reconcile only resends the status that the API server did not store.
    resends: bool,
    /// The API server returned an object that is older than the cached one, as after a restore from a backup.
    pub(super) restored: bool,
    /// What the object's status had before the reconcile's report.
    had_credentials: bool,
    had_drift: bool,
    pub(super) before: Before,
    repeats: u32,
}

/// What a step needs beside the state: what it sent, and what the state held before.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// The attempt before the intent was written.
    pub attempt: Option<CreateAttempt>,
    /// The status before a call was counted in it.
    pub status: Option<Box<ChannelStatus>>,
    /// The intent that was sent.
    pub intent: Option<String>,
    /// The status with the id of the created channel that was sent.
    pub record: Option<Box<ChannelStatus>>,
    /// Why a create failed, until its workspace is read.
    pub create_error: Option<ApiError>,
}

/// What this reconcile adds to what is known about the object's create attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AttemptChange {
    /// Nothing: what other reconciles know is kept.
    #[default]
    None,
    /// It made the attempt, or records its outcome.
    Recorded,
    /// Its own create was answered with a channel.
    Created,
}

/// What a user changed in an object, least first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UserChange {
    #[default]
    None,
    /// Something that triggers a reconcile, but not the manifest: an annotation, for example.
    Trigger,
    /// The manifest: what was read for the older one no longer applies.
    Manifest,
}

/// The parts of a state, for `dev/model`, which keeps states in a form that it can compare.
#[cfg(feature = "model")]
#[derive(Clone, Debug)]
pub struct Parts {
    pub object: Channel,
    pub status: ChannelStatus,
    pub observed: Observed,
    pub memory: InMemoryState,
    pub attempt_change: AttemptChange,
    pub user_change: UserChange,
    pub resends: bool,
    pub before: Before,
}

/// How a write of the status ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatusWrite {
    Applied,
    /// The API server accepted the write but did not store these fields.
    NotStored(Vec<PersistedField>),
    /// The object no longer exists.
    ObjectGone,
    /// The object has a newer version, with the same inputs: write again.
    Repeat,
    /// Another writer changed the status, or what this reconcile read may be outdated.
    Conflict,
}

/// What follows the report of a reconcile.
#[derive(Clone, Debug)]
pub enum Reported {
    /// Requeue after this time.
    Done(Duration, ReconcileResult),
    /// The API server did not store all of the status: this one reports it.
    NotStored(Box<Summary>),
}

// === impl State ===

impl State {
    /// The state at the start of a reconcile, before anything is read. `interval` is the effective one.
    pub fn begin(object: Channel, mut memory: InMemoryState, interval: Duration) -> Self {
        memory.note_object(&object);
        if object.has_finalizer() {
            memory.protected = true;
            memory.removes_finalizer = false;
        }
        memory.note_read(&object);
        let mut status = binding::trusted_status(&object);
        let resent = stored::resent(&object, memory.unstored.as_deref(), &memory.lost);
        let resends = resent.is_some();
        let mut lost_id = None;
        match (resent, &memory.binding) {
            (Some(resent), _) => status = resent,
            (None, Some(binding)) if binding.restore(&object, &mut status) => {
                if memory.lost.is_empty() {
                    lost_id = Some(binding.channel_id.clone());
                    memory.lost = vec![PersistedField::ChannelId];
                }
            }
            (None, _) => {}
        }
        if !memory.reconciled_once {
            update::distrust_unconfirmed(&mut status, object.metadata.generation);
            memory.doubted = status.observed_generation != object.metadata.generation;
        }
        let not_observed = Failure::transient(Reason::Progressing, "Nothing was read yet.");
        let mut state = Self {
            object,
            status,
            observed: Observed::unread(Err(not_observed), false),
            memory,
            notices: Vec::new(),
            events: Vec::new(),
            redactor: Redactor::none(),
            interval,
            attempt_change: AttemptChange::None,
            user_change: UserChange::None,
            resends,
            restored: false,
            had_credentials: false,
            had_drift: false,
            before: Before::default(),
            repeats: 0,
        };
        if let Some(id) = lost_id {
            let text = format!(
                "The status lost the id of the oHallo channel of this object: {id}. The operator writes it again."
            );
            state.event(PendingEvent::warning(EventReason::ChannelIdNotStored, text));
            state.notices.push(Notice::IdLost(id));
        }
        state
    }

    /// A state that consists of these parts.
    #[cfg(feature = "model")]
    pub fn from_parts(parts: Parts, interval: Duration) -> Self {
        let mut state = Self::begin(Channel::default(), InMemoryState::default(), interval);
        let Parts { object, status, observed, memory, attempt_change, user_change, resends, before } = parts;
        state.object = object;
        (state.status, state.observed, state.memory, state.before) = (status, observed, memory, before);
        (state.attempt_change, state.user_change) = (attempt_change, user_change);
        state.resends = resends;
        state
    }

    #[cfg(feature = "model")]
    pub fn into_parts(self) -> Parts {
        let Self { object, status, observed, memory, attempt_change, user_change, resends, before, .. } =
            self;
        Parts { object, status, observed, memory, attempt_change, user_change, resends, before }
    }

    pub fn object(&self) -> &Channel {
        &self.object
    }

    /// A copy of the object without its config.
    pub fn light_object(&mut self) -> Channel {
        self.object.without_config()
    }

    pub fn status(&self) -> &ChannelStatus {
        &self.status
    }

    pub fn observed(&self) -> &Observed {
        &self.observed
    }

    pub fn memory(&self) -> &InMemoryState {
        &self.memory
    }

    /// All inputs of a decision.
    pub fn input(&self, now: Now) -> PlanInput<'_> {
        PlanInput {
            channel: &self.object,
            status: &self.status,
            observed: &self.observed,
            memory: &self.memory,
            now: now.wall,
            instant: now.instant,
        }
    }

    pub fn uid(&self) -> &str {
        self.object.metadata.uid.as_deref().unwrap_or_default()
    }

    pub fn terminating(&self) -> bool {
        self.object.metadata.deletion_timestamp.is_some()
    }

    /// The lost fields, if this reconcile only resends a status that the API server did not store. Nothing else is
    /// decided before it is stored.
    pub fn resent(&self) -> Option<&[PersistedField]> {
        self.resends.then_some(self.memory.lost.as_slice())
    }

    /// A user changed the manifest while this reconcile worked on an older one.
    pub fn is_superseded(&self) -> bool {
        self.user_change == UserChange::Manifest
    }

    /// The cache may lack Channels that existed when this object was deleted, because it is newer than the API server.
    pub fn is_restored(&self) -> bool {
        self.restored
    }

    /// The in-memory state for the next reconcile. `current` is what other reconciles of the object left meanwhile.
    pub fn remembered(&self, current: &InMemoryState) -> InMemoryState {
        current.succeeded_by(&self.memory, self.attempt_change != AttemptChange::None)
    }

    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    pub fn take_events(&mut self) -> Vec<PendingEvent> {
        std::mem::take(&mut self.events)
    }

    /// Calls that a user waits for have priority over periodic polls.
    pub fn priority(&self, now: Now) -> Priority {
        let view = self.input(now);
        let settled = conditions::is_true(&self.status.conditions, kind::READY)
            && self.status.observed_generation == Some(view.generation())
            && !view.terminating()
            && !view.reconcile_requested()
            && self
                .memory
                .cooldown
                .as_ref()
                .is_none_or(|cooldown| cooldown.remaining(now.instant, |_| false).is_none());
        if settled { Priority::Background } else { Priority::Interactive }
    }

    pub(super) fn event(&mut self, event: PendingEvent) {
        self.events.push(event.sanitized());
    }

    /// Begins a step: its guarded writes may be repeated.
    pub fn begin_step(&mut self) {
        self.repeats = 0;
        self.before = Before::default();
    }

    /// Whether a guarded write may be repeated.
    pub(super) fn repeats(&mut self) -> bool {
        self.repeats += 1;
        self.repeats <= MAX_REPEATS
    }

    /// Binds the object to the channel.
    pub(super) fn bind(&mut self, remote: &RemoteChannel, origin: Origin) {
        let uid = self.uid().to_owned();
        let workspace = self.observed.workspace.as_ref().ok().map(|place| place.workspace_id.to_string());
        if self.status.bound_to(&uid).is_none() {
            // The other status fields describe the channel of another object.
            self.status = unbound(std::mem::take(&mut self.status));
        }
        let status = &mut self.status;
        status.channel_id = Some(remote.id.to_string());
        status.bound_uid = Some(uid);
        status.workspace_id = workspace;
        status.origin = Some(origin.as_str().into());
        status.create = None;
        self.memory.bound_by_this_process = true;
    }

    /// Other reconciles of this object take over what this one knows about its create attempt.
    pub(super) fn attempt_recorded(&mut self) {
        self.attempt_change = self.attempt_change.max(AttemptChange::Recorded);
    }

    /// This reconcile's own create was answered.
    pub(super) fn created_here(&self) -> bool {
        self.attempt_change == AttemptChange::Created
    }

    pub(super) fn take_window(&mut self, id: &str, consistency: &Consistency, now: Now) {
        self.observed.window = consistency.window(id, now.instant);
    }

    /// Takes over the object that an own write returned.
    pub(super) fn adopt_version(&mut self, object: Channel, now: Now) {
        self.memory.written = version(&object).map(|version| (version, now.instant));
        // Earlier writes carry an older version, and the API server rejects them.
        self.memory.binding_unsure = false;
        self.replace(object);
    }

    /// Continues with the object as another client changed it.
    pub(super) fn replace_object(&mut self, fresh: Channel) {
        self.user_change = self.user_change.max(UserChange::between(&self.object, &fresh));
        self.replace(fresh);
    }

    /// An answer comes without a large config. At the same generation, the known spec still applies.
    pub(super) fn replace(&mut self, mut fresh: Channel) {
        let missing = fresh.spec.left_out.is_some();
        if missing && fresh.metadata.generation == self.object.metadata.generation {
            fresh.spec = std::mem::take(&mut self.object.spec);
        }
        self.object = fresh;
    }

    /// Counts a write that the API server did not store. The loss of an id is also published.
    pub(super) fn not_stored(&mut self, lost: &[PersistedField], id: Option<&str>) {
        let is_new = self.memory.lost != lost;
        let id = id.filter(|_| lost.iter().any(|field| field.binds()));
        self.notices.push(Notice::NotStored { lost: lost.to_vec(), is_new, id: id.map(Into::into) });
        if !is_new {
            return;
        }
        self.memory.lost = lost.to_vec();
        if let Some(id) = id {
            let text = format!(
                "The API server did not keep the id of the oHallo channel of this object: {id}. The operator holds it in memory and retries."
            );
            self.event(PendingEvent::warning(EventReason::ChannelIdNotStored, text));
        }
    }

    /// Remembers, before a status is sent, that it may bind the object although its answer gets lost.
    pub fn prepare_status(&mut self, status: &ChannelStatus) {
        self.memory.binding_unsure |= self.newly_binds(status);
    }

    /// Whether this status binds the object, which the API server does not show as bound.
    pub(super) fn newly_binds(&self, status: &ChannelStatus) -> bool {
        let binds = |status: &ChannelStatus| status.bound_to(self.uid()).is_some();
        binds(status) && !self.object.status.as_ref().is_some_and(binds)
    }

    /// Applies the answer to a guarded write of this status.
    pub fn status_answered(&mut self, sent: &ChannelStatus, answer: Answer, now: Now) -> StatusWrite {
        let written = self.status_write(sent, answer, now);
        if written != StatusWrite::Repeat {
            self.memory.binding_unsure = false;
        }
        written
    }

    fn status_write(&mut self, sent: &ChannelStatus, answer: Answer, now: Now) -> StatusWrite {
        match answer {
            Answer::Object(object) => {
                let lost = stored::lost_status(sent, object.status.as_ref());
                self.adopt_version(*object, now);
                if lost.is_empty() {
                    self.memory.note_binding(&self.object);
                    return StatusWrite::Applied;
                }
                self.not_stored(&lost, sent.channel_id.as_deref());
                StatusWrite::NotStored(lost)
            }
            Answer::Conflict(fresh) => {
                match conflict::of_status(&self.object, self.object.status.as_ref(), sent, &fresh) {
                    Refused::Gone => StatusWrite::ObjectGone,
                    Refused::LayOver if self.repeats() => {
                        self.replace_object(*fresh);
                        StatusWrite::Repeat
                    }
                    Refused::LayOver | Refused::Stale => StatusWrite::Conflict,
                }
            }
            Answer::ObjectGone => StatusWrite::ObjectGone,
            _ => StatusWrite::Conflict,
        }
    }

    /// The result of a reconcile with this outcome. `random` is from 0 to 1.
    pub fn summarize(&self, outcome: &Outcome, random: f64, now: Now) -> Summary {
        let setting = SummaryInput { random, redactor: &self.redactor, interval: self.interval };
        status::summarize(&self.input(now), outcome, &setting)
    }

    /// The status to write at the end of a reconcile; `None` where the object has it already.
    pub fn status_to_report(&mut self, summary: &Summary) -> Option<ChannelStatus> {
        self.begin_step();
        let old = self.object.status.as_ref();
        self.had_credentials = old.is_some_and(|old| old.credentials.is_some());
        self.had_drift = old.is_some_and(|old| !old.drift.is_empty());
        // What happened before the rate limit or the concurrency slot ran out is kept.
        let status = if summary.silent { &self.status } else { &summary.status };
        let same = old.map_or_else(|| *status == ChannelStatus::default(), |old| old == status);
        (!same && summary.result != ReconcileResult::Gone).then(|| status.clone())
    }

    /// Applies the end of a reconcile. `written`: how the write of [`Self::status_to_report`] ended, where there was one.
    /// `random` is from 0 to 1.
    pub fn reported(
        &mut self,
        outcome: &Outcome,
        summary: &Summary,
        written: Option<StatusWrite>,
        inputs: Triggers,
        random: f64,
        now: Now,
    ) -> Reported {
        match written {
            Some(StatusWrite::Applied) if self.resends => {
                return self.stored_at_last(summary, inputs, now).into();
            }
            // The message about the blocked deletion is reported anyway.
            Some(StatusWrite::NotStored(lost)) if !self.terminating() => {
                if !summary.silent {
                    self.status.clone_from(&summary.status);
                }
                let failed = Outcome::Failed(stored::failure(&lost));
                return Reported::NotStored(Box::new(self.summarize(&failed, random, now)));
            }
            Some(StatusWrite::ObjectGone) => {
                if let Some(id) = self.memory.unrecorded_id().map(str::to_owned) {
                    self.orphaned(&id);
                }
                return self.finished(inputs, now).into();
            }
            Some(StatusWrite::Conflict | StatusWrite::Repeat) => {
                return Reported::Done(CONFLICT_AGAIN, ReconcileResult::Conflict);
            }
            Some(StatusWrite::Applied | StatusWrite::NotStored(_)) | None => {}
        }
        if !summary.silent && !stored::is_loss(outcome) {
            self.memory.unstored = None;
            if !self.terminating() {
                self.memory.lost.clear();
            }
        }
        if !summary.silent {
            self.warn(summary);
            self.note_changes(&summary.status);
            self.note_first_ready(&summary.status, now);
        }
        self.rest(summary, inputs.clone(), now);
        match summary.wake {
            Some(wake) => Reported::Done(wake, summary.result),
            None => self.finished(inputs, now).into(),
        }
    }

    /// The status that reports what the API server did not store; `None` where the status that was sent says it already.
    pub fn loss_to_report(&mut self, summary: &Summary) -> Option<ChannelStatus> {
        self.begin_step();
        (summary.status != self.status).then(|| summary.status.clone())
    }

    /// Applies the write of a status that reports what the API server did not store.
    pub fn loss_reported(
        &mut self,
        summary: &Summary,
        written: Option<StatusWrite>,
        inputs: Triggers,
        now: Now,
    ) -> (Duration, ReconcileResult) {
        let stored = match written {
            Some(StatusWrite::ObjectGone) => return self.finished(inputs, now),
            Some(StatusWrite::Conflict | StatusWrite::Repeat) => {
                return (CONFLICT_AGAIN, ReconcileResult::Conflict);
            }
            Some(StatusWrite::Applied) => true,
            Some(StatusWrite::NotStored(_)) | None => false,
        };
        self.memory.unstored = (!stored).then(|| Box::new(summary.status.clone()));
        // Nothing counts as bound before the API server shows it.
        self.events.retain(|event| event.reason != EventReason::Adopted);
        self.warn(summary);
        self.rest(summary, inputs, now);
        (summary.wake.unwrap_or(DELETED_CACHE_LAG), summary.result)
    }

    /// The API server stored what it had dropped before: the next reconcile continues from there.
    fn stored_at_last(
        &mut self,
        summary: &Summary,
        inputs: Triggers,
        now: Now,
    ) -> (Duration, ReconcileResult) {
        if let Some(id) = self.memory.unrecorded_id().map(str::to_owned) {
            self.attempt_recorded();
            self.memory.attempt = None;
            self.event(PendingEvent::normal(EventReason::Created, format!("Created channel {id}.")));
        }
        self.memory.unstored = None;
        self.memory.lost.clear();
        let wake = Duration::from_secs(1);
        self.rest(&Summary { wake: Some(wake), failures: 0, ..summary.clone() }, inputs, now);
        self.memory.cooldown = None;
        (wake, ReconcileResult::Progressing)
    }

    /// The end of a deleted object. The cache may still hold it for a moment, so it is requeued in case no event comes.
    pub fn finished(&mut self, inputs: Triggers, now: Now) -> (Duration, ReconcileResult) {
        self.memory.cooldown = Some(Cooldown::new(inputs, now.instant + DELETED_CACHE_LAG));
        (DELETED_CACHE_LAG, ReconcileResult::Gone)
    }

    /// Another client removed the finalizer while a create was in flight.
    pub(super) fn orphaned(&mut self, id: &str) {
        if !std::mem::replace(&mut self.memory.deletion_reported, true) {
            self.notices.push(Notice::Orphaned(id.to_owned()));
        }
    }

    fn warn(&mut self, summary: &Summary) {
        for (reason, message) in &summary.warnings {
            self.event(PendingEvent::warning(*reason, message));
        }
    }

    /// Publishes changes that the status shows and no step reported.
    fn note_changes(&mut self, new: &ChannelStatus) {
        if self.had_credentials && new.credentials.is_none() {
            let text = "Credentials are no longer declared; those in oHallo remain, because its API can't remove them.";
            self.event(PendingEvent::normal(EventReason::NoLongerManaged, text));
        }
        if !new.drift.is_empty() && !self.had_drift {
            let names: Vec<_> = new.drift.iter().map(|entry| entry.path.as_str()).collect();
            let text = format!("oHallo has other values than declared: {}.", names.join(", "));
            self.notices.extend(names.into_iter().map(|path| Notice::Drift(path.to_owned())));
            self.event(PendingEvent::warning(Reason::DriftDetected, text));
        }
        // The parts of the spec that were left out are unknown: no change is reported.
        if self.object.spec.left_out.is_some() {
            return;
        }
        let none = serde_json::Map::new();
        let declared = self.object.spec.config.as_ref().unwrap_or(&none);
        let Some(past) = self.memory.paths.replace(config::paths(declared)) else { return };
        let dropped = config::dropped(&past, declared);
        if !dropped.is_empty() && !self.terminating() {
            let text =
                format!("No longer managed, and unchanged in oHallo: config.{}.", dropped.join(", config."));
            self.event(PendingEvent::normal(EventReason::NoLongerManaged, text));
        }
    }

    /// Measures the time from the object's creation to its first Ready.
    fn note_first_ready(&mut self, status: &ChannelStatus, now: Now) {
        if self.memory.first_ready(status)
            && let Some(created) = &self.object.metadata.creation_timestamp
        {
            let took = Duration::try_from(now.wall.duration_since(created.0)).unwrap_or_default();
            self.notices.push(Notice::FirstReady(took));
        }
    }

    /// Whether the reservation of an id to adopt ends with this reconcile: the object is not bound, and no status was sent
    /// that may bind it.
    pub fn gives_up_id(&self, result: ReconcileResult) -> bool {
        result != ReconcileResult::Conflict
            && self.status.bound_to(self.uid()).is_none()
            && !self.memory.binding_unsure
    }

    /// Records how many tokens the next reconcile needs at its start; 0 where no call was deferred.
    pub fn needs_tokens(&mut self, tokens: u32) {
        self.memory.tokens = tokens;
    }

    /// Starts the cooldown until the requeue time. A deferred reconcile does not change it, because its rate limit or
    /// concurrency slot may be free at any event.
    fn rest(&mut self, summary: &Summary, mut inputs: Triggers, now: Now) {
        if summary.result == ReconcileResult::InSync {
            inputs.key = None;
        }
        let memory = &mut self.memory;
        memory.failures = summary.failures;
        memory.waiting_since = summary.busy.then(|| memory.waiting_since.unwrap_or(now.instant));
        memory.stale_reads = summary.stale;
        memory.reconciled_once = true;
        if let Some(wait) = &mut memory.wait {
            wait.warned |= summary.warns_of_claims;
        }
        if summary.result != ReconcileResult::Deferred {
            let closed = summary.wake.filter(|_| self.user_change == UserChange::None);
            memory.cooldown = closed.map(|wake| Cooldown::new(inputs, now.instant + wake));
        }
    }
}

// === impl UserChange ===

impl UserChange {
    fn between(old: &Channel, new: &Channel) -> Self {
        if new.metadata.generation != old.metadata.generation {
            Self::Manifest
        } else if Triggers::own(new) != Triggers::own(old) {
            Self::Trigger
        } else {
            Self::None
        }
    }
}

// === impl Reported ===

impl From<(Duration, ReconcileResult)> for Reported {
    fn from((wake, result): (Duration, ReconcileResult)) -> Self {
        Self::Done(wake, result)
    }
}
