//! The result of an API key check.

use crate::failure::Failure;
use crate::remote::RemoteWorkspace;

/// The result of an API key check.
pub enum KeyCheck {
    Suspended,
    /// The key is valid; the workspace is `None` where the key lacks the permission to read workspaces.
    Good {
        workspace: Option<RemoteWorkspace>,
        environment: Option<&'static str>,
    },
    Failed(Failure),
}

impl From<Failure> for KeyCheck {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}
