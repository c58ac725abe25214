//! Whether the API server's schema of a kind has every field of this version. The API server drops fields that its
//! schema does not have, such as an id that the operator writes.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use serde::Deserialize;

/// The part of a group version's OpenAPI document that is compared.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Served {
    components: Components,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Components {
    schemas: BTreeMap<String, Schema>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Schema {
    properties: BTreeMap<String, Schema>,
    items: Option<Box<Schema>>,
    #[serde(rename = "x-kubernetes-group-version-kind")]
    kinds: Vec<KindName>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct KindName {
    kind: String,
}

// === impl Served ===

impl Served {
    /// The paths of the fields that our definition has and the served schema lacks, each without its subfields.
    /// A kind that is missing from the document can't be compared, and lacks nothing.
    pub fn lacks(&self, ours: &CustomResourceDefinition) -> Vec<String> {
        let named = |schema: &&Schema| schema.kinds.iter().any(|found| found.kind == ours.spec.names.kind);
        let Some(served) = self.components.schemas.values().find(named) else { return Vec::new() };
        let mut missing = Vec::new();
        for version in &ours.spec.versions {
            let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
            schema.into_iter().for_each(|schema| compare(schema, served, "", &mut missing));
        }
        missing
    }
}

fn compare(ours: &JSONSchemaProps, served: &Schema, path: &str, missing: &mut Vec<String>) {
    for (name, field) in ours.properties.iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match served.properties.get(name) {
            Some(found) => compare(field, found, &path, missing),
            None => missing.push(path),
        }
    }
    if let (Some(JSONSchemaPropsOrArray::Schema(item)), Some(found)) = (&ours.items, &served.items) {
        compare(item, found, &format!("{path}[]"), missing);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Our own definitions as the API server publishes them, changed by `edit`.
    fn served(edit: impl Fn(&mut Value)) -> Served {
        let mut schemas = serde_json::Map::new();
        for crd in crate::api::crds() {
            let mut schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
            let schema = &mut schema["openAPIV3Schema"];
            schema["x-kubernetes-group-version-kind"] = json!([{"kind": crd.spec.names.kind}]);
            schemas.insert(format!("eu.ohallo.{}", crd.spec.names.kind), schema.take());
        }
        let mut document = json!({"components": {"schemas": schemas}});
        edit(&mut document);
        serde_json::from_value(document).unwrap()
    }

    fn lacks(served: &Served) -> Vec<String> {
        crate::api::crds().iter().flat_map(|crd| served.lacks(crd)).collect()
    }

    #[test]
    fn our_own_definitions_and_an_unknown_document_lack_nothing() {
        assert_eq!(lacks(&served(|_| ())), [] as [&str; 0]);
        assert_eq!(lacks(&Served::default()), [] as [&str; 0]);
    }

    #[test]
    fn an_older_definition_lacks_later_fields_also_inside_lists() {
        let older = served(|document| {
            let channel = &mut document["components"]["schemas"]["eu.ohallo.Channel"]["properties"];
            channel["spec"]["properties"].as_object_mut().unwrap().remove("provisioningRetry");
            channel["status"]["properties"].as_object_mut().unwrap().remove("channelId");
            let drift = &mut channel["status"]["properties"]["drift"]["items"]["properties"];
            drift.as_object_mut().unwrap().remove("actual");
        });
        assert_eq!(lacks(&older), ["spec.provisioningRetry", "status.channelId", "status.drift[].actual"]);
    }
}
