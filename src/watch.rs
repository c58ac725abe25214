// I/O
//! Watches: what is kept of each object, and several namespaces as one stream.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt};
use kube::api::Api;
use kube::runtime::reflector::{Lookup, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::metrics::Metrics;
use crate::serve::Readiness;

/// How many objects one answer to a list holds: it is in memory as a whole, as JSON and decoded.
const PAGE: u32 = 50;

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
    pub fn apis<K>(&self, namespaces: &[String]) -> Vec<Api<K>>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        if namespaces.is_empty() {
            return vec![Api::all(self.client.clone())];
        }
        namespaces.iter().map(|namespace| Api::namespaced(self.client.clone(), namespace)).collect()
    }

    /// Watches each Api, with backoff, and takes out of each object what is not stored.
    pub fn events<K>(
        &self,
        apis: Vec<Api<K>>,
        selector: Option<&str>,
        trim: impl Fn(&mut K) + Clone + Send + Sync + 'static,
    ) -> Vec<BoxStream<'static, Event<K>>>
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let config = watcher::Config::default().page_size(PAGE);
        let config = selector.map_or_else(|| config.clone(), |labels| config.clone().labels(labels));
        apis.into_iter()
            .map(|api| {
                let (this, namespace) = (self.clone(), api.namespace().unwrap_or_default().to_owned());
                self.readiness.set_in(self.kind, &namespace, Err("not listed yet".into()));
                let stream = watcher(api, config.clone()).default_backoff();
                let stream = stream.modify(trim.clone());
                stream.inspect(move |event| this.note(&namespace, event)).boxed()
            })
            .collect()
    }

    fn note<K>(&self, namespace: &str, event: &Event<K>) {
        match event {
            Ok(watcher::Event::InitDone) => self.readiness.set_in(self.kind, namespace, Ok(())),
            Ok(watcher::Event::Init) => {}
            Ok(_) => self.readiness.works(self.kind, namespace),
            Err(error) => {
                self.metrics.watch_restarted(self.kind);
                let why = reason(error);
                tracing::warn!(kind = self.kind, error = why, "the watch broke; it is begun again");
                if is_permission(error) {
                    let why = format!("the service account may not list and watch them: {why}");
                    self.readiness.trouble(self.kind, namespace, why);
                }
            }
        }
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
        first: vec![BTreeMap::new(); watches.len()],
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
    /// What each watch has brought while any of them had not: the store takes it as one list.
    first: Vec<BTreeMap<String, K>>,
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
        let Some(listed) = self.listed.get_mut(watch) else { return Vec::new() };
        match &event {
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(object)) => drop(listed.insert(object.name_any())),
            _ => {}
        }
        if !self.waiting.is_empty() {
            return self.take_first(watch, event);
        }
        match event {
            Ok(watcher::Event::Init) => Vec::new(),
            Ok(watcher::Event::InitApply(object)) => vec![Ok(watcher::Event::Apply(object))],
            Ok(watcher::Event::InitDone) => self.vanished(watch),
            other => vec![other],
        }
    }

    /// Before the first list of all has ended nothing is passed on: what went meanwhile would come with the list.
    fn take_first(&mut self, watch: usize, event: Event<K>) -> Vec<Event<K>> {
        let Some(first) = self.first.get_mut(watch) else { return Vec::new() };
        match event {
            Ok(watcher::Event::Init) => first.clear(),
            Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => {
                first.insert(object.name_any(), object);
            }
            Ok(watcher::Event::Delete(object)) => drop(first.remove(&object.name_any())),
            Ok(watcher::Event::InitDone) => drop(self.waiting.remove(&watch)),
            Err(error) => return vec![Err(error)],
        }
        if !self.waiting.is_empty() {
            return Vec::new();
        }
        let all = self.first.iter_mut().flat_map(std::mem::take);
        let all = all.map(|(_, object)| Ok(watcher::Event::InitApply(object)));
        all.chain([Ok(watcher::Event::InitDone)]).collect()
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

#[cfg(test)]
mod tests {
    use kube::runtime::reflector;
    use kube::runtime::watcher::Event as Told;

    use super::*;
    use crate::api::workspace::Workspace;

    fn workspace(namespace: &str, name: &str) -> Workspace {
        let metadata = serde_json::json!({"namespace": namespace, "name": name});
        let spec = serde_json::json!({"workspaceId": "w", "apiKeySecretRef": {"name": "key"}});
        let (api, kind) = ("ohallo.eu/v1alpha1", "Workspace");
        let object = serde_json::json!({"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec});
        serde_json::from_value(object).unwrap()
    }

    /// What each event of the watches of `a` and `b` makes of the merged stream.
    async fn merge(events: Vec<(usize, Told<Workspace>)>) -> Vec<String> {
        let (store, _writer) = reflector::store();
        let mut merging = Merging {
            waiting: [0, 1].into(),
            first: vec![BTreeMap::new(); 2],
            listed: vec![BTreeSet::new(); 2],
            namespaces: vec!["a".into(), "b".into()],
            store,
        };
        let all = events.into_iter().flat_map(|(watch, event)| merging.take(watch, Ok(event)));
        all.map(|event| match event.unwrap() {
            Told::Init => "init".to_owned(),
            Told::InitDone => "done".to_owned(),
            Told::InitApply(object) => format!("list {}", object.name_any()),
            Told::Apply(object) => format!("apply {}", object.name_any()),
            Told::Delete(object) => format!("delete {}", object.name_any()),
        })
        .collect()
    }

    #[tokio::test]
    async fn the_first_lists_of_all_namespaces_are_one_and_hold_what_was_there_when_the_last_ended() {
        let [kept, gone, late, broken, other] =
            [("a", "kept"), ("a", "gone"), ("a", "late"), ("b", "broken"), ("b", "other")]
                .map(|(namespace, name)| workspace(namespace, name));
        let told = merge(vec![
            (0, Told::Init),
            (1, Told::Init),
            (0, Told::InitApply(kept)),
            (0, Told::InitApply(gone.clone())),
            // A list that broke off midway begins again.
            (1, Told::InitApply(broken)),
            (1, Told::Init),
            (0, Told::InitDone),
            (0, Told::Delete(gone)),
            (0, Told::Apply(late.clone())),
            (1, Told::InitApply(other.clone())),
            (1, Told::InitDone),
            (1, Told::Delete(other)),
            (0, Told::Apply(late)),
        ])
        .await;
        let expected = ["list kept", "list late", "list other", "done", "delete other", "apply late"];
        assert_eq!(told, expected);
    }
}
