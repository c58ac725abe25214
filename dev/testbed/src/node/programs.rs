//! The programs of a node that are Go modules; the container runtime comes from the distribution.

use std::path::PathBuf;

use anyhow::Result;

use crate::binaries::version_flags;
use crate::gobuild::{GoProgram, Module};

/// kubelet, kube-proxy and kube-scheduler, of the same version as the API server.
#[derive(Clone, Debug)]
pub struct Programs {
    pub kubelet: PathBuf,
    pub kube_proxy: PathBuf,
    pub scheduler: PathBuf,
}

const MODULE: &str = "node";

const fn kubernetes(name: &'static str, package: &'static str) -> GoProgram {
    GoProgram {
        module: MODULE,
        name,
        package,
        built_as: name,
        tags: "",
        takes: "all three take about 3 minutes",
    }
}

const KUBELET: GoProgram = kubernetes("kubelet", "k8s.io/kubernetes/cmd/kubelet");
const KUBE_PROXY: GoProgram = kubernetes("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy");
const SCHEDULER: GoProgram = kubernetes("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler");

// === impl Programs ===

impl Programs {
    /// Blocks, for minutes when something has to be built; reports it on stderr.
    ///
    /// # Errors
    /// A program is missing and can't be built: no Go, no network, no cache folder.
    pub fn find() -> Result<Self> {
        let module = Module::open(MODULE)?;
        let ldflags = version_flags(&module)?;
        let find = |program| module.program(program, &ldflags);
        Ok(Self { kubelet: find(&KUBELET)?, kube_proxy: find(&KUBE_PROXY)?, scheduler: find(&SCHEDULER)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binaries;

    #[test]
    fn the_node_has_the_version_of_the_control_plane() {
        let flags = |module| version_flags(&Module::open(module).unwrap()).unwrap();
        assert_eq!(flags(MODULE), flags(binaries::MODULE));
    }
}
