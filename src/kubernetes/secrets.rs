//! Secrets: a metadata-only watch reports the current version, and one GET fetches the content for all its
//! users.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Client};
use moka::future::Cache;
use tokio::sync::Semaphore;

use crate::kubernetes::error;
use ohallo_core::api::conditions::Reason;
use ohallo_core::api::is_name;
use ohallo_core::failure::Failure;
use ohallo_core::index::NamespacedName;
use ohallo_core::secret_content::Content;
use ohallo_core::secret_id::SecretId;
use ohallo_core::secret_version::Version;

/// How long a content is cached for its other users.
const KEPT: Duration = Duration::from_secs(300);

/// The most content that is cached, in bytes.
const KEPT_BYTES: u64 = 4 * 1024 * 1024;

/// How many Secrets are read at the same time: each may take some hundred KiB until it is decoded.
const READS: usize = 4;

/// How many times a content is read again if it is older than the known version.
const TRIES: usize = 4;

pub struct Secrets {
    client: Client,
    cache: Cache<SecretId, Arc<Content>>,
    reads: Arc<Semaphore>,
    /// The versions of the Secrets in use.
    versions: Mutex<HashMap<SecretId, Version>>,
    /// What each watch (of a namespace, or of all) has listed since its list began.
    listing: Mutex<HashMap<Option<String>, HashSet<SecretId>>>,
}

// === impl Secrets ===

impl Secrets {
    pub fn new(client: Client) -> Self {
        let cache = Cache::builder()
            .time_to_live(KEPT)
            .max_capacity(KEPT_BYTES)
            .weigher(|_: &SecretId, content: &Arc<Content>| content.weight())
            .build();
        let reads = Arc::new(Semaphore::new(READS));
        Self { client, cache, reads, versions: Mutex::default(), listing: Mutex::default() }
    }

    /// The content at the newest version that the watch has reported, with one GET for any number of concurrent
    /// callers.
    pub async fn get(&self, name: &NamespacedName) -> Result<Arc<Content>, Failure> {
        // kube puts a name into the path unchanged: a proxy that normalizes paths would read
        // "../../other/secrets/x" elsewhere.
        if !is_name(&name.name) {
            return Ok(Arc::new(Content::Absent));
        }
        let id = SecretId::of(&name.namespace, &name.name);
        // A GET that was in flight when the Secret changed may return an older version than the watch has
        // reported since.
        for attempt in 0..TRIES {
            let content = self.kept(name, id).await?;
            let version = content.version();
            let doubtful = match (self.version(id), version) {
                // Either may be the newer: a second read decides.
                (Version::Present(_), Version::Absent) | (Version::Absent, Version::Present(_)) => {
                    attempt == 0
                }
                (known, version) => version.is_older(known),
            };
            if !doubtful {
                self.note(id, version);
                return Ok(content);
            }
            self.cache.invalidate(&id).await;
        }
        let message = format!("The Secret {:?} changes faster than it can be read.", name.name);
        Err(Failure::transient(Reason::InternalError, message))
    }

    async fn kept(&self, name: &NamespacedName, id: SecretId) -> Result<Arc<Content>, Failure> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &name.namespace);
        let read = async {
            // The semaphore is never closed.
            let _permit = self.reads.acquire().await;
            match api.get(&name.name).await {
                Ok(secret) => Ok(Arc::new(Content::of(secret))),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(Arc::new(Content::Absent)),
                Err(error) => Err(error),
            }
        };
        self.cache.try_get_with(id, read).await.map_err(|error| unreadable(name, &error))
    }

    /// The last known version of a Secret in use.
    pub fn version(&self, secret: SecretId) -> Version {
        self.versions().get(&secret).copied().unwrap_or(Version::Unknown)
    }

    /// Handles an event of the watch of a namespace, or of all. `used` returns whether a Secret is in use.
    /// Returns the changed Secrets.
    pub async fn see(
        &self,
        event: &watcher::Event<PartialObjectMeta<Secret>>,
        scope: Option<&str>,
        used: impl Fn(SecretId) -> bool,
    ) -> Vec<SecretId> {
        let scope = scope.map(str::to_owned);
        let present = |secret: &PartialObjectMeta<Secret>| {
            Version::present(secret.metadata.resource_version.as_deref().unwrap_or_default())
        };
        let changed = match event {
            watcher::Event::Init => {
                self.listing().insert(scope, HashSet::new());
                Vec::new()
            }
            watcher::Event::InitApply(secret) => match self.named(secret, &used).await {
                Some(id) => {
                    self.listing().entry(scope).or_default().insert(id);
                    self.note(id, present(secret))
                }
                None => Vec::new(),
            },
            // A GET may have shown the change to one user already; the other users are requeued anyway.
            watcher::Event::Apply(secret) => {
                return self.changed(self.named(secret, &used).await, present(secret)).await;
            }
            watcher::Event::Delete(secret) => {
                return self.changed(self.named(secret, &used).await, Version::Absent).await;
            }
            watcher::Event::InitDone => self.vanished(scope),
        };
        for id in &changed {
            self.cache.invalidate(id).await;
        }
        changed
    }

    /// The Secret's id, if it is in use. The cached content of an unused Secret is outdated: its next user
    /// reads it again.
    async fn named(
        &self,
        secret: &PartialObjectMeta<Secret>,
        used: impl Fn(SecretId) -> bool,
    ) -> Option<SecretId> {
        let metadata = &secret.metadata;
        let id = SecretId::of(
            metadata.namespace.as_deref().unwrap_or_default(),
            metadata.name.as_deref().unwrap_or_default(),
        );
        if used(id) {
            return Some(id);
        }
        self.versions().remove(&id);
        self.cache.invalidate(&id).await;
        None
    }

    async fn changed(&self, id: Option<SecretId>, version: Version) -> Vec<SecretId> {
        let Some(id) = id else { return Vec::new() };
        if !self.note(id, version).is_empty() {
            self.cache.invalidate(&id).await;
        }
        vec![id]
    }

    /// The Secrets that a list lacks.
    fn vanished(&self, scope: Option<String>) -> Vec<SecretId> {
        let listed = self.listing().remove(&scope).unwrap_or_default();
        let inside = |id: &&SecretId| scope.as_ref().is_none_or(|namespace| id.is_in(namespace));
        let gone: Vec<_> =
            self.versions().keys().filter(inside).filter(|id| !listed.contains(*id)).copied().collect();
        gone.into_iter().flat_map(|id| self.note(id, Version::Absent)).collect()
    }

    fn note(&self, id: SecretId, version: Version) -> Vec<SecretId> {
        let mut versions = self.versions();
        match versions.get(&id) {
            // The watch may lag behind a GET: then its event is outdated.
            Some(known) if *known == version || version.is_older(*known) => Vec::new(),
            _ => {
                versions.insert(id, version);
                vec![id]
            }
        }
    }

    /// Forgets the versions of Secrets that are no longer in use.
    pub fn retain(&self, used: impl Fn(SecretId) -> bool) {
        let mut versions = self.versions();
        versions.retain(|id, _| used(*id));
        let spare = versions.capacity() / 4 > versions.len();
        if spare {
            versions.shrink_to_fit();
        }
    }

    /// How many versions are stored.
    pub fn len(&self) -> usize {
        self.versions().len()
    }

    pub fn is_empty(&self) -> bool {
        self.versions().is_empty()
    }

    fn versions(&self) -> std::sync::MutexGuard<'_, HashMap<SecretId, Version>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listing(&self) -> std::sync::MutexGuard<'_, HashMap<Option<String>, HashSet<SecretId>>> {
        self.listing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unreadable(name: &NamespacedName, error: &kube::Error) -> Failure {
    let why = match error {
        kube::Error::Api(status) if status.code == 403 => {
            "the operator's service account is not allowed to get Secrets there; grant it the verb".to_owned()
        }
        kube::Error::Api(status) => format!("the API server answered {}", status.code),
        _ => "the API server did not answer".to_owned(),
    };
    Failure::transient(Reason::InternalError, format!("The Secret {:?} can't be read: {why}.", name.name))
        .caused_by(error::source(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_secret_with_an_impossible_name_is_absent_without_a_call() {
        // No server listens: a call would fail.
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let secrets = Secrets::new(Client::try_from(config).unwrap());
        let long = "a".repeat(254);
        for name in [
            "",
            ".",
            "..",
            "../../b/secrets/c",
            "a/b",
            "a?b",
            "a#b",
            "%2e%2e",
            "A",
            "a b",
            "ä",
            "a\n",
            "-a",
            "a.",
            &long,
        ] {
            let content = secrets.get(&NamespacedName::new("namespace", name)).await;
            assert!(content.is_ok_and(|content| matches!(*content, Content::Absent)), "{name}");
        }
        for name in ["a", "7", "a.b-c", &"a".repeat(253)] {
            assert!(secrets.get(&NamespacedName::new("namespace", name)).await.is_err(), "{name}");
        }
    }

    fn metadata(name: &str, version: usize) -> PartialObjectMeta<Secret> {
        let metadata =
            serde_json::json!({"namespace": "a", "name": name, "resourceVersion": version.to_string()});
        serde_json::from_value(serde_json::json!({ "metadata": metadata })).unwrap()
    }

    #[tokio::test]
    async fn versions_of_deleted_and_of_unused_secrets_are_not_kept() {
        use watcher::Event;
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let secrets = Secrets::new(Client::try_from(config).unwrap());
        for round in 0..2000_usize {
            let secret = metadata(&format!("s{}", round % 100), round);
            let used = round % 2 == 0;
            let event = if round % 7 == 0 { Event::Delete(secret) } else { Event::Apply(secret) };
            let changed = secrets.see(&event, None, |_| used).await;
            assert_eq!(changed.len(), usize::from(used));
            if round % 100 == 0 {
                secrets.see(&Event::Init, None, |_| true).await;
                secrets.see(&Event::InitDone, None, |_| true).await;
            }
        }
        assert!((1..=100).contains(&secrets.len()), "{}", secrets.len());
        let kept = SecretId::of("a", "s2");
        secrets.retain(|secret| secret == kept);
        assert_eq!(secrets.len(), 1);
        secrets.retain(|_| false);
        assert!(secrets.is_empty() && secrets.listing().is_empty());
        assert!(secrets.versions().capacity() < 8);
    }
}
