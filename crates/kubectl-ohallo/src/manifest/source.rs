//! Files, directories and stdin.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The endings of manifests in a directory.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// Files that choose what is applied of a directory, by their names.
const SELECTORS: [&str; 6] =
    ["kustomization.yaml", "kustomization.yml", "Kustomization", "Chart.yaml", ".sourceignore", ".krmignore"];

/// A file to read, and its content.
#[derive(Debug)]
pub struct Source {
    /// As messages show it: the path, or `stdin`.
    pub name: String,
    /// Its path below the directory that was named, if one was.
    pub within: Option<PathBuf>,
    /// The text, or why it can't be read: one sentence.
    pub text: Result<String, String>,
}

// === impl Source ===

impl Source {
    /// Whether it holds documents. Others choose what is applied.
    pub fn is_manifest(&self) -> bool {
        self.within.as_deref().is_none_or(has_ending)
    }
}

/// Reads each file, every manifest below each directory, and stdin for `-`. Files are read as the iterator proceeds.
pub fn read(places: &[PathBuf]) -> impl Iterator<Item = Source> {
    let mut found = Vec::new();
    for place in places {
        if place.is_dir() {
            let mut seen = BTreeSet::new();
            let mut below = Vec::new();
            walk(place, &mut seen, &mut below);
            let within = |path: &PathBuf| path.strip_prefix(place).ok().map(Path::to_owned);
            found.extend(below.into_iter().map(|found| (found.as_ref().ok().and_then(within), found)));
        } else {
            found.push((None, Ok(place.clone())));
        }
    }
    found.into_iter().map(|(within, place)| match place {
        Ok(path) => {
            let name = if path == Path::new("-") { "stdin".to_owned() } else { path.display().to_string() };
            Source { text: text(&path, &name), within, name }
        }
        Err((path, why)) => Source { name: path.display().to_string(), within, text: Err(why) },
    })
}

type Found = Result<PathBuf, (PathBuf, String)>;

/// Whether tools take a file of a directory for manifests.
pub fn has_ending(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known))
}

/// Whether the name of a file says that it chooses what is applied.
pub fn is_selector(path: &Path) -> bool {
    path.file_name().is_some_and(|name| SELECTORS.iter().any(|known| name == *known))
}

/// Collects the manifests below a folder in the order of their names. Other hidden folders than Git's are read, as kubectl
/// and Argo CD do, and a folder that symbolic links lead to twice is read once.
fn walk(folder: &Path, seen: &mut BTreeSet<PathBuf>, found: &mut Vec<Found>) {
    let listed = folder.canonicalize().and_then(|real| Ok((real, std::fs::read_dir(folder)?)));
    let (real, entries) = match listed {
        Ok(listed) => listed,
        Err(error) => {
            return found.push(Err((folder.to_owned(), format!("the directory can't be read: {error}"))));
        }
    };
    if !seen.insert(real) {
        return;
    }
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            if !path.ends_with(".git") {
                walk(&path, seen, found);
            }
        } else if has_ending(&path) || is_selector(&path) {
            found.push(Ok(path));
        }
    }
}

fn text(path: &Path, name: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes))
    };
    read.map_err(|error| format!("{name} can't be read: {error}"))?;
    String::from_utf8(bytes).map_err(|_| format!("{name} is not text in UTF-8"))
}
