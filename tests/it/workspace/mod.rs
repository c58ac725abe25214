//! Workspaces and ClusterWorkspaces.

pub mod api_keys;
pub mod cluster_workspaces;
pub mod lifecycle;
