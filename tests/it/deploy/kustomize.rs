//! The plain manifests equal what the chart renders.
//!
//! `OHALLO_TEST_WRITE=1 cargo test --test it the_components` writes the components' files from the chart.

use std::path::Path;
use std::process::{Command, Stdio};

use ohallo_sim::{Config, Key, Sim};
use serde_json::{Value, json};
use testbed::User;

use crate::support::canary;
use crate::support::clusters::{empty, end, established, kubectl};
use crate::support::differences::differences;
use crate::support::harness::{TENANT, WORKSPACE, kubectl_as};
use crate::support::helm::{OPERATOR_NAMESPACE, documents, output_text, render, stored_arguments};
use crate::support::program::Program;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// What Helm alone adds.
const OF_HELM: [&str; 5] = [
    "helm.sh/chart",
    "helm.sh/resource-policy",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
];
const REPLICAS: [&str; 3] = [
    "replicas=2",
    r#"podDisruptionBudget={"enabled":true}"#,
    r#"topologySpreadConstraints=[{"maxSkew":1,"topologyKey":"kubernetes.io/hostname","whenUnsatisfiable":"ScheduleAnyway"}]"#,
];
const MONITORING: &str = r#"metrics={"serviceMonitor":{"enabled":true},"prometheusRule":{"enabled":true},"dashboard":{"enabled":true}}"#;
const NETWORK: &str = r#"networkPolicy={"enabled":true,"metrics":{"from":[{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"monitoring"}}}]}}"#;
const POLICIES: &str = r#"admissionPolicies={"enabled":true}"#;
const PROTECTION: &str = r#"deletionProtection={"enabled":true}"#;

/// Each file of a component, the values that make it, and the kinds in it.
fn components() -> Vec<(&'static str, Vec<&'static str>, Vec<&'static str>)> {
    let policies = vec!["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"];
    vec![
        ("single-namespace/rbac", vec![r#"watchNamespaces=["ohallo-system"]"#], vec!["Role", "RoleBinding"]),
        ("high-availability/poddisruptionbudget", REPLICAS.to_vec(), vec!["PodDisruptionBudget"]),
        ("monitoring/servicemonitor", vec![MONITORING], vec!["ServiceMonitor"]),
        ("monitoring/prometheusrule", vec![MONITORING], vec!["PrometheusRule"]),
        ("monitoring/dashboard", vec![MONITORING], vec!["ConfigMap"]),
        ("network-policy/networkpolicy", vec![NETWORK], vec!["NetworkPolicy"]),
        ("admission-policies/policies", vec![POLICIES], policies.clone()),
        ("deletion-protection/policy", vec![PROTECTION], policies),
    ]
}

/// What the chart renders, without what Helm alone adds.
fn plain(values: &[&str]) -> Vec<Value> {
    let mut objects = render(values).unwrap();
    objects.iter_mut().for_each(strip);
    for crd in objects.iter_mut().filter(|object| object["kind"] == "CustomResourceDefinition") {
        crd["metadata"].as_object_mut().unwrap().remove("labels");
    }
    sorted(objects)
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| !OF_HELM.contains(&key.as_str()));
            map.values_mut().for_each(strip);
            map.retain(|key, value| {
                key != "annotations" || value.as_object().is_none_or(|map| !map.is_empty())
            });
        }
        Value::Array(list) => list.iter_mut().for_each(strip),
        // A flag that names the namespace; the pod knows its own.
        Value::String(text) if text == "--namespace=ohallo-system" => {
            *text = "--namespace=$(POD_NAMESPACE)".into()
        }
        _ => {}
    }
}

fn sorted(mut objects: Vec<Value>) -> Vec<Value> {
    let key = |object: &Value| {
        let metadata = &object["metadata"];
        format!("{} {} {}", object["kind"], metadata["namespace"], metadata["name"])
    };
    objects.sort_by_key(key);
    objects
}

/// What kubectl renders for a folder.
fn kustomized(folder: &str) -> Vec<Value> {
    let path = format!("{ROOT}/deploy/kustomize/{folder}");
    let output = Command::new("kubectl").args(["kustomize", &path]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{folder}: {}", output_text(&output));
    let mut objects = documents(&String::from_utf8(output.stdout).unwrap());
    // Helm gets the namespace, and creates it itself.
    objects.retain(|object| object["kind"] != "Namespace");
    sorted(objects)
}

#[test]
fn the_components_files_are_those_of_the_chart() {
    for (file, values, kinds) in components() {
        let mut objects = plain(&values);
        objects.retain(|object| kinds.iter().any(|kind| object["kind"] == *kind));
        // The Role for the lease is in the base.
        objects.retain(|object| object["metadata"]["name"] != "ohallo-operator-lease");
        let yaml: Vec<_> =
            objects.iter().map(|object| ohallo_operator::manifest::yaml(object).unwrap()).collect();
        let head = "# Made from the chart: OHALLO_TEST_WRITE=1 cargo test --test it the_components\n";
        let text = format!("{head}{}", yaml.join("---\n"));
        let path = Path::new(ROOT).join(format!("deploy/kustomize/components/{file}.yaml"));
        if std::env::var_os("OHALLO_TEST_WRITE").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == text,
            "{file}.yaml is not what the chart says: OHALLO_TEST_WRITE=1 cargo test --test it the_components"
        );
    }
}

#[test]
fn base_and_overlays_say_what_the_chart_says() {
    let complete: Vec<_> = REPLICAS.into_iter().chain([MONITORING, NETWORK, POLICIES]).collect();
    for (folder, values) in [
        ("base", vec![]),
        ("overlays/single-namespace", vec![r#"watchNamespaces=["ohallo-system"]"#]),
        ("overlays/high-availability", REPLICAS.to_vec()),
        ("overlays/monitoring", vec![MONITORING]),
        ("overlays/complete", complete),
    ] {
        let (ours, chart) = (kustomized(folder), plain(&values));
        let names = |objects: &[Value]| -> Vec<String> {
            objects
                .iter()
                .map(|object| format!("{} {}", object["kind"], object["metadata"]["name"]))
                .collect()
        };
        assert_eq!(names(&ours), names(&chart), "{folder}");
        for (ours, chart) in ours.iter().zip(&chart) {
            let differences = differences(ours, chart);
            assert!(
                differences.is_empty(),
                "{folder}, {}: ours | the chart's: {differences:#?}",
                ours["kind"]
            );
        }
    }
}

#[test]
fn the_try_out_is_the_base_with_a_simulator_that_knows_the_samples() {
    let objects = kustomized("overlays/try");
    let of = |kind: &str, name: &str| {
        let is_it = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
        objects.iter().find(is_it).unwrap_or_else(|| panic!("no {kind} {name}")).clone()
    };
    let in_base = |object: &&Value| object["metadata"]["namespace"] != "ohallo-sim";
    let mut ours: Vec<_> = objects.iter().filter(in_base).cloned().collect();
    let operator = ours.iter_mut().find(|object| object["kind"] == "Deployment").unwrap();
    let args = operator.pointer_mut("/spec/template/spec/containers/0/args").unwrap().as_array_mut().unwrap();
    let added = args.split_off(2);
    assert_eq!(added, ["--api-url=http://ohallo-sim.ohallo-sim", "--allow-insecure-api"]);
    assert_eq!(ours, kustomized("base"));

    let samples = kustomized("../samples");
    let sample = |kind: &str| samples.iter().find(|object| object["kind"] == kind).unwrap();
    assert_eq!(of("Secret", "ohallo-sim")["stringData"]["apiKey"], sample("Secret")["stringData"]["apiKey"]);
    let simulator = of("Deployment", "ohallo-sim");
    let container = &simulator["spec"]["template"]["spec"]["containers"][0];
    let workspace = sample("Workspace")["spec"]["workspaceId"].as_str().unwrap();
    assert_eq!(container["args"][1], format!("--workspace={workspace}"));
    assert_eq!(container["image"], concat!("ghcr.io/ohallo/ohallo-sim:", env!("CARGO_PKG_VERSION")));
    assert_eq!(of("Service", "ohallo-sim")["metadata"]["namespace"], "ohallo-sim");
}

/// A user's kustomization with generated Secrets and a prefix.
fn of_a_user(components: &str) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let up = "../".repeat(folder.path().components().count() - 1);
    let objects = json!([
        {"apiVersion": "ohallo.eu/v1alpha1", "kind": "Workspace", "metadata": {"name": "main"},
         "spec": {"workspaceId": WORKSPACE, "apiKeySecretRef": {"name": "key"}}},
        {"apiVersion": "ohallo.eu/v1alpha1", "kind": "ClusterWorkspace", "metadata": {"name": "shared"},
         "spec": {"workspaceId": WORKSPACE, "apiKeySecretRef": {"name": "key"}}},
        {"apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel", "metadata": {"name": "a"},
         "spec": {"channelType": "email", "displayName": "key", "workspaceRef": {"name": "main"}, "credentials": [
            {"secretRef": {"name": "provider"}}, {"secretRef": {"name": "of-another-team"}},
            {"secretKeyRef": {"name": "provider", "key": "apiKey"}}]}},
        {"apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel", "metadata": {"name": "b"},
         "spec": {"channelType": "chat", "displayName": "B", "workspaceRef": {"kind": "ClusterWorkspace", "name": "shared"}}},
    ]);
    let texts =
        objects.as_array().unwrap().iter().map(|object| ohallo_operator::manifest::yaml(object).unwrap());
    std::fs::write(folder.path().join("objects.yaml"), texts.collect::<Vec<_>>().join("---\n")).unwrap();
    let secret = |name: &str| json!({"name": name, "literals": [format!("apiKey={name}")]});
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": ["objects.yaml"], "namespace": "team", "namePrefix": "team-",
        "secretGenerator": [secret("key"), secret("provider")],
        "components": components.split_terminator(' ').map(|name| {
            format!("{up}{}/deploy/kustomize/components/{name}", ROOT.trim_start_matches('/'))
        }).collect::<Vec<_>>(),
    });
    std::fs::write(
        folder.path().join("kustomization.yaml"),
        ohallo_operator::manifest::yaml(&kustomization).unwrap(),
    )
    .unwrap();
    let folder = folder.path().to_str().unwrap();
    let output = Command::new("kubectl").args(["kustomize", folder]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", output_text(&output));
    documents(&String::from_utf8(output.stdout).unwrap())
}

#[test]
fn references_of_channels_and_workspaces_follow_the_names_that_kustomize_changes() {
    let name = |objects: &[Value], kind: &str, prefix: &str| -> String {
        let is_it = |object: &&Value| {
            object["kind"] == kind
                && object["metadata"]["name"].as_str().is_some_and(|name| name.starts_with(prefix))
        };
        objects.iter().find(is_it).unwrap()["metadata"]["name"].as_str().unwrap().to_owned()
    };
    let find = |objects: &[Value], kind: &str, name: &str| {
        objects
            .iter()
            .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
            .cloned()
            .unwrap()
    };
    let plain = of_a_user("");
    assert_eq!(
        find(&plain, "Workspace", "team-main")["spec"]["apiKeySecretRef"]["name"],
        "key",
        "as kustomize knows nothing"
    );
    let objects = of_a_user("name-references");
    let (key, provider) = (name(&objects, "Secret", "team-key-"), name(&objects, "Secret", "team-provider-"));
    for kind in ["Workspace", "ClusterWorkspace"] {
        let of = if kind == "Workspace" { "team-main" } else { "team-shared" };
        assert_eq!(find(&objects, kind, of)["spec"]["apiKeySecretRef"]["name"], key.as_str(), "{kind}");
    }
    let channel = find(&objects, "Channel", "team-a");
    let expected = json!([
        {"secretRef": {"name": provider}}, {"secretRef": {"name": "of-another-team"}},
        {"secretKeyRef": {"name": provider, "key": "apiKey"}},
    ]);
    assert_eq!(channel["spec"]["credentials"], expected);
    assert_eq!(
        (&channel["spec"]["workspaceRef"]["name"], &channel["spec"]["displayName"]),
        (&json!("team-main"), &json!("key"))
    );
    assert_eq!(find(&objects, "Channel", "team-b")["spec"]["workspaceRef"]["name"], "team-shared");
}

/// The kinds of the Prometheus operator, as far as the API server needs to know them.
pub fn monitoring_crds() -> Value {
    let crd = |kind: &str| {
        let plural = format!("{}s", kind.to_lowercase());
        let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.monitoring.coreos.com")},
            "spec": {
                "group": "monitoring.coreos.com", "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
            },
        })
    };
    let crds = ["ServiceMonitor", "PodMonitor", "PrometheusRule"].map(crd);
    json!({"apiVersion": "v1", "kind": "List", "items": crds})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_overlay_is_applied_in_one_go_and_its_operator_works() {
    let plane = empty().await;
    let crds = kubectl_as(plane, User::Admin, &["apply", "-f", "-"], Some(&monitoring_crds().to_string()));
    assert!(crds.status.success(), "{}", output_text(&crds));
    let sim = Sim::start(Config::default()).await.unwrap();
    sim.add_workspace(TENANT, WORKSPACE, "Nordic Parts");
    let key = "sf_test_v1_overlays0000000000000000000000";
    canary::register(key);
    sim.add_key(Key::new(key, TENANT));
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": key}},
        {"apiVersion": "ohallo.eu/v1alpha1", "kind": "Workspace", "metadata": {"name": "default"},
         "spec": {"workspaceId": WORKSPACE, "apiKeySecretRef": {"name": "ohallo-api-key"}}},
        {"apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel", "metadata": {"name": "a"},
         "spec": {"channelType": "chat", "displayName": "A"}},
    ]});
    for (n, overlay) in ["single-namespace", "high-availability", "monitoring", "complete"].iter().enumerate()
    {
        let folder = format!("{ROOT}/deploy/kustomize/overlays/{overlay}");
        kubectl(plane, &["apply", "-k", &folder]);
        established(plane);
        let mut args: Vec<_> = stored_arguments(plane)
            .iter()
            .map(|arg| arg.replace("$(POD_NAMESPACE)", OPERATOR_NAMESPACE))
            .collect();
        args.push(format!("--api-url={}", sim.url()));
        let mut operator = Program::named(plane, User::Operator, "pod", &args);
        operator.until("/readyz", 200, "this replica: leader").await;
        let applied = kubectl_as(
            plane,
            User::Admin,
            &["-n", OPERATOR_NAMESPACE, "apply", "-f", "-"],
            Some(&objects.to_string()),
        );
        assert!(applied.status.success(), "{}", output_text(&applied));
        kubectl(
            plane,
            &["-n", OPERATOR_NAMESPACE, "wait", "--for=condition=Ready", "channel/a", "--timeout=180s"],
        );
        kubectl(plane, &["-n", OPERATOR_NAMESPACE, "delete", "channel/a", "--timeout=180s"]);
        assert_eq!(
            (sim.count(ohallo_sim::Operation::CreateChannel), sim.channel_count()),
            (n + 1, 0),
            "{overlay}"
        );
        operator.terminate();
        assert_eq!(operator.ended().await.0, Some(0), "{}", operator.log());
        // What goes with its namespace may be deleted before kubectl reaches it.
        kubectl(plane, &["delete", "-k", &folder, "--ignore-not-found", "--timeout=180s"]);
    }
    end(plane).await;
}
