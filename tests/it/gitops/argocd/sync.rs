//! Argo CD applies Channels: wave by wave, with their health and actions; it corrects and prunes.

use kube::ResourceExt;
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
    argo.refresh().await;
    argo.until(&both, "Synced", "Degraded").await;
    let (health, message) = argo.health("b").await.unwrap();
    assert_eq!(health, "Degraded");
    assert!(message.contains("ValidationFailed"), "{message}");
    harness
        .eventually("the other is healthy", || async {
            argo.health("a").await.filter(|(health, _)| health == "Healthy").map(drop)
        })
        .await;

    // What is removed from Git is deleted.
    let one = argo.git.commit(&[&inputs[..], std::slice::from_ref(&a)].concat());
    argo.refresh().await;
    argo.until(&one, "Synced", "Healthy").await;
    harness.wait_deleted("b").await;

    // The actions do what their annotations ask for, and are no difference to Git.
    for (action, call) in [("reconcile", Operation::GetChannel), ("test", Operation::TestChannel)] {
        let before = harness.count(call);
        argo.act("a", action).await;
        harness.eventually(action, || async { (harness.count(call) > before).then_some(()) }).await;
    }
    let synced = operation(&argo)["startedAt"].clone();
    argo.refresh().await;
    argo.until(&one, "Synced", "Healthy").await;
    assert_eq!(operation(&argo)["startedAt"], synced, "it has synced again");
    for asked in ["ohallo.eu/reconcile-requested-at", "ohallo.eu/test-requested-at"] {
        assert!(harness.get("a").await.annotations().contains_key(asked), "{asked}");
    }

    // A manual change is reverted, also in oHallo.
    let names =
        || harness.sim.channels().iter().map(|channel| channel.display_name.clone()).collect::<Vec<_>>();
    let hold =
        harness.sim.add_fault(Fault::on(Operation::UpdateChannel, Action::Hold { commit_first: true }));
    harness.edit("a", json!({"spec": {"displayName": "By hand"}})).await;
    assert!(harness.sim.held(hold).await.is_ok(), "the change by hand was reverted before it was sent");
    harness.sim.release(hold);
    harness
        .eventually("it is as in Git", || async {
            let spec = harness.get("a").await.spec;
            (spec.display_name.as_deref() == Some("Channel a") && names() == ["Channel a"]).then_some(())
        })
        .await;

    // A change in Git arrives there.
    let renamed = harness.manifest("a", json!({"displayName": "Support"}));
    let commit = argo.git.commit(&[&inputs[..], &[renamed]].concat());
    argo.refresh().await;
    argo.until(&commit, "Synced", "Healthy").await;
    assert_eq!(names(), ["Support"], "healthy, and oHallo has the old name");
    argo.finish().await;
}
