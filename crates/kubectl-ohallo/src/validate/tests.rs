use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::validate::notes::Topic;
use crate::validate::report::Counts;

const SECRET: &str =
    "apiVersion: v1\nkind: Secret\nmetadata: {name: ohallo-api-key}\nstringData: {apiKey: sf_test_v1_a}\n";
const WORKSPACE: &str = "apiVersion: ohallo.eu/v1alpha1\nkind: Workspace\nmetadata: {name: default}\nspec: {workspaceId: w, apiKeySecretRef: {name: ohallo-api-key}}\n";

fn channel(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: ohallo.eu/v1alpha1\nkind: Channel\nmetadata: {{name: {name}}}\nspec: {{channelType: chat, displayName: A{spec}}}\n"
    )
}

fn report(documents_of_file: &[&str]) -> Report {
    let kinds = Kinds::embedded().unwrap();
    let context = Context { kinds: &kinds, base: &Base::default(), namespace: "default" };
    let text = documents_of_file.join("---\n");
    context.file(Source { name: "file.yaml".to_owned(), within: None, text: Ok(text) }).finish()
}

fn topics(documents: &[&str]) -> Vec<Topic> {
    let report = report(documents);
    assert_eq!(report.exit_code(), 0, "{}", format::text(&report));
    report.notes.iter().map(|note| note.topic).collect()
}

#[test]
fn a_complete_set_of_manifests_has_no_notes_whatever_their_order() {
    let credentials =
        channel("a", ", credentials: [{name: x, secretKeyRef: {name: ohallo-api-key, key: apiKey}}]");
    assert!(topics(&[SECRET, WORKSPACE, &credentials]).is_empty());
    assert!(topics(&[&credentials, WORKSPACE, SECRET]).is_empty());
}

#[test]
fn what_other_documents_or_the_operator_make_of_a_valid_channel_is_noted() {
    let of = |spec: &str| topics(&[SECRET, WORKSPACE, &channel("a", spec)]);
    for (spec, topic) in [
        (", workspaceRef: {name: other}", Topic::WorkspaceNotHere),
        (", workspaceRef: {kind: ClusterWorkspace, name: shared}", Topic::WorkspaceNotHere),
        (", credentials: [{secretRef: {name: other}}]", Topic::SecretNotHere),
        (
            ", credentials: [{name: x, secretKeyRef: {name: ohallo-api-key, key: other}}]",
            Topic::SecretKeyNotHere,
        ),
        (
            ", credentials: [{secretRef: {name: ohallo-api-key}}, {name: apiKey, secretKeyRef: {name: ohallo-api-key, key: apiKey}}]",
            Topic::CredentialTwice,
        ),
    ] {
        assert_eq!(of(spec), [topic], "{spec}");
    }
    for quiet in [
        ", credentials: [{secretRef: {name: other, optional: true}}]",
        ", credentials: [{name: x, secretKeyRef: {name: other, key: token, optional: true}}]",
    ] {
        assert!(of(quiet).is_empty(), "{quiet}");
    }
    let large = format!(", config: {{a: {}}}", "x".repeat(70_000));
    assert_eq!(of(&large), [Topic::OperatorRefuses]);
}

#[test]
fn a_phone_number_without_a_deletion_policy_is_noted() {
    for (spec, noted) in [
        ("channelType: voice", true),
        ("channelType: whatsapp", true),
        ("channelType: email", false),
        ("channelType: voice, deletionPolicy: Delete", false),
        ("channelType: voice, managementPolicy: Observe", false),
    ] {
        let text = channel("a", "").replace("channelType: chat", spec);
        let found = topics(&[SECRET, WORKSPACE, &text]);
        assert_eq!(found, vec![Topic::DeletionPolicyOpen; usize::from(noted)], "{spec}");
    }
}

#[test]
fn two_channels_with_one_id_and_an_annotation_of_the_operator_are_noted() {
    let (one, two) = (channel("a", ", channelId: c1"), channel("b", ", channelId: c1"));
    let found = report(&[SECRET, WORKSPACE, &one, &two]).notes;
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].topic, found[0].object.as_str()), (Topic::SameChannelId, "Channel default/b"));
    assert!(found[0].message.contains("Channel default/a"));
    let intent =
        channel("a", "").replace("{name: a}", "{name: a, annotations: {ohallo.eu/create-intent: x}}");
    assert_eq!(topics(&[SECRET, WORKSPACE, &intent]), [Topic::OperatorAnnotation]);
}

#[test]
fn a_live_key_in_clear_text_is_noted_and_never_shown() {
    let clear = SECRET.replace("sf_test_v1_a", "sf_live_v1_canary");
    let encoded = SECRET.replace("stringData", "data").replace("sf_test_v1_a", "c2ZfbGl2ZV92MV9jYW5hcnk=");
    for secret in [clear, encoded] {
        let report = report(&[&secret, WORKSPACE]);
        assert_eq!(report.notes.iter().map(|note| note.topic).collect::<Vec<_>>(), [Topic::LiveKey]);
        for text in every_format(&report) {
            assert!(!text.contains("canary") && !text.contains("c2Zf"), "{text}");
        }
    }
}

fn every_format(report: &Report) -> [String; 5] {
    [
        format::text(report),
        format::json(report).unwrap(),
        format::junit(report).unwrap(),
        format::github(report),
        format::sarif(report).unwrap(),
    ]
}

#[test]
fn every_format_names_each_finding_with_its_place() {
    let wrong = channel("a", ", colour: red").replace("displayName: A", "displayName: A, enabled: maybe");
    let report =
        report(&[SECRET, WORKSPACE, "a: [\n", &wrong, "apiVersion: ohallo.eu/v1alpha1\nkind: Chanel\n"]);
    assert_eq!(report.counts, report::Counts { valid: 1, invalid: 3, unreadable: 0, other: 1 });
    assert_eq!(report.exit_code(), 1);
    let [text, json, junit, github, sarif] = every_format(&report);
    assert!(text.contains("file.yaml:16:59: "), "{text}");
    assert!(
        github.contains("::error file=file.yaml,line=16,col=59::Channel default/a: spec.colour"),
        "{github}"
    );
    assert!(junit.contains("failures=\"3\"") && junit.contains("file.yaml:16:59: spec.colour"), "{junit}");
    let json: Value = serde_json::from_str(&json).unwrap();
    let finding = &json["objects"][2]["findings"][0];
    let expected = json!({"rule": "unknown-field", "path": "spec.colour", "line": 16, "column": 59,
        "message": "the field does not exist: remove it"});
    assert_eq!(finding, &expected);
    let sarif: Value = serde_json::from_str(&sarif).unwrap();
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    let ids: Vec<_> = results.iter().map(|result| result["ruleId"].as_str().unwrap()).collect();
    assert_eq!(ids, ["syntax", "unknown-field", "unknown-kind"]);
    let known: Vec<_> = sarif["runs"][0]["tool"]["driver"]["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| &rule["id"])
        .collect();
    assert!(ids.iter().all(|id| known.contains(&&json!(id))));
}

#[test]
fn the_published_schema_of_the_report_accepts_each_report_and_nothing_else() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for documents in
        [&[SECRET, WORKSPACE][..], &["a: [\n", "kind: Channel\n", &channel("a", ", colour: red")], &[]]
    {
        let value: Value = serde_json::from_str(&format::json(&report(documents)).unwrap()).unwrap();
        let errors: Vec<_> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}");
    }
    assert!(!validator.is_valid(&json!({"version": 1})));
}

#[test]
fn hostile_names_reach_no_terminal_and_no_workflow() {
    let hostile = "apiVersion: ohallo.eu/v1alpha1\nkind: Channel\nmetadata: {name: \"a\\e[31m\\n::error::x\\u202eb%\"}\n";
    let report = report(&[hostile]);
    for text in every_format(&report) {
        assert!(!text.contains('\u{202e}') && !text.contains("\u{1b}[31m\n"), "{text:?}");
    }
    let lines: Vec<_> = format::github(&report).lines().map(str::to_owned).collect();
    assert!(lines.iter().all(|line| line.starts_with("::error file=file.yaml,")), "{lines:?}");
}

#[test]
fn what_threads_make_of_items_comes_in_the_order_of_the_items() {
    let mut made = Vec::new();
    let work = |item: usize| {
        // The first takes longer than all others.
        let rounds = if item == 0 { 1_000_000 } else { 1 };
        (0..rounds).fold(item, |item, _| std::hint::black_box(item))
    };
    map_in_order(0..40, work, |item| made.push(item)).unwrap();
    assert_eq!(made, (0..40).collect::<Vec<_>>());
}

#[test]
fn what_two_files_say_together_is_noted() {
    let kinds = Kinds::embedded().unwrap();
    let context = Context { kinds: &kinds, base: &Base::default(), namespace: "default" };
    let file = |name: &str, text: Result<String, String>| {
        context.file(Source { name: name.to_owned(), within: None, text })
    };
    let credentials = ", credentials: [{secretRef: {name: ohallo-api-key}}, {name: apiKey, secretKeyRef: {name: ohallo-api-key, key: apiKey}}]";
    let second = format!(", channelId: c1, workspaceRef: {{name: other}}{credentials}");
    let mut collector = file("1", Ok(channel("a", ", channelId: c1")));
    collector.append(file("2", Ok(channel("b", &second))));
    collector.append(file("3", Ok(format!("{}---\n{WORKSPACE}", SECRET.replace("sf_test", "sf_live")))));
    collector.append(file("4", Err("gone".to_owned())));
    let report = collector.finish();
    let notes: Vec<_> = report.notes.iter().map(|note| (note.file.as_str(), note.topic)).collect();
    let in_second = [Topic::WorkspaceNotHere, Topic::SameChannelId, Topic::CredentialTwice];
    assert_eq!(notes[..3].iter().map(|(_, topic)| *topic).collect::<BTreeSet<_>>(), in_second.into());
    assert!(notes[..3].iter().all(|(file, _)| *file == "2"), "{notes:?}");
    assert_eq!(notes[3..], [("3", Topic::LiveKey)]);
    let same = report.notes.iter().find(|note| note.topic == Topic::SameChannelId).unwrap();
    assert!(same.message.starts_with("Channel default/a has the same channelId"), "{same:?}");
    let Counts { valid, invalid, unreadable, other } = report.counts;
    assert_eq!((valid, invalid, unreadable, other), (3, 0, 1, 1));
}
