//! How the metrics get into Prometheus.

use crate::monitoring::{file, promtool, yaml};
use crate::support::helm::{of_kind, render};

pub const CONFIG: &str = "deploy/monitoring/prometheus.yaml";

/// Without it the namespace of the objects becomes `exported_namespace`, and no alert is routed by it.
#[test]
fn the_label_namespace_stays_that_of_the_objects_however_it_is_scraped() {
    for (monitor, kind, endpoints) in [
        ("serviceMonitor", "ServiceMonitor", "endpoints"),
        ("podMonitor", "PodMonitor", "podMetricsEndpoints"),
    ] {
        let objects = render(&[&format!(r#"metrics={{"{monitor}":{{"enabled":true}}}}"#)]).unwrap();
        let found = of_kind(&objects, kind);
        assert_eq!(found[0]["spec"][endpoints][0]["honorLabels"], true, "{kind}");
    }
    let plain = yaml("deploy/kustomize/components/monitoring/servicemonitor.yaml");
    assert_eq!(plain["spec"]["endpoints"][0]["honorLabels"], true);
    assert_eq!(yaml(CONFIG)["scrape_configs"][0]["honor_labels"], true);
}

#[test]
#[ignore = "builds promtool, which takes minutes"]
fn promtool_finds_nothing_wrong_with_the_scrape_job() {
    let (good, reported) = promtool(&["check", "config", "--lint=all", file(CONFIG).to_str().unwrap()], "");
    assert!(good && reported.contains("SUCCESS"), "{reported}");
}
