//! Argo CD applies Channels: wave by wave, with their health and actions; it corrects and prunes.

use ohallo_sim::{Action, Fault, Operation};
use serde_json::json;

use super::*;

fn operation(argo: &ArgoCd) -> Value {
    argo.application()["status"]["operationState"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "builds Argo CD for minutes, once, and needs redis-server; .ci/full runs it"]
async fn argo_cd_follows_the_waves_judges_acts_corrects_and_prunes() {
    let argo = ArgoCd::start().await;
    let harness = &argo.harness;

    // The Channels wait until the Workspace of the wave before is healthy.
    let hold =
        harness.sim.add_fault(Fault::on(Operation::GetWorkspace, Action::Hold { commit_first: false }));
    let a = harness.manifest("a", json!({}));
    let inputs = argo.inputs();
    argo.git.commit(&[&inputs[..], std::slice::from_ref(&a)].concat());
    argo.create_application(&[]);
    assert!(harness.sim.held(hold).await.is_ok(), "{}", argo.application()["status"]);
    harness
        .eventually("it waits for the Workspace", || async {
            let message = operation(&argo)["message"].as_str()?.to_owned();
            message.contains("waiting for healthy state of ohallo.eu/Workspace/default").then_some(())
        })
        .await;
    assert!(!harness.kubectl(&["get", "channel.ohallo.eu", "a"], None).status.success());
    harness.sim.release(hold);

    // A Channel that needs a user.
    let large = harness.manifest("b", json!({"config": {"text": "x".repeat(70_000)}}));
    let both = argo.git.commit(&[&inputs[..], &[a.clone(), large]].concat());
    argo.refresh();
    argo.until(&both, "Synced", "Degraded").await;
    let (health, message) = argo.health("b").await.unwrap();
    assert_eq!(health, "Degraded");
    assert!(message.contains("ValidationFailed"), "{message}");
    assert_eq!(argo.health("a").await.unwrap().0, "Healthy");

    // What is taken out of Git goes.
    let one = argo.git.commit(&[&inputs[..], std::slice::from_ref(&a)].concat());
    argo.refresh();
    argo.until(&one, "Synced", "Healthy").await;
    harness.wait_deleted("b").await;

    // The actions do what their annotations ask for, and are no difference to Git.
    let reads = harness.count(Operation::GetChannel);
    argo.act("a", "reconcile").await;
    harness
        .eventually("it is read again", || async {
            (harness.count(Operation::GetChannel) > reads).then_some(())
        })
        .await;
    let tests = harness.count(Operation::TestChannel);
    argo.act("a", "test").await;
    harness
        .eventually("it is tested", || async {
            (harness.count(Operation::TestChannel) > tests).then_some(())
        })
        .await;
    argo.refresh();
    argo.until(&one, "Synced", "Healthy").await;

    // A manual change is reverted, also in oHallo.
    let by_hand = harness.edit("a", json!({"spec": {"displayName": "By hand"}})).await.metadata.generation;
    harness
        .until("a", "as in Git", |channel| {
            channel.spec.display_name.as_deref() == Some("Channel a") && channel.metadata.generation > by_hand
        })
        .await;
    let in_ohallo = |name: &str| harness.sim.channels().iter().all(|channel| channel.display_name == name);
    harness.eventually("it is as in Git in oHallo", || async { in_ohallo("Channel a").then_some(()) }).await;

    // A change in Git arrives there.
    let renamed = harness.manifest("a", json!({"displayName": "Support"}));
    let commit = argo.git.commit(&[&inputs[..], &[renamed]].concat());
    argo.refresh();
    argo.until(&commit, "Synced", "Healthy").await;
    assert!(in_ohallo("Support"), "healthy, and oHallo has the old name");
    argo.finish().await;
}
