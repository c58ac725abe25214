//! Two replicas of the chart, and what becomes of the work when a Deployment replaces them one by one.

use ohallo_sim::{Action, Config, Fault, Operation};
use serde_json::{Value, json};
use testbed::User;

use crate::support::clusters::{empty, end, established, kubectl};
use crate::support::harness::{Harness, id_of};
use crate::support::helm::{CHART, OPERATOR_NAMESPACE, RELEASE, on, stored_arguments};
use crate::support::program::Program;

const LEADS: &str = "this replica: leader";
const IS_STANDBY: &str = "this replica: standby";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_update_transfers_leadership_and_repeats_no_call() {
    let plane = empty().await;
    let install = ["install", RELEASE, CHART, "-n", OPERATOR_NAMESPACE, "--create-namespace"];
    let values = ["--set", "replicas=2,podDisruptionBudget.enabled=true"];
    on(plane, &[install.as_slice(), &values].concat());
    established(plane);
    let harness = Harness::on(plane, Config::default(), &[]).await;
    let url = format!("ohallo.apiUrl={}", harness.sim.url());
    on(plane, &["upgrade", RELEASE, CHART, "-n", OPERATOR_NAMESPACE, "--reuse-values", "--set", &url]);
    one_at_a_time(&kubectl(plane, &["get", "deployment,pdb", "-n", OPERATOR_NAMESPACE, "-o", "json"]));
    harness
        .put_secret(json!({"metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": harness.key}}))
        .await;
    harness.workspace("default", "ohallo-api-key").await;
    let flags = stored_arguments(plane);
    let pod = |name: &str| Program::named(plane, User::Operator, name, &flags);

    let mut first = pod("old-1");
    first.until("/readyz", 200, LEADS).await;
    let mut second = pod("old-2");
    second.until("/readyz", 200, IS_STANDBY).await;
    let a = id_of(&harness.ready("a", json!({})).await);
    // The new pod is ready before an old one gets its SIGTERM, which happens in the middle of a create.
    let mut third = pod("new-1");
    third.until("/readyz", 200, IS_STANDBY).await;
    let held = harness
        .sim
        .add_fault(Fault::on(Operation::CreateChannel, Action::Hold { commit_first: true }).times(1));
    harness.create("b", json!({})).await;
    harness.sim.held(held).await.unwrap();
    first.terminate();
    second.until("/readyz", 200, IS_STANDBY).await;
    third.until("/readyz", 200, IS_STANDBY).await;
    harness.sim.release(held);
    assert_eq!(first.ended().await.0, Some(0), "{}", first.log());
    harness.reason("b", "Available").await;
    harness.ready("c", json!({})).await;

    let mut fourth = pod("new-2");
    fourth.until("/readyz", 200, IS_STANDBY).await;
    second.terminate();
    assert_eq!(second.ended().await.0, Some(0), "{}", second.log());
    harness.ready("d", json!({})).await;
    harness.edit("a", json!({"spec": {"displayName": "Renamed"}})).await;
    assert_eq!(id_of(&harness.reason("a", "Available").await), a);
    assert_eq!((harness.count(Operation::CreateChannel), harness.sim.channel_count()), (4, 4), "one each");
    assert_eq!(harness.count(Operation::UpdateChannel), 1);
    for name in ["a", "b", "c", "d"] {
        harness.delete_and_wait(name).await;
    }
    assert_eq!((harness.count(Operation::DeleteChannel), harness.sim.channel_count()), (4, 0));
    for program in [&mut third, &mut fourth] {
        program.terminate();
        assert_eq!(program.ended().await.0, Some(0), "{}", program.log());
    }
    harness.finish().await;
    end(plane).await;
}

/// That a Deployment of two adds one before it takes one, and that a drain may take one as well.
fn one_at_a_time(list: &str) {
    let list: Value = serde_json::from_str(list).unwrap();
    let items = list["items"].as_array().unwrap();
    let spec = |kind: &str| &items.iter().find(|object| object["kind"] == kind).unwrap()["spec"];
    let deployment = spec("Deployment");
    assert_eq!(deployment["replicas"], 2);
    // Of two, a quarter more is one more, and a quarter less is none less.
    assert_eq!(
        deployment["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}})
    );
    assert_eq!(spec("PodDisruptionBudget")["maxUnavailable"], 1);
}
