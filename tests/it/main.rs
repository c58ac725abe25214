//! The operator against a real API server and the stand-in oHallo over real HTTP. One control plane for all tests;
//! each test has its own namespace, its own stand-in and its own operator.

mod acts;
mod answers;
mod binary;
mod canary;
mod channel;
mod deletion;
mod install;
mod kstatus;
mod ownership;
mod parting;
mod policy;
mod rig;
mod unknown;
