//! Patches of metadata: the operator's own finalizer and annotation, guarded by uid and resourceVersion.
//!
//! A JSON patch does not touch the finalizers of others. A merge patch would have to send the whole list, however
//! long.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, ReplaceOperation, TestOperation};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::placeholder;

/// Adds the finalizer where it is missing and, if given, an annotation: name and value.
pub fn set(metadata: &ObjectMeta, finalizer: &str, annotation: Option<(&str, &str)>) -> Patch {
    let mut operations = guards(metadata);
    let finalizers = metadata.finalizers.as_deref().unwrap_or_default();
    if finalizers.is_empty() {
        operations.extend(create(&["finalizers"], json!([finalizer])));
    } else if !finalizers.iter().any(|entry| entry == finalizer) {
        operations.push(add(&["finalizers", "-"], json!(finalizer)));
    }
    operations.extend(annotation.into_iter().flat_map(|annotation| annotate(metadata, annotation)));
    Patch(operations)
}

/// Removes the finalizer from any position of the list. Where other finalizers remain, the object remains, and the given
/// annotation is set: name and value.
pub fn remove(metadata: &ObjectMeta, finalizer: &str, annotation: Option<(&str, &str)>) -> Patch {
    let mut position = 0;
    let mut removals = Vec::new();
    for entry in metadata.finalizers.as_deref().unwrap_or_default() {
        if entry == finalizer {
            let path = path(&["finalizers", &position.to_string()]);
            let test = TestOperation { path: path.clone(), value: json!(finalizer) };
            removals.push([PatchOperation::Test(test), PatchOperation::Remove(RemoveOperation { path })]);
        }
        position += placeholder::finalizers_in(entry);
    }
    let others = metadata.finalizers.iter().flatten().any(|entry| entry != finalizer);
    let annotation = annotation.filter(|_| others && !removals.is_empty());
    let annotated = annotation.into_iter().flat_map(|annotation| annotate(metadata, annotation));
    // From the end: a removal shifts the entries after it.
    let removed = removals.into_iter().rev().flatten();
    Patch(guards(metadata).into_iter().chain(removed).chain(annotated).collect())
}

fn annotate(metadata: &ObjectMeta, (name, value): (&str, &str)) -> Vec<PatchOperation> {
    match &metadata.annotations {
        None => create(&["annotations"], json!({ name: value })).into(),
        Some(_) => vec![add(&["annotations", name], json!(value))],
    }
}

/// The API server answers 422 for another object of the same name, and 409 for another version.
fn guards(metadata: &ObjectMeta) -> Vec<PatchOperation> {
    let uid = TestOperation { path: path(&["uid"]), value: json!(metadata.uid) };
    let version =
        ReplaceOperation { path: path(&["resourceVersion"]), value: json!(metadata.resource_version) };
    vec![PatchOperation::Test(uid), PatchOperation::Replace(version)]
}

/// Adds a member that must not exist: `add` alone would replace it.
fn create(at: &[&str], value: Value) -> [PatchOperation; 2] {
    let absent = TestOperation { path: path(at), value: Value::Null };
    [PatchOperation::Test(absent), add(at, value)]
}

fn add(at: &[&str], value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation { path: path(at), value })
}

fn path(at: &[&str]) -> PointerBuf {
    PointerBuf::from_tokens(std::iter::once("metadata").chain(at.iter().copied()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "ohallo.eu/channel";
    const INTENT: &str = "ohallo.eu/create-intent";

    fn metadata(fields: Value) -> ObjectMeta {
        let mut metadata = json!({"uid": "u", "resourceVersion": "7"});
        metadata.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value(metadata).unwrap()
    }

    /// The operations after the guards, each as `op path value`.
    fn operations(patch: Patch) -> Vec<String> {
        let text = |operation: &Value| {
            let value = operation.get("value").map_or_else(String::new, |value| format!(" {value}"));
            format!("{} {}{value}", operation["op"].as_str().unwrap(), operation["path"].as_str().unwrap())
        };
        let all: Vec<_> = serde_json::to_value(patch).unwrap().as_array().unwrap().iter().map(text).collect();
        assert_eq!(all[..2], [r#"test /metadata/uid "u""#, r#"replace /metadata/resourceVersion "7""#]);
        all[2..].to_vec()
    }

    #[test]
    fn a_set_names_no_finalizer_of_others_and_replaces_nothing_that_exists() {
        let annotation = r#"add /metadata/annotations/ohallo.eu~1create-intent "i""#;
        let cases: [(Value, &[&str]); 4] = [
            (
                json!({}),
                &[
                    "test /metadata/finalizers null",
                    r#"add /metadata/finalizers ["ohallo.eu/channel"]"#,
                    "test /metadata/annotations null",
                    r#"add /metadata/annotations {"ohallo.eu/create-intent":"i"}"#,
                ],
            ),
            (
                json!({"finalizers": ["example.com/a"], "annotations": {}}),
                &[r#"add /metadata/finalizers/- "ohallo.eu/channel""#, annotation],
            ),
            (
                json!({"finalizers": ["…300"], "annotations": {"a": "b"}}),
                &[r#"add /metadata/finalizers/- "ohallo.eu/channel""#, annotation],
            ),
            (json!({"finalizers": ["…300", OWN, "…2"], "annotations": {INTENT: "x"}}), &[annotation]),
        ];
        for (fields, expected) in cases {
            assert_eq!(operations(set(&metadata(fields), OWN, Some((INTENT, "i")))), expected);
        }
        assert!(operations(set(&metadata(json!({"finalizers": [OWN]})), OWN, None)).is_empty());
    }

    fn finalizers_of(object: &ObjectMeta) -> usize {
        object.finalizers.as_ref().map_or(0, Vec::len)
    }

    #[test]
    fn a_removal_finds_the_position_behind_those_that_were_left_out() {
        let cases: [(Value, &[usize]); 5] = [
            (json!([OWN]), &[0]),
            (json!(["example.com/a", OWN, "example.com/b"]), &[1]),
            (json!(["example.com/a", "…299", OWN, "…2"]), &[300]),
            (json!([OWN, "…9", OWN]), &[10, 0]),
            (json!(["example.com/a", "…9"]), &[]),
        ];
        for (finalizers, expected) in cases {
            let expected: Vec<_> = expected
                .iter()
                .flat_map(|at| {
                    let path = format!("/metadata/finalizers/{at}");
                    [format!(r#"test {path} "{OWN}""#), format!("remove {path}")]
                })
                .collect();
            let object = metadata(json!({"finalizers": finalizers}));
            assert_eq!(operations(remove(&object, OWN, None)), expected);
            let annotated = operations(remove(&object, OWN, Some((INTENT, "i")))).len() > expected.len();
            let stays = expected.len() / 2 < finalizers_of(&object);
            assert_eq!(annotated, stays && !expected.is_empty(), "{expected:?}");
        }
    }
}
