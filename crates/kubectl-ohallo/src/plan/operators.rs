//! Which Channels an operator serves, as the Deployments of the operators show.

use kube::ResourceExt;
use ohallo_core::api::channel::Channel;
use ohallo_core::index::WorkspaceKey;
use ohallo_core::rights::Served;

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::installed;

/// What the operators of a cluster serve, where that may be read and there are some. Label selectors are ignored: an operator
/// that has one may serve the object.
#[derive(Debug, Default)]
pub struct Operators(Option<Vec<Served>>);

// === impl Operators ===

impl Operators {
    /// # Errors
    /// The API server can't be reached.
    pub async fn read(cluster: &Cluster) -> Result<Self, Failure> {
        let found = installed::operators(cluster).await?;
        // An operator that runs outside of the cluster has none.
        let found = found.filter(|found| !found.is_empty());
        Ok(Self(found.map(|found| found.into_iter().map(|operator| operator.served).collect())))
    }

    /// Whether none of them serves this Channel. Without any that are known, one may.
    pub fn none_serves(&self, channel: &Channel) -> bool {
        self.0.as_ref().is_some_and(|all| !all.iter().any(|served| serves(served, channel)))
    }
}

fn serves(served: &Served, channel: &Channel) -> bool {
    let namespace = channel.namespace().unwrap_or_default();
    let workspaces = WorkspaceKey::of(channel).namespace.is_some() || served.cluster_workspaces;
    (served.namespaces.is_empty() || served.namespaces.contains(&namespace)) && workspaces
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn channel(namespace: &str, kind: &str) -> Channel {
        serde_json::from_value(json!({
            "apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel",
            "metadata": {"name": "a", "namespace": namespace},
            "spec": {"workspaceRef": {"kind": kind, "name": "w"}},
        }))
        .unwrap()
    }

    fn served(namespaces: &[&str], cluster_workspaces: bool) -> Served {
        let namespaces = namespaces.iter().map(|name| (*name).to_owned()).collect();
        Served { namespaces, cluster_workspaces, ..Served::default() }
    }

    #[test]
    fn an_operator_serves_its_namespaces_and_the_workspaces_of_its_kinds() {
        for (operator, namespace, kind, expected) in [
            (served(&[], true), "a", "Workspace", true),
            (served(&[], true), "a", "ClusterWorkspace", true),
            (served(&["a", "b"], false), "b", "Workspace", true),
            (served(&["a", "b"], false), "c", "Workspace", false),
            (served(&["a"], false), "a", "ClusterWorkspace", false),
            (served(&["a"], true), "a", "ClusterWorkspace", true),
            (served(&[], false), "a", "ClusterWorkspace", false),
        ] {
            assert_eq!(serves(&operator, &channel(namespace, kind)), expected, "{operator:?}");
        }
    }

    #[test]
    fn without_a_known_operator_a_channel_may_be_served() {
        let channel = channel("a", "Workspace");
        assert!(!Operators(None).none_serves(&channel));
        assert!(Operators(Some(vec![served(&["b"], false)])).none_serves(&channel));
    }
}
