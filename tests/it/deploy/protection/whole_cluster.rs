//! What deletes more than Channels: the Helm release, the base, the CustomResourceDefinitions. The API server deletes
//! the objects of a deleted definition without any admission.

use ohallo_sim::{Config, Operation};
use serde_json::json;
use testbed::{ControlPlane, User};

use crate::deploy::protection::{REFUSED, accepted, refused};
use crate::support::clusters::{empty, end, established, kubectl};
use crate::support::harness::{Harness, id_of, kubectl_as};
use crate::support::helm::{CHART, OPERATOR_NAMESPACE, RELEASE, on, output_text};

const BASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kustomize/base");
const COMPONENT: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kustomize/components/deletion-protection/policy.yaml");
const DELETE: Operation = Operation::DeleteChannel;

fn dry_deletion(plane: &ControlPlane, namespace: &str) -> Result<(), String> {
    let args = ["-n", namespace, "delete", "channel", "a", "--dry-run=server"];
    let output = kubectl_as(plane, User::Admin, &args, None);
    if output.status.success() { Ok(()) } else { Err(output_text(&output)) }
}

async fn protected(harness: &Harness) {
    let refused = || async { dry_deletion(harness.plane, &harness.namespace).err() };
    let why = harness.eventually("the protection in force", refused).await;
    assert!(why.contains(REFUSED), "{why}");
}

/// Waits until the Channel is terminating, and keeps its channel by a change that the protection allows.
async fn rescue(harness: &Harness) {
    harness.until("a", "terminating", |channel| channel.metadata.deletion_timestamp.is_some()).await;
    let retain = r#"{"spec":{"deletionPolicy":"Retain"}}"#;
    accepted(harness, &["patch", "channel", "a", "--type=merge", "-p", retain]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn helm_uninstall_keeps_channels_and_ends_their_protection_with_the_release() {
    let plane = empty().await;
    let release = [RELEASE, CHART, "-n", OPERATOR_NAMESPACE, "--set", "deletionProtection.enabled=true"];
    let install = || on(plane, &[&["upgrade", "--install", "--create-namespace"], &release[..]].concat());
    install();
    established(plane);
    let mut harness = Harness::on(plane, Config::default(), &[]).await;
    harness.begin().await;
    let id = id_of(&harness.ready("a", json!({})).await);
    protected(&harness).await;
    // A release that is upgraded, or rolled back, keeps its protection.
    install();
    refused(&harness, &["delete", "channel", "a"], &id);
    harness.stop_operator().await;
    on(plane, &["uninstall", RELEASE, "-n", OPERATOR_NAMESPACE]);
    established(plane);
    assert_eq!(harness.get("a").await.metadata.deletion_timestamp, None);
    harness
        .eventually("the protection has ended", || async { dry_deletion(plane, &harness.namespace).ok() })
        .await;
    // The same release takes the definitions over again, and protects again.
    install();
    protected(&harness).await;
    harness.start_operator().await;
    harness.reason("a", "Available").await;
    assert_eq!((harness.count(DELETE), harness.sim.channel_count()), (0, 1));
    // The definition is deleted, and with it every Channel: no policy is asked.
    harness.stop_operator().await;
    kubectl(plane, &["delete", "crd", "channels.ohallo.eu", "--wait=false"]);
    rescue(&harness).await;
    harness.start_operator().await;
    kubectl(plane, &["wait", "--for=delete", "crd/channels.ohallo.eu", "--timeout=60s"]);
    assert_eq!((harness.count(DELETE), harness.sim.channel_count()), (0, 1));
    install();
    established(plane);
    harness.finish().await;
    end(plane).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_delete_of_the_base_deletes_every_channel_although_it_is_protected() {
    let plane = empty().await;
    kubectl(plane, &["apply", "-k", BASE]);
    kubectl(plane, &["apply", "-f", COMPONENT]);
    established(plane);
    let mut harness = Harness::on(plane, Config::default(), &[]).await;
    harness.begin().await;
    harness.ready("a", json!({})).await;
    protected(&harness).await;
    // Its Deployment is a part of the base.
    harness.stop_operator().await;
    kubectl(plane, &["delete", "-k", BASE, "--wait=false"]);
    rescue(&harness).await;
    assert_eq!(harness.sim.channel_count(), 1, "no operator is left that deletes it");
    // The operator that is installed again finds the Channels terminating, and lets go of what is retained.
    kubectl(plane, &["wait", "--for=delete", &format!("namespace/{OPERATOR_NAMESPACE}"), "--timeout=60s"]);
    kubectl(plane, &["apply", "-k", BASE]);
    harness.start_operator().await;
    kubectl(plane, &["wait", "--for=delete", "crd/channels.ohallo.eu", "--timeout=60s"]);
    assert_eq!((harness.count(DELETE), harness.sim.channel_count()), (0, 1));
    kubectl(plane, &["apply", "-k", BASE]);
    established(plane);
    harness.finish().await;
    end(plane).await;
}
