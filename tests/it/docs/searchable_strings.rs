//! What the documents search for can be found: a text of the log, a reason, a field, a metric.

use std::collections::BTreeSet;
use std::path::Path;

use ohallo_core::api;
use ohallo_core::api::conditions::Reason;
use ohallo_core::api::values::ReconcileResult;
use strum::VariantArray;

use crate::support::helm::{of_kind, render_as};
use crate::support::pages;

const SOURCES: [&str; 3] = [
    concat!(env!("CARGO_MANIFEST_DIR"), "/src"),
    concat!(env!("CARGO_MANIFEST_DIR"), "/crates/ohallo-core/src"),
    concat!(env!("CARGO_MANIFEST_DIR"), "/crates/ohallo-client/src"),
];

/// Labels that Prometheus adds to every series.
const OF_THE_SCRAPE: [&str; 2] = ["job", "instance"];
const STATUSES: [&str; 3] = ["True", "False", "Unknown"];

/// The texts in the operator's sources, without its comments and tests.
struct Texts {
    all: BTreeSet<String>,
    /// Those that are logged.
    logged: BTreeSet<String>,
}

impl Texts {
    fn read() -> Self {
        let mut texts = Self { all: BTreeSet::new(), logged: BTreeSet::new() };
        let mut folders = SOURCES.map(|folder| Path::new(folder).to_owned()).to_vec();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|end| end == "rs") {
                    texts.add(&std::fs::read_to_string(path).unwrap());
                }
            }
        }
        assert!(texts.logged.len() > 20, "{:?}", texts.logged);
        texts
    }

    fn add(&mut self, source: &str) {
        let shipped = source.split("#[cfg(test)]").next().unwrap_or_default();
        let lines = shipped.lines().filter(|line| !line.trim_start().starts_with("//"));
        let code = lines.collect::<Vec<_>>().join("\n");
        self.all.extend(literals(&code));
        for level in ["error", "warn", "info", "debug", "trace"] {
            for call in code.split(&format!("tracing::{level}!(")).skip(1) {
                self.logged.extend(literals(call.split(");").next().unwrap_or_default()));
            }
        }
    }

    /// Whether a line of the log may have it: in a message, or as the whole of a value such as an outcome.
    fn log_has(&self, search_string: &str, any_case: bool) -> bool {
        let fold = |text: &str| if any_case { text.to_lowercase() } else { text.to_owned() };
        self.logged.iter().any(|text| fold(text).contains(&fold(search_string)))
            || self.all.contains(search_string)
            || ReconcileResult::VARIANTS.iter().any(|result| result.as_str() == search_string)
    }
}

/// What is in quotes.
fn literals(code: &str) -> Vec<String> {
    let code = code.replace("\\\"", "'").replace("'\"'", "");
    code.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The text that a `grep` searches for, or the texts, and whether in any case.
fn search_strings(command: &str) -> Option<(Vec<&str>, bool)> {
    let (_, rest) = command.split_once("| grep ")?;
    let rest = rest.split(" | ").next()?;
    let mut flags = BTreeSet::new();
    let mut text = rest;
    while let Some((flag, after)) = text.strip_prefix('-').and_then(|text| text.split_once(' ')) {
        flags.insert(flag);
        text = after;
    }
    let text = match text.strip_prefix('\'') {
        Some(quoted) => quoted.split('\'').next()?,
        None => text.split(' ').next()?,
    };
    let texts = if flags.contains("E") { text.split('|').collect() } else { vec![text] };
    Some((texts, flags.contains("i")))
}

#[test]
fn search_strings_for_logs_and_lists_are_what_the_operator_writes() {
    let sources = Texts::read();
    let reasons: BTreeSet<_> = Reason::VARIANTS.iter().map(|reason| reason.as_str()).collect();
    let (mut in_logs, mut in_lists) = (0, 0);
    for (path, page) in pages::all() {
        for command in pages::commands(&page) {
            let Some((texts, any_case)) = search_strings(&command) else { continue };
            for text in texts {
                let found = if command.starts_with("kubectl logs ") {
                    in_logs += 1;
                    sources.log_has(text, any_case)
                } else {
                    in_lists += 1;
                    reasons.contains(text) || STATUSES.contains(&text)
                };
                assert!(found, "{path}: nothing writes {text:?}, which this command searches for: {command}");
            }
        }
        for text in quoted_from_the_log(&page) {
            in_logs += 1;
            assert!(sources.log_has(text, false), "{path}: nothing logs {text:?}");
        }
    }
    assert!(in_logs >= 7 && in_lists >= 7, "{in_logs} {in_lists}");
}

/// `` `such a text` in the log``
fn quoted_from_the_log(page: &str) -> Vec<&str> {
    let parts: Vec<_> = page.split('`').collect();
    let quoted = parts.windows(2).skip(1).step_by(2);
    quoted.filter(|pair| pair[1].starts_with(" in the log")).map(|pair| pair[0]).collect()
}

#[test]
fn what_a_command_selects_by_exists() {
    let sources = Texts::read();
    // Each variant of `EventReason` is a word of its own.
    let events = std::fs::read_to_string("crates/ohallo-core/src/event.rs").unwrap();
    let channel = serde_json::to_value(&api::crds()[0]).unwrap();
    let schema = &channel["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    let mut seen = 0;
    for (path, page) in pages::all() {
        for command in pages::commands(&page) {
            for (start, end) in [("@.type==\"", '"'), ("reason=", ' '), ("--for=condition=", ' ')] {
                for rest in command.split(start).skip(1) {
                    let word = rest.split(end).next().unwrap();
                    let exists = sources.all.contains(word) || events.contains(&format!("\n    {word},\n"));
                    assert!(exists, "{path}: there is no {word}: {command}");
                    seen += 1;
                }
            }
            let about_ours = command.contains("channel") && command.contains("jsonpath");
            for field in command.split(".status.").skip(1).filter(|_| about_ours) {
                let field: String = field.chars().take_while(char::is_ascii_alphanumeric).collect();
                let known = &schema["status"]["properties"][&field];
                assert!(known.is_object(), "{path}: there is no status.{field}: {command}");
                seen += 1;
            }
        }
    }
    assert!(seen > 12, "{seen}");
}

#[test]
fn every_query_of_the_documents_names_existing_metrics_and_labels() {
    let monitoring = include_str!("../../../docs/monitoring.md");
    let table: Vec<_> = monitoring.lines().filter(|line| line.starts_with("| `ohallo_")).collect();
    let labels = |name: &str| {
        let row = table.iter().find(|row| row.starts_with(&format!("| `{name}` |")))?;
        let cell = row.split(" |").nth(1)?;
        Some(cell.split('`').skip(1).step_by(2).collect::<BTreeSet<_>>())
    };
    let mut seen = 0;
    for (path, page) in pages::all() {
        let blocks = pages::promql(&page);
        for query in blocks.iter().flat_map(|block| block.lines()) {
            for rest in query.split("ohallo_").skip(1) {
                let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(rest.len());
                let (name, after) = rest.split_at(end);
                let name = format!("ohallo_{name}");
                let family = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end));
                let known = labels(&name).or_else(|| labels(family?));
                let known = known.unwrap_or_else(|| panic!("{path}: there is no {name}: {query}"));
                let chosen =
                    after.strip_prefix('{').and_then(|rest| rest.split('}').next()).unwrap_or_default();
                let chosen = chosen.split(',').filter_map(|one| one.split(['=', '!']).next());
                let by = query.split("by (").skip(1).filter_map(|rest| rest.split(')').next());
                let by = by.flat_map(|list| list.split(", ")).filter(|label| *label != "le");
                for label in chosen.filter(|label| !label.is_empty()).chain(by) {
                    assert!(
                        known.contains(label) || OF_THE_SCRAPE.contains(&label),
                        "{path}: {name} has no label {label}: {query}"
                    );
                }
                seen += 1;
            }
        }
    }
    assert!(seen > 7, "{seen}");
}

#[test]
fn a_grep_is_read_as_a_shell_reads_it() {
    assert_eq!(search_strings("kubectl logs x | grep 'a b' -A3 | tail"), Some((vec!["a b"], false)));
    assert_eq!(search_strings("kubectl get x | grep -E 'A|B'"), Some((vec!["A", "B"], false)));
    assert_eq!(search_strings("kubectl logs x | grep -i lease"), Some((vec!["lease"], true)));
    assert_eq!(search_strings("kubectl get x"), None);
    assert_eq!(quoted_from_the_log("See `a` and `b c` in the log."), ["b c"]);
    assert_eq!(literals("f(\"a\", '\"', \"b \\\"c\\\"\")"), ["a", "b 'c'"]);
}

/// With a ServiceMonitor, Prometheus takes the name of the Service as the job; with a PodMonitor, the PodMonitor's
/// namespace and name.
#[test]
fn the_monitoring_page_names_the_jobs_that_prometheus_gives_to_a_helm_release() {
    let page = include_str!("../../../docs/monitoring.md");
    for (release, namespace) in [("ohallo-a", "ohallo-a"), ("ohallo-operator", "ohallo-system")] {
        let name = |kind: &str, value: &str| {
            let objects = render_as(release, namespace, &[value]).unwrap();
            of_kind(&objects, kind)[0]["metadata"]["name"].as_str().unwrap().to_owned()
        };
        let service = name("Service", "metrics.serviceMonitor.enabled=true");
        let monitor = name("PodMonitor", "metrics.podMonitor.enabled=true");
        let jobs = [format!(" `{service}` |"), format!(" `{namespace}/{monitor}` |")];
        assert!(jobs.iter().all(|job| page.contains(job)), "{jobs:?}");
        let rule = format!("absent(ohallo_build_info{{job=\"{service}\"}})");
        assert!(release != "ohallo-a" || page.contains(&rule), "{rule}");
    }
}
