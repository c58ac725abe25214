//! What the tests of the command line share.

pub mod installation;
pub mod pairs;
pub mod planner;
pub mod program;
pub mod server;
pub mod yaml_mutations;
