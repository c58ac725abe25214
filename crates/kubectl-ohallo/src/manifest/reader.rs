//! Splits a file into documents as kubectl does, and parses each.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use granit_parser::{Event, Marker, Options, Parser, ScalarStyle};
use serde::de::IgnoredAny;

use crate::manifest::node::{Content, Entry, Node, Position};
use crate::manifest::scalar::{self, Tag};

/// The deepest nesting that the API server decodes.
const MAX_DEPTH: usize = 10_000;
/// How many values aliases may add to a document. Kubernetes refuses such documents at a similar size.
const MAX_ALIASED: usize = 100_000;
/// How many bytes of text aliases may add to a document. The API server stores no object of this size.
const MAX_ALIASED_BYTES: usize = 8 * 1024 * 1024;

/// A document that can't be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SyntaxError {
    pub message: String,
    pub at: Position,
}

/// One document of a file. Empty documents are none.
#[derive(Debug)]
pub struct Document {
    /// Its number in the file, from 1.
    pub number: usize,
    pub root: Result<Node, SyntaxError>,
    /// Where kubectl stops reading: it ignores a second document that no line of exactly `---` separates.
    pub ignored_from: Option<Position>,
}

/// The documents of a YAML or JSON file, parsed one after the other.
pub fn documents(text: &str) -> impl Iterator<Item = Document> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let chunks = if text.trim_start().starts_with('{') { json_chunks(text) } else { yaml_chunks(text) };
    let parsed = chunks.into_iter().filter_map(Chunk::parse);
    parsed.enumerate().map(|(at, document)| Document { number: at + 1, ..document })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Syntax {
    Yaml,
    Json,
}

/// A part of a file that holds one document.
struct Chunk<'t> {
    text: &'t str,
    /// The number of lines before it.
    lines_before: usize,
    syntax: Syntax,
    /// Where JSON can't be read.
    error: Option<SyntaxError>,
}

/// The values of a stream of JSON. A stream whose first value is no JSON may be YAML in flow style.
fn json_chunks(text: &str) -> Vec<Chunk<'_>> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    let mut chunks = Vec::new();
    let (mut start, mut lines_before) = (0, 0);
    loop {
        let value = values.next();
        let end = values.byte_offset();
        let (read, rest) = (text.get(start..end).unwrap_or_default(), text.get(start..).unwrap_or_default());
        match value {
            None => return chunks,
            Some(Ok(_)) => {
                chunks.push(Chunk { text: read, lines_before, syntax: Syntax::Json, error: None });
                lines_before += lines(read);
                start = end;
            }
            Some(Err(_)) if chunks.is_empty() => return yaml_chunks(text),
            Some(Err(error)) => {
                let at = Position { line: error.line().max(1), column: error.column().max(1) };
                let error = Some(SyntaxError { message: format!("the JSON can't be parsed: {error}"), at });
                chunks.push(Chunk { text: rest, lines_before, syntax: Syntax::Json, error });
                return chunks;
            }
        }
    }
}

fn lines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

/// What lines of exactly `---` separate.
fn yaml_chunks(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let (mut start, mut at, mut lines_before, mut line) = (0, 0, 0, 0);
    let mut push = |start: usize, end: usize, lines_before| {
        let text = text.get(start..end).unwrap_or_default();
        chunks.push(Chunk { text, lines_before, syntax: Syntax::Yaml, error: None });
    };
    for full in text.split_inclusive('\n') {
        if full.strip_prefix("---").is_some_and(|rest| rest.trim().is_empty()) {
            push(start, at, lines_before);
            start = at + full.len();
            lines_before = line + 1;
        }
        at += full.len();
        line += 1;
    }
    push(start, at, lines_before);
    chunks
}

// === impl Chunk ===

impl Chunk<'_> {
    /// None where it holds only blanks and comments.
    fn parse(self) -> Option<Document> {
        if let Some(error) = self.error {
            return Some(Document { number: 0, root: Err(error), ignored_from: None });
        }
        let mut builder = Builder::new(self.lines_before, self.syntax);
        let text = match self.syntax {
            Syntax::Yaml => Cow::Borrowed(self.text),
            Syntax::Json => printable(self.text),
        };
        let root = builder.run(&text).transpose()?;
        let ignored_from = builder.ignored_from.filter(|_| root.is_ok());
        Some(Document { number: 0, root, ignored_from })
    }
}

/// Whether a character may not be in YAML, escapes apart.
fn is_refused(character: char) -> bool {
    matches!(character, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{7f}'..='\u{84}'
        | '\u{86}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}')
}

/// JSON with escapes for the characters that only JSON allows. They are in its strings.
fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_refused) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if is_refused(character) {
            _ = write!(out, "\\u{:04x}", u32::from(character));
        } else {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

/// A collection whose values are still to come.
struct Open {
    at: Position,
    anchor: usize,
    kind: Kind,
}

enum Kind {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, key: Option<Key> },
}

/// The key that the next value belongs to.
enum Key {
    Name(String, Position),
    Merge,
}

/// The value that an anchor names.
struct Anchored {
    content: Content,
    size: Size,
    /// The first alias only repeats what was counted where the anchor is.
    is_counted: bool,
}

/// What a value costs when it is copied.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    values: usize,
    bytes: usize,
}

struct Builder {
    lines_before: usize,
    syntax: Syntax,
    open: Vec<Open>,
    /// The anchors that an alias names. The others are not kept: each would be a copy.
    named: BTreeSet<usize>,
    anchors: BTreeMap<usize, Anchored>,
    aliased: Size,
    root: Option<Node>,
    ignored_from: Option<Position>,
}

// === impl Builder ===

impl Builder {
    fn new(lines_before: usize, syntax: Syntax) -> Self {
        Self {
            lines_before,
            syntax,
            open: Vec::new(),
            named: BTreeSet::new(),
            anchors: BTreeMap::new(),
            aliased: Size::default(),
            root: None,
            ignored_from: None,
        }
    }

    fn run(&mut self, text: &str) -> Result<Option<Node>, SyntaxError> {
        if self.syntax == Syntax::Yaml {
            self.check_characters(text)?;
        }
        let mut options = Options::default();
        options.flow_nesting_limit = MAX_DEPTH;
        options.block_nesting_limit = MAX_DEPTH;
        if self.syntax == Syntax::Json {
            options.simple_key_max_lookahead = usize::MAX;
        }
        self.named = aliases(text, &options);
        for event in Parser::new_from_str_with_options(text, options) {
            let (event, span) = match event {
                Ok(event) => event,
                Err(error) => {
                    let at = self.place(error.marker());
                    // Kubernetes stops at the end of the first value, whatever follows.
                    if self.root.is_some() && self.open.is_empty() {
                        self.ignored_from = Some(at);
                        break;
                    }
                    let message = format!("the YAML can't be parsed: {}", error.info());
                    return Err(SyntaxError { message, at });
                }
            };
            let at = self.place(&span.start);
            if self.root.is_some() && matches!(event, Event::DocumentStart(..)) {
                self.ignored_from = Some(at);
                break;
            }
            self.event(event, at)?;
        }
        Ok(self.root.take())
    }

    /// The characters that Kubernetes' YAML parser refuses.
    fn check_characters(&self, text: &str) -> Result<(), SyntaxError> {
        let Some(at) = text.find(is_refused) else { return Ok(()) };
        let before = text.get(..at).unwrap_or_default();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let at = Position { line: self.lines_before + lines(before) + 1, column };
        Err(SyntaxError {
            message: "the YAML has a control character: remove it, or write an escape".to_owned(),
            at,
        })
    }

    fn place(&self, marker: &Marker) -> Position {
        Position { line: marker.line() + self.lines_before, column: marker.col() + 1 }
    }

    fn event(&mut self, event: Event<'_>, at: Position) -> Result<(), SyntaxError> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.as_deref().map(|tag| (tag.handle(), tag.suffix()));
                let content = self.scalar(&text, style, tag, at)?;
                self.value(content, at, anchor, style == ScalarStyle::Plain && text == "<<" && tag.is_none())
            }
            Event::SequenceStart(_, anchor, _) => {
                self.open.push(Open { at, anchor, kind: Kind::List(Vec::new()) });
                Ok(())
            }
            Event::MappingStart(_, anchor, _) => {
                let kind = Kind::Map { entries: Vec::new(), key: None };
                self.open.push(Open { at, anchor, kind });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Ok(()) };
                let content = match open.kind {
                    Kind::List(items) => Content::List(items),
                    Kind::Map { entries, .. } => Content::Map(entries),
                };
                self.value(content, open.at, open.anchor, false)
            }
            Event::Alias(anchor) => self.alias(anchor, at),
            _ => Ok(()),
        }
    }

    fn scalar(
        &self,
        text: &str,
        style: ScalarStyle,
        tag: Option<(&str, &str)>,
        at: Position,
    ) -> Result<Content, SyntaxError> {
        let tag = match tag {
            None if style == ScalarStyle::Plain => Tag::None,
            Some(("tag:yaml.org,2002:", "bool")) => Tag::Bool,
            Some(("tag:yaml.org,2002:", "int")) => Tag::Int,
            Some(("tag:yaml.org,2002:", "float")) => Tag::Float,
            Some(("tag:yaml.org,2002:", "null")) => Tag::Null,
            None | Some(_) => Tag::Text,
        };
        match (self.syntax, tag) {
            // JSON keeps the difference between 600 and 600.0, which YAML has lost by then.
            (Syntax::Json, Tag::None) => match serde_json::from_str(text) {
                Ok(number) => Ok(Content::Number(number)),
                Err(_) => scalar::resolve(text, tag).map_err(|error| syntax(&error, at)),
            },
            _ => scalar::resolve(text, tag).map_err(|error| syntax(&error, at)),
        }
    }

    fn alias(&mut self, anchor: usize, at: Position) -> Result<(), SyntaxError> {
        let Some(anchored) = self.anchors.get_mut(&anchor) else {
            let message = "the anchor contains itself: write the value instead of the alias".to_owned();
            return Err(SyntaxError { message, at });
        };
        let added = if std::mem::take(&mut anchored.is_counted) { Size::default() } else { anchored.size };
        let content = self.aliased.fits(added, at).map(|()| anchored.content.clone())?;
        self.value(content, at, 0, false)
    }

    /// Keeps the value of an anchor for its aliases. There is at least one, so it counts already here.
    fn keep(&mut self, anchor: usize, content: &Content, at: Position) -> Result<(), SyntaxError> {
        if self.named.contains(&anchor) {
            let size = content.size();
            self.aliased.fits(size, at)?;
            self.anchors.insert(anchor, Anchored { content: content.clone(), size, is_counted: true });
        }
        Ok(())
    }

    /// A value is complete: it is a key, a value, an item, or the document.
    fn value(
        &mut self,
        content: Content,
        at: Position,
        anchor: usize,
        merges: bool,
    ) -> Result<(), SyntaxError> {
        self.keep(anchor, &content, at)?;
        let Some(open) = self.open.last_mut() else {
            self.root = Some(Node { content, start: at });
            return Ok(());
        };
        match &mut open.kind {
            Kind::List(items) => items.push(Node { content, start: at }),
            Kind::Map { entries, key } => match key.take() {
                None if merges => *key = Some(Key::Merge),
                None => *key = Some(Key::Name(name(content, at)?, at)),
                Some(Key::Name(name, position)) => {
                    entries.push(Entry { key: name, at: position, value: Node { content, start: at } });
                }
                Some(Key::Merge) => entries.extend(merged(content, at)?),
            },
        }
        Ok(())
    }
}

fn syntax(error: &scalar::TagError, at: Position) -> SyntaxError {
    SyntaxError { message: error.to_string(), at }
}

/// The anchors that an alias names, by the parser's numbers.
fn aliases(text: &str, options: &Options) -> BTreeSet<usize> {
    // Most documents have none, and need not be parsed twice.
    if !(text.contains('&') && text.contains('*')) {
        return BTreeSet::new();
    }
    let events = Parser::new_from_str_with_options(text, options.clone()).map_while(Result::ok);
    let named = events.filter_map(|(event, _)| match event {
        Event::Alias(anchor) => Some(anchor),
        _ => None,
    });
    named.collect()
}

// === impl Size ===

impl Size {
    /// Counts what an alias adds.
    fn fits(&mut self, added: Size, at: Position) -> Result<(), SyntaxError> {
        self.values += added.values;
        self.bytes += added.bytes;
        if self.values > MAX_ALIASED || self.bytes > MAX_ALIASED_BYTES {
            let message = "the document has too many aliases: write the values instead".to_owned();
            return Err(SyntaxError { message, at });
        }
        Ok(())
    }
}

// === impl Content ===

impl Content {
    /// Its values, and the bytes of their texts and keys.
    fn size(&self) -> Size {
        let mut size = Size { values: 1, bytes: 0 };
        let mut add = |inner: Size| {
            size.values += inner.values;
            size.bytes += inner.bytes;
        };
        match self {
            Content::List(items) => items.iter().for_each(|item| add(item.content.size())),
            Content::Map(entries) => {
                for entry in entries {
                    add(Size { values: 0, bytes: entry.key.len() });
                    add(entry.value.content.size());
                }
            }
            Content::Text(text) => size.bytes += text.len(),
            Content::Null | Content::NotFinite | Content::Bool(_) | Content::Number(_) => {}
        }
        size
    }
}

/// A key as JSON has it.
fn name(content: Content, at: Position) -> Result<String, SyntaxError> {
    match content {
        Content::Text(text) => Ok(text),
        Content::Bool(value) => Ok(value.to_string()),
        Content::Number(number) => Ok(number.to_string()),
        Content::Null | Content::NotFinite | Content::List(_) | Content::Map(_) => {
            Err(SyntaxError { message: "the key is no text: put it in quotes".to_owned(), at })
        }
    }
}

/// What `<<` adds to an object. Of several maps the first has precedence.
fn merged(content: Content, at: Position) -> Result<Vec<Entry>, SyntaxError> {
    match content {
        Content::Map(entries) => Ok(entries),
        Content::List(items) => {
            let all: Result<Vec<_>, _> =
                items.into_iter().rev().map(|item| merged(item.content, at)).collect();
            Ok(all?.into_iter().flatten().collect())
        }
        Content::Null | Content::NotFinite | Content::Bool(_) | Content::Number(_) | Content::Text(_) => {
            Err(SyntaxError { message: "<< takes an object or a list of objects".to_owned(), at })
        }
    }
}
