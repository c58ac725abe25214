//! Watches: trims each object before it is stored, and merges the watches of several namespaces into one stream
//! and one store.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Debug;
use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt};
use kube::api::Api;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{Lookup, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::telemetry::http_server::Readiness;
use crate::telemetry::metrics::Metrics;

/// How many objects one page of a list holds: the whole page is in memory, as JSON and decoded.
const PAGE: u32 = 50;

/// What a watch of one kind needs.
#[derive(Clone)]
pub struct Watching {
    pub client: Client,
    pub kind: &'static str,
    pub metrics: Arc<Metrics>,
    pub readiness: Readiness,
}

/// An event of the watch of one namespace, or of all.
pub type Event<K> = watcher::Result<watcher::Event<K>>;

/// An event that the store has, with the object that it replaced there.
pub struct Change<K> {
    pub event: Event<K>,
    pub before: Option<Arc<K>>,
}

// === impl Change ===

impl<K> Change<K> {
    fn of(event: Event<K>) -> Self {
        Self { event, before: None }
    }

    /// The object that the store has now.
    pub fn now(&self) -> Option<&K> {
        match &self.event {
            Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => Some(object),
            _ => None,
        }
    }
}

// === impl Watching ===

impl Watching {
    /// The Api of each namespace, or of the whole cluster if no namespace is named.
    pub fn apis<K>(&self, namespaces: &[String]) -> Vec<Api<K>>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        if namespaces.is_empty() {
            return vec![Api::all(self.client.clone())];
        }
        namespaces.iter().map(|namespace| Api::namespaced(self.client.clone(), namespace)).collect()
    }

    /// Watches each Api, with backoff, and trims each object with `trim`.
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
                tracing::warn!(kind = self.kind, error = why, "a watch failed; the operator restarts it");
                if is_permission(error) {
                    let why = format!("the service account is not allowed to list and watch them: {why}");
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

/// The error's reason, without content that a body might quote.
fn reason(error: &watcher::Error) -> String {
    match api_error(error) {
        Some(status) => format!("{} {}", status.code, status.message),
        None => "no answer".to_owned(),
    }
}

/// Keeps a store current from several watches of one kind, and passes their events on once the store has them.
///
/// The store takes each object of a list as it comes. At the end of the list it drops the objects that the list
/// lacks. kube's `reflector` keeps a list apart until it is complete, so at each relist it holds all objects
/// twice.
///
/// `Init` means that a list has begun, `InitDone` that no list is in progress. An object of a list is passed on unless the
/// store has `same`: a list of what is known changes nothing.
pub fn reflected<K>(
    writer: Writer<K>,
    watches: Vec<BoxStream<'static, Event<K>>>,
    namespaces: Vec<String>,
    same: fn(&K, &K) -> bool,
) -> BoxStream<'static, Change<K>>
where
    K: Lookup<DynamicType = ()> + Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let mut reflected = Reflected::new(writer, watches.len(), namespaces, same);
    let numbered =
        watches.into_iter().enumerate().map(|(i, watch)| watch.map(move |event| (i, event)).boxed());
    stream::select_all(numbered).flat_map(move |(i, event)| stream::iter(reflected.take(i, event))).boxed()
}

struct Reflected<K: Lookup<DynamicType = ()> + Clone + 'static> {
    writer: Writer<K>,
    store: Store<K>,
    /// The namespace of each watch; empty if one watch covers all.
    namespaces: Vec<String>,
    /// Watches whose list is in progress.
    listing: BTreeSet<usize>,
    /// Namespace and name of what each watch has listed since its list began.
    listed: Vec<HashSet<(Option<String>, String)>>,
    same: fn(&K, &K) -> bool,
}

// === impl Reflected ===

impl<K> Reflected<K>
where
    K: Lookup<DynamicType = ()> + Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    fn new(writer: Writer<K>, watches: usize, namespaces: Vec<String>, same: fn(&K, &K) -> bool) -> Self {
        let (store, listed) = (writer.as_reader(), vec![HashSet::new(); watches]);
        Self { writer, store, namespaces, listing: (0..watches).collect(), listed, same }
    }

    fn take(&mut self, watch: usize, event: Event<K>) -> Box<dyn Iterator<Item = Change<K>> + Send> {
        let Some(listed) = self.listed.get_mut(watch) else { return Box::new(std::iter::empty()) };
        let mut before = None;
        match &event {
            Ok(watcher::Event::Init) => {
                listed.clear();
                self.listing.insert(watch);
            }
            Ok(watcher::Event::InitApply(object)) => {
                listed.insert(key(object));
                before = self.stored(object);
                if before.as_ref().is_some_and(|before| (self.same)(before, object)) {
                    return Box::new(std::iter::empty());
                }
                self.writer.apply_watcher_event(&watcher::Event::Apply(object.clone()));
            }
            Ok(watcher::Event::InitDone) => {
                let deletes = self.vanished(watch).into_iter().map(|object| {
                    let event = Ok(deleted(&object));
                    Change { event, before: Some(object) }
                });
                self.listing.remove(&watch);
                return Box::new(deletes.chain(self.listing.is_empty().then_some(Change::of(event))));
            }
            Ok(applied @ (watcher::Event::Apply(object) | watcher::Event::Delete(object))) => {
                before = self.stored(object);
                self.writer.apply_watcher_event(applied);
            }
            Err(_) => {}
        }
        Box::new(std::iter::once(Change { event, before }))
    }

    fn stored(&self, object: &K) -> Option<Arc<K>> {
        self.store.get(&object.to_object_ref(()))
    }

    /// Drops the objects that a list lacks from the store, and returns them.
    fn vanished(&mut self, watch: usize) -> Vec<Arc<K>> {
        let listed = self.listed.get_mut(watch).map(std::mem::take).unwrap_or_default();
        let namespace = self.namespaces.get(watch);
        let mut vanished = self.store.state();
        vanished.retain(|object| {
            let found = key(&**object);
            (namespace.is_none() || found.0.as_ref() == namespace) && !listed.contains(&found)
        });
        vanished.iter().for_each(|object| self.writer.apply_watcher_event(&deleted(object)));
        vanished
    }
}

fn key<K: Resource>(object: &K) -> (Option<String>, String) {
    (ResourceExt::namespace(object), object.name_any())
}

fn deleted<K: Clone>(object: &Arc<K>) -> watcher::Event<K> {
    watcher::Event::Delete(K::clone(object))
}

#[cfg(test)]
mod tests {
    use kube::runtime::reflector;
    use kube::runtime::watcher::Event as WatchEvent;

    use super::*;
    use ohallo_core::api::workspace::Workspace;

    fn workspace(namespace: &str, name: &str) -> Workspace {
        let metadata = serde_json::json!({"namespace": namespace, "name": name});
        let spec = serde_json::json!({"workspaceId": "w", "apiKeySecretRef": {"name": "key"}});
        let (api, kind) = ("ohallo.eu/v1alpha1", "Workspace");
        let object = serde_json::json!({"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec});
        serde_json::from_value(object).unwrap()
    }

    struct Two {
        reflected: Reflected<Workspace>,
        store: Store<Workspace>,
    }

    impl Two {
        /// The watches of `a` and `b`.
        fn new() -> Self {
            let (store, writer) = reflector::store();
            Self { reflected: Reflected::new(writer, 2, vec!["a".into(), "b".into()], PartialEq::eq), store }
        }

        /// Returns the events that are passed on, then the names in the store.
        fn take(&mut self, watch: usize, event: WatchEvent<Workspace>) -> (Vec<String>, Vec<String>) {
            let passed = self.reflected.take(watch, Ok(event)).map(|change| match change.event.unwrap() {
                WatchEvent::Init => "init".to_owned(),
                WatchEvent::InitDone => "done".to_owned(),
                WatchEvent::InitApply(object) => format!("list {}", object.name_any()),
                WatchEvent::Apply(object) => format!("apply {}", object.name_any()),
                WatchEvent::Delete(object) => format!("delete {}", object.name_any()),
            });
            let passed = passed.collect();
            let mut stored: Vec<_> = self.store.state().iter().map(|object| object.name_any()).collect();
            stored.sort();
            (passed, stored)
        }

        #[track_caller]
        fn check(&mut self, watch: usize, event: WatchEvent<Workspace>, passed: &[&str], stored: &[&str]) {
            let expected =
                [passed, stored].map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(<[_; 2]>::from(self.take(watch, event)), expected);
        }
    }

    #[test]
    fn the_list_is_done_when_every_namespace_is_listed_and_the_store_holds_all_objects() {
        let mut two = Two::new();
        two.check(0, WatchEvent::Init, &["init"], &[]);
        two.check(0, WatchEvent::InitApply(workspace("a", "kept")), &["list kept"], &["kept"]);
        two.check(0, WatchEvent::InitApply(workspace("a", "gone")), &["list gone"], &["gone", "kept"]);
        two.check(0, WatchEvent::InitDone, &[], &["gone", "kept"]);
        two.check(
            1,
            WatchEvent::InitApply(workspace("b", "broken")),
            &["list broken"],
            &["broken", "gone", "kept"],
        );
        // A list that broke off starts again.
        two.check(1, WatchEvent::Init, &["init"], &["broken", "gone", "kept"]);
        two.check(0, WatchEvent::Delete(workspace("a", "gone")), &["delete gone"], &["broken", "kept"]);
        two.check(0, WatchEvent::Apply(workspace("a", "late")), &["apply late"], &["broken", "kept", "late"]);
        two.check(
            1,
            WatchEvent::InitApply(workspace("b", "late")),
            &["list late"],
            &["broken", "kept", "late", "late"],
        );
        two.check(1, WatchEvent::InitDone, &["delete broken", "done"], &["kept", "late", "late"]);
    }

    #[test]
    fn a_relist_replaces_object_by_object_and_deletes_what_is_missing_in_its_own_namespace() {
        let mut two = Two::new();
        for (watch, namespace) in ["a", "b"].into_iter().enumerate() {
            for name in ["kept", "gone"] {
                two.take(watch, WatchEvent::InitApply(workspace(namespace, name)));
            }
            two.take(watch, WatchEvent::InitDone);
        }
        two.check(0, WatchEvent::Init, &["init"], &["gone", "gone", "kept", "kept"]);
        let mut changed = workspace("a", "kept");
        changed.spec.suspend = Some(true);
        two.check(0, WatchEvent::InitApply(changed), &["list kept"], &["gone", "gone", "kept", "kept"]);
        let suspended = two.store.state().iter().filter(|object| object.spec.suspend == Some(true)).count();
        assert_eq!(suspended, 1, "the store has an object of the list before the list ends");
        two.check(0, WatchEvent::InitDone, &["delete gone", "done"], &["gone", "kept", "kept"]);
        // The first list has no effect any more.
        two.check(0, WatchEvent::Init, &["init"], &["gone", "kept", "kept"]);
        two.check(0, WatchEvent::InitDone, &["delete kept", "done"], &["gone", "kept"]);
    }

    #[test]
    fn a_relist_passes_on_what_changed_with_the_object_before_it_and_nothing_else() {
        let (store, writer) = reflector::store();
        let mut one = Reflected::new(writer, 1, Vec::new(), PartialEq::eq);
        let version = |name: &str, version: &str| {
            let mut object = workspace("a", name);
            object.metadata.resource_version = Some(version.into());
            object
        };
        let mut list = |objects: &[(&str, &str)]| -> Vec<(String, Option<String>)> {
            let events = objects.iter().map(|(name, of)| WatchEvent::InitApply(version(name, of)));
            let events = [WatchEvent::Init].into_iter().chain(events).chain([WatchEvent::InitDone]);
            let changes: Vec<_> =
                events.flat_map(|event| one.take(0, Ok(event)).collect::<Vec<_>>()).collect();
            let before =
                |change: &Change<Workspace>| change.before.as_ref()?.metadata.resource_version.clone();
            let named = changes.iter().filter_map(|change| Some((change.now()?.name_any(), before(change))));
            named.collect()
        };
        let named = |all: &[(&str, Option<&str>)]| -> Vec<(String, Option<String>)> {
            all.iter().map(|(name, before)| ((*name).into(), before.map(Into::into))).collect()
        };
        assert_eq!(list(&[("x", "1"), ("y", "2")]), named(&[("x", None), ("y", None)]));
        assert_eq!(list(&[("x", "1"), ("y", "2")]), named(&[]), "every version is known");
        assert_eq!(list(&[("x", "1"), ("y", "3"), ("z", "4")]), named(&[("y", Some("2")), ("z", None)]));
        assert_eq!(list(&[("y", "3")]), named(&[]));
        assert_eq!(store.state().len(), 1);
    }

    #[test]
    fn one_watch_of_all_namespaces_deletes_in_all_of_them() {
        let (store, writer) = reflector::store();
        let mut one = Reflected::new(writer, 1, Vec::new(), PartialEq::eq);
        for namespace in ["a", "b"] {
            one.take(0, Ok(WatchEvent::InitApply(workspace(namespace, "n")))).for_each(drop);
        }
        one.take(0, Ok(WatchEvent::InitDone)).for_each(drop);
        one.take(0, Ok(WatchEvent::Init)).for_each(drop);
        one.take(0, Ok(WatchEvent::InitApply(workspace("b", "n")))).for_each(drop);
        assert_eq!(one.take(0, Ok(WatchEvent::InitDone)).count(), 2);
        assert_eq!(
            store.state().iter().filter_map(|object| ResourceExt::namespace(&**object)).collect::<Vec<_>>(),
            ["b"]
        );
    }
}
