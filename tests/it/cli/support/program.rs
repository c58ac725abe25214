//! The built program.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use testbed::{Profile, User};

use crate::support::harness::{Harness, WAIT_TIMEOUT};
use crate::support::helm::output_text;

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

/// The program as an administrator, in the namespace of a test.
pub fn in_namespace(harness: &Harness) -> Command {
    let mut command = command();
    command.arg("--kubeconfig").arg(harness.plane.kubeconfig(User::Admin));
    command.args(["--namespace", &harness.namespace]);
    command
}

/// Runs a command to its end with this text on stdin.
pub fn with_stdin(mut command: Command, text: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// The end of a program that must end soon. One that does not is killed.
pub async fn ended(child: Child) -> Output {
    let id = child.id().to_string();
    let waiting = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    match tokio::time::timeout(WAIT_TIMEOUT / 2, waiting).await {
        Ok(output) => output.unwrap(),
        Err(_) => {
            Command::new("kill").args(["-KILL", &id]).status().unwrap();
            panic!("the program does not end");
        }
    }
}

/// What git prints in a folder; it must succeed.
pub fn git(folder: &Path, args: &[&str]) -> String {
    let identity = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"];
    let output = Command::new("git").arg("-C").arg(folder).args(identity).args(args).output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", output_text(&output));
    String::from_utf8(output.stdout).unwrap()
}
