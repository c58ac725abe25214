//! A reduced status for an API server that rejects the full one as invalid.

use crate::api::channel::ChannelStatus;

/// What to write instead, in this order: without texts from oHallo and the user; then only the binding. The records of
/// sent and handled requests are dropped last, because the operator would send those again.
pub fn reduced(status: &ChannelStatus) -> [ChannelStatus; 2] {
    let bare = ChannelStatus {
        state: None,
        created_at: None,
        drift: Vec::new(),
        planned_changes: Vec::new(),
        ..status.clone()
    };
    let bound = ChannelStatus {
        observed_generation: status.observed_generation,
        channel_id: status.channel_id.clone(),
        bound_uid: status.bound_uid.clone(),
        origin: status.origin.clone(),
        workspace_id: status.workspace_id.clone(),
        create: status.create.clone(),
        conditions: status.conditions.clone(),
        ..ChannelStatus::default()
    };
    [bare, bound]
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_was_handled_is_kept_at_first_and_what_binds_to_the_last() {
        let whole = json!({
            "observedGeneration": 2, "channelId": "c", "boundUid": "u", "workspaceId": "w", "origin": "Created",
            "state": "active", "createdAt": "then", "plannedChanges": ["more"],
            "create": {"attempt": 1, "outcome": "Unknown"},
            "test": {"request": "1", "handledRequest": "1"},
            "provisioning": {"attempts": 2, "handledRequest": "3"},
        });
        let keys = |status: &ChannelStatus| -> Vec<String> {
            let Value::Object(fields) = serde_json::to_value(status).unwrap() else { unreachable!() };
            fields.keys().cloned().collect()
        };
        let [bare, bound] = reduced(&serde_json::from_value(whole).unwrap());
        let binds = ["boundUid", "channelId", "create", "observedGeneration", "origin"];
        assert_eq!(keys(&bare), [&binds[..], &["provisioning", "test", "workspaceId"]].concat());
        assert_eq!(keys(&bound), [&binds[..], &["workspaceId"]].concat());
    }
}
