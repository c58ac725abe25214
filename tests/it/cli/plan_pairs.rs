//! What `plan --live` lists is what the apply that follows does: every step, and the values before and after it.
//!
//! `OHALLO_TEST_PLAN_PAIRS` is how many pairs of manifest sets, `OHALLO_TEST_PLAN_SEED` which.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube::ResourceExt;
use kube::api::ListParams;
use ohallo_core::api::channel::Channel;
use ohallo_sim::{Behaviour, Config, NewChannel, Operation, Provisioning};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::cli::support::pairs::{Set, first, second};
use crate::cli::support::planner::{assert_only_read, grant_reads, planned, unique_ids};
use crate::faults::crashes::scenario::{FIRST, SECOND};
use crate::misoperation::support::inputs::env;
use crate::support::harness::{Harness, WORKSPACE, bound, condition};
use crate::support::{canary, workspaces};

/// The steps for one channel: its id, or the name of the object whose channel is created.
type Steps = BTreeMap<String, Vec<Operation>>;

/// Pairs in one namespace, which are planned and applied together.
const BATCH: usize = 20;

async fn channels(harness: &Harness) -> BTreeMap<String, Channel> {
    let listed = harness.channels().list(&ListParams::default()).await.unwrap();
    listed.items.into_iter().map(|channel| (channel.name_any(), channel)).collect()
}

/// Whether the operator has nothing left to do for an object.
fn rests(channel: &Channel) -> bool {
    let status = channel.status.clone().unwrap_or_default();
    let terminating = channel.metadata.deletion_timestamp.is_some();
    let tested = |status: &ohallo_core::api::channel::ChannelStatus| {
        let asked = channel.annotations().contains_key("ohallo.eu/test-requested-at");
        let untestable = channel.spec.suspend == Some(true) || channel.spec.is_observe();
        !asked
            || untestable
            || status.test.is_some()
            || condition(channel, "Ready").is_some_and(|ready| ready.1 != "True")
    };
    let held = condition(channel, "Suspended").is_some_and(|found| found.2 == "WorkspaceSuspended");
    status.observed_generation == channel.metadata.generation && !terminating && !held && tested(&status)
}

/// Waits until nothing moves any more.
async fn until_quiet(harness: &Harness) {
    const QUIET_MS: u64 = 1500;
    harness
        .eventually("every Channel rests", || async {
            let all = channels(harness).await;
            let last = harness.sim.ledger().last().map_or(0, |entry| entry.at_ms);
            let quiet = harness.sim.elapsed_ms().saturating_sub(last) > QUIET_MS;
            (quiet && all.values().all(rests)).then_some(())
        })
        .await;
}

/// Whether the operator makes no calls for an object while its Workspace is suspended.
fn is_held(channel: &Channel) -> bool {
    let current =
        channel.status.as_ref().and_then(|status| status.observed_generation) == channel.metadata.generation;
    let held = condition(channel, "Suspended")
        .is_some_and(|found| found.2 == "WorkspaceSuspended" || found.2 == "Suspended");
    held && current || channel.metadata.deletion_timestamp.is_some()
}

async fn suspend(harness: &Harness, suspended: bool) {
    workspaces::edit(harness, "default", json!({"spec": {"suspend": suspended}})).await;
}

async fn until_held(harness: &Harness) {
    harness
        .eventually("every Channel is suspended", || async {
            channels(harness).await.values().all(is_held).then_some(())
        })
        .await;
}

/// Applies the change of a set while the Workspace is suspended: the objects of an apply arrive one after the other, and
/// what the operator does between two of them is no part of a plan.
async fn apply_at_once(harness: &Harness, sets: &[Set], gone: &[String]) {
    suspend(harness, true).await;
    until_held(harness).await;
    apply(harness, sets, gone);
    until_held(harness).await;
    // The watch of the Secrets is another one than that of the Channels.
    tokio::time::sleep(Duration::from_millis(500)).await;
    suspend(harness, false).await;
}

/// `kubectl apply` of all, then the deletion of what is not in them any more.
fn apply(harness: &Harness, sets: &[Set], gone: &[String]) {
    let items: Vec<_> = sets.iter().flat_map(|set| set.0.clone()).collect();
    harness.apply_in(&harness.namespace, &items);
    if !gone.is_empty() {
        let mut args = vec!["delete", "channels.ohallo.eu", "--wait=false"];
        args.extend(gone.iter().map(String::as_str));
        let output = harness.kubectl(&args, None);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn operation(effect: &str) -> Option<Operation> {
    Some(match effect {
        "destroyed" => Operation::DeleteChannel,
        "created" => Operation::CreateChannel,
        "updated" => Operation::UpdateChannel,
        "credentialsPushed" => Operation::StoreCredentials,
        "tested" => Operation::TestChannel,
        "provisioningRetried" => Operation::RetryProvisioning,
        _ => return None,
    })
}

fn planned_steps(plan: &Value) -> Steps {
    let mut steps = Steps::new();
    for change in plan["changes"].as_array().unwrap() {
        let Some(operation) = operation(change["effect"].as_str().unwrap()) else { continue };
        let target = change["channelId"].as_str().unwrap_or_else(|| change["name"].as_str().unwrap());
        steps.entry(target.to_owned()).or_default().push(operation);
    }
    steps
}

/// The writes since this entry of the ledger, by channel.
fn done(harness: &Harness, since: u64, after: &BTreeMap<String, Channel>) -> Steps {
    let ledger = harness.sim.ledger_since(since);
    let created: BTreeSet<_> = ledger
        .iter()
        .filter(|entry| entry.operation == Operation::CreateChannel)
        .filter_map(|entry| entry.channel.clone())
        .collect();
    let name = |id: &str| {
        let holder = after.iter().find(|(_, channel)| bound(channel).as_deref() == Some(id));
        holder.map_or_else(|| id.to_owned(), |(name, _)| name.clone())
    };
    let mut steps = Steps::new();
    for entry in ledger.iter().filter(|entry| entry.operation.is_write()) {
        let id = entry.channel.clone().unwrap_or_default();
        let target = if created.contains(&id) { name(&id) } else { id };
        steps.entry(target).or_default().push(entry.operation);
    }
    steps
}

/// The values of oHallo before the apply, and after it, are those of the plan.
fn compare_values(
    harness: &Harness,
    plan: &Value,
    before: &[ohallo_sim::Channel],
    after: &BTreeMap<String, Channel>,
) -> usize {
    let mut compared = 0;
    for change in plan["changes"].as_array().unwrap().iter().filter(|change| change["effect"] == "updated") {
        let channel = &after[change["name"].as_str().unwrap()];
        let id = bound(channel).unwrap();
        let now = harness.sim.channel(&id).unwrap();
        let was = before.iter().find(|channel| channel.id == id).unwrap();
        for field in change["fields"].as_array().unwrap() {
            let value = |channel: &ohallo_sim::Channel| {
                let values = json!({"displayName": channel.display_name, "enabled": channel.enabled, "config": channel.config});
                let path = format!("/{}", field["path"].as_str().unwrap().replace('.', "/"));
                values.pointer(&path).cloned()
            };
            let sent: Value = field["new"].clone();
            let covers = |now: &Value| match (now, &sent) {
                (Value::Object(now), Value::Object(sent)) => {
                    sent.iter().all(|(key, value)| value.is_null() || now.get(key) == Some(value))
                }
                (now, sent) => now == sent,
            };
            assert!(
                value(&now).as_ref().is_some_and(covers),
                "{field} of {change:#}, and oHallo has {now:?}"
            );
            if field["oldKnown"] == true && field["path"] != "enabled" {
                assert_eq!(
                    value(was),
                    field.get("old").cloned(),
                    "{field} of {change:#}, and oHallo had {was:?}"
                );
            }
            compared += 1;
        }
    }
    compared
}

/// Plans and applies some pairs; how many steps and fields were compared.
async fn batch(harness: &Harness, seed: u64, pairs: std::ops::Range<usize>) -> (usize, usize) {
    let mut random = StdRng::seed_from_u64(seed.wrapping_add(pairs.start as u64));
    let adopt = |channel_type: &str| {
        harness.sim.insert_channel(NewChannel::new(WORKSPACE, channel_type, "From the dashboard"))
    };
    let firsts: Vec<_> = pairs.clone().map(|pair| first(&mut random, pair, adopt)).collect();
    apply(harness, &firsts, &[]);
    until_quiet(harness).await;
    let bound_to = channels(harness).await;
    let id_of = |name: &str| bound(&bound_to[name]);
    let seconds: Vec<_> =
        pairs.clone().zip(&firsts).map(|(pair, set)| second(&mut random, pair, set, id_of, adopt)).collect();
    for value in firsts.iter().chain(&seconds).flat_map(|set| &set.0) {
        let values = value["stringData"].as_object().into_iter().flat_map(|values| values.values());
        values.filter_map(Value::as_str).for_each(canary::register);
    }

    let since = harness.sim.ledger().last().map_or(0, |entry| entry.seq + 1);
    let folder = tempfile::tempdir().unwrap();
    let mut plans = Vec::new();
    for (at, (base, head)) in firsts.iter().zip(&seconds).enumerate() {
        let file = |name: &str, set: &Set| {
            let path = folder.path().join(format!("{at}-{name}.yaml"));
            std::fs::write(&path, set.text()).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let plan = planned(harness, 0, &[&file("head", head), "--base", &file("base", base), "--live"]);
        canary::scan("a plan", plan.to_string());
        plans.push(plan);
    }
    assert_only_read(harness, since).await;

    let before = harness.sim.channels();
    let since = harness.sim.ledger().last().map_or(0, |entry| entry.seq + 1);
    let names = |sets: &[Set]| -> BTreeSet<String> {
        let all = sets.iter().flat_map(Set::channels);
        all.map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let gone: Vec<_> = names(&firsts).difference(&names(&seconds)).cloned().collect();
    apply_at_once(harness, &seconds, &gone).await;
    until_quiet(harness).await;
    let after = channels(harness).await;
    let mut expected = Steps::new();
    let mut fields = 0;
    for plan in &plans {
        fields += compare_values(harness, plan, &before, &after);
        for (target, steps) in planned_steps(plan) {
            assert!(expected.insert(target, steps).is_none(), "two plans change one channel");
        }
    }
    let done = done(harness, since, &after);
    let targets: BTreeSet<_> = expected.keys().chain(done.keys()).collect();
    let differ: Vec<_> = targets
        .into_iter()
        .filter(|target| expected.get(*target) != done.get(*target))
        .map(|target| {
            let about = |change: &&Value| change["channelId"] == **target || change["name"] == **target;
            let changes: Vec<_> =
                plans.iter().flat_map(|plan| plan["changes"].as_array().unwrap()).filter(about).collect();
            let objects = seconds.iter().chain(&firsts).flat_map(Set::channels);
            let objects: Vec<_> = objects
                .filter(|object| {
                    object["metadata"]["name"] == **target
                        || object["spec"]["channelId"] == **target
                        || bound_to
                            .get(object["metadata"]["name"].as_str().unwrap())
                            .and_then(bound)
                            .as_deref()
                            == Some(target.as_str())
                })
                .collect();
            format!(
                "{target}: planned {:?}, done {:?}\n{changes:#?}\n{objects:#?}",
                expected.get(target),
                done.get(target)
            )
        })
        .collect();
    assert!(differ.is_empty(), "{} differ: {}", differ.len(), differ.join("\n\n"));
    (expected.values().map(Vec::len).sum(), fields)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_planned_steps_are_the_ledger_of_the_apply_that_follows() {
    let count = usize::try_from(env("OHALLO_TEST_PLAN_PAIRS", 40)).unwrap();
    let seed = env("OHALLO_TEST_PLAN_SEED", 21);
    let (mut steps, mut fields) = (0, 0);
    for start in (0..count).step_by(BATCH) {
        let harness = Harness::with(unique_ids(), &[]).await;
        grant_reads(&harness);
        let compared = batch(&harness, seed, start..(start + BATCH).min(count)).await;
        (steps, fields) = (steps + compared.0, fields + compared.1);
        harness.finish().await;
    }
    eprintln!("plan: {count} pairs, {steps} steps and {fields} fields equal the ledger");
    assert!(steps > count && fields > count / 2, "hardly anything was planned");
}

/// The scenario of `faults::crashes`, without kills: each apply is planned first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_apply_of_the_kill_suites_scenario_does_what_its_plan_says() {
    let config = unique_ids();
    let provisioning = Provisioning { fail_times: 1, ..config.behaviour.provisioning.clone() };
    let behaviour = Behaviour { provisioning, ..config.behaviour.clone() };
    let harness = Harness::with(Config { behaviour, ..config }, &[]).await;
    grant_reads(&harness);
    let secret = |key: &str| {
        canary::register(key);
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "provider"}, "stringData": {"apiKey": key}})
    };
    let channel = |name: &str, greeting: &str, annotations: Value| {
        json!({
            "apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel", "metadata": {"name": "a", "annotations": annotations},
            "spec": {
                "channelType": "voice", "displayName": name, "enabled": true, "config": {"greeting": greeting},
                "deletionPolicy": "Delete", "credentials": [{"secretRef": {"name": "provider"}}],
                "provisioningRetry": {"limit": 0},
            },
        })
    };
    let (retry, test) = ("ohallo.eu/retry-requested-at", "ohallo.eu/test-requested-at");
    let retried = json!({retry: "0"});
    let tested = json!({retry: "0", test: "1"});
    let scenario = [
        ("create", vec![secret(FIRST), channel("A", "Hello", json!({}))]),
        ("retry", vec![secret(FIRST), channel("A", "Hello", retried.clone())]),
        ("edit", vec![secret(FIRST), channel("Later", "Goodbye", retried.clone())]),
        ("rotate", vec![secret(SECOND), channel("Later", "Goodbye", retried)]),
        ("test", vec![secret(SECOND), channel("Later", "Goodbye", tested)]),
        ("delete", vec![secret(SECOND)]),
    ];
    let folder = tempfile::tempdir().unwrap();
    let file = |at: usize, objects: &[Value]| {
        let path = folder.path().join(format!("{at}.yaml"));
        std::fs::write(&path, Set(objects.to_vec()).text()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let mut base = file(0, &[]);
    let mut all_steps = Vec::new();
    for (at, (what, objects)) in scenario.iter().enumerate() {
        let head = file(at + 1, objects);
        let since = harness.sim.ledger().last().map_or(0, |entry| entry.seq + 1);
        let plan = planned(&harness, 0, &[&head, "--base", &base, "--live"]);
        canary::scan("a plan", plan.to_string());
        assert_only_read(&harness, since).await;
        let since = harness.sim.ledger().last().map_or(0, |entry| entry.seq + 1);
        let gone = if *what == "delete" { vec!["a".to_owned()] } else { Vec::new() };
        apply(&harness, &[Set(objects.clone())], &gone);
        // The first rest is before the operator has seen the apply.
        harness
            .eventually("the operator has begun", || async {
                (harness.sim.ledger_since(since).iter().any(|entry| entry.operation.is_write())).then_some(())
            })
            .await;
        until_quiet(&harness).await;
        let planned = planned_steps(&plan);
        assert_eq!(planned, done(&harness, since, &channels(&harness).await), "{what}: {plan:#}");
        all_steps.push(planned.into_values().flatten().collect::<Vec<_>>());
        base = head;
    }
    assert!(all_steps.iter().all(|steps| !steps.is_empty()), "{all_steps:?}");
    harness.finish().await;
}
