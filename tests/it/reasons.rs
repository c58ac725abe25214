//! Every reason is explained to users; and the two that only a moment or a missing permission shows.

use std::collections::BTreeSet;

use kube::api::{Patch, PatchParams};
use ohallo_core::api::conditions::Reason;
use ohallo_sim::{Action, Config, Fault, Operation};
use serde_json::json;
use strum::VariantArray;
use testbed::User;

use crate::rig::{Rig, condition, message};

#[test]
fn every_reason_has_an_entry_in_troubleshooting_and_none_is_left_over() {
    let document = include_str!("../../docs/troubleshooting.md");
    let entries: Vec<_> = document.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let explained: BTreeSet<_> = entries.iter().copied().collect();
    let reasons: BTreeSet<_> = Reason::VARIANTS.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(explained, reasons);
    assert_eq!(entries.len(), explained.len(), "an entry is there twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_is_bound_before_its_credentials_are_sent_and_not_ready_until_then() {
    let rig = Rig::start().await;
    rig.secret("provider", &[("apiKey", "whatsapp-api-key-abc123")]).await;
    let hold =
        rig.sim.add_fault(Fault::on(Operation::StoreCredentials, Action::Hold { commit_first: false }));
    rig.create("a", json!({"credentials": [{"secretRef": {"name": "provider"}}]})).await;
    rig.sim.held(hold).await.unwrap();
    let channel = rig.reason("a", "Progressing").await;
    assert_eq!(condition(&channel, "Ready").map(|c| c.1), Some("Unknown"));
    assert_eq!(condition(&channel, "Reconciling").map(|c| c.1), Some("True"));
    assert!(channel.status.as_ref().unwrap().channel_id.is_some(), "the id is written before the next call");
    rig.sim.release(hold);
    rig.reason("a", "Available").await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_that_changes_during_its_create_is_not_ready_before_it_is_applied() {
    let rig = Rig::start().await;
    rig.secret("provider", &[("apiKey", "whatsapp-api-key-abc123")]).await;
    // Alone, and with somebody's own edit of the status.
    for (name, status) in [("a", None), ("b", Some(json!({"status": {"state": "edited"}})))] {
        let hold = |operation, commit_first| {
            rig.sim.add_fault(Fault::on(operation, Action::Hold { commit_first }).times(1))
        };
        let create = hold(Operation::CreateChannel, true);
        rig.create(name, json!({})).await;
        rig.sim.held(create).await.unwrap();
        let push = hold(Operation::StoreCredentials, false);
        let credentials = json!({"spec": {"credentials": [{"secretRef": {"name": "provider"}}]}});
        let changed = rig.edit(name, credentials).await;
        if let Some(status) = status {
            let params = PatchParams::default();
            rig.channels().patch_status(name, &params, &Patch::Merge(status)).await.unwrap();
        }
        rig.sim.release(create);
        rig.sim.held(push).await.unwrap();
        let early = rig.history.seen().into_iter().find(|seen| {
            seen.channel.metadata.uid == changed.metadata.uid
                && condition(&seen.channel, "Ready")
                    .is_some_and(|ready| ready.1 == "True" && ready.3 == changed.metadata.generation)
        });
        assert!(early.is_none(), "it was said to be applied: {:?}", early.map(|seen| seen.channel.status));
        rig.sim.release(push);
        rig.has(name, "CredentialsApplied", "Applied").await;
        rig.reason(name, "Available").await;
    }
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_the_operator_may_not_read_is_told_of_and_read_once_it_may() {
    let mut rig = Rig::bare(Config::default(), &[]).await;
    rig.user = User::Spare(3);
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
    rig.apply(&narrow);
    rig.apply(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "narrow"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "narrow"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": rig.user.name()}],
    }));
    let key = rig.key.clone();
    rig.put_secret(json!({"metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": key}})).await;
    rig.workspace("default", "ohallo-api-key").await;
    rig.secret("provider", &[("apiKey", "whatsapp-api-key-abc123")]).await;
    rig.start_operator().await;
    rig.workspace_reason("default", "Verified").await;
    rig.create("a", json!({"credentials": [{"secretRef": {"name": "provider"}}]})).await;
    let channel = rig.reason("a", "InternalError").await;
    assert!(message(&channel, "Ready").contains("may not get secrets"), "{}", message(&channel, "Ready"));
    assert_eq!(rig.count(Operation::CreateChannel), 0, "nothing is made before its inputs are there");
    rig.apply(&role(&["get"]));
    rig.reason("a", "Available").await;
    rig.finish().await;
}
