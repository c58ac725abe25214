//! The object that a command is about.

use std::fmt;
use std::str::FromStr;

use kube::api::DynamicObject;
use ohallo_core::api::{GROUP, ObjectKind};

use crate::cluster::{Cluster, failed, read};
use crate::failure::Failure;

/// A kind and a name: `support`, `workspace/default`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub kind: ObjectKind,
    pub name: String,
}

// === impl Target ===

impl Target {
    /// Reads it.
    ///
    /// # Errors
    /// It does not exist, or can't be read.
    pub async fn get(&self, cluster: &Cluster) -> Result<DynamicObject, Failure> {
        let api = cluster.api(self.kind);
        match read(async || api.get_opt(&self.name).await).await {
            Ok(Some(object)) => Ok(object),
            Ok(None) => Err(Failure::negative(format!("{} does not exist{}", self, self.place(cluster)))),
            Err(error) => Err(failed(&format!("{self} can't be read"), &error)),
        }
    }

    fn place(&self, cluster: &Cluster) -> String {
        if self.kind.is_namespaced() {
            format!(" in the namespace {}", cluster.namespace)
        } else {
            String::new()
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = text.split_once('/').unwrap_or(("channel", text));
        let kind = match kind.to_lowercase().as_str() {
            "channel" | "channels" | "chan" | "channels.ohallo.eu" => ObjectKind::Channel,
            "workspace" | "workspaces" | "workspaces.ohallo.eu" => ObjectKind::Workspace,
            "clusterworkspace" | "clusterworkspaces" | "clusterworkspaces.ohallo.eu" => {
                ObjectKind::ClusterWorkspace
            }
            other => {
                return Err(format!(
                    "{other} is no kind of {GROUP}: write NAME, channel/NAME or workspace/NAME"
                ));
            }
        };
        if !ohallo_core::api::is_name(name) {
            return Err("this is no name of an object".to_owned());
        }
        Ok(Self { kind, name: name.to_owned() })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.name)
    }
}
