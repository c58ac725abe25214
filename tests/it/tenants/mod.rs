//! What a tenant who means harm may write, and what it must not gain or spoil by it.

mod availability;
mod cgroup;
mod fairness;
mod memory;
pub mod ownership;
mod secrecy;
