use crate::api::finalizer;
use serde_json::{Value, json};

use super::*;
use crate::channel::binding;
use crate::channel::fixtures::{ID, INTENT, Sample, UID};
use crate::channel::model::{DeletionOutcome, Outcome, Plan, Step};
use crate::failure::{Failure, Retry};

/// Ready, as the last reconcile wrote it.
fn ready(sample: Sample) -> Channel {
    let outcome = Outcome::Settled(sample.verdict());
    let mut left = sample.after(&outcome);
    left.channel.status = Some(left.status.clone());
    left.channel
}

fn created() -> Channel {
    ready(Sample::bound())
}

fn adopted() -> Channel {
    ready(Sample::bound().with(|it| {
        it.channel.spec.channel_id = Some(ID.into());
        it.channel.metadata.annotations = None;
        it.status.origin = Some("Adopted".into());
    }))
}

fn observed() -> Channel {
    ready(Sample::adopting().with(|it| it.channel.spec.management_policy = Some("Observe".into())))
}

/// The object after an edit: a merge of each pointer.
fn edited(channel: &Channel, edits: &[(&str, Value)]) -> Channel {
    let mut object = serde_json::to_value(channel).unwrap();
    for (pointer, value) in edits {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let name = name.replace("~1", "/");
        let parent = object.pointer_mut(parent).unwrap();
        match parent {
            Value::Array(items) => items[name.parse::<usize>().unwrap()] = value.clone(),
            Value::Object(fields) if value.is_null() => drop(fields.remove(&name)),
            other => other[name.as_str()] = value.clone(),
        }
    }
    serde_json::from_value(object).unwrap()
}

#[test]
fn what_an_operator_left_as_it_should_be_waits_for_its_interval_after_a_restart() {
    let disabled = ready(Sample::bound().with(|it| {
        it.channel.spec.enabled = Some(false);
        it.applied();
    }));
    let pinned = edited(&created(), &[("/spec/channelId", json!(ID))]);
    let reported = ready(Sample::bound().with(|it| {
        it.channel.spec.drift_policy = Some("Report".into());
        it.remote().display_name = Some("Another".into());
    }));
    let retried = ready(Sample::bound().with(|it| it.annotate(annotation::RETRY_REQUESTED, "1")));
    for channel in [created(), adopted(), observed(), disabled, pinned, reported, retried] {
        assert!(pushed_at_rest(&channel).is_some(), "{channel:?}");
    }
}

/// Every field of the status, the finalizer and the annotation: edited or removed while no operator ran.
fn edits() -> Vec<(&'static str, Value)> {
    let time = json!("2026-01-01T00:00:00Z");
    vec![
        ("/metadata/finalizers", Value::Null),
        ("/metadata/finalizers", json!(["example.com/other"])),
        ("/metadata/annotations/ohallo.eu~1create-intent", Value::Null),
        ("/metadata/annotations/ohallo.eu~1create-intent", json!("uid-0/1/2026-01-10T07:00:00Z")),
        ("/metadata/annotations/ohallo.eu~1create-intent", json!("torn")),
        ("/status", Value::Null),
        ("/status/observedGeneration", Value::Null),
        ("/status/observedGeneration", json!(9)),
        ("/status/channelId", Value::Null),
        ("/status/boundUid", Value::Null),
        ("/status/boundUid", json!("uid-0")),
        ("/status/workspaceId", Value::Null),
        ("/status/origin", Value::Null),
        ("/status/origin", json!("Found")),
        ("/status/state", Value::Null),
        ("/status/state", json!("error")),
        ("/status/deletionPolicy", Value::Null),
        ("/status/deletionPolicy", json!("Retain")),
        ("/status/readWith", Value::Null),
        ("/status/create", json!({"attempt": 1, "outcome": "Rejected"})),
        ("/status/create", json!({"attempt": 2, "outcome": "Unknown", "sentAt": time})),
        ("/status/provisioning", json!({"attempts": 3, "nextAttemptAt": time})),
        ("/status/test", json!({"request": "1"})),
        ("/status/drift", json!([{"path": "displayName", "declared": "a", "actual": "b"}])),
        ("/status/plannedChanges", json!(["update displayName"])),
        ("/status/lastHandledReconcileAt", json!("1")),
        ("/status/conditions", Value::Null),
        ("/status/conditions", json!([])),
        ("/status/conditions/0/observedGeneration", json!(9)),
        ("/status/conditions/0/reason", json!("Observed")),
        ("/status/conditions/0/status", json!("False")),
    ]
}

#[test]
fn what_was_edited_while_no_operator_ran_is_reconciled_at_once() {
    for (pointer, value) in edits() {
        let channel = edited(&created(), &[(pointer, value.clone())]);
        assert_eq!(pushed_at_rest(&channel), None, "{pointer} {value}");
    }
    let declared = edited(&created(), &[("/spec/enabled", json!(true))]);
    assert_eq!(pushed_at_rest(&declared), None, "enabled was never sent");
    for (pointer, value) in [("/status/channelId", json!("c2")), ("/status/boundUid", json!("uid-0"))] {
        assert_eq!(pushed_at_rest(&edited(&adopted(), &[(pointer, value)])), None, "{pointer}");
    }
    let foreign = [("/status/channelId", json!("c2")), ("/status/boundUid", json!("uid-0"))];
    assert_eq!(pushed_at_rest(&edited(&observed(), &foreign)), None);
}

/// The input of the first reconcile after a restart; oHallo has the channel as before.
fn restarted(channel: &Channel) -> Sample {
    let mut sample = Sample::bound();
    sample.channel = channel.clone();
    sample.status = binding::trusted_status(channel);
    sample
}

#[test]
fn no_edit_of_a_status_creates_a_second_channel_or_a_false_ready() {
    for (pointer, value) in edits() {
        let sample = restarted(&edited(&created(), &[(pointer, value.clone())]));
        let plan = sample.plan();
        assert!(
            !matches!(plan, Plan::Work(Step::WriteIntent { .. } | Step::Delete { .. })),
            "{pointer}: {plan:?}"
        );
        let Plan::Settled(verdict) = plan else { continue };
        let bound = sample.status.bound_to(UID).is_some();
        let status = sample.summarize(&Outcome::Settled(verdict)).status;
        let is_ready = conditions::is_true(&status.conditions, kind::READY);
        assert_eq!(is_ready, bound, "{pointer} {value}: {status:?}");
        // It is complete again, and settled.
        let mut healed = sample.channel.clone();
        healed.status = Some(status);
        assert_eq!(pushed_at_rest(&healed).is_some(), bound, "{pointer} {value}: {healed:?}");
    }
}

#[test]
fn whatever_the_outcome_a_copied_status_is_not_ready() {
    let failure =
        |need| Failure { retry: need, ..Failure::transient(Reason::ApiUnavailable, "It is tried again.") };
    let s = std::time::Duration::from_secs;
    let needs = [
        Retry::Backoff,
        Retry::RetryAfter(s(30)),
        Retry::Deferred(s(1)),
        Retry::MissingInput,
        Retry::UserAction,
        Retry::ClusterAction,
    ];
    for (edit, value) in [("/status/boundUid", json!("uid-0")), ("/status/boundUid", Value::Null)] {
        for base in [created(), adopted()] {
            let sample = restarted(&edited(&base, &[(edit, value.clone())])).with(|it| {
                // As if it had just been read: nothing has expired.
                it.memory.last_read_at = Some(it.instant);
            });
            let suspended = sample.clone().with(|it| it.channel.spec.suspend = Some(true));
            let paused = suspended.settle();
            let failed = needs.map(|need| sample.summarize(&Outcome::Failed(failure(need))));
            let more = sample.summarize(&Outcome::More);
            for summary in failed.into_iter().chain([paused, more]) {
                let ready = conditions::is_true(&summary.status.conditions, kind::READY);
                assert!(!ready && !summary.silent, "{:?}", summary.status.conditions);
            }
        }
    }
    // Its own status is kept.
    let own = restarted(&created()).with(|it| it.memory.last_read_at = Some(it.instant));
    let kept = own.summarize(&Outcome::Failed(failure(Retry::Backoff)));
    assert!(conditions::is_true(&kept.status.conditions, kind::READY));
}

#[test]
fn finalizer_and_intent_are_put_back_before_anything_else_is_done() {
    for (pointer, value) in edits().into_iter().filter(|(pointer, _)| pointer.starts_with("/metadata")) {
        let sample = restarted(&edited(&created(), &[(pointer, value)]))
            .with(|it| it.channel.spec.display_name = Some("New".into()));
        assert_eq!(sample.step(), Step::RestoreMetadata, "{pointer}");
    }
    let lost = restarted(&edited(&adopted(), &[("/metadata/finalizers", Value::Null)]));
    assert_eq!(lost.step(), Step::RestoreMetadata);
    let other = edited(&adopted(), &[("/metadata/annotations", json!({annotation::CREATE_INTENT: "x"}))]);
    assert!(matches!(restarted(&other).plan(), Plan::Settled(_)), "an adopted channel needs no intent");
}

/// The object is deleted before the first reconcile after the edit.
fn terminating(channel: &Channel, retain: bool) -> Plan {
    let mut sample = restarted(channel);
    if retain {
        sample.channel.spec.deletion_policy = Some("Retain".into());
    }
    sample.terminate();
    sample.channel.metadata.finalizers = Some(vec![finalizer::CHANNEL.into()]);
    sample.status = binding::trusted_status(&sample.channel);
    sample.plan()
}

#[test]
fn a_copied_status_is_nobodys_order_to_delete_and_retain_never_deletes() {
    let deletes = |plan: &Plan| matches!(plan, Plan::Work(Step::Delete { .. }));
    assert!(deletes(&terminating(&created(), false)), "the sample itself is deleted");
    let copied = [("/status/boundUid", json!("uid-0"))];
    for channel in [edited(&created(), &copied), edited(&adopted(), &copied)] {
        let plan = terminating(&channel, false);
        let kept = matches!(&plan, Plan::Work(Step::RemoveFinalizer(DeletionOutcome::Retained)));
        let settled = matches!(&plan, Plan::Settled(_));
        assert!(kept || settled, "{plan:?}");
    }
    for (pointer, value) in edits() {
        for base in [created(), adopted()] {
            if pointer.contains("annotations/") && base.metadata.annotations.is_none() {
                continue;
            }
            let channel = edited(&base, &[(pointer, value.clone())]);
            assert!(!deletes(&terminating(&channel, true)), "Retain: {pointer} {value}");
        }
        let channel = edited(&adopted_created(), &[(pointer, value.clone())]);
        let bound = channel.status.as_ref().and_then(|status| status.bound_to(UID)).is_some();
        assert!(bound || !deletes(&terminating(&channel, false)), "{pointer} {value}");
    }
}

/// Created, and its id is pinned in the manifest.
fn adopted_created() -> Channel {
    edited(&created(), &[("/spec/channelId", json!(ID))])
}

#[test]
fn an_origin_that_was_taken_away_is_what_the_intent_shows() {
    for (base, intent, deletes, origin) in [
        (created(), Some(INTENT), true, "Created"),
        (created(), None, false, "Adopted"),
        (created(), Some("uid-0/1/2026-01-10T07:00:00Z"), false, "Adopted"),
        (adopted(), None, false, "Adopted"),
    ] {
        let annotations = intent.map_or(Value::Null, |text| json!({annotation::CREATE_INTENT: text}));
        let edits = [("/metadata/annotations", annotations), ("/status/origin", Value::Null)];
        let channel = edited(&base, &edits);
        assert_eq!(
            delete::should_delete_remote(&channel, channel.status.as_ref().unwrap()),
            deletes,
            "{intent:?}"
        );
        let sample = restarted(&channel);
        assert_eq!(sample.settle().status.origin.as_deref(), Some(origin), "{intent:?}");
    }
}

#[test]
fn a_workspace_id_that_was_taken_away_is_that_of_the_channel_that_was_read() {
    let channel = edited(&created(), &[("/status/workspaceId", Value::Null)]);
    assert_eq!(restarted(&channel).settle().status.workspace_id.as_deref(), Some("ws1"));
    // Unknown, where oHallo does not report it.
    let silent = restarted(&channel).with(|it| it.remote().workspace_id = None);
    assert_eq!(silent.settle().status.workspace_id, None);
}
