//! The spec of a kind as its committed CRD describes it, and where each field is in a manifest.

use std::fmt;
use std::path::Path;

use serde_json::{Map, Value, json};

/// The schema of `spec` in `crds/<plural>.ohallo.eu.yaml`.
pub fn spec_of(plural: &str) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds").join(format!("{plural}.ohallo.eu.yaml"));
    let crd: Value = serde_saphyr::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

/// The path of each part of a schema, itself included: `spec.credentials[].name`, `spec.labels{}`.
pub fn paths(path: &str, schema: &Value) -> Vec<String> {
    let mut found = vec![path.to_owned()];
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        found.extend(paths(&format!("{path}.{name}"), property));
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[key].is_object() {
            found.extend(paths(&format!("{path}{mark}"), &schema[key]));
        }
    }
    found
}

/// The least value that this schema alone accepts.
pub fn fitting(schema: &Value) -> Value {
    if !schema["default"].is_null() {
        return schema["default"].clone();
    }
    if let Some(first) = schema["enum"].get(0) {
        return first.clone();
    }
    let least = |name: &str| schema[name].as_f64().unwrap_or_default();
    match kind(schema) {
        "string" => "a".repeat((least("minLength") as usize).max(1)).into(),
        "integer" => json!(least("minimum") as i64),
        "boolean" => json!(false),
        "array" => json!([]),
        _ => {
            let needed = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let fields = needed.map(|name| (name.to_owned(), fitting(&schema["properties"][name])));
            Value::Object(fields.collect())
        }
    }
}

pub fn kind(schema: &Value) -> &str {
    schema["type"].as_str().expect("every part of a schema has a type")
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Key(String),
    Index(usize),
}

/// Where a value is in a manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Place(Vec<Step>);

/// One part of a schema, at one place.
#[derive(Clone)]
pub struct Node {
    pub place: Place,
    /// As [`paths`] has it.
    pub path: String,
    pub schema: Value,
    pub required: bool,
    /// What must be put in first, for this place to be there at all.
    pub fill: Vec<(Place, Value)>,
}

/// Every part of the schema, at each place where this manifest has it, and at one where it has none.
pub fn nodes(schema: &Value, manifest: &Value) -> Vec<Node> {
    let root = Node {
        place: Place(vec![Step::Key("spec".into())]),
        path: "spec".into(),
        schema: schema.clone(),
        required: true,
        fill: Vec::new(),
    };
    let mut found = Vec::new();
    walk(root, manifest, &mut found);
    found
}

fn walk(node: Node, manifest: &Value, found: &mut Vec<Node>) {
    found.push(node.clone());
    let (place, schema) = (&node.place, &node.schema);
    let mut here = place.find(manifest).cloned().unwrap_or_else(|| fitting(schema));
    if schema["items"].is_object() && here.as_array().is_none_or(Vec::is_empty) {
        here = json!([fitting(&schema["items"])]);
    }
    if schema["additionalProperties"].is_object() && here.as_object().is_none_or(Map::is_empty) {
        here = json!({ "a": fitting(&schema["additionalProperties"]) });
    }
    let mut fill = node.fill.clone();
    let mut manifest = manifest.clone();
    if place.find(&manifest) != Some(&here) {
        place.put(&mut manifest, Some(here.clone()));
        fill.push((place.clone(), here.clone()));
    }
    let required = |name: &String| {
        schema["required"].as_array().is_some_and(|names| names.iter().any(|known| known == name))
    };
    let child = |place, mark: &str, schema: &Value, required| Node {
        place,
        path: format!("{}{mark}", node.path),
        schema: schema.clone(),
        required,
        fill: fill.clone(),
    };
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(child(place.key(name), &format!(".{name}"), property, required(name)), &manifest, found);
    }
    for index in 0..here.as_array().map_or(0, Vec::len) {
        walk(child(place.index(index), "[]", &schema["items"], false), &manifest, found);
    }
    if schema["additionalProperties"].is_object() {
        for name in here.as_object().into_iter().flat_map(Map::keys) {
            let values = &schema["additionalProperties"];
            walk(child(place.key(name), "{}", values, false), &manifest, found);
        }
    }
}

// === impl Place ===

impl Place {
    pub fn key(&self, name: &str) -> Self {
        Self(self.0.iter().cloned().chain([Step::Key(name.to_owned())]).collect())
    }

    pub fn index(&self, index: usize) -> Self {
        Self(self.0.iter().cloned().chain([Step::Index(index)]).collect())
    }

    /// Its field of the spec, as messages name it: `spec.credentials`.
    pub fn field(&self) -> String {
        match self.0.get(1) {
            Some(Step::Key(name)) => format!("spec.{name}"),
            _ => "spec".to_owned(),
        }
    }

    pub fn is_index(&self) -> bool {
        matches!(self.0.last(), Some(Step::Index(_)))
    }

    /// Whether one is the other or lies inside it.
    pub fn touches(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| a == b)
    }

    pub fn find<'v>(&self, manifest: &'v Value) -> Option<&'v Value> {
        self.0.iter().try_fold(manifest, |value, step| match step {
            Step::Key(name) => value.get(name),
            Step::Index(index) => value.get(index),
        })
    }

    /// Puts a value there, or takes it away. False where there is no such place.
    pub fn put(&self, manifest: &mut Value, value: Option<Value>) -> bool {
        let Some((last, above)) = self.0.split_last() else { return false };
        let parent = above.iter().try_fold(manifest, |value, step| match step {
            Step::Key(name) => value.get_mut(name),
            Step::Index(index) => value.get_mut(index),
        });
        match (parent, last, value) {
            (Some(Value::Object(fields)), Step::Key(name), Some(value)) => {
                fields.insert(name.clone(), value);
                true
            }
            (Some(Value::Object(fields)), Step::Key(name), None) => fields.remove(name).is_some(),
            (Some(Value::Array(items)), Step::Index(index), Some(value)) => {
                items.get_mut(*index).map(|item| *item = value).is_some()
            }
            (Some(Value::Array(items)), Step::Index(index), None) if *index < items.len() => {
                items.remove(*index);
                true
            }
            _ => false,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(name) if i == 0 => f.write_str(name)?,
                Step::Key(name) => write!(f, ".{name}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}
