//! Leader election in a test.

use serde_json::{Value, json};
use testbed::User;

use crate::support::harness::Harness;
use crate::support::roles::shipped;

/// Both have the shipped rights; the audit log distinguishes them by name.
pub const USERS: [User; 2] = [User::Operator, User::Spare(7)];

/// Short, so that a test need not wait long for a lease to run out.
pub const SHORT_LEASE: [&str; 3] =
    ["--lease-duration-seconds=3", "--lease-renew-deadline-seconds=2", "--lease-retry-seconds=1"];

/// Grants what the shipped Role grants in the operator's namespace in the test's, which is the operator's there.
pub fn allow_lease(harness: &Harness) {
    for kind in ["Role", "RoleBinding"] {
        let mut object = shipped(kind).remove(0);
        object["metadata"]["namespace"] = harness.namespace.clone().into();
        also_the_second(&mut object);
        harness.apply(&object);
    }
    let mut binding = shipped("ClusterRoleBinding").remove(0);
    also_the_second(&mut binding);
    harness.apply(&binding);
}

fn also_the_second(binding: &mut Value) {
    if let Some(subjects) = binding.get_mut("subjects").and_then(Value::as_array_mut) {
        subjects
            .push(json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USERS[1].name()}));
    }
}
