//! `status`: Workspaces, their Channels and the Secrets of these, with reasons.

mod tree;

use std::time::Duration;

use clap_complete::engine::ArgValueCompleter;
use kube::api::{DynamicObject, ListParams};
use ohallo_core::api::ObjectKind;

use crate::cluster::{self, Cluster, block_on, failed, list_if_allowed};
use crate::failure::Failure;
use crate::global::Global;
use crate::names::targets;
use crate::output::{self, Format, Output};
use crate::status::tree::{Objects, Tree};

const HELP: &str = "\
Examples:
  kubectl ohallo status
  kubectl ohallo status --all-namespaces --output json
  kubectl ohallo status support-email --watch

Exit codes: 0 all Channels are Ready, 1 some are not, 2 no answer, 64 wrong usage.";

/// The time between two reads with --watch.
const REFRESH: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// One Channel. Default: all of the namespace
    #[arg(value_name = "NAME", add = ArgValueCompleter::new(targets))]
    name: Option<String>,

    /// Read all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,

    /// Print again whenever something changes, until Ctrl-C
    #[arg(short, long)]
    watch: bool,

    /// Format of the answer
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORMAT")]
    output: Format,
}

/// # Errors
/// The objects can't be read, or there is no such Channel.
pub fn run(args: &Args, global: &Global, output: &mut Output) -> Result<u8, Failure> {
    block_on(async {
        let cluster = Cluster::connect(global).await?;
        let mut last = String::new();
        loop {
            let tree = Tree::of(&read(&cluster, args).await?, args.name.as_deref());
            if let Some(name) = args.name.as_deref().filter(|_| tree.is_empty()) {
                return Err(Failure::negative(format!(
                    "Channel {name} does not exist in the namespace {}",
                    cluster.namespace
                )));
            }
            let text = output::render(args.output, &tree, tree::text)?;
            if text != last {
                output.print(&text)?;
            }
            if !args.watch {
                return Ok(tree.exit_code());
            }
            last = text;
            tokio::time::sleep(REFRESH).await;
        }
    })
}

async fn read(cluster: &Cluster, args: &Args) -> Result<Objects, Failure> {
    let channels = list(cluster, args, ObjectKind::Channel).await?;
    let workspaces = list(cluster, args, ObjectKind::Workspace).await?;
    // Users of one namespace may not read them: then there are none.
    let shared = cluster.api(ObjectKind::ClusterWorkspace);
    let shared = list_if_allowed(&shared, &ListParams::default()).await;
    let shared = shared.map_err(|error| failed("the ClusterWorkspaces can't be read", &error))?;
    Ok(Objects { channels, workspaces, cluster_workspaces: shared.unwrap_or_default() })
}

async fn list(cluster: &Cluster, args: &Args, kind: ObjectKind) -> Result<Vec<DynamicObject>, Failure> {
    let api = if args.all_namespaces { cluster.api_of_all_namespaces(kind) } else { cluster.api(kind) };
    let listed = cluster::read(async || api.list(&ListParams::default()).await).await;
    let what = || format!("the {}s can't be read", kind.name());
    listed.map(|list| list.items).map_err(|error| failed(&what(), &error))
}
