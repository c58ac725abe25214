//! Workspaces in every state, as GitOps tools see them.

use serde_json::{Value, json};

use crate::gitops::health::channels::{answered, transient};
use crate::gitops::health::{DONE, IN_PROGRESS, NEEDS_USER, SUSPENDED, SUSPENDED_NOT_READY, Set, Tools};
use ohallo_core::api::conditions::{Reason, kind};
use ohallo_core::api::workspace::{ClusterWorkspace, Workspace};
use ohallo_core::failure::Failure;
use ohallo_core::remote::{Id, RemoteWorkspace};
use ohallo_core::workspace::kind::WorkspaceKind;
use ohallo_core::workspace::model::KeyCheck;
use ohallo_core::workspace::status::summarize;

pub fn sets() -> Vec<Set> {
    let mut sets = of::<Workspace>();
    sets.extend(of::<ClusterWorkspace>());
    sets
}

fn of<K: WorkspaceKind>() -> Vec<Set> {
    let good = |named: bool| KeyCheck::Good { workspace: named.then(named_one), environment: Some("Live") };
    let input = |reason| KeyCheck::Failed(Failure::missing_input(reason, "It is not there."));
    let user = |reason| KeyCheck::Failed(Failure::user_action(reason, "A user has to change something."));
    let mut sets = Vec::new();
    let mut add = |kind, reason, tools: Tools, object: &K| {
        let object = serde_json::to_value(object).unwrap();
        sets.push(Set { shows: Some((kind, reason)), object, tools });
    };
    for (reason, finding, tools) in [
        (Reason::Verified, good(true), DONE),
        (Reason::Unverified, good(false), DONE),
        (Reason::SecretNotFound, input(Reason::SecretNotFound), IN_PROGRESS),
        (Reason::SecretKeyMissing, input(Reason::SecretKeyMissing), IN_PROGRESS),
        (Reason::AuthenticationFailed, KeyCheck::Failed(answered(401, None)), NEEDS_USER),
        (Reason::WorkspaceNotFound, user(Reason::WorkspaceNotFound), NEEDS_USER),
    ] {
        add(kind::READY, reason, tools, &after(&fresh::<K>(), &finding));
    }
    let verified = after(&fresh::<K>(), &good(true));
    for (reason, failure) in transient() {
        let later = KeyCheck::Failed(failure);
        add(kind::READY, reason, IN_PROGRESS, &after(&fresh::<K>(), &later));
        add(kind::READY, Reason::Verified, DONE, &after(&verified, &later));
        // A key that worked stays Ready for a while.
        add(kind::READY, reason, IN_PROGRESS, &after_failures(&verified, &later, 3));
    }
    let refused = KeyCheck::Failed(answered(401, None));
    let suspended = after(&after(&verified, &refused), &KeyCheck::Suspended);
    add(kind::SUSPENDED, Reason::Suspended, SUSPENDED_NOT_READY, &suspended);
    add(kind::SUSPENDED, Reason::Suspended, SUSPENDED, &after(&verified, &KeyCheck::Suspended));
    add(kind::SUSPENDED, Reason::Suspended, SUSPENDED_NOT_READY, &after(&fresh::<K>(), &KeyCheck::Suspended));
    let mut changed = verified;
    changed.meta_mut().generation = Some(2);
    add(kind::READY, Reason::Verified, IN_PROGRESS, &changed);
    sets
}

fn named_one() -> RemoteWorkspace {
    RemoteWorkspace { id: Id::parse("ws1").unwrap(), name: Some("Nordic Parts".into()) }
}

fn fresh<K: WorkspaceKind>() -> K {
    let object: Value = json!({
        "apiVersion": "ohallo.eu/v1alpha1", "kind": K::KIND.name(),
        "metadata": {"name": "default", "generation": 1},
        "spec": {"workspaceId": "ws1", "apiKeySecretRef": {"name": "ohallo-api-key"}},
    });
    serde_json::from_value(object).unwrap()
}

/// The object as it is written after this key check.
fn after<K: WorkspaceKind>(object: &K, finding: &KeyCheck) -> K {
    after_failures(object, finding, 0)
}

/// After so many transient failures in a row.
fn after_failures<K: WorkspaceKind>(object: &K, finding: &KeyCheck, failures: u32) -> K {
    let now = "2026-01-10T08:00:00Z".parse().unwrap();
    object.with_status(summarize(object, finding, failures, 0.5, now).status)
}
