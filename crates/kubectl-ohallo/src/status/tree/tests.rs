use regex::Regex;
use serde_json::json;

use super::*;

fn object(
    kind: &str,
    namespace: Option<&str>,
    name: &str,
    spec: Value,
    ready: Option<(&str, &str)>,
) -> DynamicObject {
    let conditions: Vec<_> =
        ready.iter().map(|(status, reason)| condition("Ready", status, reason)).collect();
    serde_json::from_value(json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": namespace}, "spec": spec, "status": {"conditions": conditions}}))
    .unwrap()
}

fn condition(kind: &str, status: &str, reason: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": "m", "lastTransitionTime": "2026-01-10T08:00:00Z"})
}

fn objects() -> Objects {
    let credentials = json!([{"secretRef": {"name": "mark-secret"}}, {"name": "x", "secretKeyRef": {"name": "mark-other", "key": "k"}}]);
    let mut broken = object(
        "Channel",
        Some("team"),
        "mark-broken",
        json!({"channelType": "mark-type", "credentials": credentials}),
        Some(("False", "mark-reason")),
    );
    broken.data["status"]["conditions"].as_array_mut().unwrap().push(condition(
        "Drifted",
        "True",
        "mark-drift",
    ));
    broken.data["status"]["conditions"].as_array_mut().unwrap().push(condition(
        "Connected",
        "True",
        "hidden",
    ));
    let shared =
        json!({"channelType": "chat", "workspaceRef": {"kind": "ClusterWorkspace", "name": "mark-shared"}});
    let lost = json!({"channelType": "chat", "workspaceRef": {"kind": "Workspace", "name": "mark-missing"}});
    Objects {
        channels: vec![
            broken,
            object("Channel", Some("team"), "mark-shared-channel", shared, Some(("True", "Available"))),
            object("Channel", Some("team"), "mark-lost", lost, None),
        ],
        workspaces: vec![object(
            "Workspace",
            Some("team"),
            "default",
            json!({}),
            Some(("True", "mark-verified")),
        )],
        cluster_workspaces: vec![object(
            "ClusterWorkspace",
            None,
            "mark-shared",
            json!({}),
            Some(("Unknown", "mark-unknown")),
        )],
    }
}

#[test]
fn each_channel_is_below_its_workspace_and_json_says_everything_that_the_text_says() {
    let tree = Tree::of(&objects(), None);
    let text = Regex::new("\u{1b}\\[[0-9;]*m").unwrap().replace_all(&super::text(&tree), "").into_owned();
    let lines: Vec<_> = text.lines().collect();
    let expected = [
        "ClusterWorkspace mark-shared: Unknown mark-unknown",
        "└─ team/mark-shared-channel (chat): True Available",
        "Workspace team/default: True mark-verified",
        "└─ team/mark-broken (mark-type): False mark-reason",
        "   Drifted mark-drift",
        "   Secret mark-other",
        "   Secret mark-secret",
        "Workspace team/mark-missing: does not exist, or may not be read",
        "└─ team/mark-lost (chat): Unknown NotReconciled",
        "Channels: 3: 1 Available, 1 NotReconciled, 1 mark-reason",
    ];
    assert_eq!(lines, expected);
    let json = serde_json::to_string(&tree).unwrap();
    for word in Regex::new("mark-[a-z-]+|Available|NotReconciled").unwrap().find_iter(&text) {
        assert!(json.contains(word.as_str()), "{} is not in {json}", word.as_str());
    }
    assert_eq!(tree.exit_code(), NEGATIVE);
}

#[test]
fn one_channel_is_shown_alone() {
    let tree = Tree::of(&objects(), Some("mark-shared-channel"));
    assert_eq!((tree.workspaces.len(), tree.exit_code()), (1, SUCCESS));
    assert!(Tree::of(&objects(), Some("other")).is_empty());
}
