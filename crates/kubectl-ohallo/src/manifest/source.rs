//! Files, directories and stdin.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The endings of manifests in a directory.
pub const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// A file to read, and its content.
#[derive(Debug)]
pub struct Source {
    /// As messages show it: the path, or `stdin`.
    pub name: String,
    /// The text, or why it can't be read: one sentence.
    pub text: Result<String, String>,
}

/// Reads each file, every manifest below each directory, and stdin for `-`. Files are read as the iterator proceeds.
pub fn read(places: &[PathBuf]) -> impl Iterator<Item = Source> {
    let mut found = Vec::new();
    for place in places {
        if place.is_dir() {
            let mut seen = BTreeSet::new();
            walk(place, &mut seen, &mut found);
        } else {
            found.push(Ok(place.clone()));
        }
    }
    found.into_iter().map(|place| match place {
        Ok(path) => {
            let name = if path == Path::new("-") { "stdin".to_owned() } else { path.display().to_string() };
            Source { text: text(&path, &name), name }
        }
        Err((path, why)) => Source { name: path.display().to_string(), text: Err(why) },
    })
}

type Found = Result<PathBuf, (PathBuf, String)>;

/// Collects the manifests below a folder in the order of their names. Hidden folders are left out, and a folder that
/// symbolic links lead to twice is read once.
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
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.is_dir() {
            if !hidden {
                walk(&path, seen, found);
            }
        } else if path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known)) {
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
