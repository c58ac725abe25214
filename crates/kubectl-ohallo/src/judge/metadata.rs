//! `metadata`, which every object has and no CRD describes.

use std::sync::LazyLock;

use ohallo_core::text::sanitize;
use regex::Regex;
use serde_json::{Map, Value};

use crate::judge::finding::{Finding, Rule};
use crate::judge::number::{Integer, integer};
use crate::judge::structure::shown;
use crate::judge::time::is_time;
use crate::manifest::FieldPath;

/// All annotations of an object together, in bytes.
const MAX_ANNOTATIONS: usize = 256 * 1024;
/// The longest name of an object, and prefix of a label.
const MAX_NAME: usize = 253;
/// The longest label, and the longest name of a namespace.
const MAX_LABEL: usize = 63;
/// The API server appends this many characters to `generateName`, and cuts it to have room for them.
const MAX_GENERATED_PREFIX: usize = 58;

/// The types of the fields.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Type {
    Text,
    Integer,
    Boolean,
    Time,
    /// An object of texts.
    Texts,
    /// A list of texts.
    List,
    /// A list of objects with these fields.
    Objects(&'static [(&'static str, Type)]),
    Any,
}

const OWNER: &[(&str, Type)] = &[
    ("apiVersion", Type::Text),
    ("kind", Type::Text),
    ("name", Type::Text),
    ("uid", Type::Text),
    ("controller", Type::Boolean),
    ("blockOwnerDeletion", Type::Boolean),
];

const MANAGED: &[(&str, Type)] = &[
    ("manager", Type::Text),
    ("operation", Type::Text),
    ("apiVersion", Type::Text),
    ("time", Type::Time),
    ("fieldsType", Type::Text),
    ("fieldsV1", Type::Any),
    ("subresource", Type::Text),
];

const FIELDS: &[(&str, Type)] = &[
    ("name", Type::Text),
    ("generateName", Type::Text),
    ("namespace", Type::Text),
    ("selfLink", Type::Text),
    ("uid", Type::Text),
    ("resourceVersion", Type::Text),
    ("generation", Type::Integer),
    ("creationTimestamp", Type::Time),
    ("deletionTimestamp", Type::Time),
    ("deletionGracePeriodSeconds", Type::Integer),
    ("labels", Type::Texts),
    ("annotations", Type::Texts),
    ("ownerReferences", Type::Objects(OWNER)),
    ("finalizers", Type::List),
    ("managedFields", Type::Objects(MANAGED)),
];

static SUBDOMAIN: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$").ok());
static DNS_LABEL: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new("^[a-z0-9]([-a-z0-9]*[a-z0-9])?$").ok());
static LABEL: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new("^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$").ok());

fn matches(pattern: &LazyLock<Option<Regex>>, text: &str) -> bool {
    pattern.as_ref().is_some_and(|pattern| pattern.is_match(text))
}

fn root() -> FieldPath {
    FieldPath::of(&["metadata"])
}

/// What can't be decoded. The API server names the first it meets.
pub fn malformed(object: &Value) -> Vec<Finding> {
    match object.get("metadata") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Object(fields)) => decode(fields, FIELDS, &root()),
        Some(other) => vec![wrong_type(&root(), "an object", other)],
    }
}

fn wrong_type(path: &FieldPath, wanted: &str, value: &Value) -> Finding {
    Finding::new(Rule::Type, path, format!("must be {wanted}, and is {}", shown(value)))
}

fn decode(fields: &Map<String, Value>, types: &[(&str, Type)], path: &FieldPath) -> Vec<Finding> {
    let mut found = Vec::new();
    for (name, kind) in types {
        if let Some(value) = fields.get(*name).filter(|value| !value.is_null()) {
            decode_one(value, *kind, &path.key(name), &mut found);
        }
    }
    found
}

fn decode_one(value: &Value, kind: Type, path: &FieldPath, found: &mut Vec<Finding>) {
    let is_text = |value: &Value| value.is_string() || value.is_null();
    match (kind, value) {
        (Type::Any, _) | (Type::Text, Value::String(_)) | (Type::Boolean, Value::Bool(_)) => {}
        (Type::Integer, Value::Number(number)) if matches!(integer(number), Integer::Whole(_)) => {}
        (Type::Time, Value::String(text)) if is_time(text) => {}
        (Type::Texts, Value::Object(fields)) => {
            let wrong = fields.iter().filter(|(_, value)| !is_text(value));
            found.extend(
                wrong.map(|(key, value)| wrong_type(&path.key(key), "text: put it in quotes", value)),
            );
        }
        (Type::List, Value::Array(items)) => {
            let wrong = items.iter().enumerate().filter(|(_, value)| !is_text(value));
            found.extend(
                wrong.map(|(at, value)| wrong_type(&path.index(at), "text: put it in quotes", value)),
            );
        }
        (Type::Objects(types), Value::Array(items)) => {
            for (at, item) in items.iter().enumerate() {
                match item {
                    Value::Object(fields) => found.extend(decode(fields, types, &path.index(at))),
                    Value::Null => {}
                    other => found.push(wrong_type(&path.index(at), "an object", other)),
                }
            }
        }
        (Type::Text, other) => found.push(wrong_type(path, "text: put it in quotes", other)),
        (Type::Integer, other) => found.push(wrong_type(path, "an integer", other)),
        (Type::Boolean, other) => found.push(wrong_type(path, "true or false", other)),
        (Type::Time, other) => found.push(wrong_type(path, "a time such as 2026-01-10T08:00:00Z", other)),
        (Type::Texts, other) => found.push(wrong_type(path, "an object of texts", other)),
        (Type::List | Type::Objects(_), other) => found.push(wrong_type(path, "a list", other)),
    }
}

/// Fields that metadata does not have.
pub fn unknown(object: &Value) -> Vec<FieldPath> {
    let mut found = Vec::new();
    if let Some(Value::Object(fields)) = object.get("metadata") {
        unknown_in(fields, FIELDS, &root(), &mut found);
    }
    found
}

fn unknown_in(
    fields: &Map<String, Value>,
    types: &[(&str, Type)],
    path: &FieldPath,
    found: &mut Vec<FieldPath>,
) {
    for (key, value) in fields {
        let known = types.iter().find(|(name, _)| name == key);
        match (known, value) {
            (None, _) => found.push(path.key(key)),
            (Some((_, Type::Objects(types))), Value::Array(items)) => {
                for (at, item) in items.iter().enumerate() {
                    if let Value::Object(fields) = item {
                        unknown_in(fields, types, &path.key(key).index(at), found);
                    }
                }
            }
            _ => {}
        }
    }
}

/// The rules about names, labels, annotations, owners and finalizers.
pub fn check(object: &Value, namespaced: bool) -> Vec<Finding> {
    let none = Map::new();
    let fields = object.get("metadata").and_then(Value::as_object).unwrap_or(&none);
    let mut found = names(fields, namespaced);
    let mut wrong = |key: &str, message: String| {
        found.push(Finding::new(Rule::Metadata, &root().key(key), message));
    };
    for (key, value) in entries(fields, "labels") {
        if let Some(why) = not_a_qualified_name(key) {
            wrong("labels", format!("the label {} {why}", shown(&Value::from(key))));
        }
        if value.len() > MAX_LABEL || !value.is_empty() && !matches(&LABEL, value) {
            let value = shown(&Value::from(value));
            wrong(
                "labels",
                format!("the value {value} must have at most {MAX_LABEL} letters, digits, '-', '_' or '.'"),
            );
        }
    }
    let mut size = 0;
    for (key, value) in entries(fields, "annotations") {
        size += key.len() + value.len();
        if let Some(why) = not_a_qualified_name(&key.to_lowercase()) {
            wrong("annotations", format!("the annotation {} {why}", shown(&Value::from(key))));
        }
    }
    if size > MAX_ANNOTATIONS {
        let message = format!("have {size} bytes, and may have at most {MAX_ANNOTATIONS}");
        found.push(Finding::new(Rule::TooLong, &root().key("annotations"), message));
    }
    found.extend(owners(fields));
    found.extend(finalizers(fields));
    found
}

fn text<'f>(fields: &'f Map<String, Value>, key: &str) -> &'f str {
    fields.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn entries<'f>(fields: &'f Map<String, Value>, key: &str) -> impl Iterator<Item = (&'f str, &'f str)> {
    let entries = fields.get(key).and_then(Value::as_object).into_iter().flatten();
    entries.map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
}

fn names(fields: &Map<String, Value>, namespaced: bool) -> Vec<Finding> {
    let (name, prefix, namespace) =
        (text(fields, "name"), text(fields, "generateName"), text(fields, "namespace"));
    let mut found = Vec::new();
    let mut wrong =
        |rule, key: &str, message: String| found.push(Finding::new(rule, &root().key(key), message));
    let subdomain = |name: &str| {
        (name.len() > MAX_NAME || !matches(&SUBDOMAIN, name)).then(|| {
            let name = shown(&Value::from(name));
            format!("{name} must have at most {MAX_NAME} lower-case letters, digits, '-' or '.', and begin and end with a letter or digit")
        })
    };
    if !prefix.is_empty() {
        // It may end where the random part begins.
        let whole = prefix.strip_suffix('-').map_or_else(|| prefix.to_owned(), |start| format!("{start}a"));
        if let Some(message) = subdomain(&whole) {
            wrong(Rule::Metadata, "generateName", message);
        }
    }
    let generated = format!("{}xxxxx", prefix.get(..MAX_GENERATED_PREFIX).unwrap_or(prefix));
    let effective = if name.is_empty() && !prefix.is_empty() { generated.as_str() } else { name };
    if effective.is_empty() {
        wrong(Rule::Required, "name", "is required".to_owned());
    } else if let Some(message) = subdomain(effective) {
        wrong(Rule::Metadata, "name", message);
    }
    if !namespaced && !namespace.is_empty() {
        wrong(Rule::Metadata, "namespace", "must not be set: the kind has no namespace".to_owned());
    }
    if namespaced && !namespace.is_empty() && (namespace.len() > MAX_LABEL || !matches(&DNS_LABEL, namespace))
    {
        let shown = shown(&Value::from(namespace));
        wrong(
            Rule::Metadata,
            "namespace",
            format!("{shown} must have at most {MAX_LABEL} lower-case letters, digits or '-'"),
        );
    }
    found
}

/// Why a key is none of a label, an annotation or a finalizer.
fn not_a_qualified_name(key: &str) -> Option<String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if name.contains('/') {
        return Some("may have one '/' only".to_owned());
    }
    if prefix.is_some_and(|prefix| prefix.len() > MAX_NAME || !matches(&SUBDOMAIN, prefix)) {
        return Some("must have a DNS name before the '/'".to_owned());
    }
    let fits = name.len() <= MAX_LABEL && matches(&LABEL, name);
    (!fits).then(|| format!("must have at most {MAX_LABEL} letters, digits, '-', '_' or '.' as its name"))
}

fn owners(fields: &Map<String, Value>) -> Vec<Finding> {
    let path = root().key("ownerReferences");
    let mut found = Vec::new();
    let mut controllers = 0;
    for owner in fields.get("ownerReferences").and_then(Value::as_array).into_iter().flatten() {
        let owner = owner.as_object().cloned().unwrap_or_default();
        for key in ["apiVersion", "kind", "name", "uid"] {
            if text(&owner, key).is_empty() {
                found.push(Finding::new(Rule::Metadata, &path.key(key), "must not be empty"));
            }
        }
        let (group, version) = group_version(text(&owner, "apiVersion"));
        if version.is_empty() && !text(&owner, "apiVersion").is_empty() {
            let message = "must be a group and a version, such as apps/v1";
            found.push(Finding::new(Rule::Metadata, &path.key("apiVersion"), message));
        }
        if (group, version) == ("", "v1") && text(&owner, "kind") == "Event" {
            found.push(Finding::new(Rule::Metadata, &path, "an Event can't own objects"));
        }
        controllers += usize::from(owner.get("controller") == Some(&Value::Bool(true)));
        if controllers == 2 {
            found.push(Finding::new(Rule::Metadata, &path, "only one owner can be the controller"));
        }
    }
    found
}

/// As Go's `ParseGroupVersion`: nothing where it can't be parsed.
fn group_version(api_version: &str) -> (&str, &str) {
    match api_version.split_once('/') {
        Some((_, version)) if version.contains('/') => ("", ""),
        Some(both) => both,
        None => ("", api_version),
    }
}

fn finalizers(fields: &Map<String, Value>) -> Vec<Finding> {
    let path = root().key("finalizers");
    let names = fields.get("finalizers").and_then(Value::as_array).into_iter().flatten();
    let names: Vec<_> = names.map(|name| name.as_str().unwrap_or_default()).collect();
    let mut found = Vec::new();
    for name in &names {
        if let Some(why) = not_a_qualified_name(name) {
            let message = format!("the finalizer {} {why}", sanitize(name, MAX_LABEL));
            found.push(Finding::new(Rule::Metadata, &path, message));
        }
    }
    if names.contains(&"orphan") && names.contains(&"foregroundDeletion") {
        found.push(Finding::new(Rule::Metadata, &path, "orphan and foregroundDeletion exclude each other"));
    }
    found
}
