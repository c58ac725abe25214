//! F36–F44: what objects may hold, and how the way to oHallo may be broken.

use std::time::Duration;

use kube::client::ClientBuilder;
use ohallo_sim::{Config, Operation, Sim};
use serde_json::json;
use testbed::{Act, Rule, When};

use crate::support::harness::{Harness, WAIT_TIMEOUT, id_of};
use crate::support::panics::PanicsLayer;
use crate::support::steps::{
    CREATE_INTENT, RECONCILE_REQUESTED, insert_in_dashboard, reconcile_now, state, state_of, uid,
    unresolved_create,
};
use crate::support::tls::{Certificate, Front};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f36_of_a_secret_rotated_twenty_times_the_newest_content_arrives_and_a_label_pushes_nothing() {
    let harness = Harness::start().await;
    harness.secret("provider", &[("apiKey", "provider-key-at-first")]).await;
    let id = id_of(&harness.ready("a", json!({"credentials": [{"secretRef": {"name": "provider"}}]})).await);
    for number in 0..20 {
        harness.secret("provider", &[("apiKey", &format!("provider-key-number-{number}"))]).await;
    }
    let newest = |sim: &Sim| sim.channel(&id).unwrap().credentials["apiKey"] == "provider-key-number-19";
    harness.sim.wait_until(newest, WAIT_TIMEOUT).await.unwrap();
    harness.reason("a", "Available").await;
    assert!(harness.count(Operation::StoreCredentials) <= 21);
    reconcile_now(&harness, "a", "1").await;
    let pushes = harness.count(Operation::StoreCredentials);
    let labelled = harness.kubectl(&["label", "secret", "provider", "team=a"], None);
    assert!(labelled.status.success());
    reconcile_now(&harness, "a", "2").await;
    assert_eq!(harness.count(Operation::StoreCredentials), pushes);
    // A value that oHallo can't accept is reported; the next one resolves it.
    for (number, data) in [json!({"apiKey": ""}), json!({"apiKey": "/w=="})].into_iter().enumerate() {
        harness.put_secret(json!({"metadata": {"name": "provider"}, "data": data})).await;
        harness.has("a", "CredentialsApplied", "SecretInvalid").await;
        let value = format!("provider-key-healed-{number}");
        harness.secret("provider", &[("apiKey", &value)]).await;
        let healed = |sim: &Sim| sim.channel(&id).unwrap().credentials["apiKey"] == value;
        harness.sim.wait_until(healed, WAIT_TIMEOUT).await.unwrap();
    }
    harness.secret("provider", &[("renamed", "provider-key-renamed")]).await;
    let renamed = |sim: &Sim| sim.channel(&id).unwrap().credentials.contains_key("renamed");
    harness.sim.wait_until(renamed, WAIT_TIMEOUT).await.unwrap();
    harness.secret("provider", &[("apiKey", &"large-key-0123456789".repeat(45_000))]).await;
    harness.has("a", "CredentialsApplied", "SecretInvalid").await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f39_a_panic_in_one_object_is_reported_counted_and_contained() {
    let mut harness = Harness::bare(Config::default(), &[]).await;
    let mut config = harness.plane.client_config(harness.user);
    config.default_retry = false;
    let client = ClientBuilder::try_from(config).unwrap().with_layer(&PanicsLayer).build();
    harness.client = Some(client);
    harness.begin().await;
    harness.secret("explodes", &[("apiKey", "provider-key-that-explodes")]).await;
    let spec = json!({"credentials": [{"secretRef": {"name": "explodes"}}]});
    harness.create("a", spec).await;
    let channel = harness.reason("a", "InternalError").await;
    assert_eq!(state_of(&channel, "Ready"), state("Unknown", "InternalError"));
    for number in 0..5 {
        let name = format!("b{number}");
        harness.ready(&name, json!({})).await;
        harness.delete_and_wait(&name).await;
    }
    let (_, metrics) = harness.http("/metrics").await;
    let panics = metrics.lines().find(|line| line.contains("panic") && !line.starts_with('#')).unwrap();
    assert!(!panics.ends_with(" 0"), "{panics}");
    assert_eq!(harness.http("/livez").await.0, 200);
    // The object continues as soon as the cause ends.
    harness.edit("a", json!({"spec": {"credentials": []}})).await;
    harness.reason("a", "Available").await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f41_certificates_that_are_expired_unknown_or_of_another_host_stop_every_call_until_they_are_right() {
    for bad in [Certificate::Expired, Certificate::OtherHost, Certificate::UnknownAuthority] {
        let mut harness = Harness::bare(Config::default(), &[]).await;
        let front = Front::start(&harness.sim.url(), bad).await;
        harness.flag(format!("--api-url={}", front.url()));
        harness.flag(format!("--ca-file={}", front.authority().display()));
        harness
            .put_secret(
                json!({"metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": harness.key}}),
            )
            .await;
        harness.workspace("default", "ohallo-api-key").await;
        harness.start_operator().await;
        harness.workspace_reason("default", "ApiUnavailable").await;
        harness.create("a", json!({})).await;
        let channel = harness.reason("a", "ApiUnavailable").await;
        let reported = crate::support::harness::message(&channel, "Ready");
        assert!(reported.contains("TLS") && reported.contains("certificate"), "{bad:?}: {reported}");
        assert!(harness.sim.ledger().is_empty(), "{bad:?}: {:?}", harness.sim.ledger());
        front.present(Certificate::Good);
        harness.kubectl(&["annotate", "workspace", "default", &format!("{RECONCILE_REQUESTED}=1")], None);
        harness.annotate("a", RECONCILE_REQUESTED, "1").await;
        harness.reason("a", "Available").await;
        assert_eq!((harness.count(Operation::CreateChannel), harness.sim.channel_count()), (1, 1));
        harness.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f42_a_name_that_does_not_resolve_sends_nothing_and_leaves_no_create_unresolved() {
    let mut harness = Harness::bare(Config::default(), &[]).await;
    harness.flag("--api-url=https://ohallo.invalid".into());
    harness
        .put_secret(json!({"metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": harness.key}}))
        .await;
    harness.workspace("default", "ohallo-api-key").await;
    harness.start_operator().await;
    harness.create("a", json!({})).await;
    let channel = harness.reason("a", "ApiUnavailable").await;
    assert!(channel.status.as_ref().is_some_and(|status| status.channel_id.is_none()));
    harness.stop_operator().await;
    // The name has moved to where it answers.
    harness.flag(format!("--api-url={}", harness.sim.url()));
    harness.start_operator().await;
    harness.reason("a", "Available").await;
    assert_eq!((harness.count(Operation::CreateChannel), harness.sim.channel_count()), (1, 1));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f43_a_forged_status_or_annotation_changes_no_foreign_channel_and_creates_no_second_one() {
    let harness = Harness::start().await;
    let owner = harness.ready("owner", json!({})).await;
    let theirs = id_of(&owner);
    let stray = insert_in_dashboard(&harness, "chat", "Of nobody");
    let unresolved_create = unresolved_create(&harness, "unresolved", true).await;
    let forge = |name: &str, status: serde_json::Value| {
        let patch = json!({ "status": status }).to_string();
        let args = ["patch", "channel", name, "--subresource=status", "--type=merge", "-p", &patch];
        assert!(harness.kubectl(&args, None).status.success());
    };
    // Of two whose statuses hold the id the older wins; creation times have seconds.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    harness.create("thief", json!({"suspend": true})).await;
    let thief = harness.has("thief", "Suspended", "Suspended").await;
    // With its own uid, as only a user with rights on the status can: it is bound then, and never to what another holds.
    forge(
        "thief",
        json!({"channelId": theirs, "boundUid": uid(&thief), "origin": "Created", "workspaceId": crate::support::harness::WORKSPACE}),
    );
    harness.edit("thief", json!({"spec": {"suspend": false, "displayName": "Mine"}})).await;
    harness.reason("thief", "OwnershipConflict").await;
    harness.delete_and_wait("thief").await;
    assert!(harness.sim.channel(&theirs).is_some_and(|channel| channel.display_name == "Channel owner"));
    for (number, text) in
        ["", "x/y/z", &format!("{}/999999999999999999999/2026-01-10T08:00:00Z", uid(&unresolved_create))]
            .into_iter()
            .enumerate()
    {
        harness.annotate("unresolved", CREATE_INTENT, text).await;
        reconcile_now(&harness, "unresolved", &number.to_string()).await;
        harness.reason("unresolved", "CreateOutcomeUnknown").await;
    }
    forge("unresolved", json!({"create": {"attempt": 1, "outcome": "Rejected"}}));
    forge(
        "unresolved",
        json!({"applied": {"digest": "x".repeat(64)}, "state": "active", "observedGeneration": 1}),
    );
    reconcile_now(&harness, "unresolved", "forged").await;
    harness.reason("unresolved", "CreateOutcomeUnknown").await;
    assert_eq!(harness.count(Operation::CreateChannel), 2);
    assert!(harness.sim.channel(&stray).is_some());
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f44_a_secret_that_is_answered_in_a_wrong_shape_leaks_nothing_and_is_read_again() {
    let harness = Harness::proxied(Config::default(), &[]).await;
    harness.secret("provider", &[("apiKey", "provider-key-of-a-wrong-shape")]).await;
    let value = "provider-key-of-a-wrong-shape";
    for (number, body) in [
        json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": 7}, "data": {"apiKey": value}}),
        json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "provider"}, "data": value}),
        json!([value]),
        json!(value),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("a{number}");
        let act = Act::Answer { code: 200, body: body.to_string() };
        let rule = harness.proxy().add(Rule::any(When::Before, act).method("GET").part("/secrets/provider"));
        // Only now: those that use it already would read it before the rule is there, for the new one too.
        harness.secret("provider", &[("apiKey", &format!("{value}-{number}"))]).await;
        if number > 0 {
            rule.reached().await.unwrap();
        }
        harness.create(&name, json!({"credentials": [{"secretRef": {"name": "provider"}}]})).await;
        rule.reached().await.unwrap();
        harness.until(&name, "reported", |channel| state_of(channel, "Ready").is_some()).await;
        assert_ne!(state_of(&harness.get(&name).await, "Ready"), state("True", "Available"));
        rule.release();
        harness.annotate(&name, RECONCILE_REQUESTED, "1").await;
        harness.reason(&name, "Available").await;
    }
    harness.finish().await;
}
