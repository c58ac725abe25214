//! Which object a manifest describes.

use std::fmt;

use crate::manifest::Node;

/// Group, kind, namespace and name: two manifests with the same describe one object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// Empty for the core group.
    pub group: String,
    pub kind: String,
    /// That of the manifest or, if it has none, the default one. Also for kinds without namespaces.
    pub namespace: String,
    pub name: String,
}

// === impl Identity ===

impl Identity {
    pub fn of(node: &Node, namespace: &str) -> Self {
        let api_version = node.text_at(&["apiVersion"]);
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let own = node.text_at(&["metadata", "namespace"]);
        Self {
            group: group.to_owned(),
            kind: node.text_at(&["kind"]).to_owned(),
            namespace: if own.is_empty() { namespace } else { own }.to_owned(),
            name: node.text_at(&["metadata", "name"]).to_owned(),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// The objects of a document, with their places in a List: the document itself, or the items of a List.
pub fn objects(root: &Node) -> Vec<(Option<usize>, &Node)> {
    let items = root.field("items").and_then(|entry| entry.value.items());
    match items.filter(|_| root.text_at(&["kind"]).ends_with("List")) {
        Some(items) => items.iter().enumerate().map(|(at, item)| (Some(at), item)).collect(),
        None => vec![(None, root)],
    }
}
