//! F45: everything at once, from a seed. `OHALLO_TEST_CHAOS_SECONDS` and `OHALLO_TEST_CHAOS_SEED` make it longer and
//! repeat it.

use std::time::Duration;

use ohallo_core::api::channel::Channel;
use ohallo_sim::{Action, Config, Fault, Operation};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::json;
use testbed::{Act, Rule, When};

use crate::support::harness::{Harness, condition, message};
use crate::support::invariants::Evidence;
use crate::support::steps::{CREATE_AGAIN, RECONCILE_REQUESTED, RELEASE, uid};

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const SECRET: &str = "provider-key-of-the-mix";

fn env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f45_whatever_fails_in_whatever_order_it_converges_when_the_faults_stop() {
    let seed = env("OHALLO_TEST_CHAOS_SEED", 45);
    let seconds = env("OHALLO_TEST_CHAOS_SECONDS", 15);
    let mut random = StdRng::seed_from_u64(seed);
    let mut harness =
        Harness::proxied(Config::default(), &["--request-timeout=1", "--create-timeout=1"]).await;
    harness.secret("provider", &[("apiKey", SECRET)]).await;
    let until = harness.sim.elapsed_ms() + seconds * 1000;
    while harness.sim.elapsed_ms() < until {
        fault(&harness, &mut random);
        edit(&mut harness, &mut random).await;
        if random.random_ratio(1, 20) {
            harness.kill_operator();
            harness.start_operator().await;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(10..200))).await;
    }
    harness.sim.clear_faults();
    harness.proxy().clear();
    harness.proxy().release();
    harness.proxy().repeat(1);
    settle(&harness, seed).await;
    harness.finish().await;
}

fn fault(harness: &Harness, random: &mut StdRng) {
    let commit = random.random();
    let code = *[400, 401, 403, 404, 408, 409, 429, 500, 503].choose(random).unwrap();
    let action = match random.random_range(0..7) {
        0 => Action::Reset { commit },
        1 => Action::Hang { commit },
        2 => Action::Garbage { commit },
        3 => Action::LateCommit { after: Duration::from_millis(random.random_range(10..2000)) },
        4 => Action::NoAnswerDelay { millis: random.random_range(10..900) },
        5 => Action::retry_after(429, "1"),
        _ => Action::status(code),
    };
    let operation = *Operation::ALL.choose(random).unwrap();
    // A create or deletion that lands late is for a user to find; the user here checks at once.
    let late = matches!(action, Action::LateCommit { .. });
    if !(late && matches!(operation, Operation::CreateChannel | Operation::DeleteChannel)) {
        harness.sim.add_fault(Fault::on(operation, action).times(random.random_range(1..3)));
    }
    let when = if random.random() { When::Before } else { When::After };
    let act = match random.random_range(0..3) {
        0 => Act::Drop,
        _ => Act::Answer { code: *[409, 429, 500, 503, 504].choose(random).unwrap(), body: String::new() },
    };
    if random.random() {
        let _put = harness.proxy().add(Rule::write(when, act));
    }
    match random.random_range(0..12) {
        0 => harness.proxy().withhold(if random.random() { "/channels" } else { "/secrets" }),
        1 => drop(harness.proxy().expire_watches("")),
        2 => harness.proxy().repeat(random.random_range(1..4)),
        3..6 => harness.proxy().release(),
        _ => {}
    }
}

async fn edit(harness: &mut Harness, random: &mut StdRng) {
    let name = *NAMES.choose(random).unwrap();
    let number: u32 = random.random();
    let there = harness.channels().get_opt(name).await.unwrap();
    match (there, random.random_range(0..8)) {
        (None, _) => {
            let secret = json!([{"secretRef": {"name": "provider"}}]);
            let spec = json!({"channelType": "voice", "enabled": true, "deletionPolicy": "Delete", "credentials": secret});
            harness.create(name, spec).await;
        }
        (Some(_), 0) => harness.delete_if_there(name).await,
        (Some(_), 1) => {
            harness.annotate_if_there(name, "ohallo.eu/test-requested-at", &number.to_string()).await
        }
        (Some(_), 2) => harness.secret("provider", &[("apiKey", &format!("{SECRET}-{number}"))]).await,
        (Some(_), 3) => harness.annotate_if_there(name, RECONCILE_REQUESTED, &number.to_string()).await,
        (Some(_), 4) => {
            harness.edit_if_there(name, json!({"spec": {"enabled": random.random::<bool>()}})).await;
        }
        (Some(_), _) => {
            harness.edit_if_there(name, json!({"spec": {"displayName": format!("Name {number}")}})).await;
        }
    }
}

/// A person answers what only a person can, until all is well.
async fn settle(harness: &Harness, seed: u64) {
    for round in 0..120 {
        let listed = harness.channels().list(&Default::default()).await.unwrap().items;
        let mut busy = 0;
        if round % 10 == 9 {
            harness.ask_workspace("default", &format!("round {round}")).await;
        }
        for channel in &listed {
            let name = channel.metadata.name.clone().unwrap();
            let good = condition(channel, "Ready").is_some_and(|ready| {
                ready.1 == "True"
                    && ready.3 == channel.metadata.generation
                    && channel.metadata.deletion_timestamp.is_none()
            });
            if good {
                continue;
            }
            busy += 1;
            decide(harness, channel).await;
            harness.annotate_if_there(&name, RECONCILE_REQUESTED, &format!("round {round}")).await;
        }
        let broken = unsettled(harness, listed).await;
        if busy == 0 && broken.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let listed = harness.channels().list(&Default::default()).await.unwrap().items;
    let status = |channel: &Channel| json!({"spec": channel.spec, "status": channel.status});
    let statuses: Vec<_> = listed.iter().map(status).collect();
    let broken = unsettled(harness, listed).await;
    let ledger = harness.sim.ledger();
    panic!(
        "seed {seed}: never settled: {broken:#?}\n{}\n{ledger:#?}",
        serde_json::to_string_pretty(&statuses).unwrap()
    );
}

async fn unsettled(harness: &Harness, listed: Vec<Channel>) -> Vec<String> {
    let secrets = harness.secret_values().await;
    let evidence = Evidence::of(harness, listed);
    evidence.ready_is_true().into_iter().chain(evidence.secrets_arrived(&secrets)).collect()
}

async fn decide(harness: &Harness, channel: &Channel) {
    let name = channel.metadata.name.clone().unwrap();
    let kind = if channel.metadata.deletion_timestamp.is_some() { "DeletionBlocked" } else { "Ready" };
    let unknown = condition(channel, kind).is_some_and(|found| found.2 == "CreateOutcomeUnknown");
    if !unknown {
        return;
    }
    let created: Vec<_> = harness
        .sim
        .channels()
        .into_iter()
        .filter(|created| {
            created.idempotency_key.as_deref().is_some_and(|key| key.starts_with(&uid(channel)))
        })
        .collect();
    let text = message(channel, kind);
    if kind == "DeletionBlocked" {
        for created in &created {
            assert!(harness.sim.remove_channel(&created.id));
        }
        let attempt =
            text.split_once(&format!("{RELEASE}=")).map(|(_, attempt)| attempt.trim_end_matches('.'));
        harness.annotate_if_there(&name, RELEASE, attempt.unwrap_or_default()).await;
    } else if let Some(created) = created.first() {
        harness.edit_if_there(&name, json!({"spec": {"channelId": created.id}})).await;
    } else if let Some((_, attempt)) = text.split_once(&format!("{CREATE_AGAIN}=")) {
        harness.annotate_if_there(&name, CREATE_AGAIN, attempt.trim_end_matches('.')).await;
    }
}
