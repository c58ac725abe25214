use super::*;

const REQUEST: &str = "2026-01-10T08:05:00.000Z";

fn now() -> Timestamp {
    REQUEST.parse().unwrap()
}

fn channel(data: Value) -> DynamicObject {
    let mut whole = json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel",
        "metadata": {"name": "a", "uid": "u1", "generation": 2}, "spec": {"channelType": "chat"}, "status": {}});
    for (key, value) in data.as_object().unwrap() {
        for (inner, value) in value.as_object().unwrap() {
            whole[key][inner] = value.clone();
        }
    }
    serde_json::from_value(whole).unwrap()
}

fn plan(verb: Verb, object: &DynamicObject) -> Result<Change, String> {
    Change::plan(&verb, ObjectKind::Channel, object, now())
}

fn deleted(status: Value) -> DynamicObject {
    channel(json!({"metadata": {"deletionTimestamp": "2026-01-10T08:00:00Z"}, "status": status}))
}

#[test]
fn each_verb_writes_what_a_user_would_set_by_hand() {
    let bound = channel(json!({"status": {"channelId": "c1"}}));
    let unresolved = channel(json!({"status": {"create": {"attempt": 3, "outcome": "Unknown"}}}));
    let annotation = |name: &str, value: &str| annotated(&format!("ohallo.eu/{name}"), value);
    for (verb, object, patch, asks) in [
        (Verb::Reconcile, &bound, annotation("reconcile-requested-at", REQUEST), false),
        (Verb::Test, &bound, annotation("test-requested-at", REQUEST), false),
        (Verb::Retry, &bound, annotation("retry-requested-at", REQUEST), false),
        (Verb::Suspend(true), &bound, json!({"spec": {"suspend": true}}), false),
        (Verb::Suspend(false), &bound, json!({"spec": {"suspend": false}}), false),
        (Verb::Release, &deleted(json!({"channelId": "c1"})), annotation("release", "c1"), true),
        (
            Verb::Release,
            &deleted(json!({"create": {"attempt": 3, "outcome": "Unknown"}})),
            annotation("release", "u1/3"),
            true,
        ),
        (Verb::ConfirmDeletion { despite_claims: false }, &bound, annotation("confirm-deletion", "c1"), true),
        (
            Verb::ConfirmDeletion { despite_claims: true },
            &bound,
            annotation("confirm-deletion", "c1/u1"),
            true,
        ),
        (Verb::CreateAgain, &unresolved, annotation("create-again", "u1/3"), true),
        (Verb::Adopt("c2".into()), &unresolved, json!({"spec": {"channelId": "c2"}}), true),
    ] {
        let change = plan(verb.clone(), object).unwrap_or_else(|error| panic!("{verb:?}: {error}"));
        assert_eq!((change.patch, change.question.is_some()), (patch, asks), "{verb:?}");
    }
    let email = channel(json!({"spec": {"channelType": "email"}}));
    assert!(plan(Verb::Test, &email).unwrap().question.is_some(), "a real email");
    let despite = plan(Verb::ConfirmDeletion { despite_claims: true }, &bound).unwrap().question.unwrap();
    assert!(despite.contains("although Channels of other namespaces claim it"), "{despite}");
}

#[test]
fn the_end_of_a_suspension_asks_where_it_deletes_a_channel() {
    let suspended = |deleted: bool, spec: Value| {
        let mut whole = json!({"suspend": true});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let status = json!({"channelId": "c1"});
        let metadata = if deleted { json!({"deletionTimestamp": "2026-01-10T08:00:00Z"}) } else { json!({}) };
        channel(json!({"metadata": metadata, "spec": whole, "status": status}))
    };
    for (object, kind, asks) in [
        (suspended(true, json!({})), ObjectKind::Channel, true),
        (suspended(true, json!({"deletionPolicy": "Delete"})), ObjectKind::Channel, true),
        (suspended(true, json!({"deletionPolicy": "Retain"})), ObjectKind::Channel, false),
        (suspended(true, json!({"managementPolicy": "Observe"})), ObjectKind::Channel, false),
        (suspended(true, json!({"suspend": false})), ObjectKind::Channel, false),
        (suspended(false, json!({})), ObjectKind::Channel, false),
        (suspended(false, json!({})), ObjectKind::Workspace, true),
        (suspended(false, json!({"suspend": false})), ObjectKind::Workspace, false),
    ] {
        let change = Change::plan(&Verb::Suspend(false), kind, &object, now()).unwrap();
        assert_eq!(change.question.is_some(), asks, "{kind:?}: {object:?}");
    }
}

#[test]
fn a_verb_that_does_not_fit_the_object_is_refused() {
    let plain = channel(json!({}));
    for (verb, object) in [
        (Verb::Release, channel(json!({"status": {"channelId": "c1"}}))),
        (Verb::Release, deleted(json!({}))),
        (Verb::Release, deleted(json!({"create": {"attempt": 3, "outcome": "Rejected"}}))),
        (Verb::ConfirmDeletion { despite_claims: true }, plain.clone()),
        (Verb::CreateAgain, plain.clone()),
        (Verb::CreateAgain, channel(json!({"status": {"create": {"attempt": 1, "outcome": "NotSent"}}}))),
    ] {
        assert!(plan(verb.clone(), &object).is_err(), "{verb:?}");
    }
    for verb in [Verb::Test, Verb::Retry, Verb::Release, Verb::CreateAgain, Verb::Adopt("c".into())] {
        assert!(Change::plan(&verb, ObjectKind::Workspace, &plain, now()).is_err(), "{verb:?}");
    }
    assert!(Change::plan(&Verb::Suspend(true), ObjectKind::ClusterWorkspace, &plain, now()).is_ok());
}

#[test]
fn a_verb_is_done_when_the_operator_reports_it_and_not_before() {
    let one = |kind: &str, status: &str, message: &str| {
        json!({"type": kind, "status": status, "reason": "R", "message": message,
            "lastTransitionTime": "2026-01-10T08:00:00Z"})
    };
    let ready = |status: &str| json!([one("Ready", status, "m.")]);
    let suspended = json!([one("Ready", "True", "m."), one("Suspended", "True", "")]);
    let failed = json!([one("Connected", "False", "refused.")]);
    let stalled = json!([one("Ready", "False", "held."), one("Stalled", "True", "")]);
    let (waiting, done) =
        (|progress| progress == Progress::Waiting, |progress| matches!(progress, Progress::Done(_)));
    let failing = |progress| matches!(progress, Progress::Failed(_));
    type Check = fn(Progress) -> bool;
    let cases: Vec<(Verb, Value, Check)> = vec![
        (Verb::Reconcile, json!({"lastHandledReconcileAt": "other", "conditions": ready("True")}), waiting),
        (Verb::Reconcile, json!({"lastHandledReconcileAt": REQUEST, "conditions": ready("False")}), done),
        (Verb::Test, json!({"test": {"request": "other", "result": "Passed"}}), waiting),
        (Verb::Test, json!({"test": {"request": REQUEST}}), waiting),
        (Verb::Test, json!({"test": {"request": REQUEST, "result": "Passed"}}), done),
        (
            Verb::Test,
            json!({"test": {"request": REQUEST, "result": "Failed"}, "conditions": failed}),
            failing,
        ),
        (Verb::Retry, json!({"provisioning": {"handledRequest": "other"}}), waiting),
        (Verb::Retry, json!({"provisioning": {"handledRequest": REQUEST}}), done),
        (Verb::Suspend(true), json!({"observedGeneration": 1, "conditions": suspended}), waiting),
        (Verb::Suspend(true), json!({"observedGeneration": 2, "conditions": suspended}), done),
        (Verb::Suspend(false), json!({"observedGeneration": 2, "conditions": suspended}), waiting),
        (Verb::Suspend(false), json!({"observedGeneration": 2, "conditions": ready("True")}), done),
        (Verb::Adopt("c2".into()), json!({"observedGeneration": 2}), waiting),
        (Verb::Adopt("c2".into()), json!({"channelId": "c2"}), done),
        (Verb::Adopt("c2".into()), json!({"observedGeneration": 2, "conditions": stalled}), failing),
    ];
    for (verb, status, check) in cases {
        let change = plan(verb.clone(), &channel(json!({}))).unwrap();
        let progress = change.progress(&channel(json!({})), Some(&channel(json!({"status": status}))));
        assert!(check(progress.clone()), "{verb:?} {status}: {progress:?}");
    }
}

#[test]
fn an_object_that_disappears_ends_the_wait() {
    let object = deleted(json!({"channelId": "c1"}));
    let other = channel(json!({"metadata": {"uid": "u2"}}));
    for (verb, is_done) in [
        (Verb::Release, true),
        (Verb::ConfirmDeletion { despite_claims: false }, true),
        (Verb::Reconcile, false),
    ] {
        let change = plan(verb.clone(), &object).unwrap();
        for now in [None, Some(&other)] {
            assert_eq!(matches!(change.progress(&object, now), Progress::Done(_)), is_done, "{verb:?}");
        }
        assert_eq!(change.progress(&object, Some(&object)), Progress::Waiting, "{verb:?}");
    }
    let living = channel(json!({"status": {"channelId": "c1"}}));
    let confirmed = plan(Verb::ConfirmDeletion { despite_claims: false }, &living).unwrap();
    assert!(matches!(confirmed.progress(&living, Some(&living)), Progress::Done(_)), "nothing to wait for");
}
