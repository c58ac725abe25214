//! What the check of a workspace found.

use crate::failure::Failure;
use crate::remote::RemoteWorkspace;

/// What a look at a workspace found.
pub enum KeyCheck {
    Suspended,
    /// The key reads the workspace; `None` where it may not read workspaces.
    Good {
        workspace: Option<RemoteWorkspace>,
        environment: Option<&'static str>,
    },
    Failed(Failure),
}
