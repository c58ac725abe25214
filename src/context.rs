// I/O
//! What every pass shares: clients, stores, and what this process remembers.

use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Resource, ResourceExt};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::channel::Channel;
use crate::api::workspace::{AllowedNamespaces, ClusterWorkspace, Workspace, WorkspaceStatus};
use crate::channel::memory::Memory;
use crate::controller::Queue;
use crate::events::{Events, Note};
use crate::index::{Handle, Index, Name, Wakes};
use crate::leader::Leadership;
use crate::metrics::Metrics;
use crate::ohallo::{self, Id};
use crate::secret::ApiKey;
use crate::secrets::Secrets;
use crate::settings::Settings;
use crate::work_queue::{ObjectKey, Priority};
use crate::workspace::Kind;

/// The name under which this operator writes.
pub const MANAGER: &str = "ohallo-operator";

pub struct Context {
    pub client: Client,
    pub settings: Settings,
    pub ohallo: ohallo::Client,
    pub metrics: Arc<Metrics>,
    pub events: Events,
    /// Whether effects may begin; the only process there is unless it was set.
    pub leadership: Leadership,
    pub channels: Store<Channel>,
    pub workspaces: Store<Workspace>,
    pub cluster_workspaces: Store<ClusterWorkspace>,
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    pub secrets: Secrets,
    pub index: Mutex<Index>,
    /// What is to be reconciled.
    pub queue: Queue,
    pub listed: Listed,
    /// Creates under way: the process waits for them before it ends.
    pub tasks: TaskTracker,
    /// Cancelled when the process has no time left.
    pub ended: CancellationToken,
    held: Mutex<HashMap<Handle, Held>>,
    memories: Mutex<HashMap<String, Arc<Mutex<Memory>>>>,
    workspace_memories: Mutex<HashMap<String, crate::workspace::Memory>>,
    /// Workspaces whose key was refused to a Channel.
    rechecks: Mutex<HashSet<Handle>>,
}

/// Whether every kind was listed once: before that it can't be said that an object is not there. Not the stores' own
/// `wait_until_ready`: it wakes only the last of several waiters, and each controller is one.
#[derive(Default)]
pub struct Listed {
    missing: Mutex<BTreeSet<&'static str>>,
    done: CancellationToken,
}

/// The last good key of a workspace. No Debug.
#[derive(Clone)]
pub struct Held {
    /// Of the Workspace that it was read for.
    pub uid: String,
    pub key: ApiKey,
    pub workspace_id: Id,
    /// When oHallo last refused to create here.
    pub create_unsupported: Option<std::time::Instant>,
    /// oHallo has no list of channels.
    pub list_unsupported: bool,
}

/// A Workspace or ClusterWorkspace, as a Channel looks at it.
pub struct Lookup {
    pub uid: String,
    pub generation: Option<i64>,
    pub suspended: bool,
    pub terminating: bool,
    pub status: WorkspaceStatus,
    /// `None` for a Workspace.
    pub allowed: Option<AllowedNamespaces>,
}

// === impl Listed ===

impl Listed {
    /// A kind that is waited for.
    pub fn expect(&self, kind: &'static str) {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).insert(kind);
    }

    /// A kind that was listed.
    pub fn mark(&self, kind: &'static str) {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        missing.remove(kind);
        if missing.is_empty() {
            self.done.cancel();
        }
    }

    pub async fn wait(&self) {
        self.done.cancelled().await;
    }
}

// === impl Context ===

/// The stores that the watches fill.
pub struct Stores {
    pub channels: Store<Channel>,
    pub workspaces: Store<Workspace>,
    pub cluster_workspaces: Store<ClusterWorkspace>,
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
}

impl Context {
    pub fn new(
        client: Client,
        settings: Settings,
        ohallo: ohallo::Client,
        metrics: Arc<Metrics>,
        events: Events,
        stores: Stores,
    ) -> Self {
        Self {
            queue: Queue::new(settings.concurrency, Arc::clone(&metrics)),
            secrets: Secrets::new(client.clone()),
            client,
            settings,
            ohallo,
            metrics,
            events,
            leadership: Leadership::sole(),
            channels: stores.channels,
            workspaces: stores.workspaces,
            cluster_workspaces: stores.cluster_workspaces,
            namespaces: stores.namespaces,
            index: Mutex::default(),
            listed: Listed::default(),
            tasks: TaskTracker::new(),
            ended: CancellationToken::new(),
            held: Mutex::default(),
            memories: Mutex::default(),
            workspace_memories: Mutex::default(),
            rechecks: Mutex::default(),
        }
    }

    pub fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is remembered of the object with this uid.
    pub fn memory(&self, uid: &str) -> Arc<Mutex<Memory>> {
        let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        memories.entry(uid.to_owned()).or_default().clone()
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, uid: &str) {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        self.index().unclaim(uid);
    }

    pub fn workspace_memory(&self, uid: &str) -> crate::workspace::Memory {
        self.workspace_memories
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(uid)
            .cloned()
            .unwrap_or_default()
    }

    pub fn remember_workspace(&self, uid: &str, memory: crate::workspace::Memory) {
        self.workspace_memories.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.to_owned(), memory);
    }

    pub fn forget_workspace(&self, uid: &str) {
        self.workspace_memories.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// Makes a Workspace look at its key soon: it was refused to one of its Channels.
    pub fn recheck(&self, handle: &Handle) {
        self.rechecks.lock().unwrap_or_else(PoisonError::into_inner).insert(handle.clone());
        self.wake_workspace(handle);
    }

    /// Whether a Workspace was asked to look and has not begun to.
    pub fn recheck_asked(&self, handle: &Handle) -> bool {
        self.rechecks.lock().unwrap_or_else(PoisonError::into_inner).contains(handle)
    }

    pub fn take_recheck(&self, handle: &Handle) {
        self.rechecks.lock().unwrap_or_else(PoisonError::into_inner).remove(handle);
    }

    pub fn held(&self, handle: &Handle) -> Option<Held> {
        self.all_held().get(handle).cloned()
    }

    pub fn hold(&self, handle: &Handle, held: Held) {
        self.all_held().insert(handle.clone(), held);
    }

    pub fn edit_held(&self, handle: &Handle, edit: impl FnOnce(&mut Held)) {
        if let Some(held) = self.all_held().get_mut(handle) {
            edit(held);
        }
    }

    /// Forgets the key of a workspace that nobody needs any more.
    pub fn release(&self, handle: &Handle) {
        self.all_held().remove(handle);
    }

    fn all_held(&self) -> MutexGuard<'_, HashMap<Handle, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The workspace that a handle names, as the watch last saw it.
    pub fn lookup(&self, handle: &Handle) -> Option<Lookup> {
        match &handle.namespace {
            Some(namespace) => {
                let found = self.workspaces.get(&ObjectRef::new(&handle.name).within(namespace))?;
                Some(Lookup {
                    uid: found.uid()?,
                    generation: found.metadata.generation,
                    suspended: found.spec.suspend == Some(true),
                    terminating: found.metadata.deletion_timestamp.is_some(),
                    status: found.status.clone().unwrap_or_default(),
                    allowed: None,
                })
            }
            None => {
                let found = self.cluster_workspaces.get(&ObjectRef::new(&handle.name))?;
                Some(Lookup {
                    uid: found.uid()?,
                    generation: found.metadata.generation,
                    suspended: found.spec.suspend == Some(true),
                    terminating: found.metadata.deletion_timestamp.is_some(),
                    status: found.status.clone().unwrap_or_default(),
                    allowed: Some(found.spec.allowed_namespaces.clone().unwrap_or_default()),
                })
            }
        }
    }

    /// The labels of a namespace, as the watch last saw them.
    pub fn namespace_labels(&self, namespace: &str) -> std::collections::BTreeMap<String, String> {
        self.namespaces
            .get(&ObjectRef::new(namespace))
            .map(|found| found.labels().clone())
            .unwrap_or_default()
    }

    pub fn wake(&self, wakes: Wakes) {
        wakes.channels.iter().for_each(|name| self.wake_channel(name));
        if let Some(handle) = wakes.handle {
            self.wake_workspace(&handle);
        }
    }

    pub fn wake_channel(&self, name: &Name) {
        self.enqueue_channel(name, Priority::Interactive);
    }

    /// Requeues every object: this process has begun to lead.
    pub fn wake_all(&self) {
        let background = Priority::Background;
        self.workspaces
            .state()
            .iter()
            .for_each(|object| self.enqueue_workspace(&object.handle(), background));
        let clusters = self.cluster_workspaces.state();
        clusters.iter().for_each(|object| self.enqueue_workspace(&object.handle(), background));
        self.channels.state().iter().for_each(|channel| self.enqueue_channel(&Name::of(channel), background));
    }

    pub fn enqueue_channel(&self, name: &Name, priority: Priority) {
        self.queue.add(ObjectKey::channel(&name.namespace, &name.name), priority);
    }

    pub fn enqueue_workspace(&self, handle: &Handle, priority: Priority) {
        self.queue.add(ObjectKey::workspace(handle.namespace.as_deref(), &handle.name), priority);
    }

    pub fn wake_workspace(&self, handle: &Handle) {
        self.enqueue_workspace(handle, Priority::Interactive);
    }

    /// Leaves events to be published.
    pub fn publish<K: Resource<DynamicType = ()>>(&self, object: &K, notes: Vec<Note>) {
        let dropped = self.events.leave(object, notes);
        self.metrics.events_dropped(dropped);
    }
}
