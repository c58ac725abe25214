//! kubectl, as the user has it.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail, ensure};

/// Runs kubectl with this kubeconfig and returns what it prints.
///
/// # Errors
/// There is no kubectl, or it failed: then with its output.
pub fn kubectl(kubeconfig: &Path, args: &[&str]) -> Result<String> {
    let ran = Command::new("kubectl").arg("--kubeconfig").arg(kubeconfig).args(args).output();
    let output = match ran {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("kubectl is missing: install it and put it on the PATH")
        }
        other => other?,
    };
    let reported = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "kubectl {} failed: {}", args.join(" "), reported.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
