//! Prerequisites that the operator checks before it starts: its CustomResourceDefinitions and its permissions.

mod checks;
pub mod crds;
pub mod permissions;
pub mod schema;
