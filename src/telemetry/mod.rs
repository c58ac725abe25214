//! Logs, traces, metrics, and the HTTP server for probes and scrapes.

pub mod calls;
pub mod http_server;
pub mod logs;
pub mod metrics;
pub mod object_counts;
pub mod snapshot;
pub mod traces;
