//! A Kubernetes operator for oHallo channels: the I/O around the decisions of [`ohallo_core`].
//!
//! ```text
//!  a Channel, its Secrets or its Workspace changed, or its requeue time is due
//!         │
//!         ▼
//!    queue.rs, controller.rs   start what cooldown, rate limit and workers allow
//!         │                    (ohallo_core::work_queue decides)
//!         ▼
//!    kinds.rs, reconciler.rs   the shell of every kind: timeout, panics, error policy, log line, metrics
//!         │
//!         ▼
//!    channel/observe.rs        read the Secrets, the Workspace and the channel in oHallo
//!         │
//!         ▼
//!    ohallo_core::channel::plan  ◄───────────┐   a conclusion (nothing to do) or a step (something to do)
//!         │                                  │
//!         ├─ step ─► channel/execute.rs      │   one effect after the other, in the order of Step::effects
//!         │              │ answer            │
//!         │              ▼                   │
//!         │          ohallo_core::channel::transition   State::apply: all that an answer changes
//!         │
//!         ▼  a conclusion, or the first error
//!    ohallo_core::channel::status    conditions, events and the requeue time
//!         │
//!         ▼
//!    channel/run.rs            write the status, if it differs from the stored one; then the events
//! ```
//!
//! `channel/run.rs` holds this loop. A Workspace passes through fewer of these steps. [`ohallo_client`] calls oHallo. README.md explains how to
//! try, test and change the operator.

mod channel;
mod context;
mod controller;
mod kinds;
pub mod kubernetes;
pub mod manifest;
mod orphan_reports;
mod orphans;
mod queue;
mod reconciler;
mod run;
pub mod settings;
mod startup;
mod stores;
pub mod telemetry;
mod workspace;

pub use run::{RunError, run, run_with};
