// pure
//! Which namespaces may use a ClusterWorkspace.

use std::collections::BTreeMap;

use kube::core::{Selector, SelectorExt};

use crate::api::workspace::AllowedNamespaces;

/// Whether a namespace with these labels may: it is named, or selected. Neither given: nobody may.
pub fn allows(allowed: &AllowedNamespaces, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
    if allowed.names.iter().any(|name| name == namespace) {
        return true;
    }
    // A selector that can't be understood selects nothing.
    let selector = allowed.selector.clone().and_then(|selector| Selector::try_from(selector).ok());
    selector.is_some_and(|selector| selector.matches(labels))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

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
        assert!(!allows(&AllowedNamespaces::default(), "ns", &team));
        let named = AllowedNamespaces { names: vec!["ns".into()], selector: None };
        assert!(allows(&named, "ns", &labels(&[])));
        assert!(!allows(&named, "other", &team));
        assert!(allows(&selecting(&[("team", "a")]), "ns", &team));
        assert!(!allows(&selecting(&[("team", "b")]), "ns", &team));
        assert!(allows(&selecting(&[]), "ns", &labels(&[])), "an empty selector selects all");
        let both = AllowedNamespaces { names: vec!["ns".into()], ..selecting(&[("team", "b")]) };
        assert!(allows(&both, "ns", &team), "the union of both");
    }
}
