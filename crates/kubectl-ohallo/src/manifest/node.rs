//! A parsed document with the position of each value.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Number, Value};

use crate::manifest::{FieldPath, Step, Trail};

/// The API server reports this many duplicate keys of an object, and the path of each can be as long as it is deep.
const MAX_FOUND: usize = 100;
/// So few keys are compared with each other.
const FEW: usize = 16;

/// Where something is in a file. Both count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

/// One value of a document.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub content: Content,
    pub start: Position,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    Null,
    /// Infinity or NaN, which JSON has no word for.
    NotFinite,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of an object and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: String,
    pub at: Position,
    pub value: Node,
}

/// A key that its object has already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    pub path: FieldPath,
    pub at: Position,
}

// === impl Node ===

impl Node {
    /// The value alone. Of two equal keys the last wins, as in the API server.
    pub fn value(&self) -> Value {
        match &self.content {
            Content::Null | Content::NotFinite => Value::Null,
            Content::Bool(value) => Value::Bool(*value),
            Content::Number(number) => Value::Number(number.clone()),
            Content::Text(text) => Value::String(text.clone()),
            Content::List(items) => Value::Array(items.iter().map(Node::value).collect()),
            Content::Map(entries) => {
                let mut fields = Map::new();
                for entry in entries {
                    fields.insert(entry.key.clone(), entry.value.value());
                }
                Value::Object(fields)
            }
        }
    }

    /// The field of an object. Of two equal keys the last.
    pub fn field(&self, key: &str) -> Option<&Entry> {
        match &self.content {
            Content::Map(entries) => entries.iter().rev().find(|entry| entry.key == key),
            _ => None,
        }
    }

    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value that these keys lead to.
    pub fn at(&self, keys: &[&str]) -> Option<&Node> {
        keys.iter().try_fold(self, |node, key| Some(&node.field(key)?.value))
    }

    /// The text that these keys lead to, or nothing.
    pub fn text_at(&self, keys: &[&str]) -> &str {
        self.at(keys).and_then(Node::text).unwrap_or_default()
    }

    /// The keys of the object that these keys lead to.
    pub fn keys_at(&self, keys: &[&str]) -> Vec<String> {
        let entries = match self.at(keys).map(|node| &node.content) {
            Some(Content::Map(entries)) => entries.as_slice(),
            _ => &[],
        };
        entries.iter().map(|entry| entry.key.clone()).collect()
    }

    pub fn items(&self) -> Option<&[Node]> {
        match &self.content {
            Content::List(items) => Some(items),
            _ => None,
        }
    }

    /// Whether it or a value inside it is so: cheaper than a walk that builds paths.
    fn any(&self, holds: &impl Fn(&Node) -> bool) -> bool {
        holds(self)
            || match &self.content {
                Content::List(items) => items.iter().any(|item| item.any(holds)),
                Content::Map(entries) => entries.iter().any(|entry| entry.value.any(holds)),
                Content::Null
                | Content::NotFinite
                | Content::Bool(_)
                | Content::Number(_)
                | Content::Text(_) => false,
            }
    }

    fn has_duplicates(&self) -> bool {
        let Content::Map(entries) = &self.content else { return false };
        // Objects are small: comparing is cheaper than a set.
        if entries.len() <= FEW {
            let mut rest = entries.as_slice();
            while let [entry, others @ ..] = rest {
                if others.iter().any(|other| other.key == entry.key) {
                    return true;
                }
                rest = others;
            }
            return false;
        }
        let keys: BTreeSet<_> = entries.iter().map(|entry| entry.key.as_str()).collect();
        keys.len() < entries.len()
    }

    /// The path of each value that JSON has no word for. Of two equal keys the last counts.
    pub fn not_finite(&self) -> Vec<FieldPath> {
        let mut found = Vec::new();
        if !self.any(&|node| node.content == Content::NotFinite) {
            return found;
        }
        self.collect_not_finite(&Trail::Root, &mut found);
        found
    }

    fn collect_not_finite(&self, trail: &Trail<'_>, found: &mut Vec<FieldPath>) {
        match &self.content {
            Content::NotFinite if found.len() < MAX_FOUND => found.push(trail.path()),
            Content::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    item.collect_not_finite(&Trail::Index(trail, index), found);
                }
            }
            Content::Map(entries) => {
                let last: BTreeMap<_, _> = entries.iter().map(|entry| (&entry.key, &entry.value)).collect();
                for (key, value) in last {
                    value.collect_not_finite(&Trail::Key(trail, key), found);
                }
            }
            Content::Null | Content::NotFinite | Content::Bool(_) | Content::Number(_) | Content::Text(_) => {
            }
        }
    }

    /// Every key that its object has already.
    pub fn duplicates(&self) -> Vec<Duplicate> {
        let mut found = Vec::new();
        if !self.any(&Node::has_duplicates) {
            return found;
        }
        self.collect_duplicates(&Trail::Root, &mut found);
        found
    }

    fn collect_duplicates(&self, trail: &Trail<'_>, found: &mut Vec<Duplicate>) {
        match &self.content {
            Content::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    item.collect_duplicates(&Trail::Index(trail, index), found);
                }
            }
            Content::Map(entries) => {
                let mut seen = BTreeSet::new();
                for entry in entries {
                    let trail = Trail::Key(trail, &entry.key);
                    if !seen.insert(entry.key.as_str()) && found.len() < MAX_FOUND {
                        found.push(Duplicate { path: trail.path(), at: entry.at });
                    }
                    entry.value.collect_duplicates(&trail, found);
                }
            }
            Content::Null | Content::NotFinite | Content::Bool(_) | Content::Number(_) | Content::Text(_) => {
            }
        }
    }

    /// The position of the field that a path names, or of its nearest ancestor that exists.
    pub fn position(&self, path: &FieldPath) -> Position {
        let (mut node, mut at) = (self, self.start);
        for step in path.steps() {
            let next = match step {
                Step::Key(key) => node.field(key).map(|entry| (&entry.value, entry.at)),
                Step::Index(index) => {
                    node.items().and_then(|items| items.get(*index)).map(|item| (item, item.start))
                }
            };
            let Some((inner, position)) = next else { break };
            (node, at) = (inner, position);
        }
        at
    }
}
