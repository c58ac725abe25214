//! Projects the API server's responses onto what the operator reads, while they stream in. What a tenant stores
//! in an object costs no memory unless the operator uses it. Nothing undecodable passes: one such object would
//! stop the list, and with it every other object of the cluster.
//!
//! It drops what the operator never reads (labels, owner references, managed fields, foreign annotations) and
//! what is deeper than [`LEVELS`]. It also drops what exceeds its bound, with a note: see [`Mode`].

use std::fmt::Debug;

use axum::body::Bytes;
use axum::http::{Method, Request};
use http_body_util::BodyExt;
use kube::api::GetParams;
use kube::client::Body;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;

use ohallo_client::heavy;
use ohallo_core::api::{GROUP, annotation, finalizer};
use ohallo_core::channel::config;
use ohallo_core::decoded_size::Meter;
use ohallo_core::placeholder::{CUT, SECRET_DATA, left_out};

/// The nesting levels that pass: fewer than serde_json reads, and many more than any valid object has.
const LEVELS: usize = 100;

/// The longest key with a rule, in bytes; a longer key matches no rule.
const MAX_KEY_BYTES: usize = 64;

/// The longest text outside `spec.config` and a Secret's data, in bytes of JSON. The schemas allow longer texts
/// only in a condition's message, and the operator writes no longer ones.
const MAX_TEXT_BYTES: usize = 4096;

/// The longest text in `spec.credentials` that a cache keeps, in bytes of JSON: a Secret's name has at most
/// 253.
const MAX_CREDENTIAL_BYTES: usize = 256;

/// How many foreign finalizers of an object are kept. [`left_out`] stands for the rest.
const FINALIZERS: usize = 32;

/// The most bytes of JSON in a namespace's labels.
const LABELS: usize = 16 * 1024;

/// The cache keeps a config that takes at most this many bytes of memory once decoded.
const CACHED_CONFIG: u64 = 16 * 1024;

/// The most bytes of JSON in a part of a status that the cache keeps.
const CACHED_PART: usize = 4 * 1024;

/// The first capacity for the output of one piece of input, in bytes.
const FIRST_PIECE: usize = 1024;

/// How much of an object passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Lists and watches: what the cache keeps of a thousand objects.
    Cached,
    /// Responses with one object: all of it, except a config that is large once decoded.
    Light,
    /// All of it, except a config that is too large to be sent to oHallo.
    Whole,
}

/// A request extension that asks for the object with its largest parts. Send one such request at a time: its
/// response may take some MiB.
#[derive(Clone, Copy, Debug)]
pub struct Whole;

/// The kind of the objects in a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Channel,
    /// Any other kind of the operator.
    SmallObject,
    Namespace,
    Secret,
    /// Nothing that a tenant writes: only undecodable parts are dropped.
    Other,
}

/// Where in a response a value is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Node {
    Root,
    Items,
    Object,
    Metadata,
    Annotations,
    Finalizers,
    Spec,
    Status,
    Credentials,
    /// Its texts are cut.
    Part,
    /// Everything in it is kept.
    #[default]
    Free,
}

/// What happens to a member of an object.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rule {
    Drop,
    Keep(Node),
    Hold(Node, Bound),
}

/// How large a value may be that is buffered until its size is known.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bound {
    /// Bytes of JSON as received.
    raw: usize,
    /// Bytes of JSON without needless escapes.
    compact: u64,
    /// Bytes of memory once decoded.
    cost: u64,
    /// What replaces the member if it is larger.
    instead: &'static str,
}

/// Projects JSON that arrives in arbitrary pieces.
pub(super) struct Sanitizer {
    subject: Subject,
    mode: Mode,
    frames: Vec<Frame>,
    text: Option<Text>,
    skipping: Option<Skip>,
    holding: Option<Hold>,
    /// The key or finalizer that is being read.
    word: Vec<u8>,
    out: Vec<u8>,
}

/// An object or a list that is still open.
#[derive(Clone, Copy, Debug, Default)]
struct Frame {
    node: Node,
    object: bool,
    /// A member of it has been written, so the next needs a comma.
    any: bool,
    /// A key comes next.
    key: bool,
    /// A value has begun.
    value: bool,
    /// What the next value is.
    child: Node,
    kept: usize,
    /// Finalizers that were left out since the last kept one.
    left_out: usize,
    /// A part of it was cut, or dropped because of its size.
    cut: bool,
    /// Bytes, and decoded bytes, of a dropped config.
    config: Option<(u64, u64)>,
}

/// A string that is being read.
#[derive(Clone, Copy, Debug)]
struct Text {
    role: Role,
    escaped: bool,
    /// Hexadecimal digits of a `\u` that are still to come.
    digits: u8,
    code: u32,
    /// The second half of a surrogate pair is still to come.
    half: bool,
    length: usize,
    limit: usize,
    cut: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// A key that selects a rule.
    Decides,
    Key,
    Value,
    Finalizer,
    Skipped,
}

#[derive(Clone, Copy, Debug)]
struct Skip {
    depth: usize,
    /// It ends with its last bracket; otherwise with the comma or bracket after it.
    bracket: bool,
}

struct Hold {
    /// The level of the object that the member belongs to.
    level: usize,
    /// That object's frame before the member.
    before: Frame,
    config: bool,
    bound: Bound,
    raw: usize,
    /// Bytes of the key and the colon, which do not count.
    prefix: usize,
    meter: Meter,
    kept: Vec<u8>,
    over: bool,
}

/// A client that can decode whatever the API server stores: only managed fields and too deep parts are dropped.
pub fn readable(client: Client) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let client = client.clone();
        async move {
            let mut sanitizer = Sanitizer::new(Subject::Other, Mode::Light);
            let response = client.send(request).await?;
            Ok::<_, kube::Error>(
                response
                    .map(|body| body.map_frame(move |frame| frame.map_data(|bytes| sanitizer.pass(&bytes)))),
            )
        }
    });
    Client::new(service, namespace)
}

/// The bytes of a string up to its closing quotation mark, inclusive; as [`Text::read`] reads them. `None` where it
/// does not end here.
fn string_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += match (bytes.get(at)?, bytes.get(at + 1)) {
            (b'"', _) => return Some(at + 1),
            (b'\\', Some(b'u')) => 6,
            (b'\\', _) => 2,
            _ => 1,
        };
    }
}

/// Reads an object from the API server, with its largest parts if `whole`. `None` if it no longer exists.
///
/// # Errors
/// Errors of the API server and of the connection to it.
pub async fn read<K>(client: &Client, object: &K, whole: bool) -> kube::Result<Option<K>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let meta = object.meta();
    let request = kube::core::Request::new(K::url_path(&(), meta.namespace.as_deref()));
    let request = request.get(meta.name.as_deref().unwrap_or_default(), &GetParams::default());
    let mut request = request.map_err(kube::Error::BuildRequest)?;
    if whole {
        request.extensions_mut().insert(Whole);
    }
    match client.request::<K>(request).await {
        Ok(found) => Ok(Some(found).filter(|found| found.meta().uid == meta.uid)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

// === impl Sanitizer ===

impl Sanitizer {
    fn new(subject: Subject, mode: Mode) -> Self {
        Self {
            subject,
            mode,
            frames: Vec::new(),
            text: None,
            skipping: None,
            holding: None,
            word: Vec::new(),
            out: Vec::new(),
        }
    }

    /// The one for the response to this request.
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let path = request.uri().path();
        let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (subject, listed) = match parts.as_slice() {
            ["apis", group, _, rest @ ..] if *group == GROUP => {
                let rest = if let ["namespaces", _, rest @ ..] = rest { rest } else { rest };
                let subject = match rest.first().copied() {
                    Some("channels") => Subject::Channel,
                    Some(_) => Subject::SmallObject,
                    None => Subject::Other,
                };
                (subject, rest.len() == 1)
            }
            ["api", "v1", "namespaces"] => (Subject::Namespace, true),
            ["api", "v1", "namespaces", _] => (Subject::Namespace, false),
            ["api", "v1", "namespaces", _, "secrets", rest @ ..] | ["api", "v1", "secrets", rest @ ..] => {
                (Subject::Secret, rest.is_empty())
            }
            _ => (Subject::Other, false),
        };
        let whole = request.extensions().get::<Whole>().is_some();
        let mode = match (listed && request.method() == Method::GET, whole) {
            (true, _) => Mode::Cached,
            (false, true) => Mode::Whole,
            (false, false) => Mode::Light,
        };
        Self::new(subject, mode)
    }

    /// Reads the next piece of the response.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        self.out.reserve(if self.subject == Subject::Other {
            bytes.len()
        } else {
            bytes.len().min(FIRST_PIECE)
        });
        let mut rest = bytes;
        while let Some((first, after)) = rest.split_first() {
            let run = if self.text.is_some() { self.plain_text(rest) } else { self.skipped(rest) };
            rest = match run {
                0 => {
                    self.take(*first);
                    after
                }
                length => rest.get(length..).unwrap_or_default(),
            };
        }
    }

    /// What the next piece of a response becomes.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Bytes {
        self.read(bytes);
        self.output()
    }

    /// The output since the last call.
    pub(super) fn output(&mut self) -> Bytes {
        std::mem::take(&mut self.out).into()
    }

    /// Takes the bytes at the beginning that belong to a skipped part, at once: managed fields are half of an object.
    /// Returns their number; 0 where the part may end, or a string of it is incomplete.
    fn skipped(&mut self, bytes: &[u8]) -> usize {
        let Some(skip) = &mut self.skipping else { return 0 };
        let mut length = 0;
        while let Some((first, after)) = bytes.get(length..).and_then(<[u8]>::split_first) {
            length += match first {
                b'"' => match string_length(after) {
                    Some(string) => 1 + string,
                    None => break,
                },
                b'{' | b'[' => {
                    skip.depth = skip.depth.saturating_add(1);
                    1
                }
                b'}' | b']' if skip.depth > 1 => {
                    skip.depth -= 1;
                    1
                }
                b'}' | b']' if skip.depth == 0 || skip.bracket => break,
                b'}' | b']' => {
                    skip.depth = 0;
                    1
                }
                b',' if skip.depth == 0 => break,
                _ => 1,
            };
        }
        length
    }

    /// Takes the bytes at the beginning that are ordinary text of the current string, at once: most bytes of a response
    /// are. Returns their number; 0 where the next byte may end, escape or exceed something.
    fn plain_text(&mut self, bytes: &[u8]) -> usize {
        let Some(text) = &mut self.text else { return 0 };
        let bounded = text.role == Role::Value && !text.cut;
        let room = if bounded { text.limit.saturating_sub(text.length) } else { usize::MAX };
        if text.escaped || text.digits > 0 || room == 0 {
            return 0;
        }
        let length = memchr::memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len()).min(room);
        let plain = bytes.get(..length).unwrap_or_default();
        if length > 0 {
            text.half = false;
        }
        text.length = text.length.saturating_add(length);
        match text.role {
            Role::Decides | Role::Finalizer => {
                let room = (MAX_TEXT_BYTES + 1).saturating_sub(self.word.len());
                self.word.extend(plain.iter().take(room));
            }
            Role::Key => self.write(plain),
            Role::Value if bounded => self.write(plain),
            Role::Value | Role::Skipped => {}
        }
        length
    }

    fn take(&mut self, byte: u8) {
        if self.text.is_some() {
            return self.text_byte(byte);
        }
        if let Some(skip) = &mut self.skipping {
            match byte {
                b'"' => self.text = Some(Text::new(Role::Skipped, usize::MAX)),
                b'{' | b'[' => skip.depth = skip.depth.saturating_add(1),
                b'}' | b']' if skip.depth > 0 => {
                    skip.depth -= 1;
                    if skip.depth == 0 && skip.bracket {
                        self.skipping = None;
                    }
                }
                b',' | b'}' | b']' if skip.depth == 0 => {
                    self.skipping = None;
                    self.structure(byte);
                }
                _ => {}
            }
            return;
        }
        self.structure(byte);
    }

    /// Handles a byte outside of strings and of skipped parts.
    fn structure(&mut self, byte: u8) {
        match byte {
            b'"' => self.begin_text(),
            b'{' | b'[' => self.open(byte),
            b'}' | b']' => self.close(byte),
            b',' => self.next(),
            b':' => {
                // A key that selects a rule is already written.
                if self.frames.last().is_none_or(|frame| !frame.node.decides()) {
                    self.write_byte(b':');
                }
            }
            b' ' | b'\n' | b'\r' | b'\t' => self.write_byte(byte),
            _ => {
                self.begin_value();
                self.write_byte(byte);
            }
        }
    }

    fn begin_text(&mut self) {
        let role = match self.frames.last() {
            Some(frame) if frame.object && frame.key && frame.node.decides() => Role::Decides,
            Some(frame) if frame.object && frame.key => Role::Key,
            Some(frame) if !frame.object && frame.node == Node::Finalizers => Role::Finalizer,
            _ => Role::Value,
        };
        let limit = match (role, self.value_node(), self.mode) {
            (Role::Value, Node::Credentials, Mode::Cached) => MAX_CREDENTIAL_BYTES,
            (Role::Value, Node::Free, _) | (Role::Key, ..) => usize::MAX,
            _ => MAX_TEXT_BYTES,
        };
        match role {
            Role::Key => {
                self.comma();
                self.write_byte(b'"');
            }
            Role::Value => {
                self.begin_value();
                self.write_byte(b'"');
            }
            _ => self.word.clear(),
        }
        self.text = Some(Text::new(role, limit));
    }

    fn text_byte(&mut self, byte: u8) {
        let Some(mut text) = self.text.take() else { return };
        if text.ends_with(byte) {
            return self.end_text(text);
        }
        // Cut before a character begins, and not between the halves of a surrogate pair.
        if !text.cut && text.length >= text.limit && text.role == Role::Value {
            let whole = !text.escaped && text.digits == 0 && !text.half && byte & 0xc0 != 0x80;
            if whole || text.length >= text.limit.saturating_add(16) {
                text.cut = true;
                self.write(CUT.as_bytes());
                self.note_cut();
            }
        }
        text.read(byte);
        match text.role {
            Role::Decides | Role::Finalizer if self.word.len() <= MAX_TEXT_BYTES => self.word.push(byte),
            Role::Key => self.write_byte(byte),
            Role::Value if !text.cut => self.write_byte(byte),
            _ => {}
        }
        self.text = Some(text);
    }

    fn end_text(&mut self, text: Text) {
        match text.role {
            Role::Decides => self.decide(),
            Role::Key => {
                self.write_byte(b'"');
                if let Some(frame) = self.frames.last_mut() {
                    frame.key = false;
                    frame.child = frame.node.inner();
                }
            }
            Role::Value => self.write_byte(b'"'),
            Role::Finalizer => self.finalizer(),
            Role::Skipped => {}
        }
    }

    fn decide(&mut self) {
        let Some(frame) = self.frames.last_mut() else { return };
        frame.key = false;
        frame.child = Node::Free;
        let before = *frame;
        let word = std::mem::take(&mut self.word);
        let known = Some(word.as_slice()).filter(|word| word.len() <= MAX_KEY_BYTES);
        let rule = known.and_then(|word| std::str::from_utf8(word).ok()).map_or(
            if self.subject == Subject::Other { Rule::Keep(Node::Free) } else { Rule::Drop },
            |word| self.rule(before.node, word),
        );
        match rule {
            Rule::Drop => self.skipping = Some(Skip { depth: 0, bracket: false }),
            Rule::Keep(node) => self.keep(&word, node),
            Rule::Hold(node, bound) => {
                self.holding = Some(Hold {
                    level: self.frames.len(),
                    before,
                    config: word == b"config",
                    bound,
                    raw: 0,
                    prefix: word.len() + 3 + usize::from(before.any),
                    meter: Meter::default(),
                    kept: Vec::new(),
                    over: false,
                });
                self.keep(&word, node);
            }
        }
        self.word = word;
    }

    fn keep(&mut self, word: &[u8], node: Node) {
        self.comma();
        self.write_byte(b'"');
        self.write(word);
        self.write(b"\":");
        if let Some(frame) = self.frames.last_mut() {
            frame.child = node;
        }
    }

    fn rule(&self, node: Node, key: &str) -> Rule {
        use Node::{Annotations, Credentials, Finalizers, Free, Items, Metadata, Object, Part, Spec, Status};
        let known = self.subject != Subject::Other;
        match (node, key) {
            (Node::Root, "items") => Rule::Keep(Items),
            (Node::Root, "object") => Rule::Keep(Object),
            (Node::Root | Object, "metadata") => Rule::Keep(Metadata),
            (Metadata, "managedFields") => Rule::Drop,
            (Node::Root | Object | Metadata, _) if !known => Rule::Keep(Free),
            (Node::Root | Object, "spec") if self.subject == Subject::Channel => Rule::Keep(Spec),
            (Node::Root | Object, "status") if self.subject == Subject::Channel => Rule::Keep(Status),
            (Node::Root | Object, "data") if self.subject == Subject::Secret && self.mode != Mode::Cached => {
                Rule::Hold(Free, Bound::raw(SECRET_DATA, "\"data\":{\"…\":\"\"}"))
            }
            // The operator reads nothing else of a Secret or a Namespace; the last ones are those of an error.
            (
                Node::Root | Object,
                "apiVersion" | "kind" | "type" | "status" | "message" | "reason" | "code" | "details",
            ) => Rule::Keep(Part),
            (Node::Root | Object, "spec") if self.subject == Subject::SmallObject => Rule::Keep(Part),
            (
                Metadata,
                "name" | "namespace" | "uid" | "resourceVersion" | "generation" | "creationTimestamp"
                | "deletionTimestamp" | "continue" | "remainingItemCount",
            ) => Rule::Keep(Part),
            (Metadata, "finalizers") if self.custom() => Rule::Keep(Finalizers),
            (Metadata, "annotations") if self.custom() => Rule::Keep(Annotations),
            (Metadata, "labels") if self.subject == Subject::Namespace => {
                Rule::Hold(Free, Bound::raw(LABELS, "\"labels\":{\"…\":\"\"}"))
            }
            (Annotations, name) if annotation::ALL.contains(&name) => Rule::Keep(Part),
            (Spec, "config") => Rule::Hold(Free, self.config_bound()),
            (Spec, "credentials") => Rule::Keep(Credentials),
            // The sanitizer writes this field itself: a value from the API server is not trusted.
            (Spec | Status, "leftOut") => Rule::Drop,
            (Status, "credentials" | "drift" | "plannedChanges" | "conditions") => {
                Rule::Hold(Part, Bound::raw(self.part_bound(key), ""))
            }
            (Spec | Status, _) => Rule::Keep(Part),
            _ => Rule::Drop,
        }
    }

    /// Whether it is one of the operator's own kinds.
    fn custom(&self) -> bool {
        matches!(self.subject, Subject::Channel | Subject::SmallObject)
    }

    fn config_bound(&self) -> Bound {
        let sent = config::MAX_BYTES as u64;
        let (compact, cost) = match self.mode {
            Mode::Cached => (CACHED_CONFIG, CACHED_CONFIG),
            Mode::Light => (sent, heavy::LIGHT),
            Mode::Whole => (sent, config::MAX_DECODED),
        };
        // A server may write one byte as six.
        Bound { raw: usize::try_from(6 * compact).unwrap_or(usize::MAX), compact, cost, instead: "" }
    }

    fn part_bound(&self, key: &str) -> usize {
        let large = if key == "conditions" { 4 } else { 1 };
        let whole = if self.mode == Mode::Cached { 1 } else { 16 };
        CACHED_PART * large * whole
    }

    fn finalizer(&mut self) {
        let own = [finalizer::CHANNEL, finalizer::IN_USE].map(str::as_bytes).contains(&self.word.as_slice());
        let Some(frame) = self.frames.last_mut() else { return };
        frame.value = true;
        if self.word.len() > MAX_TEXT_BYTES || !(own || frame.kept < FINALIZERS) {
            frame.left_out = frame.left_out.saturating_add(1);
            return;
        }
        frame.kept += usize::from(!own);
        let word = std::mem::take(&mut self.word);
        self.note_left_out();
        self.comma();
        self.write_byte(b'"');
        self.write(&word);
        self.write_byte(b'"');
        self.word = word;
    }

    fn note_left_out(&mut self) {
        let Some(frame) = self.frames.last_mut() else { return };
        let count = std::mem::take(&mut frame.left_out);
        if count > 0 {
            self.comma();
            self.write(format!("\"{}\"", left_out(count)).as_bytes());
        }
    }

    /// Starts a value; in a list it writes the comma that is due.
    fn begin_value(&mut self) {
        let Some(frame) = self.frames.last_mut() else { return };
        let begun = std::mem::replace(&mut frame.value, true);
        if !begun && !frame.object {
            self.comma();
        }
    }

    fn comma(&mut self) {
        let Some(frame) = self.frames.last_mut() else { return };
        if std::mem::replace(&mut frame.any, true) {
            self.write_byte(b',');
        }
    }

    /// The node of the value that begins now.
    fn value_node(&self) -> Node {
        match self.frames.last() {
            None => Node::Root,
            Some(frame) if frame.object => frame.child,
            Some(frame) => frame.node.inner(),
        }
    }

    fn open(&mut self, byte: u8) {
        let node = self.value_node();
        self.begin_value();
        if self.frames.len() >= LEVELS {
            self.write(b"null");
            self.skipping = Some(Skip { depth: 1, bracket: true });
            return;
        }
        self.write_byte(byte);
        let object = byte == b'{';
        let node = match (object, node) {
            // A list where an object is due, or the reverse: nothing in it selects a rule.
            (true, Node::Items | Node::Finalizers) => Node::Part,
            (false, node) if node.decides() => Node::Part,
            (_, node) => node,
        };
        self.frames.push(Frame { node, object, key: object, ..Frame::default() });
    }

    fn close(&mut self, byte: u8) {
        self.end_hold();
        let Some(frame) = self.frames.last().copied() else { return self.write_byte(byte) };
        match frame.node {
            Node::Finalizers => self.note_left_out(),
            Node::Spec if frame.cut || frame.config.is_some() => {
                let sizes = frame.config.map_or_else(String::new, |(bytes, cost)| {
                    format!(",\"config\":{{\"bytes\":{bytes},\"decoded\":{cost}}}")
                });
                self.comma();
                self.write(format!("\"leftOut\":{{\"cut\":{}{sizes}}}", frame.cut).as_bytes());
            }
            Node::Status if frame.cut && self.mode == Mode::Cached => {
                self.comma();
                self.write(b"\"leftOut\":true");
            }
            _ => {}
        }
        self.frames.pop();
        self.write_byte(byte);
    }

    fn next(&mut self) {
        self.end_hold();
        match self.frames.last_mut() {
            None => self.write_byte(b','),
            Some(frame) => {
                frame.value = false;
                frame.key = frame.object;
            }
        }
    }

    /// Ends the buffered value if its end has come.
    fn end_hold(&mut self) {
        if self.holding.as_ref().is_none_or(|hold| hold.level != self.frames.len()) {
            return;
        }
        let Some(hold) = self.holding.take() else { return };
        if !hold.over {
            self.out.extend_from_slice(&hold.kept);
            return;
        }
        let Some(frame) = self.frames.last_mut() else { return };
        frame.any = hold.before.any;
        if !hold.bound.instead.is_empty() {
            self.comma();
            self.write(hold.bound.instead.as_bytes());
        } else if hold.config {
            frame.config = Some((hold.meter.compact(), hold.meter.cost()));
        } else {
            frame.cut = true;
        }
    }

    /// Records that a part of a spec or a status was cut.
    fn note_cut(&mut self) {
        let part = self.frames.iter_mut().find(|frame| matches!(frame.node, Node::Spec | Node::Status));
        if let Some(frame) = part {
            frame.cut = true;
        }
    }

    fn write_byte(&mut self, byte: u8) {
        if self.holding.is_none() {
            self.out.push(byte);
        } else {
            self.write(&[byte]);
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        let Some(hold) = &mut self.holding else { return self.out.extend_from_slice(bytes) };
        let prefix = hold.prefix.min(bytes.len());
        hold.prefix -= prefix;
        let value = bytes.get(prefix..).unwrap_or_default();
        hold.raw = hold.raw.saturating_add(value.len());
        // A value that is too large to be sent is counted no further.
        if hold.config || !hold.over {
            value.iter().for_each(|byte| hold.meter.take(*byte));
        }
        if hold.over {
            return;
        }
        hold.kept.extend_from_slice(bytes);
        let Bound { raw, compact, cost, .. } = hold.bound;
        if hold.raw > raw || hold.meter.compact() > compact || hold.meter.cost() > cost {
            hold.over = true;
            hold.kept = Vec::new();
        }
    }
}

// === impl Bound ===

impl Bound {
    const fn raw(raw: usize, instead: &'static str) -> Self {
        Self { raw, compact: u64::MAX, cost: u64::MAX, instead }
    }
}

// === impl Node ===

impl Node {
    /// Whether the keys of such an object select rules.
    fn decides(self) -> bool {
        use Node::{Annotations, Metadata, Object, Root, Spec, Status};
        matches!(self, Root | Object | Metadata | Annotations | Spec | Status)
    }

    /// The node of the values in such a list, or in an object whose keys select no rules.
    fn inner(self) -> Self {
        match self {
            Self::Items => Self::Object,
            Self::Finalizers | Self::Part => Self::Part,
            Self::Credentials => Self::Credentials,
            _ => Self::Free,
        }
    }
}

// === impl Text ===

impl Text {
    fn new(role: Role, limit: usize) -> Self {
        Self { role, escaped: false, digits: 0, code: 0, half: false, length: 0, limit, cut: false }
    }

    /// Whether this is the closing quotation mark.
    fn ends_with(&self, byte: u8) -> bool {
        byte == b'"' && !self.escaped && self.digits == 0
    }

    fn read(&mut self, byte: u8) {
        self.length = self.length.saturating_add(1);
        if self.digits > 0 {
            self.digits -= 1;
            self.code = (self.code << 4) | char::from(byte).to_digit(16).unwrap_or_default();
            if self.digits == 0 {
                self.half = !self.half && (0xd800..0xdc00).contains(&self.code);
            }
            return;
        }
        match (std::mem::take(&mut self.escaped), byte) {
            (true, b'u') => (self.digits, self.code) = (4, 0),
            (false, b'\\') => self.escaped = true,
            _ => self.half = false,
        }
    }
}

#[cfg(test)]
mod tests;
