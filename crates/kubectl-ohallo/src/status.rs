//! `status`: Workspaces, their Channels and the Secrets of these, with reasons.

mod tree;

use std::time::Duration;

use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use ohallo_core::api::channel::Channel;
use ohallo_core::api::workspace::{ClusterWorkspace, Workspace};

use crate::cluster::{self, Cluster, block_on, failed};
use crate::failure::Failure;
use crate::global::Global;
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
    #[arg(value_name = "NAME")]
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
    Ok(Objects {
        channels: list(cluster, args, &ApiResource::erase::<Channel>(&()), "Channels").await?,
        workspaces: list(cluster, args, &ApiResource::erase::<Workspace>(&()), "Workspaces").await?,
        cluster_workspaces: cluster_workspaces(cluster).await?,
    })
}

async fn list(
    cluster: &Cluster,
    args: &Args,
    resource: &ApiResource,
    what: &str,
) -> Result<Vec<DynamicObject>, Failure> {
    let api: Api<DynamicObject> = if args.all_namespaces {
        Api::all_with(cluster.client.clone(), resource)
    } else {
        Api::namespaced_with(cluster.client.clone(), &cluster.namespace, resource)
    };
    let listed = cluster::read(async || api.list(&ListParams::default()).await).await;
    listed.map(|list| list.items).map_err(|error| failed(&format!("the {what} can't be read"), &error))
}

/// Users of one namespace may not read them: then there are none.
async fn cluster_workspaces(cluster: &Cluster) -> Result<Vec<DynamicObject>, Failure> {
    let resource = ApiResource::erase::<ClusterWorkspace>(&());
    let api: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &resource);
    match cluster::read(async || api.list(&ListParams::default()).await).await {
        Ok(list) => Ok(list.items),
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(Vec::new()),
        Err(error) => Err(failed("the ClusterWorkspaces can't be read", &error)),
    }
}
