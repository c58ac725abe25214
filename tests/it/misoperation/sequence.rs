//! Whatever valid manifests come one after the other, fast or slow: in the end oHallo has what a fresh Channel of the
//! last one has, but for what only earlier ones declared, which stays.
//!
//! `OHALLO_TEST_SEQUENCES` is how many, `OHALLO_TEST_SEQUENCES_SEED` which.

use std::sync::Mutex;

use futures::StreamExt;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::misoperation::support::inputs::{env, namespace_with_secrets};
use crate::misoperation::support::spec_sequences::{Sequence, sequence};
use crate::misoperation::support::subject::{Subject, Way, picture, settled};
use crate::support::contract::{Kept, Secrets, non_empty};
use crate::support::harness::Harness;
use crate::support::steps::insert_in_dashboard;

/// How many Channels are changed at the same time.
const AT_ONCE: usize = 16;

/// The last one is read in oHallo: it is written there.
fn reaching(spec: &Value) -> Value {
    let mut spec = spec.clone();
    spec["managementPolicy"] = json!("Manage");
    spec["suspend"] = json!(false);
    spec
}

struct Case<'a> {
    harness: &'a Harness,
    secrets: &'a Secrets,
    name: String,
}

// === impl Case ===

impl Case<'_> {
    fn subject(&self, name: &str, way: Way) -> Subject<'_> {
        let manifest = self.harness.manifest(name, json!({}));
        Subject { harness: self.harness, kind: "Channel", manifest, way }
    }

    fn manifest(&self, subject: &Subject, spec: &Value, id: Option<&str>) -> Value {
        let mut manifest = subject.manifest.clone();
        manifest["spec"] = spec.clone();
        match id {
            Some(id) => manifest["spec"]["channelId"] = id.into(),
            None => drop(manifest["spec"].as_object_mut().unwrap().remove("channelId")),
        }
        manifest
    }

    /// The object's status and what oHallo has, once the operator has settled.
    async fn end(&self, subject: &Subject<'_>, object: &Value) -> Result<(Value, Kept), String> {
        let generation = &object["metadata"]["generation"];
        let seen = subject.until(|seen| settled(seen, generation)).await;
        let seen = seen.map_err(|last| format!("{} never settled: {last}", subject.name()))?;
        let id = seen["status"]["channelId"].as_str().ok_or(format!("no channel: {seen}"))?;
        let channel = self.harness.sim.channel(id).ok_or(format!("{id} is deleted"))?;
        Ok((seen, Kept::of(&channel)))
    }

    /// How many manifests were valid, or what went wrong.
    async fn run(&self, sequence: &Sequence) -> Result<usize, String> {
        let way = if sequence.replace { Way::Replace } else { Way::Apply };
        let subject = self.subject(&self.name, way);
        let channel_type = sequence.specs[0]["channelType"].as_str().unwrap();
        let adopt = || sequence.adopted.then(|| insert_in_dashboard(self.harness, channel_type, "By hand"));
        let id = adopt();
        let mut valid = Vec::new();
        let last = sequence.specs.last().map(reaching);
        for (spec, wait) in sequence.specs.iter().chain(&last).zip(sequence.waited.iter().chain([&false])) {
            let manifest = self.manifest(&subject, spec, id.as_deref());
            // The rules are the API server's to judge.
            let Ok(object) = subject.bring(&manifest).await else { continue };
            if *wait {
                let generation = &object["metadata"]["generation"];
                let seen = subject.until(|seen| settled(seen, generation)).await;
                seen.map_err(|last| format!("never settled after {spec}: {last}"))?;
            }
            valid.push(object);
        }
        let Some(object) = valid.last() else { return Ok(0) };
        // A sequence whose last one breaks a rule ends with the one before.
        let last = reaching(&object["spec"]);
        let object = subject.bring(&self.manifest(&subject, &last, id.as_deref())).await;
        let object = object.map_err(|refusal| refusal.message)?;
        let fresh = self.subject(&format!("{}-fresh", self.name), way);
        let created = fresh.bring(&self.manifest(&fresh, &last, adopt().as_deref())).await;
        let created = created.map_err(|refusal| refusal.message)?;
        let (seen, kept) = self.end(&subject, &object).await?;
        let (seen_fresh, kept_fresh) = self.end(&fresh, &created).await?;
        let specs: Vec<_> = valid.iter().map(|object| &object["spec"]).collect();
        self.compare(&specs, &last, [&kept, &kept_fresh])?;
        let reported = |object: &Value| {
            let mut reported = picture(object, true);
            let mut conditions = reported["status"]["conditions"].as_array_mut().unwrap().clone();
            conditions.sort_by_key(|condition| condition["type"].to_string());
            Value::Array(conditions)
        };
        if reported(&seen) != reported(&seen_fresh) {
            return Err(format!("it has {} and a fresh one {}", reported(&seen), reported(&seen_fresh)));
        }
        Ok(valid.len())
    }

    fn compare(&self, specs: &[&Value], last: &Value, [kept, fresh]: [&Kept; 2]) -> Result<(), String> {
        // Applied again it changes nothing: each declared path is as declared, also in the fresh one.
        for (what, has) in [("it", kept), ("a fresh one", fresh)] {
            let after = has.after(last, self.secrets);
            if !has.is(&after) {
                return Err(format!("{what} has {has:?} instead of {after:?}"));
            }
        }
        let earlier: Vec<_> = specs.iter().map(|spec| fresh.after(spec, self.secrets)).collect();
        let known =
            |key| earlier.iter().chain([fresh]).any(|other: &Kept| non_empty(&other.config, key).is_some());
        if let Some(odd) =
            kept.config.keys().find(|key| non_empty(&kept.config, key).is_some() && !known(key))
        {
            return Err(format!("nobody declared config.{odd}"));
        }
        let declared = |has: &Kept| has.credentials == kept.credentials;
        if !kept.credentials.is_empty() && !declared(fresh) && !earlier.iter().any(declared) {
            return Err(format!("nobody declared the credentials {:?}", kept.credentials.keys()));
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_sequence_of_valid_specs_ends_as_a_fresh_apply_of_the_last() {
    let seed = env("OHALLO_TEST_SEQUENCES_SEED", 11);
    let count = env("OHALLO_TEST_SEQUENCES", 60);
    let (harness, secrets) = namespace_with_secrets().await;
    let bytes: Vec<u8> = seed.to_le_bytes().repeat(4);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let strategy = sequence();
    let cases = (0..count).map(|number| (number, strategy.new_tree(&mut runner).unwrap()));
    let cases: Vec<_> = cases.collect();
    let (valid, failed) = (Mutex::new(0), Mutex::new(Vec::new()));
    let began = harness.sim.elapsed_ms();
    futures::stream::iter(cases)
        .for_each_concurrent(AT_ONCE, |(number, tree)| {
            let case = Case { harness: &harness, secrets: &secrets, name: format!("s{number}") };
            let (valid, failed) = (&valid, &failed);
            async move {
                match case.run(&tree.current()).await {
                    Ok(count) => *valid.lock().unwrap() += count,
                    Err(why) => failed.lock().unwrap().push((number, tree, why)),
                }
            }
        })
        .await;
    let valid = valid.into_inner().unwrap();
    eprintln!(
        "sequences: {count} with {valid} manifests in {} ms, seed {seed}",
        harness.sim.elapsed_ms() - began
    );
    if let Some((number, tree, why)) = failed.into_inner().unwrap().pop() {
        let (sequence, why) = simplest(&harness, &secrets, number, tree, why).await;
        panic!("seed {seed}, sequence {number}: {why}\n{sequence:#?}");
    }
    assert!(valid > usize::try_from(count).unwrap() * 2, "hardly any manifest was valid");
    harness.finish().await;
}

/// The shortest of the simpler ones that fail too.
async fn simplest(
    harness: &Harness,
    secrets: &Secrets,
    number: u64,
    mut tree: impl ValueTree<Value = Sequence>,
    why: String,
) -> (Sequence, String) {
    let mut found = (tree.current(), why);
    for round in 0..60 {
        let sequence = tree.current();
        let case = Case { harness, secrets, name: format!("s{number}-{round}") };
        let more = match case.run(&sequence).await {
            Err(why) => {
                found = (sequence, why);
                tree.simplify()
            }
            Ok(_) => tree.complicate(),
        };
        if !more {
            break;
        }
    }
    found
}
