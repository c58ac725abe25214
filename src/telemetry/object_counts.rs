//! Counts the objects in the caches at each scrape.

use kube::ResourceExt;

use crate::context::Context;
use crate::telemetry::metrics::{
    Census, ChannelLabels, ConditionLabels, InfoLabels, ObjectLabels, WorkspaceLabels,
};
use ohallo_core::api::ObjectKind;
use ohallo_core::api::channel::{Channel, ChannelStatus};
use ohallo_core::api::conditions::kind;
use ohallo_core::api::workspace::WorkspaceStatus;
use ohallo_core::channel::plan::delete::claims::waiting_message;
use ohallo_core::conditions::{self, Status};
use ohallo_core::index::NamespacedName;
use ohallo_core::work_queue::Priority;

/// The most claimant namespaces that are counted for one blocked deletion.
const NAMESPACES_OF_A_CLAIM: usize = 8;

/// The most claimant namespaces with their own series; the others share one. No namespace can have its name.
const CLAIMANTS: usize = 100;
const MORE: &str = "(more)";

/// How many objects of each kind exist.
pub fn count_objects(ctx: &Context) -> Census {
    let mut census = Census::default();
    for channel in ctx.stores.channels.state() {
        let status = channel.status.clone().unwrap_or_default();
        let (ready, reason) = words(&status.conditions);
        let labels = ChannelLabels {
            namespace: channel.namespace().unwrap_or_default(),
            channel_type: channel.spec.channel_type.clone().unwrap_or_default(),
            ready,
            reason,
        };
        *census.channels.entry(labels).or_default() += 1;
        if let Some(blocked) = conditions::find(&status.conditions, kind::DELETION_BLOCKED) {
            *census.deletions_blocked.entry(blocked.reason.clone()).or_default() += 1;
        }
        if let Some(id) = status.channel_id.as_deref().filter(|_| waiting_message(&status).is_some()) {
            let claimants =
                ctx.index().claimant_namespaces(id, &NamespacedName::of(&channel), NAMESPACES_OF_A_CLAIM);
            claimants.into_iter().for_each(|namespace| count_claim(&mut census, namespace));
        }
        if ctx.settings.object_metrics {
            add_series(&mut census, &channel, &status);
        }
    }
    let sizes = ctx.sizes().into_iter();
    census.cached = sizes.map(|(cache, size)| (cache, i64::try_from(size).unwrap_or(i64::MAX))).collect();
    let depth = ctx.queue.depth();
    let waiting = i64::try_from(depth.values().sum::<usize>()).unwrap_or(i64::MAX);
    census.waiting = [("calls", waiting), ("events", ctx.events.waiting())].into();
    for kind in ObjectKind::ALL {
        for priority in Priority::ALL {
            let count = depth.get(&(kind, priority)).copied().unwrap_or_default();
            census.queued.insert((kind.name(), priority.name()), i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
    let workspaces = ctx.stores.workspaces.state().into_iter().map(|found| found.status.clone());
    let clusters = ctx.stores.cluster_workspaces.state().into_iter().map(|found| found.status.clone());
    for status in workspaces.chain(clusters) {
        let (ready, reason) =
            words(&status.map(|status: WorkspaceStatus| status.conditions).unwrap_or_default());
        *census.workspaces.entry(WorkspaceLabels { ready, reason }).or_default() += 1;
    }
    census
}

fn count_claim(census: &mut Census, namespace: String) {
    let known = census.deletions_claimed.contains_key(&namespace);
    let counted = known || census.deletions_claimed.len() < CLAIMANTS;
    let label = if counted { namespace } else { MORE.to_owned() };
    *census.deletions_claimed.entry(label).or_default() += 1;
}

/// The series of one Channel, by its name.
fn add_series(census: &mut Census, channel: &Channel, status: &ChannelStatus) {
    let object =
        ObjectLabels { namespace: channel.namespace().unwrap_or_default(), name: channel.name_any() };
    let info = InfoLabels {
        object: object.clone(),
        channel_type: channel.spec.channel_type.clone().unwrap_or_default(),
        channel_id: status.channel_id.clone().unwrap_or_default(),
        state: status.state.clone().unwrap_or_default(),
    };
    census.infos.insert(info, 1);
    for condition in &status.conditions {
        let labels = ConditionLabels {
            object: object.clone(),
            condition: condition.type_.clone(),
            status: condition.status.clone(),
            reason: condition.reason.clone(),
        };
        census.conditions.insert(labels, 1);
    }
}

fn words(list: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]) -> (String, String) {
    conditions::find(list, kind::READY).map_or_else(
        || (Status::Unknown.as_str().into(), String::new()),
        |ready| (ready.status.clone(), ready.reason.clone()),
    )
}
