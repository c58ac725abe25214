//! The stand-in over real HTTP.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod admin;
mod dialects;
mod documented;
mod faults;
mod holds;
mod lag;
mod ledger;
mod provisioning;
mod rig;
mod tenants;
mod undocumented;
