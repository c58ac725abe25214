// I/O
//! Finds etcd, kube-apiserver and kube-controller-manager, or builds them once from the Go modules that
//! `controlplane/go.mod` pins.

use std::env;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::keeper::tail;

const MODULE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/controlplane");
const GO_MOD: &str = include_str!("../controlplane/go.mod");
const GO_SUM: &str = include_str!("../controlplane/go.sum");
const PROGRESS_EVERY: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(250);

/// The three programs of a control plane.
#[derive(Clone, Debug)]
pub struct Binaries {
    pub etcd: PathBuf,
    pub apiserver: PathBuf,
    pub controller_manager: PathBuf,
}

struct Tool {
    name: &'static str,
    package: &'static str,
    /// What `go install` calls it.
    built_as: &'static str,
}

const ETCD: Tool = Tool { name: "etcd", package: "go.etcd.io/etcd/server/v3", built_as: "server" };
const APISERVER: Tool = Tool {
    name: "kube-apiserver",
    package: "k8s.io/kubernetes/cmd/kube-apiserver",
    built_as: "kube-apiserver",
};
const CONTROLLER_MANAGER: Tool = Tool {
    name: "kube-controller-manager",
    package: "k8s.io/kubernetes/cmd/kube-controller-manager",
    built_as: "kube-controller-manager",
};

// === impl Binaries ===

impl Binaries {
    /// Blocks, for minutes when something has to be built; says so on stderr. What `KUBEBUILDER_ASSETS` has is
    /// used as it is, the rest comes from the build's cache: `OHALLO_TESTBED_CACHE`, else the user's cache folder.
    ///
    /// # Errors
    /// A program is missing and can't be built: no Go, no network, no cache folder.
    pub fn find() -> Result<Self> {
        let assets = env::var_os("KUBEBUILDER_ASSETS").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        let cache = cache_dir()?;
        let find = |tool: &Tool| -> Result<PathBuf> {
            if let Some(given) = assets.as_ref().map(|dir| dir.join(tool.name)).filter(|path| path.is_file())
            {
                return Ok(given);
            }
            let built = cache.join(tool.name);
            if !built.is_file() {
                build(tool, &cache)?;
            }
            Ok(built)
        };
        Ok(Self {
            etcd: find(&ETCD)?,
            apiserver: find(&APISERVER)?,
            controller_manager: find(&CONTROLLER_MANAGER)?,
        })
    }
}

fn cache_dir() -> Result<PathBuf> {
    let dir = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let root = dir("OHALLO_TESTBED_CACHE")
        .or_else(|| dir("XDG_CACHE_HOME").map(|cache| cache.join("ohallo-operator")))
        .or_else(|| dir("HOME").map(|home| home.join(".cache/ohallo-operator")))
        .context("no cache folder: set OHALLO_TESTBED_CACHE")?;
    let digest = Sha256::new().chain_update(GO_MOD).chain_update(GO_SUM).finalize();
    let key: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Ok(std::path::absolute(root)?.join(format!("controlplane-{key}")))
}

fn build(tool: &Tool, cache: &Path) -> Result<()> {
    fs::create_dir_all(cache).context("the cache folder can't be made; set OHALLO_TESTBED_CACHE")?;
    let _lock = lock(cache)?;
    let target = cache.join(tool.name);
    if target.is_file() {
        return Ok(());
    }
    // Not one name for all: the go of a builder that was killed may still write to its own.
    let partial = cache.join(format!("partial-{}", std::process::id()));
    fs::create_dir_all(&partial)?;
    let built = build_into(&partial, tool).and_then(|path| Ok(fs::rename(path, target)?));
    fs::remove_dir_all(&partial)?;
    built
}

fn build_into(dir: &Path, tool: &Tool) -> Result<PathBuf> {
    let version = kubernetes_version()?;
    let log = dir.join("log");
    let go = go_install(tool, version, dir, File::create(&log)?)?;
    eprintln!(
        "testbed: building {} (Kubernetes {version}) from Go modules, once; all three take about 5 minutes…",
        tool.name
    );
    let status = wait(go, tool.name)?;
    if !status.success() {
        let text = fs::read_to_string(&log).unwrap_or_default();
        bail!("building {} failed ({status}); the end of Go's output:\n{}", tool.name, tail(&text));
    }
    Ok(dir.join(tool.built_as))
}

/// Held until the file is dropped, or its process is gone.
fn lock(cache: &Path) -> Result<File> {
    let file = File::options().create(true).write(true).truncate(false).open(cache.join("lock"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("testbed: another process builds the control plane; waiting for it…");
            file.lock()?;
        }
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    Ok(file)
}

fn go_install(tool: &Tool, version: &str, into: &Path, log: File) -> Result<Child> {
    let mut parts = version.trim_start_matches('v').split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let stamp = "k8s.io/component-base/version";
    // Without a version of its own the API server reports one that kubectl can't parse.
    let ldflags = format!(
        "-s -w -X {stamp}.gitVersion={version} -X {stamp}.gitMajor={major} -X {stamp}.gitMinor={minor}"
    );
    let started = Command::new("go")
        .args([
            "install",
            "-mod=readonly",
            "-buildvcs=false",
            "-trimpath",
            "-ldflags",
            &ldflags,
            tool.package,
        ])
        .current_dir(MODULE)
        .env("CGO_ENABLED", "0")
        .env("GOBIN", into)
        .env("GOWORK", "off")
        .env_remove("GOOS")
        .env_remove("GOARCH")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn();
    match started {
        Err(error) if error.kind() == ErrorKind::NotFound => bail!(
            "{} has to be built: install Go (the go command), or set KUBEBUILDER_ASSETS to a folder that has it",
            tool.name
        ),
        other => Ok(other?),
    }
}

fn wait(mut go: Child, name: &str) -> Result<ExitStatus> {
    let mut waited = Duration::ZERO;
    loop {
        if let Some(status) = go.try_wait()? {
            return Ok(status);
        }
        thread::sleep(POLL);
        waited += POLL;
        if waited.as_millis().is_multiple_of(PROGRESS_EVERY.as_millis()) {
            eprintln!("testbed: still building {name}, {} s", waited.as_secs());
        }
    }
}

fn kubernetes_version() -> Result<&'static str> {
    GO_MOD
        .lines()
        .map(|line| line.trim().trim_start_matches("require "))
        .find_map(|line| line.strip_prefix("k8s.io/kubernetes ")?.split_whitespace().next())
        .context("controlplane/go.mod requires no k8s.io/kubernetes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_one_that_go_mod_pins() {
        assert!(kubernetes_version().unwrap().starts_with("v1."));
    }
}
