//! I21: `/livez` answers within a second, whatever texts there are and whoever holds connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ohallo_client::clock;
use ohallo_sim::{Action, Config, Fault, NewChannel, Operation};
use serde_json::{Map, Value, json};
use testbed::User;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::harness::{Harness, WORKSPACE};
use crate::support::program::Program;

/// The kubelet's default for a probe.
const PROBE: Duration = Duration::from_secs(1);

/// A machine that is busy for a moment is no reason to fail.
const ROUNDS: usize = 3;

async fn at_work(flags: &[&str]) -> (Harness, Program) {
    let harness = Harness::bare(Config::default(), &[]).await;
    harness
        .put_secret(json!({"metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": harness.key}}))
        .await;
    harness.workspace("default", "ohallo-api-key").await;
    let mut all = vec![
        format!("--api-url={}", harness.sim.url()),
        format!("--namespace={}", harness.namespace),
        "--requests-per-second=0".to_owned(),
    ];
    all.extend(flags.iter().map(|flag| (*flag).to_owned()));
    let program = Program::logging(&harness.plane.kubeconfig(User::Operator), "info", &all);
    harness.workspace_reason("default", "Verified").await;
    (harness, program)
}

/// Asks the program whether it lives, again and again, and remembers the slowest answer.
struct Probe {
    stop: Arc<AtomicBool>,
    slowest: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Probe {
    fn start(address: &str) -> Self {
        let (stop, slowest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, seen, address) = (Arc::clone(&stop), Arc::clone(&slowest), address.to_owned());
        let task = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                let began = clock::instant();
                let answer = probe(&address).await;
                assert!(answer.ends_with("ok\n"), "{answer:?}");
                let took = u64::try_from(began.elapsed().as_millis()).unwrap();
                seen.fetch_max(took, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        Self { stop, slowest, task }
    }

    /// The slowest answer in milliseconds.
    async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        self.slowest.load(Ordering::Relaxed)
    }
}

async fn probe(address: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

/// A config of almost all the bytes that are sent: a long key of escapes above thousands of others.
fn config(seed: usize) -> Value {
    let inner: Map<_, _> = (0..2000).map(|number| (format!("%{number:04}\\"), json!(seed))).collect();
    json!({ "%\\".repeat(15_000): inner, format!("{seed}"): "%\\u0025".repeat(200) })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f52_long_texts_and_many_credentials_keep_no_probe_waiting() {
    const OBJECTS: usize = 12;
    let (mut harness, program) = at_work(&[]).await;
    let long = "%\\u0041".repeat(140);
    let values: Vec<_> = (0..64).map(|number| (format!("key-{number}"), long.clone())).collect();
    let values: Vec<_> = values.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    harness.secret("many", &values).await;
    let echo = json!({"error": "%\\u0025\\\\".repeat(100_000)}).to_string();
    let refused = |code| Action::Body {
        code,
        body: echo.clone(),
        content_type: "application/json".into(),
        commit: false,
    };
    for (operation, code) in [
        (Operation::CreateChannel, 422),
        (Operation::UpdateChannel, 400),
        (Operation::StoreCredentials, 422),
        (Operation::GetChannel, 503),
    ] {
        harness.sim.add_fault(Fault::on(operation, refused(code)).skip(if code == 503 { 20 } else { 0 }));
    }
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        let probing = Probe::start(program.address());
        for number in 0..OBJECTS {
            let name = format!("r{round}-{number}");
            let mut spec =
                json!({"config": config(number), "credentials": [{"secretRef": {"name": "many"}}]});
            if number % 3 > 0 {
                spec["channelId"] =
                    harness.sim.insert_channel(NewChannel::new(WORKSPACE, "chat", "Theirs")).into();
            }
            if number % 3 == 2 {
                spec["managementPolicy"] = "Observe".into();
            }
            harness.excused.push(name.clone());
            harness.create(&name, spec).await;
        }
        for number in 0..OBJECTS {
            let name = format!("r{round}-{number}");
            harness
                .until(&name, "reconciled", |channel| {
                    channel.status.as_ref().is_some_and(|status| {
                        status.observed_generation == Some(1) && !status.conditions.is_empty()
                    })
                })
                .await;
        }
        rounds.push(probing.end().await);
        if rounds.last().is_some_and(|slowest| u128::from(*slowest) <= PROBE.as_millis()) {
            break;
        }
    }
    eprintln!("the slowest probe of each round in ms: {rounds:?}");
    assert!(rounds.last().is_some_and(|slowest| u128::from(*slowest) <= PROBE.as_millis()), "{rounds:?}");
    harness.sim.clear_faults();
    drop(program);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f62_slow_many_and_endless_connections_keep_neither_a_probe_nor_the_end_waiting() {
    const CLIENTS: usize = 1000;
    let (harness, mut program) = at_work(&[]).await;
    let address = program.address().to_owned();
    let probing = Probe::start(&address);
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let mut client = TcpStream::connect(&address).await.unwrap();
        let request: &[u8] = match number % 4 {
            0 => b"",
            1 => b"GET /metrics HTTP/1.1\r\nX: ",
            2 => b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
            _ => b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\nx",
        };
        let _ = client.write_all(request).await;
        clients.push(client);
    }
    // One sends headers without end, until it is closed.
    let mut endless = TcpStream::connect(&address).await.unwrap();
    let _ = endless.write_all(b"GET /livez HTTP/1.1\r\n").await;
    let line = format!("X-Header: {}\r\n", "x".repeat(1000));
    let mut sent = 0;
    while endless.write_all(line.as_bytes()).await.is_ok() {
        sent += line.len();
        assert!(sent < 64 << 20, "headers are read without end");
    }
    let slowest = probing.end().await;
    eprintln!("the slowest probe beside {CLIENTS} clients in ms: {slowest}");
    assert!(u128::from(slowest) <= PROBE.as_millis(), "{slowest}");
    assert!(program.peak_memory_kib() < 96 * 1024);
    program.terminate();
    let (code, took) = program.ended().await;
    assert!(code == Some(0) && took < Duration::from_secs(10), "{code:?} after {took:?}");
    drop(clients);
    drop(program);
    harness.finish().await;
}
