//! What tenants, and others who may write to their objects, may put there to lead the operator astray.

use std::collections::BTreeSet;

use kube::api::{Patch, PatchParams};
use ohallo_sim::{Action, Config, Fault, Operation};
use serde_json::{Value, json};

use crate::support::harness::{Harness, WORKSPACE, id_of, message};
use crate::support::steps::{RECONCILE_REQUESTED, RELEASE, reconcile_now, state, state_of, uid};

/// Ids that some library, server or proxy takes for more than one path segment, or for none; more of them, without
/// an API server, beside the client's own tests.
const IDS: [&str; 6] = [
    "..",
    "../workspaces",
    "http://evil.example/x",
    "a?enabled=false",
    "%2e%2e%2fadmin",
    "a\r\nHost: evil.example",
];

/// The paths that were called, each once, and without the ids that they may hold.
fn paths(harness: &Harness) -> BTreeSet<String> {
    let mut ids: Vec<_> = harness.sim.ledger().into_iter().filter_map(|entry| entry.channel).collect();
    ids.push(WORKSPACE.into());
    ids.retain(|id| id.len() == WORKSPACE.len());
    let plain = |path: String| ids.iter().fold(path, |path, id| path.replace(id.as_str(), "ID"));
    harness.sim.ledger().into_iter().map(|entry| plain(format!("{} {}", entry.method, entry.path))).collect()
}

const PATHS: [&str; 9] = [
    "DELETE /api/channels/ID",
    "GET /api/channels/ID",
    "GET /api/workspaces/ID",
    "GET /api/workspaces/ID/channels",
    "PATCH /api/channels/ID",
    "POST /api/channels/ID/credentials",
    "POST /api/channels/ID/retry-provisioning",
    "POST /api/channels/ID/test",
    "POST /api/workspaces/ID/channels",
];

fn only_known_paths(harness: &Harness) {
    let paths = paths(harness);
    let strange: Vec<_> = paths.iter().filter(|path| !PATHS.contains(&path.as_str())).collect();
    assert!(strange.is_empty(), "{strange:?}");
}

fn forge(harness: &Harness, name: &str, status: &Value) -> bool {
    let patch = json!({ "status": status }).to_string();
    let args = ["patch", "channel", name, "--subresource=status", "--type=merge", "-p", &patch];
    harness.kubectl(&args, None).status.success()
}

/// A manifest whose config has so many levels; as a text, for a value would be walked recursively.
fn nested(harness: &Harness, name: &str, levels: usize) -> String {
    let deep = format!("{}1{}", "{\"a\":".repeat(levels - 1), "}".repeat(levels - 1));
    harness.manifest(name, json!({"config": "DEEP"})).to_string().replace("\"DEEP\"", &deep)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_config_however_deep_stops_nobody_but_its_own_channel() {
    let mut harness = Harness::bare(Config::default(), &[]).await;
    for (name, levels) in [("deep", 34), ("deeper", 130), ("deepest", 4000)] {
        let manifest = nested(&harness, name, levels);
        let created = harness.kubectl(&["create", "--validate=false", "-f", "-"], Some(&manifest));
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
    }
    // Its very first list holds them, and so does that of the next process.
    harness.begin().await;
    let created = harness.kubectl(&["create", "-f", "-"], Some(&nested(&harness, "flat", 32)));
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
    harness.reason("flat", "Available").await;
    harness.stop_operator().await;
    harness.start_operator().await;
    let ready = [
        "--for=jsonpath={.status.conditions[?(@.type==\"Ready\")].reason}=ValidationFailed",
        "--timeout=60s",
    ];
    for name in ["deep", "deeper", "deepest"] {
        let waited = harness.kubectl(&[&["wait", "channel", name][..], &ready].concat(), None);
        assert!(waited.status.success(), "{name}: {}", String::from_utf8_lossy(&waited.stderr));
    }
    // While they are there, others are served, before and after the watches begin again.
    let created =
        harness.kubectl(&["create", "-f", "-"], Some(&harness.manifest("other", json!({})).to_string()));
    assert!(created.status.success());
    harness
        .sim
        .wait_until(|sim| sim.count(Operation::CreateChannel) == 2, crate::support::harness::WAIT_TIMEOUT)
        .await
        .unwrap();
    let deleted = harness.kubectl(&["delete", "channel", "deep", "deeper", "deepest", "--timeout=60s"], None);
    assert!(deleted.status.success(), "{}", String::from_utf8_lossy(&deleted.stderr));
    harness.reason("other", "Available").await;
    harness.reason("flat", "Available").await;
    assert_eq!(harness.count(Operation::CreateChannel), 2);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_id_in_a_status_is_called_nowhere_and_holds_the_object_until_it_is_released_by_name() {
    let mut harness = Harness::start().await;
    for (number, hostile) in IDS.into_iter().enumerate() {
        let name = format!("c{number}");
        let channel = harness.ready(&name, json!({"enabled": true})).await;
        let status = json!({"channelId": hostile, "boundUid": uid(&channel), "origin": "Created"});
        let calls = harness.calls();
        assert!(forge(&harness, &name, &status), "{hostile:?}");
        harness.edit(&name, json!({"spec": {"displayName": "Changed", "enabled": false}})).await;
        harness.annotate(&name, "ohallo.eu/test-requested-at", "1").await;
        harness.annotate(&name, "ohallo.eu/retry-requested-at", "1").await;
        harness.reason(&name, "ValidationFailed").await;
        assert_eq!(harness.calls(), calls, "{hostile:?}");
        harness.excused.push(name.clone());
        harness.delete(&name).await;
        let channel = harness.has(&name, "DeletionBlocked", "AbsenceNotProven").await;
        assert!(message(&channel, "DeletionBlocked").contains("is not a valid oHallo id"));
        harness.annotate(&name, RELEASE, hostile).await;
        harness.wait_deleted(&name).await;
    }
    only_known_paths(&harness);
    assert_eq!(
        (harness.count(Operation::CreateChannel), harness.count(Operation::DeleteChannel)),
        (IDS.len(), 0)
    );
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_with_a_hostile_id_or_about_another_channel_is_believed_by_no_call() {
    let harness = Harness::with(Config::default(), &["--request-timeout=2"]).await;
    let other = id_of(&harness.ready("other", json!({})).await);
    let id = id_of(&harness.ready("a", json!({})).await);
    let body = |id: &str| {
        Action::Body {
        code: 200,
        body: json!({"id": id, "workspaceId": WORKSPACE, "channelType": "chat", "displayName": "Of another", "status": "active", "config": {}}).to_string(),
        content_type: "application/json".into(),
        commit: false,
    }
    };
    for hostile in [IDS[0], other.as_str()] {
        let fault = harness.sim.add_fault(Fault::on(Operation::GetChannel, body(hostile)).channel(&id));
        harness.annotate("a", RECONCILE_REQUESTED, hostile).await;
        harness
            .until("a", "reported", |channel| {
                state_of(channel, "Reconciling") == state("True", "UnexpectedResponse")
            })
            .await;
        harness.sim.remove_fault(fault);
        reconcile_now(&harness, "a", &format!("{hostile} again")).await;
        harness.reason("a", "Available").await;
    }
    assert_eq!(harness.count(Operation::UpdateChannel), 0, "what another channel is called is no drift");
    for (number, hostile) in IDS.into_iter().enumerate().skip(1).take(2) {
        let name = format!("c{number}");
        let fault = harness.sim.add_fault(Fault::on(Operation::CreateChannel, body(hostile)));
        harness.create(&name, json!({})).await;
        harness.reason(&name, "CreateOutcomeUnknown").await;
        harness.sim.remove_fault(fault);
    }
    only_known_paths(&harness);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_about_an_id_goes_to_the_path_of_that_id() {
    let harness = Harness::start().await;
    harness.put_secret(json!({"metadata": {"name": "s"}, "stringData": {"a": "value-of-every-call"}})).await;
    let spec = json!({"enabled": true, "config": {"greeting": "Hello"}, "credentials": [{"secretRef": {"name": "s"}}]});
    let id = id_of(&harness.ready("a", spec).await);
    harness.edit("a", json!({"spec": {"displayName": "Changed"}})).await;
    harness.annotate("a", "ohallo.eu/test-requested-at", "1").await;
    harness.has("a", "Connected", "TestPassed").await;
    reconcile_now(&harness, "a", "1").await;
    harness.delete_and_wait("a").await;
    only_known_paths(&harness);
    for entry in harness.sim.ledger() {
        let about = entry.channel.filter(|_| entry.operation != Operation::CreateChannel);
        assert_eq!(entry.path.contains(&id), about.as_ref() == Some(&id), "{}", entry.path);
    }
    let called = paths(&harness);
    for path in
        PATHS.iter().filter(|path| !path.contains("retry") && !path.starts_with("GET /api/workspaces/ID/"))
    {
        assert!(called.contains(*path), "{path} of {called:?}");
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_and_numbers_of_any_shape_that_the_api_server_lets_pass_stop_nobody() {
    let mut harness = Harness::start().await;
    harness.ready("before", json!({})).await;
    let condition = |time: &str| {
        let forged = json!({"type": "Ready", "status": "Unknown", "reason": "A", "message": "", "observedGeneration": 1});
        let mut conditions = json!([forged]);
        conditions[0]["lastTransitionTime"] = time.into();
        json!({ "conditions": conditions })
    };
    let mut shapes: Vec<_> = [
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "2016-12-31T23:59:60Z",
        "2026-02-30T00:00:00Z",
        "2026-01-01T00:00:00.123456789012Z",
        "2026-01-01t00:00:00z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:00:00+23:59",
        "2026-01-01T00:00:00-00:00",
        "2026-01-01 00:00:00Z",
    ]
    .map(condition)
    .to_vec();
    for number in
        [json!(1e19), json!(-1e19), json!(1e300), json!(i64::MAX), json!(u64::MAX), json!(1.5), json!(1.0)]
    {
        shapes.push(json!({"test": {"request": "x", "result": number}}));
        shapes.push(json!({"create": {"attempt": number, "outcome": "Unknown"}}));
        shapes.push(json!({"provisioning": {"attempts": number}}));
    }
    harness.stop_operator().await;
    let mut taken = 0;
    for (number, shape) in shapes.iter().enumerate() {
        let name = format!("c{number}");
        harness.create(&name, json!({"suspend": true})).await;
        let status = Patch::Merge(json!({ "status": shape }));
        let forged = harness.channels().patch_status(&name, &PatchParams::default(), &status).await;
        // What can't be read was taken all the same.
        taken += usize::from(!matches!(forged, Err(kube::Error::Api(_))));
    }
    assert!(taken >= 4, "{taken} of {} are taken", shapes.len());
    harness.start_operator().await;
    // For this one nobody needs rights on the status.
    harness.create("fields", json!({"suspend": true})).await;
    harness.has("fields", "Suspended", "Suspended").await;
    let far = "9999-12-31T23:59:59Z";
    let patch =
        json!([{"op": "replace", "path": "/metadata/managedFields/0/time", "value": far}]).to_string();
    for object in ["channel/fields", "workspace/default"] {
        assert!(harness.kubectl(&["patch", object, "--type=json", "-p", &patch], None).status.success());
        let shown = harness.kubectl(
            &["get", object, "-o", "jsonpath={.metadata.managedFields[*].time}", "--show-managed-fields"],
            None,
        );
        assert!(String::from_utf8_lossy(&shown.stdout).contains(far), "{shown:?}");
    }
    harness.stop_operator().await;
    harness.start_operator().await;
    let created =
        harness.kubectl(&["create", "-f", "-"], Some(&harness.manifest("after", json!({})).to_string()));
    assert!(created.status.success());
    harness
        .sim
        .wait_until(|sim| sim.count(Operation::CreateChannel) == 2, crate::support::harness::WAIT_TIMEOUT)
        .await
        .unwrap();
    let all = harness.kubectl(&["delete", "channel", "fields"], None);
    assert!(all.status.success(), "{all:?}");
    harness.reason("after", "Available").await;
    harness.finish().await;
}
