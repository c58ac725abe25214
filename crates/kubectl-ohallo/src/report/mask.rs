//! Masks what may be confidential in an object that is shared.

use ohallo_core::api::GROUP;
use serde_json::Value;

/// Masks an object. What it does not know stays: a new field of ours is shown.
pub fn mask(object: &mut Value) {
    metadata(&mut object["metadata"]);
    if let Some(config) = object.pointer_mut("/spec/config") {
        leaves(config);
    }
    for entry in list(object.pointer_mut("/status/drift")) {
        for value in ["declared", "actual"] {
            if let Some(value) = entry.get_mut(value) {
                leaves(value);
            }
        }
    }
    for pod in ["/spec/template", ""] {
        if let Some(template) = object.pointer_mut(pod).filter(|it| it.pointer("/spec/containers").is_some())
        {
            metadata(&mut template["metadata"]);
            for kind in ["/spec/containers", "/spec/initContainers", "/spec/ephemeralContainers"] {
                list(template.pointer_mut(kind)).for_each(container);
            }
        }
    }
}

/// Annotations of others may hold anything: `kubectl apply` keeps the whole manifest in one.
fn metadata(metadata: &mut Value) {
    let Some(metadata) = metadata.as_object_mut() else { return };
    metadata.remove("managedFields");
    let annotations = metadata.get_mut("annotations").and_then(Value::as_object_mut);
    for (name, value) in annotations.into_iter().flatten() {
        if !name.starts_with(&format!("{GROUP}/")) {
            leaves(value);
        }
    }
}

fn container(container: &mut Value) {
    for entry in list(container.get_mut("env")) {
        if let Some(value) = entry.get_mut("value") {
            leaves(value);
        }
    }
    for field in ["args", "command"] {
        for argument in list(container.get_mut(field)) {
            let text = argument.as_str().unwrap_or_default();
            if text.contains("://") && text.contains('@') {
                let flag = text.split_once('=').map_or("", |(flag, _)| flag);
                *argument = format!("{flag}=<masked>").into();
            }
        }
    }
}

fn list(value: Option<&mut Value>) -> impl Iterator<Item = &mut Value> {
    value.and_then(Value::as_array_mut).into_iter().flatten()
}

/// Replaces each text and number by what it is. Names of fields stay.
fn leaves(value: &mut Value) {
    match value {
        Value::Object(map) => map.values_mut().for_each(leaves),
        Value::Array(items) => items.iter_mut().for_each(leaves),
        Value::String(text) => *value = format!("<text of {} characters>", text.chars().count()).into(),
        Value::Number(_) => *value = "<number>".into(),
        Value::Bool(_) | Value::Null => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_masked_and_names_stay() {
        let mut channel = json!({
            "kind": "Channel",
            "metadata": {"name": "a", "managedFields": [{}], "annotations": {
                "ohallo.eu/create-intent": "uid/1", "kubectl.kubernetes.io/last-applied-configuration": "{\"secret\":1}"}},
            "spec": {"displayName": "Support", "config": {"hosts": ["secret"], "port": 25, "tls": true, "deep": {"k": "secret"}},
                     "credentials": [{"secretRef": {"name": "keys"}}]},
            "status": {"channelId": "id", "drift": [{"path": "config.k", "declared": "secret", "actual": "secret"}]},
        });
        mask(&mut channel);
        assert!(!channel.to_string().contains("secret\""), "{channel:#}");
        assert_eq!(channel["metadata"]["managedFields"], Value::Null);
        assert_eq!(channel["metadata"]["annotations"]["ohallo.eu/create-intent"], "uid/1");
        assert_eq!(channel["spec"]["config"]["hosts"][0], "<text of 6 characters>");
        assert_eq!(
            (&channel["spec"]["config"]["port"], &channel["spec"]["config"]["tls"]),
            (&json!("<number>"), &json!(true))
        );
        assert_eq!(
            (&channel["spec"]["displayName"], &channel["status"]["channelId"]),
            (&json!("Support"), &json!("id"))
        );
    }

    #[test]
    fn environments_and_passwords_in_urls_are_masked_in_deployments_and_pods() {
        let pod = json!({
            "metadata": {"name": "p", "annotations": {"a": "secret"}},
            "spec": {"containers": [{
                "name": "operator",
                "args": ["run", "--proxy=http://user:secret@proxy:3128", "--leader-elect"],
                "env": [{"name": "A", "value": "secret"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            }]},
        });
        let deployment = json!({"metadata": {"name": "d"}, "spec": {"template": pod}});
        for mut object in [pod.clone(), deployment] {
            mask(&mut object);
            let text = object.to_string();
            assert!(!text.contains("secret"), "{object:#}");
            assert!(
                text.contains("--proxy=<masked>")
                    && text.contains("--leader-elect")
                    && text.contains("fieldPath")
            );
        }
    }
}
