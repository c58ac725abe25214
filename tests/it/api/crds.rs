//! The kinds as they are installed: the committed files, their schema, and what kubectl shows of them.

use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use ohallo_core::api;
use serde_json::{Value, json};

use crate::support::harness::Harness;

const CREATE_AGAIN: &str = "make them again with: cargo run -- crd --out crds";

fn schema(crd: &CustomResourceDefinition) -> Value {
    let whole = serde_json::to_value(crd).unwrap();
    whole["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

fn schema_of(kind: &str) -> Value {
    schema(api::crds().iter().find(|crd| crd.spec.names.kind == kind).unwrap())
}

/// Calls `visit` with the path of each schema below this one, its own included.
fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), property, visit);
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[key].is_object() {
            walk(&format!("{path}{mark}"), &schema[key], visit);
        }
    }
}

#[test]
fn the_committed_crds_are_the_generated_ones() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    let mut listed = Vec::new();
    for crd in api::crds() {
        let name = format!("{}.yaml", crd.metadata.name.clone().unwrap());
        let text = std::fs::read_to_string(dir.join(&name)).unwrap_or_default();
        assert!(text == ohallo_operator::manifest::yaml(&crd).unwrap(), "crds/{name} is old; {CREATE_AGAIN}");
        listed.push(name);
    }
    listed.push("kustomization.yaml".to_owned());
    listed.sort();
    let mut found: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, listed, "crds/ holds what the operator generates and nothing else");
}

#[test]
fn every_field_of_spec_and_status_is_described() {
    for crd in api::crds() {
        for half in ["spec", "status"] {
            let kind = &crd.spec.names.kind;
            walk(half, &schema(&crd)["properties"][half], &mut |path, schema| {
                let inner = path.ends_with("[]") || path.ends_with("{}");
                let text = schema["description"].as_str().unwrap_or_default();
                assert!(inner || text.ends_with(['.', ')']), "{kind} {path} has no sentence: {text:?}");
            });
        }
    }
}

#[test]
fn nothing_in_a_spec_is_unbounded_and_nothing_is_nullable() {
    for crd in api::crds() {
        let kind = &crd.spec.names.kind;
        walk("spec", &schema(&crd)["properties"]["spec"], &mut |path, schema| {
            // A LabelSelector is the API server's own type, bounded by the size of an object.
            if path.starts_with("spec.allowedNamespaces.selector.") {
                return;
            }
            let bounds: &[&str] = match schema["type"].as_str().unwrap() {
                "string" => &["maxLength", "enum"],
                "array" => &["maxItems"],
                "integer" => &["maximum"],
                "object" if schema["properties"].is_object() => return,
                "object" => &["maxProperties"],
                "boolean" => return,
                other => panic!("{kind} {path} is a {other}"),
            };
            let bounded = bounds.iter().any(|bound| !schema[*bound].is_null());
            assert!(bounded, "{kind} {path} has none of {bounds:?}");
        });
        walk("", &schema(&crd), &mut |path, schema| {
            assert!(schema["nullable"].is_null(), "{kind} {path} is nullable");
        });
    }
}

/// The path and the schema of every field below spec and status.
fn fields() -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for crd in api::crds() {
        for half in ["spec", "status"] {
            let path = format!("{} {half}", crd.spec.names.kind);
            walk(&path, &schema(&crd)["properties"][half], &mut |path, schema| {
                found.push((path.to_owned(), schema.clone()));
            });
        }
    }
    found
}

/// But for references that the API server completes with defaults: to server-side apply, the complete one would differ from
/// that of the manifest, and each further tool would conflict. `gitops::apply` applies the samples by several.
#[test]
fn references_and_selectors_have_one_owner() {
    let fields = fields();
    let named = |path: &str| {
        let is_completed = ["workspaceRef", "apiKeySecretRef"].iter().any(|name| path.ends_with(name));
        path.ends_with("Ref") && !is_completed || path.ends_with(".selector")
    };
    let atomic: Vec<_> = fields
        .iter()
        .filter(|(_, schema)| schema["x-kubernetes-map-type"] == "atomic")
        .map(|(path, _)| path.as_str())
        .collect();
    let wanted: Vec<_> = fields.iter().map(|(path, _)| path.as_str()).filter(|path| named(path)).collect();
    assert_eq!(atomic, wanted);
    assert_eq!(wanted.len(), 3, "{wanted:?}");
}

/// Not `createdAt`, which is oHallo's text, and not `lastHandledReconcileAt`, which is the user's: a value that does not fit the
/// format would lose the whole status, and the id in it.
#[test]
fn only_times_that_the_operator_writes_have_the_format_of_a_time() {
    let fields = fields();
    let times: Vec<_> = fields
        .iter()
        .filter(|(path, schema)| schema["format"] == "date-time" && !path.contains(".conditions"))
        .map(|(path, _)| path.as_str())
        .collect();
    let expected = [
        "create.sentAt",
        "credentials.pushedAt",
        "provisioning.lastAttemptAt",
        "provisioning.nextAttemptAt",
        "test.finishedAt",
    ];
    assert_eq!(times, expected.map(|path| format!("Channel status.{path}")));
    let at = fields.iter().filter(|(path, _)| path.ends_with("At") && !path.contains(".conditions")).count();
    assert_eq!(at, expected.len() + 4, "createdAt, and lastHandledReconcileAt of each kind");
}

#[test]
fn the_words_for_the_type_of_a_channel_are_those_of_ohallo() {
    let schema = schema_of("Channel");
    let words = &schema["properties"]["spec"]["properties"]["channelType"]["enum"];
    assert_eq!(*words, json!(["email", "chat", "whatsapp", "voice"]));
}

#[test]
fn the_names_and_columns_are_those_that_users_know() {
    let columns = |crd: &CustomResourceDefinition, wide: bool| {
        let columns = crd.spec.versions[0].additional_printer_columns.clone().unwrap();
        let shown = columns.into_iter().filter(|column| wide || column.priority.unwrap_or_default() == 0);
        shown.map(|column| column.name.to_uppercase()).collect::<Vec<_>>().join(" ")
    };
    let workspace = "READY REASON WORKSPACE-ID ENVIRONMENT AGE";
    let channel = "READY REASON STATE TYPE DISPLAY-NAME AGE";
    let channel_wide = "READY REASON STATE TYPE DISPLAY-NAME AGE CHANNEL-ID WORKSPACE MESSAGE";
    let expected = [
        ("Channel", "Namespaced", "channels", vec!["chan"], channel, channel_wide),
        ("Workspace", "Namespaced", "workspaces", vec![], workspace, workspace),
        ("ClusterWorkspace", "Cluster", "clusterworkspaces", vec![], workspace, workspace),
    ];
    let crds = api::crds();
    assert_eq!(crds.len(), expected.len());
    for (crd, (kind, scope, plural, short, narrow, wide)) in crds.iter().zip(expected) {
        let names = &crd.spec.names;
        assert_eq!((names.kind.as_str(), crd.spec.scope.as_str()), (kind, scope));
        assert_eq!(names.plural, plural);
        assert_eq!(names.short_names.clone().unwrap_or_default(), short, "{kind}");
        assert_eq!(names.categories.clone().unwrap_or_default(), ["ohallo"], "{kind}");
        assert_eq!(columns(crd, false), narrow, "{kind}");
        assert_eq!(columns(crd, true), wide, "{kind}");
        let version = &crd.spec.versions[0];
        assert_eq!((version.name.as_str(), version.served, version.storage), ("v1alpha1", true, true));
        assert!(version.subresources.as_ref().unwrap().status.is_some(), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_fills_in_the_documented_defaults_and_nothing_else() {
    let harness = Harness::bare(Default::default(), &[]).await;
    let cluster = format!("{}-minimal", harness.namespace);
    let workspace = json!({"workspaceId": "w", "apiKeySecretRef": {"name": "key"}});
    let workspace_full =
        json!({"workspaceId": "w", "apiKeySecretRef": {"name": "key", "key": "apiKey"}, "suspend": false});
    let minimal = json!({"channelType": "chat", "displayName": "Minimal"});
    let full = json!({
        "channelType": "chat", "displayName": "Minimal",
        "workspaceRef": {"kind": "Workspace", "name": "default"},
        "managementPolicy": "Manage", "driftPolicy": "Correct", "suspend": false, "intervalSeconds": 600,
        "connectivityTest": "OnRequest", "provisioningRetry": {"limit": 5, "backoffSeconds": 60},
    });
    let mut partial = minimal.clone();
    partial["workspaceRef"] = json!({"name": "other"});
    partial["provisioningRetry"] = json!({"limit": 0});
    partial["credentials"] =
        json!([{"secretRef": {"name": "a"}}, {"name": "b", "secretKeyRef": {"name": "c", "key": "d"}}]);
    // An explicit null is nothing.
    partial["config"] = Value::Null;
    partial["suspend"] = Value::Null;
    let mut partial_full = full.clone();
    partial_full["workspaceRef"] = json!({"kind": "Workspace", "name": "other"});
    partial_full["provisioningRetry"] = json!({"limit": 0, "backoffSeconds": 60});
    // A default inside a list would make it another one than was applied, and the next who applies it would be refused.
    partial_full["credentials"] = partial["credentials"].clone();
    for (kind, name, spec, expected) in [
        ("Channel", "minimal", minimal, full),
        ("Channel", "partial", partial, partial_full),
        ("Workspace", "minimal", workspace.clone(), workspace_full.clone()),
        ("ClusterWorkspace", &*cluster, workspace, workspace_full),
    ] {
        harness.apply(&json!({
            "apiVersion": "ohallo.eu/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec,
        }));
        let got = harness.kubectl(&["get", kind, name, "-o", "json"], None);
        let got: Value = serde_json::from_slice(&got.stdout).unwrap();
        assert_eq!(got["spec"], expected, "{kind} {name}");
        assert_eq!(got["status"], api::unseen(), "{kind} {name}");
    }
    let deleted = harness.kubectl(&["delete", "clusterworkspace", &cluster], None);
    assert!(deleted.status.success());
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_that_is_asked_for_again_is_answered_without_a_body() {
    let harness = Harness::bare(Default::default(), &[]).await;
    let ask = async |known: Option<&http::HeaderValue>| {
        let mut request = http::Request::get("/openapi/v3/apis/ohallo.eu/v1alpha1");
        if let Some(known) = known {
            request = request.header(http::header::IF_NONE_MATCH, known);
        }
        harness.admin.send(request.body(kube::client::Body::empty()).unwrap()).await.unwrap()
    };
    // The API server publishes the schema a moment after it takes the CRD.
    harness
        .eventually("an unchanged schema", || async {
            let known = ask(None).await.headers().get(http::header::ETAG).cloned()?;
            (ask(Some(&known)).await.status() == 304).then_some(())
        })
        .await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_explains_every_field_of_a_spec_with_its_sentence() {
    let harness = Harness::bare(Default::default(), &[]).await;
    for (path, kind, pointer) in [
        ("channel.spec", "Channel", "/properties/spec"),
        ("channel.spec.workspaceRef", "Channel", "/properties/spec/properties/workspaceRef"),
        ("channel.spec.credentials", "Channel", "/properties/spec/properties/credentials/items"),
        ("channel.status", "Channel", "/properties/status"),
        ("workspace.spec", "Workspace", "/properties/spec"),
        ("clusterworkspace.spec", "ClusterWorkspace", "/properties/spec"),
    ] {
        // The API server publishes the schema a moment after it takes the CRD.
        let reported = harness
            .eventually(path, || async {
                Some(harness.kubectl(&["explain", path], None)).filter(|reported| reported.status.success())
            })
            .await;
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let text = words(&String::from_utf8_lossy(&reported.stdout));
        let schema = schema_of(kind);
        for (name, field) in schema.pointer(pointer).unwrap()["properties"].as_object().unwrap() {
            let sentence = words(field["description"].as_str().unwrap());
            assert!(text.contains(&sentence), "{path}.{name}: {sentence:?} is not in {text}");
        }
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_shows_the_documented_columns_for_the_short_name_and_the_category() {
    let harness = Harness::bare(Default::default(), &[]).await;
    harness.workspace("default", "ohallo-api-key").await;
    harness.apply(&harness.manifest("a", json!({})));
    let header = |args: &[&str]| {
        let reported = harness.kubectl(args, None);
        let text = String::from_utf8_lossy(&reported.stdout).into_owned();
        text.lines().next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let channel = "NAME READY REASON STATE TYPE DISPLAY-NAME AGE";
    assert_eq!(header(&["get", "channels"]), channel);
    assert_eq!(header(&["get", "chan"]), channel);
    assert_eq!(header(&["get", "channels", "-o", "wide"]), format!("{channel} CHANNEL-ID WORKSPACE MESSAGE"));
    assert_eq!(header(&["get", "workspaces"]), "NAME READY REASON WORKSPACE-ID ENVIRONMENT AGE");
    let all = harness.kubectl(&["get", "ohallo", "-o", "name"], None);
    let all = String::from_utf8_lossy(&all.stdout).into_owned();
    assert!(all.contains("channel.ohallo.eu/a") && all.contains("workspace.ohallo.eu/default"), "{all}");
    harness.finish().await;
}
