//! How many calls to oHallo a reconcile will probably make, from the object alone: it starts with a token for each, so that it
//! does not end between two of them. Works on cached objects as well.

use crate::api::channel::Channel;
use crate::index::secret_ids;

/// At least 1. A reconcile that makes fewer calls refunds the rest.
pub fn expected_calls(channel: &Channel) -> u32 {
    let status = channel.status.as_ref();
    let observed = status.is_some_and(|status| status.observed_generation == channel.metadata.generation);
    if observed || channel.metadata.deletion_timestamp.is_some() {
        // A poll, or the DELETE.
        return 1;
    }
    let exists =
        channel.spec.channel_id.is_some() || status.is_some_and(|status| status.channel_id.is_some());
    if exists || channel.spec.is_observe() {
        // The GET, and the PATCH of what differs.
        return 2;
    }
    // The create, and the credentials.
    1 + u32::from(!secret_ids(channel).is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_create_an_adoption_and_a_change_expect_their_calls_and_a_poll_expects_one() {
        let secret = json!([{"secretRef": {"name": "s"}}]);
        let bound = |generation: i64| json!({"channelId": "c1", "observedGeneration": generation});
        for (what, spec, status, deleted, calls) in [
            ("a create", json!({}), json!(null), false, 1),
            ("a create with credentials", json!({"credentials": secret}), json!(null), false, 2),
            ("an adoption", json!({"channelId": "c1"}), json!(null), false, 2),
            ("an observed channel", json!({"managementPolicy": "Observe"}), json!(null), false, 2),
            ("a changed spec", json!({}), bound(1), false, 2),
            ("a poll", json!({"credentials": secret}), bound(2), false, 1),
            ("a deletion", json!({"credentials": secret}), bound(1), true, 1),
        ] {
            let deleted = deleted.then_some("2026-01-10T08:00:00Z");
            let metadata =
                json!({"name": "a", "namespace": "t", "generation": 2, "deletionTimestamp": deleted});
            let object = json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel", "metadata": metadata, "spec": spec, "status": status});
            let channel: Channel = serde_json::from_value(object).unwrap();
            assert_eq!(expected_calls(&channel), calls, "{what}");
        }
    }
}
