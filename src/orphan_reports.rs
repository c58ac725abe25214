//! Reports oHallo channels whose object disappeared without a deletion by this operator: an ERROR log line, a
//! count and an event for each. A report waits for the reconcile in progress, because it may still learn the
//! id.

use std::time::Duration;

use kube::ResourceExt;
use kube::api::{Api, ObjectMeta};

use crate::context::Context;
use crate::orphans::Ended;
use ohallo_core::api::channel::Channel;
use ohallo_core::channel::last_seen::is_unprotected;
use ohallo_core::channel::orphan::{Orphan, orphans};
use ohallo_core::event::{EventReason, PendingEvent};
use ohallo_core::index::NamespacedName;
use ohallo_core::text;
use ohallo_core::workspace::kind::WorkspaceKind;

/// How often the operator checks whether a reconcile in progress has ended.
const POLL: Duration = Duration::from_millis(100);

/// How long after a missing response the operator asks the API server again.
const RETRY: Duration = Duration::from_secs(2);

/// The longest id in a report, in characters: the limit of the status schema.
const MAX_ID_CHARS: usize = 256;

/// Never ends.
pub async fn run(ctx: &Context) {
    loop {
        match settle(ctx, false).await {
            Some(again) => tokio::time::sleep(again).await,
            None => ctx.orphans.changed().await,
        }
    }
}

/// Reports the rest at shutdown, without waiting for reconciles.
pub async fn finish(ctx: &Context) {
    settle(ctx, true).await;
}

/// Reports what is known now. Returns how long to wait for the rest.
async fn settle(ctx: &Context, last: bool) -> Option<Duration> {
    let (ended, dropped) = ctx.orphans.take(ctx.leadership.epoch().is_some());
    if dropped > 0 {
        (0..dropped).for_each(|_| ctx.metrics.id_orphaned());
        tracing::error!(
            dropped,
            "too many Channels disappeared while no replica led to report each; their channels may be left in oHallo"
        );
    }
    let mut again = None;
    for ended in ended {
        let wait = match exists(ctx, &ended).await {
            Some(true) => None,
            Some(false) => decide(ctx, &ended, last).err(),
            None => Some(RETRY),
        };
        if let Some(wait) = wait {
            again = Some(wait.min(again.unwrap_or(wait)));
            ctx.orphans.put_back(ended);
        }
    }
    again
}

/// Whether the object still exists with its finalizer: a watch by labels can't distinguish a deleted object
/// from one that lost the labels. `None` if the API server does not answer.
async fn exists(ctx: &Context, ended: &Ended) -> Option<bool> {
    if ctx.settings.channel_selector.is_none() {
        return Some(false);
    }
    let api: Api<Channel> = Api::namespaced(ctx.client.clone(), &ended.name.namespace);
    match api.get(&ended.name.name).await {
        Ok(found) => {
            let same = found.metadata.uid.as_deref() == Some(&ended.last.uid);
            Some(same && !is_unprotected(&found))
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Some(false),
        Err(_) => None,
    }
}

/// Reports what the object leaves behind. `Err` if a reconcile of it is in progress and may still learn more:
/// how long to wait.
fn decide(ctx: &Context, ended: &Ended, last: bool) -> Result<(), Duration> {
    let left = ctx.while_idle(&ended.last.uid, &ended.memory, last, |memory| {
        let left = orphans(&ended.last, memory);
        memory.deletion_reported |= !left.is_empty();
        left
    });
    let left = left.ok_or(POLL)?;
    for orphan in left.iter().filter(|orphan| !is_of_another(ctx, orphan, &ended.last.uid)) {
        report(ctx, &ended.name, &ended.last.uid, orphan);
    }
    Ok(())
}

/// Whether it is a create of another Channel that still exists, of which this object was a copy.
fn is_of_another(ctx: &Context, orphan: &Orphan, own: &str) -> bool {
    let Orphan::Attempt(attempt) = orphan else { return false };
    attempt.uid != own && ctx.index().has_uid(&attempt.uid)
}

/// Reports one channel that an object left in oHallo.
pub fn report(ctx: &Context, name: &NamespacedName, uid: &str, orphan: &Orphan) {
    let id = text::sanitize(&orphan.to_string(), MAX_ID_CHARS);
    let NamespacedName { namespace, name } = name;
    let what = match orphan {
        Orphan::Channel(_) => {
            tracing::error!(
                channel = name,
                namespace,
                channel_id = id,
                "another client removed the finalizer of a Channel; its channel is left in oHallo"
            );
            format!(
                "channel {id} is left in oHallo. Adopt it with spec.channelId, or delete it in oHallo's dashboard."
            )
        }
        Orphan::Attempt(_) => {
            tracing::error!(
                channel = name,
                namespace,
                attempt = id,
                "another client removed the finalizer of a Channel; a channel may be left in oHallo"
            );
            format!("create {id} may have left a channel in oHallo. Search oHallo's dashboard for it.")
        }
    };
    // Counted after the log line, so that whoever waits for the count finds the line.
    ctx.metrics.id_orphaned();
    let metadata = ObjectMeta {
        name: Some(name.clone()),
        namespace: Some(namespace.clone()),
        uid: Some(uid.to_owned()),
        ..ObjectMeta::default()
    };
    let object = Channel { metadata, ..Channel::default() };
    let note = format!("Another client removed the finalizer of this Channel: {what}");
    ctx.publish(&object, vec![PendingEvent::warning(EventReason::ChannelOrphaned, note)]);
}

/// Reports that Channels which used a Workspace disappeared while no operator ran. Which Channels is unknown.
pub fn report_abandoned<K: WorkspaceKind>(ctx: &Context, workspace: &K) {
    let (kind, name, namespace) = (K::KIND.name(), workspace.name_any(), workspace.namespace());
    tracing::error!(
        kind,
        name,
        namespace,
        "Channels of this workspace disappeared while no operator ran; channels may be left in oHallo"
    );
    ctx.metrics.id_orphaned();
    let note = "Channels that used this workspace disappeared while no operator ran, so channels may be left in oHallo. Search \
                oHallo's dashboard for them.";
    ctx.publish(workspace, vec![PendingEvent::warning(EventReason::ChannelOrphaned, note)]);
}
