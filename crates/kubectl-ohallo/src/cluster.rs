//! The connection to a cluster.

mod connection;
mod proxy;
mod sentence;

use std::fmt::Debug;
use std::time::Duration;

use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use ohallo_core::api::ObjectKind;
use ohallo_core::api::channel::Channel;
use ohallo_core::api::workspace::{ClusterWorkspace, Workspace};
use serde::de::DeserializeOwned;

use crate::failure::Failure;
use crate::global::Global;

/// How long a request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The pauses before a read is repeated double from the first to the last of these.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(4);

/// A cluster, and the namespace that commands mean.
pub struct Cluster {
    pub client: Client,
    pub namespace: String,
}

/// Runs a command that talks to a cluster.
///
/// # Errors
/// Those of the command.
pub fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Failure::undecided)?.block_on(work)
}

// === impl Cluster ===

impl Cluster {
    /// # Errors
    /// There is no kubeconfig, or something in it can't be used.
    pub async fn connect(global: &Global) -> Result<Self, Failure> {
        let (client, namespace) = connection::connect(global).await?;
        Ok(Self { client, namespace: global.namespace.clone().unwrap_or(namespace) })
    }

    /// The objects of a kind in the namespace, or in the cluster if the kind has none.
    pub fn api(&self, kind: ObjectKind) -> Api<DynamicObject> {
        if kind.is_namespaced() {
            self.api_in(kind, &self.namespace)
        } else {
            self.api_of_all_namespaces(kind)
        }
    }

    pub fn api_in(&self, kind: ObjectKind, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &resource(kind))
    }

    /// Lists the objects of a kind, in the namespace or in all.
    ///
    /// # Errors
    /// They can't be read.
    pub async fn list(&self, kind: ObjectKind, all: bool) -> Result<Vec<DynamicObject>, Failure> {
        let api = self.scope(kind, all);
        let listed = read(async || api.list(&ListParams::default()).await).await;
        let listed =
            listed.map_err(|error| failed(&format!("the {}s can't be read", kind.name()), &error))?;
        Ok(listed.items)
    }

    /// The same; `None` if the user may not.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn list_if_allowed(
        &self,
        kind: ObjectKind,
        all: bool,
    ) -> Result<Option<Vec<DynamicObject>>, Failure> {
        let listed = list_if_allowed(&self.scope(kind, all), &ListParams::default()).await;
        listed.map_err(|error| failed(&format!("the {}s can't be read", kind.name()), &error))
    }

    fn scope(&self, kind: ObjectKind, all: bool) -> Api<DynamicObject> {
        if all { self.api_of_all_namespaces(kind) } else { self.api(kind) }
    }

    pub fn api_of_all_namespaces(&self, kind: ObjectKind) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &resource(kind))
    }
}

fn resource(kind: ObjectKind) -> ApiResource {
    match kind {
        ObjectKind::Channel => ApiResource::erase::<Channel>(&()),
        ObjectKind::Workspace => ApiResource::erase::<Workspace>(&()),
        ObjectKind::ClusterWorkspace => ApiResource::erase::<ClusterWorkspace>(&()),
    }
}

/// Reads again for some seconds while the API server is too busy to answer.
///
/// # Errors
/// Those of the last attempt.
pub async fn read<T>(attempt: impl AsyncFn() -> kube::Result<T>) -> kube::Result<T> {
    let mut pause = FIRST_PAUSE;
    loop {
        match attempt().await {
            Err(kube::Error::Api(status)) if is_busy(status.code) && pause <= LAST_PAUSE => {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            other => return other,
        }
    }
}

/// Too many requests, unavailable, timed out.
fn is_busy(code: u16) -> bool {
    matches!(code, 429 | 503 | 504)
}

/// Lists a part of an answer that makes sense without it: `None` if the user may not read these objects.
///
/// # Errors
/// Those of the last attempt, but for a right that is missing.
pub async fn list_if_allowed<K>(api: &Api<K>, params: &ListParams) -> kube::Result<Option<Vec<K>>>
where
    K: Clone + DeserializeOwned + Debug,
{
    match read(async || api.list(params).await).await {
        Ok(list) => Ok(Some(list.items)),
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(None),
        Err(error) => Err(error),
    }
}

/// One sentence about a request that failed.
pub fn failed(what: &str, error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status)
            if status.code == 404
                && ["could not find the requested", "404 page not found"]
                    .iter()
                    .any(|text| status.message.contains(text)) =>
        {
            Failure::undecided(format!(
                "{what}: the cluster does not have the CustomResourceDefinitions: install the operator"
            ))
        }
        other => Failure::undecided(format!("{what}: {}", sentence::of_request(other))),
    }
}
