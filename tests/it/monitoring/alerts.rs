//! The alerts: each is tested by promtool, and each has its page.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::monitoring::{file, promtool, text, yaml};

const RULES: &str = "deploy/helm/ohallo-operator/files/alerts.yaml";
const CASES: &str = "deploy/monitoring/alerts_test.yaml";
const RUNBOOKS: &str = "docs/runbooks";

fn rules(file: &Value) -> Vec<&Value> {
    let groups = file["groups"].as_array().unwrap().iter();
    groups.flat_map(|group| group["rules"].as_array().unwrap()).collect()
}

fn names() -> BTreeSet<String> {
    rules(&yaml(RULES)).iter().map(|rule| rule["alert"].as_str().unwrap().to_owned()).collect()
}

/// What one case expects of an alert at its moments: whether it is quiet.
fn expected(case: &Value, alert: &str) -> Vec<bool> {
    let moments = case["alert_rule_test"].as_array().unwrap().iter();
    let of_alert = moments.filter(|moment| moment["alertname"] == alert);
    of_alert.map(|moment| moment["exp_alerts"].as_array().unwrap().is_empty()).collect()
}

#[test]
fn each_alert_has_a_case_that_fires_after_it_waited_and_one_that_stays_quiet() {
    let (rules_file, cases) = (yaml(RULES), yaml(CASES));
    let cases = cases["tests"].as_array().unwrap();
    for rule in rules(&rules_file) {
        let alert = rule["alert"].as_str().unwrap();
        let of_alert: Vec<_> =
            cases.iter().map(|case| expected(case, alert)).filter(|moments| !moments.is_empty()).collect();
        let fires = if rule["for"].is_string() { vec![true, false] } else { vec![false] };
        assert!(of_alert.contains(&fires), "{alert} has no case that fires: {of_alert:?}");
        assert!(of_alert.iter().any(|moments| !moments.contains(&false)), "{alert} has no quiet case");
    }
    let known = names();
    let tested = cases.iter().flat_map(|case| case["alert_rule_test"].as_array().unwrap());
    let unknown: Vec<_> =
        tested.filter(|moment| !known.contains(moment["alertname"].as_str().unwrap())).collect();
    assert!(unknown.is_empty(), "cases of alerts that are not there: {unknown:?}");
}

#[test]
fn each_alert_has_a_severity_and_a_runbook_and_each_runbook_an_alert() {
    let rules_file = yaml(RULES);
    for rule in rules(&rules_file) {
        let alert = rule["alert"].as_str().unwrap();
        let severity = rule["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning", "info"].contains(&severity), "{alert}: {severity}");
        let url = rule["annotations"]["runbook_url"].as_str().unwrap();
        assert!(url.ends_with(&format!("/blob/main/{RUNBOOKS}/{alert}.md")), "{alert}: {url}");
        for annotation in ["summary", "description"] {
            let reported = rule["annotations"][annotation].as_str().unwrap_or_default();
            assert!(reported.ends_with('.'), "{alert} has no {annotation}: {reported}");
        }
        let page = text(&format!("{RUNBOOKS}/{alert}.md"));
        for part in ["## Meaning", "## Impact", "## Diagnosis", "## Mitigation", "## Resolution"] {
            assert!(page.contains(part), "{alert}.md lacks {part:?}");
        }
        assert!(page.starts_with(&format!("# {alert}\n")), "{alert}.md has another title");
        assert!(text("docs/monitoring.md").contains(&format!("(runbooks/{alert}.md)")), "{alert}");
    }
    let pages = std::fs::read_dir(file(RUNBOOKS)).unwrap();
    let pages: BTreeSet<_> = pages.map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
    let wanted: BTreeSet<_> = names().into_iter().map(|alert| format!("{alert}.md")).collect();
    assert_eq!(pages, wanted);
}

#[test]
#[ignore = "builds promtool, which takes minutes"]
fn promtool_finds_nothing_wrong_with_the_alerts_and_their_cases_hold() {
    let rules = file(RULES);
    let (good, reported) =
        promtool(&["check", "rules", "--lint=all", "--lint-fatal", rules.to_str().unwrap()], "");
    assert!(good, "{reported}");
    let cases = file(CASES);
    let (good, reported) = promtool(&["test", "rules", cases.to_str().unwrap()], "");
    assert!(good, "{reported}");
}

/// Every part of an alert that decides, changed one after another.
#[test]
#[ignore = "builds promtool, which takes minutes"]
fn promtool_notices_whatever_is_changed_in_an_alert() {
    let mut unnoticed = Vec::new();
    let mut tried = 0;
    for rule in rules(&yaml(RULES)) {
        assert!(holds(rule["alert"].as_str().unwrap(), rule), "the cases fail without any change");
        for (what, changed) in mutants(rule) {
            tried += 1;
            if holds(rule["alert"].as_str().unwrap(), &changed) {
                unnoticed.push(format!("{}: {what}", rule["alert"]));
            }
        }
    }
    assert!(unnoticed.is_empty(), "of {tried}: {unnoticed:#?}");
    assert!(tried > 100, "{tried}");
}

/// Whether the cases of the alert hold for this rule.
fn holds(alert: &str, rule: &Value) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let (rules_file, cases_file) = (folder.path().join("rules.yaml"), folder.path().join("cases.yaml"));
    let rules = json!({"groups": [{"name": "one", "rules": [rule]}]});
    std::fs::write(&rules_file, ohallo_operator::manifest::yaml(&rules).unwrap()).unwrap();
    let mut cases = yaml(CASES);
    cases["rule_files"] = json!(["rules.yaml"]);
    cases["tests"].as_array_mut().unwrap().retain(|case| !expected(case, alert).is_empty());
    std::fs::write(&cases_file, ohallo_operator::manifest::yaml(&cases).unwrap()).unwrap();
    promtool(&["test", "rules", cases_file.to_str().unwrap()], "").0
}

fn mutants(rule: &Value) -> Vec<(String, Value)> {
    let expr = rule["expr"].as_str().unwrap();
    let mut all: Vec<_> = expressions(expr)
        .into_iter()
        .map(|other| {
            let mut changed = rule.clone();
            changed["expr"] = other.clone().into();
            (other, changed)
        })
        .collect();
    let spans = rule["for"].as_str().map(|span| [json!("0s"), twice(span)]);
    let others = spans.into_iter().flatten().map(|span| ("for", span));
    for (key, value) in others.chain([("labels", json!({"severity": "none"}))]) {
        let mut changed = rule.clone();
        changed[key] = value.clone();
        all.push((format!("{key}: {value}"), changed));
    }
    all
}

fn twice(span: &str) -> Value {
    let (number, unit) = span.split_at(span.len() - 1);
    format!("{}{unit}", number.parse::<u32>().unwrap() * 2).into()
}

/// The expression with another limit, window or selection.
fn expressions(expr: &str) -> Vec<String> {
    let mut all = vec!["vector(1) > 2".to_owned(), "vector(1)".to_owned()];
    if let Some((left, limit)) = expr.rsplit_once("> ") {
        all.extend([
            format!("{left}> {}", limit.parse::<f64>().unwrap() * 10.0 + 9.0),
            format!("{left}>= 0"),
        ]);
    }
    for window in ["5m", "15m", "1h", "6h"] {
        all.push(expr.replace(&format!("[{window}]"), "[150m]"));
        all.push(expr.replace(&format!("[{window}]"), "[10h]"));
    }
    all.push(expr.replace("instance)", "job)").replace("max by", "sum by"));
    all.push(expr.replace("max(", "min("));
    // Each word of a selection left out.
    for (at, _) in expr.match_indices('"').step_by(2) {
        let (before, rest) = expr.split_at(at + 1);
        let (words, after) = rest.split_once('"').unwrap();
        let words: Vec<_> = words.split('|').collect();
        for left_out in 0..words.len() {
            let mut kept = words.clone();
            kept.remove(left_out);
            all.push(format!(
                "{before}{}\"{after}",
                if kept.is_empty() { "-".into() } else { kept.join("|") }
            ));
        }
    }
    all.retain(|other| other != expr);
    all
}
