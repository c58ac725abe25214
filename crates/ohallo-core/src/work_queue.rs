//! The work queue in front of the workers: fair by namespace first, then by API key, then by object.
//!
//! An object is in the queue at most once and never runs twice at the same time: an add during its run requeues it
//! after the run. A reconcile starts when it can run. [`Gate::resolve`] holds an object back during its cooldown,
//! [`Gate::admit`] while its API key has no token. Neither occupies a worker, and neither is polled per object.
//!
//! Order of starts:
//! 1. [`Priority::Interactive`] before [`Priority::Background`]. Background work ages with each interactive
//!    start and goes first after [`AGED`] of them, in the whole queue and for each API key.
//! 2. The namespace with the fewest running reconciles, then the one that was served least.
//! 3. For an API key that several namespaces share, the namespace that this key served least.
//! 4. Within a namespace the API key that was served least, then the object that has waited longest.
//!
//! Every operation costs O(log n): namespaces, keys and objects are ordered sets, and a blocked key offers no
//! object until its time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::api::ObjectKind;
pub use crate::priority::Priority;
use crate::secret::KeyId;

/// The number of interactive starts before one of waiting background work: background work gets a tenth.
pub const AGED: u32 = 9;

/// Objects taken from the list of new work in one [`WorkQueue::pop`], so that a relist of thousands does not block the
/// event loop.
const RESOLVED_AT_ONCE: usize = 200;

/// Names one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    pub kind: ObjectKind,
    /// `None` for a ClusterWorkspace: all of them count as one namespace.
    pub namespace: Option<Arc<str>>,
    pub name: Arc<str>,
}

/// The concurrency limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Reconciles of all objects.
    pub workers: usize,
    /// Reconciles of one namespace.
    pub per_namespace: usize,
    /// Reconciles under one API key.
    pub per_key: usize,
    /// Reconciles of one namespace under one API key.
    pub per_namespace_and_key: usize,
    /// Workers that are reserved for namespaces without a running reconcile.
    pub reserve: usize,
}

/// How an object is queued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The API key of its calls; `None` where the reconcile needs none to start.
    pub key: Option<KeyId>,
    /// It needs so much memory that only one such object runs at a time.
    pub heavy: bool,
    /// The priority of a requeued object; an added object keeps the priority of its add.
    pub priority: Priority,
    /// The time at which it starts even without a token, because its status expires.
    pub latest: Option<Instant>,
}

/// The state of an object that was added or whose requeue time has passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// It does not exist, and is dropped.
    Gone,
    /// Its cooldown lasts until then.
    Resting(Instant),
    Ready(Route),
}

/// Why an object can't start now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// Its API key can't serve its namespace before then; nor any namespace, if `for_all`.
    Key { until: Instant, for_all: bool },
    /// This object can't before then; others with its API key may.
    Object { until: Instant },
    /// No API key can.
    AllKeys { until: Instant, for_all: bool },
}

/// The decisions that the queue takes from its owner.
pub trait Gate {
    /// The tokens of a started reconcile.
    type Permit;

    /// Called once for each add and each requeue time.
    fn resolve(&mut self, object: &ObjectKey, now: Instant) -> Resolved;

    /// Called right before a start; returns the permit and the number of tokens.
    ///
    /// # Errors
    /// [`Blocked`] where no token is available now.
    fn admit(
        &mut self,
        object: &ObjectKey,
        route: &Route,
        now: Instant,
    ) -> Result<(Self::Permit, u32), Blocked>;
}

/// A started object; [`WorkQueue::done`] ends its run.
#[derive(Debug, PartialEq, Eq)]
pub struct Started<P> {
    pub object: Arc<ObjectKey>,
    pub priority: Priority,
    pub permit: P,
    /// How long it waited in the queue.
    pub waited: Duration,
}

/// When an object runs again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// When it is added.
    Never,
    At(Instant),
    /// It ended early without a token: it keeps its place in the queue.
    Deferred(Instant),
}

type Namespace = Option<Arc<str>>;

/// A resource that reconciles share; its offers are ordered by namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Resource {
    /// No API key; of one namespace.
    Unkeyed(Namespace),
    Key(KeyId),
    /// The heavy objects.
    Heavy,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct BucketKey {
    namespace: Namespace,
    resource: Resource,
}

#[derive(Debug)]
struct Item {
    state: State,
    /// Since when it waits.
    since: Instant,
    /// Its place in a bucket, if it has one.
    place: Option<u64>,
}

#[derive(Debug)]
enum State {
    New { priority: Priority, seq: u64 },
    Delayed { at: Instant },
    Waiting { bucket: BucketKey, priority: Priority, route: Route },
    Running { bucket: BucketKey, again: Option<(Priority, Instant)> },
}

/// The waiting objects of one namespace for one resource.
#[derive(Debug, Default)]
struct Bucket {
    queues: [BTreeMap<u64, Arc<ObjectKey>>; 2],
    running: usize,
    /// Virtual time of its next start, in tokens.
    turn: u64,
    /// The virtual time under which it is listed at its resource.
    listed: [Option<u64>; 2],
    blocked: Option<Instant>,
    idle: bool,
}

/// What becomes available at its time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Unblock {
    Resource(Resource),
    Bucket(BucketKey),
    Space(Namespace),
}

#[derive(Debug, Default)]
struct Shared {
    running: usize,
    blocked: Option<Instant>,
    /// Virtual time of the last start.
    served: u64,
    /// The number of interactive starts since background work waits.
    passed: u32,
    waiting: [BTreeSet<(u64, Namespace)>; 2],
    /// The first two that wait: at most one namespace can be at its limit, so one of them can start.
    offers: [Vec<(u64, Namespace)>; 2],
    /// Namespaces without waiting objects whose virtual time is still ahead.
    idle: BTreeSet<(u64, Namespace)>,
    buckets: usize,
}

#[derive(Debug, Default)]
struct Space {
    running: usize,
    /// Virtual time of its next start, in starts.
    turn: u64,
    /// By priority, and whether an API key is needed.
    offered: [[BTreeSet<(u64, Resource)>; 2]; 2],
    listed: [[Option<(usize, u64)>; 2]; 2],
    /// Until when its objects that need an API key wait.
    blocked: Option<Instant>,
    buckets: usize,
    idle: bool,
}

/// The queue.
#[derive(Debug)]
pub struct WorkQueue {
    limits: Limits,
    items: HashMap<Arc<ObjectKey>, Item>,
    new: [BTreeMap<u64, Arc<ObjectKey>>; 2],
    delayed: BTreeSet<(Instant, Arc<ObjectKey>)>,
    /// Waiting objects, by the time at which they start without a token.
    latest: BTreeSet<(Instant, Arc<ObjectKey>)>,
    buckets: HashMap<BucketKey, Bucket>,
    shared: HashMap<Resource, Shared>,
    spaces: HashMap<Namespace, Space>,
    /// The namespaces that can start a reconcile: running reconciles, virtual time, name.
    candidates: [[BTreeSet<(usize, u64, Namespace)>; 2]; 2],
    idle_spaces: BTreeSet<(u64, Namespace)>,
    unblocks: BTreeSet<(Instant, Unblock)>,
    all_keys_blocked: Option<Instant>,
    running: usize,
    served: u64,
    passed: u32,
    seq: u64,
    depth: BTreeMap<(ObjectKind, Priority), usize>,
    #[cfg(test)]
    steps: u64,
}

// === impl Limits ===

impl Limits {
    /// A namespace gets at most three quarters of `workers`, and an API key three quarters of those; `per_key` limits a
    /// key over all namespaces. An eighth is reserved for namespaces without a running reconcile.
    pub fn of(workers: usize, per_key: usize) -> Self {
        let workers = workers.max(1);
        let share = |of: usize| (of * 3).div_ceil(4).min(of.saturating_sub(1)).max(1);
        let per_namespace = share(workers);
        Self {
            workers,
            per_namespace,
            per_key: per_key.clamp(1, workers),
            per_namespace_and_key: share(per_namespace).min(per_key.max(1)),
            reserve: workers / 8,
        }
    }
}

// === impl ObjectKey ===

impl ObjectKey {
    pub fn channel(namespace: &str, name: &str) -> Self {
        Self { kind: ObjectKind::Channel, namespace: Some(namespace.into()), name: name.into() }
    }

    /// A Workspace, or without a namespace a ClusterWorkspace.
    pub fn workspace(namespace: Option<&str>, name: &str) -> Self {
        let kind = if namespace.is_some() { ObjectKind::Workspace } else { ObjectKind::ClusterWorkspace };
        Self { kind, namespace: namespace.map(Into::into), name: name.into() }
    }
}

// === impl Priority ===

impl Priority {
    fn pick<T>(self, [interactive, background]: &[T; 2]) -> &T {
        match self {
            Self::Interactive => interactive,
            Self::Background => background,
        }
    }

    fn pick_mut<T>(self, [interactive, background]: &mut [T; 2]) -> &mut T {
        match self {
            Self::Interactive => interactive,
            Self::Background => background,
        }
    }
}

fn by_need<T>(keyed: bool, [unkeyed, needed]: &[T; 2]) -> &T {
    if keyed { needed } else { unkeyed }
}

fn by_need_mut<T>(keyed: bool, [unkeyed, needed]: &mut [T; 2]) -> &mut T {
    if keyed { needed } else { unkeyed }
}

// === impl Resource ===

impl Resource {
    fn keyed(&self) -> bool {
        !matches!(self, Self::Unkeyed(_))
    }

    fn limit(&self, limits: &Limits) -> usize {
        match self {
            Self::Unkeyed(_) => limits.workers,
            Self::Key(_) => limits.per_key,
            Self::Heavy => 1,
        }
    }
}

// === impl WorkQueue ===

impl WorkQueue {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            items: HashMap::new(),
            new: Default::default(),
            delayed: BTreeSet::new(),
            latest: BTreeSet::new(),
            buckets: HashMap::new(),
            shared: HashMap::new(),
            spaces: HashMap::new(),
            candidates: Default::default(),
            idle_spaces: BTreeSet::new(),
            unblocks: BTreeSet::new(),
            all_keys_blocked: None,
            running: 0,
            served: 0,
            passed: 0,
            seq: 0,
            depth: BTreeMap::new(),
            #[cfg(test)]
            steps: 0,
        }
    }

    /// Adds an object to run as soon as possible. A waiting object keeps its place and the higher priority. A requeue time
    /// is dropped. A running object is added after its run.
    pub fn add(&mut self, object: ObjectKey, priority: Priority, now: Instant) {
        self.step();
        let object = Arc::new(object);
        let Some(item) = self.items.get_mut(&object) else {
            self.push_new(&object, priority, now, None);
            return;
        };
        let (since, place) = (item.since, item.place);
        match &mut item.state {
            State::Running { again, .. } => {
                let (before, since) = again.unwrap_or((priority, now));
                *again = Some((before.min(priority), since));
            }
            State::New { priority: before, .. } if *before <= priority => {}
            State::New { .. } => {
                self.take_out(&object);
                self.push_new(&object, priority, since, place);
            }
            // Its key may have changed: it is resolved again.
            State::Waiting { priority: before, .. } => {
                let priority = priority.min(*before);
                self.take_out(&object);
                self.push_new(&object, priority, since, place);
            }
            State::Delayed { .. } => {
                self.take_out(&object);
                self.push_new(&object, priority, now, place);
            }
        }
    }

    /// Starts the next object that can run. `None`: call again at [`Self::next_wake`], after an add, or after
    /// [`Self::done`].
    pub fn pop<G: Gate>(&mut self, now: Instant, gate: &mut G) -> Option<Started<G::Permit>> {
        self.take_due(now, gate);
        while self.running < self.limits.workers {
            self.step();
            let (offer, resource) = self.choose()?;
            let (priority, namespace) = self.turn_of(offer, &resource)?;
            let bucket = BucketKey { namespace, resource };
            let object = Arc::clone(priority.pick(&self.buckets.get(&bucket)?.queues).first_key_value()?.1);
            let item = self.items.get(&object)?;
            let State::Waiting { route, .. } = &item.state else { return None };
            let (route, waited) = (route.clone(), now.saturating_duration_since(item.since));
            match gate.admit(&object, &route, now) {
                Ok((permit, cost)) => {
                    self.start(&object, bucket, priority, cost);
                    return Some(Started { object, priority, permit, waited });
                }
                Err(Blocked::AllKeys { until, for_all: true }) => self.all_keys_blocked = Some(until),
                Err(Blocked::AllKeys { until, .. }) => self.block_space(bucket.namespace, until),
                Err(Blocked::Object { until }) => self.set_aside(&object, until),
                // Another heavy object may have a token.
                Err(Blocked::Key { until, .. }) if bucket.resource == Resource::Heavy => {
                    self.set_aside(&object, until);
                }
                Err(Blocked::Key { until, for_all: true }) => self.block(bucket.resource, until),
                Err(Blocked::Key { until, .. }) => self.block_bucket(bucket, until),
            }
        }
        None
    }

    /// Ends the run of an object. An add during the run takes precedence over `again`.
    pub fn done(&mut self, object: &ObjectKey, again: Again, now: Instant) {
        self.step();
        let Some((object, item)) = self.items.remove_entry(object) else { return };
        let State::Running { bucket, again: added } = item.state else {
            self.items.insert(object, item);
            return;
        };
        self.running = self.running.saturating_sub(1);
        if let Some(shared) = self.shared.get_mut(&bucket.resource) {
            shared.running = shared.running.saturating_sub(1);
            // Its permit refunded unused tokens.
            if let Some(until) = shared.blocked.take() {
                self.unblocks.remove(&(until, Unblock::Resource(bucket.resource.clone())));
            }
        }
        if let Some(space) = self.spaces.get_mut(&bucket.namespace) {
            space.running = space.running.saturating_sub(1);
        }
        if let Some(found) = self.buckets.get_mut(&bucket) {
            found.running = found.running.saturating_sub(1);
            if let Some(until) = found.blocked.take() {
                self.unblocks.remove(&(until, Unblock::Bucket(bucket.clone())));
            }
        }
        self.sync_bucket(&bucket);
        self.sync_space(&bucket.namespace);
        let place = item.place.filter(|_| matches!(again, Again::Deferred(_)));
        match (added, again) {
            (Some((priority, since)), _) => self.push_new(&object, priority, since, place),
            (None, Again::At(at) | Again::Deferred(at)) => self.delay(&object, at, now, place),
            (None, Again::Never) => {}
        }
        self.forget(&bucket);
    }

    /// When [`Self::pop`] may start an object without an add or the end of a run.
    pub fn next_wake(&self) -> Option<Instant> {
        let times = [
            self.delayed.first().map(|(at, _)| *at),
            self.latest.first().map(|(at, _)| *at),
            self.unblocks.first().map(|(at, _)| *at),
            self.all_keys_blocked,
        ];
        times.into_iter().flatten().min()
    }

    /// Whether unresolved objects remain: [`Self::pop`] resolves a bounded number at once.
    pub fn has_new(&self) -> bool {
        self.new.iter().any(|queue| !queue.is_empty())
    }

    /// The number of objects that wait to run, without those with a future requeue time.
    pub fn depth(&self) -> &BTreeMap<(ObjectKind, Priority), usize> {
        &self.depth
    }

    /// Objects that run.
    #[cfg(test)]
    fn running(&self) -> usize {
        self.running
    }

    fn step(&mut self) {
        #[cfg(test)]
        {
            self.steps += 1;
        }
    }

    fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    fn push_new(&mut self, object: &Arc<ObjectKey>, priority: Priority, since: Instant, place: Option<u64>) {
        let seq = self.next_seq();
        priority.pick_mut(&mut self.new).insert(seq, Arc::clone(object));
        self.count(object.kind, priority, true);
        let item = Item { state: State::New { priority, seq }, since, place };
        self.items.insert(Arc::clone(object), item);
    }

    /// Delays a waiting object, which keeps its place.
    fn set_aside(&mut self, object: &Arc<ObjectKey>, until: Instant) {
        let Some(item) = self.items.get(object) else { return };
        let (since, place) = (item.since, item.place);
        self.take_out(object);
        self.delay(object, until, since, place);
    }

    fn delay(&mut self, object: &Arc<ObjectKey>, at: Instant, since: Instant, place: Option<u64>) {
        self.delayed.insert((at, Arc::clone(object)));
        self.items.insert(Arc::clone(object), Item { state: State::Delayed { at }, since, place });
    }

    fn count(&mut self, kind: ObjectKind, priority: Priority, more: bool) {
        let depth = self.depth.entry((kind, priority)).or_default();
        *depth = if more { *depth + 1 } else { depth.saturating_sub(1) };
    }

    /// Removes a waiting object from wherever it waits.
    fn take_out(&mut self, object: &Arc<ObjectKey>) {
        let Some(item) = self.items.remove(object) else { return };
        match item.state {
            State::New { priority, seq } => {
                priority.pick_mut(&mut self.new).remove(&seq);
                self.count(object.kind, priority, false);
            }
            State::Delayed { at } => drop(self.delayed.remove(&(at, Arc::clone(object)))),
            State::Waiting { bucket, priority, route } => {
                if let Some(at) = route.latest {
                    self.latest.remove(&(at, Arc::clone(object)));
                }
                if let Some((found, place)) = self.buckets.get_mut(&bucket).zip(item.place) {
                    priority.pick_mut(&mut found.queues).remove(&place);
                }
                self.count(object.kind, priority, false);
                self.sync_bucket(&bucket);
                self.forget(&bucket);
            }
            State::Running { .. } => drop(self.items.insert(Arc::clone(object), item)),
        }
    }

    /// Resolves new objects and those whose requeue time has passed, a bounded number of each.
    fn take_due<G: Gate>(&mut self, now: Instant, gate: &mut G) {
        if self.all_keys_blocked.is_some_and(|until| until <= now) {
            self.all_keys_blocked = None;
        }
        while let Some((_, blocked)) = self.unblocks.first().filter(|(at, _)| *at <= now).cloned() {
            self.step();
            self.unblocks.pop_first();
            self.unblock(blocked);
        }
        while let Some((_, object)) = self.latest.first().filter(|(at, _)| *at <= now).cloned() {
            self.step();
            self.start_without_key(&object);
        }
        for _ in 0..RESOLVED_AT_ONCE {
            self.step();
            let Some((object, at)) =
                self.delayed.first().filter(|(at, _)| *at <= now).cloned().map(|(a, o)| (o, a))
            else {
                break;
            };
            let place = self.items.get(&object).and_then(|item| item.place);
            self.take_out(&object);
            let resolved = gate.resolve(&object, now);
            self.place(&object, None, resolved, at, place);
        }
        for _ in 0..RESOLVED_AT_ONCE {
            self.step();
            let found = Priority::ALL.iter().find_map(|priority| {
                let (_, object) = priority.pick(&self.new).first_key_value()?;
                Some((*priority, Arc::clone(object)))
            });
            let Some((priority, object)) = found else { break };
            let item = self.items.get(&object).map(|item| (item.since, item.place));
            let (since, place) = item.unwrap_or((now, None));
            self.take_out(&object);
            let resolved = gate.resolve(&object, now);
            self.place(&object, Some(priority), resolved, since, place);
        }
    }

    fn place(
        &mut self,
        object: &Arc<ObjectKey>,
        priority: Option<Priority>,
        resolved: Resolved,
        since: Instant,
        place: Option<u64>,
    ) {
        match resolved {
            Resolved::Gone => {}
            Resolved::Resting(until) => self.delay(object, until, since, place),
            Resolved::Ready(route) => {
                let resource = match route.key {
                    _ if route.heavy => Resource::Heavy,
                    Some(key) => Resource::Key(key),
                    None => Resource::Unkeyed(object.namespace.clone()),
                };
                let priority = priority.unwrap_or(route.priority);
                self.wait(object, resource, priority, route, since, place);
            }
        }
    }

    fn wait(
        &mut self,
        object: &Arc<ObjectKey>,
        resource: Resource,
        priority: Priority,
        route: Route,
        since: Instant,
        place: Option<u64>,
    ) {
        let place = place.unwrap_or_else(|| self.next_seq());
        let bucket = BucketKey { namespace: object.namespace.clone(), resource };
        self.enter(&bucket);
        if let Some(found) = self.buckets.get_mut(&bucket) {
            priority.pick_mut(&mut found.queues).insert(place, Arc::clone(object));
        }
        if let Some(at) = route.latest {
            self.latest.insert((at, Arc::clone(object)));
        }
        self.count(object.kind, priority, true);
        let state = State::Waiting { bucket: bucket.clone(), priority, route };
        self.items.insert(Arc::clone(object), Item { state, since, place: Some(place) });
        self.sync_bucket(&bucket);
    }

    /// Starts an object whose API key had no token in time.
    fn start_without_key(&mut self, object: &Arc<ObjectKey>) {
        let Some(Item { state: State::Waiting { priority, route, .. }, since, place }) =
            self.items.get(object)
        else {
            return;
        };
        let (priority, since, place) = (*priority, *since, *place);
        let route = Route { key: None, latest: None, ..route.clone() };
        self.take_out(object);
        let resource =
            if route.heavy { Resource::Heavy } else { Resource::Unkeyed(object.namespace.clone()) };
        self.wait(object, resource, priority, route, since, place);
    }

    /// Ensures that the bucket, its resource and its namespace exist, with a virtual time that is not in the past.
    fn enter(&mut self, key: &BucketKey) {
        let space = self.spaces.entry(key.namespace.clone()).or_default();
        if std::mem::take(&mut space.idle) {
            self.idle_spaces.remove(&(space.turn, key.namespace.clone()));
        }
        if space.running == 0 && space.listed.iter().flatten().all(Option::is_none) {
            space.turn = space.turn.max(self.served);
        }
        let shared = self.shared.entry(key.resource.clone()).or_default();
        let is_new = !self.buckets.contains_key(key);
        let bucket = self.buckets.entry(key.clone()).or_default();
        if is_new {
            shared.buckets += 1;
            space.buckets += 1;
        }
        if std::mem::take(&mut bucket.idle) {
            shared.idle.remove(&(bucket.turn, key.namespace.clone()));
        }
        if bucket.queues.iter().all(BTreeMap::is_empty) {
            bucket.turn = bucket.turn.max(shared.served);
        }
    }

    fn start(&mut self, object: &Arc<ObjectKey>, key: BucketKey, priority: Priority, cost: u32) {
        let Some(item) = self.items.get_mut(object) else { return };
        let place = item.place;
        if let State::Waiting { route: Route { latest: Some(at), .. }, .. } = &item.state {
            self.latest.remove(&(*at, Arc::clone(object)));
        }
        item.state = State::Running { bucket: key.clone(), again: None };
        self.count(object.kind, priority, false);
        self.running += 1;
        let passes = Priority::Background.pick(&self.candidates).iter().any(|set| !set.is_empty());
        self.passed = match priority {
            Priority::Interactive if passes => self.passed.saturating_add(1),
            _ => 0,
        };
        if let Some((shared, bucket)) = self.shared.get_mut(&key.resource).zip(self.buckets.get_mut(&key)) {
            if let Some(place) = place {
                priority.pick_mut(&mut bucket.queues).remove(&place);
            }
            bucket.running += 1;
            shared.running += 1;
            shared.served = shared.served.max(bucket.turn);
            bucket.turn = bucket.turn.saturating_add(u64::from(cost.max(1)));
            shared.passed = match priority {
                Priority::Interactive if !Priority::Background.pick(&shared.waiting).is_empty() => {
                    shared.passed.saturating_add(1)
                }
                _ => 0,
            };
        }
        if let Some(space) = self.spaces.get_mut(&key.namespace) {
            space.running += 1;
            self.served = self.served.max(space.turn);
            space.turn += 1;
        }
        self.sync_bucket(&key);
        self.sync_space(&key.namespace);
        self.forget_passed(&key.resource);
    }

    fn block(&mut self, resource: Resource, until: Instant) {
        let Some(shared) = self.shared.get_mut(&resource) else { return };
        let before = shared.blocked.replace(until);
        self.sync_shared(&resource);
        self.unblock_at(Unblock::Resource(resource), before, until);
    }

    fn block_bucket(&mut self, bucket: BucketKey, until: Instant) {
        let Some(found) = self.buckets.get_mut(&bucket) else { return };
        let before = found.blocked.replace(until);
        self.sync_bucket(&bucket);
        self.unblock_at(Unblock::Bucket(bucket), before, until);
    }

    fn block_space(&mut self, namespace: Namespace, until: Instant) {
        let Some(space) = self.spaces.get_mut(&namespace) else { return };
        let before = space.blocked.replace(until);
        self.sync_space(&namespace);
        self.unblock_at(Unblock::Space(namespace), before, until);
    }

    fn unblock_at(&mut self, blocked: Unblock, before: Option<Instant>, until: Instant) {
        if let Some(before) = before {
            self.unblocks.remove(&(before, blocked.clone()));
        }
        self.unblocks.insert((until, blocked));
    }

    fn unblock(&mut self, blocked: Unblock) {
        match blocked {
            Unblock::Resource(resource) => {
                if let Some(shared) = self.shared.get_mut(&resource) {
                    shared.blocked = None;
                }
                self.sync_shared(&resource);
            }
            Unblock::Bucket(bucket) => {
                if let Some(found) = self.buckets.get_mut(&bucket) {
                    found.blocked = None;
                }
                self.sync_bucket(&bucket);
            }
            Unblock::Space(namespace) => {
                if let Some(space) = self.spaces.get_mut(&namespace) {
                    space.blocked = None;
                }
                self.sync_space(&namespace);
            }
        }
    }

    /// Priority and resource of the next start, with a token or without.
    fn choose(&self) -> Option<(Priority, Resource)> {
        let [first, second] = Priority::ALL;
        let order = if self.passed >= AGED { [second, first] } else { [first, second] };
        order.into_iter().find_map(|priority| Some((priority, self.best(priority)?)))
    }

    fn best(&self, priority: Priority) -> Option<Resource> {
        let candidates = priority.pick(&self.candidates);
        let head = |keyed: bool| Some((by_need(keyed, candidates).first()?, keyed));
        let keyed = head(true).filter(|_| self.all_keys_blocked.is_none());
        let ((running, _, namespace), keyed) = [head(false), keyed].into_iter().flatten().min()?;
        if *running > 0 && self.free() <= self.limits.reserve {
            return None;
        }
        let offered = priority.pick(&self.spaces.get(namespace)?.offered);
        Some(by_need(keyed, offered).first()?.1.clone())
    }

    fn free(&self) -> usize {
        self.limits.workers.saturating_sub(self.running)
    }

    /// The next namespace at a resource, of those that can start, and the priority of its object.
    fn turn_of(&self, offer: Priority, resource: &Resource) -> Option<(Priority, Namespace)> {
        let shared = self.shared.get(resource)?;
        let can_start = |namespace: &Namespace| {
            self.spaces.get(namespace).is_some_and(|space| {
                space.running < self.limits.per_namespace
                    && (space.blocked.is_none() || !resource.keyed())
                    && (space.running == 0 || self.free() > self.limits.reserve)
            })
        };
        let first = |offer: Priority| offer.pick(&shared.offers).iter().find(|(_, name)| can_start(name));
        if shared.aged() {
            return Some((Priority::Background, first(offer)?.1.clone()));
        }
        // Independent of ageing in the whole queue, interactive work gets nine tenths of this key.
        let interactive = first(Priority::Interactive).map(|found| (Priority::Interactive, found));
        let (priority, (_, namespace)) = interactive.or_else(|| Some((offer, first(offer)?)))?;
        Some((priority, namespace.clone()))
    }

    /// Updates the entry of a bucket at its resource.
    fn sync_bucket(&mut self, key: &BucketKey) {
        self.step();
        let Some((shared, bucket)) = self.shared.get_mut(&key.resource).zip(self.buckets.get_mut(key)) else {
            return;
        };
        let open = bucket.blocked.is_none()
            && (!key.resource.keyed() || bucket.running < self.limits.per_namespace_and_key);
        for priority in Priority::ALL {
            let wanted = (open && !priority.pick(&bucket.queues).is_empty()).then_some(bucket.turn);
            let listed = priority.pick_mut(&mut bucket.listed);
            if *listed == wanted {
                continue;
            }
            let waiting = priority.pick_mut(&mut shared.waiting);
            if let Some(turn) = listed.take() {
                waiting.remove(&(turn, key.namespace.clone()));
            }
            if let Some(turn) = wanted {
                waiting.insert((turn, key.namespace.clone()));
            }
            *listed = wanted;
        }
        self.sync_shared(&key.resource);
    }

    /// Offers the first buckets of a resource to their namespaces. Aged background work replaces interactive work.
    fn sync_shared(&mut self, resource: &Resource) {
        self.step();
        let Some(shared) = self.shared.get_mut(resource) else { return };
        let open = shared.blocked.is_none() && shared.running < resource.limit(&self.limits);
        let offered = if open { 2 } else { 0 };
        for priority in Priority::ALL {
            let Some(shared) = self.shared.get_mut(resource) else { return };
            let from = if shared.aged() { Priority::Background } else { priority };
            let wanted: Vec<_> = from.pick(&shared.waiting).iter().take(offered).cloned().collect();
            let before = std::mem::replace(priority.pick_mut(&mut shared.offers), wanted.clone());
            if before == wanted {
                continue;
            }
            let gone = before.iter().filter(|offer| !wanted.contains(offer));
            let come = wanted.iter().filter(|offer| !before.contains(offer));
            for ((turn, namespace), add) in gone.map(|o| (o, false)).chain(come.map(|o| (o, true))) {
                let Some(space) = self.spaces.get_mut(namespace) else { continue };
                let offered = by_need_mut(resource.keyed(), priority.pick_mut(&mut space.offered));
                if add {
                    offered.insert((*turn, resource.clone()));
                } else {
                    offered.remove(&(*turn, resource.clone()));
                }
            }
            for (_, namespace) in before.iter().chain(&wanted) {
                self.sync_space(namespace);
            }
        }
    }

    /// Updates the entry of a namespace among the candidates.
    fn sync_space(&mut self, namespace: &Namespace) {
        self.step();
        let Some(space) = self.spaces.get_mut(namespace) else { return };
        let open = space.running < self.limits.per_namespace;
        for priority in Priority::ALL {
            for keyed in [false, true] {
                let offered = by_need(keyed, priority.pick(&space.offered));
                let open = open && (space.blocked.is_none() || !keyed);
                let wanted = (open && !offered.is_empty()).then_some((space.running, space.turn));
                let listed = by_need_mut(keyed, priority.pick_mut(&mut space.listed));
                if *listed == wanted {
                    continue;
                }
                let candidates = by_need_mut(keyed, priority.pick_mut(&mut self.candidates));
                if let Some((running, turn)) = listed.take() {
                    candidates.remove(&(running, turn, namespace.clone()));
                }
                if let Some((running, turn)) = wanted {
                    candidates.insert((running, turn, namespace.clone()));
                }
                *listed = wanted;
            }
        }
    }

    /// Drops empty entries. A virtual time that is ahead of the others is kept until they have caught up: a namespace that
    /// leaves and returns gets no more than one that waits.
    fn forget(&mut self, key: &BucketKey) {
        let Some((shared, bucket)) = self.shared.get_mut(&key.resource).zip(self.buckets.get_mut(key)) else {
            return;
        };
        if bucket.running == 0 && bucket.queues.iter().all(BTreeMap::is_empty) && !bucket.idle {
            bucket.idle = true;
            shared.idle.insert((bucket.turn, key.namespace.clone()));
        }
        self.forget_passed(&key.resource);
    }

    fn forget_passed(&mut self, resource: &Resource) {
        let mut emptied = Vec::new();
        let Some(shared) = self.shared.get_mut(resource) else { return };
        let alone = shared.buckets == shared.idle.len();
        while let Some((turn, namespace)) = shared.idle.first() {
            if *turn > shared.served && !alone {
                break;
            }
            let key = BucketKey { namespace: namespace.clone(), resource: resource.clone() };
            if let Some(until) = self.buckets.remove(&key).and_then(|bucket| bucket.blocked) {
                self.unblocks.remove(&(until, Unblock::Bucket(key)));
            }
            emptied.push(namespace.clone());
            shared.idle.pop_first();
            shared.buckets = shared.buckets.saturating_sub(1);
        }
        if shared.buckets == 0 && shared.running == 0 {
            if let Some(until) = shared.blocked {
                self.unblocks.remove(&(until, Unblock::Resource(resource.clone())));
            }
            self.shared.remove(resource);
        }
        emptied.into_iter().for_each(|namespace| self.leave(namespace));
    }

    /// Removes one bucket from a namespace.
    fn leave(&mut self, namespace: Namespace) {
        self.step();
        let Some(space) = self.spaces.get_mut(&namespace) else { return };
        space.buckets = space.buckets.saturating_sub(1);
        if space.buckets == 0 {
            space.idle = true;
            self.idle_spaces.insert((space.turn, namespace));
        }
        let alone = self.spaces.len() == self.idle_spaces.len();
        while let Some((turn, namespace)) = self.idle_spaces.first() {
            if *turn > self.served && !alone {
                break;
            }
            if let Some(until) = self.spaces.remove(namespace).and_then(|space| space.blocked) {
                self.unblocks.remove(&(until, Unblock::Space(namespace.clone())));
            }
            self.idle_spaces.pop_first();
        }
    }
}

// === impl Shared ===

impl Shared {
    /// Whether its background work has waited for enough interactive starts.
    fn aged(&self) -> bool {
        self.passed >= AGED && !Priority::Background.pick(&self.waiting).is_empty()
    }
}

#[cfg(test)]
mod tests;
