//! The simulator over real HTTP.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod admin;
mod dialects;
mod documented;
mod faults;
mod harness;
mod holds;
mod lag;
mod ledger;
mod provisioning;
mod tenants;
mod undocumented;
