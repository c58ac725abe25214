//! What a scrape shows of objects and queues.

use kube::ResourceExt;

use crate::context::Context;
use crate::telemetry::metrics::{Census, ConditionLabels, InfoLabels, ObjectLabels};
use ohallo_core::api::ObjectKind;
use ohallo_core::api::channel::Channel;
use ohallo_core::work_queue::Priority;

/// The most claimant namespaces that are counted for one blocked deletion.
const NAMESPACES_OF_A_CLAIM: usize = 8;

/// The most claimant namespaces with their own series; the others share one. No namespace can have its name.
const CLAIMANTS: usize = 100;
const MORE: &str = "(more)";

/// How many objects of each kind exist, and what waits. Only with `--object-metrics`, this visits each Channel.
pub fn count_objects(ctx: &Context) -> Census {
    let mut census = Census::default();
    {
        let counts = ctx.counts();
        census.channels = counts.channels.counts().clone();
        census.workspaces = counts.workspaces.counts().clone();
        census.deletions_blocked = counts.deletions_blocked.counts().clone();
        for (name, id) in &counts.waiting {
            let claimants = ctx.index().claimant_namespaces(id, name, NAMESPACES_OF_A_CLAIM);
            claimants.into_iter().for_each(|namespace| count_claim(&mut census, namespace));
        }
    }
    if ctx.settings.object_metrics {
        ctx.stores.channels.state().iter().for_each(|channel| add_series(&mut census, channel));
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
    census
}

fn count_claim(census: &mut Census, namespace: String) {
    let known = census.deletions_claimed.contains_key(&namespace);
    let counted = known || census.deletions_claimed.len() < CLAIMANTS;
    let label = if counted { namespace } else { MORE.to_owned() };
    *census.deletions_claimed.entry(label).or_default() += 1;
}

/// The series of one Channel, by its name.
fn add_series(census: &mut Census, channel: &Channel) {
    let status = channel.status.clone().unwrap_or_default();
    let object =
        ObjectLabels { namespace: channel.namespace().unwrap_or_default(), name: channel.name_any() };
    let info = InfoLabels {
        object: object.clone(),
        channel_type: channel.spec.channel_type.clone().unwrap_or_default(),
        channel_id: status.channel_id.unwrap_or_default(),
        state: status.state.unwrap_or_default(),
    };
    census.infos.insert(info, 1);
    for condition in status.conditions {
        let labels = ConditionLabels {
            object: object.clone(),
            condition: condition.type_,
            status: condition.status,
            reason: condition.reason,
        };
        census.conditions.insert(labels, 1);
    }
}
