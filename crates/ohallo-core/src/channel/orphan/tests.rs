use serde_json::{Value, json};

use super::*;
use crate::api::channel::Channel;
use crate::api::finalizer;
use crate::channel::binding::AttemptId;
use crate::channel::in_memory_state::{self, AttemptOutcome};
use crate::channel::last_seen::is_unprotected;
use crate::channel::object_cache::ObjectCache;
use crate::channel::persisted::RecordedBinding;
use crate::remote::{Id, RemoteChannel};

const UID: &str = "uid-1";
const INTENT: &str = "uid-1/1/2026-01-10T07:00:00Z";

fn channel(metadata: Value, status: Value) -> Channel {
    let mut all = json!({"name": "a", "namespace": "t", "uid": UID});
    all.as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
    let (api, kind) = ("ohallo.eu/v1alpha1", "Channel");
    let object = json!({"apiVersion": api, "kind": kind, "metadata": all, "spec": {"channelType": "chat"}, "status": status});
    serde_json::from_value(object).unwrap()
}

fn intent(text: &str) -> Value {
    json!({"annotations": {"ohallo.eu/create-intent": text}})
}

fn bound() -> Value {
    json!({"channelId": "c1", "boundUid": UID})
}

fn attempt(number: i64, outcome: AttemptOutcome) -> InMemoryState {
    let own = in_memory_state::CreateAttempt {
        intent: Some(INTENT.into()),
        last: true,
        ..in_memory_state::CreateAttempt::new(number, outcome)
    };
    InMemoryState { attempt: Some(own), ..InMemoryState::default() }
}

fn answered(id: &str) -> InMemoryState {
    let remote = RemoteChannel {
        id: Id::parse(id).unwrap(),
        ..crate::channel::fixtures::Sample::bound().remote().clone()
    };
    attempt(1, AttemptOutcome::Answered(Box::new(remote)))
}

fn of_uid(uid: &str, number: i64) -> Vec<String> {
    vec![AttemptId { uid: uid.into(), number }.to_string()]
}

fn left(channel: &Channel, memory: &InMemoryState) -> Vec<String> {
    let whole = orphans(&LastSeen::of(channel), memory);
    // The same result from the cached object.
    let mut light = channel.clone();
    ObjectCache::default().take_in(&mut light);
    assert_eq!(orphans(&LastSeen::of(&light), memory), whole);
    whole.iter().map(ToString::to_string).collect()
}

#[test]
fn f76_every_object_that_ends_with_a_channel_leaves_its_id_or_the_attempt_and_what_the_operator_ended_leaves_nothing()
 {
    let (none, c1) = (Vec::<String>::new(), vec!["c1".to_owned()]);
    let memory = InMemoryState::default;
    let just = |edit: fn(&mut InMemoryState)| {
        let mut memory = InMemoryState::default();
        edit(&mut memory);
        memory
    };
    let record = |outcome: &str| json!({"create": {"attempt": 1, "outcome": outcome}});
    let again =
        json!({"annotations": {"ohallo.eu/create-intent": INTENT, "ohallo.eu/create-again": "uid-1/1"}});
    let removed = |uid: &str| json!({"annotations": {"ohallo.eu/finalizer-removed": uid}});
    let copied = json!({"channelId": "c9", "boundUid": "uid-9"});
    for (what, metadata, status, memory, expected) in [
        ("nothing was sent", json!({}), json!({}), memory(), none.clone()),
        ("bound", json!({}), bound(), memory(), c1.clone()),
        ("bound, with its intent", intent(INTENT), bound(), memory(), c1.clone()),
        (
            "bound, in another case",
            json!({}),
            json!({"channelId": "D4E5F6A7-B8C9-0123-DEF0-456789ABCDEF", "boundUid": UID}),
            memory(),
            vec!["d4e5f6a7-b8c9-0123-def0-456789abcdef".into()],
        ),
        (
            "bound since it was seen",
            json!({}),
            json!({}),
            just(|it| {
                let binding = RecordedBinding { channel_id: "c1".into(), workspace_id: None, origin: None };
                it.binding = Some(Box::new(binding));
            }),
            c1.clone(),
        ),
        ("its end was reported", json!({}), bound(), just(|it| it.deletion_reported = true), none.clone()),
        (
            "its finalizer was being removed",
            json!({}),
            bound(),
            just(|it| it.removes_finalizer = true),
            none.clone(),
        ),
        ("an earlier process removed it", removed(UID), bound(), memory(), none.clone()),
        (
            "a forged marker while this process is the leader",
            removed(UID),
            bound(),
            just(|it| it.protected = true),
            c1.clone(),
        ),
        ("a copy of such an object", removed("uid-9"), bound(), memory(), c1.clone()),
        ("deleted in oHallo", json!({}), bound(), just(|it| it.deleted = true), none.clone()),
        (
            "a DELETE without an answer",
            json!({}),
            bound(),
            just(|it| it.delete_unsure = Some(crate::test_clock::instant())),
            c1.clone(),
        ),
        ("under way", intent(INTENT), json!({}), attempt(1, AttemptOutcome::InFlight), of_uid(UID, 1)),
        ("answered", intent(INTENT), json!({}), answered("c1"), c1.clone()),
        (
            "answered, bound to another",
            intent(INTENT),
            bound(),
            answered("c2"),
            vec!["c2".into(), "c1".into()],
        ),
        ("unknown to this process", intent(INTENT), json!({}), memory(), of_uid(UID, 1)),
        ("unknown", intent(INTENT), record("Unknown"), attempt(1, AttemptOutcome::Unknown), of_uid(UID, 1)),
        ("recorded as unknown, without the intent", json!({}), record("Unknown"), memory(), of_uid(UID, 1)),
        ("refused", intent(INTENT), json!({}), attempt(1, AttemptOutcome::Rejected), none.clone()),
        ("not sent", intent(INTENT), json!({}), attempt(1, AttemptOutcome::NotSent), none.clone()),
        ("recorded as refused", intent(INTENT), record("Rejected"), memory(), none.clone()),
        ("given up by a person", again, record("Unknown"), memory(), none.clone()),
        ("a malformed intent", intent("x"), json!({}), memory(), of_uid(UID, 0)),
        (
            "an intent of another object",
            intent("uid-9/2/2026-01-10T07:00:00Z"),
            json!({}),
            memory(),
            of_uid("uid-9", 2),
        ),
        ("a copied status", json!({}), copied.clone(), memory(), none.clone()),
        (
            "a copied status and intent",
            intent("uid-9/2/2026-01-10T07:00:00Z"),
            copied.clone(),
            memory(),
            none.clone(),
        ),
        ("a copied status, and an own create", intent(INTENT), copied, memory(), of_uid(UID, 1)),
    ] {
        assert_eq!(left(&channel(metadata, status), &memory), expected, "{what}");
    }
}

#[test]
fn an_object_is_unprotected_once_only_finalizers_of_others_keep_it() {
    let deleted = "2026-01-10T08:00:00Z";
    for (what, metadata, expected) in [
        ("living", json!({"finalizers": ["example.com/a"]}), false),
        (
            "terminating",
            json!({"deletionTimestamp": deleted, "finalizers": ["example.com/a", finalizer::CHANNEL]}),
            false,
        ),
        ("kept by others", json!({"deletionTimestamp": deleted, "finalizers": ["example.com/a"]}), true),
    ] {
        assert_eq!(is_unprotected(&channel(metadata, json!({}))), expected, "{what}");
    }
}
