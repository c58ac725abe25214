//! Every rule and bound of the kinds, as a user of kubectl meets them.

use serde_json::{Value, json};

use crate::support::harness::Harness;

const EITHER: &str =
    "set either secretRef (every entry of that Secret), or name and secretKeyRef (one entry)";
const NO_SPACE: &str = "displayName can't begin or end with white space";
const ON_CHANGE: &str =
    "connectivityTest OnChange is not allowed for email, because each test sends a real email: use OnRequest";

/// A kind, what is written over a good spec (null removes a field), and the message.
type Case = (&'static str, Value, String);

fn good(kind: &str) -> Value {
    match kind {
        "Channel" => json!({"channelType": "chat", "displayName": "Good"}),
        _ => json!({"workspaceId": "w", "apiKeySecretRef": {"name": "key"}}),
    }
}

fn object(kind: &str, name: &str, over: &Value) -> Value {
    let mut spec = good(kind);
    for (key, value) in over.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn list(objects: impl IntoIterator<Item = Value>) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": objects.into_iter().collect::<Vec<_>>()}).to_string()
}

fn keys(count: usize) -> Value {
    (0..count).map(|i| (format!("k{i}"), json!(i))).collect::<serde_json::Map<_, _>>().into()
}

fn a(length: usize) -> String {
    "a".repeat(length)
}

fn sources(count: usize) -> Value {
    vec![json!({"secretRef": {"name": "a"}}); count].into()
}

fn names(count: usize) -> Value {
    json!({"names": (0..count).map(|i| format!("n{i}")).collect::<Vec<_>>()})
}

/// A name of a Secret, Workspace or key: given at `path` by `make`, which takes a value or nothing.
fn name_cases(cases: &mut Vec<Case>, kind: &'static str, path: &str, spec_with: impl Fn(Value) -> Value) {
    cases.push((kind, spec_with(json!("")), format!("spec.{path} in body should be at least 1 chars long")));
    cases.push((kind, spec_with(json!(a(254))), format!("spec.{path}: Too long: may not be more than 253")));
    cases.push((kind, spec_with(json!(7)), format!("spec.{path} in body must be of type string")));
}

/// The same for names of objects in the cluster: nothing else can be a name there.
fn object_name_cases(
    cases: &mut Vec<Case>,
    kind: &'static str,
    path: &str,
    spec_with: impl Fn(Value) -> Value,
) {
    for wrong in ["..", "../../b/secrets/c", "a/b", "a?b", "%2e", "A", "a b", "ä", "a\n", "-a", "a."] {
        cases.push((kind, spec_with(json!(wrong)), format!("spec.{path} in body should match")));
    }
    name_cases(cases, kind, path, spec_with);
}

fn id_cases(cases: &mut Vec<Case>, kind: &'static str, field: &str) {
    for wrong in [
        ".",
        "..",
        ".a",
        "../a",
        "a/b",
        "//a",
        "a b",
        "ä",
        "a?b",
        "a#b",
        "@a",
        "a:b",
        "a%2fb",
        "%2e%2e",
        "a\\b",
        "a\n",
        "a\r\nb",
        "a\u{0}",
        "\u{202e}a",
    ] {
        cases.push((kind, json!({field: wrong}), format!("spec.{field} in body should match")));
    }
    cases.push((kind, json!({field: ""}), format!("spec.{field} in body should be at least 1 chars long")));
    cases.push((kind, json!({field: a(129)}), format!("spec.{field}: Too long: may not be more than 128")));
}

fn channel_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut channel = |over: Value, reported: &str| cases.push(("Channel", over, reported.to_owned()));
    channel(json!({"channelType": null}), "spec.channelType: Required value");
    channel(json!({"channelType": "sms"}), "spec.channelType: Unsupported value: \"sms\"");
    channel(json!({"displayName": null}), "spec.displayName: Required value");
    channel(json!({"displayName": ""}), "spec.displayName in body should be at least 1 chars long");
    channel(json!({"displayName": a(257)}), "spec.displayName: Too long: may not be more than 256");
    for wrong in [" a", "a ", "a\n", "\ta", " "] {
        channel(json!({"displayName": wrong}), NO_SPACE);
    }
    channel(json!({"config": keys(65)}), "spec.config: Too many: 65: must have at most 64 items");
    channel(json!({"config": "text"}), "spec.config in body must be of type object");
    channel(json!({"config": ["list"]}), "spec.config in body must be of type object");
    channel(json!({"enabled": "yes"}), "spec.enabled in body must be of type boolean");
    channel(json!({"suspend": "no"}), "spec.suspend in body must be of type boolean");
    channel(
        json!({"credentials": sources(33)}),
        "spec.credentials: Too many: 33: must have at most 32 items",
    );
    let (whole, one) = (json!({"name": "a"}), json!({"name": "a", "key": "b"}));
    channel(json!({"credentials": [{}]}), EITHER);
    channel(json!({"credentials": [{"name": "n"}]}), EITHER);
    channel(json!({"credentials": [{"secretKeyRef": one}]}), EITHER);
    channel(json!({"credentials": [{"secretRef": whole, "name": "n"}]}), EITHER);
    channel(json!({"credentials": [{"secretRef": whole, "secretKeyRef": one}]}), EITHER);
    channel(json!({"credentials": [{"secretRef": whole, "name": "n", "secretKeyRef": one}]}), EITHER);
    channel(
        json!({"credentials": [{"secretRef": {}}]}),
        "spec.credentials[0].secretRef.name: Required value",
    );
    let half = |over: Value| json!({"credentials": [{"name": "n", "secretKeyRef": over}]});
    channel(half(json!({"key": "b"})), "spec.credentials[0].secretKeyRef.name: Required value");
    channel(half(json!({"name": "a"})), "spec.credentials[0].secretKeyRef.key: Required value");
    for (field, wrong) in [
        ("managementPolicy", "Own"),
        ("driftPolicy", "Ignore"),
        ("deletionPolicy", "Orphan"),
        ("connectivityTest", "Always"),
    ] {
        channel(json!({field: wrong}), &format!("spec.{field}: Unsupported value: \"{wrong}\""));
    }
    channel(json!({"channelType": "email", "connectivityTest": "OnChange"}), ON_CHANGE);
    let seconds = "spec.intervalSeconds in body should be";
    channel(json!({"intervalSeconds": 59}), &format!("{seconds} greater than or equal to 60"));
    channel(json!({"intervalSeconds": 86_401}), &format!("{seconds} less than or equal to 86400"));
    channel(json!({"intervalSeconds": 600.5}), "spec.intervalSeconds in body must be of type int");
    for (field, value, reported) in [
        ("limit", -1, "greater than or equal to 0"),
        ("limit", 21, "less than or equal to 20"),
        ("backoffSeconds", 9, "greater than or equal to 10"),
        ("backoffSeconds", 3601, "less than or equal to 3600"),
    ] {
        let over = json!({"provisioningRetry": {field: value}});
        channel(over, &format!("spec.provisioningRetry.{field} in body should be {reported}"));
    }
    let kind = json!({"workspaceRef": {"kind": "Namespace", "name": "a"}});
    channel(kind, "spec.workspaceRef.kind: Unsupported value: \"Namespace\"");
    channel(json!({"workspaceRef": {"kind": "ClusterWorkspace"}}), "spec.workspaceRef.name: Required value");
    id_cases(&mut cases, "Channel", "channelId");
    object_name_cases(
        &mut cases,
        "Channel",
        "workspaceRef.name",
        |name| json!({"workspaceRef": {"name": name}}),
    );
    object_name_cases(
        &mut cases,
        "Channel",
        "credentials[0].secretRef.name",
        |name| json!({"credentials": [{"secretRef": {"name": name}}]}),
    );
    name_cases(
        &mut cases,
        "Channel",
        "credentials[0].name",
        |name| json!({"credentials": [{"name": name, "secretKeyRef": {"name": "a", "key": "b"}}]}),
    );
    object_name_cases(
        &mut cases,
        "Channel",
        "credentials[0].secretKeyRef.name",
        |name| json!({"credentials": [{"name": "n", "secretKeyRef": {"name": name, "key": "b"}}]}),
    );
    name_cases(
        &mut cases,
        "Channel",
        "credentials[0].secretKeyRef.key",
        |key| json!({"credentials": [{"name": "n", "secretKeyRef": {"name": "a", "key": key}}]}),
    );
    cases
}

fn workspace_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in ["Workspace", "ClusterWorkspace"] {
        let mut workspace = |over: Value, reported: &str| cases.push((kind, over, reported.to_owned()));
        workspace(json!({"workspaceId": null}), "spec.workspaceId: Required value");
        workspace(json!({"apiKeySecretRef": null}), "spec.apiKeySecretRef: Required value");
        workspace(json!({"apiKeySecretRef": {}}), "spec.apiKeySecretRef.name: Required value");
        workspace(json!({"suspend": 1}), "spec.suspend in body must be of type boolean");
        id_cases(&mut cases, kind, "workspaceId");
        object_name_cases(
            &mut cases,
            kind,
            "apiKeySecretRef.name",
            |name| json!({"apiKeySecretRef": {"name": name}}),
        );
        name_cases(
            &mut cases,
            kind,
            "apiKeySecretRef.key",
            |key| json!({"apiKeySecretRef": {"name": "a", "key": key}}),
        );
    }
    let mut cluster = |over: Value, reported: &str| {
        cases.push(("ClusterWorkspace", json!({"allowedNamespaces": over}), reported.to_owned()));
    };
    cluster(names(257), "spec.allowedNamespaces.names: Too many: 257: must have at most 256 items");
    cluster(
        json!({"names": [""]}),
        "spec.allowedNamespaces.names[0] in body should be at least 1 chars long",
    );
    cluster(json!({"names": [a(64)]}), "spec.allowedNamespaces.names[0]: Too long: may not be more than 63");
    cluster(json!({"names": ["a", "a"]}), "spec.allowedNamespaces.names[1]: Duplicate value: \"a\"");
    cluster(json!({"selector": "a=b"}), "spec.allowedNamespaces.selector in body must be of type object");
    cases
}

/// Applies all at once and reads the message about each.
fn all_refused(harness: &Harness, cases: &[Case]) {
    let name = |i: usize| format!("{}-case-{i}-end", harness.namespace);
    let objects: Vec<_> =
        cases.iter().enumerate().map(|(i, (kind, over, _))| object(kind, &name(i), over)).collect();
    for dry in ["none", "server"] {
        // Some versions of kubectl validate on their own: what counts here is the server's answer.
        let args = ["apply", "--validate=false", &format!("--dry-run={dry}"), "-f", "-"];
        let output = harness.kubectl(&args, Some(&list(objects.clone())));
        // As Kubernetes says it since 1.32.
        let reported =
            String::from_utf8_lossy(&output.stderr).replace("may not be longer than", "may not be more than");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "something was accepted");
        // A message may go over several lines; each names its object.
        let about = |i: usize| format!("{}\" is invalid", name(i));
        for (i, (kind, over, sentence)) in cases.iter().enumerate() {
            let message = reported.split_once(&about(i)).map(|(_, rest)| rest);
            let message = message.unwrap_or_else(|| panic!("{kind} {over}: no message in {reported}"));
            let message = message.split_once(&about(i + 1)).map_or(message, |(message, _)| message);
            assert!(message.contains(sentence.as_str()), "{kind} {over}: {sentence:?} is not in {message}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_breaks_a_rule_is_refused_with_a_sentence_also_by_a_dry_run() {
    let harness = Harness::bare(Default::default(), &[]).await;
    all_refused(&harness, &channel_cases());
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workspace_that_breaks_a_rule_is_refused_with_a_sentence_also_by_a_dry_run() {
    let harness = Harness::bare(Default::default(), &[]).await;
    all_refused(&harness, &workspace_cases());
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_that_does_not_exist_is_refused_by_name() {
    let harness = Harness::bare(Default::default(), &[]).await;
    for (kind, over, field) in [
        ("Channel", json!({"nmae": 1}), "spec.nmae"),
        ("Channel", json!({"credentials": [{"secretRef": {"name": "a", "namespace": "b"}}]}), "namespace"),
        ("Workspace", json!({"apiUrl": "https://example.com"}), "spec.apiUrl"),
    ] {
        let reported = harness.refused(&object(kind, "unknown", &over));
        assert!(reported.contains("unknown field") && reported.contains(field), "{reported}");
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_just_fits_every_bound_is_accepted() {
    let harness = Harness::bare(Default::default(), &[]).await;
    let one = json!({"name": a(253), "secretKeyRef": {"name": a(253), "key": a(253), "optional": true}});
    let long = json!({
        "displayName": "ä".repeat(256), "config": keys(64), "enabled": false, "credentials": sources(32),
        "channelId": a(128), "intervalSeconds": 86_400, "deletionPolicy": "Retain",
        "provisioningRetry": {"limit": 20, "backoffSeconds": 3600},
        "workspaceRef": {"kind": "ClusterWorkspace", "name": a(253)},
        "connectivityTest": "OnChange", "managementPolicy": "Observe", "driftPolicy": "Report",
    });
    let short = json!({
        "channelType": "email", "displayName": "a", "config": {}, "credentials": [one], "channelId": "_",
        "intervalSeconds": 60, "provisioningRetry": {"limit": 0, "backoffSeconds": 10},
        "connectivityTest": "OnRequest",
    });
    let ids = ["~a.b", "-", "a..b", "A-Z_0~9."].map(|id| json!({"channelId": id}));
    let workspace = json!({"workspaceId": a(128), "apiKeySecretRef": {"name": a(253), "key": a(253)}});
    let mut cluster = workspace.clone();
    cluster["allowedNamespaces"] = names(256);
    cluster["allowedNamespaces"]["names"][0] = json!(a(63));
    cluster["allowedNamespaces"]["selector"] = json!({});
    let mut cases = vec![("Channel", long), ("Channel", short)];
    cases.extend(ids.map(|id| ("Channel", id)));
    cases.extend(["whatsapp", "voice"].map(|kind| ("Channel", json!({"channelType": kind}))));
    cases.extend([("Workspace", workspace), ("ClusterWorkspace", cluster)]);
    let name = |i: usize| format!("{}-fits-{i}", harness.namespace);
    let objects = cases.iter().enumerate().map(|(i, (kind, over))| object(kind, &name(i), over));
    let output = harness.kubectl(&["apply", "--dry-run=server", "-f", "-"], Some(&list(objects)));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    harness.finish().await;
}
