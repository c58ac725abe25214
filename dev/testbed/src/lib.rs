//! A real Kubernetes control plane (etcd, kube-apiserver, kube-controller-manager) as child processes, for tests,
//! the demo and the benchmark. Pods stay pending unless a [`Node`] runs beside it; everything else is the real thing.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use testbed::{ControlPlane, Options, User};
//! let control_plane = ControlPlane::start(Options::default()).await?;
//! let client = control_plane.client(User::Admin)?;
//! # Ok(())
//! # }
//! ```
//!
//! Without KUBEBUILDER_ASSETS or the store of setup-envtest, the first start ever builds the programs with Go, which takes
//! minutes; later ones take seconds and no network.
//! The processes and their folder end with this process, however it ends.

mod audit;
mod backup;
mod binaries;
mod control_plane;
mod envtest;
mod gobuild;
mod kubectl;
mod layout;
mod node;
mod npm;
mod process_reaper;
mod programs;
mod proxy;
mod ready;
mod tools;
mod user;

pub use audit::AuditEvent;
pub use backup::Backup;
pub use binaries::Binaries;
pub use control_plane::{ControlPlane, Options};
pub use kubectl::kubectl;
pub use node::{Memory, Missing, Node, Programs, isolated, pause_image, prerequisites};
pub use npm::yaml_language_server;
pub use process_reaper::Process;
pub use programs::{Profile, operator, program};
pub use proxy::{Act, Held, Proxy, Rule, When};
pub use tools::{tool, tool_source, tools};
pub use user::User;
