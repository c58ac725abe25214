//! Every answer that oHallo may give to a create, and what follows from it.

use ohallo_sim::{Action, Config, Fault, Operation, Switch};
use serde_json::{Map, json};

use crate::acts::{INTENT, LOOK, at_rest, is, looked, once, so};
use crate::rig::{Rig, id_of, message};

const CREATE: Operation = Operation::CreateChannel;
const QUICK: [&str; 2] = ["--request-timeout=1", "--create-timeout=1"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_that_is_refused_says_why_and_is_a_new_attempt_when_asked_again() {
    let rig = Rig::start().await;
    for (code, reason) in [
        (400, "ValidationFailed"),
        (403, "PermissionDenied"),
        (409, "ValidationFailed"),
        (413, "ValidationFailed"),
        (415, "ValidationFailed"),
        (422, "ValidationFailed"),
    ] {
        let name = format!("c{code}");
        let before = rig.count(CREATE);
        let fault = rig.sim.add_fault(Fault::on(CREATE, Action::status(code)));
        rig.create(&name, json!({})).await;
        let channel = rig.reason(&name, reason).await;
        assert_eq!(is(&channel, "Stalled"), so("True", reason), "{code}");
        assert!(message(&channel, "Ready").contains(&code.to_string()), "{}", message(&channel, "Ready"));
        let create = channel.status.as_ref().unwrap().create.clone().unwrap();
        assert_eq!((create.attempt, create.outcome.as_str()), (1, "Rejected"));
        assert_eq!(rig.count(CREATE), before + 1, "{code}");
        once(&rig, &name, reason).await;
        rig.sim.remove_fault(fault);
        rig.annotate(&name, LOOK, "1").await;
        let channel = rig.reason(&name, "Available").await;
        assert_eq!(rig.count(CREATE), before + 2, "{code}");
        let intent = &channel.metadata.annotations.as_ref().unwrap()[INTENT];
        assert_eq!(intent.split('/').nth(1), Some("2"), "{intent}");
        let remote = rig.sim.channel(&id_of(&channel)).unwrap();
        assert!(remote.idempotency_key.unwrap().ends_with("/2"));
    }
    assert_eq!(rig.sim.channels().len(), 6);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_whose_answer_says_nothing_is_never_sent_again() {
    let rig = Rig::with(Config::default(), &QUICK).await;
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
        let before = rig.count(CREATE);
        let fault = rig.sim.add_fault(Fault::on(CREATE, action.clone()));
        rig.create(&name, json!({})).await;
        let channel = rig.reason(&name, "CreateOutcomeUnknown").await;
        assert_eq!(is(&channel, "Stalled"), so("True", "CreateOutcomeUnknown"), "{action:?}");
        assert_eq!(is(&channel, "Ready"), so("False", "CreateOutcomeUnknown"), "{action:?}");
        let create = channel.status.as_ref().unwrap().create.clone().unwrap();
        assert_eq!((create.attempt, create.outcome.as_str()), (1, "Unknown"), "{action:?}");
        rig.sim.remove_fault(fault);
        looked(&rig, &name, "1").await;
        assert_eq!(rig.count(CREATE), before + 1, "{action:?}");
        once(&rig, &name, "CreateOutcomeUnknown").await;
    }
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_that_no_server_takes_is_sent_by_itself_once_there_is_one() {
    let rig = Rig::start().await;
    rig.sim.set_listening(ohallo_sim::Listening::Refuse);
    rig.create("a", json!({})).await;
    rig.reason("a", "ApiUnavailable").await;
    rig.sim.set_listening(ohallo_sim::Listening::Accept);
    rig.reason("a", "Available").await;
    assert_eq!((rig.count(CREATE), rig.sim.channels().len()), (1, 1));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirected_create_is_not_followed_and_succeeds_once_the_redirect_is_gone() {
    let rig = Rig::start().await;
    let other = ohallo_sim::Sim::start(Config::default()).await.unwrap();
    for code in [307, 308] {
        let name = format!("c{code}");
        let location = format!("{}/api/workspaces/x/channels", other.url());
        let fault = rig.sim.add_fault(Fault::on(CREATE, Action::Redirect { code, location }));
        rig.create(&name, json!({})).await;
        let channel = rig.reason(&name, "UnexpectedResponse").await;
        assert_eq!(is(&channel, "Ready"), so("Unknown", "UnexpectedResponse"));
        assert!(message(&channel, "Ready").contains("--api-url"));
        rig.sim.remove_fault(fault);
        rig.reason(&name, "Available").await;
    }
    // A server may redirect to what it has just created.
    for code in [301, 302] {
        let name = format!("c{code}");
        let location = format!("{}/api/channels/x", other.url());
        let fault = rig.sim.add_fault(Fault::on(CREATE, Action::Redirect { code, location }));
        rig.create(&name, json!({})).await;
        rig.reason(&name, "CreateOutcomeUnknown").await;
        rig.sim.remove_fault(fault);
    }
    assert!(other.ledger().is_empty(), "a redirect was followed");
    assert_eq!((rig.count(CREATE), rig.sim.channels().len()), (6, 2));
    rig.finish().await;
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
    let rig = Rig::start().await;
    for code in REFUSALS {
        let name = format!("c{code}");
        let fault = rig.sim.add_fault(refuse(CREATE, code));
        rig.create(&name, json!({})).await;
        let channel = rig.reason(&name, "Rejected").await;
        assert_eq!(is(&channel, "Ready"), so("False", "Rejected"));
        assert!(message(&channel, "Ready").contains(&format!("({code}: no, {code})")));
        rig.sim.remove_fault(fault);
        rig.annotate(&name, LOOK, "1").await;
        rig.reason(&name, "Available").await;
    }
    for code in UNREGISTERED {
        let name = format!("c{code}");
        let fault = rig.sim.add_fault(refuse(CREATE, code));
        rig.create(&name, json!({})).await;
        rig.reason(&name, "CreateOutcomeUnknown").await;
        rig.sim.remove_fault(fault);
    }
    assert_eq!(rig.sim.channels().len(), REFUSALS.len());
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f77_every_other_4xx_refuses_an_update_credentials_and_a_delete_and_410_is_absence_to_a_read() {
    let rig = Rig::start().await;
    rig.secret("s", &[("a", "first-value-0123456789")]).await;
    let id = id_of(&rig.ready("a", json!({"deletionPolicy": "Delete"})).await);
    for (number, code) in REFUSALS.into_iter().enumerate() {
        let fault = rig.sim.add_fault(refuse(Operation::UpdateChannel, code));
        rig.edit("a", json!({"spec": {"displayName": format!("Name {code}")}})).await;
        let channel = rig.reason("a", "Rejected").await;
        assert!(message(&channel, "Ready").contains(&format!("({code}: no, {code})")));
        rig.sim.remove_fault(fault);
        let fault = rig.sim.add_fault(refuse(Operation::StoreCredentials, code));
        let credentials = json!([{"name": format!("a{number}"), "secretKeyRef": {"name": "s", "key": "a"}}]);
        rig.edit("a", json!({"spec": {"credentials": credentials}})).await;
        let channel = rig.has("a", "CredentialsApplied", "PushFailed").await;
        let said = message(&channel, "CredentialsApplied");
        assert!(said.contains(&format!("a{number} ({code})")) && !said.contains("no, "), "{said}");
        rig.sim.remove_fault(fault);
        rig.annotate("a", LOOK, &code.to_string()).await;
        rig.reason("a", "Available").await;
    }
    let fault = rig.sim.add_fault(refuse(Operation::GetChannel, 410));
    rig.annotate("a", LOOK, "gone").await;
    rig.reason("a", "ChannelNotFound").await;
    rig.sim.remove_fault(fault);
    rig.annotate("a", LOOK, "there").await;
    rig.reason("a", "Available").await;
    let fault = rig.sim.add_fault(refuse(Operation::DeleteChannel, 423));
    rig.delete("a").await;
    let channel = rig.has("a", "DeletionBlocked", "Rejected").await;
    assert!(message(&channel, "DeletionBlocked").contains("(423: no, 423)"));
    rig.sim.remove_fault(fault);
    rig.gone("a").await;
    assert!(rig.sim.channel(&id).is_none());
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f79_events_arrive_however_long_names_and_texts_are() {
    let rig = Rig::start().await;
    let names = ["a".repeat(237), "b".repeat(253), format!("{}.{}", "c".repeat(234), "d".repeat(18))];
    for (name, letter) in names.iter().zip(["α", "ไ", "x"]) {
        let body = json!({"error": letter.repeat(660)}).to_string();
        let refusal =
            Action::Body { code: 422, body, content_type: "application/json".into(), commit: false };
        let fault = rig.sim.add_fault(Fault::on(CREATE, refusal));
        rig.create(name, json!({"displayName": letter.repeat(256)})).await;
        let note = rig.event(name, "ValidationFailed").await;
        assert!(note.len() <= 1024 && note.contains(letter), "{note}");
        rig.sim.remove_fault(fault);
        rig.annotate(name, LOOK, "1").await;
        rig.event(name, "Created").await;
    }
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_a_create_succeeded_nothing_says_that_creates_are_not_supported() {
    let rig = Rig::start().await;
    rig.ready("a", json!({})).await;
    for code in [404, 405, 501] {
        let name = format!("c{code}");
        let fault = rig.sim.add_fault(refuse(CREATE, code));
        rig.create(&name, json!({})).await;
        rig.reason(&name, "UnexpectedResponse").await;
        rig.sim.remove_fault(fault);
        rig.annotate(&name, LOOK, "1").await;
        rig.reason(&name, "Available").await;
    }
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_limited_create_waits_as_told_and_succeeds_by_itself() {
    let rig = Rig::start().await;
    for (number, wait) in
        ["0", "-1", "1", "soon, perhaps", "Thu, 01 Jan 1970 00:00:00 GMT", ""].into_iter().enumerate()
    {
        let name = format!("c{number}");
        let before = rig.count(CREATE);
        rig.sim.add_fault(Fault::on(CREATE, Action::retry_after(429, wait)).times(1));
        rig.create(&name, json!({})).await;
        let channel = rig.reason(&name, "Available").await;
        assert_eq!(rig.count(CREATE), before + 2, "{wait:?}");
        assert!(channel.status.as_ref().unwrap().create.is_none());
        let creates = rig.sim.ledger().into_iter().filter(|entry| entry.operation == CREATE);
        let at: Vec<_> = creates.map(|entry| entry.at_ms).collect();
        let waited = at[before + 1] - at[before];
        assert!(waited >= 1000, "{wait:?} waited only {waited} ms");
    }
    assert_eq!(rig.sim.channels().len(), 6);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_retry_after_pauses_the_key_and_says_so() {
    let rig = Rig::start().await;
    rig.sim.add_fault(Fault::on(CREATE, Action::retry_after(429, "1000000000000000000")).times(1));
    rig.create("a", json!({})).await;
    let channel = rig.reason("a", "RateLimited").await;
    assert_eq!(is(&channel, "Ready"), so("Unknown", "RateLimited"));
    assert!(is(&channel, "Reconciling").is_some() && is(&channel, "Stalled").is_none());
    assert_eq!(rig.count(CREATE), 1);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_refused_only_for_the_create_is_said_to_be_the_channels_matter() {
    let rig = Rig::start().await;
    let fault = rig.sim.add_fault(Fault::on(CREATE, Action::status(401)));
    rig.create("a", json!({})).await;
    let channel = rig
        .until("a", "stalled", |channel| is(channel, "Stalled") == so("True", "AuthenticationFailed"))
        .await;
    assert_eq!(is(&channel, "Ready"), so("False", "AuthenticationFailed"));
    // Its workspace looks at the key first, within seconds.
    assert!(rig.count(CREATE) <= 8, "{}", rig.count(CREATE));
    once(&rig, "a", "AuthenticationFailed").await;
    rig.sim.remove_fault(fault);
    rig.annotate("a", LOOK, "1").await;
    rig.reason("a", "Available").await;
    assert_eq!(rig.sim.channels().len(), 1);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_that_cannot_create_is_asked_once_and_again_only_when_a_person_asks() {
    for code in [404, 405, 501] {
        let rig = Rig::start().await;
        rig.sim.set(|behaviour| behaviour.create = Switch::Status(code));
        rig.create("a", json!({})).await;
        let channel = rig.reason("a", "CreateUnsupported").await;
        assert_eq!(is(&channel, "Stalled"), so("True", "CreateUnsupported"), "{code}");
        assert!(message(&channel, "Ready").contains("spec.channelId"));
        let other = rig.create("b", json!({})).await;
        assert!(other.metadata.annotations.is_none());
        let other = rig.reason("b", "CreateUnsupported").await;
        assert!(other.metadata.annotations.is_none_or(|all| !all.contains_key(INTENT)), "no intent either");
        assert_eq!(rig.count(CREATE), 1, "{code}");
        let id = crate::acts::by_hand(&rig, "chat", "Channel b");
        rig.edit("b", json!({"spec": {"channelId": id}})).await;
        rig.reason("b", "Available").await;
        looked(&rig, "a", "1").await;
        assert_eq!(rig.count(CREATE), 2, "{code}");
        rig.sim.set(|behaviour| behaviour.create = Switch::On);
        rig.annotate("a", LOOK, "2").await;
        rig.reason("a", "Available").await;
        assert_eq!((rig.count(CREATE), rig.sim.channels().len()), (3, 2));
        once(&rig, "a", "CreateUnsupported").await;
        rig.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_nobody_knows_no_config_and_more_fields_than_documented_are_taken_as_they_are() {
    let rig = Rig::start().await;
    let extra: Map<_, _> =
        serde_json::from_value(json!({"future": {"deep": [1, null]}, "credentials": null})).unwrap();
    rig.sim.set(|behaviour| {
        behaviour.unknown_state = Some("hibernating".into());
        behaviour.null_config = true;
        behaviour.extra_fields = extra;
    });
    rig.create("a", json!({})).await;
    let channel = rig.reason("a", "UnknownState").await;
    assert_eq!(channel.status.as_ref().unwrap().state.as_deref(), Some("hibernating"));
    assert!(message(&channel, "Ready").contains("hibernating"));
    rig.sim.set(|behaviour| behaviour.unknown_state = None);
    rig.reason("a", "Available").await;
    at_rest(&rig, "a").await;
    assert_eq!((rig.count(CREATE), rig.count(Operation::UpdateChannel)), (1, 0));
    rig.finish().await;
}
