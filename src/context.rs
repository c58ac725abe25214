// I/O
//! What every pass shares: clients, stores, and what this process remembers.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Resource, ResourceExt};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::channel::{Channel, ChannelStatus};
use crate::api::conditions::{Reason, kind};
use crate::api::workspace::{AllowedNamespaces, ClusterWorkspace, Workspace, WorkspaceStatus};
use crate::channel::consistency::Consistency;
use crate::channel::kept::Kept;
use crate::channel::memory::Memory;
use crate::clock;
use crate::conditions;
use crate::controller::Queue;
use crate::crds::Schema;
use crate::events::{Events, Note};
use crate::index::{Handle, Index, Name, Wakes};
use crate::leader::Leadership;
use crate::metrics::Metrics;
use crate::ohallo::{self, Id};
use crate::orphans::Orphans;
use crate::secret::ApiKey;
use crate::secrets::Secrets;
use crate::settings::Settings;
use crate::work_queue::{ObjectKey, Priority};
use crate::workspace::{Kind, allows};

/// The name under which this operator writes.
pub const MANAGER: &str = "ohallo-operator";

/// How many objects are read at the same time because the cache does not have them in full.
const READS: usize = 4;

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
    /// What the store has not of the Channels.
    pub kept: Kept,
    /// Who reads what is not kept: each object may take some hundred KiB until it is decoded.
    pub reads: Semaphore,
    pub index: Mutex<Index>,
    /// What objects that disappeared left in oHallo.
    pub orphans: Orphans,
    /// What is to be reconciled.
    pub queue: Queue,
    pub listed: Listed,
    /// Whether the API server keeps every field of this version.
    pub schema: Schema,
    listing_channels: AtomicBool,
    /// Creates under way: the process waits for them before it ends.
    pub tasks: TaskTracker,
    /// Cancelled when the process has no time left.
    pub ended: CancellationToken,
    held: Mutex<HashMap<Handle, Held>>,
    consistency: Mutex<Consistency>,
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
    /// A create of this process succeeded here: oHallo supports it, whatever it answers to another.
    pub has_created: bool,
    /// The key has read a channel of this workspace: it sees what is there.
    pub has_read: bool,
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

    pub fn is_done(&self) -> bool {
        self.done.is_cancelled()
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
            consistency: Mutex::new(Consistency::new(settings.consistency_window, clock::instant())),
            kept: Kept::default(),
            reads: Semaphore::new(READS),
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
            orphans: Orphans::default(),
            listed: Listed::default(),
            schema: Schema::default(),
            listing_channels: AtomicBool::new(false),
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

    /// Which reads may be older than a write.
    pub fn consistency(&self) -> MutexGuard<'_, Consistency> {
        self.consistency.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is remembered of the object with this uid.
    pub fn memory(&self, uid: &str) -> Arc<Mutex<Memory>> {
        let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        memories.entry(uid.to_owned()).or_default().clone()
    }

    /// Runs `decide` on what is remembered of an object, where no reconcile works on it or `in_any_case`.
    pub fn while_idle<T>(
        &self,
        uid: &str,
        memory: &Arc<Mutex<Memory>>,
        in_any_case: bool,
        decide: impl FnOnce(&mut Memory) -> T,
    ) -> Option<T> {
        // Held to the end: a reconcile that begins meanwhile waits for it.
        let memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        let mapped = memories.get(uid).is_some_and(|found| Arc::ptr_eq(found, memory));
        if Arc::strong_count(memory) > 1 + usize::from(mapped) && !in_any_case {
            return None;
        }
        Some(decide(&mut memory.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, uid: &str) {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        let wakes = self.index().unclaim(uid);
        self.wake(wakes);
    }

    /// Forgets what belongs to objects that are not there any more. Most of it went with them; a reconcile that ended
    /// later may have brought it back.
    pub fn sweep(&self) {
        // Before that the stores do not have what is there.
        if !self.listed.is_done() {
            return;
        }
        let channels: HashSet<_> = self.channels.state().iter().filter_map(|found| found.uid()).collect();
        let workspaces = self.workspaces.state().into_iter().filter_map(|found| found.uid());
        let clusters = self.cluster_workspaces.state().into_iter().filter_map(|found| found.uid());
        let workspaces: HashSet<_> = workspaces.chain(clusters).collect();
        // Of a create under way its task holds the memory.
        retain(&self.memories, |uid, memory| channels.contains(uid) || Arc::strong_count(memory) > 1);
        retain(&self.workspace_memories, |uid, _| workspaces.contains(uid));
        retain(&self.held, |handle, _| self.lookup(handle).is_some() || self.in_use(handle));
        self.kept.retain(|uid| channels.contains(uid));
        self.consistency().sweep(clock::instant());
        self.secrets.retain(|secret| self.index().uses_secret(secret));
        self.ohallo.sweep();
        let mut rechecks = self.rechecks.lock().unwrap_or_else(PoisonError::into_inner);
        rechecks.retain(|handle| self.lookup(handle).is_some());
    }

    /// How many entries each map has, by its name.
    pub fn sizes(&self) -> [(&'static str, usize); 8] {
        [
            ("channels", self.memories.lock().unwrap_or_else(PoisonError::into_inner).len()),
            ("workspaces", self.workspace_memories.lock().unwrap_or_else(PoisonError::into_inner).len()),
            ("keys", self.all_held().len()),
            ("writes", self.consistency().len()),
            ("manifests", self.kept.len()),
            ("secrets", self.secrets.len()),
            ("rechecks", self.rechecks.lock().unwrap_or_else(PoisonError::into_inner).len()),
            ("rates", self.ohallo.rates()),
        ]
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

    /// The labels of a namespace, as the watch last saw them; `None` where it has not seen the namespace.
    pub fn namespace_labels(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        self.namespaces.get(&ObjectRef::new(namespace)).map(|found| found.labels().clone())
    }

    /// Whether the workspace that a handle names must stay.
    pub fn in_use(&self, handle: &Handle) -> bool {
        let allowed = self.lookup(handle).map(|lookup| lookup.allowed);
        self.index().in_use(handle, |namespace| match &allowed {
            Some(Some(allowed)) => allows(allowed, namespace, self.namespace_labels(namespace).as_ref()),
            Some(None) => true,
            None => handle.namespace.is_some(),
        })
    }

    /// Notes whether the list of Channels is being read again: what is cached meanwhile may lack some.
    pub fn list_channels(&self, begun: bool) {
        self.listing_channels.store(begun, Ordering::Release);
    }

    pub fn listing_channels(&self) -> bool {
        self.listing_channels.load(Ordering::Acquire)
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

    /// Requeues every object, and at once those whose writes were not kept: the API server keeps every field again.
    pub fn schema_serves_again(&self) {
        let lost = |status: &ChannelStatus| {
            let ready = conditions::find(&status.conditions, kind::READY);
            ready.is_some_and(|ready| ready.reason == Reason::StatusNotStored.as_str())
        };
        for channel in self.channels.state() {
            let cell = self.memory(&channel.uid().unwrap_or_default());
            let mut memory = cell.lock().unwrap_or_else(PoisonError::into_inner);
            if !memory.lost.is_empty() || channel.status.as_ref().is_some_and(lost) {
                memory.gate = None;
            }
        }
        self.wake_all();
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

fn retain<K: Eq + Hash, V>(map: &Mutex<HashMap<K, V>>, keep: impl Fn(&K, &V) -> bool) {
    let mut map = map.lock().unwrap_or_else(PoisonError::into_inner);
    map.retain(|key, value| keep(key, value));
    if map.capacity() / 4 > map.len() {
        map.shrink_to_fit();
    }
}

#[cfg(test)]
pub mod tests {
    use kube::runtime::reflector;

    use super::*;
    use crate::events::events;
    use crate::settings::tests::parse;

    pub fn context() -> Context {
        let settings = parse(&[]).unwrap();
        let options = ohallo::Options {
            api_url: settings.api_url.clone(),
            create_path: settings.create_path.clone(),
            request_timeout: settings.request_timeout,
            create_timeout: settings.create_timeout,
            requests_per_second: 0.0,
            burst: 1,
            total_requests_per_second: 0.0,
            ca_pem: None,
            proxy: None,
            allow_insecure: false,
        };
        let metrics = Arc::new(Metrics::new());
        let ohallo = ohallo::Client::new(options, Arc::clone(&metrics));
        let ohallo = ohallo.unwrap_or_else(|error| panic!("{error}"));
        let client = Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
        let stores = Stores {
            channels: reflector::store().0,
            workspaces: reflector::store().0,
            cluster_workspaces: reflector::store().0,
            namespaces: reflector::store().0,
        };
        Context::new(client, settings, ohallo, metrics, events().0, stores)
    }

    /// As a day of objects, keys and Workspaces that come and go, with reconciles that end after the deletion.
    #[tokio::test]
    async fn what_is_remembered_of_deleted_objects_ends_also_where_a_late_reconcile_brought_it_back() {
        let ctx = context();
        ctx.listed.expect("channels");
        for round in 0..3000_usize {
            let uid = format!("uid-{round}");
            let handle = Handle { namespace: Some("a".into()), name: format!("w{}", round % 300) };
            drop(ctx.memory(&uid));
            ctx.remember_workspace(&uid, crate::workspace::Memory::default());
            let (key, workspace_id) = (ApiKey::new(uid.clone()), Id::parse("w").unwrap());
            let held = Held {
                uid: uid.clone(),
                key,
                workspace_id,
                create_unsupported: None,
                list_unsupported: false,
                has_created: false,
                has_read: false,
            };
            ctx.hold(&handle, held);
            ctx.recheck(&handle);
            if round % 2 == 0 {
                ctx.forget(&uid);
                ctx.forget_workspace(&uid);
                drop(ctx.memory(&uid));
            }
        }
        let total = |ctx: &Context| ctx.sizes().iter().map(|(_, size)| size).sum::<usize>();
        let before = total(&ctx);
        ctx.sweep();
        assert_eq!(total(&ctx), before, "it is not known yet what is there");
        let at_work = ctx.memory("at work");
        ctx.listed.mark("channels");
        ctx.sweep();
        assert_eq!(
            ctx.sizes().map(|(_, size)| size),
            [1, 0, 0, 0, 0, 0, 0, 0],
            "only what a create under way holds"
        );
        drop(at_work);
        ctx.sweep();
        assert_eq!(total(&ctx), 0);
        assert_eq!(ctx.all_held().capacity(), 0);
    }
}
