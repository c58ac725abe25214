//! Decisions about one Channel.

pub mod binding;
pub mod config;
pub mod conflict;
pub mod consistency;
pub mod credentials;
pub mod effect;
#[cfg(feature = "fixtures")]
pub mod fixtures;
pub mod freshness;
pub mod in_memory_state;
pub mod last_seen;
pub mod model;
pub mod notice;
pub mod object_cache;
pub mod observation;
pub mod orphan;
pub mod persisted;
pub mod plan;
pub mod settled;
pub mod spec;
pub mod state;
pub mod status;
pub mod stored;
pub mod transition;
pub mod triggers;
pub mod write_ahead;
