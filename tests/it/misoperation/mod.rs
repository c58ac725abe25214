//! Misoperation: whatever a user may write wrong into a manifest, made of the schema of the kind, so that a new field
//! is covered the day it is added. Each is refused with a sentence or told in a condition, harms nothing, and is made
//! good by the good manifest.

mod channels;
pub mod kept;
mod mutations;
mod schema;
mod sequence;
mod specs;
mod subject;
mod trial;
mod workspaces;
