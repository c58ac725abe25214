//! The archive of a release, as krew installs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use ohallo_client::clock;
use serde_json::json;
use testbed::User;

use crate::support::harness::Harness;
use crate::support::helm::output_text;

/// Where `deploy/release/kubectl` and `deploy/release/krew` have left what they make.
const ARCHIVES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/kubectl-archives");
const MAX_BYTES: u64 = 12_000_000;
const VERSION: &str = env!("CARGO_PKG_VERSION");

struct Installed {
    root: tempfile::TempDir,
}

// === impl Installed ===

impl Installed {
    fn by_krew() -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut krew = Command::new(testbed::tool("krew").unwrap());
        let manifest = format!("--manifest={ARCHIVES}/ohallo.yaml");
        let archive = format!("--archive={ARCHIVES}/kubectl-ohallo-linux-amd64.tar.gz");
        let output =
            krew.args(["install", &manifest, &archive]).env("KREW_ROOT", root.path()).output().unwrap();
        assert!(output.status.success(), "{}", output_text(&output));
        Self { root }
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join("bin")
    }

    fn run(&self, program: &str, args: &[&str]) -> Output {
        let path = format!("{}:{}", self.folder().display(), std::env::var("PATH").unwrap());
        Command::new(program).args(args).env("PATH", path).env_remove("KUBECONFIG").output().unwrap()
    }

    /// The files of the plugin.
    fn store(&self) -> PathBuf {
        self.root.path().join(format!("store/ohallo/v{VERSION}"))
    }
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", output_text(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
#[ignore = "needs the archives; .ci/full archives"]
fn krew_installs_the_archive_and_kubectl_runs_it() {
    let installed = Installed::by_krew();
    let version = stdout(&installed.run("kubectl", &["ohallo", "version", "--client"]));
    assert_eq!(version, format!("kubectl-ohallo {VERSION}\n"));
    for file in ["LICENSE", "kubectl_complete-ohallo", "k9s-plugins.yaml"] {
        assert!(installed.store().join(file).is_file(), "{file}");
    }
    let size = std::fs::metadata(installed.store().join("kubectl-ohallo")).unwrap().len();
    eprintln!("kubectl-ohallo has {size} bytes");
    assert!(size <= MAX_BYTES, "{size} bytes");
    let manifest = std::fs::read_to_string(Path::new(ARCHIVES).join("ohallo.yaml")).unwrap();
    let description =
        manifest.lines().find_map(|line| line.trim().strip_prefix("shortDescription: ")).unwrap();
    assert!(description.len() <= 50, "{description}");
}

#[test]
#[ignore = "needs the archives; .ci/full archives"]
fn it_starts_no_slower_than_kubectl() {
    let installed = Installed::by_krew();
    let ours = installed.folder().join("kubectl-ohallo");
    let fastest = |program: &str| -> Duration {
        let runs = (0..20).map(|_| {
            let begun = clock::instant();
            stdout(&installed.run(program, &["version", "--client"]));
            begun.elapsed()
        });
        runs.min().unwrap()
    };
    let (ours, theirs) = (fastest(ours.to_str().unwrap()), fastest("kubectl"));
    eprintln!("kubectl-ohallo starts in {ours:?}, kubectl in {theirs:?}");
    assert!(ours <= theirs, "{ours:?}, kubectl {theirs:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the archives; .ci/full archives"]
async fn kubectl_completes_commands_and_the_names_in_the_cluster() {
    let installed = Installed::by_krew();
    std::os::unix::fs::symlink(
        installed.store().join("kubectl_complete-ohallo"),
        installed.folder().join("kubectl_complete-ohallo"),
    )
    .unwrap();
    let commands = stdout(&installed.run("kubectl", &["__complete", "ohallo", "wh"]));
    assert!(commands.starts_with("why\t"), "{commands}");
    let harness = Harness::start().await;
    harness.ready("support-chat", json!({})).await;
    let kubeconfig = harness.plane.kubeconfig(User::Admin);
    let flags = ["--namespace", &harness.namespace, "--kubeconfig", kubeconfig.to_str().unwrap()];
    for (words, expected) in [(["why", "sup"], "support-chat"), (["why", "workspace/d"], "workspace/default")]
    {
        let args: Vec<_> =
            ["__complete", "ohallo", words[0]].into_iter().chain(flags).chain([words[1]]).collect();
        let names = stdout(&installed.run("kubectl", &args));
        assert!(names.lines().any(|line| line.trim() == expected), "{words:?}: {names}");
    }
    harness.finish().await;
}
