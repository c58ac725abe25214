//! What the documents say is so.

mod commands;
mod links;
mod manifests;
pub mod pages;
mod parked;
mod reference;
mod shell;
