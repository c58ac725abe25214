//! The token of the service account expires, and the kubelet has replaced it in the meantime.

use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::{Cluster, restarts};

/// The shortest that the API server issues. The kubelet replaces a token after 80 % of it.
const LIFETIME: Duration = Duration::from_secs(600);
const VOLUME: &str = "short-lived";
const FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The volume that the API server adds to a pod, with another lifetime of the token.
fn volume() -> Value {
    json!([{"name": VOLUME, "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": LIFETIME.as_secs()}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]}}])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a node: .ci/full node"]
async fn a_token_that_expires_is_replaced_and_no_reconcile_fails() {
    let cluster = Cluster::start().await;
    cluster.install_json(&[
        &format!("extraVolumes={}", volume()),
        &format!(r#"extraVolumeMounts=[{{"name":"{VOLUME}","mountPath":"{FOLDER}","readOnly":true}}]"#),
    ]);
    cluster.workspace();
    cluster.channel("a");
    let id = cluster.ready("a");
    let pod = cluster.pod();
    let file = cluster.node.projected_volume(pod["metadata"]["uid"].as_str().unwrap(), VOLUME).join("token");
    let token = || std::fs::read_to_string(&file).unwrap();
    let first = token();
    let begun = ohallo_client::clock::instant();
    let mut round = 0;
    // A minute longer than the first token lives.
    while begun.elapsed() < LIFETIME + Duration::from_secs(60) {
        round += 1;
        cluster.renames("a", &format!("Round {round}")).await;
        tokio::time::sleep(Duration::from_secs(15)).await;
    }
    assert_ne!(token(), first, "the kubelet has replaced the token");
    assert_eq!(restarts(&cluster.pod()), 0);
    assert_eq!(cluster.metric("ohallo_workqueue_retries_total").await, 0.0, "{}", cluster.logs());
    assert_eq!(cluster.metric("ohallo_watch_restarts_total").await, 0.0, "{}", cluster.logs());
    assert_eq!((cluster.ready("a"), cluster.creates().await), (id, 1));
    cluster.finish().await;
}
