//! The image in pods, on a real node. Each test needs namespaces of its own, which `testbed node run` creates; run
//! them with `.ci/full node`.

mod availability;
mod cluster;
mod install;
mod memory;
mod token;
mod upgrade;
