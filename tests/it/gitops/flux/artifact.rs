//! Flux installs the operator from the artifact of a release, in a registry.

use std::process::Command;

use ohallo_client::clock;
use serde_json::json;

use super::*;
use crate::support::clusters;
use crate::support::harness::WAIT_TIMEOUT;
use crate::support::helm::output_text;

const IMAGE: &str = "ghcr.io/ohallo/ohallo-operator";
const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Pushes it as the release workflow does.
async fn push(archive: &Path, to: &str) {
    let mut command = Command::new("skopeo");
    command.args(["copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"]);
    command.arg(format!("oci-archive:{}", archive.display())).arg(format!("docker://{to}:{VERSION}"));
    let deadline = clock::instant() + WAIT_TIMEOUT;
    loop {
        let output = command.output().expect("skopeo is needed");
        if output.status.success() {
            return;
        }
        assert!(clock::instant() < deadline, "{}", output_text(&output));
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// What is shipped, for this registry, which has no TLS and no signatures.
fn objects(registry: &str) -> Vec<Value> {
    let mut objects = documents(include_str!("../../../../deploy/flux/operator.yaml"));
    for object in &mut objects {
        if object["kind"] == "OCIRepository" {
            assert_eq!(object["spec"]["url"], "oci://ghcr.io/ohallo/manifests/ohallo-operator");
            object["spec"]["url"] = format!("oci://{registry}").into();
            object["spec"]["insecure"] = true.into();
            assert!(object["spec"].as_object_mut().unwrap().remove("verify").is_some());
        } else {
            // No kubelet runs pods here.
            object["spec"]["wait"] = false.into();
            object["spec"]["components"] = json!(["../components/network-policy"]);
        }
    }
    objects
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "builds Flux for minutes, once, and needs skopeo; .ci/full runs it"]
async fn flux_installs_the_operator_from_the_artifact_and_keeps_the_crds() {
    let plane = clusters::empty().await;
    let folder = tempfile::tempdir().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/release/flux-artifact");
    let made = Command::new(script).args([IMAGE, DIGEST, DIGEST]).arg(folder.path()).output().unwrap();
    assert!(made.status.success(), "{}", output_text(&made));
    let [port] = ports::free();
    let program = testbed::tool("registry").unwrap();
    let _registry = plane.spawn("registry", &program, &[format!("-port={port}")]).unwrap();
    let registry = format!("127.0.0.1:{port}/ohallo/manifests/ohallo-operator");
    push(&folder.path().join(format!("ohallo-operator-manifests-{VERSION}.oci.tar")), &registry).await;

    let _flux = Flux::start(plane, "default");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects(&registry)}).to_string();
    let applied = kubectl_as(plane, User::Admin, &["apply", "-f", "-"], Some(&list));
    assert!(applied.status.success(), "{}", output_text(&applied));
    let ready = ["wait", "--for=condition=Ready", "--timeout=120s", KUSTOMIZATION, "ohallo-operator"];
    let waited = kubectl_as(plane, User::Admin, &ready, None);
    let state = || clusters::kubectl(plane, &["get", "ocirepositories,kustomizations", "-o", "yaml"]);
    assert!(waited.status.success(), "{}\n{}", output_text(&waited), state());
    clusters::established(plane);
    let installed = clusters::kubectl(plane, &["get", "deployments", "-n", "ohallo-system", "-o", "yaml"]);
    assert!(installed.contains(&format!("image: {IMAGE}:{VERSION}@{DIGEST}")), "{installed}");
    let revision: Value = serde_json::from_str(&clusters::kubectl(
        plane,
        &["get", "ocirepository", "ohallo-operator", "-o", "json"],
    ))
    .unwrap();
    let revision = &revision["status"]["artifact"];
    assert!(revision["revision"].as_str().unwrap().starts_with(&format!("{VERSION}@sha256:")), "{revision}");

    let policies = clusters::kubectl(plane, &["get", "networkpolicies", "-n", "ohallo-system", "-o", "name"]);
    assert!(policies.contains("ohallo-operator"), "{policies}");

    // Without its CRD every Channel would be deleted, and without the namespace every Secret in it.
    clusters::kubectl(plane, &["delete", KUSTOMIZATION, "ohallo-operator", "--timeout=120s"]);
    assert_eq!(clusters::kubectl(plane, &["get", "deployments", "-A", "-o", "name"]), "");
    let kept = clusters::kubectl(plane, &["get", "crds,namespaces", "-o", "json"]);
    let kept: Value = serde_json::from_str(&kept).unwrap();
    let ours = |object: &&Value| {
        object["spec"]["group"] == "ohallo.eu" || object["metadata"]["name"] == "ohallo-system"
    };
    let kept: Vec<_> = kept["items"].as_array().unwrap().iter().filter(ours).collect();
    assert_eq!(kept.len(), 4);
    assert!(kept.iter().all(|object| object["metadata"]["deletionTimestamp"].is_null()), "{kept:?}");
    clusters::end(plane).await;
}
