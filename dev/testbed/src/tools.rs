// I/O
//! Programs of others that tests run. To add one: `go get -tool PACKAGE` in `tools`, and a line below. One whose
//! requirements do not go with those of the others gets a folder with a go.mod of its own.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::gobuild::{GoProgram, Module};

const TOOLS: [GoProgram; 1] = [GoProgram {
    module: "tools",
    name: "helm",
    package: "helm.sh/helm/v4/cmd/helm",
    built_as: "helm",
    takes: "about 3 minutes",
}];

/// Where a tool of this name is. Blocks for minutes where it has to be built, once; says so on stderr.
///
/// # Errors
/// There is none of this name, or it can't be built: no Go, no network, no cache folder.
pub fn tool(name: &str) -> Result<PathBuf> {
    let found = TOOLS.iter().find(|tool| tool.name == name);
    let tool = found.with_context(|| format!("{name} is none of the tools that are known here"))?;
    Module::open(tool.module)?.program(tool, "")
}

/// Builds what is missing of them.
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
        for tool in TOOLS {
            let module = Module::open(tool.module).unwrap();
            assert!(module.go_mod.contains(tool.package), "{}", tool.name);
        }
        assert!(tool("hammer").unwrap_err().to_string().contains("hammer"));
    }
}
