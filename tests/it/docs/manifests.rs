//! The API server accepts the manifests of the documents.

use ohallo_sim::{Action, Config, Fault, Operation};
use serde_json::{Value, json};

use crate::support::harness::{Harness, id_of};
use crate::support::helm::documents;
use crate::support::pages;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manifests_of_the_documents_are_accepted_by_the_api_server() {
    let harness = Harness::bare(Config::default(), &[]).await;
    let mut seen = 0;
    for (path, text) in pages::all() {
        for block in pages::yaml(&text) {
            for object in documents(&block).iter().filter(|object| ours(object)) {
                let apply = ["apply", "--dry-run=server", "-f", "-"];
                let output = harness.kubectl(&apply, Some(&object.to_string()));
                let reported = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success() && reported.is_empty(), "{path}: {reported}\n{object:#}");
                seen += 1;
            }
        }
    }
    assert!(seen > 3, "{seen}");
    harness.finish().await;
}

/// A whole object of a kind that is there in every cluster that has the operator.
fn ours(object: &Value) -> bool {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    version == "v1" || version.starts_with("ohallo.eu/") || version.starts_with("rbac.authorization.k8s.io/")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_number_without_quotes_loses_its_plus_before_it_reaches_the_api_server() {
    let harness = Harness::bare(Config::default(), &[]).await;
    let manifest = |number: &str| {
        format!(
            "apiVersion: ohallo.eu/v1alpha1\nkind: Channel\nmetadata: {{name: a}}\nspec:\n  channelType: voice\n  \
             displayName: A\n  config:\n    phoneNumber: {number}\n"
        )
    };
    for (written, stored) in [
        ("+4570123457", json!(4_570_123_457_i64)),
        ("0045701234", json!(9_929_372)),
        ("\"+4570123457\"", json!("+4570123457")),
    ] {
        let applied = harness.kubectl(&["apply", "-f", "-"], Some(&manifest(written)));
        assert!(applied.status.success() && applied.stderr.is_empty(), "nobody warns");
        let config = harness.get("a").await.spec.config.unwrap();
        assert_eq!(config["phoneNumber"], stored, "{written}");
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_forced_costs_a_channel_or_leaves_it_as_the_page_says() {
    let mut harness = Harness::start().await;
    let first = harness.ready("a", json!({})).await;
    let manifest = json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel", "metadata": {"name": "a"},
        "spec": {"channelType": "chat", "displayName": "A"}});
    let replaced = harness.kubectl(&["replace", "--force", "-f", "-"], Some(&manifest.to_string()));
    assert!(replaced.status.success(), "{}", String::from_utf8_lossy(&replaced.stderr));
    let second = harness.reason("a", "Available").await;
    assert_ne!(id_of(&first), id_of(&second), "another channel");
    assert_eq!((harness.count(Operation::CreateChannel), harness.count(Operation::DeleteChannel)), (2, 1));
    harness.sim.add_fault(Fault::on(Operation::DeleteChannel, Action::status(403)));
    let forced = ["delete", "channel", "a", "--force", "--grace-period=0", "--wait=false"];
    assert!(harness.kubectl(&forced, None).status.success());
    harness.has("a", "DeletionBlocked", "PermissionDenied").await;
    harness.sim.clear_faults();
    harness.excused.push("a".into());
    harness.edit("a", json!({"metadata": {"finalizers": null}})).await;
    harness.wait_deleted("a").await;
    assert_eq!(harness.sim.channel_count(), 1, "it stays in oHallo");
    harness.finish().await;
}
