//! SIGKILL at every write: the program runs through one Channel's whole life, is killed before or after its n-th
//! write, started again, and must come to the same end, for every n. F1 and F2 of the fault matrix.
//!
//! `OHALLO_TEST_KILL=<every>/<offset>` runs every Nth plan only, from the offset on; by default all of them.

pub mod scenario;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ohallo_sim::{Action, Behaviour, Config, Fault, FaultId, Operation, Provisioning};
use serde_json::json;
use testbed::{Act, Held, Proxy, Rule, User, When};
use tokio::sync::Semaphore;

use crate::support::harness::{Harness, kind, plane};
use crate::support::program::Program;

use scenario::{End, run_scenario};

/// How many plans run at the same time: each waits most of its time.
const AT_ONCE: usize = 8;
/// How many Kubernetes writes of one kind a kill may add: what was to be reported again, and what a user was asked.
const MORE: usize = 8;

/// Where the program is killed.
#[derive(Clone, Copy, Debug)]
enum Point {
    /// The n-th Kubernetes write, from 0.
    Kubernetes { n: usize, when: When },
    /// The n-th call of this kind, from 0.
    Ohallo { operation: Operation, n: u32, took_effect: bool },
}

/// A point that was put in.
enum Armed {
    Kubernetes(Held),
    Ohallo(FaultId),
}

struct Run {
    end: End,
    /// Kubernetes writes, and writes to oHallo by kind.
    writes: usize,
    calls: BTreeMap<Operation, u32>,
    /// By kind, what the API server's audit log has of them.
    wrote: BTreeMap<String, usize>,
    killed: bool,
}

// === impl Run ===

impl Run {
    /// In what it differs from the run that was not killed.
    fn differs(&self, reference: &Run) -> Option<String> {
        if self.end != reference.end {
            return Some(format!("{:?} instead of {:?}", self.end, reference.end));
        }
        let usual = |(kind, count): (&String, &usize)| {
            reference.wrote.get(kind).is_some_and(|wrote| *count <= wrote + MORE)
        };
        (!self.wrote.iter().all(usual)).then(|| format!("{:?} instead of {:?}", self.wrote, reference.wrote))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f01_f02_killed_before_and_after_every_write_it_comes_to_the_same_end() {
    let reference = run(None).await;
    let plans = chosen(plans(&reference));
    assert!(!plans.is_empty());
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let running: Vec<_> = plans
        .into_iter()
        .map(|point| {
            let slots = Arc::clone(&slots);
            let plan = tokio::spawn(async move {
                let _slot = slots.acquire().await.unwrap();
                run(Some(point)).await
            });
            (point, plan)
        })
        .collect();
    let all = running.len();
    let (mut failed, mut missed) = (Vec::new(), Vec::new());
    for (point, plan) in running {
        match plan.await {
            Ok(run) if !run.killed => missed.push(point),
            Ok(run) => failed.extend(run.differs(&reference).map(|what| format!("{point:?}: {what}"))),
            Err(error) => failed.push(format!("{point:?}: {error}")),
        }
    }
    eprintln!("kill plans: {all} run, {} failed, {} not reached {missed:?}", failed.len(), missed.len());
    assert!(failed.is_empty(), "{failed:#?}");
    // The number of writes differs a little from run to run, where two things happen at the same time.
    assert!(missed.len() <= 2, "{missed:?}");
}

fn plans(reference: &Run) -> Vec<Point> {
    let sides = [When::Before, When::After];
    let mut plans = Vec::new();
    for n in 0..reference.writes {
        plans.extend(sides.map(|when| Point::Kubernetes { n, when }));
    }
    for (operation, count) in &reference.calls {
        for n in 0..*count {
            plans.extend([false, true].map(|took_effect| Point::Ohallo {
                operation: *operation,
                n,
                took_effect,
            }));
        }
    }
    plans
}

fn chosen(plans: Vec<Point>) -> Vec<Point> {
    let Ok(wish) = std::env::var("OHALLO_TEST_KILL") else { return plans };
    let (every, offset) = wish.split_once('/').expect("OHALLO_TEST_KILL is <every>/<offset>");
    let (every, offset) = (every.parse().unwrap(), offset.parse().unwrap());
    plans.into_iter().skip(offset).step_by(every).collect()
}

async fn run(point: Option<Point>) -> Run {
    let behaviour = Behaviour { provisioning: Provisioning::millis(300).failing(1), ..Behaviour::default() };
    let harness = Harness::bare(Config { behaviour, ..Config::default() }, &[]).await;
    let proxy = Proxy::start(plane().await, User::Operator).await.unwrap();
    harness
        .put_secret(json!({"metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": harness.key}}))
        .await;
    harness.secret("provider", &[("apiKey", scenario::FIRST)]).await;
    harness.workspace("default", "ohallo-api-key").await;
    let armed = point.map(|point| arm(&harness, &proxy, point));
    let killed = AtomicBool::new(false);
    let mut programs = vec![start(&harness, &proxy)];
    let end = {
        let operator = async {
            if let Some(armed) = &armed {
                reached(&harness, armed).await;
                programs[0].kill();
                killed.store(true, Ordering::SeqCst);
                programs.push(start(&harness, &proxy));
            }
            std::future::pending::<()>().await
        };
        tokio::select! {
            end = run_scenario(&harness, &killed) => end,
            () = operator => unreachable!("it never ends"),
        }
    };
    let (calls, wrote) = (writes(&harness), wrote(&harness));
    drop(programs);
    harness.finish().await;
    Run { end, writes: proxy.writes(), calls, wrote, killed: killed.into_inner() }
}

fn start(harness: &Harness, proxy: &Proxy) -> Program {
    let flags = [
        format!("--api-url={}", harness.sim.url()),
        format!("--namespace={}", harness.namespace),
        "--requests-per-second=0".to_owned(),
        "--consistency-window-seconds=0".to_owned(),
    ];
    Program::with_kubeconfig(proxy.kubeconfig(), &flags)
}

fn arm(harness: &Harness, proxy: &Proxy, point: Point) -> Armed {
    match point {
        Point::Kubernetes { n, when } => Armed::Kubernetes(proxy.add(Rule::write(when, Act::Hold).skip(n))),
        Point::Ohallo { operation, n, took_effect } => {
            // Never released: what did not take effect by then never does.
            let hold = Action::Hold { commit_first: took_effect };
            Armed::Ohallo(harness.sim.add_fault(Fault::on(operation, hold).skip(n).times(1)))
        }
    }
}

async fn reached(harness: &Harness, armed: &Armed) {
    let reached = match armed {
        Armed::Kubernetes(held) => held.reached().await,
        Armed::Ohallo(id) => loop {
            // It gives up after a while; a plan may take longer.
            if harness.sim.held(*id).await.is_ok() {
                break Ok(());
            }
        },
    };
    if reached.is_err() {
        std::future::pending::<()>().await;
    }
}

fn writes(harness: &Harness) -> BTreeMap<Operation, u32> {
    let mut calls = BTreeMap::new();
    for entry in harness.sim.ledger().iter().filter(|entry| entry.operation.is_write()) {
        *calls.entry(entry.operation).or_default() += 1;
    }
    calls
}

/// Each kind of write and how often it was done.
fn wrote(harness: &Harness) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for event in harness.audited_writes().into_iter().filter(|event| event.code < 300) {
        *kinds.entry(kind(&event)).or_default() += 1;
    }
    kinds
}
