//! Reads the inputs of a reconcile from the caches, without a call.

use kube::ResourceExt;

use crate::context::{Context, object_ref};
use ohallo_core::api::channel::{Channel, ChannelStatus};
use ohallo_core::channel::model::Predecessor;
use ohallo_core::channel::plan::delete;
use ohallo_core::channel::triggers::Triggers;
use ohallo_core::channel::workspace_access::Facts;
use ohallo_core::index::{NamespacedName, WorkspaceKey};
use ohallo_core::workspace::cached::{WorkspaceReadiness, WorkspaceSnapshot};

/// What the caches hold of the Workspace of a Channel with this status.
pub fn workspace_facts<'a>(
    ctx: &Context,
    workspace: &'a WorkspaceKey,
    snapshot: Option<&'a WorkspaceSnapshot>,
    channel: &'a Channel,
    status: Option<&ChannelStatus>,
) -> Facts<'a> {
    let namespace = channel.metadata.namespace.as_deref().unwrap_or_default();
    let of_cluster = snapshot.is_some_and(|snapshot| snapshot.allowed.is_some());
    Facts {
        workspace,
        snapshot,
        key: ctx.cached_key(workspace),
        key_check_requested: ctx.key_check_requested(workspace),
        serves_cluster_workspaces: ctx.settings.serves_cluster_workspaces(),
        namespace,
        labels: of_cluster.then(|| ctx.namespace_labels(namespace)).flatten(),
        terminating: channel.metadata.deletion_timestamp.is_some(),
        has_channel: status.is_some_and(|status| status.channel_id.is_some()),
    }
}

/// The inputs that trigger a reconcile of this object, as the caches hold them.
pub fn inputs(ctx: &Context, channel: &Channel) -> Triggers {
    let name = NamespacedName::of(channel);
    let handle = WorkspaceKey::of(channel);
    let uid = channel.uid().unwrap_or_default();
    let secrets = ohallo_core::index::secret_ids(channel);
    let bound = channel.status.as_ref().and_then(|status| status.bound_to(&uid));
    let id = bound.or(channel.spec.channel_id.as_deref());
    Triggers {
        own: Triggers::own(channel),
        secrets: secrets.iter().map(|secret| (*secret, ctx.secrets.version(*secret))).collect(),
        workspace: workspace_input(ctx, &handle, &name.namespace),
        key: Some(ctx.cached_key(&handle).map(|held| held.key.id())),
        conflict: id.is_some_and(|id| conflict(ctx, id, &name, &uid)),
        rivals: bound
            .filter(|_| channel.metadata.deletion_timestamp.is_some())
            .map_or(0, |id| rivals(ctx, id, &name)),
    }
}

/// Whether another Channel holds the id and does not hand it over to this one.
fn conflict(ctx: &Context, id: &str, name: &NamespacedName, uid: &str) -> bool {
    let owned = ctx.index().owner(id, name, uid).is_some();
    owned && predecessor(ctx, id, name).is_none()
}

/// A hash of what a deletion waits for.
fn rivals(ctx: &Context, id: &str, name: &NamespacedName) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    ctx.index().rivals(id, name).hash(&mut hasher);
    hasher.finish()
}

fn workspace_input(ctx: &Context, handle: &WorkspaceKey, namespace: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    let lookup = ctx.workspace_snapshot(handle);
    if let Some(lookup) = &lookup {
        (&lookup.uid, lookup.generation, lookup.terminating).hash(&mut hasher);
        // Whether the cache shows the check of this process yet requires no new call.
        let held = ctx.cached_key(handle).is_some_and(|held| held.uid == lookup.uid);
        let readiness = match WorkspaceReadiness::of(&lookup.status.conditions) {
            WorkspaceReadiness::Unreported if held => WorkspaceReadiness::Usable,
            readiness => readiness,
        };
        readiness.hash(&mut hasher);
        if lookup.allowed.is_some() {
            ctx.namespace_labels(namespace).hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// The terminating Channel of the same namespace that hands the id over to `me`.
pub fn predecessor(ctx: &Context, id: &str, me: &NamespacedName) -> Option<Predecessor> {
    let name = ctx.index().takes_over(id, me)?;
    let channel = ctx.stores.channels.get(&object_ref(&name))?;
    delete::as_predecessor(&channel)
}
