//! F22 and F36, further: what the API server never takes, or answers late.

use std::time::Duration;

use ohallo_sim::{Action, Config, Fault, Operation};
use serde_json::json;
use testbed::{Act, Rule, When};

use crate::support::harness::{Harness, bound, id_of, message};
use crate::support::program::Program;
use crate::support::steps::{RECONCILE_REQUESTED, state, state_of};

fn answer(code: u16) -> Act {
    Act::Answer { code, body: String::new() }
}

/// I11, toward the API server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f22_a_status_that_is_never_accepted_is_written_with_growing_backoff() {
    let harness = Harness::proxied(Config::default(), &[]).await;
    harness.ready("a", json!({})).await;
    let refuse = |part| harness.proxy().add(Rule::any(When::Before, answer(503)).part(part));
    let rules = [refuse("/channels/a/status"), refuse("/workspaces/default/status")];
    harness.edit("a", json!({"spec": {"displayName": "Later"}})).await;
    harness.sim.revoke_key(&harness.key);
    harness.ask_workspace("default", "1").await;
    for rule in &rules {
        harness.eventually("three tries", || async { (rule.met() >= 3).then_some(()) }).await;
    }
    tokio::time::sleep(Duration::from_secs(8)).await;
    let met = rules.each_ref().map(|rule| rule.met());
    assert!(met.iter().all(|tries| *tries <= 15), "it hammers the API server: {met:?}");
    harness.sim.restore_key(&harness.key);
    for rule in rules {
        rule.release();
    }
    harness.ask_workspace("default", "2").await;
    harness.reason("a", "Available").await;
    harness.workspace_reason("default", "Verified").await;
    harness.finish().await;
}

/// As by a policy for admission that knows nothing of the operator.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f22_metadata_that_a_policy_rejects_is_reported_and_written_with_growing_backoff() {
    let harness = Harness::proxied(Config::default(), &[]).await;
    let refuse =
        || harness.proxy().add(Rule::any(When::Before, answer(422)).method("PATCH").part("/channels/a?"));
    let few = async |rule: &testbed::Held| {
        harness.eventually("three tries", || async { (rule.met() >= 3).then_some(()) }).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(rule.met() <= 12, "it hammers the API server: {}", rule.met());
    };
    let rule = refuse();
    harness.create("a", json!({})).await;
    let failing = harness.reason("a", "InternalError").await;
    assert!(message(&failing, "Ready").contains("422"), "{}", message(&failing, "Ready"));
    few(&rule).await;
    assert_eq!(harness.count(Operation::CreateChannel), 0, "nothing is sent without its intent");
    rule.release();
    harness.reason("a", "Available").await;
    let rule = refuse();
    harness.delete("a").await;
    harness
        .until("a", "blocked", |channel| {
            state_of(channel, "DeletionBlocked") == state("True", "ApiUnavailable")
        })
        .await;
    few(&rule).await;
    rule.release();
    harness.wait_deleted("a").await;
    assert_eq!((harness.count(Operation::CreateChannel), harness.count(Operation::DeleteChannel)), (1, 1));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f22_an_id_is_written_even_where_the_rest_of_its_status_is_rejected() {
    let harness = Harness::proxied(Config::default(), &[]).await;
    let hold =
        harness.sim.add_fault(Fault::on(Operation::CreateChannel, Action::Hold { commit_first: true }));
    harness.create("a", json!({})).await;
    harness.sim.held(hold).await.unwrap();
    let rule = harness.proxy().add(Rule::any(When::Before, answer(422)).part("/a/status").times(1));
    // Watched from before it is written: the next write adds the rest.
    let (channel, ()) =
        tokio::join!(harness.until("a", "bound", |channel| bound(channel).is_some()), async {
            harness.sim.release(hold);
        });
    assert_eq!((rule.met(), channel.status.and_then(|status| status.state)), (1, None), "it is cut down");
    harness.reason("a", "Available").await;
    assert_eq!((harness.count(Operation::CreateChannel), harness.sim.channel_count()), (1, 1));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f36_a_secret_that_changes_while_it_is_read_is_read_again() {
    let harness = Harness::proxied(Config::default(), &[]).await;
    harness.secret("provider", &[("apiKey", "first-value-of-the-key-1")]).await;
    let late = harness
        .proxy()
        .add(Rule::any(When::After, Act::Hold).method("GET").part("/secrets/provider").times(1));
    harness.create("a", json!({"credentials": [{"secretRef": {"name": "provider"}}]})).await;
    late.reached().await.unwrap();
    harness.secret("provider", &[("apiKey", "second-value-of-the-key-2")]).await;
    // Time for the watch to deliver it; if it does not, this test shows less.
    tokio::time::sleep(Duration::from_secs(1)).await;
    late.release();
    let id = id_of(&harness.reason("a", "Available").await);
    harness
        .eventually("the newest content", || async {
            let channel = harness.sim.channel(&id)?;
            (channel.credentials.get("apiKey")? == "second-value-of-the-key-2").then_some(())
        })
        .await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f22_two_operators_do_not_fight_over_the_finalizer_of_a_workspace() {
    let harness = Harness::start().await;
    harness.ready("a", json!({})).await;
    // It serves none of the Channels there, and knows of no user.
    let flags = [
        format!("--api-url={}", harness.sim.url()),
        format!("--namespace={}", harness.namespace),
        "--channel-selector=team=another".to_owned(),
    ];
    let program = Program::start(harness.plane, &flags);
    program.until("/readyz", 200, "workspaces: ok").await;
    harness.annotate("a", RECONCILE_REQUESTED, "1").await;
    for value in ["1", "2", "3"] {
        harness.ask_workspace("default", value).await;
        harness.workspace_reason("default", "Verified").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let finalizer_writes = harness
        .writes_of("default")
        .into_iter()
        .filter(|write| write == "patch workspaces default 200")
        .count();
    assert_eq!(finalizer_writes, 1, "the finalizer was set once: {:?}", harness.writes_of("default"));
    drop(program);
    harness.finish().await;
}
