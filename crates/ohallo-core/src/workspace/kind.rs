//! What Workspace and ClusterWorkspace have in common.

use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::ObjectKind;
use crate::api::workspace::{ApiKeyRef, ClusterWorkspace, Workspace, WorkspaceStatus};
use crate::index::{NamespacedName, WorkspaceKey};

/// A handle on an oHallo workspace.
pub trait WorkspaceKind:
    Resource<DynamicType = ()> + Clone + Debug + PartialEq + DeserializeOwned + Serialize + Send + Sync + 'static
{
    const KIND: ObjectKind;

    fn handle(&self) -> WorkspaceKey;
    fn workspace_id(&self) -> Option<&str>;
    fn key_ref(&self) -> Option<&ApiKeyRef>;
    fn suspended(&self) -> bool;
    fn status(&self) -> Option<&WorkspaceStatus>;
    fn set_status(&mut self, status: WorkspaceStatus);

    fn uid_or_default(&self) -> String {
        self.meta().uid.clone().unwrap_or_default()
    }

    /// The Secret with the API key: in the namespace of a Workspace, or in the operator's namespace for a ClusterWorkspace.
    fn key_secret(&self, operator_namespace: &str) -> Option<NamespacedName> {
        let namespace = self.meta().namespace.as_deref().unwrap_or(operator_namespace);
        Some(NamespacedName::new(namespace, &self.key_ref()?.name))
    }

    /// The same object with another status, to be sent.
    fn with_status(&self, status: WorkspaceStatus) -> Self {
        let mut object = self.clone();
        let metadata: &mut ObjectMeta = object.meta_mut();
        metadata.managed_fields = None;
        object.set_status(status);
        object
    }
}

impl WorkspaceKind for Workspace {
    const KIND: ObjectKind = ObjectKind::Workspace;

    fn handle(&self) -> WorkspaceKey {
        WorkspaceKey { namespace: Some(self.namespace().unwrap_or_default()), name: self.name_any() }
    }
    fn workspace_id(&self) -> Option<&str> {
        self.spec.workspace_id.as_deref()
    }
    fn key_ref(&self) -> Option<&ApiKeyRef> {
        self.spec.api_key_secret_ref.as_ref()
    }
    fn suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }
    fn status(&self) -> Option<&WorkspaceStatus> {
        self.status.as_ref()
    }
    fn set_status(&mut self, status: WorkspaceStatus) {
        self.status = Some(status);
    }
}

impl WorkspaceKind for ClusterWorkspace {
    const KIND: ObjectKind = ObjectKind::ClusterWorkspace;

    fn handle(&self) -> WorkspaceKey {
        WorkspaceKey { namespace: None, name: self.name_any() }
    }
    fn workspace_id(&self) -> Option<&str> {
        self.spec.workspace_id.as_deref()
    }
    fn key_ref(&self) -> Option<&ApiKeyRef> {
        self.spec.api_key_secret_ref.as_ref()
    }
    fn suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }
    fn status(&self) -> Option<&WorkspaceStatus> {
        self.status.as_ref()
    }
    fn set_status(&mut self, status: WorkspaceStatus) {
        self.status = Some(status);
    }
}
