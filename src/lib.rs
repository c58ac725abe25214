// I/O: the module list.
//! A Kubernetes operator for oHallo channels. The way of one reconcile:
//!
//! ```text
//!  a Channel, its Secrets or its Workspace changed, or its time has come
//!         │
//!         ▼
//!    work_queue.rs fair by namespace, API key and object; starts what its cooldown, key and
//!         │        the workers let run                                                         pure
//!         ▼
//!    controller.rs runs it on a worker                                                         I/O
//!         │
//!         ▼
//!    observe.rs    read the Secrets, the Workspace and the channel in oHallo                    I/O
//!         │
//!         ▼
//!    plan.rs  ◄──────────────┐   either a verdict (nothing to do) or a step (something to do)   pure
//!         │                  │
//!         ├─ step ─► act.rs ─┘   do it; its answer is what is planned with next                 I/O
//!         │
//!         ▼  a verdict, or the first error
//!    status.rs     conditions, events, and when to look again                                   pure
//!         │
//!         ▼
//!    mod.rs        write the status, if it differs from the one that is there                   I/O
//! ```
//!
//! `Ready` can only come from a pass that had nothing left to do, or whose last step's answer shows it. Workspaces go
//! the same way, in fewer steps. README.md says how to try, test and change it.

pub mod api;
pub mod channel;
pub mod clock;
pub mod conditions;
pub mod context;
pub mod decoded_size;
pub mod error;
pub mod events;
pub mod heavy;
pub mod index;
pub mod leader;
mod metadata_patch;
pub mod metrics;
pub mod ohallo;
pub mod operator;
pub mod retry;
pub mod secret;
pub mod secret_id;
pub mod secrets;
pub mod serve;
pub mod settings;
pub mod sieve;
pub mod telemetry;
pub mod text;
pub mod workspace;

mod census;
mod controller;
mod crds;
mod deadline;
#[cfg(test)]
mod hostile;
mod permissions;
mod prerequisites;
#[cfg(test)]
mod verdicts;
mod watch;
mod watches;
mod work_queue;

pub use operator::{RunError, run, run_with};
