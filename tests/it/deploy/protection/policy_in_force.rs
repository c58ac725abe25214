//! The policy and the operator derive the same deletion policy: the API server's verdict, beside the core's function,
//! for many objects.

use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use ohallo_core::api::channel::Channel;
use ohallo_core::api::values::DeletionPolicy;
use ohallo_core::channel::plan::delete::{policy_in_force, unconfirmed_deletion};
use serde_json::{Value, json};
use testbed::User;

use crate::deploy::protection::{KEPT, REFUSED, list, policy};
use crate::support::harness::{WAIT_TIMEOUT, kubectl_as, plane};
use crate::support::steps::{CONFIRM_DELETION, CREATE_INTENT};

const OBJECTS: u64 = 500;
const PARALLEL: usize = 12;
const NAMESPACE: &str = "policy-in-force";

/// Draws the same values in each run.
struct Draw(u64);

// === impl Draw ===

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((word ^ (word >> 31)) % end as u64).unwrap()
    }

    fn of(&mut self, values: &[Value]) -> Value {
        values[self.below(values.len())].clone()
    }
}

/// One object, without what only the API server knows.
struct Case {
    name: String,
    id: String,
    spec: Value,
    terminating: bool,
    draw: Draw,
}

// === impl Case ===

impl Case {
    fn new(number: u64) -> Self {
        let mut draw = Draw(number);
        // Mostly a UUID, whose spellings are equal.
        let id = match draw.below(4) {
            0 => format!("Channel_{number}"),
            _ => format!("7c9e6679-7425-40de-944b-{number:012x}"),
        };
        let spec = json!({
            "channelType": "chat", "displayName": "C",
            "deletionPolicy": draw.of(&[json!(null), json!(null), json!(null), json!("Delete"), json!("Retain")]),
            "managementPolicy": draw.of(&[json!(null), json!("Manage"), json!("Manage"), json!("Manage"), json!("Manage"), json!("Observe")]),
            "channelId": draw.of(&[json!(null), json!(id)]),
            "suspend": draw.of(&[json!(null), json!(true)]),
        });
        Self { name: format!("c{number}"), id, spec, terminating: draw.below(2) == 0, draw }
    }

    /// Writes the object, begins its deletion, and writes the status that is drawn.
    async fn store(mut self, api: &Api<Channel>) -> Channel {
        let mut manifest = json!({
            "apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel",
            "metadata": {"name": self.name, "finalizers": ["ohallo.eu/channel"]}, "spec": self.spec,
        });
        manifest["spec"].as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let object: Channel = serde_json::from_value(manifest).unwrap();
        let uid = api.create(&PostParams::default(), &object).await.unwrap().uid().unwrap();
        let intent = self.draw.of(&[
            json!(null),
            json!(format!("{uid}/1/2026-01-10T07:00:00.000000Z")),
            json!(format!("{uid}/12/2026-01-10T07:00:00Z")),
            json!(format!("{uid}/0/2026-01-10T07:00:00Z")),
            json!(format!("{uid}/1")),
            json!(format!("{uid}/1/2026-01-10")),
            json!("4f1d/1/2026-01-10T07:00:00Z"),
        ]);
        let confirmed = self.draw.of(&[
            json!(null),
            json!(null),
            json!(null),
            json!(null),
            json!(null),
            json!(null),
            json!(self.id),
            json!(format!("{}/{uid}", self.id)),
            json!(self.id.to_uppercase()),
            json!(format!("{}/{uid}", self.id.to_uppercase())),
            json!(format!("{}/4f1d", self.id)),
            json!(format!("another/{uid}")),
            json!(format!("/{uid}")),
            json!(""),
        ]);
        let patch =
            json!({"metadata": {"annotations": {CREATE_INTENT: intent, CONFIRM_DELETION: confirmed}}});
        let mut stored = self.patch(api, &patch).await;
        if self.terminating {
            api.delete(&self.name, &DeleteParams::default()).await.unwrap();
            stored = api.get(&self.name).await.unwrap();
        }
        let bound = self.draw.of(&[
            json!(uid),
            json!(uid),
            json!(uid),
            json!(uid),
            json!(uid),
            json!("4f1d"),
            json!(null),
        ]);
        let blocked = self.draw.of(&[json!("False"), json!("True")]);
        let gap = i64::try_from(self.draw.below(5)).unwrap() - 1;
        let seen = stored.metadata.generation.unwrap() - gap;
        let mut status = json!({
            "channelId": self.draw.of(&[json!(self.id), json!(self.id), json!(self.id), json!(self.id), json!(self.id), json!(null)]),
            "boundUid": bound,
            "origin": self.draw.of(&[json!(null), json!("Created"), json!("Created"), json!("Adopted"), json!("Other")]),
            "deletionPolicy": self.draw.of(&[json!(null), json!("Delete"), json!("Retain"), json!("Retain")]),
            "observedGeneration": if gap > 2 { json!(null) } else { json!(seen) },
            "conditions": [{"type": "DeletionBlocked", "status": blocked, "reason": "Suspended", "message": "",
                "lastTransitionTime": "2026-01-10T07:00:00Z"}],
        });
        status.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        if self.draw.below(12) > 0 {
            let patch = Patch::Merge(json!({"status": status}));
            stored = api.patch_status(&self.name, &PatchParams::default(), &patch).await.unwrap();
        }
        stored
    }

    async fn patch(&self, api: &Api<Channel>, patch: &Value) -> Channel {
        api.patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap()
    }
}

fn deletes(channel: &Channel) -> bool {
    policy_in_force(channel, &channel.status.clone().unwrap_or_default()) == DeletionPolicy::Delete
}

/// Why the API server refuses, by policy; anything else is an error.
fn verdict<T>(answer: Result<T, kube::Error>) -> Option<String> {
    match answer {
        Ok(_) => None,
        Err(kube::Error::Api(status)) if status.code == 403 => Some(status.message),
        Err(error) => panic!("{error}"),
    }
}

/// Every change of the two policies, and one that changes neither.
fn changes() -> Vec<Value> {
    let mut changes = vec![json!({"displayName": "D"}), json!({"suspend": false})];
    for deletion in [json!(null), json!("Delete"), json!("Retain")] {
        for management in [json!("Manage"), json!("Observe")] {
            changes.push(json!({"deletionPolicy": deletion, "managementPolicy": management}));
        }
    }
    changes
}

/// The object that a change leads to.
fn changed(channel: &Channel, change: &Value) -> Channel {
    let mut whole = serde_json::to_value(channel).unwrap();
    for (key, value) in change.as_object().unwrap() {
        whole["spec"][key] = value.clone();
    }
    let mut changed: Channel = serde_json::from_value(whole).unwrap();
    if changed.spec != channel.spec {
        changed.metadata.generation = changed.metadata.generation.map(|generation| generation + 1);
    }
    changed
}

/// How often the verdict was which.
#[derive(Default, Debug, PartialEq)]
struct Counts {
    refused: usize,
    accepted: usize,
}

async fn compare(api: &Api<Channel>, stored: &Channel) -> (Vec<String>, Counts, Counts) {
    let (mut wrong, mut deletions, mut updates) = (Vec::new(), Counts::default(), Counts::default());
    let name = stored.name_any();
    let dry = DeleteParams { dry_run: true, ..DeleteParams::default() };
    let found = verdict(api.delete(&name, &dry).await);
    if stored.metadata.deletion_timestamp.is_some() {
        // It is asked once.
        assert_eq!(found, None);
        for change in changes() {
            let expected = !deletes(stored) && deletes(&changed(stored, &change));
            let params = PatchParams { dry_run: true, ..PatchParams::default() };
            let found = verdict(api.patch(&name, &params, &Patch::Merge(json!({"spec": change}))).await);
            *(if expected { &mut updates.refused } else { &mut updates.accepted }) += 1;
            if found.as_ref().is_some_and(|text| text.contains(KEPT)) != expected
                || found.is_some() != expected
            {
                wrong.push(format!(
                    "{change} of a terminating object: {found:?}, expected {expected}: {stored:#?}"
                ));
            }
        }
        return (wrong, deletions, updates);
    }
    let expected = unconfirmed_deletion(stored);
    *(if expected.is_some() { &mut deletions.refused } else { &mut deletions.accepted }) += 1;
    let fits = match (&found, &expected) {
        (Some(text), Some(id)) => text.contains(&format!("{REFUSED}{id}")),
        (None, None) => true,
        _ => false,
    };
    if !fits {
        wrong.push(format!("a deletion: {found:?}, expected {expected:?}: {stored:#?}"));
    }
    (wrong, deletions, updates)
}

/// Waits until the policy refuses what it must, and until the API server has checked its expressions.
async fn in_force(client: &Client, api: &Api<Channel>, probe: &str) {
    let plane = plane().await;
    let objects = policy(NAMESPACE);
    let applied = kubectl_as(plane, User::Admin, &["apply", "-f", "-"], Some(&list(&objects)));
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    let policies: Api<k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy> =
        Api::all(client.clone());
    let name = objects[0]["metadata"]["name"].as_str().unwrap();
    let dry = DeleteParams { dry_run: true, ..DeleteParams::default() };
    let ready = async {
        loop {
            let checked = policies.get(name).await.unwrap().status.and_then(|status| status.type_checking);
            let refused = verdict(api.delete(probe, &dry).await).is_some();
            if let Some(checked) = checked.filter(|_| refused) {
                return checked;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let checked = tokio::time::timeout(WAIT_TIMEOUT, ready).await.expect("the policy is never in force");
    assert_eq!(checked.expression_warnings, None, "the API server doubts the expressions");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_protection_and_the_operator_derive_the_same_policy_from_any_object() {
    let plane = plane().await;
    let client = plane.client(User::Admin).unwrap();
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}})).unwrap();
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
    let api: Api<Channel> = Api::namespaced(client.clone(), NAMESPACE);
    let stored: Vec<_> = futures::stream::iter(0..OBJECTS)
        .map(|number| Case::new(number).store(&api))
        .buffer_unordered(PARALLEL)
        .collect()
        .await;
    let living = |channel: &&Channel| channel.metadata.deletion_timestamp.is_none();
    let probe = stored.iter().filter(living).find(|channel| unconfirmed_deletion(channel).is_some()).unwrap();
    in_force(&client, &api, &probe.name_any()).await;
    let compared: Vec<_> = futures::stream::iter(&stored)
        .map(|channel| compare(&api, channel))
        .buffer_unordered(PARALLEL)
        .collect()
        .await;
    let (mut wrong, mut deletions, mut updates) = (Vec::new(), Counts::default(), Counts::default());
    for (more, deletion, update) in compared {
        wrong.extend(more);
        deletions.refused += deletion.refused;
        deletions.accepted += deletion.accepted;
        updates.refused += update.refused;
        updates.accepted += update.accepted;
    }
    assert!(
        wrong.is_empty(),
        "{} of {deletions:?} and {updates:?}: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(3)]
    );
    // Each verdict is common enough to mean something.
    for count in [deletions.refused, deletions.accepted, updates.refused, updates.accepted] {
        assert!(count >= 40, "{deletions:?} {updates:?}");
    }
    clean_up(&client, &api, &stored).await;
}

async fn clean_up(client: &Client, api: &Api<Channel>, stored: &[Channel]) {
    let plane = plane().await;
    let policies = list(&policy(NAMESPACE));
    let deleted = kubectl_as(plane, User::Admin, &["delete", "-f", "-"], Some(&policies));
    assert!(deleted.status.success(), "{}", String::from_utf8_lossy(&deleted.stderr));
    let bare = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    let params = PatchParams::default();
    let removed = futures::stream::iter(stored).map(|channel| {
        let name = channel.name_any();
        let (params, bare) = (&params, &bare);
        async move { api.patch(&name, params, bare).await.unwrap() }
    });
    removed.buffer_unordered(PARALLEL).collect::<Vec<_>>().await;
    let deleted = Api::<Namespace>::all(client.clone()).delete(NAMESPACE, &DeleteParams::default()).await;
    deleted.unwrap();
}
