// pure
//! The oHallo API: what it says ([`types`]), what an answer means ([`answer`]), how often it may be asked
//! ([`limiter`]) and the calls themselves ([`client`]).

pub mod answer;
pub mod client;
pub mod limiter;
pub mod surrogates;
pub mod types;

pub use answer::{ApiError, Class, Kind, Operation};
pub use client::{CallError, Caller, Client, CreatePermit, NotYet, Options, Permit, Session, SetupError};
pub use limiter::{Lane, Refusal};
pub use types::{Changes, Id, NewChannel, RemoteChannel, RemoteWorkspace};
