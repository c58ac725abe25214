//! A cache of Channels between reconciles. The reflector store holds only the fields that decide whether a Channel is
//! due. This cache holds the rest as JSON, within one budget; what does not fit is read from the API server.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::ResourceExt;

use crate::api::channel::{Channel, ChannelStatus, ConfigSize, CreateRecord, Remainder};
use crate::api::finalizer;
use crate::channel::declared;
use crate::channel::last_seen;
use crate::channel::settled::{pushed_at_rest, settled};
use crate::channel::spec::config_fits;
use crate::channel::triggers::Triggers;
use crate::decoded_size::decoded_size;
use crate::index;

/// The maximum size of a cached object, in bytes of JSON.
const OBJECT: usize = 16 * 1024;

/// The maximum total size, in bytes of JSON: enough for 5,000 typical Channels.
const TOTAL: usize = 8 * 1024 * 1024;

/// Objects by namespace and uid.
#[derive(Debug)]
pub struct ObjectCache {
    inner: Mutex<Inner>,
    total: usize,
}

#[derive(Debug, Default)]
struct Inner {
    namespaces: HashMap<Arc<str>, Namespace>,
    /// The same namespaces, ordered by their bytes.
    by_bytes: BTreeSet<(usize, Arc<str>)>,
    total: usize,
    count: usize,
}

#[derive(Debug, Default)]
struct Namespace {
    objects: BTreeMap<String, Box<[u8]>>,
    bytes: usize,
}

// === impl ObjectCache ===

impl Default for ObjectCache {
    fn default() -> Self {
        Self::with(TOTAL)
    }
}

impl ObjectCache {
    /// A cache of at most so many bytes of JSON.
    pub fn with(total: usize) -> Self {
        Self { inner: Mutex::default(), total }
    }

    /// Moves the large fields of a watched object into the cache, if they fit.
    pub fn take_in(&self, channel: &mut Channel) {
        let (namespace, uid) = (channel.namespace().unwrap_or_default(), channel.uid().unwrap_or_default());
        let text = whole(channel).then(|| serde_json::to_vec(&*channel).ok()).flatten();
        let mut inner = self.inner();
        inner.remove(&namespace, &uid);
        if let Some(text) = text.filter(|text| text.len() <= OBJECT) {
            inner.insert(&namespace, uid, text.into_boxed_slice());
            inner.shrink(self.total);
        }
        drop(inner);
        lighten(channel);
    }

    /// The whole object as the watch delivered it; `None` where it was too large or was evicted.
    pub fn get(&self, light: &Channel) -> Option<Channel> {
        let uid = light.metadata.uid.as_deref()?;
        let inner = self.inner();
        let text = inner.namespaces.get(light.metadata.namespace.as_deref()?)?.objects.get(uid)?;
        serde_json::from_slice(text).ok()
    }

    /// Drops cached objects that no longer exist.
    pub fn retain(&self, there: impl Fn(&str) -> bool) {
        let mut inner = self.inner();
        let gone: Vec<_> = inner
            .namespaces
            .iter()
            .flat_map(|(namespace, kept)| kept.objects.keys().map(|uid| (namespace.clone(), uid.clone())))
            .filter(|(_, uid)| !there(uid))
            .collect();
        gone.iter().for_each(|(namespace, uid)| inner.remove(namespace, uid));
    }

    /// The size of the cached objects, in bytes of JSON.
    pub fn bytes(&self) -> usize {
        self.inner().total
    }

    /// The number of cached objects.
    pub fn len(&self) -> usize {
        self.inner().count
    }

    pub fn is_empty(&self) -> bool {
        self.inner().namespaces.is_empty()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Inner ===

impl Inner {
    fn insert(&mut self, namespace: &str, uid: String, text: Box<[u8]>) {
        self.total += text.len();
        self.count += 1;
        self.change(namespace, |kept| {
            kept.bytes += text.len();
            kept.objects.insert(uid, text);
        });
    }

    fn remove(&mut self, namespace: &str, uid: &str) {
        let removed = self.change(namespace, |kept| {
            let text = kept.objects.remove(uid)?;
            kept.bytes = kept.bytes.saturating_sub(text.len());
            Some(text.len())
        });
        if let Some(bytes) = removed {
            self.total = self.total.saturating_sub(bytes);
            self.count = self.count.saturating_sub(1);
        }
    }

    /// Changes a namespace and its place in the order; an empty one is dropped.
    fn change<T>(&mut self, namespace: &str, change: impl FnOnce(&mut Namespace) -> T) -> T {
        let (name, mut kept) = self
            .namespaces
            .remove_entry(namespace)
            .unwrap_or_else(|| (namespace.into(), Namespace::default()));
        self.by_bytes.remove(&(kept.bytes, Arc::clone(&name)));
        let changed = change(&mut kept);
        if !kept.objects.is_empty() {
            self.by_bytes.insert((kept.bytes, Arc::clone(&name)));
            self.namespaces.insert(name, kept);
        }
        changed
    }

    /// Evicts objects: from the namespace that uses the most, the largest of a few.
    fn shrink(&mut self, total: usize) {
        while self.total > total {
            let largest = self.by_bytes.last().and_then(|(_, namespace)| {
                let few = self.namespaces.get(namespace)?.objects.iter().take(16);
                Some((Arc::clone(namespace), few.max_by_key(|(_, text)| text.len())?.0.clone()))
            });
            let Some((namespace, uid)) = largest else { return };
            self.remove(&namespace, &uid);
        }
    }
}

/// Whether the object was decoded completely and encodes to the same JSON.
fn whole(channel: &Channel) -> bool {
    let status = channel.status.as_ref();
    // Kubernetes stores times in whole seconds.
    let seconds = |status: &ChannelStatus| {
        status.conditions.iter().all(|condition| condition.last_transition_time.0.subsec_nanosecond() == 0)
    };
    channel.spec.left_out.is_none() && status.is_none_or(|status| !status.left_out && seconds(status))
}

/// Removes all fields but those for due times, references and metrics.
fn lighten(channel: &mut Channel) {
    let (own, config_fits) = (Triggers::own(channel), config_fits(&channel.spec));
    let secrets = index::secret_ids(channel);
    let (settled, pushed_at_rest) = (settled(channel), pushed_at_rest(channel));
    let (create, finalizer_removed) = (CreateRecord::of(channel), last_seen::finalizer_removed(channel));
    let spec = &mut channel.spec;
    let config = spec.config.take().map(|config| {
        let text = serde_json::to_vec(&config).unwrap_or_default();
        ConfigSize { bytes: text.len() as u64, decoded: decoded_size(&text) }
    });
    let left_out = spec.left_out.get_or_insert_default();
    left_out.config = left_out.config.or(config);
    left_out.kept =
        Some(Remainder { own, config_fits, secrets, settled, pushed_at_rest, create, finalizer_removed });
    spec.credentials = Vec::new();
    declared::leave_out(spec);
    channel.metadata.owner_references = None;
    channel.metadata.labels = None;
    channel.metadata.annotations = None;
    if let Some(finalizers) = &mut channel.metadata.finalizers {
        finalizers.retain(|name| name == finalizer::CHANNEL);
        finalizers.shrink_to_fit();
    }
    if let Some(status) = channel.status.take() {
        let mut conditions = status.conditions;
        conditions.iter_mut().for_each(|condition| condition.message = String::new());
        channel.status = Some(ChannelStatus {
            observed_generation: status.observed_generation,
            channel_id: status.channel_id,
            bound_uid: status.bound_uid,
            workspace_id: status.workspace_id,
            origin: status.origin,
            state: status.state,
            create: status.create,
            conditions,
            left_out: true,
            ..ChannelStatus::default()
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::annotation;
    use crate::secret_id::SecretId;
    use crate::secret_version::Version;

    fn channel(namespace: &str, name: &str, config: Value) -> Channel {
        let metadata = json!({
            "namespace": namespace, "name": name, "uid": format!("uid-{name}"), "generation": 2, "resourceVersion": "7",
            "annotations": {"ohallo.eu/create-intent": "x"}, "finalizers": ["example.com/other", "ohallo.eu/channel"],
        });
        let condition = json!({"type": "Ready", "status": "True", "reason": "Available", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let spec = json!({"channelType": "chat", "displayName": "A", "config": config, "credentials": [{"secretRef": {"name": "s"}}]});
        let status =
            json!({"channelId": "c1", "boundUid": "u", "conditions": [condition], "drift": [{"path": "a"}]});
        let object = json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel", "metadata": metadata, "spec": spec, "status": status});
        serde_json::from_value(object).unwrap()
    }

    /// The part that remains in the store.
    fn taken_in(kept: &ObjectCache, channel: &Channel) -> Channel {
        let mut light = channel.clone();
        kept.take_in(&mut light);
        light
    }

    #[test]
    fn a_typical_object_is_returned_unchanged_and_the_store_has_neither_config_nor_names() {
        let kept = ObjectCache::default();
        let full = channel("a", "n", json!({"greeting": "Hello", "n": 0.1}));
        let light = taken_in(&kept, &full);
        assert_eq!(kept.get(&light).unwrap(), full);
        let left = light.spec.left_out.as_ref().unwrap();
        assert_eq!(*left.kept.as_ref().unwrap().secrets, [SecretId::of("a", "s")]);
        assert_eq!((light.spec.config.is_none(), light.spec.credentials.len()), (true, 0));
        assert_eq!(Triggers::own(&light), Triggers::own(&full));
        assert!(config_fits(&light.spec));
        let deep = (0..40).fold(json!(1), |inner, _| json!([inner]));
        assert!(!config_fits(&taken_in(&kept, &channel("a", "deep", json!({"a": deep}))).spec));
        let written = serde_json::to_string(&light).unwrap();
        for text in ["Hello", "\"A\"", "\"s\"", "example.com", "\"m\"", "leftOut"] {
            assert!(!written.contains(text), "{text} in {written}");
        }
        kept.retain(|_| false);
        assert!(kept.get(&light).is_none() && kept.is_empty());
    }

    #[test]
    fn an_object_that_is_not_cached_is_settled_like_a_cached_one() {
        let requested = |at: Option<&str>, handled: Option<&str>, tested: Option<&str>| {
            let mut channel = channel("a", "n", json!({"a": "x".repeat(2 * OBJECT)}));
            let annotations = channel.metadata.annotations.get_or_insert_default();
            let asked = [(annotation::RECONCILE_REQUESTED, at), (annotation::TEST_REQUESTED, tested)];
            let asked = asked.into_iter().filter_map(|(name, at)| Some((name.to_owned(), at?.to_owned())));
            annotations.extend(asked);
            let status = channel.status.as_mut().unwrap();
            status.observed_generation = Some(2);
            status.last_handled_reconcile_at = handled.map(str::to_owned);
            let source =
                json!({"sources": [{"kind": "Secret", "name": "s", "uid": "u", "resourceVersion": "9"}]});
            status.credentials = serde_json::from_value(source).ok();
            status.drift.clear();
            status.conditions[0].observed_generation = Some(2);
            let text = |text: &str| Some(text.to_owned());
            (status.bound_uid, status.workspace_id) = (text("uid-n"), text("w"));
            (status.origin, status.deletion_policy) = (text("Adopted"), text("Retain"));
            (status.state, status.read_with) = (text("active"), text("r"));
            channel
        };
        let pushed = vec![(SecretId::of("a", "s"), Version::present("9"))];
        for (full, is_settled, pushed) in [
            (requested(None, None, None), true, Some(pushed.clone())),
            (requested(Some("1"), Some("1"), None), true, Some(pushed)),
            (requested(Some("2"), Some("1"), None), false, None),
            (requested(None, None, Some("1")), true, None),
        ] {
            let light = taken_in(&ObjectCache::default(), &full);
            assert_eq!((settled(&full), settled(&light)), (is_settled, is_settled));
            assert_eq!((pushed_at_rest(&full), pushed_at_rest(&light)), (pushed.clone(), pushed));
        }
    }

    #[test]
    fn nothing_can_be_planned_with_what_the_store_has() {
        let light = taken_in(&ObjectCache::default(), &channel("a", "n", json!({"greeting": "Hello"})));
        let verdict = crate::channel::spec::invalid_spec(&light.spec);
        assert!(verdict.is_some(), "a config that was left out is taken for one that is not declared");
    }

    #[test]
    fn an_object_that_is_too_large_or_truncated_is_not_cached() {
        let kept = ObjectCache::default();
        let large = channel("a", "large", json!({"a": "x".repeat(OBJECT)}));
        let mut cut = channel("a", "cut", json!({}));
        cut.spec.left_out = Some(Default::default());
        let mut forged = channel("a", "forged", json!({}));
        forged.status.as_mut().unwrap().conditions[0].last_transition_time.0 =
            "2026-01-01T00:00:00.5Z".parse().unwrap();
        for object in [large, cut, forged] {
            let light = taken_in(&kept, &object);
            assert!(kept.get(&light).is_none(), "{:?}", object.metadata.name);
        }
        assert!(kept.is_empty());
    }

    #[test]
    fn the_namespace_that_uses_the_most_is_evicted_in_any_order_of_objects() {
        let config = json!({"a": "x".repeat(1000)});
        let small = channel("healthy", "small", config.clone());
        for first in [true, false] {
            let kept = ObjectCache::with(20_000);
            let light = first.then(|| taken_in(&kept, &small));
            for number in 0..100 {
                taken_in(&kept, &channel("greedy", &format!("n{number}"), config.clone()));
            }
            let light = light.unwrap_or_else(|| taken_in(&kept, &small));
            assert_eq!(kept.get(&light), Some(small.clone()), "{first}");
            assert!(kept.inner().total <= 20_000 && kept.len() > 8);
        }
    }

    #[test]
    fn what_is_replaced_and_forgotten_leaves_nothing_behind() {
        let kept = ObjectCache::default();
        for round in 0..3000 {
            let name = format!("n{}", round % 7);
            taken_in(&kept, &channel("a", &name, json!({"a": "x".repeat(round % 900)})));
            if round % 3 == 0 {
                kept.retain(|uid| uid != format!("uid-{name}"));
            }
        }
        let inner = kept.inner();
        let bytes: usize =
            inner.namespaces.values().flat_map(|one| one.objects.values()).map(|text| text.len()).sum();
        assert_eq!((inner.total, inner.namespaces["a"].bytes), (bytes, bytes));
        assert!(inner.namespaces["a"].objects.len() <= 7);
        drop(inner);
        kept.retain(|_| false);
        assert!(kept.is_empty() && kept.inner().total == 0);
    }
}
