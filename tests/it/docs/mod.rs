//! What the documents say is so.

mod commands;
mod lent;
mod links;
mod manifests;
mod needles;
pub mod pages;
mod parked;
mod reference;
pub mod shell;
mod stories;
mod words;
