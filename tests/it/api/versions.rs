//! What docs/versioning.md promises: definitions of another version, older and newer, beside a running operator.

use kube::ResourceExt;
use ohallo_core::api;
use ohallo_sim::{Config, Operation};
use serde_json::{Value, json};
use testbed::{ControlPlane, User};

use crate::support::clusters::{empty, end, kubectl};
use crate::support::differences::differences;
use crate::support::harness::{Harness, bound, id_of, install, kubectl_as};
use crate::support::helm::output_text;
use crate::support::pages;
use crate::support::shell::Shell;
use crate::support::steps::CREATE_INTENT;

const NEXT: &str = "v1beta1";
const PAGE: &str = include_str!("../../../docs/versioning.md");

fn crds() -> Vec<Value> {
    api::crds().iter().map(|crd| serde_json::to_value(crd).unwrap()).collect()
}

fn apply(plane: &ControlPlane, objects: &[Value]) {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    let output = kubectl_as(
        plane,
        User::Admin,
        &["apply", "--server-side", "--force-conflicts", "-f", "-"],
        Some(&list),
    );
    assert!(output.status.success(), "{}", output_text(&output));
}

/// The definitions with a copy of the version, and the versions that are served and stored.
fn with_versions(served: &[&str], storage: &str) -> Vec<Value> {
    let mut crds = crds();
    for crd in &mut crds {
        let versions = crd["spec"]["versions"].as_array_mut().unwrap();
        let only = versions.pop().unwrap();
        for name in served {
            let mut version = only.clone();
            version["name"] = (*name).into();
            version["storage"] = (*name == storage).into();
            versions.push(version);
        }
    }
    crds
}

fn without_formats(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.get("format").is_some_and(|format| format == "date-time") {
                map.remove("format");
            }
            map.values_mut().for_each(without_formats);
        }
        Value::Array(list) => list.iter_mut().for_each(without_formats),
        _ => {}
    }
}

fn stored_versions(plane: &ControlPlane, plural: &str) -> String {
    let name = format!("{plural}.ohallo.eu");
    kubectl(plane, &["get", "crd", &name, "-o", "jsonpath={.status.storedVersions[*]}"])
}

fn serves(plane: &ControlPlane, version: &str) -> bool {
    let path = format!("/apis/ohallo.eu/{version}/channels");
    kubectl_as(plane, User::Admin, &["get", "--raw", &path], None).status.success()
}

/// Channels and Workspaces, by name and resourceVersion, as this version of the API has them.
fn objects(plane: &ControlPlane, version: &str) -> Vec<Value> {
    let mut found = Vec::new();
    for plural in ["channels", "workspaces"] {
        let list = kubectl(plane, &["get", "--raw", &format!("/apis/ohallo.eu/{version}/{plural}")]);
        let list: Value = serde_json::from_str(&list).unwrap();
        found.extend(list["items"].as_array().unwrap().clone());
    }
    for object in &mut found {
        object["apiVersion"] = Value::Null;
        object["metadata"]["resourceVersion"] = Value::Null;
        object["metadata"]["managedFields"] = Value::Null;
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_storage_moves_to_v1beta1_beside_a_running_operator_and_without_a_call_to_ohallo() {
    let plane = empty().await;
    install(plane).await;
    let mut harness = Harness::on(plane, Config::default(), &[]).await;
    harness.begin().await;
    for name in ["a", "b", "c"] {
        harness.ready(name, json!({})).await;
    }
    harness.ready("kept", json!({"deletionPolicy": "Retain"})).await;
    let before = objects(plane, api::VERSION);
    harness.caught_up().await;
    let (calls, writes) = (harness.sim.ledger().len(), harness.writes().len());

    apply(plane, &with_versions(&[api::VERSION, NEXT], api::VERSION));
    harness.eventually("v1beta1 is served", || async { serves(plane, NEXT).then_some(()) }).await;
    apply(plane, &with_versions(&[api::VERSION, NEXT], NEXT));
    harness
        .eventually("v1beta1 is stored", || async {
            (stored_versions(plane, "channels") == format!("{} {NEXT}", api::VERSION)).then_some(())
        })
        .await;
    // As the page says.
    let (_, steps) = PAGE.split_once("## The way to v1beta1").unwrap();
    let commands = pages::commands(steps);
    assert_eq!(commands.len(), 2);
    let shell = Shell::new(plane, &harness.namespace);
    for command in &commands {
        shell.run(command);
    }
    for plural in ["channels", "workspaces", "clusterworkspaces"] {
        assert_eq!(stored_versions(plane, plural), NEXT, "{plural}: {commands:?}");
    }
    // Nothing is left that only the old version can read.
    apply(plane, &with_versions(&[NEXT], NEXT));
    harness
        .eventually("v1alpha1 is not served", || async { (!serves(plane, api::VERSION)).then_some(()) })
        .await;
    let now = objects(plane, NEXT);
    let (now, then) = (Value::Array(now), Value::Array(before.clone()));
    assert!(now == then, "{:#?}", differences(&now, &then));
    apply(plane, &with_versions(&[api::VERSION, NEXT], NEXT));
    harness.eventually("v1alpha1 is served", || async { serves(plane, api::VERSION).then_some(()) }).await;
    assert!(objects(plane, api::VERSION) == before);
    harness.caught_up().await;
    assert_eq!(harness.sim.ledger().len(), calls, "calls to oHallo: {:?}", &harness.sim.ledger()[calls..]);
    assert_eq!(harness.writes().len(), writes, "writes of the operator: {:?}", &harness.writes()[writes..]);

    // The operator, which knows only the old version, serves what is written in the new one.
    let patch = [
        "patch",
        "channels.v1beta1.ohallo.eu",
        "a",
        "--type=merge",
        "-p",
        r#"{"spec":{"displayName":"New"}}"#,
    ];
    assert!(harness.kubectl(&patch, None).status.success());
    let id = id_of(&harness.reason("a", "Available").await);
    assert_eq!(harness.sim.channel(&id).unwrap().display_name, "New");
    assert!(
        harness
            .kubectl(&["delete", "channels.v1beta1.ohallo.eu", "b", "--timeout=60s"], None)
            .status
            .success()
    );
    assert_eq!((harness.count(Operation::CreateChannel), harness.count(Operation::DeleteChannel)), (4, 1));
    // And so does its next process.
    harness.stop_operator().await;
    harness.start_operator().await;
    harness.edit("c", json!({"spec": {"displayName": "Newer"}})).await;
    harness.reason("c", "Available").await;
    assert_eq!((harness.count(Operation::CreateChannel), harness.count(Operation::DeleteChannel)), (4, 1));
    harness.finish().await;
    end(plane).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_that_older_definitions_stored_in_another_form_are_repaired_and_lose_nothing() {
    let plane = empty().await;
    install(plane).await;
    let mut older = crds();
    older.iter_mut().for_each(without_formats);
    apply(plane, &older);
    let mut harness = Harness::on(plane, Config::default(), &[]).await;
    harness.begin().await;
    let id = id_of(&harness.ready("a", json!({})).await);
    harness.stop_operator().await;
    let status = json!({"status": {
        "credentials": {"keys": ["token"], "pushedAt": "yesterday"},
        "provisioning": {"attempts": 1, "lastAttemptAt": "2026-01-10 09:00:00+02", "nextAttemptAt": "-009999-01-10T07:00:00Z"},
        "test": {"request": "1", "finishedAt": "", "result": "Passed", "handledRequest": "1"},
    }});
    let forge = ["patch", "channel", "a", "--subresource=status", "--type=merge", "-p", &status.to_string()];
    let forged = harness.kubectl(&forge, None);
    assert!(forged.status.success(), "{}", output_text(&forged));
    install(plane).await;
    // Kubernetes 1.30 refuses every write of this status that keeps one of these texts.
    harness.start_operator().await;
    harness.edit("a", json!({"spec": {"displayName": "B"}})).await;
    let repaired = harness.reason("a", "Available").await;
    assert_eq!(bound(&repaired), Some(id));
    let get = harness.kubectl(&["get", "channel", "a", "-o", "json"], None).stdout;
    let stored: Value = serde_json::from_slice(&get).unwrap();
    for (pointer, expected) in [
        ("/status/credentials/pushedAt", json!(null)),
        ("/status/provisioning/nextAttemptAt", json!(null)),
        ("/status/test/finishedAt", json!(null)),
        ("/status/test/handledRequest", json!("1")),
    ] {
        assert_eq!(*stored.pointer(pointer).unwrap_or(&Value::Null), expected, "{pointer}: {stored:#}");
    }
    assert!(harness.http("/metrics").await.1.contains("ohallo_status_rejected_total 0"));
    harness.finish().await;
    end(plane).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_intent_whose_time_has_no_form_in_the_status_is_reported_without_it() {
    let harness = Harness::start().await;
    for (name, time, sent) in [
        ("ancient", "-009999-01-10T07:00:00Z", None),
        ("offset", "2026-01-10T09:00:00+02:00", Some("2026-01-10T07:00:00Z")),
    ] {
        let mut manifest = harness.manifest(name, json!({}));
        manifest["metadata"]["annotations"] = json!({CREATE_INTENT: format!("4f1d/1/{time}")});
        harness.apply(&manifest);
        let channel = harness.reason(name, "CreateOutcomeUnknown").await;
        let create = channel.status.as_ref().unwrap().create.clone().unwrap();
        assert_eq!(create.sent_at.as_deref(), sent, "{}", channel.name_any());
    }
    assert!(harness.http("/metrics").await.1.contains("ohallo_status_rejected_total 0"));
    harness.finish().await;
}

/// A half of one author and a half of another would select what neither meant.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_selector_that_another_manager_applies_replaces_the_whole_selector() {
    let harness = Harness::bare(Config::default(), &[]).await;
    let name = format!("selecting-{}", harness.namespace);
    let apply = |manager: &str, labels: Value| {
        let manifest = json!({
            "apiVersion": "ohallo.eu/v1alpha1", "kind": "ClusterWorkspace", "metadata": {"name": name},
            "spec": {
                "workspaceId": "w", "apiKeySecretRef": {"name": "key"},
                "allowedNamespaces": {"selector": {"matchLabels": labels}},
            },
        });
        let manager = format!("--field-manager={manager}");
        let args = ["apply", "--server-side", "--force-conflicts", &manager, "-f", "-"];
        let applied = harness.kubectl(&args, Some(&manifest.to_string()));
        assert!(applied.status.success(), "{}", output_text(&applied));
    };
    apply("one", json!({"team": "a", "env": "test"}));
    apply("other", json!({"team": "b"}));
    let got = harness.kubectl(&["get", "clusterworkspace", &name, "-o", "json"], None).stdout;
    let got: Value = serde_json::from_slice(&got).unwrap();
    assert_eq!(got["spec"]["allowedNamespaces"]["selector"], json!({"matchLabels": {"team": "b"}}));
    let deleted = harness.kubectl(&["delete", "clusterworkspace", &name, "--wait=false"], None);
    assert!(deleted.status.success(), "{}", output_text(&deleted));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_are_selected_by_type_and_by_declared_id_where_the_server_can() {
    let harness = Harness::bare(Config::default(), &[]).await;
    harness.apply(&harness.manifest("pinned", json!({"channelId": "c1"})));
    harness.apply(&harness.manifest("chat", json!({})));
    harness.apply(&harness.manifest("mail", json!({"channelType": "email"})));
    let minor = harness.admin.apiserver_version().await.unwrap().minor;
    // Behind a gate in 1.30, where the API server drops the field.
    let can = minor.trim_end_matches('+').parse::<u32>().unwrap() >= 31;
    for (selector, expected) in [
        ("spec.channelType=email", "mail"),
        ("spec.channelType=chat", "chat pinned"),
        ("spec.channelId=c1", "pinned"),
    ] {
        let args = [
            "get",
            "channels.ohallo.eu",
            "--field-selector",
            selector,
            "-o",
            "jsonpath={.items[*].metadata.name}",
        ];
        let output = harness.kubectl(&args, None);
        if can {
            assert_eq!(output_text(&output), expected, "{selector}");
        } else {
            assert!(output_text(&output).contains("field label not supported"), "{}", output_text(&output));
        }
    }
    harness.finish().await;
}
