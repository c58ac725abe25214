//! Two of the real program: one works, the other stands by; and what becomes of a leader that is stopped.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use ohallo_sim::{Action, Config, Fault, Operation};
use serde_json::{Value, json};
use testbed::{AuditEvent, User};

use crate::acts::{LOOK, is, looked, so};
use crate::binary::Program;
use crate::rbac::shipped;
use crate::rig::{Rig, id_of};

/// Short, so that a test need not wait long for a lease to run out.
pub const SHORT: [&str; 3] =
    ["--lease-duration-seconds=3", "--lease-renew-deadline-seconds=2", "--lease-retry-seconds=1"];
const TEST: &str = "ohallo.eu/test-requested-at";
/// Both have the shipped rights; the audit log tells them apart by name.
const USERS: [User; 2] = [User::Operator, User::Spare(7)];

/// Grants what the shipped Role grants in the operator's namespace in the test's, which is the operator's there.
pub fn allow_lease(rig: &Rig) {
    for kind in ["Role", "RoleBinding"] {
        let mut object = shipped(kind).remove(0);
        object["metadata"]["namespace"] = rig.namespace.clone().into();
        also_the_second(&mut object);
        rig.apply(&object);
    }
    let mut binding = shipped("ClusterRoleBinding").remove(0);
    also_the_second(&mut binding);
    rig.apply(&binding);
}

fn also_the_second(binding: &mut Value) {
    if let Some(subjects) = binding["subjects"].as_array_mut() {
        subjects
            .push(json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USERS[1].name()}));
    }
}

/// A rig with two programs, the first of which leads.
struct Pair {
    rig: Rig,
    first: Program,
    second: Program,
}

// === impl Pair ===

impl Pair {
    async fn start(terms: &[&str]) -> Self {
        let rig = Rig::bare(Config::default(), &[]).await;
        allow_lease(&rig);
        rig.put_secret(json!({"metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": rig.key}}))
            .await;
        rig.workspace("default", "ohallo-api-key").await;
        let flags = [
            format!("--api-url={}", rig.sim.url()),
            format!("--namespace={}", rig.namespace),
            format!("--operator-namespace={}", rig.namespace),
            "--requests-per-second=0".to_owned(),
            "--consistency-window-seconds=0".to_owned(),
            "--leader-elect".to_owned(),
        ];
        let flags: Vec<_> = flags.into_iter().chain(terms.iter().map(|flag| (*flag).to_owned())).collect();
        let first = Program::named(rig.plane, USERS[0], "first", &flags);
        first.until("/readyz", 200, "this replica: leader").await;
        rig.workspace_reason("default", "Verified").await;
        let second = Program::named(rig.plane, USERS[1], "second", &flags);
        second.until("/readyz", 200, "this replica: standby").await;
        // It has read the key.
        second
            .until("/metrics", 200, "ohallo_api_requests_total{operation=\"get_workspace\",class=\"2xx\"} 1")
            .await;
        Self { rig, first, second }
    }

    async fn lease(&self) -> (String, i32) {
        let api: Api<Lease> = Api::namespaced(self.rig.admin.clone(), &self.rig.namespace);
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
        let mut events = self.rig.audited();
        events.retain(|event| {
            !matches!(event.verb.as_str(), "get" | "list" | "watch")
                && USERS.iter().any(|user| user.name() == event.user)
        });
        events
    }

    async fn finish(self) {
        drop((self.first, self.second));
        self.rig.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_replicas_one_writes_and_the_other_takes_over_at_once_when_it_is_released() {
    // With the lease's default times, so that nothing can be won by waiting it out.
    let mut pair = Pair::start(&[]).await;
    pair.rig.ready("a", json!({})).await;
    pair.first.until("/metrics", 200, "ohallo_leader 1").await;
    pair.second.until("/metrics", 200, "ohallo_leader 0").await;
    pair.second.until("/livez", 200, "ok").await;
    assert_eq!(pair.writes(1), [] as [&str; 0], "a standby writes nothing");
    assert_eq!(pair.rig.count(Operation::GetChannel), 0);
    let (holder, count) = pair.lease().await;
    assert!(holder.starts_with("first_") && count == 0, "{holder} {count}");

    pair.first.terminate();
    assert_eq!(pair.first.ended().await.0, Some(0), "{}", pair.first.log());
    pair.second.until("/readyz", 200, "this replica: leader").await;
    pair.second.until("/metrics", 200, "ohallo_leader 1").await;
    let (holder, count) = pair.lease().await;
    assert!(holder.starts_with("second_") && count == 1, "{holder} {count}");
    let before = pair.writes(0);
    pair.rig.ready("b", json!({})).await;
    looked(&pair.rig, "a", "1").await;
    pair.rig.deleted("a").await;
    assert_eq!(pair.writes(0), before);
    assert_eq!(pair.rig.count(Operation::CreateChannel), 2);
    assert!(pair.first.log().contains("the lease was released"), "{}", pair.first.log());
    assert!(pair.second.log().contains("the lease was acquired"), "{}", pair.second.log());
    pair.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_stopped_past_its_lease_during_a_post_records_the_id_and_does_nothing_else() {
    let pair = Pair::start(&SHORT).await;
    let sim = &pair.rig.sim;
    let held =
        sim.add_fault(Fault::on(Operation::CreateChannel, Action::Hold { commit_first: true }).times(1));
    pair.rig.create("a", json!({})).await;
    sim.held(held).await.unwrap();
    pair.first.signal("STOP");
    pair.second.until("/readyz", 200, "this replica: leader").await;
    // Nobody but the first knows whether there is a channel.
    let parked = pair.rig.reason("a", "CreateOutcomeUnknown").await;
    assert_eq!(is(&parked, "Stalled"), so("True", "CreateOutcomeUnknown"));
    pair.rig.ready("b", json!({})).await;
    let before = pair.writes(0);
    sim.release(held);
    pair.first.signal("CONT");
    let channel = pair.rig.reason("a", "Available").await;
    let ids: Vec<_> = sim.channels().into_iter().map(|channel| channel.id).collect();
    assert!(ids.contains(&id_of(&channel)) && ids.len() == 2, "{ids:?}");
    assert_eq!(pair.rig.count(Operation::CreateChannel), 2, "one each");
    pair.first.until("/readyz", 200, "this replica: standby").await;
    pair.rig.edit("a", json!({"spec": {"displayName": "Renamed"}})).await;
    pair.rig.reason("a", "Available").await;
    pair.rig.edit("b", json!({"spec": {"displayName": "Renamed"}})).await;
    pair.rig.reason("b", "Available").await;
    // All that the deposed leader wrote: the id, tried until it stood; its event tells of it.
    let after: Vec<_> = pair.writes(0).into_iter().skip(before.len()).collect();
    let record = |write: &String| write.starts_with("update channels a ");
    assert!(after.iter().all(|write| record(write) || write.starts_with("create events")), "{after:?}");
    assert_eq!(after.iter().filter(|write| *write == "update channels a 200").count(), 1, "{after:?}");
    assert!(pair.first.log().contains("the lease was lost"), "{}", pair.first.log());
    pair.rig.deleted("a").await;
    pair.rig.deleted("b").await;
    assert_eq!(sim.channel_count(), 0);
    pair.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_under_way_when_its_leader_is_stopped_is_sent_once_and_its_answer_is_not_known() {
    let pair = Pair::start(&SHORT).await;
    let (rig, sim) = (&pair.rig, &pair.rig.sim);
    rig.ready("a", json!({})).await;
    let held = sim.add_fault(Fault::on(Operation::TestChannel, Action::Hold { commit_first: true }).times(1));
    rig.annotate("a", TEST, "1").await;
    sim.held(held).await.unwrap();
    pair.first.signal("STOP");
    pair.second.until("/readyz", 200, "this replica: leader").await;
    rig.has("a", "Connected", "TestOutcomeUnknown").await;
    let before = pair.writes(0);
    sim.release(held);
    pair.first.signal("CONT");
    pair.first.until("/readyz", 200, "this replica: standby").await;
    looked(rig, "a", "1").await;
    assert_eq!(rig.count(Operation::TestChannel), 1);
    assert_eq!(pair.writes(0), before, "the deposed leader tells of it no more");
    rig.annotate("a", TEST, "2").await;
    rig.has("a", "Connected", "TestPassed").await;
    assert_eq!(rig.count(Operation::TestChannel), 2);
    pair.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deposed_leader_begins_nothing_that_it_had_planned() {
    let pair = Pair::start(&SHORT).await;
    let sim = &pair.rig.sim;
    pair.rig.ready("a", json!({})).await;
    // What it reads is the state before the other's write.
    let held = sim.add_fault(Fault::on(Operation::GetChannel, Action::Hold { commit_first: true }).times(1));
    pair.rig.edit("a", json!({"spec": {"displayName": "Renamed"}})).await;
    sim.held(held).await.unwrap();
    pair.first.signal("STOP");
    pair.second.until("/readyz", 200, "this replica: leader").await;
    pair.rig.reason("a", "Available").await;
    let before = pair.writes(0);
    sim.release(held);
    pair.first.signal("CONT");
    pair.first.until("/readyz", 200, "this replica: standby").await;
    pair.rig.annotate("a", LOOK, "1").await;
    looked(&pair.rig, "a", "1").await;
    // It has come back from the read by now.
    pair.first.until("/metrics", 200, "ohallo_reconcile_total{kind=\"Channel\",result=\"deferred\"}").await;
    assert_eq!(pair.writes(0), before);
    assert_eq!(pair.rig.count(Operation::UpdateChannel), 1, "only the new leader wrote");
    pair.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_sigterm_a_leader_records_what_is_in_flight_and_releases_the_lease_last() {
    let mut pair = Pair::start(&[]).await;
    let sim = &pair.rig.sim;
    let held =
        sim.add_fault(Fault::on(Operation::CreateChannel, Action::Hold { commit_first: true }).times(1));
    pair.rig.create("a", json!({})).await;
    sim.held(held).await.unwrap();
    pair.first.terminate();
    // Long enough that a lease which is released first would be taken.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(pair.lease().await.0.starts_with("first_"), "the work is not done");
    sim.release(held);
    assert_eq!(pair.first.ended().await.0, Some(0), "{}", pair.first.log());
    pair.second.until("/readyz", 200, "this replica: leader").await;
    pair.rig.reason("a", "Available").await;
    assert_eq!((pair.rig.count(Operation::CreateChannel), sim.channel_count()), (1, 1));
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
    let mut pair = Pair::start(&SHORT).await;
    let sim = &pair.rig.sim;
    let held =
        sim.add_fault(Fault::on(Operation::CreateChannel, Action::Hold { commit_first: true }).times(1));
    pair.rig.create("a", json!({})).await;
    sim.held(held).await.unwrap();
    pair.first.terminate();
    pair.rig
        .eventually("the first signal taken", || async {
            pair.first.log().contains("a second signal ends at once").then_some(())
        })
        .await;
    pair.first.terminate();
    assert_eq!(pair.first.ended().await.0, Some(143), "{}", pair.first.log());
    assert!(pair.lease().await.0.starts_with("first_"), "nothing was released");
    pair.second.until("/readyz", 200, "this replica: leader").await;
    pair.rig.reason("a", "CreateOutcomeUnknown").await;
    sim.release(held);
    assert_eq!((pair.rig.count(Operation::CreateChannel), sim.channel_count()), (1, 1));
    pair.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_keeps_the_key_that_is_deleted_before_it_leads() {
    let mut pair = Pair::start(&SHORT).await;
    pair.rig.ready("a", json!({})).await;
    pair.rig.secrets().delete("ohallo-api-key", &Default::default()).await.unwrap();
    pair.rig.workspace_reason("default", "SecretNotFound").await;
    pair.first.signal("KILL");
    assert_eq!(pair.first.ended().await.0, None);
    pair.rig.deleted("a").await;
    assert_eq!((pair.rig.sim.channel_count(), pair.rig.count(Operation::DeleteChannel)), (0, 1));
    pair.finish().await;
}
