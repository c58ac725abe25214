use serde_json::{Value, json};

use super::*;
use crate::channel::sample::{INTENT, Sample};

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
    // What is read again from oHallo, or only shown, may be dropped.
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
        ("/create/attempt", Field::Create),
        ("/create/outcome", Field::Create),
        ("/applied/enabled", Field::Applied),
        ("/applied/digest", Field::Applied),
        ("/credentials/keys", Field::Credentials),
        ("/credentials/sources", Field::Credentials),
        ("/credentials/sources/0/resourceVersion", Field::Credentials),
        ("/provisioning/attempts", Field::Provisioning),
        ("/provisioning/handledRequest", Field::Provisioning),
        ("/test/request", Field::Test),
        ("/test/result", Field::Test),
        ("/conditions/0/observedGeneration", Field::Conditions),
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
    // An answer that came without its large parts says nothing of them.
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
        (true, None, Some(INTENT), vec![Field::Intent]),
        (true, Some(other), Some(INTENT), vec![Field::Intent]),
        (true, Some(""), Some(INTENT), vec![Field::Intent]),
        (false, Some(INTENT), Some(INTENT), vec![Field::Finalizer]),
        (false, None, None, vec![Field::Finalizer]),
        (false, None, Some(INTENT), vec![Field::Finalizer, Field::Intent]),
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
    let metadata = failure(&[Field::Finalizer, Field::Intent]);
    assert!(metadata.message.contains("finalizer ohallo.eu/channel, annotation ohallo.eu/create-intent"));
    assert!(metadata.message.contains("webhook"), "{}", metadata.message);
    let schema = failure(&[Field::ChannelId]);
    assert!(
        schema.message.contains("status.channelId") && schema.message.contains("CustomResourceDefinitions")
    );
    for failure in [metadata, schema, finalizer_returned(), outdated("status.test")] {
        assert_eq!((failure.need, failure.reason), (Need::Cluster, Reason::StatusNotStored));
    }
}
