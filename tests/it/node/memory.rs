//! 10,000 Channels under the memory limit of the chart, which the kernel enforces.

use std::time::Duration;

use futures::{StreamExt, stream};
use kube::Api;
use kube::api::PostParams;
use ohallo_core::api::channel::Channel;
use testbed::User;

use super::cluster::{Cluster, TEAM, channel, eventually, restarts};

const MIB: u64 = 1 << 20;
const COUNTS: [usize; 2] = [1_000, 10_000];
const TIMEOUT: Duration = Duration::from_secs(1200);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a node: .ci/full node"]
async fn ten_thousand_channels_fit_into_the_charts_memory_limit() {
    let cluster = Cluster::start().await;
    cluster.install(&["ohallo.requestsPerSecond=0"]);
    cluster.workspace();
    let mut from = 0;
    for count in COUNTS {
        create(&cluster, from..count).await;
        from = count;
        until_ready(&cluster, count).await;
        report(&cluster, &format!("{count} Channels"));
    }
    // The first lists and reconciles of a new process hold the most.
    cluster.kubectl("-n ohallo-system rollout restart deployment/ohallo-operator");
    cluster.rolled_out();
    cluster.channel("after-the-restart");
    cluster.ready("after-the-restart");
    until_ready(&cluster, from + 1).await;
    report(&cluster, "after a restart");
    assert_eq!(cluster.creates().await, from + 1);
    cluster.finish().await;
}

async fn create(cluster: &Cluster, numbers: std::ops::Range<usize>) {
    let api: Api<Channel> = Api::namespaced(cluster.plane().client(User::Admin).unwrap(), TEAM);
    stream::iter(numbers)
        .for_each_concurrent(16, async |number| {
            let object = channel(&format!("c{number}"), &format!("Channel {number}"));
            let object = serde_json::from_value(object).unwrap();
            api.create(&PostParams::default(), &object).await.unwrap();
        })
        .await;
}

async fn until_ready(cluster: &Cluster, count: usize) {
    eventually(&format!("{count} Channels are ready"), TIMEOUT, async || {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let ready = cluster.channels_with("ready", "True").await;
        (ready as usize == count).then_some(())
    })
    .await;
}

fn report(cluster: &Cluster, when: &str) {
    let memory = cluster.memory();
    eprintln!(
        "{when}: {} MiB now, {} MiB at most, of {} MiB",
        memory.current / MIB,
        memory.peak / MIB,
        memory.limit / MIB
    );
    assert_eq!((memory.limit, restarts(&cluster.pod())), (128 * MIB, 0));
    assert!(memory.peak < memory.limit, "{memory:?}");
}
