//! `plan` in a shell and in a pipeline, with a cluster and oHallo, and what keeps it from an answer.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use ohallo_sim::{Action, Config, Fault, Key, Listening, Operation, READ, WRITE};
use serde_json::{Value, json};

use crate::cli::support::planner::{
    PLANNER, assert_only_read, effects, grant_reads, planned, planner, said, unique_ids,
};
use crate::cli::support::program::{command, ended, git, run};
use crate::support::harness::{Harness, TENANT, id_of};
use crate::support::{canary, cluster_workspaces, clusters};

/// Files in a folder of their own.
struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &[Value])]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, objects) in files {
            let text: String = objects.iter().map(|object| format!("---\n{object}\n")).collect();
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        PathBuf::from(self.0.path()).join(name).to_str().unwrap().to_owned()
    }
}

fn channel(name: &str, spec: Value) -> Value {
    let mut whole = json!({"channelType": "chat", "displayName": "Name"});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel", "metadata": {"name": name}, "spec": whole})
}

fn expected(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(effect, name)| ((*effect).to_owned(), (*name).to_owned())).collect()
}

#[test]
fn each_exit_code_means_what_the_help_says() {
    let files = Files::new(&[
        ("one.yaml", &[channel("a", json!({}))]),
        ("other.yaml", &[channel("a", json!({"config": {"x": 1}}))]),
        ("none.yaml", &[]),
        ("wrong.yaml", &[channel("a", json!({"channelType": "sms"}))]),
    ]);
    let [one, other, none, wrong] =
        ["one.yaml", "other.yaml", "none.yaml", "wrong.yaml"].map(|name| files.path(name));
    for (head, flags, code) in [
        (&one, vec![], 0),
        (&other, vec![], 0),
        (&none, vec![], 0),
        (&one, vec!["--exit-code"], 0),
        (&other, vec!["--exit-code"], 2),
        (&none, vec!["--exit-code"], 3),
        (&other, vec!["--fail-on", "destroy"], 0),
        (&none, vec!["--fail-on=destroy"], 3),
        (&none, vec!["--fail-on=destroy", "--exit-code"], 3),
        (&wrong, vec![], 1),
        (&wrong, vec!["--exit-code"], 1),
        (&one, vec!["--output=xml"], 64),
        (&one, vec!["--live", "--depth=files"], 64),
        (&one, vec!["--prune"], 64),
        (&one, vec!["--fail-on=updates"], 64),
    ] {
        let output = run(&[&["plan", head.as_str(), "--base", one.as_str()], flags.as_slice()].concat());
        assert_eq!(output.status.code(), Some(code), "{head} {flags:?}: {}", said(&output));
        let lines = String::from_utf8(output.stderr).unwrap().lines().count();
        assert!(if code == 1 { lines == 1 } else { code == 64 || lines == 0 }, "{head} {flags:?}");
    }
    for (args, code, part) in [
        (
            vec!["plan", &one, "--base=no-such-revision"],
            64,
            "is neither a file, a directory nor a Git revision",
        ),
        (vec!["plan", &one, "--depth=files"], 64, "--base"),
        (vec!["plan", "/missing.yaml", "--base", &one], 1, "/missing.yaml can't be read"),
        (vec!["plan", &one, "--kubeconfig=/missing"], 1, "the kubeconfig can't be read"),
        (vec!["plan", &one, "--live", "--api-url=nowhere", "--kubeconfig=/missing"], 1, "the kubeconfig"),
    ] {
        let output = command().args(&args).env("HOME", "/missing").output().unwrap();
        let reported = String::from_utf8(output.stderr.clone()).unwrap();
        assert!(output.status.code() == Some(code) && reported.contains(part), "{args:?}: {}", said(&output));
        assert!(output.stdout.is_empty() && reported.lines().count() == 1, "{args:?}: {reported}");
    }
}

#[test]
fn a_git_revision_is_read_without_a_checkout() {
    let files = Files::new(&[
        ("channels/a.yaml", &[channel("a", json!({}))]),
        ("channels/b.yaml", &[channel("b", json!({}))]),
    ]);
    let git = |args: &[&str]| git(files.0.path(), args);
    git(&["init", "--quiet", "--initial-branch=main"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message=first"]);
    std::fs::remove_file(files.path("channels/b.yaml")).unwrap();
    let changed = channel("a", json!({"config": {"x": 1}})).to_string();
    std::fs::write(files.path("channels/a.yaml"), changed).unwrap();
    let output = command()
        .current_dir(files.0.path())
        .args(["plan", "channels", "--base=main", "--output=json"])
        .output()
        .unwrap();
    let plan: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(&output)));
    assert_eq!(effects(&plan), expected(&[("destroyed", "b"), ("updated", "a")]));
    assert_eq!(
        (&plan["depth"], &plan["base"], &plan["version"]),
        (&json!("files"), &json!("main"), &json!(1))
    );
    assert!(!PathBuf::from(files.path("channels/b.yaml")).exists(), "nothing was checked out");
    assert_eq!(git(&["status", "--porcelain"]).lines().count(), 2);
}

#[test]
fn a_pipe_that_closes_early_ends_nothing_and_the_formats_say_the_same() {
    let many: Vec<_> = (0..2000).map(|number| channel(&format!("c-{number}"), json!({}))).collect();
    let files = Files::new(&[("many.yaml", &many), ("none.yaml", &[])]);
    let args = ["plan", &files.path("many.yaml"), "--base", &files.path("none.yaml"), "--exit-code"]
        .map(str::to_owned);
    let mut child = command().args(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), said(&output).as_str()), (Some(2), ""));
    let of = |format: &str| {
        let output = command().args(&args).args(["--output", format]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(of("text").ends_with("2000 created, 0 unchanged\n"));
    let json: Value = serde_json::from_str(&of("json")).unwrap();
    assert_eq!((&json["counts"]["created"], json["changes"].as_array().unwrap().len()), (&json!(2000), 2000));
    let markdown = of("markdown");
    assert!(markdown.len() <= 65_536 && markdown.contains("Cut, because"), "{}", markdown.len());
    assert!(of("yaml").contains("created: 2000"));
    let schema: Value = serde_json::from_slice(&run(&["schema", "plan"]).stdout).unwrap();
    let required = schema["required"].as_array().unwrap();
    assert!(required.iter().all(|key| !json[key.as_str().unwrap()].is_null()), "{required:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_kubeconfig_shows_ids_origins_and_suspensions() {
    let harness = Harness::with(unique_ids(), &[]).await;
    grant_reads(&harness);
    let id = id_of(&harness.ready("created", json!({"displayName": "Name"})).await);
    harness.create("suspended", json!({"displayName": "Name", "suspend": true})).await;
    harness.has("suspended", "Suspended", "Suspended").await;
    let files = Files::new(&[
        ("head.yaml", &[channel("suspended", json!({"suspend": true, "config": {"x": 1}}))]),
        ("base.yaml", &[channel("created", json!({})), channel("suspended", json!({"suspend": true}))]),
    ]);
    let since = harness.sim.ledger().last().map_or(0, |entry| entry.seq + 1);
    let (head, base) = (files.path("head.yaml"), files.path("base.yaml"));
    // Without a base, what the files do not have stays.
    let plan = planned(&harness, 0, &[&head]);
    assert_eq!(effects(&plan), expected(&[("suspended", "suspended")]));
    assert_eq!(plan["depth"], "cluster");
    for args in [vec!["--prune"], vec!["--base", &base, "--depth=cluster"], vec!["--base", &base, "--live"]] {
        let plan = planned(&harness, 3, &[&[head.as_str(), "--exit-code"], args.as_slice()].concat());
        let mut effects = effects(&plan);
        // The Workspace is not in the files either.
        effects.retain(|change| *change != ("waits".to_owned(), "default".to_owned()));
        assert_eq!(effects, expected(&[("destroyed", "created"), ("suspended", "suspended")]), "{args:?}");
        assert_eq!(plan["changes"][0]["channelId"], id, "{args:?}");
    }
    assert_only_read(&harness, since).await;
    assert_eq!(harness.count(Operation::DeleteChannel), 0);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_channels_of_ohallo_a_plan_has_the_values_before() {
    let harness = Harness::with(unique_ids(), &[]).await;
    grant_reads(&harness);
    let id = id_of(
        &harness
            .ready("a", json!({"displayName": "Name", "driftPolicy": "Report", "config": {"x": 1}}))
            .await,
    );
    harness.sim.edit_channel(&id, |channel| channel.display_name = "Edited".to_owned());
    let files = Files::new(&[(
        "head.yaml",
        &[channel("a", json!({"displayName": "New", "driftPolicy": "Report", "config": {"x": 1}}))],
    )]);
    let head = files.path("head.yaml");
    let field = |plan: &Value| plan["changes"][0]["fields"][0].clone();
    assert_eq!(field(&planned(&harness, 0, &[&head]))["old"], "Name");
    let live = planned(&harness, 0, &[&head, "--live"]);
    assert_eq!(
        (&field(&live)["old"], &field(&live)["new"], &live["depth"]),
        (&json!("Edited"), &json!("New"), &json!("oHallo"))
    );
    // The API key of the environment serves as well, and is printed nowhere.
    let mut command = planner(&harness, &[&head, "--live"]);
    let output = command.env("OHALLO_API_KEY", &harness.key).output().unwrap();
    assert!(output.status.success() && said(&output).contains("\"Edited\" → \"New\""), "{}", said(&output));
    canary::scan("a plan", said(&output));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_ohallo_from_an_answer_is_one_sentence_and_exit_code_1() {
    let harness = Harness::with(unique_ids(), &[]).await;
    grant_reads(&harness);
    harness.ready("a", json!({"displayName": "Name"})).await;
    let files = Files::new(&[("head.yaml", &[channel("a", json!({"displayName": "New"}))])]);
    let head = files.path("head.yaml");
    let writes = || harness.sim.ledger().iter().filter(|entry| entry.operation.is_write()).count();
    let before = writes();
    let refused = |part: &str, key: Option<&str>| {
        let mut command = planner(&harness, &[&head, "--live"]);
        command.env_remove("OHALLO_API_KEY");
        if let Some(key) = key {
            command.env("OHALLO_API_KEY", key);
        }
        let output = command.output().unwrap();
        let reported = String::from_utf8(output.stderr.clone()).unwrap();
        assert!(output.status.code() == Some(1) && reported.contains(part), "{part}: {}", said(&output));
        assert!(output.stdout.is_empty() && reported.lines().count() == 1, "{part}: {}", said(&output));
        canary::scan("an error of a plan", reported);
    };
    let only_writes = "sf_test_v1_canary-that-only-writes";
    canary::register(only_writes);
    harness.sim.add_key(Key::new(only_writes, TENANT).scopes([WRITE]));
    refused("permission", Some(only_writes));
    let unknown = "sf_test_v1_canary-that-nobody-knows";
    canary::register(unknown);
    refused("API key", Some(unknown));
    let limited = Action::Status {
        code: 429,
        body: None,
        headers: vec![("retry-after".to_owned(), "7".to_owned())],
        commit: false,
    };
    let fault = harness.sim.add_fault(Fault::on(Operation::GetChannel, limited));
    refused("limits the rate", None);
    harness.sim.remove_fault(fault);
    let failing = Action::Status { code: 503, body: None, headers: Vec::new(), commit: false };
    let fault = harness.sim.add_fault(Fault::on(Operation::GetChannel, failing));
    refused("unavailable", None);
    harness.sim.remove_fault(fault);
    harness.sim.set_listening(Listening::Refuse);
    tokio::time::sleep(Duration::from_millis(200)).await;
    refused("can't be reached", None);
    harness.sim.set_listening(Listening::Accept);
    let with_read = "sf_test_v1_canary-that-only-reads";
    canary::register(with_read);
    harness.sim.add_key(Key::new(with_read, TENANT).scopes([READ]));
    let output = planner(&harness, &[&head, "--live"]).env("OHALLO_API_KEY", with_read).output().unwrap();
    assert!(output.status.success(), "reading is enough: {}", said(&output));
    assert_eq!(writes(), before);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_ends_a_plan_that_waits_for_ohallo() {
    let harness = Harness::with(unique_ids(), &[]).await;
    grant_reads(&harness);
    harness.ready("a", json!({"displayName": "Name"})).await;
    let files = Files::new(&[("head.yaml", &[channel("a", json!({"displayName": "New"}))])]);
    let fault = harness.sim.add_fault(Fault::on(Operation::GetChannel, Action::Hang { commit: false }));
    let before = harness.count(Operation::GetChannel);
    let mut command = planner(&harness, &[&files.path("head.yaml"), "--live"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    harness
        .eventually("the plan reads", || async {
            (harness.count(Operation::GetChannel) > before).then_some(())
        })
        .await;
    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), said(&output).as_str()),
        (Some(130), "error: interrupted: nothing was written\n")
    );
    harness.sim.remove_fault(fault);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_ends_a_plan_that_waits_for_stdin() {
    let harness = Harness::bare(Config::default(), &[]).await;
    for args in [&["-"][..], &["-", "--live"], &["-", "--base", "/dev/null"]] {
        let mut command = planner(&harness, args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        // It reads stdin when a thread of it is in read(2) on the descriptor 0.
        let waits = |call: &std::path::Path| {
            std::fs::read_to_string(call.join("syscall")).is_ok_and(|call| call.starts_with("0 0x0 "))
        };
        let tasks = format!("/proc/{}/task", child.id());
        harness
            .eventually("the plan reads stdin", || async {
                let mut threads = std::fs::read_dir(&tasks).unwrap();
                threads.any(|thread| waits(&thread.unwrap().path())).then_some(())
            })
            .await;
        let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        assert!(killed.unwrap().success());
        let output = ended(child).await;
        assert_eq!(
            (output.status.code(), said(&output).as_str()),
            (Some(130), "error: interrupted: nothing was written\n"),
            "{args:?}"
        );
        drop(stdin);
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_or_a_context_that_is_missing_is_named_in_one_sentence() {
    let harness = Harness::bare(Config::default(), &[]).await;
    let files = Files::new(&[("head.yaml", &[channel("a", json!({}))])]);
    let head = files.path("head.yaml");
    let kubeconfig = harness.plane.kubeconfig(testbed::User::Tenant);
    let rights = json!({"apiGroups": ["ohallo.eu"], "resources": ["channels", "workspaces"], "verbs": ["get", "list"]});
    let api = "rbac.authorization.k8s.io";
    for object in [
        json!({"apiVersion": format!("{api}/v1"), "kind": "Role", "metadata": {"name": "reads"}, "rules": [rights]}),
        json!({"apiVersion": format!("{api}/v1"), "kind": "RoleBinding", "metadata": {"name": "reads"}, "roleRef": {"kind": "Role", "name": "reads", "apiGroup": api},
            "subjects": [{"kind": "User", "name": testbed::User::Tenant.name(), "apiGroup": api}]}),
    ] {
        harness.apply(&object);
    }
    let plan = |more: &[&str]| {
        let mut command = command();
        command.arg("--kubeconfig").arg(kubeconfig.clone()).args([
            "--namespace",
            &harness.namespace,
            "plan",
            &head,
        ]);
        command.args(more).output().unwrap()
    };
    // The rights in one namespace are enough for it, and the plan names what it does not know.
    let output = plan(&["--output=json"]);
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(&output)));
    let notes = report["notes"].to_string();
    let unread =
        ["Channels of other namespaces", "ClusterWorkspaces may not be read", "Deployments may not be read"];
    assert!(unread.iter().all(|part| notes.contains(part)), "{notes}");
    assert_eq!(report["notes"].as_array().unwrap().len(), unread.len(), "{notes}");
    // Only a ClusterWorkspace asks for the labels of a namespace.
    let shared = json!({"workspaceRef": {"kind": "ClusterWorkspace", "name": "shared"}});
    let shared = Files::new(&[("shared.yaml", &[channel("a", shared)])]);
    let output = command()
        .arg("--kubeconfig")
        .arg(kubeconfig.clone())
        .args(["--namespace", &harness.namespace, "plan", &shared.path("shared.yaml")])
        .output()
        .unwrap();
    assert!(said(&output).contains("The labels of namespaces may not be read"), "{}", said(&output));
    let elsewhere = Files::new(&[(
        "five.yaml",
        &(1..=4)
            .map(|number| {
                let mut object = channel("a", json!({}));
                object["metadata"]["namespace"] = format!("other-{number}").into();
                object
            })
            .collect::<Vec<_>>(),
    )]);
    for (more, part) in [
        (vec![elsewhere.path("five.yaml")], "the Channels of the namespace other-1 can't be read"),
        (vec!["--context=missing".to_owned()], "the kubeconfig can't be used"),
    ] {
        let output = plan(&more.iter().map(String::as_str).collect::<Vec<_>>());
        let reported = String::from_utf8(output.stderr.clone()).unwrap();
        assert!(output.status.code() == Some(1) && reported.contains(part), "{}", said(&output));
        assert!(output.stdout.is_empty() && reported.lines().count() == 1, "{}", said(&output));
    }
    assert_ne!(PLANNER, testbed::User::Tenant);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_without_the_definitions_says_so() {
    let plane = clusters::empty().await;
    let files = Files::new(&[("head.yaml", &[channel("a", json!({}))])]);
    let kubeconfig = plane.kubeconfig(testbed::User::Admin);
    let output = command()
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(["plan", &files.path("head.yaml")])
        .output()
        .unwrap();
    let reported = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(
        output.status.code() == Some(1) && reported.contains("CustomResourceDefinitions"),
        "{}",
        said(&output)
    );
    assert_eq!((output.stdout.is_empty(), reported.lines().count()), (true, 1));
    clusters::end(plane).await;
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    let version = if ["Secret", "Namespace"].contains(&kind) { "v1" } else { "ohallo.eu/v1alpha1" };
    let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
    if version == "v1" {
        object.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    } else {
        object["spec"] = spec;
    }
    object
}

fn voice(name: &str, more: Value) -> Value {
    let mut spec = json!({"channelType": "voice", "displayName": name, "deletionPolicy": "Delete"});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    object("Channel", name, spec)
}

#[test]
fn a_deletion_that_the_files_can_not_rule_out_is_never_hidden() {
    let workspace = |name: &str, more: Value| {
        let mut spec = json!({"workspaceId": "w", "apiKeySecretRef": {"name": "key"}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        (name.to_owned(), spec)
    };
    let (shared, selecting) =
        workspace("shared", json!({"allowedNamespaces": {"selector": {"matchLabels": {"team": "a"}}}}));
    let (default, suspended) = workspace("default", json!({"suspend": true}));
    let credentials = json!({"credentials": [{"secretKeyRef": {"name": "keys", "key": "apiKey"}}]});
    let of_cluster = json!({"workspaceRef": {"kind": "ClusterWorkspace", "name": "shared"}});
    let pinned = |policy: &str| json!({"channelId": "one", "deletionPolicy": policy});
    for (what, kept, removed) in [
        (
            "labels are unknown",
            vec![object("ClusterWorkspace", &shared, selecting)],
            vec![voice("a", of_cluster)],
        ),
        (
            "a Secret is filled by others",
            vec![object("Secret", "keys", json!({"stringData": {"other": "x"}}))],
            vec![voice("a", credentials)],
        ),
        ("two name one id", vec![], vec![voice("a", pinned("Retain")), voice("b", pinned("Delete"))]),
        (
            "its Workspace is suspended",
            vec![object("Workspace", &default, suspended)],
            vec![voice("a", json!({}))],
        ),
        ("its Namespace is removed", vec![], vec![object("Namespace", "team", json!({}))]),
    ] {
        let base = [kept.clone(), removed].concat();
        let files = Files::new(&[("base.yaml", &base), ("head.yaml", &kept)]);
        let [base, head] = ["base.yaml", "head.yaml"].map(|name| files.path(name));
        let output = run(&["plan", &head, "--base", &base, "--fail-on", "destroy"]);
        assert_eq!(output.status.code(), Some(3), "{what}: {}", said(&output));
    }
}

#[test]
fn who_writes_the_manifests_does_not_choose_what_they_are_compared_with() {
    let folder = tempfile::tempdir().unwrap();
    let git = |args: &[&str]| git(folder.path(), args);
    let channels = folder.path().join("channels");
    std::fs::create_dir(&channels).unwrap();
    std::fs::write(channels.join("a.json"), voice("a", json!({})).to_string()).unwrap();
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message=first"]);
    git(&["update-ref", "refs/remotes/origin/main", "HEAD"]);
    std::fs::remove_file(channels.join("a.json")).unwrap();
    let plan = || {
        let mut plan = command();
        plan.args(["plan", "channels", "--base", "origin/main", "--fail-on", "destroy"]);
        plan.current_dir(folder.path()).output().unwrap()
    };
    assert_eq!(plan().status.code(), Some(3), "{}", said(&plan()));
    std::fs::create_dir_all(folder.path().join("origin/main")).unwrap();
    let both = plan();
    assert!(
        both.status.code() == Some(64) && said(&both).contains("is a path and a Git revision"),
        "{}",
        said(&both)
    );
    std::fs::remove_dir_all(folder.path().join("origin")).unwrap();
    // What kubectl ignores, others apply; and a link in a revision has no content.
    std::fs::write(channels.join("b.yaml"), format!("a: 1\n--- # next\n{}\n", voice("b", json!({}))))
        .unwrap();
    assert!(
        plan().status.code() == Some(1) && said(&plan()).contains("write --- alone"),
        "{}",
        said(&plan())
    );
    std::fs::remove_file(channels.join("b.yaml")).unwrap();
    std::os::unix::fs::symlink("../elsewhere.yaml", channels.join("c.yaml")).unwrap();
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message=link"]);
    git(&["update-ref", "refs/remotes/origin/main", "HEAD"]);
    std::fs::remove_file(channels.join("c.yaml")).unwrap();
    assert!(
        plan().status.code() == Some(1) && said(&plan()).contains("is a symbolic link"),
        "{}",
        said(&plan())
    );
    // A hidden file is read as below a directory, and a place that is a link is refused: its change chooses the base.
    git(&["rm", "--quiet", "-r", "channels"]);
    std::fs::create_dir_all(&channels).unwrap();
    std::fs::write(channels.join(".hidden.json"), voice("hidden", json!({})).to_string()).unwrap();
    std::fs::write(channels.join("a.json"), voice("a", json!({})).to_string()).unwrap();
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message=hidden"]);
    git(&["update-ref", "refs/remotes/origin/main", "HEAD"]);
    std::fs::remove_file(channels.join(".hidden.json")).unwrap();
    assert_eq!(plan().status.code(), Some(3), "{}", said(&plan()));
    std::fs::rename(&channels, folder.path().join("moved")).unwrap();
    std::os::unix::fs::symlink("moved", &channels).unwrap();
    assert!(
        plan().status.code() == Some(64) && said(&plan()).contains("is a symbolic link"),
        "{}",
        said(&plan())
    );
}

#[test]
fn a_tag_and_the_index_do_not_change_what_is_compared() {
    let folder = tempfile::tempdir().unwrap();
    let git = |args: &[&str]| git(folder.path(), args);
    let file = folder.path().join("channels/a.json");
    std::fs::create_dir(folder.path().join("channels")).unwrap();
    std::fs::write(&file, voice("a", json!({})).to_string()).unwrap();
    git(&["init", "--quiet", "--initial-branch=work"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message=first"]);
    git(&["update-ref", "refs/remotes/origin/main", "HEAD"]);
    let plan = |base: &str| {
        let args = ["plan", "channels", "--base", base, "--fail-on", "destroy"];
        command().current_dir(folder.path()).args(args).output().unwrap()
    };
    // Its file is there to be read, and the next commit deletes it.
    git(&["rm", "--quiet", "--cached", "channels/a.json"]);
    let untracked = plan("HEAD");
    let reported = said(&untracked);
    assert!(
        untracked.status.code() == Some(1) && reported.contains("does not track it any more"),
        "{reported}"
    );
    std::fs::remove_file(&file).unwrap();
    git(&["commit", "--quiet", "--message=second"]);
    // The same commit under another name is no question; another one is.
    git(&["tag", "origin/main", "origin/main"]);
    assert_eq!(plan("origin/main").status.code(), Some(3), "{}", said(&plan("origin/main")));
    git(&["tag", "--force", "origin/main", "HEAD"]);
    let tagged = plan("origin/main");
    let reported = said(&tagged);
    assert!(tagged.status.code() == Some(64) && reported.contains("is also the name of"), "{reported}");
    assert_eq!(plan("refs/remotes/origin/main").status.code(), Some(3));
    let short = git(&["rev-parse", "--short=8", "refs/remotes/origin/main"]);
    git(&["tag", short.trim(), "HEAD"]);
    assert_eq!(plan(short.trim()).status.code(), Some(64), "{}", said(&plan(short.trim())));
    let mut without_git = command();
    without_git.current_dir(folder.path()).args(["plan", "channels", "--base=main"]).env("PATH", "/missing");
    let output = without_git.output().unwrap();
    assert!(
        output.status.code() == Some(64) && said(&output).contains("git can't be run"),
        "{}",
        said(&output)
    );
}

#[test]
fn the_revisions_of_a_submodule_are_not_those_of_its_repository() {
    let folder = tempfile::tempdir().unwrap();
    let [outer, inner] = ["outer", "inner"].map(|name| folder.path().join(name));
    for (repository, file) in [(&inner, "none.yaml"), (&outer, "channels/a.yaml")] {
        let path = repository.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = if file == "none.yaml" { String::new() } else { voice("a", json!({})).to_string() };
        std::fs::write(path, text).unwrap();
        git(repository, &["init", "--quiet", "--initial-branch=main"]);
        git(repository, &["add", "."]);
        git(repository, &["commit", "--quiet", "--message=first"]);
    }
    git(&outer, &["rm", "--quiet", "-r", "channels"]);
    let add = ["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "../inner", "channels"];
    git(&outer, &add);
    let plan = |from: &Path, place: &str| {
        command().current_dir(from).args(["plan", place, "--base", "main"]).output().unwrap()
    };
    let refused = plan(&outer, "channels");
    assert!(
        refused.status.code() == Some(64) && said(&refused).contains("is in a submodule"),
        "{}",
        said(&refused)
    );
    let inside = plan(&outer.join("channels"), ".");
    assert_eq!(inside.status.code(), Some(0), "{}", said(&inside));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_of_a_cluster_workspace_is_read_in_the_namespace_of_the_operator() {
    let harness = cluster_workspaces::harness_of(unique_ids(), &[]).await;
    grant_reads(&harness);
    let selecting = json!({"selector": {"matchLabels": {"kubernetes.io/metadata.name": harness.namespace}}});
    let shared = cluster_workspaces::share(&harness, Some(selecting));
    let using = json!({"displayName": "Name", "workspaceRef": {"kind": "ClusterWorkspace", "name": shared}});
    let id = id_of(&harness.ready("a", using.clone()).await);
    harness.sim.edit_channel(&id, |channel| channel.display_name = "Edited".to_owned());
    let files = Files::new(&[("head.yaml", &[channel("a", using)])]);
    let head = files.path("head.yaml");
    let of_operator = ["--operator-namespace", &harness.namespace];
    let plan = planned(&harness, 0, &[&[head.as_str(), "--live"], of_operator.as_slice()].concat());
    let field = &plan["changes"][0]["fields"][0];
    assert_eq!((&field["old"], &field["new"]), (&json!("Edited"), &json!("Name")), "{plan:#}");
    let elsewhere = planner(&harness, &[&head, "--live"]).env_remove("OHALLO_API_KEY").output().unwrap();
    let reported = said(&elsewhere);
    assert!(
        elsewhere.status.code() == Some(1) && reported.contains("ohallo-system/ohallo-api-key"),
        "{reported}"
    );
    harness.delete_and_wait("a").await;
    cluster_workspaces::delete_and_wait(&harness, &shared).await;
    harness.finish().await;
}

#[test]
fn a_kubeconfig_that_is_no_yaml_is_not_quoted() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let token = "very-secret-token";
    std::fs::write(file.path(), format!("users:\n- name: a\n  user: {{token: [{token}]}}\n")).unwrap();
    let output = run(&["why", "a", "--kubeconfig", file.path().to_str().unwrap()]);
    let reported = said(&output);
    assert!(output.status.code() == Some(2) && reported.lines().count() == 1, "{reported}");
    assert!(!reported.contains(token) && reported.contains("the kubeconfig can't be"), "{reported}");
}

#[test]
fn pinning_the_id_of_a_channel_is_no_change_and_an_empty_base_is_named() {
    let before = voice("hotline", json!({}));
    let pinned = voice(
        "hotline",
        json!({"channelId": "7c9e6679-7425-40de-944b-e07fc1f90ae7", "deletionPolicy": "Retain"}),
    );
    let files = Files::new(&[("before.yaml", &[before]), ("pinned.yaml", &[pinned]), ("none.yaml", &[])]);
    let [before, pinned, none] = ["before.yaml", "pinned.yaml", "none.yaml"].map(|name| files.path(name));
    let output = run(&["plan", &pinned, "--base", &before, "--exit-code"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let removed = run(&["plan", &none, "--base", &before, "--fail-on", "destroy"]);
    assert_eq!(removed.status.code(), Some(3), "{}", said(&removed));
    let empty = run(&["plan", &pinned, "--base", &none]);
    assert!(said(&empty).contains("The base has no objects"), "{}", said(&empty));
}
