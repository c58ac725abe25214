//! Programs of the npm registry that a package-lock.json of this package pins, installed once into a cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::gobuild::{cache_root, lock};

/// The script of yaml-language-server; run it with Node and `--stdio`. Blocks for seconds where it has to be installed,
/// once.
///
/// # Errors
/// It can't be installed: no Node, no npm, no network, no cache folder.
pub fn yaml_language_server() -> Result<PathBuf> {
    Ok(installed("language-server")?.join("node_modules/yaml-language-server/bin/yaml-language-server"))
}

/// Where the packages of this folder's lock file are installed.
fn installed(name: &str) -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let files = ["package.json", "package-lock.json"];
    let read = |file: &str| fs::read(folder.join(file)).with_context(|| format!("{name}/{file}"));
    let contents = files.map(read).into_iter().collect::<Result<Vec<_>>>()?;
    let digest =
        contents.iter().fold(Sha256::new(), |digest, content| digest.chain_update(content)).finalize();
    let key: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let cache = cache_root()?.join(format!("{name}-{key}"));
    fs::create_dir_all(&cache)?;
    let _held = lock(&cache)?;
    if cache.join("node_modules").is_dir() {
        return Ok(cache);
    }
    eprintln!("testbed: installing {name} with npm…");
    // What is half installed is not there.
    let half = cache.join("half");
    fs::create_dir_all(&half)?;
    for (file, content) in files.iter().zip(contents) {
        fs::write(half.join(file), content)?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
    let output =
        npm.current_dir(&half).stdin(Stdio::null()).output().context("npm is missing: install Node.js")?;
    ensure!(output.status.success(), "npm failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    fs::rename(half.join("node_modules"), cache.join("node_modules"))?;
    Ok(cache)
}
