//! Nothing but dependencies: see `Cargo.toml`.
//!
//! cargo gives a crate the features that any selected package asks for. Tests ask for more than programs, so without this
//! crate `cargo test` would build tokio, kube and all others again, and each test that builds a program a third time.
//! Releases are built with `--package`, which leaves this crate out.
