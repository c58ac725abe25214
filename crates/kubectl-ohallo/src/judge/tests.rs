use serde_json::{Value, json};

use super::*;
use crate::manifest::documents;

fn kind(name: &str) -> (Kinds, usize) {
    let kinds = Kinds::embedded().unwrap();
    let at = kinds.all().iter().position(|kind| kind.name == name).unwrap();
    (kinds, at)
}

fn node(value: &Value) -> Node {
    documents(&value.to_string()).next().unwrap().root.unwrap()
}

fn judged(name: &str, object: &Value, old: Option<&Value>) -> Vec<String> {
    let (kinds, at) = kind(name);
    let findings = judge(&kinds.all()[at], &node(object), old);
    findings.iter().map(|finding| format!("{} {}", <&str>::from(finding.rule), finding.path)).collect()
}

fn channel(spec: Value) -> Value {
    json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel", "metadata": {"name": "a"}, "spec": spec})
}

#[test]
fn every_keyword_and_every_rule_of_every_schema_is_judged() {
    let kinds = Kinds::embedded().unwrap();
    let names: Vec<_> = kinds.all().iter().map(|kind| kind.name.as_str()).collect();
    assert_eq!(names, ["Channel", "Workspace", "ClusterWorkspace"]);
    assert!(kinds.all().iter().all(|kind| kind.rules.is_complete()));
    assert!(serde_json::from_value::<schema::Schema>(json!({"type": "object", "multipleOf": 2})).is_err());
}

#[test]
fn what_may_not_change_is_judged_against_the_object_before() {
    let spec = |kind: &str, workspace: &str| {
        channel(json!({"channelType": kind, "displayName": "A", "workspaceRef": {"name": workspace}}))
    };
    let old = spec("chat", "default");
    assert!(judged("Channel", &old, Some(&old)).is_empty());
    assert_eq!(judged("Channel", &spec("email", "default"), Some(&old)), ["validation spec.channelType"]);
    assert_eq!(judged("Channel", &spec("chat", "other"), Some(&old)), ["validation spec.workspaceRef"]);
    // A reference that is left out is the default one.
    let short = channel(json!({"channelType": "chat", "displayName": "A"}));
    assert!(judged("Channel", &short, Some(&old)).is_empty());
    let mut bound = spec("chat", "default");
    bound["status"] = json!({"channelId": "c1"});
    let mut other = spec("chat", "default");
    other["spec"]["channelId"] = json!("c2");
    assert_eq!(judged("Channel", &other, Some(&bound)), ["validation spec.channelId"]);
    assert!(judged("Channel", &other, Some(&old)).is_empty());
}

#[test]
fn a_namespace_is_judged_by_the_scope_of_the_kind() {
    let mut object = channel(json!({"channelType": "chat", "displayName": "A"}));
    object["metadata"]["namespace"] = json!("Not_A_Namespace");
    assert_eq!(judged("Channel", &object, None), ["metadata metadata.namespace"]);
    let mut cluster = json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "ClusterWorkspace",
        "metadata": {"name": "a"}, "spec": {"workspaceId": "w", "apiKeySecretRef": {"name": "a"}}});
    assert!(judged("ClusterWorkspace", &cluster, None).is_empty());
    cluster["metadata"]["namespace"] = json!("a");
    assert_eq!(judged("ClusterWorkspace", &cluster, None), ["metadata metadata.namespace"]);
}

#[test]
fn a_misspelled_field_names_the_field_that_was_meant() {
    let (kinds, at) = kind("Channel");
    let message = |spec: Value| judge(&kinds.all()[at], &node(&channel(spec)), None)[0].message.clone();
    for (wrong, known) in [("chanelType", "spec.channelType"), ("displayname", "spec.displayName")] {
        assert_eq!(message(json!({wrong: "a"})), format!("the field does not exist: did you mean {known}?"));
    }
    let nested = message(json!({"credentials": [{"secretref": {"name": "a"}}]}));
    assert!(nested.contains("spec.credentials[0].secretRef"), "{nested}");
    assert_eq!(message(json!({"colour": "red"})), "the field does not exist: remove it");
}

#[test]
fn what_is_no_object_of_ours_is_told_apart_from_what_should_be_one() {
    let kinds = Kinds::embedded().unwrap();
    let unknown = |value: Value| match kinds.recognize(&node(&value)) {
        Recognized::Ours(kind) => kind.name.clone(),
        Recognized::Unknown(path, _) => format!("unknown {path}"),
        Recognized::Foreign => "foreign".to_owned(),
    };
    for (api_version, kind, answer) in [
        (json!("ohallo.eu/v1alpha1"), json!("Workspace"), "Workspace"),
        (json!("ohallo.eu/v1alpha1"), json!("Chanel"), "unknown kind"),
        (json!("ohallo.eu/v1"), json!("Channel"), "unknown apiVersion"),
        (json!("ohallo.eu"), json!("Channel"), "unknown apiVersion"),
        (json!("messaging.knative.dev/v1"), json!("Channel"), "foreign"),
        (json!("v1"), json!("Secret"), "foreign"),
    ] {
        assert_eq!(unknown(json!({"apiVersion": api_version, "kind": kind})), answer);
    }
    assert_eq!(unknown(json!({"kind": "Channel"})), "unknown apiVersion");
    assert_eq!(unknown(json!({"apiVersion": "ohallo.eu/v1alpha1"})), "unknown kind");
    assert_eq!(unknown(json!({"image": {"tag": "a"}})), "foreign");
}
