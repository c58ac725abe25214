//! `status`, `why`, `version` and the verbs, against an operator that works.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};
use testbed::User;

use crate::cli::support::program::{command, ended, in_namespace};
use crate::support::harness::Harness;
use crate::support::steps::{insert_in_dashboard, unresolved_create};

/// What it prints on stdout, if it ends with this code.
fn says(harness: &Harness, code: i32, args: &[&str]) -> String {
    let output = in_namespace(harness).args(args).output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(code), "{args:?}: {out}{err}");
    out + &err
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_on_call_reads_suspends_resumes_tests_and_reconciles_a_channel() {
    let harness = Harness::start().await;
    harness.ready("a", json!({})).await;
    assert!(says(&harness, 0, &["status"]).contains("True Available"));
    assert!(says(&harness, 0, &["why", "a"]).contains("Ready True: Available"));
    assert!(says(&harness, 0, &["why", "workspace/default"]).contains("Verified"));
    assert!(says(&harness, 0, &["reconcile", "a", "--wait"]).contains("Ready is True"));
    assert!(says(&harness, 0, &["suspend", "a", "--wait"]).contains("it is suspended"));
    let tree: Value = serde_json::from_str(&says(&harness, 0, &["status", "a", "--output=json"])).unwrap();
    assert_eq!(tree["workspaces"][0]["channels"][0]["attention"], json!(["Suspended Suspended"]));
    let why = says(&harness, 0, &["why", "a"]);
    assert!(
        why.contains(&format!("kubectl ohallo resume a --wait --namespace {}", harness.namespace)),
        "{why}"
    );
    assert!(says(&harness, 0, &["resume", "a", "--wait"]).contains("Ready is True"));
    assert!(says(&harness, 0, &["test", "a", "--wait"]).contains("the test passed"));
    assert!(says(&harness, 0, &["reconcile", "workspace/default", "--wait"]).contains("Ready is True"));
    assert!(says(&harness, 1, &["create-again", "a", "--yes"]).contains("no unresolved create"));
    assert!(says(&harness, 1, &["release", "a", "--yes"]).contains("delete it first"));
    let channel = harness.get("a").await;
    let managers = channel.metadata.managed_fields.unwrap();
    assert!(managers.iter().any(|entry| entry.manager.as_deref() == Some("kubectl-ohallo")));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_ends_with_the_reader_of_its_pipe() {
    let harness = Harness::start().await;
    harness.ready("a", json!({})).await;
    let mut watch = in_namespace(&harness);
    let mut child =
        watch.args(["status", "--watch"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("default"));
    says(&harness, 0, &["suspend", "a"]);
    let shown = lines.by_ref().map(Result::unwrap).find(|line| line.contains("Suspended"));
    assert!(shown.is_some(), "it goes on as long as the reader");
    drop(lines);
    // Nothing changes, so it writes nothing that could fail.
    let output = ended(child).await;
    assert_eq!((output.status.code(), output.stderr), (Some(0), vec![]));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_without_an_answer_is_explained_adopted_created_again_and_released() {
    let harness = Harness::start().await;
    for name in ["adopted", "again", "released"] {
        unresolved_create(&harness, name, false).await;
    }
    let why = says(&harness, 1, &["why", "again"]);
    for part in [
        "CreateOutcomeUnknown",
        "kubectl ohallo adopt again ID --wait",
        "kubectl ohallo create-again again --wait",
    ] {
        assert!(why.contains(part), "{part}: {why}");
    }
    let id = insert_in_dashboard(&harness, "chat", "Found by hand");
    assert!(
        says(&harness, 0, &["adopt", "adopted", &id, "--yes", "--wait"]).contains("the channel is adopted")
    );
    // Without a terminal nothing is confirmed silently.
    let refused = says(&harness, 64, &["create-again", "again"]);
    assert!(refused.contains("--yes") && refused.lines().count() == 1, "{refused}");
    assert!(
        says(&harness, 0, &["create-again", "again", "--yes", "--wait"]).contains("the channel is created")
    );
    harness.channels().delete("released", &Default::default()).await.unwrap();
    harness.has("released", "DeletionBlocked", "CreateOutcomeUnknown").await;
    assert!(says(&harness, 0, &["release", "released", "--yes", "--wait"]).contains("the object is removed"));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_a_command_from_an_answer_is_one_sentence_and_a_code() {
    let harness = Harness::bare(Default::default(), &[]).await;
    let kubeconfig = harness.plane.kubeconfig(User::Admin);
    let kubeconfig = kubeconfig.to_str().unwrap();
    for (args, code, part) in [
        (vec!["why", "a", "--kubeconfig=/missing"], 2, "the kubeconfig can't be read"),
        (
            vec!["why", "a", "--kubeconfig", kubeconfig, "--context=missing"],
            2,
            "the kubeconfig can't be used",
        ),
        (
            vec!["why", "a", "--kubeconfig", kubeconfig, "--namespace", &harness.namespace],
            1,
            "does not exist",
        ),
        (
            vec!["status", "a", "--kubeconfig", kubeconfig, "--namespace", &harness.namespace],
            1,
            "does not exist",
        ),
        (vec!["why", "secret/a", "--kubeconfig", kubeconfig], 64, "no kind of ohallo.eu"),
        (vec!["suspend", "a", "--timeout=5"], 64, "--wait"),
    ] {
        let output = command().args(&args).env("HOME", "/missing").output().unwrap();
        let reported = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(code) && reported.contains(part), "{args:?}: {reported}");
        assert!(
            output.stdout.is_empty() && (code == 64 || reported.lines().count() == 1),
            "{args:?}: {reported}"
        );
    }
    let version = says(&harness, 0, &["version", "--output=json"]);
    let version: Value = serde_json::from_str(&version).unwrap();
    assert_eq!(version["cluster"]["crds"], json!([]), "{version}");
    assert!(says(&harness, 0, &["version", "--client"]).starts_with("kubectl-ohallo "));
    harness.finish().await;
}
