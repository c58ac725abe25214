//! Decisions about a Workspace or ClusterWorkspace.

pub mod access;
pub mod cached;
pub mod kind;
pub mod model;
pub mod status;
