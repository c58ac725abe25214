//! From version 1 to this one, and back, with Channels in place.

use std::path::Path;

use super::cluster::Cluster;
use crate::support::helm::{CHART, OPERATOR_NAMESPACE, RELEASE, on};

/// Chart and image of version 1, which `.ci/previous-image` builds.
const PREVIOUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/previous/665d179");
const PREVIOUS_IMAGE: [&str; 2] = ["image.repository=ohallo-operator", "image.tag=version-1"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a node: .ci/full node"]
async fn version_1_is_upgraded_and_rolled_back_and_every_channel_keeps_its_id() {
    let archive = Path::new(PREVIOUS).join("image.tar");
    assert!(archive.is_file(), "build it first: .ci/previous-image 665d179");
    let cluster = Cluster::start().await;
    cluster.import(&archive, "ohallo-operator:version-1");
    cluster.restricted_namespace(OPERATOR_NAMESPACE);
    cluster.helm("install", &format!("{PREVIOUS}/chart"), &PREVIOUS_IMAGE);
    cluster.workspace();
    cluster.channel("a");
    let a = cluster.ready("a");

    cluster.helm("upgrade", CHART, &[]);
    cluster.renames("a", "Under the new version").await;
    cluster.channel("b");
    let b = cluster.ready("b");

    // The documents' command.
    on(cluster.plane(), &["rollback", RELEASE, "-n", OPERATOR_NAMESPACE]);
    cluster.rolled_out();
    cluster.renames("a", "Under version 1 again").await;
    cluster.renames("b", "Created by the new version").await;
    cluster.channel("c");
    let c = cluster.ready("c");

    cluster.helm("upgrade", CHART, &[]);
    cluster.renames("c", "Created by version 1").await;
    assert_eq!(["a", "b", "c"].map(|name| cluster.ready(name)), [a, b, c]);
    assert_eq!((cluster.creates().await, cluster.simulated().await.len()), (3, 3));
    cluster.kubectl("delete channels.ohallo.eu --all --all-namespaces --timeout=120s");
    assert!(cluster.simulated().await.is_empty());
    cluster.finish().await;
}
