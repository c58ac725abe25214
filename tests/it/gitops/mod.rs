//! What GitOps tools do with our kinds: apply again and again, wait, prune in any order.

pub mod apply;
pub mod argocd;
pub mod flux;
pub mod health;
pub mod pages;
pub mod prune;
pub mod waves;
