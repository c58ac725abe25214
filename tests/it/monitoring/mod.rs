//! What the operator brings for Prometheus and Grafana: alerts, runbooks, scrape, dashboard. The tests that need the
//! real Prometheus are run by `cargo test --test it monitoring -- --ignored`, which builds it once from Go modules.

pub mod alerts;
pub mod dashboard;
pub mod live;
pub mod scrape;
pub mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// A file of the project.
fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&text(path)).unwrap()
}

/// Runs promtool; whether it succeeded, and its output.
fn promtool(args: &[&str], stdin: &str) -> (bool, String) {
    let mut command = Command::new(testbed::tool("promtool").unwrap());
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.success(), crate::support::helm::output_text(&output))
}
