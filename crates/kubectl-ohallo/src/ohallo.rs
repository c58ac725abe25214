//! Reading in oHallo: where it is, the API keys of Workspaces, and a client that sends nothing but GET.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use ohallo_client::{Client, NoObserver, Options, Session};
use ohallo_core::api::workspace::{ClusterWorkspace, Workspace};
use ohallo_core::classify::CallError;
use ohallo_core::failure;
use ohallo_core::index::{NamespacedName, WorkspaceKey};
use ohallo_core::secret::ApiKey;
use ohallo_core::secret_content::Content;
use ohallo_core::workspace::kind::WorkspaceKind;
use secrecy::ExposeSecret;
use serde_json::Value;

use crate::cluster::{Cluster, failed, read};
use crate::failure::Failure;

/// The API key of every workspace, instead of those in their Secrets.
pub const KEY_VARIABLE: &str = "OHALLO_API_KEY";

/// How long one request may take, as in the operator.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Requests in a second for each API key: half of what the operator sends by default.
const REQUESTS_PER_SECOND: f64 = 5.0;
const BURST: u32 = 10;

/// The longest wait that the rate limit above explains. A longer one is oHallo's own (429).
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Secrets that were read. No Debug: it holds values.
pub type Contents = BTreeMap<NamespacedName, Content>;

/// The flags that say where oHallo is, and where ClusterWorkspaces have their Secrets.
#[derive(clap::Args)]
pub struct Connection {
    /// URL of the oHallo API
    #[arg(long, value_name = "URL", default_value = "https://api.ohallo.eu")]
    api_url: String,

    /// File with the certificate authorities to trust for the oHallo API. Default: those of the system
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// Namespace of the Secrets of ClusterWorkspaces
    #[arg(long, value_name = "NAME", default_value = "ohallo-system")]
    pub operator_namespace: String,
}

// === impl Connection ===

impl Connection {
    /// A client that refuses to send anything but GET.
    ///
    /// # Errors
    /// The URL or the file is not usable.
    pub fn client(&self) -> Result<Client, Failure> {
        let api_url = self.api_url.parse();
        let api_url = api_url.map_err(|error| Failure::usage(format!("--api-url is no URL: {error}")))?;
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|error| {
                Failure::usage(format!("--ca-file {} can't be read: {error}", path.display()))
            })
        };
        let options = Options {
            api_url,
            create_path: "/api/workspaces/{workspaceId}/channels".to_owned(),
            request_timeout: REQUEST_TIMEOUT,
            create_timeout: REQUEST_TIMEOUT,
            requests_per_second: REQUESTS_PER_SECOND,
            burst: BURST,
            total_requests_per_second: 0.0,
            ca_pem: self.ca_file.as_ref().map(read).transpose()?,
            proxy: None,
            allow_insecure: false,
            read_only: true,
        };
        Client::new(options, Arc::new(NoObserver)).map_err(Failure::usage)
    }
}

/// The value of [`KEY_VARIABLE`].
///
/// # Errors
/// It is no API key.
pub fn key_of_environment() -> Result<Option<ApiKey>, Failure> {
    let key = std::env::var(KEY_VARIABLE).ok().filter(|key| !key.is_empty());
    let key = key.map(|key| ApiKey::decode(Some(key.as_bytes()))).transpose();
    key.map_err(|what| Failure::usage(format!("the variable {KEY_VARIABLE} {what}")))
}

/// Calls again after the waits of the rate limit.
pub async fn repeated<T>(
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
pub fn refused(what: &str, error: CallError) -> Failure {
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
pub fn api_key(
    key: &WorkspaceKey,
    object: Option<&Value>,
    operator_namespace: &str,
    secrets: &Contents,
) -> Result<ApiKey, Failure> {
    let missing = |why: &str| {
        let kind = key.kind().name();
        Failure::undecided(format!(
            "{kind} {} has no API key to read with: {why}, so set {KEY_VARIABLE}",
            key.name
        ))
    };
    let (secret, entry) = object
        .and_then(|object| key_secret(key, object, operator_namespace))
        .ok_or_else(|| missing("it names no Secret"))?;
    let place = format!("the Secret {}/{}", secret.namespace, secret.name);
    match secrets.get(&secret) {
        Some(Content::Present { data, .. }) => {
            let value = data.get(&entry).map(|value| value.expose_secret());
            ApiKey::decode(value).map_err(|what| missing(&format!("{place} {what} {entry:?}")))
        }
        Some(Content::Absent) => Err(missing(&format!("{place} does not exist"))),
        Some(Content::TooLarge { .. }) | None => Err(missing(&format!("{place} may not be read"))),
    }
}

/// The Secret with the API key, and the name of its entry.
pub fn key_secret(
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

/// The content of a Secret; `None` if it may not be read.
///
/// # Errors
/// The API server can't be reached.
pub async fn read_secret(cluster: &Cluster, name: &NamespacedName) -> Result<Option<Content>, Failure> {
    let api: Api<Secret> = Api::namespaced(cluster.client.clone(), &name.namespace);
    match read(async || api.get_opt(&name.name).await).await {
        Ok(secret) => Ok(Some(secret.map_or(Content::Absent, Content::of))),
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(None),
        Err(error) => {
            Err(failed(&format!("the Secret {}/{} can't be read", name.namespace, name.name), &error))
        }
    }
}
