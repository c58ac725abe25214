//! Each way to delete a Channel inside one namespace. docs/protect.md has the outcomes.

use ohallo_sim::Operation;
use serde_json::{Value, json};
use testbed::User;

use crate::cli::support::planner::{effects, grant_reads, planned, unique_ids};
use crate::cli::support::program::in_namespace;
use crate::deploy::protection::{KEPT, Protection, accepted, refused, refused_by};
use crate::support::harness::{Harness, id_of, kubectl_as};
use crate::support::helm::output_text;
use crate::support::steps::{CONFIRM_DELETION, insert_in_dashboard};

const DELETE: Operation = Operation::DeleteChannel;

fn patch(harness: &Harness, name: &str, spec: &Value) -> Result<(), String> {
    let text = json!({"spec": spec}).to_string();
    let output = harness.kubectl(&["patch", "channel", name, "--type=merge", "-p", &text], None);
    if output.status.success() { Ok(()) } else { Err(output_text(&output)) }
}

/// It is neither terminating nor deleted in oHallo.
async fn lives(harness: &Harness, name: &str) {
    let channel = harness.get(name).await;
    assert_eq!(channel.metadata.deletion_timestamp, None);
    assert!(harness.sim.channel(&id_of(&channel)).is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_deletes_a_channel_after_the_confirmation_of_its_id_and_not_before() {
    let harness = Harness::start().await;
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        ids.push(id_of(&harness.ready(name, json!({})).await));
    }
    let protection = Protection::of(&harness, "a").await;
    let uid = harness.get("a").await.metadata.uid.unwrap();
    // As a cluster administrator: there is no exception.
    refused(&harness, &["delete", "channel", "a"], &ids[0]);
    refused(&harness, &["delete", "channel", "a", "--force", "--grace-period=0"], &ids[0]);
    refused(&harness, &["delete", "channels.ohallo.eu", "--all"], &ids[1]);
    let manifest = harness.manifest("a", json!({})).to_string();
    refused_by(&harness.kubectl(&["replace", "--force", "-f", "-"], Some(&manifest)), &ids[0]);
    for wrong in ["", "true", &ids[1], &uid, &format!("{}/{}", ids[0], ids[1]), &format!("{}/{uid}", ids[1])]
    {
        harness.annotate("a", CONFIRM_DELETION, wrong).await;
        refused(&harness, &["delete", "channel", "a"], &ids[0]);
    }
    for name in ["a", "b", "c"] {
        lives(&harness, name).await;
    }
    harness.annotate("a", CONFIRM_DELETION, &ids[0]).await;
    accepted(&harness, &["delete", "channel", "a", "--timeout=60s"]);
    let uid = harness.get("b").await.metadata.uid.unwrap();
    harness.annotate("b", CONFIRM_DELETION, &format!("{}/{uid}", ids[1])).await;
    accepted(&harness, &["delete", "channel", "b", "--timeout=60s"]);
    // By the built program.
    let confirm = ["confirm-deletion", "c", "--yes", "--wait"];
    let confirmed = in_namespace(&harness).args(confirm).output().unwrap();
    assert!(confirmed.status.success(), "{}", output_text(&confirmed));
    accepted(&harness, &["delete", "channel", "c", "--timeout=60s"]);
    assert_eq!((harness.count(DELETE), harness.sim.channel_count()), (3, 0));
    protection.end();
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_deletes_no_channel_in_ohallo_needs_no_confirmation() {
    let harness = Harness::start().await;
    harness.ready("protected", json!({})).await;
    let found = insert_in_dashboard(&harness, "chat", "Found");
    harness.ready("adopted", json!({"channelId": found})).await;
    harness.ready("retained", json!({"deletionPolicy": "Retain"})).await;
    harness.create("never-created", json!({"workspaceRef": {"name": "missing"}})).await;
    let watched = insert_in_dashboard(&harness, "chat", "Watched");
    harness.create("observed", json!({"managementPolicy": "Observe", "channelId": watched})).await;
    harness.reason("observed", "Observed").await;
    let protection = Protection::of(&harness, "protected").await;
    for name in ["adopted", "retained", "never-created", "observed"] {
        accepted(&harness, &["delete", "channel", name, "--timeout=60s"]);
    }
    // A declared policy decides before the origin.
    harness.ready("pinned", json!({"channelId": found, "deletionPolicy": "Delete"})).await;
    refused(&harness, &["delete", "channel", "pinned"], &found);
    assert_eq!(harness.count(DELETE), 0);
    protection.end();
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_delete_of_a_file_deletes_what_else_it_names_and_keeps_the_channel() {
    let harness = Harness::start().await;
    let id = id_of(&harness.ready("a", json!({})).await);
    let protection = Protection::of(&harness, "a").await;
    let file = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ohallo-api-key"}},
        {"apiVersion": "ohallo.eu/v1alpha1", "kind": "Workspace", "metadata": {"name": "default"}},
        harness.manifest("a", json!({})),
    ]})
    .to_string();
    refused_by(&harness.kubectl(&["delete", "--wait=false", "-f", "-"], Some(&file)), &id);
    lives(&harness, "a").await;
    let left = harness.kubectl(&["get", "secret,workspace", "-o", "name"], None);
    assert_eq!(
        output_text(&left).trim(),
        "workspace.ohallo.eu/default",
        "the Workspace waits for its Channel"
    );
    // Confirmed, it is deleted by the key that the operator keeps.
    harness.annotate("a", CONFIRM_DELETION, &id).await;
    accepted(&harness, &["delete", "channel", "a", "--timeout=60s"]);
    accepted(&harness, &["wait", "--for=delete", "workspace/default", "--timeout=60s"]);
    assert_eq!((harness.count(DELETE), harness.sim.channel_count()), (1, 0));
    protection.end();
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_stays_terminating_and_names_its_channels_until_they_are_confirmed() {
    let harness = Harness::start().await;
    // The API server deletes in the order of the names, and ends at the first refusal.
    let id = id_of(&harness.ready("b", json!({})).await);
    for name in ["a", "c"] {
        harness.ready(name, json!({"deletionPolicy": "Retain"})).await;
    }
    let protection = Protection::of(&harness, "b").await;
    let namespace = harness.namespace.clone();
    accepted(&harness, &["delete", "namespace", &namespace, "--wait=false"]);
    let failure = harness
        .eventually("NamespaceDeletionContentFailure", || async {
            let get = ["get", "namespace", &namespace, "-o", "json"];
            let found: Value = serde_json::from_slice(&harness.kubectl(&get, None).stdout).unwrap();
            let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let failed =
                conditions.into_iter().find(|one| one["type"] == "NamespaceDeletionContentFailure")?;
            (failed["status"] == "True").then(|| failed["message"].as_str().unwrap().to_owned())
        })
        .await;
    assert!(failure.contains(&format!("This deletes the channel {id}")), "{failure}");
    harness.wait_deleted("a").await;
    lives(&harness, "b").await;
    lives(&harness, "c").await;
    // The namespace controller asks again, and the operator deletes by the key that it keeps.
    harness.annotate("b", CONFIRM_DELETION, &id).await;
    accepted(&harness, &["wait", "--for=delete", &format!("namespace/{namespace}"), "--timeout=180s"]);
    assert_eq!((harness.count(DELETE), harness.sim.channel_count()), (1, 2));
    protection.end();
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_shows_that_the_deletion_waits_for_a_confirmation() {
    let harness = Harness::with(unique_ids(), &[]).await;
    grant_reads(&harness);
    let id = id_of(&harness.ready("a", json!({})).await);
    harness.ready("kept", json!({"deletionPolicy": "Retain"})).await;
    let protection = Protection::of(&harness, "a").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("workspace.yaml");
    let workspace = harness.kubectl(&["get", "workspace", "default", "-o", "yaml"], None).stdout;
    std::fs::write(&file, workspace).unwrap();
    let args = [file.to_str().unwrap(), "--prune", "--exit-code"];
    let outcome = |effect: &str, name: &str| (effect.to_owned(), name.to_owned());
    // The channel is deleted as soon as a user confirms.
    let plan = planned(&harness, 3, &args);
    assert_eq!(effects(&plan), [outcome("retained", "kept"), outcome("waits", "a")]);
    let waits = &plan["changes"][1];
    assert_eq!((&waits["channelId"], &waits["deletesLater"]), (&json!(id), &json!(true)));
    harness.annotate("a", CONFIRM_DELETION, &id).await;
    let plan = planned(&harness, 3, &args);
    assert_eq!(effects(&plan), [outcome("destroyed", "a"), outcome("retained", "kept")]);
    // With the policy alone nothing is refused.
    harness.annotate("a", CONFIRM_DELETION, "").await;
    let name = format!("{}-ohallo-operator-deletion", harness.namespace);
    let unbound =
        kubectl_as(harness.plane, User::Admin, &["delete", "validatingadmissionpolicybinding", &name], None);
    assert!(unbound.status.success(), "{}", output_text(&unbound));
    let plan = planned(&harness, 3, &args);
    assert_eq!(effects(&plan), [outcome("destroyed", "a"), outcome("retained", "kept")]);
    protection.end();
    harness.finish().await;
}

/// Flux deletes what is no longer in Git as its service account, which is a cluster administrator.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_prune_of_a_gitops_tool_is_refused_although_its_account_may_do_everything() {
    let harness = Harness::start().await;
    let id = id_of(&harness.ready("a", json!({})).await);
    let protection = Protection::of(&harness, "a").await;
    let namespace = harness.namespace.clone();
    accepted(&harness, &["create", "serviceaccount", "kustomize-controller"]);
    let account = format!("--serviceaccount={namespace}:kustomize-controller");
    accepted(
        &harness,
        &["create", "clusterrolebinding", &namespace, "--clusterrole=cluster-admin", &account],
    );
    let user = format!("--as=system:serviceaccount:{namespace}:kustomize-controller");
    let prune = ["delete", "channel", "a", "--cascade=background", "--wait=false", &user];
    refused(&harness, &prune, &id);
    lives(&harness, "a").await;
    // Git puts the confirmation into the manifest, and removes the manifest afterwards.
    let mut manifest = harness.manifest("a", json!({}));
    manifest["metadata"]["annotations"] = json!({CONFIRM_DELETION: id});
    let apply = ["apply", "--server-side", "--force-conflicts", "-f", "-", &user];
    let applied = harness.kubectl(&apply, Some(&manifest.to_string()));
    assert!(applied.status.success(), "{}", output_text(&applied));
    accepted(&harness, &prune);
    harness.wait_deleted("a").await;
    accepted(&harness, &["delete", "clusterrolebinding", &namespace]);
    assert_eq!((harness.count(DELETE), harness.sim.channel_count()), (1, 0));
    protection.end();
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_policy_may_change_before_the_deletion_and_only_towards_retain_during_it() {
    let mut harness = Harness::start().await;
    let id = id_of(&harness.ready("before", json!({"deletionPolicy": "Retain"})).await);
    for name in ["kept", "during"] {
        harness.ready(name, json!({})).await;
    }
    harness.ready("flipped", json!({"deletionPolicy": "Retain"})).await;
    let protection = Protection::of(&harness, "kept").await;
    // Before: the spec decides, also while the status still shows the policy before the change.
    harness.stop_operator().await;
    patch(&harness, "before", &json!({"deletionPolicy": "Delete"})).unwrap();
    refused(&harness, &["delete", "channel", "before"], &id);
    patch(&harness, "before", &json!({"deletionPolicy": null})).unwrap();
    refused(&harness, &["delete", "channel", "before"], &id);
    patch(&harness, "kept", &json!({"deletionPolicy": "Retain"})).unwrap();
    accepted(&harness, &["delete", "channel", "kept", "--wait=false"]);
    // During: from Retain or Observe to nothing that deletes.
    accepted(&harness, &["delete", "channel", "flipped", "--wait=false"]);
    for flip in [json!({"deletionPolicy": "Delete"}), json!({"deletionPolicy": null, "displayName": "B"})] {
        let why = patch(&harness, "flipped", &flip).unwrap_err();
        assert!(why.contains(KEPT), "{why}");
    }
    patch(&harness, "flipped", &json!({"managementPolicy": "Observe", "deletionPolicy": "Retain"})).unwrap();
    patch(&harness, "flipped", &json!({"managementPolicy": "Observe", "deletionPolicy": "Delete"})).unwrap();
    let why = patch(&harness, "flipped", &json!({"managementPolicy": "Manage"})).unwrap_err();
    assert!(why.contains(KEPT), "{why}");
    // Not even the confirmation allows it.
    let channel = harness.get("flipped").await;
    harness.annotate("flipped", CONFIRM_DELETION, &id_of(&channel)).await;
    patch(&harness, "flipped", &json!({"managementPolicy": "Manage"})).unwrap_err();
    // During: from Delete to Retain, and back no more.
    let deleted = id_of(&harness.get("during").await);
    harness.annotate("during", CONFIRM_DELETION, &deleted).await;
    accepted(&harness, &["delete", "channel", "during", "--wait=false"]);
    patch(&harness, "during", &json!({"displayName": "Last words"})).unwrap();
    patch(&harness, "during", &json!({"deletionPolicy": "Retain"})).unwrap();
    patch(&harness, "during", &json!({"deletionPolicy": "Delete"})).unwrap_err();
    harness.start_operator().await;
    for name in ["kept", "flipped", "during"] {
        harness.wait_deleted(name).await;
    }
    lives(&harness, "before").await;
    assert_eq!((harness.count(DELETE), harness.sim.channel_count()), (0, 4));
    protection.end();
    harness.finish().await;
}
