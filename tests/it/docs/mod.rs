//! What the documents state is true.

pub mod changelog;
pub mod commands;
pub mod kubectl;
pub mod kubernetes_versions;
pub mod links;
pub mod manifests;
pub mod namespace_deletion;
pub mod pipelines;
pub mod reference;
pub mod remedies;
pub mod searchable_strings;
pub mod stories;
