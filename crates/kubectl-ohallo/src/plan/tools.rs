//! What other programs do with an object because of its metadata: Kubernetes' garbage collection, kustomize, Flux, Argo CD and
//! Helm. With the object the operator deletes the channel, so a plan names each reason that a change brings.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Annotations that make a program delete the object, by their name: which values do, and what then happens.
const ANNOTATIONS: [(&str, Values, &str); 4] = [
    (
        "config.kubernetes.io/local-config",
        Values::AllBut("false"),
        "kustomize leaves the object out, so Flux and Argo CD delete it",
    ),
    ("argocd.argoproj.io/hook", Values::AllBut(""), "Argo CD deletes the object as a hook"),
    ("helm.sh/hook", Values::AllBut(""), "Helm deletes the object as a hook"),
    (
        "argocd.argoproj.io/sync-options",
        Values::With("Force=true"),
        "Argo CD can delete the object in a sync, and create it again",
    ),
];

/// Annotations with which a tool deletes an object whose change the API server refuses, and creates it again.
const FORCES: [(&str, Values, &str); 2] = [
    ("kustomize.toolkit.fluxcd.io/force", Values::With("enabled"), "Flux"),
    ("argocd.argoproj.io/sync-options", Values::With("Force=true"), "Argo CD"),
];

/// Annotations that keep a tool from the deletion of an object whose manifest is removed.
const KEEPS: [(&str, Values, &str); 3] = [
    ("kustomize.toolkit.fluxcd.io/prune", Values::Is("disabled"), "Flux"),
    ("argocd.argoproj.io/sync-options", Values::WithExactly("Prune=false"), "Argo CD"),
    ("helm.sh/resource-policy", Values::Is("keep"), "Helm"),
];

/// Those that count. What may delete an object counts in any case, and what keeps it only as the tools write it. So a plan
/// names a deletion too many rather than hides one.
enum Values {
    AllBut(&'static str),
    /// One of those that commas separate.
    With(&'static str),
    WithExactly(&'static str),
    Is(&'static str),
}

// === impl Values ===

impl Values {
    fn has(&self, value: &str) -> bool {
        match self {
            Self::AllBut(other) => !value.trim().eq_ignore_ascii_case(other),
            Self::With(one) => value.split(',').any(|part| part.trim().eq_ignore_ascii_case(one)),
            Self::WithExactly(one) => value.split(',').any(|part| part.trim() == *one),
            Self::Is(one) => value == *one,
        }
    }
}

/// Why other programs may delete the object: each the beginning of a sentence.
pub fn reasons(object: &Value) -> BTreeSet<String> {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let owners = owners.into_iter().flatten().map(|owner| {
        let text = |key: &str| owner.get(key).and_then(Value::as_str).unwrap_or_default();
        format!("Kubernetes deletes the object with its owner, {} {:?}", text("kind"), text("name"))
    });
    let annotated = ANNOTATIONS.iter().filter(|(name, values, _)| is_set(object, name, values));
    owners.chain(annotated.map(|(_, _, reason)| (*reason).to_owned())).collect()
}

/// The reasons that a change brings.
pub fn new_reasons(before: Option<&Value>, after: &Value) -> Vec<String> {
    let known = before.map(reasons).unwrap_or_default();
    reasons(after).difference(&known).cloned().collect()
}

/// The tool that would force a change which the API server refuses.
pub fn forced_by(object: &Value) -> Option<&'static str> {
    FORCES.iter().find(|(name, values, _)| is_set(object, name, values)).map(|(_, _, tool)| *tool)
}

/// The tools that don't delete an object with these annotations.
pub fn kept_by(annotations: &BTreeMap<String, String>) -> Vec<&'static str> {
    let keeps = KEEPS
        .iter()
        .filter(|(name, values, _)| annotations.get(*name).is_some_and(|value| values.has(value)));
    keeps.map(|(_, _, tool)| *tool).collect()
}

fn is_set(object: &Value, name: &str, values: &Values) -> bool {
    let annotation = object.pointer("/metadata/annotations").and_then(|all| all.get(name));
    annotation.and_then(Value::as_str).is_some_and(|value| values.has(value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn owners_hooks_and_what_tools_leave_out_are_reasons() {
        let annotated = |name: &str, value: &str| json!({"metadata": {"annotations": {name: value}}});
        for (object, count) in [
            (json!({"metadata": {}}), 0),
            (json!({"metadata": {"ownerReferences": [{"kind": "ConfigMap", "name": "x"}]}}), 1),
            (annotated("config.kubernetes.io/local-config", "true"), 1),
            (annotated("config.kubernetes.io/local-config", "false"), 0),
            (annotated("argocd.argoproj.io/hook", "PreSync"), 1),
            (annotated("helm.sh/hook", "pre-install"), 1),
            (annotated("argocd.argoproj.io/sync-options", "Prune=false, Force=true"), 1),
            (annotated("argocd.argoproj.io/sync-options", "Replace=true"), 0),
            (annotated("other", "true"), 0),
        ] {
            assert_eq!(reasons(&object).len(), count, "{object}");
            assert!(new_reasons(Some(&object), &object).is_empty(), "{object}");
            assert_eq!(new_reasons(None, &object).len(), count, "{object}");
        }
        assert_eq!(forced_by(&annotated("kustomize.toolkit.fluxcd.io/force", "enabled")), Some("Flux"));
        assert_eq!(forced_by(&annotated("argocd.argoproj.io/sync-options", "Force=true")), Some("Argo CD"));
        assert_eq!(forced_by(&annotated("kustomize.toolkit.fluxcd.io/force", "disabled")), None);
    }

    #[test]
    fn an_annotation_keeps_its_tool_from_a_deletion() {
        for (name, value, tools) in [
            ("kustomize.toolkit.fluxcd.io/prune", "disabled", vec!["Flux"]),
            ("kustomize.toolkit.fluxcd.io/prune", "enabled", vec![]),
            ("argocd.argoproj.io/sync-options", "Force=true, Prune=false", vec!["Argo CD"]),
            ("helm.sh/resource-policy", "keep", vec!["Helm"]),
            ("helm.sh/resource-policy", "keep,other", vec![]),
        ] {
            assert_eq!(
                kept_by(&BTreeMap::from([(name.to_owned(), value.to_owned())])),
                tools,
                "{name}: {value}"
            );
        }
    }
}
