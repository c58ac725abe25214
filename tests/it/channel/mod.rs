//! Channels: each way of their life, and what every response of oHallo leads to.

pub mod create_responses;
pub mod credentials;
pub mod deletion;
pub mod deletion_edge_cases;
pub mod lifecycle;
pub mod ownership;
pub mod policies;
pub mod read_and_update_responses;
pub mod reasons;
pub mod unresolved_creates;
