//! The cluster after an apply: the objects before it, changed as the API server changes them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kube::ResourceExt;
use ohallo_core::api::ObjectKind;
use ohallo_core::api::channel::Channel;
use ohallo_core::api::workspace::{AllowedNamespaces, ClusterWorkspace, Workspace, WorkspaceStatus};
use ohallo_core::channel::declared;
use ohallo_core::channel::in_memory_state::InMemoryState;
use ohallo_core::channel::plan::delete::unconfirmed_deletion;
use ohallo_core::index::{NamespacedName, WorkspaceKey, secrets};
use ohallo_core::remote::{Id, RemoteChannel};
use ohallo_core::secret::ApiKey;
use ohallo_core::secret_content::Content;
use ohallo_core::workspace::cached::{CachedApiKey, WorkspaceSnapshot};
use ohallo_core::workspace::kind::WorkspaceKind;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::judge::{Kind, Kinds, check, complete};
use crate::manifest::Identity;
use crate::plan::change::{Change, Effect};
use crate::plan::cluster_state::{
    ASSUMED_UID, ClusterState, Remote, Remotes, Secrets, WorkspaceState, ids_of,
};
use crate::plan::items::may_be_deleted;
use crate::plan::manifests::{Manifests, refused, sentence};
use crate::plan::merge;
use crate::plan::tools;

/// The objects before the apply.
#[derive(Default)]
pub struct Before {
    pub channels: BTreeMap<NamespacedName, Value>,
    pub workspaces: BTreeMap<WorkspaceKey, Value>,
    pub labels: BTreeMap<String, BTreeMap<String, String>>,
    pub memory: BTreeMap<NamespacedName, InMemoryState>,
    pub remotes: Remotes,
    /// The namespaces with deletion protection.
    pub protected: BTreeSet<String>,
}

/// What the apply deletes.
#[derive(Default)]
pub struct Removed {
    pub channels: BTreeSet<NamespacedName>,
    pub workspaces: BTreeSet<WorkspaceKey>,
}

/// The cluster after the apply, and what the API server or a protection keeps from it.
#[derive(Default)]
pub struct Applied {
    /// The Channels before the apply.
    pub before: BTreeMap<NamespacedName, Channel>,
    pub cluster_state: ClusterState,
    pub kept: Vec<Change>,
    /// Objects that are deleted at once, because no operator has ever reconciled them.
    pub vanished: BTreeSet<NamespacedName>,
}

/// Applies the manifests to the objects before.
///
/// # Errors
/// An object can't be decoded.
pub fn apply(
    before: &Before,
    head: &Manifests,
    removed: &Removed,
    kinds: &Kinds,
    now: Timestamp,
) -> Result<Applied, Failure> {
    let mut applied = Applied::default();
    applied.cluster_state.labels.clone_from(&before.labels);
    applied.cluster_state.memory.clone_from(&before.memory);
    applied.cluster_state.remotes.clone_from(&before.remotes);
    applied.workspaces(before, head, removed, kinds)?;
    for (name, object) in &before.channels {
        applied.before.insert(name.clone(), decode(object, name)?);
    }
    applied.cluster_state.channels.clone_from(&applied.before);
    if let Some(kind) = kinds.get(ObjectKind::Channel.name()) {
        for (name, manifest) in &head.channels {
            applied.channel(kind, name, before.channels.get(name), manifest, now)?;
        }
    }
    for name in &removed.channels {
        let protected = before.protected.contains(&name.namespace);
        if !(protected && applied.waits_for_confirmation(name)) {
            applied.delete(name, now);
        }
    }
    applied.touched(head, removed);
    Ok(applied)
}

// === impl Applied ===

impl Applied {
    fn workspaces(
        &mut self,
        before: &Before,
        head: &Manifests,
        removed: &Removed,
        kinds: &Kinds,
    ) -> Result<(), Failure> {
        for (key, live) in &before.workspaces {
            let mut workspace_state = workspace_state(key, live)?;
            workspace_state.snapshot.terminating |= removed.workspaces.contains(key);
            self.cluster_state.workspaces.insert(key.clone(), workspace_state);
        }
        for (key, manifest) in &head.workspaces {
            let Some(live) = before.workspaces.get(key) else {
                self.cluster_state.workspaces.insert(key.clone(), workspace_state(key, manifest)?);
                continue;
            };
            let kind = key.kind();
            let name = NamespacedName::new(key.namespace.as_deref().unwrap_or_default(), &key.name);
            let Some(after) =
                kinds.get(kind.name()).and_then(|kind| self.merged(kind, &name, live, manifest))
            else {
                continue;
            };
            let mut workspace_state = workspace_state(key, &after)?;
            if after.get("spec") != live.get("spec") {
                // What its condition says is about another API key or workspace.
                workspace_state.snapshot.status = WorkspaceStatus::default();
            }
            self.cluster_state.workspaces.insert(key.clone(), workspace_state);
        }
        Ok(())
    }

    /// The object after the apply; `None` where the API server refuses that, so that it stays as it is.
    fn merged(
        &mut self,
        kind: &Kind,
        name: &NamespacedName,
        live: &Value,
        manifest: &Value,
    ) -> Option<Value> {
        let mut after = merge::apply(live, manifest);
        let status = after.get("status").cloned();
        complete(kind, &mut after);
        let findings = check(kind, &after, Some(live));
        if !findings.is_empty() {
            let identity = Identity {
                kind: kind.name.clone(),
                namespace: name.namespace.clone(),
                name: name.name.clone(),
                ..Identity::default()
            };
            self.kept.push(refused(&identity, &sentence(&findings)));
            return None;
        }
        if let (Some(status), Some(fields)) = (status, after.as_object_mut()) {
            fields.insert("status".to_owned(), status);
        }
        if after.get("spec") != live.get("spec") {
            raise_generation(&mut after);
        }
        Some(after)
    }

    fn channel(
        &mut self,
        kind: &Kind,
        name: &NamespacedName,
        live: Option<&Value>,
        manifest: &Value,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let object = match live {
            None => created(kind, manifest, name, now),
            Some(live) => match self.merged(kind, name, live, manifest) {
                Some(after) => after,
                None => {
                    self.forced(live, manifest, name);
                    return Ok(());
                }
            },
        };
        self.cluster_state.channels.insert(name.clone(), decode(&object, name)?);
        self.cluster_state.participants.insert(name.clone());
        Ok(())
    }

    /// A tool may delete the object to make a change that the API server refuses.
    fn forced(&mut self, live: &Value, manifest: &Value, name: &NamespacedName) {
        let tool = tools::forced_by(manifest).or_else(|| tools::forced_by(live));
        let before = self.before.get(name).filter(|before| may_be_deleted(before));
        if let (Some(tool), Some(before)) = (tool, before) {
            let message = format!(
                "An annotation makes {tool} delete the object and create it again, because the API server refuses the change."
            );
            self.kept.push(channel_change(Effect::MayBeDestroyed, before, name, message));
        }
    }

    /// Whether the deletion protection refuses the deletion of the object, which then stays as it is.
    fn waits_for_confirmation(&mut self, name: &NamespacedName) -> bool {
        let living = |channel: &&Channel| channel.metadata.deletion_timestamp.is_none();
        let Some(channel) = self.cluster_state.channels.get(name).filter(living) else { return false };
        let Some(id) = unconfirmed_deletion(channel) else { return false };
        let message = format!(
            "Deletion protection refuses the deletion, so the object and its channel stay until the deletion is confirmed: kubectl ohallo confirm-deletion {} --namespace {}.",
            name.name, name.namespace
        );
        let change = channel_change(Effect::Waits, channel, name, message);
        self.kept.push(Change { channel_id: Some(id.to_owned()), deletes_later: true, ..change });
        true
    }

    fn delete(&mut self, name: &NamespacedName, now: Timestamp) {
        let Some(channel) = self.cluster_state.channels.get_mut(name) else { return };
        let tools = tools::kept_by(channel.annotations());
        if !tools.is_empty() {
            let tools = tools.join(" and ");
            let message = format!(
                "An annotation keeps {tools} from the deletion of this object, so it stays in the cluster and its channel in oHallo. Any other tool deletes it. Delete the object with kubectl if that is meant."
            );
            let deletes_later = may_be_deleted(channel);
            let change = channel_change(Effect::Waits, channel, name, message);
            self.kept.push(Change { deletes_later, ..change });
            return;
        }
        if channel.finalizers().is_empty() {
            self.cluster_state.channels.remove(name);
            self.vanished.insert(name.clone());
            return;
        }
        channel
            .metadata
            .deletion_timestamp
            .get_or_insert(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
        channel.metadata.generation = channel.metadata.generation.map(|generation| generation + 1);
        self.cluster_state.participants.insert(name.clone());
    }

    /// Channels whose manifests the apply does not have, and whose Workspace, Secret or id it touches.
    fn touched(&mut self, head: &Manifests, removed: &Removed) {
        // Also an id that is no longer named: another deletion may have waited for that.
        let after = &self.cluster_state.channels;
        let changed = self.cluster_state.participants.iter().chain(&self.vanished);
        let ids: BTreeSet<_> = changed
            .flat_map(|name| [self.before.get(name), after.get(name)])
            .flatten()
            .flat_map(ids_of)
            .collect();
        let changed =
            |key: &WorkspaceKey| removed.workspaces.contains(key) || head.workspaces.contains_key(key);
        let touched = |name: &NamespacedName, channel: &Channel| {
            let claims = channel.metadata.deletion_timestamp.is_some()
                && ids_of(channel).iter().any(|id| ids.contains(id));
            claims
                || changed(&WorkspaceKey::of(channel))
                || secrets(channel)
                    .any(|secret| head.secrets.contains_key(&NamespacedName::new(&name.namespace, secret)))
        };
        let more = self.cluster_state.channels.iter().filter(|(name, channel)| touched(name, channel));
        let more: Vec<_> = more.map(|(name, _)| name.clone()).collect();
        // What the API server refuses stays as it is, whatever else is applied.
        self.cluster_state.participants.extend(more);
    }
}

pub fn channel_change(effect: Effect, channel: &Channel, name: &NamespacedName, message: String) -> Change {
    Change {
        namespace: name.namespace.clone(),
        channel_type: channel.spec.channel_type.clone().unwrap_or_default(),
        display_name: channel.spec.display_name.clone().unwrap_or_default(),
        message,
        ..Change::of(effect, ObjectKind::Channel.name(), &name.name)
    }
}

/// A new object, as the API server stores it.
fn created(kind: &Kind, manifest: &Value, name: &NamespacedName, now: Timestamp) -> Value {
    let mut object = manifest.clone();
    complete(kind, &mut object);
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        let own = json!({
            // Without a slash, which separates the parts of an intent.
            "uid": format!("{ASSUMED_UID}{}_{}", name.namespace, name.name),
            "generation": 1,
            "resourceVersion": "0",
            "creationTimestamp": now.to_string(),
        });
        metadata.extend(own.as_object().cloned().unwrap_or_default());
    }
    if let Some(fields) = object.as_object_mut() {
        fields.insert("status".to_owned(), ohallo_core::api::unseen());
    }
    object
}

fn raise_generation(object: &mut Value) {
    if let Some(generation) = object.pointer_mut("/metadata/generation")
        && let Some(number) = generation.as_i64()
    {
        *generation = (number + 1).into();
    }
}

fn decode<T: DeserializeOwned>(object: &Value, name: &NamespacedName) -> Result<T, Failure> {
    serde_json::from_value(object.clone()).map_err(|error| {
        Failure::undecided(format!("{}/{} can't be decoded: {error}", name.namespace, name.name))
    })
}

fn workspace_state(key: &WorkspaceKey, object: &Value) -> Result<WorkspaceState, Failure> {
    let name = NamespacedName::new(key.namespace.as_deref().unwrap_or_default(), &key.name);
    Ok(if key.kind() == ObjectKind::Workspace {
        state_of(&decode::<Workspace>(object, &name)?, None)
    } else {
        let workspace = decode::<ClusterWorkspace>(object, &name)?;
        let allowed = workspace.spec.allowed_namespaces.clone().unwrap_or_default();
        state_of(&workspace, Some(allowed))
    })
}

fn state_of<K: WorkspaceKind>(workspace: &K, allowed: Option<AllowedNamespaces>) -> WorkspaceState {
    let workspace_state = WorkspaceState::assumed(&workspace.handle());
    let workspace_id = workspace.workspace_id().and_then(Id::parse);
    let snapshot = WorkspaceSnapshot {
        suspended: workspace.suspended(),
        terminating: workspace.meta().deletion_timestamp.is_some(),
        status: workspace.status().cloned().unwrap_or_default(),
        allowed,
        ..workspace_state.snapshot
    };
    let key =
        workspace_state.key.zip(workspace_id).map(|(key, workspace_id)| CachedApiKey { workspace_id, ..key });
    WorkspaceState { snapshot, key, ..workspace_state }
}

/// Secrets of which nothing is known but the entries that Channels name.
pub fn assume_secrets<'a>(known: &mut Secrets, channels: impl Iterator<Item = &'a Channel>) {
    let mut assumed: BTreeMap<NamespacedName, BTreeSet<String>> = BTreeMap::new();
    for channel in channels {
        let namespace = channel.namespace().unwrap_or_default();
        for source in &channel.spec.credentials {
            let (secret, entry) = match (&source.secret_ref, &source.secret_key_ref) {
                (Some(whole), _) => (&whole.name, every_entry(&whole.name)),
                (None, Some(one)) => (&one.name, one.key.clone()),
                (None, None) => continue,
            };
            assumed.entry(NamespacedName::new(&namespace, secret)).or_default().insert(entry);
        }
    }
    for (name, entries) in assumed {
        known.0.entry(name).or_insert_with(|| Content::Present {
            uid: "unknown".to_owned(),
            resource_version: "0".to_owned(),
            data: entries.into_iter().map(|entry| (entry, b"unknown".to_vec().into())).collect(),
        });
    }
}

/// What stands for the entries of a Secret that was not read. No entry has a name with a space.
fn every_entry(secret: &str) -> String {
    format!("every entry of Secret {secret}")
}

/// The channels in oHallo that no read has shown: with the values that the operator sent last, where these are known.
pub fn assume_remotes(before: &BTreeMap<NamespacedName, Channel>, cluster_state: &mut ClusterState) {
    for (name, channel) in before {
        let uid = channel.uid().unwrap_or_default();
        let status = channel.status.clone().unwrap_or_default();
        let Some(id) = status.bound_to(&uid).and_then(Id::parse) else { continue };
        let after = cluster_state.channels.get(name);
        let sent = status.applied.as_ref().and_then(|applied| applied.digest.clone());
        let was_sent = |one: &&Channel| sent == Some(declared::digest(&one.spec, one.spec.enabled));
        let known = [Some(channel), after].into_iter().flatten().find(was_sent);
        let workspace = status.workspace_id.clone();
        let state = status.state.clone().unwrap_or_else(|| "active".to_owned());
        cluster_state.remotes.assume(id.as_str(), || assumed(&id, channel, workspace, known, state));
    }
    let named: Vec<_> = cluster_state.channels.values().cloned().collect();
    for channel in named {
        let Some(id) = channel.spec.channel_id.as_deref().and_then(Id::parse) else { continue };
        let workspace_state = cluster_state.workspaces.get(&WorkspaceKey::of(&channel));
        let workspace = workspace_state
            .and_then(|workspace_state| workspace_state.key.as_ref())
            .map(|key| key.workspace_id.to_string());
        cluster_state
            .remotes
            .assume(id.as_str(), || assumed(&id, &channel, workspace, None, "active".to_owned()));
    }
}

fn assumed(
    id: &Id,
    channel: &Channel,
    workspace_id: Option<String>,
    known: Option<&Channel>,
    state: String,
) -> Remote {
    let body = known.map(|known| declared::body(&known.spec));
    let channel = RemoteChannel {
        id: id.clone(),
        workspace_id,
        channel_type: channel.spec.channel_type.clone(),
        display_name: body.as_ref().map(|body| body.display_name.clone()),
        status: Some(state),
        config: body.and_then(|body| body.config).unwrap_or_default(),
        created_at: None,
    };
    Remote::Found { channel: Box::new(channel), compared: known.is_some() }
}

/// Workspaces that neither the manifests nor a cluster show are assumed to be usable.
pub fn assume_workspaces(cluster_state: &mut ClusterState, which: impl Fn(&WorkspaceKey) -> bool) {
    let keys: BTreeSet<_> = cluster_state.channels.values().map(WorkspaceKey::of).collect();
    for key in keys.into_iter().filter(which) {
        cluster_state.workspaces.entry(key.clone()).or_insert_with(|| WorkspaceState::assumed(&key));
    }
}

/// What an operator that works remembers of a Channel that it has reconciled.
pub fn remembered(before: &Channel, pushed: Option<ohallo_core::secret::ContentDigest>) -> InMemoryState {
    let status = before.status.as_ref();
    InMemoryState {
        last_push_digest: pushed.filter(|_| status.is_some_and(|status| status.credentials.is_some())),
        reconciled_once: status.and_then(|status| status.observed_generation) == before.metadata.generation,
        ..InMemoryState::default()
    }
}

// === impl Removed ===

impl Removed {
    /// What the base has and the files do not. An object that the API server refuses stays.
    pub fn of(base: &Manifests, head: &Manifests, before: &Before) -> Self {
        let is_kept = |kind: ObjectKind, namespace: &str, name: &str| {
            head.refused.iter().any(|refused| {
                refused.kind == kind.name() && refused.namespace == namespace && refused.name == name
            })
        };
        let channels = base.channels.keys().filter(|name| {
            !head.channels.contains_key(name) && !is_kept(ObjectKind::Channel, &name.namespace, &name.name)
        });
        let workspaces = base.workspaces.keys().filter(|key| {
            let namespace = key.namespace.as_deref().unwrap_or_default();
            !head.workspaces.contains_key(key) && !is_kept(key.kind(), namespace, &key.name)
        });
        Self {
            channels: channels.filter(|name| before.channels.contains_key(name)).cloned().collect(),
            workspaces: workspaces.cloned().collect(),
        }
    }

    /// What the cluster has in these namespaces, and the files do not.
    pub fn pruned(head: &Manifests, before: &Before, namespaces: &BTreeSet<String>) -> Self {
        let mut base = Manifests::default();
        let here = |namespace: &str| namespaces.contains(namespace);
        let channels = before.channels.iter().filter(|(name, _)| here(&name.namespace));
        base.channels = channels.map(|(name, object)| (name.clone(), object.clone())).collect();
        let workspaces =
            before.workspaces.iter().filter(|(key, _)| key.namespace.as_deref().is_some_and(here));
        base.workspaces = workspaces.map(|(key, object)| (key.clone(), object.clone())).collect();
        Self::of(&base, head, before)
    }
}

// === impl WorkspaceState ===

impl WorkspaceState {
    /// A usable workspace of which nothing is known.
    pub fn assumed(key: &WorkspaceKey) -> Self {
        let name = format!("{}/{}", key.namespace.as_deref().unwrap_or_default(), key.name);
        let cached = |workspace_id| CachedApiKey {
            uid: name.clone(),
            key: ApiKey::new(name.clone()),
            workspace_id,
            create_unsupported: None,
            has_created: false,
            has_read: true,
            list_unsupported: false,
        };
        let snapshot = WorkspaceSnapshot {
            uid: name.clone(),
            generation: None,
            suspended: false,
            terminating: false,
            status: WorkspaceStatus::default(),
            allowed: None,
        };
        Self { key: Id::parse("unknown").map(cached), snapshot, key_unknown: true }
    }
}
