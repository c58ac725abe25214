//! I20: nothing that a tenant can read distinguishes a right guess of a secret from a wrong one.
//!
//! Two clusters are alike but for the secrets: in one of them every guess is right, in the other none is. Whoever can
//! distinguish them by what the operator shows has learnt something.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::ResourceExt;
use kube::api::ListParams;
use ohallo_core::api::channel::Channel;
use ohallo_sim::{Action, Config, Fault, Key, NewChannel, Operation};
use serde_json::{Value, json};
use testbed::User;

use crate::support::harness::{Harness, TENANT, WAIT_TIMEOUT, WORKSPACE, condition};
use crate::support::program::Program;

/// What is guessed, and what is the secret in the cluster where no guess is right.
const KEYS: [&str; 2] =
    ["sf_live_v1_Qm7Tz2Xw9LrB4nKc8VdJ3hFs6PgYaUeR", "sf_live_v1_bE5kWq1ZoN8vHj0CxI7tMf4SuDyOlAi9"];
const CREDENTIALS: [&str; 2] = ["whsec-T4yRq8Lm2Xv9Kc5Bn7Hd", "whsec-u0ZiGw3PaJf6SoEe1NtU"];

/// How many guesses one field of an object takes: as many as a status shows of it.
const SHOWN: usize = 16;

/// Every beginning and every end of a secret, and where it `counts` all of it, in each form that text is usual in.
fn guesses(secret: &str, whole: bool) -> Vec<String> {
    let ends = (1..secret.len()).flat_map(|at| [&secret[..at], &secret[at..]]);
    let parts: BTreeSet<&str> = ends.chain(whole.then_some(secret)).collect();
    let each = |part: &str, write: fn(u8) -> String| part.bytes().map(write).collect::<String>();
    let forms = parts.iter().flat_map(|part| {
        [
            (*part).to_owned(),
            STANDARD.encode(part),
            each(part, |byte| format!("{byte:02x}")),
            each(part, |byte| format!("%{byte:02X}")),
            each(part, |byte| format!("\\u{byte:04x}")),
        ]
    });
    forms.collect()
}

/// What the adversary writes, the same in both clusters.
struct Written {
    objects: Vec<Value>,
    /// How many guesses that are.
    guesses: usize,
    /// What oHallo echoes when it refuses a create, and when it refuses credentials.
    echo: String,
}

fn written() -> Written {
    let mut all = guesses(KEYS[0], false);
    all.extend(guesses(CREDENTIALS[0], true));
    let mut objects = Vec::new();
    let mut count = 0;
    for (number, some) in all.chunks(SHOWN).enumerate() {
        let at = |place: usize| some[place % some.len()].clone();
        let fits = |guess: &&String| guess.len() <= 63 && guess.bytes().all(|b| b.is_ascii_alphanumeric());
        let labels: BTreeMap<_, _> =
            some.iter().filter(fits).enumerate().map(|(n, guess)| (format!("guess-{n}"), guess)).collect();
        let annotations = json!({
            "ohallo.eu/reconcile-requested-at": at(0), "ohallo.eu/test-requested-at": at(1),
            "ohallo.eu/retry-requested-at": at(2), "ohallo.eu/create-again": at(3), "ohallo.eu/release": at(4),
            "example.com/guess": at(5),
        });
        let keys: BTreeMap<_, _> = some.iter().map(|guess| (guess, 1)).collect();
        let values: BTreeMap<_, _> =
            some.iter().enumerate().map(|(n, guess)| (format!("v{n}"), guess)).collect();
        let config: Value =
            [(at(7), json!(keys)), ("values".to_owned(), json!(values))].into_iter().collect();
        let fits = |name: &&String| !name.is_empty() && name.len() <= 253;
        let named: Vec<_> = some
            .iter()
            .filter(fits)
            .map(|name| json!({"name": name, "secretKeyRef": {"name": "provider", "key": "apiKey"}}))
            .collect();
        let object = |kind: &str, spec: Value| {
            let mut whole = json!({"channelType": "chat", "displayName": at(6)});
            for (key, value) in spec.as_object().unwrap() {
                whole[key] = value.clone();
            }
            json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel", "spec": whole,
                   "metadata": {"name": format!("{kind}-{number}"), "labels": labels, "annotations": annotations}})
        };
        // What is planned, and credentials under guessed names.
        objects.push(object(
            "observed",
            json!({"managementPolicy": "Observe", "config": keys, "credentials": named}),
        ));
        objects.push(object("drifted", json!({"driftPolicy": "Report", "config": config})));
        // What oHallo refuses with an echo of the manifest.
        objects.push(object("refused", json!({"config": config})));
        // An id, and a Secret, that is a guess.
        objects.push(object("unfound", json!({"channelId": format!("c{}", number), "config": keys})));
        objects.push(object("pushed", json!({"credentials": named})));
        count += 5 * (some.len() + labels.len() + 6 + 1) + 4 * some.len() + 2 * named.len() + some.len();
    }
    let right: Vec<_> = (12..KEYS[0].len()).rev().step_by(3).map(|end| &KEYS[0][..end]).collect();
    let echo = format!("{} {} {}", CREDENTIALS[0], STANDARD.encode(CREDENTIALS[0]), right.join(" "));
    Written { objects, guesses: count, echo }
}

/// What the operator shows of each object, by its name, and the rest of what a tenant can read.
type Shown = BTreeMap<String, Vec<String>>;

async fn observe(number: usize, written: &Written) -> Shown {
    let mut harness = Harness::bare(Config::default(), &[]).await;
    let (key, credential) = (KEYS[number], CREDENTIALS[number]);
    harness.sim.add_key(Key::new(key, TENANT));
    let secret = |name: &str, values: Value| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values});
    harness.apply(&secret("ohallo-api-key", json!({"apiKey": key})));
    harness.apply(&secret("provider", json!({"apiKey": credential})));
    harness.apply(&secret("guess", json!({"apiKey": CREDENTIALS[0]})));
    harness.workspace("default", "ohallo-api-key").await;
    let flags = [
        format!("--api-url={}", harness.sim.url()),
        format!("--namespace={}", harness.namespace),
        "--requests-per-second=0".to_owned(),
        "--consistency-window-seconds=0".to_owned(),
    ];
    let mut program = Program::logging(&harness.plane.kubeconfig(User::Operator), "trace", &flags);
    harness.workspace_reason("default", "Verified").await;
    let echo = json!({"error": written.echo}).to_string();
    let refusal = || Action::Body {
        code: 422,
        body: echo.clone(),
        content_type: "application/json".into(),
        commit: false,
    };

    // Whether two Secrets hold the same shows by nothing when a Channel changes from one to the other.
    let from = |name: &str| json!([{"name": "apiKey", "secretKeyRef": {"name": name, "key": "apiKey"}}]);
    harness.ready("equal", json!({"credentials": from("provider")})).await;
    harness.edit("equal", json!({"spec": {"credentials": from("guess")}})).await;
    harness
        .until("equal", "sent again", |channel| {
            let sources = channel.status.as_ref().and_then(|status| status.credentials.as_ref());
            sources.is_some_and(|sent| sent.sources.iter().any(|source| source.name == "guess"))
        })
        .await;

    harness.sim.add_fault(Fault::on(Operation::CreateChannel, refusal()));
    let pushes = harness.sim.add_fault(Fault::on(Operation::StoreCredentials, refusal()));
    let mut objects = written.objects.clone();
    for object in &mut objects {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        if ["observed", "drifted", "pushed"].iter().any(|kind| name.starts_with(kind)) {
            object["spec"]["channelId"] =
                harness.sim.insert_channel(NewChannel::new(WORKSPACE, "chat", "Theirs")).into();
        }
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    let made = harness.kubectl(&["create", "-f", "-"], Some(&list));
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    until_all(
        &harness,
        &[
            ("observed", "Ready", "Observed"),
            ("drifted", "Ready", "Available"),
            ("refused", "Ready", "ValidationFailed"),
            ("unfound", "Ready", "ChannelNotFound"),
            ("pushed", "CredentialsApplied", "PushFailed"),
        ],
    )
    .await;
    // A user changes every value in the dashboard, to what the adversary has guessed.
    for channel in harness.sim.channels() {
        harness.sim.edit_channel(&channel.id, |channel| {
            channel.display_name = KEYS[0][..40].into();
            let config = channel.config.as_mut().and_then(|config| config.get_mut("values"));
            if let Some(values) = config.and_then(Value::as_object_mut) {
                values.values_mut().for_each(|value| *value = KEYS[0][..40].into());
            }
        });
    }
    let all =
        ["annotate", "channels.ohallo.eu", "--all", "--overwrite", "ohallo.eu/reconcile-requested-at=again"];
    assert!(harness.kubectl(&all, None).status.success());
    until_all(&harness, &[("drifted", "Drifted", "DriftDetected"), ("observed", "Ready", "Observed")]).await;
    harness.sim.remove_fault(pushes);

    // Its events are published one at a time, the last ones at its end. There are hundreds.
    program.until_within("/metrics", 200, "ohallo_queue_depth{queue=\"events\"} 0", WAIT_TIMEOUT * 6).await;
    let (_, metrics) = program.get("/metrics").await.unwrap();
    program.terminate();
    program.ended().await;
    let shown = shown(&harness, &program.log(), &metrics).await;
    drop(program);
    harness.excused = shown.keys().cloned().collect();
    let gone = harness.kubectl(&["delete", "channels.ohallo.eu", "--all", "--wait=false"], None);
    assert!(gone.status.success());
    harness.sim.clear_faults();
    harness.start_operator().await;
    harness
        .eventually("all objects are deleted", || async {
            harness.channels().list(&ListParams::default()).await.unwrap().items.is_empty().then_some(())
        })
        .await;
    harness.finish().await;
    shown
}

/// Waits until every object whose name begins so has a condition with this reason.
async fn until_all(harness: &Harness, wanted: &[(&str, &str, &str)]) {
    harness
        .eventually("all objects are where the guesses show", || async {
            let all: Vec<Channel> = harness.channels().list(&ListParams::default()).await.unwrap().items;
            let there = |channel: &Channel| {
                let name = channel.name_any();
                let wanted = wanted.iter().filter(|(kind, ..)| name.starts_with(kind));
                wanted.into_iter().all(|(_, kind, reason)| {
                    let handled =
                        channel.status.as_ref().and_then(|status| status.last_handled_reconcile_at.clone());
                    let asked = channel.annotations().get("ohallo.eu/reconcile-requested-at").cloned();
                    condition(channel, kind).is_some_and(|found| found.2 == *reason) && handled == asked
                })
            };
            let left: Vec<_> =
                all.iter().filter(|channel| !there(channel)).map(ResourceExt::name_any).collect();
            left.is_empty().then_some(())
        })
        .await;
}

async fn shown(harness: &Harness, log: &str, metrics: &str) -> Shown {
    let all: Vec<Channel> = harness.channels().list(&ListParams::default()).await.unwrap().items;
    let mut ids: Vec<String> = harness.sim.channels().into_iter().map(|channel| channel.id).collect();
    ids.extend(all.iter().filter_map(ResourceExt::uid));
    let mask = |text: String| ids.iter().fold(text, |text, id| text.replace(id.as_str(), "ID"));
    let mut shown = Shown::new();
    for channel in &all {
        let mut status = serde_json::to_value(&channel.status).unwrap();
        let fields = status.as_object_mut().unwrap();
        ["readWith", "createdAt", "channelId", "boundUid", "create"]
            .iter()
            .for_each(|name| drop(fields.remove(*name)));
        for (path, name) in [("/credentials", "pushedAt"), ("/test", "finishedAt")] {
            status.pointer_mut(path).and_then(Value::as_object_mut).map(|part| part.remove(name));
        }
        let sources = status.pointer_mut("/credentials/sources").and_then(Value::as_array_mut);
        for source in sources.into_iter().flatten() {
            *source = source["name"].clone();
        }
        for condition in status["conditions"].as_array_mut().unwrap() {
            condition.as_object_mut().unwrap().remove("lastTransitionTime");
        }
        let name = channel.name_any();
        let mut texts = vec![mask(status.to_string())];
        let mut events = harness.events(&name).await;
        events.sort();
        texts.extend(events.into_iter().map(|(reason, note)| mask(format!("{reason}: {note}"))));
        shown.insert(name, texts);
    }
    // Of log and metrics what any of the adversary's words is in, or the mark of a filter.
    let reported =
        |line: &&str| line.contains("redacted") || line.contains(&KEYS[0][10..16]) || line.contains("whsec");
    let lines: BTreeSet<_> =
        log.lines().chain(metrics.lines()).filter(reported).map(|line| mask(line.to_owned())).collect();
    shown.insert("log and metrics".into(), lines.into_iter().collect());
    shown
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f50_f51_ten_thousand_guesses_in_every_field_teach_an_adversary_nothing() {
    let written = written();
    assert!(written.guesses >= 10_000, "{}", written.guesses);
    let (right, wrong) = tokio::join!(observe(0, &written), observe(1, &written));
    assert_eq!(right.keys().collect::<Vec<_>>(), wrong.keys().collect::<Vec<_>>());
    let distinguishable: Vec<_> = right.iter().filter(|(name, texts)| *texts != &wrong[*name]).collect();
    eprintln!(
        "{} guesses played, {} of {} objects distinguished",
        written.guesses,
        distinguishable.len(),
        right.len()
    );
    if let Some((name, texts)) = distinguishable.first() {
        let differs = texts.iter().zip(&wrong[*name]).find(|(right, wrong)| right != wrong);
        panic!("{name} reveals a right guess: {differs:?}");
    }
    // The comparison means something only where the guesses are shown.
    let all = right.values().flatten().cloned().collect::<String>();
    for part in ["plannedChanges", "DriftDetected", "oHallo rejected the values", &KEYS[0][..38]] {
        assert!(all.contains(part), "nothing shows {part:?}");
    }
    assert!(!all.contains("[redacted]"), "a guess was answered");
}
