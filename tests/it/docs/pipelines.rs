//! The page about pipelines: its commands, and the pieces that it offers for copying, run in a repository.

use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::cli::support::planner::unique_ids;
use crate::cli::support::program::{command, git, program};
use crate::support::harness::Harness;
use crate::support::pages;
use crate::support::shell::Shell;

const PAGE: &str = include_str!("../../../docs/pipelines.md");
const ACTION: &str = include_str!("../../../deploy/ci/github/action.yaml");
const GITLAB: &str = include_str!("../../../deploy/ci/gitlab.yaml");
const HOOKS: &str = include_str!("../../../deploy/ci/pre-commit-config.yaml");

/// Answers what the script asks GitHub for, and writes down each question.
const GH: &str = "#!/bin/sh\necho \"$*\" >> gh.log\ncase \"$*\" in *--paginate*) cat comments ;; esac\n";

fn manifest(spec: Value) -> String {
    json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel", "metadata": {"name": "a"}, "spec": spec})
        .to_string()
}

/// A shell in a repository whose working tree changes a Channel of `origin/main`.
fn repository(harness: &Harness) -> Shell {
    let mut shell = Shell::new(harness.plane, &harness.namespace);
    shell.key.clone_from(&harness.key);
    symlink(program(), shell.file("kubectl-ohallo")).unwrap();
    std::fs::create_dir(shell.file("channels")).unwrap();
    let write = |name: &str, text: String| std::fs::write(shell.file(name), text).unwrap();
    write("channels/kustomization.yaml", json!({"resources": ["a.yaml"]}).to_string());
    write("channels/a.yaml", manifest(json!({"channelType": "chat", "displayName": "Before"})));
    shell.run("git init --quiet --initial-branch=main && git add channels");
    shell.run("git -c user.name=a -c user.email=a@example.com commit --quiet --message=first");
    shell.run("git update-ref refs/remotes/origin/main HEAD");
    write("channels/a.yaml", manifest(json!({"channelType": "chat", "displayName": "After"})));
    shell
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_of_the_page_judge_and_plan_a_repository() {
    let harness = Harness::with(unique_ids(), &[]).await;
    let shell = repository(&harness);
    let commands = pages::commands(PAGE);
    assert!(commands.len() > 8, "{commands:?}");
    let api = format!("--live --api-url {}", harness.sim.url());
    let mut printed = String::new();
    for command in &commands {
        printed += &shell.run(&command.replace("--live", &api));
    }
    for part in [
        "1 valid, 0 invalid",
        "Depth files: ",
        "Depth cluster: ",
        "Depth oHallo: ",
        "<details>",
        "\"version\": 1",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    harness.finish().await;
}

/// What the action gives its script.
fn variables(depth: &str, is_fork: bool) -> String {
    format!(
        "GITHUB_STEP_SUMMARY=summary.md OHALLO_PATH=channels/ OHALLO_BASE=origin/main OHALLO_DEPTH={depth} OHALLO_FAIL_ON=destroy \
         OHALLO_COMMENT=true OHALLO_REPOSITORY=a/b OHALLO_PULL_REQUEST=5 OHALLO_IS_FORK={is_fork} GH_TOKEN=t"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_action_keeps_one_comment_and_gives_a_fork_no_credentials() {
    use std::os::unix::fs::PermissionsExt;
    let harness = Harness::bare(unique_ids(), &[]).await;
    let shell = repository(&harness);
    std::fs::write(shell.file("gh"), GH).unwrap();
    std::fs::set_permissions(shell.file("gh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let asked = || std::fs::read_to_string(shell.file("gh.log")).unwrap_or_default();
    let summary = || std::fs::read_to_string(shell.file("summary.md")).unwrap();
    let run = |depth: &str, is_fork: bool| {
        shell.run(&format!("{} bash deploy/ci/github/plan", variables(depth, is_fork)))
    };
    // A key or a kubeconfig that is there is not used.
    run("ohallo", true);
    assert_eq!(asked(), "", "a fork's token may not comment");
    assert!(summary().contains("Depth files: "), "{}", summary());
    std::fs::write(shell.file("comments"), "").unwrap();
    run("files", false);
    assert!(asked().contains("--method POST repos/a/b/issues/5/comments"), "{}", asked());
    std::fs::write(shell.file("comments"), "7\n").unwrap();
    run("files", false);
    assert!(asked().contains("--method PATCH repos/a/b/issues/comments/7"), "{}", asked());
    assert!(asked().contains("startswith(\"<!-- kubectl-ohallo plan -->\")"), "{}", asked());
    // A deletion fails the job after the comment is written.
    std::fs::write(shell.file("channels/a.yaml"), "").unwrap();
    shell.run(&format!("{} bash deploy/ci/github/plan; test $? = 3", variables("files", false)));
    assert!(summary().contains("this change destroys channels"));
    // A kustomization that leaves the Channel out: what it renders shows that.
    shell.run("git checkout --quiet channels/a.yaml");
    let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other"}});
    std::fs::write(shell.file("channels/other.yaml"), other.to_string()).unwrap();
    std::fs::write(shell.file("channels/kustomization.yaml"), "resources: [other.yaml]").unwrap();
    let rendered = "OHALLO_RENDER='kubectl kustomize channels/' bash deploy/ci/github/plan; test $? = 3";
    let printed = shell.run(&format!("{} {rendered}", variables("files", false)));
    assert!(printed.contains("Compared with before.yaml.") && printed.contains("1 destroyed"), "{printed}");
    assert_eq!(shell.run("git worktree list").lines().count(), 1, "the worktree of the base is removed");
    let action: Value = serde_saphyr::from_str(ACTION).unwrap();
    let steps = action["runs"]["steps"].as_array().unwrap();
    let given = steps.last().unwrap()["env"].as_object().unwrap();
    for word in variables("files", false).split_whitespace().skip(1) {
        let name = word.split('=').next().unwrap();
        assert!(given.contains_key(name), "the action gives no {name}");
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_job_for_gitlab_and_the_hooks_run_as_they_are() {
    let harness = Harness::bare(unique_ids(), &[]).await;
    let shell = repository(&harness);
    let job: Value = serde_saphyr::from_str(GITLAB).unwrap();
    for line in job["ohallo"]["script"].as_array().unwrap() {
        let variables = "OHALLO_PATH=channels/ CI_MERGE_REQUEST_DIFF_BASE_SHA=$(git rev-parse origin/main)";
        shell.run(&format!("export {variables}; {}", line.as_str().unwrap()));
    }
    let plan = std::fs::read_to_string(shell.file("ohallo-plan.json")).unwrap();
    let plan: Value = serde_json::from_str(&plan).unwrap();
    assert_eq!((&plan["depth"], &plan["counts"]["updated"]), (&json!("files"), &json!(1)));
    assert!(std::fs::read_to_string(shell.file("ohallo-junit.xml")).unwrap().contains("<testsuite"));
    let hooks: Value = serde_saphyr::from_str(HOOKS).unwrap();
    let hooks = hooks["repos"][0]["hooks"].as_array().unwrap();
    assert_eq!(hooks.len(), 2);
    for hook in hooks {
        let files = if hook["pass_filenames"] == false { "" } else { "channels/a.yaml" };
        shell.run(&format!("{} {files}", hook["entry"].as_str().unwrap()));
    }
    harness.finish().await;
}

/// The lines that the runner of GitHub Actions would search for commands, and whether it still searches at the end.
fn obeyed(log: &str) -> (Vec<&str>, bool) {
    let mut token = None;
    let mut lines = Vec::new();
    for line in log.lines() {
        match &token {
            Some(resume) if line == resume => token = None,
            Some(_) => {}
            None => match line.strip_prefix("::stop-commands::") {
                Some(named) => token = Some(format!("::{named}::")),
                None => lines.push(line),
            },
        }
    }
    (lines, token.is_none())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_name_of_a_pull_request_gives_the_runner_of_the_action_a_command() {
    let harness = Harness::bare(unique_ids(), &[]).await;
    let shell = repository(&harness);
    let run = |code: u8| {
        let variables = format!("GITHUB_ACTIONS=true {}", variables("files", true));
        shell.run(&format!("{variables} bash deploy/ci/github/plan 2>&1; test $? = {code}"))
    };
    let hostile = "x ##[error]y ::error::z\n::set-output name=a::b";
    std::fs::write(
        shell.file("channels/a.yaml"),
        manifest(json!({"channelType": "chat", "displayName": hostile})),
    )
    .unwrap();
    let planned = run(0);
    assert!(planned.contains("##[error]y"), "{planned}");
    assert_eq!(obeyed(&planned), (vec![], true), "{planned}");
    // Errors, which are outside of the plan.
    std::fs::write(shell.file("channels/##[error]::error::.yaml"), "a: [").unwrap();
    let failed = run(1);
    assert!(failed.contains("can't be parsed"), "{failed}");
    assert_eq!(obeyed(&failed), (vec![], true), "{failed}");
    // The step before it lets the runner obey, and prints an error that may have any name.
    let base = "--base '##[error]::error::'";
    let log = shell.run(&format!(
        "GITHUB_ACTIONS=true ./kubectl-ohallo validate channels/ --output github {base} 2>&1; test $? = 64"
    ));
    assert!(log.starts_with("error: ") && !log.contains("##[") && !log.contains("::"), "{log}");
    harness.finish().await;
}

/// The example of the README: a repository whose working tree removes, adds and changes a Channel.
#[test]
fn the_plan_in_the_readme_is_what_the_program_prints() {
    let folder = tempfile::tempdir().unwrap();
    let channels = folder.path().join("channels");
    std::fs::create_dir(&channels).unwrap();
    let put = |name: &str, spec: Value| {
        let metadata = json!({"name": name, "namespace": "support"});
        let object = json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel", "metadata": metadata, "spec": spec});
        std::fs::write(channels.join(format!("{name}.json")), object.to_string()).unwrap();
    };
    let email = |from: &str| json!({"channelType": "email", "displayName": "Support Email", "config": {"fromName": from}});
    put("support-email", email("Nordic Parts"));
    put("hotline", json!({"channelType": "voice", "displayName": "Hotline", "deletionPolicy": "Delete"}));
    let git = |args: &[&str]| git(folder.path(), args);
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message=first"]);
    git(&["update-ref", "refs/remotes/origin/main", "HEAD"]);
    std::fs::remove_file(channels.join("hotline.json")).unwrap();
    put("support-email", email("Nordic Parts Support"));
    put("website-chat", json!({"channelType": "chat", "displayName": "Website"}));
    let mut plan = command();
    plan.args(["plan", "channels/", "--base", "origin/main", "--no-color"]).current_dir(folder.path());
    let printed = String::from_utf8(plan.output().unwrap().stdout).unwrap();
    let readme = include_str!("../../../README.md");
    let block = format!("```\n$ kubectl ohallo plan channels/ --base origin/main\n{printed}```\n");
    assert!(readme.contains(&block), "README.md does not have:\n{block}");
}
