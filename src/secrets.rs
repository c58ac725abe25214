// I/O
//! Secrets: a metadata-only watch says which version is there, a GET fetches the content once for all who use it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use moka::future::Cache;
use secrecy::SecretSlice;

use crate::api::conditions::Reason;
use crate::api::is_name;
use crate::channel::inputs::Version;
use crate::error::Failure;
use crate::index::Name;

/// How long a content is kept for its other users.
const KEPT: Duration = Duration::from_secs(300);

/// The most content that is kept, in bytes.
const KEPT_BYTES: u64 = 4 * 1024 * 1024;

/// How often a content that is older than what is known is read again.
const TRIES: usize = 4;

/// What a Secret held when it was read. No Debug: it holds values.
pub enum Content {
    Absent,
    Present { uid: String, resource_version: String, data: BTreeMap<String, SecretSlice<u8>> },
}

pub struct Secrets {
    client: Client,
    cache: Cache<Name, Arc<Content>>,
    /// Of the Secrets that somebody uses.
    versions: Mutex<HashMap<Name, Version>>,
    /// What each watch (of a namespace, or of all) has listed since its list began.
    listing: Mutex<HashMap<Option<String>, HashSet<Name>>>,
}

// === impl Content ===

impl Content {
    pub fn version(&self) -> Version {
        match self {
            Self::Absent => Version::Absent,
            Self::Present { resource_version, .. } => Version::Present(resource_version.clone()),
        }
    }

    fn of(secret: Secret) -> Self {
        let uid = secret.uid().unwrap_or_default();
        let resource_version = secret.resource_version().unwrap_or_default();
        let data = secret.data.unwrap_or_default();
        Self::Present {
            uid,
            resource_version,
            data: data.into_iter().map(|(key, value)| (key, value.0.into())).collect(),
        }
    }

    fn weight(&self) -> u32 {
        let bytes = match self {
            Self::Absent => 0,
            Self::Present { data, .. } => data
                .iter()
                .map(|(key, value)| key.len() + secrecy::ExposeSecret::expose_secret(value).len())
                .sum(),
        };
        u32::try_from(bytes + 256).unwrap_or(u32::MAX)
    }
}

// === impl Secrets ===

impl Secrets {
    pub fn new(client: Client) -> Self {
        let cache = Cache::builder()
            .time_to_live(KEPT)
            .max_capacity(KEPT_BYTES)
            .weigher(|_: &Name, content: &Arc<Content>| content.weight())
            .build();
        Self { client, cache, versions: Mutex::default(), listing: Mutex::default() }
    }

    /// The content as of the newest version the watch has told of; one GET, however many ask at once.
    pub async fn get(&self, name: &Name) -> Result<Arc<Content>, Failure> {
        // kube puts a name into the path as it is: "../../other/secrets/x" would be read elsewhere by whatever
        // tidies paths on the way.
        if !is_name(&name.name) {
            return Ok(Arc::new(Content::Absent));
        }
        // What a GET under way when the Secret changed was answered can be older than what the watch has told since.
        for attempt in 0..TRIES {
            let content = self.kept(name).await?;
            let version = content.version();
            let doubtful = match (self.version(name), &version) {
                // Either may be the newer: a second look tells.
                (Version::Present(_), Version::Absent) | (Version::Absent, Version::Present(_)) => {
                    attempt == 0
                }
                (known, version) => older(version, &known),
            };
            if !doubtful {
                self.note(name.clone(), version);
                return Ok(content);
            }
            self.cache.invalidate(name).await;
        }
        let message = format!("The Secret {:?} changes faster than it can be read.", name.name);
        Err(Failure::transient(Reason::InternalError, message))
    }

    async fn kept(&self, name: &Name) -> Result<Arc<Content>, Failure> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &name.namespace);
        let read = async {
            match api.get(&name.name).await {
                Ok(secret) => Ok(Arc::new(Content::of(secret))),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(Arc::new(Content::Absent)),
                Err(error) => Err(error),
            }
        };
        self.cache.try_get_with(name.clone(), read).await.map_err(|error| unreadable(name, &error))
    }

    /// The version that was last seen of a Secret that somebody uses.
    pub fn version(&self, name: &Name) -> Version {
        self.versions().get(name).cloned().unwrap_or(Version::Unknown)
    }

    /// Takes in an event of the watch of a namespace, or of all. `used` tells whether anybody uses a Secret. Answers which changed.
    pub async fn see(
        &self,
        event: &watcher::Event<PartialObjectMeta<Secret>>,
        scope: Option<&str>,
        used: impl Fn(&Name) -> bool,
    ) -> Vec<Name> {
        let scope = scope.map(str::to_owned);
        let present = |secret: &PartialObjectMeta<Secret>| {
            Version::Present(secret.resource_version().unwrap_or_default())
        };
        let changed = match event {
            watcher::Event::Init => {
                self.listing().insert(scope, HashSet::new());
                Vec::new()
            }
            watcher::Event::InitApply(secret) => match self.named(secret, &used).await {
                Some(name) => {
                    self.listing().entry(scope).or_default().insert(name.clone());
                    self.note(name, present(secret))
                }
                None => Vec::new(),
            },
            // A GET may have told one user of it before: the others are woken all the same.
            watcher::Event::Apply(secret) => {
                return self.changed(self.named(secret, &used).await, present(secret)).await;
            }
            watcher::Event::Delete(secret) => {
                return self.changed(self.named(secret, &used).await, Version::Absent).await;
            }
            watcher::Event::InitDone => self.vanished(scope),
        };
        for name in &changed {
            self.cache.invalidate(name).await;
        }
        changed
    }

    /// Which Secret it is, if anybody uses it. What was kept of another is out of date: its next user reads it anew.
    async fn named(&self, secret: &PartialObjectMeta<Secret>, used: impl Fn(&Name) -> bool) -> Option<Name> {
        let name = Name::new(secret.namespace().unwrap_or_default(), secret.name_any());
        if used(&name) {
            return Some(name);
        }
        self.versions().remove(&name);
        self.cache.invalidate(&name).await;
        None
    }

    async fn changed(&self, name: Option<Name>, version: Version) -> Vec<Name> {
        let Some(name) = name else { return Vec::new() };
        if !self.note(name.clone(), version).is_empty() {
            self.cache.invalidate(&name).await;
        }
        vec![name]
    }

    /// What a list did not bring again.
    fn vanished(&self, scope: Option<String>) -> Vec<Name> {
        let listed = self.listing().remove(&scope).unwrap_or_default();
        let inside = |name: &&Name| scope.as_ref().is_none_or(|namespace| *namespace == name.namespace);
        let gone: Vec<_> =
            self.versions().keys().filter(inside).filter(|name| !listed.contains(*name)).cloned().collect();
        gone.into_iter().flat_map(|name| self.note(name, Version::Absent)).collect()
    }

    fn note(&self, name: Name, version: Version) -> Vec<Name> {
        let mut versions = self.versions();
        match versions.get(&name) {
            Some(known) if *known == version || older(&version, known) => Vec::new(),
            _ => {
                versions.insert(name.clone(), version);
                vec![name]
            }
        }
    }

    fn versions(&self) -> std::sync::MutexGuard<'_, HashMap<Name, Version>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listing(&self) -> std::sync::MutexGuard<'_, HashMap<Option<String>, HashSet<Name>>> {
        self.listing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The watch may lag behind a GET: what it then tells is old.
fn older(version: &Version, known: &Version) -> bool {
    let number = |version: &Version| match version {
        Version::Present(text) => text.parse::<u64>().ok(),
        _ => None,
    };
    number(version).zip(number(known)).is_some_and(|(version, known)| version < known)
}

fn unreadable(name: &Name, error: &kube::Error) -> Failure {
    let why = match error {
        kube::Error::Api(status) if status.code == 403 => {
            "the operator's service account may not get secrets there; grant it the verb".to_owned()
        }
        kube::Error::Api(status) => format!("the API server answered {}", status.code),
        _ => "the API server did not answer".to_owned(),
    };
    Failure::transient(Reason::InternalError, format!("The Secret {:?} can't be read: {why}.", name.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_can_be_no_secret_s_name_is_absent_without_a_call() {
        // Nobody listens: whoever calls, fails.
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
            let content = secrets.get(&Name::new("namespace", name)).await;
            assert!(content.is_ok_and(|content| matches!(*content, Content::Absent)), "{name}");
        }
        for name in ["a", "7", "a.b-c", &"a".repeat(253)] {
            assert!(secrets.get(&Name::new("namespace", name)).await.is_err(), "{name}");
        }
    }
}
