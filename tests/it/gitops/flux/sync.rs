//! Flux applies Channels: it waits for Ready, fails at once, corrects and prunes.

use ohallo_client::clock;
use ohallo_sim::{Action, Fault, Operation};
use serde_json::json;

use super::*;
use crate::support::git_server::Git;
use crate::support::harness::{Harness, condition};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "builds Flux for minutes, once; .ci/full runs it"]
async fn flux_waits_for_ready_fails_at_once_corrects_and_prunes() {
    let harness = Harness::start().await;
    let git = Git::serve().await;
    let _flux = Flux::start(harness.plane, &harness.namespace);

    // It waits for Ready.
    let hold =
        harness.sim.add_fault(Fault::on(Operation::CreateChannel, Action::Hold { commit_first: false }));
    let a = harness.manifest("a", json!({}));
    let commit = git.commit(&[a.clone(), beside(&harness)]);
    apply(&harness, &git);
    let held = harness.sim.held(hold).await;
    assert!(held.is_ok(), "nothing is created: {}", kustomization(&harness)["status"]);
    harness
        .eventually("it checks the health", || async {
            let reconciling = flux_condition(&kustomization(&harness), "Reconciling")?;
            reconciling["message"].as_str()?.contains("health checks").then_some(())
        })
        .await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert_eq!(flux_condition(&kustomization(&harness), "Ready").unwrap()["status"], "Unknown");
    harness.sim.release(hold);
    ready(&harness, &commit).await;
    assert_eq!(condition(&harness.get("a").await, "Ready").map(|found| found.2), Some("Available"));

    // A Channel that needs a user fails it at once, not after the timeout.
    let large = json!({"config": {"text": "x".repeat(70_000)}});
    git.commit(&[a.clone(), harness.manifest("b", large), beside(&harness)]);
    let begun = clock::instant();
    ask(&harness, "gitrepository.source.toolkit.fluxcd.io");
    let failed = harness
        .eventually("it fails", || async {
            flux_condition(&kustomization(&harness), "Ready")
                .filter(|ready| ready["reason"] == "HealthCheckFailed")
        })
        .await;
    assert!(begun.elapsed().as_secs() < TIMEOUT_SECONDS / 4, "{:?}", begun.elapsed());
    let message = failed["message"].as_str().unwrap();
    assert!(message.contains(&format!("Channel/{}/b status: 'Failed'", harness.namespace)), "{message}");
    harness.reason("b", "ValidationFailed").await;

    // What is removed from Git is deleted.
    let commit = git.commit(&[a.clone(), beside(&harness)]);
    ask(&harness, "gitrepository.source.toolkit.fluxcd.io");
    ready(&harness, &commit).await;
    harness.wait_deleted("b").await;

    // A manual change is reverted.
    let insert_in_dashboard = harness.edit("a", json!({"spec": {"displayName": "By hand"}})).await;
    harness
        .until("a", "changed", |channel| {
            channel
                .status
                .as_ref()
                .is_some_and(|status| status.observed_generation == insert_in_dashboard.metadata.generation)
                && condition(channel, "Ready").is_some_and(|found| found.1 == "True")
        })
        .await;
    let name_in_ohallo = || harness.sim.channels()[0].display_name.clone();
    assert_eq!(name_in_ohallo(), "By hand");
    ask(&harness, "kustomization.kustomize.toolkit.fluxcd.io");
    harness
        .eventually("it is taken back", || async { (name_in_ohallo() == "Channel a").then_some(()) })
        .await;
    ready(&harness, &commit).await;

    // So does the channel in oHallo of the last one.
    let commit = git.commit(&[beside(&harness)]);
    ask(&harness, "gitrepository.source.toolkit.fluxcd.io");
    ready(&harness, &commit).await;
    harness.wait_deleted("a").await;
    assert!(harness.sim.channels().is_empty());
    harness.finish().await;
}
