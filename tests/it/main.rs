//! The operator against a real API server and the stand-in oHallo over real HTTP. One control plane for all tests;
//! each test has its own namespace, its own stand-in and its own operator.

mod acts;
mod answers;
mod canary;
mod channel;
mod cluster_workspaces;
mod crds;
mod deletion;
mod kstatus;
mod ownership;
mod parting;
mod policy;
mod rbac;
mod rig;
mod rules;
mod rules_update;
mod unknown;
mod workspace_keys;
mod workspaces;
