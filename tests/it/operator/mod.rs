//! The operator as a process: flags, signals, logs, metrics, traces, permissions, cost.

pub mod budget;
pub mod load;
pub mod logs;
pub mod metrics;
pub mod permissions;
pub mod process;
pub mod traces;
