//! The part of a CRD's schema that is judged here. A keyword that is not known here is an error, so that none is
//! ignored silently.

use std::collections::BTreeMap;

use regex::Regex;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::manifest::{FieldPath, Step};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, strum::Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Type {
    Array,
    Boolean,
    Integer,
    Object,
    String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListType {
    Atomic,
    Map,
    Set,
}

/// One node of a structural schema.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Schema {
    #[serde(rename = "type")]
    pub kind: Option<Type>,
    pub properties: BTreeMap<String, Schema>,
    pub additional_properties: Option<Box<Schema>>,
    pub items: Option<Box<Schema>>,
    pub required: Vec<String>,
    #[serde(rename = "enum")]
    pub allowed: Vec<Value>,
    pub default: Option<Value>,
    #[serde(deserialize_with = "pattern")]
    pub pattern: Option<Regex>,
    pub min_length: Option<usize>,
    pub max_length: Option<usize>,
    pub max_items: Option<usize>,
    pub max_properties: Option<usize>,
    pub minimum: Option<f64>,
    pub maximum: Option<f64>,
    #[serde(rename = "x-kubernetes-preserve-unknown-fields")]
    pub free_form: bool,
    #[serde(rename = "x-kubernetes-list-type")]
    pub list_type: Option<ListType>,
    // Judged elsewhere, or for readers only.
    #[serde(rename = "x-kubernetes-map-type")]
    _map_type: Option<String>,
    #[serde(rename = "x-kubernetes-list-map-keys")]
    _list_map_keys: Vec<String>,
    #[serde(rename = "x-kubernetes-validations")]
    _validations: Option<Value>,
    #[serde(rename = "format")]
    _format: Option<String>,
    #[serde(rename = "description")]
    _description: Option<String>,
    #[serde(rename = "title")]
    _title: Option<String>,
}

fn pattern<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Regex>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    text.map(|text| Regex::new(&text).map_err(serde::de::Error::custom)).transpose()
}

// === impl Schema ===

impl Schema {
    /// The schema of a field of an object.
    pub fn field(&self, key: &str) -> Option<&Schema> {
        self.properties.get(key).or(self.additional_properties.as_deref())
    }

    /// The path with its last key replaced by the known one that is spelled most similarly.
    pub fn similar(&self, path: &FieldPath) -> Option<FieldPath> {
        let (Step::Key(wrong), above) = path.steps().split_last()? else { return None };
        let mut schema = self;
        let mut parent = FieldPath::default();
        for step in above {
            (schema, parent) = match step {
                Step::Key(key) => (schema.field(key)?, parent.key(key)),
                Step::Index(index) => (schema.items.as_deref()?, parent.index(*index)),
            };
        }
        let known = schema.properties.keys().map(|known| (distance(known, wrong), known));
        let (distance, known) = known.min()?;
        (distance * 3 <= wrong.chars().count().max(3)).then(|| parent.key(known))
    }
}

/// How many letters have to be inserted, deleted or replaced, whatever their case.
fn distance(one: &str, other: &str) -> usize {
    let one: Vec<_> = one.to_lowercase().chars().take(64).collect();
    let other: Vec<_> = other.to_lowercase().chars().take(64).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.iter().enumerate() {
        let mut left = at + 1;
        let mut diagonal = at;
        let mut next = vec![left];
        for (above, wanted) in row.iter().skip(1).zip(&other) {
            let cheapest = (diagonal + usize::from(letter != wanted)).min(left + 1).min(above + 1);
            diagonal = *above;
            left = cheapest;
            next.push(cheapest);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
