//! The node's own network: a bridge that carries its address, and nothing that leads out of the namespace.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::layout::SERVICE_RANGE;

/// The node's `InternalIP`.
pub(crate) const NODE_ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
pub(crate) const POD_RANGE: &str = "10.244.0.0/24";
const BRIDGE: &str = "testbed0";

/// # Errors
/// `ip` is missing, or not allowed to change the network.
pub(crate) fn create() -> Result<()> {
    ip(&["link", "add", BRIDGE, "type", "bridge"])?;
    ip(&["address", "add", &format!("{NODE_ADDRESS}/24"), "dev", BRIDGE])?;
    ip(&["link", "set", BRIDGE, "up"])?;
    // Only what has a route reaches the rules that kube-proxy writes.
    ip(&["route", "add", SERVICE_RANGE, "dev", BRIDGE])
}

fn ip(args: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(args).output().context("ip is missing: install iproute2")?;
    ensure!(
        output.status.success(),
        "ip {} failed: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
