//! The demo under load, scraped by a real Prometheus, which is asked everything that the dashboard asks.
//!
//! `OHALLO_TEST_MONITORING_SECONDS` makes it longer, and `OHALLO_TEST_WRITE=1` draws `docs/images/dashboard.svg` from it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::monitoring::dashboard::{Panel, WITHOUT_PANEL, panels};
use crate::monitoring::support::demo::Demo;
use crate::monitoring::support::picture;
use crate::monitoring::support::prometheus::{JOB, Prometheus, Series};
use crate::monitoring::{file, promtool, text};
use crate::support::canary;

const PICTURE: &str = "docs/images/dashboard.svg";
/// Where the demo has its Channels.
const NAMESPACE: &str = "default";
/// Seconds.
const STEP: u32 = 1;
/// What the demo does not move: bugs, an API server that takes no event for very long, an older CRD, admission.
const MAY_STAY_AT_ZERO: [&str; 4] = [
    "ohallo_panics_total",
    "ohallo_events_dropped_total",
    "ohallo_crd_fields_missing",
    "ohallo_writes_not_stored_total",
];

/// A series exists only while a Channel of a second namespace names an id, and the demo has one namespace.
const MAY_BE_ABSENT: &str = "ohallo_deletions_claimed";

/// A panel with what each of its queries was answered.
pub struct Answered {
    pub panel: Panel,
    pub answers: Vec<Vec<Series>>,
}

fn now() -> f64 {
    ohallo_client::clock::now().as_duration().as_secs_f64()
}

fn seconds() -> f64 {
    std::env::var("OHALLO_TEST_MONITORING_SECONDS").map_or(75.0, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "builds Prometheus, which takes minutes, and runs for two"]
async fn a_real_prometheus_answers_every_query_of_the_dashboard_from_a_run_of_the_demo_under_load() {
    let mut demo = Demo::start().await;
    let replicas = [demo.replica().await, demo.replica().await];
    let prometheus = Prometheus::start(&replicas).await;
    let began = now();
    demo.prints("some of them their troubles").await;
    tokio::time::sleep(Duration::from_secs_f64((began + seconds() - now()).max(0.0))).await;
    let mut shown = String::new();
    for replica in &replicas {
        let text = reqwest::get(format!("http://{replica}/metrics")).await.unwrap().text().await.unwrap();
        canary::scan("the demo's metrics", &text);
        let (good, reported) = promtool(&["check", "metrics"], &text);
        assert!(good && reported.trim().is_empty(), "{reported}");
        shown.push_str(&text);
    }
    everything_is_shown(&shown);
    demo.prints("The leader was replaced").await;
    tokio::time::sleep(Duration::from_secs(5)).await;

    let answered = ask(&prometheus, (began, now())).await;
    let empty: Vec<_> = answered.iter().flat_map(without_data).collect();
    assert!(empty.is_empty(), "without data: {empty:#?}");
    let alerts = prometheus.alerts().await;
    let broken: Vec<_> = alerts.iter().filter(|(_, (_, error))| !error.is_empty()).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    for alert in ["OhalloChannelOrphaned", "OhalloStatusRejected"] {
        assert_eq!(alerts[alert].0, "firing", "{alert}: {alerts:#?}");
    }
    for alert in ["OhalloChannelCreateUnknown", "OhalloDeletionBlocked", "OhalloWorkspaceNotReady"] {
        assert_ne!(alerts[alert].0, "inactive", "{alert}: {alerts:#?}");
    }
    for alert in ["OhalloOperatorDown", "OhalloOperatorPanicked"] {
        assert_eq!(alerts[alert].0, "inactive", "{alert}: {alerts:#?}");
    }
    if std::env::var_os("OHALLO_TEST_WRITE").is_some() {
        let svg = picture::draw(&answered);
        canary::scan("the picture", &svg);
        std::fs::write(file(PICTURE), svg).unwrap();
    }
    demo.interrupt().await;
}

/// Each metric that the operator shows is in the dashboard and in the documentation.
fn everything_is_shown(metrics: &str) {
    let types = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let names: BTreeSet<_> = types.collect();
    assert!(names.len() > 25, "{names:?}");
    let queries: Vec<_> = panels().into_iter().flat_map(|panel| panel.queries).collect();
    let documented = text("docs/monitoring.md");
    for name in names {
        let shown = queries.iter().any(|query| query.expr.contains(name)) || WITHOUT_PANEL.contains(&name);
        assert!(shown, "{name} is in no panel");
        assert!(documented.contains(&format!("`{name}`")), "{name} is not in docs/monitoring.md");
    }
}

async fn ask(prometheus: &Prometheus, span: (f64, f64)) -> Vec<Answered> {
    let mut answered = Vec::new();
    for panel in panels() {
        let mut answers = Vec::new();
        for query in &panel.queries {
            answers.push(prometheus.range(&filled(&query.expr), span, STEP).await);
        }
        answered.push(Answered { panel, answers });
    }
    answered
}

/// As Grafana fills it in, with the scrape interval of this run.
fn filled(expr: &str) -> String {
    let filled = expr.replace("$namespace", NAMESPACE).replace("$job", JOB);
    let filled = filled.replace("$__rate_interval", "20s").replace("$__range", "5m");
    assert!(!filled.contains('$'), "a variable that is not known: {filled}");
    filled
}

fn without_data(answered: &Answered) -> Vec<String> {
    let queries = answered.panel.queries.iter().zip(&answered.answers);
    let empty = queries.filter(|(query, series)| {
        if query.expr.contains(MAY_BE_ABSENT) {
            return false;
        }
        let quiet = MAY_STAY_AT_ZERO.iter().any(|name| query.expr.contains(name));
        !series.iter().flat_map(|series| &series.points).any(|point| quiet || point.1 != 0.0)
    });
    empty.map(|(query, _)| format!("{}: {}", answered.panel.title, query.expr)).collect()
}
