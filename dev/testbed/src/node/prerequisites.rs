//! What a node needs of the machine.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::isolation::hierarchies;

/// A program, and the Debian package that has it.
const PROGRAMS: [(&str, &str); 9] = [
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("iptables", "iptables"),
    ("conntrack", "conntrack"),
    ("ip", "iproute2"),
    ("buildah", "buildah"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("mount", "mount"),
];
/// Where distributions and the plugins' own project install them.
const CNI_FOLDERS: [&str; 3] = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];
const CNI_PACKAGE: &str = "containernetworking-plugins";
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// Why no node can run on this machine, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no node can run here: {0}")]
pub struct Missing(String);

/// Checks what a node needs, and installs missing packages where `apt-get` can.
///
/// # Errors
/// What is missing: root, control groups, or a package.
pub fn prerequisites() -> Result<(), Missing> {
    let root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    check(root, "it needs root")?;
    check(has_controllers(&hierarchies()), "/sys/fs/cgroup lacks the controllers cpu, memory and pids")?;
    let missing = missing_packages();
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing);
    let missing = missing_packages();
    check(missing.is_empty(), &format!("install {}", missing.join(", ")))?;
    Ok(())
}

fn check(holds: bool, otherwise: &str) -> Result<(), Missing> {
    if holds { Ok(()) } else { Err(Missing(otherwise.to_owned())) }
}

fn has_controllers(hierarchies: &[PathBuf]) -> bool {
    let joined =
        hierarchies.iter().find_map(|folder| fs::read_to_string(folder.join("cgroup.controllers")).ok());
    let listed = |name: &str| match &joined {
        Some(controllers) => controllers.split_whitespace().any(|other| other == name),
        // A folder may be for several: `cpu,cpuacct`.
        None => hierarchies
            .iter()
            .filter_map(|folder| folder.file_name()?.to_str())
            .any(|folder| folder.split(',').any(|other| other == name)),
    };
    CONTROLLERS.into_iter().all(listed)
}

fn missing_packages() -> Vec<&'static str> {
    let programs = PROGRAMS.iter().filter(|(program, _)| !on_path(program)).map(|(_, package)| *package);
    let mut missing: Vec<_> = programs.collect();
    if cni_plugins().is_err() {
        missing.push(CNI_PACKAGE);
    }
    missing.dedup();
    missing
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// The folder of the CNI plugins.
///
/// # Errors
/// There is none.
pub(super) fn cni_plugins() -> Result<PathBuf> {
    let folders = CNI_FOLDERS.into_iter().map(Path::new);
    let found = folders.into_iter().find(|folder| folder.join("bridge").is_file());
    found.map(Path::to_owned).with_context(|| format!("no CNI plugins: install {CNI_PACKAGE}"))
}

/// Whether it succeeded shows in what is missing afterwards.
fn install(packages: &[&str]) {
    eprintln!("testbed: installing {}…", packages.join(", "));
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let install = [["install", "--yes", "--quiet", "--no-install-recommends"].as_slice(), packages].concat();
    if !apt(&install) && apt(&["update", "--quiet"]) {
        apt(&install);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_control_groups_is_reported_in_one_sentence() {
        assert!(!has_controllers(&[]));
        let missing = check(false, "it needs root").unwrap_err();
        assert_eq!(missing.to_string(), "no node can run here: it needs root");
    }

    #[test]
    fn controllers_that_share_a_hierarchy_are_found() {
        let folders = ["/c/cpu,cpuacct", "/c/memory", "/c/pids"].map(PathBuf::from);
        assert!(has_controllers(&folders));
        assert!(!has_controllers(&folders[..2]));
    }
}
