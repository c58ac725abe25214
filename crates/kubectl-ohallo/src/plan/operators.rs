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
#[derive(Debug)]
pub enum Operators {
    /// Deployments may not be read.
    Unread,
    Known(Vec<Served>),
}

// === impl Operators ===

impl Operators {
    /// # Errors
    /// The API server can't be reached.
    pub async fn read(cluster: &Cluster) -> Result<Self, Failure> {
        Ok(match installed::operators(cluster).await? {
            None => Self::Unread,
            Some(found) => Self::Known(found.into_iter().map(|operator| operator.served).collect()),
        })
    }

    /// What is assumed without a known operator. One that runs outside of the cluster has no Deployment.
    pub fn note(&self) -> Option<String> {
        let why = match self {
            Self::Unread => "Deployments may not be read",
            Self::Known(all) if all.is_empty() => "The cluster has no Deployment of an operator",
            Self::Known(_) => return None,
        };
        Some(format!("{why}, so an operator is assumed to serve every object."))
    }

    /// Whether none of them serves this Channel. Without any that are known, one may.
    pub fn none_serves(&self, channel: &Channel) -> bool {
        match self {
            Self::Unread => false,
            Self::Known(all) => !all.is_empty() && !all.iter().any(|served| serves(served, channel)),
        }
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
        for (operators, unserved, note) in [
            (Operators::Unread, false, true),
            (Operators::Known(vec![]), false, true),
            (Operators::Known(vec![served(&["b"], false)]), true, false),
        ] {
            assert_eq!((operators.none_serves(&channel), operators.note().is_some()), (unserved, note));
        }
    }
}
