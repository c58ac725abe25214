//! `validate` in a shell and in a pipeline: files, stdin, exit codes, pipes and Git.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::cli::support::program::{command, git, run, with_stdin};

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/samples");
const GOOD: &str = "apiVersion: ohallo.eu/v1alpha1\nkind: Channel\nmetadata: {name: a}\nspec: {channelType: chat, displayName: A}\n";

/// `validate` of what is on stdin.
fn on_stdin(flags: &[&str]) -> Command {
    let mut command = command();
    command.args(["validate", "-"]).args(flags);
    command
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn each_exit_code_means_what_the_help_says() {
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.yaml");
    std::fs::write(&bad, GOOD.replace("chat", "sms")).unwrap();
    let bad = bad.to_str().unwrap();
    for (args, expected) in [
        (vec!["validate", SAMPLES], 0),
        (vec!["validate", bad], 1),
        (vec!["validate", SAMPLES, "/missing.yaml"], 2),
        (vec!["validate"], 64),
        (vec!["validate", SAMPLES, "--output=xml"], 64),
        (vec!["validate", SAMPLES, "--base=no-such-revision"], 64),
        (vec!["no-such-command"], 64),
        (vec!["--help"], 0),
        (vec!["--version"], 0),
    ] {
        let output = run(&args);
        assert_eq!(code(&output), expected, "{args:?}: {}", text(&output.stderr));
        // A result is on stdout, and an error is one sentence on stderr.
        assert_eq!(output.stdout.is_empty(), expected == 64, "{args:?}");
    }
    let output = run(&["validate", SAMPLES, "--base=no-such-revision"]);
    let message =
        "error: --base no-such-revision is neither a file, a directory nor a Git revision of these files\n";
    assert_eq!(text(&output.stderr), message);
}

#[test]
fn every_command_has_examples_in_its_help() {
    let help = text(&run(&["--help"]).stdout);
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names: Vec<_> = commands
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty())
        .collect();
    assert!(names.contains(&"validate"), "{names:?}");
    for name in names {
        let help = text(&run(&[name, "--help"]).stdout);
        let examples =
            help.split("Examples:\n").nth(1).unwrap_or_else(|| panic!("{name} has no example: {help}"));
        assert!(examples.contains(&format!("kubectl ohallo {name}")), "{name}: {help}");
    }
}

#[test]
fn what_kustomize_and_json_bring_on_stdin_is_judged() {
    let rendered = Command::new("kubectl").args(["kustomize", SAMPLES]).output().unwrap();
    let output = with_stdin(on_stdin(&["--output=json"]), &text(&rendered.stdout));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (code(&output), &report["counts"]["valid"], &report["counts"]["invalid"]),
        (0, &5.into(), &0.into())
    );
    assert_eq!(report["notes"], Value::Array(Vec::new()));
    let item = r#"{"apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel", "metadata": {"name": "a"}, "spec": {"channelType": "sms", "displayName": "A"}}"#;
    let list = format!("{{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{item}]}}");
    for (input, place) in [(format!("{item}\n{item}"), "stdin:2:93"), (list, "stdin:1:140")] {
        let output = with_stdin(on_stdin(&[]), &input);
        let reported = text(&output.stdout);
        assert!(code(&output) == 1 && reported.contains(place), "{reported}");
    }
}

#[test]
fn there_are_colors_on_a_terminal_only() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    std::fs::write(&file, GOOD).unwrap();
    let plain = text(&run(&["validate", file.to_str().unwrap()]).stdout);
    assert!(plain.contains("1 valid") && !plain.contains('\u{1b}'), "{plain:?}");
    // script runs a command on a terminal.
    let on_terminal = |flags: &str| {
        let run = format!(
            "{} validate {} {flags}",
            crate::cli::support::program::program().display(),
            file.display()
        );
        let output = Command::new("script")
            .args(["-qec", &run, "/dev/null"])
            .env_remove("NO_COLOR")
            .env("TERM", "xterm")
            .output()
            .unwrap();
        text(&output.stdout)
    };
    assert!(on_terminal("").contains("\u{1b}[32m1 valid"), "{:?}", on_terminal(""));
    assert!(!on_terminal("--no-color").contains('\u{1b}'));
}

#[test]
fn a_pipe_that_closes_early_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let many = format!("{}---\n", GOOD.replace("chat", "sms")).repeat(5000);
    std::fs::write(folder.path().join("many.yaml"), many).unwrap();
    let mut child = command()
        .args(["validate", folder.path().to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((code(&output), text(&output.stderr)), (1, String::new()));
}

#[test]
fn a_base_in_git_or_in_a_directory_shows_what_may_not_change() {
    let folder = tempfile::tempdir().unwrap();
    let channels = folder.path().join("channels");
    std::fs::create_dir(&channels).unwrap();
    std::fs::write(channels.join("a.yaml"), GOOD).unwrap();
    git(folder.path(), &["init", "-q"]);
    git(folder.path(), &["add", "."]);
    git(folder.path(), &["commit", "-qm", "before"]);
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(channels.join("a.yaml"), copy.path().join("renamed.yaml")).unwrap();
    // The file is renamed as well: an object is known by its name.
    std::fs::remove_file(channels.join("a.yaml")).unwrap();
    let after = channels.join("b.yaml");
    std::fs::write(&after, GOOD.replace("chat", "voice")).unwrap();
    let judged = |base: &str| run(&["validate", channels.to_str().unwrap(), &format!("--base={base}")]);
    for base in ["HEAD", copy.path().to_str().unwrap()] {
        let output = judged(base);
        let reported = text(&output.stdout);
        assert!(
            code(&output) == 1 && reported.contains("spec.channelType: channelType is immutable"),
            "{base}: {reported}"
        );
    }
    assert_eq!(code(&run(&["validate", channels.to_str().unwrap()])), 0);
    std::fs::write(&after, GOOD.replace("displayName: A", "displayName: B")).unwrap();
    assert_eq!(code(&judged("HEAD")), 0);
}

#[test]
fn a_loop_of_links_a_binary_file_and_a_huge_one_are_judged_or_named() {
    let folder = tempfile::tempdir().unwrap();
    let looped = folder.path().join("looped");
    std::fs::create_dir(&looped).unwrap();
    std::fs::write(looped.join("a.yaml"), GOOD).unwrap();
    std::os::unix::fs::symlink(&looped, looped.join("self")).unwrap();
    let binary = folder.path().join("binary.yaml");
    std::fs::write(&binary, [0xff, 0xfe, 0x00, 0x80]).unwrap();
    let huge = folder.path().join("huge.yaml");
    std::fs::write(&huge, format!("kind: Other\ntext: {}\n", "x".repeat(50_000_000))).unwrap();
    for (place, expected, part) in [
        (&looped, 0, "1 valid, 0 invalid"),
        (&binary, 2, "binary.yaml is not text in UTF-8"),
        (&huge, 0, "1 of other kinds not judged"),
    ] {
        let output = run(&["validate", place.to_str().unwrap()]);
        assert!(code(&output) == expected && text(&output.stdout).contains(part), "{part}: {output:?}");
    }
}

/// Nested, anchored, repeated: what a few kilobytes can ask for.
#[test]
fn a_small_file_needs_little_memory_whatever_it_nests_and_repeats() {
    const DEPTH: usize = 9000;
    // Kilobytes of address space: 512 MiB are the stack, which is reserved and not used.
    const LIMIT: usize = 800_000;
    let nested = |open: &dyn Fn(usize) -> String, close: &str| {
        (0..DEPTH).map(open).collect::<String>() + "1" + &close.repeat(DEPTH)
    };
    let config = |config: &str| GOOD.replace("displayName: A", &format!("displayName: A, config: {config}"));
    let anchors = nested(&|at| format!("&a{at} ["), "]");
    let aliases: Vec<_> = (0..DEPTH).map(|at| format!("*a{at}")).collect();
    let folder = tempfile::tempdir().unwrap();
    for (what, text, part) in [
        ("anchors", config(&format!("{{x: {anchors}}}")), ""),
        ("aliases", config(&format!("{{x: {anchors}, z: [{}]}}", aliases.join(", "))), "too many aliases"),
        (
            "text",
            format!("kind: Other\na: &a {}\nb: [{}]\n", "x".repeat(1 << 20), ["*a"; 2000].join(", ")),
            "too many aliases",
        ),
        (
            "one duplicate",
            config(&format!("{{x: {}, z: 1, z: 2}}", nested(&|_| "{a: ".to_owned(), "}"))),
            "config.z",
        ),
        (
            "duplicates",
            config(&format!("{{x: {}}}", nested(&|_| "{a: 1, a: ".to_owned(), "}"))),
            "config.x.a.a",
        ),
        (
            "infinities",
            config(&format!("{{x: {}}}", nested(&|_| "{b: .inf, a: ".to_owned(), "}"))),
            "infinity and NaN",
        ),
    ] {
        let file = folder.path().join("a.yaml");
        std::fs::write(&file, text).unwrap();
        let program = crate::cli::support::program::program().display();
        let limited = format!("ulimit -v {LIMIT}; exec {program} validate --output=json {}", file.display());
        let output = Command::new("sh").args(["-c", &limited]).output().unwrap();
        let reported = text_of(&output);
        assert!(output.status.code().is_some_and(|code| code < 3), "{what}: {:?} {reported}", output.status);
        assert!(output.stderr.is_empty() && reported.contains(part), "{what}: {reported}");
    }
}

/// The first kilobytes of what it says.
fn text_of(output: &Output) -> String {
    let all = text(&output.stdout) + &text(&output.stderr);
    all.chars().take(20_000).collect()
}

#[test]
fn a_narrow_terminal_gets_the_same_answer() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    std::fs::write(&file, GOOD.replace("chat", "sms")).unwrap();
    let program = crate::cli::support::program::program().display();
    for columns in [40, 200] {
        let run = format!("stty cols {columns}; {program} validate --no-color {}", file.display());
        let output =
            Command::new("script").args(["-qec", &run, "/dev/null"]).env("TERM", "xterm").output().unwrap();
        assert_eq!(code(&output), 1, "{columns}");
        let printed = text(&output.stdout).replace("\r\n", "\n");
        assert!(
            printed.contains("spec.channelType") && printed.ends_with("0 valid, 1 invalid\n"),
            "{printed}"
        );
    }
}

/// Their files and clusters do not exist here; their commands, flags and values do.
#[test]
fn every_example_in_the_help_is_right_usage() {
    let page = include_str!("../../../docs/kubectl-ohallo.md");
    let mut tried = 0;
    for line in page.lines() {
        let Some((_, example)) = line.strip_prefix("  ").and_then(|line| line.split_once("kubectl ohallo "))
        else {
            continue;
        };
        let example = example.split([')', '|', '>', '`']).next().unwrap();
        let words = example.split_whitespace().map(|word| if word == "ID" { "an-id" } else { word });
        let words: Vec<_> = words.collect();
        let folder = tempfile::tempdir().unwrap();
        let output =
            command().args(&words).env("HOME", "/missing").current_dir(folder.path()).output().unwrap();
        let reported = text(&output.stderr);
        assert!(!reported.contains("Usage: ") && !reported.contains("--help"), "{example}: {reported}");
        tried += 1;
    }
    assert!(tried > 25, "{tried} examples");
}
