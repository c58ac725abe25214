//! Which namespaces have deletion protection, as the policies of the cluster show.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use kube::core::{Selector, SelectorExt};

use crate::cluster::{Cluster, failed, list_if_allowed};
use crate::failure::Failure;

/// What the chart and the component label the policy and its binding with.
const LABEL: &str = "app.kubernetes.io/component=deletion-protection";
/// The API server sets it on every namespace.
const NAME: &str = "kubernetes.io/metadata.name";

/// Those of these namespaces whose Channels the API server deletes only after a confirmation. None, where the policies may not be
/// read: a plan that shows a deletion hides nothing.
///
/// # Errors
/// The API server does not answer.
pub async fn namespaces(
    cluster: &Cluster,
    namespaces: &BTreeSet<String>,
    labels: &BTreeMap<String, BTreeMap<String, String>>,
) -> Result<BTreeSet<String>, Failure> {
    let ours = ListParams::default().labels(LABEL);
    let failed = |error| failed("the deletion protection can't be read", &error);
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(cluster.client.clone());
    let bindings = list_if_allowed(&bindings, &ours).await.map_err(failed)?.unwrap_or_default();
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(cluster.client.clone());
    let policies = list_if_allowed(&policies, &ours).await.map_err(failed)?.unwrap_or_default();
    let policies: BTreeSet<_> = policies.iter().map(ResourceExt::name_any).collect();
    let is_protected = |namespace: &&String| {
        let mut known = labels.get(*namespace).cloned().unwrap_or_default();
        known.insert(NAME.to_owned(), (*namespace).clone());
        bindings.iter().any(|binding| refuses(binding, &policies) && selects(binding, &known))
    };
    Ok(namespaces.iter().filter(is_protected).cloned().collect())
}

/// Whether the binding has a policy, and more than a warning.
fn refuses(binding: &ValidatingAdmissionPolicyBinding, policies: &BTreeSet<String>) -> bool {
    let spec = &binding.spec;
    policies.contains(&spec.policy_name) && spec.validation_actions.iter().any(|action| action == "Deny")
}

/// Whether the binding selects a namespace with these labels. What selects objects is not known to protect a Channel.
fn selects(binding: &ValidatingAdmissionPolicyBinding, labels: &BTreeMap<String, String>) -> bool {
    let resources = binding.spec.match_resources.clone().unwrap_or_default();
    let whole = resources.object_selector.is_none_or(|selector| selector == LabelSelector::default())
        && resources.exclude_resource_rules.is_none_or(|rules| rules.is_empty())
        && resources.resource_rules.is_none_or(|rules| rules.is_empty());
    let Some(selector) = resources.namespace_selector else { return whole };
    whole && Selector::try_from(selector).is_ok_and(|selector| selector.matches(labels))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_binding_protects_the_namespaces_that_it_selects_if_it_refuses() {
        let policies = BTreeSet::from(["p".to_owned()]);
        let named = |names: Value| {
            json!({"namespaceSelector": {"matchExpressions": [
                {"key": NAME, "operator": "In", "values": names},
            ]}})
        };
        for (policy, actions, resources, expected) in [
            ("p", json!(["Deny"]), json!(null), true),
            ("p", json!(["Deny", "Audit"]), json!({}), true),
            ("missing", json!(["Deny"]), json!(null), false),
            ("p", json!(["Warn", "Audit"]), json!(null), false),
            ("p", json!(["Deny"]), named(json!(["a", "b"])), true),
            ("p", json!(["Deny"]), named(json!(["b"])), false),
            ("p", json!(["Deny"]), json!({"namespaceSelector": {}}), true),
            ("p", json!(["Deny"]), json!({"namespaceSelector": {"matchLabels": {"env": "prod"}}}), true),
            ("p", json!(["Deny"]), json!({"namespaceSelector": {"matchLabels": {"env": "test"}}}), false),
            ("p", json!(["Deny"]), json!({"objectSelector": {}}), true),
            ("p", json!(["Deny"]), json!({"objectSelector": {"matchLabels": {"a": "b"}}}), false),
        ] {
            let mut spec = json!({"policyName": policy, "validationActions": actions});
            if !resources.is_null() {
                spec["matchResources"] = resources.clone();
            }
            let binding: ValidatingAdmissionPolicyBinding = serde_json::from_value(json!({
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
                "metadata": {"name": "p"}, "spec": spec,
            }))
            .unwrap();
            let labels =
                [(NAME, "a"), ("env", "prod")].map(|(key, value)| (key.to_owned(), value.to_owned()));
            let protects = refuses(&binding, &policies) && selects(&binding, &labels.into());
            assert_eq!(protects, expected, "{policy} {actions} {resources}");
        }
    }
}
