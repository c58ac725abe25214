use serde_json::{Value, json};

use super::*;
use crate::channel::fixtures::{INTENT, Sample};
use crate::channel::persisted::RecordedBinding;
use crate::failure::Retry;

/// Every field of the status has a value.
fn full() -> Value {
    let at = "2026-01-10T08:00:00Z";
    let condition = |kind: &str, reason: &str| json!({"type": kind, "status": "True", "reason": reason, "message": "m", "lastTransitionTime": at, "observedGeneration": 2});
    json!({
        "observedGeneration": 2, "channelId": "c1", "boundUid": "uid-1", "workspaceId": "ws1", "origin": "Created", "state": "active",
        "deletionPolicy": "Delete", "createdAt": at, "readWith": "0123456789abcdef",
        "create": {"attempt": 1, "outcome": "Unknown", "sentAt": at}, "applied": {"enabled": true, "digest": "d"},
        "credentials": {"keys": ["apiKey"], "pushedAt": at, "sources": [{"name": "s", "uid": "u", "resourceVersion": "7"}]},
        "provisioning": {"attempts": 2, "lastAttemptAt": at, "nextAttemptAt": at, "handledRequest": "1"},
        "test": {"request": "1", "finishedAt": at, "result": "Passed", "handledRequest": "1"},
        "drift": [{"path": "displayName", "declared": "a", "actual": "b"}], "plannedChanges": ["update displayName"],
        "lastHandledReconcileAt": "1", "conditions": [condition("Ready", "Available"), condition("Drifted", "DriftDetected")],
    })
}

fn status(value: Value) -> ChannelStatus {
    serde_json::from_value(value).unwrap()
}

#[test]
fn each_pruned_field_that_a_decision_rests_on_is_named_and_no_other() {
    // Fields that the operator can read from oHallo again, or that are only shown, may be dropped.
    let shown = ["state", "deletionPolicy", "createdAt", "drift", "plannedChanges", "lastHandledReconcileAt"];
    let Value::Object(fields) = full() else { unreachable!() };
    for name in fields.keys() {
        let mut pruned = full();
        pruned.as_object_mut().unwrap().remove(name);
        let lost: Vec<_> =
            lost_status(&status(full()), Some(&status(pruned))).iter().map(|field| field.name()).collect();
        let named = format!("status.{name}");
        let expected: &[&str] = if shown.contains(&name.as_str()) { &[] } else { &[&named] };
        assert_eq!(lost, expected, "{name}");
    }
}

#[test]
fn each_pruned_member_of_a_field_is_a_field_that_is_not_kept() {
    for (pointer, field) in [
        ("/create/attempt", PersistedField::Create),
        ("/create/outcome", PersistedField::Create),
        ("/applied/enabled", PersistedField::Applied),
        ("/applied/digest", PersistedField::Applied),
        ("/credentials/keys", PersistedField::Credentials),
        ("/credentials/sources", PersistedField::Credentials),
        ("/credentials/sources/0/resourceVersion", PersistedField::Credentials),
        ("/provisioning/attempts", PersistedField::Provisioning),
        ("/provisioning/handledRequest", PersistedField::Provisioning),
        ("/test/request", PersistedField::Test),
        ("/test/result", PersistedField::Test),
        ("/conditions/0/observedGeneration", PersistedField::Conditions),
    ] {
        let mut pruned = full();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        pruned.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
        assert_eq!(lost_status(&status(full()), Some(&status(pruned))), [field], "{pointer}");
    }
}

#[test]
fn what_the_api_server_may_change_is_kept() {
    let sent = status(full());
    let mut other = full();
    other["conditions"].as_array_mut().unwrap().reverse();
    other["conditions"][0]["message"] = "cut…".into();
    other["credentials"]["pushedAt"] = "2026-01-10T08:00:01Z".into();
    assert_eq!(lost_status(&sent, Some(&status(other))), []);
    // A response that was truncated proves no loss of the omitted parts.
    let cut = ChannelStatus { credentials: None, conditions: Vec::new(), left_out: true, ..sent.clone() };
    assert_eq!(lost_status(&sent, Some(&cut)), []);
    assert_eq!(lost_status(&sent, None).len(), 12, "an object without a status keeps nothing");
    assert_eq!(lost_status(&ChannelStatus::default(), None), []);
}

#[test]
fn a_patch_counts_when_the_returned_object_shows_the_finalizer_and_the_very_intent() {
    let other = "uid-1/2/2026-01-10T07:00:00Z";
    let both = Sample::bound().channel;
    let stripped = |finalizer: bool, intent: Option<&str>| {
        let mut channel = both.clone();
        channel.metadata.annotations = intent
            .map(|text| [(annotation::CREATE_INTENT.to_owned(), text.to_owned())].into_iter().collect());
        if !finalizer {
            channel.metadata.finalizers = Some(vec!["example.com/other".into()]);
        }
        channel
    };
    for (finalizer, stored, sent, lost) in [
        (true, Some(INTENT), Some(INTENT), vec![]),
        (true, None, None, vec![]),
        (true, Some(other), None, vec![]),
        (true, None, Some(INTENT), vec![PersistedField::Intent]),
        (true, Some(other), Some(INTENT), vec![PersistedField::Intent]),
        (true, Some(""), Some(INTENT), vec![PersistedField::Intent]),
        (false, Some(INTENT), Some(INTENT), vec![PersistedField::Finalizer]),
        (false, None, None, vec![PersistedField::Finalizer]),
        (false, None, Some(INTENT), vec![PersistedField::Finalizer, PersistedField::Intent]),
    ] {
        assert_eq!(
            lost_metadata(sent, &stripped(finalizer, stored)),
            lost,
            "{finalizer} {stored:?} {sent:?}"
        );
    }
}

#[test]
fn the_message_names_each_field_and_what_to_change() {
    let metadata = failure(&[PersistedField::Finalizer, PersistedField::Intent]);
    assert!(metadata.message.contains("finalizer ohallo.eu/channel, annotation ohallo.eu/create-intent"));
    assert!(metadata.message.contains("webhook"), "{}", metadata.message);
    let schema = failure(&[PersistedField::ChannelId]);
    assert!(
        schema.message.contains("status.channelId") && schema.message.contains("CustomResourceDefinitions")
    );
    for failure in [metadata, schema, finalizer_returned(), outdated("status.test")] {
        assert_eq!((failure.retry, failure.reason), (Retry::ClusterAction, Reason::StatusNotStored));
    }
}

#[test]
fn a_binding_is_put_back_into_a_status_that_lost_its_id_and_over_no_other() {
    let bound = Sample::bound();
    let uid = bound.channel.metadata.uid.clone().unwrap();
    let binding = RecordedBinding::of(&bound.status, &uid).unwrap();
    assert_eq!(RecordedBinding::of(&bound.status, "uid-0"), None, "a copied status binds nothing");
    for (stored, named, restored) in [
        (None, None, true),
        (None, Some("c1"), true),
        (None, Some("c2"), false),
        (Some("c1"), None, false),
        (Some("c2"), None, false),
    ] {
        let mut channel = bound.channel.clone();
        channel.spec.channel_id = named.map(Into::into);
        let mut status = ChannelStatus { channel_id: stored.map(Into::into), ..ChannelStatus::default() };
        let before = status.clone();
        assert_eq!(binding.restore(&channel, &mut status), restored, "{stored:?} {named:?}");
        let expected = if restored { Some("c1") } else { None };
        assert_eq!(status.bound_to(&uid), expected, "{stored:?} {named:?}");
        assert_eq!(status.origin.as_deref(), expected.and(Some("Created")));
        assert!(restored || status == before);
    }
}

#[test]
fn a_status_is_sent_again_while_the_object_shows_the_same_loss() {
    let sample = Sample::bound();
    let sent = &sample.status;
    let lost = [PersistedField::ChannelId];
    let pruned = ChannelStatus { channel_id: None, ..sent.clone() };
    let with = |status: &ChannelStatus| Channel { status: Some(status.clone()), ..sample.channel.clone() };
    assert_eq!(resent(&with(&pruned), Some(sent), &lost).as_ref(), Some(sent));
    assert_eq!(resent(&with(&pruned), None, &lost), None, "nothing was sent");
    assert_eq!(resent(&with(sent), Some(sent), &lost), None, "it is stored");
    let edited = ChannelStatus { origin: None, ..pruned.clone() };
    assert_eq!(resent(&with(&edited), Some(sent), &lost), None, "another writer changed it");
    let mut named = with(&pruned);
    named.spec.channel_id = Some("c2".into());
    assert_eq!(resent(&named, Some(sent), &lost), None, "the manifest names another channel");
    named.spec.channel_id = Some("c1".into());
    assert!(resent(&named, Some(sent), &lost).is_some());
    let mut terminating = Sample::terminating().channel;
    terminating.status = Some(pruned);
    assert_eq!(resent(&terminating, Some(sent), &lost), None, "a deletion is planned separately");
}

#[test]
fn a_loss_is_not_ready_stalls_and_is_retried_ever_later() {
    let mut sample = Sample::bound();
    let mut wakes = Vec::new();
    for _ in 0..12 {
        let outcome = Outcome::Failed(failure(&[PersistedField::ChannelId]));
        let summary = sample.summarize(&outcome);
        assert_eq!(summary.result.as_str(), "stalled");
        for kind in ["Ready", "Stalled"] {
            let status = if kind == "Ready" { "False" } else { "True" };
            assert_eq!(
                crate::channel::fixtures::condition(&summary.status, kind),
                Some((status, "StatusNotStored"))
            );
        }
        wakes.push(summary.wake.unwrap().as_millis());
        sample = sample.after(&outcome);
    }
    // In the middle of the jitter.
    assert_eq!(wakes[..5], [500, 1000, 2000, 4000, 8000]);
    assert_eq!(wakes[11], 150_000, "up to five minutes");
    let deleted = Sample::terminating().summarize(&Outcome::Failed(finalizer_returned()));
    let blocked = crate::channel::fixtures::condition(&deleted.status, "DeletionBlocked");
    assert_eq!(blocked, Some(("True", "StatusNotStored")));
}
