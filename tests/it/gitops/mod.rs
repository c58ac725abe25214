//! What GitOps tools do with our kinds: apply again and again, wait, prune in any order.

mod apply;
mod flux;
mod git;
mod pages;
mod prune;
mod waves;
