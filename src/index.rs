// pure
//! Who refers to what, so that an event wakes those it concerns without a scan.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use crate::api::channel::Channel;
use crate::api::{annotation, finalizer};

/// A namespaced name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    pub namespace: String,
    pub name: String,
}

/// Names a Workspace (with its namespace) or a ClusterWorkspace (without).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle {
    pub namespace: Option<String>,
    pub name: String,
}

#[derive(Debug, Default)]
pub struct Index {
    channels: HashMap<Name, Entry>,
    /// How many Channels each namespace has.
    population: HashMap<String, usize>,
    by_secret: HashMap<Name, BTreeSet<Name>>,
    by_workspace: HashMap<Handle, BTreeSet<Name>>,
    by_id: HashMap<String, BTreeSet<Name>>,
    /// Secrets with API keys, and the workspaces that name them.
    keys: HashMap<Name, BTreeSet<Handle>>,
    /// Ids that a pass of this process is binding: id to uid.
    claims: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    uid: String,
    created: Option<Time>,
    secrets: BTreeSet<Name>,
    handle: Handle,
    ids: BTreeSet<String>,
    /// Its status holds the id.
    bound: bool,
    /// The Workspace must not go before it.
    uses: bool,
}

/// Who has to look again.
#[derive(Debug, Default, PartialEq)]
pub struct Wakes {
    pub channels: BTreeSet<Name>,
    pub handle: Option<Handle>,
}

// === impl Name ===

impl Name {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    pub fn of(channel: &Channel) -> Self {
        Self::new(channel.namespace().unwrap_or_default(), channel.name_any())
    }

    pub fn object_ref(&self) -> ObjectRef<Channel> {
        ObjectRef::new(&self.name).within(&self.namespace)
    }
}

// === impl Handle ===

impl Handle {
    /// What `spec.workspaceRef` names.
    pub fn of(channel: &Channel) -> Self {
        let reference = channel.spec.workspace_ref.clone().unwrap_or_default();
        let namespace =
            (reference.kind != "ClusterWorkspace").then(|| channel.namespace().unwrap_or_default());
        Self { namespace, name: reference.name }
    }
}

// === impl Entry ===

impl Entry {
    fn of(channel: &Channel) -> Self {
        let namespace = channel.namespace().unwrap_or_default();
        let status = channel.status.as_ref();
        let uid = channel.uid().unwrap_or_default();
        let status_id = status.and_then(|status| status.channel_id.clone());
        let finalized = channel.finalizers().iter().any(|name| name == finalizer::CHANNEL);
        let observing = channel.spec.management_policy.as_deref() == Some("Observe");
        let gone = channel.metadata.deletion_timestamp.is_some() && !finalized;
        let bound = status_id.is_some()
            && (status.and_then(|status| status.bound_uid.as_deref()) == Some(&uid)
                || channel.spec.channel_id == status_id);
        let holds = bound || (!observing && channel.metadata.deletion_timestamp.is_none());
        let ids = [status_id.clone().filter(|_| bound), channel.spec.channel_id.clone()];
        Self {
            secrets: secrets(channel).map(|name| Name::new(&namespace, name)).collect(),
            handle: Handle::of(channel),
            ids: ids.into_iter().flatten().filter(|_| holds && !gone).collect(),
            uses: !gone
                && (status_id.is_some()
                    || finalized
                    || channel.annotations().contains_key(annotation::CREATE_INTENT)),
            created: channel.creation_timestamp(),
            bound,
            uid,
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

// === impl Index ===

impl Index {
    /// Takes in a Channel as it now is.
    pub fn put(&mut self, channel: &Channel) -> Wakes {
        let name = Name::of(channel);
        let entry = Entry::of(channel);
        if self.channels.get(&name) == Some(&entry) {
            return Wakes::default();
        }
        let mut wakes = self.remove(&name);
        for secret in &entry.secrets {
            self.by_secret.entry(secret.clone()).or_default().insert(name.clone());
        }
        self.by_workspace.entry(entry.handle.clone()).or_default().insert(name.clone());
        for id in &entry.ids {
            self.by_id.entry(id.clone()).or_default().insert(name.clone());
        }
        // A claim ends when the binding has reached the API server, and when the manifest names another id.
        self.claims.retain(|id, uid| *uid != entry.uid || (!entry.bound && entry.ids.contains(id)));
        wakes.handle = wakes.handle.or_else(|| entry.uses.then(|| entry.handle.clone()));
        wakes.channels.remove(&name);
        *self.population.entry(name.namespace.clone()).or_default() += 1;
        self.channels.insert(name, entry);
        wakes
    }

    /// Forgets a Channel.
    pub fn remove(&mut self, name: &Name) -> Wakes {
        let Some(entry) = self.channels.remove(name) else { return Wakes::default() };
        if let Some(count) = self.population.get_mut(&name.namespace) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.population.remove(&name.namespace);
            }
        }
        let mut wakes = Wakes { handle: entry.uses.then(|| entry.handle.clone()), ..Wakes::default() };
        for secret in &entry.secrets {
            drop_from(&mut self.by_secret, secret, name);
        }
        drop_from(&mut self.by_workspace, &entry.handle, name);
        for id in &entry.ids {
            drop_from(&mut self.by_id, id, name);
            wakes.channels.extend(self.by_id.get(id).into_iter().flatten().cloned());
        }
        wakes
    }

    /// Forgets every Channel that is not there any more; its name and uid.
    pub fn retain(&mut self, there: impl Fn(&Name) -> bool) -> Vec<(Name, String, Wakes)> {
        let gone: Vec<_> = self
            .channels
            .iter()
            .filter(|(name, _)| !there(name))
            .map(|(n, e)| (n.clone(), e.uid.clone()))
            .collect();
        gone.into_iter()
            .map(|(name, uid)| {
                let wakes = self.remove(&name);
                (name, uid, wakes)
            })
            .collect()
    }

    /// Frees the claims of an object that is gone or was refused.
    pub fn unclaim(&mut self, uid: &str) {
        self.claims.retain(|_, holder| holder != uid);
    }

    /// Reserves an id while it is being bound; `false` where another object has done so.
    pub fn claim(&mut self, id: &str, uid: &str) -> bool {
        self.claims.entry(id.to_owned()).or_insert_with(|| uid.to_owned()) == uid
    }

    /// The Channel that holds this id before `me`: the one whose status has it, else the one that is binding it, else the oldest.
    pub fn owner(&self, id: &str, me: &Name, my_uid: &str) -> Option<Name> {
        let claimed = self.claims.get(id);
        let rank = |name: &Name, entry: &Entry| {
            let claims = claimed == Some(&entry.uid);
            (
                !(entry.bound && entry.ids.contains(id)),
                !claims,
                entry.created.clone(),
                entry.uid.clone(),
                name.clone(),
            )
        };
        let holders = self.by_id.get(id)?;
        let ranked = holders.iter().filter_map(|name| Some((rank(name, self.channels.get(name)?), name)));
        let (best, name) = ranked.min_by(|a, b| a.0.cmp(&b.0))?;
        (best.3 != my_uid && name != me).then(|| name.clone())
    }

    pub fn users_of_secret(&self, secret: &Name) -> Vec<Name> {
        self.by_secret.get(secret).into_iter().flatten().cloned().collect()
    }

    /// Takes in the Secret that a workspace names; `None` for a workspace that is gone.
    pub fn put_key(&mut self, handle: &Handle, secret: Option<Name>) {
        self.keys.retain(|_, handles| {
            handles.remove(handle);
            !handles.is_empty()
        });
        if let Some(secret) = secret {
            self.keys.entry(secret).or_default().insert(handle.clone());
        }
    }

    pub fn workspaces_of_key(&self, secret: &Name) -> Vec<Handle> {
        self.keys.get(secret).into_iter().flatten().cloned().collect()
    }

    /// Whether anything names this Secret.
    pub fn uses_secret(&self, secret: &Name) -> bool {
        self.by_secret.contains_key(secret) || self.keys.contains_key(secret)
    }

    pub fn users_of_workspace(&self, handle: &Handle) -> Vec<Name> {
        self.by_workspace.get(handle).into_iter().flatten().cloned().collect()
    }

    /// How many Channels a namespace has, and how many namespaces have any.
    pub fn population(&self, namespace: &str) -> (usize, usize) {
        (self.population.get(namespace).copied().unwrap_or_default(), self.population.len())
    }

    /// How many Channels name this workspace.
    pub fn count(&self, handle: &Handle) -> usize {
        self.by_workspace.get(handle).map_or(0, BTreeSet::len)
    }

    /// Whether a Channel with an id, an intent or our finalizer names this workspace.
    pub fn in_use(&self, handle: &Handle) -> bool {
        let users = self.by_workspace.get(handle).into_iter().flatten();
        users.filter_map(|name| self.channels.get(name)).any(|entry| entry.uses)
    }

    /// Channels of a namespace that name a ClusterWorkspace.
    pub fn cluster_users_in(&self, namespace: &str) -> Vec<Name> {
        let shared = self.by_workspace.iter().filter(|(handle, _)| handle.namespace.is_none());
        shared.flat_map(|(_, names)| names).filter(|name| name.namespace == namespace).cloned().collect()
    }
}

fn drop_from<K: std::hash::Hash + Eq>(map: &mut HashMap<K, BTreeSet<Name>>, key: &K, name: &Name) {
    if let Some(names) = map.get_mut(key) {
        names.remove(name);
        if names.is_empty() {
            map.remove(key);
        }
    }
}

#[cfg(test)]
mod tests;
