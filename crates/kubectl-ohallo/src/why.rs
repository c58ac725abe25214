//! `why`: the reason of an object on one screen.

mod view;

use clap_complete::engine::ArgValueCompleter;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams};
use ohallo_client::clock;

use crate::cluster::{Cluster, block_on, failed, list_if_allowed};
use crate::failure::Failure;
use crate::global::Global;
use crate::names::targets;
use crate::output::{self, Format, Output};
use crate::target::Target;
use crate::why::view::Why;

pub use crate::why::view::workspace_of;

const HELP: &str = "\
Examples:
  kubectl ohallo why support-email
  kubectl ohallo why workspace/default --output json

Exit codes: 0 the object is Ready, 1 it is not or does not exist, 2 no answer, 64 wrong usage.";

#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// The object: NAME or channel/NAME, workspace/NAME, clusterworkspace/NAME
    #[arg(value_name = "NAME", add = ArgValueCompleter::new(targets))]
    target: Target,

    /// Format of the answer
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORMAT")]
    output: Format,
}

/// # Errors
/// The object does not exist or can't be read.
pub fn run(args: &Args, global: &Global, output: &mut Output) -> Result<u8, Failure> {
    let why = block_on(async {
        let cluster = Cluster::connect(global).await?;
        read(&cluster, &args.target).await
    })?;
    output.print(&output::render(args.output, &why, view::text)?)?;
    Ok(why.exit_code())
}

async fn read(cluster: &Cluster, target: &Target) -> Result<Why, Failure> {
    let object = target.get(cluster).await?;
    let workspace = match view::workspace_of(target.kind, &object) {
        // Of the Channel's answer it is one part: a right that is missing leaves it out.
        Some(workspace) => workspace.get(cluster).await.ok().map(|object| (workspace, object)),
        None => None,
    };
    let namespace = if target.kind.is_namespaced() { cluster.namespace.as_str() } else { "default" };
    let events: Api<Event> = Api::namespaced(cluster.client.clone(), namespace);
    let of = format!("regarding.name={},regarding.kind={}", target.name, target.kind.name());
    let events = list_if_allowed(&events, &ListParams::default().fields(&of)).await;
    let events = events.map_err(|error| failed("the events can't be read", &error))?;
    Ok(Why::of(target.kind, &object, workspace.as_ref(), events.as_deref(), clock::now()))
}
