//! The lease against the real API server: clocks that are wrong, and somebody's edits.

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

use crate::faults::admission::Policy;
use crate::rig::Rig;

const TERMS: LeaseDurations = LeaseDurations {
    duration: Duration::from_secs(3),
    deadline: Duration::from_secs(2),
    retry: Duration::from_secs(1),
};

/// One who competes for a lease of the rig's namespace until it is told that it is over.
struct Running {
    leadership: Leadership,
    over: CancellationToken,
    task: JoinHandle<()>,
}

fn api(rig: &Rig) -> Api<Lease> {
    Api::namespaced(rig.admin.clone(), &rig.namespace)
}

fn compete(rig: &Rig, lease: &str, me: &str) -> Running {
    let lease = (rig.namespace.clone(), lease.to_owned());
    let (candidate, leadership) = Candidate::new(rig.admin.clone(), lease, me.to_owned(), TERMS);
    let over = CancellationToken::new();
    let task = tokio::spawn(candidate.run(over.clone(), |_| {}));
    Running { leadership, over, task }
}

async fn edit(rig: &Rig, lease: &str, patch: Value) {
    api(rig).patch(lease, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

// === impl Running ===

impl Running {
    async fn leads(&self, rig: &Rig) -> Epoch {
        rig.eventually("an epoch", || async { self.leadership.epoch() }).await
    }

    /// Waits for another epoch than this one.
    async fn leads_anew(&self, rig: &Rig, old: Epoch) -> Epoch {
        rig.eventually("another epoch", || async { self.leadership.epoch().filter(|epoch| *epoch != old) })
            .await
    }

    async fn end(self) {
        self.over.cancel();
        self.task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_holder_s_lease_is_taken_when_it_was_seen_unchanged_for_its_duration_whatever_its_times_say() {
    let rig = Rig::bare(Config::default(), &[]).await;
    let begun = clock::instant();
    let mut all = Vec::new();
    for (name, time) in [("past", "1971-01-01T00:00:00.000000Z"), ("future", "2190-01-01T00:00:00.000000Z")] {
        let lease: Lease = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"holderIdentity": "dead", "leaseDurationSeconds": 3, "leaseTransitions": 41,
                     "acquireTime": time, "renewTime": time},
        }))
        .unwrap();
        api(&rig).create(&PostParams::default(), &lease).await.unwrap();
        all.push(compete(&rig, name, "me"));
    }
    for one in all {
        assert_eq!(one.leads(&rig).await.transitions, 42);
        assert!(begun.elapsed() >= TERMS.duration, "{:?} is too early", begun.elapsed());
        one.end().await;
    }
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_whose_lease_is_edited_stops_and_competes_again_and_a_moved_clock_is_no_edit() {
    let rig = Rig::bare(Config::default(), &[]).await;
    let one = compete(&rig, "l", "me");
    let mut epoch = one.leads(&rig).await;
    // Emptied, and given to nobody who is there: that one's time is waited for.
    for holder in ["", "somebody"] {
        edit(&rig, "l", json!({"spec": {"holderIdentity": holder}})).await;
        epoch = one.leads_anew(&rig, epoch).await;
    }
    edit(&rig, "l", json!({"spec": {"leaseTransitions": 2_147_483_647}})).await;
    epoch = one.leads_anew(&rig, epoch).await;
    assert_eq!(epoch.transitions, 0, "a count that is at its end begins anew");
    api(&rig).delete("l", &Default::default()).await.unwrap();
    epoch = one.leads_anew(&rig, epoch).await;
    for time in ["1971-01-01T00:00:00.000000Z", "2190-01-01T00:00:00.000000Z"] {
        edit(&rig, "l", json!({"spec": {"renewTime": time}})).await;
        rig.eventually("renewed over it", || async {
            let lease = api(&rig).get("l").await.unwrap();
            let renewed = lease.spec.unwrap().renew_time.unwrap();
            (renewed.0.to_string()[..4] != time[..4]).then_some(())
        })
        .await;
    }
    assert_eq!(one.leadership.epoch(), Some(epoch), "only its time was moved");
    one.end().await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_released_lease_is_taken_without_waiting_for_its_end_and_counts_on() {
    let rig = Rig::bare(Config::default(), &[]).await;
    let first = compete(&rig, "l", "first");
    assert_eq!(first.leads(&rig).await.transitions, 0);
    let second = compete(&rig, "l", "second");
    let leadership = first.leadership.clone();
    first.end().await;
    assert_eq!(leadership.epoch(), None);
    let released = api(&rig).get("l").await.unwrap().spec.unwrap();
    assert!(released.renew_time.is_none() || released.holder_identity.as_deref() == Some("second"));
    assert_eq!(second.leads(&rig).await.transitions, 1);
    second.end().await;
    let lease = api(&rig).get("l").await.unwrap().spec.unwrap();
    assert_eq!(
        (lease.holder_identity.unwrap_or_default(), lease.lease_transitions),
        (String::new(), Some(1))
    );
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f72_nobody_leads_by_a_renewal_that_others_do_not_see() {
    let rig = Rig::bare(Config::default(), &[]).await;
    let first = compete(&rig, "mutated", "first");
    let epoch = first.leads(&rig).await;
    let policy = Policy::strips_renewal(&rig).await;
    // It is renewed every second, and each time the others see no time.
    rig.eventually("the leader stops", || async { first.leadership.epoch().is_none().then_some(()) }).await;
    let second = compete(&rig, "mutated", "second");
    rig.eventually("a write without a time", || async {
        let found = api(&rig).get("mutated").await.unwrap().spec.unwrap();
        found.renew_time.is_none().then_some(())
    })
    .await;
    assert_eq!((first.leadership.epoch(), second.leadership.epoch()), (None, None));
    policy.lift().await;
    rig.eventually("one leads", || async {
        (first.leadership.epoch().is_some() || second.leadership.epoch().is_some()).then_some(())
    })
    .await;
    assert!(first.leadership.epoch() != Some(epoch), "it is another epoch");
    first.end().await;
    second.end().await;
    rig.finish().await;
}
