//! The operator against a real API server and the stand-in oHallo over real HTTP. One control plane for all tests;
//! each test has its own namespace, its own stand-in and its own operator.

mod acts;
mod answers;
mod calls;
mod canary;
mod channel;
mod deletion;
mod kstatus;
mod ownership;
mod parting;
mod rig;
mod secrets;
mod unknown;
