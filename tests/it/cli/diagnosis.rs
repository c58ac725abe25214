//! `check` and `report`, in a cluster with the operator of the chart.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use testbed::{ControlPlane, User};

use crate::cli::support::installation::{CONFIGURED, Installation, KEY};
use crate::cli::support::program::command;
use crate::support::canary;
use crate::support::clusters::{empty, kubectl};
use crate::support::helm::output_text;

fn run(plane: &ControlPlane, user: User, args: &[&str]) -> Output {
    command().arg("--kubeconfig").arg(plane.kubeconfig(user)).args(args).output().unwrap()
}

/// The findings of `check`, as (what, state, sentence).
fn findings(plane: &ControlPlane, user: User, code: i32) -> Vec<(String, String, String)> {
    let output = run(plane, user, &["check", "--output=json"]);
    assert_eq!(output.status.code(), Some(code), "{}", output_text(&output));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap().to_owned();
    let all = found["findings"].as_array().unwrap().iter();
    all.map(|it| (text(it, "check"), text(it, "state"), text(it, "message"))).collect()
}

fn finding<'a>(all: &'a [(String, String, String)], check: &str) -> (&'a str, &'a str) {
    let found = all.iter().find(|(what, _, _)| what.starts_with(check));
    let (_, state, message) = found.unwrap_or_else(|| panic!("no {check} in {all:#?}"));
    (state, message)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_names_what_is_wrong_and_a_report_holds_no_secret() {
    let plane = empty().await;
    let nothing = findings(plane, User::Admin, 1);
    assert_eq!(finding(&nothing, "API server").0, "ok");
    assert_eq!(finding(&nothing, "CustomResourceDefinition channels"), ("problem", "is not installed"));
    assert_eq!(finding(&nothing, "operators").0, "problem");

    let mut installation = Installation::new(plane).await;
    let absent = findings(plane, User::Admin, 1);
    assert_eq!(finding(&absent, "CustomResourceDefinition channels").0, "ok");
    assert_eq!(finding(&absent, "rights of system:serviceaccount:ohallo-system").0, "ok");
    assert!(finding(&absent, "Lease").1.contains("there is none"), "{absent:#?}");
    assert!(finding(&absent, "operator ").1.contains("0 of 1 replicas are ready"), "{absent:#?}");
    installation.run();
    let led = findings(plane, User::Admin, 1);
    assert!(finding(&led, "Lease").1.contains("renews it"), "{led:#?}");

    // A user without rights learns what the API server shows to everybody.
    let blind = findings(plane, User::Spare(1), 0);
    assert_eq!(finding(&blind, "CustomResourceDefinition channels").0, "ok");
    assert_eq!(finding(&blind, "operators").0, "unknown");

    report(plane);

    installation.stop().await;
    kubectl(plane, &["delete", &format!("clusterrolebinding/{}", installation.name())]);
    let stripped = findings(plane, User::Admin, 1);
    let rights = finding(&stripped, "rights of");
    assert!(rights.0 == "problem" && rights.1.contains("patch channels.ohallo.eu"), "{rights:?}");
    installation.finish().await;
}

/// Writes a report, and reads every file of it.
fn report(plane: &ControlPlane) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.tar.gz");
    let file = file.to_str().unwrap();
    let output = run(plane, User::Admin, &["report", "--all-namespaces", "--file", file]);
    assert_eq!(output.status.code(), Some(0), "{}", output_text(&output));
    let again = run(plane, User::Admin, &["report", "--file", file]);
    assert!(
        again.status.code() == Some(64) && output_text(&again).contains("exists"),
        "it is not overwritten"
    );
    let text = unpacked(file, folder.path());
    for part in
        ["README.txt", "channels.yaml", "workspaces.yaml", "events.yaml", "check.json", "deployment.yaml"]
    {
        assert!(text.contains(&format!("== {part}")) || text.contains(&format!("/{part}")), "{part}: {text}");
    }
    assert!(text.contains("channelId:") && text.contains("<text of 41 characters>"), "{text}");
    assert!(!text.contains(CONFIGURED) && !text.contains(KEY));
    canary::scan("a report", &text);
    // Whoever may not read them gets none, and the page says so.
    let file = folder.path().join("blind.tar.gz");
    let output = run(plane, User::Spare(1), &["report", "--file", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", output_text(&output));
    let blind = unpacked(file.to_str().unwrap(), folder.path());
    for part in ["- Channels", "- Workspaces", "- Events", "- Deployments"] {
        assert!(blind.contains(part), "{part}: {blind}");
    }
}

/// The names and contents of the files in an archive.
fn unpacked(file: &str, folder: &Path) -> String {
    let into = folder.join("unpacked");
    std::fs::create_dir_all(&into).unwrap();
    let output = Command::new("tar").args(["-xzf", file, "-C"]).arg(&into).output().unwrap();
    assert!(output.status.success(), "{}", output_text(&output));
    let mut text = String::new();
    let mut folders = vec![into.clone()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(into.join("ohallo-report")).unwrap().display().to_string();
                text.push_str(&format!("== {name}\n{}\n", std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    std::fs::remove_dir_all(&into).unwrap();
    text
}
