//! Builds programs once from Go modules that a go.mod of this package pins, into a cache that outlives `target`.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use std::{env, thread};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::process_reaper::tail;

const PROGRESS_EVERY: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(250);

/// A folder of this package with a go.mod.
#[derive(Clone)]
pub(crate) struct Module {
    dir: PathBuf,
    cache: PathBuf,
    pub(crate) go_mod: String,
}

/// A program that a go.mod pins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GoProgram {
    /// The folder of the go.mod.
    pub(crate) module: &'static str,
    pub(crate) name: &'static str,
    pub(crate) package: &'static str,
    /// What `go install` calls it.
    pub(crate) built_as: &'static str,
    /// Go's build tags.
    pub(crate) tags: &'static str,
    /// How long it takes, in words.
    pub(crate) takes: &'static str,
}

// === impl Module ===

impl Module {
    /// # Errors
    /// It is not there, or there is no cache folder.
    pub(crate) fn open(name: &str) -> Result<Self> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let read = |file: &str| fs::read_to_string(dir.join(file)).with_context(|| format!("{name}/{file}"));
        let (go_mod, go_sum) = (read("go.mod")?, read("go.sum")?);
        let digest = Sha256::new().chain_update(&go_mod).chain_update(go_sum).chain_update(sources(&dir)?);
        let digest = digest.finalize();
        let key: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let cache = cache_root()?.join(format!("{}-{key}", name.replace('/', "-")));
        Ok(Self { dir, cache, go_mod })
    }

    /// Where the program is, after it was built if need be.
    ///
    /// # Errors
    /// It can't be built: no Go, or no network.
    pub(crate) fn program(&self, program: &GoProgram, ldflags: &str) -> Result<PathBuf> {
        // Other tags make another program.
        let built = self.cache.join(program.tags).join(program.name);
        if !built.is_file() {
            self.build(program, ldflags, &built)?;
        }
        Ok(built)
    }

    /// Where the source of the module of a package is, after it was fetched if need be.
    ///
    /// # Errors
    /// There is no Go, no network, or no such package.
    pub(crate) fn source(&self, package: &str) -> Result<PathBuf> {
        let listed = Command::new("go")
            .args(["list", "-mod=readonly", "-f", "{{.Module.Dir}}", package])
            .current_dir(&self.dir)
            .env("GOWORK", "off")
            .output()
            .context("go is needed")?;
        ensure!(listed.status.success(), "{package}: {}", String::from_utf8_lossy(&listed.stderr));
        Ok(PathBuf::from(String::from_utf8(listed.stdout)?.trim()))
    }

    fn build(&self, program: &GoProgram, ldflags: &str, target: &Path) -> Result<()> {
        fs::create_dir_all(target.parent().unwrap_or(&self.cache))
            .context("the cache folder can't be created; set OHALLO_TESTBED_CACHE")?;
        let _lock = lock(&self.cache)?;
        if target.is_file() {
            return Ok(());
        }
        // Not one name for all: the go of a builder that was killed may still write to its own.
        let partial = self.cache.join(format!("partial-{}", std::process::id()));
        fs::create_dir_all(&partial)?;
        let path = self.build_into(&partial, program, ldflags);
        let built = path.and_then(|path| Ok(fs::rename(path, target)?));
        fs::remove_dir_all(&partial)?;
        built
    }

    fn build_into(&self, into: &Path, program: &GoProgram, ldflags: &str) -> Result<PathBuf> {
        let log = into.join("log");
        let build = self.go_install(program, ldflags, into, File::create(&log)?)?;
        eprintln!("testbed: building {} from Go modules, once; {}…", program.name, program.takes);
        let status = wait(build, program.name)?;
        if !status.success() {
            let text = fs::read_to_string(&log).unwrap_or_default();
            bail!("building {} failed ({status}); the end of Go's output:\n{}", program.name, tail(&text));
        }
        Ok(into.join(program.built_as))
    }

    fn go_install(&self, program: &GoProgram, ldflags: &str, into: &Path, log: File) -> Result<Child> {
        let started = Command::new("go")
            .args(["install", "-mod=readonly", "-buildvcs=false", "-trimpath", "-tags", program.tags])
            .args(["-ldflags", &format!("-s -w {ldflags}"), program.package])
            .current_dir(&self.dir)
            .env("CGO_ENABLED", "0")
            .env("GOBIN", into)
            .env("GOWORK", "off")
            .env_remove("GOOS")
            .env_remove("GOARCH")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn();
        match started {
            Err(error) if error.kind() == ErrorKind::NotFound => bail!(
                "{} has to be built: install Go (the go command), or set KUBEBUILDER_ASSETS to a folder that has it",
                program.name
            ),
            other => Ok(other?),
        }
    }
}

/// The Go files of our own in a folder.
fn sources(dir: &Path) -> Result<String> {
    let entries = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let mut files: Vec<_> =
        entries.into_iter().filter(|path| path.extension().is_some_and(|end| end == "go")).collect();
    files.sort();
    Ok(files.iter().map(fs::read_to_string).collect::<Result<_, _>>()?)
}

/// `OHALLO_TESTBED_CACHE`, else the user's cache folder.
pub(crate) fn cache_root() -> Result<PathBuf> {
    let dir = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let root = dir("OHALLO_TESTBED_CACHE")
        .or_else(|| dir("XDG_CACHE_HOME").map(|cache| cache.join("ohallo-operator")))
        .or_else(|| dir("HOME").map(|home| home.join(".cache/ohallo-operator")))
        .context("no cache folder: set OHALLO_TESTBED_CACHE")?;
    Ok(std::path::absolute(root)?)
}

/// Held until the file is dropped, or its process has ended.
pub(crate) fn lock(cache: &Path) -> Result<File> {
    let file = File::options().create(true).write(true).truncate(false).open(cache.join("lock"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("testbed: another process builds or installs; waiting for it…");
            file.lock()?;
        }
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    Ok(file)
}

fn wait(mut go: Child, name: &str) -> Result<ExitStatus> {
    let mut waited = Duration::ZERO;
    loop {
        if let Some(status) = go.try_wait()? {
            return Ok(status);
        }
        thread::sleep(POLL);
        waited += POLL;
        if waited.as_millis().is_multiple_of(PROGRESS_EVERY.as_millis()) {
            eprintln!("testbed: still building {name}, {} s", waited.as_secs());
        }
    }
}
