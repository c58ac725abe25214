//! The structure of the source tree and the words in it. No control plane is needed.

mod features;
mod imports;
mod messages;
mod named_paths;
mod words;

use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The files below a folder of the project whose names end so, sorted; all files for no endings.
fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" {
                    folders.push(path);
                }
            } else if endings.is_empty() || endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The path from the project's root.
fn relative(path: &Path) -> String {
    path.strip_prefix(ROOT).unwrap_or(path).to_string_lossy().into_owned()
}

/// The source folders of the crates that ship, by crate name: `src` and `crates/*/src`.
fn crates() -> Vec<(String, PathBuf)> {
    let root = Path::new(ROOT);
    let mut found = vec![("ohallo_operator".to_owned(), root.join("src"))];
    for entry in std::fs::read_dir(root.join("crates")).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().replace('-', "_");
        if path.join("src").is_dir() {
            found.push((name, path.join("src")));
        }
    }
    found.sort();
    found
}
