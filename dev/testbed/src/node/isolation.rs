//! Runs a command where a node can't reach anything: in its own network, mount and process namespaces. When the command
//! or its parent ends, however it ends, the kernel ends every process in them and removes their mounts and devices.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

const SCRIPT: &str = include_str!("isolation.sh");
/// Where CNI plugins keep results, whatever their configuration says.
const CNI_STATE: &str = "/var/lib/cni";
const CGROUPS: &str = "/sys/fs/cgroup";
const CGROUP_PREFIX: &str = "ohallo-testbed-";
const CGROUP_VARIABLE: &str = "OHALLO_TESTBED_CGROUP";
const OUTSIDE_VARIABLE: &str = "OHALLO_TESTBED_OUTSIDE";

/// Control groups of the node's pods; removed when dropped. Those of a run that was killed are removed by the next one.
struct Cgroup {
    name: String,
}

/// Runs the command and returns its exit status. Needs what [`super::prerequisites`] checks, and blocks: the thread must
/// live as long as the command.
///
/// # Errors
/// The namespaces or the control groups can't be created.
pub fn isolated(command: &[OsString]) -> Result<ExitStatus> {
    remove_stale_cgroups();
    let cgroup = Cgroup::create()?;
    let created = !Path::new(CNI_STATE).exists();
    fs::create_dir_all(CNI_STATE)?;
    // The parent's end reaches unshare, whose end reaches the first process of the namespaces.
    let mut outer = Command::new("setpriv");
    outer.args(["--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"]);
    outer.args(["--mount-proc", "--propagation", "private", "sh", "-c", SCRIPT, "testbed"]).args(command);
    outer
        .env(CGROUP_VARIABLE, &cgroup.name)
        .env(OUTSIDE_VARIABLE, network_namespace()?)
        .env("TMPDIR", "/dev/shm");
    let status = outer.status().context("setpriv and unshare are needed: install util-linux");
    if created {
        // Not ours to remove where another program has used it since.
        let _ = fs::remove_dir(CNI_STATE);
    }
    status
}

/// # Errors
/// This process shares the machine's network.
pub(super) fn ensure_isolated() -> Result<()> {
    let outside = env::var_os(OUTSIDE_VARIABLE);
    ensure!(
        outside.is_some_and(|outside| network_namespace().is_ok_and(|inside| inside != outside)),
        "a node runs only in namespaces of its own: cargo run --bin testbed -- node run -- COMMAND"
    );
    Ok(())
}

/// The name of the control group that the node's pods belong to.
pub(super) fn cgroup() -> Result<String> {
    env::var(CGROUP_VARIABLE).context("this process has no control group for pods")
}

fn network_namespace() -> Result<OsString> {
    Ok(fs::read_link("/proc/self/ns/net")?.into_os_string())
}

/// The folders in which control groups are created: one for each controller in version 1, a single one in version 2.
pub(super) fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new(CGROUPS);
    if root.join("cgroup.controllers").is_file() {
        return vec![root.to_owned()];
    }
    let folders = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    // Links such as `cpu` lead to folders that are listed as well; one of version 2 may be beside them, for systemd alone.
    let version_1 = |path: &PathBuf| {
        let has = |file: &str| path.join(file).is_file();
        !path.is_symlink() && has("cgroup.procs") && !has("cgroup.controllers")
    };
    folders.filter(version_1).collect()
}

fn remove_stale_cgroups() {
    for hierarchy in hierarchies() {
        for entry in fs::read_dir(hierarchy).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let owner = name.to_str().and_then(|name| name.strip_prefix(CGROUP_PREFIX));
            if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
                let _ = remove_tree(&entry.path());
            }
        }
    }
}

/// Control groups are removed by the innermost first; their files need not be.
fn remove_tree(group: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

// === impl Cgroup ===

impl Cgroup {
    fn create() -> Result<Self> {
        let group = Self { name: format!("{CGROUP_PREFIX}{}", std::process::id()) };
        for hierarchy in hierarchies() {
            // In version 2 children have only the controllers that their parent passes on.
            if hierarchy.join("cgroup.controllers").is_file() {
                fs::write(hierarchy.join("cgroup.subtree_control"), "+cpu +cpuset +memory +pids")?;
            }
            let folder = hierarchy.join(&group.name);
            fs::create_dir(&folder).with_context(|| format!("{} can't be created", folder.display()))?;
        }
        Ok(group)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for hierarchy in hierarchies() {
            let folder = hierarchy.join(&self.name);
            // Processes that were killed leave their group a moment later.
            for _ in 0..100 {
                match remove_tree(&folder) {
                    Err(error) if error.kind() != ErrorKind::NotFound => sleep(Duration::from_millis(50)),
                    _ => break,
                }
            }
        }
    }
}
