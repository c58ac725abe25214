// I/O
//! The fault matrix: each row, and the tests that put its fault in. `docs/faults.md` is made of it.

mod cluster;
mod lost;
mod mix;
mod objects;
mod ohallo;
mod orphans;
mod outage;
mod own;
mod poison;
mod refused;
mod restore;
mod rows;
mod surroundings;
mod tls;
