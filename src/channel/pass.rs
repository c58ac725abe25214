// I/O
//! One pass over one Channel: what it works on, and its writes to the API server.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::claims;
use super::conflict::{self, Refused};
use super::create;
use super::inputs::{Inputs, Version};
use super::memory::Memory;
use super::plan::{Declared, Observed, Remote, View};
use super::update;
use crate::api::annotation;
use crate::api::channel::{Channel, ChannelStatus};
use crate::api::conditions::{Reason, kind};
use crate::clock;
use crate::conditions;
use crate::context::{Context, Lookup, MANAGER};
use crate::error::{Failure, Need};
use crate::events::Note;
use crate::heavy::{self, HeavySlot};
use crate::index::{Handle, Name};
use crate::leader::Epoch;
use crate::ohallo::{Lane, Permit, Session};
use crate::secret::{Credentials, Redactor};
use crate::secret_id::SecretId;
use crate::sieve;
use crate::text;

/// How often a guarded write is tried again on a newer version before the pass is.
const TRIES: usize = 4;

/// The longest text of an event, in characters: the API server takes 1 kB.
const MAX_NOTE_CHARS: usize = 900;

pub struct Pass {
    pub ctx: Arc<Context>,
    /// In which its effects may begin, and in no other.
    pub epoch: Epoch,
    /// The object as this pass knows it: as watched, then as its own writes were answered.
    pub channel: Channel,
    /// The status as it shall become.
    pub status: ChannelStatus,
    pub observed: Observed,
    pub memory: Memory,
    pub lookup: Option<Lookup>,
    pub session: Option<Session>,
    /// Tokens that were taken before it started.
    pub permit: Option<Permit>,
    pub credentials: Option<Credentials>,
    /// Of the API key that this pass calls with: for values of oHallo's that the status shows.
    pub redactor: Redactor,
    pub notes: Vec<Note>,
    pub secret_versions: Vec<(SecretId, Version)>,
    /// Where it keeps the right to heavy work.
    pub slot: HeavySlot,
    /// It made the last attempt to create, and may say what became of it.
    pub owns_attempt: bool,
    /// The object was changed by somebody else while this pass worked on an older version.
    pub outdated: bool,
    /// Its manifest was: what was read for the older one says nothing of it.
    pub superseded: bool,
    began: Inputs,
    cell: Arc<Mutex<Memory>>,
}

/// How a write of the status ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Stands,
    /// The object is not there any more.
    Gone,
    /// Somebody else wrote the status, or leads: what this pass found may be old.
    Stale,
}

// === impl Pass ===

impl Pass {
    pub fn new(ctx: &Arc<Context>, channel: Channel, epoch: Epoch, slot: HeavySlot) -> Self {
        let cell = ctx.memory(&channel.uid().unwrap_or_default());
        let mut memory = cell.lock().unwrap_or_else(PoisonError::into_inner).clone();
        memory.meet(&channel);
        if channel.finalizers().iter().any(|name| name == crate::api::finalizer::CHANNEL) {
            memory.protected = true;
            memory.removes_finalizer = false;
        }
        // Before anything is looked up: what changes during the pass must open the gate again.
        let began = inputs(ctx, &channel);
        let mut status = create::believed(&channel);
        if !memory.seen {
            update::doubt(&mut status, channel.metadata.generation);
        }
        let not_observed = Failure::transient(Reason::Progressing, "Nothing was read yet.");
        Self {
            lookup: ctx.lookup(&Handle::of(&channel)),
            ctx: Arc::clone(ctx),
            epoch,
            status,
            channel,
            observed: Observed {
                place: Err(not_observed),
                workspace_suspended: false,
                credentials: Declared::None,
                remote: Remote::Unread,
                owner: None,
                predecessor: None,
                claims: None,
                candidates: Vec::new(),
                updated: false,
            },
            memory,
            session: None,
            permit: None,
            credentials: None,
            redactor: Redactor::none(),
            notes: Vec::new(),
            secret_versions: Vec::new(),
            slot,
            owns_attempt: false,
            outdated: false,
            superseded: false,
            began,
            cell,
        }
    }

    pub fn view(&self) -> View<'_> {
        View {
            channel: &self.channel,
            status: &self.status,
            observed: &self.observed,
            memory: &self.memory,
            now: clock::now(),
            instant: clock::instant(),
        }
    }

    /// Asked right before every effect but the record of an id: whether it may begin.
    pub fn fence(&self) -> Result<(), Failure> {
        if self.ctx.leadership.epoch() == Some(self.epoch) {
            return Ok(());
        }
        Err(Failure {
            message: "This process does not lead any more.".into(),
            ..Failure::turn(Duration::from_secs(1))
        })
    }

    /// The token of the next call, which changes something, and the leave to make it.
    pub async fn permitted(&mut self) -> Result<(), Failure> {
        self.session()?.ready().await?;
        self.fence()
    }

    pub fn session(&mut self) -> Result<&mut Session, Failure> {
        self.session
            .as_mut()
            .ok_or_else(|| Failure::transient(Reason::InternalError, "No session was opened."))
    }

    pub fn uid(&self) -> String {
        self.channel.uid().unwrap_or_default()
    }

    /// What somebody waits for goes before regular looks.
    pub fn lane(&self) -> Lane {
        let view = self.view();
        let settled = conditions::is_true(&self.status.conditions, kind::READY)
            && self.status.observed_generation == Some(view.generation())
            && !view.terminating()
            && !view.reconcile_requested()
            && self
                .memory
                .gate
                .as_ref()
                .is_none_or(|gate| gate.closed(clock::instant(), |_| false).is_none());
        if settled { Lane::Background } else { Lane::User }
    }

    /// The inputs as this pass found them.
    pub fn began(&self) -> &Inputs {
        &self.began
    }

    /// The inputs as this pass used them.
    pub fn inputs(&self) -> Inputs {
        let mut inputs = Inputs { own: Inputs::own(&self.channel), ..self.began.clone() };
        for (secret, version) in &self.secret_versions {
            match inputs.secrets.iter_mut().find(|(known, _)| known == secret) {
                Some((_, known)) => *known = *version,
                None => inputs.secrets.push((*secret, *version)),
            }
        }
        inputs
    }

    /// Makes what this pass knows known to the next.
    pub fn remember(&self) {
        let mut cell = self.cell.lock().unwrap_or_else(PoisonError::into_inner);
        *cell = cell.succeeded_by(&self.memory, self.owns_attempt);
    }

    pub fn note(&mut self, note: Note) {
        let text = text::sanitize(&note.text, MAX_NOTE_CHARS);
        self.notes.push(Note { text, ..note });
    }

    pub fn publish_notes(&mut self) {
        let notes = std::mem::take(&mut self.notes);
        self.ctx.publish(&self.channel, notes);
    }

    fn api(&self) -> Api<Channel> {
        Api::namespaced(self.ctx.client.clone(), &self.channel.namespace().unwrap_or_default())
    }

    /// The object as it now is; `None` where it is gone, or another of the same name is there.
    pub async fn fresh(&self) -> Result<Option<Channel>, Failure> {
        match self.api().get(&self.channel.name_any()).await {
            Ok(fresh) => Ok(Some(fresh).filter(|fresh| fresh.metadata.uid == self.channel.metadata.uid)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(cluster(&error)),
        }
    }

    /// All finalizers of the object. A list that was cut is read in full: a merge patch replaces it.
    async fn finalizers(&self) -> Result<Vec<String>, Failure> {
        let known = self.channel.finalizers();
        if known.iter().all(|name| name != sieve::CUT) {
            return Ok(known.to_vec());
        }
        if !self.slot.try_take() {
            return Err(Failure::turn(heavy::AGAIN));
        }
        match sieve::read(&self.ctx.client, &self.channel, true).await {
            Ok(Some(whole)) if whole.metadata.resource_version == self.channel.metadata.resource_version => {
                Ok(whole.finalizers().to_vec())
            }
            Ok(_) => Err(changed()),
            Err(error) => Err(cluster(&error)),
        }
    }

    /// Sets our finalizer and, where given, an annotation, in one patch that carries the version it was decided on.
    pub async fn mark(&mut self, intent: Option<String>) -> Result<(), Failure> {
        let mut finalizers = self.finalizers().await?;
        if !self.view().finalized() {
            finalizers.push(crate::api::finalizer::CHANNEL.into());
        }
        let mut metadata = json!({ "finalizers": finalizers });
        if let (Some(intent), Some(fields)) = (intent, metadata.as_object_mut()) {
            fields.insert("annotations".into(), json!({ annotation::CREATE_INTENT: intent }));
        }
        match self.patch(metadata).await? {
            Some(()) => Ok(()),
            None => Err(Failure::turn(Duration::from_secs(1))),
        }
    }

    /// Takes our finalizer off, and only ours. An object that is gone is done. Where a changed manifest would change
    /// the decision (`revocable`) it is decided again.
    pub async fn let_go(&mut self, revocable: bool) -> Result<(), Failure> {
        for _ in 0..TRIES {
            self.fence()?;
            let patched = match self.finalizers().await {
                Ok(mut others) => {
                    others.retain(|name| name != crate::api::finalizer::CHANNEL);
                    let mut metadata = json!({ "finalizers": others });
                    if let (false, Some(fields)) = (others.is_empty(), metadata.as_object_mut()) {
                        // A process that starts later can tell this from a finalizer that somebody else removed.
                        let uid = json!({ annotation::FINALIZER_REMOVED: self.uid() });
                        fields.insert("annotations".into(), uid);
                    }
                    // Before it is sent: the watch may show its effect before the answer comes.
                    self.memory.removes_finalizer = true;
                    self.remember();
                    self.patch(metadata).await
                }
                Err(failure) => Err(failure),
            };
            match patched {
                Ok(_) => return Ok(()),
                Err(failure) if matches!(failure.need, Need::Turn(_)) => match self.fresh().await? {
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

    /// A guarded merge patch of metadata. `None` where the object is gone.
    async fn patch(&mut self, mut metadata: Value) -> Result<Option<()>, Failure> {
        if let Some(fields) = metadata.as_object_mut() {
            fields.insert("uid".into(), json!(self.channel.metadata.uid));
            fields.insert("resourceVersion".into(), json!(self.channel.metadata.resource_version));
        }
        let patch = Patch::Merge(json!({ "metadata": metadata }));
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
                // A wrong uid is answered 422, another object of the same name; and so is what a policy refuses.
                let refused = matches!(&error, kube::Error::Api(status) if status.code == 422);
                let same = |fresh: Channel| {
                    fresh.metadata.resource_version == self.channel.metadata.resource_version
                };
                if refused && !self.fresh().await?.is_some_and(same) {
                    return Err(changed());
                }
                Err(cluster(&error))
            }
        }
    }

    /// Writes the status, guarded. On a newer version whose status is still the one this pass began with, ours is laid
    /// over it. Only one that holds a new id is not `fenced`: whoever leads, no other process knows the id.
    pub async fn write(&mut self, status: &ChannelStatus, fenced: bool) -> Result<Written, kube::Error> {
        let uid = self.uid();
        let bound = |status: &ChannelStatus| status.bound_to(&uid).is_some();
        if bound(status) && !self.channel.status.as_ref().is_some_and(bound) {
            // Before it is sent: this pass may be ended while it waits for the answer.
            self.memory.binding_unsure = true;
            self.remember();
        }
        let written = self.write_guarded(status, fenced).await;
        if matches!(written, Ok(Written::Stands)) && bound(status) {
            self.memory.bound_id.clone_from(&status.channel_id);
        }
        if written.is_ok() {
            self.memory.binding_unsure = false;
            self.remember();
        }
        written
    }

    async fn write_guarded(&mut self, status: &ChannelStatus, fenced: bool) -> Result<Written, kube::Error> {
        let base = self.channel.status.clone();
        for _ in 0..TRIES {
            if fenced && self.fence().is_err() {
                return Ok(Written::Stale);
            }
            // The spec in it is ignored.
            let mut object = self.channel.without_config();
            object.status = Some(status.clone());
            object.metadata.managed_fields = None;
            let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
            match self.api().replace_status(&self.channel.name_any(), &params, &object).await {
                Ok(channel) => {
                    self.adopt_version(channel);
                    return Ok(Written::Stands);
                }
                Err(kube::Error::Api(answer)) if answer.code == 404 => return Ok(Written::Gone),
                Err(kube::Error::Api(answer)) if answer.code == 409 => {
                    match self.api().get(&self.channel.name_any()).await {
                        Ok(fresh) => {
                            match conflict::of_status(&self.channel, base.as_ref(), status, &fresh) {
                                Refused::Gone => return Ok(Written::Gone),
                                Refused::Stale => return Ok(Written::Stale),
                                Refused::LayOver => self.go_on_with(fresh),
                            }
                        }
                        Err(kube::Error::Api(answer)) if answer.code == 404 => return Ok(Written::Gone),
                        Err(error) => return Err(error),
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Written::Stale)
    }

    /// Writes the status before a call whose repetition must be impossible.
    pub async fn write_ahead(&mut self) -> Result<(), Failure> {
        let status = self.status.clone();
        match self.write(&status, true).await {
            Ok(Written::Stands) => Ok(()),
            Ok(_) => Err(changed()),
            Err(error) => Err(cluster(&error)),
        }
    }

    /// Works on with what somebody else made of the object.
    pub fn go_on_with(&mut self, fresh: Channel) {
        self.outdated |= Inputs::own(&fresh) != Inputs::own(&self.channel);
        self.superseded |= fresh.metadata.generation != self.channel.metadata.generation;
        self.replace(fresh);
    }

    fn adopt_version(&mut self, channel: Channel) {
        self.memory.written = version(&channel).map(|version| (version, clock::instant()));
        // What was sent before carries an older version, and is refused.
        self.memory.binding_unsure = false;
        self.replace(channel);
        self.remember();
    }

    /// An answer comes without a large config. Of the same generation, the spec is the one that is known.
    fn replace(&mut self, mut fresh: Channel) {
        let missing = fresh.spec.left_out.is_some();
        if missing && fresh.metadata.generation == self.channel.metadata.generation {
            fresh.spec = std::mem::take(&mut self.channel.spec);
        }
        self.channel = fresh;
    }
}

/// The inputs of a pass over this object, as the watches last saw them.
pub fn inputs(ctx: &Context, channel: &Channel) -> Inputs {
    let name = Name::of(channel);
    let handle = Handle::of(channel);
    let uid = channel.uid().unwrap_or_default();
    let secrets = crate::index::secret_ids(channel);
    let bound = channel.status.as_ref().and_then(|status| status.bound_to(&uid));
    let id = bound.or(channel.spec.channel_id.as_deref());
    Inputs {
        own: Inputs::own(channel),
        secrets: secrets.iter().map(|secret| (*secret, ctx.secrets.version(*secret))).collect(),
        workspace: workspace_input(ctx, &handle, &name.namespace),
        key: Some(ctx.held(&handle).map(|held| held.key.id())),
        conflict: id.is_some_and(|id| conflict(ctx, id, &name, &uid)),
        rivals: bound
            .filter(|_| channel.metadata.deletion_timestamp.is_some())
            .map_or(0, |id| rivals(ctx, id, &name)),
    }
}

/// Another Channel holds the id, and does not hand it over to this one.
fn conflict(ctx: &Context, id: &str, name: &Name, uid: &str) -> bool {
    let owned = ctx.index().owner(id, name, uid).is_some();
    owned && claims::predecessor(ctx, id, name).is_none()
}

/// What a deletion waits for.
fn rivals(ctx: &Context, id: &str, name: &Name) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    ctx.index().rivals(id, name).hash(&mut hasher);
    hasher.finish()
}

fn workspace_input(ctx: &Context, handle: &Handle, namespace: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    let lookup = ctx.lookup(handle);
    if let Some(lookup) = &lookup {
        (&lookup.uid, lookup.generation, lookup.terminating).hash(&mut hasher);
        // Usable is usable: by which word, and whether the cache shows it yet, is no reason to call again.
        let held = ctx.held(handle).is_some_and(|held| held.uid == lookup.uid);
        match conditions::find(&lookup.status.conditions, kind::READY) {
            Some(ready) if ready.status == "False" => ready.reason.hash(&mut hasher),
            ready => (ready.is_some() || held).hash(&mut hasher),
        }
        if lookup.allowed.is_some() {
            ctx.namespace_labels(namespace).hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// The object's version as a number: they can be compared since Kubernetes 1.35, and always could in etcd.
pub fn version(channel: &Channel) -> Option<u64> {
    channel.metadata.resource_version.as_deref()?.parse().ok()
}

fn changed() -> Failure {
    Failure {
        message: "The object was changed meanwhile.".into(),
        ..Failure::turn(Duration::from_millis(300))
    }
}

/// What the API server's refusal means for a pass.
pub fn cluster(error: &kube::Error) -> Failure {
    let why = match error {
        kube::Error::Api(status) => format!("the API server answered {} {}", status.code, status.reason),
        _ => "the API server did not answer".to_owned(),
    };
    Failure::transient(
        Reason::InternalError,
        format!("A write to the cluster failed: {why}; it is tried again by itself."),
    )
}
