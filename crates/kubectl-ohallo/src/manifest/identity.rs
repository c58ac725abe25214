//! Which object a manifest describes.

use std::borrow::Cow;
use std::fmt;

use crate::manifest::Node;
use crate::manifest::node::{Content, Entry};

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

/// The objects of a document, with their places in a list: the document itself, or its items. kubectl, Flux and Argo CD take
/// whatever has `items` for a list, and an item without a type for one of the list's kind.
pub fn objects(root: &Node) -> Vec<(Option<usize>, Cow<'_, Node>)> {
    let kind = root.text_at(&["kind"]);
    let items = root.field("items").and_then(|entry| entry.value.items());
    match items.filter(|_| !kind.is_empty()) {
        Some(items) => items
            .iter()
            .map(|item| typed(item, root))
            .enumerate()
            .map(|(at, item)| (Some(at), item))
            .collect(),
        None => vec![(None, Cow::Borrowed(root))],
    }
}

/// An item with the type that it has, or else with the one that its list implies.
fn typed<'n>(item: &'n Node, list: &Node) -> Cow<'n, Node> {
    let Content::Map(entries) = &item.content else { return Cow::Borrowed(item) };
    if !(item.text_at(&["kind"]).is_empty() && item.text_at(&["apiVersion"]).is_empty()) {
        return Cow::Borrowed(item);
    }
    let kind = list.text_at(&["kind"]);
    let kind = kind.strip_suffix("List").unwrap_or(kind);
    let implied = [("apiVersion", list.text_at(&["apiVersion"])), ("kind", kind)].map(|(key, text)| Entry {
        key: key.to_owned(),
        at: item.start,
        value: Node { content: Content::Text(text.to_owned()), start: item.start },
    });
    let own = entries.iter().filter(|entry| !["apiVersion", "kind"].contains(&entry.key.as_str()));
    let content = Content::Map(implied.into_iter().chain(own.cloned()).collect());
    Cow::Owned(Node { content, start: item.start })
}
