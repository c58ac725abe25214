//! The rules that compare with the previous object.

use kube::api::{Patch, PatchParams};
use ohallo_core::api::{self, channel::Channel};
use serde_json::{Value, json};

use crate::support::harness::Harness;

const BOUND: &str = "this Channel is bound to status.channelId: set channelId to that id, or create another Channel for another channel";
const PINNED: &str = "channelId can't be changed or removed once the Channel is bound to it";

/// Writes the status as whoever may do so.
async fn bind(harness: &Harness, name: &str, id: Option<&str>) -> Channel {
    let patch = Patch::Merge(json!({"status": {"channelId": id}}));
    harness.channels().patch_status(name, &PatchParams::default(), &patch).await.unwrap()
}

/// Replaces `spec.channelId` as kubectl's user does.
fn put(harness: &Harness, name: &str, id: Option<&str>, dry: bool) -> Result<(), String> {
    let patch = json!({"spec": {"channelId": id}}).to_string();
    let mut args = vec!["patch", "channel", name, "--type=merge", "-p", &patch];
    args.extend(dry.then_some("--dry-run=server"));
    let output = harness.kubectl(&args, None);
    let reported = String::from_utf8_lossy(&output.stderr).into_owned();
    output.status.success().then_some(()).ok_or(reported)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_id_may_be_corrected_until_it_is_bound_and_then_only_be_pinned() {
    let harness = Harness::bare(Default::default(), &[]).await;
    // Declared before, bound to, declared now, and the message.
    for (i, (before, bound, now, reported)) in [
        (None, None, Some("a"), None),
        (Some("a"), None, Some("b"), None),
        (Some("a"), None, None, None),
        (None, Some("a"), Some("a"), None),
        (None, Some("a"), Some("b"), Some(BOUND)),
        (Some("a"), Some("a"), Some("a"), None),
        (Some("a"), Some("a"), Some("b"), Some(PINNED)),
        (Some("a"), Some("a"), Some("b"), Some(BOUND)),
        (Some("a"), Some("a"), None, Some(PINNED)),
        // Corrected in the moment in which the operator bound it.
        (Some("b"), Some("a"), Some("b"), None),
        (Some("b"), Some("a"), Some("c"), Some(BOUND)),
        (Some("b"), Some("a"), None, Some(PINNED)),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("c{i}");
        let case = format!("{before:?} bound to {bound:?} becomes {now:?}");
        let mut spec = json!({});
        if let Some(id) = before {
            spec["channelId"] = id.into();
        }
        harness.create(&name, spec).await;
        if bound.is_some() {
            bind(&harness, &name, bound).await;
        }
        if let Some(sentence) = reported {
            for dry in [true, false] {
                let refused = put(&harness, &name, now, dry).expect_err(&case);
                assert!(refused.contains(sentence), "{case}: {refused}");
                assert!(refused.contains("spec.channelId: Invalid value"), "{case}: {refused}");
            }
        } else {
            assert_eq!(put(&harness, &name, now, false), Ok(()), "{case}");
        }
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_is_never_refused_for_what_the_spec_says() {
    let harness = Harness::bare(Default::default(), &[]).await;
    for (name, declared) in [("none", json!({})), ("other", json!({"channelId": "b"}))] {
        harness.create(name, declared).await;
        for id in [Some("a"), Some("b"), Some("c"), None, Some("a")] {
            let channel = bind(&harness, name, id).await;
            assert_eq!(channel.status.and_then(|status| status.channel_id).as_deref(), id);
        }
        // And what else is written to the object meanwhile.
        harness.annotate(name, "ohallo.eu/reconcile-requested-at", "1").await;
        harness.edit(name, json!({"metadata": {"finalizers": ["example.com/held"]}})).await;
        harness.edit(name, json!({"spec": {"displayName": "Another"}})).await;
        harness.edit(name, json!({"metadata": {"finalizers": null}})).await;
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_move_is_refused_with_a_sentence_when_it_is_changed() {
    let harness = Harness::bare(Default::default(), &[]).await;
    let cluster = format!("{}-fixed", harness.namespace);
    let handle = json!({"workspaceId": "w", "apiKeySecretRef": {"name": "key"}});
    let channel = json!({"channelType": "chat", "displayName": "Fixed"});
    let objects = [
        ("Channel", "fixed", channel.clone()),
        ("Workspace", "fixed", handle.clone()),
        ("ClusterWorkspace", &*cluster, handle),
    ];
    let object = |kind: &str, name: &str, spec: &Value| json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    for (kind, name, spec) in &objects {
        harness.apply(&object(kind, name, spec));
    }
    let moved = "workspaceRef is immutable: a channel can't move to another workspace";
    let cases = [
        (
            0,
            "channelType",
            json!("voice"),
            "channelType is immutable: create another Channel (deleting this one may delete its channel in oHallo)",
        ),
        (0, "workspaceRef", json!({"name": "other"}), moved),
        (0, "workspaceRef", json!({"kind": "ClusterWorkspace", "name": "default"}), moved),
        (
            1,
            "workspaceId",
            json!("v"),
            "workspaceId is immutable: create another Workspace, and new Channels that name it. A channel can't move between oHallo workspaces",
        ),
        (
            2,
            "workspaceId",
            json!("v"),
            "workspaceId is immutable: create another ClusterWorkspace, and new Channels that name it. A channel can't move between oHallo workspaces",
        ),
    ];
    for (at, field, value, sentence) in cases {
        let (kind, name, spec) = &objects[at];
        let mut spec = spec.clone();
        spec[field] = value;
        let reported = harness.refused(&object(kind, name, &spec));
        assert!(reported.contains(sentence), "{kind} {field}: {reported}");
    }
    // The default written out is no change.
    let mut spec = channel;
    spec["workspaceRef"] = json!({"kind": "Workspace", "name": "default"});
    harness.apply(&object("Channel", "fixed", &spec));
    assert!(harness.kubectl(&["delete", "clusterworkspace", &cluster], None).status.success());
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_that_comes_with_a_copied_manifest_is_not_taken_over() {
    let harness = Harness::bare(Default::default(), &[]).await;
    harness.create("original", json!({"channelId": "a"})).await;
    bind(&harness, "original", Some("a")).await;
    let copied = harness.kubectl(&["get", "channel", "original", "-o", "json"], None);
    let mut copied: Value = serde_json::from_slice(&copied.stdout).unwrap();
    assert_eq!(copied["status"]["channelId"], "a");
    copied["metadata"]["name"] = "copy".into();
    copied["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    harness.apply(&copied);
    let copy = harness.get("copy").await;
    assert_eq!(json!(copy.status), api::unseen());
    assert_ne!(copy.metadata.uid, harness.get("original").await.metadata.uid);
    // Nor does replacing an object bring one in or lose the one that is there.
    copied["metadata"]["name"] = "original".into();
    copied["metadata"].as_object_mut().unwrap().remove("uid");
    copied["status"] = json!({"channelId": "b"});
    let replaced = harness.kubectl(&["replace", "-f", "-"], Some(&copied.to_string()));
    assert!(replaced.status.success(), "{}", String::from_utf8_lossy(&replaced.stderr));
    assert_eq!(harness.get("original").await.status.unwrap().channel_id.as_deref(), Some("a"));
    harness.finish().await;
}
