//! Misoperation: whatever a user may write wrong into a manifest, generated from the schema of the kind, so that a new field
//! is covered the day it is added. Each is rejected with a sentence or reported in a condition, harms nothing, and is
//! good by the good manifest.

pub mod channels;
pub mod mutations;
pub mod sequence;
pub mod support;
pub mod workspaces;
