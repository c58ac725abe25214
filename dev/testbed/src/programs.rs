//! Builds programs of this project with cargo, for those who run them as users do.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// How to build it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    Dev,
    Release,
}

/// Builds the operator, or finds that it is built; reports it on stderr.
///
/// # Errors
/// cargo can't build it; cargo's output is on stderr by then.
pub fn operator(profile: Profile) -> Result<PathBuf> {
    eprintln!("building the operator (a minute or more the first time)…");
    program("ohallo-operator", profile)
}

/// The same with any program of the project.
///
/// # Errors
/// As of [`operator`].
pub fn program(name: &str, profile: Profile) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--bin", name, "--message-format=json-render-diagnostics"]);
    match profile {
        // Without --package, which would build its dependencies again, with fewer features than tests have.
        Profile::Dev => {}
        // As it is published.
        Profile::Release => drop(command.args(["--release", "--package", name])),
    }
    for (name, _) in std::env::vars_os().filter(|(name, _)| of_the_caller(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    let output = command
        .current_dir(WORKSPACE)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cargo can't be run")?;
    ensure!(output.status.success(), "{name} could not be built");
    let messages = String::from_utf8_lossy(&output.stdout);
    let program = messages.lines().rev().find_map(|message| built(name, message));
    program.context("cargo built no program")
}

/// Whether `cargo run` has set it for the program that it ran. Some build scripts watch these: each of our builds
/// would then undo the one before.
fn of_the_caller(name: &str) -> bool {
    let prefixes = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

fn built(name: &str, message: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    (message.get("target")?.get("name")? == name).then_some(())?;
    Some(message.get("executable")?.as_str()?.into())
}
