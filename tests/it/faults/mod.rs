//! The fault matrix: each row, and the tests that put its fault in. `docs/contributing/faults.md` is generated from it.

pub mod api_server;
pub mod api_server_outage;
pub mod chaos;
pub mod crashes;
pub mod discarded_writes;
pub mod etcd_restore;
pub mod isolation;
pub mod lost_responses;
pub mod matrix;
pub mod network;
pub mod objects;
pub mod ohallo_api;
pub mod orphans;
pub mod rejected_writes;
pub mod restarts;
pub mod stale_reads;
