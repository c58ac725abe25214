//! Indexes references between objects, so that an event requeues the affected objects without a scan.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use crate::api::ObjectKind;
use crate::api::canonical_id;
use crate::api::channel::{Channel, CreateRecord};
use crate::api::values::RecordedOutcome;
use crate::channel::last_seen::{self, LastSeen};
use crate::index::ownership::{Act, Actors, Ids, Rank, Stake};
use crate::secret_id::{SecretId, hashed};

mod ownership;

pub use crate::index::ownership::{Claim, Elsewhere, Holder, Rivals};

/// A namespaced name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespacedName {
    pub namespace: String,
    pub name: String,
}

/// Names a Workspace (with its namespace) or a ClusterWorkspace (without).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkspaceKey {
    pub namespace: Option<String>,
    pub name: String,
}

#[derive(Debug, Default)]
pub struct Index {
    channels: HashMap<Arc<NamespacedName>, Box<Known>>,
    /// The uids of the Channels, by [`hashed`].
    uids: HashSet<u64>,
    /// The number of Channels of each namespace.
    population: HashMap<String, usize>,
    /// A Channel's name is shared by all Secrets that it names.
    by_secret: BTreeSet<(SecretId, Arc<NamespacedName>)>,
    by_workspace: HashMap<Arc<WorkspaceKey>, BTreeSet<Arc<NamespacedName>>>,
    /// Channels that name a ClusterWorkspace, by namespace.
    cluster_users: HashMap<String, BTreeSet<Arc<NamespacedName>>>,
    uses: HashMap<Arc<WorkspaceKey>, Uses>,
    /// Secrets with API keys, and the workspaces that name them; and the reverse.
    keys: HashMap<SecretId, BTreeSet<WorkspaceKey>>,
    key_of: HashMap<WorkspaceKey, SecretId>,
    ids: Ids,
}

/// The facts from the object itself.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    uid: Arc<str>,
    created: Option<Time>,
    generation: i64,
    terminating: bool,
    secrets: Arc<[SecretId]>,
    /// One value for all Channels of a workspace.
    handle: Arc<WorkspaceKey>,
    /// The id that the Channel is bound to.
    bound: Option<Arc<str>>,
    /// The ids that a living Channel names, in its spec or in a copied status, without being bound to them.
    names: BTreeSet<Arc<str>>,
    /// The id that it would adopt according to its spec.
    adopts: Option<Arc<str>>,
    observing: bool,
    /// `status.create.outcome` is Unknown.
    unresolved: bool,
    /// [`CreateRecord::of`] the object, and [`crate::channel::last_seen::finalizer_removed`].
    create: Option<Arc<CreateRecord>>,
    finalizer_removed: bool,
}

/// An entry, and what reconciles of this process have observed.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    entry: Entry,
    found: Found,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Found {
    /// The named id that a read for this Channel returned.
    right: Option<String>,
    /// The generation for which its last read returned an adoptable channel.
    able: Option<i64>,
    /// Its last read returned its channel.
    reads: bool,
    /// Its ClusterWorkspace does not allow its namespace.
    denied: bool,
    /// A create of this process is in flight.
    creating: bool,
}

/// What a reconcile observed about the id that a Channel names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// The read returned the id with the declared type and workspace; the Channel would adopt it now.
    Able,
    /// The read returned the id; the Channel would not adopt it now.
    Reads,
    /// The read did not return the id.
    Nothing,
    /// Its ClusterWorkspace does not allow its namespace.
    Denied,
}

/// How Channels use one workspace.
#[derive(Debug, Default)]
struct Uses {
    bound: usize,
    /// Channels with an unresolved create, by namespace.
    unresolved: BTreeMap<String, usize>,
    /// Channels that are read at every interval.
    polled: usize,
}

/// What one Channel adds to [`Uses`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Use {
    bound: bool,
    unresolved: bool,
    polled: bool,
}

/// The objects to requeue.
#[derive(Debug, Default, PartialEq)]
pub struct Requeues {
    pub channels: BTreeSet<NamespacedName>,
    pub handle: Option<WorkspaceKey>,
}

// === impl NamespacedName ===

impl NamespacedName {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    pub fn of(channel: &Channel) -> Self {
        Self::new(channel.namespace().unwrap_or_default(), channel.name_any())
    }
}

// === impl WorkspaceKey ===

impl WorkspaceKey {
    /// The workspace that `spec.workspaceRef` names.
    pub fn of(channel: &Channel) -> Self {
        let reference = channel.spec.workspace_ref.clone().unwrap_or_default();
        let is_namespaced = reference.object_kind().is_namespaced();
        let namespace = is_namespaced.then(|| channel.namespace().unwrap_or_default());
        Self { namespace, name: reference.name }
    }

    /// The kind of the object: only a Workspace has a namespace.
    pub fn kind(&self) -> ObjectKind {
        if self.namespace.is_some() { ObjectKind::Workspace } else { ObjectKind::ClusterWorkspace }
    }
}

// === impl Entry ===

impl Entry {
    fn of(channel: &Channel) -> Self {
        let status = channel.status.as_ref();
        let uid = channel.uid().unwrap_or_default();
        let canonical = |id: &str| -> Arc<str> { canonical_id(id).into() };
        let finalized = channel.has_finalizer();
        let terminating = channel.metadata.deletion_timestamp.is_some();
        let gone = terminating && !finalized;
        let observing = channel.spec.is_observe();
        let bound = status.and_then(|status| status.bound_to(&uid)).filter(|_| !gone).map(canonical);
        let declared = channel.spec.channel_id.as_deref().map(canonical);
        let copied = status.and_then(|status| status.channel_id.as_deref()).map(canonical);
        let names = declared.clone().into_iter().chain(copied);
        let suspended = channel.spec.suspend == Some(true);
        let unresolved = status.and_then(|status| status.create.as_ref());
        Self {
            secrets: secret_ids(channel),
            handle: Arc::new(WorkspaceKey::of(channel)),
            names: names.filter(|id| !terminating && bound.as_ref() != Some(id)).collect(),
            adopts: declared.filter(|_| bound.is_none() && !terminating && !observing && !suspended),
            unresolved: !gone
                && unresolved.is_some_and(|create| create.outcome() == Some(RecordedOutcome::Unknown)),
            created: channel.creation_timestamp(),
            generation: channel.metadata.generation.unwrap_or_default(),
            create: CreateRecord::of(channel),
            finalizer_removed: last_seen::finalizer_removed(channel),
            terminating,
            observing,
            bound,
            uid: uid.into(),
        }
    }
}

// === impl Known ===

impl Known {
    /// The new entry, with those observations of the old one that are still valid.
    fn renewed(entry: Entry, old: Option<&Self>) -> Self {
        let mut found = old.filter(|old| old.entry.uid == entry.uid).map(|old| old.found.clone());
        if let Some(found) = &mut found {
            found.right.take_if(|id| !entry.names.contains(&**id));
            found.able.take_if(|generation| *generation != entry.generation);
            found.creating &= entry.bound.is_none() && !entry.unresolved;
        }
        Self { entry, found: found.unwrap_or_default() }
    }

    fn rank(&self, name: &Arc<NamespacedName>) -> Rank {
        let Entry { terminating, created, uid, .. } = &self.entry;
        let (uid, name) = (Arc::clone(uid), Arc::clone(name));
        Rank { terminating: *terminating, created: created.clone(), uid, name }
    }

    fn stakes(&self) -> impl Iterator<Item = (&Arc<str>, Stake)> {
        let bound = self.entry.bound.iter().map(|id| (id, Stake::Bound));
        let able = |id| self.found.able.is_some() && self.entry.adopts.as_ref() == Some(id);
        let right = |id: &Arc<str>| self.found.right.as_deref() == Some(&**id);
        let named = move |id| (id, Stake::Named { right: right(id), able: able(id) && right(id) });
        bound.chain(self.entry.names.iter().map(named))
    }

    fn uses(&self) -> Use {
        let bound = self.entry.bound.is_some();
        Use {
            bound,
            unresolved: !bound && (self.entry.unresolved || self.found.creating),
            polled: !self.found.denied && (bound || (self.entry.observing && self.found.reads)),
        }
    }
}

/// The Secrets that a Channel names.
pub fn secrets(channel: &Channel) -> impl Iterator<Item = &str> {
    channel.spec.credentials.iter().filter_map(|source| {
        let whole = source.secret_ref.as_ref().map(|reference| reference.name.as_str());
        whole.or(source.secret_key_ref.as_ref().map(|reference| reference.name.as_str()))
    })
}

/// The ids of these Secrets; also valid for a cached object.
pub fn secret_ids(channel: &Channel) -> Arc<[SecretId]> {
    if let Some(kept) = channel.spec.left_out.as_ref().and_then(|left_out| left_out.kept.as_ref()) {
        return Arc::clone(&kept.secrets);
    }
    let namespace = channel.namespace().unwrap_or_default();
    let named: BTreeSet<_> = secrets(channel).map(|name| SecretId::of(&namespace, name)).collect();
    named.into_iter().collect()
}

// === impl Index ===

impl Index {
    /// Adds or replaces a Channel.
    pub fn put(&mut self, channel: &Channel) -> Requeues {
        let name = NamespacedName::of(channel);
        let old = self.channels.get(&name);
        let new = Known::renewed(Entry::of(channel), old.map(Box::as_ref));
        if old.is_some_and(|old| **old == new) {
            return Requeues::default();
        }
        // A reservation ends when the binding has reached the API server, and when the manifest no longer adopts the id.
        let uid = Arc::clone(&new.entry.uid);
        let ends = |(id, why): &(String, Claim)| {
            new.entry.bound.as_deref() == Some(id) && *why != Claim::Delete
                || *why == Claim::Adopt && new.entry.adopts.as_deref() != Some(id)
        };
        let ended: Vec<_> = self.ids.claimed(&uid).into_iter().filter(ends).map(|(id, _)| id).collect();
        let mut wakes = self.replace(&name, Some(new), |ids| {
            ended.iter().for_each(|id| ids.unclaim(id, &uid));
            ended.clone()
        });
        wakes.channels.remove(&name);
        wakes
    }

    /// Removes a Channel.
    pub fn remove(&mut self, name: &NamespacedName) -> Requeues {
        self.replace(name, None, |_| Vec::new())
    }

    /// Whether a Channel has this uid.
    pub fn has_uid(&self, uid: &str) -> bool {
        self.uids.contains(&hashed(uid))
    }

    /// What a Channel last recorded of its oHallo channel.
    pub fn last_seen(&self, name: &NamespacedName) -> Option<LastSeen> {
        let Known { entry, .. } = &**self.channels.get(name)?;
        Some(LastSeen {
            uid: (*entry.uid).into(),
            bound: entry.bound.as_deref().map(str::to_owned),
            create: entry.create.clone(),
            finalizer_removed: entry.finalizer_removed,
        })
    }

    /// Removes every Channel that no longer exists, and returns what each last recorded.
    pub fn retain(
        &mut self,
        there: impl Fn(&NamespacedName) -> bool,
    ) -> Vec<(NamespacedName, LastSeen, Requeues)> {
        let gone: Vec<_> = self
            .channels
            .keys()
            .filter(|name| !there(name))
            .filter_map(|name| Some((NamespacedName::clone(name), self.last_seen(name)?)))
            .collect();
        gone.into_iter()
            .map(|(name, last)| {
                let wakes = self.remove(&name);
                (name, last, wakes)
            })
            .collect()
    }

    /// Records what a reconcile of this Channel observed about the id that it names.
    pub fn judge(&mut self, name: &NamespacedName, uid: &str, id: &str, shown: Shown) -> Requeues {
        let id = canonical_id(id).into_owned();
        self.note(name, uid, |entry, found| {
            found.denied = shown == Shown::Denied;
            found.reads = matches!(shown, Shown::Able | Shown::Reads);
            found.able = (shown == Shown::Able).then_some(entry.generation);
            if found.reads && entry.names.contains(&*id) {
                found.right = Some(id);
            }
        })
    }

    /// Records whether a create of this Channel is in flight.
    pub fn creating(&mut self, name: &NamespacedName, uid: &str, creating: bool) -> Requeues {
        self.note(name, uid, |_, found| found.creating = creating)
    }

    fn note(&mut self, name: &NamespacedName, uid: &str, note: impl FnOnce(&Entry, &mut Found)) -> Requeues {
        let Some(old) = self.channels.get(name).filter(|known| *known.entry.uid == *uid) else {
            return Requeues::default();
        };
        let mut new = Known::clone(old);
        note(&old.entry, &mut new.found);
        if **old == new {
            return Requeues::default();
        }
        let mut wakes = self.replace(name, Some(new), |_| Vec::new());
        wakes.channels.remove(name);
        wakes
    }

    /// Reserves an id; `false` where another object has reserved it.
    pub fn claim(&mut self, id: &str, name: &NamespacedName, uid: &str, why: Claim) -> bool {
        self.ids.claim(&canonical_id(id), name, uid, why)
    }

    /// Ends every reservation of an object that is deleted or rejected.
    pub fn unclaim(&mut self, uid: &str) -> Requeues {
        let ids: Vec<_> = self.ids.claimed(uid).into_iter().map(|(id, _)| id).collect();
        let before = self.actors(ids.iter());
        ids.iter().for_each(|id| self.ids.unclaim(id, uid));
        Requeues { channels: self.new_actors(&before), handle: None }
    }

    /// Ends the reservation of an adoption that did not bind.
    pub fn give_up_adoption(&mut self, uid: &str) -> Requeues {
        let claimed = self.ids.claimed(uid);
        if claimed.iter().all(|(_, why)| *why == Claim::Adopt) {
            self.unclaim(uid)
        } else {
            Requeues::default()
        }
    }

    /// The Channel that owns this id, unless it is `me`.
    pub fn owner(&self, id: &str, me: &NamespacedName, my_uid: &str) -> Option<NamespacedName> {
        let holder = self.ids.holder(&canonical_id(id))?;
        (holder.uid != my_uid && holder.name != *me).then_some(holder.name)
    }

    /// The terminating Channel of the same namespace that `me` can take the id over from now.
    pub fn takes_over(&self, id: &str, me: &NamespacedName) -> Option<NamespacedName> {
        self.ids.takes_over(&canonical_id(id), me)
    }

    /// What blocks the terminating Channel `me` from deleting its channel.
    pub fn rivals(&self, id: &str, me: &NamespacedName) -> Rivals {
        self.ids.rivals(&canonical_id(id), me)
    }

    /// Channels of other namespaces whose reads returned the id.
    pub fn claimants_elsewhere(&self, id: &str, namespace: &str) -> Vec<NamespacedName> {
        self.ids.claimants_elsewhere(&canonical_id(id), namespace)
    }

    /// At most `max` namespaces whose Channels block the deletion of this id by `me`.
    pub fn claimant_namespaces(&self, id: &str, me: &NamespacedName, max: usize) -> Vec<String> {
        self.ids.claimant_namespaces(&canonical_id(id), me, max)
    }

    /// Whether a read for this object has returned the id that it names.
    pub fn has_right(&self, id: &str, name: &NamespacedName, uid: &str) -> bool {
        let known = self.channels.get(name).filter(|known| *known.entry.uid == *uid);
        known.and_then(|known| known.found.right.as_deref()) == Some(&*canonical_id(id))
    }

    /// Replaces the entry of a Channel, lets `also` change reservations, and returns the Channels that can act now and
    /// could not before. `also` returns the ids that it changed.
    fn replace(
        &mut self,
        name: &NamespacedName,
        new: Option<Known>,
        also: impl FnOnce(&mut Ids) -> Vec<String>,
    ) -> Requeues {
        let (name, old) = match self.channels.remove_entry(name) {
            Some((name, old)) => (name, Some(old)),
            None => (Arc::new(name.clone()), None),
        };
        let mut new = new.map(Box::new);
        let known = || old.iter().chain(&new);
        let mut ids: BTreeSet<String> =
            known().flat_map(|known| known.stakes()).map(|(id, _)| (**id).into()).collect();
        ids.extend(known().flat_map(|known| self.ids.claimed(&known.entry.uid)).map(|(id, _)| id));
        let before = self.actors(ids.iter());
        if let Some(old) = &old {
            self.drop_known(&name, old);
        }
        if let Some(new) = &mut new {
            if let Some((handle, _)) = self.by_workspace.get_key_value(&new.entry.handle) {
                new.entry.handle = Arc::clone(handle);
            }
            self.add_known(&name, new);
        }
        also(&mut self.ids);
        let uses = |known: &Option<Box<Known>>| {
            let known = known.as_ref()?;
            let Use { bound, unresolved, .. } = known.uses();
            (bound || unresolved).then(|| (Arc::clone(&known.entry.handle), bound, unresolved))
        };
        let (was, is) = (uses(&old), uses(&new));
        let handle = if was == is { None } else { is.or(was).map(|(handle, ..)| (*handle).clone()) };
        if let Some(new) = new {
            self.channels.insert(name, new);
        }
        Requeues { channels: self.new_actors(&before), handle }
    }

    fn add_known(&mut self, name: &Arc<NamespacedName>, known: &Known) {
        let entry = &known.entry;
        self.uids.insert(hashed(&entry.uid));
        *self.population.entry(name.namespace.clone()).or_default() += 1;
        self.by_secret.extend(entry.secrets.iter().map(|secret| (*secret, Arc::clone(name))));
        self.by_workspace.entry(entry.handle.clone()).or_default().insert(name.clone());
        if entry.handle.namespace.is_none() {
            self.cluster_users.entry(name.namespace.clone()).or_default().insert(name.clone());
        }
        let rank = known.rank(name);
        known.stakes().for_each(|(id, stake)| self.ids.add(id, &rank, stake));
        self.uses.entry(entry.handle.clone()).or_default().add(&name.namespace, known.uses());
    }

    fn drop_known(&mut self, name: &Arc<NamespacedName>, known: &Known) {
        let entry = &known.entry;
        self.uids.remove(&hashed(&entry.uid));
        if let Some(count) = self.population.get_mut(&name.namespace) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.population.remove(&name.namespace);
            }
        }
        for secret in entry.secrets.iter() {
            self.by_secret.remove(&(*secret, Arc::clone(name)));
        }
        drop_from(&mut self.by_workspace, &entry.handle, name);
        if entry.handle.namespace.is_none() {
            drop_from(&mut self.cluster_users, &name.namespace, name);
        }
        let rank = known.rank(name);
        known.stakes().for_each(|(id, _)| self.ids.drop(id, &rank));
        if let Some(uses) = self.uses.get_mut(&entry.handle) {
            uses.subtract(&name.namespace, known.uses());
            if uses.none() {
                self.uses.remove(&entry.handle);
            }
        }
    }

    fn actors<'a>(&self, ids: impl Iterator<Item = &'a String>) -> BTreeMap<String, Actors> {
        ids.map(|id| (id.clone(), self.ids.actors(id))).collect()
    }

    /// The Channels that can act on these ids now, and could not before or waited for another reason.
    fn new_actors(&self, before: &BTreeMap<String, Actors>) -> BTreeSet<NamespacedName> {
        let now = before.iter().flat_map(|(id, old)| {
            let changed = |(name, act): &(NamespacedName, Act)| old.get(name) != Some(act);
            self.ids.actors(id).into_iter().filter(changed)
        });
        now.map(|(name, _)| name).collect()
    }

    pub fn users_of_secret(&self, secret: SecretId) -> Vec<NamespacedName> {
        self.named_by(secret).map(|name| (**name).clone()).collect()
    }

    fn named_by(&self, secret: SecretId) -> impl Iterator<Item = &Arc<NamespacedName>> {
        let first = (secret, Arc::new(NamespacedName::new("", "")));
        self.by_secret.range(first..).take_while(move |(other, _)| *other == secret).map(|(_, name)| name)
    }

    /// Sets the Secret that a workspace names; `None` for a deleted workspace.
    pub fn put_key(&mut self, handle: &WorkspaceKey, secret: Option<NamespacedName>) {
        if let Some(old) = self.key_of.remove(handle)
            && let Some(handles) = self.keys.get_mut(&old)
        {
            handles.remove(handle);
            if handles.is_empty() {
                self.keys.remove(&old);
            }
        }
        if let Some(secret) = secret {
            let secret = SecretId::of(&secret.namespace, &secret.name);
            self.keys.entry(secret).or_default().insert(handle.clone());
            self.key_of.insert(handle.clone(), secret);
        }
    }

    pub fn workspaces_of_key(&self, secret: SecretId) -> Vec<WorkspaceKey> {
        self.keys.get(&secret).into_iter().flatten().cloned().collect()
    }

    /// Whether any object names this Secret.
    pub fn uses_secret(&self, secret: SecretId) -> bool {
        self.keys.contains_key(&secret) || self.named_by(secret).next().is_some()
    }

    pub fn users_of_workspace(&self, handle: &WorkspaceKey) -> Vec<NamespacedName> {
        self.by_workspace.get(handle).into_iter().flatten().map(|name| (**name).clone()).collect()
    }

    pub fn has_users(&self, handle: &WorkspaceKey) -> bool {
        self.by_workspace.contains_key(handle)
    }

    /// The number of Channels of a namespace, and the number of namespaces with Channels.
    pub fn population(&self, namespace: &str) -> (usize, usize) {
        (self.population.get(namespace).copied().unwrap_or_default(), self.population.len())
    }

    /// The number of Channels that are read at every interval with this workspace's API key.
    pub fn count(&self, handle: &WorkspaceKey) -> usize {
        self.uses.get(handle).map_or(0, |uses| uses.polled)
    }

    /// Whether the workspace must keep its finalizer: a Channel is bound in it, or a namespace that `allowed` admits has an
    /// unresolved create.
    pub fn in_use(&self, handle: &WorkspaceKey, allowed: impl Fn(&str) -> bool) -> bool {
        let uses = self.uses.get(handle);
        uses.is_some_and(|uses| uses.bound > 0 || uses.unresolved.keys().any(|namespace| allowed(namespace)))
    }

    /// Channels of a namespace that name a ClusterWorkspace.
    pub fn cluster_users_in(&self, namespace: &str) -> Vec<NamespacedName> {
        self.cluster_users.get(namespace).into_iter().flatten().map(|name| (**name).clone()).collect()
    }
}

// === impl Uses ===

impl Uses {
    fn add(&mut self, namespace: &str, more: Use) {
        self.bound += usize::from(more.bound);
        self.polled += usize::from(more.polled);
        if more.unresolved {
            *self.unresolved.entry(namespace.to_owned()).or_default() += 1;
        }
    }

    fn subtract(&mut self, namespace: &str, less: Use) {
        self.bound = self.bound.saturating_sub(less.bound.into());
        self.polled = self.polled.saturating_sub(less.polled.into());
        if less.unresolved
            && let Some(count) = self.unresolved.get_mut(namespace)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.unresolved.remove(namespace);
            }
        }
    }

    fn none(&self) -> bool {
        self.bound == 0 && self.polled == 0 && self.unresolved.is_empty()
    }
}

fn drop_from<K: std::hash::Hash + Eq>(
    map: &mut HashMap<K, BTreeSet<Arc<NamespacedName>>>,
    key: &K,
    name: &NamespacedName,
) {
    if let Some(names) = map.get_mut(key) {
        names.remove(name);
        if names.is_empty() {
            map.remove(key);
        }
    }
}

#[cfg(test)]
mod tests;
