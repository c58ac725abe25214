//! What docs/gitops.md shows is what is shipped and tested, and the API server takes it.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testbed::User;

use crate::helm::documents;
use crate::rig::{Rig, kubectl_as};

const PAGE: &str = include_str!("../../../docs/gitops.md");
const FLUX: &str = include_str!("../../../deploy/flux/channels.yaml");

fn shown() -> Vec<Value> {
    let blocks = PAGE.split("```yaml\n").skip(1);
    blocks.flat_map(|rest| documents(rest.split("```").next().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_shows_what_is_shipped_and_what_the_api_server_takes() {
    let rig = Rig::bare(Default::default(), &[]).await;
    let mut kinds = BTreeSet::new();
    for object in shown() {
        let kind = object["kind"].as_str().unwrap();
        kinds.insert(kind.to_owned());
        if kind == "Kustomization" {
            assert!(documents(FLUX).contains(&object), "not what deploy/flux/channels.yaml says");
            continue;
        }
        let taken = rig.kubectl(&["apply", "--dry-run=server", "-f", "-"], Some(&object.to_string()));
        assert!(taken.status.success(), "{object}: {}", String::from_utf8_lossy(&taken.stderr));
    }
    assert_eq!(kinds, ["Channel", "Kustomization", "Workspace"].map(str::to_owned).into());
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_for_argo_cd_adds_to_its_config_map() {
    let rig = Rig::bare(Default::default(), &[]).await;
    let kubectl = |args: &[&str], stdin: &str| {
        let output = kubectl_as(rig.plane, User::Admin, args, Some(stdin));
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    kubectl(&["create", "namespace", "argocd"], "");
    let theirs = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cm", "namespace": "argocd"},
        "data": {"url": "https://argocd.example"},
    });
    kubectl(&["apply", "-f", "-"], &theirs.to_string());
    let line = PAGE.lines().find_map(|line| line.strip_prefix("    kubectl --namespace argocd ")).unwrap();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/argocd/argocd-cm.yaml");
    let line = line.replace("deploy/argocd/argocd-cm.yaml", file);
    kubectl(&[&["--namespace", "argocd"], line.split(' ').collect::<Vec<_>>().as_slice()].concat(), "");
    let got = kubectl(&["get", "configmap", "argocd-cm", "--namespace", "argocd", "-o", "json"], "");
    let got: Value = serde_json::from_slice(&got).unwrap();
    let ours = &documents(&std::fs::read_to_string(file).unwrap())[0]["data"];
    let mut all = ours.clone();
    all["url"] = theirs["data"]["url"].clone();
    assert_eq!(got["data"], all);
    kubectl(&["delete", "namespace", "argocd", "--wait=false"], "");
    rig.finish().await;
}
