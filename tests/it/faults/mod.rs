// I/O
//! The fault matrix: each row, and the tests that put its fault in. `docs/contributing/faults.md` is made of it.

pub mod admission;
mod cluster;
mod lag;
mod lost;
mod mix;
mod objects;
mod ohallo;
mod orphans;
mod outage;
mod own;
mod poison;
mod refused;
mod restarts;
mod restore;
mod rows;
mod stored;
mod surroundings;
mod tls;
