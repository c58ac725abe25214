// I/O
//! F24: the cluster's data are put back to what they were, and the operator is started again.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use ohallo_operator::api::channel::Channel;
use ohallo_operator::api::workspace::Workspace;
use ohallo_sim::{Action, Config, Fault, Key, Operation, Sim};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use testbed::{ControlPlane, Options, User};

use crate::acts::{is, so};
use crate::binary::Program;
use crate::rig::{PATIENCE, TENANT, WORKSPACE, install};
use crate::{canary, leaks};

const KEY: &str = "sf_test_v1_of_the_restored_cluster";

async fn make<K>(client: &Client, object: Value)
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope> + Clone + std::fmt::Debug,
    K: DeserializeOwned + serde::Serialize,
    K::DynamicType: Default,
{
    let object: K = serde_json::from_value(object).unwrap();
    Api::<K>::namespaced(client.clone(), "default").create(&PostParams::default(), &object).await.unwrap();
}

async fn channel(client: &Client, name: &str) {
    let spec =
        json!({"channelType": "chat", "displayName": format!("Channel {name}"), "intervalSeconds": 60});
    let object = json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel", "metadata": {"name": name}, "spec": spec});
    make::<Channel>(client, object).await;
}

async fn until(client: &Client, name: &str, what: &str, holds: impl Fn(&Channel) -> bool) -> Channel {
    let api: Api<Channel> = Api::namespaced(client.clone(), "default");
    let looked = tokio::time::timeout(PATIENCE * 3, async {
        loop {
            if let Ok(Some(found)) = api.get_opt(name).await
                && holds(&found)
            {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    looked.await.unwrap_or_else(|_| panic!("{name} never became {what}"))
}

fn available(channel: &Channel) -> bool {
    let observed = channel.status.as_ref().and_then(|status| status.observed_generation);
    is(channel, "Ready") == so("True", "Available") && observed == channel.metadata.generation
}

fn bound(channel: &Channel) -> Option<String> {
    channel.status.as_ref()?.channel_id.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f24_a_cluster_restored_to_before_an_id_was_written_gets_no_second_channel() {
    let mut plane = ControlPlane::start(Options::default()).await.unwrap();
    install(&plane).await;
    let sim = Sim::start(Config::default()).await.unwrap();
    sim.add_workspace(TENANT, WORKSPACE, "Nordic Parts");
    sim.add_key(Key::new(KEY, TENANT));
    canary::register(KEY);
    let client = plane.client(User::Admin).unwrap();
    make::<Secret>(&client, json!({"metadata": {"name": "key"}, "stringData": {"apiKey": KEY}})).await;
    let place = json!({"workspaceId": WORKSPACE, "apiKeySecretRef": {"name": "key"}});
    let workspace = json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "Workspace", "metadata": {"name": "default"}, "spec": place});
    make::<Workspace>(&client, workspace).await;
    let flags = [format!("--api-url={}", sim.url()), "--requests-per-second=0".into()];
    let mut program = Program::start(&plane, &flags);
    channel(&client, "a").await;
    let a = bound(&until(&client, "a", "available", available).await).unwrap();
    let hold = sim.add_fault(Fault::on(Operation::CreateChannel, Action::Hold { commit_first: true }));
    channel(&client, "b").await;
    sim.held(hold).await.unwrap();
    let backup = plane.back_up().await.unwrap();
    sim.release(hold);
    let b = bound(&until(&client, "b", "available", available).await).unwrap();
    let api: Api<Channel> = Api::namespaced(client.clone(), "default");
    let later = Patch::Merge(json!({"spec": {"displayName": "Later"}}));
    api.patch("a", &PatchParams::default(), &later).await.unwrap();
    until(&client, "a", "updated", available).await;
    assert_eq!(sim.channel(&a).unwrap().display_name, "Later");

    leaks::dump(&plane).await;
    plane.restore(&backup).await.unwrap();
    // A watch that is ahead of the API server hears nothing: Kubernetes' own rule is to restart what watches.
    program.kill();
    drop(program);
    let program = Program::start(&plane, &flags);
    // What was declared then is what is declared now, and an object without its id is bound again or asks a person.
    let old = |sim: &Sim| sim.channel(&a).is_some_and(|channel| channel.display_name == "Channel a");
    sim.wait_until(old, PATIENCE * 3).await.unwrap();
    let decided = |channel: &Channel| {
        bound(channel).is_some_and(|id| id == b)
            || is(channel, "Stalled") == so("True", "CreateOutcomeUnknown")
    };
    until(&client, "b", "bound or parked", decided).await;
    until(&client, "a", "available", available).await;
    assert_eq!((sim.count(Operation::CreateChannel), sim.channel_count()), (2, 2));
    drop(program);
    leaks::dump(&plane).await;
    tokio::task::spawn_blocking(|| plane.stop()).await.unwrap();
}
