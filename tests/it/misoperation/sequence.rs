// I/O
//! Whatever valid manifests come one after the other, fast or slow: in the end oHallo has what a fresh Channel of the
//! last one has, but for what only earlier ones declared, which stays.
//!
//! `OHALLO_TEST_SEQUENCES` is how many, `OHALLO_TEST_SEQUENCES_SEED` which.

use std::sync::Mutex;

use futures::StreamExt;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Map, Value, json};

use super::channels::{WORDS, env, world};
use super::kept::{Kept, Secrets, said};
use super::schema::{kind, spec_of};
use super::subject::{Subject, Way, picture, settled};
use crate::acts::by_hand;
use crate::rig::Rig;

/// How many Channels are changed at the same time.
const AT_ONCE: usize = 16;
/// The longest sequence.
const LONGEST: usize = 8;

#[derive(Clone, Debug)]
struct Sequence {
    adopted: bool,
    replace: bool,
    specs: Vec<Value>,
    /// Whether each is waited for before the next is brought.
    waited: Vec<bool>,
}

/// Any spec that the schema has nothing against. What can't be changed is as in the example, and so are the shapes of
/// the items of lists: which fields go together is a rule that the schema has no word for.
fn spec(schema: &Value, example: &Value) -> BoxedStrategy<Value> {
    let fixed = |schema: &Value| {
        let rules = schema["x-kubernetes-validations"].as_array();
        rules.into_iter().flatten().any(|rule| rule["rule"] == "self == oldSelf")
    };
    match (kind(schema), example) {
        _ if fixed(schema) => Just(example.clone()).boxed(),
        ("string", _) if schema["enum"].is_array() => {
            prop::sample::select(schema["enum"].as_array().unwrap().clone()).boxed()
        }
        ("string", _) if schema["pattern"].is_string() || example.is_string() && !free(schema) => word(),
        ("string", _) => text(schema).boxed(),
        ("integer", _) => {
            let bound = |name: &str| schema[name].as_f64().unwrap() as i64;
            (bound("minimum")..=bound("maximum")).prop_map(Value::from).boxed()
        }
        ("boolean", _) => any::<bool>().prop_map(Value::from).boxed(),
        ("array", Value::Array(items)) => {
            let item = |example: &Value| whole(&schema["items"], example);
            let item = prop::strategy::Union::new(items.iter().map(item));
            prop::collection::vec(item, 0..4).prop_map(Value::from).boxed()
        }
        ("object", _) if schema["properties"].is_object() => fields(schema, example, false),
        ("object", _) => prop::collection::btree_map("[a-d]{1,2}|ä😀", json_value(), 0..6)
            .prop_map(|fields| Value::Object(fields.into_iter().collect()))
            .boxed(),
        (other, _) => panic!("no strategy is known for the type {other}"),
    }
}

/// Whether a text may be anything: it is said by nobody that it names something.
fn free(schema: &Value) -> bool {
    schema["maxLength"] != 253
}

fn whole(schema: &Value, example: &Value) -> BoxedStrategy<Value> {
    if schema["properties"].is_object() { fields(schema, example, true) } else { spec(schema, example) }
}

/// An object with its required fields and any of the others, or with exactly those of the example.
fn fields(schema: &Value, example: &Value, exactly: bool) -> BoxedStrategy<Value> {
    let mut fields = Just(Map::new()).boxed();
    for (name, property) in schema["properties"].as_object().unwrap() {
        let there = example.get(name).is_some();
        if exactly && !there {
            continue;
        }
        let required = schema["required"].as_array().is_some_and(|names| names.contains(&json!(name)));
        let fixed = exactly || required || there && property["x-kubernetes-validations"].is_array();
        let value = spec(property, &example[name]);
        let value = if fixed { value.prop_map(Some).boxed() } else { prop::option::of(value).boxed() };
        let name = name.clone();
        fields = (fields, value)
            .prop_map(move |(mut fields, value)| {
                fields.extend(value.map(|value| (name.clone(), value)));
                fields
            })
            .boxed();
    }
    fields.prop_map(Value::Object).boxed()
}

fn word() -> BoxedStrategy<Value> {
    prop::sample::select(WORDS.to_vec()).prop_map(Value::from).boxed()
}

fn text(schema: &Value) -> impl Strategy<Value = Value> + use<> {
    let most = usize::try_from(schema["maxLength"].as_u64().unwrap()).unwrap();
    let short = "[a-c]|[a-zA-Zäö😀]([ -~äö😀]{0,20}[!-~])?".prop_map(Value::from);
    prop_oneof![9 => short, 1 => Just(json!("ä".repeat(most)))]
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop::num::f64::NORMAL.prop_map(Value::from),
        "[ -~ä😀]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-c]", inner, 0..3)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn sequence() -> impl Strategy<Value = Sequence> {
    let schema = spec_of("channels");
    let types = prop::sample::select(vec!["chat", "email", "voice", "whatsapp"]);
    types.prop_flat_map(move |channel_type| {
        let example = json!({
            "channelType": channel_type, "workspaceRef": {"kind": "Workspace", "name": "default"},
            "credentials": [
                {"secretRef": {"name": "alpha", "optional": true}},
                {"name": "alpha", "secretKeyRef": {"name": "alpha", "key": "alpha", "optional": false}},
            ],
        });
        let specs = prop::collection::vec(spec(&schema, &example), 1..=LONGEST);
        let waited = prop::collection::vec(any::<bool>(), LONGEST);
        (any::<bool>(), any::<bool>(), specs, waited).prop_map(|(adopted, replace, specs, waited)| Sequence {
            adopted,
            replace,
            specs,
            waited,
        })
    })
}

/// The last one is looked at in oHallo: it is written there.
fn reaching(spec: &Value) -> Value {
    let mut spec = spec.clone();
    spec["managementPolicy"] = json!("Manage");
    spec["suspend"] = json!(false);
    spec
}

struct Case<'a> {
    rig: &'a Rig,
    secrets: &'a Secrets,
    name: String,
}

// === impl Case ===

impl Case<'_> {
    fn subject(&self, name: &str, way: Way) -> Subject<'_> {
        let manifest = self.rig.manifest(name, json!({}));
        Subject { rig: self.rig, kind: "Channel", manifest, way }
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

    /// What the object says and what oHallo has, when the operator is done with it.
    async fn end(&self, subject: &Subject<'_>, object: &Value) -> Result<(Value, Kept), String> {
        let generation = &object["metadata"]["generation"];
        let seen = subject.until(|seen| settled(seen, generation)).await;
        let seen = seen.map_err(|last| format!("{} never settled: {last}", subject.name()))?;
        let id = seen["status"]["channelId"].as_str().ok_or(format!("no channel: {seen}"))?;
        let channel = self.rig.sim.channel(id).ok_or(format!("{id} is gone"))?;
        Ok((seen, Kept::of(&channel)))
    }

    /// How many manifests were valid, or what went wrong.
    async fn run(&self, sequence: &Sequence) -> Result<usize, String> {
        let way = if sequence.replace { Way::Replace } else { Way::Apply };
        let subject = self.subject(&self.name, way);
        let channel_type = sequence.specs[0]["channelType"].as_str().unwrap();
        let adopt = || sequence.adopted.then(|| by_hand(self.rig, channel_type, "By hand"));
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
        let made = fresh.bring(&self.manifest(&fresh, &last, adopt().as_deref())).await;
        let made = made.map_err(|refusal| refusal.message)?;
        let (seen, kept) = self.end(&subject, &object).await?;
        let (seen_fresh, kept_fresh) = self.end(&fresh, &made).await?;
        let specs: Vec<_> = valid.iter().map(|object| &object["spec"]).collect();
        self.compare(&specs, &last, [&kept, &kept_fresh])?;
        let told = |object: &Value| {
            let mut said = picture(object, true);
            let mut conditions = said["status"]["conditions"].as_array_mut().unwrap().clone();
            conditions.sort_by_key(|condition| condition["type"].to_string());
            Value::Array(conditions)
        };
        if told(&seen) != told(&seen_fresh) {
            return Err(format!("it says {} and a fresh one {}", told(&seen), told(&seen_fresh)));
        }
        Ok(valid.len())
    }

    fn compare(&self, specs: &[&Value], last: &Value, [kept, fresh]: [&Kept; 2]) -> Result<(), String> {
        // Applied once more it changes nothing: each declared path is as declared, also in the fresh one.
        for (what, has) in [("it", kept), ("a fresh one", fresh)] {
            let after = has.after(last, self.secrets);
            if !has.is(&after) {
                return Err(format!("{what} has {has:?} instead of {after:?}"));
            }
        }
        let earlier: Vec<_> = specs.iter().map(|spec| fresh.after(spec, self.secrets)).collect();
        let known =
            |key| earlier.iter().chain([fresh]).any(|other: &Kept| said(&other.config, key).is_some());
        if let Some(odd) = kept.config.keys().find(|key| said(&kept.config, key).is_some() && !known(key)) {
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
    let (rig, secrets) = world().await;
    let bytes: Vec<u8> = seed.to_le_bytes().repeat(4);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let strategy = sequence();
    let cases = (0..count).map(|number| (number, strategy.new_tree(&mut runner).unwrap()));
    let cases: Vec<_> = cases.collect();
    let (valid, failed) = (Mutex::new(0), Mutex::new(Vec::new()));
    let began = rig.sim.elapsed_ms();
    futures::stream::iter(cases)
        .for_each_concurrent(AT_ONCE, |(number, tree)| {
            let case = Case { rig: &rig, secrets: &secrets, name: format!("s{number}") };
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
        rig.sim.elapsed_ms() - began
    );
    if let Some((number, tree, why)) = failed.into_inner().unwrap().pop() {
        let (sequence, why) = simplest(&rig, &secrets, number, tree, why).await;
        panic!("seed {seed}, sequence {number}: {why}\n{sequence:#?}");
    }
    assert!(valid > usize::try_from(count).unwrap() * 2, "hardly any manifest was valid");
    rig.finish().await;
}

/// The shortest of the simpler ones that fail too.
async fn simplest(
    rig: &Rig,
    secrets: &Secrets,
    number: u64,
    mut tree: impl ValueTree<Value = Sequence>,
    why: String,
) -> (Sequence, String) {
    let mut found = (tree.current(), why);
    for round in 0..60 {
        let sequence = tree.current();
        let case = Case { rig, secrets, name: format!("s{number}-{round}") };
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
