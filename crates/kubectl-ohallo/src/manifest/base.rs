//! The manifests before a change: from a file, a directory or a Git revision.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::failure::Failure;
use crate::manifest::reader::documents;
use crate::manifest::source::{ENDINGS, Source, read};
use crate::manifest::{Identity, objects};

/// Every object of the manifests before a change.
#[derive(Debug, Default)]
pub struct Base {
    objects: BTreeMap<Identity, Value>,
}

// === impl Base ===

impl Base {
    /// Reads a file or directory of this name, or else these places as they are in a Git revision.
    ///
    /// # Errors
    /// It is none of these, or a file can't be read or parsed: a base with holes would hide what changes.
    pub fn read(base: &str, places: &[PathBuf], namespace: &str) -> Result<Self, Failure> {
        let sources = if Path::new(base).exists() {
            read(&[PathBuf::from(base)]).collect()
        } else {
            of_revision(base, places)?
        };
        let mut found = Self::default();
        for source in sources {
            let text = source.text.map_err(Failure::undecided)?;
            for document in documents(&text) {
                let root = document.root.map_err(|error| {
                    Failure::undecided(format!(
                        "{} of the base: line {}: {error}",
                        source.name, error.at.line
                    ))
                })?;
                let objects = objects(&root).into_iter().map(|(_, node)| node);
                found.objects.extend(objects.map(|node| (Identity::of(node, namespace), node.value())));
            }
        }
        Ok(found)
    }

    /// All objects, of any kind.
    pub fn objects(&self) -> impl Iterator<Item = (&Identity, &Value)> {
        self.objects.iter()
    }

    pub fn get(&self, identity: &Identity) -> Option<&Value> {
        self.objects.get(identity)
    }
}

/// The same files and directories in a revision of the repository that the first of them is in.
fn of_revision(revision: &str, places: &[PathBuf]) -> Result<Vec<Source>, Failure> {
    let unknown = || {
        Failure::usage(format!(
            "--base {revision} is neither a file, a directory nor a Git revision of these files"
        ))
    };
    if revision.starts_with('-') || places.iter().any(|place| place == Path::new("-")) {
        return Err(unknown());
    }
    let mut sources = Vec::new();
    for place in places {
        let (folder, name) = if place.is_dir() {
            (place.as_path(), Path::new("."))
        } else {
            let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty());
            (folder.unwrap_or(Path::new(".")), Path::new(place.file_name().unwrap_or_default()))
        };
        let listed =
            git(folder, &["ls-tree", "-r", "-z", "--name-only", revision, "--", &name.to_string_lossy()]);
        for file in listed.ok_or_else(unknown)?.split('\0').filter(|file| !file.is_empty()) {
            let named = Path::new(file);
            let is_manifest =
                named.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known));
            if place.is_dir() && !is_manifest {
                continue;
            }
            let text = git(folder, &["show", &format!("{revision}:./{file}")]);
            let name = format!("{revision}:{}", folder.join(file).display());
            let text = text.ok_or_else(|| format!("{name} can't be read"));
            sources.push(Source { name, text });
        }
    }
    Ok(sources)
}

/// What git prints, if it succeeds.
fn git(folder: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(folder).args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).ok()).flatten()
}
