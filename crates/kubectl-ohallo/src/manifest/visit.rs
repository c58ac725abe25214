//! Every object of a set of manifests, for those who need all of them.

use crate::failure::Failure;
use crate::manifest::node::Content;
use crate::manifest::reader::{Document, documents};
use crate::manifest::source::{Source, is_selector};
use crate::manifest::{Identity, Layout, Node, objects};

/// Calls `visit` for each object of these files. `of` says in errors which files they are.
///
/// # Errors
/// A file can't be read or parsed: a set with holes would hide what changes.
pub fn visit(
    sources: impl IntoIterator<Item = Source>,
    of: &str,
    namespace: &str,
    mut visit: impl FnMut(Identity, &Node),
) -> Result<Layout, Failure> {
    let mut layout = Layout::default();
    for source in sources {
        let text = source.text.as_ref().map_err(|why| Failure::undecided(why.clone()))?;
        let mut selects = source.within.as_deref().is_some_and(is_selector);
        let documents = source.is_manifest().then(|| documents(text));
        for document in documents.into_iter().flatten() {
            let root = root(document, &format!("{}{of}", source.name))?;
            for (_, node) in objects(&root) {
                let identity = Identity::of(&node, namespace);
                // The values of a chart, or a patch.
                selects |= identity.kind.is_empty();
                layout.add_object(&source, &node, identity.clone());
                visit(identity, &node);
            }
        }
        if selects {
            layout.add_selector(&source, text);
        }
    }
    Ok(layout)
}

fn root(document: Document, name: &str) -> Result<Node, Failure> {
    let root = document
        .root
        .map_err(|error| Failure::undecided(format!("{name}: line {}: {error}", error.at.line)))?;
    if let Some(at) = document.ignored_from {
        return Err(Failure::undecided(format!(
            "{name}: line {}: kubectl ignores what follows this separator, and other tools apply it: write --- alone on its line",
            at.line
        )));
    }
    match root.content {
        Content::Map(_) | Content::List(_) | Content::Null => Ok(root),
        // Such as the pointer that Git LFS leaves instead of a file.
        Content::NotFinite | Content::Bool(_) | Content::Number(_) | Content::Text(_) => {
            Err(Failure::undecided(format!(
                "{name}: line {}: this is a single value and no manifest: is the file complete?",
                root.start.line
            )))
        }
    }
}
