//! What the operator may spend, counted: Kubernetes writes from the audit log, calls to oHallo from the ledger. The
//! cost of single Channels is counted where each kind of work is tested; here is what many cost together.

use std::time::Duration;

use futures::{TryStreamExt, stream};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use ohallo_core::api::channel::Channel;
use ohallo_sim::{Key, Operation};
use serde_json::json;

use crate::support::harness::{Harness, TENANT};
use crate::support::steps::reads;
use crate::support::workspaces::put_key;

const MANY: usize = 1000;
/// Requests of the test under way at a time.
const DRIVERS: usize = 16;
/// Only a failing test waits so long; a thousand of anything takes a while beside all other tests.
const WAIT_TIMEOUT: Duration = Duration::from_secs(400);
/// In which whatever should not happen would have happened.
const QUIET: Duration = Duration::from_secs(3);

/// What was spent on Channels so far: writes, reads of one Secret, and calls by operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Spent {
    writes: usize,
    secret_reads: usize,
    creates: usize,
    gets: usize,
    updates: usize,
    pushes: usize,
    deletes: usize,
}

fn spent(harness: &Harness) -> Spent {
    let count = |operation| harness.count(operation);
    Spent {
        writes: harness
            .writes()
            .iter()
            .filter(|write| write.split(' ').any(|word| word.starts_with("channels")))
            .count(),
        secret_reads: reads(harness, "provider"),
        creates: count(Operation::CreateChannel),
        gets: count(Operation::GetChannel),
        updates: count(Operation::UpdateChannel),
        pushes: count(Operation::StoreCredentials),
        deletes: count(Operation::DeleteChannel),
    }
}

/// Waits until so much was spent, and sees that no more follows.
async fn spends(harness: &Harness, what: &str, wanted: Spent) {
    assert_eq!(settled(harness, what, wanted).await, wanted, "{what}");
}

/// The same after a restart, when a few of many Channels have their first read at a random point of the interval.
async fn spends_after_a_restart(harness: &Harness, what: &str, wanted: Spent) {
    let found = settled(harness, what, wanted).await;
    let reads_of_channels = found.gets.saturating_sub(wanted.gets);
    assert!(reads_of_channels <= 5, "{what}: {found:?}");
    let reads = wanted.secret_reads + reads_of_channels.min(1);
    assert_eq!(found, Spent { gets: found.gets, secret_reads: reads, ..wanted }, "{what}");
}

async fn settled(harness: &Harness, what: &str, wanted: Spent) -> Spent {
    let reached = tokio::time::timeout(WAIT_TIMEOUT, async {
        while spent(harness).writes < wanted.writes {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    });
    assert!(reached.await.is_ok(), "{what}: {:?} instead of {wanted:?}", spent(harness));
    tokio::time::sleep(QUIET).await;
    spent(harness)
}

async fn each<F: Future<Output = kube::Result<()>>>(act: impl Fn(String) -> F) {
    let names = (0..MANY).map(|number| Ok(act(format!("c{number}"))));
    stream::iter(names).try_buffer_unordered(DRIVERS).try_collect::<Vec<()>>().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_channels_cost_what_the_budget_says_and_no_more() {
    let mut harness = Harness::start().await;
    harness.secret("provider", &[("apiKey", "first-value-0123456789")]).await;
    let api = harness.channels();
    let spec = json!({"intervalSeconds": 86400, "credentials": [{"secretRef": {"name": "provider"}}]});
    each(|name| {
        let channel: Channel = serde_json::from_value(harness.manifest(&name, spec.clone())).unwrap();
        let api = api.clone();
        async move { api.create(&PostParams::default(), &channel).await.map(drop) }
    })
    .await;
    let mut wanted =
        Spent { writes: 3 * MANY, secret_reads: 1, creates: MANY, pushes: MANY, ..Spent::default() };
    spends(
        &harness,
        "create with credentials: three writes and two calls each, one read of the Secret",
        wanted,
    )
    .await;

    harness.secret("provider", &[("apiKey", "second-value-0123456789")]).await;
    wanted = Spent { writes: wanted.writes + MANY, secret_reads: 2, pushes: 2 * MANY, ..wanted };
    spends(&harness, "a rotated Secret: one write and one push each, one read of the Secret", wanted).await;

    let rename = Patch::Merge(json!({"spec": {"displayName": "Renamed"}}));
    each(|name| {
        let (api, rename) = (api.clone(), &rename);
        async move { api.patch(&name, &PatchParams::default(), rename).await.map(drop) }
    })
    .await;
    wanted = Spent { writes: wanted.writes + MANY, updates: MANY, gets: MANY, ..wanted };
    spends(&harness, "a changed spec: one write, one GET and one PATCH each", wanted).await;

    harness.stop_operator().await;
    harness.start_operator().await;
    harness.workspace_reason("default", "Verified").await;
    harness.eventually("ready", || async { (harness.http("/readyz").await.0 == 200).then_some(()) }).await;
    spends_after_a_restart(&harness, "a restart: nothing", wanted).await;

    api.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    wanted = Spent { writes: wanted.writes + MANY, deletes: MANY, ..wanted };
    spends_after_a_restart(&harness, "delete: one write and one call each", wanted).await;
    assert!(harness.sim.channels().is_empty());
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_api_key_costs_each_channel_one_write_at_its_next_regular_read() {
    let harness = Harness::start().await;
    for name in ["a", "b", "c"] {
        harness.ready(name, json!({"intervalSeconds": 60})).await;
    }
    let read_with = |channel: &Channel| channel.status.as_ref().and_then(|status| status.read_with.clone());
    let before: Vec<_> = harness.channels().list(&ListParams::default()).await.unwrap().items;
    let rotated = "sf_live_v1_canary-rotated-key".to_owned();
    harness.sim.add_key(Key::new(&rotated, TENANT));
    put_key(&harness, "ohallo-api-key", &rotated).await;
    for channel in &before {
        let name = channel.name_any();
        let old = read_with(channel);
        assert!(old.is_some());
        harness
            .until_within(Duration::from_secs(120), &name, "read with the new key", |now| {
                read_with(now) != old
            })
            .await;
    }
    tokio::time::sleep(QUIET).await;
    for channel in &before {
        let writes = harness.writes_of(&channel.name_any());
        assert_eq!(writes.len(), 3, "{writes:?}");
    }
    assert_eq!(harness.count(Operation::UpdateChannel), 0);
    harness.finish().await;
}
