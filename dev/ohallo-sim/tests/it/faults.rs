//! One test for every fault.

use std::time::{Duration, Instant};

use ohallo_sim::{Action, Fault, Listening, Operation};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::rig::{CHANNEL, Rig, SECRET, SOON, WORKSPACE, path};

async fn with(action: Action) -> Rig {
    let rig = Rig::new().await;
    rig.sim.add_fault(Fault::any(action));
    rig
}

/// A PATCH that takes effect unless the fault says otherwise.
async fn rename(rig: &Rig, timeout: Duration) -> reqwest::Result<Response> {
    let call = rig.request(Method::PATCH, &path(CHANNEL)).json(&json!({"displayName": "New"}));
    call.timeout(timeout).send().await
}

fn renamed(rig: &Rig) -> bool {
    rig.sim.channel(CHANNEL).unwrap().display_name == "New"
}

#[tokio::test]
async fn a_status_before_and_after_commit() {
    for commit in [false, true] {
        let rig = with(Action::Status { code: 503, body: None, headers: vec![], commit }).await;
        let got = rename(&rig, SOON).await.unwrap();
        assert_eq!(got.status(), 503);
        assert_eq!(got.json::<Value>().await.unwrap(), json!({"error": "Service Unavailable"}));
        assert_eq!(renamed(&rig), commit);
        assert_eq!(rig.sim.ledger()[0].committed, commit);
    }
}

#[tokio::test]
async fn retry_after_of_any_kind() {
    for value in ["0", "1000000000000000000", "-1", "Wed, 21 Oct 2015 07:28:00 GMT", "soon"] {
        let rig = with(Action::retry_after(429, value)).await;
        let got = rename(&rig, SOON).await.unwrap();
        assert_eq!((got.status().as_u16(), got.headers()["retry-after"].to_str().unwrap()), (429, value));
        assert!(!renamed(&rig));
    }
}

#[tokio::test]
async fn a_reset_before_and_after_commit() {
    for commit in [false, true] {
        let rig = with(Action::Reset { commit }).await;
        let mut raw = tokio::net::TcpStream::connect(&rig.sim.url()[7..]).await.unwrap();
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
        assert_eq!(renamed(&rig), commit);
        let entry = &rig.sim.ledger()[0];
        assert_eq!((entry.status, entry.committed), (None, commit));
        assert!(entry.ended_ms.is_some());
        assert!(rename(&rig, SOON).await.is_err());
    }
}

#[tokio::test]
async fn a_hang_before_and_after_commit() {
    for commit in [false, true] {
        let rig = with(Action::Hang { commit }).await;
        assert!(rename(&rig, Duration::from_millis(300)).await.unwrap_err().is_timeout());
        assert_eq!(renamed(&rig), commit);
        let entry = &rig.sim.ledger()[0];
        assert_eq!((entry.status, entry.ended_ms, entry.committed), (None, None, commit));
    }
}

#[tokio::test]
async fn a_late_commit_loses_its_answer_and_lands_later() {
    let rig = with(Action::LateCommit { after: Duration::from_millis(400) }).await;
    assert!(rename(&rig, SOON).await.is_err());
    assert!(!renamed(&rig) && !rig.sim.ledger()[0].committed);
    // The rights are those of the arrival.
    rig.sim.revoke_key(SECRET);
    rig.sim.wait_until(|_| renamed(&rig), SOON).await.unwrap();
    rig.sim.wait_for(|entries| entries[0].committed, SOON).await.unwrap();
}

#[tokio::test]
async fn garbage_is_success_without_json() {
    for commit in [false, true] {
        let rig = with(Action::Garbage { commit }).await;
        let got = rename(&rig, SOON).await.unwrap();
        assert_eq!(got.status(), 200);
        assert!(serde_json::from_slice::<Value>(&got.bytes().await.unwrap()).is_err());
        assert_eq!(renamed(&rig), commit);
    }
}

#[tokio::test]
async fn any_body_with_any_type() {
    let (body, content_type) = (r#"{"id": 7}"#.to_owned(), "text/html".to_owned());
    let rig = with(Action::Body { code: 201, body, content_type, commit: true }).await;
    let got = rename(&rig, SOON).await.unwrap();
    assert_eq!((got.status().as_u16(), &got.headers()["content-type"]), (201, &"text/html".parse().unwrap()));
    assert_eq!(got.json::<Value>().await.unwrap(), json!({"id": 7}));
    assert!(renamed(&rig));
}

#[tokio::test]
async fn a_huge_body_is_streamed() {
    let rig = with(Action::Huge { bytes: 1 << 30 }).await;
    let mut got = rename(&rig, SOON).await.unwrap();
    let mut seen = 0;
    while seen < 4 << 20 {
        seen += got.chunk().await.unwrap().unwrap().len();
    }
    drop(got);
    assert!(renamed(&rig));
    rig.sim.clear_faults();
    rig.sim.add_fault(Fault::any(Action::Huge { bytes: 200_000 }));
    assert_eq!(rename(&rig, SOON).await.unwrap().bytes().await.unwrap().len(), 200_000);
}

#[tokio::test]
async fn a_body_without_end_goes_on_under_its_status() {
    for code in [200, 429] {
        let rig = with(Action::Endless { code }).await;
        let mut got = rename(&rig, SOON).await.unwrap();
        assert_eq!((got.status().as_u16(), got.content_length()), (code, None));
        let mut seen = 0;
        while seen < 8 << 20 {
            seen += got.chunk().await.unwrap().unwrap().len();
        }
        drop(got);
        assert!(renamed(&rig));
    }
}

#[tokio::test]
async fn a_gzip_bomb_is_small_on_the_wire() {
    let rig = with(Action::GzipBomb).await;
    let got = rename(&rig, SOON).await.unwrap();
    assert_eq!(got.headers()["content-encoding"], "gzip");
    let body = got.bytes().await.unwrap();
    assert!(body.len() < 500_000 && body[..3] == [0x1f, 0x8b, 8], "{}", body.len());
    let size = u32::from_le_bytes(body[body.len() - 4..].try_into().unwrap());
    assert!(size > 60 << 20, "{size}");
}

#[tokio::test]
async fn a_slow_body_trickles() {
    let rig = with(Action::Slow { bytes_per_second: 400 }).await;
    let got = rename(&rig, SOON).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test measures")]
    let (head, channel, whole) = (Instant::now(), got.json::<Value>().await.unwrap(), Instant::now());
    assert_eq!(channel["displayName"], "New");
    assert!(whole - head > Duration::from_millis(300), "{:?}", whole - head);
}

#[tokio::test]
async fn a_redirect_has_no_effect() {
    for code in [301, 302, 303, 307, 308] {
        let location = "http://127.0.0.1:9/elsewhere".to_owned();
        let rig = with(Action::Redirect { code, location }).await;
        let got = rename(&rig, SOON).await.unwrap();
        assert_eq!(got.status().as_u16(), code);
        assert_eq!(got.headers()["location"], "http://127.0.0.1:9/elsewhere");
        assert!(!renamed(&rig));
    }
}

#[tokio::test]
async fn a_delayed_answer_has_its_effect_at_once() {
    let rig = with(Action::NoAnswerDelay { millis: 600 }).await;
    assert!(rename(&rig, Duration::from_millis(200)).await.unwrap_err().is_timeout());
    assert!(renamed(&rig));
    assert_eq!(rename(&rig, SOON).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_fault_meets_only_what_it_names_and_only_so_often() {
    let rig = Rig::new().await;
    let teapot = || Action::status(418);
    let id = rig
        .sim
        .add_fault(Fault::on(Operation::GetChannel, teapot()).channel(CHANNEL).key("key-1").skip(1).times(2));
    rig.sim.add_fault(Fault::any(teapot()).key("somebody else"));
    rig.sim.add_fault(Fault::on(Operation::CreateChannel, teapot()).channel(WORKSPACE));
    rig.get(&path("other")).await.refused(404);
    rig.patch(&path(CHANNEL), json!({})).await.done(200);
    for status in [200, 418, 418, 200] {
        assert_eq!(rig.get(&path(CHANNEL)).await.status, status);
    }
    rig.create("X").await.refused(418);
    let met = rig.sim.ledger().iter().filter(|entry| entry.fault == Some(id)).count();
    assert_eq!(met, 2);
    let by_secret = rig.sim.add_fault(Fault::any(teapot()).key(SECRET));
    rig.get(&path(CHANNEL)).await.refused(418);
    rig.sim.remove_fault(by_secret);
    rig.get(&path(CHANNEL)).await.done(200);
    rig.sim.clear_faults();
    rig.create("X").await.done(201);
}

#[tokio::test]
async fn a_refusing_port_resets_what_is_open_and_keeps_the_state() {
    let rig = Rig::new().await;
    rig.get(&path(CHANNEL)).await.done(200);
    rig.sim.set_listening(Listening::Refuse);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(rename(&rig, SOON).await.unwrap_err().is_connect());
    rig.sim.set_listening(Listening::Accept);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(rename(&rig, SOON).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_port_can_ignore_who_connects() {
    let rig = Rig::new().await;
    rig.sim.set_listening(Listening::Ignore);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(rename(&rig, Duration::from_millis(300)).await.unwrap_err().is_timeout());
    assert_eq!(rig.sim.count(Operation::UpdateChannel), 0);
}

#[tokio::test]
async fn dropping_the_stand_in_closes_its_port_and_its_connections() {
    let rig = with(Action::Hang { commit: false }).await;
    let url = rig.sim.url();
    let parked = tokio::spawn(rig.http.get(&url).send());
    rig.sim.wait_for(|entries| !entries.is_empty(), SOON).await.unwrap();
    drop(rig.sim);
    assert!(tokio::time::timeout(SOON, parked).await.unwrap().unwrap().is_err());
    assert!(rig.http.get(&url).send().await.unwrap_err().is_connect());
}
