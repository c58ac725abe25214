//! Masks what may be confidential in an object that is shared.

use ohallo_core::api::GROUP;
use serde_json::Value;

use crate::installed::is_operator;

const MASKED: &str = "<masked>";

/// The operator's flags whose values are shown. A test compares them with the operator's own.
const SHOWN: [&str; 26] = [
    "--allow-insecure-api",
    "--api-url",
    "--burst",
    "--ca-file",
    "--channel-selector",
    "--cluster-workspaces",
    "--concurrency",
    "--consistency-window-seconds",
    "--create-path",
    "--create-timeout",
    "--http-addr",
    "--leader-elect",
    "--lease-duration-seconds",
    "--lease-name",
    "--lease-renew-deadline-seconds",
    "--lease-retry-seconds",
    "--log-format",
    "--namespace",
    "--object-metrics",
    "--operator-namespace",
    "--otlp-endpoint",
    "--proxy",
    "--request-timeout",
    "--requests-per-second",
    "--total-requests-per-second",
    "--workspace-selector",
];

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
            for volume in list(template.pointer_mut("/spec/volumes")) {
                for options in ["/csi/volumeAttributes", "/flexVolume/options"] {
                    volume.pointer_mut(options).into_iter().for_each(leaves);
                }
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
    let is_own = is_operator(
        container["name"].as_str().unwrap_or_default(),
        container["image"].as_str().unwrap_or_default(),
    );
    for entry in list(container.get_mut("env")) {
        if let Some(value) = entry.get_mut("value") {
            leaves(value);
        }
    }
    if let Some(command) = container.get_mut("command") {
        arguments(command, is_own, true);
    }
    if let Some(args) = container.get_mut("args") {
        arguments(args, is_own, false);
    }
    for field in ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle"] {
        if let Some(probe) = container.get_mut(field) {
            probes(probe);
        }
    }
}

/// Masks headers, queries and commands of probes, wherever they are in it.
fn probes(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match name.as_str() {
                    "httpHeaders" => list(Some(field)).for_each(|header| leaves(&mut header["value"])),
                    "command" => arguments(field, false, true),
                    "path" => {
                        if let Some((path, _)) = field.as_str().and_then(|path| path.split_once('?')) {
                            *field = format!("{path}?{MASKED}").into();
                        }
                    }
                    _ => probes(field),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(probes),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Masks each argument but names of flags and, in the operator's own container, values that can hold no credential.
fn arguments(arguments: &mut Value, is_own: bool, names_a_program: bool) {
    let shows = |flag: &str, value: &str| is_own && SHOWN.contains(&flag) && !value.contains(['@', '?']);
    let mut flag = String::new();
    for (at, argument) in list(Some(arguments)).enumerate() {
        let text = argument.as_str().unwrap_or_default();
        let before = std::mem::take(&mut flag);
        let masked = if let Some((name, value)) = text.split_once('=').filter(|(name, _)| is_flag(name)) {
            if shows(name, value) { text.to_owned() } else { format!("{name}={MASKED}") }
        } else if is_flag(text) {
            text.clone_into(&mut flag);
            text.to_owned()
        } else if shows(&before, text) || at == 0 && (names_a_program || is_own && text == "run") {
            text.to_owned()
        } else {
            MASKED.to_owned()
        };
        *argument = masked.into();
    }
}

/// Whether it is the name of a flag and nothing else: one letter behind one dash could have its value behind it.
fn is_flag(text: &str) -> bool {
    let is_name = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_alphabetic())
            && name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.'))
    };
    match text.strip_prefix("--") {
        Some(name) => is_name(name),
        None => text.strip_prefix('-').is_some_and(is_name),
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
    fn the_flags_that_are_shown_are_those_of_the_operator() {
        let settings = include_str!("../../../../src/settings.rs");
        let variables = settings.split("env = \"OHALLO_").skip(1).filter_map(|rest| rest.split('"').next());
        let mut flags: Vec<_> =
            variables.map(|name| format!("--{}", name.to_lowercase().replace('_', "-"))).collect();
        // An operator in a cluster has none of these.
        flags.retain(|flag| !["--kubeconfig", "--context"].contains(&flag.as_str()));
        flags.sort();
        assert_eq!(flags, SHOWN);
    }

    #[test]
    fn environments_arguments_and_headers_are_masked_in_deployments_and_pods() {
        let probe = json!({"httpGet": {"path": "/healthz?token=canary", "port": 80, "httpHeaders": [{"name": "Authorization", "value": "canary"}]}});
        let pod = json!({
            "metadata": {"name": "p", "annotations": {"a": "canary"}},
            "spec": {
                "volumes": [{"name": "v", "csi": {"driver": "d", "volumeAttributes": {"key": "canary"}}}],
                "containers": [{
                    "name": "operator",
                    "args": ["run", "--proxy=http://user:canary@proxy:3128", "--leader-elect", "--namespace", "team-a", "--unknown=canary", "--other", "canary"],
                    "env": [{"name": "A", "value": "canary"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                    "livenessProbe": probe,
                    "lifecycle": {"preStop": probe.clone()},
                }, {
                    "name": "sidecar",
                    "image": "vendor/agent:1",
                    "command": ["/bin/agent", "--token=canary", "-key=canary", "canary"],
                    "args": ["--api-key", "canary", "-p", "canary", "sh -c 'canary'", "--namespace=canary", "run"],
                    "env": [{"name": "A", "value": "canary"}],
                    "startupProbe": {"exec": {"command": ["curl", "-H", "Authorization: canary"]}},
                }],
            },
        });
        let deployment = json!({"metadata": {"name": "d"}, "spec": {"template": pod}});
        for mut object in [pod.clone(), deployment] {
            mask(&mut object);
            let text = object.to_string();
            assert!(!text.contains("canary"), "{object:#}");
            for part in [
                "\"run\"",
                "--proxy=<masked>",
                "--leader-elect",
                "\"team-a\"",
                "--unknown=<masked>",
                "fieldPath",
                "/healthz?<masked>",
                "\"Authorization\"",
                "/bin/agent",
                "--token=<masked>",
                "-key=<masked>",
                "\"--api-key\"",
                "\"curl\"",
            ] {
                assert!(text.contains(part), "{part}: {object:#}");
            }
        }
    }
}
