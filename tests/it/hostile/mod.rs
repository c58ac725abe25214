//! What a hostile tenant may write, and what it must not gain or break by it.

pub mod availability;
pub mod fairness;
pub mod inputs;
pub mod memory;
pub mod ownership;
pub mod secrecy;
