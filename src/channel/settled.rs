// pure
//! Whether anybody waits for the reconcile of a Channel, as the object itself says; also of an object of the cache.

use kube::ResourceExt;

use super::inputs::Version;
use super::plan;
use crate::api::channel::{Channel, ChannelStatus, Remainder};
use crate::api::conditions::kind;
use crate::api::{annotation, finalizer};
use crate::conditions;
use crate::secret_id::SecretId;

/// Whether nobody waits for its reconcile: it is Ready as it is declared, and was not asked for.
pub fn settled(channel: &Channel) -> bool {
    if let Some(kept) = remainder(channel) {
        return kept.settled;
    }
    let Some(status) = &channel.status else { return false };
    let requested =
        channel.annotations().get(annotation::RECONCILE_REQUESTED).map(|value| plan::cut_request(value));
    conditions::is_true(&status.conditions, kind::READY)
        && status.observed_generation == channel.metadata.generation
        && status.last_handled_reconcile_at == requested
        && channel.metadata.deletion_timestamp.is_none()
}

/// The Secrets that were pushed, of a Channel whose first reconcile after a restart may wait; `None` where it may not.
pub fn pushed_at_rest(channel: &Channel) -> Option<Vec<(SecretId, Version)>> {
    if let Some(kept) = remainder(channel) {
        return kept.pushed_at_rest.clone();
    }
    let status = channel.status.as_ref().filter(|status| !status.left_out)?;
    let marked = channel.finalizers().iter().any(|name| name == finalizer::CHANNEL);
    let rests =
        settled(channel) && test_is_over(channel, status) && (marked || status.planned_changes.is_empty());
    let namespace = channel.namespace().unwrap_or_default();
    let sources = status.credentials.iter().flat_map(|credentials| &credentials.sources);
    let pushed = sources
        .map(|source| (SecretId::of(&namespace, &source.name), Version::present(&source.resource_version)));
    rests.then(|| pushed.collect())
}

fn remainder(channel: &Channel) -> Option<&Remainder> {
    channel.spec.left_out.as_ref()?.kept.as_ref()
}

/// No connectivity test is asked for, and none was recorded whose result was not.
fn test_is_over(channel: &Channel, status: &ChannelStatus) -> bool {
    let asked = channel.annotations().get(annotation::TEST_REQUESTED).map(|value| plan::cut_request(value));
    let test = status.test.clone().unwrap_or_default();
    (asked.is_none() || asked == test.handled_request) && (test.request.is_none() || test.result.is_some())
}
