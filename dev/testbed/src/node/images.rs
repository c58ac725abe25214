//! The image of the container that holds a pod's namespaces. It is built here: nothing is pulled.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::gobuild::{GoProgram, Module};

/// Its name on the node.
pub(super) const PAUSE: &str = "testbed.invalid/pause:1";

const PROGRAM: GoProgram = GoProgram {
    module: "pause",
    name: "pause",
    package: "ohallo-operator/pause",
    built_as: "pause",
    tags: "",
    takes: "a few seconds",
};
const CONTAINERFILE: &str = "FROM scratch\nCOPY pause /pause\nUSER 65535:65535\nENTRYPOINT [\"/pause\"]\n";

/// Where the OCI archive of the image is, after it was built if need be.
///
/// # Errors
/// It can't be built: no Go, or no buildah.
pub fn pause_image() -> Result<PathBuf> {
    let program = Module::open(PROGRAM.module)?.program(&PROGRAM, "")?;
    let archive = program.with_extension("oci.tar");
    if !archive.is_file() {
        build(program.parent().context("the program has a folder")?, &archive)?;
    }
    Ok(archive)
}

/// Writes the archive again below an empty folder, with this name of its image.
pub(super) fn renamed(archive: &Path, name: &str, folder: &Path) -> Result<PathBuf> {
    let contents = folder.join("contents");
    fs::create_dir_all(&contents)?;
    tar(&["-xf".as_ref(), archive.as_os_str(), "-C".as_ref(), contents.as_os_str()])?;
    let file = contents.join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&file)?)?;
    let manifest = index.pointer_mut("/manifests/0").and_then(Value::as_object_mut);
    let manifest = manifest.with_context(|| format!("{} holds no image", archive.display()))?;
    manifest.insert("annotations".to_owned(), json!({"org.opencontainers.image.ref.name": name}));
    fs::write(&file, index.to_string())?;
    let renamed = folder.join("image.tar");
    tar(&["-cf".as_ref(), renamed.as_os_str(), "-C".as_ref(), contents.as_os_str(), ".".as_ref()])?;
    Ok(renamed)
}

fn tar(args: &[&OsStr]) -> Result<()> {
    let output = Command::new("tar").args(args).output().context("tar is missing: install it")?;
    ensure!(output.status.success(), "tar failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

fn build(dir: &Path, archive: &Path) -> Result<()> {
    let containerfile = dir.join("Containerfile");
    fs::write(&containerfile, CONTAINERFILE)?;
    let partial = archive.with_extension("partial");
    let image = format!("localhost/ohallo-testbed-pause:{}", std::process::id());
    buildah(
        &["build", "--isolation", "chroot", "--timestamp", "0", "--quiet", "--tag", &image, "--file"],
        &[&containerfile, dir],
    )?;
    let target = format!("oci-archive:{}:{PAUSE}", partial.display());
    let pushed = buildah(&["push", "--quiet", &image, &target], &[]);
    buildah(&["rmi", &image], &[])?;
    pushed?;
    Ok(fs::rename(partial, archive)?)
}

fn buildah(args: &[&str], paths: &[&Path]) -> Result<()> {
    let ran = Command::new("buildah").args(["--storage-driver", "vfs"]).args(args).args(paths).output();
    let output = ran.context("buildah is missing: install it")?;
    ensure!(output.status.success(), "buildah failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
