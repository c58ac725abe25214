//! Judges one file after the other.

use crate::judge::{Finding, Kinds, Recognized, Rule, judge};
use crate::manifest::{Base, Document, Identity, Node, Source, documents, objects};
use crate::validate::report::{Answer, Collector};

/// What the objects are judged by.
pub struct Context<'c> {
    pub kinds: &'c Kinds,
    pub base: &'c Base,
    pub namespace: &'c str,
}

// === impl Context ===

impl Context<'_> {
    /// Everything about a file. The thread that reads a document frees it: memory that goes to another costs more.
    pub fn file(&self, source: Source) -> Collector {
        let mut collector = Collector::default();
        match source.text {
            Ok(text) => {
                documents(&text).for_each(|document| self.document(&source.name, &document, &mut collector))
            }
            Err(why) => collector.unreadable(source.name, why),
        }
        collector
    }

    fn document(&self, file: &str, document: &Document, collector: &mut Collector) {
        match &document.root {
            Ok(root) => {
                for (item, node) in objects(root) {
                    let identity = Identity::of(&node, self.namespace);
                    let answer = self.answer(&node, &identity);
                    collector.object(file, document.number, item, &node, identity, answer);
                }
            }
            Err(error) => collector.syntax_error(file, document.number, error),
        }
        if let Some(at) = document.ignored_from {
            collector.rest_ignored(file, at);
        }
    }

    fn answer(&self, node: &Node, identity: &Identity) -> Answer {
        match self.kinds.recognize(node) {
            Recognized::Foreign => Answer::Foreign,
            Recognized::Unknown(path, message) => {
                let findings = vec![Finding::new(Rule::UnknownKind, &path, message)];
                Answer::Ours { findings, namespaced: false }
            }
            Recognized::Ours(kind) => {
                let findings = judge(kind, node, self.base.get(identity));
                Answer::Ours { findings, namespaced: kind.namespaced }
            }
        }
    }
}
