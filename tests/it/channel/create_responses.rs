//! Every answer that oHallo may give to a create, and what follows from it.

use ohallo_sim::{Action, Config, Fault, Operation, Switch};
use serde_json::{Map, json};

use crate::support::harness::{Harness, id_of, message};
use crate::support::steps::{
    CREATE_INTENT, RECONCILE_REQUESTED, assert_settled, reconcile_now, single_event, state, state_of,
};

const CREATE: Operation = Operation::CreateChannel;
const SHORT_TIMEOUTS: [&str; 2] = ["--request-timeout=1", "--create-timeout=1"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_create_reports_why_and_is_a_new_attempt_when_requested() {
    let harness = Harness::start().await;
    for (code, reason) in [
        (400, "ValidationFailed"),
        (403, "PermissionDenied"),
        (409, "ValidationFailed"),
        (413, "ValidationFailed"),
        (415, "ValidationFailed"),
        (422, "ValidationFailed"),
    ] {
        let name = format!("c{code}");
        let before = harness.count(CREATE);
        let fault = harness.sim.add_fault(Fault::on(CREATE, Action::status(code)));
        harness.create(&name, json!({})).await;
        let channel = harness.reason(&name, reason).await;
        assert_eq!(state_of(&channel, "Stalled"), state("True", reason), "{code}");
        assert!(message(&channel, "Ready").contains(&code.to_string()), "{}", message(&channel, "Ready"));
        let create = channel.status.as_ref().unwrap().create.clone().unwrap();
        assert_eq!((create.attempt, create.outcome.as_str()), (1, "Rejected"));
        assert_eq!(harness.count(CREATE), before + 1, "{code}");
        single_event(&harness, &name, reason).await;
        harness.sim.remove_fault(fault);
        harness.annotate(&name, RECONCILE_REQUESTED, "1").await;
        let channel = harness.reason(&name, "Available").await;
        assert_eq!(harness.count(CREATE), before + 2, "{code}");
        let intent = &channel.metadata.annotations.as_ref().unwrap()[CREATE_INTENT];
        assert_eq!(intent.split('/').nth(1), Some("2"), "{intent}");
        let remote = harness.sim.channel(&id_of(&channel)).unwrap();
        assert!(remote.idempotency_key.unwrap().ends_with("/2"));
    }
    assert_eq!(harness.sim.channels().len(), 6);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_with_an_inconclusive_response_is_never_repeated() {
    let harness = Harness::with(Config::default(), &SHORT_TIMEOUTS).await;
    let status = |code, commit| Action::Status { code, body: None, headers: Vec::new(), commit };
    let body = |body: &str| Action::Body {
        code: 200,
        body: body.into(),
        content_type: "application/json".into(),
        commit: true,
    };
    let actions = [
        status(500, false),
        status(500, true),
        status(502, true),
        status(503, false),
        status(408, true),
        status(303, false),
        Action::Garbage { commit: false },
        Action::Garbage { commit: true },
        Action::Reset { commit: false },
        Action::Reset { commit: true },
        Action::Hang { commit: true },
        Action::Huge { bytes: 1 << 30 },
        Action::GzipBomb,
        body("{}"),
        body(r#"{"id":".."}"#),
        body(r#"{"id":7}"#),
        body("null"),
    ];
    for (number, action) in actions.into_iter().enumerate() {
        let name = format!("c{number}");
        let before = harness.count(CREATE);
        let fault = harness.sim.add_fault(Fault::on(CREATE, action.clone()));
        harness.create(&name, json!({})).await;
        let channel = harness.reason(&name, "CreateOutcomeUnknown").await;
        assert_eq!(state_of(&channel, "Stalled"), state("True", "CreateOutcomeUnknown"), "{action:?}");
        assert_eq!(state_of(&channel, "Ready"), state("False", "CreateOutcomeUnknown"), "{action:?}");
        let create = channel.status.as_ref().unwrap().create.clone().unwrap();
        assert_eq!((create.attempt, create.outcome.as_str()), (1, "Unknown"), "{action:?}");
        harness.sim.remove_fault(fault);
        reconcile_now(&harness, &name, "1").await;
        assert_eq!(harness.count(CREATE), before + 1, "{action:?}");
        single_event(&harness, &name, "CreateOutcomeUnknown").await;
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_that_no_server_accepts_is_sent_automatically_once_there_is_one() {
    let harness = Harness::start().await;
    harness.sim.set_listening(ohallo_sim::Listening::Refuse);
    harness.create("a", json!({})).await;
    harness.reason("a", "ApiUnavailable").await;
    harness.sim.set_listening(ohallo_sim::Listening::Accept);
    harness.reason("a", "Available").await;
    assert_eq!((harness.count(CREATE), harness.sim.channels().len()), (1, 1));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirected_create_is_not_followed_and_succeeds_once_the_redirect_ends() {
    let harness = Harness::start().await;
    let other = ohallo_sim::Sim::start(Config::default()).await.unwrap();
    for code in [307, 308] {
        let name = format!("c{code}");
        let location = format!("{}/api/workspaces/x/channels", other.url());
        let fault = harness.sim.add_fault(Fault::on(CREATE, Action::Redirect { code, location }));
        harness.create(&name, json!({})).await;
        let channel = harness.reason(&name, "UnexpectedResponse").await;
        assert_eq!(state_of(&channel, "Ready"), state("Unknown", "UnexpectedResponse"));
        assert!(message(&channel, "Ready").contains("--api-url"));
        harness.sim.remove_fault(fault);
        harness.reason(&name, "Available").await;
    }
    // A server may redirect to what it has just created.
    for code in [301, 302] {
        let name = format!("c{code}");
        let location = format!("{}/api/channels/x", other.url());
        let fault = harness.sim.add_fault(Fault::on(CREATE, Action::Redirect { code, location }));
        harness.create(&name, json!({})).await;
        harness.reason(&name, "CreateOutcomeUnknown").await;
        harness.sim.remove_fault(fault);
    }
    assert!(other.ledger().is_empty(), "a redirect was followed");
    assert_eq!((harness.count(CREATE), harness.sim.channels().len()), (6, 2));
    harness.finish().await;
}

/// The registered 4xx that have no rule of their own, and some that are not registered.
const REFUSALS: [u16; 17] =
    [402, 406, 407, 410, 411, 412, 414, 416, 417, 421, 423, 424, 425, 426, 428, 431, 451];
const UNREGISTERED: [u16; 3] = [418, 460, 499];

fn refuse(operation: Operation, code: u16) -> Fault {
    let body = json!({"error": format!("no, {code}")}).to_string();
    Fault::on(operation, Action::Body { code, body, content_type: "application/json".into(), commit: false })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f77_every_other_4xx_refuses_a_create_with_its_text_and_one_that_is_not_registered_is_not_repeated() {
    let harness = Harness::start().await;
    for code in REFUSALS {
        let name = format!("c{code}");
        let fault = harness.sim.add_fault(refuse(CREATE, code));
        harness.create(&name, json!({})).await;
        let channel = harness.reason(&name, "Rejected").await;
        assert_eq!(state_of(&channel, "Ready"), state("False", "Rejected"));
        assert!(message(&channel, "Ready").contains(&format!("({code}: no, {code})")));
        harness.sim.remove_fault(fault);
        harness.annotate(&name, RECONCILE_REQUESTED, "1").await;
        harness.reason(&name, "Available").await;
    }
    for code in UNREGISTERED {
        let name = format!("c{code}");
        let fault = harness.sim.add_fault(refuse(CREATE, code));
        harness.create(&name, json!({})).await;
        harness.reason(&name, "CreateOutcomeUnknown").await;
        harness.sim.remove_fault(fault);
    }
    assert_eq!(harness.sim.channels().len(), REFUSALS.len());
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f77_every_other_4xx_refuses_an_update_credentials_and_a_delete_and_410_is_absence_to_a_read() {
    let harness = Harness::start().await;
    harness.secret("s", &[("a", "first-value-0123456789")]).await;
    let id = id_of(&harness.ready("a", json!({"deletionPolicy": "Delete"})).await);
    for (number, code) in REFUSALS.into_iter().enumerate() {
        let fault = harness.sim.add_fault(refuse(Operation::UpdateChannel, code));
        harness.edit("a", json!({"spec": {"displayName": format!("Name {code}")}})).await;
        let channel = harness.reason("a", "Rejected").await;
        assert!(message(&channel, "Ready").contains(&format!("({code}: no, {code})")));
        harness.sim.remove_fault(fault);
        let fault = harness.sim.add_fault(refuse(Operation::StoreCredentials, code));
        let credentials = json!([{"name": format!("a{number}"), "secretKeyRef": {"name": "s", "key": "a"}}]);
        harness.edit("a", json!({"spec": {"credentials": credentials}})).await;
        let channel = harness.has("a", "CredentialsApplied", "PushFailed").await;
        let reported = message(&channel, "CredentialsApplied");
        assert!(
            reported.contains(&format!("a{number} ({code})")) && !reported.contains("no, "),
            "{reported}"
        );
        harness.sim.remove_fault(fault);
        harness.annotate("a", RECONCILE_REQUESTED, &code.to_string()).await;
        harness.reason("a", "Available").await;
    }
    let fault = harness.sim.add_fault(refuse(Operation::GetChannel, 410));
    harness.annotate("a", RECONCILE_REQUESTED, "gone").await;
    harness.reason("a", "ChannelNotFound").await;
    harness.sim.remove_fault(fault);
    harness.annotate("a", RECONCILE_REQUESTED, "there").await;
    harness.reason("a", "Available").await;
    let fault = harness.sim.add_fault(refuse(Operation::DeleteChannel, 423));
    harness.delete("a").await;
    let channel = harness.has("a", "DeletionBlocked", "Rejected").await;
    assert!(message(&channel, "DeletionBlocked").contains("(423: no, 423)"));
    harness.sim.remove_fault(fault);
    harness.wait_deleted("a").await;
    assert!(harness.sim.channel(&id).is_none());
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f79_events_arrive_however_long_names_and_texts_are() {
    let harness = Harness::start().await;
    let names = ["a".repeat(237), "b".repeat(253), format!("{}.{}", "c".repeat(234), "d".repeat(18))];
    for (name, letter) in names.iter().zip(["α", "ไ", "x"]) {
        let body = json!({"error": letter.repeat(660)}).to_string();
        let refusal =
            Action::Body { code: 422, body, content_type: "application/json".into(), commit: false };
        let fault = harness.sim.add_fault(Fault::on(CREATE, refusal));
        harness.create(name, json!({"displayName": letter.repeat(256)})).await;
        let note = harness.event(name, "ValidationFailed").await;
        assert!(note.len() <= 1024 && note.contains(letter), "{note}");
        harness.sim.remove_fault(fault);
        harness.annotate(name, RECONCILE_REQUESTED, "1").await;
        harness.event(name, "Created").await;
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_successful_create_nothing_reports_that_creates_are_unsupported() {
    let harness = Harness::start().await;
    harness.ready("a", json!({})).await;
    for code in [404, 405, 501] {
        let name = format!("c{code}");
        let fault = harness.sim.add_fault(refuse(CREATE, code));
        harness.create(&name, json!({})).await;
        harness.reason(&name, "UnexpectedResponse").await;
        harness.sim.remove_fault(fault);
        harness.annotate(&name, RECONCILE_REQUESTED, "1").await;
        harness.reason(&name, "Available").await;
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_limited_create_waits_for_retry_after_and_succeeds() {
    let harness = Harness::start().await;
    for (number, wait) in
        ["0", "-1", "1", "soon, perhaps", "Thu, 01 Jan 1970 00:00:00 GMT", ""].into_iter().enumerate()
    {
        let name = format!("c{number}");
        let before = harness.count(CREATE);
        harness.sim.add_fault(Fault::on(CREATE, Action::retry_after(429, wait)).times(1));
        harness.create(&name, json!({})).await;
        let channel = harness.reason(&name, "Available").await;
        assert_eq!(harness.count(CREATE), before + 2, "{wait:?}");
        assert!(channel.status.as_ref().unwrap().create.is_none());
        let creates = harness.sim.ledger().into_iter().filter(|entry| entry.operation == CREATE);
        let at: Vec<_> = creates.map(|entry| entry.at_ms).collect();
        let waited = at[before + 1] - at[before];
        assert!(waited >= 1000, "{wait:?} waited only {waited} ms");
    }
    assert_eq!(harness.sim.channels().len(), 6);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_retry_after_pauses_the_key_and_reports_it() {
    let harness = Harness::start().await;
    harness.sim.add_fault(Fault::on(CREATE, Action::retry_after(429, "1000000000000000000")).times(1));
    harness.create("a", json!({})).await;
    let channel = harness.reason("a", "RateLimited").await;
    assert_eq!(state_of(&channel, "Ready"), state("Unknown", "RateLimited"));
    assert!(state_of(&channel, "Reconciling").is_some() && state_of(&channel, "Stalled").is_none());
    assert_eq!(harness.count(CREATE), 1);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_rejected_only_for_the_create_is_reported_on_the_channel() {
    let harness = Harness::start().await;
    let fault = harness.sim.add_fault(Fault::on(CREATE, Action::status(401)));
    harness.create("a", json!({})).await;
    let channel = harness
        .until("a", "stalled", |channel| {
            state_of(channel, "Stalled") == state("True", "AuthenticationFailed")
        })
        .await;
    assert_eq!(state_of(&channel, "Ready"), state("False", "AuthenticationFailed"));
    // Its workspace checks the key first, within seconds.
    assert!(harness.count(CREATE) <= 8, "{}", harness.count(CREATE));
    single_event(&harness, "a", "AuthenticationFailed").await;
    harness.sim.remove_fault(fault);
    harness.annotate("a", RECONCILE_REQUESTED, "1").await;
    harness.reason("a", "Available").await;
    assert_eq!(harness.sim.channels().len(), 1);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_that_cannot_create_is_called_once_and_again_only_on_request() {
    for code in [404, 405, 501] {
        let harness = Harness::start().await;
        harness.sim.set(|behaviour| behaviour.create = Switch::Status(code));
        harness.create("a", json!({})).await;
        let channel = harness.reason("a", "CreateUnsupported").await;
        assert_eq!(state_of(&channel, "Stalled"), state("True", "CreateUnsupported"), "{code}");
        assert!(message(&channel, "Ready").contains("spec.channelId"));
        let other = harness.create("b", json!({})).await;
        assert!(other.metadata.annotations.is_none());
        let other = harness.reason("b", "CreateUnsupported").await;
        assert!(
            other.metadata.annotations.is_none_or(|all| !all.contains_key(CREATE_INTENT)),
            "no intent either"
        );
        assert_eq!(harness.count(CREATE), 1, "{code}");
        let id = crate::support::steps::insert_in_dashboard(&harness, "chat", "Channel b");
        harness.edit("b", json!({"spec": {"channelId": id}})).await;
        harness.reason("b", "Available").await;
        reconcile_now(&harness, "a", "1").await;
        assert_eq!(harness.count(CREATE), 2, "{code}");
        harness.sim.set(|behaviour| behaviour.create = Switch::On);
        harness.annotate("a", RECONCILE_REQUESTED, "2").await;
        harness.reason("a", "Available").await;
        assert_eq!((harness.count(CREATE), harness.sim.channels().len()), (3, 2));
        single_event(&harness, "a", "CreateUnsupported").await;
        harness.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_states_missing_config_and_undocumented_fields_are_accepted() {
    let harness = Harness::start().await;
    let extra: Map<_, _> =
        serde_json::from_value(json!({"future": {"deep": [1, null]}, "credentials": null})).unwrap();
    harness.sim.set(|behaviour| {
        behaviour.unknown_state = Some("hibernating".into());
        behaviour.null_config = true;
        behaviour.extra_fields = extra;
    });
    harness.create("a", json!({})).await;
    let channel = harness.reason("a", "UnknownState").await;
    assert_eq!(channel.status.as_ref().unwrap().state.as_deref(), Some("hibernating"));
    assert!(message(&channel, "Ready").contains("hibernating"));
    harness.sim.set(|behaviour| behaviour.unknown_state = None);
    harness.reason("a", "Available").await;
    assert_settled(&harness, "a").await;
    assert_eq!((harness.count(CREATE), harness.count(Operation::UpdateChannel)), (1, 0));
    harness.finish().await;
}
