//! Where secrets could come out of an operator: what it has the API server store, and what its programs log and show.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use testbed::{ControlPlane, User};
use tokio::sync::watch;

use crate::support::canary;
use crate::support::harness::{Harness, WAIT_TIMEOUT};

/// What is rightly in them.
const SECRETS: &str = "/registry/secrets/";
/// etcd's name for the range of all keys, as the gateway takes it.
const ALL: &str = "AA==";

/// By etcd's address, the revision up to which it is scanned.
static FOLLOWED: Mutex<Vec<(String, watch::Receiver<i64>)>> = Mutex::new(Vec::new());

/// From now on everything that is ever written to a control plane's etcd is scanned, in a thread of its own:
/// statuses, annotations and events in each of their versions, also of deleted objects.
pub fn follow(plane: &ControlPlane) {
    register_tokens(plane);
    let url = plane.etcd_url();
    let (progress, seen) = watch::channel(0);
    FOLLOWED.lock().unwrap_or_else(PoisonError::into_inner).push((url.clone(), seen));
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(scan_all(&url, &progress));
    });
}

/// Waits until everything is scanned that a followed control plane holds now.
pub async fn up_to_now(plane: &ControlPlane) {
    let url = plane.etcd_url();
    let followed = FOLLOWED.lock().unwrap_or_else(PoisonError::into_inner).clone();
    // The last: a port may come again.
    let (_, mut seen) = followed.into_iter().rfind(|(other, _)| *other == url).expect("it is followed");
    let body = json!({"key": ALL, "range_end": ALL, "limit": 1, "keys_only": true});
    let now = revision(&post(&url, "kv/range", &body).await["header"]);
    let reached = tokio::time::timeout(WAIT_TIMEOUT, seen.wait_for(|seen| *seen >= now)).await;
    assert!(matches!(reached, Ok(Ok(_))), "what etcd holds is not scanned");
}

async fn scan_all(url: &str, progress: &watch::Sender<i64>) {
    let body = json!({"create_request": {"key": ALL, "range_end": ALL, "start_revision": "1"}});
    let request = reqwest::Client::new().post(format!("{url}/v3/watch")).body(body.to_string());
    let Ok(mut answer) = request.send().await else { return };
    let mut buffer = Vec::new();
    // Ends with the control plane.
    while let Ok(Some(chunk)) = answer.chunk().await {
        buffer.extend_from_slice(&chunk);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let Ok(line) = serde_json::from_slice::<Value>(&line) else { return };
            for event in line["result"]["events"].as_array().into_iter().flatten() {
                scan(&event["kv"]);
                let revision = event["kv"]["mod_revision"].as_str().and_then(|text| text.parse().ok());
                progress.send_modify(|seen| *seen = revision.unwrap_or(*seen));
            }
        }
    }
}

/// Scans all that an etcd holds at this moment: for a control plane of a test's own.
pub async fn dump(plane: &ControlPlane) {
    register_tokens(plane);
    let all = post(&plane.etcd_url(), "kv/range", &json!({"key": ALL, "range_end": ALL})).await;
    let all = all["kvs"].as_array().unwrap();
    assert!(all.len() > 100, "an API server has more keys than {}", all.len());
    all.iter().for_each(scan);
}

fn scan(pair: &Value) {
    let bytes = |name: &str| STANDARD.decode(pair[name].as_str().unwrap_or_default()).unwrap();
    let key = String::from_utf8(bytes("key")).unwrap();
    if !key.starts_with(SECRETS) {
        canary::scan("the name of a key in etcd", &key);
        canary::scan(&format!("etcd, {key}"), bytes("value"));
    }
}

async fn post(url: &str, path: &str, body: &Value) -> Value {
    let request = reqwest::Client::new().post(format!("{url}/v3/{path}")).body(body.to_string());
    serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap()
}

fn revision(header: &Value) -> i64 {
    header["revision"].as_str().unwrap().parse().unwrap()
}

/// With which the operators talk to the API server.
fn register_tokens(plane: &ControlPlane) {
    for user in [User::Admin, User::Operator] {
        let token = plane.client_config(user).auth_info.token.unwrap();
        canary::register(token.expose_secret());
    }
}

/// What a program shows at `/metrics`, if it still listens.
pub fn metrics(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address.parse().ok()?, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    write!(stream, "GET /metrics HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_found_wherever_it_could_come_out_and_only_there() {
    let mut harness = Harness::start().await;
    let decoys = [
        "decoy-in-status",
        "decoy-in-event/<1>",
        "decoy-in-annotation",
        "decoy-in-its-secret",
        "decoy-as-a-name",
    ];
    decoys.into_iter().for_each(canary::decoy);
    // Shown at every /metrics.
    canary::decoy("ohallo_workspaces{");
    harness.put_secret(json!({"metadata": {"name": "s"}, "stringData": {"a": decoys[3]}})).await;
    harness.ready(decoys[4], json!({})).await;
    let hidden = json!({"status": {"createdAt": STANDARD.encode(format!("ab{}c", decoys[0]))}}).to_string();
    let status = ["patch", "channel", decoys[4], "--subresource=status", "--type=merge", "-p", &hidden];
    assert!(harness.kubectl(&status, None).status.success());
    harness
        .annotate(decoys[4], "a/b", &decoys[2].bytes().map(|byte| format!("{byte:02x}")).collect::<String>())
        .await;
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "message": decoys[1],
        "involvedObject": {"namespace": harness.namespace},
    });
    harness.apply(&event);
    harness.http("/metrics").await;
    harness.stop_operator().await;
    let program = crate::support::program::at_work(&harness, &[]).await;
    harness.delete_and_wait(decoys[4]).await;
    drop(program);
    let namespace = harness.namespace.clone();
    harness.finish().await;
    let other_namespace = on_a_control_plane_of_its_own(decoys[4]).await;
    let found = canary::of_decoys();
    let channel = format!("etcd, /registry/ohallo.eu/channels/{namespace}/{}", decoys[4]);
    for (place, form) in [
        (channel.clone(), "base64"),
        (channel.clone(), "hex"),
        (channel.clone(), "raw"),
        (other_namespace, "raw"),
        (format!("etcd, /registry/events/{namespace}/e"), "raw"),
        ("the name of a key in etcd".into(), "raw"),
        ("an operator's log".into(), "raw"),
        ("/metrics".into(), "raw"),
        ("a program's metrics".into(), "raw"),
        ("a program's log".into(), "raw"),
    ] {
        let found_there = found.iter().any(|leak| leak.place == place && leak.form == form);
        assert!(found_there, "{form} at {place}");
    }
    assert!(found.iter().all(|leak| !leak.place.contains(SECRETS)), "{found:#?}");
}

/// What is stored and taken away again where one test alone works; the place.
async fn on_a_control_plane_of_its_own(decoy: &str) -> String {
    let plane = crate::support::clusters::empty().await;
    let kubectl = |args: &[&str]| crate::support::clusters::kubectl(plane, args);
    kubectl(&["create", "configmap", "gone", &format!("--from-literal=a={decoy}")]);
    kubectl(&["delete", "configmap", "gone"]);
    crate::support::clusters::end(plane).await;
    "etcd, /registry/configmaps/default/gone".to_owned()
}
