//! The samples wave by wave, as Argo CD goes through them: each is applied and waited for before the next, and they are
//! pruned the other way round. It is kubectl that does it here.

use std::collections::BTreeMap;

use ohallo_sim::{Config, Operation};
use serde_json::{Value, json};

use crate::support::harness::Harness;
use crate::support::helm::{documents, of_kind};
use crate::support::pages;
use crate::support::samples::samples;

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/samples");
const PAGE: &str = include_str!("../../../docs/gitops.md");
const WAVE: &str = "argocd.argoproj.io/sync-wave";

/// What is marked with no wave is of wave 0.
fn wave(object: &Value) -> i64 {
    object["metadata"]["annotations"][WAVE].as_str().map_or(0, |wave| wave.parse().unwrap())
}

fn kubectl(harness: &Harness, args: &[&str], objects: &[Value]) -> String {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    let output = harness.kubectl(args, (!objects.is_empty()).then_some(&list));
    let reported = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{args:?}: {reported}{}", String::from_utf8_lossy(&output.stderr));
    reported
}

/// Secrets are healthy as soon as they are there.
fn ours(objects: &[Value]) -> Vec<Value> {
    let is_ours = |object: &&Value| object["apiVersion"] == "ohallo.eu/v1alpha1";
    objects.iter().filter(is_ours).cloned().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_samples_go_through_their_waves_there_and_back() {
    let mut harness = Harness::bare(Config::default(), &[]).await;
    samples(&harness);
    let mut waves: BTreeMap<i64, Vec<Value>> = BTreeMap::new();
    for object in documents(&kubectl(&harness, &["kustomize", SAMPLES], &[])) {
        waves.entry(wave(&object)).or_default().push(object);
    }
    assert_eq!(waves.keys().collect::<Vec<_>>(), [&-1, &0]);
    for shown in pages::yaml(PAGE).iter().flat_map(|block| documents(block)) {
        if shown["kind"] == "Workspace" {
            assert_eq!(wave(&shown), wave(of_kind(&waves[&-1], "Workspace")[0]), "what the page shows");
        }
    }
    harness.start_operator().await;
    for objects in waves.values() {
        kubectl(&harness, &["apply", "-f", "-"], objects);
        let wait = ["wait", "--for=condition=Ready", "--timeout=60s", "-f", "-"];
        kubectl(&harness, &wait, &ours(objects));
    }
    assert_eq!(harness.sim.channel_count(), 4);
    for (wave, objects) in waves.iter().rev() {
        // It waits until all of them are deleted.
        kubectl(&harness, &["delete", "--timeout=60s", "-f", "-"], objects);
        let left = kubectl(&harness, &["get", "workspaces", "-o", "name"], &[]);
        assert_eq!(left.is_empty(), *wave < 0, "{wave}: {left}");
        // The two with a phone number are kept by their policy.
        assert_eq!((harness.count(Operation::DeleteChannel), harness.sim.channel_count()), (2, 2));
    }
    harness.finish().await;
}
