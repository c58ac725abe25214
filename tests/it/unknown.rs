//! A create whose answer was lost, and everything that may look like one: never a second POST by itself.

use kube::Api;
use kube::api::Patch;
use ohallo_core::api::channel::Channel;
use ohallo_sim::{Action, Config, Fault, Operation, Switch};
use serde_json::{Value, json};
use testbed::User;

use crate::acts::{
    AGAIN, INTENT, LOOK, RELEASE, by_hand, finalized, is, looked, lose, once, parked, so, uid,
};
use crate::rig::{Rig, bound, id_of, kubectl_as, message};

const CREATE: Operation = Operation::CreateChannel;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn create_again_must_name_the_attempt_that_the_message_names() {
    let rig = Rig::start().await;
    let channel = parked(&rig, "a", false).await;
    let attempt = format!("{}/1", uid(&channel));
    assert!(message(&channel, "Ready").contains(&format!("{AGAIN}={attempt}")));
    assert!(message(&channel, "Ready").contains("\"Channel a\""));
    for (number, wrong) in [format!("{}/2", uid(&channel)), "yes".into(), "other/1".into()].iter().enumerate()
    {
        rig.annotate("a", AGAIN, wrong).await;
        let channel = looked(&rig, "a", &number.to_string()).await;
        assert_eq!(is(&channel, "Stalled"), so("True", "CreateOutcomeUnknown"));
        assert_eq!(rig.count(CREATE), 1, "{wrong}");
    }
    lose(&rig, false);
    rig.annotate("a", AGAIN, &attempt).await;
    let second = format!("{}/2", uid(&channel));
    rig.until("a", "parked again", |channel| message(channel, "Ready").contains(&second)).await;
    looked(&rig, "a", "again").await;
    assert_eq!(rig.count(CREATE), 2, "the annotation spoke of the first attempt only");
    rig.annotate("a", AGAIN, &second).await;
    let channel = rig.reason("a", "Available").await;
    assert_eq!((rig.count(CREATE), rig.sim.channels().len()), (3, 1));
    assert_eq!(channel.status.as_ref().unwrap().origin.as_deref(), Some("Created"));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_channel_that_a_lost_answer_made_is_adopted_when_it_is_named() {
    let rig = Rig::start().await;
    parked(&rig, "a", true).await;
    let id = rig.sim.channels()[0].id.clone();
    rig.edit("a", json!({"spec": {"channelId": id}})).await;
    let channel = rig.reason("a", "Available").await;
    let status = channel.status.as_ref().unwrap();
    assert_eq!(
        (status.origin.as_deref(), status.channel_id.as_deref()),
        (Some("Adopted"), Some(id.as_str()))
    );
    assert!(status.create.is_none());
    assert_eq!((rig.count(CREATE), rig.sim.channels().len()), (1, 1));
    once(&rig, "a", "Adopted").await;
    rig.deleted("a").await;
    assert_eq!(rig.count(Operation::DeleteChannel), 0, "what was adopted is kept");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_message_names_candidates_where_the_api_lists_channels() {
    let rig = Rig::start().await;
    rig.sim.set(|behaviour| behaviour.list = Switch::On);
    let bound = id_of(&rig.ready("bound", json!({"displayName": "Channel a"})).await);
    let email = by_hand(&rig, "email", "Channel a");
    let channel = parked(&rig, "a", true).await;
    let made =
        rig.sim.channels().into_iter().find(|found| ![&bound, &email].contains(&&found.id)).unwrap().id;
    let text = message(&channel, "Ready");
    assert!(text.contains(&made), "{text}");
    assert!(!text.contains(&bound) && !text.contains(&email), "{text}");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_after_an_attempt_of_unknown_outcome_proves_nothing() {
    let rig = Rig::start().await;
    let channel = parked(&rig, "a", true).await;
    rig.sim.add_fault(Fault::on(CREATE, Action::status(409)));
    rig.annotate("a", AGAIN, &format!("{}/1", uid(&channel))).await;
    let second = format!("{}/2", uid(&channel));
    rig.until("a", "parked again", |channel| message(channel, "Ready").contains(&second)).await;
    looked(&rig, "a", "1").await;
    assert_eq!(rig.count(CREATE), 2);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_copied_with_its_annotations_and_status_calls_nothing() {
    let rig = Rig::start().await;
    let channel = rig.ready("a", json!({})).await;
    let id = id_of(&channel);
    let mut copy = rig.manifest("with-intent", json!({}));
    copy["metadata"]["annotations"] = json!({INTENT: channel.metadata.annotations.as_ref().unwrap()[INTENT]});
    rig.apply(&copy);
    let parked = rig.reason("with-intent", "CreateOutcomeUnknown").await;
    assert!(message(&parked, "Ready").contains(&format!("{}/1", uid(&channel))));
    for (name, intent) in [("malformed", "yes"), ("empty", ""), ("zero", "x/0/2026-01-10T08:00:00Z")] {
        let mut odd = rig.manifest(name, json!({}));
        odd["metadata"]["annotations"] = json!({INTENT: intent});
        rig.apply(&odd);
        rig.reason(name, "CreateOutcomeUnknown").await;
    }
    let mut copy = rig.manifest("with-status", json!({"suspend": true}));
    copy["metadata"]["annotations"] = json!({INTENT: channel.metadata.annotations.as_ref().unwrap()[INTENT]});
    rig.apply(&copy);
    rig.has("with-status", "Suspended", "Suspended").await;
    let status =
        json!({"status": {"channelId": id, "boundUid": uid(&channel), "origin": "Created"}}).to_string();
    let patched = rig.kubectl(
        &["patch", "channel", "with-status", "--subresource=status", "--type=merge", "-p", &status],
        None,
    );
    assert!(patched.status.success(), "{}", String::from_utf8_lossy(&patched.stderr));
    rig.edit("with-status", json!({"spec": {"suspend": false}})).await;
    let parked = rig.reason("with-status", "CreateOutcomeUnknown").await;
    assert!(message(&parked, "Ready").contains("copied"), "{}", message(&parked, "Ready"));
    assert_eq!(rig.count(CREATE), 1);
    rig.deleted("with-status").await;
    assert_eq!(rig.count(Operation::DeleteChannel), 0, "the channel is another object's");
    assert_eq!(is(&rig.get("a").await, "Ready"), so("True", "Available"));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_copied_into_another_namespace_as_kubectl_prints_it_calls_nothing() {
    let mut rig = Rig::bare(Config::default(), &[]).await;
    let other = format!("{}-copy", rig.namespace);
    let elsewhere = |args: &[&str], stdin: Option<&str>| {
        let args: Vec<_> = ["--namespace", &other].into_iter().chain(args.iter().copied()).collect();
        let output = kubectl_as(rig.plane, User::Admin, &args, stdin);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    elsewhere(&["create", "namespace", &other], None);
    let key = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": rig.key}});
    rig.apply(&key);
    elsewhere(&["apply", "-f", "-"], Some(&key.to_string()));
    rig.workspace("default", "ohallo-api-key").await;
    let workspace = rig.kubectl(&["get", "workspace", "default", "-o", "json"], None).stdout;
    elsewhere(&["apply", "-f", "-"], Some(&moved(&workspace, &other)));
    let flag = format!("--namespace={other}");
    rig.flag(flag);
    rig.start_operator().await;
    let channel = rig.ready("a", json!({})).await;
    let printed = rig.kubectl(&["get", "channel", "a", "-o", "json"], None).stdout;
    let apply = ["--namespace", &other, "apply", "-f", "-"];
    let copied = kubectl_as(rig.plane, User::Admin, &apply, Some(&moved(&printed, &other)));
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    let copies: Api<Channel> = Api::namespaced(rig.admin.clone(), &other);
    let parked = rig
        .eventually("the copy is parked", || async {
            let copy = copies.get("a").await.unwrap();
            (is(&copy, "Ready") == so("False", "CreateOutcomeUnknown")).then_some(copy)
        })
        .await;
    let first = format!("{}/1", uid(&channel));
    assert!(message(&parked, "Ready").contains(&format!("{AGAIN}={first}")), "{}", message(&parked, "Ready"));
    assert_eq!((rig.count(CREATE), rig.sim.channels().len()), (1, 1));
    copies.delete("a", &Default::default()).await.unwrap();
    let release = Patch::Merge(json!({"metadata": {"annotations": {RELEASE: first}}}));
    copies.patch("a", &Default::default(), &release).await.unwrap();
    rig.eventually("the copy is gone", || async {
        copies.get_opt("a").await.unwrap().is_none().then_some(())
    })
    .await;
    assert_eq!(rig.count(Operation::DeleteChannel), 0);
    assert_eq!(is(&rig.get("a").await, "Ready"), so("True", "Available"));
    rig.finish().await;
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
async fn a_bound_object_that_is_replaced_gets_its_marks_back_and_no_second_channel() {
    let rig = Rig::start().await;
    let channel = rig.ready("a", json!({})).await;
    let manifest = rig.manifest("a", json!({})).to_string();
    let replaced = rig.kubectl(&["replace", "-f", "-"], Some(&manifest));
    assert!(replaced.status.success(), "{}", String::from_utf8_lossy(&replaced.stderr));
    let marked = rig
        .until("a", "marked", |channel| {
            finalized(channel)
                && channel.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(INTENT))
        })
        .await;
    assert!(marked.metadata.annotations.as_ref().unwrap()[INTENT].starts_with(&uid(&channel)));
    let channel = looked(&rig, "a", "1").await;
    assert_eq!(is(&channel, "Ready"), so("True", "Available"));
    let patched = rig.kubectl(
        &["patch", "channel", "a", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#],
        None,
    );
    assert!(patched.status.success());
    rig.until("a", "finalized again", finalized).await;
    assert_eq!((rig.count(CREATE), rig.sim.channels().len()), (1, 1));
    rig.deleted("a").await;
    assert!(rig.sim.channels().is_empty());
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_object_that_is_replaced_stays_parked_also_after_a_restart() {
    let mut rig = Rig::start().await;
    parked(&rig, "a", true).await;
    let manifest = rig.manifest("a", json!({"displayName": "Another"})).to_string();
    assert!(rig.kubectl(&["replace", "-f", "-"], Some(&manifest)).status.success());
    rig.reason("a", "CreateOutcomeUnknown").await;
    rig.stop_operator().await;
    rig.start_operator().await;
    let channel = looked(&rig, "a", "1").await;
    assert_eq!(is(&channel, "Stalled"), so("True", "CreateOutcomeUnknown"));
    assert_eq!(rig.count(CREATE), 1);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_ends_during_the_call_leaves_a_parked_object_and_its_late_answer_is_bound() {
    let mut rig = Rig::with(Config::default(), &["--create-timeout=600"]).await;
    let hold = rig.sim.add_fault(Fault::on(CREATE, Action::Hold { commit_first: true }));
    rig.create("a", json!({})).await;
    rig.sim.held(hold).await.unwrap();
    rig.kill_operator();
    rig.start_operator().await;
    let channel = rig.reason("a", "CreateOutcomeUnknown").await;
    assert!(finalized(&channel));
    looked(&rig, "a", "1").await;
    assert_eq!(rig.count(CREATE), 1);
    // The task that sent it lives on in this process, as in one that was only stopped for a while.
    rig.sim.release(hold);
    rig.until("a", "bound", |channel| bound(channel).is_some()).await;
    rig.reason("a", "Available").await;
    assert_eq!((rig.count(CREATE), rig.sim.channels().len()), (1, 1));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_that_names_another_channel_while_the_call_is_under_way_binds_neither() {
    let rig = Rig::start().await;
    let other = by_hand(&rig, "chat", "Channel a");
    let hold = rig.sim.add_fault(Fault::on(CREATE, Action::Hold { commit_first: true }).times(1));
    rig.create("a", json!({})).await;
    rig.sim.held(hold).await.unwrap();
    rig.edit("a", json!({"spec": {"channelId": other}})).await;
    rig.sim.release(hold);
    let channel = rig.reason("a", "CreateOutcomeUnknown").await;
    let made = rig.sim.channels().into_iter().find(|found| found.id != other).unwrap().id;
    let text = message(&channel, "Ready");
    assert!(text.contains(&made) && text.contains(&other), "{text}");
    assert!(channel.status.as_ref().unwrap().channel_id.is_none());
    let channel = looked(&rig, "a", "1").await;
    assert_eq!(message(&channel, "Ready"), text, "one look changes nothing");
    rig.sim.remove_channel(&made);
    rig.annotate("a", LOOK, "2").await;
    assert_eq!(id_of(&rig.reason("a", "Available").await), other);
    assert_eq!(rig.count(CREATE), 1);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_that_changes_while_the_call_is_under_way_is_applied_after_it() {
    let rig = Rig::start().await;
    for (name, policy) in [("a", "Correct"), ("b", "Report")] {
        let hold = rig.sim.add_fault(Fault::on(CREATE, Action::Hold { commit_first: true }).times(1));
        rig.create(name, json!({"driftPolicy": policy, "enabled": true})).await;
        rig.sim.held(hold).await.unwrap();
        rig.edit(name, json!({"spec": {"displayName": "Newer", "enabled": false}})).await;
        rig.sim.release(hold);
        let channel = rig.reason(name, "Disabled").await;
        let remote = rig.sim.channel(&id_of(&channel)).unwrap();
        assert_eq!((remote.display_name.as_str(), remote.enabled), ("Newer", false));
    }
    assert_eq!((rig.count(CREATE), rig.sim.channels().len()), (2, 2));
    rig.finish().await;
}
