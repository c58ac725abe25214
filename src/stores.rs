//! The caches that the watches fill: one store for each kind.

use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, Store};

use ohallo_core::api::channel::Channel;
use ohallo_core::api::workspace::{ClusterWorkspace, Workspace};
use ohallo_core::work_queue::ObjectKey;

/// The stores, as every reconcile reads them.
pub struct Stores {
    pub channels: Store<Channel>,
    pub workspaces: Store<Workspace>,
    pub cluster_workspaces: Store<ClusterWorkspace>,
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
}

/// The other ends of the stores, for the watches.
pub struct Writers {
    pub channels: Writer<Channel>,
    pub workspaces: Writer<Workspace>,
    pub cluster_workspaces: Writer<ClusterWorkspace>,
    pub namespaces: Writer<PartialObjectMeta<Namespace>>,
}

/// Empty stores.
pub fn stores() -> (Stores, Writers) {
    let (channels, channel_writer) = reflector::store();
    let (workspaces, workspace_writer) = reflector::store();
    let (cluster_workspaces, cluster_writer) = reflector::store();
    let (namespaces, namespace_writer) = reflector::store();
    let writers = Writers {
        channels: channel_writer,
        workspaces: workspace_writer,
        cluster_workspaces: cluster_writer,
        namespaces: namespace_writer,
    };
    (Stores { channels, workspaces, cluster_workspaces, namespaces }, writers)
}

// === impl Stores ===

impl Stores {
    /// Every object that is reconciled; those that others depend on come first.
    pub fn keys(&self) -> Vec<ObjectKey> {
        let workspaces = self.workspaces.state();
        let clusters = self.cluster_workspaces.state();
        let channels = self.channels.state();
        let workspaces = workspaces
            .iter()
            .map(|it| ObjectKey::workspace(Some(&it.namespace().unwrap_or_default()), &it.name_any()));
        let clusters = clusters.iter().map(|it| ObjectKey::workspace(None, &it.name_any()));
        let channels =
            channels.iter().map(|it| ObjectKey::channel(&it.namespace().unwrap_or_default(), &it.name_any()));
        workspaces.chain(clusters).chain(channels).collect()
    }
}
