//! Where manifests are, and which files choose what a tool applies of them: a directory as it is says nothing about that.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::manifest::Identity;
use crate::manifest::source::{Source, is_selector};

/// See the module. Empty for stdin and for files that were named one by one.
#[derive(Debug, Default)]
pub struct Layout {
    /// The folder of each object below the directory that was named.
    folders: BTreeMap<Identity, PathBuf>,
    /// The content of each file that may choose or change what is applied, by its path below that directory.
    selectors: BTreeMap<PathBuf, String>,
}

// === impl Layout ===

impl Layout {
    pub(super) fn add_object(&mut self, source: &Source, identity: Identity) {
        if let Some(folder) = source.within.as_deref().and_then(Path::parent) {
            self.folders.insert(identity, folder.to_owned());
        }
    }

    pub(super) fn add_selector(&mut self, source: &Source, text: &str) {
        if let Some(path) = &source.within {
            self.selectors.insert(path.clone(), text.to_owned());
        }
    }

    pub fn objects(&self) -> impl Iterator<Item = &Identity> {
        self.folders.keys()
    }

    /// The first file that chooses what is applied.
    pub fn selector(&self) -> Option<&Path> {
        let mut named = self.selectors.keys().filter(|path| is_selector(path));
        named.next().map(PathBuf::as_path)
    }

    /// The files that may choose or change what is applied, and that were changed since.
    pub fn changed_selectors<'l>(&'l self, base: &'l Self) -> Vec<&'l Path> {
        // Without directories on both sides there is nothing to compare.
        if self.is_empty() || base.is_empty() {
            return Vec::new();
        }
        let all = self.selectors.keys().chain(base.selectors.keys());
        let mut changed: Vec<_> = all
            .filter(|path| self.selectors.get(*path) != base.selectors.get(*path))
            .map(PathBuf::as_path)
            .collect();
        changed.sort_unstable();
        changed.dedup();
        changed
    }

    /// The folders of an object before and after, if they differ.
    pub fn moved<'l>(&'l self, base: &'l Self, identity: &Identity) -> Option<(&'l Path, &'l Path)> {
        let (from, to) = (base.folders.get(identity)?, self.folders.get(identity)?);
        (from != to).then_some((from, to))
    }

    fn is_empty(&self) -> bool {
        self.folders.is_empty() && self.selectors.is_empty()
    }
}
