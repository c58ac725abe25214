//! `version`: of this program, the operators and the CustomResourceDefinitions.

use std::fmt::Write;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use ohallo_core::api::crds;
use serde::Serialize;

use crate::cluster::{Cluster, block_on, failed, list_if_allowed};
use crate::failure::{Failure, NEGATIVE, SUCCESS};
use crate::global::Global;
use crate::installed::{self, Operator};
use crate::output::{self, Format, Output};

const HELP: &str = "\
Examples:
  kubectl ohallo version
  kubectl ohallo version --client

Exit codes: 0 the versions fit, 1 they do not, 2 no answer, 64 wrong usage.";

#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// The version of this program only, without a cluster
    #[arg(long)]
    client: bool,

    /// Format of the answer
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORMAT")]
    output: Format,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Versions {
    client: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<InCluster>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct InCluster {
    /// Each Deployment of an operator, with its version. Unset: they may not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    operators: Option<Vec<Operator>>,
    /// What is wrong with the CustomResourceDefinitions. Unset: they may not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    crds: Option<Vec<String>>,
    /// What does not fit together.
    skew: Vec<String>,
}

/// # Errors
/// The cluster can't be reached.
pub fn run(args: &Args, global: &Global, output: &mut Output) -> Result<u8, Failure> {
    let client = env!("CARGO_PKG_VERSION").to_owned();
    let cluster = match args.client {
        true => None,
        false => Some(block_on(async { in_cluster(&Cluster::connect(global).await?, &client).await })?),
    };
    let versions = Versions { client, cluster };
    output.print(&output::render(args.output, &versions, text)?)?;
    let skewed = versions.cluster.is_some_and(|cluster| !cluster.skew.is_empty());
    Ok(if skewed { NEGATIVE } else { SUCCESS })
}

async fn in_cluster(cluster: &Cluster, client: &str) -> Result<InCluster, Failure> {
    let operators = installed::operators(cluster).await?;
    let installed: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let installed = list_if_allowed(&installed, &ListParams::default()).await;
    let installed =
        installed.map_err(|error| failed("the CustomResourceDefinitions can't be read", &error))?;
    let crds = installed.map(|installed| differences(&installed));
    let other = operators.iter().flatten().filter(|operator| operator.version != client);
    let mut skew: Vec<_> = other
        .map(|operator| {
            let Operator { namespace, name, version, .. } = operator;
            format!(
                "the operator {namespace}/{name} has version {version}: use kubectl-ohallo of that version"
            )
        })
        .collect();
    skew.extend(crds.iter().flatten().cloned());
    Ok(InCluster { operators, crds, skew })
}

/// How the installed CustomResourceDefinitions differ from those of this program.
fn differences(installed: &[CustomResourceDefinition]) -> Vec<String> {
    let mut found = Vec::new();
    for own in crds() {
        let name = own.name_any();
        match installed.iter().find(|crd| crd.name_any() == name) {
            None => found
                .push(format!("the CustomResourceDefinition {name} is not installed: install the operator")),
            Some(there) if schemas(there) != schemas(&own) => {
                found.push(format!("the CustomResourceDefinition {name} is of another version: apply crds/ of the operator's version"));
            }
            Some(_) => {}
        }
    }
    found
}

fn schemas(crd: &CustomResourceDefinition) -> Option<serde_json::Value> {
    let versions = crd.spec.versions.iter().map(|version| (&version.name, &version.schema));
    serde_json::to_value(versions.collect::<Vec<_>>()).ok()
}

fn text(versions: &Versions) -> String {
    let mut out = format!("kubectl-ohallo {}\n", versions.client);
    let Some(cluster) = &versions.cluster else { return out };
    match cluster.operators.as_deref() {
        None => out.push_str("operator: the Deployments may not be read\n"),
        Some([]) => {
            out.push_str("operator: no Deployment has the label app.kubernetes.io/name=ohallo-operator\n")
        }
        Some(operators) => {
            for Operator { namespace, name, version, .. } in operators {
                _ = writeln!(out, "operator {namespace}/{name} {version}");
            }
        }
    }
    match cluster.crds.as_deref() {
        None => out.push_str("CustomResourceDefinitions: they may not be read\n"),
        Some([]) => out.push_str("CustomResourceDefinitions: those of this program\n"),
        Some(_) => {}
    }
    for sentence in &cluster.skew {
        _ = writeln!(out, "{sentence}");
    }
    out
}
