//! What a dry run begins with: the objects after the apply, and what is known about everything that they name.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use ohallo_core::api::channel::Channel;
use ohallo_core::api::{canonical_id, same_id};
use ohallo_core::channel::in_memory_state::InMemoryState;
use ohallo_core::channel::model::WorkspaceAccess;
use ohallo_core::channel::plan::delete::WorkspaceProbe;
use ohallo_core::channel::workspace_access::Facts;
use ohallo_core::failure::Failure;
use ohallo_core::index::{NamespacedName, WorkspaceKey};
use ohallo_core::remote::{Id, RemoteChannel};
use ohallo_core::workspace::cached::{CachedApiKey, WorkspaceSnapshot};

use crate::ohallo::Contents;

/// The beginning of the uid of an object that only a manifest shows. Those of an API server have hexadecimal digits.
pub const ASSUMED_UID: &str = "new_";

/// See the module.
#[derive(Default)]
pub struct ClusterState {
    /// Every Channel that is known, as it is after the apply and before the operator reconciles it.
    pub channels: BTreeMap<NamespacedName, Channel>,
    /// What the operator remembers of them.
    pub memory: BTreeMap<NamespacedName, InMemoryState>,
    /// The Channels that are reconciled; the others only claim ids.
    pub participants: BTreeSet<NamespacedName>,
    pub workspaces: BTreeMap<WorkspaceKey, WorkspaceState>,
    /// Labels of namespaces, where they are known.
    pub labels: BTreeMap<String, BTreeMap<String, String>>,
    pub secrets: Secrets,
    pub remotes: Remotes,
}

/// The Secrets that credentials come from. No Debug: it holds values.
#[derive(Default)]
pub struct Secrets(pub Contents);

/// The channels in oHallo by [`canonical_id`].
#[derive(Clone, Debug, Default)]
pub struct Remotes(BTreeMap<String, Remote>);

/// What is known of one channel.
#[derive(Clone, Debug, PartialEq)]
pub enum Remote {
    /// `compared`: its values are known, and not only that it exists.
    Found { channel: Box<RemoteChannel>, compared: bool },
    /// oHallo answers 404; what a read of the workspace then showed.
    Absent(WorkspaceProbe),
}

/// A Workspace or ClusterWorkspace after the apply. No Debug: it holds an API key.
pub struct WorkspaceState {
    pub snapshot: WorkspaceSnapshot,
    /// Where the API key is not known, its value only differs between workspaces.
    pub key: Option<CachedApiKey>,
    pub key_unknown: bool,
}

// === impl ClusterState ===

impl ClusterState {
    /// How the Channel can use its workspace, as the operator decides it from its caches.
    ///
    /// # Errors
    /// Why it can't.
    pub fn access(&self, channel: &Channel, now: Instant) -> Result<WorkspaceAccess, Failure> {
        let workspace = WorkspaceKey::of(channel);
        let workspace_state = self.workspaces.get(&workspace);
        let namespace = channel.metadata.namespace.as_deref().unwrap_or_default();
        let status = channel.status.as_ref();
        let facts = Facts {
            workspace: &workspace,
            snapshot: workspace_state.map(|workspace_state| &workspace_state.snapshot),
            key: workspace_state.and_then(|workspace_state| workspace_state.key.clone()),
            key_check_requested: false,
            // Whether one does is another question: see `operators.rs`.
            serves_cluster_workspaces: true,
            namespace,
            labels: self.labels.get(namespace).cloned(),
            terminating: channel.metadata.deletion_timestamp.is_some(),
            has_channel: status.is_some_and(|status| status.channel_id.is_some()),
        };
        let held = facts.usable_key()?;
        let access = WorkspaceAccess::of(&held, channel.metadata.uid.as_deref().unwrap_or_default(), now);
        // What the key would show is what the operator recorded.
        let recorded = status.and_then(|status| status.read_with.clone());
        let recorded =
            recorded.filter(|_| workspace_state.is_some_and(|workspace_state| workspace_state.key_unknown));
        Ok(WorkspaceAccess { read_with: recorded.unwrap_or(access.read_with), ..access })
    }

    pub fn is_suspended(&self, workspace: &WorkspaceKey) -> bool {
        self.workspaces.get(workspace).is_some_and(|workspace_state| workspace_state.snapshot.suspended)
    }
}

// === impl Remotes ===

impl Remotes {
    /// What is known of one id is known of another.
    pub fn rename(&mut self, from: &str, to: &Id) {
        if let Some(mut remote) = self.0.remove(canonical_id(from).as_ref()) {
            if let Remote::Found { channel, .. } = &mut remote {
                channel.id = to.clone();
            }
            self.put(to.as_str(), remote);
        }
    }

    pub fn get(&self, id: &str) -> Option<&Remote> {
        self.0.get(&*canonical_id(id))
    }

    pub fn put(&mut self, id: &str, remote: Remote) {
        self.0.insert(canonical_id(id).into_owned(), remote);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Puts this unless something is known already.
    pub fn assume(&mut self, id: &str, remote: impl FnOnce() -> Remote) {
        self.0.entry(canonical_id(id).into_owned()).or_insert_with(remote);
    }
}

/// The ids that a Channel is bound to or names.
pub fn ids_of(channel: &Channel) -> Vec<String> {
    let status = channel.status.as_ref().and_then(|status| status.channel_id.clone());
    let mut ids: Vec<_> = status.into_iter().chain(channel.spec.channel_id.clone()).collect();
    ids.dedup_by(|one, other| same_id(one, other));
    ids
}
