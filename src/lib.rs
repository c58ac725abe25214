//! A Kubernetes operator for oHallo channels.

pub mod clock;
pub mod metrics;
pub mod ohallo;
pub mod secret;
pub mod serve;
pub mod settings;
pub mod telemetry;
