//! F45: everything at once, from a seed. `OHALLO_TEST_MIX_SECONDS` and `OHALLO_TEST_MIX_SEED` make it longer and
//! repeat it.

use std::time::Duration;

use ohallo_core::api::channel::Channel;
use ohallo_sim::{Action, Config, Fault, Operation};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::json;
use testbed::{Act, Rule, When};

use crate::acts::{AGAIN, LOOK, RELEASE, uid};
use crate::invariants::World;
use crate::rig::{Rig, condition, message};

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const SECRET: &str = "provider-key-of-the-mix";

fn env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f45_whatever_fails_in_whatever_order_it_converges_when_the_faults_stop() {
    let seed = env("OHALLO_TEST_MIX_SEED", 45);
    let seconds = env("OHALLO_TEST_MIX_SECONDS", 15);
    let mut random = StdRng::seed_from_u64(seed);
    let mut rig = Rig::proxied(Config::default(), &["--request-timeout=1", "--create-timeout=1"]).await;
    rig.secret("provider", &[("apiKey", SECRET)]).await;
    let until = rig.sim.elapsed_ms() + seconds * 1000;
    while rig.sim.elapsed_ms() < until {
        fault(&rig, &mut random);
        edit(&mut rig, &mut random).await;
        if random.random_ratio(1, 20) {
            rig.kill_operator();
            rig.start_operator().await;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(10..200))).await;
    }
    rig.sim.clear_faults();
    rig.proxy().clear();
    rig.proxy().release();
    rig.proxy().repeat(1);
    settle(&rig, seed).await;
    rig.finish().await;
}

fn fault(rig: &Rig, random: &mut StdRng) {
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
    // A create or deletion that lands late is a person's to find; the person here looks at once.
    let late = matches!(action, Action::LateCommit { .. });
    if !(late && matches!(operation, Operation::CreateChannel | Operation::DeleteChannel)) {
        rig.sim.add_fault(Fault::on(operation, action).times(random.random_range(1..3)));
    }
    let when = if random.random() { When::Before } else { When::After };
    let act = match random.random_range(0..3) {
        0 => Act::Drop,
        _ => Act::Answer { code: *[409, 429, 500, 503, 504].choose(random).unwrap(), body: String::new() },
    };
    if random.random() {
        let _put = rig.proxy().add(Rule::write(when, act));
    }
    match random.random_range(0..12) {
        0 => rig.proxy().withhold(if random.random() { "/channels" } else { "/secrets" }),
        1 => drop(rig.proxy().expire_watches("")),
        2 => rig.proxy().repeat(random.random_range(1..4)),
        3..6 => rig.proxy().release(),
        _ => {}
    }
}

async fn edit(rig: &mut Rig, random: &mut StdRng) {
    let name = *NAMES.choose(random).unwrap();
    let number: u32 = random.random();
    let there = rig.channels().get_opt(name).await.unwrap();
    match (there, random.random_range(0..8)) {
        (None, _) => {
            let secret = json!([{"secretRef": {"name": "provider"}}]);
            let spec = json!({"channelType": "voice", "enabled": true, "deletionPolicy": "Delete", "credentials": secret});
            rig.create(name, spec).await;
        }
        (Some(_), 0) => rig.delete_if_there(name).await,
        (Some(_), 1) => rig.annotate_if_there(name, "ohallo.eu/test-requested-at", &number.to_string()).await,
        (Some(_), 2) => rig.secret("provider", &[("apiKey", &format!("{SECRET}-{number}"))]).await,
        (Some(_), 3) => rig.annotate_if_there(name, LOOK, &number.to_string()).await,
        (Some(_), 4) => {
            rig.edit_if_there(name, json!({"spec": {"enabled": random.random::<bool>()}})).await;
        }
        (Some(_), _) => {
            rig.edit_if_there(name, json!({"spec": {"displayName": format!("Name {number}")}})).await;
        }
    }
}

/// A person answers what only a person can, until all is well.
async fn settle(rig: &Rig, seed: u64) {
    for round in 0..120 {
        let listed = rig.channels().list(&Default::default()).await.unwrap().items;
        let mut busy = 0;
        if round % 10 == 9 {
            rig.ask_workspace("default", &format!("round {round}")).await;
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
            decide(rig, channel).await;
            rig.annotate_if_there(&name, LOOK, &format!("round {round}")).await;
        }
        let broken = unsettled(rig, listed).await;
        if busy == 0 && broken.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let listed = rig.channels().list(&Default::default()).await.unwrap().items;
    let status = |channel: &Channel| json!({"spec": channel.spec, "status": channel.status});
    let told: Vec<_> = listed.iter().map(status).collect();
    let broken = unsettled(rig, listed).await;
    let ledger = rig.sim.ledger();
    panic!(
        "seed {seed}: never settled: {broken:#?}\n{}\n{ledger:#?}",
        serde_json::to_string_pretty(&told).unwrap()
    );
}

async fn unsettled(rig: &Rig, listed: Vec<Channel>) -> Vec<String> {
    let secrets = rig.secret_values().await;
    let world = World::of(rig, listed);
    world.ready_is_true().into_iter().chain(world.secrets_arrived(&secrets)).collect()
}

async fn decide(rig: &Rig, channel: &Channel) {
    let name = channel.metadata.name.clone().unwrap();
    let kind = if channel.metadata.deletion_timestamp.is_some() { "DeletionBlocked" } else { "Ready" };
    let unknown = condition(channel, kind).is_some_and(|found| found.2 == "CreateOutcomeUnknown");
    if !unknown {
        return;
    }
    let made: Vec<_> = rig
        .sim
        .channels()
        .into_iter()
        .filter(|made| made.idempotency_key.as_deref().is_some_and(|key| key.starts_with(&uid(channel))))
        .collect();
    let text = message(channel, kind);
    if kind == "DeletionBlocked" {
        for made in &made {
            assert!(rig.sim.remove_channel(&made.id));
        }
        let attempt =
            text.split_once(&format!("{RELEASE}=")).map(|(_, attempt)| attempt.trim_end_matches('.'));
        rig.annotate_if_there(&name, RELEASE, attempt.unwrap_or_default()).await;
    } else if let Some(made) = made.first() {
        rig.edit_if_there(&name, json!({"spec": {"channelId": made.id}})).await;
    } else if let Some((_, attempt)) = text.split_once(&format!("{AGAIN}=")) {
        rig.annotate_if_there(&name, AGAIN, attempt.trim_end_matches('.')).await;
    }
}
