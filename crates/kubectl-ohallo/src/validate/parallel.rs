//! Reads and judges files by several threads. The results come in the order of the files.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZero;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

use crate::judge::{Finding, Kinds, Recognized, Rule, judge};
use crate::manifest::{Base, Document, Identity, STACK, Source, documents, objects};

/// What the API server would answer about one object.
pub enum Answer {
    /// It is of another kind, and not judged.
    Foreign,
    Ours {
        findings: Vec<Finding>,
        namespaced: bool,
    },
}

/// A file, with the answer to each object of each of its documents.
pub struct JudgedFile {
    pub name: String,
    /// The documents, or why the file can't be read.
    pub documents: Result<Vec<(Document, Vec<Answer>)>, String>,
}

/// What the objects are judged by.
pub struct Context<'c> {
    pub kinds: &'c Kinds,
    pub base: &'c Base,
    pub namespace: &'c str,
}

/// Calls `collect` for each file.
///
/// # Errors
/// A thread can't be started.
pub fn judge_all(
    sources: impl Iterator<Item = Source> + Send,
    context: &Context<'_>,
    mut collect: impl FnMut(JudgedFile),
) -> io::Result<()> {
    let files = sources.size_hint().1.unwrap_or(usize::MAX);
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(files);
    if threads < 2 {
        sources.for_each(|source| collect(context.judged(source)));
        return Ok(());
    }
    let sources = Mutex::new(sources.enumerate());
    // Bounded: few files are in memory at once.
    let (sender, receiver) = mpsc::sync_channel(threads);
    thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, sources) = (sender.clone(), &sources);
            // A document may be as deep as the API server takes it.
            let thread = thread::Builder::new().stack_size(STACK);
            thread.spawn_scoped(scope, move || {
                loop {
                    let next = sources.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((at, source)) = next else { return };
                    if sender.send((at, context.judged(source))).is_err() {
                        return;
                    }
                }
            })?;
        }
        drop(sender);
        let (mut early, mut due) = (BTreeMap::new(), 0);
        for (at, judged) in receiver {
            early.insert(at, judged);
            while let Some(judged) = early.remove(&due) {
                collect(judged);
                due += 1;
            }
        }
        Ok(())
    })
}

// === impl Context ===

impl Context<'_> {
    fn judged(&self, source: Source) -> JudgedFile {
        let documents = source.text.map(|text| {
            let all = documents(&text).map(|document| {
                let answers = self.answers(&document);
                (document, answers)
            });
            all.collect()
        });
        JudgedFile { name: source.name, documents }
    }

    /// One for each object, in their order.
    pub fn answers(&self, document: &Document) -> Vec<Answer> {
        let Ok(root) = &document.root else { return Vec::new() };
        let objects = objects(root).into_iter();
        let answers = objects.map(|(_, node)| match self.kinds.recognize(&node) {
            Recognized::Foreign => Answer::Foreign,
            Recognized::Unknown(path, message) => {
                let findings = vec![Finding::new(Rule::UnknownKind, &path, message)];
                Answer::Ours { findings, namespaced: false }
            }
            Recognized::Ours(kind) => {
                let old = self.base.get(&Identity::of(&node, self.namespace));
                Answer::Ours { findings: judge(kind, &node, old), namespaced: kind.namespaced }
            }
        });
        answers.collect()
    }
}
