//! The object that a command is about.

use std::fmt;
use std::str::FromStr;

use kube::api::{Api, ApiResource, DynamicObject};
use ohallo_core::api::GROUP;
use ohallo_core::api::channel::Channel;
use ohallo_core::api::workspace::{ClusterWorkspace, Workspace};

use crate::cluster::{Cluster, failed, read};
use crate::failure::Failure;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Channel,
    Workspace,
    ClusterWorkspace,
}

/// A kind and a name: `support`, `workspace/default`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub kind: Kind,
    pub name: String,
}

// === impl Kind ===

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Channel => "Channel",
            Self::Workspace => "Workspace",
            Self::ClusterWorkspace => "ClusterWorkspace",
        }
    }

    fn resource(self) -> ApiResource {
        match self {
            Self::Channel => ApiResource::erase::<Channel>(&()),
            Self::Workspace => ApiResource::erase::<Workspace>(&()),
            Self::ClusterWorkspace => ApiResource::erase::<ClusterWorkspace>(&()),
        }
    }
}

// === impl Target ===

impl Target {
    pub fn api(&self, cluster: &Cluster) -> Api<DynamicObject> {
        let resource = self.kind.resource();
        match self.kind {
            Kind::ClusterWorkspace => Api::all_with(cluster.client.clone(), &resource),
            Kind::Channel | Kind::Workspace => {
                Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource)
            }
        }
    }

    /// Reads it.
    ///
    /// # Errors
    /// It does not exist, or can't be read.
    pub async fn get(&self, cluster: &Cluster) -> Result<DynamicObject, Failure> {
        let api = self.api(cluster);
        match read(async || api.get_opt(&self.name).await).await {
            Ok(Some(object)) => Ok(object),
            Ok(None) => Err(Failure::negative(format!("{} does not exist{}", self, self.place(cluster)))),
            Err(error) => Err(failed(&format!("{self} can't be read"), &error)),
        }
    }

    fn place(&self, cluster: &Cluster) -> String {
        match self.kind {
            Kind::ClusterWorkspace => String::new(),
            Kind::Channel | Kind::Workspace => format!(" in the namespace {}", cluster.namespace),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = text.split_once('/').unwrap_or(("channel", text));
        let kind = match kind.to_lowercase().as_str() {
            "channel" | "channels" | "chan" | "channels.ohallo.eu" => Kind::Channel,
            "workspace" | "workspaces" | "workspaces.ohallo.eu" => Kind::Workspace,
            "clusterworkspace" | "clusterworkspaces" | "clusterworkspaces.ohallo.eu" => {
                Kind::ClusterWorkspace
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
        write!(f, "{} {}", self.kind.as_str(), self.name)
    }
}
