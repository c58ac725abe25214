//! What a process holds of a Workspace and its API key, as the Channels of the Workspace see it.

use std::time::Instant;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::conditions::kind;
use crate::api::workspace::{AllowedNamespaces, WorkspaceStatus};
use crate::conditions::{self, Status};
use crate::remote::Id;
use crate::secret::ApiKey;

/// The last valid key of a workspace. It has no `Debug`.
#[derive(Clone)]
pub struct CachedApiKey {
    /// The uid of the Workspace that the key was read for.
    pub uid: String,
    pub key: ApiKey,
    pub workspace_id: Id,
    /// When oHallo last refused to create a channel here.
    pub create_unsupported: Option<Instant>,
    /// A create of this process succeeded here: oHallo supports it, whatever it answers to another create.
    pub has_created: bool,
    /// The key has read a channel of this workspace: it can see the workspace's channels.
    pub has_read: bool,
    /// oHallo does not support the list of channels.
    pub list_unsupported: bool,
}

/// A Workspace or ClusterWorkspace, as its Channels see it.
pub struct WorkspaceSnapshot {
    pub uid: String,
    pub generation: Option<i64>,
    pub suspended: bool,
    pub terminating: bool,
    pub status: WorkspaceStatus,
    /// `None` for a Workspace.
    pub allowed: Option<AllowedNamespaces>,
}

/// What the Ready condition of a Workspace means to its Channels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WorkspaceReadiness {
    /// Not checked yet.
    Unreported,
    /// Ready, or not known not to be: calls show it.
    Usable,
    /// The reason matters, because the Channels report it.
    NotReady { reason: String },
}

// The crate does not compile if the type implements one of these traits: it holds an API key.
const _: () = {
    use crate::secret::no_debug::{No as _, Told};
    assert!(
        !Told::<CachedApiKey>::DEBUG && !Told::<CachedApiKey>::DISPLAY && !Told::<CachedApiKey>::SERIALIZE
    );
};

// === impl WorkspaceReadiness ===

impl WorkspaceReadiness {
    pub fn of(conditions: &[Condition]) -> Self {
        match conditions::find(conditions, kind::READY) {
            None => Self::Unreported,
            Some(ready) if Status::of(ready) == Status::False => {
                Self::NotReady { reason: ready.reason.clone() }
            }
            Some(_) => Self::Usable,
        }
    }
}
