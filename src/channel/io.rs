//! What one reconcile of a Channel uses beside its state: the clients, the process-wide stores, and the cell of its
//! in-memory state.

use std::sync::{Arc, Mutex, PoisonError};

use kube::{Api, ResourceExt};

use crate::channel::inputs::inputs;
use crate::context::Context;
use crate::orphan_reports;
use ohallo_client::heavy::HeavySlot;
use ohallo_client::{CreatePermit, Permit, Session, clock};
use ohallo_core::api::ObjectKind;
use ohallo_core::api::channel::Channel;
use ohallo_core::api::conditions::Reason;
use ohallo_core::channel::in_memory_state::InMemoryState;
use ohallo_core::channel::notice::Notice;
use ohallo_core::channel::orphan::Orphan;
use ohallo_core::channel::state::{Now, State};
use ohallo_core::channel::triggers::Triggers;
use ohallo_core::failure::Failure;
use ohallo_core::index::{Claim, NamespacedName, WorkspaceKey};
use ohallo_core::lease::election::Epoch;
use ohallo_core::secret::Credentials;
use ohallo_core::secret_id::SecretId;
use ohallo_core::secret_version::Version;
use ohallo_core::workspace::cached::WorkspaceSnapshot;

/// See the module.
pub struct Io {
    pub ctx: Arc<Context>,
    /// The only epoch in which effects may begin.
    pub epoch: Epoch,
    pub name: NamespacedName,
    pub uid: String,
    pub workspace: WorkspaceKey,
    pub snapshot: Option<WorkspaceSnapshot>,
    pub session: Option<Session>,
    /// Tokens that were taken before the reconcile started.
    pub permit: Option<Permit>,
    pub create_permit: Option<CreatePermit>,
    /// The workspace is to be read before the create is sent.
    pub preflights: bool,
    pub credentials: Option<Credentials>,
    /// The versions of the Secrets that were read.
    pub secret_versions: Vec<(SecretId, Version)>,
    /// Holds the permission for heavy work.
    pub slot: HeavySlot,
    began: Triggers,
    cell: Arc<Mutex<InMemoryState>>,
}

/// The time of one iteration.
pub fn now() -> Now {
    Now { wall: clock::now(), instant: clock::instant() }
}

// === impl Io ===

impl Io {
    /// Begins a reconcile of the object.
    pub fn begin(ctx: &Arc<Context>, channel: Channel, epoch: Epoch, slot: HeavySlot) -> (Self, State) {
        let uid = channel.uid().unwrap_or_default();
        let cell = ctx.memory(&uid);
        let memory = cell.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let workspace = WorkspaceKey::of(&channel);
        let io = Self {
            // Before anything is read: a change during the reconcile must trigger another one.
            began: inputs(ctx, &channel),
            snapshot: ctx.workspace_snapshot(&workspace),
            ctx: Arc::clone(ctx),
            epoch,
            name: NamespacedName::of(&channel),
            uid,
            workspace,
            session: None,
            permit: None,
            create_permit: None,
            preflights: false,
            credentials: None,
            secret_versions: Vec::new(),
            slot,
            cell,
        };
        let interval = ctx.read_interval(&channel);
        (io, State::begin(channel, memory, interval))
    }

    pub fn leads(&self) -> bool {
        self.ctx.leadership.epoch() == Some(self.epoch)
    }

    pub fn api(&self) -> Api<Channel> {
        Api::namespaced(self.ctx.client.clone(), &self.name.namespace)
    }

    pub fn session(&mut self) -> Result<&mut Session, Failure> {
        self.session
            .as_mut()
            .ok_or_else(|| Failure::transient(Reason::InternalError, "No session was opened."))
    }

    /// The inputs at the start of this reconcile.
    pub fn began(&self) -> &Triggers {
        &self.began
    }

    /// The inputs that this reconcile used.
    pub fn inputs(&self, state: &State) -> Triggers {
        let mut inputs = Triggers { own: Triggers::own(state.object()), ..self.began.clone() };
        for (secret, version) in &self.secret_versions {
            match inputs.secrets.iter_mut().find(|(known, _)| known == secret) {
                Some((_, known)) => *known = *version,
                None => inputs.secrets.push((*secret, *version)),
            }
        }
        inputs
    }

    /// Publishes what concerns more than this object, and stores the in-memory state for the next reconcile.
    pub fn remember(&self, state: &mut State) {
        for notice in state.take_notices() {
            self.publish(state, notice);
        }
        let mut cell = self.cell.lock().unwrap_or_else(PoisonError::into_inner);
        *cell = state.remembered(&cell);
    }

    /// Queues the events of this reconcile.
    pub fn publish_events(&self, state: &mut State) {
        let events = state.take_events();
        self.ctx.publish(state.object(), events);
    }

    fn publish(&self, state: &State, notice: Notice) {
        let ctx = &self.ctx;
        let NamespacedName { namespace, name } = &self.name;
        match notice {
            Notice::CreateInFlight(creating) => {
                let requeues = ctx.index().creating(&self.name, &self.uid, creating);
                ctx.requeue(requeues);
            }
            Notice::Created(id) => {
                if !ctx.index().claim(id.as_str(), &self.name, &self.uid, Claim::Create) {
                    tracing::error!(
                        channel_id = %id,
                        "a create returned an id that another Channel is binding"
                    );
                }
            }
            Notice::ReleaseId => {
                let requeues = ctx.index().unclaim(&self.uid);
                ctx.requeue(requeues);
            }
            Notice::KeyRejected => ctx.request_key_check(&self.workspace),
            Notice::KeyReads => ctx.edit_cached_key(&self.workspace, |held| held.has_read = true),
            Notice::CreateSupported => ctx.edit_cached_key(&self.workspace, |held| {
                held.create_unsupported = None;
                held.has_created = true;
            }),
            Notice::CreateUnsupported(at) => {
                ctx.edit_cached_key(&self.workspace, |held| held.create_unsupported = Some(at));
            }
            Notice::ListUnsupported => {
                ctx.edit_cached_key(&self.workspace, |held| held.list_unsupported = true);
            }
            Notice::NotStored { lost, is_new, id } => {
                ctx.metrics.write_not_stored(ObjectKind::Channel.name());
                ctx.schema.check();
                if is_new {
                    let names: Vec<_> = lost.iter().map(|field| field.name()).collect();
                    tracing::error!(
                        channel = name,
                        namespace,
                        channel_id = id,
                        lost = names.join(", "),
                        "the API server accepted a write and did not keep it"
                    );
                }
            }
            Notice::IdLost(id) => tracing::error!(
                channel = name,
                namespace,
                channel_id = id,
                "the status lost the id of the channel; the operator writes it again"
            ),
            Notice::ConflictingIds { answered, declared } => tracing::error!(
                channel = name,
                namespace,
                channel_id = %answered,
                declared,
                "a create returned another channel than the manifest now names; neither is bound"
            ),
            Notice::Orphaned(id) => {
                orphan_reports::report(ctx, &self.name, &self.uid, &Orphan::Channel(id));
            }
            Notice::WaitsForClaims => self.log_claimants(state),
            Notice::FinalizerRemoved { id, outcome } => tracing::info!(
                channel = name,
                namespace,
                channel_id = id,
                outcome = ?outcome,
                "removed the finalizer"
            ),
            Notice::Drift(path) => ctx.metrics.drift_detected(&path),
            Notice::CredentialsSent(result) => ctx.metrics.credential_push(result.as_str()),
            Notice::RetrySent(result) => ctx.metrics.provisioning_retry(result.as_str()),
            Notice::TestSent(result) => {
                let channel_type = state.object().spec.channel_type.as_deref().unwrap_or_default();
                ctx.metrics.connectivity_test(channel_type, result.label());
            }
            Notice::FirstReady(took) => {
                let channel_type = state.object().spec.channel_type.as_deref().unwrap_or_default();
                ctx.metrics.time_to_ready(channel_type, took);
            }
        }
    }

    /// Names the Channels that a deletion waits for, in the log only: no namespace learns of another.
    fn log_claimants(&self, state: &State) {
        let id = state.status().channel_id.as_deref().unwrap_or_default();
        let NamespacedName { namespace, name } = &self.name;
        let claimants: Vec<_> = {
            let index = self.ctx.index();
            let beside = index.rivals(id, &self.name).beside;
            let others = index.claimants_elsewhere(id, namespace);
            beside.iter().chain(&others).map(|name| format!("{}/{}", name.namespace, name.name)).collect()
        };
        tracing::info!(
            channel = name,
            namespace,
            channel_id = id,
            claimants = claimants.join(", "),
            "the deletion waits: other Channels claim the channel in oHallo"
        );
    }
}
