//! Who holds an oHallo channel that several Channels name, and what becomes of it when one of them is deleted.

use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use ohallo_core::api::channel::Channel;
use ohallo_sim::{Config, Key, Operation};
use serde_json::{Value, json};
use testbed::User;

use crate::acts::{LOOK, RELEASE, by_hand, is, looked, once, so, told, uid};
use crate::cluster_workspaces;
use crate::rig::{Rig, WORKSPACE, condition, id_of, kubectl_as, message};

const DELETE: Operation = Operation::DeleteChannel;
const BLOCKED: &str = "DeletionBlocked";
const CLAIMED: &str = "ClaimedByAnother";
pub const CONFIRM: &str = "ohallo.eu/confirm-deletion";

/// A rig whose operator also watches a second namespace, which has the same key.
pub struct Two {
    pub rig: Rig,
    elsewhere: String,
}

// === impl Two ===

impl Two {
    pub async fn start() -> Self {
        let mut rig = Rig::bare(Config::default(), &[]).await;
        let elsewhere = format!("{}-elsewhere", rig.namespace);
        rig.flag(format!("--namespace={elsewhere}"));
        let two = Self { rig, elsewhere };
        two.rig.kubectl_ok(&["create", "namespace", &two.elsewhere], "");
        let mut two = two;
        two.rig.begin().await;
        two.apply(&[
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": {"apiKey": two.rig.key}}),
            json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "Workspace", "metadata": {"name": "default"},
                   "spec": {"workspaceId": WORKSPACE, "apiKeySecretRef": {"name": "key"}}}),
        ]);
        two
    }

    /// Applies objects in the second namespace.
    fn apply(&self, objects: &[Value]) {
        self.rig.apply_in(&self.elsewhere, objects);
    }

    /// Applies a Channel in the second namespace.
    pub fn channel(&self, name: &str, spec: Value) {
        let mut manifest = self.rig.manifest(name, spec);
        manifest["metadata"]["namespace"] = self.elsewhere.clone().into();
        self.apply(&[manifest]);
    }

    fn channels(&self) -> Api<Channel> {
        Api::namespaced(self.rig.admin.clone(), &self.elsewhere)
    }

    /// Waits until a Channel of the second namespace has this reason.
    pub async fn reason(&self, name: &str, reason: &str) -> Channel {
        self.rig
            .eventually(&format!("{name} {reason}"), || async {
                let channel = self.channels().get(name).await.unwrap();
                Some(channel).filter(|channel| is(channel, "Ready").is_some_and(|ready| ready.1 == reason))
            })
            .await
    }
}

/// Runs the command that the message of a condition gives, as the user would.
fn does_what_it_says(rig: &Rig, channel: &Channel) {
    let text = message(channel, BLOCKED);
    let command = text.split('`').nth(1).unwrap_or_else(|| panic!("no command in {text:?}"));
    let args: Vec<_> = command.strip_prefix("kubectl ").unwrap().split(' ').collect();
    let output = kubectl_as(rig.plane, User::Admin, &args, None);
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
    let rig = Rig::start().await;
    rig.sim.add_key(Key::new("sf_test_v1_of_another_tenant", "another"));
    rig.secret("foreign", &[("apiKey", "sf_test_v1_of_another_tenant")]).await;
    rig.workspace("foreign", "foreign").await;
    let id = by_hand(&rig, "chat", "Channel owner");
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
        rig.create(name, naming(more)).await;
        rig.reason(name, reason).await;
    }
    rig.create("suspended", naming(json!({"suspend": true}))).await;
    rig.has("suspended", "Suspended", "Suspended").await;
    let owner = rig.ready("owner", naming(json!({}))).await;
    assert_eq!(id_of(&owner), id, "the youngest of all, and the only one that can adopt it");
    for name in ["no-workspace", "foreign-key", "another-type"] {
        let channel = looked(&rig, name, "1").await;
        let ready = is(&channel, "Ready").unwrap();
        assert_ne!(ready.1, "OwnershipConflict", "{name} was not shown to read the id");
        assert!(!message(&channel, "Ready").contains("owner"), "{name}");
    }
    rig.create("late", naming(json!({}))).await;
    let late = rig.reason("late", "OwnershipConflict").await;
    assert!(message(&late, "Ready").contains("owner"), "it was shown to read the id");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f63_a_claim_of_another_namespace_waits_for_the_owners_word_and_is_no_takeover() {
    let two = Two::start().await;
    let rig = &two.rig;
    let owner = rig.ready("owner", json!({})).await;
    let id = id_of(&owner);
    two.channel("claimant", json!({"channelId": id, "deletionPolicy": "Delete"}));
    let claimant = two.reason("claimant", "OwnershipConflict").await;
    assert!(!message(&claimant, "Ready").contains("owner"), "no namespace learns of another");
    rig.delete("owner").await;
    let blocked = rig.has("owner", BLOCKED, CLAIMED).await;
    let said = message(&blocked, BLOCKED);
    assert!(!said.contains("claimant") && !said.contains(&two.elsewhere), "{said}");
    assert_eq!(told(&blocked, BLOCKED, CONFIRM), format!("{id}/{}", uid(&owner)));
    once(rig, "owner", CLAIMED).await;
    let metric = format!("ohallo_deletions_claimed{{namespace=\"{}\"}} 1", two.elsewhere);
    rig.eventually("the metric", || async { rig.http("/metrics").await.1.contains(&metric).then_some(()) })
        .await;
    // Others come and go: the owner's object does not change with them.
    let version = blocked.resource_version();
    two.channel("another", json!({"channelId": id}));
    two.reason("another", "OwnershipConflict").await;
    two.rig.kubectl_ok(&["-n", &two.elsewhere, "delete", "channel", "claimant", "another"], "");
    assert_eq!(rig.get("owner").await.resource_version(), version);
    two.channel("claimant", json!({"channelId": id, "deletionPolicy": "Delete"}));
    two.reason("claimant", "OwnershipConflict").await;
    assert_eq!(rig.count(DELETE), 0);
    does_what_it_says(rig, &blocked);
    rig.gone("owner").await;
    assert_eq!(rig.count(DELETE), 1);
    assert!(rig.sim.channel(&id).is_none());
    two.reason("claimant", "ChannelNotFound").await;
    two.rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f63_the_owners_word_counts_in_advance_and_a_release_leaves_the_channel() {
    let two = Two::start().await;
    let rig = &two.rig;
    let (confirmed, released) =
        (rig.ready("confirmed", json!({})).await, rig.ready("released", json!({})).await);
    for (name, channel) in [("one", &confirmed), ("two", &released)] {
        two.channel(name, json!({"channelId": id_of(channel)}));
        two.reason(name, "OwnershipConflict").await;
    }
    rig.annotate("confirmed", CONFIRM, &format!("{}/{}", id_of(&confirmed), uid(&confirmed))).await;
    rig.deleted("confirmed").await;
    assert_eq!(rig.count(DELETE), 1);
    rig.delete("released").await;
    rig.has("released", BLOCKED, CLAIMED).await;
    let looped = rig.ready("looped", json!({})).await;
    two.channel("three", json!({"channelId": id_of(&looped)}));
    two.reason("three", "OwnershipConflict").await;
    rig.annotate("released", RELEASE, &id_of(&released)).await;
    rig.gone("released").await;
    let adopted = two.reason("two", "Available").await;
    assert_eq!((id_of(&adopted), origin(&adopted)), (id_of(&released), Some("Adopted")));
    assert_eq!(rig.count(DELETE), 1);
    rig.delete("looped").await;
    rig.has("looped", BLOCKED, CLAIMED).await;
    let page = include_str!("../../../docs/multi-tenancy.md");
    let command = crate::docs::pages::commands(page).into_iter().find(|line| line.contains(CONFIRM)).unwrap();
    crate::docs::shell::Shell::new(rig.plane, &rig.namespace).run(&command);
    rig.gone("looped").await;
    assert_eq!(rig.count(DELETE), 2);
    two.rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f64_a_finalizer_and_an_intent_set_by_a_stranger_pin_no_cluster_workspace() {
    let rig = cluster_workspaces::rig().await;
    let name = cluster_workspaces::share(&rig, Some(json!({"names": ["somebody-else"]})));
    cluster_workspaces::until(&rig, &name, "verified", |it| cluster_workspaces::has_reason(it, "Verified"))
        .await;
    let intent = "6f1e0000-0000-0000-0000-000000000000/1/2026-01-10T08:00:00Z";
    for (channel, metadata) in [
        ("finalized", json!({"finalizers": ["ohallo.eu/channel"]})),
        ("annotated", json!({"annotations": {"ohallo.eu/create-intent": intent}})),
    ] {
        let mut manifest = rig.manifest(channel, cluster_workspaces::using(&name));
        manifest["metadata"].as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
        rig.apply(&manifest);
        rig.until(channel, "reconciled", |it| condition(it, "Stalled").is_some()).await;
    }
    let forged = json!({"channelId": "any-id", "boundUid": "6f1e0000-0000-0000-0000-000000000000"});
    rig.create("copied", cluster_workspaces::using(&name)).await;
    give_status(&rig.channels(), "copied", forged).await;
    // It would have been set before the Channels were.
    for channel in ["finalized", "annotated", "copied"] {
        looked(&rig, channel, "1").await;
    }
    let held = cluster_workspaces::api(&rig).get(&name).await.unwrap();
    assert!(!cluster_workspaces::in_use(&held), "{:?}", held.finalizers());
    cluster_workspaces::gone(&rig, &name).await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f65_a_namespace_whose_labels_are_late_is_not_admitted_by_not_in() {
    let mut rig = Rig::bare(Config::default(), &["--cluster-workspaces=true"]).await;
    rig.put_proxy().await;
    crate::replicas::allow_lease(&rig);
    rig.flag(format!("--operator-namespace={}", rig.namespace));
    rig.flag(format!("--workspace-selector=test={}", rig.namespace));
    let elsewhere = format!("{}-elsewhere", rig.namespace);
    rig.flag(format!("--namespace={elsewhere}"));
    crate::workspaces::put_key(&rig, "ohallo-api-key", &rig.key.clone()).await;
    rig.start_operator().await;
    let tier = json!({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["excluded"]}]});
    let name = cluster_workspaces::share(&rig, Some(json!({ "selector": tier })));
    cluster_workspaces::until(&rig, &name, "verified", |it| cluster_workspaces::has_reason(it, "Verified"))
        .await;
    rig.proxy().withhold("/api/v1/namespaces");
    let two = Two { rig, elsewhere };
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
                           "metadata": {"name": two.elsewhere, "labels": {"tier": "excluded"}}});
    two.rig.kubectl_ok(&["apply", "-f", "-"], &namespace.to_string());
    two.channel("a", cluster_workspaces::using(&name));
    let refused = two.reason("a", "WorkspaceNotAllowed").await;
    assert_eq!(is(&refused, "Ready"), so("False", "WorkspaceNotAllowed"));
    // Nothing has told the operator of any label, so none that is taken off admits it either.
    two.rig.kubectl_ok(&["label", "namespace", &two.elsewhere, "tier-"], "");
    let look = format!("{LOOK}=1");
    two.rig.kubectl_ok(&["-n", &two.elsewhere, "annotate", "channels.ohallo.eu", "a", &look], "");
    two.rig
        .eventually("reconciled", || async {
            let channel = two.channels().get("a").await.unwrap();
            channel.status.unwrap().last_handled_reconcile_at.filter(|at| at == "1").map(drop)
        })
        .await;
    two.reason("a", "WorkspaceNotAllowed").await;
    assert_eq!(two.rig.count(Operation::CreateChannel), 0);
    two.rig.proxy().release();
    two.reason("a", "Available").await;
    two.rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f66_a_renamed_manifest_takes_its_channel_over_without_a_delete() {
    let rig = Rig::start().await;
    let old = rig.ready("old", json!({})).await;
    let id = id_of(&old);
    rig.create("new", json!({"channelId": id})).await;
    rig.reason("new", "OwnershipConflict").await;
    rig.delete("old").await;
    let new = rig.reason("new", "Available").await;
    rig.gone("old").await;
    assert_eq!((id_of(&new), origin(&new)), (id.clone(), Some("Created")), "with its origin");
    assert_eq!(new.status.as_ref().unwrap().deletion_policy.as_deref(), Some("Delete"));
    assert!(once(&rig, "old", "HandedOver").await.contains("\"new\""));
    once(&rig, "new", "Adopted").await;
    assert_eq!(rig.count(DELETE), 0);
    rig.deleted("new").await;
    assert_eq!(rig.count(DELETE), 1);
    assert!(rig.sim.channel(&id).is_none());
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f66_a_manifest_moved_to_another_workspace_object_while_the_old_one_is_pruned_keeps_its_channel() {
    let rig = Rig::start().await;
    for round in 0..3 {
        let (old, new, workspace) =
            (format!("old-{round}"), format!("new-{round}"), format!("moved-{round}"));
        let id = id_of(&rig.ready(&old, json!({})).await);
        let place = json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "Workspace", "metadata": {"name": workspace},
                           "spec": {"workspaceId": WORKSPACE, "apiKeySecretRef": {"name": "ohallo-api-key"}}});
        let manifest = rig.manifest(&new, json!({"channelId": id, "workspaceRef": under(&workspace)}));
        rig.apply(&json!({"apiVersion": "v1", "kind": "List", "items": [place, manifest]}));
        rig.delete(&old).await;
        let channel = rig.reason(&new, "Available").await;
        rig.gone(&old).await;
        assert_eq!((id_of(&channel), rig.count(DELETE)), (id, 0), "round {round}");
    }
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f66_the_old_manifest_may_be_deleted_first_as_long_as_its_delete_was_not_sent() {
    let rig = Rig::start().await;
    let old = rig.ready("old", json!({"suspend": false})).await;
    let id = id_of(&old);
    rig.edit("old", json!({"spec": {"suspend": true}})).await;
    rig.has("old", "Suspended", "Suspended").await;
    rig.delete("old").await;
    rig.has("old", BLOCKED, "Suspended").await;
    let new = rig.ready("new", json!({"channelId": id})).await;
    rig.gone("old").await;
    assert_eq!((id_of(&new), origin(&new), rig.count(DELETE)), (id, Some("Created"), 0));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f66_who_names_the_id_and_cannot_bind_holds_the_delete_back_until_it_can_or_goes() {
    let rig = Rig::start().await;
    let ids = [0, 1, 2].map(|number| format!("old-{number}"));
    for name in &ids {
        rig.ready(name, json!({})).await;
    }
    let id = |at: usize| {
        let name = ids[at].clone();
        let rig = &rig;
        async move { id_of(&rig.get(&name).await) }
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
        rig.create(name, spec).await;
        rig.delete(&ids[at]).await;
        let blocked = rig.has(&ids[at], BLOCKED, CLAIMED).await;
        assert!(message(&blocked, BLOCKED).contains(&format!("{name:?}")), "{}", message(&blocked, BLOCKED));
        rig.annotate(&ids[at], CONFIRM, &format!("{}/{}", id(at).await, uid(&blocked))).await;
        looked(&rig, &ids[at], "1").await;
        rig.has(&ids[at], BLOCKED, CLAIMED).await;
    }
    rig.edit("suspended", json!({"spec": {"suspend": false}})).await;
    rig.reason("suspended", "Available").await;
    rig.gone("old-0").await;
    does_what_it_says(&rig, &rig.get("old-1").await);
    rig.gone("old-1").await;
    once(&rig, "old-1", "Released").await;
    rig.delete("another-type").await;
    rig.gone("another-type").await;
    let waits = looked(&rig, "old-2", "2").await;
    assert_eq!(is(&waits, BLOCKED), so("True", CLAIMED), "nobody has to have claimed it for five minutes");
    assert_eq!((rig.count(DELETE), rig.sim.channel_count()), (0, 3));
    rig.annotate("old-2", RELEASE, &id(2).await).await;
    rig.gone("old-2").await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f66_a_restored_copy_that_is_deleted_again_destroys_nothing() {
    let two = Two::start().await;
    let rig = &two.rig;
    let original = rig.ready("a", json!({})).await;
    let id = id_of(&original);
    let status = serde_json::to_value(original.status.clone().unwrap()).unwrap();
    for (name, spec) in [("drill", json!({})), ("drill-pinned", json!({"channelId": id}))] {
        // The status comes with the object, as restore tools write it: before the operator has seen it.
        let mut spec = spec;
        spec["suspend"] = true.into();
        two.channel(name, spec);
        give_status(&two.channels(), name, status.clone()).await;
        two.rig.kubectl_ok(
            &[
                "-n",
                &two.elsewhere,
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
    two.rig.kubectl_ok(
        &["-n", &two.elsewhere, "delete", "channel", "drill", "drill-pinned", "--timeout=60s"],
        "",
    );
    assert_eq!(rig.count(DELETE), 0);
    // The original is lost with its cluster, and the copy becomes the channel's object: adopted anew, and so retained.
    rig.annotate("a", RELEASE, &id).await;
    rig.deleted("a").await;
    two.channel("restored", json!({"suspend": true, "channelId": id}));
    give_status(&two.channels(), "restored", status).await;
    two.rig.kubectl_ok(
        &[
            "-n",
            &two.elsewhere,
            "patch",
            "channel",
            "restored",
            "--type=merge",
            "-p",
            r#"{"spec":{"suspend":false}}"#,
        ],
        "",
    );
    let restored = rig
        .eventually("adopted anew", || async {
            let channel = two.channels().get("restored").await.unwrap();
            Some(channel).filter(|channel| bound_uid(channel) == channel.uid())
        })
        .await;
    assert_eq!(origin(&restored), Some("Adopted"));
    two.rig.kubectl_ok(&["-n", &two.elsewhere, "delete", "channel", "restored", "--timeout=60s"], "");
    assert_eq!(rig.count(DELETE), 0);
    assert!(rig.sim.channel(&id).is_some());
    two.rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f67_of_two_that_are_deleted_together_the_holder_deletes_and_nothing_is_handed_over() {
    let mut rig = Rig::start().await;
    let id = id_of(&rig.ready("holder", json!({})).await);
    rig.create("claimant", json!({"channelId": id})).await;
    rig.reason("claimant", "OwnershipConflict").await;
    // Both are terminating when an operator first sees that one is.
    rig.stop_operator().await;
    rig.delete("holder").await;
    rig.delete("claimant").await;
    rig.start_operator().await;
    rig.gone("holder").await;
    rig.gone("claimant").await;
    assert_eq!((rig.count(DELETE), rig.sim.channel_count()), (1, 0));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f67_of_two_that_are_bound_the_terminating_one_goes_without_a_delete_and_of_two_terminating_one_deletes()
 {
    let mut rig = Rig::start().await;
    let first = rig.ready("first", json!({})).await;
    let id = id_of(&first);
    // As somebody who may write statuses can do.
    rig.create("second", json!({"suspend": true, "deletionPolicy": "Delete"})).await;
    let second = rig.has("second", "Suspended", "Suspended").await;
    rig.edit("second", json!({"metadata": {"finalizers": ["ohallo.eu/channel"]}})).await;
    give_status(&rig.channels(), "second", json!({"channelId": id, "boundUid": uid(&second)})).await;
    rig.excused.extend(["first".into(), "second".into()]);
    rig.delete("first").await;
    rig.gone("first").await;
    assert_eq!(rig.count(DELETE), 0);
    once(&rig, "first", "HandedOver").await;
    let third = rig.create("third", json!({"suspend": true, "deletionPolicy": "Delete"})).await;
    rig.has("third", "Suspended", "Suspended").await;
    rig.edit("third", json!({"metadata": {"finalizers": ["ohallo.eu/channel"]}})).await;
    give_status(&rig.channels(), "third", json!({"channelId": id, "boundUid": uid(&third)})).await;
    rig.excused.push("third".into());
    // Both are terminating when an operator first sees that one is.
    rig.stop_operator().await;
    for name in ["second", "third"] {
        rig.delete(name).await;
    }
    rig.start_operator().await;
    let age = |channel: &Channel| (channel.creation_timestamp(), channel.uid());
    let (older, younger) = if age(&second) < age(&third) { ("second", "third") } else { ("third", "second") };
    rig.has(older, BLOCKED, "Suspended").await;
    assert_eq!(
        is(&rig.get(younger).await, BLOCKED),
        None,
        "the older one deletes, and this one waits for it"
    );
    rig.edit(older, json!({"spec": {"suspend": false}})).await;
    rig.gone(older).await;
    assert_eq!((rig.count(DELETE), rig.sim.channel_count()), (1, 0));
    rig.annotate(younger, RELEASE, &id).await;
    rig.gone(younger).await;
    rig.finish().await;
}
