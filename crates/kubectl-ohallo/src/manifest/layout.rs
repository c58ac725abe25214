//! Where objects and their manifests are, and which files choose what a tool applies of them: a directory as it is says nothing
//! about that.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::manifest::source::{Source, is_selector};
use crate::manifest::{Identity, Node};

/// See the module. Stdin, and files that were named one by one, have neither folders nor files that choose.
#[derive(Debug, Default)]
pub struct Layout {
    /// Each object with the folder of its manifest below the directory that was named, if one was.
    folders: BTreeMap<Identity, Option<PathBuf>>,
    /// Objects without a namespace of their own.
    unplaced: BTreeSet<Identity>,
    /// Those of them that another manifest describes as well.
    ambiguous: BTreeSet<Identity>,
    /// The content of each file that may choose or change what is applied, by its path below that directory.
    selectors: BTreeMap<PathBuf, String>,
}

// === impl Layout ===

impl Layout {
    pub(super) fn add_object(&mut self, source: &Source, node: &Node, identity: Identity) {
        let folder = source.within.as_deref().and_then(Path::parent).map(Path::to_owned);
        let is_known = self.folders.insert(identity.clone(), folder).is_some();
        if node.text_at(&["metadata", "namespace"]).is_empty() {
            if is_known {
                self.ambiguous.insert(identity.clone());
            }
            self.unplaced.insert(identity);
        }
    }

    pub(super) fn add_selector(&mut self, source: &Source, text: &str) {
        if let Some(path) = &source.within {
            self.selectors.insert(path.clone(), text.to_owned());
        }
    }

    /// Objects whose manifest does not say which namespace they are in.
    pub fn unplaced(&self) -> impl Iterator<Item = &Identity> {
        self.unplaced.iter()
    }

    /// Those of them that another manifest describes as well, if they are in the namespace that is assumed.
    pub fn ambiguous(&self) -> impl Iterator<Item = &Identity> {
        self.ambiguous.iter()
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
        if !(self.has_directory() && base.has_directory()) {
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
        let of = |layout: &'l Self| layout.folders.get(identity)?.as_deref();
        let (from, to) = (of(base)?, of(self)?);
        (from != to).then_some((from, to))
    }

    fn has_directory(&self) -> bool {
        !self.selectors.is_empty() || self.folders.values().any(Option::is_some)
    }
}
