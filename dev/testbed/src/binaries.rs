//! Finds etcd, kube-apiserver and kube-controller-manager where developers of operators have them, or builds them once from
//! the Go modules that `controlplane/go.mod` pins, or a go.mod below `kubernetes/` for another version.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::{env, fs};

use anyhow::{Context, Result};

use crate::envtest;
use crate::gobuild::{GoProgram, Module};

/// The programs of a control plane.
#[derive(Clone, Debug)]
pub struct Binaries {
    pub etcd: PathBuf,
    pub apiserver: PathBuf,
    /// Where it is asked for: `setup-envtest` has none, and to build it takes a minute more.
    pub controller_manager: Option<PathBuf>,
}

pub(crate) const MODULE: &str = "controlplane";
/// A minor version of Kubernetes, such as `1.30`, whose go.mod is below `kubernetes/`.
const VERSION_VARIABLE: &str = "OHALLO_TESTBED_KUBERNETES";
const TAKES: &str = "all of the control plane takes about 5 minutes";
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
    /// Blocks, for minutes when something has to be built; reports on stderr what is used. Takes each program from
    /// `KUBEBUILDER_ASSETS`, else from the store of `setup-envtest`, else from the build's cache: `OHALLO_TESTBED_CACHE`, or
    /// the user's cache folder. `OHALLO_TESTBED_KUBERNETES` chooses another minor version, which only the cache has.
    ///
    /// # Errors
    /// A program is missing and can't be built: no Go, no network, no cache folder, or no such version.
    pub fn find(with_controllers: bool) -> Result<Self> {
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
        let version = variable(VERSION_VARIABLE).and_then(|version| version.into_string().ok());
        let newest = Module::open(MODULE)?;
        let fetched = match (&version, variable("KUBEBUILDER_ASSETS").map(PathBuf::from)) {
            (Some(_), _) => None,
            (None, Some(dir)) => Some(Fetched { dir, by: "KUBEBUILDER_ASSETS" }),
            (None, None) => {
                let minors = tested(&newest)?;
                envtest::newest(|minor| minors.contains(&minor))
                    .map(|dir| Fetched { dir, by: "setup-envtest" })
            }
        };
        let other = version.filter(|version| !is_of(&newest, version)).map(|version| {
            let reason = || format!("{VERSION_VARIABLE}: there is no dev/testbed/kubernetes/{version}");
            Module::open(&format!("kubernetes/{version}")).with_context(reason)
        });
        let kubernetes = other.transpose()?.unwrap_or_else(|| newest.clone());
        let find = |module: &Module, program: &GoProgram| -> Result<PathBuf> {
            match fetched.as_ref().and_then(|fetched| fetched.program(program.name)) {
                Some(path) => Ok(path),
                None => module.program(program, &version_flags(&kubernetes)?),
            }
        };
        Ok(Self {
            etcd: find(&newest, &ETCD)?,
            apiserver: find(&kubernetes, &APISERVER)?,
            controller_manager: with_controllers
                .then(|| find(&kubernetes, &CONTROLLER_MANAGER))
                .transpose()?,
        })
    }
}

/// A folder with programs that another tool has fetched.
struct Fetched {
    dir: PathBuf,
    by: &'static str,
}

// === impl Fetched ===

impl Fetched {
    /// Says once that the program is used.
    fn program(&self, name: &str) -> Option<PathBuf> {
        static SAID: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
        let path = Some(self.dir.join(name)).filter(|path| path.is_file())?;
        if SAID.lock().is_ok_and(|mut said| said.insert(path.clone())) {
            eprintln!("testbed: {name} of {}: {}", self.by, path.display());
        }
        Some(path)
    }
}

/// The minor versions of Kubernetes that `.ci/full kubernetes` runs on, and those between them.
fn tested(newest: &Module) -> Result<Vec<u32>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes");
    let names = fs::read_dir(folder)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let own = kubernetes_version(&newest.go_mod)?.trim_start_matches('v').to_owned();
    let minors: BTreeSet<u32> =
        names.chain([own]).filter_map(|version| version.split('.').nth(1)?.parse().ok()).collect();
    let (first, last) = (minors.first().copied(), minors.last().copied());
    Ok(first.zip(last).map(|(first, last)| (first..=last).collect()).unwrap_or_default())
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
