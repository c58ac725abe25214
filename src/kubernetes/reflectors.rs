//! Feeds the events of each watch into the stores, the index and the cache of Secrets, and requeues the
//! affected objects.

use std::sync::Arc;

use futures::future;
use futures::stream::{BoxStream, StreamExt};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher;
use kube::{Resource, ResourceExt};

use crate::context::{Context, object_ref};
use crate::kubernetes::multi_namespace_watch::{Change, Event, Watching, reflected};
use crate::telemetry::http_server::Readiness;
use crate::workspace::InMemoryState;
use ohallo_core::api::channel::Channel;
use ohallo_core::api::conditions::kind;
use ohallo_core::api::workspace::{ClusterWorkspace, Workspace};
use ohallo_core::api::{annotation, finalizer};
use ohallo_core::channel::last_seen::{self, LastSeen};
use ohallo_core::conditions;
use ohallo_core::index::{NamespacedName, Requeues};
use ohallo_core::placeholder;
use ohallo_core::text::cut_request;
use ohallo_core::work_queue::Priority;
use ohallo_core::workspace::cached::WorkspaceReadiness;
use ohallo_core::workspace::kind::WorkspaceKind;

/// The watches of one operator.
pub struct Watches<'a> {
    pub ctx: &'a Arc<Context>,
    pub readiness: Readiness,
}

// === impl Watches ===

impl Watches<'_> {
    /// What a watch of this kind needs; `kind` is its plural.
    pub fn of(&self, kind: &'static str) -> Watching {
        let (client, metrics) = (self.ctx.client.clone(), Arc::clone(&self.ctx.metrics));
        Watching { client, kind, metrics, readiness: self.readiness.clone() }
    }

    /// Watches Channels; never ends.
    pub async fn channels(&self, writer: Writer<Channel>) {
        let settings = &self.ctx.settings;
        let watching = self.of("channels");
        let events =
            watching.events(watching.apis(&settings.namespaces), settings.channel_selector.as_deref(), {
                let ctx = Arc::clone(self.ctx);
                move |channel: &mut Channel| ctx.kept.take_in(channel)
            });
        let take = |ctx: &Context, change: &Change<Channel>| {
            ctx.counts().channel(change.before.as_deref(), change.now());
            take_in_channel(ctx, &change.event);
        };
        self.follow(writer, "channels", events, settings.namespaces.clone(), take).await;
    }

    /// Keeps the store of a kind current, and passes each change to `take` once the store has it.
    pub async fn follow<K>(
        &self,
        writer: Writer<K>,
        kind: &'static str,
        events: Vec<BoxStream<'static, Event<K>>>,
        namespaces: Vec<String>,
        take: impl Fn(&Context, &Change<K>),
    ) where
        K: Resource<DynamicType = ()> + Clone + PartialEq + Send + Sync + 'static,
    {
        reflected(writer, events, namespaces, PartialEq::eq)
            .for_each(|change| {
                take(self.ctx, &change);
                listed(self.ctx, kind, &change.event);
                future::ready(())
            })
            .await;
    }

    /// Watches Workspaces; never ends.
    pub async fn namespaced(&self, writer: Writer<Workspace>) {
        let settings = &self.ctx.settings;
        let watching = self.of("workspaces");
        let events = watching.events(
            watching.apis(&settings.namespaces),
            settings.workspace_selector.as_deref(),
            trim_workspace,
        );
        self.workspaces(writer, events, settings.namespaces.clone(), "workspaces").await;
    }

    /// Watches ClusterWorkspaces; never ends.
    pub async fn cluster(&self, writer: Writer<ClusterWorkspace>) {
        let watching = self.of("clusterworkspaces");
        let api = Api::all(self.ctx.client.clone());
        let events =
            watching.events(vec![api], self.ctx.settings.workspace_selector.as_deref(), trim_workspace);
        self.workspaces(writer, events, Vec::new(), "clusterworkspaces").await;
    }

    async fn workspaces<K: WorkspaceKind>(
        &self,
        writer: Writer<K>,
        events: Vec<BoxStream<'static, Event<K>>>,
        namespaces: Vec<String>,
        kind: &'static str,
    ) {
        self.follow(writer, kind, events, namespaces, take_in_workspace).await;
    }

    /// Watches Namespaces: their labels decide which ones may use a ClusterWorkspace.
    pub async fn namespaces(&self, writer: Writer<PartialObjectMeta<Namespace>>) {
        let watching = self.of("namespaces");
        let events = watching.events(
            vec![Api::<PartialObjectMeta<Namespace>>::all(self.ctx.client.clone())],
            None,
            |_| {},
        );
        let known = |event: Event<PartialObjectMeta<Namespace>>| async {
            // Without its labels, the operator can't tell whether it may use a ClusterWorkspace: it counts as a
            // namespace without labels.
            match event {
                Ok(watcher::Event::Apply(namespace)) if is_cut(&namespace) => {
                    Some(Ok(watcher::Event::Delete(namespace)))
                }
                Ok(watcher::Event::InitApply(namespace)) if is_cut(&namespace) => None,
                event => Some(event),
            }
        };
        let events = events.into_iter().map(|watch| watch.filter_map(known).boxed()).collect();
        reflected(writer, events, Vec::new(), |one, other| one.metadata == other.metadata)
            .for_each(|change| async move {
                listed(self.ctx, "namespaces", &change.event);
                // Only the labels decide anything.
                let Some(namespace) = change.now() else { return };
                if change.before.as_ref().is_none_or(|before| before.labels() != namespace.labels()) {
                    let users = self.ctx.index().cluster_users_in(&namespace.name_any());
                    users.iter().for_each(|name| self.ctx.requeue_channel(name));
                }
            })
            .await;
    }

    /// Watches the metadata of Secrets. It starts after every other kind is listed, because versions of unused
    /// Secrets are not kept.
    pub async fn secrets(&self) {
        let watching = self.of("secrets");
        let ctx = self.ctx;
        ctx.listed.wait().await;
        let mut namespaces = ctx.settings.namespaces.clone();
        if !namespaces.is_empty()
            && ctx.settings.serves_cluster_workspaces()
            && !namespaces.contains(&ctx.settings.operator_namespace)
        {
            namespaces.push(ctx.settings.operator_namespace.clone());
        }
        let events = watching.events(watching.apis::<PartialObjectMeta<Secret>>(&namespaces), None, |_| {});
        let scopes =
            namespaces.iter().map(|name| Some(name.as_str())).chain(namespaces.is_empty().then_some(None));
        let scoped = events
            .into_iter()
            .zip(scopes)
            .map(|(watch, scope)| watch.map(move |event| (scope, event)).boxed());
        futures::stream::select_all(scoped)
            .for_each(|(scope, event)| async move {
                let Ok(event) = event else { return };
                let changed = ctx.secrets.see(&event, scope, |secret| ctx.index().uses_secret(secret)).await;
                for secret in changed {
                    let (channels, workspaces) = {
                        let index = ctx.index();
                        (index.users_of_secret(secret), index.workspaces_of_key(secret))
                    };
                    channels.iter().for_each(|name| ctx.requeue_channel(name));
                    workspaces.iter().for_each(|handle| ctx.requeue_workspace(handle));
                }
            })
            .await;
    }
}

/// Whether the labels were too large to be read.
fn is_cut(namespace: &PartialObjectMeta<Namespace>) -> bool {
    namespace.labels().contains_key(placeholder::CUT)
}

/// The most bytes of other operators' finalizers that the cache of a Workspace keeps.
const MAX_FOREIGN_FINALIZER_BYTES: usize = 512;

/// Replaces all finalizers but the operator's own by counts, and keeps the position of its own.
fn leave_out_others(finalizers: &mut Vec<String>) {
    let mut left_out = 0;
    let mut kept = Vec::new();
    let others = |count| (count > 0).then(|| placeholder::left_out(count));
    for entry in finalizers.drain(..) {
        if entry == finalizer::IN_USE {
            kept.extend(others(std::mem::take(&mut left_out)));
            kept.push(entry);
        } else {
            left_out += placeholder::finalizers_in(&entry);
        }
    }
    kept.extend(others(left_out));
    *finalizers = kept;
}

/// Trims the parts of a Workspace that a tenant could make large. The operator rereads or rewrites them when it
/// needs them.
fn trim_workspace<K: WorkspaceKind>(object: &mut K) {
    let metadata = object.meta_mut();
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|name, _| name == annotation::RECONCILE_REQUESTED);
        annotations.values_mut().for_each(|value| *value = cut_request(value));
    }
    if let Some(finalizers) = &mut metadata.finalizers {
        let others = finalizers.iter().filter(|name| *name != finalizer::IN_USE);
        if others.map(String::len).sum::<usize>() > MAX_FOREIGN_FINALIZER_BYTES {
            leave_out_others(finalizers);
        }
    }
    if let Some(mut status) = object.status().cloned() {
        let messages = status.conditions.iter().map(|condition| condition.message.len());
        // More than the operator ever writes, so the operator rewrites it.
        if messages.sum::<usize>() > 4 * conditions::MESSAGE {
            status.conditions.iter_mut().for_each(|condition| condition.message = String::new());
            object.set_status(status);
        }
    }
}

fn listed<K>(ctx: &Context, kind: &'static str, event: &Event<K>) {
    if let Ok(watcher::Event::InitDone) = event {
        ctx.listed.mark(kind);
    }
}

fn take_in_channel(ctx: &Context, event: &Event<Channel>) {
    match event {
        Ok(watcher::Event::Apply(channel)) => {
            note_ends(ctx, channel);
            let requeues = ctx.index().put(channel);
            ctx.requeue(requeues);
            ctx.requeue_channel(&NamespacedName::of(channel));
        }
        Ok(watcher::Event::InitApply(channel)) => {
            note_ends(ctx, channel);
            let requeues = ctx.index().put(channel);
            ctx.requeue(requeues);
            ctx.enqueue_channel(&NamespacedName::of(channel), Priority::Background);
        }
        Ok(watcher::Event::Delete(channel)) => {
            let name = NamespacedName::of(channel);
            ended(ctx, &name, LastSeen::of(channel));
            let requeues = ctx.index().remove(&name);
            gone(ctx, channel.uid().as_deref(), requeues);
            // Removes the object from the queue.
            ctx.requeue_channel(&name);
        }
        Ok(watcher::Event::Init) => ctx.list_channels(true),
        Ok(watcher::Event::InitDone) => {
            let vanished = ctx.index().retain(|name| ctx.stores.channels.get(&object_ref(name)).is_some());
            for (name, last, requeues) in vanished {
                let uid = last.uid.clone();
                ended(ctx, &name, last);
                gone(ctx, Some(&uid), requeues);
            }
            ctx.list_channels(false);
        }
        _ => {}
    }
}

/// Records the end of an object that another of the same name replaced, or that only other finalizers keep.
fn note_ends(ctx: &Context, channel: &Channel) {
    let name = NamespacedName::of(channel);
    let replaced = ctx.index().last_seen(&name).filter(|last| channel.uid().as_ref() != Some(&last.uid));
    if let Some(last) = replaced {
        let uid = last.uid.clone();
        ended(ctx, &name, last);
        ctx.forget(&uid);
    }
    if last_seen::is_unprotected(channel) {
        ended(ctx, &name, LastSeen::of(channel));
    }
}

fn ended(ctx: &Context, name: &NamespacedName, last: LastSeen) {
    let memory = ctx.memory(&last.uid);
    ctx.orphans.ended(name.clone(), last, memory, ctx.leadership.epoch().is_some());
}

fn gone(ctx: &Context, uid: Option<&str>, requeues: Requeues) {
    if let Some(uid) = uid {
        ctx.forget(uid);
    }
    ctx.requeue(requeues);
}

/// Whether a Channel is not Ready or is terminating.
fn waits(ctx: &Context, name: &NamespacedName) -> bool {
    ctx.stores.channels.get(&object_ref(name)).is_some_and(|channel| {
        let conditions = channel.status.as_ref().map(|status| status.conditions.as_slice());
        channel.metadata.deletion_timestamp.is_some()
            || !conditions::is_true(conditions.unwrap_or_default(), kind::READY)
    })
}

/// What a Channel reads of its Workspace.
fn read_by_users<K: WorkspaceKind>(object: &K) -> impl PartialEq {
    let metadata = object.meta();
    (metadata.uid.clone(), metadata.generation, metadata.deletion_timestamp.is_some(), readiness_of(object))
}

fn readiness_of<K: WorkspaceKind>(object: &K) -> WorkspaceReadiness {
    WorkspaceReadiness::of(object.status().map_or(&[], |status| &status.conditions))
}

fn take_in_workspace<K: WorkspaceKind>(ctx: &Context, change: &Change<K>) {
    ctx.counts().workspace(change.before.as_deref(), change.now());
    match &change.event {
        Ok(event @ (watcher::Event::Apply(object) | watcher::Event::InitApply(object))) => {
            let handle = object.handle();
            ctx.index().put_key(&handle, object.key_secret(&ctx.settings.operator_namespace));
            let marked = object.finalizers().iter().any(|name| name == finalizer::IN_USE);
            if let Some(uid) = object.uid().filter(|_| marked && !ctx.listed.is_done()) {
                ctx.remember_workspace(&uid, InMemoryState::of_earlier_process());
            }
            let before = change.before.as_deref().map(read_by_users);
            if before != Some(read_by_users(object)) {
                requeue_users(ctx, object);
            }
            let listed = matches!(event, watcher::Event::InitApply(_));
            let priority = if listed { Priority::Background } else { Priority::Interactive };
            ctx.enqueue_workspace(&handle, priority);
        }
        Ok(watcher::Event::Delete(object)) => {
            let handle = object.handle();
            ctx.index().put_key(&handle, None);
            if let Some(uid) = object.uid() {
                ctx.forget_workspace(&uid);
            }
            if !ctx.in_use(&handle) {
                ctx.forget_key(&handle);
            }
            // Removes the object from the queue.
            ctx.requeue_workspace(&handle);
        }
        _ => {}
    }
}

/// A Ready Channel notices an unusable Workspace at its next poll. A waiting Channel runs now, to report what it waits
/// for.
fn requeue_users<K: WorkspaceKind>(ctx: &Context, object: &K) {
    let readiness = readiness_of(object);
    let usable = readiness == WorkspaceReadiness::Usable || object.suspended();
    let users = ctx.index().users_of_workspace(&object.handle());
    let reported = readiness != WorkspaceReadiness::Unreported;
    let woken = users.iter().filter(|name| usable || (reported && waits(ctx, name)));
    woken.for_each(|name| ctx.requeue_channel(name));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_cache_of_a_workspace_keeps_little_that_a_tenant_could_make_large() {
        let own = finalizer::IN_USE;
        let condition = |message: &str| json!({"type": "Ready", "status": "True", "reason": "Verified", "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let made = |others: &[&str], message: &str| -> Workspace {
            let annotations =
                json!({annotation::RECONCILE_REQUESTED: "é".repeat(300), annotation::CREATE_INTENT: "x"});
            let finalizers: Vec<_> = others.iter().chain([&own]).collect();
            let metadata = json!({"name": "w", "annotations": annotations, "finalizers": finalizers});
            let (api, kind) = ("ohallo.eu/v1alpha1", "Workspace");
            let status = json!({"conditions": [condition(message)]});
            let object =
                json!({"apiVersion": api, "kind": kind, "metadata": metadata, "spec": {}, "status": status});
            let mut object = serde_json::from_value(object).unwrap();
            trim_workspace(&mut object);
            object
        };
        let usual = made(&["example.com/a"], "fine");
        assert_eq!(usual.finalizers(), ["example.com/a", own]);
        assert_eq!(usual.annotations().len(), 1);
        assert_eq!(usual.annotations()[annotation::RECONCILE_REQUESTED], "é".repeat(256));
        assert_eq!(usual.status.unwrap().conditions[0].message, "fine");
        let long = "example.com/".to_owned() + &"a".repeat(200);
        let large = made(&[&long, &long, &long], &"m".repeat(5000));
        assert_eq!(large.finalizers(), ["…3", own]);
        let cut = ["…268", own, &long, &long, "…7", own, &long];
        assert_eq!(made(&cut, "fine").finalizers(), ["…268", own, "…9", own, "…1", own]);
        assert_eq!(large.status.unwrap().conditions[0].message, "");
    }
    #[tokio::test]
    async fn f76_an_object_ends_when_it_is_deleted_when_a_list_lacks_it_when_it_is_replaced_and_when_it_is_unprotected()
     {
        let channel = |uid: &str, terminating: bool| -> Channel {
            let deleted = terminating.then_some("2026-01-10T08:00:00Z");
            let metadata = json!({"name": "a", "namespace": "t", "uid": uid, "deletionTimestamp": deleted, "finalizers": ["example.com/other"]});
            let (api, kind) = ("ohallo.eu/v1alpha1", "Channel");
            let status = json!({"channelId": "c1", "boundUid": uid});
            let object =
                json!({"apiVersion": api, "kind": kind, "metadata": metadata, "spec": {}, "status": status});
            serde_json::from_value(object).unwrap()
        };
        use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};
        let living = || InitApply(channel("old", false));
        for (what, events, ended) in [
            ("it stays", vec![living(), Apply(channel("old", false))], vec![]),
            ("deleted", vec![living(), Delete(channel("old", false))], vec!["old"]),
            // The store of this test is empty.
            ("a list lacks it", vec![living(), Init, InitDone], vec!["old"]),
            ("replaced", vec![living(), Apply(channel("new", false))], vec!["old"]),
            (
                "replaced in a list",
                vec![living(), Init, living(), InitApply(channel("new", false))],
                vec!["old"],
            ),
            ("unprotected", vec![living(), Apply(channel("old", true))], vec!["old"]),
        ] {
            let ctx = crate::context::tests::context();
            events.into_iter().for_each(|event| take_in_channel(&ctx, &Ok(event)));
            assert_eq!(ctx.orphans.waiting(), ended, "{what}");
        }
    }

    #[tokio::test]
    async fn an_event_of_a_workspace_requeues_its_users_only_if_it_changes_what_they_read() {
        let workspace = |generation: i64, ready: &str, reason: &str, message: &str| -> Workspace {
            let metadata = json!({"name": "default", "namespace": "t", "uid": "w", "generation": generation});
            let condition = json!({"type": "Ready", "status": ready, "reason": reason, "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"});
            let (api, kind) = ("ohallo.eu/v1alpha1", "Workspace");
            let status = json!({"conditions": [condition]});
            let object =
                json!({"apiVersion": api, "kind": kind, "metadata": metadata, "spec": {}, "status": status});
            serde_json::from_value(object).unwrap()
        };
        let verified = || workspace(1, "True", "Verified", "m");
        let refused = |reason| workspace(1, "False", reason, "m");
        for (what, before, now, requeued) in [
            ("new", None, verified(), 100),
            ("the same", Some(verified()), verified(), 0),
            ("another message", Some(verified()), workspace(1, "True", "Verified", "another"), 0),
            ("not certain, and usable", Some(verified()), workspace(1, "Unknown", "ApiUnavailable", "m"), 0),
            ("another spec", Some(verified()), workspace(2, "True", "Verified", "m"), 100),
            ("refused", Some(verified()), refused("AuthenticationFailed"), 100),
            ("for another reason", Some(refused("AuthenticationFailed")), refused("SecretNotFound"), 100),
            ("usable again", Some(refused("AuthenticationFailed")), verified(), 100),
        ] {
            let mut ctx = crate::context::tests::context();
            let (stores, mut writers) = crate::stores::stores();
            ctx.stores = stores;
            for number in 0..100 {
                let mut channel = Channel::new(&format!("c{number}"), Default::default());
                channel.metadata.namespace = Some("t".into());
                writers.channels.apply_watcher_event(&watcher::Event::Apply(channel.clone()));
                ctx.index().put(&channel);
            }
            let event = Ok(watcher::Event::Apply(now));
            take_in_workspace(&ctx, &Change { event, before: before.map(Arc::new) });
            assert_eq!(ctx.queue.depth().values().sum::<usize>(), requeued + 1, "{what}");
        }
    }
}
