//! The kinds that the operator reconciles: which reconciler and which watch each has.

use std::sync::Arc;
use std::time::Instant;

use futures::future::{self, BoxFuture};
use kube::runtime::reflector::{Lookup, ObjectRef};

use crate::context::Context;
use crate::kubernetes::reflectors::Watches;
use crate::reconciler::{self, Reconciler};
use crate::stores::Writers;
use ohallo_client::Permit;
use ohallo_core::api::ObjectKind;
use ohallo_core::api::channel::Channel;
use ohallo_core::api::workspace::{ClusterWorkspace, Workspace};
use ohallo_core::backoff::Requeue;
use ohallo_core::work_queue::{ObjectKey, Resolved};

/// Reconciles an object with the reconciler of its kind.
pub async fn reconcile(ctx: &Arc<Context>, object: &ObjectKey, permit: Option<Permit>) -> Requeue {
    match object.kind {
        ObjectKind::Channel => reconcile_found::<Channel>(ctx, object, permit).await,
        ObjectKind::Workspace => reconcile_found::<Workspace>(ctx, object, permit).await,
        ObjectKind::ClusterWorkspace => reconcile_found::<ClusterWorkspace>(ctx, object, permit).await,
    }
}

/// Resolves an object for the work queue.
pub fn resolve(ctx: &Context, object: &ObjectKey, now: Instant) -> Resolved {
    match object.kind {
        ObjectKind::Channel => resolve_found::<Channel>(ctx, object, now),
        ObjectKind::Workspace => resolve_found::<Workspace>(ctx, object, now),
        ObjectKind::ClusterWorkspace => resolve_found::<ClusterWorkspace>(ctx, object, now),
    }
}

/// Watches every kind that is served, and what else the operator reads; never ends.
pub async fn watch(watches: &Watches<'_>, writers: Writers) {
    let Writers { channels, workspaces, cluster_workspaces, namespaces } = writers;
    let namespaced = async {
        tokio::join!(watches.channels(channels), watches.namespaced(workspaces), watches.secrets());
    };
    if watches.ctx.settings.serves_cluster_workspaces() {
        tokio::join!(namespaced, watches.cluster(cluster_workspaces), watches.namespaces(namespaces));
    } else {
        namespaced.await;
    }
}

/// The reference of an object in the store of its kind.
pub fn reference<K: Lookup<DynamicType = ()>>(object: &ObjectKey) -> ObjectRef<K> {
    let reference = ObjectRef::new(&object.name);
    match &object.namespace {
        Some(namespace) => reference.within(namespace),
        None => reference,
    }
}

/// Boxed: the future of a reconcile has some KiB, and each move of it would be a copy.
fn reconcile_found<'a, K: Reconciler>(
    ctx: &'a Arc<Context>,
    object: &ObjectKey,
    permit: Option<Permit>,
) -> BoxFuture<'a, Requeue> {
    match K::store(ctx).get(&reference(object)) {
        Some(found) => Box::pin(reconciler::reconcile(found, ctx, permit)),
        None => Box::pin(future::ready(Requeue::Never)),
    }
}

fn resolve_found<K: Reconciler>(ctx: &Context, object: &ObjectKey, now: Instant) -> Resolved {
    let found = K::store(ctx).get(&reference(object));
    found.map_or(Resolved::Gone, |found| found.resolve(ctx, now))
}
