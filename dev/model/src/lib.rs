//! The create, delete and ownership protocol as a model: two replicas, an API server, oHallo and people, each in small
//! steps, around the operator's own pure functions. docs/contributing/model.md says what it covers and how to run it.

#![expect(
    clippy::indexing_slicing,
    reason = "every index is a number of the model's own; a wrong one ends the check, which then fails"
)]

mod clock;
pub mod decide;
pub mod edits;
pub mod effects;
pub mod guards;
pub mod kubernetes;
pub mod lag;
pub mod model;
pub mod objects;
pub mod ohallo;
pub mod process;
pub mod properties;
pub mod real;
pub mod reconcile;
pub mod run;
pub mod scenarios;
pub mod state;
pub mod stored;
pub mod trace;
pub mod windows;
