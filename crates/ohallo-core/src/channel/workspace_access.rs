//! Whether a Channel can use its Workspace now, by what the caches hold.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::api::ObjectKind;
use crate::api::conditions::{Reason, kind};
use crate::backoff;
use crate::channel::model::WorkspaceAccess;
use crate::conditions::{self, Status};
use crate::failure::{Failure, Retry};
use crate::index::WorkspaceKey;
use crate::workspace::access::allows;
use crate::workspace::cached::{CachedApiKey, WorkspaceSnapshot};

/// The requeue time while the first check of a key is in progress, which requeues the Channels that wait for it.
const KEY_CHECK: Duration = Duration::from_secs(1);

/// How long a Channel rests until the first check of its API key ends. That end requeues it.
const KEY_CHECK_REST: Duration = Duration::from_secs(30);

/// How long it may then run, to report what needs no key, before it rests again.
const KEY_CHECK_RUN: Duration = Duration::from_secs(5);

/// Until when a Channel rests that has waited since then for the first check of its API key; `None` while it may run.
pub fn key_check_rest(since: Instant, now: Instant) -> Option<Instant> {
    let period = KEY_CHECK_REST + KEY_CHECK_RUN;
    let waited = now.saturating_duration_since(since);
    let in_period = Duration::from_secs(waited.as_secs() % period.as_secs());
    (in_period < KEY_CHECK_REST).then(|| now + (KEY_CHECK_REST - in_period))
}

/// What the caches hold.
pub struct Facts<'a> {
    pub workspace: &'a WorkspaceKey,
    /// The Workspace, where the cache has it.
    pub snapshot: Option<&'a WorkspaceSnapshot>,
    pub key: Option<CachedApiKey>,
    /// oHallo refused the key a moment ago, and the Workspace is to check it.
    pub key_check_requested: bool,
    /// The operator serves ClusterWorkspaces.
    pub serves_cluster_workspaces: bool,
    /// The namespace of the Channel.
    pub namespace: &'a str,
    /// Its labels; `None` where they are unknown or no ClusterWorkspace needs them.
    pub labels: Option<BTreeMap<String, String>>,
    /// The Channel is being deleted.
    pub terminating: bool,
    /// The Channel's status names a channel.
    pub has_channel: bool,
}

// === impl Facts ===

impl Facts<'_> {
    /// Whether nothing is known yet about the key of the Workspace, and nothing else keeps a living Channel from its calls.
    pub fn awaits_first_check(&self) -> bool {
        let nothing_else =
            self.usable().map_or_else(|failure| matches!(failure.retry, Retry::Deferred(_)), |()| true);
        !self.terminating && !self.has_own_key() && nothing_else
    }

    /// Whether oHallo is to be asked again about the key of a Workspace that a living Channel could otherwise use.
    pub fn awaits_recheck(&self) -> bool {
        !self.terminating && self.key_check_requested && self.usable().is_ok()
    }

    /// The API key that calls for the Channel use.
    ///
    /// # Errors
    /// Why no call can be made now.
    pub fn usable_key(self) -> Result<CachedApiKey, Failure> {
        let (usable, own) = (self.usable(), self.has_own_key());
        match self.key {
            // The last valid key serves the deletion of a channel, even if its Workspace has changed since.
            Some(key) if self.terminating => Ok(key),
            key => {
                usable?;
                key.filter(|_| own && !self.key_check_requested).ok_or_else(|| Failure::deferred(KEY_CHECK))
            }
        }
    }

    /// Whether the key was read for this Workspace, and not for an earlier one of its name.
    fn has_own_key(&self) -> bool {
        let own = |key: &CachedApiKey| self.snapshot.is_some_and(|found| found.uid == key.uid);
        self.key.as_ref().is_some_and(own)
    }

    fn usable(&self) -> Result<(), Failure> {
        let Some(snapshot) = self.snapshot else { return Err(self.missing()) };
        let name = &self.workspace.name;
        if let Some(allowed) = &snapshot.allowed
            && !allows(allowed, self.namespace, self.labels.as_ref())
        {
            let message = format!(
                "ClusterWorkspace {name:?} does not allow this namespace: ask for it to be added to spec.allowedNamespaces."
            );
            return Err(Failure::user_action(Reason::WorkspaceNotAllowed, message));
        }
        let ready = conditions::find(&snapshot.status.conditions, kind::READY);
        match ready {
            // This process has verified it and the cache does not show that yet. Otherwise its first key check is in
            // progress.
            None if self.has_own_key() => Ok(()),
            None => Err(Failure::deferred(KEY_CHECK)),
            Some(ready) if Status::of(ready) == Status::False => {
                Err(not_ready(&format!("{}: {}", ready.reason, ready.message)))
            }
            Some(_) if snapshot.terminating && !self.has_channel => Err(not_ready("it is being deleted.")),
            Some(_) => Ok(()),
        }
    }

    fn missing(&self) -> Failure {
        let kind = self.workspace.kind();
        if kind == ObjectKind::ClusterWorkspace && !self.serves_cluster_workspaces {
            return Failure::user_action(
                Reason::WorkspaceNotAllowed,
                "This operator does not serve ClusterWorkspaces: name a Workspace, or run the operator with --cluster-workspaces.",
            );
        }
        let message = format!(
            "No {} is named {:?}: create it, with the id of the oHallo workspace and the Secret with its API key.",
            kind.name(),
            self.workspace.name
        );
        Failure::missing_input(Reason::WorkspaceNotFound, message)
    }
}

// === impl WorkspaceAccess ===

impl WorkspaceAccess {
    /// The access of the Channel with this uid to the workspace of the key.
    pub fn of(held: &CachedApiKey, uid: &str, now: Instant) -> Self {
        let hour_ago = now.checked_sub(backoff::STALLED_INTERVAL);
        Self {
            workspace_id: held.workspace_id.clone(),
            key: held.key.id(),
            read_with: held.key.read_with(uid),
            has_read: held.has_read,
            has_created: held.has_created,
            create_unsupported: held.create_unsupported.is_some_and(|at| hour_ago.is_none_or(|ago| at > ago)),
        }
    }
}

fn not_ready(why: &str) -> Failure {
    Failure::missing_input(Reason::WorkspaceNotReady, format!("The Workspace is not Ready: {why}"))
}

#[cfg(test)]
mod tests;
