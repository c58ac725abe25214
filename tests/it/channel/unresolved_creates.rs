//! A create whose answer was lost, and everything that may resemble one: never a second POST without a request.

use kube::Api;
use kube::api::Patch;
use ohallo_core::api::channel::Channel;
use ohallo_sim::{Action, Config, Fault, Operation, Switch};
use serde_json::{Value, json};
use testbed::User;

use crate::support::harness::{Harness, bound, id_of, kubectl_as, message};
use crate::support::steps::{
    CREATE_AGAIN, CREATE_INTENT, RECONCILE_REQUESTED, RELEASE, has_finalizer, insert_in_dashboard,
    lose_create_response, reconcile_now, single_event, state, state_of, uid, unresolved_create,
};

const CREATE: Operation = Operation::CreateChannel;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn create_again_must_name_the_attempt_that_the_message_names() {
    let harness = Harness::start().await;
    let channel = unresolved_create(&harness, "a", false).await;
    let attempt = format!("{}/1", uid(&channel));
    assert!(message(&channel, "Ready").contains(&format!("{CREATE_AGAIN}={attempt}")));
    assert!(message(&channel, "Ready").contains("\"Channel a\""));
    for (number, wrong) in [format!("{}/2", uid(&channel)), "yes".into(), "other/1".into()].iter().enumerate()
    {
        harness.annotate("a", CREATE_AGAIN, wrong).await;
        let channel = reconcile_now(&harness, "a", &number.to_string()).await;
        assert_eq!(state_of(&channel, "Stalled"), state("True", "CreateOutcomeUnknown"));
        assert_eq!(harness.count(CREATE), 1, "{wrong}");
    }
    lose_create_response(&harness, false);
    harness.annotate("a", CREATE_AGAIN, &attempt).await;
    let second = format!("{}/2", uid(&channel));
    harness.until("a", "unresolved again", |channel| message(channel, "Ready").contains(&second)).await;
    reconcile_now(&harness, "a", "again").await;
    assert_eq!(harness.count(CREATE), 2, "the annotation spoke of the first attempt only");
    harness.annotate("a", CREATE_AGAIN, &second).await;
    let channel = harness.reason("a", "Available").await;
    assert_eq!((harness.count(CREATE), harness.sim.channels().len()), (3, 1));
    assert_eq!(channel.status.as_ref().unwrap().origin.as_deref(), Some("Created"));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_created_by_a_call_whose_response_was_lost_is_adopted_when_it_is_named() {
    let harness = Harness::start().await;
    unresolved_create(&harness, "a", true).await;
    let id = harness.sim.channels()[0].id.clone();
    harness.edit("a", json!({"spec": {"channelId": id}})).await;
    let channel = harness.reason("a", "Available").await;
    let status = channel.status.as_ref().unwrap();
    assert_eq!(
        (status.origin.as_deref(), status.channel_id.as_deref()),
        (Some("Adopted"), Some(id.as_str()))
    );
    assert!(status.create.is_none());
    assert_eq!((harness.count(CREATE), harness.sim.channels().len()), (1, 1));
    single_event(&harness, "a", "Adopted").await;
    harness.delete_and_wait("a").await;
    assert_eq!(harness.count(Operation::DeleteChannel), 0, "what was adopted is kept");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_message_names_candidates_where_the_api_lists_channels() {
    let harness = Harness::start().await;
    harness.sim.set(|behaviour| behaviour.list = Switch::On);
    let bound = id_of(&harness.ready("bound", json!({"displayName": "Channel a"})).await);
    let email = insert_in_dashboard(&harness, "email", "Channel a");
    let channel = unresolved_create(&harness, "a", true).await;
    let created =
        harness.sim.channels().into_iter().find(|found| ![&bound, &email].contains(&&found.id)).unwrap().id;
    let text = message(&channel, "Ready");
    assert!(text.contains(&created), "{text}");
    assert!(!text.contains(&bound) && !text.contains(&email), "{text}");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_after_an_attempt_of_unknown_outcome_proves_nothing() {
    let harness = Harness::start().await;
    let channel = unresolved_create(&harness, "a", true).await;
    harness.sim.add_fault(Fault::on(CREATE, Action::status(409)));
    harness.annotate("a", CREATE_AGAIN, &format!("{}/1", uid(&channel))).await;
    let second = format!("{}/2", uid(&channel));
    harness.until("a", "unresolved again", |channel| message(channel, "Ready").contains(&second)).await;
    reconcile_now(&harness, "a", "1").await;
    assert_eq!(harness.count(CREATE), 2);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_copied_with_its_annotations_and_status_calls_nothing() {
    let harness = Harness::start().await;
    let channel = harness.ready("a", json!({})).await;
    let id = id_of(&channel);
    let mut copy = harness.manifest("with-intent", json!({}));
    copy["metadata"]["annotations"] =
        json!({CREATE_INTENT: channel.metadata.annotations.as_ref().unwrap()[CREATE_INTENT]});
    harness.apply(&copy);
    let unresolved_create = harness.reason("with-intent", "CreateOutcomeUnknown").await;
    assert!(message(&unresolved_create, "Ready").contains(&format!("{}/1", uid(&channel))));
    for (name, intent) in [("malformed", "yes"), ("empty", ""), ("zero", "x/0/2026-01-10T08:00:00Z")] {
        let mut odd = harness.manifest(name, json!({}));
        odd["metadata"]["annotations"] = json!({CREATE_INTENT: intent});
        harness.apply(&odd);
        harness.reason(name, "CreateOutcomeUnknown").await;
    }
    let mut copy = harness.manifest("with-status", json!({"suspend": true}));
    copy["metadata"]["annotations"] =
        json!({CREATE_INTENT: channel.metadata.annotations.as_ref().unwrap()[CREATE_INTENT]});
    harness.apply(&copy);
    harness.has("with-status", "Suspended", "Suspended").await;
    let status =
        json!({"status": {"channelId": id, "boundUid": uid(&channel), "origin": "Created"}}).to_string();
    let patched = harness.kubectl(
        &["patch", "channel", "with-status", "--subresource=status", "--type=merge", "-p", &status],
        None,
    );
    assert!(patched.status.success(), "{}", String::from_utf8_lossy(&patched.stderr));
    harness.edit("with-status", json!({"spec": {"suspend": false}})).await;
    let unresolved_create = harness.reason("with-status", "CreateOutcomeUnknown").await;
    assert!(
        message(&unresolved_create, "Ready").contains("copied"),
        "{}",
        message(&unresolved_create, "Ready")
    );
    assert_eq!(harness.count(CREATE), 1);
    harness.delete_and_wait("with-status").await;
    assert_eq!(harness.count(Operation::DeleteChannel), 0, "the channel is another object's");
    assert_eq!(state_of(&harness.get("a").await, "Ready"), state("True", "Available"));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_copied_into_another_namespace_as_kubectl_prints_it_calls_nothing() {
    let mut harness = Harness::bare(Config::default(), &[]).await;
    let other = format!("{}-copy", harness.namespace);
    let other_namespace = |args: &[&str], stdin: Option<&str>| {
        let args: Vec<_> = ["--namespace", &other].into_iter().chain(args.iter().copied()).collect();
        let output = kubectl_as(harness.plane, User::Admin, &args, stdin);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    other_namespace(&["create", "namespace", &other], None);
    let key = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": harness.key}});
    harness.apply(&key);
    other_namespace(&["apply", "-f", "-"], Some(&key.to_string()));
    harness.workspace("default", "ohallo-api-key").await;
    let workspace = harness.kubectl(&["get", "workspace", "default", "-o", "json"], None).stdout;
    other_namespace(&["apply", "-f", "-"], Some(&moved(&workspace, &other)));
    let flag = format!("--namespace={other}");
    harness.flag(flag);
    harness.start_operator().await;
    let channel = harness.ready("a", json!({})).await;
    let printed = harness.kubectl(&["get", "channel", "a", "-o", "json"], None).stdout;
    let apply = ["--namespace", &other, "apply", "-f", "-"];
    let copied = kubectl_as(harness.plane, User::Admin, &apply, Some(&moved(&printed, &other)));
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    let copies: Api<Channel> = Api::namespaced(harness.admin.clone(), &other);
    let unresolved_create = harness
        .eventually("the copy is unresolved", || async {
            let copy = copies.get("a").await.unwrap();
            (state_of(&copy, "Ready") == state("False", "CreateOutcomeUnknown")).then_some(copy)
        })
        .await;
    let first = format!("{}/1", uid(&channel));
    assert!(
        message(&unresolved_create, "Ready").contains(&format!("{CREATE_AGAIN}={first}")),
        "{}",
        message(&unresolved_create, "Ready")
    );
    assert_eq!((harness.count(CREATE), harness.sim.channels().len()), (1, 1));
    copies.delete("a", &Default::default()).await.unwrap();
    let release = Patch::Merge(json!({"metadata": {"annotations": {RELEASE: first}}}));
    copies.patch("a", &Default::default(), &release).await.unwrap();
    harness
        .eventually("the copy is deleted", || async {
            copies.get_opt("a").await.unwrap().is_none().then_some(())
        })
        .await;
    assert_eq!(harness.count(Operation::DeleteChannel), 0);
    assert_eq!(state_of(&harness.get("a").await, "Ready"), state("True", "Available"));
    harness.finish().await;
}

/// What kubectl printed, as a person would edit it to have it in another namespace.
fn moved(printed: &[u8], namespace: &str) -> String {
    let mut object: Value = serde_json::from_slice(printed).unwrap();
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata.insert("namespace".into(), namespace.into());
    for field in ["uid", "resourceVersion"] {
        metadata.remove(field);
    }
    object.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bound_object_that_is_replaced_gets_its_finalizer_and_annotations_back_and_no_second_channel() {
    let harness = Harness::start().await;
    let channel = harness.ready("a", json!({})).await;
    let manifest = harness.manifest("a", json!({})).to_string();
    let replaced = harness.kubectl(&["replace", "-f", "-"], Some(&manifest));
    assert!(replaced.status.success(), "{}", String::from_utf8_lossy(&replaced.stderr));
    let marked = harness
        .until("a", "marked", |channel| {
            has_finalizer(channel)
                && channel.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(CREATE_INTENT))
        })
        .await;
    assert!(marked.metadata.annotations.as_ref().unwrap()[CREATE_INTENT].starts_with(&uid(&channel)));
    let channel = reconcile_now(&harness, "a", "1").await;
    assert_eq!(state_of(&channel, "Ready"), state("True", "Available"));
    let patched = harness.kubectl(
        &["patch", "channel", "a", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#],
        None,
    );
    assert!(patched.status.success());
    harness.until("a", "finalized again", has_finalizer).await;
    assert_eq!((harness.count(CREATE), harness.sim.channels().len()), (1, 1));
    harness.delete_and_wait("a").await;
    assert!(harness.sim.channels().is_empty());
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_with_an_unresolved_create_that_is_replaced_stays_unresolved_also_after_a_restart() {
    let mut harness = Harness::start().await;
    unresolved_create(&harness, "a", true).await;
    let manifest = harness.manifest("a", json!({"displayName": "Another"})).to_string();
    assert!(harness.kubectl(&["replace", "-f", "-"], Some(&manifest)).status.success());
    harness.reason("a", "CreateOutcomeUnknown").await;
    harness.stop_operator().await;
    harness.start_operator().await;
    let channel = reconcile_now(&harness, "a", "1").await;
    assert_eq!(state_of(&channel, "Stalled"), state("True", "CreateOutcomeUnknown"));
    assert_eq!(harness.count(CREATE), 1);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_stops_during_the_call_leaves_an_unresolved_create_and_its_late_response_is_bound() {
    let mut harness = Harness::with(Config::default(), &["--create-timeout=600"]).await;
    let hold = harness.sim.add_fault(Fault::on(CREATE, Action::Hold { commit_first: true }));
    harness.create("a", json!({})).await;
    harness.sim.held(hold).await.unwrap();
    harness.kill_operator();
    harness.start_operator().await;
    let channel = harness.reason("a", "CreateOutcomeUnknown").await;
    assert!(has_finalizer(&channel));
    reconcile_now(&harness, "a", "1").await;
    assert_eq!(harness.count(CREATE), 1);
    // The task that sent it lives on in this process, as in one that was only stopped for a while.
    harness.sim.release(hold);
    harness.until("a", "bound", |channel| bound(channel).is_some()).await;
    harness.reason("a", "Available").await;
    assert_eq!((harness.count(CREATE), harness.sim.channels().len()), (1, 1));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_that_names_another_channel_while_the_call_is_under_way_binds_neither() {
    let harness = Harness::start().await;
    let other = insert_in_dashboard(&harness, "chat", "Channel a");
    let hold = harness.sim.add_fault(Fault::on(CREATE, Action::Hold { commit_first: true }).times(1));
    harness.create("a", json!({})).await;
    harness.sim.held(hold).await.unwrap();
    harness.edit("a", json!({"spec": {"channelId": other}})).await;
    harness.sim.release(hold);
    let channel = harness.reason("a", "CreateOutcomeUnknown").await;
    let created = harness.sim.channels().into_iter().find(|found| found.id != other).unwrap().id;
    let text = message(&channel, "Ready");
    assert!(text.contains(&created) && text.contains(&other), "{text}");
    assert!(channel.status.as_ref().unwrap().channel_id.is_none());
    let channel = reconcile_now(&harness, "a", "1").await;
    assert_eq!(message(&channel, "Ready"), text, "one reconcile changes nothing");
    harness.sim.remove_channel(&created);
    harness.annotate("a", RECONCILE_REQUESTED, "2").await;
    assert_eq!(id_of(&harness.reason("a", "Available").await), other);
    assert_eq!(harness.count(CREATE), 1);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_that_changes_while_the_call_is_under_way_is_applied_after_it() {
    let harness = Harness::start().await;
    for (name, policy) in [("a", "Correct"), ("b", "Report")] {
        let hold = harness.sim.add_fault(Fault::on(CREATE, Action::Hold { commit_first: true }).times(1));
        harness.create(name, json!({"driftPolicy": policy, "enabled": true})).await;
        harness.sim.held(hold).await.unwrap();
        harness.edit(name, json!({"spec": {"displayName": "Newer", "enabled": false}})).await;
        harness.sim.release(hold);
        let channel = harness.reason(name, "Disabled").await;
        let remote = harness.sim.channel(&id_of(&channel)).unwrap();
        assert_eq!((remote.display_name.as_str(), remote.enabled), ("Newer", false));
    }
    assert_eq!((harness.count(CREATE), harness.sim.channels().len()), (2, 2));
    harness.finish().await;
}
