//! The versions of Kubernetes that the documents and the chart promise are those that are tested.

use std::path::{Path, PathBuf};

use crate::support::helm::CHART;

const INSTALL: &str = include_str!("../../../docs/install.md");
const STARTED: &str = include_str!("../../../docs/getting-started.md");
const FULL: &str = include_str!("../../../.ci/full");

/// From the go.mod files that the control planes are built from.
fn built() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("dev/testbed");
    let folders = std::fs::read_dir(root.join("kubernetes")).unwrap().map(|entry| entry.unwrap().path());
    let all: Vec<PathBuf> = folders.chain([root.join("controlplane")]).collect();
    let mut versions: Vec<_> = all.iter().map(|folder| version(&folder.join("go.mod"))).collect();
    versions.sort();
    versions
}

fn version(go_mod: &Path) -> String {
    let text = std::fs::read_to_string(go_mod).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.trim().trim_start_matches("require ").strip_prefix("k8s.io/kubernetes v"));
    line.unwrap().split_whitespace().next().unwrap().to_owned()
}

fn minor(version: &str) -> String {
    version.rsplit_once('.').unwrap().0.to_owned()
}

#[test]
fn the_table_of_kubernetes_versions_lists_what_is_tested() {
    let (_, section) = INSTALL.split_once("## Kubernetes versions").unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| 1."));
    let mut listed: Vec<_> = rows.map(|row| row.split('|').nth(1).unwrap().trim().to_owned()).collect();
    listed.sort();
    assert_eq!(listed, built());
    let current = format!("operator {} ", env!("CARGO_PKG_VERSION"));
    assert!(section.contains(&current), "a column for {current}");
}

#[test]
fn the_chart_and_the_documents_require_the_oldest_that_is_tested() {
    let oldest = minor(&built()[0]);
    let chart = std::fs::read_to_string(format!("{CHART}/Chart.yaml")).unwrap();
    assert!(chart.contains(&format!("kubeVersion: \">={oldest}.0-0\"")), "{oldest}");
    for page in [INSTALL, STARTED] {
        assert!(page.contains(&format!("Kubernetes {oldest} or later")), "{oldest}");
    }
}

#[test]
fn the_full_checks_run_each_version() {
    let line = FULL.lines().find_map(|line| line.trim().strip_prefix("for version in ")).unwrap();
    let run: Vec<_> = line.trim_end_matches("; do").split(' ').map(str::to_owned).collect();
    assert_eq!(run, built().iter().map(|version| minor(version)).collect::<Vec<_>>());
}
