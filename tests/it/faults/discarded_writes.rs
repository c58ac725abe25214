//! F72, F73: the API server accepts a write and does not keep it.

use ohallo_sim::{Action, Config, Fault, Operation};
use serde_json::json;

use crate::support::admission::{Policy, probed};
use crate::support::harness::{Harness, bound, id_of, message};
use crate::support::own_cluster::Own;
use crate::support::steps::{
    CREATE_INTENT, RECONCILE_REQUESTED, RELEASE, has_finalizer, insert_in_dashboard, single_event, state,
    state_of,
};

const TEST: &str = "ohallo.eu/test-requested-at";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f72_no_create_is_sent_while_admission_strips_its_intent() {
    let harness = Harness::start().await;
    probed(&harness).await;
    let policy = Policy::strips_annotation(&harness, CREATE_INTENT).await;
    harness.create("a", json!({})).await;
    let channel = harness.reason("a", "StatusNotStored").await;
    assert_eq!(state_of(&channel, "Stalled"), state("True", "StatusNotStored"));
    assert!(message(&channel, "Ready").contains(CREATE_INTENT), "{}", message(&channel, "Ready"));
    single_event(&harness, "a", "StatusNotStored").await;
    // Again and again, and not in one reconcile.
    harness
        .eventually("it is tried again", || async {
            let patches = harness.writes_of("a").iter().filter(|write| write.starts_with("patch ")).count();
            (patches >= 3).then_some(())
        })
        .await;
    harness.caught_up().await;
    let (_, metrics) = harness.http("/metrics").await;
    let passes: usize = number(&metrics, "ohallo_reconcile_total{kind=\"Channel\",result=\"stalled\"}");
    let patches = harness.writes_of("a").iter().filter(|write| write.starts_with("patch ")).count();
    assert!(patches <= passes + 1, "{patches} patches in {passes} reconciles");
    assert!(number(&metrics, "ohallo_writes_not_stored_total{kind=\"Channel\"}") >= 3);
    assert_eq!(harness.count(Operation::CreateChannel), 0);
    policy.lift().await;
    harness.annotate("a", RECONCILE_REQUESTED, "1").await;
    let channel = harness.reason("a", "Available").await;
    assert!(channel.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(CREATE_INTENT)));
    assert_eq!(harness.count(Operation::CreateChannel), 1);
    harness.finish().await;
}

/// The value of a series.
fn number(metrics: &str, series: &str) -> usize {
    let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.trim().parse::<f64>().ok());
    value.unwrap_or_default() as usize
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f72_a_finalizer_that_admission_strips_is_no_finalizer() {
    let harness = Harness::start().await;
    let id = insert_in_dashboard(&harness, "chat", "Channel adopts");
    let created = id_of(&harness.ready("created", json!({})).await);
    let policy = Policy::strips_finalizers(&harness, "channels").await;
    // Any write now takes the finalizer off.
    let tries = std::cell::Cell::new(0);
    harness
        .eventually("the policy is in force", || async {
            tries.set(tries.get() + 1);
            harness.annotate("created", RECONCILE_REQUESTED, &format!("{}", tries.get())).await;
            (!has_finalizer(&harness.get("created").await)).then_some(())
        })
        .await;
    harness.create("adopts", json!({"channelId": id})).await;
    harness.create("new", json!({})).await;
    for name in ["created", "adopts", "new"] {
        let channel = harness.reason(name, "StatusNotStored").await;
        assert_eq!(state_of(&channel, "Stalled"), state("True", "StatusNotStored"), "{name}");
    }
    assert_eq!(bound(&harness.get("adopts").await), None, "nothing is bound without a finalizer");
    let writes = harness.sim.ledger().iter().filter(|entry| entry.operation.is_write()).count();
    assert_eq!(writes, 1, "the create of before");
    policy.lift().await;
    for name in ["created", "adopts", "new"] {
        harness.annotate(name, RECONCILE_REQUESTED, "lifted").await;
        assert!(has_finalizer(&harness.reason(name, "Available").await), "{name}");
    }
    assert_eq!(id_of(&harness.get("created").await), created);
    assert_eq!((id_of(&harness.get("adopts").await), harness.count(Operation::CreateChannel)), (id, 2));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f72_a_finalizer_that_admission_puts_back_costs_no_second_delete() {
    let harness = Harness::start().await;
    harness.ready("a", json!({})).await;
    let policy = Policy::returns_finalizer(&harness).await;
    harness
        .eventually("the policy is in force", || async {
            let tried = harness.kubectl(
                &[
                    "patch",
                    "channel",
                    "a",
                    "--type=merge",
                    "-p",
                    r#"{"metadata":{"finalizers":null}}"#,
                    "--dry-run=server",
                    "-o",
                    "json",
                ],
                None,
            );
            String::from_utf8_lossy(&tried.stdout).contains("ohallo.eu/channel\"\n").then_some(())
        })
        .await;
    harness.delete("a").await;
    let channel = harness.has("a", "DeletionBlocked", "StatusNotStored").await;
    assert!(has_finalizer(&channel) && harness.sim.channels().is_empty());
    policy.lift().await;
    harness.annotate_if_there("a", RECONCILE_REQUESTED, "1").await;
    harness.wait_deleted("a").await;
    assert_eq!(harness.count(Operation::DeleteChannel), 1);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f72_an_id_that_admission_strips_stays_in_memory_and_is_written_as_soon_as_possible() {
    let harness = Harness::start().await;
    probed(&harness).await;
    let policy = Policy::strips_status(&harness, "channelId").await;
    let adopted = insert_in_dashboard(&harness, "chat", "Channel adopts");
    harness.create("adopts", json!({"channelId": adopted})).await;
    harness.create("a", json!({})).await;
    for name in ["a", "adopts"] {
        let channel = harness.reason(name, "StatusNotStored").await;
        assert_eq!(state_of(&channel, "Stalled"), state("True", "StatusNotStored"), "{name}");
        assert!(message(&channel, "Ready").contains("status.channelId"), "{name}");
    }
    let id =
        harness.sim.channels().into_iter().find(|channel| channel.display_name == "Channel a").unwrap().id;
    assert!(single_event(&harness, "a", "ChannelIdNotStored").await.contains(&id));
    assert!(single_event(&harness, "adopts", "ChannelIdNotStored").await.contains(&adopted));
    assert!(harness.events("adopts").await.iter().all(|event| event.0 != "Adopted"), "it is not bound");
    let (_, metrics) = harness.http("/metrics").await;
    assert_eq!(number(&metrics, "ohallo_ids_unrecorded"), 1);
    // Nothing is sent twice, and nothing where a tenant writes.
    harness.annotate("a", RECONCILE_REQUESTED, "1").await;
    harness
        .until("a", "tried again", |channel| {
            channel
                .status
                .as_ref()
                .is_some_and(|status| status.last_handled_reconcile_at.as_deref() == Some("1"))
        })
        .await;
    let channel = harness.get("a").await;
    let mut written = channel.clone();
    written.status = None;
    assert!(!serde_json::to_string(&written).unwrap().contains(&id));
    assert_eq!(harness.count(Operation::CreateChannel), 1);
    policy.lift().await;
    for name in ["a", "adopts"] {
        harness.annotate(name, RECONCILE_REQUESTED, "2").await;
    }
    assert_eq!(id_of(&harness.reason("a", "Available").await), id);
    assert_eq!(id_of(&harness.reason("adopts", "Available").await), adopted);
    single_event(&harness, "a", "Created").await;
    assert_eq!(harness.count(Operation::CreateChannel), 1);
    let (_, metrics) = harness.http("/metrics").await;
    assert_eq!(number(&metrics, "ohallo_ids_unrecorded"), 0);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f72_an_object_whose_id_is_stripped_is_not_deleted_in_silence() {
    let harness = Harness::start().await;
    probed(&harness).await;
    let policy = Policy::strips_status(&harness, "channelId").await;
    for name in ["a", "b"] {
        harness.create(name, json!({})).await;
        harness.reason(name, "StatusNotStored").await;
        harness.delete(name).await;
    }
    let made = |name: &str| {
        harness
            .sim
            .channels()
            .into_iter()
            .find(|channel| channel.display_name == format!("Channel {name}"))
            .unwrap()
            .id
    };
    for name in ["a", "b"] {
        let channel = harness.has(name, "DeletionBlocked", "StatusNotStored").await;
        assert!(
            message(&channel, "DeletionBlocked").contains(&format!("{RELEASE}={}", made(name))),
            "{name}"
        );
        assert!(has_finalizer(&channel));
    }
    let left = made("a");
    harness.annotate("a", RELEASE, &left).await;
    harness.wait_deleted("a").await;
    assert_eq!(harness.count(Operation::DeleteChannel), 0);
    policy.lift().await;
    harness.annotate_if_there("b", RECONCILE_REQUESTED, "1").await;
    harness.wait_deleted("b").await;
    assert_eq!((harness.count(Operation::DeleteChannel), harness.sim.channel_count()), (1, 1));
    assert!(harness.sim.channel(&left).is_some());
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f72_a_test_whose_request_is_stripped_is_not_sent() {
    let harness = Harness::start().await;
    probed(&harness).await;
    harness.ready("a", json!({})).await;
    let policy = Policy::strips_status(&harness, "test").await;
    harness.annotate("a", TEST, "1").await;
    let channel = harness.reason("a", "StatusNotStored").await;
    assert!(message(&channel, "Ready").contains("status.test"), "{}", message(&channel, "Ready"));
    assert_eq!(harness.count(Operation::TestChannel), 0);
    policy.lift().await;
    harness.annotate("a", RECONCILE_REQUESTED, "1").await;
    harness.has("a", "Connected", "TestPassed").await;
    harness.reason("a", "Available").await;
    assert_eq!(harness.count(Operation::TestChannel), 1);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f72_a_workspace_whose_finalizer_is_stripped_serves_and_reports_it_once() {
    let harness = Harness::start().await;
    let policy = Policy::strips_finalizers(&harness, "workspaces").await;
    harness
        .eventually("the policy is in force", || async {
            let patch = r#"{"metadata":{"finalizers":["example.com/probe"]}}"#;
            let tried = harness.kubectl(
                &[
                    "patch",
                    "workspace",
                    "default",
                    "--type=merge",
                    "-p",
                    patch,
                    "--dry-run=server",
                    "-o",
                    "json",
                ],
                None,
            );
            (!String::from_utf8_lossy(&tried.stdout).contains("example.com/probe")).then_some(())
        })
        .await;
    harness.ready("a", json!({})).await;
    single_event(&harness, "default", "StatusNotStored").await;
    harness.ask_workspace("default", "1").await;
    harness.workspace_reason("default", "Verified").await;
    policy.lift().await;
    harness
        .eventually("the finalizer is set", || async {
            let found = harness
                .kubectl(&["get", "workspace", "default", "-o", "jsonpath={.metadata.finalizers}"], None);
            String::from_utf8_lossy(&found.stdout).contains("ohallo.eu/in-use").then_some(())
        })
        .await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f73_an_older_definition_that_is_applied_later_loses_no_id_and_creates_no_channel() {
    let own = Own::start().await;
    let a = own.ready("a").await;
    let hold =
        own.sim.add_fault(Fault::on(Operation::CreateChannel, Action::Hold { commit_first: true }).times(1));
    own.create("held").await;
    own.sim.held(hold).await.unwrap();
    own.prunes(&["channelId"]);
    own.operator()
        .until("/readyz", 503, "channels.ohallo.eu is older than this operator and lacks status.channelId")
        .await;
    // The answer of a create that is under way comes to an API server that drops its id.
    own.sim.release(hold);
    let channel = own
        .until("held", "not stored", |channel| {
            state_of(channel, "Ready") == state("False", "StatusNotStored")
        })
        .await;
    assert_eq!(bound(&channel), None);
    let held =
        own.sim.channels().into_iter().find(|channel| channel.display_name == "Channel held").unwrap().id;
    let logged_error =
        |text: &str| own.operator().log().lines().any(|line| line.contains("ERROR") && line.contains(text));
    assert!(logged_error(&held), "the id is in the log at ERROR");
    assert!(logged_error("became older than this operator"));
    let (_, metrics) = own.operator().get("/metrics").await.unwrap();
    assert!(number(&metrics, "ohallo_crd_fields_missing") >= 1);
    own.create("later").await;
    own.until("later", "not begun", |channel| {
        state_of(channel, "Ready") == state("False", "StatusNotStored")
    })
    .await;
    // A change of a Channel whose id is stored waits: a write would destroy the id.
    own.rename("a", "Later").await;
    assert_eq!((own.sim.count(Operation::CreateChannel), own.sim.count(Operation::UpdateChannel)), (2, 0));
    own.install().await;
    own.operator().until("/readyz", 200, "").await;
    assert_eq!(own.available("a").await, a);
    assert_eq!(own.available("held").await, held);
    own.available("later").await;
    assert_eq!((own.sim.count(Operation::CreateChannel), own.sim.channel_count()), (3, 3));
    assert_eq!(own.sim.channel(&a).unwrap().display_name, "Later");
    own.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f73_an_id_that_a_users_write_pruned_is_written_again_from_memory() {
    let own = Own::start().await;
    let a = own.ready("a").await;
    own.prunes(&["channelId", "boundUid"]);
    own.until("a", "pruned", |channel| bound(channel).is_none()).await;
    // With this write the API server drops the id for good.
    own.rename("a", "Later").await;
    own.operator().until("/readyz", 503, "lacks status.boundUid, status.channelId").await;
    own.install().await;
    assert_eq!(own.available("a").await, a);
    assert_eq!((own.sim.count(Operation::CreateChannel), own.sim.count(Operation::DeleteChannel)), (1, 0));
    assert_eq!(own.sim.channel(&a).unwrap().display_name, "Later");
    let log = own.operator().log();
    assert!(
        log.lines().any(|line| line.contains("ERROR") && line.contains(&a)),
        "the id is in the log at ERROR"
    );
    own.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f73_a_deletion_policy_that_is_pruned_is_the_one_that_was_in_force() {
    let own = Own::start().await;
    own.create_with("kept", json!({"deletionPolicy": "Retain"})).await;
    let kept = own.available("kept").await;
    let a = own.ready("a").await;
    own.prunes_at("spec", &["deletionPolicy"]);
    own.until("kept", "pruned", |channel| channel.spec.deletion_policy.is_none()).await;
    // With these writes the API server drops the declared policy for good.
    own.delete("kept").await;
    own.delete("a").await;
    own.install().await;
    own.wait_deleted("kept").await;
    own.wait_deleted("a").await;
    assert!(own.sim.channel(&kept).is_some(), "Retain never deletes");
    assert!(own.sim.channel(&a).is_none());
    own.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f73_a_stop_waits_for_an_id_that_is_not_stored() {
    let mut harness = Harness::with(Config::default(), &[]).await;
    probed(&harness).await;
    let policy = Policy::strips_status(&harness, "channelId").await;
    harness.create("a", json!({})).await;
    harness.reason("a", "StatusNotStored").await;
    policy.lift().await;
    // No reconcile is begun any more; the id is written all the same.
    harness.stop_operator().await;
    let id = id_of(&harness.get("a").await);
    assert!(harness.sim.channel(&id).is_some());
    harness.start_operator().await;
    harness.reason("a", "Available").await;
    assert_eq!(harness.count(Operation::CreateChannel), 1);
    harness.finish().await;
}
