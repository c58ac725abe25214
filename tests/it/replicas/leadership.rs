//! Two of the real program: the leader reconciles, the other is a standby; and what happens to a leader that is stopped.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use ohallo_sim::{Action, Config, Fault, Operation};
use serde_json::json;
use testbed::AuditEvent;

use crate::support::harness::{Harness, id_of};
use crate::support::leases::{SHORT_LEASE, USERS, allow_lease};
use crate::support::program::Program;
use crate::support::steps::{RECONCILE_REQUESTED, reconcile_now, state, state_of};
const TEST: &str = "ohallo.eu/test-requested-at";

/// A harness with two programs, the first of which leads.
struct Pair {
    harness: Harness,
    first: Program,
    second: Program,
}

impl Pair {
    async fn start(terms: &[&str]) -> Self {
        let harness = Harness::bare(Config::default(), &[]).await;
        allow_lease(&harness);
        harness
            .put_secret(
                json!({"metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": harness.key}}),
            )
            .await;
        harness.workspace("default", "ohallo-api-key").await;
        let flags = [
            format!("--api-url={}", harness.sim.url()),
            format!("--namespace={}", harness.namespace),
            format!("--operator-namespace={}", harness.namespace),
            "--requests-per-second=0".to_owned(),
            "--consistency-window-seconds=0".to_owned(),
            "--leader-elect".to_owned(),
        ];
        let flags: Vec<_> = flags.into_iter().chain(terms.iter().map(|flag| (*flag).to_owned())).collect();
        let first = Program::named(harness.plane, USERS[0], "first", &flags);
        first.until("/readyz", 200, "this replica: leader").await;
        harness.workspace_reason("default", "Verified").await;
        let second = Program::named(harness.plane, USERS[1], "second", &flags);
        second.until("/readyz", 200, "this replica: standby").await;
        // It has read the key.
        second
            .until("/metrics", 200, "ohallo_api_requests_total{operation=\"get_workspace\",class=\"2xx\"} 1")
            .await;
        Self { harness, first, second }
    }

    async fn lease(&self) -> (String, i32) {
        let api: Api<Lease> = Api::namespaced(self.harness.admin.clone(), &self.harness.namespace);
        let spec = api.get("ohallo-operator").await.unwrap().spec.unwrap();
        (spec.holder_identity.unwrap_or_default(), spec.lease_transitions.unwrap_or_default())
    }

    /// What one of them changed in the namespace, oldest first; leases apart.
    fn writes(&self, who: usize) -> Vec<String> {
        let writes = self.audit().into_iter().filter(|event| event.user == USERS[who].name());
        writes
            .filter(|event| event.resource != "leases")
            .map(|event| {
                let name = event.name.unwrap_or_default();
                format!("{} {} {name} {}", event.verb, event.resource, event.code)
            })
            .collect()
    }

    /// Every write in the namespace by either.
    fn audit(&self) -> Vec<AuditEvent> {
        let mut events = self.harness.audited();
        events.retain(|event| {
            !matches!(event.verb.as_str(), "get" | "list" | "watch")
                && USERS.iter().any(|user| user.name() == event.user)
        });
        events
    }

    async fn finish(self) {
        drop((self.first, self.second));
        self.harness.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_replicas_one_writes_and_the_other_takes_over_at_once_when_it_is_released() {
    // With the lease's default times, so that nothing can be won by waiting it out.
    let mut pair = Pair::start(&[]).await;
    pair.harness.ready("a", json!({})).await;
    pair.first.until("/metrics", 200, "ohallo_leader 1").await;
    pair.second.until("/metrics", 200, "ohallo_leader 0").await;
    pair.second.until("/livez", 200, "ok").await;
    assert_eq!(pair.writes(1), [] as [&str; 0], "a standby writes nothing");
    assert_eq!(pair.harness.count(Operation::GetChannel), 0);
    let (holder, count) = pair.lease().await;
    assert!(holder.starts_with("first_") && count == 0, "{holder} {count}");

    pair.first.terminate();
    assert_eq!(pair.first.ended().await.0, Some(0), "{}", pair.first.log());
    pair.second.until("/readyz", 200, "this replica: leader").await;
    pair.second.until("/metrics", 200, "ohallo_leader 1").await;
    let (holder, count) = pair.lease().await;
    assert!(holder.starts_with("second_") && count == 1, "{holder} {count}");
    let before = pair.writes(0);
    pair.harness.ready("b", json!({})).await;
    reconcile_now(&pair.harness, "a", "1").await;
    pair.harness.delete_and_wait("a").await;
    assert_eq!(pair.writes(0), before);
    assert_eq!(pair.harness.count(Operation::CreateChannel), 2);
    assert!(pair.first.log().contains("released the lease"), "{}", pair.first.log());
    assert!(pair.second.log().contains("acquired the lease"), "{}", pair.second.log());
    pair.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_stopped_past_its_lease_during_a_post_records_the_id_and_does_nothing_else() {
    let pair = Pair::start(&SHORT_LEASE).await;
    let sim = &pair.harness.sim;
    let held =
        sim.add_fault(Fault::on(Operation::CreateChannel, Action::Hold { commit_first: true }).times(1));
    pair.harness.create("a", json!({})).await;
    sim.held(held).await.unwrap();
    pair.first.signal("STOP");
    pair.second.until("/readyz", 200, "this replica: leader").await;
    // Nobody but the first knows whether there is a channel.
    let unresolved_create = pair.harness.reason("a", "CreateOutcomeUnknown").await;
    assert_eq!(state_of(&unresolved_create, "Stalled"), state("True", "CreateOutcomeUnknown"));
    pair.harness.ready("b", json!({})).await;
    let before = pair.writes(0);
    sim.release(held);
    pair.first.signal("CONT");
    let channel = pair.harness.reason("a", "Available").await;
    let ids: Vec<_> = sim.channels().into_iter().map(|channel| channel.id).collect();
    assert!(ids.contains(&id_of(&channel)) && ids.len() == 2, "{ids:?}");
    assert_eq!(pair.harness.count(Operation::CreateChannel), 2, "one each");
    pair.first.until("/readyz", 200, "this replica: standby").await;
    pair.harness.edit("a", json!({"spec": {"displayName": "Renamed"}})).await;
    pair.harness.reason("a", "Available").await;
    pair.harness.edit("b", json!({"spec": {"displayName": "Renamed"}})).await;
    pair.harness.reason("b", "Available").await;
    // All that the deposed leader wrote: the id, retried until it is written; its event reports it.
    let after: Vec<_> = pair.writes(0).into_iter().skip(before.len()).collect();
    let record = |write: &String| write.starts_with("update channels a ");
    assert!(after.iter().all(|write| record(write) || write.starts_with("create events")), "{after:?}");
    assert_eq!(after.iter().filter(|write| *write == "update channels a 200").count(), 1, "{after:?}");
    assert!(pair.first.log().contains("lost the lease"), "{}", pair.first.log());
    pair.harness.delete_and_wait("a").await;
    pair.harness.delete_and_wait("b").await;
    assert_eq!(sim.channel_count(), 0);
    pair.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_under_way_when_its_leader_is_stopped_is_sent_once_and_its_answer_is_not_known() {
    let pair = Pair::start(&SHORT_LEASE).await;
    let (harness, sim) = (&pair.harness, &pair.harness.sim);
    harness.ready("a", json!({})).await;
    let held = sim.add_fault(Fault::on(Operation::TestChannel, Action::Hold { commit_first: true }).times(1));
    harness.annotate("a", TEST, "1").await;
    sim.held(held).await.unwrap();
    pair.first.signal("STOP");
    pair.second.until("/readyz", 200, "this replica: leader").await;
    harness.has("a", "Connected", "TestOutcomeUnknown").await;
    let before = pair.writes(0);
    sim.release(held);
    pair.first.signal("CONT");
    pair.first.until("/readyz", 200, "this replica: standby").await;
    reconcile_now(harness, "a", "1").await;
    assert_eq!(harness.count(Operation::TestChannel), 1);
    assert_eq!(pair.writes(0), before, "the deposed leader no longer reports it");
    harness.annotate("a", TEST, "2").await;
    harness.has("a", "Connected", "TestPassed").await;
    assert_eq!(harness.count(Operation::TestChannel), 2);
    pair.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deposed_leader_starts_nothing_that_it_had_planned() {
    let pair = Pair::start(&SHORT_LEASE).await;
    let sim = &pair.harness.sim;
    pair.harness.ready("a", json!({})).await;
    // What it reads is the state before the other's write.
    let held = sim.add_fault(Fault::on(Operation::GetChannel, Action::Hold { commit_first: true }).times(1));
    pair.harness.edit("a", json!({"spec": {"displayName": "Renamed"}})).await;
    sim.held(held).await.unwrap();
    pair.first.signal("STOP");
    pair.second.until("/readyz", 200, "this replica: leader").await;
    pair.harness.reason("a", "Available").await;
    let before = pair.writes(0);
    sim.release(held);
    pair.first.signal("CONT");
    pair.first.until("/readyz", 200, "this replica: standby").await;
    pair.harness.annotate("a", RECONCILE_REQUESTED, "1").await;
    reconcile_now(&pair.harness, "a", "1").await;
    // It has come back from the read by now.
    pair.first.until("/metrics", 200, "ohallo_reconcile_total{kind=\"Channel\",result=\"deferred\"}").await;
    assert_eq!(pair.writes(0), before);
    assert_eq!(pair.harness.count(Operation::UpdateChannel), 1, "only the new leader wrote");
    pair.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_sigterm_a_leader_records_what_is_in_flight_and_releases_the_lease_last() {
    let mut pair = Pair::start(&[]).await;
    let sim = &pair.harness.sim;
    let held =
        sim.add_fault(Fault::on(Operation::CreateChannel, Action::Hold { commit_first: true }).times(1));
    pair.harness.create("a", json!({})).await;
    sim.held(held).await.unwrap();
    pair.first.terminate();
    // Long enough that a lease which is released first would be taken.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(pair.lease().await.0.starts_with("first_"), "the work is not done");
    sim.release(held);
    assert_eq!(pair.first.ended().await.0, Some(0), "{}", pair.first.log());
    pair.second.until("/readyz", 200, "this replica: leader").await;
    pair.harness.reason("a", "Available").await;
    assert_eq!((pair.harness.count(Operation::CreateChannel), sim.channel_count()), (1, 1));
    let events = pair.audit();
    let last = events.iter().rev().find(|event| event.user == USERS[0].name() && event.resource != "events");
    assert_eq!(last.map(|event| event.resource.as_str()), Some("leases"), "{events:#?}");
    let record = events.iter().position(|event| {
        event.subresource.as_deref() == Some("status") && event.name.as_deref() == Some("a")
    });
    let other = events.iter().position(|event| event.user == USERS[1].name() && event.resource == "leases");
    assert!(record.unwrap() < other.unwrap(), "the other begins after the id is written: {events:#?}");
    pair.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_sigterm_ends_at_once_and_the_other_waits_the_lease_out_and_asks_about_the_create() {
    let mut pair = Pair::start(&SHORT_LEASE).await;
    let sim = &pair.harness.sim;
    let held =
        sim.add_fault(Fault::on(Operation::CreateChannel, Action::Hold { commit_first: true }).times(1));
    pair.harness.create("a", json!({})).await;
    sim.held(held).await.unwrap();
    pair.first.terminate();
    pair.harness
        .eventually("the first signal taken", || async {
            pair.first.log().contains("a second signal exits immediately").then_some(())
        })
        .await;
    pair.first.terminate();
    assert_eq!(pair.first.ended().await.0, Some(143), "{}", pair.first.log());
    assert!(pair.lease().await.0.starts_with("first_"), "nothing was released");
    pair.second.until("/readyz", 200, "this replica: leader").await;
    pair.harness.reason("a", "CreateOutcomeUnknown").await;
    sim.release(held);
    assert_eq!((pair.harness.count(Operation::CreateChannel), sim.channel_count()), (1, 1));
    pair.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_keeps_the_key_that_is_deleted_before_it_leads() {
    let mut pair = Pair::start(&SHORT_LEASE).await;
    pair.harness.ready("a", json!({})).await;
    pair.harness.secrets().delete("ohallo-api-key", &Default::default()).await.unwrap();
    pair.harness.workspace_reason("default", "SecretNotFound").await;
    pair.first.signal("KILL");
    assert_eq!(pair.first.ended().await.0, None);
    pair.harness.delete_and_wait("a").await;
    assert_eq!((pair.harness.sim.channel_count(), pair.harness.count(Operation::DeleteChannel)), (0, 1));
    pair.finish().await;
}
