// I/O
//! Watches: what is kept of each object, and several namespaces as one stream.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt};
use kube::api::Api;
use kube::runtime::reflector::{Lookup, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::metrics::Metrics;
use crate::read::{Read, opened};
use crate::serve::Readiness;

/// kubectl's copy of the manifest: as large as the object and of no use to us.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What a watch of one kind needs.
#[derive(Clone)]
pub struct Watching {
    pub client: Client,
    pub kind: &'static str,
    pub metrics: Arc<Metrics>,
    pub readiness: Readiness,
}

/// An event of one namespace, or of all.
pub type Event<K> = watcher::Result<watcher::Event<K>>;

// === impl Watching ===

impl Watching {
    /// The Api of each namespace; of the whole cluster where none is named.
    pub fn apis<K>(&self, namespaces: &[String]) -> Vec<Api<Read<K>>>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        if namespaces.is_empty() {
            return vec![Api::all(self.client.clone())];
        }
        namespaces.iter().map(|namespace| Api::namespaced(self.client.clone(), namespace)).collect()
    }

    /// Watches each Api, with backoff, and strips what nobody reads before it is stored.
    pub fn events<K>(
        &self,
        apis: Vec<Api<Read<K>>>,
        selector: Option<&str>,
        keep_labels: bool,
    ) -> Vec<BoxStream<'static, Event<K>>>
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let config = selector
            .map_or_else(watcher::Config::default, |labels| watcher::Config::default().labels(labels));
        apis.into_iter()
            .map(|api| {
                let this = self.clone();
                let stream = watcher(api, config.clone()).default_backoff();
                let stream = stream.modify(move |Read(object)| strip(object, keep_labels));
                stream.map(|event| event.map(opened)).inspect(move |event| this.note(event)).boxed()
            })
            .collect()
    }

    fn note<K>(&self, event: &Event<K>) {
        match event {
            Ok(watcher::Event::InitDone) => self.readiness.set(self.kind, Ok(())),
            Ok(_) => {}
            Err(error) => {
                self.metrics.watch_restarted(self.kind);
                let why = reason(error);
                tracing::warn!(kind = self.kind, error = why, "the watch broke; it is begun again");
                if is_permission(error) {
                    self.readiness.set(
                        self.kind,
                        Err(format!("the service account may not list and watch them: {why}")),
                    );
                }
            }
        }
    }
}

fn strip<K: Resource>(object: &mut K, keep_labels: bool) {
    let metadata = object.meta_mut();
    metadata.managed_fields = None;
    metadata.owner_references = None;
    if !keep_labels {
        metadata.labels = None;
    }
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
}

fn is_permission(error: &watcher::Error) -> bool {
    matches!(api_error(error), Some(status) if status.code == 403 || status.code == 401)
}

fn api_error(error: &watcher::Error) -> Option<&kube::core::Status> {
    use watcher::Error::{InitialListFailed, WatchError, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status))
        | WatchFailed(kube::Error::Api(status)) => Some(status),
        WatchError(status) => Some(status),
        _ => None,
    }
}

/// Why, without what a body might quote.
fn reason(error: &watcher::Error) -> String {
    match api_error(error) {
        Some(status) => format!("{} {}", status.code, status.message),
        None => "no answer".to_owned(),
    }
}

/// Several watches as one: a relist of one namespace says nothing about the objects of another.
pub fn merged<K>(
    watches: Vec<BoxStream<'static, Event<K>>>,
    namespaces: Vec<String>,
    store: Store<K>,
) -> BoxStream<'static, Event<K>>
where
    K: Lookup<DynamicType = ()> + Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    if watches.len() == 1 {
        return stream::iter(watches).flatten().boxed();
    }
    let mut merging = Merging {
        waiting: (0..watches.len()).collect(),
        listed: vec![BTreeSet::new(); watches.len()],
        namespaces,
        store,
    };
    let numbered =
        watches.into_iter().enumerate().map(|(i, watch)| watch.map(move |event| (i, event)).boxed());
    let init = stream::iter([Ok(watcher::Event::Init)]);
    init.chain(stream::select_all(numbered).flat_map(move |(i, event)| stream::iter(merging.take(i, event))))
        .boxed()
}

struct Merging<K: Lookup<DynamicType = ()> + Clone + 'static> {
    /// Watches that have not ended their first list.
    waiting: BTreeSet<usize>,
    /// What each watch has listed since its list began.
    listed: Vec<BTreeSet<String>>,
    /// The namespace of each watch.
    namespaces: Vec<String>,
    store: Store<K>,
}

// === impl Merging ===

impl<K> Merging<K>
where
    K: Lookup<DynamicType = ()> + Resource<DynamicType = ()> + Clone + 'static,
{
    fn take(&mut self, watch: usize, event: Event<K>) -> Vec<Event<K>> {
        let first = self.waiting.contains(&watch);
        match event {
            Ok(watcher::Event::Init) => {
                if let Some(listed) = self.listed.get_mut(watch) {
                    listed.clear();
                }
                Vec::new()
            }
            Ok(watcher::Event::InitApply(object)) => {
                if let Some(listed) = self.listed.get_mut(watch) {
                    listed.insert(object.name_any());
                }
                vec![Ok(if first {
                    watcher::Event::InitApply(object)
                } else {
                    watcher::Event::Apply(object)
                })]
            }
            Ok(watcher::Event::InitDone) if first => {
                self.waiting.remove(&watch);
                if self.waiting.is_empty() { vec![Ok(watcher::Event::InitDone)] } else { Vec::new() }
            }
            Ok(watcher::Event::InitDone) => self.vanished(watch),
            // Before the first list of all has ended the store takes no single events: they are part of the list.
            Ok(watcher::Event::Apply(object)) if !self.waiting.is_empty() => {
                vec![Ok(watcher::Event::InitApply(object))]
            }
            other => vec![other],
        }
    }

    /// What a relist did not bring again.
    fn vanished(&mut self, watch: usize) -> Vec<Event<K>> {
        let (Some(listed), Some(namespace)) = (self.listed.get(watch), self.namespaces.get(watch)) else {
            return Vec::new();
        };
        let gone = self.store.state().into_iter().filter(|object| {
            ResourceExt::namespace(&**object).as_ref() == Some(namespace)
                && !listed.contains(&object.name_any())
        });
        gone.map(|object| Ok(watcher::Event::Delete((*object).clone()))).collect()
    }
}
