//! What oHallo shows of the channels before the apply. The client sends nothing but GET.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use ohallo_client::{Caller, Client, NoObserver, Options, Session};
use ohallo_core::api::channel::Channel;
use ohallo_core::api::workspace::{ClusterWorkspace, Workspace};
use ohallo_core::channel::plan::delete::WorkspaceProbe;
use ohallo_core::classify::{CallError, ErrorKind};
use ohallo_core::failure;
use ohallo_core::index::{NamespacedName, WorkspaceKey, secrets};
use ohallo_core::priority::Priority;
use ohallo_core::remote::Id;
use ohallo_core::secret::ApiKey;
use ohallo_core::secret_content::Content;
use ohallo_core::workspace::kind::WorkspaceKind;
use secrecy::ExposeSecret;
use serde_json::Value;

use crate::cluster::{Cluster, failed, read};
use crate::failure::Failure;
use crate::plan::world::{Remote, Secrets, World, ids_of};

/// The API key of every workspace, instead of those in their Secrets.
pub const KEY_VARIABLE: &str = "OHALLO_API_KEY";

/// How long one request may take, as in the operator.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Requests in a second for each API key: half of what the operator sends by default.
const REQUESTS_PER_SECOND: f64 = 5.0;
const BURST: u32 = 10;

/// The longest wait that the rate limit above explains. A longer one is oHallo's own (429).
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Where oHallo is, and where ClusterWorkspaces have their Secrets.
pub struct Source<'a> {
    pub api_url: &'a str,
    pub ca_pem: Option<Vec<u8>>,
    pub operator_namespace: &'a str,
    /// The value of [`KEY_VARIABLE`].
    pub key: Option<ApiKey>,
}

/// The client of a plan.
///
/// # Errors
/// The URL of the API is not usable.
pub fn client(source: &Source) -> Result<Client, Failure> {
    let api_url = source.api_url.parse();
    let api_url = api_url.map_err(|error| Failure::usage(format!("--api-url is no URL: {error}")))?;
    let options = Options {
        api_url,
        create_path: "/api/workspaces/{workspaceId}/channels".to_owned(),
        request_timeout: REQUEST_TIMEOUT,
        create_timeout: REQUEST_TIMEOUT,
        requests_per_second: REQUESTS_PER_SECOND,
        burst: BURST,
        total_requests_per_second: 0.0,
        ca_pem: source.ca_pem.clone(),
        proxy: None,
        allow_insecure: false,
        read_only: true,
    };
    Client::new(options, Arc::new(NoObserver)).map_err(Failure::usage)
}

/// Reads every channel that the participants are bound to or name.
///
/// # Errors
/// An API key is missing, or a read fails: a plan with holes would hide what an apply does.
pub async fn read_channels(
    client: &Client,
    source: &Source<'_>,
    manifests: &BTreeMap<WorkspaceKey, Value>,
    world: &mut World,
) -> Result<(), Failure> {
    let mut wanted: BTreeMap<WorkspaceKey, BTreeSet<String>> = BTreeMap::new();
    for name in &world.participants {
        let Some(channel) = world.channels.get(name) else { continue };
        wanted.entry(WorkspaceKey::of(channel)).or_default().extend(ids_of(channel));
    }
    for (key, ids) in wanted {
        let Some(place) = world.workspaces.get_mut(&key) else { continue };
        let api_key = match &source.key {
            Some(api_key) => api_key.clone(),
            None => api_key(&key, manifests.get(&key), source.operator_namespace, &world.secrets)?,
        };
        let Some(held) = &mut place.key else { continue };
        (held.key, held.has_read, place.key_unknown) = (api_key.clone(), false, false);
        let workspace = held.workspace_id.clone();
        let namespace = key.namespace.as_deref().map(Into::into);
        let caller = Caller { namespace, workspace: key.clone(), priority: Priority::Background };
        let mut session = client.session(api_key, caller, None);
        for id in ids.iter().filter_map(|id| Id::parse(id)) {
            let remote = read_channel(&mut session, &workspace, &id).await?;
            held.has_read |= matches!(remote, Remote::Found { .. });
            world.remotes.put(id.as_str(), remote);
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

/// Calls again after the waits of the rate limit.
async fn repeated<T>(
    session: &mut Session,
    call: impl AsyncFn(&mut Session) -> Result<T, CallError>,
) -> Result<T, CallError> {
    loop {
        match call(session).await {
            Err(CallError::Deferred(wait)) if wait <= MAX_WAIT => tokio::time::sleep(wait).await,
            other => return other,
        }
    }
}

/// One sentence about a read that failed.
fn refused(what: &str, error: CallError) -> Failure {
    let wait = match &error {
        CallError::Failed(error) => error.retry_after,
        CallError::Deferred(wait) => Some(*wait),
    };
    let failure = failure::Failure::from(error);
    let again = wait.map(|wait| format!(" Try again in {} s", wait.as_secs().max(1))).unwrap_or_default();
    // What the operator does about it is of no use here.
    let message = failure.message.split("; the operator").next().unwrap_or_default().trim_end_matches('.');
    let stop = if again.is_empty() { "" } else { "." };
    Failure::undecided(format!("{what}: {message}{stop}{again}"))
}

/// The API key in the Secret that the workspace names.
fn api_key(
    key: &WorkspaceKey,
    object: Option<&Value>,
    operator_namespace: &str,
    secrets: &Secrets,
) -> Result<ApiKey, Failure> {
    let missing = |why: &str| {
        let kind = if key.namespace.is_some() { "Workspace" } else { "ClusterWorkspace" };
        Failure::undecided(format!(
            "{kind} {} has no API key to read with: {why}, so set {KEY_VARIABLE}",
            key.name
        ))
    };
    let (secret, entry) = object
        .and_then(|object| key_secret(key, object, operator_namespace))
        .ok_or_else(|| missing("it names no Secret"))?;
    let place = format!("the Secret {}/{}", secret.namespace, secret.name);
    match secrets.0.get(&secret) {
        Some(Content::Present { data, .. }) => {
            let value = data.get(&entry).map(|value| value.expose_secret());
            ApiKey::decode(value).map_err(|what| missing(&format!("{place} {what} {entry:?}")))
        }
        Some(Content::Absent) => Err(missing(&format!("{place} does not exist"))),
        Some(Content::TooLarge { .. }) | None => Err(missing(&format!("{place} may not be read"))),
    }
}

/// The Secret with the API key, and the name of its entry.
fn key_secret(
    key: &WorkspaceKey,
    object: &Value,
    operator_namespace: &str,
) -> Option<(NamespacedName, String)> {
    fn of<K: WorkspaceKind>(object: &Value, operator_namespace: &str) -> Option<(NamespacedName, String)> {
        let workspace: K = serde_json::from_value(object.clone()).ok()?;
        Some((workspace.key_secret(operator_namespace)?, workspace.key_ref()?.key().to_owned()))
    }
    match key.namespace {
        Some(_) => of::<Workspace>(object, operator_namespace),
        None => of::<ClusterWorkspace>(object, operator_namespace),
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
        let api: Api<Secret> = Api::namespaced(cluster.client.clone(), &name.namespace);
        match read(async || api.get_opt(&name.name).await).await {
            Ok(secret) => drop(found.0.insert(name, secret.map_or(Content::Absent, Content::of))),
            Err(kube::Error::Api(status)) if status.code == 403 => {}
            Err(error) => {
                let what = format!("the Secret {}/{} can't be read", name.namespace, name.name);
                return Err(failed(&what, &error));
            }
        }
    }
    Ok(found)
}
