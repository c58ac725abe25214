//! The manifests before a change: from a file, a directory or a Git revision.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::failure::Failure;
use crate::manifest::reader::documents;
use crate::manifest::source::{ENDINGS, Source, read};
use crate::manifest::{Identity, has_namespace, ignored, objects};

/// Every object of the manifests before a change.
#[derive(Debug, Default)]
pub struct Base {
    objects: BTreeMap<Identity, Value>,
    /// Objects that are there twice, without a namespace of their own.
    ambiguous: Vec<Identity>,
}

// === impl Base ===

impl Base {
    /// Reads a file or directory of this name, or else these places as they are in a Git revision.
    ///
    /// # Errors
    /// It is none of these, or a file can't be read or parsed: a base with holes would hide what changes.
    pub fn read(base: &str, places: &[PathBuf], namespace: &str) -> Result<Self, Failure> {
        // Whoever writes the manifests must not decide what they are compared with.
        let sources = match (Path::new(base).exists(), is_revision(base, places)) {
            (true, true) => {
                return Err(Failure::usage(format!(
                    "--base {base} is a path and a Git revision: write ./{base} for the path, or the revision's full name"
                )));
            }
            (true, false) => read(&[PathBuf::from(base)]).collect(),
            (false, _) => of_revision(base, places)?,
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
                if let Some(at) = document.ignored_from {
                    return Err(ignored(&format!("{} of the base", source.name), at.line));
                }
                for (_, node) in objects(&root) {
                    let identity = Identity::of(&node, namespace);
                    if found.objects.insert(identity.clone(), node.value()).is_some() && !has_namespace(&node)
                    {
                        found.ambiguous.push(identity);
                    }
                }
            }
        }
        Ok(found)
    }

    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// All objects, of any kind.
    pub fn objects(&self) -> impl Iterator<Item = (&Identity, &Value)> {
        self.objects.iter()
    }

    pub fn ambiguous(&self) -> &[Identity] {
        &self.ambiguous
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
    if let Some(link) = places.iter().find(|place| leads_elsewhere(place)) {
        return Err(Failure::usage(format!(
            "{} is a symbolic link, which may lead elsewhere in {revision}: name what it leads to",
            link.display()
        )));
    }
    if let Some(other) = places.iter().find(|place| is_in_other_repository(place)) {
        return Err(Failure::usage(format!(
            "{} is in a submodule, which has revisions of its own: run the command in the submodule",
            other.display()
        )));
    }
    let mut sources = Vec::new();
    for place in places {
        let (folder, name) = split(place);
        let listed = git(folder, &["ls-tree", "-r", "-z", revision, "--", &name.to_string_lossy()]);
        for entry in listed.ok_or_else(unknown)?.split('\0').filter(|entry| !entry.is_empty()) {
            let (mode, file) = entry.split_once('\t').unwrap_or(("", entry));
            let named = Path::new(file);
            let hidden = |folder: &Path| folder.iter().any(|part| part.to_string_lossy().starts_with('.'));
            // As below a directory: hidden folders are left out, hidden files are not.
            if place.is_dir() && named.parent().is_some_and(hidden) {
                continue;
            }
            let name = format!("{revision}:{}", folder.join(file).display());
            let unfollowed = match mode.split(' ').next() {
                Some("120000") => Some("a symbolic link"),
                Some("160000") => Some("a submodule"),
                _ => None,
            };
            if let Some(what) = unfollowed {
                return Err(Failure::undecided(format!(
                    "{name} is {what}, which can't be followed in a revision: name the files that it leads to"
                )));
            }
            let is_manifest =
                named.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known));
            if place.is_dir() && !is_manifest {
                continue;
            }
            let text = git(folder, &["show", &format!("{revision}:./{file}")]);
            let text = text.ok_or_else(|| format!("{name} can't be read"));
            sources.push(Source { name, text });
        }
    }
    Ok(sources)
}

/// The folder that git is asked in, and what in it is meant.
fn split(place: &Path) -> (&Path, &Path) {
    if place.is_dir() {
        return (place, Path::new("."));
    }
    let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty());
    (folder.unwrap_or(Path::new(".")), Path::new(place.file_name().unwrap_or_default()))
}

/// Whether a change of a link changes what a place names. Where an absolute place begins is not the repository's.
fn leads_elsewhere(place: &Path) -> bool {
    let own = place.ancestors().take(if place.is_absolute() { 1 } else { usize::MAX });
    own.filter(|part| !part.as_os_str().is_empty()).any(Path::is_symlink)
}

/// Whether a place is in a submodule that the command was not started in: who writes the manifests chooses its revisions.
fn is_in_other_repository(place: &Path) -> bool {
    let folder = split(place).0;
    let of = |folder: &Path, what: &str| git(folder, &["rev-parse", what]);
    let is_submodule = of(folder, "--show-superproject-working-tree").is_some_and(|outer| !outer.is_empty());
    is_submodule && of(folder, "--show-toplevel") != of(Path::new("."), "--show-toplevel")
}

fn is_revision(base: &str, places: &[PathBuf]) -> bool {
    let commit = format!("{base}^{{commit}}");
    let known = |place: &PathBuf| {
        git(split(place).0, &["rev-parse", "--verify", "--quiet", "--end-of-options", &commit]).is_some()
    };
    places.iter().any(known)
}

/// What git prints, if it succeeds.
fn git(folder: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(folder).args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).ok()).flatten()
}
