//! One candidate, one namespace: create, idle, restart, update, delete.

use std::collections::{HashMap, HashSet};
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use kube::runtime::{WatchStreamExt, watcher};
use testbed::{Process, User};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::environment::{self, Environment, channels, is_ready};
use crate::{Size, process};

/// Requests that the driver has under way at a time.
const DRIVERS: usize = 32;
const PHASE_LIMIT: Duration = Duration::from_secs(1800);
const STOP_LIMIT: Duration = Duration::from_secs(35);
/// What is written just before a phase's end comes into the audit log a moment later.
const SETTLE: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Operator,
    Baseline,
}

/// What one phase took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Phase {
    pub seconds: f64,
    pub cpu: f64,
    pub writes: usize,
    pub events: usize,
    pub calls: usize,
}

pub struct Round {
    pub who: Who,
    pub create: Phase,
    pub idle: Phase,
    pub restart: Phase,
    pub update: Phase,
    pub delete: Phase,
    pub idle_mib: f64,
    pub peak_mib: f64,
}

/// A candidate at work in a namespace.
pub struct Running {
    pub process: Process,
    pub namespace: String,
    who: Who,
}

/// How many Channels are there, and how many of them are Ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub present: usize,
    pub ready: usize,
}

/// Where a phase began.
struct Mark {
    at: Instant,
    cpu: f64,
    audit: u64,
    ledger: u64,
}

pub async fn run(environment: &mut Environment, who: Who, size: &Size) -> Result<Round> {
    let namespace = environment.namespace().await?;
    let (seen, watching) = observe(environment, &namespace);
    let running = Running::start(environment, who, &namespace).await?;
    let count = usize::try_from(size.channels)?;

    let mark = mark(environment, Some(&running))?;
    each(count, |name| environment.create(&namespace, environment::manifest(name, "Bench"))).await?;
    until(&seen, |seen| seen.ready == count).await?;
    let create = mark.phase(environment, &running, 0.0).await?;

    let mark = self::mark(environment, Some(&running))?;
    sleep(Duration::from_secs(size.idle)).await;
    let idle = mark.phase(environment, &running, 0.0).await?;
    let idle_mib = process::resident_mib(running.process.id())?;
    let peak_mib = process::peak_mib(running.process.id())?;

    running.process.terminate(STOP_LIMIT).await?;
    let mark = self::mark(environment, None)?;
    // Its Workspace is verified by now, so this waits for the list alone.
    let running = Running::start(environment, who, &namespace).await?;
    let ready = mark.at.elapsed().as_secs_f64();
    sleep(Duration::from_secs(2)).await;
    let restart = Phase { seconds: ready, ..mark.phase(environment, &running, 0.0).await? };

    let update =
        if who == Who::Operator { update(environment, &running, count).await? } else { Phase::default() };

    let mark = self::mark(environment, Some(&running))?;
    let api = channels(&environment.client, &namespace);
    api.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    until(&seen, |seen| seen.present == 0).await?;
    let delete = mark.phase(environment, &running, 0.0).await?;

    let peak_mib = peak_mib.max(process::peak_mib(running.process.id())?);
    running.process.terminate(STOP_LIMIT).await?;
    watching.abort();
    Ok(Round { who, create, idle, restart, update, delete, idle_mib, peak_mib })
}

async fn update(environment: &Environment, running: &Running, count: usize) -> Result<Phase> {
    let mark = mark(environment, Some(running))?;
    // The simulator counts the rounds before as well.
    let all = environment.sim.count(ohallo_sim::Operation::UpdateChannel) + count;
    each(count, |name| environment.rename(&running.namespace, name)).await?;
    let renamed = |sim: &ohallo_sim::Sim| sim.count(ohallo_sim::Operation::UpdateChannel) >= all;
    environment.sim.wait_until(renamed, PHASE_LIMIT).await?;
    mark.phase(environment, running, SETTLE.as_secs_f64()).await
}

/// Does something with each of so many names, several at a time.
pub async fn each<'a, F: Future<Output = Result<()>> + 'a>(
    count: usize,
    act: impl Fn(&'a str) -> F,
) -> Result<()> {
    // The names live as long as the process: a benchmark creates few of them.
    let names = (0..count).map(|number| -> &'static str { format!("c{number}").leak() });
    futures::stream::iter(names.map(|name| Ok(act(name))))
        .try_buffer_unordered(DRIVERS)
        .try_collect::<Vec<()>>()
        .await
        .map(drop)
}

pub async fn until(seen: &watch::Receiver<Seen>, holds: impl Fn(&Seen) -> bool) -> Result<()> {
    let mut seen = seen.clone();
    let waited = timeout(PHASE_LIMIT, seen.wait_for(|seen| holds(seen))).await;
    waited.context("not done in half an hour")?.context("the watch ended")?;
    Ok(())
}

/// Watches a namespace's Channels.
pub fn observe(environment: &Environment, namespace: &str) -> (watch::Receiver<Seen>, JoinHandle<()>) {
    let (publish, seen) = watch::channel(Seen::default());
    let api = channels(&environment.client, namespace);
    let task = tokio::spawn(async move {
        let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
        let mut ready = HashMap::new();
        let mut listed = HashSet::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Apply(channel)) => {
                    ready.insert(channel.name_any(), is_ready(&channel));
                }
                Ok(watcher::Event::InitApply(channel)) => {
                    listed.insert(channel.name_any());
                    ready.insert(channel.name_any(), is_ready(&channel));
                }
                Ok(watcher::Event::InitDone) => {
                    ready.retain(|name, _| listed.contains(name));
                    listed.clear();
                }
                Ok(watcher::Event::Delete(channel)) => {
                    ready.remove(&channel.name_any());
                }
                _ => {}
            }
            let count = ready.values().filter(|ready| **ready).count();
            publish.send_replace(Seen { present: ready.len(), ready: count });
        }
    });
    (seen, task)
}

fn mark(environment: &Environment, running: Option<&Running>) -> Result<Mark> {
    let cpu = running.map_or(Ok(0.0), |running| process::cpu_seconds(running.process.id()))?;
    let audit = environment.plane.audit_end()?;
    let ledger = environment.sim.ledger_since(0).last().map_or(0, |entry| entry.seq + 1);
    Ok(Mark { at: Instant::now(), cpu, audit, ledger })
}

// === impl Mark ===

impl Mark {
    async fn phase(self, environment: &Environment, running: &Running, wait: f64) -> Result<Phase> {
        let seconds = self.at.elapsed().as_secs_f64();
        sleep(SETTLE + Duration::from_secs_f64(wait)).await;
        let cpu = process::cpu_seconds(running.process.id())? - self.cpu;
        let mut offset = self.audit;
        let audit = environment.plane.audit_since(&mut offset)?;
        let ours = |event: &&testbed::AuditEvent| {
            event.user == User::Operator.name()
                && event.namespace.as_deref() == Some(&running.namespace)
                && !matches!(event.verb.as_str(), "get" | "list" | "watch")
        };
        let events = audit.iter().filter(ours).filter(|event| event.resource == "events").count();
        let writes = audit.iter().filter(ours).count() - events;
        let calls = environment.sim.ledger_since(self.ledger).len();
        Ok(Phase { seconds, cpu, writes, events, calls })
    }
}

// === impl Running ===

impl Running {
    /// Starts a candidate and waits until it has listed everything.
    pub async fn start(environment: &Environment, who: Who, namespace: &str) -> Result<Self> {
        let namespace = namespace.to_owned();
        let process = match who {
            Who::Operator => {
                let process = start_operator(environment, &namespace).await?;
                environment.verified(&namespace).await?;
                process
            }
            Who::Baseline => start_baseline(environment, &namespace).await?,
        };
        Ok(Self { process, namespace, who })
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} in {}", self.who, self.namespace)
    }
}

async fn start_operator(environment: &Environment, namespace: &str) -> Result<Process> {
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let arguments = vec![
        "run".to_owned(),
        format!("--kubeconfig={}", environment.plane.kubeconfig(User::Operator).display()),
        format!("--api-url={}", environment.sim.url()),
        format!("--namespace={namespace}"),
        format!("--http-addr=127.0.0.1:{port}"),
        "--requests-per-second=0".to_owned(),
        "--log-format=json".to_owned(),
    ];
    let mut process = environment.plane.spawn("ohallo-operator", &environment.operator, &arguments)?;
    let http = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("http://127.0.0.1:{port}/readyz");
    loop {
        process.check()?;
        if http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
            return Ok(process);
        }
        sleep(Duration::from_millis(5)).await;
    }
}

async fn start_baseline(environment: &Environment, namespace: &str) -> Result<Process> {
    let ready: PathBuf = environment.plane.logs_dir().join("baseline-is-ready");
    if ready.exists() {
        std::fs::remove_file(&ready)?;
    }
    let arguments = vec![
        "baseline".to_owned(),
        format!("--kubeconfig={}", environment.plane.kubeconfig(User::Operator).display()),
        format!("--api-url={}", environment.sim.url()),
        format!("--namespace={namespace}"),
        format!("--key={}", environment::KEY),
        format!("--ready-file={}", ready.display()),
    ];
    let mut process = environment.plane.spawn("baseline", &std::env::current_exe()?, &arguments)?;
    while !ready.exists() {
        process.check()?;
        sleep(Duration::from_millis(5)).await;
    }
    Ok(process)
}
