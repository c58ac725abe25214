//! Where the documents' commands are run.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use testbed::{ControlPlane, User};

use crate::support::helm::{isolate, output_text};

/// A shell in a folder that has what the project's has, with the real kubectl and Helm.
pub struct Shell {
    folder: tempfile::TempDir,
    /// `$OHALLO_API_KEY`.
    pub key: String,
}

// === impl Shell ===

impl Shell {
    pub fn new(plane: &ControlPlane, namespace: &str) -> Self {
        let shell = Self { folder: tempfile::tempdir().unwrap(), key: String::new() };
        std::fs::copy(plane.kubeconfig(User::Admin), shell.file("kubeconfig")).unwrap();
        symlink(testbed::tool("helm").unwrap(), shell.file("helm")).unwrap();
        symlink(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy"), shell.file("deploy")).unwrap();
        shell.run(&format!("kubectl config set-context --current --namespace={namespace}"));
        shell
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn run(&self, command: &str) -> String {
        let path = format!("{}:{}", self.folder.path().display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(self.folder.path()).stdin(Stdio::null());
        shell.env("KUBECACHEDIR", self.file("kubectl-cache"));
        shell.env("KUBECONFIG", self.file("kubeconfig")).env("PATH", path).env("OHALLO_API_KEY", &self.key);
        isolate(&mut shell, self.folder.path());
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{command}: {}", output_text(&output));
        output_text(&output)
    }
}
