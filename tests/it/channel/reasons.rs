//! Every reason is explained to users; and the two that only a moment or a missing permission shows.

use std::collections::BTreeSet;

use kube::api::{Patch, PatchParams};
use ohallo_core::api::conditions::Reason;
use ohallo_sim::{Action, Config, Fault, Operation};
use serde_json::json;
use strum::VariantArray;
use testbed::User;

use crate::support::harness::{Harness, condition, message};

#[test]
fn every_reason_has_an_entry_in_troubleshooting_and_none_is_left_over() {
    let document = include_str!("../../../docs/troubleshooting.md");
    let entries: Vec<_> = document.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let explained: BTreeSet<_> = entries.iter().copied().collect();
    let reasons: BTreeSet<_> = Reason::VARIANTS.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(explained, reasons);
    assert_eq!(entries.len(), explained.len(), "an entry is there twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_is_bound_before_its_credentials_are_sent_and_not_ready_until_then() {
    let harness = Harness::start().await;
    harness.secret("provider", &[("apiKey", "whatsapp-api-key-abc123")]).await;
    let hold =
        harness.sim.add_fault(Fault::on(Operation::StoreCredentials, Action::Hold { commit_first: false }));
    harness.create("a", json!({"credentials": [{"secretRef": {"name": "provider"}}]})).await;
    harness.sim.held(hold).await.unwrap();
    let channel = harness.reason("a", "Progressing").await;
    assert_eq!(condition(&channel, "Ready").map(|c| c.1), Some("Unknown"));
    assert_eq!(condition(&channel, "Reconciling").map(|c| c.1), Some("True"));
    assert!(channel.status.as_ref().unwrap().channel_id.is_some(), "the id is written before the next call");
    harness.sim.release(hold);
    harness.reason("a", "Available").await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_that_changes_during_its_create_is_not_ready_before_it_is_applied() {
    let harness = Harness::start().await;
    harness.secret("provider", &[("apiKey", "whatsapp-api-key-abc123")]).await;
    // Alone, and with a user's own edit of the status.
    for (name, status) in [("a", None), ("b", Some(json!({"status": {"state": "edited"}})))] {
        let hold = |operation, commit_first| {
            harness.sim.add_fault(Fault::on(operation, Action::Hold { commit_first }).times(1))
        };
        let create = hold(Operation::CreateChannel, true);
        harness.create(name, json!({})).await;
        harness.sim.held(create).await.unwrap();
        let push = hold(Operation::StoreCredentials, false);
        let credentials = json!({"spec": {"credentials": [{"secretRef": {"name": "provider"}}]}});
        let changed = harness.edit(name, credentials).await;
        if let Some(status) = status {
            let params = PatchParams::default();
            harness.channels().patch_status(name, &params, &Patch::Merge(status)).await.unwrap();
        }
        harness.sim.release(create);
        harness.sim.held(push).await.unwrap();
        let early = harness.history.seen().into_iter().find(|seen| {
            seen.channel.metadata.uid == changed.metadata.uid
                && condition(&seen.channel, "Ready")
                    .is_some_and(|ready| ready.1 == "True" && ready.3 == changed.metadata.generation)
        });
        assert!(early.is_none(), "it was reported as applied: {:?}", early.map(|seen| seen.channel.status));
        harness.sim.release(push);
        harness.has(name, "CredentialsApplied", "Applied").await;
        harness.reason(name, "Available").await;
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_the_operator_may_not_read_is_reported_and_read_once_it_may() {
    let mut harness = Harness::bare(Config::default(), &[]).await;
    harness.user = User::Spare(3);
    let role = |verbs_on_secrets: &[&str]| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "narrow"}, "rules": [
            {"apiGroups": ["ohallo.eu"], "resources": ["channels", "workspaces"], "verbs": ["get", "list", "watch", "patch"]},
            {"apiGroups": ["ohallo.eu"], "resources": ["channels/status", "workspaces/status"], "verbs": ["update"]},
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list", "watch"]},
            {"apiGroups": [""], "resources": ["secrets"], "verbs": verbs_on_secrets, "resourceNames": ["ohallo-api-key"]},
            {"apiGroups": [""], "resources": ["secrets"], "verbs": verbs_on_secrets},
        ]})
    };
    let mut narrow = role(&["get"]);
    narrow["rules"].as_array_mut().unwrap().pop();
    harness.apply(&narrow);
    harness.apply(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "narrow"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "narrow"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": harness.user.name()}],
    }));
    let key = harness.key.clone();
    harness.put_secret(json!({"metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": key}})).await;
    harness.workspace("default", "ohallo-api-key").await;
    harness.secret("provider", &[("apiKey", "whatsapp-api-key-abc123")]).await;
    harness.start_operator().await;
    harness.workspace_reason("default", "Verified").await;
    harness.create("a", json!({"credentials": [{"secretRef": {"name": "provider"}}]})).await;
    let channel = harness.reason("a", "InternalError").await;
    assert!(
        message(&channel, "Ready").contains("not allowed to get Secrets"),
        "{}",
        message(&channel, "Ready")
    );
    assert_eq!(harness.count(Operation::CreateChannel), 0, "nothing is created before its inputs exist");
    harness.apply(&role(&["get"]));
    harness.reason("a", "Available").await;
    harness.finish().await;
}
