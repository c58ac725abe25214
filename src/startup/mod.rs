//! What must be there before the operator begins: its CustomResourceDefinitions and its permissions.

mod checks;
pub mod crds;
pub mod permissions;
pub mod schema;
