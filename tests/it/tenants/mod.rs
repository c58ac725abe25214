//! What one tenant can do to another.

pub mod ownership;
