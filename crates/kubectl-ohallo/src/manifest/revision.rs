//! Files and directories as they are in a Git revision, without a checkout.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Failure;
use crate::manifest::source::{Source, has_ending, is_selector};

/// Whether the repository of one of these places knows the revision.
///
/// # Errors
/// None does: what Git says about it, if anything.
pub fn resolve(revision: &str, places: &[PathBuf]) -> Result<(), String> {
    let mut why = String::new();
    for place in places.iter().filter(|_| !revision.starts_with('-')) {
        match commit(split(place).0, revision) {
            Ok(_) => return Ok(()),
            Err(said) => why = said,
        }
    }
    Err(why)
}

/// A reference of the same name that leads elsewhere. Git takes the tag, and anyone who may push can make one.
pub fn ambiguous(revision: &str, places: &[PathBuf]) -> Option<&'static str> {
    const KINDS: [(&str, &str); 3] =
        [("refs/tags/", "a tag"), ("refs/heads/", "a branch"), ("refs/remotes/", "a remote branch")];
    let is_short_id = revision.len() < 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit());
    for place in places {
        let folder = split(place).0;
        let mut found = BTreeSet::new();
        for (prefix, kind) in KINDS {
            let Ok(id) = commit(folder, &format!("{prefix}{revision}")) else { continue };
            found.insert(id);
            if found.len() > 1 || is_short_id {
                return Some(kind);
            }
        }
    }
    None
}

/// The same files and directories in a revision of the repository that they are in.
///
/// # Errors
/// A place or a file can't be followed into the revision.
pub fn sources(revision: &str, places: &[PathBuf]) -> Result<Vec<Source>, Failure> {
    if places.iter().any(|place| place == Path::new("-")) {
        return Err(Failure::usage(format!(
            "--base {revision} is a Git revision, and stdin is in none: name a file or a directory"
        )));
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
        of_place(revision, place, &mut sources)?;
    }
    Ok(sources)
}

fn of_place(revision: &str, place: &Path, sources: &mut Vec<Source>) -> Result<(), Failure> {
    let (folder, name) = split(place);
    let name = name.to_string_lossy();
    let failed = |why: String| {
        let why = if why.is_empty() { "git has failed".to_owned() } else { why };
        Failure::undecided(format!("{} of {revision} can't be read: {why}", place.display()))
    };
    let listed = git(folder, &["ls-tree", "-r", "-z", revision, "--", &name]).map_err(failed)?;
    let tracked = git(folder, &["ls-files", "-z", "--", &name]).map_err(failed)?;
    let tracked: BTreeSet<_> = tracked.split('\0').collect();
    for entry in listed.split('\0').filter(|entry| !entry.is_empty()) {
        let (mode, file) = entry.split_once('\t').unwrap_or(("", entry));
        let within = place.is_dir().then(|| PathBuf::from(file));
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
        if within.as_deref().is_some_and(|path| !has_ending(path) && !is_selector(path)) {
            continue;
        }
        // A commit would delete it, although it is still there to be read.
        if folder.join(file).exists() && !tracked.contains(file) {
            return Err(Failure::undecided(format!(
                "{} is in {revision}, and Git does not track it any more: remove the file, or add it to Git",
                folder.join(file).display()
            )));
        }
        let text = git(folder, &["cat-file", "blob", &format!("{revision}:./{file}")]);
        let text = text.map_err(|why| format!("{name} can't be read: {why}"));
        sources.push(Source { name, within, text });
    }
    Ok(())
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
    let is_submodule = of(folder, "--show-superproject-working-tree").is_ok_and(|outer| !outer.is_empty());
    is_submodule && of(folder, "--show-toplevel") != of(Path::new("."), "--show-toplevel")
}

/// The commit that a name stands for.
fn commit(folder: &Path, name: &str) -> Result<String, String> {
    git(folder, &["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{name}^{{commit}}")])
}

/// What git prints if it succeeds, else its first line about the reason.
fn git(folder: &Path, args: &[&str]) -> Result<String, String> {
    let output = Command::new("git").arg("-C").arg(folder).args(args).output();
    let output = output.map_err(|error| format!("git can't be run: {error}"))?;
    if output.status.success() {
        return String::from_utf8(output.stdout).map_err(|_| "it is not text in UTF-8".to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().next().unwrap_or_default().trim_start_matches("fatal: ").to_owned())
}
