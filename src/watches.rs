// I/O
//! What each watch brings: into the stores, the index and the cache of Secrets, and to whom it is news.

use std::sync::Arc;

use futures::future;
use futures::stream::{BoxStream, StreamExt};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::ResourceExt;
use kube::api::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::{reflector, watcher};

use crate::api::channel::Channel;
use crate::api::conditions::kind;
use crate::api::workspace::{ClusterWorkspace, Workspace};
use crate::conditions;
use crate::context::Context;
use crate::index::{Name, Wakes};
use crate::serve::Readiness;
use crate::watch::{Event, Watching, merged};
use crate::work_queue::Priority;
use crate::workspace::Kind;

/// The watches of one operator.
pub struct Watches<'a> {
    pub ctx: &'a Arc<Context>,
    pub readiness: Readiness,
}

// === impl Watches ===

impl Watches<'_> {
    fn of(&self, kind: &'static str) -> Watching {
        let (client, metrics) = (self.ctx.client.clone(), Arc::clone(&self.ctx.metrics));
        Watching { client, kind, metrics, readiness: self.readiness.clone() }
    }

    /// Never ends.
    pub async fn channels(&self, writer: reflector::store::Writer<Channel>) {
        let settings = &self.ctx.settings;
        let watching = self.of("channels");
        let events =
            watching.events(watching.apis(&settings.namespaces), settings.channel_selector.as_deref(), false);
        let ctx = Arc::clone(self.ctx);
        let events = merged(events, settings.namespaces.clone(), ctx.channels.clone());
        reflector::reflector(writer, events)
            .for_each(|event| {
                take_in_channel(&ctx, &event);
                listed(&ctx, "channels", &event);
                future::ready(())
            })
            .await;
    }

    pub fn namespaced(&self) -> BoxStream<'static, Event<Workspace>> {
        let settings = &self.ctx.settings;
        let watching = self.of("workspaces");
        let events = watching.events(
            watching.apis(&settings.namespaces),
            settings.workspace_selector.as_deref(),
            false,
        );
        merged(events, settings.namespaces.clone(), self.ctx.workspaces.clone())
    }

    pub fn cluster(&self) -> BoxStream<'static, Event<ClusterWorkspace>> {
        let watching = self.of("clusterworkspaces");
        let api = Api::all(self.ctx.client.clone());
        let events = watching.events(vec![api], self.ctx.settings.workspace_selector.as_deref(), false);
        merged(events, Vec::new(), self.ctx.cluster_workspaces.clone())
    }

    /// Never ends.
    pub async fn workspaces<K: Kind>(
        &self,
        writer: reflector::store::Writer<K>,
        events: BoxStream<'static, Event<K>>,
        kind: &'static str,
    ) {
        let (ctx, store) = (Arc::clone(self.ctx), writer.as_reader());
        reflector::reflector(writer, events)
            .for_each(|event| {
                take_in_workspace(&ctx, &event);
                if let Ok(watcher::Event::InitDone) = event {
                    let all = store.state();
                    let background = Priority::Background;
                    all.iter().for_each(|object| ctx.enqueue_workspace(&object.handle(), background));
                }
                listed(&ctx, kind, &event);
                future::ready(())
            })
            .await;
    }

    /// Labels of namespaces decide who may use a ClusterWorkspace.
    pub async fn namespaces(&self, writer: reflector::store::Writer<PartialObjectMeta<Namespace>>) {
        let watching = self.of("namespaces");
        let events = watching.events(
            vec![Api::<PartialObjectMeta<Namespace>>::all(self.ctx.client.clone())],
            None,
            true,
        );
        let events = merged(events, Vec::new(), self.ctx.namespaces.clone());
        reflector::reflector(writer, events)
            .for_each(|event| async {
                listed(self.ctx, "namespaces", &event);
                if let Ok(watcher::Event::InitDone) = event {
                    let all = self.ctx.namespaces.state();
                    let users = all.iter().flat_map(|one| self.ctx.index().cluster_users_in(&one.name_any()));
                    users.for_each(|name| self.ctx.wake_channel(&name));
                }
                if let Ok(watcher::Event::Apply(namespace) | watcher::Event::InitApply(namespace)) = event {
                    let users = self.ctx.index().cluster_users_in(&namespace.name_any());
                    users.iter().for_each(|name| self.ctx.wake_channel(name));
                }
            })
            .await;
    }

    /// Metadata only. Begun when it is known who uses what: what it tells of a Secret that nobody uses is not kept.
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
        let events = watching.events(watching.apis::<PartialObjectMeta<Secret>>(&namespaces), None, false);
        let scopes =
            namespaces.iter().map(|name| Some(name.as_str())).chain(namespaces.is_empty().then_some(None));
        let scoped = events
            .into_iter()
            .zip(scopes)
            .map(|(watch, scope)| watch.map(move |event| (scope, event)).boxed());
        futures::stream::select_all(scoped)
            .for_each(|(scope, event)| async move {
                let Ok(event) = event else { return };
                let changed = ctx.secrets.see(&event, scope, |name| ctx.index().uses_secret(name)).await;
                for name in changed {
                    let (channels, workspaces) = {
                        let index = ctx.index();
                        (index.users_of_secret(&name), index.workspaces_of_key(&name))
                    };
                    channels.iter().for_each(|name| ctx.wake_channel(name));
                    workspaces.iter().for_each(|handle| ctx.wake_workspace(handle));
                }
            })
            .await;
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
            let wakes = ctx.index().put(channel);
            ctx.wake(wakes);
            ctx.wake_channel(&Name::of(channel));
        }
        Ok(watcher::Event::InitApply(channel)) => {
            let wakes = ctx.index().put(channel);
            ctx.wake(wakes);
        }
        Ok(watcher::Event::Delete(channel)) => {
            let name = Name::of(channel);
            let wakes = ctx.index().remove(&name);
            gone(ctx, channel.uid().as_deref(), wakes);
            // Drops what is queued of it.
            ctx.wake_channel(&name);
        }
        Ok(watcher::Event::InitDone) => {
            let vanished = ctx.index().retain(|name| ctx.channels.get(&name.object_ref()).is_some());
            for (_, uid, wakes) in vanished {
                gone(ctx, Some(&uid), wakes);
            }
            let all = ctx.channels.state();
            all.iter().for_each(|channel| ctx.enqueue_channel(&Name::of(channel), Priority::Background));
        }
        _ => {}
    }
}

fn gone(ctx: &Context, uid: Option<&str>, wakes: Wakes) {
    if let Some(uid) = uid {
        ctx.forget(uid);
    }
    ctx.wake(wakes);
}

/// Whether a Channel is not Ready or is to be deleted.
fn waits(ctx: &Context, name: &Name) -> bool {
    ctx.channels.get(&name.object_ref()).is_some_and(|channel| {
        let conditions = channel.status.as_ref().map(|status| status.conditions.as_slice());
        channel.metadata.deletion_timestamp.is_some()
            || !conditions::is_true(conditions.unwrap_or_default(), kind::READY)
    })
}

fn take_in_workspace<K: Kind>(ctx: &Context, event: &Event<K>) {
    match event {
        Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
            let handle = object.handle();
            ctx.index().put_key(&handle, object.key_secret(&ctx.settings.operator_namespace));
            // What has become unusable a Channel that works sees at its next look; one that waits is to say what for.
            let ready = object.status().and_then(|status| conditions::find(&status.conditions, kind::READY));
            let usable = ready.is_some_and(|ready| ready.status != "False") || object.suspended();
            let users = ctx.index().users_of_workspace(&handle);
            let woken = users.iter().filter(|name| usable || (ready.is_some() && waits(ctx, name)));
            woken.for_each(|name| ctx.wake_channel(name));
            if let Ok(watcher::Event::Apply(_)) = event {
                ctx.wake_workspace(&handle);
            }
        }
        Ok(watcher::Event::Delete(object)) => {
            let handle = object.handle();
            ctx.index().put_key(&handle, None);
            if let Some(uid) = object.uid() {
                ctx.forget_workspace(&uid);
            }
            if !ctx.index().in_use(&handle) {
                ctx.release(&handle);
            }
            // Drops what is queued of it.
            ctx.wake_workspace(&handle);
        }
        _ => {}
    }
}
