//! `import`: manifests of channels that exist in oHallo.

mod manifest;

use std::io::BufRead;
use std::path::PathBuf;

use ohallo_client::{Caller, Session};
use ohallo_core::api::ObjectKind;
use ohallo_core::classify::{CallError, ErrorKind};
use ohallo_core::index::WorkspaceKey;
use ohallo_core::priority::Priority;
use ohallo_core::remote::{Id, RemoteChannel};
use serde_json::Value;

use crate::cluster::{Cluster, block_on};
use crate::failure::{Failure, SUCCESS};
use crate::global::Global;
use crate::import::manifest::{Place, manifest, names};
use crate::ohallo::{
    Connection, Contents, api_key, key_of_environment, key_secret, read_secret, refused, repeated,
};
use crate::output::Output;
use crate::target::Target;

const HELP: &str = "\
Examples:
  kubectl ohallo import d4e5f6a7-b8c9-0123-def0-456789abcdef > support.yaml
  kubectl ohallo import --all --workspace main
  kubectl ohallo import --from ids.txt --kind ClusterWorkspace --workspace shared

It prints one manifest for each channel, with its id and `deletionPolicy: Retain`, so that deleting the object deletes nothing
in oHallo. It reads with the API key of the Workspace in the cluster, or with $OHALLO_API_KEY. oHallo does not return `enabled`
and credentials: declare them if the operator should manage them.

Exit codes: 0 all were found, 1 some do not exist, 2 no answer, 64 wrong usage.";

#[derive(clap::Args)]
#[command(after_help = HELP)]
#[group(id = "which", required = true, multiple = true, args = ["ids", "from", "all"])]
pub struct Args {
    /// Ids of channels, or - for stdin, one on each line
    #[arg(value_name = "ID")]
    ids: Vec<String>,

    /// A file with ids, one on each line; # begins a remark
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,

    /// All channels of the workspace, where oHallo lists them
    #[arg(long, conflicts_with_all = ["ids", "from"])]
    all: bool,

    /// The Workspace or ClusterWorkspace whose channels these are
    #[arg(long, value_name = "NAME", default_value = "default")]
    workspace: String,

    /// Its kind: Workspace or ClusterWorkspace
    #[arg(long, value_name = "KIND", default_value = "Workspace", value_parser = kind)]
    kind: ObjectKind,

    #[command(flatten)]
    connection: Connection,
}

fn kind(text: &str) -> Result<ObjectKind, String> {
    let kinds = [ObjectKind::Workspace, ObjectKind::ClusterWorkspace];
    let found = kinds.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(text));
    found.ok_or_else(|| "say Workspace or ClusterWorkspace".to_owned())
}

/// # Errors
/// The Workspace has no usable API key, or oHallo does not answer.
pub fn run(args: &Args, global: &Global, output: &mut Output) -> Result<u8, Failure> {
    let ids = args.ids()?;
    let (place, found) = block_on(async {
        let (mut session, workspace) = open(args, global).await?;
        let place = Place::of(args.kind, &args.workspace, global.namespace.clone());
        let found = match &ids {
            Some(ids) => one_by_one(&mut session, ids).await?,
            None => listed(&mut session, &workspace).await?,
        };
        Ok((place, found))
    })?;
    let channels: Vec<_> = found.iter().filter_map(|(_, channel)| channel.as_ref()).collect();
    let names = names(&channels);
    let manifests = channels.iter().zip(&names).map(|(channel, name)| manifest(channel, name, &place));
    output.print(&manifests.collect::<Result<Vec<_>, _>>()?.join("---\n"))?;
    let missing: Vec<_> =
        found.iter().filter(|(_, channel)| channel.is_none()).map(|(id, _)| id.as_str()).collect();
    if missing.is_empty() {
        return Ok(SUCCESS);
    }
    Err(Failure::negative(format!("oHallo shows no channel {} to this API key", missing.join(", "))))
}

/// A session with the key of the Workspace, and the id of the workspace.
async fn open(args: &Args, global: &Global) -> Result<(Session, Id), Failure> {
    let cluster = Cluster::connect(global).await?;
    let target = Target { kind: args.kind, name: args.workspace.clone() };
    let object = serde_json::to_value(target.get(&cluster).await?).map_err(Failure::undecided)?;
    let namespace = args.kind.is_namespaced().then(|| cluster.namespace.clone());
    let key = WorkspaceKey { namespace: namespace.clone(), name: args.workspace.clone() };
    let api_key = match key_of_environment()? {
        Some(api_key) => api_key,
        None => {
            let home = &args.connection.operator_namespace;
            let mut contents = Contents::default();
            if let Some((secret, _)) = key_secret(&key, &object, home)
                && let Some(content) = read_secret(&cluster, &secret).await?
            {
                contents.insert(secret, content);
            }
            api_key(&key, Some(&object), home, &contents)?
        }
    };
    let workspace = object.pointer("/spec/workspaceId").and_then(Value::as_str).and_then(Id::parse);
    let workspace =
        workspace.ok_or_else(|| Failure::undecided(format!("{target} names no workspace of oHallo")))?;
    let namespace = namespace.as_deref().map(Into::into);
    let caller = Caller { namespace, workspace: key, priority: Priority::Background };
    Ok((args.connection.client()?.session(api_key, caller, None), workspace))
}

/// Each channel in the order of the ids; `None` where there is none.
async fn one_by_one(
    session: &mut Session,
    ids: &[Id],
) -> Result<Vec<(String, Option<RemoteChannel>)>, Failure> {
    let mut found = Vec::new();
    for id in ids {
        let channel = match repeated(session, async |session| session.get_channel(id).await).await {
            Ok(channel) => Some(channel),
            Err(CallError::Failed(error)) if error.kind == ErrorKind::NotFound => None,
            Err(error) => return Err(refused(&format!("the channel {id} can't be read"), error)),
        };
        found.push((id.to_string(), channel));
    }
    Ok(found)
}

async fn listed(
    session: &mut Session,
    workspace: &Id,
) -> Result<Vec<(String, Option<RemoteChannel>)>, Failure> {
    match repeated(session, async |session| session.list_channels(workspace).await).await {
        Ok(channels) => {
            Ok(channels.into_iter().map(|channel| (channel.id.to_string(), Some(channel))).collect())
        }
        Err(CallError::Failed(error))
            if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Unsupported) =>
        {
            Err(Failure::undecided(format!(
                "oHallo does not list the channels of workspace {workspace}: name their ids, from the URLs in the dashboard"
            )))
        }
        Err(error) => Err(refused(&format!("the channels of workspace {workspace} can't be listed"), error)),
    }
}

// === impl Args ===

impl Args {
    /// The ids, each once; `None` for all.
    fn ids(&self) -> Result<Option<Vec<Id>>, Failure> {
        if self.all {
            return Ok(None);
        }
        let mut texts = Vec::new();
        for id in &self.ids {
            if id == "-" {
                texts.extend(lines(std::io::stdin().lock(), "stdin")?);
            } else {
                texts.push(id.clone());
            }
        }
        if let Some(path) = &self.from {
            let name = path.display().to_string();
            let file = std::fs::File::open(path);
            let file = file.map_err(|error| Failure::undecided(format!("{name} can't be read: {error}")))?;
            texts.extend(lines(std::io::BufReader::new(file), &name)?);
        }
        let mut ids: Vec<Id> = Vec::new();
        for text in texts {
            let id =
                Id::parse(&text).ok_or_else(|| Failure::usage(format!("{text:?} is no id of a channel")))?;
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        if ids.is_empty() {
            return Err(Failure::usage("there is no id to import"));
        }
        Ok(Some(ids))
    }
}

fn lines(from: impl BufRead, name: &str) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    for line in from.lines() {
        let line = line.map_err(|error| Failure::undecided(format!("{name} can't be read: {error}")))?;
        let id = line.split('#').next().unwrap_or_default().trim();
        if !id.is_empty() {
            found.push(id.to_owned());
        }
    }
    Ok(found)
}
