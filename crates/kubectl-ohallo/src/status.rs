//! `status`: Workspaces, their Channels and the Secrets of these, with reasons.

mod tree;

use std::time::Duration;

use clap_complete::engine::ArgValueCompleter;
use ohallo_core::api::ObjectKind;

use crate::cluster::{Cluster, block_on};
use crate::failure::{Failure, SUCCESS};
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

    /// Print again whenever something changes, until Ctrl-C or until the reader of a pipe ends
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
            let is_over = output.is_closed() || tokio::time::timeout(REFRESH, output::closed()).await.is_ok();
            // Whoever read it has what they wanted.
            if is_over {
                return Ok(SUCCESS);
            }
            last = text;
        }
    })
}

async fn read(cluster: &Cluster, args: &Args) -> Result<Objects, Failure> {
    let channels = cluster.list(ObjectKind::Channel, args.all_namespaces).await?;
    let workspaces = cluster.list(ObjectKind::Workspace, args.all_namespaces).await?;
    // Users of one namespace may not read them: then there are none.
    let shared = cluster.list_if_allowed(ObjectKind::ClusterWorkspace, false).await?;
    Ok(Objects { channels, workspaces, cluster_workspaces: shared.unwrap_or_default() })
}
