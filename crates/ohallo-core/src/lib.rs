//! Types and decisions of the ohallo-operator, without I/O, clocks or visible randomness.
//!
//! Time, responses and random numbers are arguments, so tests need no cluster.

pub mod api;
pub mod backoff;
pub mod channel;
pub mod classify;
pub mod conditions;
pub mod cooldown;
pub mod decoded_size;
pub mod event;
pub mod event_queue;
pub mod failure;
#[cfg(feature = "fixtures")]
pub mod fuzz;
pub mod index;
pub mod lease;
pub mod metadata_patch;
pub mod placeholder;
pub mod priority;
pub mod rate_limiter;
pub mod remote;
pub mod rights;
pub mod secret;
pub mod secret_content;
pub mod secret_id;
pub mod secret_version;
pub mod shortage;
pub mod small_set;
pub mod surrogates;
pub mod tally;
#[cfg(feature = "fixtures")]
pub mod test_clock;
pub mod text;
pub mod work_queue;
pub mod workspace;
