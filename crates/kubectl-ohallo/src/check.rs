//! `check`: whether the cluster has what an operator needs, as far as the user may look.

mod lease;
mod rights;
mod server;

use std::fmt::Write;

use serde::Serialize;

use crate::cluster::{Cluster, block_on};
use crate::failure::{Failure, NEGATIVE, SUCCESS};
use crate::global::Global;
use crate::installed::{self, Operator};
use crate::output::{self, BAD, Format, GOOD, NOTE, Output, paint};

const HELP: &str = "\
Examples:
  kubectl ohallo check
  kubectl ohallo check --output json

It reads the version of the API server, the served CustomResourceDefinitions and the operators' Deployments, asks about the
rights of their service accounts, and watches each Lease until it is renewed.

Exit codes: 0 no problem, 1 some problem, 2 no answer, 64 wrong usage.";

#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// Format of the answer
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORMAT")]
    output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    Ok,
    Problem,
    /// The user may not look.
    Unknown,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was checked.
    check: String,
    state: State,
    message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Findings {
    findings: Vec<Finding>,
}

/// # Errors
/// The cluster can't be reached.
pub fn run(args: &Args, global: &Global, output: &mut Output) -> Result<u8, Failure> {
    let findings = block_on(async { findings(&Cluster::connect(global).await?).await })?;
    output.print(&output::render(args.output, &findings, text)?)?;
    let problem = findings.findings.iter().any(|finding| finding.state == State::Problem);
    Ok(if problem { NEGATIVE } else { SUCCESS })
}

/// # Errors
/// The API server does not answer.
pub async fn findings(cluster: &Cluster) -> Result<Findings, Failure> {
    let mut findings = vec![server::version(cluster).await?];
    findings.extend(server::definitions(cluster).await?);
    match installed::operators(cluster).await? {
        None => {
            findings.push(Finding::unknown("operators", "you may not list Deployments of all namespaces"))
        }
        Some(operators) if operators.is_empty() => findings.push(Finding::problem(
            "operators",
            format!("no Deployment has the label {}", installed::LABEL),
            "install the operator, or label the Deployment of the one that runs",
        )),
        Some(operators) => {
            for operator in &operators {
                findings.extend(of_operator(cluster, operator).await?);
            }
        }
    }
    Ok(Findings { findings })
}

async fn of_operator(cluster: &Cluster, operator: &Operator) -> Result<Vec<Finding>, Failure> {
    let mut findings = vec![running(operator), rights::of(cluster, operator).await?];
    if let Some(name) = &operator.served.lease {
        findings.push(lease::of(cluster, operator, name).await?);
    }
    Ok(findings)
}

/// Whether its pods run, and what they serve.
fn running(operator: &Operator) -> Finding {
    let Operator { namespace, name, version, replicas, ready_replicas, served, .. } = operator;
    let place = if served.namespaces.is_empty() {
        "all namespaces".to_owned()
    } else {
        format!("the namespaces {}", served.namespaces.join(", "))
    };
    let message =
        format!("version {version}, {ready_replicas} of {replicas} replicas are ready, serves {place}");
    let check = format!("operator {namespace}/{name}");
    if *replicas > 0 && ready_replicas >= replicas {
        return Finding::ok(check, message);
    }
    let remedy = if *replicas == 0 {
        format!("kubectl -n {namespace} scale deployment/{name} --replicas=1")
    } else {
        format!("kubectl -n {namespace} describe pods -l {}", installed::LABEL)
    };
    Finding::problem(check, message, remedy)
}

// === impl Finding ===

impl Finding {
    pub fn ok(check: impl Into<String>, message: impl Into<String>) -> Self {
        Self { check: check.into(), state: State::Ok, message: message.into(), remedy: None }
    }

    pub fn problem(check: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (state, remedy) = (State::Problem, Some(remedy.into()));
        Self { check: check.into(), state, message: message.into(), remedy }
    }

    pub fn unknown(check: impl Into<String>, message: impl Into<String>) -> Self {
        Self { check: check.into(), state: State::Unknown, message: message.into(), remedy: None }
    }
}

fn text(findings: &Findings) -> String {
    let mut out = String::new();
    for Finding { check, state, message, remedy } in &findings.findings {
        let (style, word) = match state {
            State::Ok => (GOOD, "ok"),
            State::Problem => (BAD, "problem"),
            State::Unknown => (NOTE, "unknown"),
        };
        let message = ohallo_core::text::escape(message);
        _ = writeln!(
            out,
            "{:7}  {check}: {message}",
            paint(style, word),
            check = ohallo_core::text::escape(check)
        );
        if let Some(remedy) = remedy {
            _ = writeln!(out, "         {}", ohallo_core::text::escape(remedy));
        }
    }
    out
}

#[cfg(test)]
mod tests;
