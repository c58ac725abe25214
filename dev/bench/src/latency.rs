//! The time from apply to Ready of one Channel: while nothing else runs, and while a thousand others are read at
//! their intervals.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use ohallo_sim::Operation;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::environment::{Environment, manifest};
use crate::round::{Running, Seen, Who, each, observe, until};

const SAMPLES: usize = 200;
/// Of each kind, in turns.
const RUNS: usize = 3;
/// Between two samples, so that one's last write does not meet the next one's first.
const PAUSE: Duration = Duration::from_millis(20);
/// The Channels that are read meanwhile, and the shortest interval there is: created at once, they are read at once.
const OTHERS: usize = 1000;
const INTERVAL_SECONDS: u32 = 60;
const RECONCILE_REQUESTED: Duration = Duration::from_millis(500);

/// The times of one run, sorted, in milliseconds, and how many reads happened meanwhile.
struct Run {
    times: Vec<f64>,
    reads: usize,
}

pub async fn run(environment: &mut Environment) -> Result<()> {
    let namespace = environment.namespace().await?;
    let (seen, watching) = observe(environment, &namespace);
    let running = Running::start(environment, Who::Operator, &namespace).await?;
    each(OTHERS, |name| {
        environment.create(&namespace, read_every(INTERVAL_SECONDS, manifest(name, "Other")))
    })
    .await?;
    until(&seen, |seen| seen.ready == OTHERS).await?;
    let (mut idle, mut sweep) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        reads(environment, |rate| rate > 5).await;
        sweep.push(sample(environment, &namespace, &seen).await?);
        reads(environment, |rate| rate == 0).await;
        idle.push(sample(environment, &namespace, &seen).await?);
    }
    watching.abort();
    running.process.terminate(Duration::from_secs(35)).await?;
    let (idle, sweep) = (print_median("nothing else", idle)?, print_median("a sweep", sweep)?);
    writeln!(
        std::io::stdout().lock(),
        "p99 during a sweep: {:.2}× of that beside nothing else",
        sweep / idle
    )?;
    Ok(())
}

fn read_every(seconds: u32, mut manifest: Value) -> Value {
    if let Some(spec) = manifest.get_mut("spec").and_then(Value::as_object_mut) {
        spec.insert("intervalSeconds".into(), seconds.into());
    }
    manifest
}

/// Waits until so many reads happen in half a second.
async fn reads(environment: &Environment, holds: impl Fn(usize) -> bool) {
    loop {
        let before = environment.sim.count(Operation::GetChannel);
        sleep(RECONCILE_REQUESTED).await;
        if holds(environment.sim.count(Operation::GetChannel) - before) {
            return;
        }
    }
}

async fn sample(environment: &Environment, namespace: &str, seen: &watch::Receiver<Seen>) -> Result<Run> {
    let before = environment.sim.count(Operation::GetChannel);
    let first = seen.borrow().ready;
    let mut times = Vec::new();
    for number in first..first + SAMPLES {
        let begun = Instant::now();
        environment.create(namespace, manifest(&format!("c{number}"), "Bench")).await?;
        until(seen, |seen| seen.ready > number).await?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
        sleep(PAUSE).await;
    }
    times.sort_by(f64::total_cmp);
    Ok(Run { times, reads: environment.sim.count(Operation::GetChannel) - before })
}

/// Prints the median run and returns its p99.
fn print_median(alongside: &str, mut runs: Vec<Run>) -> Result<f64> {
    let at = |run: &Run, share: usize| run.times.get((run.times.len() - 1) * share / 100).copied();
    runs.sort_by(|a, b| at(a, 99).partial_cmp(&at(b, 99)).unwrap_or(std::cmp::Ordering::Equal));
    let run = runs.get(runs.len() / 2).context("no run")?;
    let [half, most, last] = [50, 99, 100].map(|share| at(run, share).unwrap_or_default());
    writeln!(
        std::io::stdout().lock(),
        "apply to Ready beside {alongside} ({} reads), {SAMPLES} Channels one by one, the median of {RUNS} runs: p50 \
         {half:.1} ms, p99 {most:.1} ms, slowest {last:.1} ms",
        run.reads
    )?;
    Ok(most)
}
