//! The invariants, as functions over what was seen: every version of every Channel, the simulator's ledger and
//! channels, the audit log. Each gives what it found broken; those of [`Evidence::broken`] hold in every test.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use ohallo_core::api::channel::Channel;
use ohallo_sim::{Entry, Operation};
use serde_json::Value;
use testbed::AuditEvent;

use crate::support::harness::{Harness, condition};
use crate::support::history::Seen;
use crate::support::steps::{CREATE_AGAIN, CREATE_INTENT, FINALIZER, RELEASE};

mod quiet;

const TEST: &str = "ohallo.eu/test-requested-at";
const RETRY: &str = "ohallo.eu/retry-requested-at";
/// Two reads this far apart prove an absence, in milliseconds.
const MIN_ABSENCE_MS: u64 = 30_000;

pub struct Evidence {
    pub history: Vec<Seen>,
    /// The Channels that are there.
    pub listed: Vec<Channel>,
    pub ledger: Vec<Entry>,
    pub live: Vec<ohallo_sim::Channel>,
    pub writes: Vec<AuditEvent>,
    pub excused: Vec<String>,
}

// === impl Evidence ===

impl Evidence {
    pub fn of(harness: &Harness, listed: Vec<Channel>) -> Self {
        Self {
            history: harness.history.seen(),
            listed,
            ledger: harness.sim.ledger(),
            live: harness.sim.channels(),
            writes: harness.audited_writes(),
            excused: harness.excused.clone(),
        }
    }

    /// What must hold whatever a test does.
    pub fn broken(&self) -> Vec<String> {
        let all = [
            ("I1", self.one_channel_for_an_object()),
            ("I2", self.nothing_is_left_and_nothing_kept_is_deleted()),
            ("I6", self.only_own_fields_are_written()),
            ("I7", self.keys_stay_with_their_tenant()),
            ("I8", self.who_had_an_id_creates_no_more()),
            ("I9", self.one_object_for_a_channel()),
            ("I13", self.one_call_for_a_request()),
            ("I17", self.finalizers_go_by_proof()),
        ];
        all.into_iter()
            .flat_map(|(id, found)| found.into_iter().map(move |found| format!("{id}: {found}")))
            .collect()
    }

    /// I1.
    pub fn one_channel_for_an_object(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for uid in self.uids() {
            let mut alive = BTreeSet::new();
            for entry in self.ledger.iter().filter(|entry| entry.committed) {
                let Some(id) = entry.channel.clone() else { continue };
                match entry.operation {
                    Operation::CreateChannel if created_for(entry.idempotency_key.as_deref(), &uid) => {
                        alive.insert(id);
                        if alive.len() > 1 && self.values(&uid, CREATE_AGAIN).is_empty() {
                            broken.push(format!("{uid} has had two channels: {alive:?}"));
                        }
                    }
                    Operation::DeleteChannel => drop(alive.remove(&id)),
                    _ => {}
                }
            }
        }
        broken
    }

    /// I2.
    pub fn nothing_is_left_and_nothing_kept_is_deleted(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for (uid, channel) in self.deleted() {
            let left = self.live.iter().find(|live| created_for(live.idempotency_key.as_deref(), &uid));
            let excused = || self.released(&uid) || self.handed_over(&uid, &channel);
            if let Some(left) = left.filter(|_| deletes(&channel) && !excused()) {
                broken.push(format!("{} is deleted and channel {} is left", channel.name_any(), left.id));
            }
        }
        let kept: BTreeSet<_> = self.history.iter().filter_map(|seen| bound(&seen.channel)).collect();
        for id in kept {
            let of = |seen: &&Seen| bound(&seen.channel).as_deref() == Some(&id);
            let ever = self.history.iter().filter(of).any(|seen| deletes(&seen.channel));
            let deleted = |entry: &&Entry| {
                entry.operation == Operation::DeleteChannel && entry.channel.as_deref() == Some(&id)
            };
            if !ever && self.ledger.iter().any(|entry| deleted(&entry)) {
                broken.push(format!("channel {id} was to be kept and a DELETE was sent"));
            }
        }
        broken
    }

    /// I6: by the owners of fields that the API server keeps.
    pub fn only_own_fields_are_written(&self) -> Vec<String> {
        let mut broken = BTreeSet::new();
        for Seen { channel, .. } in &self.history {
            let fields = channel.metadata.managed_fields.iter().flatten();
            for owned in fields.filter(|owned| owned.manager.as_deref() == Some("ohallo-operator")) {
                let value = owned.fields_v1.as_ref().map_or(&Value::Null, |fields| &fields.0);
                let mut paths = Vec::new();
                leaves("", value, &mut paths);
                let status = owned.subresource.as_deref() == Some("status");
                let ours = |path: &String| if status { path.starts_with("/f:status") } else { own(path) };
                broken.extend(paths.into_iter().filter(|path| !ours(path)));
            }
        }
        // A Lease is a replica's own, and no user's object.
        let verbs = |event: &&AuditEvent| {
            let writes = (event.verb.as_str(), event.subresource.as_deref());
            event.resource != "leases" && !matches!(writes, ("patch", None) | ("update", Some("status")))
        };
        broken.extend(
            self.writes.iter().filter(verbs).map(|event| format!("{} {}", event.verb, event.resource)),
        );
        broken.into_iter().collect()
    }

    /// I7: what a tenant's key created, only that tenant's keys change.
    pub fn keys_stay_with_their_tenant(&self) -> Vec<String> {
        let mut owners = BTreeMap::new();
        let mut broken = Vec::new();
        for entry in self.ledger.iter().filter(|entry| entry.committed) {
            let (Some(id), Some(tenant)) = (&entry.channel, &entry.tenant) else { continue };
            let owner = owners.entry(id).or_insert(tenant);
            if *owner != tenant {
                broken.push(format!("channel {id} of {owner} was changed by {tenant}"));
            }
        }
        broken
    }

    /// I8: whatever oHallo answers about a channel that was created, and whatever happens to it, only a user's request
    /// lets its object create again. I17 covers the finalizer.
    pub fn who_had_an_id_creates_no_more(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for uid in self.uids().into_iter().filter(|uid| self.values(uid, CREATE_AGAIN).is_empty()) {
            let ids = self.ids_of(&uid);
            let creates = self.ledger.iter().filter(|entry| {
                entry.operation == Operation::CreateChannel
                    && created_for(entry.idempotency_key.as_deref(), &uid)
            });
            let after: Vec<_> = creates
                .skip_while(|entry| entry.channel.as_ref().is_none_or(|id| !ids.contains(id)))
                .skip(1)
                .collect();
            if !after.is_empty() {
                broken.push(format!("{uid} had {ids:?} and created again: {after:?}"));
            }
        }
        broken
    }

    /// I9.
    pub fn one_object_for_a_channel(&self) -> Vec<String> {
        let mut now: BTreeMap<String, &Seen> = BTreeMap::new();
        let mut broken = Vec::new();
        for seen in &self.history {
            now.insert(seen.channel.uid().unwrap_or_default(), seen);
            let Some(id) = driven(seen) else { continue };
            let drivers: Vec<_> = now.values().filter(|other| driven(other).as_ref() == Some(&id)).collect();
            if drivers.len() > 1 {
                let names: Vec<_> = drivers.iter().map(|other| other.channel.name_any()).collect();
                broken.push(format!("channel {id} is driven by {names:?}"));
            }
        }
        broken
    }

    /// I13: no more tests than values of the annotation, and generations where a change requests one.
    pub fn one_call_for_a_request(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for (id, uids) in self.bindings() {
            let calls = |operation| {
                let of = |entry: &&Entry| {
                    entry.operation == operation && entry.channel.as_deref() == Some(id.as_str())
                };
                self.ledger.iter().filter(of).count()
            };
            let asked = |name| uids.iter().map(|uid| self.values(uid, name).len()).sum::<usize>();
            let on_change = self.history.iter().any(|seen| {
                uids.contains(&seen.channel.uid().unwrap_or_default())
                    && seen.channel.spec.connectivity_test.as_deref() == Some("OnChange")
            });
            if !on_change && calls(Operation::TestChannel) > asked(TEST) {
                broken.push(format!("channel {id} was tested more often than asked"));
            }
            let limit =
                self.history.iter().filter(|seen| uids.contains(&seen.channel.uid().unwrap_or_default()));
            let limit = limit.map(|seen| retries(&seen.channel)).max().unwrap_or_default();
            if calls(Operation::RetryProvisioning) > asked(RETRY) + limit * (asked(RETRY) + 1) {
                broken.push(format!("channel {id} was provisioned again more often than asked"));
            }
        }
        broken
    }

    /// I17.
    pub fn finalizers_go_by_proof(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for (uid, channel) in self.deleted() {
            if !deletes(&channel) || self.released(&uid) || self.handed_over(&uid, &channel) {
                continue;
            }
            let Some(id) = bound(&channel) else { continue };
            let of = |entry: &&Entry| {
                entry.operation == Operation::DeleteChannel && entry.channel.as_deref() == Some(id.as_str())
            };
            let calls: Vec<_> = self.ledger.iter().filter(of).collect();
            let absent: Vec<_> = calls.iter().filter(|e| e.status == Some(404)).map(|e| e.at_ms).collect();
            let twice = absent.iter().zip(absent.iter().skip(1)).any(|(a, b)| b - a >= MIN_ABSENCE_MS);
            if !twice && !calls.iter().any(|entry| entry.committed && entry.status == Some(200)) {
                broken.push(format!("{} went without a proof that {id} is deleted", channel.name_any()));
            }
        }
        broken
    }

    fn uids(&self) -> BTreeSet<String> {
        self.history.iter().filter_map(|seen| seen.channel.uid()).collect()
    }

    /// The last version of each object that is deleted and not excused.
    fn deleted(&self) -> BTreeMap<String, Channel> {
        let last: BTreeMap<_, _> =
            self.history.iter().map(|seen| (seen.channel.uid().unwrap_or_default(), seen)).collect();
        let deleted = last.into_iter().filter(|(_, seen)| seen.deleted);
        deleted
            .filter(|(_, seen)| !self.excused.contains(&seen.channel.name_any()))
            .map(|(uid, seen)| (uid, seen.channel.clone()))
            .collect()
    }

    /// The values that a user's annotation has had on an object.
    fn values(&self, uid: &str, annotation: &str) -> BTreeSet<String> {
        let of = self.history.iter().filter(|seen| seen.channel.uid().as_deref() == Some(uid));
        of.filter_map(|seen| seen.channel.annotations().get(annotation).cloned()).collect()
    }

    /// The ids that were ever bound to an object.
    fn ids_of(&self, uid: &str) -> BTreeSet<String> {
        let of = self.history.iter().filter(|seen| seen.channel.uid().as_deref() == Some(uid));
        of.filter_map(|seen| bound(&seen.channel)).collect()
    }

    fn released(&self, uid: &str) -> bool {
        !self.values(uid, RELEASE).is_empty()
    }

    /// Whether another Channel of the namespace is, or was, bound to what this one was bound to.
    fn handed_over(&self, uid: &str, channel: &Channel) -> bool {
        let Some(id) = bound(channel) else { return false };
        let heir = |seen: &Seen| {
            seen.channel.uid().as_deref() != Some(uid) && bound(&seen.channel).as_ref() == Some(&id)
        };
        self.history.iter().any(heir)
    }

    fn bindings(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut bindings: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for Seen { channel, .. } in &self.history {
            if let (Some(id), Some(uid)) = (bound(channel), channel.uid()) {
                bindings.entry(id).or_default().insert(uid);
            }
        }
        bindings
    }
}

/// `<uid>/<attempt>`
fn created_for(key: Option<&str>, uid: &str) -> bool {
    key.is_some_and(|key| key.split('/').next() == Some(uid))
}

/// The id that is bound to this object; one in a copied status is not.
fn bound(channel: &Channel) -> Option<String> {
    let status = channel.status.as_ref()?;
    let id = status.channel_id.as_ref()?;
    (status.bound_uid == channel.metadata.uid).then(|| id.clone())
}

fn driven(seen: &Seen) -> Option<String> {
    let ready = condition(&seen.channel, "Ready").is_some_and(|ready| ready.1 == "True");
    let manages = seen.channel.spec.management_policy.as_deref() != Some("Observe");
    let living = !seen.deleted && seen.channel.metadata.deletion_timestamp.is_none();
    bound(&seen.channel).filter(|_| ready && manages && living)
}

fn retries(channel: &Channel) -> usize {
    let limit = channel.spec.provisioning_retry.as_ref().and_then(|retry| retry.limit).unwrap_or(5);
    usize::try_from(limit).unwrap_or_default()
}

/// Whether its deletion takes the channel along.
fn deletes(channel: &Channel) -> bool {
    let status = channel.status.clone().unwrap_or_default();
    let loses = condition(channel, "Ready").is_some_and(|ready| ready.2 == "OwnershipConflict");
    if loses || channel.spec.management_policy.as_deref() == Some("Observe") {
        return false;
    }
    match channel.spec.deletion_policy.as_deref() {
        Some(policy) => policy == "Delete",
        None => status.origin.as_deref().map_or(channel.spec.channel_id.is_none(), |by| by == "Created"),
    }
}

fn own(path: &str) -> bool {
    let annotation = format!("/f:metadata/f:annotations/f:{CREATE_INTENT}");
    let finalizer = format!("/f:metadata/f:finalizers/v:\"{FINALIZER}\"");
    path == annotation
        || path == finalizer
        || path == "/f:metadata/f:finalizers"
        || path == "/f:metadata/f:annotations"
}

fn leaves(path: &str, value: &Value, found: &mut Vec<String>) {
    match value.as_object().filter(|fields| fields.keys().any(|key| key != ".")) {
        None => found.push(path.to_owned()),
        Some(fields) => {
            for (key, value) in fields.iter().filter(|(key, _)| key.as_str() != ".") {
                leaves(&format!("{path}/{key}"), value, found);
            }
        }
    }
}
