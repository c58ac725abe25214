//! F74, F75: what was replaced, restored or edited while no operator ran, and times of another clock.

use ohallo_core::api::channel::Channel;
use ohallo_sim::{Operation, Provisioning};
use serde_json::{Value, json};

use crate::acts::{INTENT, finalized, is, so, uid};
use crate::rig::{Rig, bound, id_of};

/// No test waits for an interval.
const DAY: i64 = 86_400;

impl Rig {
    /// Edits the status, as whoever may write it.
    fn forge(&self, name: &str, status: &Value) {
        let patch = json!({ "status": status }).to_string();
        let args = ["patch", "channel", name, "--subresource=status", "--type=merge", "-p", &patch];
        let output = self.kubectl(&args, None);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn intent(channel: &Channel) -> Option<&String> {
    channel.metadata.annotations.as_ref()?.get(INTENT)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f74_what_was_edited_while_no_operator_ran_is_put_right_at_the_first_reconcile() {
    let mut rig = Rig::start().await;
    let names = ["finalizer", "intent", "foreign-intent", "state", "origin", "generation", "untouched"];
    let mut ids = Vec::new();
    for name in names {
        ids.push(id_of(&rig.ready(name, json!({"intervalSeconds": DAY})).await));
    }
    rig.stop_operator().await;
    rig.edit("finalizer", json!({"metadata": {"finalizers": null}})).await;
    rig.edit("intent", json!({"metadata": {"annotations": {INTENT: null}}})).await;
    let foreign = "00000000-0000-0000-0000-000000000000/1/2026-01-10T07:00:00Z";
    rig.edit("foreign-intent", json!({"metadata": {"annotations": {INTENT: foreign}}})).await;
    rig.forge("state", &json!({"state": "error"}));
    rig.forge("origin", &json!({"origin": null}));
    rig.forge("generation", &json!({"observedGeneration": 0}));
    let before = calls_of(&rig, &ids[6]);
    rig.caught_up().await;
    let written = rig.writes_of("untouched").len();
    rig.start_operator().await;
    rig.until("finalizer", "finalized", finalized).await;
    for name in ["intent", "foreign-intent"] {
        rig.until(name, "marked", |it| intent(it).is_some_and(|text| text.starts_with(&uid(it)))).await;
    }
    rig.until("state", "read", |it| it.status.as_ref().unwrap().state.as_deref() == Some("active")).await;
    rig.until("origin", "known", |it| it.status.as_ref().unwrap().origin.as_deref() == Some("Created")).await;
    rig.until("generation", "current", |it| {
        it.status.as_ref().unwrap().observed_generation == it.metadata.generation
    })
    .await;
    rig.caught_up().await;
    let now = (calls_of(&rig, &ids[6]), rig.writes_of("untouched").len());
    assert_eq!(now, (before, written), "what is well costs nothing");
    for name in names {
        rig.reason(name, "Available").await;
        rig.deleted(name).await;
    }
    assert_eq!((rig.count(Operation::CreateChannel), rig.sim.channel_count()), (names.len(), 0));
    rig.finish().await;
}

fn calls_of(rig: &Rig, id: &str) -> usize {
    rig.sim.ledger().iter().filter(|entry| entry.channel.as_deref() == Some(id)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f74_a_status_that_was_copied_while_no_operator_ran_is_not_ready_and_deletes_nothing() {
    let mut rig = Rig::start().await;
    let a = rig.ready("a", json!({"intervalSeconds": DAY})).await;
    let id = id_of(&a);
    let kept = id_of(&rig.ready("kept", json!({"deletionPolicy": "Retain", "intervalSeconds": DAY})).await);
    rig.stop_operator().await;
    // A restore that brings statuses along: the copy says that it is Ready, created and bound.
    let status = serde_json::to_value(a.status.as_ref().unwrap()).unwrap();
    for name in ["copy", "living"] {
        rig.create(name, json!({"intervalSeconds": DAY})).await;
        rig.edit(name, json!({"metadata": {"finalizers": ["ohallo.eu/channel"]}})).await;
        rig.forge(name, &status);
    }
    rig.forge("kept", &json!({"origin": "Created", "deletionPolicy": "Delete"}));
    rig.delete("copy").await;
    rig.delete("kept").await;
    rig.start_operator().await;
    rig.reason("living", "CreateOutcomeUnknown").await;
    for name in ["copy", "kept"] {
        rig.gone(name).await;
    }
    rig.deleted("living").await;
    assert_eq!((rig.count(Operation::DeleteChannel), rig.count(Operation::CreateChannel)), (0, 2));
    assert!(rig.sim.channel(&id).is_some() && rig.sim.channel(&kept).is_some());
    assert_eq!(bound(&rig.get("a").await), Some(id));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f75_a_retry_time_of_another_clock_is_no_later_than_the_backoff() {
    let mut rig = Rig::start().await;
    rig.sim.set(|behaviour| behaviour.provisioning = Provisioning::default().failing(1));
    let retry = json!({"provisioningRetry": {"backoffSeconds": 10}, "intervalSeconds": DAY});
    let times = [("year", "2099-01-01T00:00:00Z"), ("torn", "no time"), ("past", "1970-01-01T00:00:00Z")];
    for (name, _) in times {
        rig.create(name, retry.clone()).await;
        rig.reason(name, "ProvisioningFailed").await;
    }
    rig.stop_operator().await;
    for (name, at) in times {
        rig.forge(name, &json!({"provisioning": {"attempts": 0, "nextAttemptAt": at}}));
    }
    rig.start_operator().await;
    for (name, _) in times {
        let channel = rig.reason(name, "Available").await;
        assert_eq!(is(&channel, "Ready"), so("True", "Available"), "{name}");
    }
    rig.finish().await;
}
