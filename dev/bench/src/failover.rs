//! How long nobody works when the leader of two replicas goes: killed, or stopped as an update stops it.

use std::io::Write;
use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::{Process, User};
use tokio::time::{Instant, sleep, timeout};

use crate::environment::{Environment, manifest};

/// Short, or a kill would be measured for an hour: a minute each with the default times.
const SHORT_LEASE: Terms = Terms { duration: 3, deadline: 2, retry: 1 };
const DEFAULT: Terms = Terms { duration: 60, deadline: 40, retry: 5 };
const LIMIT: Duration = Duration::from_secs(120);
const RECONCILE_REQUESTED: Duration = Duration::from_millis(10);

#[derive(Clone, Copy)]
struct Terms {
    duration: u32,
    deadline: u32,
    retry: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Kill,
    Release,
}

/// One replica.
struct Replica {
    process: Process,
    http: String,
}

/// Two replicas in a namespace of their own, and what they share.
struct Pair<'a> {
    environment: &'a Environment,
    namespace: String,
    terms: Terms,
    created: usize,
}

pub async fn run(environment: &mut Environment, failovers: u32) -> Result<()> {
    let killed = measure(environment, SHORT_LEASE, End::Kill, failovers).await?;
    let released = measure(environment, DEFAULT, End::Release, failovers).await?;
    print("SIGKILL, lease of 3/2/1 s", killed)?;
    print("SIGTERM, default lease of 60/40/5 s", released)
}

async fn measure(environment: &mut Environment, terms: Terms, end: End, failovers: u32) -> Result<Vec<f64>> {
    let namespace = environment.namespace().await?;
    let mut pair = Pair { environment, namespace, terms, created: 0 };
    let mut leader = pair.replica().await?;
    leader.until("this replica: leader").await?;
    pair.environment.verified(&pair.namespace).await?;
    let mut times = Vec::new();
    for number in 1..=failovers {
        let standby = pair.replica().await?;
        standby.until("this replica: standby").await?;
        // A standby that has seen one renewal knows the lease as well as one that has been a standby for long.
        sleep(Duration::from_millis(1500 + u64::from(number) * 137 % 1000)).await;
        let name = format!("c{number}");
        let stopped = if end == End::Kill {
            let stopped = Instant::now();
            drop(leader);
            stopped
        } else {
            // The old one works until it ends.
            leader.process.terminate(LIMIT).await?;
            Instant::now()
        };
        pair.environment.create(&pair.namespace, manifest(&name, "Bench")).await?;
        pair.bound(&name).await?;
        times.push(stopped.elapsed().as_secs_f64());
        pair.created += 1;
        ensure!(pair.environment.sim.channel_count() >= pair.created, "a channel is missing");
        leader = standby;
        eprintln!("failover {number} of {failovers}: {:.2} s", times.last().copied().unwrap_or_default());
    }
    leader.process.terminate(LIMIT).await?;
    Ok(times)
}

fn print(what: &str, mut times: Vec<f64>) -> Result<()> {
    times.sort_by(f64::total_cmp);
    let at = |share: usize| times.get((times.len() - 1) * share / 100).copied().context("no sample");
    let (p50, p99, slowest) = (at(50)?, at(99)?, at(100)?);
    let count = times.len();
    writeln!(
        std::io::stdout().lock(),
        "end of the leader to the next Channel Ready, {what}, {count} times: p50 {p50:.2} s, p99 {p99:.2} s, slowest {slowest:.2} s"
    )?;
    Ok(())
}

// === impl Pair ===

impl Pair<'_> {
    async fn replica(&self) -> Result<Replica> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let Terms { duration, deadline, retry } = self.terms;
        let flags = [
            "run".to_owned(),
            format!("--kubeconfig={}", self.environment.plane.kubeconfig(User::Operator).display()),
            format!("--api-url={}", self.environment.sim.url()),
            format!("--namespace={}", self.namespace),
            format!("--http-addr=127.0.0.1:{port}"),
            "--requests-per-second=0".to_owned(),
            "--leader-elect".to_owned(),
            format!("--lease-duration-seconds={duration}"),
            format!("--lease-renew-deadline-seconds={deadline}"),
            format!("--lease-retry-seconds={retry}"),
        ];
        let process = self.environment.plane.spawn("ohallo-operator", &self.environment.operator, &flags)?;
        Ok(Replica { process, http: format!("http://127.0.0.1:{port}") })
    }

    async fn bound(&self, name: &str) -> Result<()> {
        let api = crate::environment::channels(&self.environment.client, &self.namespace);
        let ready = async {
            while !crate::environment::is_ready(&api.get(name).await?) {
                sleep(RECONCILE_REQUESTED).await;
            }
            anyhow::Ok(())
        };
        timeout(LIMIT, ready).await.context("nobody took over")?
    }
}

// === impl Replica ===

impl Replica {
    async fn until(&self, role: &str) -> Result<()> {
        let observed = async {
            loop {
                if let Ok(answer) = reqwest::get(format!("{}/readyz", self.http)).await
                    && answer.text().await.is_ok_and(|text| text.contains(role))
                {
                    return;
                }
                sleep(RECONCILE_REQUESTED).await;
            }
        };
        timeout(LIMIT, observed).await.with_context(|| format!("no {role:?}"))
    }
}
