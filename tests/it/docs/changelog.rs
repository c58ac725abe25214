//! The changelog says what each version changes for users.

use crate::support::helm::CHART;

const CHANGELOG: &str = include_str!("../../../CHANGELOG.md");

/// Versions and what each section says, newest first.
fn sections() -> Vec<(&'static str, &'static str)> {
    CHANGELOG.split("\n## ").skip(1).map(|section| section.split_once('\n').unwrap()).collect()
}

#[test]
fn this_version_has_an_entry_that_says_what_changes_for_users() {
    let (version, text) = sections()[0];
    assert_eq!(version.trim(), env!("CARGO_PKG_VERSION"), "the newest entry is that of Cargo.toml's version");
    let changes = text.lines().filter(|line| line.starts_with("- ")).count();
    assert!(changes >= 3, "{changes} changes");
    assert!(text.contains("### Upgrade"), "it says how to upgrade");
}

#[test]
fn the_chart_has_the_version_of_the_operator() {
    let chart = std::fs::read_to_string(format!("{CHART}/Chart.yaml")).unwrap();
    for field in ["version", "appVersion"] {
        let line = format!("\n{field}: {}\n", env!("CARGO_PKG_VERSION"));
        assert!(chart.contains(&line), "{line}");
    }
}

#[test]
fn versions_descend() {
    let parsed = sections().into_iter().map(|(version, _)| {
        version.trim().split('.').map(|part| part.parse().unwrap()).collect::<Vec<u32>>()
    });
    let versions: Vec<_> = parsed.collect();
    assert!(versions.is_sorted_by(|newer, older| newer > older), "{versions:?}");
}
