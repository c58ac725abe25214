//! Finds etcd, kube-apiserver and kube-controller-manager, or builds them once from the Go modules that
//! `controlplane/go.mod` pins.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::gobuild::{GoProgram, Module};

/// The three programs of a control plane.
#[derive(Clone, Debug)]
pub struct Binaries {
    pub etcd: PathBuf,
    pub apiserver: PathBuf,
    pub controller_manager: PathBuf,
}

pub(crate) const MODULE: &str = "controlplane";
const TAKES: &str = "all three take about 5 minutes";
const ETCD: GoProgram = GoProgram {
    module: MODULE,
    name: "etcd",
    package: "go.etcd.io/etcd/server/v3",
    built_as: "server",
    tags: "",
    takes: TAKES,
};
const APISERVER: GoProgram = GoProgram {
    module: MODULE,
    name: "kube-apiserver",
    package: "k8s.io/kubernetes/cmd/kube-apiserver",
    built_as: "kube-apiserver",
    tags: "",
    takes: TAKES,
};
const CONTROLLER_MANAGER: GoProgram = GoProgram {
    module: MODULE,
    name: "kube-controller-manager",
    package: "k8s.io/kubernetes/cmd/kube-controller-manager",
    built_as: "kube-controller-manager",
    tags: "",
    takes: TAKES,
};

// === impl Binaries ===

impl Binaries {
    /// Blocks, for minutes when something has to be built; reports it on stderr. What `KUBEBUILDER_ASSETS` has is
    /// used as it is, the rest comes from the build's cache: `OHALLO_TESTBED_CACHE`, else the user's cache folder.
    ///
    /// # Errors
    /// A program is missing and can't be built: no Go, no network, no cache folder.
    pub fn find() -> Result<Self> {
        let assets = env::var_os("KUBEBUILDER_ASSETS").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        let module = Module::open(MODULE)?;
        let ldflags = version_flags(&module)?;
        let find = |program: &GoProgram| -> Result<PathBuf> {
            let given = assets.as_ref().map(|dir| dir.join(program.name)).filter(|path| path.is_file());
            given.map_or_else(|| module.program(program, &ldflags), Ok)
        };
        Ok(Self {
            etcd: find(&ETCD)?,
            apiserver: find(&APISERVER)?,
            controller_manager: find(&CONTROLLER_MANAGER)?,
        })
    }
}

/// Without a version of its own the API server reports one that kubectl can't parse.
pub(crate) fn version_flags(module: &Module) -> Result<String> {
    Ok(stamp(kubernetes_version(&module.go_mod)?))
}

fn stamp(version: &str) -> String {
    let mut parts = version.trim_start_matches('v').split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let stamp = "k8s.io/component-base/version";
    format!("-X {stamp}.gitVersion={version} -X {stamp}.gitMajor={major} -X {stamp}.gitMinor={minor}")
}

fn kubernetes_version(go_mod: &str) -> Result<&str> {
    go_mod
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
        let module = Module::open(MODULE).unwrap();
        assert!(kubernetes_version(&module.go_mod).unwrap().starts_with("v1."));
    }
}
