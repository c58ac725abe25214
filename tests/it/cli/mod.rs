//! `kubectl-ohallo` as people and pipelines run it: the built program, and the answers of the real API server.

mod connection;
mod diagnosis;
mod distribution;
mod editor;
mod on_call;
mod pipelines;
mod plan;
mod plan_pairs;
pub mod rights;
mod scale;
mod schema;
pub mod support;
mod transfer;
mod validate;
