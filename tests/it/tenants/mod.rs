// I/O
//! Tenants who mean harm, or write one odd object.

mod cgroup;
mod memory;
