//! Which Channels an operator serves, as the Deployments of the operators show.

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use ohallo_core::api::channel::Channel;
use ohallo_core::index::WorkspaceKey;

use crate::cluster::{Cluster, failed, list_if_allowed};
use crate::failure::Failure;

/// The flags that divide objects between operators. A label selector is not among them: an operator that has one may serve
/// the object.
#[derive(Debug, Default, PartialEq)]
struct Flags {
    namespaces: Vec<String>,
    cluster_workspaces: Option<bool>,
}

/// The operators of a cluster, where they may be read and there are some.
#[derive(Debug, Default)]
pub struct Operators(Option<Vec<Flags>>);

// === impl Operators ===

impl Operators {
    /// # Errors
    /// The API server can't be reached.
    pub async fn read(cluster: &Cluster) -> Result<Self, Failure> {
        let deployments: Api<Deployment> = Api::all(cluster.client.clone());
        let ours = ListParams::default().labels("app.kubernetes.io/name=ohallo-operator");
        let found = list_if_allowed(&deployments, &ours).await;
        let found = found.map_err(|error| failed("the Deployments can't be read", &error))?;
        // An operator that runs outside of the cluster has none.
        let found = found.filter(|found| !found.is_empty());
        Ok(Self(found.map(|found| found.iter().map(Flags::of).collect())))
    }

    /// Whether none of them serves this Channel. Without any that are known, one may.
    pub fn none_serves(&self, channel: &Channel) -> bool {
        self.0.as_ref().is_some_and(|all| !all.iter().any(|flags| flags.serves(channel)))
    }
}

// === impl Flags ===

impl Flags {
    fn of(deployment: &Deployment) -> Self {
        let mut flags = Self::default();
        let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        for container in pod.into_iter().flat_map(|pod| &pod.containers) {
            for variable in container.env.iter().flatten() {
                flags.set(&variable.name, variable.value.as_deref());
            }
            for argument in container.args.iter().chain(&container.command).flatten() {
                let (name, value) = argument
                    .split_once('=')
                    .map_or((argument.as_str(), None), |(name, value)| (name, Some(value)));
                flags.set(name, value);
            }
        }
        flags
    }

    fn set(&mut self, name: &str, value: Option<&str>) {
        match name {
            "--namespace" | "OHALLO_NAMESPACE" => {
                let names = value.unwrap_or_default().split(',').filter(|name| !name.is_empty());
                self.namespaces.extend(names.map(str::to_owned));
            }
            "--cluster-workspaces" | "OHALLO_CLUSTER_WORKSPACES" => {
                self.cluster_workspaces = Some(value != Some("false"));
            }
            _ => {}
        }
    }

    fn serves(&self, channel: &Channel) -> bool {
        let namespace = channel.namespace().unwrap_or_default();
        let everywhere = self.namespaces.is_empty();
        let workspaces =
            WorkspaceKey::of(channel).namespace.is_some() || self.cluster_workspaces.unwrap_or(everywhere);
        (everywhere || self.namespaces.contains(&namespace)) && workspaces
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn flags(container: Value) -> Flags {
        let deployment = json!({"spec": {"template": {"spec": {"containers": [container]}}}});
        let mut deployment = deployment;
        deployment["spec"]["selector"] = json!({});
        Flags::of(&serde_json::from_value(deployment).unwrap())
    }

    fn channel(namespace: &str, kind: &str) -> Channel {
        let metadata = json!({"name": "a", "namespace": namespace});
        let spec = json!({"workspaceRef": {"kind": kind, "name": "w"}});
        let mut object = json!({"metadata": metadata, "spec": spec});
        object["apiVersion"] = "ohallo.eu/v1alpha1".into();
        object["kind"] = "Channel".into();
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn the_flags_and_variables_of_an_operator_say_what_it_serves() {
        for (container, namespace, kind, served) in [
            (json!({"name": "o"}), "a", "Workspace", true),
            (json!({"name": "o"}), "a", "ClusterWorkspace", true),
            (json!({"name": "o", "args": ["--namespace=a", "--namespace=b"]}), "b", "Workspace", true),
            (json!({"name": "o", "args": ["--namespace=a,b"]}), "c", "Workspace", false),
            (json!({"name": "o", "args": ["--namespace=a"]}), "a", "ClusterWorkspace", false),
            (
                json!({"name": "o", "args": ["--namespace=a", "--cluster-workspaces"]}),
                "a",
                "ClusterWorkspace",
                true,
            ),
            (json!({"name": "o", "args": ["--cluster-workspaces=false"]}), "a", "ClusterWorkspace", false),
            (
                json!({"name": "o", "env": [{"name": "OHALLO_NAMESPACE", "value": "b"}]}),
                "a",
                "Workspace",
                false,
            ),
        ] {
            let flags = flags(container);
            assert_eq!(flags.serves(&channel(namespace, kind)), served, "{flags:?}");
        }
    }

    #[test]
    fn without_a_known_operator_a_channel_may_be_served() {
        let channel = channel("a", "Workspace");
        assert!(!Operators(None).none_serves(&channel));
        let elsewhere = Flags { namespaces: vec!["b".to_owned()], ..Flags::default() };
        assert!(Operators(Some(vec![elsewhere])).none_serves(&channel));
    }
}
