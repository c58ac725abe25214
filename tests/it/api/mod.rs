//! The API of the CRDs: schema, defaults, validation rules.

pub mod crds;
pub mod update_validation;
pub mod validation;
