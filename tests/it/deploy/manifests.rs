//! What a cluster administrator and a new user apply: CRDs, base, samples.

use std::io::Write;
use std::process::{Command, Stdio};

use ohallo_sim::Config;
use serde_json::{Value, json};
use testbed::User;

use crate::support::harness::{Harness, id_of, kubectl_as, plane};
use crate::support::samples::samples;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_samples_get_ready_and_send_the_named_keys_only() {
    let mut harness = Harness::bare(Config::default(), &[]).await;
    samples(&harness);
    harness.start_operator().await;
    let applied = harness.kubectl(&["apply", "-k", &format!("{ROOT}/deploy/samples")], None);
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    for (name, kind, keys) in [
        ("support-email", "email", vec!["apiKey"]),
        ("website-chat", "chat", vec!["webhookSecret"]),
        ("whatsapp", "whatsapp", vec!["apiKey", "webhookSecret"]),
        ("voice", "voice", vec!["apiKey", "webhookSecret"]),
    ] {
        let channel = harness.reason(name, "Available").await;
        let channel = match name {
            "website-chat" => harness.has(name, "Connected", "TestPassed").await,
            _ => channel,
        };
        let remote = harness.sim.channel(&id_of(&channel)).unwrap();
        assert_eq!(remote.channel_type, kind);
        assert_eq!(remote.credentials.keys().collect::<Vec<_>>(), keys, "{name}");
    }
    assert_eq!(harness.sim.channel_count(), 4);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_crd_command_prints_what_the_api_server_takes() {
    let printed = Command::new(env!("CARGO_BIN_EXE_ohallo-operator")).arg("crd").output().unwrap();
    assert!(printed.status.success());
    let yaml = String::from_utf8(printed.stdout).unwrap();
    assert_eq!(yaml.matches("\nkind: CustomResourceDefinition\n").count(), 3);
    let apply = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-"];
    let taken = kubectl_as(plane().await, User::Admin, &apply, Some(&yaml));
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    assert_eq!(String::from_utf8_lossy(&taken.stdout).lines().count(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deployments_pod_passes_the_restricted_standard() {
    let plane = plane().await;
    let get = ["get", "deployment", "ohallo-operator", "-n", "ohallo-system", "-o", "json"];
    let deployment = kubectl_as(plane, User::Admin, &get, None);
    let deployment: Value = serde_json::from_slice(&deployment.stdout).unwrap();
    let template = &deployment["spec"]["template"];
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "spec": template["spec"],
        "metadata": {"name": "probe", "namespace": "ohallo-system", "labels": template["metadata"]["labels"]},
    });
    let dry_run = |pod: &Value| {
        let args = ["create", "--dry-run=server", "-f", "-"];
        let output = kubectl_as(plane, User::Admin, &args, Some(&pod.to_string()));
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (passed, reported) = dry_run(&pod);
    assert!(passed && reported.is_empty(), "{reported}");
    // The namespace does enforce it.
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = true.into();
    let (passed, reported) = dry_run(&pod);
    assert!(!passed && reported.contains("violates PodSecurity"), "{reported}");
}

#[test]
fn every_folder_of_manifests_renders() {
    for folder in ["deploy/kustomize/base", "deploy/samples", "crds"] {
        let mut kubectl = Command::new("kubectl");
        kubectl.args(["kustomize", &format!("{ROOT}/{folder}")]).stdin(Stdio::null());
        let output = kubectl.output().unwrap();
        if !output.status.success() {
            std::io::stderr().write_all(&output.stderr).unwrap();
            panic!("{folder} does not render");
        }
    }
}
