//! F74, F75: what was replaced, restored or edited while no operator ran, and times of another clock.

use ohallo_core::api::channel::Channel;
use ohallo_sim::{Operation, Provisioning};
use serde_json::{Value, json};

use crate::support::harness::{Harness, bound, id_of};
use crate::support::steps::{CREATE_INTENT, has_finalizer, state, state_of, uid};

/// No test waits for an interval.
const DAY: i64 = 86_400;

impl Harness {
    /// Edits the status, as whoever may write it.
    fn forge(&self, name: &str, status: &Value) {
        let patch = json!({ "status": status }).to_string();
        let args = ["patch", "channel", name, "--subresource=status", "--type=merge", "-p", &patch];
        let output = self.kubectl(&args, None);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn intent(channel: &Channel) -> Option<&String> {
    channel.metadata.annotations.as_ref()?.get(CREATE_INTENT)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f74_what_was_edited_while_no_operator_ran_is_corrected_at_the_first_reconcile() {
    let mut harness = Harness::start().await;
    let names = ["finalizer", "intent", "foreign-intent", "state", "origin", "generation", "untouched"];
    let mut ids = Vec::new();
    for name in names {
        ids.push(id_of(&harness.ready(name, json!({"intervalSeconds": DAY})).await));
    }
    harness.stop_operator().await;
    harness.edit("finalizer", json!({"metadata": {"finalizers": null}})).await;
    harness.edit("intent", json!({"metadata": {"annotations": {CREATE_INTENT: null}}})).await;
    let foreign = "00000000-0000-0000-0000-000000000000/1/2026-01-10T07:00:00Z";
    harness.edit("foreign-intent", json!({"metadata": {"annotations": {CREATE_INTENT: foreign}}})).await;
    harness.forge("state", &json!({"state": "error"}));
    harness.forge("origin", &json!({"origin": null}));
    harness.forge("generation", &json!({"observedGeneration": 0}));
    let before = calls_of(&harness, &ids[6]);
    harness.caught_up().await;
    let written = harness.writes_of("untouched").len();
    harness.start_operator().await;
    harness.until("finalizer", "finalized", has_finalizer).await;
    for name in ["intent", "foreign-intent"] {
        harness.until(name, "marked", |it| intent(it).is_some_and(|text| text.starts_with(&uid(it)))).await;
    }
    harness.until("state", "read", |it| it.status.as_ref().unwrap().state.as_deref() == Some("active")).await;
    harness
        .until("origin", "known", |it| it.status.as_ref().unwrap().origin.as_deref() == Some("Created"))
        .await;
    harness
        .until("generation", "current", |it| {
            it.status.as_ref().unwrap().observed_generation == it.metadata.generation
        })
        .await;
    harness.caught_up().await;
    let now = (calls_of(&harness, &ids[6]), harness.writes_of("untouched").len());
    assert_eq!(now, (before, written), "what is well costs nothing");
    for name in names {
        harness.reason(name, "Available").await;
        harness.delete_and_wait(name).await;
    }
    assert_eq!((harness.count(Operation::CreateChannel), harness.sim.channel_count()), (names.len(), 0));
    harness.finish().await;
}

fn calls_of(harness: &Harness, id: &str) -> usize {
    harness.sim.ledger().iter().filter(|entry| entry.channel.as_deref() == Some(id)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f74_a_status_that_was_copied_while_no_operator_ran_is_not_ready_and_deletes_nothing() {
    let mut harness = Harness::start().await;
    let a = harness.ready("a", json!({"intervalSeconds": DAY})).await;
    let id = id_of(&a);
    let kept =
        id_of(&harness.ready("kept", json!({"deletionPolicy": "Retain", "intervalSeconds": DAY})).await);
    harness.stop_operator().await;
    // A restore that brings statuses along: the copy claims to be Ready, created and bound.
    let status = serde_json::to_value(a.status.as_ref().unwrap()).unwrap();
    for name in ["copy", "living"] {
        harness.create(name, json!({"intervalSeconds": DAY})).await;
        harness.edit(name, json!({"metadata": {"finalizers": ["ohallo.eu/channel"]}})).await;
        harness.forge(name, &status);
    }
    harness.forge("kept", &json!({"origin": "Created", "deletionPolicy": "Delete"}));
    harness.delete("copy").await;
    harness.delete("kept").await;
    harness.start_operator().await;
    harness.reason("living", "CreateOutcomeUnknown").await;
    for name in ["copy", "kept"] {
        harness.wait_deleted(name).await;
    }
    harness.delete_and_wait("living").await;
    assert_eq!((harness.count(Operation::DeleteChannel), harness.count(Operation::CreateChannel)), (0, 2));
    assert!(harness.sim.channel(&id).is_some() && harness.sim.channel(&kept).is_some());
    assert_eq!(bound(&harness.get("a").await), Some(id));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f75_a_retry_time_of_another_clock_is_no_later_than_the_backoff() {
    let mut harness = Harness::start().await;
    harness.sim.set(|behaviour| behaviour.provisioning = Provisioning::default().failing(1));
    let retry = json!({"provisioningRetry": {"backoffSeconds": 10}, "intervalSeconds": DAY});
    // The API server refuses what is no time.
    let times = [("year", "2099-01-01T00:00:00Z"), ("past", "1970-01-01T00:00:00Z")];
    for (name, _) in times {
        harness.create(name, retry.clone()).await;
        harness.reason(name, "ProvisioningFailed").await;
    }
    harness.stop_operator().await;
    for (name, at) in times {
        harness.forge(name, &json!({"provisioning": {"attempts": 0, "nextAttemptAt": at}}));
    }
    harness.start_operator().await;
    for (name, _) in times {
        let channel = harness.reason(name, "Available").await;
        assert_eq!(state_of(&channel, "Ready"), state("True", "Available"), "{name}");
    }
    harness.finish().await;
}
