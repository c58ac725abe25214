//! Every answer that oHallo may give to a read and to an update of a channel that exists.

use ohallo_sim::{Action, Config, Fault, Operation};
use serde_json::json;

use crate::support::harness::{Harness, id_of, message};
use crate::support::steps::{
    RECONCILE_REQUESTED, has_finalizer, reconcile_now, single_event, state, state_of,
};

const GET: Operation = Operation::GetChannel;
const PATCH: Operation = Operation::UpdateChannel;

fn answers(commit: bool) -> Vec<(Action, &'static str, &'static str)> {
    let status = |code| Action::Status { code, body: None, headers: Vec::new(), commit };
    let body = |body: &str| Action::Body {
        code: 200,
        body: body.into(),
        content_type: "application/json".into(),
        commit,
    };
    vec![
        (status(500), "Unknown", "ApiUnavailable"),
        (status(503), "Unknown", "ApiUnavailable"),
        (status(408), "Unknown", "ApiUnavailable"),
        (Action::Garbage { commit }, "Unknown", "UnexpectedResponse"),
        (body("[]"), "Unknown", "UnexpectedResponse"),
        (body(r#"{"id":"../x"}"#), "Unknown", "UnexpectedResponse"),
        (Action::Reset { commit }, "Unknown", "ApiUnavailable"),
        (Action::Hang { commit }, "Unknown", "ApiUnavailable"),
        (Action::Huge { bytes: 1 << 30 }, "Unknown", "UnexpectedResponse"),
        (Action::GzipBomb, "Unknown", "UnexpectedResponse"),
        (
            Action::Redirect { code: 302, location: "http://127.0.0.1:9/".into() },
            "Unknown",
            "UnexpectedResponse",
        ),
        (status(403), "False", "PermissionDenied"),
        (status(401), "False", "AuthenticationFailed"),
    ]
}

/// Edits a new Channel under the fault, then lifts it: the edit is applied automatically, or on request where a user had to act.
async fn edited(
    harness: &Harness,
    name: &str,
    operation: Operation,
    action: Action,
    status: &str,
    reason: &str,
) {
    let channel = harness.ready(name, json!({"enabled": true})).await;
    let id = id_of(&channel);
    let fault = harness.sim.add_fault(Fault::on(operation, action.clone()));
    harness.edit(name, json!({"spec": {"displayName": "New", "enabled": false}})).await;
    let what = format!("{status} {reason} after {action:?}");
    let channel =
        harness.until(name, &what, |channel| state_of(channel, "Ready") == state(status, reason)).await;
    assert!(has_finalizer(&channel) && id_of(&channel) == id, "{what}");
    assert_eq!(state_of(&channel, "Stalled").is_some(), status == "False", "{what}");
    assert!(message(&channel, "Ready").len() > 20, "{what}");
    harness.sim.remove_fault(fault);
    if status == "False" {
        single_event(harness, name, reason).await;
        harness.annotate(name, RECONCILE_REQUESTED, "1").await;
    }
    let channel = harness.reason(name, "Disabled").await;
    assert_eq!(id_of(&channel), id);
    let remote = harness.sim.channel(&id).unwrap();
    assert_eq!((remote.display_name.as_str(), remote.enabled), ("New", false), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_fails_changes_nothing_and_is_retried() {
    let harness = Harness::with(Config::default(), &["--request-timeout=1"]).await;
    for (number, (action, status, reason)) in answers(false).into_iter().enumerate() {
        edited(&harness, &format!("c{number}"), GET, action, status, reason).await;
    }
    assert_eq!((harness.count(Operation::CreateChannel), harness.sim.channels().len()), (13, 13));
    assert_eq!(harness.count(Operation::DeleteChannel), 0);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_that_fails_is_retried_whether_it_took_effect_or_not() {
    let harness = Harness::with(Config::default(), &["--request-timeout=1"]).await;
    for (number, (action, status, reason)) in answers(false).into_iter().chain(answers(true)).enumerate() {
        // One that took effect can't be refused.
        if matches!(action, Action::Status { code: 401 | 403, commit: true, .. }) {
            continue;
        }
        edited(&harness, &format!("c{number}"), PATCH, action, status, reason).await;
    }
    assert_eq!(harness.count(Operation::CreateChannel), harness.sim.channels().len());
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_that_is_refused_stalls_with_the_reason_and_is_sent_again_when_the_manifest_changes() {
    let harness = Harness::start().await;
    for code in [400, 409, 413, 415, 422] {
        let name = format!("c{code}");
        let id = id_of(&harness.ready(&name, json!({})).await);
        let body = Some(json!({"error": "displayName: no such luck"}).to_string());
        let action = Action::Status { code, body, headers: Vec::new(), commit: false };
        let fault = harness.sim.add_fault(Fault::on(PATCH, action));
        let before = harness.count(PATCH);
        harness.edit(&name, json!({"spec": {"displayName": "Refused"}})).await;
        let channel = harness.reason(&name, "ValidationFailed").await;
        assert_eq!(state_of(&channel, "Stalled"), state("True", "ValidationFailed"));
        assert!(message(&channel, "Ready").contains("no such luck"), "{}", message(&channel, "Ready"));
        assert_eq!(harness.count(PATCH), before + 1);
        harness.sim.remove_fault(fault);
        harness.edit(&name, json!({"spec": {"displayName": "Better"}})).await;
        harness.reason(&name, "Available").await;
        assert_eq!(harness.sim.channel(&id).unwrap().display_name, "Better");
        single_event(&harness, &name, "ValidationFailed").await;
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_ohallo_does_not_support_are_reported() {
    let harness = Harness::start().await;
    for code in [405, 501] {
        let name = format!("c{code}");
        harness.ready(&name, json!({})).await;
        let fault = harness.sim.add_fault(Fault::on(PATCH, Action::status(code)));
        harness.edit(&name, json!({"spec": {"displayName": "New"}})).await;
        let channel = harness.reason(&name, "UnexpectedResponse").await;
        assert!(message(&channel, "Ready").contains(&code.to_string()));
        harness.sim.remove_fault(fault);
        harness.annotate(&name, RECONCILE_REQUESTED, "1").await;
        harness.reason(&name, "Available").await;
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rate_limits_pause_and_keep_what_is_ready() {
    let harness = Harness::start().await;
    harness.ready("a", json!({})).await;
    for (number, (code, wait)) in
        [(429, "0"), (429, "-1"), (429, "soon"), (429, "Thu, 01 Jan 1970 00:00:00 GMT"), (503, "1")]
            .into_iter()
            .enumerate()
    {
        harness.sim.add_fault(Fault::on(GET, Action::retry_after(code, wait)).times(1));
        let good = |sim: &ohallo_sim::Sim| {
            sim.ledger().iter().filter(|call| call.operation == GET && call.status == Some(200)).count()
        };
        let before = good(&harness.sim);
        let channel = reconcile_now(&harness, "a", &number.to_string()).await;
        assert_eq!(state_of(&channel, "Ready"), state("True", "Available"), "{code} {wait}");
        harness
            .sim
            .wait_until(|sim| good(sim) > before, crate::support::harness::WAIT_TIMEOUT)
            .await
            .unwrap_or_else(|error| panic!("{code} {wait}: {error}"));
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_few_failed_reads_keep_ready_and_more_do_not() {
    let harness = Harness::start().await;
    harness.ready("a", json!({})).await;
    let fault = harness.sim.add_fault(Fault::on(GET, Action::status(500)));
    let channel = reconcile_now(&harness, "a", "1").await;
    assert_eq!(state_of(&channel, "Ready"), state("True", "Available"));
    let channel = harness.reason("a", "ApiUnavailable").await;
    assert_eq!(state_of(&channel, "Ready"), state("Unknown", "ApiUnavailable"));
    assert!(harness.count(GET) >= 4);
    harness.sim.remove_fault(fault);
    harness.reason("a", "Available").await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_key_stops_the_channels_calls_until_it_is_valid_again() {
    let harness = Harness::start().await;
    harness.ready("a", json!({})).await;
    harness.sim.revoke_key(&harness.key);
    harness.edit("a", json!({"spec": {"displayName": "New"}})).await;
    harness.workspace_reason("default", "AuthenticationFailed").await;
    harness.reason("a", "WorkspaceNotReady").await;
    harness.sim.restore_key(&harness.key);
    let asked =
        harness.kubectl(&["annotate", "workspace", "default", &format!("{RECONCILE_REQUESTED}=1")], None);
    assert!(asked.status.success());
    harness.reason("a", "Available").await;
    assert_eq!((harness.count(Operation::CreateChannel), harness.sim.channels().len()), (1, 1));
    harness.finish().await;
}
