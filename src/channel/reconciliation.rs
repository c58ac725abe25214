//! One reconcile of one Channel: its state, and its writes to the API server.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};

use crate::channel::inputs::inputs;
use crate::context::{Context, WorkspaceSnapshot};
use crate::kubernetes::error;
use crate::kubernetes::events::PendingEvent;
use ohallo_client::heavy::HeavySlot;
use ohallo_client::{Permit, Session, clock};
use ohallo_core::api::channel::{Channel, ChannelStatus, version};
use ohallo_core::api::conditions::{Reason, kind};
use ohallo_core::api::{MANAGER, annotation, finalizer};
use ohallo_core::channel::conflict::{self, Refused};
use ohallo_core::channel::in_memory_state::InMemoryState;
use ohallo_core::channel::model::{Observed, PlanInput};
use ohallo_core::channel::persisted::{self, PersistedField};
use ohallo_core::channel::plan::update;
use ohallo_core::channel::triggers::Triggers;
use ohallo_core::channel::{binding, stored};
use ohallo_core::failure::{Failure, Retry};
use ohallo_core::index::WorkspaceKey;
use ohallo_core::lease::election::Epoch;
use ohallo_core::rate_limiter::Lane;
use ohallo_core::secret::{Credentials, Redactor};
use ohallo_core::secret_id::SecretId;
use ohallo_core::secret_version::Version;
use ohallo_core::{conditions, metadata_patch, text};

/// How often a guarded write is retried on a newer version before the object is requeued.
const WRITE_ATTEMPTS: usize = 4;

/// The longest text of an event, in characters: the API server accepts 1 kB.
const MAX_NOTE_CHARS: usize = 900;

pub struct Reconciliation {
    pub ctx: Arc<Context>,
    /// The only epoch in which its effects may begin.
    pub epoch: Epoch,
    /// The object as this reconcile knows it: from the watch, then from the responses to its own writes.
    pub channel: Channel,
    /// The status to be written.
    pub status: ChannelStatus,
    pub observed: Observed,
    pub memory: InMemoryState,
    pub lookup: Option<WorkspaceSnapshot>,
    pub session: Option<Session>,
    /// Tokens that were taken before it started.
    pub permit: Option<Permit>,
    pub credentials: Option<Credentials>,
    /// Redacts the API key of this reconcile from values of oHallo that the status shows.
    pub redactor: Redactor,
    pub notes: Vec<PendingEvent>,
    pub secret_versions: Vec<(SecretId, Version)>,
    /// Holds the permission for heavy work.
    pub slot: HeavySlot,
    /// This reconcile made the last create attempt, and may record its outcome.
    pub owns_attempt: bool,
    /// A user changed the object while this reconcile worked on an older version.
    pub outdated: bool,
    /// It only resends the status that the API server did not store: its in-memory state must not be lost.
    pub resends: bool,
    /// A user changed the manifest: what was read for the older one no longer applies.
    pub superseded: bool,
    began: Triggers,
    cell: Arc<Mutex<InMemoryState>>,
}

/// What follows a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Plan again: what was read still holds, or the step's response replaced it.
    Continue,
    /// Requeue soon.
    Requeue,
    /// The object is deleted.
    Finished,
}

/// How a write of the status ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatusWrite {
    Applied,
    /// The API server accepted the write but did not store these fields.
    NotStored(Vec<PersistedField>),
    /// The object no longer exists.
    ObjectGone,
    /// Another writer changed the status, or another replica leads: what this reconcile read may be outdated.
    Conflict,
}

// === impl Reconciliation ===

impl Reconciliation {
    pub fn new(ctx: &Arc<Context>, channel: Channel, epoch: Epoch, slot: HeavySlot) -> Self {
        let cell = ctx.memory(&channel.uid().unwrap_or_default());
        let mut memory = cell.lock().unwrap_or_else(PoisonError::into_inner).clone();
        memory.note_object(&channel);
        if channel.has_finalizer() {
            memory.protected = true;
            memory.removes_finalizer = false;
        }
        // Before anything is read: a change during the reconcile must trigger another one.
        let began = inputs(ctx, &channel);
        memory.note_read(&channel);
        let mut status = binding::trusted_status(&channel);
        let mut notes = Vec::new();
        let resent = stored::resent(&channel, memory.unstored.as_deref(), &memory.lost);
        let resends = resent.is_some();
        match (resent, &memory.binding) {
            (Some(resent), _) => status = resent,
            (None, Some(binding)) if binding.restore(&channel, &mut status) => {
                if memory.lost.is_empty() {
                    notes.push(missing(&channel, binding));
                    memory.lost = vec![PersistedField::ChannelId];
                }
            }
            (None, _) => {}
        }
        if !memory.reconciled_once {
            update::distrust_unconfirmed(&mut status, channel.metadata.generation);
            memory.doubted = status.observed_generation != channel.metadata.generation;
        }
        let not_observed = Failure::transient(Reason::Progressing, "Nothing was read yet.");
        Self {
            lookup: ctx.workspace_snapshot(&WorkspaceKey::of(&channel)),
            ctx: Arc::clone(ctx),
            epoch,
            status,
            channel,
            observed: Observed::unread(Err(not_observed), false),
            memory,
            session: None,
            permit: None,
            credentials: None,
            redactor: Redactor::none(),
            notes,
            secret_versions: Vec::new(),
            slot,
            owns_attempt: false,
            outdated: false,
            resends,
            superseded: false,
            began,
            cell,
        }
    }

    pub fn input(&self) -> PlanInput<'_> {
        PlanInput {
            channel: &self.channel,
            status: &self.status,
            observed: &self.observed,
            memory: &self.memory,
            now: clock::now(),
            instant: clock::instant(),
        }
    }

    /// Checks right before every effect, except the record of an id, whether it may begin.
    pub fn fence(&self) -> Result<(), Failure> {
        if self.ctx.leadership.epoch() == Some(self.epoch) {
            return Ok(());
        }
        Err(Failure {
            message: "This process is no longer the leader.".into(),
            ..Failure::deferred(Duration::from_secs(1))
        })
    }

    /// Waits for the token of the next changing call, then checks the fence.
    pub async fn permitted(&mut self) -> Result<(), Failure> {
        self.session()?.ready().await?;
        self.fence()
    }

    /// Whether the API server stores every field of this version: nothing new begins before that.
    pub fn schema_serves(&self) -> Result<(), Failure> {
        self.ctx.schema.lacks().map_or(Ok(()), |lacks| Err(stored::outdated(&lacks)))
    }

    pub fn session(&mut self) -> Result<&mut Session, Failure> {
        self.session
            .as_mut()
            .ok_or_else(|| Failure::transient(Reason::InternalError, "No session was opened."))
    }

    pub fn uid(&self) -> String {
        self.channel.uid().unwrap_or_default()
    }

    /// Updates which reads of this channel may be older than a write.
    pub fn take_window(&mut self, id: &str) {
        self.observed.window = self.ctx.consistency().window(id, clock::instant());
    }

    /// Calls that a user waits for have priority over periodic polls.
    pub fn lane(&self) -> Lane {
        let view = self.input();
        let settled = conditions::is_true(&self.status.conditions, kind::READY)
            && self.status.observed_generation == Some(view.generation())
            && !view.terminating()
            && !view.reconcile_requested()
            && self
                .memory
                .cooldown
                .as_ref()
                .is_none_or(|gate| gate.remaining(clock::instant(), |_| false).is_none());
        if settled { Lane::Background } else { Lane::User }
    }

    /// The inputs at the start of this reconcile.
    pub fn began(&self) -> &Triggers {
        &self.began
    }

    /// The inputs that this reconcile used.
    pub fn inputs(&self) -> Triggers {
        let mut inputs = Triggers { own: Triggers::own(&self.channel), ..self.began.clone() };
        for (secret, version) in &self.secret_versions {
            match inputs.secrets.iter_mut().find(|(known, _)| known == secret) {
                Some((_, known)) => *known = *version,
                None => inputs.secrets.push((*secret, *version)),
            }
        }
        inputs
    }

    /// Stores the in-memory state for the next reconcile.
    pub fn remember(&self) {
        let mut cell = self.cell.lock().unwrap_or_else(PoisonError::into_inner);
        *cell = cell.succeeded_by(&self.memory, self.owns_attempt);
    }

    pub fn note(&mut self, note: PendingEvent) {
        let text = text::sanitize(&note.text, MAX_NOTE_CHARS);
        self.notes.push(PendingEvent { text, ..note });
    }

    pub fn publish_notes(&mut self) {
        let notes = std::mem::take(&mut self.notes);
        self.ctx.publish(&self.channel, notes);
    }

    fn api(&self) -> Api<Channel> {
        Api::namespaced(self.ctx.client.clone(), &self.channel.namespace().unwrap_or_default())
    }

    /// The object as the API server has it now; `None` if it is deleted or replaced by another of the same
    /// name.
    pub async fn fresh(&self) -> Result<Option<Channel>, Failure> {
        match self.api().get(&self.channel.name_any()).await {
            Ok(fresh) => Ok(Some(fresh).filter(|fresh| fresh.metadata.uid == self.channel.metadata.uid)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error::to_failure(&error)),
        }
    }

    /// Sets the operator's finalizer and, if given, an annotation, in one patch guarded by the object's
    /// version.
    pub async fn patch_metadata(&mut self, intent: Option<String>) -> Result<(), Failure> {
        let annotation = intent.as_deref().map(|intent| (annotation::CREATE_INTENT, intent));
        let patch = metadata_patch::set(&self.channel.metadata, finalizer::CHANNEL, annotation);
        let was_marked = self.input().has_finalizer();
        let None = self.patch(patch).await? else {
            let lost = stored::lost_metadata(intent.as_deref(), &self.channel);
            if lost.is_empty() {
                self.memory.finalizer_set_by_this_process |= !was_marked;
                return Ok(());
            }
            self.not_stored(&lost, None);
            return Err(stored::failure(&lost));
        };
        Err(Failure::deferred(Duration::from_secs(1)))
    }

    /// Counts a write that the API server did not store. New losses are logged, and the loss of an id is also
    /// published.
    fn not_stored(&mut self, lost: &[PersistedField], id: Option<&str>) {
        self.ctx.metrics.write_not_stored("Channel");
        self.ctx.schema.check();
        if self.memory.lost == lost {
            return;
        }
        self.memory.lost = lost.to_vec();
        let names: Vec<_> = lost.iter().map(|field| field.name()).collect();
        let id = id.filter(|_| lost.iter().any(|field| field.binds()));
        tracing::error!(
            channel = self.channel.name_any(),
            namespace = self.channel.namespace(),
            channel_id = id,
            lost = names.join(", "),
            "the API server accepted a write and did not keep it"
        );
        if let Some(id) = id {
            let text = format!(
                "The API server did not keep the id of the oHallo channel of this object: {id}. The operator holds it in memory and retries."
            );
            self.note(PendingEvent::warning("ChannelIdNotStored", text));
        }
    }

    /// Removes only the operator's finalizer. A deleted object needs nothing. If a changed manifest would
    /// change the decision (`revocable`), the operator decides again.
    pub async fn remove_finalizer(&mut self, revocable: bool) -> Result<(), Failure> {
        for _ in 0..WRITE_ATTEMPTS {
            self.fence()?;
            // A later process can tell this from a finalizer that another client removed.
            let uid = self.uid();
            let removed = (annotation::FINALIZER_REMOVED, uid.as_str());
            let patch = metadata_patch::remove(&self.channel.metadata, finalizer::CHANNEL, Some(removed));
            // Before the request: the watch may show its effect before the response arrives.
            self.memory.removes_finalizer = true;
            self.remember();
            match self.patch(patch).await {
                Ok(Some(())) if self.input().has_finalizer() => {
                    self.memory.removes_finalizer = false;
                    self.not_stored(&[PersistedField::Finalizer], None);
                    return Err(stored::finalizer_returned());
                }
                Ok(_) => return Ok(()),
                Err(failure) if matches!(failure.retry, Retry::Deferred(_)) => match self.fresh().await? {
                    Some(fresh) if !conflict::of_parting(&self.channel, revocable, &fresh) => {
                        return Err(failure);
                    }
                    Some(fresh) => self.channel = fresh,
                    None => return Ok(()),
                },
                Err(failure) => return Err(failure),
            }
        }
        Err(changed())
    }

    /// A guarded patch of metadata. `None` if the object is deleted.
    async fn patch(&mut self, patch: json_patch::Patch) -> Result<Option<()>, Failure> {
        let patch = Patch::Json::<()>(patch);
        if let Err(failure) = self.fence() {
            self.memory.removes_finalizer = false;
            self.remember();
            return Err(failure);
        }
        let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        match self.api().patch(&self.channel.name_any(), &params, &patch).await {
            Ok(channel) => {
                self.adopt_version(channel);
                Ok(Some(()))
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => {
                if matches!(&error, kube::Error::Api(status) if (400..500).contains(&status.code)) {
                    self.memory.removes_finalizer = false;
                    self.remember();
                }
                if matches!(&error, kube::Error::Api(status) if status.code == 409) {
                    return Err(changed());
                }
                // 422 means another object of the same name, a finalizer at another position, or a policy's
                // refusal.
                let refused = matches!(&error, kube::Error::Api(status) if status.code == 422);
                let same = |fresh: Channel| {
                    fresh.metadata.resource_version == self.channel.metadata.resource_version
                };
                if refused && !self.fresh().await?.is_some_and(same) {
                    return Err(changed());
                }
                Err(error::to_failure(&error))
            }
        }
    }

    /// Writes the status, guarded. If a newer version still has the status that this reconcile began with, the
    /// new status replaces it. Only a status with a new id is not `fenced`: no other process knows the id,
    /// whichever leads.
    pub async fn write(&mut self, status: &ChannelStatus, fenced: bool) -> Result<StatusWrite, kube::Error> {
        let uid = self.uid();
        let bound = |status: &ChannelStatus| status.bound_to(&uid).is_some();
        if bound(status) && !self.channel.status.as_ref().is_some_and(bound) {
            // Before the request: this reconcile may end while it waits for the response.
            self.memory.binding_unsure = true;
            self.remember();
        }
        let written = self.write_guarded(status, fenced).await;
        if written.is_ok() {
            self.memory.binding_unsure = false;
            self.remember();
        }
        written
    }

    async fn write_guarded(
        &mut self,
        status: &ChannelStatus,
        fenced: bool,
    ) -> Result<StatusWrite, kube::Error> {
        let base = self.channel.status.clone();
        for _ in 0..WRITE_ATTEMPTS {
            if fenced && self.fence().is_err() {
                return Ok(StatusWrite::Conflict);
            }
            // The API server ignores the spec in it.
            let mut object = self.channel.without_config();
            object.status = Some(status.clone());
            object.metadata.managed_fields = None;
            let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
            match self.api().replace_status(&self.channel.name_any(), &params, &object).await {
                Ok(channel) => {
                    let lost = stored::lost_status(status, channel.status.as_ref());
                    self.adopt_version(channel);
                    if lost.is_empty() {
                        self.memory.note_binding(&self.channel);
                        return Ok(StatusWrite::Applied);
                    }
                    self.not_stored(&lost, status.channel_id.as_deref());
                    return Ok(StatusWrite::NotStored(lost));
                }
                Err(kube::Error::Api(answer)) if answer.code == 404 => return Ok(StatusWrite::ObjectGone),
                Err(kube::Error::Api(answer)) if answer.code == 409 => {
                    match self.api().get(&self.channel.name_any()).await {
                        Ok(fresh) => {
                            match conflict::of_status(&self.channel, base.as_ref(), status, &fresh) {
                                Refused::Gone => return Ok(StatusWrite::ObjectGone),
                                Refused::Stale => return Ok(StatusWrite::Conflict),
                                Refused::LayOver => self.replace_object(fresh),
                            }
                        }
                        Err(kube::Error::Api(answer)) if answer.code == 404 => {
                            return Ok(StatusWrite::ObjectGone);
                        }
                        Err(error) => return Err(error),
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(StatusWrite::Conflict)
    }

    /// Writes the status before a call that must not be repeated.
    pub async fn write_ahead(&mut self) -> Result<(), Failure> {
        let status = self.status.clone();
        match self.write(&status, true).await {
            Ok(StatusWrite::Applied) => Ok(()),
            Ok(StatusWrite::NotStored(lost)) => Err(stored::failure(&lost)),
            Ok(_) => Err(changed()),
            Err(error) => Err(error::to_failure(&error)),
        }
    }

    /// Continues with the object as another client changed it.
    pub fn replace_object(&mut self, fresh: Channel) {
        self.outdated |= Triggers::own(&fresh) != Triggers::own(&self.channel);
        self.superseded |= fresh.metadata.generation != self.channel.metadata.generation;
        self.replace(fresh);
    }

    fn adopt_version(&mut self, channel: Channel) {
        self.memory.written = version(&channel).map(|version| (version, clock::instant()));
        // Earlier writes carry an older version, and the API server refuses them.
        self.memory.binding_unsure = false;
        self.replace(channel);
        self.remember();
    }

    /// A response comes without a large config. At the same generation, the known spec still applies.
    fn replace(&mut self, mut fresh: Channel) {
        let missing = fresh.spec.left_out.is_some();
        if missing && fresh.metadata.generation == self.channel.metadata.generation {
            fresh.spec = std::mem::take(&mut self.channel.spec);
        }
        self.channel = fresh;
    }
}

/// Reports an object that lost its id, although this process has seen it bound.
fn missing(channel: &Channel, binding: &persisted::RecordedBinding) -> PendingEvent {
    let id = &binding.channel_id;
    tracing::error!(
        channel = channel.name_any(),
        namespace = channel.namespace(),
        channel_id = id,
        "the status lost the id of the channel; the operator writes it again"
    );
    let text = format!(
        "The status lost the id of the oHallo channel of this object: {id}. The operator writes it again."
    );
    PendingEvent::warning("ChannelIdNotStored", text)
}

fn changed() -> Failure {
    Failure {
        message: "The object changed during the reconcile.".into(),
        ..Failure::deferred(Duration::from_millis(300))
    }
}
