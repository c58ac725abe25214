//! Argo CD: messages, and the objects that the actions return.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::gitops::health::{ARGOCD, Set};
use ohallo_core::api::annotation;
use ohallo_core::api::conditions::{Reason, kind};

const LUA: [(&str, &str); 5] = [
    ("health", include_str!("../../../../deploy/argocd/health.lua")),
    ("discovery", include_str!("../../../../deploy/argocd/actions/discovery.lua")),
    ("reconcile", include_str!("../../../../deploy/argocd/actions/reconcile/action.lua")),
    ("test", include_str!("../../../../deploy/argocd/actions/test/action.lua")),
    ("retry", include_str!("../../../../deploy/argocd/actions/retry/action.lua")),
];

/// What Argo CD shows of an object.
#[derive(Deserialize, Debug)]
pub struct Shown {
    pub health: String,
    message: String,
    /// By name, the object that each action returns.
    actions: BTreeMap<String, Value>,
    disabled: Option<BTreeSet<String>>,
}

/// Checks everything except the health.
pub fn check(set: &Set, object: &Value, shown: &Shown) {
    let reason = set.shows.map(|shown| shown.1);
    if let Some(condition) = quoted(set, object) {
        let words = |field: &str| condition[field].as_str().unwrap();
        assert_eq!(shown.message, format!("{}: {}", words("reason"), words("message")), "{object}");
    }
    let mut expected: BTreeSet<_> = ["reconcile"].into();
    if object["kind"] == "Channel" {
        if object["status"]["channelId"].is_string() {
            expected.insert("test");
        }
        if reason == Some(Reason::ProvisioningFailed) {
            expected.insert("retry");
        }
        let disabled = shown.disabled.clone().unwrap_or_default();
        assert_eq!(shown.actions.len() + disabled.len(), 3, "{shown:?}");
    }
    assert_eq!(shown.actions.keys().map(String::as_str).collect::<BTreeSet<_>>(), expected, "{object}");
    for (name, left) in &shown.actions {
        sets_its_annotation(name, object, left);
    }
}

/// The condition that Argo CD's message quotes, if any.
fn quoted<'a>(set: &Set, object: &'a Value) -> Option<&'a Value> {
    let (shown, _) = set.shows?;
    let find = |kind: &str| {
        object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
    };
    match set.tools[1] {
        "Suspended" => find(kind::SUSPENDED),
        "Degraded" => find(kind::DELETION_BLOCKED).or_else(|| find(kind::STALLED)),
        "Healthy" if shown == kind::DRIFTED => find(shown),
        "Healthy" => find(shown).filter(|found| found["status"] == "False").or_else(|| find(kind::READY)),
        _ => None,
    }
}

/// The action sets its annotation to the current time, and changes nothing else.
fn sets_its_annotation(action: &str, object: &Value, left: &Value) {
    let annotation = match action {
        "reconcile" => annotation::RECONCILE_REQUESTED,
        "test" => annotation::TEST_REQUESTED,
        "retry" => annotation::RETRY_REQUESTED,
        other => panic!("unknown action {other}"),
    };
    let mut expected = object.clone();
    let annotations = &mut expected["metadata"]["annotations"];
    if annotations.is_null() {
        *annotations = json!({});
    }
    let asked = left["metadata"]["annotations"][annotation].clone();
    let at: Timestamp = asked.as_str().unwrap().parse().unwrap();
    let age = ohallo_client::clock::now().duration_since(at).as_secs();
    assert!((0..600).contains(&age), "{asked} is not now");
    annotations[annotation] = asked;
    assert_eq!(*left, expected, "{action}");
}

#[test]
fn the_config_map_contains_the_lua_files() {
    let config: Value = serde_saphyr::from_str(ARGOCD).unwrap();
    let lua: BTreeMap<_, _> = LUA.into();
    let definition = |name: &str| json!({"name": name, "action.lua": lua[name]});
    let mut keys = 0;
    for (kind, actions) in [
        ("Channel", &["reconcile", "test", "retry"][..]),
        ("Workspace", &["reconcile"]),
        ("ClusterWorkspace", &["reconcile"]),
    ] {
        let key = |what: &str| &config["data"][format!("resource.customizations.{what}.ohallo.eu_{kind}")];
        assert_eq!(*key("health"), lua["health"], "health of {kind}");
        let found: Value = serde_saphyr::from_str(key("actions").as_str().unwrap()).unwrap();
        let definitions: Vec<_> = actions.iter().map(|name| definition(name)).collect();
        assert_eq!(found, json!({"discovery.lua": lua["discovery"], "definitions": definitions}), "{kind}");
        keys += 2;
    }
    assert_eq!(config["data"].as_object().unwrap().len(), keys);
}
