//! Counts the objects in the caches as they change, so that a scrape costs what it shows, not what there is.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use crate::telemetry::metrics::{ChannelLabels, WorkspaceLabels};
use ohallo_core::api::channel::Channel;
use ohallo_core::api::conditions::kind;
use ohallo_core::channel::plan::delete::claims::waiting_message;
use ohallo_core::conditions::{self, Status};
use ohallo_core::index::NamespacedName;
use ohallo_core::tally::Tally;
use ohallo_core::workspace::kind::WorkspaceKind;

/// The objects in the caches by their labels, kept as the watches change them.
#[derive(Debug, Default)]
pub struct ObjectCounts {
    pub channels: Tally<ChannelLabels>,
    pub workspaces: Tally<WorkspaceLabels>,
    /// By the reason of `DeletionBlocked`.
    pub deletions_blocked: Tally<String>,
    /// The deletions that wait for claims of other Channels, and their ids: who claims an id changes without them.
    pub waiting: BTreeMap<NamespacedName, String>,
}

// === impl ObjectCounts ===

impl ObjectCounts {
    /// Replaces a Channel by its newer version; `None` where there is none.
    pub fn channel(&mut self, before: Option<&Channel>, now: Option<&Channel>) {
        self.channels.change(before.map(channel_labels), now.map(channel_labels));
        self.deletions_blocked.change(before.and_then(why_blocked), now.and_then(why_blocked));
        let (waited, waits) = (before.and_then(claimed_id), now.and_then(claimed_id));
        if let Some(channel) = before.filter(|_| waited.is_some() && waits.is_none()) {
            self.waiting.remove(&NamespacedName::of(channel));
        }
        if let Some((channel, id)) = now.zip(waits) {
            self.waiting.insert(NamespacedName::of(channel), id.to_owned());
        }
    }

    /// The same for a Workspace or ClusterWorkspace.
    pub fn workspace<K: WorkspaceKind>(&mut self, before: Option<&K>, now: Option<&K>) {
        self.workspaces.change(before.map(workspace_labels), now.map(workspace_labels));
    }
}

fn channel_labels(channel: &Channel) -> ChannelLabels {
    let (ready, reason) = words(conditions_of(channel));
    ChannelLabels {
        namespace: channel.namespace().unwrap_or_default(),
        channel_type: channel.spec.channel_type.clone().unwrap_or_default(),
        ready,
        reason,
    }
}

fn workspace_labels<K: WorkspaceKind>(workspace: &K) -> WorkspaceLabels {
    let (ready, reason) = words(workspace.status().map_or(&[], |status| &status.conditions));
    WorkspaceLabels { ready, reason }
}

/// The reason of `DeletionBlocked`.
fn why_blocked(channel: &Channel) -> Option<String> {
    Some(conditions::find(conditions_of(channel), kind::DELETION_BLOCKED)?.reason.clone())
}

/// The id of a Channel whose deletion waits for claims of others.
fn claimed_id(channel: &Channel) -> Option<&str> {
    let status = channel.status.as_ref()?;
    status.channel_id.as_deref().filter(|_| waiting_message(status).is_some())
}

fn conditions_of(channel: &Channel) -> &[Condition] {
    channel.status.as_ref().map_or(&[], |status| &status.conditions)
}

fn words(list: &[Condition]) -> (String, String) {
    conditions::find(list, kind::READY).map_or_else(
        || (Status::Unknown.as_str().into(), String::new()),
        |ready| (ready.status.clone(), ready.reason.clone()),
    )
}

#[cfg(test)]
mod tests {
    use ohallo_core::api::workspace::Workspace;
    use serde_json::json;

    use super::*;

    fn channel(reason: &str, blocked: Option<&str>) -> Channel {
        let condition = |kind: &str, reason: &str| json!({"type": kind, "status": "False", "reason": reason, "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let blocked = blocked.map(|reason| condition("DeletionBlocked", reason));
        let conditions: Vec<_> = [condition("Ready", reason)].into_iter().chain(blocked).collect();
        serde_json::from_value(json!({
            "apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel", "metadata": {"name": "a", "namespace": "t"},
            "spec": {"channelType": "chat"}, "status": {"channelId": "c1", "conditions": conditions},
        }))
        .unwrap()
    }

    #[test]
    fn the_counts_follow_each_change_of_an_object_and_end_with_it() {
        let mut counts = ObjectCounts::default();
        let versions = [
            channel("Progressing", None),
            channel("Available", None),
            channel("Available", Some("ClaimedByAnother")),
            channel("Available", Some("ClaimedByAnother")),
            channel("Available", Some("PermissionDenied")),
        ];
        let mut before = None;
        for (version, blocked, waits) in versions
            .iter()
            .zip([(0, 0), (0, 0), (1, 1), (1, 1), (1, 0)])
            .map(|(version, (b, w))| (version, b, w))
        {
            counts.channel(before, Some(version));
            let labels = channel_labels(version);
            assert_eq!(counts.channels.counts(), &[(labels, 1)].into());
            assert_eq!((counts.deletions_blocked.counts().len(), counts.waiting.len()), (blocked, waits));
            before = Some(version);
        }
        counts.channel(Some(&versions[4]), None);
        assert!(counts.channels.counts().is_empty() && counts.deletions_blocked.counts().is_empty());
        let workspace = Workspace::new("w", Default::default());
        counts.workspace(None, Some(&workspace));
        assert_eq!(counts.workspaces.counts().values().sum::<i64>(), 1);
        counts.workspace(Some(&workspace), None);
        assert!(counts.workspaces.counts().is_empty());
    }
}
