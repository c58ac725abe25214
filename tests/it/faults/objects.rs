//! F36–F44: what objects may hold, and how the way to oHallo may be broken.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use kube::client::{Body, ClientBuilder};
use ohallo_sim::{Config, Operation, Sim};
use serde_json::json;
use testbed::{Act, Rule, When};
use tower::{Layer, Service};

use super::tls::{Certificate, Front};
use crate::acts::{INTENT, LOOK, by_hand, is, looked, parked, so, uid};
use crate::rig::{PATIENCE, Rig, id_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f36_of_a_secret_rotated_twenty_times_the_newest_content_arrives_and_a_label_pushes_nothing() {
    let rig = Rig::start().await;
    rig.secret("provider", &[("apiKey", "provider-key-at-first")]).await;
    let id = id_of(&rig.ready("a", json!({"credentials": [{"secretRef": {"name": "provider"}}]})).await);
    for number in 0..20 {
        rig.secret("provider", &[("apiKey", &format!("provider-key-number-{number}"))]).await;
    }
    let newest = |sim: &Sim| sim.channel(&id).unwrap().credentials["apiKey"] == "provider-key-number-19";
    rig.sim.wait_until(newest, PATIENCE).await.unwrap();
    rig.reason("a", "Available").await;
    assert!(rig.count(Operation::StoreCredentials) <= 21);
    looked(&rig, "a", "1").await;
    let pushes = rig.count(Operation::StoreCredentials);
    let labelled = rig.kubectl(&["label", "secret", "provider", "team=a"], None);
    assert!(labelled.status.success());
    looked(&rig, "a", "2").await;
    assert_eq!(rig.count(Operation::StoreCredentials), pushes);
    // A value that oHallo can't be given says so; the next one heals it.
    for (number, data) in [json!({"apiKey": ""}), json!({"apiKey": "/w=="})].into_iter().enumerate() {
        rig.put_secret(json!({"metadata": {"name": "provider"}, "data": data})).await;
        rig.has("a", "CredentialsApplied", "SecretInvalid").await;
        let value = format!("provider-key-healed-{number}");
        rig.secret("provider", &[("apiKey", &value)]).await;
        let healed = |sim: &Sim| sim.channel(&id).unwrap().credentials["apiKey"] == value;
        rig.sim.wait_until(healed, PATIENCE).await.unwrap();
    }
    rig.secret("provider", &[("renamed", "provider-key-renamed")]).await;
    let renamed = |sim: &Sim| sim.channel(&id).unwrap().credentials.contains_key("renamed");
    rig.sim.wait_until(renamed, PATIENCE).await.unwrap();
    rig.secret("provider", &[("apiKey", &"large-key-0123456789".repeat(45_000))]).await;
    rig.has("a", "CredentialsApplied", "SecretInvalid").await;
    rig.finish().await;
}

/// A client whose request for one Secret panics in whoever waits for it.
#[derive(Clone)]
pub(super) struct Panics<S>(S);

#[derive(Clone)]
pub(super) struct PanicsLayer;

impl<S> Layer<S> for PanicsLayer {
    type Service = Panics<S>;
    fn layer(&self, inner: S) -> Panics<S> {
        Panics(inner)
    }
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for Panics<S>
where
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let explodes = request.uri().path().ends_with("/secrets/explodes");
        let answer = self.0.call(request);
        Box::pin(async move {
            assert!(!explodes, "put in by the test");
            answer.await
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f39_a_panic_in_one_object_is_told_counted_and_stays_in_it() {
    let mut rig = Rig::bare(Config::default(), &[]).await;
    let mut config = rig.plane.client_config(rig.user);
    config.default_retry = false;
    let client = ClientBuilder::try_from(config).unwrap().with_layer(&PanicsLayer).build();
    rig.client = Some(client);
    rig.begin().await;
    rig.secret("explodes", &[("apiKey", "provider-key-that-explodes")]).await;
    let spec = json!({"credentials": [{"secretRef": {"name": "explodes"}}]});
    rig.create("a", spec).await;
    let channel = rig.reason("a", "InternalError").await;
    assert_eq!(is(&channel, "Ready"), so("Unknown", "InternalError"));
    for number in 0..5 {
        let name = format!("b{number}");
        rig.ready(&name, json!({})).await;
        rig.deleted(&name).await;
    }
    let (_, metrics) = rig.http("/metrics").await;
    let panics = metrics.lines().find(|line| line.contains("panic") && !line.starts_with('#')).unwrap();
    assert!(!panics.ends_with(" 0"), "{panics}");
    assert_eq!(rig.http("/livez").await.0, 200);
    // The object goes on as soon as the cause is gone.
    rig.edit("a", json!({"spec": {"credentials": []}})).await;
    rig.reason("a", "Available").await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f41_certificates_that_are_expired_unknown_or_of_another_host_stop_every_call_until_they_are_right() {
    for bad in [Certificate::Expired, Certificate::OtherHost, Certificate::UnknownAuthority] {
        let mut rig = Rig::bare(Config::default(), &[]).await;
        let front = Front::start(&rig.sim.url(), bad).await;
        rig.flag(format!("--api-url={}", front.url()));
        rig.flag(format!("--ca-file={}", front.authority().display()));
        rig.put_secret(json!({"metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": rig.key}}))
            .await;
        rig.workspace("default", "ohallo-api-key").await;
        rig.start_operator().await;
        rig.workspace_reason("default", "ApiUnavailable").await;
        rig.create("a", json!({})).await;
        let channel = rig.reason("a", "ApiUnavailable").await;
        let said = crate::rig::message(&channel, "Ready");
        assert!(said.contains("TLS") && said.contains("certificate"), "{bad:?}: {said}");
        assert!(rig.sim.ledger().is_empty(), "{bad:?}: {:?}", rig.sim.ledger());
        front.present(Certificate::Good);
        rig.kubectl(&["annotate", "workspace", "default", &format!("{LOOK}=1")], None);
        rig.annotate("a", LOOK, "1").await;
        rig.reason("a", "Available").await;
        assert_eq!((rig.count(Operation::CreateChannel), rig.sim.channel_count()), (1, 1));
        rig.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f42_a_name_that_does_not_resolve_sends_nothing_and_parks_nobody() {
    let mut rig = Rig::bare(Config::default(), &[]).await;
    rig.flag("--api-url=https://ohallo.invalid".into());
    rig.put_secret(json!({"metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": rig.key}})).await;
    rig.workspace("default", "ohallo-api-key").await;
    rig.start_operator().await;
    rig.create("a", json!({})).await;
    let channel = rig.reason("a", "ApiUnavailable").await;
    assert!(channel.status.as_ref().is_some_and(|status| status.channel_id.is_none()));
    rig.stop_operator().await;
    // The name has moved to where it answers.
    rig.flag(format!("--api-url={}", rig.sim.url()));
    rig.start_operator().await;
    rig.reason("a", "Available").await;
    assert_eq!((rig.count(Operation::CreateChannel), rig.sim.channel_count()), (1, 1));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f43_a_forged_status_or_annotation_moves_no_foreign_channel_and_makes_no_second_one() {
    let rig = Rig::start().await;
    let owner = rig.ready("owner", json!({})).await;
    let theirs = id_of(&owner);
    let stray = by_hand(&rig, "chat", "Of nobody");
    let parked = parked(&rig, "parked", true).await;
    let forge = |name: &str, status: serde_json::Value| {
        let patch = json!({ "status": status }).to_string();
        let args = ["patch", "channel", name, "--subresource=status", "--type=merge", "-p", &patch];
        assert!(rig.kubectl(&args, None).status.success());
    };
    // Of two whose statuses hold the id the older wins; creation times have seconds.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    rig.create("thief", json!({"suspend": true})).await;
    let thief = rig.has("thief", "Suspended", "Suspended").await;
    // With its own uid, as only somebody with rights on the status can: it is bound then, and never to what another holds.
    forge(
        "thief",
        json!({"channelId": theirs, "boundUid": uid(&thief), "origin": "Created", "workspaceId": crate::rig::WORKSPACE}),
    );
    rig.edit("thief", json!({"spec": {"suspend": false, "displayName": "Mine"}})).await;
    rig.reason("thief", "OwnershipConflict").await;
    rig.deleted("thief").await;
    assert!(rig.sim.channel(&theirs).is_some_and(|channel| channel.display_name == "Channel owner"));
    for (number, text) in
        ["", "x/y/z", &format!("{}/999999999999999999999/2026-01-10T08:00:00Z", uid(&parked))]
            .into_iter()
            .enumerate()
    {
        rig.annotate("parked", INTENT, text).await;
        looked(&rig, "parked", &number.to_string()).await;
        rig.reason("parked", "CreateOutcomeUnknown").await;
    }
    forge("parked", json!({"create": {"attempt": 1, "outcome": "Rejected"}}));
    forge(
        "parked",
        json!({"applied": {"digest": "x".repeat(64)}, "state": "active", "observedGeneration": 1}),
    );
    looked(&rig, "parked", "forged").await;
    rig.reason("parked", "CreateOutcomeUnknown").await;
    assert_eq!(rig.count(Operation::CreateChannel), 2);
    assert!(rig.sim.channel(&stray).is_some());
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f44_a_secret_that_is_answered_in_a_wrong_shape_leaks_nothing_and_is_read_again() {
    let rig = Rig::proxied(Config::default(), &[]).await;
    rig.secret("provider", &[("apiKey", "provider-key-of-a-wrong-shape")]).await;
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
        let rule = rig.proxy().add(Rule::any(When::Before, act).method("GET").part("/secrets/provider"));
        // Only now: those that use it already would read it before the rule is there, for the new one too.
        rig.secret("provider", &[("apiKey", &format!("{value}-{number}"))]).await;
        if number > 0 {
            rule.reached().await.unwrap();
        }
        rig.create(&name, json!({"credentials": [{"secretRef": {"name": "provider"}}]})).await;
        rule.reached().await.unwrap();
        rig.until(&name, "told", |channel| is(channel, "Ready").is_some()).await;
        assert_ne!(is(&rig.get(&name).await, "Ready"), so("True", "Available"));
        rule.release();
        rig.annotate(&name, LOOK, "1").await;
        rig.reason(&name, "Available").await;
    }
    rig.finish().await;
}
