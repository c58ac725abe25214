//! The operator against a real API server and the oHallo simulator over real HTTP. One control plane for all tests;
//! each test has its own namespace, its own simulator and its own operator.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers as well"
)]

mod api;
mod channel;
mod cli;
mod deploy;
mod docs;
mod faults;
mod gitops;
mod hostile;
mod misoperation;
mod monitoring;
mod node;
mod operator;
mod replicas;
mod structure;
mod support;
mod workspace;
