//! What the tests of monitoring share.

pub mod compact_svg;
pub mod demo;
pub mod picture;
pub mod prometheus;
