//! Which namespaces a ClusterWorkspace allows.

use std::collections::BTreeMap;

use kube::core::{Selector, SelectorExt};

use crate::api::workspace::AllowedNamespaces;

/// Whether a namespace with these labels is allowed: it is named, or selected. With neither set, no namespace is. Unknown
/// labels (`None`) match no selector: `NotIn` and `DoesNotExist` would admit every namespace that the watch has not seen.
pub fn allows(
    allowed: &AllowedNamespaces,
    namespace: &str,
    labels: Option<&BTreeMap<String, String>>,
) -> bool {
    if allowed.names.iter().any(|name| name == namespace) {
        return true;
    }
    // An invalid selector selects nothing.
    let selector = allowed.selector.clone().and_then(|selector| Selector::try_from(selector).ok());
    selector.zip(labels).is_some_and(|(selector, labels)| selector.matches(labels))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn selecting(pairs: &[(&str, &str)]) -> AllowedNamespaces {
        let selector = LabelSelector { match_labels: Some(labels(pairs)), ..Default::default() };
        AllowedNamespaces { names: vec![], selector: Some(selector) }
    }

    #[test]
    fn nobody_may_unless_named_or_selected() {
        let team = labels(&[("team", "a")]);
        assert!(!allows(&AllowedNamespaces::default(), "ns", Some(&team)));
        let named = AllowedNamespaces { names: vec!["ns".into()], selector: None };
        assert!(allows(&named, "ns", Some(&labels(&[]))));
        assert!(!allows(&named, "other", Some(&team)));
        assert!(allows(&selecting(&[("team", "a")]), "ns", Some(&team)));
        assert!(!allows(&selecting(&[("team", "b")]), "ns", Some(&team)));
        assert!(allows(&selecting(&[]), "ns", Some(&labels(&[]))), "an empty selector selects all");
        let both = AllowedNamespaces { names: vec!["ns".into()], ..selecting(&[("team", "b")]) };
        assert!(allows(&both, "ns", Some(&team)), "the union of both");
    }

    #[test]
    fn a_namespace_whose_labels_are_not_known_is_admitted_by_its_name_alone() {
        let not_in = |key: &str, operator: &str| {
            let requirement = LabelSelectorRequirement {
                key: key.into(),
                operator: operator.into(),
                values: (operator == "NotIn").then(|| vec!["excluded".into()]),
            };
            let selector = LabelSelector { match_expressions: Some(vec![requirement]), ..Default::default() };
            AllowedNamespaces { names: vec!["named".into()], selector: Some(selector) }
        };
        for operator in ["NotIn", "DoesNotExist"] {
            let allowed = not_in("tier", operator);
            assert!(allows(&allowed, "ns", Some(&labels(&[]))), "{operator}");
            assert!(!allows(&allowed, "ns", None) && allows(&allowed, "named", None), "{operator}");
        }
        assert!(!allows(&selecting(&[]), "ns", None), "nor does a selector that selects all");
    }
}
