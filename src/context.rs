//! What every reconcile shares: clients, stores, and the state that this process keeps in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::runtime::reflector::ObjectRef;
use kube::{Client, Resource, ResourceExt};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::kubernetes::events::Events;
use crate::kubernetes::leader::Leadership;
use crate::kubernetes::secrets::Secrets;
use crate::orphans::Orphans;
use crate::queue::Queue;
use crate::settings::Settings;
use crate::startup::schema::Schema;
use crate::stores::Stores;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::object_counts::ObjectCounts;
use ohallo_client::clock;
use ohallo_core::api::channel::{Channel, ChannelStatus};
use ohallo_core::api::conditions::{Reason, kind};
use ohallo_core::channel::consistency::Consistency;
use ohallo_core::channel::in_memory_state::InMemoryState;
use ohallo_core::channel::object_cache::ObjectCache;
use ohallo_core::event::PendingEvent;
use ohallo_core::index::{Index, NamespacedName, Requeues, WorkspaceKey};
use ohallo_core::work_queue::{ObjectKey, Priority};
use ohallo_core::workspace::access::allows;
use ohallo_core::workspace::cached::{CachedApiKey, WorkspaceSnapshot};
use ohallo_core::{backoff, conditions};

/// How many objects are read from the API server at the same time, because the cache does not hold them in
/// full.
const READS: usize = 4;

pub struct Context {
    pub client: Client,
    pub settings: Settings,
    pub ohallo: ohallo_client::Client,
    pub metrics: Arc<Metrics>,
    pub events: Events,
    /// Whether effects may begin. Unless it is set, this process is the only one and always leads.
    pub leadership: Leadership,
    pub stores: Stores,
    pub secrets: Secrets,
    /// The parts of Channels that the store leaves out.
    pub kept: ObjectCache,
    /// Limits concurrent reads of objects that the cache lacks: each may take some hundred KiB until it is
    /// decoded.
    pub reads: Semaphore,
    pub index: Mutex<Index>,
    counts: Mutex<ObjectCounts>,
    /// Objects whose end is still to be reported, because they may leave a channel in oHallo.
    pub orphans: Orphans,
    /// The objects that wait to be reconciled.
    pub queue: Queue,
    pub listed: CacheSync,
    /// Whether the API server stores every field of this version.
    pub schema: Schema,
    listing_channels: AtomicBool,
    /// Creates in flight: the process waits for them before it exits.
    pub tasks: TaskTracker,
    /// Cancelled when the shutdown grace period is over.
    pub ended: CancellationToken,
    held: Mutex<HashMap<WorkspaceKey, CachedApiKey>>,
    consistency: Mutex<Consistency>,
    memories: Mutex<HashMap<String, Arc<Mutex<InMemoryState>>>>,
    workspace_memories: Mutex<HashMap<String, crate::workspace::InMemoryState>>,
    /// Workspaces whose key oHallo refused to a Channel.
    rechecks: Mutex<HashSet<WorkspaceKey>>,
}

/// Whether every kind was listed once: before that, a missing object may still exist. The stores' own
/// `wait_until_ready` does not serve: it wakes only the last of several waiters, and each controller waits.
#[derive(Default)]
pub struct CacheSync {
    missing: Mutex<BTreeSet<&'static str>>,
    done: CancellationToken,
}

// === impl CacheSync ===

impl CacheSync {
    /// Registers a kind that must be listed.
    pub fn expect(&self, kind: &'static str) {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).insert(kind);
    }

    /// Marks a kind as listed.
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

impl Context {
    pub fn new(
        client: Client,
        settings: Settings,
        ohallo: ohallo_client::Client,
        metrics: Arc<Metrics>,
        events: Events,
        stores: Stores,
    ) -> Self {
        Self {
            queue: Queue::new(settings.concurrency, Arc::clone(&metrics)),
            secrets: Secrets::new(client.clone()),
            consistency: Mutex::new(Consistency::new(settings.consistency_window, clock::instant())),
            kept: ObjectCache::default(),
            reads: Semaphore::new(READS),
            client,
            settings,
            ohallo,
            metrics,
            events,
            leadership: Leadership::always(),
            stores,
            index: Mutex::default(),
            counts: Mutex::default(),
            orphans: Orphans::default(),
            listed: CacheSync::default(),
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

    /// The objects in the stores, by their labels.
    pub fn counts(&self) -> MutexGuard<'_, ObjectCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The consistency windows: which reads may be older than a write.
    pub fn consistency(&self) -> MutexGuard<'_, Consistency> {
        self.consistency.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The in-memory state of the object with this uid.
    pub fn memory(&self, uid: &str) -> Arc<Mutex<InMemoryState>> {
        let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        memories.entry(uid.to_owned()).or_default().clone()
    }

    /// Runs `decide` on an object's in-memory state if no reconcile works on it, or `in_any_case`.
    pub fn while_idle<T>(
        &self,
        uid: &str,
        memory: &Arc<Mutex<InMemoryState>>,
        in_any_case: bool,
        decide: impl FnOnce(&mut InMemoryState) -> T,
    ) -> Option<T> {
        // Locked to the end: a reconcile that begins meanwhile waits for it.
        let memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        let mapped = memories.get(uid).is_some_and(|found| Arc::ptr_eq(found, memory));
        if Arc::strong_count(memory) > 1 + usize::from(mapped) && !in_any_case {
            return None;
        }
        Some(decide(&mut memory.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Forgets the in-memory state of a deleted object.
    pub fn forget(&self, uid: &str) {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        let requeues = self.index().unclaim(uid);
        self.requeue(requeues);
    }

    /// Forgets what belongs to deleted objects. Their deletion removed most of it; a reconcile that ended later
    /// may have restored some.
    pub fn sweep(&self) {
        // Before every kind is listed, the stores are incomplete.
        if !self.listed.is_done() {
            return;
        }
        let channels: HashSet<_> =
            self.stores.channels.state().iter().filter_map(|found| found.uid()).collect();
        let workspaces = self.stores.workspaces.state().into_iter().filter_map(|found| found.uid());
        let clusters = self.stores.cluster_workspaces.state().into_iter().filter_map(|found| found.uid());
        let workspaces: HashSet<_> = workspaces.chain(clusters).collect();
        // The task of a create in flight holds the object's in-memory state.
        retain(&self.memories, |uid, memory| channels.contains(uid) || Arc::strong_count(memory) > 1);
        retain(&self.workspace_memories, |uid, _| workspaces.contains(uid));
        retain(&self.held, |handle, _| self.workspace_snapshot(handle).is_some() || self.in_use(handle));
        self.kept.retain(|uid| channels.contains(uid));
        self.consistency().sweep(clock::instant());
        self.secrets.retain(|secret| self.index().uses_secret(secret));
        self.ohallo.sweep();
        let mut rechecks = self.rechecks.lock().unwrap_or_else(PoisonError::into_inner);
        rechecks.retain(|handle| self.workspace_snapshot(handle).is_some());
    }

    /// How many entries each map has, by the map's name.
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

    pub fn workspace_memory(&self, uid: &str) -> crate::workspace::InMemoryState {
        self.workspace_memories
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(uid)
            .cloned()
            .unwrap_or_default()
    }

    pub fn remember_workspace(&self, uid: &str, memory: crate::workspace::InMemoryState) {
        self.workspace_memories.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.to_owned(), memory);
    }

    pub fn forget_workspace(&self, uid: &str) {
        self.workspace_memories.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// Requests a check of a Workspace's key, because oHallo refused it to one of its Channels.
    pub fn request_key_check(&self, handle: &WorkspaceKey) {
        self.rechecks.lock().unwrap_or_else(PoisonError::into_inner).insert(handle.clone());
        self.requeue_workspace(handle);
    }

    /// Whether a key check of a Workspace is requested and has not begun.
    pub fn key_check_requested(&self, handle: &WorkspaceKey) -> bool {
        self.rechecks.lock().unwrap_or_else(PoisonError::into_inner).contains(handle)
    }

    pub fn take_key_check_request(&self, handle: &WorkspaceKey) {
        self.rechecks.lock().unwrap_or_else(PoisonError::into_inner).remove(handle);
    }

    pub fn cached_key(&self, handle: &WorkspaceKey) -> Option<CachedApiKey> {
        self.all_held().get(handle).cloned()
    }

    pub fn cache_key(&self, handle: &WorkspaceKey, held: CachedApiKey) {
        self.all_held().insert(handle.clone(), held);
    }

    pub fn edit_cached_key(&self, handle: &WorkspaceKey, edit: impl FnOnce(&mut CachedApiKey)) {
        if let Some(held) = self.all_held().get_mut(handle) {
            edit(held);
        }
    }

    /// Forgets the key of a workspace that no Channel needs any more.
    pub fn forget_key(&self, handle: &WorkspaceKey) {
        self.all_held().remove(handle);
    }

    fn all_held(&self) -> MutexGuard<'_, HashMap<WorkspaceKey, CachedApiKey>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The workspace that a key names, as the cache holds it.
    pub fn workspace_snapshot(&self, handle: &WorkspaceKey) -> Option<WorkspaceSnapshot> {
        match &handle.namespace {
            Some(namespace) => {
                let found = self.stores.workspaces.get(&ObjectRef::new(&handle.name).within(namespace))?;
                Some(WorkspaceSnapshot {
                    uid: found.uid()?,
                    generation: found.metadata.generation,
                    suspended: found.spec.suspend == Some(true),
                    terminating: found.metadata.deletion_timestamp.is_some(),
                    status: found.status.clone().unwrap_or_default(),
                    allowed: None,
                })
            }
            None => {
                let found = self.stores.cluster_workspaces.get(&ObjectRef::new(&handle.name))?;
                Some(WorkspaceSnapshot {
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

    /// The labels of a namespace, as the cache holds them; `None` if the cache lacks the namespace.
    pub fn namespace_labels(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        self.stores.namespaces.get(&ObjectRef::new(namespace)).map(|found| found.labels().clone())
    }

    /// Whether Channels use this workspace, so that its finalizer must remain.
    pub fn in_use(&self, handle: &WorkspaceKey) -> bool {
        let allowed = self.workspace_snapshot(handle).map(|lookup| lookup.allowed);
        self.index().in_use(handle, |namespace| match &allowed {
            Some(Some(allowed)) => allows(allowed, namespace, self.namespace_labels(namespace).as_ref()),
            Some(None) => true,
            None => handle.namespace.is_some(),
        })
    }

    /// Records whether a list of Channels is in progress: meanwhile the cache may lack some.
    pub fn list_channels(&self, begun: bool) {
        self.listing_channels.store(begun, Ordering::Release);
    }

    pub fn listing_channels(&self) -> bool {
        self.listing_channels.load(Ordering::Acquire)
    }

    pub fn requeue(&self, requeues: Requeues) {
        requeues.channels.iter().for_each(|name| self.requeue_channel(name));
        if let Some(handle) = requeues.handle {
            self.requeue_workspace(&handle);
        }
    }

    pub fn requeue_channel(&self, name: &NamespacedName) {
        self.enqueue_channel(name, Priority::Interactive);
    }

    /// Requeues every object, because this process has begun to lead.
    pub fn requeue_all(&self) {
        let keys = self.stores.keys();
        keys.into_iter().for_each(|key| self.queue.add(key, Priority::Background));
    }

    /// Requeues every object after the API server stores every field again. Objects whose writes were not
    /// stored run without their cooldown.
    pub fn schema_serves_again(&self) {
        let lost = |status: &ChannelStatus| {
            let ready = conditions::find(&status.conditions, kind::READY);
            ready.is_some_and(|ready| ready.reason == Reason::StatusNotStored.as_str())
        };
        for channel in self.stores.channels.state() {
            let cell = self.memory(&channel.uid().unwrap_or_default());
            let mut memory = cell.lock().unwrap_or_else(PoisonError::into_inner);
            if !memory.lost.is_empty() || channel.status.as_ref().is_some_and(lost) {
                memory.cooldown = None;
            }
        }
        self.requeue_all();
    }

    pub fn enqueue_channel(&self, name: &NamespacedName, priority: Priority) {
        self.queue.add(ObjectKey::channel(&name.namespace, &name.name), priority);
    }

    pub fn enqueue_workspace(&self, handle: &WorkspaceKey, priority: Priority) {
        self.queue.add(ObjectKey::workspace(handle.namespace.as_deref(), &handle.name), priority);
    }

    pub fn requeue_workspace(&self, handle: &WorkspaceKey) {
        self.enqueue_workspace(handle, Priority::Interactive);
    }

    /// Queues events to be published.
    pub fn publish<K: Resource<DynamicType = ()>>(&self, object: &K, notes: Vec<PendingEvent>) {
        let dropped = self.events.leave(object, notes);
        self.metrics.events_dropped(dropped);
    }

    /// How often a settled Channel is read: at its declared interval, or less often if a rate limit requires
    /// it. The limits are the key's rate and the namespace's share of the total rate.
    pub fn read_interval(&self, channel: &Channel) -> Duration {
        let (of_key, of_namespace, namespaces) = {
            let index = self.index();
            let (of_namespace, namespaces) = index.population(&channel.namespace().unwrap_or_default());
            (index.count(&WorkspaceKey::of(channel)), of_namespace, namespaces)
        };
        let share = self.settings.total_rate().unwrap_or_default() / namespaces.max(1) as f64;
        let shares = [(of_key, self.settings.requests_per_second), (of_namespace, share)];
        backoff::interval(channel.spec.interval(), &shares)
    }
}

/// The key of a Channel in the store.
pub fn object_ref(name: &NamespacedName) -> ObjectRef<Channel> {
    ObjectRef::new(&name.name).within(&name.namespace)
}

fn retain<K: Eq + Hash, V>(map: &Mutex<HashMap<K, V>>, keep: impl Fn(&K, &V) -> bool) {
    let mut map = map.lock().unwrap_or_else(PoisonError::into_inner);
    map.retain(|key, value| keep(key, value));
    if map.capacity() / 4 > map.len() {
        map.shrink_to_fit();
    }
}

/// The crate does not compile if these types implement one of these traits: they hold API keys or a proxy's
/// password.
const _: () = {
    use ohallo_core::secret::no_debug::{No as _, Told};
    assert!(!Told::<Secrets>::DEBUG && !Told::<Secrets>::DISPLAY && !Told::<Secrets>::SERIALIZE);
    assert!(!Told::<Settings>::DEBUG);
};

#[cfg(test)]
pub mod tests {
    use ohallo_core::remote::Id;
    use ohallo_core::secret::ApiKey;

    use super::*;
    use crate::settings::tests::parse;
    use crate::stores::stores;

    pub fn context() -> Context {
        let settings = parse(&[]).unwrap();
        let options = ohallo_client::Options {
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
            read_only: false,
        };
        let metrics = Arc::new(Metrics::new());
        let ohallo = ohallo_client::Client::new(options, Arc::new(ohallo_client::NoObserver));
        let ohallo = ohallo.unwrap_or_else(|error| panic!("{error}"));
        let client = Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
        Context::new(client, settings, ohallo, metrics, Events::default(), stores().0)
    }

    /// Simulates a day of objects, keys and Workspaces that come and go, with reconciles that end after the
    /// deletion.
    #[tokio::test]
    async fn state_of_deleted_objects_is_forgotten_even_if_a_late_reconcile_restored_it() {
        let ctx = context();
        ctx.listed.expect("channels");
        for round in 0..3000_usize {
            let uid = format!("uid-{round}");
            let handle = WorkspaceKey { namespace: Some("a".into()), name: format!("w{}", round % 300) };
            drop(ctx.memory(&uid));
            ctx.remember_workspace(&uid, crate::workspace::InMemoryState::default());
            let (key, workspace_id) = (ApiKey::new(uid.clone()), Id::parse("w").unwrap());
            let held = CachedApiKey {
                uid: uid.clone(),
                key,
                workspace_id,
                create_unsupported: None,
                list_unsupported: false,
                has_created: false,
                has_read: false,
            };
            ctx.cache_key(&handle, held);
            ctx.request_key_check(&handle);
            if round % 2 == 0 {
                ctx.forget(&uid);
                ctx.forget_workspace(&uid);
                drop(ctx.memory(&uid));
            }
        }
        let total = |ctx: &Context| ctx.sizes().iter().map(|(_, size)| size).sum::<usize>();
        let before = total(&ctx);
        ctx.sweep();
        assert_eq!(total(&ctx), before, "nothing is forgotten before the first list is complete");
        let at_work = ctx.memory("at work");
        ctx.listed.mark("channels");
        ctx.sweep();
        assert_eq!(
            ctx.sizes().map(|(_, size)| size),
            [1, 0, 0, 0, 0, 0, 0, 0],
            "only the state that a create in flight holds remains"
        );
        drop(at_work);
        ctx.sweep();
        assert_eq!(total(&ctx), 0);
        assert_eq!(ctx.all_held().capacity(), 0);
    }
}
