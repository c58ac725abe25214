//! Who holds an oHallo channel that several Channels name, and what becomes of it when one of them is deleted.

use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use ohallo_core::api::channel::Channel;
use ohallo_sim::{Config, Key, Operation};
use serde_json::{Value, json};
use testbed::User;

use crate::support::cluster_workspaces;
use crate::support::harness::{Harness, WORKSPACE, condition, id_of, kubectl_as, message};
use crate::support::steps::{
    CONFIRM_DELETION, RECONCILE_REQUESTED, RELEASE, insert_in_dashboard, reconcile_now, single_event, state,
    state_of, uid, value_in_message,
};
use crate::support::two_namespaces::TwoNamespaces;

const DELETE: Operation = Operation::DeleteChannel;
const BLOCKED: &str = "DeletionBlocked";
const CLAIMED: &str = "ClaimedByAnother";

/// Runs the command that the message of a condition gives, as the user would.
fn does_what_it_says(harness: &Harness, channel: &Channel) {
    let text = message(channel, BLOCKED);
    let command = text.split('`').nth(1).unwrap_or_else(|| panic!("no command in {text:?}"));
    let args: Vec<_> = command.strip_prefix("kubectl ").unwrap().split(' ').collect();
    let output = kubectl_as(harness.plane, User::Admin, &args, None);
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The status that another object's backup holds, as a restore tool writes it.
async fn give_status(api: &Api<Channel>, name: &str, status: Value) {
    let patch = Patch::Merge(json!({ "status": status }));
    api.patch_status(name, &PatchParams::default(), &patch).await.unwrap();
}

fn origin(channel: &Channel) -> Option<&str> {
    channel.status.as_ref()?.origin.as_deref()
}

fn bound_uid(channel: &Channel) -> Option<String> {
    channel.status.as_ref()?.bound_uid.clone()
}

fn under(workspace: &str) -> Value {
    json!({"kind": "Workspace", "name": workspace})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f63_who_only_names_an_id_blocks_nobody_and_learns_of_nobody() {
    let harness = Harness::start().await;
    harness.sim.add_key(Key::new("sf_test_v1_of_another_tenant", "another"));
    harness.secret("foreign", &[("apiKey", "sf_test_v1_of_another_tenant")]).await;
    harness.workspace("foreign", "foreign").await;
    let id = insert_in_dashboard(&harness, "chat", "Channel owner");
    let naming = |more: Value| {
        let mut spec = json!({"channelId": id});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    for (name, more, reason) in [
        ("no-workspace", json!({"workspaceRef": under("missing")}), "WorkspaceNotFound"),
        ("foreign-key", json!({"workspaceRef": under("foreign")}), "WorkspaceNotReady"),
        ("another-type", json!({"channelType": "voice"}), "IdentityMismatch"),
    ] {
        harness.create(name, naming(more)).await;
        harness.reason(name, reason).await;
    }
    harness.create("suspended", naming(json!({"suspend": true}))).await;
    harness.has("suspended", "Suspended", "Suspended").await;
    let owner = harness.ready("owner", naming(json!({}))).await;
    assert_eq!(id_of(&owner), id, "the youngest of all, and the only one that can adopt it");
    for name in ["no-workspace", "foreign-key", "another-type"] {
        let channel = reconcile_now(&harness, name, "1").await;
        let ready = state_of(&channel, "Ready").unwrap();
        assert_ne!(ready.1, "OwnershipConflict", "{name} was not shown to read the id");
        assert!(!message(&channel, "Ready").contains("owner"), "{name}");
    }
    harness.create("late", naming(json!({}))).await;
    let late = harness.reason("late", "OwnershipConflict").await;
    assert!(message(&late, "Ready").contains("owner"), "it was shown to read the id");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f63_a_claim_of_another_namespace_waits_for_the_owners_confirmation_and_is_no_takeover() {
    let two = TwoNamespaces::start().await;
    let harness = &two.harness;
    let owner = harness.ready("owner", json!({})).await;
    let id = id_of(&owner);
    two.channel("claimant", json!({"channelId": id, "deletionPolicy": "Delete"}));
    let claimant = two.reason("claimant", "OwnershipConflict").await;
    assert!(!message(&claimant, "Ready").contains("owner"), "no namespace learns of another");
    harness.delete("owner").await;
    let blocked = harness.has("owner", BLOCKED, CLAIMED).await;
    let reported = message(&blocked, BLOCKED);
    assert!(!reported.contains("claimant") && !reported.contains(&two.other_namespace), "{reported}");
    assert_eq!(value_in_message(&blocked, BLOCKED, CONFIRM_DELETION), format!("{id}/{}", uid(&owner)));
    single_event(harness, "owner", CLAIMED).await;
    let metric = format!("ohallo_deletions_claimed{{namespace=\"{}\"}} 1", two.other_namespace);
    harness
        .eventually("the metric", || async {
            harness.http("/metrics").await.1.contains(&metric).then_some(())
        })
        .await;
    // Others come and go: the owner's object does not change with them.
    let version = blocked.resource_version();
    two.channel("another", json!({"channelId": id}));
    two.reason("another", "OwnershipConflict").await;
    two.harness.kubectl_ok(&["-n", &two.other_namespace, "delete", "channel", "claimant", "another"], "");
    assert_eq!(harness.get("owner").await.resource_version(), version);
    two.channel("claimant", json!({"channelId": id, "deletionPolicy": "Delete"}));
    two.reason("claimant", "OwnershipConflict").await;
    assert_eq!(harness.count(DELETE), 0);
    does_what_it_says(harness, &blocked);
    harness.wait_deleted("owner").await;
    assert_eq!(harness.count(DELETE), 1);
    assert!(harness.sim.channel(&id).is_none());
    two.reason("claimant", "ChannelNotFound").await;
    two.harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f63_the_owners_confirmation_counts_in_advance_and_a_release_keeps_the_channel() {
    let two = TwoNamespaces::start().await;
    let harness = &two.harness;
    let (confirmed, released) =
        (harness.ready("confirmed", json!({})).await, harness.ready("released", json!({})).await);
    for (name, channel) in [("one", &confirmed), ("two", &released)] {
        two.channel(name, json!({"channelId": id_of(channel)}));
        two.reason(name, "OwnershipConflict").await;
    }
    harness
        .annotate("confirmed", CONFIRM_DELETION, &format!("{}/{}", id_of(&confirmed), uid(&confirmed)))
        .await;
    harness.delete_and_wait("confirmed").await;
    assert_eq!(harness.count(DELETE), 1);
    harness.delete("released").await;
    harness.has("released", BLOCKED, CLAIMED).await;
    let looped = harness.ready("looped", json!({})).await;
    two.channel("three", json!({"channelId": id_of(&looped)}));
    two.reason("three", "OwnershipConflict").await;
    harness.annotate("released", RELEASE, &id_of(&released)).await;
    harness.wait_deleted("released").await;
    let adopted = two.reason("two", "Available").await;
    assert_eq!((id_of(&adopted), origin(&adopted)), (id_of(&released), Some("Adopted")));
    assert_eq!(harness.count(DELETE), 1);
    harness.delete("looped").await;
    harness.has("looped", BLOCKED, CLAIMED).await;
    let page = include_str!("../../../docs/multi-tenancy.md");
    let command = crate::support::pages::commands(page)
        .into_iter()
        .find(|line| line.contains(CONFIRM_DELETION))
        .unwrap();
    crate::support::shell::Shell::new(harness.plane, &harness.namespace).run(&command);
    harness.wait_deleted("looped").await;
    assert_eq!(harness.count(DELETE), 2);
    two.harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f64_a_finalizer_and_an_intent_set_by_a_stranger_pin_no_cluster_workspace() {
    let harness = cluster_workspaces::harness().await;
    let name = cluster_workspaces::share(&harness, Some(json!({"names": ["another-user"]})));
    cluster_workspaces::until(&harness, &name, "verified", |it| {
        cluster_workspaces::has_reason(it, "Verified")
    })
    .await;
    let intent = "6f1e0000-0000-0000-0000-000000000000/1/2026-01-10T08:00:00Z";
    for (channel, metadata) in [
        ("finalized", json!({"finalizers": ["ohallo.eu/channel"]})),
        ("annotated", json!({"annotations": {"ohallo.eu/create-intent": intent}})),
    ] {
        let mut manifest = harness.manifest(channel, cluster_workspaces::using(&name));
        manifest["metadata"].as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
        harness.apply(&manifest);
        harness.until(channel, "reconciled", |it| condition(it, "Stalled").is_some()).await;
    }
    let forged = json!({"channelId": "any-id", "boundUid": "6f1e0000-0000-0000-0000-000000000000"});
    harness.create("copied", cluster_workspaces::using(&name)).await;
    give_status(&harness.channels(), "copied", forged).await;
    // It would have been set before the Channels were.
    for channel in ["finalized", "annotated", "copied"] {
        reconcile_now(&harness, channel, "1").await;
    }
    let held = cluster_workspaces::api(&harness).get(&name).await.unwrap();
    assert!(!cluster_workspaces::in_use(&held), "{:?}", held.finalizers());
    cluster_workspaces::delete_and_wait(&harness, &name).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f65_a_namespace_whose_labels_are_late_is_not_admitted_by_not_in() {
    let mut harness = Harness::bare(Config::default(), &["--cluster-workspaces=true"]).await;
    harness.put_proxy().await;
    crate::support::leases::allow_lease(&harness);
    harness.flag(format!("--operator-namespace={}", harness.namespace));
    harness.flag(format!("--workspace-selector=test={}", harness.namespace));
    let other_namespace = format!("{}-elsewhere", harness.namespace);
    harness.flag(format!("--namespace={other_namespace}"));
    crate::support::workspaces::put_key(&harness, "ohallo-api-key", &harness.key.clone()).await;
    harness.start_operator().await;
    let tier = json!({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["excluded"]}]});
    let name = cluster_workspaces::share(&harness, Some(json!({ "selector": tier })));
    cluster_workspaces::until(&harness, &name, "verified", |it| {
        cluster_workspaces::has_reason(it, "Verified")
    })
    .await;
    harness.proxy().withhold("/api/v1/namespaces");
    let two = TwoNamespaces { harness, other_namespace };
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
                           "metadata": {"name": two.other_namespace, "labels": {"tier": "excluded"}}});
    two.harness.kubectl_ok(&["apply", "-f", "-"], &namespace.to_string());
    two.channel("a", cluster_workspaces::using(&name));
    let refused = two.reason("a", "WorkspaceNotAllowed").await;
    assert_eq!(state_of(&refused, "Ready"), state("False", "WorkspaceNotAllowed"));
    // The operator has seen no label, so a removed one does not admit it either.
    two.harness.kubectl_ok(&["label", "namespace", &two.other_namespace, "tier-"], "");
    let request = format!("{RECONCILE_REQUESTED}=1");
    two.harness
        .kubectl_ok(&["-n", &two.other_namespace, "annotate", "channels.ohallo.eu", "a", &request], "");
    two.harness
        .eventually("reconciled", || async {
            let channel = two.channels().get("a").await.unwrap();
            channel.status.unwrap().last_handled_reconcile_at.filter(|at| at == "1").map(drop)
        })
        .await;
    two.reason("a", "WorkspaceNotAllowed").await;
    assert_eq!(two.harness.count(Operation::CreateChannel), 0);
    two.harness.proxy().release();
    two.reason("a", "Available").await;
    two.harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f66_a_renamed_manifest_takes_its_channel_over_without_a_delete() {
    let harness = Harness::start().await;
    let old = harness.ready("old", json!({})).await;
    let id = id_of(&old);
    harness.create("new", json!({"channelId": id})).await;
    harness.reason("new", "OwnershipConflict").await;
    harness.delete("old").await;
    let new = harness.reason("new", "Available").await;
    harness.wait_deleted("old").await;
    assert_eq!((id_of(&new), origin(&new)), (id.clone(), Some("Created")), "with its origin");
    assert_eq!(new.status.as_ref().unwrap().deletion_policy.as_deref(), Some("Delete"));
    assert!(single_event(&harness, "old", "HandedOver").await.contains("\"new\""));
    single_event(&harness, "new", "Adopted").await;
    assert_eq!(harness.count(DELETE), 0);
    harness.delete_and_wait("new").await;
    assert_eq!(harness.count(DELETE), 1);
    assert!(harness.sim.channel(&id).is_none());
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f66_a_manifest_moved_to_another_workspace_object_while_the_old_one_is_pruned_keeps_its_channel() {
    let harness = Harness::start().await;
    for round in 0..3 {
        let (old, new, workspace) =
            (format!("old-{round}"), format!("new-{round}"), format!("moved-{round}"));
        let id = id_of(&harness.ready(&old, json!({})).await);
        let place = json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "Workspace", "metadata": {"name": workspace},
                           "spec": {"workspaceId": WORKSPACE, "apiKeySecretRef": {"name": "ohallo-api-key"}}});
        let manifest = harness.manifest(&new, json!({"channelId": id, "workspaceRef": under(&workspace)}));
        harness.apply(&json!({"apiVersion": "v1", "kind": "List", "items": [place, manifest]}));
        harness.delete(&old).await;
        let channel = harness.reason(&new, "Available").await;
        harness.wait_deleted(&old).await;
        assert_eq!((id_of(&channel), harness.count(DELETE)), (id, 0), "round {round}");
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f66_the_old_manifest_may_be_deleted_first_while_its_delete_was_not_sent() {
    let harness = Harness::start().await;
    let old = harness.ready("old", json!({"suspend": false})).await;
    let id = id_of(&old);
    harness.edit("old", json!({"spec": {"suspend": true}})).await;
    harness.has("old", "Suspended", "Suspended").await;
    harness.delete("old").await;
    harness.has("old", BLOCKED, "Suspended").await;
    let new = harness.ready("new", json!({"channelId": id})).await;
    harness.wait_deleted("old").await;
    assert_eq!((id_of(&new), origin(&new), harness.count(DELETE)), (id, Some("Created"), 0));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f66_a_channel_that_names_the_id_and_cannot_bind_delays_the_delete_until_it_can_or_is_deleted() {
    let harness = Harness::start().await;
    let ids = [0, 1, 2].map(|number| format!("old-{number}"));
    for name in &ids {
        harness.ready(name, json!({})).await;
    }
    let id = |at: usize| {
        let name = ids[at].clone();
        let harness = &harness;
        async move { id_of(&harness.get(&name).await) }
    };
    // A suspended one binds once it is not; the other kinds go, or the channel is released.
    let names = ["suspended", "without-workspace", "another-type"];
    let specs = [
        json!({"suspend": true}),
        json!({"workspaceRef": under("missing")}),
        json!({"channelType": "voice"}),
    ];
    for (at, (name, mut spec)) in names.into_iter().zip(specs).enumerate() {
        spec["channelId"] = id(at).await.into();
        harness.create(name, spec).await;
        harness.delete(&ids[at]).await;
        let blocked = harness.has(&ids[at], BLOCKED, CLAIMED).await;
        assert!(message(&blocked, BLOCKED).contains(&format!("{name:?}")), "{}", message(&blocked, BLOCKED));
        harness.annotate(&ids[at], CONFIRM_DELETION, &format!("{}/{}", id(at).await, uid(&blocked))).await;
        reconcile_now(&harness, &ids[at], "1").await;
        harness.has(&ids[at], BLOCKED, CLAIMED).await;
    }
    harness.edit("suspended", json!({"spec": {"suspend": false}})).await;
    harness.reason("suspended", "Available").await;
    harness.wait_deleted("old-0").await;
    does_what_it_says(&harness, &harness.get("old-1").await);
    harness.wait_deleted("old-1").await;
    single_event(&harness, "old-1", "Released").await;
    harness.delete("another-type").await;
    harness.wait_deleted("another-type").await;
    let waits = reconcile_now(&harness, "old-2", "2").await;
    assert_eq!(
        state_of(&waits, BLOCKED),
        state("True", CLAIMED),
        "nobody has to have claimed it for five minutes"
    );
    assert_eq!((harness.count(DELETE), harness.sim.channel_count()), (0, 3));
    harness.annotate("old-2", RELEASE, &id(2).await).await;
    harness.wait_deleted("old-2").await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f66_a_restored_copy_that_is_deleted_again_destroys_nothing() {
    let two = TwoNamespaces::start().await;
    let harness = &two.harness;
    let original = harness.ready("a", json!({})).await;
    let id = id_of(&original);
    let status = serde_json::to_value(original.status.clone().unwrap()).unwrap();
    for (name, spec) in [("drill", json!({})), ("drill-pinned", json!({"channelId": id}))] {
        // The status comes with the object, as restore tools write it: before the operator has seen it.
        let mut spec = spec;
        spec["suspend"] = true.into();
        two.channel(name, spec);
        give_status(&two.channels(), name, status.clone()).await;
        two.harness.kubectl_ok(
            &[
                "-n",
                &two.other_namespace,
                "patch",
                "channel",
                name,
                "--type=merge",
                "-p",
                r#"{"spec":{"suspend":false}}"#,
            ],
            "",
        );
    }
    two.reason("drill", "CreateOutcomeUnknown").await;
    two.reason("drill-pinned", "OwnershipConflict").await;
    two.harness.kubectl_ok(
        &["-n", &two.other_namespace, "delete", "channel", "drill", "drill-pinned", "--timeout=60s"],
        "",
    );
    assert_eq!(harness.count(DELETE), 0);
    // The original is lost with its cluster, and the copy becomes the channel's object: adopted again, and so retained.
    harness.annotate("a", RELEASE, &id).await;
    harness.delete_and_wait("a").await;
    two.channel("restored", json!({"suspend": true, "channelId": id}));
    give_status(&two.channels(), "restored", status).await;
    two.harness.kubectl_ok(
        &[
            "-n",
            &two.other_namespace,
            "patch",
            "channel",
            "restored",
            "--type=merge",
            "-p",
            r#"{"spec":{"suspend":false}}"#,
        ],
        "",
    );
    let restored = harness
        .eventually("adopted again", || async {
            let channel = two.channels().get("restored").await.unwrap();
            Some(channel).filter(|channel| bound_uid(channel) == channel.uid())
        })
        .await;
    assert_eq!(origin(&restored), Some("Adopted"));
    two.harness
        .kubectl_ok(&["-n", &two.other_namespace, "delete", "channel", "restored", "--timeout=60s"], "");
    assert_eq!(harness.count(DELETE), 0);
    assert!(harness.sim.channel(&id).is_some());
    two.harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f67_of_two_that_are_deleted_together_the_holder_deletes_and_nothing_is_handed_over() {
    let mut harness = Harness::start().await;
    let id = id_of(&harness.ready("holder", json!({})).await);
    harness.create("claimant", json!({"channelId": id})).await;
    harness.reason("claimant", "OwnershipConflict").await;
    // Both are terminating when an operator first sees that one is.
    harness.stop_operator().await;
    harness.delete("holder").await;
    harness.delete("claimant").await;
    harness.start_operator().await;
    harness.wait_deleted("holder").await;
    harness.wait_deleted("claimant").await;
    assert_eq!((harness.count(DELETE), harness.sim.channel_count()), (1, 0));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f67_of_two_that_are_bound_the_terminating_one_ends_without_a_delete_and_of_two_terminating_one_deletes()
 {
    let mut harness = Harness::start().await;
    let first = harness.ready("first", json!({})).await;
    let id = id_of(&first);
    // As a user who may write statuses can do.
    harness.create("second", json!({"suspend": true, "deletionPolicy": "Delete"})).await;
    let second = harness.has("second", "Suspended", "Suspended").await;
    harness.edit("second", json!({"metadata": {"finalizers": ["ohallo.eu/channel"]}})).await;
    give_status(&harness.channels(), "second", json!({"channelId": id, "boundUid": uid(&second)})).await;
    harness.excused.extend(["first".into(), "second".into()]);
    harness.delete("first").await;
    harness.wait_deleted("first").await;
    assert_eq!(harness.count(DELETE), 0);
    single_event(&harness, "first", "HandedOver").await;
    let third = harness.create("third", json!({"suspend": true, "deletionPolicy": "Delete"})).await;
    harness.has("third", "Suspended", "Suspended").await;
    harness.edit("third", json!({"metadata": {"finalizers": ["ohallo.eu/channel"]}})).await;
    give_status(&harness.channels(), "third", json!({"channelId": id, "boundUid": uid(&third)})).await;
    harness.excused.push("third".into());
    // Both are terminating when an operator first sees that one is.
    harness.stop_operator().await;
    for name in ["second", "third"] {
        harness.delete(name).await;
    }
    harness.start_operator().await;
    let age = |channel: &Channel| (channel.creation_timestamp(), channel.uid());
    let (older, younger) = if age(&second) < age(&third) { ("second", "third") } else { ("third", "second") };
    harness.has(older, BLOCKED, "Suspended").await;
    assert_eq!(
        state_of(&harness.get(younger).await, BLOCKED),
        None,
        "the older one deletes, and this one waits for it"
    );
    harness.edit(older, json!({"spec": {"suspend": false}})).await;
    harness.wait_deleted(older).await;
    assert_eq!((harness.count(DELETE), harness.sim.channel_count()), (1, 0));
    harness.annotate(younger, RELEASE, &id).await;
    harness.wait_deleted(younger).await;
    harness.finish().await;
}
