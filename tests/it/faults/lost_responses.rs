//! F3–F5 and F37: answers that are lost, and calls that take effect late.

use std::time::Duration;

use ohallo_sim::{Action, Config, Fault, Operation, Sim};
use serde_json::json;

use crate::support::harness::{Harness, WAIT_TIMEOUT, id_of};
use crate::support::steps::SHORT_TIMEOUTS;
use crate::support::steps::reconcile_now;

const PROVIDER: &str = "provider-key-of-the-fault-tests";

/// Every way to lose an answer, after the call took effect or not.
fn lost(commit: bool) -> Vec<Action> {
    let status = |code| Action::Status { code, body: None, headers: Vec::new(), commit };
    vec![
        Action::Reset { commit },
        Action::Hang { commit },
        Action::Garbage { commit },
        status(408),
        status(500),
        status(502),
        status(503),
        status(504),
    ]
}

/// Causes the operator to call this once, on a Channel that is Ready.
async fn provoke(harness: &mut Harness, name: &str, operation: Operation, number: usize) {
    match operation {
        Operation::UpdateChannel => {
            harness
                .edit(name, json!({"spec": {"displayName": format!("Name {number}"), "enabled": false}}))
                .await;
        }
        Operation::StoreCredentials => {
            harness.secret(&format!("provider-{name}"), &[("apiKey", &format!("{PROVIDER}-{number}"))]).await;
        }
        Operation::TestChannel => {
            harness.annotate(name, "ohallo.eu/test-requested-at", &number.to_string()).await;
        }
        Operation::RetryProvisioning => {
            let id = id_of(&harness.get(name).await);
            harness.sim.edit_channel(&id, |channel| channel.status = "error".into());
            reconcile_now(harness, name, &format!("failed {number}")).await;
            harness.reason(name, "ProvisioningFailed").await;
            harness.annotate(name, "ohallo.eu/retry-requested-at", &number.to_string()).await;
        }
        _ => harness.delete(name).await,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f03_f05_a_lost_answer_costs_no_second_test_or_retry_and_content_arrives_all_the_same() {
    let mut harness = Harness::with(Config::default(), &SHORT_TIMEOUTS).await;
    let operations = [
        Operation::UpdateChannel,
        Operation::StoreCredentials,
        Operation::TestChannel,
        Operation::RetryProvisioning,
        Operation::DeleteChannel,
    ];
    for (row, operation) in operations.into_iter().enumerate() {
        for (number, action) in lost(false).into_iter().chain(lost(true)).enumerate() {
            // After a deletion that took effect comes half a minute of proof: once is enough.
            if operation == Operation::DeleteChannel && number > lost(false).len() {
                continue;
            }
            let name = format!("c{row}-{number}");
            harness.secret(&format!("provider-{name}"), &[("apiKey", PROVIDER)]).await;
            let secret = json!([{"secretRef": {"name": format!("provider-{name}")}}]);
            let spec = json!({"channelType": "voice", "enabled": true, "credentials": secret, "provisioningRetry": {"limit": 0}});
            let id = id_of(&harness.ready(&name, spec).await);
            let before = harness.count(operation);
            let fault = harness.sim.add_fault(Fault::on(operation, action.clone()).times(1));
            provoke(&mut harness, &name, operation, number).await;
            let once = matches!(operation, Operation::TestChannel | Operation::RetryProvisioning);
            let least = before + if once { 1 } else { 2 };
            harness.sim.wait_until(|sim| sim.count(operation) >= least, WAIT_TIMEOUT * 2).await.unwrap();
            after(&harness, &name, &id, operation, number, &action).await;
            harness.sim.remove_fault(fault);
            let calls = harness.count(operation) - before;
            assert!(!once || calls == 1, "{operation:?} {action:?}: {calls}");
        }
    }
    harness.finish().await;
}

async fn after(
    harness: &Harness,
    name: &str,
    id: &str,
    operation: Operation,
    number: usize,
    action: &Action,
) {
    match operation {
        Operation::UpdateChannel => {
            harness.reason(name, "Disabled").await;
            let remote = harness.sim.channel(id).unwrap();
            let wanted = (format!("Name {number}"), false);
            assert_eq!((remote.display_name, remote.enabled), wanted, "{action:?}");
        }
        Operation::StoreCredentials => {
            let wanted = format!("{PROVIDER}-{number}");
            let holds =
                |sim: &Sim| sim.channel(id).is_some_and(|c| c.credentials.get("apiKey") == Some(&wanted));
            harness.sim.wait_until(holds, WAIT_TIMEOUT).await.unwrap();
            harness.has(name, "CredentialsApplied", "Applied").await;
        }
        Operation::TestChannel => drop(harness.has(name, "Connected", "TestOutcomeUnknown").await),
        Operation::RetryProvisioning => {
            let handled = |channel: &ohallo_core::api::channel::Channel| {
                let provisioning = channel.status.as_ref().and_then(|status| status.provisioning.clone());
                provisioning.and_then(|p| p.handled_request) == Some(number.to_string())
            };
            harness.until(name, "handled", handled).await;
            reconcile_now(harness, name, &format!("after {number}")).await;
        }
        _ => harness.wait_deleted(name).await,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f04_a_create_that_lands_after_its_object_was_deleted_is_never_forgotten_silently() {
    let harness = Harness::start().await;
    let late = Action::LateCommit { after: Duration::from_secs(2) };
    harness.sim.add_fault(Fault::on(Operation::CreateChannel, late).times(1));
    harness.create("a", json!({})).await;
    harness.reason("a", "CreateOutcomeUnknown").await;
    harness.delete("a").await;
    let channel = harness.has("a", "DeletionBlocked", "CreateOutcomeUnknown").await;
    harness.sim.wait_until(|sim| sim.channel_count() == 1, WAIT_TIMEOUT).await.unwrap();
    reconcile_now(&harness, "a", "1").await;
    assert_eq!(harness.count(Operation::CreateChannel), 1);
    let attempt = format!("{}/1", crate::support::steps::uid(&channel));
    harness.annotate("a", crate::support::steps::RELEASE, &attempt).await;
    harness.wait_deleted("a").await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f04_f37_an_old_update_and_an_old_push_that_land_late_are_overwritten() {
    let harness = Harness::start().await;
    harness.secret("provider", &[("apiKey", "first-provider-key")]).await;
    let spec = json!({"enabled": true, "credentials": [{"secretRef": {"name": "provider"}}]});
    let id = id_of(&harness.ready("a", spec).await);
    // Later than the newer value, earlier than the end of the time in which it is expected.
    let late = || Action::LateCommit { after: Duration::from_secs(10) };
    harness.sim.add_fault(Fault::on(Operation::UpdateChannel, late()).times(1));
    harness.sim.add_fault(Fault::on(Operation::StoreCredentials, late()).times(1));
    let calls = |operation| harness.count(operation);
    let before = (calls(Operation::UpdateChannel), calls(Operation::StoreCredentials));
    harness.edit("a", json!({"spec": {"enabled": false}})).await;
    harness.sim.wait_until(|sim| sim.count(Operation::UpdateChannel) > before.0, WAIT_TIMEOUT).await.unwrap();
    harness.edit("a", json!({"spec": {"enabled": true}})).await;
    harness.secret("provider", &[("apiKey", "second-provider-key")]).await;
    harness
        .sim
        .wait_until(|sim| sim.count(Operation::StoreCredentials) > before.1, WAIT_TIMEOUT)
        .await
        .unwrap();
    harness.secret("provider", &[("apiKey", "third-provider-key")]).await;
    let landed = |sim: &Sim| {
        let committed = |entry: &ohallo_sim::Entry| entry.fault.is_some() && entry.committed;
        sim.ledger().iter().filter(|entry| committed(entry)).count() == 2
    };
    harness.sim.wait_until(landed, WAIT_TIMEOUT).await.unwrap();
    let newest = |sim: &Sim| {
        let channel = sim.channel(&id).unwrap();
        channel.enabled && channel.credentials["apiKey"] == "third-provider-key"
    };
    harness.sim.wait_until(newest, Duration::from_secs(120)).await.unwrap();
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f02_an_enabled_that_was_sent_and_never_confirmed_is_sent_again_for_an_unchanged_manifest() {
    let mut harness = Harness::start().await;
    let id = id_of(&harness.ready("a", json!({"enabled": true})).await);
    let hold = harness
        .sim
        .add_fault(Fault::on(Operation::UpdateChannel, Action::Hold { commit_first: true }).times(1));
    harness.edit("a", json!({"spec": {"enabled": false}})).await;
    harness.sim.held(hold).await.unwrap();
    assert!(!harness.sim.channel(&id).unwrap().enabled);
    harness.kill_operator();
    harness.edit("a", json!({"spec": {"enabled": true}})).await;
    harness.sim.release(hold);
    harness.start_operator().await;
    harness.reason("a", "Available").await;
    assert!(harness.sim.channel(&id).unwrap().enabled, "Ready claims that it is as declared");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f04_an_old_enabled_that_lands_after_a_restart_is_overwritten_though_the_manifest_is_as_it_was() {
    let mut harness = Harness::start().await;
    let id = id_of(&harness.ready("a", json!({"enabled": true})).await);
    let late = Action::LateCommit { after: Duration::from_secs(8) };
    harness.sim.add_fault(Fault::on(Operation::UpdateChannel, late).times(1));
    harness.sim.add_fault(Fault::on(Operation::UpdateChannel, Action::status(503)));
    harness.edit("a", json!({"spec": {"enabled": false}})).await;
    harness.sim.wait_until(|sim| sim.count(Operation::UpdateChannel) >= 2, WAIT_TIMEOUT).await.unwrap();
    harness
        .until("a", "reported", |channel| crate::support::steps::state_of(channel, "Reconciling").is_some())
        .await;
    harness.kill_operator();
    harness.edit("a", json!({"spec": {"enabled": true}})).await;
    harness.sim.clear_faults();
    harness.start_operator().await;
    harness.reason("a", "Available").await;
    harness.sim.wait_until(|sim| !sim.channel(&id).unwrap().enabled, WAIT_TIMEOUT).await.unwrap();
    harness.sim.wait_until(|sim| sim.channel(&id).unwrap().enabled, Duration::from_secs(90)).await.unwrap();
    harness.finish().await;
}
