//! A memory limit that the kernel enforces, as the kubelet sets it.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// The limit of the chart.
pub const LIMIT: u64 = 128 * 1024 * 1024;

/// A cgroup for one process. Removed when dropped, after its process.
pub struct Cgroup {
    path: PathBuf,
    v2: bool,
}

// === impl Cgroup ===

impl Cgroup {
    /// `None`, with one sentence that gives the reason, where none can be had.
    pub fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let v2 =
            fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").is_ok_and(|all| all.contains("memory"));
        let root = if v2 { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/memory" };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(root).join(format!("ohallo-test-{}-{number}", std::process::id()));
        let limit = if v2 { "memory.max" } else { "memory.limit_in_bytes" };
        let created = fs::create_dir(&path).and_then(|()| fs::write(path.join(limit), LIMIT.to_string()));
        match created {
            Ok(()) => Some(Self { path, v2 }),
            Err(error) => {
                eprintln!(
                    "The memory limit is not enforced here: no cgroup can be created in {root}: {error}."
                );
                let _ = fs::remove_dir(&path);
                None
            }
        }
    }

    pub fn take(&self, process: u32) {
        fs::write(self.path.join("cgroup.procs"), process.to_string()).unwrap();
    }

    /// How many of its processes the kernel has killed for their memory.
    pub fn killed(&self) -> u64 {
        let file = if self.v2 { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.path.join(file)).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.map_or(0, |number| number.trim().parse().unwrap())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}
