//! The kinds of the operator, with the schemas that this program was built with.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use ohallo_core::api::{GROUP, crds};
use serde_json::Value;

use crate::judge::rules::Rules;
use crate::judge::schema::Schema;
use crate::manifest::{FieldPath, Node};

/// One kind that can be judged.
pub struct Kind {
    pub name: String,
    pub namespaced: bool,
    pub(super) schema: Schema,
    pub(super) rules: Rules,
}

/// All of them.
pub struct Kinds {
    version: String,
    kinds: Vec<Kind>,
}

/// What a document is.
pub enum Recognized<'k> {
    /// Of one of our kinds.
    Ours(&'k Kind),
    /// Of our group, but of no kind or version that it has; which field says so.
    Unknown(FieldPath, String),
    /// Of another group, or no object of Kubernetes.
    Foreign,
}

/// The CRDs of this program can't be used to judge. Only a mistake in this program causes it.
#[derive(Debug, thiserror::Error)]
#[error("the CustomResourceDefinitions of this program can't be read: {0}")]
pub struct SchemaError(String);

// === impl Kinds ===

impl Kinds {
    /// # Errors
    /// A schema has a keyword that is not judged here.
    pub fn embedded() -> Result<Self, SchemaError> {
        let crds = crds();
        let version = crds.iter().find_map(|crd| Some(crd.spec.versions.first()?.name.clone()));
        let kinds = crds.iter().map(Kind::of).collect::<Result<_, _>>()?;
        Ok(Self { version: version.unwrap_or_default(), kinds })
    }

    #[cfg(test)]
    pub fn all(&self) -> &[Kind] {
        &self.kinds
    }

    pub fn get(&self, name: &str) -> Option<&Kind> {
        self.kinds.iter().find(|kind| kind.name == name)
    }

    pub fn recognize(&self, node: &Node) -> Recognized<'_> {
        let text = |key: &str| node.field(key).and_then(|entry| entry.value.text());
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let known = |name: &str| self.kinds.iter().find(|kind| kind.name == name);
        let unknown = |key: &str, message: String| Recognized::Unknown(FieldPath::of(&[key]), message);
        let wanted = format!("{GROUP}/{}", self.version);
        match (api_version, kind) {
            (Some(api_version), Some(kind)) if api_version == wanted => match known(kind) {
                Some(kind) => Recognized::Ours(kind),
                None => unknown("kind", format!("{GROUP} has no such kind: {}", self.names())),
            },
            (Some(api_version), _) if api_version == wanted => {
                unknown("kind", format!("is required: {}", self.names()))
            }
            (Some(api_version), _) if api_version.split('/').next() == Some(GROUP) => {
                unknown("apiVersion", format!("{GROUP} has no such version: write {wanted}"))
            }
            (None, Some(kind)) if node.field("apiVersion").is_none() && known(kind).is_some() => {
                unknown("apiVersion", format!("is required: write {wanted}"))
            }
            _ => Recognized::Foreign,
        }
    }

    fn names(&self) -> String {
        let names: Vec<_> = self.kinds.iter().map(|kind| kind.name.as_str()).collect();
        format!("write {}", names.join(", "))
    }
}

// === impl Kind ===

impl Kind {
    fn of(crd: &CustomResourceDefinition) -> Result<Self, SchemaError> {
        let version = crd.spec.versions.first();
        let schema = version.and_then(|version| version.schema.as_ref()?.open_api_v3_schema.as_ref());
        let schema: Value = serde_json::to_value(schema).map_err(|error| SchemaError(error.to_string()))?;
        Ok(Self {
            name: crd.spec.names.kind.clone(),
            namespaced: crd.spec.scope == "Namespaced",
            rules: Rules::compile(&schema),
            schema: serde_json::from_value(schema).map_err(|error| SchemaError(error.to_string()))?,
        })
    }
}
