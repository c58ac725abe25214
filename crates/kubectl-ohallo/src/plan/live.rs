//! What oHallo shows of the channels before the apply.

use std::collections::{BTreeMap, BTreeSet};

use ohallo_client::{Caller, Client, Session};
use ohallo_core::api::channel::Channel;
use ohallo_core::channel::plan::delete::WorkspaceProbe;
use ohallo_core::classify::{CallError, ErrorKind};
use ohallo_core::index::{NamespacedName, WorkspaceKey, secrets};
use ohallo_core::priority::Priority;
use ohallo_core::remote::Id;
use ohallo_core::secret::ApiKey;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::ohallo::{KEY_VARIABLE, api_key, key_secret, read_secret, refused, repeated};
use crate::plan::cluster_state::{ClusterState, Remote, Secrets, ids_of};

/// Where the API keys are.
pub struct Source<'a> {
    pub operator_namespace: &'a str,
    /// One for every workspace, instead of those in their Secrets.
    pub key: Option<ApiKey>,
}

/// Reads every channel that the participants are bound to or name.
///
/// # Errors
/// An API key is missing, or a read fails: a plan with holes would hide what an apply does.
pub async fn read_channels(
    client: &Client,
    source: &Source<'_>,
    manifests: &BTreeMap<WorkspaceKey, Value>,
    cluster_state: &mut ClusterState,
) -> Result<(), Failure> {
    let mut wanted: BTreeMap<WorkspaceKey, BTreeSet<String>> = BTreeMap::new();
    for name in &cluster_state.participants {
        let Some(channel) = cluster_state.channels.get(name) else { continue };
        wanted.entry(WorkspaceKey::of(channel)).or_default().extend(ids_of(channel));
    }
    for (key, ids) in wanted {
        let Some(workspace_state) = cluster_state.workspaces.get_mut(&key) else { continue };
        let api_key = match &source.key {
            Some(api_key) => api_key.clone(),
            None => api_key(&key, manifests.get(&key), source.operator_namespace, &cluster_state.secrets.0)?,
        };
        let Some(held) = &mut workspace_state.key else { continue };
        (held.key, held.has_read, workspace_state.key_unknown) = (api_key.clone(), false, false);
        let workspace = held.workspace_id.clone();
        let namespace = key.namespace.as_deref().map(Into::into);
        let caller = Caller { namespace, workspace: key.clone(), priority: Priority::Background };
        let mut session = client.session(api_key, caller, None);
        for id in ids.iter().filter_map(|id| Id::parse(id)) {
            let remote = read_channel(&mut session, &workspace, &id).await?;
            if let (Some(_), Remote::Absent(probe)) = (&source.key, &remote)
                && *probe != WorkspaceProbe::Found
            {
                return Err(Failure::undecided(format!(
                    "the API key in {KEY_VARIABLE} shows neither the channel {id} nor its workspace: a plan with it would hide what happens there"
                )));
            }
            held.has_read |= matches!(remote, Remote::Found { .. });
            cluster_state.remotes.put(id.as_str(), remote);
        }
    }
    Ok(())
}

async fn read_channel(session: &mut Session, workspace: &Id, id: &Id) -> Result<Remote, Failure> {
    let what = format!("the channel {id} can't be read");
    match repeated(session, async |session| session.get_channel(id).await).await {
        Ok(channel) => Ok(Remote::Found { channel: Box::new(channel), compared: true }),
        Err(CallError::Failed(error)) if error.kind == ErrorKind::NotFound => {
            let probed = repeated(session, async |session| session.get_workspace(workspace).await).await;
            let kind = |error: &CallError| match error {
                CallError::Failed(error) => Some(error.kind),
                CallError::Deferred(_) => None,
            };
            match probed {
                Ok(found) if found.id == *workspace => Ok(Remote::Absent(WorkspaceProbe::Found)),
                Ok(_) => Ok(Remote::Absent(WorkspaceProbe::NotFound)),
                Err(error) if kind(&error) == Some(ErrorKind::NotFound) => {
                    Ok(Remote::Absent(WorkspaceProbe::NotFound))
                }
                Err(error) if kind(&error) == Some(ErrorKind::Forbidden) => {
                    Ok(Remote::Absent(WorkspaceProbe::Forbidden))
                }
                Err(error) => Err(refused(&format!("the workspace {workspace} can't be read"), error)),
            }
        }
        Err(error) => Err(refused(&what, error)),
    }
}

/// Reads the Secrets that the Channels and the workspaces name. Those that may not be read stay out.
///
/// # Errors
/// The API server can't be reached.
pub async fn read_secrets<'a>(
    cluster: &Cluster,
    source: &Source<'_>,
    workspaces: &BTreeMap<WorkspaceKey, Value>,
    channels: impl Iterator<Item = &'a Channel>,
) -> Result<Secrets, Failure> {
    let mut names = BTreeSet::new();
    let mut used = BTreeSet::new();
    for channel in channels {
        let namespace = channel.metadata.namespace.as_deref().unwrap_or_default();
        names.extend(secrets(channel).map(|secret| NamespacedName::new(namespace, secret)));
        used.insert(WorkspaceKey::of(channel));
    }
    if source.key.is_none() {
        let named = used.iter().filter_map(|key| {
            key_secret(key, workspaces.get(key)?, source.operator_namespace).map(|(secret, _)| secret)
        });
        names.extend(named);
    }
    let mut found = Secrets::default();
    for name in names {
        if let Some(content) = read_secret(cluster, &name).await? {
            found.0.insert(name, content);
        }
    }
    Ok(found)
}
