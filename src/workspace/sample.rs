//! Workspaces in every state, as GitOps tools see them.

use serde_json::{Value, json};

use super::check::Finding;
use super::kind::Kind;
use super::status::summarize;
use crate::api::conditions::{Reason, kind};
use crate::api::workspace::{ClusterWorkspace, Workspace};
use crate::error::Failure;
use crate::ohallo::{Id, RemoteWorkspace};
use crate::verdicts::channels::{answered, transient};
use crate::verdicts::{DONE, GOES_ON, NEEDS_SOMEBODY, NOT_READY, RESTS, Set, Tools};

pub fn sets() -> Vec<Set> {
    let mut sets = of::<Workspace>();
    sets.extend(of::<ClusterWorkspace>());
    sets
}

fn of<K: Kind>() -> Vec<Set> {
    let good = |named: bool| Finding::Good { workspace: named.then(named_one), environment: Some("Live") };
    let input = |reason| Finding::Failed(Failure::input(reason, "It is not there."));
    let user = |reason| Finding::Failed(Failure::user(reason, "Somebody has to change something."));
    let mut sets = Vec::new();
    let mut add = |kind, reason, tools: Tools, object: &K| {
        let object = serde_json::to_value(object).unwrap();
        sets.push(Set { shows: Some((kind, reason)), object, tools });
    };
    for (reason, finding, tools) in [
        (Reason::Verified, good(true), DONE),
        (Reason::Unverified, good(false), DONE),
        (Reason::SecretNotFound, input(Reason::SecretNotFound), GOES_ON),
        (Reason::SecretKeyMissing, input(Reason::SecretKeyMissing), GOES_ON),
        (Reason::AuthenticationFailed, Finding::Failed(answered(401, None)), NEEDS_SOMEBODY),
        (Reason::WorkspaceNotFound, user(Reason::WorkspaceNotFound), NEEDS_SOMEBODY),
    ] {
        add(kind::READY, reason, tools, &after(&fresh::<K>(), &finding));
    }
    let verified = after(&fresh::<K>(), &good(true));
    for (reason, failure) in transient() {
        let later = Finding::Failed(failure);
        add(kind::READY, reason, GOES_ON, &after(&fresh::<K>(), &later));
        add(kind::READY, Reason::Verified, DONE, &after(&verified, &later));
        // A key that worked is believed for a while.
        add(kind::READY, reason, GOES_ON, &after_failures(&verified, &later, 3));
    }
    let refused = Finding::Failed(answered(401, None));
    let suspended = after(&after(&verified, &refused), &Finding::Suspended);
    add(kind::SUSPENDED, Reason::Suspended, NOT_READY, &suspended);
    add(kind::SUSPENDED, Reason::Suspended, RESTS, &after(&verified, &Finding::Suspended));
    add(kind::SUSPENDED, Reason::Suspended, NOT_READY, &after(&fresh::<K>(), &Finding::Suspended));
    let mut changed = verified;
    changed.meta_mut().generation = Some(2);
    add(kind::READY, Reason::Verified, GOES_ON, &changed);
    sets
}

fn named_one() -> RemoteWorkspace {
    RemoteWorkspace { id: Id::parse("ws1").unwrap(), name: Some("Nordic Parts".into()) }
}

fn fresh<K: Kind>() -> K {
    let object: Value = json!({
        "apiVersion": "ohallo.eu/v1alpha1", "kind": K::NAME,
        "metadata": {"name": "default", "generation": 1},
        "spec": {"workspaceId": "ws1", "apiKeySecretRef": {"name": "ohallo-api-key"}},
    });
    serde_json::from_value(object).unwrap()
}

/// Itself, as it is written after this look.
fn after<K: Kind>(object: &K, finding: &Finding) -> K {
    after_failures(object, finding, 0)
}

/// After so many transient failures in a row.
fn after_failures<K: Kind>(object: &K, finding: &Finding, failures: u32) -> K {
    let now = "2026-01-10T08:00:00Z".parse().unwrap();
    object.with_status(summarize(object, finding, failures, 0.5, now).status)
}
