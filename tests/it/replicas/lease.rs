//! The lease against the real API server: clocks that are wrong, and foreign edits.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use ohallo_client::clock;
use ohallo_core::lease::LeaseDurations;
use ohallo_core::lease::election::Epoch;
use ohallo_operator::kubernetes::leader::{Candidate, Leadership};
use ohallo_sim::Config;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::admission::Policy;
use crate::support::harness::Harness;

const TERMS: LeaseDurations = LeaseDurations {
    duration: Duration::from_secs(3),
    deadline: Duration::from_secs(2),
    retry: Duration::from_secs(1),
};

/// One who competes for a lease of the harness's namespace until it is stopped.
struct Running {
    leadership: Leadership,
    over: CancellationToken,
    task: JoinHandle<()>,
}

fn api(harness: &Harness) -> Api<Lease> {
    Api::namespaced(harness.admin.clone(), &harness.namespace)
}

fn compete(harness: &Harness, lease: &str, me: &str) -> Running {
    let lease = (harness.namespace.clone(), lease.to_owned());
    let (candidate, leadership) = Candidate::new(harness.admin.clone(), lease, me.to_owned(), TERMS);
    let over = CancellationToken::new();
    let task = tokio::spawn(candidate.run(over.clone(), |_| {}));
    Running { leadership, over, task }
}

async fn edit(harness: &Harness, lease: &str, patch: Value) {
    api(harness).patch(lease, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

// === impl Running ===

impl Running {
    async fn leads(&self, harness: &Harness) -> Epoch {
        harness.eventually("an epoch", || async { self.leadership.epoch() }).await
    }

    /// Waits for another epoch than this one.
    async fn leads_again(&self, harness: &Harness, old: Epoch) -> Epoch {
        harness
            .eventually("another epoch", || async { self.leadership.epoch().filter(|epoch| *epoch != old) })
            .await
    }

    async fn end(self) {
        self.over.cancel();
        self.task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_holder_s_lease_is_taken_when_it_was_seen_unchanged_for_its_duration_whatever_its_times_say() {
    let harness = Harness::bare(Config::default(), &[]).await;
    let begun = clock::instant();
    let mut all = Vec::new();
    for (name, time) in [("past", "1971-01-01T00:00:00.000000Z"), ("future", "2190-01-01T00:00:00.000000Z")] {
        let lease: Lease = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"holderIdentity": "dead", "leaseDurationSeconds": 3, "leaseTransitions": 41,
                     "acquireTime": time, "renewTime": time},
        }))
        .unwrap();
        api(&harness).create(&PostParams::default(), &lease).await.unwrap();
        all.push(compete(&harness, name, "me"));
    }
    for one in all {
        assert_eq!(one.leads(&harness).await.transitions, 42);
        assert!(begun.elapsed() >= TERMS.duration, "{:?} is too early", begun.elapsed());
        one.end().await;
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_whose_lease_is_edited_stops_and_competes_again_and_a_moved_clock_is_no_edit() {
    let harness = Harness::bare(Config::default(), &[]).await;
    let one = compete(&harness, "l", "me");
    let mut epoch = one.leads(&harness).await;
    // Emptied, and given to nobody who is there: that one's time is waited for.
    for holder in ["", "another"] {
        edit(&harness, "l", json!({"spec": {"holderIdentity": holder}})).await;
        epoch = one.leads_again(&harness, epoch).await;
    }
    edit(&harness, "l", json!({"spec": {"leaseTransitions": 2_147_483_647}})).await;
    epoch = one.leads_again(&harness, epoch).await;
    assert_eq!(epoch.transitions, 0, "a count that is at its end restarts");
    api(&harness).delete("l", &Default::default()).await.unwrap();
    epoch = one.leads_again(&harness, epoch).await;
    for time in ["1971-01-01T00:00:00.000000Z", "2190-01-01T00:00:00.000000Z"] {
        edit(&harness, "l", json!({"spec": {"renewTime": time}})).await;
        harness
            .eventually("renewed over it", || async {
                let lease = api(&harness).get("l").await.unwrap();
                let renewed = lease.spec.unwrap().renew_time.unwrap();
                (renewed.0.to_string()[..4] != time[..4]).then_some(())
            })
            .await;
    }
    assert_eq!(one.leadership.epoch(), Some(epoch), "only its time was moved");
    one.end().await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_released_lease_is_taken_without_waiting_for_its_end_and_counts_on() {
    let harness = Harness::bare(Config::default(), &[]).await;
    let first = compete(&harness, "l", "first");
    assert_eq!(first.leads(&harness).await.transitions, 0);
    let second = compete(&harness, "l", "second");
    let leadership = first.leadership.clone();
    first.end().await;
    assert_eq!(leadership.epoch(), None);
    let released = api(&harness).get("l").await.unwrap().spec.unwrap();
    assert!(released.renew_time.is_none() || released.holder_identity.as_deref() == Some("second"));
    assert_eq!(second.leads(&harness).await.transitions, 1);
    second.end().await;
    let lease = api(&harness).get("l").await.unwrap().spec.unwrap();
    assert_eq!(
        (lease.holder_identity.unwrap_or_default(), lease.lease_transitions),
        (String::new(), Some(1))
    );
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f72_nobody_leads_by_a_renewal_that_others_do_not_see() {
    let harness = Harness::bare(Config::default(), &[]).await;
    let first = compete(&harness, "mutated", "first");
    let epoch = first.leads(&harness).await;
    let policy = Policy::strips_renewal(&harness).await;
    // It is renewed every second, and each time the others see no time.
    harness
        .eventually("the leader stops", || async { first.leadership.epoch().is_none().then_some(()) })
        .await;
    let second = compete(&harness, "mutated", "second");
    harness
        .eventually("a write without a time", || async {
            let found = api(&harness).get("mutated").await.unwrap().spec.unwrap();
            found.renew_time.is_none().then_some(())
        })
        .await;
    assert_eq!((first.leadership.epoch(), second.leadership.epoch()), (None, None));
    policy.lift().await;
    harness
        .eventually("one leads", || async {
            (first.leadership.epoch().is_some() || second.leadership.epoch().is_some()).then_some(())
        })
        .await;
    assert!(first.leadership.epoch() != Some(epoch), "it is another epoch");
    first.end().await;
    second.end().await;
    harness.finish().await;
}
