//! What the tests of misoperation share.

pub mod inputs;
pub mod schema;
pub mod spec_sequences;
pub mod subject;
pub mod trial;
