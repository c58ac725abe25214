//! F22 and F36, further: what the API server never takes, or answers late.

use std::time::Duration;

use ohallo_sim::{Action, Config, Fault, Operation};
use serde_json::json;
use testbed::{Act, Rule, When};

use crate::acts::{LOOK, is, so};
use crate::binary::Program;
use crate::rig::{Rig, bound, id_of, message};

fn answer(code: u16) -> Act {
    Act::Answer { code, body: String::new() }
}

/// I11, toward the API server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f22_a_status_that_is_never_taken_is_written_ever_more_seldom() {
    let rig = Rig::proxied(Config::default(), &[]).await;
    rig.ready("a", json!({})).await;
    let refuse = |part| rig.proxy().add(Rule::any(When::Before, answer(503)).part(part));
    let rules = [refuse("/channels/a/status"), refuse("/workspaces/default/status")];
    rig.edit("a", json!({"spec": {"displayName": "Later"}})).await;
    rig.sim.revoke_key(&rig.key);
    rig.ask_workspace("default", "1").await;
    for rule in &rules {
        rig.eventually("three tries", || async { (rule.met() >= 3).then_some(()) }).await;
    }
    tokio::time::sleep(Duration::from_secs(8)).await;
    let met = rules.each_ref().map(|rule| rule.met());
    assert!(met.iter().all(|tries| *tries <= 15), "it hammers the API server: {met:?}");
    rig.sim.restore_key(&rig.key);
    for rule in rules {
        rule.release();
    }
    rig.ask_workspace("default", "2").await;
    rig.reason("a", "Available").await;
    rig.workspace_reason("default", "Verified").await;
    rig.finish().await;
}

/// As by a policy for admission that knows nothing of the operator.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f22_metadata_that_a_policy_refuses_is_told_of_and_written_ever_more_seldom() {
    let rig = Rig::proxied(Config::default(), &[]).await;
    let refuse =
        || rig.proxy().add(Rule::any(When::Before, answer(422)).method("PATCH").part("/channels/a?"));
    let few = async |rule: &testbed::Held| {
        rig.eventually("three tries", || async { (rule.met() >= 3).then_some(()) }).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(rule.met() <= 12, "it hammers the API server: {}", rule.met());
    };
    let rule = refuse();
    rig.create("a", json!({})).await;
    let told = rig.reason("a", "InternalError").await;
    assert!(message(&told, "Ready").contains("422"), "{}", message(&told, "Ready"));
    few(&rule).await;
    assert_eq!(rig.count(Operation::CreateChannel), 0, "nothing is sent without its intent");
    rule.release();
    rig.reason("a", "Available").await;
    let rule = refuse();
    rig.delete("a").await;
    rig.until("a", "blocked", |channel| is(channel, "DeletionBlocked") == so("True", "ApiUnavailable")).await;
    few(&rule).await;
    rule.release();
    rig.gone("a").await;
    assert_eq!((rig.count(Operation::CreateChannel), rig.count(Operation::DeleteChannel)), (1, 1));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f22_an_id_is_written_even_where_the_rest_of_its_status_is_refused() {
    let rig = Rig::proxied(Config::default(), &[]).await;
    let hold = rig.sim.add_fault(Fault::on(Operation::CreateChannel, Action::Hold { commit_first: true }));
    rig.create("a", json!({})).await;
    rig.sim.held(hold).await.unwrap();
    let rule = rig.proxy().add(Rule::any(When::Before, answer(422)).part("/a/status").times(1));
    // Watched from before it is written: the next write adds the rest.
    let (channel, ()) = tokio::join!(rig.until("a", "bound", |channel| bound(channel).is_some()), async {
        rig.sim.release(hold);
    });
    assert_eq!((rule.met(), channel.status.and_then(|status| status.state)), (1, None), "it is cut down");
    rig.reason("a", "Available").await;
    assert_eq!((rig.count(Operation::CreateChannel), rig.sim.channel_count()), (1, 1));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f36_a_secret_that_changes_while_it_is_read_is_read_again() {
    let rig = Rig::proxied(Config::default(), &[]).await;
    rig.secret("provider", &[("apiKey", "first-value-of-the-key-1")]).await;
    let late =
        rig.proxy().add(Rule::any(When::After, Act::Hold).method("GET").part("/secrets/provider").times(1));
    rig.create("a", json!({"credentials": [{"secretRef": {"name": "provider"}}]})).await;
    late.reached().await.unwrap();
    rig.secret("provider", &[("apiKey", "second-value-of-the-key-2")]).await;
    // Time for the watch to tell of it; if it does not, this test shows less.
    tokio::time::sleep(Duration::from_secs(1)).await;
    late.release();
    let id = id_of(&rig.reason("a", "Available").await);
    rig.eventually("the newest content", || async {
        let channel = rig.sim.channel(&id)?;
        (channel.credentials.get("apiKey")? == "second-value-of-the-key-2").then_some(())
    })
    .await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f22_two_operators_do_not_fight_over_the_finalizer_of_a_workspace() {
    let rig = Rig::start().await;
    rig.ready("a", json!({})).await;
    // It serves none of the Channels there, and knows of no user.
    let flags = [
        format!("--api-url={}", rig.sim.url()),
        format!("--namespace={}", rig.namespace),
        "--channel-selector=team=another".to_owned(),
    ];
    let program = Program::start(rig.plane, &flags);
    program.until("/readyz", 200, "workspaces: ok").await;
    rig.annotate("a", LOOK, "1").await;
    for value in ["1", "2", "3"] {
        rig.ask_workspace("default", value).await;
        rig.workspace_reason("default", "Verified").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let marks =
        rig.writes_of("default").into_iter().filter(|write| write == "patch workspaces default 200").count();
    assert_eq!(marks, 1, "the finalizer was set once: {:?}", rig.writes_of("default"));
    drop(program);
    rig.finish().await;
}
