//! What `kubectl apply` makes of an object that exists: declared fields win, fields that were declared before and are not
//! any more are removed, and what others have set remains.

use serde_json::{Map, Value};

/// The annotation in which client-side apply keeps the manifest.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The object after the apply of a manifest.
pub fn apply(live: &Value, manifest: &Value) -> Value {
    let before = last_applied(live).unwrap_or_default();
    let mut object = live.clone();
    // Of the metadata, names and labels decide nothing.
    for part in ["/spec", "/metadata/annotations"] {
        let none = || Value::Object(Map::new());
        let [before, wanted] =
            [&before, manifest].map(|object| object.pointer(part).cloned().unwrap_or_else(none));
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.entry("annotations").or_insert_with(none);
        }
        if let Some(now) = object.pointer_mut(part) {
            merge(now, &before, &wanted);
        }
    }
    object
}

fn merge(live: &mut Value, before: &Value, wanted: &Value) {
    let (Value::Object(live), Value::Object(wanted)) = (live, wanted) else { return };
    if let Value::Object(before) = before {
        live.retain(|key, _| {
            let declares =
                |fields: &Map<String, Value>| fields.get(key).is_some_and(|value| !value.is_null());
            !declares(before) || declares(wanted)
        });
    }
    for (key, value) in wanted {
        match (live.get_mut(key), value) {
            (_, Value::Null) => {}
            (Some(now @ Value::Object(_)), Value::Object(_)) => {
                merge(now, before.get(key).unwrap_or(&Value::Null), value);
            }
            (_, value) => drop(live.insert(key.clone(), value.clone())),
        }
    }
}

/// The fields that the manifest before declared: from the annotation of client-side apply, else from the managers that
/// applied the object server-side.
fn last_applied(live: &Value) -> Option<Value> {
    let annotations = live.pointer("/metadata/annotations");
    if let Some(text) = annotations.and_then(|all| all.get(LAST_APPLIED)).and_then(Value::as_str) {
        return serde_json::from_str(text).ok();
    }
    let managers = live.pointer("/metadata/managedFields")?.as_array()?;
    let applied = managers
        .iter()
        .filter(|manager| manager.get("operation").and_then(Value::as_str) == Some("Apply"))
        .filter(|manager| manager.get("subresource").is_none());
    let mut fields = Value::Null;
    for manager in applied {
        collect(manager.get("fieldsV1").unwrap_or(&Value::Null), &mut fields);
    }
    Some(fields)
}

/// Turns `{"f:spec": {"f:config": {}}}` into `{"spec": {"config": true}}`.
fn collect(owned: &Value, into: &mut Value) {
    let fields = owned.as_object().into_iter().flatten();
    let fields: Vec<_> = fields.filter_map(|(key, inner)| Some((key.strip_prefix("f:")?, inner))).collect();
    if fields.is_empty() {
        if into.is_null() {
            *into = Value::Bool(true);
        }
        return;
    }
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    for (key, inner) in fields {
        if let Some(into) = into.as_object_mut() {
            collect(inner, into.entry(key).or_insert(Value::Null));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn live(spec: Value, metadata: Value) -> Value {
        json!({"metadata": metadata, "spec": spec, "status": {"channelId": "c1"}})
    }

    fn last(spec: &Value) -> Value {
        let text = json!({"metadata": {"annotations": {"a": "1"}}, "spec": spec}).to_string();
        json!({"annotations": {"a": "1", "b": "2", "kubectl.kubernetes.io/last-applied-configuration": text}})
    }

    #[test]
    fn declared_fields_win_dropped_ones_are_removed_and_those_of_others_remain() {
        let before = json!({"config": {"x": 1, "y": {"z": 1}}, "enabled": true});
        let now = json!({"config": {"x": 1, "y": {"z": 1, "other": 2}}, "enabled": true, "suspend": true});
        let manifest = json!({"metadata": {}, "spec": {"config": {"y": {"w": 3}}, "credentials": [1]}});
        let after = apply(&live(now, last(&before)), &manifest);
        let expected = json!({"config": {"y": {"w": 3, "other": 2}}, "suspend": true, "credentials": [1]});
        assert_eq!(after["spec"], expected);
        assert_eq!(after["metadata"]["annotations"]["b"], "2");
        assert!(after["metadata"]["annotations"].get("a").is_none());
        assert_eq!(after["status"]["channelId"], "c1");
    }

    #[test]
    fn fields_that_were_applied_server_side_are_removed_as_well() {
        let fields = json!({"f:spec": {"f:config": {"f:x": {}, "f:y": {"f:z": {}}}, "f:credentials": {}}});
        let metadata = json!({"managedFields": [
            {"manager": "flux", "operation": "Apply", "fieldsV1": fields},
            {"manager": "kubectl-ohallo", "operation": "Update", "fieldsV1": {"f:spec": {"f:suspend": {}}}},
            {"manager": "ohallo-operator", "operation": "Apply", "subresource": "status", "fieldsV1": {"f:spec": {"f:enabled": {}}}},
        ]});
        let now =
            json!({"config": {"x": 1, "y": {"z": 1}}, "credentials": [1], "suspend": true, "enabled": true});
        let manifest = json!({"metadata": {}, "spec": {"config": {"y": {"z": 2}}}});
        let after = apply(&live(now, metadata), &manifest);
        assert_eq!(after["spec"], json!({"config": {"y": {"z": 2}}, "suspend": true, "enabled": true}));
    }

    #[test]
    fn an_object_that_nobody_applied_loses_nothing() {
        let manifest = json!({"metadata": {"annotations": {"n": "1"}}, "spec": {"displayName": "B"}});
        let after = apply(&live(json!({"displayName": "A", "enabled": true}), json!({})), &manifest);
        assert_eq!(after["spec"], json!({"displayName": "B", "enabled": true}));
    }
}
