//! The program as its users run it: flags, environment, probes, signals.

use std::process::{Output, Stdio};
use std::time::Duration;

use ohallo_sim::{Action, Config, Fault, Operation};
use serde_json::{Value, json};
use testbed::{ControlPlane, Options, User};

use crate::support::harness::{Harness, install, kubectl_as};
use crate::support::leaks;
use crate::support::program::{DRAIN, Program, at_work, bare};

fn run(flags: &[&str], variables: &[(&str, &str)]) -> Output {
    bare().args(flags).envs(variables.iter().copied()).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn help_names_flag_variable_unit_and_default_of_every_setting() {
    let help = String::from_utf8(run(&["run", "--help"], &[]).stdout).unwrap();
    let settings = [
        ("kubeconfig", "Default: $KUBECONFIG"),
        ("context", "Default: its current"),
        ("api-url", "[default: https://api.ohallo.eu]"),
        ("create-path", "[default: /api/workspaces/{workspaceId}/channels]"),
        ("namespace", "Default: all"),
        ("operator-namespace", "then ohallo-system"),
        ("cluster-workspaces", "Default: true if"),
        ("leader-elect", "Default: false"),
        ("lease-duration-seconds", "[default: 60]"),
        ("lease-renew-deadline-seconds", "[default: 40]"),
        ("lease-retry-seconds", "[default: 5]"),
        ("lease-name", "[default: ohallo-operator]"),
        ("concurrency", "[default: 16]"),
        ("requests-per-second", "[default: 10]"),
        ("total-requests-per-second", "Default: 100, or no limit if --requests-per-second is 0"),
        ("burst", "[default: 20]"),
        ("request-timeout", "[default: 20]"),
        ("create-timeout", "[default: 60]"),
        ("consistency-window-seconds", "[default: 60]"),
        ("channel-selector", "Default: all"),
        ("workspace-selector", "Default: all"),
        ("http-addr", "[default: 0.0.0.0:8080]"),
        ("object-metrics", "Default: false"),
        ("log-format", "Default: human if"),
        ("otlp-endpoint", "Default: no traces"),
        ("ca-file", "Default: the system's"),
        ("proxy", "Default: none"),
        ("allow-insecure-api", "Default: false"),
    ];
    let entries: Vec<_> = help.split("\n      --").skip(1).collect();
    for (flag, default) in settings {
        let part = entries
            .iter()
            .find(|part| part.starts_with(&format!("{flag} ")) || part.starts_with(&format!("{flag}\n")));
        let part = part.unwrap_or_else(|| panic!("--help has no --{flag}"));
        let words = part.split_whitespace().collect::<Vec<_>>().join(" ");
        let variable = format!("[env: OHALLO_{}", flag.replace('-', "_").to_uppercase());
        assert!(words.contains(&variable) && words.contains(default), "{words}");
        if flag.ends_with("timeout") || flag.ends_with("seconds") {
            assert!(words.contains("in seconds"), "{words}");
        }
    }
    assert_eq!(entries.len(), settings.len(), "--help has a flag that this test does not know");
}

#[test]
fn a_bad_flag_or_variable_gets_one_sentence_and_exit_code_2() {
    let cases: &[(&[&str], (&str, &str), &str)] = &[
        (&["run", "--nonsense"], ("A", ""), "--nonsense"),
        (&["walk"], ("A", ""), "walk"),
        (&["run", "--burst", "0"], ("A", ""), "--burst"),
        (&["run", "--concurrency", "many"], ("A", ""), "--concurrency"),
        (&["run", "--request-timeout", "10s"], ("A", ""), "whole seconds"),
        (&["run", "--request-timeout", "90"], ("A", ""), "--create-timeout must not be shorter"),
        (&["run", "--lease-retry-seconds", "0"], ("A", ""), "whole seconds"),
        (&["run", "--lease-duration-seconds", "40"], ("A", ""), "must be longer than"),
        (&["run", "--lease-name", "A_b"], ("A", ""), "the name of a Lease"),
        (&["run"], ("OHALLO_LEADER_ELECT", "maybe"), "OHALLO_LEADER_ELECT"),
        (&["run", "--api-url", "api.ohallo.eu"], ("A", ""), "https://api.ohallo.eu"),
        (&["run", "--api-url", "http://ohallo.example"], ("A", ""), "plain http://"),
        (&["run", "--create-path", "/channels"], ("A", ""), "{workspaceId}"),
        (&["run", "--namespace", "Team_A"], ("A", ""), "a-z"),
        (&["run", "--channel-selector", "tier in gold"], ("A", ""), "--channel-selector"),
        (&["run", "--http-addr", "8080"], ("A", ""), "an IP address and a port"),
        (&["run", "--log-format", "xml"], ("A", ""), "--log-format"),
        (&["run", "--otlp-endpoint", "collector:4317"], ("A", ""), "http:// or https://"),
        (&["run", "--otlp-endpoint", "http://me:pw@collector:4318"], ("A", ""), "OTEL_EXPORTER_OTLP_HEADERS"),
        (&["run", "--ca-file", "/none"], ("A", ""), "can't be read"),
        (&["run", "--proxy", "socks"], ("A", ""), "--proxy"),
        (&["run"], ("OHALLO_BURST", "-1"), "OHALLO_BURST"),
        (&["run"], ("OHALLO_REQUESTS_PER_SECOND", "fast"), "OHALLO_REQUESTS_PER_SECOND"),
        (&["run"], ("OHALLO_HTTP_ADDR", "localhost"), "OHALLO_HTTP_ADDR"),
        (&["run"], ("OHALLO_API_URL", "ftp://x"), "OHALLO_API_URL"),
        (&["run"], ("RUST_LOG", "ohallo_operator=loud"), "RUST_LOG"),
    ];
    for (flags, variable, part) in cases {
        let output = run(flags, &[*variable]);
        let reported = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?} {variable:?}: {reported}");
        assert!(
            reported.contains(part) && reported.trim_end().lines().count() == 1,
            "{flags:?} {variable:?}: {reported}"
        );
        assert!(reported.starts_with("ohallo-operator: ") && output.stdout.is_empty(), "{reported}");
    }
}

#[test]
fn without_a_cluster_or_a_port_it_reports_why_and_fails() {
    let reported = |flags: &[&str]| {
        let output = run(flags, &[("HOME", "/none")]);
        assert_eq!(output.status.code(), Some(1));
        let reported = String::from_utf8(output.stderr).unwrap();
        assert_eq!(reported.lines().count(), 1, "one sentence: {reported}");
        reported
    };
    assert!(
        reported(&["run", "--http-addr=127.0.0.1:0", "--kubeconfig=/none"])
            .contains("the cluster configuration can't be loaded")
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    assert!(reported(&["run", "--http-addr", &address]).contains("is in use"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_for_missing_crds_and_continues_automatically() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    // The service account's rights come first, as with an installation whose CRDs are applied last.
    let base = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kustomize/base/");
    for file in ["namespace", "service-account", "rbac"] {
        let applied = kubectl_as(&plane, User::Admin, &["apply", "-f", &format!("{base}{file}.yaml")], None);
        assert!(applied.status.success(), "{applied:?}");
    }
    let mut program =
        Program::start(&plane, &["--api-url=http://127.0.0.1:9".into(), "--log-format=json".into()]);
    program.until("/readyz", 503, "channels.ohallo.eu is not installed").await;
    program.until("/livez", 200, "").await;
    assert!(program.log().contains("waiting for the CustomResourceDefinitions"), "{}", program.log());
    // On a control plane that has nothing of ours, one apply installs all.
    install(&plane).await;
    program.until("/readyz", 200, "channels: ok").await;
    program.terminate();
    assert_eq!(program.ended().await.0, Some(0));
    for line in program.log().lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        assert!(line["level"].is_string() && line["message"].is_string(), "{line}");
    }
    leaks::dump(&plane).await;
    tokio::task::spawn_blocking(|| plane.stop()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_that_is_under_way_at_sigterm_is_recorded() {
    let harness = Harness::bare(Config::default(), &[]).await;
    let held = harness
        .sim
        .add_fault(Fault::on(Operation::CreateChannel, Action::Hold { commit_first: true }).times(1));
    let mut program = program(&harness).await;
    harness.create("a", json!({})).await;
    harness.sim.held(held).await.unwrap();
    program.terminate();
    // Long enough that an operator which drops its work would have ended.
    tokio::time::sleep(Duration::from_secs(1)).await;
    harness.sim.release(held);
    let (code, took) = program.ended().await;
    assert_eq!(code, Some(0), "{}", program.log());
    assert!(took < DRAIN, "{took:?}");
    let id = harness.get("a").await.status.and_then(|status| status.channel_id);
    assert_eq!(id.as_deref(), harness.sim.channels().first().map(|channel| channel.id.as_str()));
    assert_eq!(harness.count(Operation::CreateChannel), 1);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_probes_and_counts_its_work() {
    let harness = Harness::bare(Config::default(), &[]).await;
    let mut program = program(&harness).await;
    harness.ready("a", json!({})).await;
    program.until("/livez", 200, "ok").await;
    program.until("/readyz", 200, "channels: ok").await;
    for part in [
        "ohallo_reconcile_total{",
        "ohallo_reconcile_duration_seconds_count{",
        "ohallo_api_requests_total{",
        "ohallo_api_request_duration_seconds_bucket{",
        "ohallo_channels{",
        "ohallo_workspaces{",
        "ohallo_build_info{",
        "process_resident_memory_bytes",
    ] {
        program.until("/metrics", 200, part).await;
    }
    assert_eq!(program.get("/secrets").await.unwrap().0, 404);
    program.terminate();
    assert_eq!(program.ended().await.0, Some(0));
    harness.finish().await;
}

async fn program(harness: &Harness) -> Program {
    at_work(harness, &[]).await
}
