//! Every answer that oHallo may give to a read and to an update of a channel that exists.

use ohallo_sim::{Action, Config, Fault, Operation};
use serde_json::json;

use crate::acts::{LOOK, finalized, is, looked, once, so};
use crate::rig::{Rig, id_of, message};

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

/// Edits a new Channel under the fault, then lifts it: the edit is applied by itself, or when asked where a person had to act.
async fn edited(rig: &Rig, name: &str, operation: Operation, action: Action, status: &str, reason: &str) {
    let channel = rig.ready(name, json!({"enabled": true})).await;
    let id = id_of(&channel);
    let fault = rig.sim.add_fault(Fault::on(operation, action.clone()));
    rig.edit(name, json!({"spec": {"displayName": "New", "enabled": false}})).await;
    let what = format!("{status} {reason} after {action:?}");
    let channel = rig.until(name, &what, |channel| is(channel, "Ready") == so(status, reason)).await;
    assert!(finalized(&channel) && id_of(&channel) == id, "{what}");
    assert_eq!(is(&channel, "Stalled").is_some(), status == "False", "{what}");
    assert!(message(&channel, "Ready").len() > 20, "{what}");
    rig.sim.remove_fault(fault);
    if status == "False" {
        once(rig, name, reason).await;
        rig.annotate(name, LOOK, "1").await;
    }
    let channel = rig.reason(name, "Disabled").await;
    assert_eq!(id_of(&channel), id);
    let remote = rig.sim.channel(&id).unwrap();
    assert_eq!((remote.display_name.as_str(), remote.enabled), ("New", false), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_fails_changes_nothing_and_is_made_up_for() {
    let rig = Rig::with(Config::default(), &["--request-timeout=1"]).await;
    for (number, (action, status, reason)) in answers(false).into_iter().enumerate() {
        edited(&rig, &format!("c{number}"), GET, action, status, reason).await;
    }
    assert_eq!((rig.count(Operation::CreateChannel), rig.sim.channels().len()), (13, 13));
    assert_eq!(rig.count(Operation::DeleteChannel), 0);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_that_fails_is_sent_again_whether_it_took_effect_or_not() {
    let rig = Rig::with(Config::default(), &["--request-timeout=1"]).await;
    for (number, (action, status, reason)) in answers(false).into_iter().chain(answers(true)).enumerate() {
        // One that took effect can't be refused.
        if matches!(action, Action::Status { code: 401 | 403, commit: true, .. }) {
            continue;
        }
        edited(&rig, &format!("c{number}"), PATCH, action, status, reason).await;
    }
    assert_eq!(rig.count(Operation::CreateChannel), rig.sim.channels().len());
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_that_is_refused_stalls_with_the_reason_and_is_sent_again_when_the_manifest_changes() {
    let rig = Rig::start().await;
    for code in [400, 409, 413, 415, 422] {
        let name = format!("c{code}");
        let id = id_of(&rig.ready(&name, json!({})).await);
        let body = Some(json!({"error": "displayName: no such luck"}).to_string());
        let action = Action::Status { code, body, headers: Vec::new(), commit: false };
        let fault = rig.sim.add_fault(Fault::on(PATCH, action));
        let before = rig.count(PATCH);
        rig.edit(&name, json!({"spec": {"displayName": "Refused"}})).await;
        let channel = rig.reason(&name, "ValidationFailed").await;
        assert_eq!(is(&channel, "Stalled"), so("True", "ValidationFailed"));
        assert!(message(&channel, "Ready").contains("no such luck"), "{}", message(&channel, "Ready"));
        assert_eq!(rig.count(PATCH), before + 1);
        rig.sim.remove_fault(fault);
        rig.edit(&name, json!({"spec": {"displayName": "Better"}})).await;
        rig.reason(&name, "Available").await;
        assert_eq!(rig.sim.channel(&id).unwrap().display_name, "Better");
        once(&rig, &name, "ValidationFailed").await;
    }
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_ohallo_does_not_know_are_said_to_be_so() {
    let rig = Rig::start().await;
    for code in [405, 501] {
        let name = format!("c{code}");
        rig.ready(&name, json!({})).await;
        let fault = rig.sim.add_fault(Fault::on(PATCH, Action::status(code)));
        rig.edit(&name, json!({"spec": {"displayName": "New"}})).await;
        let channel = rig.reason(&name, "UnexpectedResponse").await;
        assert!(message(&channel, "Ready").contains(&code.to_string()));
        rig.sim.remove_fault(fault);
        rig.annotate(&name, LOOK, "1").await;
        rig.reason(&name, "Available").await;
    }
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rate_limits_pause_and_keep_what_is_ready() {
    let rig = Rig::start().await;
    rig.ready("a", json!({})).await;
    for (number, (code, wait)) in
        [(429, "0"), (429, "-1"), (429, "soon"), (429, "Thu, 01 Jan 1970 00:00:00 GMT"), (503, "1")]
            .into_iter()
            .enumerate()
    {
        rig.sim.add_fault(Fault::on(GET, Action::retry_after(code, wait)).times(1));
        let good = |sim: &ohallo_sim::Sim| {
            sim.ledger().iter().filter(|call| call.operation == GET && call.status == Some(200)).count()
        };
        let before = good(&rig.sim);
        let channel = looked(&rig, "a", &number.to_string()).await;
        assert_eq!(is(&channel, "Ready"), so("True", "Available"), "{code} {wait}");
        rig.sim
            .wait_until(|sim| good(sim) > before, crate::rig::PATIENCE)
            .await
            .unwrap_or_else(|error| panic!("{code} {wait}: {error}"));
    }
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_few_failed_reads_keep_ready_and_more_do_not() {
    let rig = Rig::start().await;
    rig.ready("a", json!({})).await;
    let fault = rig.sim.add_fault(Fault::on(GET, Action::status(500)));
    let channel = looked(&rig, "a", "1").await;
    assert_eq!(is(&channel, "Ready"), so("True", "Available"));
    let channel = rig.reason("a", "ApiUnavailable").await;
    assert_eq!(is(&channel, "Ready"), so("Unknown", "ApiUnavailable"));
    assert!(rig.count(GET) >= 4);
    rig.sim.remove_fault(fault);
    rig.reason("a", "Available").await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_key_stops_the_channels_calls_until_it_is_good_again() {
    let rig = Rig::start().await;
    rig.ready("a", json!({})).await;
    rig.sim.revoke_key(&rig.key);
    rig.edit("a", json!({"spec": {"displayName": "New"}})).await;
    rig.workspace_reason("default", "AuthenticationFailed").await;
    rig.reason("a", "WorkspaceNotReady").await;
    rig.sim.restore_key(&rig.key);
    let asked = rig.kubectl(&["annotate", "workspace", "default", &format!("{LOOK}=1")], None);
    assert!(asked.status.success());
    rig.reason("a", "Available").await;
    assert_eq!((rig.count(Operation::CreateChannel), rig.sim.channels().len()), (1, 1));
    rig.finish().await;
}
