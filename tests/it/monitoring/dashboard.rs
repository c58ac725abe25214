//! The dashboard as a list of panels, and what must be so of each.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::monitoring::text;

/// With `--object-metrics` alone, and a deprecated one.
pub const WITHOUT_PANEL: [&str; 3] =
    ["ohallo_channel_info", "ohallo_channel_condition", "ohallo_queue_depth"];
const FILE: &str = "deploy/helm/ohallo-operator/files/dashboard.json";

/// Where a panel is: 24 columns, rows without end.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
pub struct Place {
    pub x: u32,
    pub y: u32,
    pub w: u32,
    pub h: u32,
}

#[derive(Clone, Debug)]
pub struct Query {
    pub expr: String,
    /// Labels in double braces.
    pub legend: String,
}

#[derive(Clone, Debug)]
pub struct Panel {
    pub kind: String,
    pub title: String,
    pub place: Place,
    pub unit: String,
    pub stacked: bool,
    pub queries: Vec<Query>,
}

pub fn panels() -> Vec<Panel> {
    let dashboard: Value = serde_json::from_str(&text(FILE)).unwrap();
    dashboard["panels"].as_array().unwrap().iter().map(panel).collect()
}

fn panel(panel: &Value) -> Panel {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let defaults = &panel["fieldConfig"]["defaults"];
    let targets = panel["targets"].as_array().into_iter().flatten();
    Panel {
        kind: word(&panel["type"]),
        title: word(&panel["title"]),
        place: serde_json::from_value(panel["gridPos"].clone()).unwrap(),
        unit: word(&defaults["unit"]),
        stacked: defaults["custom"]["stacking"]["mode"] == "normal",
        queries: targets
            .map(|it| Query { expr: word(&it["expr"]), legend: word(&it["legendFormat"]) })
            .collect(),
    }
}

// === impl Place ===

impl Place {
    fn overlaps(self, other: Self) -> bool {
        let apart = self.x + self.w <= other.x || other.x + other.w <= self.x;
        !apart && self.y < other.y + other.h && other.y < self.y + self.h
    }
}

#[test]
fn panels_do_not_overlap_have_a_unit_and_a_query_of_the_chosen_data_source() {
    let dashboard: Value = serde_json::from_str(&text(FILE)).unwrap();
    let all = panels();
    for (at, panel) in all.iter().enumerate() {
        let (place, title) = (panel.place, &panel.title);
        assert!(place.w > 0 && place.h > 0 && place.x + place.w <= 24, "{title}: {place:?}");
        let other = all.iter().take(at).find(|other| other.place.overlaps(place));
        assert!(other.is_none(), "{title} lies on {other:?}");
        if panel.kind == "row" {
            continue;
        }
        assert!(!panel.unit.is_empty() && !panel.queries.is_empty(), "{title}");
        assert_eq!(dashboard["panels"][at]["datasource"]["uid"], "${datasource}", "{title}");
        for query in &panel.queries {
            let of_cluster = [
                "ohallo_channels",
                "ohallo_workspaces",
                "ohallo_deletions_blocked",
                "ohallo_deletions_claimed",
            ];
            let counts = of_cluster.iter().any(|name| query.expr.contains(name));
            // Every replica counts the whole cluster.
            assert!(!counts || query.expr.contains("max"), "{title}: {}", query.expr);
            let by_namespace = query.expr.contains("ohallo_channels{");
            assert!(!by_namespace || query.expr.contains("namespace=~\"$namespace\""), "{title}");
        }
    }
    let ids: Vec<_> = dashboard["panels"].as_array().unwrap().iter().map(|panel| &panel["id"]).collect();
    assert_eq!(ids.iter().map(|id| id.to_string()).collect::<BTreeSet<_>>().len(), ids.len());
    let variables = dashboard["templating"]["list"].as_array().unwrap().iter();
    let variables: Vec<_> = variables.map(|variable| variable["name"].as_str().unwrap()).collect();
    assert_eq!(variables, ["datasource", "namespace", "job"]);
}

#[test]
fn every_documented_metric_is_in_a_panel() {
    let queries: Vec<_> = panels().into_iter().flat_map(|panel| panel.queries).collect();
    let page = text("docs/monitoring.md");
    let names = page.lines().filter_map(|line| line.strip_prefix("| `ohallo_")?.split('`').next());
    let names: Vec<_> = names.map(|name| format!("ohallo_{name}")).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names.iter().filter(|name| !WITHOUT_PANEL.contains(&name.as_str())) {
        assert!(queries.iter().any(|query| query.expr.contains(name)), "{name} is in no panel");
    }
}

#[test]
fn the_picture_of_the_dashboard_is_small() {
    const MAX_BYTES: usize = 40_000;
    let picture = text("docs/images/dashboard.svg");
    assert!(picture.len() <= MAX_BYTES, "{} bytes", picture.len());
}
