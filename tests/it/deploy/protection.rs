//! The deletion protection: what each way to delete a Channel comes to while the policy is in force.

mod policy_in_force;
mod ways;
mod whole_cluster;

use std::process::Output;

use serde_json::Value;
use testbed::{ControlPlane, User};

use crate::support::harness::{Harness, kubectl_as};
use crate::support::helm::{OPERATOR_NAMESPACE, of_kind, output_text, render_as};

/// The beginning and the end of what refuses a deletion; the id is between them.
const REFUSED: &str = "This deletes the channel ";
const REMEDY: &str = "ohallo.eu/confirm-deletion=";
/// What refuses a change during a deletion.
const KEPT: &str = "is being deleted and keeps its channel in oHallo";

const PROTECTION: &str = r#"deletionProtection={"enabled":true}"#;

/// The policy and its binding, for one namespace, in the chart's words.
pub fn policy(namespace: &str) -> Vec<Value> {
    let watched = format!("watchNamespaces=[{namespace:?}]");
    let rendered = render_as(namespace, OPERATOR_NAMESPACE, &[PROTECTION, &watched]).unwrap();
    let kinds = ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"];
    let objects: Vec<_> = kinds.iter().flat_map(|kind| of_kind(&rendered, kind)).cloned().collect();
    assert_eq!(objects.len(), 2, "{objects:#?}");
    objects
}

fn list(objects: &[Value]) -> String {
    serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()
}

/// The protection of one namespace of a shared control plane.
pub struct Protection {
    plane: &'static ControlPlane,
    objects: Vec<Value>,
}

// === impl Protection ===

impl Protection {
    /// Applies the policy, and waits until it refuses the deletion of this Channel, which is bound and not confirmed.
    pub async fn of(harness: &Harness, channel: &str) -> Self {
        let objects = policy(&harness.namespace);
        harness.kubectl_ok(&["apply", "-f", "-"], &list(&objects));
        let refused = || async {
            let output = harness.kubectl(&["delete", "channel", channel, "--dry-run=server"], None);
            (!output.status.success()).then(|| output_text(&output))
        };
        let why = harness.eventually("the protection in force", refused).await;
        assert!(why.contains(REFUSED), "{why}");
        Self { plane: harness.plane, objects }
    }

    pub fn end(self) {
        let name = |object: &Value| {
            let text = |value: &Value| value.as_str().unwrap().to_lowercase();
            format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"]))
        };
        let names: Vec<_> = self.objects.iter().map(name).collect();
        let args: Vec<_> =
            ["delete", "--ignore-not-found"].into_iter().chain(names.iter().map(String::as_str)).collect();
        let output = kubectl_as(self.plane, User::Admin, &args, None);
        assert!(output.status.success(), "{}", output_text(&output));
    }
}

/// kubectl in the namespace, which the protection must refuse for the Channel with this id; returns its output.
fn refused(harness: &Harness, args: &[&str], id: &str) -> String {
    refused_by(&harness.kubectl(args, None), id)
}

fn refused_by(output: &Output, id: &str) -> String {
    let text = output_text(output).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(!output.status.success(), "{text}");
    assert!(text.contains(&format!("{REFUSED}{id}")) && text.contains(&format!("{REMEDY}{id} ")), "{text}");
    text
}

fn accepted(harness: &Harness, args: &[&str]) {
    let output = harness.kubectl(args, None);
    assert!(output.status.success(), "{args:?}: {}", output_text(&output));
}
