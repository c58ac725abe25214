//! `validate` says what the API server says: the same verdict about the same fields.
//!
//! `OHALLO_TEST_VALIDATE_MUTATIONS` is how many mutations of the samples, `OHALLO_TEST_VALIDATE_SEED` which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

use crate::cli::support::program::run;
use crate::cli::support::server::{Answer, Manifest, Syntax, answers};
use crate::cli::support::yaml_mutations::{METADATA, SCALARS, mutate};
use crate::misoperation::channels::bases;
use crate::misoperation::mutations::{Mutation, mutations};
use crate::misoperation::support::inputs::env;
use crate::misoperation::support::schema::spec_of;
use crate::misoperation::support::spec_sequences::sequence;
use crate::support::harness::{Harness, WORKSPACE};

/// Of another kind, or empty.
const NOT_JUDGED: &str = "not judged";
const WORDS: [&str; 4] = ["elsewhere", "missing", "beta", "id-of-this-channel"];

fn object(kind: &str, spec: Value) -> Value {
    json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": kind, "metadata": {"name": "judged"}, "spec": spec})
}

fn json_manifest(what: String, plural: &'static str, object: &Value) -> Manifest {
    Manifest { what, plural, body: object.to_string(), syntax: Syntax::Json }
}

/// What `validate` answers to each.
fn judged(manifests: &[Manifest]) -> Vec<Answer> {
    let folder = tempfile::tempdir().unwrap();
    for (at, manifest) in manifests.iter().enumerate() {
        std::fs::write(folder.path().join(format!("{at}.yaml")), &manifest.body).unwrap();
    }
    let output = run(&["validate", folder.path().to_str().unwrap(), "--output=json"]);
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let mut found = BTreeMap::new();
    for object in report["objects"].as_array().unwrap() {
        let file = Path::new(object["file"].as_str().unwrap());
        let at: usize = file.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let findings = object["findings"].as_array().unwrap();
        let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
        let of_a_field = findings.iter().filter(|finding| finding["rule"] != "syntax");
        let fields = of_a_field.map(|finding| text(finding, "path"));
        let messages: Vec<_> = findings
            .iter()
            .map(|finding| format!("{}: {}", text(finding, "path"), text(finding, "message")))
            .collect();
        let accepted = object["verdict"] == "valid";
        let answer = Answer { accepted, fields: fields.collect(), message: messages.join("; ") };
        assert!(found.insert(at, answer).is_none(), "{at} twice");
    }
    let none = || Answer { accepted: false, fields: BTreeSet::new(), message: NOT_JUDGED.to_owned() };
    (0..manifests.len()).map(|at| found.remove(&at).unwrap_or_else(none)).collect()
}

/// Whether kubectl would send it to the API of its kind: the API server says nothing useful about an object that is
/// sent to the API of another.
fn is_routed(own: &Answer) -> bool {
    own.message != NOT_JUDGED && !["kind", "apiVersion"].iter().any(|field| own.fields.contains(*field))
}

/// Whether both say the same. A duplicate key of YAML is named by the API server without its path.
fn agree(server: &Answer, own: &Answer) -> bool {
    if !is_routed(own) {
        return !server.accepted && !own.accepted;
    }
    let last = |fields: &BTreeSet<String>| -> BTreeSet<_> {
        fields.iter().map(|path| path.rsplit('.').next().unwrap().to_owned()).collect()
    };
    let same = server.fields == own.fields
        // Go's decoder stops at the first field that it can't decode, and names no entry of a map.
        || server.message.contains("Go struct field") && own.fields.iter().any(|path| server.fields.iter().all(|field| path.starts_with(field.as_str())))
        || server.message.contains("already set in map") && last(&own.fields) == last(&server.fields)
        || server.fields.is_empty() && !server.accepted;
    server.accepted == own.accepted && same
}

/// Asks both about each manifest; the number of those that were accepted.
async fn compare(harness: &Harness, manifests: &[Manifest]) -> usize {
    let servers = answers(&harness.admin, &harness.namespace, manifests).await;
    let own = judged(manifests);
    let mut differ = Vec::new();
    for ((manifest, server), own) in manifests.iter().zip(&servers).zip(&own) {
        if !agree(server, own) {
            let body: String = manifest.body.chars().take(900).collect();
            differ.push(format!("{}\n{body}\n  server: {server:?}\n  own: {own:?}", manifest.what));
        }
    }
    let accepted = servers.iter().filter(|answer| answer.accepted).count();
    eprintln!("validate: {} of {} disagree, {accepted} accepted", differ.len(), manifests.len());
    let shown: Vec<_> =
        differ.iter().take(25).map(|text| text.chars().take(2500).collect::<String>()).collect();
    assert!(differ.is_empty(), "{} of {} disagree:\n{}", differ.len(), manifests.len(), shown.join("\n\n"));
    accepted
}

fn of_one(kind: &str, plural: &'static str, spec: &Value) -> Vec<Manifest> {
    let whole = object(kind, spec.clone());
    let all = mutations(&spec_of(plural), &json!({"spec": spec}), &WORDS);
    let manifest =
        |mutation: &Mutation| Some(json_manifest(mutation.to_string(), plural, &mutation.apply(&whole)?));
    all.iter().filter_map(manifest).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validate_and_the_api_server_agree_about_every_wrong_field_of_every_kind() {
    let harness = Harness::bare(Default::default(), &[]).await;
    let workspace = json!({"workspaceId": WORKSPACE, "apiKeySecretRef": {"name": "ohallo-api-key"}});
    let mut cluster = workspace.clone();
    let labels = json!({"matchLabels": {"team": "a"}, "matchExpressions": [{"key": "team", "operator": "In", "values": ["a"]}]});
    cluster["allowedNamespaces"] = json!({"names": ["default"], "selector": labels});
    let mut all: Vec<_> = bases().iter().flat_map(|base| of_one("Channel", "channels", &base.spec)).collect();
    all.extend(of_one("Workspace", "workspaces", &workspace));
    all.extend(of_one("ClusterWorkspace", "clusterworkspaces", &cluster));
    let accepted = compare(&harness, &all).await;
    assert!(accepted > all.len() / 10 && accepted < all.len() * 9 / 10);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validate_and_the_api_server_agree_about_two_wrong_fields_at_once_and_about_valid_specs() {
    let seed = env("OHALLO_TEST_VALIDATE_SEED", 5);
    let harness = Harness::bare(Default::default(), &[]).await;
    let mut random = StdRng::seed_from_u64(seed);
    let mut all = Vec::new();
    for base in bases() {
        let whole = object("Channel", base.spec.clone());
        let singles = mutations(&spec_of("channels"), &json!({"spec": base.spec}), &WORDS);
        while all.len() % 300 < 299 {
            let pair = [singles.choose(&mut random).unwrap(), singles.choose(&mut random).unwrap()];
            if let Some(both) = pair[0].apply(&whole).and_then(|one| pair[1].apply(&one)) {
                all.push(json_manifest(format!("{} and {}", pair[0], pair[1]), "channels", &both));
            }
        }
        all.push(json_manifest(base.name.to_owned(), "channels", &whole));
    }
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed.to_le_bytes().repeat(4));
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    for _ in 0..40 {
        for spec in sequence().new_tree(&mut runner).unwrap().current().specs {
            all.push(json_manifest("a valid spec".to_owned(), "channels", &object("Channel", spec)));
        }
    }
    compare(&harness, &all).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validate_and_the_api_server_agree_about_mutated_samples() {
    let count = usize::try_from(env("OHALLO_TEST_VALIDATE_MUTATIONS", 500)).unwrap();
    let seed = env("OHALLO_TEST_VALIDATE_SEED", 5);
    let harness = Harness::bare(Default::default(), &[]).await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/samples");
    let mut samples = Vec::new();
    for (name, plural) in [
        ("10-workspace", "workspaces"),
        ("20-channel-email", "channels"),
        ("21-channel-chat", "channels"),
        ("22-channel-whatsapp", "channels"),
        ("23-channel-voice", "channels"),
    ] {
        samples.push((plural, std::fs::read_to_string(folder.join(format!("{name}.yaml"))).unwrap()));
    }
    let mut random = StdRng::seed_from_u64(seed);
    let mut all = Vec::new();
    for (plural, text) in &samples {
        all.push(Manifest {
            what: "the sample".to_owned(),
            plural,
            body: text.clone(),
            syntax: Syntax::Yaml,
        });
    }
    while all.len() < count + samples.len() {
        let (plural, text) = samples.choose(&mut random).unwrap();
        let (body, what) = mutate(text, &mut random);
        all.push(Manifest { what, plural, body, syntax: Syntax::Yaml });
    }
    let accepted = compare(&harness, &all).await;
    assert!(accepted > count / 20, "hardly any was accepted");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scalar_of_yaml_has_the_same_type_for_validate_and_the_api_server() {
    let harness = Harness::bare(Default::default(), &[]).await;
    let fields = ["displayName: VALUE", "enabled: VALUE", "intervalSeconds: VALUE", "config: {x: VALUE}"];
    let mut all = Vec::new();
    for scalar in SCALARS.iter().filter(|scalar| !scalar.contains('\n')) {
        for field in fields {
            let field = field.replace("VALUE", scalar);
            let name = if field.starts_with("displayName") { "" } else { "  displayName: A\n" };
            let body = format!(
                "apiVersion: ohallo.eu/v1alpha1\nkind: Channel\nmetadata:\n  name: judged\nspec:\n  channelType: chat\n{name}  {field}\n"
            );
            all.push(Manifest { what: field, plural: "channels", body, syntax: Syntax::Yaml });
        }
    }
    let accepted = compare(&harness, &all).await;
    assert!(accepted > all.len() / 4, "{accepted} of {}", all.len());
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validate_and_the_api_server_agree_about_metadata_and_about_size() {
    let harness = Harness::bare(Default::default(), &[]).await;
    let mut all = Vec::new();
    for field in METADATA {
        let name = if field.starts_with("generateName") { "" } else { "  name: judged\n" };
        let body = format!(
            "apiVersion: ohallo.eu/v1alpha1\nkind: Channel\nmetadata:\n{name}  {field}\nspec: {{channelType: chat, displayName: A}}\n"
        );
        all.push(Manifest { what: (*field).to_owned(), plural: "channels", body, syntax: Syntax::Yaml });
    }
    // The last bytes that fit, and those that do not.
    let sized = |text: usize| {
        let config = json!({"x": "x".repeat(text)});
        object("Channel", json!({"channelType": "chat", "displayName": "A", "config": config}))
    };
    let limit = 3 * 1024 * 1024;
    let room = limit - sized(0).to_string().len();
    for text in [room, room + 1, 4_000_000] {
        all.push(json_manifest(format!("{text} bytes of text"), "channels", &sized(text)));
    }
    let accepted = compare(&harness, &all).await;
    assert!(accepted > 10 && accepted < all.len() / 2, "{accepted} of {}", all.len());
    harness.finish().await;
}
