//! One test for every fault.

use std::time::{Duration, Instant};

use ohallo_sim::{Action, Fault, Listening, Operation};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{CHANNEL, Harness, SECRET, SOON, WORKSPACE, path};

async fn with(action: Action) -> Harness {
    let harness = Harness::new().await;
    harness.sim.add_fault(Fault::any(action));
    harness
}

/// A PATCH that takes effect unless the fault prevents it.
async fn rename(harness: &Harness, timeout: Duration) -> reqwest::Result<Response> {
    let call = harness.request(Method::PATCH, &path(CHANNEL)).json(&json!({"displayName": "New"}));
    call.timeout(timeout).send().await
}

fn renamed(harness: &Harness) -> bool {
    harness.sim.channel(CHANNEL).unwrap().display_name == "New"
}

#[tokio::test]
async fn a_status_before_and_after_commit() {
    for commit in [false, true] {
        let harness = with(Action::Status { code: 503, body: None, headers: vec![], commit }).await;
        let got = rename(&harness, SOON).await.unwrap();
        assert_eq!(got.status(), 503);
        assert_eq!(got.json::<Value>().await.unwrap(), json!({"error": "Service Unavailable"}));
        assert_eq!(renamed(&harness), commit);
        assert_eq!(harness.sim.ledger()[0].committed, commit);
    }
}

#[tokio::test]
async fn retry_after_of_any_kind() {
    for value in ["0", "1000000000000000000", "-1", "Wed, 21 Oct 2015 07:28:00 GMT", "soon"] {
        let harness = with(Action::retry_after(429, value)).await;
        let got = rename(&harness, SOON).await.unwrap();
        assert_eq!((got.status().as_u16(), got.headers()["retry-after"].to_str().unwrap()), (429, value));
        assert!(!renamed(&harness));
    }
}

#[tokio::test]
async fn a_reset_before_and_after_commit() {
    for commit in [false, true] {
        let harness = with(Action::Reset { commit }).await;
        let mut raw = tokio::net::TcpStream::connect(&harness.sim.url()[7..]).await.unwrap();
        let call = format!(
            "PATCH {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\n\
             Content-Type: application/json\r\nContent-Length: 22\r\n\r\n{{\"displayName\": \"New\"}}",
            path(CHANNEL)
        );
        raw.write_all(call.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let error = raw.read_to_end(&mut answer).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert!(answer.is_empty());
        assert_eq!(renamed(&harness), commit);
        let entry = &harness.sim.ledger()[0];
        assert_eq!((entry.status, entry.committed), (None, commit));
        assert!(entry.ended_ms.is_some());
        assert!(rename(&harness, SOON).await.is_err());
    }
}

#[tokio::test]
async fn a_hang_before_and_after_commit() {
    for commit in [false, true] {
        let harness = with(Action::Hang { commit }).await;
        assert!(rename(&harness, Duration::from_millis(300)).await.unwrap_err().is_timeout());
        assert_eq!(renamed(&harness), commit);
        let entry = &harness.sim.ledger()[0];
        assert_eq!((entry.status, entry.ended_ms, entry.committed), (None, None, commit));
    }
}

#[tokio::test]
async fn a_late_commit_loses_its_answer_and_lands_later() {
    let harness = with(Action::LateCommit { after: Duration::from_millis(400) }).await;
    assert!(rename(&harness, SOON).await.is_err());
    assert!(!renamed(&harness) && !harness.sim.ledger()[0].committed);
    // The rights are those of the arrival.
    harness.sim.revoke_key(SECRET);
    harness.sim.wait_until(|_| renamed(&harness), SOON).await.unwrap();
    harness.sim.wait_for(|entries| entries[0].committed, SOON).await.unwrap();
}

#[tokio::test]
async fn garbage_is_success_without_json() {
    for commit in [false, true] {
        let harness = with(Action::Garbage { commit }).await;
        let got = rename(&harness, SOON).await.unwrap();
        assert_eq!(got.status(), 200);
        assert!(serde_json::from_slice::<Value>(&got.bytes().await.unwrap()).is_err());
        assert_eq!(renamed(&harness), commit);
    }
}

#[tokio::test]
async fn any_body_with_any_type() {
    let (body, content_type) = (r#"{"id": 7}"#.to_owned(), "text/html".to_owned());
    let harness = with(Action::Body { code: 201, body, content_type, commit: true }).await;
    let got = rename(&harness, SOON).await.unwrap();
    assert_eq!((got.status().as_u16(), &got.headers()["content-type"]), (201, &"text/html".parse().unwrap()));
    assert_eq!(got.json::<Value>().await.unwrap(), json!({"id": 7}));
    assert!(renamed(&harness));
}

#[tokio::test]
async fn a_huge_body_is_streamed() {
    let harness = with(Action::Huge { bytes: 1 << 30 }).await;
    let mut got = rename(&harness, SOON).await.unwrap();
    let mut seen = 0;
    while seen < 4 << 20 {
        seen += got.chunk().await.unwrap().unwrap().len();
    }
    drop(got);
    assert!(renamed(&harness));
    harness.sim.clear_faults();
    harness.sim.add_fault(Fault::any(Action::Huge { bytes: 200_000 }));
    assert_eq!(rename(&harness, SOON).await.unwrap().bytes().await.unwrap().len(), 200_000);
}

#[tokio::test]
async fn a_body_without_end_goes_on_under_its_status() {
    for code in [200, 429] {
        let harness = with(Action::Endless { code }).await;
        let mut got = rename(&harness, SOON).await.unwrap();
        assert_eq!((got.status().as_u16(), got.content_length()), (code, None));
        let mut seen = 0;
        while seen < 8 << 20 {
            seen += got.chunk().await.unwrap().unwrap().len();
        }
        drop(got);
        assert!(renamed(&harness));
    }
}

#[tokio::test]
async fn a_gzip_bomb_is_small_on_the_wire() {
    let harness = with(Action::GzipBomb).await;
    let got = rename(&harness, SOON).await.unwrap();
    assert_eq!(got.headers()["content-encoding"], "gzip");
    let body = got.bytes().await.unwrap();
    assert!(body.len() < 500_000 && body[..3] == [0x1f, 0x8b, 8], "{}", body.len());
    let size = u32::from_le_bytes(body[body.len() - 4..].try_into().unwrap());
    assert!(size > 60 << 20, "{size}");
}

#[tokio::test]
async fn a_slow_body_trickles() {
    let harness = with(Action::Slow { bytes_per_second: 400 }).await;
    let got = rename(&harness, SOON).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test measures")]
    let (head, channel, whole) = (Instant::now(), got.json::<Value>().await.unwrap(), Instant::now());
    assert_eq!(channel["displayName"], "New");
    assert!(whole - head > Duration::from_millis(300), "{:?}", whole - head);
}

#[tokio::test]
async fn a_redirect_has_no_effect() {
    for code in [301, 302, 303, 307, 308] {
        let location = "http://127.0.0.1:9/elsewhere".to_owned();
        let harness = with(Action::Redirect { code, location }).await;
        let got = rename(&harness, SOON).await.unwrap();
        assert_eq!(got.status().as_u16(), code);
        assert_eq!(got.headers()["location"], "http://127.0.0.1:9/elsewhere");
        assert!(!renamed(&harness));
    }
}

#[tokio::test]
async fn a_delayed_answer_has_its_effect_at_once() {
    let harness = with(Action::NoAnswerDelay { millis: 600 }).await;
    assert!(rename(&harness, Duration::from_millis(200)).await.unwrap_err().is_timeout());
    assert!(renamed(&harness));
    assert_eq!(rename(&harness, SOON).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_fault_meets_only_what_it_names_and_only_so_often() {
    let harness = Harness::new().await;
    let teapot = || Action::status(418);
    let id = harness
        .sim
        .add_fault(Fault::on(Operation::GetChannel, teapot()).channel(CHANNEL).key("key-1").skip(1).times(2));
    harness.sim.add_fault(Fault::any(teapot()).key("another client"));
    harness.sim.add_fault(Fault::on(Operation::CreateChannel, teapot()).channel(WORKSPACE));
    harness.get(&path("other")).await.refused(404);
    harness.patch(&path(CHANNEL), json!({})).await.done(200);
    for status in [200, 418, 418, 200] {
        assert_eq!(harness.get(&path(CHANNEL)).await.status, status);
    }
    harness.create("X").await.refused(418);
    let met = harness.sim.ledger().iter().filter(|entry| entry.fault == Some(id)).count();
    assert_eq!(met, 2);
    let by_secret = harness.sim.add_fault(Fault::any(teapot()).key(SECRET));
    harness.get(&path(CHANNEL)).await.refused(418);
    harness.sim.remove_fault(by_secret);
    harness.get(&path(CHANNEL)).await.done(200);
    harness.sim.clear_faults();
    harness.create("X").await.done(201);
}

#[tokio::test]
async fn a_refusing_port_resets_what_is_open_and_keeps_the_state() {
    let harness = Harness::new().await;
    harness.get(&path(CHANNEL)).await.done(200);
    harness.sim.set_listening(Listening::Refuse);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(rename(&harness, SOON).await.unwrap_err().is_connect());
    harness.sim.set_listening(Listening::Accept);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(rename(&harness, SOON).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_port_can_ignore_who_connects() {
    let harness = Harness::new().await;
    harness.sim.set_listening(Listening::Ignore);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(rename(&harness, Duration::from_millis(300)).await.unwrap_err().is_timeout());
    assert_eq!(harness.sim.count(Operation::UpdateChannel), 0);
}

#[tokio::test]
async fn dropping_the_simulator_closes_its_port_and_its_connections() {
    let harness = with(Action::Hang { commit: false }).await;
    let url = harness.sim.url();
    let unresolved_create = tokio::spawn(harness.http.get(&url).send());
    harness.sim.wait_for(|entries| !entries.is_empty(), SOON).await.unwrap();
    drop(harness.sim);
    assert!(tokio::time::timeout(SOON, unresolved_create).await.unwrap().unwrap().is_err());
    assert!(harness.http.get(&url).send().await.unwrap_err().is_connect());
}
