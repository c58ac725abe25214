//! What docs/gitops.md shows is what is shipped; that the API server takes it is seen with all pages.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testbed::User;

use crate::support::harness::{Harness, kubectl_as};
use crate::support::helm::{documents, of_kind};
use crate::support::pages;

const PAGE: &str = include_str!("../../../docs/gitops.md");
const FLUX: &str = include_str!("../../../deploy/flux/channels.yaml");

#[test]
fn the_page_shows_the_kustomization_that_is_shipped() {
    let shown: Vec<_> = pages::yaml(PAGE).iter().flat_map(|block| documents(block)).collect();
    let kinds: BTreeSet<_> = shown.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["Channel", "Kustomization", "Workspace"].into());
    for object in of_kind(&shown, "Kustomization") {
        assert!(documents(FLUX).contains(object), "not the content of deploy/flux/channels.yaml");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_for_argo_cd_adds_to_its_config_map() {
    let harness = Harness::bare(Default::default(), &[]).await;
    let kubectl = |args: &[&str], stdin: &str| {
        let output = kubectl_as(harness.plane, User::Admin, args, Some(stdin));
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
    harness.finish().await;
}
