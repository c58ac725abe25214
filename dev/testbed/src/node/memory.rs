//! What the kernel counts of a container's memory.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::isolation::{cgroup, hierarchies};

/// Bytes, as the control group of one container counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub current: u64,
    pub peak: u64,
    pub limit: u64,
}

// === impl Memory ===

impl Memory {
    pub(super) fn of(container: &str) -> Result<Self> {
        let (root, [current, peak, limit]) = files()?;
        let group = find(&root.join(cgroup()?), container).context("the container has no control group")?;
        let read = |file: &str| -> Result<u64> { Ok(fs::read_to_string(group.join(file))?.trim().parse()?) };
        Ok(Self { current: read(current)?, peak: read(peak)?, limit: read(limit)? })
    }
}

/// The hierarchy of the memory controller, and its files.
fn files() -> Result<(PathBuf, [&'static str; 3])> {
    let all = hierarchies();
    if let Some(version_2) = all.iter().find(|folder| folder.join("cgroup.controllers").is_file()) {
        return Ok((version_2.clone(), ["memory.current", "memory.peak", "memory.max"]));
    }
    let memory = all.into_iter().find(|folder| folder.ends_with("memory")).context("no memory controller")?;
    Ok((memory, ["memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.limit_in_bytes"]))
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let folders = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    let folders: Vec<_> = folders.collect();
    let own = folders.iter().find(|path| path.ends_with(name)).cloned();
    own.or_else(|| folders.iter().find_map(|path| find(path, name)))
}
