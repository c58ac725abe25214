//! Leader election, and what happens when a leader stops.

pub mod leadership;
pub mod lease;
pub mod lease_races;
