//! The programs that `setup-envtest` has fetched, which developers of operators have on their machines.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// The folder with the newest release of these minor versions for this machine.
pub(crate) fn newest(is_wanted: impl Fn(u32) -> bool) -> Option<PathBuf> {
    let root = store()?;
    newest_below(&root, &format!("-{}-{}", system(), architecture()), is_wanted)
}

/// Where setup-envtest puts them, by its README.
fn store() -> Option<PathBuf> {
    let dir = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = |below: &str| dir("HOME").map(|home| home.join(below));
    let root = if cfg!(target_os = "macos") {
        home("Library/Application Support")?.join("io.kubebuilder.envtest")
    } else {
        dir("XDG_DATA_HOME").or_else(|| home(".local/share"))?.join("kubebuilder-envtest")
    };
    Some(root.join("k8s"))
}

/// As Go names it.
fn system() -> &'static str {
    if cfg!(target_os = "macos") { "darwin" } else { env::consts::OS }
}

/// As Go names it.
fn architecture() -> &'static str {
    match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn newest_below(root: &Path, ending: &str, is_wanted: impl Fn(u32) -> bool) -> Option<PathBuf> {
    let found = fs::read_dir(root).ok()?.filter_map(|entry| {
        let path = entry.ok()?.path();
        let version = path.file_name()?.to_str()?.strip_suffix(ending)?;
        let numbers: Vec<u32> = version.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
        // A download that was interrupted leaves an empty folder.
        let complete = path.join("kube-apiserver").is_file() && path.join("etcd").is_file();
        (numbers.len() == 3 && is_wanted(*numbers.get(1)?) && complete).then_some((numbers, path))
    });
    found.max().map(|(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_complete_release_for_this_machine_is_taken() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str, programs: &[&str]| {
            fs::create_dir(root.path().join(name)).unwrap();
            programs.iter().for_each(|program| fs::write(root.path().join(name).join(program), "").unwrap());
        };
        let both = ["kube-apiserver", "etcd"];
        put("1.9.30-linux-amd64", &both);
        put("1.34.0-linux-amd64", &both);
        put("1.34.10-linux-amd64", &both);
        put("1.35.0-linux-amd64", &["etcd"]);
        put("1.36.0-linux-arm64", &both);
        put("1.99.0-linux-amd64", &both);
        put("latest-linux-amd64", &both);
        let newest = |ending: &str, wanted: u32| {
            let path = newest_below(root.path(), ending, |minor| (30..=wanted).contains(&minor))?;
            Some(path.file_name()?.to_str()?.to_owned())
        };
        assert_eq!(newest("-linux-amd64", 37).as_deref(), Some("1.34.10-linux-amd64"));
        assert_eq!(newest("-linux-arm64", 37).as_deref(), Some("1.36.0-linux-arm64"));
        assert_eq!(newest("-linux-amd64", 33), None);
        assert_eq!(newest_below(&root.path().join("missing"), "-linux-amd64", |_| true), None);
    }
}
