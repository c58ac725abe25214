//! The built program.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use testbed::Profile;

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Where it is. Builds it where it is not built yet.
pub fn program() -> &'static PathBuf {
    PROGRAM.get_or_init(|| testbed::program("kubectl-ohallo", Profile::Dev).unwrap())
}

/// The program with nothing of the caller's environment that it reads.
pub fn command() -> Command {
    let mut command = Command::new(program());
    command.env_remove("KUBECONFIG").env_remove("NO_COLOR").stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub fn run(args: &[&str]) -> Output {
    command().args(args).output().unwrap()
}
