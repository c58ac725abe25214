//! Two replicas of the chart, and what becomes of the work when a Deployment replaces them one by one.

use ohallo_sim::{Action, Config, Fault, Operation};
use serde_json::{Value, json};
use testbed::User;

use super::install::{empty, end, established, kubectl};
use super::{CHART, HOME, RELEASE, on, stored_arguments};
use crate::binary::Program;
use crate::rig::{Rig, id_of};

const LEADS: &str = "this replica: leader";
const STANDS_BY: &str = "this replica: standby";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_update_hands_the_work_over_and_repeats_no_call() {
    let plane = empty().await;
    let install = ["install", RELEASE, CHART, "-n", HOME, "--create-namespace"];
    let values = ["--set", "replicas=2,podDisruptionBudget.enabled=true"];
    on(plane, &[install.as_slice(), &values].concat());
    established(plane);
    let rig = Rig::on(plane, Config::default(), &[]).await;
    let url = format!("ohallo.apiUrl={}", rig.sim.url());
    on(plane, &["upgrade", RELEASE, CHART, "-n", HOME, "--reuse-values", "--set", &url]);
    one_at_a_time(&kubectl(plane, &["get", "deployment,pdb", "-n", HOME, "-o", "json"]));
    rig.put_secret(json!({"metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": rig.key}})).await;
    rig.workspace("default", "ohallo-api-key").await;
    let flags = stored_arguments(plane);
    let pod = |name: &str| Program::named(plane, User::Operator, name, &flags);

    let mut first = pod("old-1");
    first.until("/readyz", 200, LEADS).await;
    let mut second = pod("old-2");
    second.until("/readyz", 200, STANDS_BY).await;
    let a = id_of(&rig.ready("a", json!({})).await);
    // The new pod is ready before an old one is told to go, which happens in the middle of a create.
    let mut third = pod("new-1");
    third.until("/readyz", 200, STANDS_BY).await;
    let held =
        rig.sim.add_fault(Fault::on(Operation::CreateChannel, Action::Hold { commit_first: true }).times(1));
    rig.create("b", json!({})).await;
    rig.sim.held(held).await.unwrap();
    first.terminate();
    second.until("/readyz", 200, STANDS_BY).await;
    third.until("/readyz", 200, STANDS_BY).await;
    rig.sim.release(held);
    assert_eq!(first.ended().await.0, Some(0), "{}", first.log());
    rig.reason("b", "Available").await;
    rig.ready("c", json!({})).await;

    let mut fourth = pod("new-2");
    fourth.until("/readyz", 200, STANDS_BY).await;
    second.terminate();
    assert_eq!(second.ended().await.0, Some(0), "{}", second.log());
    rig.ready("d", json!({})).await;
    rig.edit("a", json!({"spec": {"displayName": "Renamed"}})).await;
    assert_eq!(id_of(&rig.reason("a", "Available").await), a);
    assert_eq!((rig.count(Operation::CreateChannel), rig.sim.channel_count()), (4, 4), "one each");
    assert_eq!(rig.count(Operation::UpdateChannel), 1);
    for name in ["a", "b", "c", "d"] {
        rig.deleted(name).await;
    }
    assert_eq!((rig.count(Operation::DeleteChannel), rig.sim.channel_count()), (4, 0));
    for program in [&mut third, &mut fourth] {
        program.terminate();
        assert_eq!(program.ended().await.0, Some(0), "{}", program.log());
    }
    rig.finish().await;
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
