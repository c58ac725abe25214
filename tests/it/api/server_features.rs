//! What an API server of each supported version lacks. The operator uses none of it; a change that does must detect it.

use http::Request;
use kube::Client;
use serde_json::{Value, json};
use testbed::{ControlPlane, User};

use crate::support::harness::{kubectl_as, plane};
use crate::support::helm::output_text;

const INSTALL: &str = include_str!("../../../docs/install.md");
const STREAMING_LIST: &str = "/api/v1/namespaces?watch=true&sendInitialEvents=true&allowWatchBookmarks=true\
     &resourceVersionMatch=NotOlderThan&timeoutSeconds=1";
/// A library of CEL functions, and a rule that needs it.
const LIBRARIES: [(&str, &str); 4] = [
    ("CEL `quantity`", "isQuantity(self)"),
    ("CEL `ip`", "isIP(self)"),
    ("CEL `format`", "!format.dns1123Label().validate(self).hasValue()"),
    ("CEL `semver`", "isSemver(self)"),
];

/// What the page says that a version lacks.
fn documented(version: &str) -> String {
    let start = format!("| {version} |");
    let row = INSTALL.lines().find(|line| line.starts_with(&start));
    let row = row.unwrap_or_else(|| panic!("docs/install.md has no row for {version}"));
    row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap().trim().to_owned()
}

fn compiles(plane: &ControlPlane, rule: &str) -> bool {
    let validated = json!({"type": "string", "maxLength": 10, "x-kubernetes-validations": [{"rule": rule, "message": "no"}]});
    let schema =
        json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": validated}}}});
    let version =
        json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}});
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "probes.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "probes", "kind": "Probe"}, "versions": [version]},
    });
    let args = ["create", "--dry-run=server", "-f", "-"];
    let output = kubectl_as(plane, User::Admin, &args, Some(&crd.to_string()));
    let reported = output_text(&output);
    assert!(output.status.success() || reported.contains("undeclared reference"), "{reported}");
    output.status.success()
}

async fn streams_lists(client: &Client) -> bool {
    let request = Request::get(STREAMING_LIST).body(Vec::new()).unwrap();
    match client.request_text(request).await {
        Ok(events) => events.contains("k8s.io/initial-events-end"),
        Err(kube::Error::Api(status)) => {
            assert!([400, 422].contains(&status.code), "{status:?}");
            false
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documents_say_what_this_server_lacks() {
    let plane = plane().await;
    let client = plane.client(User::Admin).unwrap();
    let version = client.request_text(Request::get("/version").body(Vec::new()).unwrap()).await.unwrap();
    let version: Value = serde_json::from_str(&version).unwrap();
    let version = version["gitVersion"].as_str().unwrap().trim_start_matches('v');
    let mut lacks = Vec::new();
    if !streams_lists(&client).await {
        lacks.push("streaming lists");
    }
    lacks.extend(LIBRARIES.iter().filter(|(_, rule)| !compiles(plane, rule)).map(|(name, _)| *name));
    let lacks = if lacks.is_empty() { "nothing".to_owned() } else { lacks.join(", ") };
    eprintln!("Kubernetes {version} lacks {lacks}");
    // Other assets than the project's own have versions that no page names.
    if std::env::var_os("KUBEBUILDER_ASSETS").is_none() {
        assert_eq!(documented(version), lacks, "{version}");
    }
}
