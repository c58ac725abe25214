//! Every field of a Channel, wrong in every way that its schema knows of, alone and in pairs.
//!
//! `OHALLO_TEST_MISOPERATION_EVERY=1` does all of it to an adopted Channel as well, not every fifth only;
//! `OHALLO_TEST_MISOPERATION_PAIRS` is how many pairs, `OHALLO_TEST_MISOPERATION_SEED` which.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::api::{Api, PostParams};
use ohallo_sim::{Key, NewChannel, Operation};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::json;

use crate::misoperation::mutations::{Mutation, mutations};
use crate::misoperation::support::inputs::{env, namespace_with_secrets};
use crate::misoperation::support::schema::spec_of;
use crate::misoperation::support::trial::{Base, End, OWN_ID, Trials};
use crate::support::harness::Harness;
use crate::support::steps::insert_in_dashboard;

/// Pairs that share an operator: the log of each is searched for secrets in the end.
const ROUND: usize = 1000;
/// Of a Secret, a Workspace and a namespace, none of which are this namespace's.
const ELSEWHERE: &str = "elsewhere";

pub fn bases() -> [Base; 2] {
    let credentials = json!([
        {"secretRef": {"name": "alpha"}},
        {"name": "token", "secretKeyRef": {"name": "beta", "key": "alpha"}},
    ]);
    let config = json!({"greeting": "Hi", "hours": {"from": 9, "to": 17.5}, "tags": ["a", 1]});
    let created = json!({
        "channelType": "chat", "displayName": "Healthy", "config": config, "enabled": true, "credentials": credentials,
    });
    let mut adopted = created.clone();
    adopted["channelType"] = json!("voice");
    adopted["enabled"] = json!(false);
    adopted["managementPolicy"] = json!("Manage");
    adopted["driftPolicy"] = json!("Report");
    adopted["deletionPolicy"] = json!("Retain");
    adopted["suspend"] = json!(false);
    adopted["intervalSeconds"] = json!(3600);
    adopted["connectivityTest"] = json!("OnRequest");
    adopted["provisioningRetry"] = json!({"limit": 1, "backoffSeconds": 10});
    adopted["workspaceRef"] = json!({"kind": "Workspace", "name": "default"});
    [
        Base { name: "created", spec: created, adopted: false },
        Base { name: "adopted", spec: adopted, adopted: true },
    ]
}

/// What must not be touched: a healthy neighbour, and another tenant's channel.
struct Bystanders {
    neighbour: String,
    version: Option<String>,
    stranger: String,
    orphan: String,
}

async fn bystanders(harness: &Harness) -> Bystanders {
    let neighbour = harness.ready("neighbour", json!({"config": {"a": 1}})).await;
    harness.sim.add_workspace("other tenant", ELSEWHERE, "Not ours");
    harness.sim.add_key(Key::new("sf_test_v1_other", "other tenant"));
    let stranger = harness.sim.insert_channel(NewChannel::new(ELSEWHERE, "chat", "Not ours"));
    let name = format!("{}-{ELSEWHERE}", harness.namespace);
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    Api::<Namespace>::all(harness.admin.clone()).create(&PostParams::default(), &namespace).await.unwrap();
    let secret =
        serde_json::from_value(json!({"metadata": {"name": ELSEWHERE}, "stringData": {"alpha": "theirs"}}));
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(harness.admin.clone(), &name);
    secrets.create(&PostParams::default(), &secret.unwrap()).await.unwrap();
    Bystanders {
        neighbour: neighbour.status.as_ref().unwrap().channel_id.clone().unwrap(),
        version: neighbour.resource_version(),
        stranger,
        orphan: insert_in_dashboard(harness, "chat", "Nobody's"),
    }
}

/// Every mutation of the base, with names of everything that it should not get hold of.
fn singles(base: &Base, others: &Bystanders) -> Vec<Mutation> {
    let mut spec = base.spec.clone();
    if base.adopted {
        spec["channelId"] = json!(OWN_ID);
    }
    let words = [ELSEWHERE, "missing", "beta", OWN_ID, &others.neighbour, &others.stranger, &others.orphan];
    mutations(&spec_of("channels"), &json!({"spec": spec}), &words)
}

async fn run(plans: impl FnOnce(&Bystanders) -> Vec<(Base, Vec<Mutation>)>) -> BTreeMap<End, usize> {
    let (harness, secrets) = namespace_with_secrets().await;
    let others = bystanders(&harness).await;
    let plans = plans(&others);
    let all = plans.len();
    let began = harness.sim.elapsed_ms();
    let (ends, failed) = Trials::new(&harness, &secrets).all(plans).await;
    eprintln!(
        "misoperation: {all} in {} ms, {ends:?}, {} failed",
        harness.sim.elapsed_ms() - began,
        failed.len()
    );
    assert!(failed.is_empty(), "{} failed", failed.len());
    assert_eq!(ends.values().sum::<usize>(), all);
    untouched(&harness, &others).await;
    harness.finish().await;
    ends
}

async fn untouched(harness: &Harness, others: &Bystanders) {
    let created = harness.channels().list(&Default::default()).await.unwrap().items.into_iter();
    let created = created.filter(|channel| channel.spec.channel_id.is_none() || pinned(channel)).count();
    assert_eq!(harness.count(Operation::CreateChannel), created, "each was created once");
    assert_eq!(harness.count(Operation::DeleteChannel), 0);
    for foreign in [&others.stranger, &others.orphan] {
        let calls = harness.sim.ledger();
        let calls: Vec<_> = calls.iter().filter(|entry| entry.channel.as_ref() == Some(foreign)).collect();
        assert!(calls.is_empty(), "{calls:?}");
    }
    let neighbour = harness.get("neighbour").await;
    assert_eq!(neighbour.resource_version(), others.version, "the neighbour was written");
    let mut bound: BTreeMap<_, String> = BTreeMap::new();
    for seen in harness.history.seen() {
        let id = seen.channel.status.as_ref().and_then(|status| status.channel_id.clone());
        if let Some(was) = bound.get(&seen.channel.uid()) {
            assert_eq!(id.as_ref(), Some(was), "an id was lost");
        }
        bound.extend(id.map(|id| (seen.channel.uid(), id)));
    }
}

/// Created, and its id declared afterwards.
fn pinned(channel: &ohallo_core::api::channel::Channel) -> bool {
    channel.status.as_ref().is_some_and(|status| status.origin.as_deref() == Some("Created"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_wrong_field_is_rejected_or_reported_and_its_correction_restores_everything() {
    let ends = run(|others| {
        let of = |base: Base| {
            let every = if base.adopted { env("OHALLO_TEST_MISOPERATION_EVERY", 5) } else { 1 };
            let singles = singles(&base, others).into_iter().step_by(usize::try_from(every).unwrap());
            singles.map(move |mutation| (base.clone(), vec![mutation]))
        };
        bases().into_iter().flat_map(of).collect()
    })
    .await;
    for end in [End::Refused, End::Reported, End::Applied, End::Pinned] {
        assert!(ends.contains_key(&end), "none was {end:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_wrong_fields_at_once_are_rejected_or_reported_and_their_correction_restores_everything() {
    let seed = env("OHALLO_TEST_MISOPERATION_SEED", 7);
    let mut left = usize::try_from(env("OHALLO_TEST_MISOPERATION_PAIRS", 150)).unwrap();
    let mut random = StdRng::seed_from_u64(seed);
    eprintln!("misoperation: pairs of seed {seed}");
    while left > 0 {
        let round = left.min(ROUND);
        left -= round;
        run(|others| pairs(others, round, &mut random)).await;
    }
}

/// Most pairs hold something that is refused anyway: most are drawn of those that may be taken.
fn pairs(others: &Bystanders, count: usize, random: &mut StdRng) -> Vec<(Base, Vec<Mutation>)> {
    let bases = bases().map(|base| (singles(&base, others), base));
    let mut plans = Vec::new();
    while plans.len() < count {
        let (singles, base) = bases.choose(random).unwrap();
        let fit = random.random_ratio(3, 4);
        let singles: Vec<_> = singles.iter().filter(|mutation| mutation.fits || !fit).collect();
        let pair = [*singles.choose(random).unwrap(), *singles.choose(random).unwrap()];
        let manifest = json!({"spec": base.spec});
        let both = pair[0].apply(&manifest).and_then(|one| pair[1].apply(&one));
        if both.is_some() && !pair[0].place.touches(&pair[1].place) {
            plans.push((base.clone(), pair.map(Mutation::clone).into()));
        }
    }
    plans
}
