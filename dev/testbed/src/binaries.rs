//! Finds etcd, kube-apiserver and kube-controller-manager, or builds them once from the Go modules that
//! `controlplane/go.mod` pins, or a go.mod below `kubernetes/` for another version.

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
/// A minor version of Kubernetes, such as `1.30`, whose go.mod is below `kubernetes/`.
const VERSION_VARIABLE: &str = "OHALLO_TESTBED_KUBERNETES";
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
    /// `OHALLO_TESTBED_KUBERNETES` chooses another minor version, and `KUBEBUILDER_ASSETS` is then ignored.
    ///
    /// # Errors
    /// A program is missing and can't be built: no Go, no network, no cache folder, or no such version.
    pub fn find() -> Result<Self> {
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
        let version = variable(VERSION_VARIABLE).and_then(|version| version.into_string().ok());
        let assets = variable("KUBEBUILDER_ASSETS").filter(|_| version.is_none()).map(PathBuf::from);
        let newest = Module::open(MODULE)?;
        let other = version.filter(|version| !is_of(&newest, version)).map(|version| {
            let reason = || format!("{VERSION_VARIABLE}: there is no dev/testbed/kubernetes/{version}");
            Module::open(&format!("kubernetes/{version}")).with_context(reason)
        });
        let kubernetes = other.transpose()?.unwrap_or_else(|| newest.clone());
        let find = |module: &Module, program: &GoProgram| -> Result<PathBuf> {
            let given = assets.as_ref().map(|dir| dir.join(program.name)).filter(|path| path.is_file());
            given.map_or_else(|| module.program(program, &version_flags(&kubernetes)?), Ok)
        };
        Ok(Self {
            etcd: find(&newest, &ETCD)?,
            apiserver: find(&kubernetes, &APISERVER)?,
            controller_manager: find(&kubernetes, &CONTROLLER_MANAGER)?,
        })
    }
}

fn is_of(module: &Module, minor: &str) -> bool {
    kubernetes_version(&module.go_mod)
        .is_ok_and(|version| version.trim_start_matches('v').starts_with(&format!("{minor}.")))
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

    #[test]
    fn each_folder_has_the_version_that_it_is_named_after() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/kubernetes");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let minor = entry.unwrap().file_name().into_string().unwrap();
            let module = Module::open(&format!("kubernetes/{minor}")).unwrap();
            assert!(is_of(&module, &minor), "{minor}");
            count += 1;
        }
        assert!(count > 0);
    }
}
