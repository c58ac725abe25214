//! What the documents say is so.

mod commands;
mod links;
mod manifests;
mod pages;
mod reference;
