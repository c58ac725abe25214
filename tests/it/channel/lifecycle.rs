//! The main job: create, update, credentials, test, retry, delete, each with the fewest writes and calls.

use std::time::Duration;

use ohallo_sim::{Behaviour, Config, NewChannel, Operation, Provisioning, Until};
use serde_json::json;

use crate::support::harness::{Harness, WORKSPACE, condition, id_of, message};
use crate::support::steps::assert_settled;

fn provisioning(provisioning: Provisioning) -> Config {
    Config { behaviour: Behaviour { provisioning, ..Behaviour::default() }, ..Config::default() }
}

/// The writes about a Channel once there are this many of them and no further ones come for a moment.
async fn writes(harness: &Harness, name: &str, count: usize) -> Vec<String> {
    harness
        .eventually(&format!("{count} writes"), || async {
            (harness.writes_of(name).len() >= count).then_some(())
        })
        .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    harness.writes_of(name)
}

const METADATA_PATCH: &str = "patch channels a 200";
const STATUS: &str = "update channels/status a 200";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creates_with_two_writes_and_one_call_and_deletes_with_one_each() {
    let harness = Harness::start().await;
    let channel = harness.ready("a", json!({"config": {"greeting": "hello"}})).await;
    let remote = harness.sim.channel(&id_of(&channel)).unwrap();
    assert_eq!(remote.display_name, "Channel a");
    assert_eq!(writes(&harness, "a", 2).await, [METADATA_PATCH, STATUS]);
    assert_eq!((harness.count(Operation::CreateChannel), harness.count(Operation::GetChannel)), (1, 0));
    assert_eq!(harness.count(Operation::GetWorkspace), 1, "the workspace was verified, and nothing more");
    harness.delete_and_wait("a").await;
    assert!(harness.sim.channels().is_empty());
    assert_eq!(harness.count(Operation::DeleteChannel), 1);
    assert_eq!(writes(&harness, "a", 3).await[2..], [METADATA_PATCH]);
    harness.event("a", "Created").await;
    harness.event("a", "Deleted").await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creates_with_credentials_in_three_writes_and_two_calls() {
    let harness = Harness::start().await;
    harness
        .secret("provider", &[("apiKey", "whatsapp-api-key-abc123"), ("webhookSecret", "whsec-def456ghi789")])
        .await;
    let credentials =
        json!({"channelType": "whatsapp", "credentials": [{"secretRef": {"name": "provider"}}]});
    let channel = harness.ready("a", credentials).await;
    assert_eq!(writes(&harness, "a", 3).await, [METADATA_PATCH, STATUS, STATUS]);
    assert_eq!((harness.count(Operation::CreateChannel), harness.count(Operation::StoreCredentials)), (1, 1));
    assert_eq!(condition(&channel, "CredentialsApplied").map(|c| (c.1, c.2)), Some(("True", "Applied")));
    let remote = harness.sim.channel(&id_of(&channel)).unwrap();
    assert_eq!(remote.credentials.get("webhookSecret").map(String::as_str), Some("whsec-def456ghi789"));
    let pushed = harness.event("a", "CredentialsPushed").await;
    assert_eq!(pushed, "Sent the credentials apiKey, webhookSecret.");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_create_costs_two_writes_and_one_call() {
    let harness = Harness::start().await;
    harness
        .sim
        .add_fault(ohallo_sim::Fault::on(Operation::CreateChannel, ohallo_sim::Action::status(422)).times(1));
    harness.create("a", json!({})).await;
    let channel = harness.reason("a", "ValidationFailed").await;
    assert!(message(&channel, "Ready").contains("422"), "{}", message(&channel, "Ready"));
    assert_eq!(writes(&harness, "a", 2).await, [METADATA_PATCH, STATUS]);
    assert_eq!(harness.count(Operation::CreateChannel), 1);
    harness.edit("a", json!({"spec": {"displayName": "Better"}})).await;
    harness.reason("a", "Available").await;
    assert_eq!(harness.sim.channels().len(), 1);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_with_one_write_and_overlays_only_what_is_declared_under_both_dialects() {
    let harness = Harness::start().await;
    for (name, dialect) in [("a", ohallo_sim::ConfigUpdate::Merge), ("b", ohallo_sim::ConfigUpdate::Replace)]
    {
        harness.sim.set(|behaviour| behaviour.config_update = dialect);
        let channel = harness.ready(name, json!({"config": {"x": {"one": 1}}})).await;
        let id = id_of(&channel);
        harness.sim.edit_channel(&id, |channel| {
            let config = channel.config.get_or_insert_default();
            config["x"]["other"] = json!("kept");
            config.insert("theirs".into(), json!(true));
        });
        let before = writes(&harness, name, 2).await.len();
        let calls = (harness.count(Operation::GetChannel), harness.count(Operation::UpdateChannel));
        harness
            .edit(
                name,
                json!({"spec": {"displayName": "New", "enabled": false, "config": {"x": {"one": 2}}}}),
            )
            .await;
        harness.reason(name, "Disabled").await;
        let remote = harness.sim.channel(&id).unwrap();
        assert_eq!(remote.display_name, "New");
        assert!(!remote.enabled);
        assert_eq!(json!(remote.config), json!({"x": {"one": 2, "other": "kept"}, "theirs": true}));
        assert_eq!(writes(&harness, name, before + 1).await.len(), before + 1);
        assert_eq!(
            (harness.count(Operation::GetChannel), harness.count(Operation::UpdateChannel)),
            (calls.0 + 1, calls.1 + 1)
        );
        assert_eq!(harness.event(name, "Updated").await, "Updated displayName, config.x.one, enabled.");
        assert_settled(&harness, name).await;
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drift_is_put_back_or_reported() {
    let harness = Harness::start().await;
    let corrected = id_of(&harness.ready("a", json!({})).await);
    let reported = id_of(&harness.ready("b", json!({"driftPolicy": "Report"})).await);
    for id in [&corrected, &reported] {
        harness.sim.edit_channel(id, |channel| channel.display_name = "Edited in the dashboard".into());
    }
    for name in ["a", "b"] {
        harness.annotate(name, "ohallo.eu/reconcile-requested-at", "now").await;
    }
    assert_eq!(harness.event("a", "DriftCorrected").await, "Reverted displayName, changed in oHallo.");
    assert_eq!(harness.sim.channel(&corrected).unwrap().display_name, "Channel a");
    let channel = harness.has("b", "Drifted", "DriftDetected").await;
    let drift = &channel.status.as_ref().unwrap().drift;
    assert_eq!(
        (drift[0].path.as_str(), drift[0].actual.as_deref()),
        ("displayName", Some("Edited in the dashboard"))
    );
    assert_eq!(condition(&channel, "Ready").map(|c| c.2), Some("Available"));
    assert_eq!(harness.sim.channel(&reported).unwrap().display_name, "Edited in the dashboard");
    harness.edit("b", json!({"spec": {"config": {"greeting": "Hi"}}})).await;
    let channel = harness.reason("b", "Available").await;
    let remote = harness.sim.channel(&reported).unwrap();
    assert_eq!(
        (remote.display_name.as_str(), remote.config.as_ref().unwrap()["greeting"].as_str()),
        ("Edited in the dashboard", Some("Hi")),
        "only what was changed in the manifest is applied"
    );
    assert_eq!(channel.status.as_ref().unwrap().drift.len(), 1);
    harness.edit("b", json!({"spec": {"displayName": "Declared again"}})).await;
    harness.until("b", "without drift", |channel| condition(channel, "Drifted").is_none()).await;
    assert_eq!(harness.sim.channel(&reported).unwrap().display_name, "Declared again");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_ohallo_never_keeps_are_not_fought_for_ever() {
    let harness = Harness::start().await;
    harness.sim.set(|behaviour| behaviour.normalise = true);
    harness.create("a", json!({"config": {"inboundAddress": "Support@Nordic-Parts.dk"}})).await;
    let channel = harness.reason("a", "NotConverging").await;
    assert!(message(&channel, "Ready").contains("config.inboundAddress"));
    let updates = harness.count(Operation::UpdateChannel);
    assert!(updates <= 3, "{updates} updates");
    harness.annotate("a", "ohallo.eu/reconcile-requested-at", "1").await;
    harness.edit("a", json!({"spec": {"config": {"inboundAddress": "support@nordic-parts.dk"}}})).await;
    harness.reason("a", "Available").await;
    assert_settled(&harness, "a").await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adopts_with_two_writes_and_one_read() {
    let harness = Harness::start().await;
    let channel = NewChannel::new(WORKSPACE, "chat", "Channel a").config(json!({"theirs": 1}));
    let id = harness.sim.insert_channel(channel);
    let channel = harness.ready("a", json!({"channelId": id})).await;
    let status = channel.status.as_ref().unwrap();
    assert_eq!(
        (status.origin.as_deref(), status.deletion_policy.as_deref()),
        (Some("Adopted"), Some("Retain"))
    );
    assert_eq!(writes(&harness, "a", 2).await, [METADATA_PATCH, STATUS]);
    assert_eq!((harness.count(Operation::GetChannel), harness.count(Operation::UpdateChannel)), (1, 0));
    harness.event("a", "Adopted").await;
    harness.delete_and_wait("a").await;
    assert!(harness.sim.channel(&id).is_some(), "an adopted channel stays");
    harness.event("a", "Retained").await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn follows_slow_provisioning_with_one_write_more() {
    let slow = Provisioning::default().step("provisioning", Until::Millis(1500));
    let harness = Harness::with(provisioning(slow), &[]).await;
    harness.create("a", json!({})).await;
    let channel = harness.reason("a", "Provisioning").await;
    assert_eq!(condition(&channel, "Reconciling").map(|c| c.1), Some("True"));
    harness.reason("a", "Available").await;
    assert_eq!(writes(&harness, "a", 3).await, [METADATA_PATCH, STATUS, STATUS]);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_for_dns_and_reports_unknown_states() {
    let dns = Provisioning::default().step("pending_dns", Until::Advanced);
    let harness = Harness::with(provisioning(dns), &[]).await;
    harness.create("a", json!({"channelType": "email"})).await;
    let id = id_of(&harness.reason("a", "WaitingForDNS").await);
    harness.sim.resolve_dns(&id);
    harness.reason("a", "Available").await;
    harness.sim.set(|behaviour| behaviour.unknown_state = Some("migrating\u{1b}[31m".into()));
    harness.annotate("a", "ohallo.eu/reconcile-requested-at", "1").await;
    let channel = harness.reason("a", "UnknownState").await;
    assert!(!message(&channel, "Ready").contains('\u{1b}'));
    harness.sim.set(|behaviour| behaviour.unknown_state = None);
    harness.reason("a", "Available").await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_a_failed_provisioning_automatically_until_its_limit_and_then_on_request() {
    let failing = Provisioning::default().failing(3);
    let harness = Harness::with(provisioning(failing), &[]).await;
    harness.create("a", json!({"provisioningRetry": {"limit": 1, "backoffSeconds": 10}})).await;
    let channel = harness.reason("a", "ProvisioningFailed").await;
    assert_eq!(condition(&channel, "Reconciling").map(|c| c.1), Some("True"));
    assert!(channel.status.as_ref().unwrap().provisioning.as_ref().unwrap().next_attempt_at.is_some());
    harness.until("a", "stalled", |channel| condition(channel, "Stalled").is_some()).await;
    assert_eq!(harness.count(Operation::RetryProvisioning), 1);
    harness.event("a", "ProvisioningRetried").await;
    for (request, retries) in [("one", 2), ("two", 3)] {
        harness.annotate("a", "ohallo.eu/retry-requested-at", request).await;
        harness
            .until("a", "handled", |channel| {
                let provisioning = channel.status.as_ref().and_then(|status| status.provisioning.clone());
                provisioning.and_then(|provisioning| provisioning.handled_request).as_deref() == Some(request)
            })
            .await;
        harness
            .eventually("retries", || async {
                (harness.count(Operation::RetryProvisioning) == retries).then_some(())
            })
            .await;
    }
    harness.reason("a", "Available").await;
    assert_eq!(harness.count(Operation::RetryProvisioning), 3);
    harness.finish().await;
}
