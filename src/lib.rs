//! A Kubernetes operator for oHallo channels.

pub mod api;
pub mod channel;
pub mod clock;
pub mod conditions;
pub mod context;
pub mod error;
pub mod index;
pub mod metrics;
pub mod ohallo;
pub mod operator;
pub mod retry;
pub mod secret;
pub mod secrets;
pub mod serve;
pub mod settings;
pub mod telemetry;
pub mod workspace;

mod census;
mod watch;

pub use operator::{RunError, run, run_with};
