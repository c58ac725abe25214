//! F3–F5 and F37: answers that are lost, and calls that take effect late.

use std::time::Duration;

use ohallo_sim::{Action, Config, Fault, Operation, Sim};
use serde_json::json;

use super::ohallo::QUICK;
use crate::acts::looked;
use crate::rig::{PATIENCE, Rig, id_of};

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

/// Does what makes the operator call this once, on a Channel that is Ready.
async fn provoke(rig: &mut Rig, name: &str, operation: Operation, number: usize) {
    match operation {
        Operation::UpdateChannel => {
            rig.edit(name, json!({"spec": {"displayName": format!("Name {number}"), "enabled": false}}))
                .await;
        }
        Operation::StoreCredentials => {
            rig.secret(&format!("provider-{name}"), &[("apiKey", &format!("{PROVIDER}-{number}"))]).await;
        }
        Operation::TestChannel => {
            rig.annotate(name, "ohallo.eu/test-requested-at", &number.to_string()).await;
        }
        Operation::RetryProvisioning => {
            let id = id_of(&rig.get(name).await);
            rig.sim.edit_channel(&id, |channel| channel.status = "error".into());
            looked(rig, name, &format!("failed {number}")).await;
            rig.reason(name, "ProvisioningFailed").await;
            rig.annotate(name, "ohallo.eu/retry-requested-at", &number.to_string()).await;
        }
        _ => rig.delete(name).await,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f03_f05_a_lost_answer_costs_no_second_test_or_retry_and_content_arrives_all_the_same() {
    let mut rig = Rig::with(Config::default(), &QUICK).await;
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
            rig.secret(&format!("provider-{name}"), &[("apiKey", PROVIDER)]).await;
            let secret = json!([{"secretRef": {"name": format!("provider-{name}")}}]);
            let spec = json!({"channelType": "voice", "enabled": true, "credentials": secret, "provisioningRetry": {"limit": 0}});
            let id = id_of(&rig.ready(&name, spec).await);
            let before = rig.count(operation);
            let fault = rig.sim.add_fault(Fault::on(operation, action.clone()).times(1));
            provoke(&mut rig, &name, operation, number).await;
            let once = matches!(operation, Operation::TestChannel | Operation::RetryProvisioning);
            let least = before + if once { 1 } else { 2 };
            rig.sim.wait_until(|sim| sim.count(operation) >= least, PATIENCE * 2).await.unwrap();
            after(&rig, &name, &id, operation, number, &action).await;
            rig.sim.remove_fault(fault);
            let calls = rig.count(operation) - before;
            assert!(!once || calls == 1, "{operation:?} {action:?}: {calls}");
        }
    }
    rig.finish().await;
}

async fn after(rig: &Rig, name: &str, id: &str, operation: Operation, number: usize, action: &Action) {
    match operation {
        Operation::UpdateChannel => {
            rig.reason(name, "Disabled").await;
            let remote = rig.sim.channel(id).unwrap();
            let wanted = (format!("Name {number}"), false);
            assert_eq!((remote.display_name, remote.enabled), wanted, "{action:?}");
        }
        Operation::StoreCredentials => {
            let wanted = format!("{PROVIDER}-{number}");
            let holds =
                |sim: &Sim| sim.channel(id).is_some_and(|c| c.credentials.get("apiKey") == Some(&wanted));
            rig.sim.wait_until(holds, PATIENCE).await.unwrap();
            rig.has(name, "CredentialsApplied", "Applied").await;
        }
        Operation::TestChannel => drop(rig.has(name, "Connected", "TestOutcomeUnknown").await),
        Operation::RetryProvisioning => {
            let handled = |channel: &ohallo_core::api::channel::Channel| {
                let provisioning = channel.status.as_ref().and_then(|status| status.provisioning.clone());
                provisioning.and_then(|p| p.handled_request) == Some(number.to_string())
            };
            rig.until(name, "handled", handled).await;
            looked(rig, name, &format!("after {number}")).await;
        }
        _ => rig.gone(name).await,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f04_a_create_that_lands_after_its_object_was_deleted_is_never_forgotten_silently() {
    let rig = Rig::start().await;
    let late = Action::LateCommit { after: Duration::from_secs(2) };
    rig.sim.add_fault(Fault::on(Operation::CreateChannel, late).times(1));
    rig.create("a", json!({})).await;
    rig.reason("a", "CreateOutcomeUnknown").await;
    rig.delete("a").await;
    let channel = rig.has("a", "DeletionBlocked", "CreateOutcomeUnknown").await;
    rig.sim.wait_until(|sim| sim.channel_count() == 1, PATIENCE).await.unwrap();
    looked(&rig, "a", "1").await;
    assert_eq!(rig.count(Operation::CreateChannel), 1);
    let attempt = format!("{}/1", crate::acts::uid(&channel));
    rig.annotate("a", crate::acts::RELEASE, &attempt).await;
    rig.gone("a").await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f04_f37_an_old_update_and_an_old_push_that_land_late_are_overwritten() {
    let rig = Rig::start().await;
    rig.secret("provider", &[("apiKey", "first-provider-key")]).await;
    let spec = json!({"enabled": true, "credentials": [{"secretRef": {"name": "provider"}}]});
    let id = id_of(&rig.ready("a", spec).await);
    // Later than the newer value, earlier than the end of the time in which it is expected.
    let late = || Action::LateCommit { after: Duration::from_secs(10) };
    rig.sim.add_fault(Fault::on(Operation::UpdateChannel, late()).times(1));
    rig.sim.add_fault(Fault::on(Operation::StoreCredentials, late()).times(1));
    let calls = |operation| rig.count(operation);
    let before = (calls(Operation::UpdateChannel), calls(Operation::StoreCredentials));
    rig.edit("a", json!({"spec": {"enabled": false}})).await;
    rig.sim.wait_until(|sim| sim.count(Operation::UpdateChannel) > before.0, PATIENCE).await.unwrap();
    rig.edit("a", json!({"spec": {"enabled": true}})).await;
    rig.secret("provider", &[("apiKey", "second-provider-key")]).await;
    rig.sim.wait_until(|sim| sim.count(Operation::StoreCredentials) > before.1, PATIENCE).await.unwrap();
    rig.secret("provider", &[("apiKey", "third-provider-key")]).await;
    let landed = |sim: &Sim| {
        let committed = |entry: &ohallo_sim::Entry| entry.fault.is_some() && entry.committed;
        sim.ledger().iter().filter(|entry| committed(entry)).count() == 2
    };
    rig.sim.wait_until(landed, PATIENCE).await.unwrap();
    let newest = |sim: &Sim| {
        let channel = sim.channel(&id).unwrap();
        channel.enabled && channel.credentials["apiKey"] == "third-provider-key"
    };
    rig.sim.wait_until(newest, Duration::from_secs(120)).await.unwrap();
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f02_an_enabled_that_was_sent_and_never_told_is_sent_again_though_the_manifest_is_as_it_was() {
    let mut rig = Rig::start().await;
    let id = id_of(&rig.ready("a", json!({"enabled": true})).await);
    let hold =
        rig.sim.add_fault(Fault::on(Operation::UpdateChannel, Action::Hold { commit_first: true }).times(1));
    rig.edit("a", json!({"spec": {"enabled": false}})).await;
    rig.sim.held(hold).await.unwrap();
    assert!(!rig.sim.channel(&id).unwrap().enabled);
    rig.kill_operator();
    rig.edit("a", json!({"spec": {"enabled": true}})).await;
    rig.sim.release(hold);
    rig.start_operator().await;
    rig.reason("a", "Available").await;
    assert!(rig.sim.channel(&id).unwrap().enabled, "Ready says that it is as declared");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f04_an_old_enabled_that_lands_after_a_restart_is_overwritten_though_the_manifest_is_as_it_was() {
    let mut rig = Rig::start().await;
    let id = id_of(&rig.ready("a", json!({"enabled": true})).await);
    let late = Action::LateCommit { after: Duration::from_secs(8) };
    rig.sim.add_fault(Fault::on(Operation::UpdateChannel, late).times(1));
    rig.sim.add_fault(Fault::on(Operation::UpdateChannel, Action::status(503)));
    rig.edit("a", json!({"spec": {"enabled": false}})).await;
    rig.sim.wait_until(|sim| sim.count(Operation::UpdateChannel) >= 2, PATIENCE).await.unwrap();
    rig.until("a", "told", |channel| crate::acts::is(channel, "Reconciling").is_some()).await;
    rig.kill_operator();
    rig.edit("a", json!({"spec": {"enabled": true}})).await;
    rig.sim.clear_faults();
    rig.start_operator().await;
    rig.reason("a", "Available").await;
    rig.sim.wait_until(|sim| !sim.channel(&id).unwrap().enabled, PATIENCE).await.unwrap();
    rig.sim.wait_until(|sim| sim.channel(&id).unwrap().enabled, Duration::from_secs(90)).await.unwrap();
    rig.finish().await;
}
