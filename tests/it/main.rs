//! The operator against a real API server and the stand-in oHallo over real HTTP. One control plane for all tests;
//! each test has its own namespace, its own stand-in and its own operator.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers as well"
)]

mod acts;
mod answers;
mod binary;
mod budget;
mod calls;
mod canary;
mod channel;
mod cluster_workspaces;
mod crds;
mod deletion;
mod docs;
mod faults;
mod gitops;
mod helm;
mod history;
mod hostile;
mod install;
mod invariants;
mod kill;
mod kstatus;
mod leaks;
mod lease;
mod logs;
mod metrics;
mod misoperation;
mod monitoring;
mod ownership;
mod parting;
mod permissions;
mod policy;
mod races;
mod rbac;
mod reasons;
mod replicas;
mod rig;
mod rules;
mod rules_update;
mod secrets;
mod tenants;
mod traces;
mod unknown;
mod workspace_keys;
mod workspaces;
