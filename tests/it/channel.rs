//! The main job: create, update, credentials, test, retry, delete, each with no more writes and calls than it needs.

use std::time::Duration;

use ohallo_sim::{Behaviour, Config, NewChannel, Operation, Provisioning, Until};
use serde_json::json;

use crate::acts::at_rest;
use crate::rig::{Rig, WORKSPACE, condition, id_of, message};

fn provisioning(provisioning: Provisioning) -> Config {
    Config { behaviour: Behaviour { provisioning, ..Behaviour::default() }, ..Config::default() }
}

/// The writes about a Channel once there are this many of them and no more come for a moment.
async fn writes(rig: &Rig, name: &str, count: usize) -> Vec<String> {
    rig.eventually(&format!("{count} writes"), || async {
        (rig.writes_of(name).len() >= count).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    rig.writes_of(name)
}

const MARK: &str = "patch channels a 200";
const STATUS: &str = "update channels/status a 200";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creates_with_two_writes_and_one_call_and_deletes_with_one_each() {
    let rig = Rig::start().await;
    let channel = rig.ready("a", json!({"config": {"greeting": "hello"}})).await;
    let remote = rig.sim.channel(&id_of(&channel)).unwrap();
    assert_eq!(remote.display_name, "Channel a");
    assert_eq!(writes(&rig, "a", 2).await, [MARK, STATUS]);
    assert_eq!((rig.count(Operation::CreateChannel), rig.count(Operation::GetChannel)), (1, 0));
    assert_eq!(rig.count(Operation::GetWorkspace), 1, "the workspace was verified, and nothing more");
    rig.deleted("a").await;
    assert!(rig.sim.channels().is_empty());
    assert_eq!(rig.count(Operation::DeleteChannel), 1);
    assert_eq!(writes(&rig, "a", 3).await[2..], [MARK]);
    rig.event("a", "Created").await;
    rig.event("a", "Deleted").await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creates_with_credentials_in_three_writes_and_two_calls() {
    let rig = Rig::start().await;
    rig.secret("provider", &[("apiKey", "whatsapp-api-key-abc123"), ("webhookSecret", "whsec-def456ghi789")])
        .await;
    let credentials =
        json!({"channelType": "whatsapp", "credentials": [{"secretRef": {"name": "provider"}}]});
    let channel = rig.ready("a", credentials).await;
    assert_eq!(writes(&rig, "a", 3).await, [MARK, STATUS, STATUS]);
    assert_eq!((rig.count(Operation::CreateChannel), rig.count(Operation::StoreCredentials)), (1, 1));
    assert_eq!(condition(&channel, "CredentialsApplied").map(|c| (c.1, c.2)), Some(("True", "Applied")));
    let remote = rig.sim.channel(&id_of(&channel)).unwrap();
    assert_eq!(remote.credentials.get("webhookSecret").map(String::as_str), Some("whsec-def456ghi789"));
    let pushed = rig.event("a", "CredentialsPushed").await;
    assert_eq!(pushed, "Sent the credentials apiKey, webhookSecret.");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_create_costs_two_writes_and_one_call() {
    let rig = Rig::start().await;
    rig.sim
        .add_fault(ohallo_sim::Fault::on(Operation::CreateChannel, ohallo_sim::Action::status(422)).times(1));
    rig.create("a", json!({})).await;
    let channel = rig.reason("a", "ValidationFailed").await;
    assert!(message(&channel, "Ready").contains("422"), "{}", message(&channel, "Ready"));
    assert_eq!(writes(&rig, "a", 2).await, [MARK, STATUS]);
    assert_eq!(rig.count(Operation::CreateChannel), 1);
    rig.edit("a", json!({"spec": {"displayName": "Better"}})).await;
    rig.reason("a", "Available").await;
    assert_eq!(rig.sim.channels().len(), 1);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_with_one_write_and_overlays_only_what_is_declared_under_both_dialects() {
    let rig = Rig::start().await;
    for (name, dialect) in [("a", ohallo_sim::ConfigUpdate::Merge), ("b", ohallo_sim::ConfigUpdate::Replace)]
    {
        rig.sim.set(|behaviour| behaviour.config_update = dialect);
        let channel = rig.ready(name, json!({"config": {"x": {"one": 1}}})).await;
        let id = id_of(&channel);
        rig.sim.edit_channel(&id, |channel| {
            let config = channel.config.get_or_insert_default();
            config["x"]["other"] = json!("kept");
            config.insert("theirs".into(), json!(true));
        });
        let before = writes(&rig, name, 2).await.len();
        let calls = (rig.count(Operation::GetChannel), rig.count(Operation::UpdateChannel));
        rig.edit(
            name,
            json!({"spec": {"displayName": "New", "enabled": false, "config": {"x": {"one": 2}}}}),
        )
        .await;
        rig.reason(name, "Disabled").await;
        let remote = rig.sim.channel(&id).unwrap();
        assert_eq!(remote.display_name, "New");
        assert!(!remote.enabled);
        assert_eq!(json!(remote.config), json!({"x": {"one": 2, "other": "kept"}, "theirs": true}));
        assert_eq!(writes(&rig, name, before + 1).await.len(), before + 1);
        assert_eq!(
            (rig.count(Operation::GetChannel), rig.count(Operation::UpdateChannel)),
            (calls.0 + 1, calls.1 + 1)
        );
        assert_eq!(rig.event(name, "Updated").await, "Updated displayName, config.x.one, enabled.");
        at_rest(&rig, name).await;
    }
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drift_is_put_back_or_reported() {
    let rig = Rig::start().await;
    let corrected = id_of(&rig.ready("a", json!({})).await);
    let reported = id_of(&rig.ready("b", json!({"driftPolicy": "Report"})).await);
    for id in [&corrected, &reported] {
        rig.sim.edit_channel(id, |channel| channel.display_name = "Edited in the dashboard".into());
    }
    for name in ["a", "b"] {
        rig.annotate(name, "ohallo.eu/reconcile-requested-at", "now").await;
    }
    assert_eq!(rig.event("a", "DriftCorrected").await, "Put back displayName, changed in oHallo.");
    assert_eq!(rig.sim.channel(&corrected).unwrap().display_name, "Channel a");
    let channel = rig.has("b", "Drifted", "DriftDetected").await;
    let drift = &channel.status.as_ref().unwrap().drift;
    assert_eq!(
        (drift[0].path.as_str(), drift[0].actual.as_deref()),
        ("displayName", Some("Edited in the dashboard"))
    );
    assert_eq!(condition(&channel, "Ready").map(|c| c.2), Some("Available"));
    assert_eq!(rig.sim.channel(&reported).unwrap().display_name, "Edited in the dashboard");
    rig.edit("b", json!({"spec": {"config": {"greeting": "Hi"}}})).await;
    let channel = rig.reason("b", "Available").await;
    let remote = rig.sim.channel(&reported).unwrap();
    assert_eq!(
        (remote.display_name.as_str(), remote.config.as_ref().unwrap()["greeting"].as_str()),
        ("Edited in the dashboard", Some("Hi")),
        "only what was changed in the manifest is applied"
    );
    assert_eq!(channel.status.as_ref().unwrap().drift.len(), 1);
    rig.edit("b", json!({"spec": {"displayName": "Declared anew"}})).await;
    rig.until("b", "without drift", |channel| condition(channel, "Drifted").is_none()).await;
    assert_eq!(rig.sim.channel(&reported).unwrap().display_name, "Declared anew");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_ohallo_never_keeps_are_not_fought_for_ever() {
    let rig = Rig::start().await;
    rig.sim.set(|behaviour| behaviour.normalise = true);
    rig.create("a", json!({"config": {"inboundAddress": "Support@Nordic-Parts.dk"}})).await;
    let channel = rig.reason("a", "NotConverging").await;
    assert!(message(&channel, "Ready").contains("config.inboundAddress"));
    let updates = rig.count(Operation::UpdateChannel);
    assert!(updates <= 3, "{updates} updates");
    rig.annotate("a", "ohallo.eu/reconcile-requested-at", "1").await;
    rig.edit("a", json!({"spec": {"config": {"inboundAddress": "support@nordic-parts.dk"}}})).await;
    rig.reason("a", "Available").await;
    at_rest(&rig, "a").await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adopts_with_two_writes_and_one_read() {
    let rig = Rig::start().await;
    let made = NewChannel::new(WORKSPACE, "chat", "Channel a").config(json!({"theirs": 1}));
    let id = rig.sim.insert_channel(made);
    let channel = rig.ready("a", json!({"channelId": id})).await;
    let status = channel.status.as_ref().unwrap();
    assert_eq!(
        (status.origin.as_deref(), status.deletion_policy.as_deref()),
        (Some("Adopted"), Some("Retain"))
    );
    assert_eq!(writes(&rig, "a", 2).await, [MARK, STATUS]);
    assert_eq!((rig.count(Operation::GetChannel), rig.count(Operation::UpdateChannel)), (1, 0));
    rig.event("a", "Adopted").await;
    rig.deleted("a").await;
    assert!(rig.sim.channel(&id).is_some(), "an adopted channel stays");
    rig.event("a", "Retained").await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn follows_slow_provisioning_with_one_write_more() {
    let slow = Provisioning::default().step("provisioning", Until::Millis(1500));
    let rig = Rig::with(provisioning(slow), &[]).await;
    rig.create("a", json!({})).await;
    let channel = rig.reason("a", "Provisioning").await;
    assert_eq!(condition(&channel, "Reconciling").map(|c| c.1), Some("True"));
    rig.reason("a", "Available").await;
    assert_eq!(writes(&rig, "a", 3).await, [MARK, STATUS, STATUS]);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_for_dns_and_tells_of_states_it_does_not_know() {
    let dns = Provisioning::default().step("pending_dns", Until::Told);
    let rig = Rig::with(provisioning(dns), &[]).await;
    rig.create("a", json!({"channelType": "email"})).await;
    let id = id_of(&rig.reason("a", "WaitingForDNS").await);
    rig.sim.resolve_dns(&id);
    rig.reason("a", "Available").await;
    rig.sim.set(|behaviour| behaviour.unknown_state = Some("migrating\u{1b}[31m".into()));
    rig.annotate("a", "ohallo.eu/reconcile-requested-at", "1").await;
    let channel = rig.reason("a", "UnknownState").await;
    assert!(!message(&channel, "Ready").contains('\u{1b}'));
    rig.sim.set(|behaviour| behaviour.unknown_state = None);
    rig.reason("a", "Available").await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_a_failed_provisioning_by_itself_until_its_limit_and_then_on_request() {
    let failing = Provisioning::default().failing(3);
    let rig = Rig::with(provisioning(failing), &[]).await;
    rig.create("a", json!({"provisioningRetry": {"limit": 1, "backoffSeconds": 10}})).await;
    let channel = rig.reason("a", "ProvisioningFailed").await;
    assert_eq!(condition(&channel, "Reconciling").map(|c| c.1), Some("True"));
    assert!(channel.status.as_ref().unwrap().provisioning.as_ref().unwrap().next_attempt_at.is_some());
    rig.until("a", "stalled", |channel| condition(channel, "Stalled").is_some()).await;
    assert_eq!(rig.count(Operation::RetryProvisioning), 1);
    rig.event("a", "ProvisioningRetried").await;
    for (request, retries) in [("one", 2), ("two", 3)] {
        rig.annotate("a", "ohallo.eu/retry-requested-at", request).await;
        rig.until("a", "handled", |channel| {
            let provisioning = channel.status.as_ref().and_then(|status| status.provisioning.clone());
            provisioning.and_then(|provisioning| provisioning.handled_request).as_deref() == Some(request)
        })
        .await;
        rig.eventually("retries", || async {
            (rig.count(Operation::RetryProvisioning) == retries).then_some(())
        })
        .await;
    }
    rig.reason("a", "Available").await;
    assert_eq!(rig.count(Operation::RetryProvisioning), 3);
    rig.finish().await;
}
