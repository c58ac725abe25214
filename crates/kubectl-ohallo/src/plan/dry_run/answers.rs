//! The assumed answers: the API server stores what is written, and oHallo does what it is asked to do.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use kube::ResourceExt;
use ohallo_core::api::channel::{Channel, ChannelStatus, version};
use ohallo_core::api::{annotation, finalizer};
use ohallo_core::channel::effect::{Answer, Answered, Effect, EffectError};
use ohallo_core::channel::model::{Claims, Step};
use ohallo_core::channel::notice::Notice;
use ohallo_core::channel::plan::delete::WorkspaceProbe;
use ohallo_core::channel::state::State;
use ohallo_core::classify::{ApiError, CallError, Class, ErrorKind};
use ohallo_core::failure::Failure;
use ohallo_core::index::{Claim, NamespacedName};
use ohallo_core::remote::{Changes, Id, RemoteChannel};

use crate::plan::cluster_state::Remote;
use crate::plan::dry_run::{DryRun, channel_like};

/// The beginning of the id of a channel that is created in a dry run. No manifest can name it: it differs in each process.
pub static PLACEHOLDER: LazyLock<String> =
    LazyLock::new(|| format!("~created-{:016x}-", RandomState::new().hash_one(())));

/// An API server that stores everything.
pub struct Kubernetes {
    version: u64,
}

// === impl Kubernetes ===

impl Kubernetes {
    /// Its versions are newer than those of these objects.
    pub fn after<'a>(channels: impl Iterator<Item = &'a Channel>) -> Self {
        Self { version: channels.filter_map(version).max().unwrap_or_default() }
    }

    fn stored(&mut self, mut object: Channel) -> Answer {
        self.version += 1;
        object.metadata.resource_version = Some(self.version.to_string());
        Answer::Object(Box::new(object))
    }

    pub fn status_written(&mut self, object: &Channel, status: &ChannelStatus) -> Answer {
        let mut object = object.clone();
        object.status = Some(status.clone());
        self.stored(object)
    }
}

// === impl DryRun ===

impl DryRun<'_> {
    /// The answer to one effect.
    pub(super) fn answer(
        &mut self,
        state: &State,
        name: &NamespacedName,
        step: &Step,
        effect: Effect,
    ) -> Answered {
        let object = state.object();
        Ok(match effect {
            Effect::CheckSchema
            | Effect::Fence
            | Effect::AwaitToken
            | Effect::PermitCreate
            | Effect::Preflight
            | Effect::PostCredentials => Answer::Done,
            Effect::PostTest => Answer::TestPassed(true),
            Effect::ReserveId => self.reserve(state, name, step),
            Effect::WriteFinalizer if object.has_finalizer() => Answer::Done,
            Effect::WriteIntent | Effect::WriteMetadata | Effect::WriteFinalizer => {
                let mut object = object.clone();
                object.finalizers_mut().push(finalizer::CHANNEL.to_owned());
                object.finalizers_mut().dedup();
                if let Some(intent) = state.intent_to_write() {
                    object.annotations_mut().insert(annotation::CREATE_INTENT.to_owned(), intent.to_owned());
                }
                self.kubernetes.stored(object)
            }
            Effect::WriteId | Effect::WriteAhead => {
                self.kubernetes.status_written(object, state.status_to_write())
            }
            Effect::RemoveFinalizer => {
                let mut object = object.clone();
                object.finalizers_mut().retain(|name| name != finalizer::CHANNEL);
                if object.finalizers().is_empty() {
                    Answer::ObjectGone
                } else {
                    self.kubernetes.stored(object)
                }
            }
            Effect::ReadObject => Answer::Object(Box::new(object.clone())),
            Effect::FindClaims => {
                let Step::Delete { id } = step else { return Err(unexpected()) };
                let rivals = self.index.rivals(id.as_str(), name);
                let (heir, elsewhere) = (rivals.heir.clone(), rivals.elsewhere);
                Answer::Claims(Claims::of(&rivals, &name.namespace, heir, Some(elsewhere)))
            }
            Effect::ListCandidates => Answer::Candidates(Vec::new()),
            Effect::PostChannel => return self.create(state, step),
            Effect::PatchChannel => return self.update(step),
            Effect::PostRetry => return self.retry(step),
            Effect::DeleteChannel => return self.delete(step),
            Effect::ProbeWorkspace => return self.probe(step),
        })
    }

    fn reserve(&mut self, state: &State, name: &NamespacedName, step: &Step) -> Answer {
        let (id, claim) = match step {
            Step::Adopt { id } => (id, Claim::Adopt),
            Step::Delete { id } => (id, Claim::Delete),
            // No other step reserves an id.
            _ => return Answer::Reserved,
        };
        match self.index.claim(id.as_str(), name, state.uid(), claim) {
            true => Answer::Done,
            false => Answer::Reserved,
        }
    }

    fn create(&mut self, state: &State, step: &Step) -> Answered {
        let Step::PostCreate { body, .. } = step else { return Err(unexpected()) };
        let workspace = state.observed().workspace.clone()?.workspace_id;
        let id = Id::parse(&format!("{}{}", *PLACEHOLDER, self.remotes.len())).ok_or_else(unexpected)?;
        let channel = channel_like(id.clone(), &workspace, body.clone());
        let remote = Remote::Found { channel: Box::new(channel.clone()), compared: true };
        self.remotes.put(id.as_str(), remote);
        Ok(Answer::Channel(Box::new(channel)))
    }

    fn update(&mut self, step: &Step) -> Answered {
        let Step::Update { id, changes, .. } = step else { return Err(unexpected()) };
        let channel = self.change(id, |channel| {
            let Changes { display_name, config, enabled: _ } = changes.clone();
            channel.display_name = display_name.or_else(|| channel.display_name.take());
            if let Some(config) = config {
                channel.config = config;
            }
        });
        channel.map(|channel| Answer::Channel(Box::new(channel)))
    }

    fn retry(&mut self, step: &Step) -> Answered {
        let Step::Retry { id, .. } = step else { return Err(unexpected()) };
        self.change(id, |channel| channel.status = Some("active".to_owned())).map(|_| Answer::Done)
    }

    fn change(
        &mut self,
        id: &Id,
        change: impl FnOnce(&mut RemoteChannel),
    ) -> Result<RemoteChannel, EffectError> {
        let Some(Remote::Found { mut channel, .. }) = self.remotes.get(id.as_str()).cloned() else {
            return Err(not_found());
        };
        change(&mut channel);
        // What the operator sent is known from now on.
        self.remotes.put(id.as_str(), Remote::Found { channel: channel.clone(), compared: true });
        Ok(*channel)
    }

    fn delete(&mut self, step: &Step) -> Answered {
        let Step::Delete { id } = step else { return Err(unexpected()) };
        match self.remotes.get(id.as_str()) {
            Some(Remote::Absent(_)) => Err(not_found()),
            Some(Remote::Found { .. }) | None => {
                self.remotes.put(id.as_str(), Remote::Absent(WorkspaceProbe::Found));
                Ok(Answer::Done)
            }
        }
    }

    /// What the read of the workspace showed after the 404.
    fn probe(&self, step: &Step) -> Answered {
        let id = match step {
            Step::Delete { id } => Some(id),
            _ => None,
        };
        match id.and_then(|id| self.remotes.get(id.as_str())) {
            Some(Remote::Absent(probe)) => Ok(Answer::Workspace(*probe)),
            Some(Remote::Found { .. }) | None => Ok(Answer::Workspace(WorkspaceProbe::Found)),
        }
    }

    /// Makes the object, and what the reconcile learned, known to the reconciles of other Channels.
    pub(super) fn publish(&mut self, state: &mut State, name: &NamespacedName) {
        let uid = state.uid().to_owned();
        for notice in state.take_notices() {
            match notice {
                Notice::CreateInFlight(creating) => drop(self.index.creating(name, &uid, creating)),
                Notice::Created(id) => drop(self.index.claim(id.as_str(), name, &uid, Claim::Create)),
                Notice::ReleaseId => drop(self.index.unclaim(&uid)),
                Notice::FinalizerRemoved { .. } => {
                    if state.object().finalizers().iter().all(|name| name == finalizer::CHANNEL) {
                        self.objects.remove(name);
                        self.index.remove(name);
                    }
                }
                // Of no other Channel's interest, or without a meaning in a dry run: metrics and logs.
                Notice::KeyRejected
                | Notice::KeyReads
                | Notice::CreateSupported
                | Notice::CreateUnsupported(_)
                | Notice::ListUnsupported
                | Notice::NotStored { .. }
                | Notice::IdLost(_)
                | Notice::ConflictingIds { .. }
                | Notice::Orphaned(_)
                | Notice::WaitsForClaims
                | Notice::Drift(_)
                | Notice::CredentialsSent(_)
                | Notice::RetrySent(_)
                | Notice::TestSent(_)
                | Notice::FirstReady(_) => {}
            }
        }
        if self.objects.contains_key(name) {
            self.index.put(state.object());
            self.objects.insert(name.clone(), state.object().clone());
        }
    }
}

fn not_found() -> EffectError {
    let text = "oHallo shows no such channel";
    let error = ApiError { status: Some(404), ..ApiError::new(Class::Rejected, ErrorKind::NotFound, text) };
    EffectError::Call(CallError::Failed(error))
}

/// A step without what its effect needs: a bug of this program.
fn unexpected() -> EffectError {
    let text = "The dry_run executed an effect of another step.";
    Failure::transient(ohallo_core::api::conditions::Reason::InternalError, text).into()
}
