//! What a process has used, as the kernel counts it.

use std::fs;

use anyhow::{Context, Result};

/// The unit of times in `/proc/<pid>/stat`, the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;
const KIB_PER_MIB: f64 = 1024.0;

/// CPU seconds of all threads, ended ones too.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process has ended")?;
    // The name may hold anything, also spaces and brackets: fields count from behind its last bracket.
    let (_, fields) = stat.rsplit_once(')').context("an odd /proc/<pid>/stat")?;
    let ticks: f64 =
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / TICKS_PER_SECOND)
}

/// Resident memory at its highest, in MiB.
pub fn peak_mib(pid: u32) -> Result<f64> {
    memory(pid, "VmHWM:")
}

/// Resident memory now, in MiB.
pub fn resident_mib(pid: u32) -> Result<f64> {
    memory(pid, "VmRSS:")
}

fn memory(pid: u32, field: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the process has ended")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no memory in /proc")?;
    let kib: f64 = line.split_whitespace().next().unwrap_or_default().parse()?;
    Ok(kib / KIB_PER_MIB)
}
