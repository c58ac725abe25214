//! A plan between its reads: the objects before and after the apply, and what becomes known of them.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use ohallo_core::api::channel::Channel;
use ohallo_core::api::{GROUP, ObjectKind};
use ohallo_core::channel::in_memory_state::InMemoryState;
use ohallo_core::channel::model::DesiredCredentials;
use ohallo_core::channel::state::Now;
use ohallo_core::index::{NamespacedName, WorkspaceKey, secrets};
use ohallo_core::text::list;
use serde_json::Value;

use crate::failure::Failure;
use crate::judge::Kinds;
use crate::manifest::Identity;
use crate::plan::apply::{
    Applied, Before, Removed, apply, assume_remotes, assume_secrets, assume_workspaces, channel_change,
    remembered,
};
use crate::plan::change::{Change, Depth, Effect};
use crate::plan::cluster_state::{ClusterState, Secrets};
use crate::plan::dry_run::{credentials_of, dry_run};
use crate::plan::files;
use crate::plan::items::{MAY_EXIST, Subject, may_be_deleted};
use crate::plan::manifests::{Manifests, overlaid};
use crate::plan::operators::Operators;
use crate::plan::report::Report;
use crate::plan::tools::new_reasons;

/// The most names of one sentence.
const MAX_NAMES: usize = 3;

/// See the module.
pub struct Planned {
    head: Manifests,
    /// The Channels before the apply.
    before: BTreeMap<NamespacedName, Channel>,
    /// Workspaces before the apply, and those of the files.
    workspaces: BTreeMap<WorkspaceKey, Value>,
    applied: Applied,
    changes: Vec<Change>,
    pub notes: Vec<String>,
}

// === impl Planned ===

impl Planned {
    /// The plan at depth files.
    ///
    /// # Errors
    /// An object can't be decoded.
    pub fn of_files(head: Manifests, base: &Manifests, kinds: &Kinds, now: Now) -> Result<Self, Failure> {
        let before = files::assume_applied(base, &head, kinds, now)?;
        let removed = Removed::of(base, &head, &before);
        let mut planned = Self::begin(before, head, removed, kinds, now)?;
        assume_workspaces(&mut planned.applied.cluster_state, |_| true);
        planned.compare_with(base);
        let known = files::secrets_after(base, &planned.head, planned.named());
        planned.applied.cluster_state.secrets = known;
        Ok(planned)
    }

    /// Applies the files to the objects before.
    ///
    /// # Errors
    /// An object can't be decoded.
    pub fn begin(
        before: Before,
        head: Manifests,
        removed: Removed,
        kinds: &Kinds,
        now: Now,
    ) -> Result<Self, Failure> {
        let mut applied = apply(&before, &head, &removed, kinds, now.wall)?;
        let mut changes = workspaces_that_wait(&before, &removed, &applied.cluster_state);
        changes.extend(deleted_by_others(&before, &head, &applied.cluster_state));
        let mut workspaces = before.workspaces;
        workspaces.extend(head.workspaces.clone());
        let before = std::mem::take(&mut applied.before);
        Ok(Self { head, before, workspaces, applied, changes, notes: Vec::new() })
    }

    pub fn workspaces(&self) -> &BTreeMap<WorkspaceKey, Value> {
        &self.workspaces
    }

    pub fn workspaces_and_state(&mut self) -> (&BTreeMap<WorkspaceKey, Value>, &mut ClusterState) {
        (&self.workspaces, &mut self.applied.cluster_state)
    }

    /// ClusterWorkspaces that may not be read are assumed to be usable.
    pub fn assume_cluster_workspaces(&mut self) {
        assume_workspaces(&mut self.applied.cluster_state, |key| key.namespace.is_none());
    }

    /// Labels decide what a ClusterWorkspace allows.
    pub fn note_unknown_labels(&mut self) {
        if self.named().any(|channel| WorkspaceKey::of(channel).namespace.is_none()) {
            let note = "The labels of namespaces may not be read: whether a ClusterWorkspace allows them is not known.";
            self.notes.push(note.to_owned());
        }
    }

    /// Compares what is no Channel and no Workspace.
    pub fn compare_with(&mut self, base: &Manifests) {
        if base.is_empty {
            self.notes.push("The base has no objects, so nothing is found to be removed.".to_owned());
        }
        for (identity, object) in &base.cascading {
            let change = |message: &str| may_be_destroyed(identity, message);
            let Some(now) = self.head.cascading.get(identity) else {
                let message = "Its deletion deletes its Channels, and in oHallo what their policies delete.";
                self.changes.push(change(message));
                continue;
            };
            for reason in new_reasons(Some(object), now) {
                self.changes.push(change(&format!("{reason}, and its Channels with it.")));
            }
            if now.get("spec") != object.get("spec") {
                let name = format!("{} {}", identity.kind, identity.name);
                self.notes
                    .push(format!("{name:?} changes: what it applies from now on is not in this plan."));
            }
        }
        self.compare_layout(base);
    }

    /// What a tool applies of a directory may change although each object stays as it is.
    fn compare_layout(&mut self, base: &Manifests) {
        for path in self.head.layout.changed_selectors(&base.layout) {
            let message =
                "It changes, and it may choose what is applied. Plan the rendered manifests instead.";
            let file =
                Identity { kind: "File".to_owned(), name: path.display().to_string(), ..Identity::default() };
            self.changes.push(may_be_destroyed(&file, message));
        }
        let at_stake = self.head.layout.objects().filter(|identity| self.is_at_stake(identity));
        let moved = at_stake.filter_map(|identity| {
            let (from, to) = self.head.layout.moved(&base.layout, identity)?;
            let [from, to] = [from, to].map(|folder| format!("{}/", folder.display()));
            let message = format!(
                "Its manifest moves from {from:?} to {to:?}: a tool that does not read that folder deletes the object. Plan the rendered manifests instead."
            );
            Some(may_be_destroyed(identity, &message))
        });
        let moved: Vec<_> = moved.collect();
        self.changes.extend(moved);
    }

    /// Whether the deletion of the object may delete a channel.
    fn is_at_stake(&self, identity: &Identity) -> bool {
        let name = NamespacedName::new(&identity.namespace, &identity.name);
        let is_channel = identity.group == GROUP && identity.kind == ObjectKind::Channel.name();
        is_channel && self.before.get(&name).is_some_and(may_be_deleted)
            || self.head.cascading.contains_key(identity)
    }

    /// The Channels that the plan is about, before and after the apply.
    pub fn named(&self) -> impl Iterator<Item = &Channel> {
        let cluster_state = &self.applied.cluster_state;
        cluster_state
            .participants
            .iter()
            .flat_map(|name| [self.before.get(name), cluster_state.channels.get(name)])
            .flatten()
    }

    /// Takes over the Secrets before the apply, as far as they are known, and what a working operator remembers of them.
    pub fn remember(&mut self, depth: Depth, mut known: Secrets) {
        let unread = unread(&known, self.named());
        if depth == Depth::Ohallo && !unread.is_empty() {
            let names = list(unread.iter().map(String::as_str), MAX_NAMES);
            self.notes.push(format!("Secrets that may not be read are assumed to be unchanged: {names}."));
        }
        // Where no Secret was read, those of the files are assumed to be applied already.
        for (name, content) in self.head.secrets.iter().filter(|_| depth != Depth::Ohallo) {
            known.0.entry(name.clone()).or_insert_with(|| content.only(|_| true));
        }
        assume_secrets(&mut known, self.named());
        self.applied.cluster_state.secrets = known;
        self.applied.cluster_state.memory = memories(depth, &self.before, &self.applied.cluster_state);
        overlaid(&mut self.applied.cluster_state.secrets, &self.head);
    }

    /// Nothing happens to Channels that no operator serves.
    pub fn leave_out_unserved(&mut self, operators: &Operators) {
        let cluster_state = &mut self.applied.cluster_state;
        for name in std::mem::take(&mut cluster_state.participants) {
            let Some(channel) =
                cluster_state.channels.get(&name).filter(|channel| operators.none_serves(channel))
            else {
                cluster_state.participants.insert(name);
                continue;
            };
            let (effect, message) = match &channel.metadata.deletion_timestamp {
                None => (
                    Effect::Unserved,
                    "No Deployment of an operator serves this object, so nothing happens in oHallo: check --namespace and --cluster-workspaces of the operators.",
                ),
                Some(_) => (
                    Effect::Waits,
                    "No Deployment of an operator serves this object. Its finalizer waits for an operator, which then deletes the object.",
                ),
            };
            let deletes_later = effect == Effect::Waits && may_be_deleted(channel);
            let change = Change::of(effect, ObjectKind::Channel.name(), &name.name);
            let message = message.to_owned();
            self.changes.push(Change { namespace: name.namespace, message, deletes_later, ..change });
        }
    }

    /// Runs, and lists what happens.
    pub fn report(mut self, base: Option<String>, depth: Depth, now: Now) -> Report {
        assume_remotes(&self.before, &mut self.applied.cluster_state);
        let dry_run = dry_run(&self.applied.cluster_state, now);
        let cluster_state = &self.applied.cluster_state;
        let mut changes = self.changes;
        changes.append(&mut self.head.refused);
        changes.append(&mut self.applied.kept);
        let mut unchanged = 0;
        for name in &cluster_state.participants {
            let (Some(after), Some(result)) = (cluster_state.channels.get(name), dry_run.results.get(name))
            else {
                continue;
            };
            let before = self.before.get(name);
            let subject = Subject { name, depth, before, after, remotes: &cluster_state.remotes };
            let found = subject.changes(result);
            unchanged += usize::from(found.is_empty() && self.head.channels.contains_key(name));
            changes.extend(found);
        }
        for name in &self.applied.vanished {
            let (effect, message) = match self.before.get(name) {
                Some(before) if depth == Depth::Files && may_be_deleted(before) => {
                    (Effect::DependsOnOrigin, MAY_EXIST)
                }
                _ => (Effect::NoLongerManaged, "The object is deleted; no channel was created for it."),
            };
            let change = Change::of(effect, ObjectKind::Channel.name(), &name.name);
            changes.push(Change { namespace: name.namespace.clone(), message: message.to_owned(), ..change });
        }
        if self.head.channels.is_empty() && self.head.workspaces.is_empty() && changes.is_empty() {
            self.notes.push("The files have no objects of ohallo.eu.".to_owned());
        }
        Report::new(depth, base, changes, unchanged, self.notes)
    }
}

/// An object whose deletion deletes channels, or a file that decides about such objects.
fn may_be_destroyed(identity: &Identity, message: &str) -> Change {
    Change {
        namespace: identity.namespace.clone(),
        message: message.to_owned(),
        ..Change::of(Effect::MayBeDestroyed, &identity.kind, &identity.name)
    }
}

/// Channels that other programs may delete from now on.
fn deleted_by_others(before: &Before, head: &Manifests, cluster_state: &ClusterState) -> Vec<Change> {
    let mut changes = Vec::new();
    for (name, manifest) in &head.channels {
        let reasons = new_reasons(before.channels.get(name), manifest);
        let Some(channel) = cluster_state.channels.get(name).filter(|channel| may_be_deleted(channel)) else {
            continue;
        };
        for reason in reasons {
            changes.push(channel_change(
                Effect::MayBeDestroyed,
                channel,
                name,
                format!("{reason}, and then the operator the channel."),
            ));
        }
    }
    changes
}

/// What an operator that works remembers of the Channels: the credentials that it sent last.
fn memories(
    depth: Depth,
    before: &BTreeMap<NamespacedName, Channel>,
    cluster_state: &ClusterState,
) -> BTreeMap<NamespacedName, InMemoryState> {
    let one = |(name, channel): (&NamespacedName, &Channel)| {
        let sent = channel.status.as_ref().and_then(|status| status.credentials.as_ref());
        let pushed = match credentials_of(channel, &name.namespace, cluster_state) {
            DesiredCredentials::Ready { digest, sources, .. } => {
                let is_known = depth == Depth::Ohallo && sources.iter().all(|source| source.uid != "unknown");
                (!is_known || sent.is_some_and(|sent| sent.sources == sources)).then_some(digest)
            }
            DesiredCredentials::None | DesiredCredentials::Invalid(_) => None,
        };
        (name.clone(), remembered(channel, pushed))
    };
    before.iter().map(one).collect()
}

/// The Secrets that Channels name and that are not known.
fn unread<'a>(known: &Secrets, channels: impl Iterator<Item = &'a Channel>) -> Vec<String> {
    let mut names = BTreeSet::new();
    for channel in channels {
        let namespace = channel.namespace().unwrap_or_default();
        let named = secrets(channel).map(|secret| NamespacedName::new(&namespace, secret));
        names.extend(named.filter(|name| !known.0.contains_key(name)));
    }
    names.into_iter().map(|name| format!("{}/{}", name.namespace, name.name)).collect()
}

/// Workspaces whose deletion waits for Channels.
fn workspaces_that_wait(before: &Before, removed: &Removed, cluster_state: &ClusterState) -> Vec<Change> {
    let mut changes = Vec::new();
    for key in removed.workspaces.iter().filter(|key| before.workspaces.contains_key(key)) {
        let users = cluster_state.channels.iter().filter(|(_, channel)| {
            WorkspaceKey::of(channel) == *key && channel.metadata.deletion_timestamp.is_none()
        });
        let names: Vec<_> = users.map(|(name, _)| name.name.as_str()).collect();
        if names.is_empty() {
            continue;
        }
        let names = list(names.into_iter(), MAX_NAMES);
        let message = format!("The deletion waits while Channels use it: {names}.");
        let change = Change::of(Effect::Waits, key.kind().name(), &key.name);
        changes.push(Change { namespace: key.namespace.clone().unwrap_or_default(), message, ..change });
    }
    changes
}
