// I/O
//! Programs of others that tests run. To add one: `go get -tool PACKAGE` in `tools`, and a line below. One whose
//! requirements do not go with those of the others gets a folder with a go.mod of its own.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::gobuild::{GoProgram, Module};

const TOOLS: [GoProgram; 3] = [
    GoProgram {
        module: "tools",
        name: "helm",
        package: "helm.sh/helm/v4/cmd/helm",
        built_as: "helm",
        tags: "",
        takes: "about 3 minutes",
    },
    prometheus("prometheus", "github.com/prometheus/prometheus/cmd/prometheus"),
    prometheus("promtool", "github.com/prometheus/prometheus/cmd/promtool"),
];
/// The others are for tests that are run on request.
const OF_EVERY_RUN: [&str; 1] = ["helm"];

/// Of the ways to find targets only the one in Kubernetes: those in clouds are most of it.
const fn prometheus(name: &'static str, package: &'static str) -> GoProgram {
    GoProgram {
        module: "prometheus",
        name,
        package,
        built_as: name,
        tags: "remove_all_sd,enable_kubernetes_sd",
        takes: "about 5 minutes",
    }
}

/// Where a tool of this name is. Blocks for minutes where it has to be built, once; says so on stderr.
///
/// # Errors
/// There is none of this name, or it can't be built: no Go, no network, no cache folder.
pub fn tool(name: &str) -> Result<PathBuf> {
    let found = TOOLS.iter().find(|tool| tool.name == name);
    let tool = found.with_context(|| format!("{name} is none of the tools that are known here"))?;
    Module::open(tool.module)?.program(tool, "")
}

/// Builds what is missing of those that a plain `cargo test` runs.
///
/// # Errors
/// As [`tool`].
pub fn tools() -> Result<()> {
    OF_EVERY_RUN.iter().try_for_each(|name| tool(name).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tool_is_one_that_go_mod_pins() {
        for tool in TOOLS {
            let module = Module::open(tool.module).unwrap();
            assert!(module.go_mod.contains(tool.package), "{}", tool.name);
        }
        assert!(tool("hammer").unwrap_err().to_string().contains("hammer"));
    }
}
