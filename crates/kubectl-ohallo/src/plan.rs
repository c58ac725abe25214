//! `plan`: what an apply of manifests would do in oHallo. It only reads.

mod apply;
mod change;
mod cluster_state;
mod dry_run;
mod files;
mod items;
mod live;
mod manifests;
mod markdown;
mod merge;
mod operators;
mod planned;
mod protection;
mod report;
mod snapshot;
mod text;
mod tools;

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::ValueEnum;
use ohallo_client::clock;
use ohallo_core::api::GROUP;
use ohallo_core::channel::state::Now;

use crate::cluster::{Cluster, block_on};
use crate::failure::{BAD_USAGE, Failure, SUCCESS};
use crate::global::Global;
use crate::interrupt;
use crate::judge::Kinds;
use crate::manifest::{Base, Identity, Layout};
use crate::ohallo::{Connection, key_of_environment};
use crate::output::{self, Output};
use crate::plan::apply::Removed;
use crate::plan::change::Depth;
use crate::plan::cluster_state::Secrets;
use crate::plan::live::Source;
use crate::plan::manifests::{Manifests, overlaid};
use crate::plan::operators::Operators;
use crate::plan::planned::Planned;
use crate::plan::report::Report;
use crate::plan::snapshot::{Snapshot, snapshot};

pub use crate::plan::report::{VERSION, schema};

const HELP: &str = "\
Examples:
  kubectl ohallo plan channels/ --base origin/main
  kubectl ohallo plan channels/
  kubectl ohallo plan channels/ --live --output markdown
  kustomize build overlays/prod | kubectl ohallo plan - --exit-code

Depths:
  files     manifests only. The default with --base; no credentials are used
  cluster   also the objects of the cluster, by the kubeconfig. The default without --base
  ohallo    also the channels in oHallo, read with the API key of each Workspace or of $OHALLO_API_KEY

Objects that are in the base and not in the files are deleted. Without --base, objects of the cluster that
are not in the files stay, unless --prune is given.

Exit codes: 0 planned, 1 no plan, 64 wrong usage. With --exit-code: 0 no changes, 2 changes, 3 changes that
destroy or may destroy channels. With --fail-on destroy: 3 for those, else 0.";

/// Changes that destroy or may destroy channels, with --exit-code or --fail-on.
const DESTROYS: u8 = 3;
/// Changes, with --exit-code.
const CHANGES: u8 = 2;
/// There is no plan, or a part of it is refused.
const NO_PLAN: u8 = 1;

#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// Files, directories (with everything below them), or - for stdin
    #[arg(required = true, value_name = "FILE|DIR|-")]
    places: Vec<PathBuf>,

    /// The manifests before the change: a file, a directory or a Git revision
    #[arg(long, value_name = "FILE|DIR|REVISION")]
    base: Option<String>,

    /// How much to read. Default: files with --base, else cluster
    #[arg(long, value_enum, value_name = "DEPTH")]
    depth: Option<Depth>,

    /// Also read the channels in oHallo, as --depth ohallo
    #[arg(long, conflicts_with = "depth")]
    live: bool,

    /// Without --base: delete Channels and Workspaces that are in the namespaces of the files, and not in the files
    #[arg(long, conflicts_with = "base")]
    prune: bool,

    #[command(flatten)]
    connection: Connection,

    /// Format of the plan
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORMAT")]
    output: Format,

    /// Report changes by the exit code
    #[arg(long)]
    exit_code: bool,

    /// End with 3 if this happens
    #[arg(long, value_enum, value_name = "EVENT")]
    fail_on: Option<FailOn>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For programs, with a version
    Json,
    /// The same as YAML
    Yaml,
    /// The comment of a pull request
    Markdown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FailOn {
    /// A channel in oHallo is deleted, or may be
    Destroy,
}

/// # Errors
/// There is no plan: something can't be read, or objects are refused.
pub fn run(args: &Args, global: &Global, output: &mut Output) -> Result<u8, Failure> {
    // 2 and 3 are answers here.
    let report = plan(args, global).map_err(|failure| match failure.code {
        BAD_USAGE => failure,
        _ => failure.with_code(NO_PLAN),
    })?;
    let text = match args.output {
        Format::Text => text::text(&report),
        Format::Json => output::json(&report)?,
        Format::Yaml => output::render(output::Format::Yaml, &report, text::text)?,
        Format::Markdown => markdown::markdown(&report),
    };
    output.print(&text).map_err(|failure| failure.with_code(NO_PLAN))?;
    match report.refused() {
        0 => Ok(exit_code(args, &report)),
        count => {
            let message =
                format!("the API server would refuse {count} of the objects: run kubectl ohallo validate");
            Err(Failure::undecided(message).with_code(NO_PLAN))
        }
    }
}

fn exit_code(args: &Args, report: &Report) -> u8 {
    if report.destroys && (args.exit_code || args.fail_on == Some(FailOn::Destroy)) {
        DESTROYS
    } else if report.has_changes && args.exit_code {
        CHANGES
    } else {
        SUCCESS
    }
}

fn plan(args: &Args, global: &Global) -> Result<Report, Failure> {
    let depth = match (args.live, args.depth, &args.base) {
        (true, ..) => Depth::Ohallo,
        (false, Some(depth), _) => depth,
        (false, None, Some(_)) => Depth::Files,
        (false, None, None) => Depth::Cluster,
    };
    if depth == Depth::Files && args.base.is_none() {
        return Err(Failure::usage("the depth files compares with --base, which is missing"));
    }
    interrupt::ends_with_a_sentence(global.no_color)?;
    let kinds = Kinds::embedded().map_err(Failure::undecided)?;
    let now = Now { wall: clock::now(), instant: clock::instant() };
    if depth == Depth::Files {
        let read = manifests(args, global, &kinds, "default")?;
        let mut planned = Planned::of_files(read.head, &read.base.unwrap_or_default(), &kinds, now)?;
        planned.notes.extend(read.notes);
        return Ok(planned.report(args.base.clone(), depth, now));
    }
    block_on(with_cluster(args, global, depth, &kinds, now))
}

/// The manifests of a change.
struct Read {
    head: Manifests,
    base: Option<Manifests>,
    /// What the files do not show.
    notes: Vec<String>,
}

/// Reads the manifests after and before the change. `default`: the namespace of those that have none, without --namespace.
fn manifests(args: &Args, global: &Global, kinds: &Kinds, default: &str) -> Result<Read, Failure> {
    let namespace = global.namespace.as_deref().unwrap_or(default);
    let base = args.base.as_deref().map(|base| Base::read(base, &args.places, namespace)).transpose()?;
    let base = base.map(|base| Manifests::of_base(base, kinds));
    let head = Manifests::read(&args.places, kinds, namespace)?;
    let mut notes = Vec::new();
    if let Some(path) = head.layout.selector() {
        let path = path.display().to_string();
        notes.push(format!(
            "The files have {path:?}, which chooses what is applied: plan the rendered manifests instead."
        ));
    }
    if global.namespace.is_some() {
        return Ok(Read { head, base, notes });
    }
    // Applied to two namespaces, they are two objects: the deletion of one of them would be hidden.
    let layouts = || base.iter().chain([&head]).map(|manifests| &manifests.layout);
    let is_ours = |identity: &&Identity| {
        identity.group == GROUP && kinds.get(&identity.kind).is_some_and(|kind| kind.namespaced)
    };
    if let Some(identity) = layouts().flat_map(Layout::ambiguous).find(is_ours) {
        return Err(Failure::undecided(format!(
            "{} {} is there twice without a namespace: plan what is applied together, or give --namespace",
            identity.kind, identity.name
        )));
    }
    if layouts().flat_map(Layout::unplaced).any(|identity| is_ours(&identity)) {
        notes.push(format!(
            "Objects without a namespace count as in {namespace:?}: give --namespace if they are in another."
        ));
    }
    Ok(Read { head, base, notes })
}

/// Reads what the depth allows, and plans.
async fn with_cluster(
    args: &Args,
    global: &Global,
    depth: Depth,
    kinds: &Kinds,
    now: Now,
) -> Result<Report, Failure> {
    let cluster = &Cluster::connect(global).await?;
    let Read { head, base, notes: of_files } = manifests(args, global, kinds, &cluster.namespace)?;
    let based = base.iter().flat_map(Manifests::namespaces);
    let mut namespaces: BTreeSet<_> = head.namespaces().chain(based).map(str::to_owned).collect();
    if namespaces.is_empty() {
        namespaces.insert(cluster.namespace.clone());
    }
    let Snapshot { before, unread_cluster_workspaces, unread_namespaces, mut notes } =
        snapshot(cluster, &namespaces).await?;
    notes.extend(of_files);
    let operators = Operators::read(cluster).await?;
    let removed = match &base {
        Some(base) => Removed::of(base, &head, &before),
        None if args.prune => Removed::pruned(&head, &before, &namespaces),
        None => Removed::default(),
    };
    let mut planned = Planned::begin(before, head, removed, kinds, now)?;
    notes.extend(operators.note());
    planned.notes = notes;
    if unread_namespaces {
        planned.note_unknown_labels();
    }
    if unread_cluster_workspaces {
        planned.assume_cluster_workspaces();
    }
    base.iter().for_each(|base| planned.compare_with(base));
    let source =
        Source { operator_namespace: &args.connection.operator_namespace, key: key_of_environment()? };
    if depth == Depth::Ohallo {
        let secrets = live::read_secrets(cluster, &source, planned.workspaces(), planned.named()).await?;
        planned.remember(depth, secrets);
        let (workspaces, cluster_state) = planned.workspaces_and_state();
        live::read_channels(&args.connection.client()?, &source, workspaces, cluster_state).await?;
    } else {
        let mut secrets = Secrets::default();
        base.iter().for_each(|base| overlaid(&mut secrets, base));
        planned.remember(depth, secrets);
    }
    planned.leave_out_unserved(&operators);
    Ok(planned.report(args.base.clone(), depth, now))
}

#[cfg(test)]
mod tests;
