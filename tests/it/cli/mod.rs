//! `kubectl-ohallo` as people and pipelines run it: the built program, and the answers of the real API server.

mod pipelines;
pub mod support;
mod validate;
