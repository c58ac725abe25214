//! Reads and writes of the Kubernetes API.

pub mod api_server;
pub mod authorities;
pub mod error;
pub mod events;
pub mod guard;
pub mod leader;
pub mod multi_namespace_watch;
pub mod object_store;
pub mod reflectors;
pub mod response_sanitizer;
pub mod secrets;
