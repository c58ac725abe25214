//! Programs of others that tests run, and one of ours around their libraries. To add one: `go get -tool PACKAGE` in
//! `tools`, and a line below. One whose requirements do not go with those of the others gets a folder with a go.mod of
//! its own.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::gobuild::{GoProgram, Module};

/// What every run of the tests needs.
const TOOLS: [GoProgram; 2] = [
    GoProgram {
        module: "tools",
        name: "helm",
        package: "helm.sh/helm/v4/cmd/helm",
        built_as: "helm",
        tags: "",
        takes: "about 3 minutes",
    },
    GoProgram {
        module: "kubeconform",
        name: "kubeconform",
        package: "github.com/yannh/kubeconform/cmd/kubeconform",
        built_as: "kubeconform",
        tags: "",
        takes: "about half a minute",
    },
];

/// What only the long tests need.
const RARE: [GoProgram; 10] = [
    prometheus("prometheus", "github.com/prometheus/prometheus/cmd/prometheus"),
    prometheus("promtool", "github.com/prometheus/prometheus/cmd/promtool"),
    GoProgram {
        module: "gitops",
        name: "gitops",
        package: "ohallo-operator/gitops",
        built_as: "gitops",
        tags: "",
        takes: "about 5 minutes",
    },
    GoProgram {
        module: "krew",
        name: "krew",
        package: "sigs.k8s.io/krew/cmd/krew",
        built_as: "krew",
        tags: "",
        takes: "about 2 minutes",
    },
    linter("kube-score", "github.com/zegl/kube-score/cmd/kube-score"),
    linter("helm-docs", "github.com/norwoodj/helm-docs/cmd/helm-docs"),
    GoProgram {
        module: "argocd",
        name: "argocd",
        package: "github.com/argoproj/argo-cd/v3/cmd",
        built_as: "cmd",
        tags: "",
        takes: "about 3 minutes",
    },
    flux("kustomize-controller", "github.com/fluxcd/kustomize-controller"),
    flux("source-controller", "github.com/fluxcd/source-controller"),
    // A registry of images and artifacts, which keeps them in its memory.
    flux("registry", "github.com/google/go-containerregistry/cmd/registry"),
];

const fn flux(name: &'static str, package: &'static str) -> GoProgram {
    GoProgram { module: "flux", name, package, built_as: name, tags: "", takes: "about 5 minutes" }
}

const fn linter(name: &'static str, package: &'static str) -> GoProgram {
    GoProgram { module: "linters", name, package, built_as: name, tags: "", takes: "about 2 minutes" }
}

/// Of the ways to find targets only the one in Kubernetes: those in clouds are most of it.
const fn prometheus(name: &'static str, package: &'static str) -> GoProgram {
    let (module, tags) = ("prometheus", "remove_all_sd,enable_kubernetes_sd");
    GoProgram { module, name, package, built_as: name, tags, takes: "about 5 minutes" }
}

fn known(name: &str) -> Result<&'static GoProgram> {
    let found = TOOLS.iter().chain(&RARE).find(|tool| tool.name == name);
    found.with_context(|| format!("{name} is none of the tools that are known here"))
}

/// Where a tool of this name is. Blocks for minutes where it has to be built, once; reports it on stderr.
///
/// # Errors
/// There is none of this name, or it can't be built: no Go, no network, no cache folder.
pub fn tool(name: &str) -> Result<PathBuf> {
    let tool = known(name)?;
    Module::open(tool.module)?.program(tool, "")
}

/// Where the source of a tool of this name is, with what it ships beside its program.
///
/// # Errors
/// There is none of this name, or it can't be fetched: no Go, no network.
pub fn tool_source(name: &str) -> Result<PathBuf> {
    let tool = known(name)?;
    Module::open(tool.module)?.source(tool.package)
}

/// Builds what is missing of those that every run needs.
///
/// # Errors
/// As [`tool`].
pub fn tools() -> Result<()> {
    TOOLS.iter().try_for_each(|known| tool(known.name).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tool_is_one_that_go_mod_pins() {
        for tool in TOOLS.iter().chain(&RARE) {
            let module = Module::open(tool.module).unwrap();
            assert!(module.go_mod.contains(tool.package), "{}", tool.name);
        }
        assert!(tool("hammer").unwrap_err().to_string().contains("hammer"));
    }
}
