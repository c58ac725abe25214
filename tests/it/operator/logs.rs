//! The log of the real program: one line for each outcome, whatever others wrote into what it quotes.

use ohallo_sim::{Action, Config, Fault, Operation};
use serde_json::{Value, json};
use testbed::{Act, Proxy, Rule, When};

use crate::support::harness::{Harness, id_of};
use crate::support::program::Program;

/// Ends a line, begins another that resembles ours, and steers the terminal.
const HOSTILE: &str = "a\r\n{\"level\":\"ERROR\",\"message\":\"forged\"}\n2026-01-10T08:00:00Z ERROR forged\u{1b}[2J\u{9b}31m\u{202e}";

/// A program at work behind a proxy, with a verified Workspace.
async fn at_work(levels: &str, format: &str) -> (Harness, Program) {
    let mut harness = Harness::bare(Config::default(), &[]).await;
    harness.proxy = Some(Proxy::start(harness.plane, harness.user).await.unwrap());
    harness
        .put_secret(json!({"metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": harness.key}}))
        .await;
    harness.workspace("default", "ohallo-api-key").await;
    let flags = [
        format!("--api-url={}", harness.sim.url()),
        format!("--namespace={}", harness.namespace),
        format!("--log-format={format}"),
        "--consistency-window-seconds=0".to_owned(),
    ];
    let program = Program::logging(harness.proxy().kubeconfig(), levels, &flags);
    harness.workspace_reason("default", "Verified").await;
    (harness, program)
}

/// The lines about reconciles of one kind of object, as JSON or as text.
fn passes(log: &str, object: &str) -> Vec<String> {
    let about = |line: &&str| line.contains("reconciled") && line.contains(object);
    log.lines().filter(about).map(str::to_owned).collect()
}

/// How many reconciles of a kind the program counted.
async fn counted(program: &Program, kind: &str) -> f64 {
    let (_, text) = program.get("/metrics").await.unwrap();
    let series = format!("ohallo_reconcile_total{{kind=\"{kind}\",");
    let lines = text.lines().filter(|line| line.starts_with(&series));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}

/// A life with a status that the API server does not take at first, then nothing more to do.
async fn a_life(harness: &Harness, program: &Program) {
    let refuse = |name: &str| {
        let away = Act::Answer { code: 503, body: String::new() };
        harness.proxy().add(Rule::write(When::Before, away).part(&format!("/{name}/status")).times(1))
    };
    harness.ready("a", json!({})).await;
    let rules = [refuse("channels/a"), refuse("workspaces/default")];
    harness.edit("a", json!({"spec": {"displayName": "Another"}})).await;
    harness.reason("a", "Available").await;
    harness.sim.revoke_key(&harness.key);
    harness.ask_workspace("default", "1").await;
    harness.workspace_reason("default", "AuthenticationFailed").await;
    harness.sim.restore_key(&harness.key);
    harness.ask_workspace("default", "2").await;
    harness.workspace_reason("default", "Verified").await;
    assert_eq!(rules.map(|rule| rule.met()), [1, 1]);
    harness.delete_and_wait("a").await;
    // Whatever reconcile was under way has been counted and logged.
    for _ in 0..2 {
        program.until("/metrics", 200, "ohallo_reconcile_active{kind=\"Channel\"} 0").await;
        program.until("/metrics", 200, "ohallo_reconcile_active{kind=\"Workspace\"} 0").await;
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_reconcile_is_one_line_of_json_with_its_object_generation_outcome_and_time() {
    let (harness, program) = at_work("info,ohallo_operator=debug", "json").await;
    a_life(&harness, &program).await;
    let log = program.log();
    let fields = ["level", "timestamp", "target", "message", "namespace", "outcome"];
    for (kind, object, name) in
        [("Channel", "\"channel\":", "channel"), ("Workspace", "\"kind\":\"Workspace\"", "name")]
    {
        let lines = passes(&log, object);
        assert_eq!(counted(&program, kind).await, lines.len() as f64, "{lines:#?}");
        let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        for line in &lines {
            for field in fields.into_iter().chain([name]) {
                assert!(line[field].is_string(), "{field}: {line}");
            }
            assert!(line["generation"].is_i64() && line["took_ms"].is_u64(), "{line}");
            assert_eq!(line["namespace"], harness.namespace.as_str());
        }
        let unwritten: Vec<_> = lines.iter().filter(|line| line["outcome"] == "unwritten").collect();
        assert_eq!(unwritten.len(), 1, "{kind}: {lines:#?}");
        assert_eq!(unwritten[0]["level"], "WARN");
        assert!(unwritten[0]["error"].as_str().unwrap().contains("503"), "{unwritten:?}");
    }
    // Only in the texts: a timestamp, an id or a port may hold the same digits.
    let quotes = |line: &&str| {
        let line: Value = serde_json::from_str(line).unwrap();
        ["message", "error"].iter().any(|field| line[field].as_str().is_some_and(|text| text.contains("503")))
    };
    let quoting = log.lines().filter(quotes).count();
    assert_eq!(quoting, 2, "two failures, one line each:\n{log}");
    let outcomes: Vec<_> = passes(&log, "\"channel\":");
    assert!(outcomes.iter().any(|line| line.contains("\"outcome\":\"gone\"")), "{outcomes:#?}");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_reconcile_is_one_line_for_a_person_too() {
    let (harness, program) = at_work("ohallo_operator=debug", "human").await;
    a_life(&harness, &program).await;
    let log = program.log();
    for (kind, object) in [("Channel", " channel=\"a\""), ("Workspace", " kind=\"Workspace\"")] {
        let lines = passes(&log, object);
        assert_eq!(counted(&program, kind).await, lines.len() as f64, "{lines:#?}");
        for line in lines {
            for part in [" generation=", " outcome=\"", " took_ms=", " namespace=\""] {
                assert!(line.contains(part), "{part}: {line}");
            }
        }
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_write_ends_no_line_and_steers_no_terminal() {
    for format in ["json", "human"] {
        let (harness, program) = at_work("trace", format).await;
        // What a log quotes of others is at most the API server's message about an event; oHallo's words are in no line.
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": HOSTILE, "message": HOSTILE, "code": 500});
        let refuse = Act::Answer { code: 500, body: status.to_string() };
        let events = harness.proxy().add(Rule::any(When::Before, refuse).method("POST").part("/events"));
        harness.sim.add_workspace(
            crate::support::harness::TENANT,
            crate::support::harness::WORKSPACE,
            HOSTILE,
        );
        harness.ask_workspace("default", "1").await;
        let id = id_of(&harness.ready("a", json!({"driftPolicy": "Report"})).await);
        harness.sim.edit_channel(&id, |channel| channel.display_name = HOSTILE.into());
        harness.annotate("a", crate::support::steps::RECONCILE_REQUESTED, "1").await;
        harness.has("a", "Drifted", "DriftDetected").await;
        let body = json!({"error": HOSTILE}).to_string();
        let refused = Action::Status { code: 422, body: Some(body), headers: Vec::new(), commit: false };
        harness.sim.add_fault(Fault::on(Operation::UpdateChannel, refused).times(1));
        harness.edit("a", json!({"spec": {"displayName": "Refused", "driftPolicy": "Correct"}})).await;
        harness.reason("a", "ValidationFailed").await;
        harness
            .eventually("a refused event in the log", || async {
                (events.met() > 0 && program.log().contains("event not published")).then_some(())
            })
            .await;
        let log = program.log();
        assert!(log.contains("forged"), "nothing hostile is quoted, and this test shows nothing");
        for line in log.lines() {
            let steers = |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c);
            assert!(!line.contains(steers), "{line:?}");
            if format == "json" {
                let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
                assert_ne!(line["message"], "forged");
            } else {
                let quotes =
                    line.contains("event not published") || line.contains(" error=\"oHallo rejected");
                assert!(!line.contains("forged") || quotes, "{line}");
            }
        }
        harness.proxy().clear();
        harness.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_environment_sets_the_levels() {
    let levels = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"];
    let shown = |log: &str| -> Vec<&str> {
        let of = |level: &&str| log.contains(&format!("\"level\":\"{level}\""));
        levels.into_iter().filter(of).collect()
    };
    for (variable, wanted) in [
        ("", vec!["INFO", "WARN"]),
        ("warn", vec!["WARN"]),
        ("ohallo_operator=debug", vec!["DEBUG", "INFO", "WARN"]),
        ("ohallo_operator::reconciler=warn", vec!["WARN"]),
        ("off", vec![]),
    ] {
        let (harness, program) = at_work(variable, "json").await;
        a_life(&harness, &program).await;
        assert_eq!(shown(&program.log()), wanted, "RUST_LOG={variable}:\n{}", program.log());
        assert_eq!(program.log().contains("called oHallo"), wanted.contains(&"DEBUG"), "{variable}");
        harness.finish().await;
    }
}
