//! What is valid and may still surprise, also across documents. Notes change no verdict.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};

use ohallo_core::api::annotation;
use ohallo_core::api::canonical_id;
use ohallo_core::api::channel::{ChannelSpec, WorkspaceRef};
use ohallo_core::api::values::ChannelType;
use ohallo_core::api::workspace::ApiKeyRef;
use ohallo_core::channel::spec::invalid_spec;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::manifest::{FieldPath, Identity, Node, Position};

/// What a note is about.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    JsonSchema,
    strum::IntoStaticStr,
    strum::EnumIter,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Topic {
    /// A Workspace that nothing here provides.
    WorkspaceNotHere,
    /// A Secret that nothing here provides.
    SecretNotHere,
    /// An entry that the Secret here does not have.
    SecretKeyNotHere,
    /// Two Channels with one `channelId`.
    SameChannelId,
    /// A live API key that anyone who reads the file can use.
    LiveKey,
    /// A phone number without a `deletionPolicy`.
    DeletionPolicyOpen,
    /// An annotation that only the operator writes.
    OperatorAnnotation,
    /// A credential that a later item replaces.
    CredentialTwice,
    /// Text after the end of a document.
    IgnoredRest,
    /// The API server accepts it, and the operator does not.
    OperatorRefuses,
}

/// One note.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    /// What it is about.
    pub topic: Topic,
    /// The path as it was given, or `stdin`.
    pub file: String,
    #[serde(flatten)]
    pub at: Position,
    /// `Channel default/support`; empty for a whole document.
    pub object: String,
    /// What may surprise, and what to do.
    pub message: String,
}

// === impl Topic ===

impl Topic {
    /// One sentence about it, for those who read only the topic's name.
    pub fn describe(self) -> &'static str {
        match self {
            Self::WorkspaceNotHere => "None of the manifests provides the Workspace.",
            Self::SecretNotHere => "None of the manifests provides the Secret.",
            Self::SecretKeyNotHere => "The Secret of the manifests does not have the entry.",
            Self::SameChannelId => "Two Channels name the same channel in oHallo.",
            Self::LiveKey => "A live API key is in clear text.",
            Self::DeletionPolicyOpen => "Deleting the Channel may delete its phone number.",
            Self::OperatorAnnotation => "Only the operator writes the annotation.",
            Self::CredentialTwice => "A later item replaces the credential.",
            Self::IgnoredRest => "kubectl ignores the rest of the document.",
            Self::OperatorRefuses => "The operator refuses what the API server accepts.",
        }
    }
}

/// Where an object is, for its notes.
#[derive(Clone, Debug)]
pub struct Place<'d> {
    pub file: &'d str,
    pub node: &'d Node,
    pub identity: Identity,
    /// As messages show it.
    pub title: String,
}

/// A reference to something that another document may provide.
struct Wanted {
    note: Note,
    what: Provided,
    /// The entry of the Secret that must exist.
    key: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Provided {
    Workspace { namespace: String, name: String },
    ClusterWorkspace { name: String },
    Secret { namespace: String, name: String },
}

/// Collects notes while documents are read.
#[derive(Default)]
pub struct Notes {
    found: Vec<Note>,
    wanted: Vec<Wanted>,
    /// What is here; of a Secret its entries, if they are known.
    provided: BTreeMap<Provided, Option<BTreeSet<String>>>,
    /// Each `channelId` in its canonical form, with a note for the case that it is named again.
    ids: Vec<(String, Note)>,
    credentials: Vec<Credentials>,
}

/// The credentials of a Channel, in their order.
struct Credentials {
    note: Note,
    items: Vec<Credential>,
}

enum Credential {
    /// An item of this name.
    One(String, Position),
    /// Every entry of a Secret.
    All(Provided),
}

// === impl Place ===

impl Place<'_> {
    fn note(&self, topic: Topic, path: &FieldPath, message: impl Into<String>) -> Note {
        let (file, object) = (self.file.to_owned(), self.title.clone());
        Note { topic, file, at: self.node.position(path), object, message: message.into() }
    }

    fn secret(&self, name: &str) -> Provided {
        Provided::Secret { namespace: self.identity.namespace.clone(), name: name.to_owned() }
    }
}

// === impl Notes ===

impl Notes {
    pub fn rest_ignored(&mut self, file: &str, at: Position) {
        let message = "kubectl ignores everything from here to the end of the document: separate documents with a line of exactly ---";
        let (topic, object) = (Topic::IgnoredRest, String::new());
        self.found.push(Note { topic, file: file.to_owned(), at, object, message: message.to_owned() });
    }

    /// An object of another group, which may provide a Secret.
    pub fn foreign(&mut self, place: &Place<'_>) {
        let Identity { group, kind, namespace, name } = &place.identity;
        let field = |path: &[&str]| place.node.text_at(path).to_owned();
        let keys = |path: &[&str]| place.node.keys_at(path);
        let (name, entries) = match (group.as_str(), kind.as_str()) {
            ("", "Secret") => {
                self.live_keys(place);
                (name.clone(), Some(keys(&["data"]).into_iter().chain(keys(&["stringData"])).collect()))
            }
            ("bitnami.com", "SealedSecret") => {
                (name.clone(), Some(keys(&["spec", "encryptedData"]).into_iter().collect()))
            }
            ("external-secrets.io", "ExternalSecret") => {
                let target = field(&["spec", "target", "name"]);
                (if target.is_empty() { name.clone() } else { target }, None)
            }
            _ => return,
        };
        self.provided.insert(Provided::Secret { namespace: namespace.clone(), name }, entries);
    }

    fn live_keys(&mut self, place: &Place<'_>) {
        // What a live key begins with, and the same in base64.
        for (field, prefix) in [("stringData", "sf_live_"), ("data", "c2ZfbGl2ZV")] {
            for key in place.node.keys_at(&[field]) {
                if place.node.text_at(&[field, &key]).starts_with(prefix) {
                    let message = format!(
                        "{field}.{key} is a live API key in clear text: encrypt it, or keep it out of Git and replace the key in oHallo"
                    );
                    self.found.push(place.note(Topic::LiveKey, &FieldPath::of(&[field, &key]), message));
                }
            }
        }
    }

    /// A valid object of our group.
    pub fn ours(&mut self, place: &Place<'_>) {
        for name in [annotation::CREATE_INTENT, annotation::FINALIZER_REMOVED] {
            if place.node.keys_at(&["metadata", "annotations"]).iter().any(|key| key == name) {
                let path = FieldPath::of(&["metadata", "annotations", name]);
                let message = format!("only the operator writes {name}: remove it");
                self.found.push(place.note(Topic::OperatorAnnotation, &path, message));
            }
        }
        let Identity { kind, namespace, name, .. } = &place.identity;
        let (namespace, name) = (namespace.clone(), name.clone());
        match kind.as_str() {
            "Channel" => self.channel(place),
            "Workspace" => {
                self.provided.insert(Provided::Workspace { namespace, name }, None);
                let path = ["spec", "apiKeySecretRef"];
                let reference = place.node.at(&path).map(Node::value);
                if let Some(reference) =
                    reference.and_then(|reference| ApiKeyRef::deserialize(reference).ok())
                {
                    self.want_secret(place, &reference.name, Some(reference.key()), &FieldPath::of(&path));
                }
            }
            // Its Secret is in the operator's namespace, which no manifest names.
            "ClusterWorkspace" => drop(self.provided.insert(Provided::ClusterWorkspace { name }, None)),
            _ => {}
        }
    }

    fn channel(&mut self, place: &Place<'_>) {
        let spec = place.node.field("spec").map(|entry| entry.value.value());
        let Some(spec) = spec.and_then(|spec| serde_json::from_value::<ChannelSpec>(spec).ok()) else {
            return;
        };
        let path = |key: &str| FieldPath::of(&["spec", key]);
        if let Some(refused) = invalid_spec(&spec) {
            self.found.push(place.note(Topic::OperatorRefuses, &path("config"), refused.message));
        }
        let reference = spec.workspace_ref.clone().unwrap_or_default();
        let WorkspaceRef { kind, name } = &reference;
        let message = format!("nothing here provides the {kind} {name}: it must be in the cluster");
        let what = if reference.object_kind().is_namespaced() {
            Provided::Workspace { namespace: place.identity.namespace.clone(), name: reference.name }
        } else {
            Provided::ClusterWorkspace { name: reference.name }
        };
        let note = place.note(Topic::WorkspaceNotHere, &path("workspaceRef"), message);
        self.wanted.push(Wanted { note, what, key: None });
        if let Some(id) = &spec.channel_id {
            let note = place.note(Topic::SameChannelId, &path("channelId"), String::new());
            self.ids.push((canonical_id(id).into_owned(), note));
        }
        let number = matches!(spec.channel_type(), Some(ChannelType::Voice | ChannelType::Whatsapp));
        if number && spec.deletion_policy().is_none() && !spec.is_observe() {
            let message =
                "deleting this Channel may delete its number: set deletionPolicy to Retain or Delete";
            self.found.push(place.note(Topic::DeletionPolicyOpen, &path("channelType"), message));
        }
        let mut items = Vec::new();
        for (at, source) in spec.credentials.iter().enumerate() {
            let path = path("credentials").index(at);
            if let Some(secret) = &source.secret_ref {
                items.push(Credential::All(place.secret(&secret.name)));
                if secret.optional != Some(true) {
                    self.want_secret(place, &secret.name, None, &path);
                }
            }
            if let Some(secret) = &source.secret_key_ref {
                let name = source.name.clone().unwrap_or_default();
                items.push(Credential::One(name, place.node.position(&path)));
                if secret.optional != Some(true) {
                    self.want_secret(place, &secret.name, Some(&secret.key), &path);
                }
            }
        }
        let note = place.note(Topic::CredentialTwice, &path("credentials"), String::new());
        self.credentials.push(Credentials { note, items });
    }

    fn want_secret(&mut self, place: &Place<'_>, name: &str, key: Option<&str>, path: &FieldPath) {
        let message = format!("nothing here provides the Secret {name}: it must be in the cluster");
        let note = place.note(Topic::SecretNotHere, path, message);
        self.wanted.push(Wanted { note, what: place.secret(name), key: key.map(str::to_owned) });
    }

    /// Appends those of later files.
    pub fn append(&mut self, later: Self) {
        let Self { found, wanted, provided, ids, credentials } = later;
        self.found.extend(found);
        self.wanted.extend(wanted);
        self.provided.extend(provided);
        self.ids.extend(ids);
        self.credentials.extend(credentials);
    }

    /// All notes, in the order of files and lines, once every document is read.
    pub fn finish(self) -> Vec<Note> {
        let Self { mut found, wanted, provided, ids, credentials } = self;
        let mut first = BTreeMap::new();
        for (id, mut note) in ids {
            match first.entry(id) {
                Entry::Vacant(entry) => drop(entry.insert(note.object)),
                Entry::Occupied(other) => {
                    let other = other.get();
                    note.message =
                        format!("{other} has the same channelId: only one of them can own the channel");
                    found.push(note);
                }
            }
        }
        for Wanted { mut note, what, key } in wanted {
            match (provided.get(&what), key) {
                (None, _) => found.push(note),
                (Some(Some(entries)), Some(key)) if !entries.contains(&key) => {
                    note.topic = Topic::SecretKeyNotHere;
                    note.message = format!("the Secret here has no entry {key}: add it, or correct the key");
                    found.push(note);
                }
                _ => {}
            }
        }
        for Credentials { note, items } in credentials {
            let mut seen: BTreeMap<String, Position> = BTreeMap::new();
            for item in items {
                let (names, at) = match item {
                    Credential::One(name, at) => (BTreeSet::from([name]), at),
                    Credential::All(secret) => {
                        (provided.get(&secret).cloned().flatten().unwrap_or_default(), note.at)
                    }
                };
                for name in names {
                    if seen.insert(name.clone(), at).is_some() {
                        let message = format!(
                            "the credential {name} is there twice, and the later item wins: remove one"
                        );
                        found.push(Note { at, message, ..note.clone() });
                    }
                }
            }
        }
        found.sort_by(|one, other| (&one.file, one.at, one.topic).cmp(&(&other.file, other.at, other.topic)));
        found
    }
}
