//! What oHallo holds of a channel, and what a manifest changes about it: the contract in a few lines, without the operator.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// The values of the Secrets of a namespace.
pub type Secrets = BTreeMap<String, BTreeMap<String, String>>;

/// What a manifest can change of a channel.
#[derive(Clone, Debug)]
pub struct Kept {
    pub display_name: String,
    pub config: Map<String, Value>,
    pub enabled: bool,
    pub credentials: BTreeMap<String, String>,
}

// === impl Kept ===

impl Kept {
    pub fn of(channel: &ohallo_sim::Channel) -> Self {
        Self {
            display_name: channel.display_name.clone(),
            config: channel.config.clone().unwrap_or_default(),
            enabled: channel.enabled,
            credentials: channel.credentials.clone(),
        }
    }

    /// After this spec was applied: what it does not declare stays.
    pub fn after(&self, spec: &Value, secrets: &Secrets) -> Self {
        let mut after = self.clone();
        if let Some(name) = spec["displayName"].as_str() {
            name.clone_into(&mut after.display_name);
        }
        if let Some(declared) = spec["config"].as_object() {
            lay_over(&mut after.config, declared);
        }
        after.enabled = spec["enabled"].as_bool().unwrap_or(self.enabled);
        let declared = credentials(spec, secrets);
        if !declared.is_empty() {
            after.credentials = declared;
        }
        after
    }

    /// Equal, numbers by value.
    pub fn is(&self, other: &Self) -> bool {
        self.display_name == other.display_name
            && self.enabled == other.enabled
            && self.credentials == other.credentials
            && same(&Value::Object(self.config.clone()), &Value::Object(other.config.clone()))
    }
}

/// What its sources come to; later ones win.
pub fn credentials(spec: &Value, secrets: &Secrets) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for source in spec["credentials"].as_array().into_iter().flatten() {
        if let Some(name) = source["secretRef"]["name"].as_str() {
            found.extend(secrets.get(name).cloned().unwrap_or_default());
        }
        let one = &source["secretKeyRef"];
        let value = one["name"].as_str().and_then(|name| secrets.get(name)?.get(one["key"].as_str()?));
        if let (Some(name), Some(value)) = (source["name"].as_str(), value) {
            found.insert(name.to_owned(), value.clone());
        }
    }
    found
}

fn lay_over(kept: &mut Map<String, Value>, declared: &Map<String, Value>) {
    for (key, value) in declared.iter().filter(|(_, value)| !value.is_null()) {
        match value {
            Value::Object(inner) if is_nothing(inner) && kept.get(key).is_none_or(Value::is_null) => {}
            Value::Object(inner) => {
                let there = kept.entry(key.clone()).or_insert_with(|| Map::new().into());
                if !there.is_object() {
                    *there = Map::new().into();
                }
                lay_over(there.as_object_mut().unwrap(), inner);
            }
            value => drop(kept.insert(key.clone(), value.clone())),
        }
    }
}

fn is_nothing(declared: &Map<String, Value>) -> bool {
    declared.values().all(|value| value.is_null() || value.as_object().is_some_and(is_nothing))
}

/// Equality, numbers by value and empty objects as absent.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<_> = a.keys().chain(b.keys()).collect();
            keys.into_iter().all(|key| match (non_empty(a, key), non_empty(b, key)) {
                (Some(a), Some(b)) => same(a, b),
                (a, b) => a.is_none() && b.is_none(),
            })
        }
        _ => a == b,
    }
}

/// The value of an object under this key, unless empty.
pub fn non_empty<'v>(fields: &'v Map<String, Value>, key: &str) -> Option<&'v Value> {
    fields.get(key).filter(|value| !value.as_object().is_some_and(is_nothing))
}
