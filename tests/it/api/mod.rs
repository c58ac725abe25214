//! The API of the CRDs: schema, defaults, validation rules.

pub mod crds;
pub mod server_features;
pub mod update_validation;
pub mod validation;
pub mod versions;
