//! The controls for a person with curl.

use ohallo_sim::{Config, Operation, Sim};
use serde_json::{Value, json};

use crate::harness::{CHANNEL, Got, Harness, SECRET, SOON, WORKSPACE, path};

impl Harness {
    /// As curl does it: no key, no JSON content type.
    async fn admin(&self, method: &str, path: &str, body: Value) -> Got {
        let url = format!("{}/_admin/{path}", self.sim.url());
        let call = self.http.request(method.parse().unwrap(), url);
        Got::of(if body.is_null() { call } else { call.body(body.to_string()) }).await
    }
}

#[tokio::test]
async fn state_and_ledger_can_be_read_without_secrets() {
    let harness = Harness::new().await;
    harness.post(&format!("{}/credentials", path(CHANNEL)), json!({"apiKey": "hush-hush"})).await;
    let state = harness.admin("GET", "state", Value::Null).await;
    let channel = &state.done(200)["channels"][0];
    assert_eq!((&channel["id"], &channel["credentialNames"]), (&json!(CHANNEL), &json!(["apiKey"])));
    let ledger = harness.admin("GET", "ledger?since=0", Value::Null).await;
    assert_eq!(ledger.done(200)[0]["operation"], "storeCredentials");
    let text = format!("{}{}", state.body, ledger.body);
    assert!(!text.contains(SECRET) && !text.contains("hush"));
    harness.admin("DELETE", "ledger", Value::Null).await.done(200);
    assert!(harness.sim.ledger().is_empty());
}

#[tokio::test]
async fn faults_can_be_put_in_listed_and_removed() {
    let harness = Harness::new().await;
    let fault = json!({
        "operation": "getChannel", "channel": CHANNEL, "key": SECRET, "times": 2,
        "action": {"status": {"code": 429, "headers": [["Retry-After", "7"]]}}
    });
    let id = harness.admin("POST", "faults", fault).await.done(200)["id"].as_u64().unwrap();
    harness.get(&path(CHANNEL)).await.refused(429);
    let listed = harness.admin("GET", "faults", Value::Null).await;
    assert_eq!((&listed.body[0]["id"], &listed.body[0]["times"]), (&json!(id), &json!(1)));
    assert!(!listed.body.to_string().contains(SECRET));
    harness.admin("DELETE", &format!("faults/{id}"), Value::Null).await.done(200);
    harness.get(&path(CHANNEL)).await.done(200);
}

#[tokio::test]
async fn every_action_can_be_written_as_json() {
    let harness = Harness::new().await;
    for action in [
        json!({"status": {"code": 500, "body": "x", "commit": true}}),
        json!({"reset": {}}),
        json!({"hang": {"commit": true}}),
        json!({"lateCommit": {"afterMillis": 5}}),
        json!({"garbage": {}}),
        json!({"body": {"code": 200, "body": "[]", "contentType": "text/plain"}}),
        json!({"huge": {"bytes": 5}}),
        json!("gzipBomb"),
        json!({"slow": {"bytesPerSecond": 1}}),
        json!({"redirect": {"code": 301, "location": "/"}}),
        json!({"hold": {"commitFirst": true}}),
        json!({"noAnswerDelay": {"millis": 5}}),
    ] {
        harness.admin("POST", "faults", json!({"action": action})).await.done(200);
    }
    assert_eq!(harness.admin("GET", "faults", Value::Null).await.body.as_array().unwrap().len(), 12);
    harness.admin("POST", "faults", json!({"action": "unheard"})).await.refused(400);
    harness.admin("DELETE", "faults", Value::Null).await.done(200);
    harness.get(&path(CHANNEL)).await.done(200);
}

#[tokio::test]
async fn a_hold_can_be_released() {
    let harness = Harness::new().await;
    let hold = json!({"action": {"hold": {}}});
    let id = harness.admin("POST", "faults", hold).await.body["id"].as_u64().unwrap();
    let call = tokio::spawn(harness.request(reqwest::Method::GET, &path(CHANNEL)).send());
    harness.sim.wait_for(|entries| entries.len() == 1, SOON).await.unwrap();
    harness.admin("POST", &format!("faults/{id}/release"), Value::Null).await.done(200);
    assert_eq!(call.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn behaviour_keys_and_workspaces_can_be_changed() {
    let harness = Harness::new().await;
    let change = json!({
        "create": {"status": 405}, "list": "on", "configUpdate": "replace",
        "provisioning": {"steps": [{"state": "pending_dns", "until": "advanced"}], "failTimes": 1}
    });
    harness.admin("PATCH", "behaviour", change).await.done(200);
    harness.create("X").await.refused(405);
    harness.get(&format!("/api/workspaces/{WORKSPACE}/channels")).await.done(200);
    harness.admin("PATCH", "behaviour", json!({"unheard": 1})).await.refused(400);

    harness.admin("POST", "workspaces", json!({"tenant": "t", "id": "w", "name": "W"})).await.done(200);
    harness.admin("POST", "keys", json!({"secret": "sf_test_v1_t", "tenant": "t"})).await.done(200);
    let url = format!("{}/api/workspaces/w", harness.sim.url());
    Got::of(harness.http.get(&url).bearer_auth("sf_test_v1_t")).await.done(200);
    harness.admin("POST", "keys/revoke", json!({"secret": "sf_test_v1_t"})).await.done(200);
    Got::of(harness.http.get(&url).bearer_auth("sf_test_v1_t")).await.refused(401);
    harness.admin("POST", "keys/restore", json!({"secret": "sf_test_v1_t"})).await.done(200);
    Got::of(harness.http.get(&url).bearer_auth("sf_test_v1_t")).await.done(200);
    harness.admin("POST", "keys/revoke", json!({"secret": "unknown"})).await.refused(404);
}

#[tokio::test]
async fn the_dashboard_can_be_played() {
    let harness = Harness::new().await;
    let new = json!({"workspace": WORKSPACE, "channelType": "chat", "displayName": "Chat"});
    let id = harness.admin("POST", "channels", new).await.done(200)["id"].as_str().unwrap().to_owned();
    let edit = json!({"displayName": "Edited", "status": "error", "testResult": false});
    harness.admin("PATCH", &format!("channels/{id}"), edit).await.done(200);
    let channel = harness.sim.channel(&id).unwrap();
    assert_eq!((channel.display_name.as_str(), channel.status.as_str()), ("Edited", "error"));
    harness.admin("POST", &format!("channels/{id}/resolve-dns"), Value::Null).await.done(200);
    harness.admin("DELETE", &format!("channels/{id}"), Value::Null).await.done(200);
    harness.admin("DELETE", &format!("channels/{id}"), Value::Null).await.refused(404);
    harness.admin("POST", "channels", json!({"workspace": "no-such"})).await.refused(404);
    assert_eq!(harness.sim.count(Operation::Other), 0);
}

#[tokio::test]
async fn there_are_no_controls_unless_asked_for() {
    let harness = Harness::new().await;
    let closed = Sim::start(Config::default()).await.unwrap();
    Got::of(harness.http.get(format!("{}/_admin/state", closed.url()))).await.refused(404);
}
