use regex::Regex;
use serde_json::json;
use strum::VariantArray;

use super::*;

const NOW: &str = "2026-01-10T08:05:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn object(kind: &str, name: &str, data: Value) -> DynamicObject {
    let mut whole = json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": "team", "generation": 2}});
    for (key, value) in data.as_object().unwrap() {
        whole[key] = value.clone();
    }
    serde_json::from_value(whole).unwrap()
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": "2026-01-10T08:00:00Z", "observedGeneration": 2})
}

fn event(reason: &str, note: &str, minute: u32) -> Event {
    serde_json::from_value(json!({"metadata": {}, "reason": reason, "note": note,
        "eventTime": format!("2026-01-10T07:{minute:02}:00.000000Z")}))
    .unwrap()
}

fn plain(text: &str) -> String {
    Regex::new("\u{1b}\\[[0-9;]*m").unwrap().replace_all(text, "").into_owned()
}

#[test]
fn every_reason_is_explained_with_its_message_and_its_commands() {
    for known in Reason::VARIANTS {
        let status =
            json!({"conditions": [condition("Ready", "False", known.as_str(), "The cause: the remedy.")]});
        let channel = object("Channel", "support", json!({"spec": {}, "status": status}));
        let why = Why::of(ObjectKind::Channel, &channel, None, Some(&[]), now());
        let text = plain(&super::text(&why));
        for part in
            [known.as_str(), "The cause: the remedy.", "Meaning: ", "To do: ", "(5m ago)", "No events."]
        {
            assert!(text.contains(part), "{known:?}: {text}");
        }
        for command in &why.conditions[0].commands {
            assert!(!command.contains("NAME") && command.ends_with(" --namespace team"), "{command}");
            assert!(text.contains(command.as_str()), "{text}");
        }
        assert_eq!(why.exit_code(), NEGATIVE);
    }
}

#[test]
fn json_says_everything_that_the_text_says() {
    let channel = object(
        "Channel",
        "mark-name",
        json!({
            "metadata": {"name": "mark-name", "namespace": "mark-namespace", "generation": 3,
                "deletionTimestamp": "2026-01-10T07:59:00Z"},
            "spec": {"channelType": "chat", "workspaceRef": {"name": "mark-workspace"}},
            "status": {
                "channelId": "mark-id", "workspaceId": "mark-workspace-id", "state": "mark-state",
                "origin": "mark-origin", "deletionPolicy": "mark-policy", "create": {"attempt": 77},
                "provisioning": {"nextAttemptAt": "mark-next"},
                "conditions": [
                    condition("DeletionBlocked", "True", "KeyUnavailable", "mark-blocked"),
                    condition("Ready", "Unknown", "WorkspaceNotReady", "mark-message"),
                    condition("Stalled", "True", "WorkspaceNotReady", "mark-stalled"),
                    condition("Connected", "True", "TestPassed", "mark-connected"),
                    condition("Drifted", "True", "mark-reason", "mark-drifted"),
                ],
            },
        }),
    );
    let status = json!({"environment": "mark-environment",
        "conditions": [condition("Ready", "False", "AuthenticationFailed", "mark-workspace-message")]});
    let workspace = object(
        "Workspace",
        "mark-workspace",
        json!({"spec": {"workspaceId": "mark-handle"}, "status": status}),
    );
    let target = Target { kind: ObjectKind::Workspace, name: "mark-workspace".to_owned() };
    let events = [event("mark-old", "mark-old-note", 1), event("mark-new", "mark-new-note", 2)];
    let why = Why::of(ObjectKind::Channel, &channel, Some(&(target, workspace)), Some(&events), now());
    let text = plain(&super::text(&why));
    let json = serde_json::to_string(&why).unwrap();
    // Words of the input, times, ages and commands.
    let words =
        Regex::new(r"mark-[a-z-]+|\d{4}-\d\d-\d\dT[\d:]+Z|\b\d+[smhd]\b|attempt \d+|kubectl ohallo [^\n]+")
            .unwrap();
    let said: Vec<_> = words.find_iter(&text).map(|word| word.as_str().trim_end()).collect();
    assert!(said.len() > 25, "{text}");
    for word in said {
        assert!(json.contains(word), "{word} is not in {json}");
    }
    for line in
        text.lines().filter_map(|line| line.split_once("Meaning: ").or_else(|| line.split_once("To do:   ")))
    {
        assert!(json.contains(line.1), "{line:?}");
    }
    assert!(!json.contains("mark-stalled"), "it repeats Ready");
    assert!(text.find("mark-new-note") < text.find("mark-old-note"), "{text}");
    assert!(text.contains("outdated") && json.contains("\"outdated\":true"));
    assert!(json.contains("kubectl ohallo release mark-name --wait --namespace mark-namespace"), "{json}");
}

#[test]
fn a_ready_object_and_one_that_no_operator_knows_are_told_apart() {
    let status = json!({"conditions": [condition("Ready", "True", "Available", "All is well.")]});
    let ready = object("Channel", "a", json!({"spec": {}, "status": status}));
    let why = Why::of(ObjectKind::Channel, &ready, None, None, now());
    assert_eq!((why.exit_code(), why.unknown.is_some()), (SUCCESS, false));
    assert!(!super::text(&why).contains("To do:"));
    let unseen = object("Channel", "a", json!({"spec": {}, "status": {"observedGeneration": -1}}));
    let why = Why::of(ObjectKind::Channel, &unseen, None, None, now());
    assert_eq!((why.exit_code(), why.unknown.is_some()), (NEGATIVE, true));
}

#[test]
fn hostile_text_of_an_object_reaches_no_terminal() {
    let hostile = "a\u{1b}[2J\u{202e}b\nc";
    let status = json!({"state": hostile, "conditions": [condition("Ready", "False", "Rejected", hostile)]});
    let channel = object("Channel", "a", json!({"spec": {}, "status": status}));
    let why = Why::of(ObjectKind::Channel, &channel, None, Some(&[event("Rejected", hostile, 1)]), now());
    let text = super::text(&why);
    assert!(!text.contains("\u{1b}[2J") && !text.contains('\u{202e}') && !text.contains("b\nc"), "{text:?}");
}

#[test]
fn an_age_has_one_unit() {
    for (since, shown) in [
        ("2026-01-10T08:04:59Z", "1s"),
        ("2026-01-10T08:00:00Z", "5m"),
        ("2026-01-10T05:00:00Z", "3h"),
        ("2026-01-01T00:00:00Z", "9d"),
        ("2026-01-10T09:00:00Z", "0s"),
    ] {
        assert_eq!(age(since.parse().unwrap(), now()), shown);
    }
}
