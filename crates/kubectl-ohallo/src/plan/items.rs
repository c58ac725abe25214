//! From the steps of the dry run to the changes that a plan lists.

use ohallo_core::api::ObjectKind;
use ohallo_core::api::channel::Channel;
use ohallo_core::api::conditions::Reason;
use ohallo_core::api::values::{ChannelType, DeletionPolicy, Origin};
use ohallo_core::channel::config;
use ohallo_core::channel::model::{Conclusion, ConclusionKind, DeletionOutcome};
use ohallo_core::failure::Retry;
use ohallo_core::index::NamespacedName;
use ohallo_core::remote::Id;

use crate::plan::change::{Change, Depth, Effect};
use crate::plan::cluster_state::{ASSUMED_UID, Remote, Remotes};
use crate::plan::dry_run::{Action, ChannelResult, PLACEHOLDER};

/// Files alone do not show that something kept the operator from creating a channel.
pub const MAY_EXIST: &str = "The files do not show whether a channel was created for this object: if so, it is deleted. Plan with a cluster.";

/// Whether the deletion of the object deletes its channel, if it has one that the operator created.
pub fn may_be_deleted(channel: &Channel) -> bool {
    !channel.spec.is_observe() && channel.spec.deletion_policy() != Some(DeletionPolicy::Retain)
}

/// One Channel of a plan.
pub struct Subject<'a> {
    pub name: &'a NamespacedName,
    pub depth: Depth,
    /// As it was before the apply.
    pub before: Option<&'a Channel>,
    /// After the apply, and before the operator reconciles it.
    pub after: &'a Channel,
    /// The channels in oHallo before.
    pub remotes: &'a Remotes,
}

// === impl Subject ===

impl Subject<'_> {
    /// What happens to it.
    pub fn changes(&self, result: &ChannelResult) -> Vec<Change> {
        let mut changes: Vec<_> =
            result.actions.iter().filter_map(|action| self.of_action(action, result)).collect();
        changes.extend(self.no_longer_managed());
        changes.extend(result.end.as_ref().and_then(|end| self.of_conclusion(end)));
        // The credentials in oHallo remain valid, so the conclusion does not name what is missing.
        if let Some(failure) = &result.credentials
            && !changes.iter().any(|change| change.reason.as_deref() == Some(failure.reason.as_str()))
        {
            let effect = if failure.retry == Retry::UserAction { Effect::Blocked } else { Effect::Waiting };
            changes.push(self.because(effect, failure.reason, &failure.message));
        }
        changes
    }

    fn change(&self, effect: Effect) -> Change {
        let spec = &self.after.spec;
        let id = self.after.status.as_ref().and_then(|status| status.channel_id.clone());
        Change {
            namespace: self.name.namespace.clone(),
            channel_type: spec.channel_type.clone().unwrap_or_default(),
            display_name: spec.display_name.clone().unwrap_or_default(),
            channel_id: id
                .or_else(|| spec.channel_id.clone())
                .filter(|id| !id.starts_with(PLACEHOLDER.as_str())),
            ..Change::of(effect, ObjectKind::Channel.name(), &self.name.name)
        }
    }

    fn saying(&self, effect: Effect, message: impl Into<String>) -> Change {
        Change { message: message.into(), ..self.change(effect) }
    }

    fn because(&self, effect: Effect, reason: Reason, message: &str) -> Change {
        // A command with an assumed uid would be of no use.
        let uid = self.after.metadata.uid.as_deref().filter(|uid| uid.starts_with(ASSUMED_UID));
        let message = uid.map_or(message.to_owned(), |uid| message.replace(uid, "UID"));
        Change { reason: Some(reason.as_str().to_owned()), ..self.saying(effect, message) }
    }

    fn of_action(&self, action: &Action, result: &ChannelResult) -> Option<Change> {
        Some(match action {
            Action::Created => self.change(Effect::Created),
            Action::Adopted { id, from } => self.adopted(id, from.as_deref()),
            Action::Updated { fields, .. } => {
                let unknown = fields.iter().any(|field| !field.old_known);
                let message = match self.depth {
                    Depth::Files | Depth::Cluster if unknown => {
                        "Values that are unknown at this depth may be in oHallo already: use --live to compare."
                    }
                    _ => "",
                };
                Change { fields: fields.clone(), ..self.saying(Effect::Updated, message) }
            }
            Action::CredentialsPushed { keys } => {
                Change { credentials: keys.clone(), ..self.change(Effect::CredentialsPushed) }
            }
            Action::Tested => match self.after.spec.channel_type() {
                Some(ChannelType::Email) => self.saying(Effect::Tested, "The test sends a real email."),
                _ => self.saying(Effect::Tested, "The test sends no message."),
            },
            Action::ProvisioningRetried => self.change(Effect::ProvisioningRetried),
            Action::Deleted { id } => self.destroyed(id),
            Action::FinalizerRemoved { outcome, heir } => {
                let was_deleted =
                    result.actions.iter().any(|action| matches!(action, Action::Deleted { .. }));
                return self.finalizer_removed(*outcome, heir.as_deref(), was_deleted);
            }
        })
    }

    fn adopted(&self, id: &Id, from: Option<&str>) -> Change {
        let message = match from {
            Some(from) => format!("It takes the channel over from the Channel {from:?}, which is deleted."),
            None => String::new(),
        };
        Change { channel_id: Some(id.to_string()), ..self.saying(Effect::Adopted, message) }
    }

    fn destroyed(&self, id: &Id) -> Change {
        let spec = &self.after.spec;
        let (effect, message) = if spec.deletion_policy() == Some(DeletionPolicy::Delete) {
            (Effect::Destroyed, "spec.deletionPolicy is Delete.")
        } else if self.depth == Depth::Files && spec.channel_id.is_some() {
            (
                Effect::DependsOnOrigin,
                "spec.deletionPolicy is unset: the channel is deleted if the operator created it, and stays if it was adopted. Set spec.deletionPolicy, or plan with a cluster.",
            )
        } else {
            (Effect::Destroyed, "spec.deletionPolicy is unset, and the operator created the channel.")
        };
        let shown = match self.remotes.get(id.as_str()) {
            Some(Remote::Found { channel, compared: true }) => channel.display_name.clone(),
            Some(Remote::Found { .. } | Remote::Absent(_)) | None => None,
        };
        let change = self.saying(effect, message);
        Change { display_name: shown.unwrap_or_else(|| change.display_name.clone()), ..change }
    }

    fn finalizer_removed(
        &self,
        outcome: DeletionOutcome,
        heir: Option<&str>,
        was_deleted: bool,
    ) -> Option<Change> {
        Some(match outcome {
            DeletionOutcome::Deleted if was_deleted => return None,
            DeletionOutcome::Deleted => self
                .saying(Effect::NoLongerManaged, "oHallo shows no such channel: there is nothing to delete."),
            DeletionOutcome::NeverCreated if self.depth == Depth::Files && may_be_deleted(self.after) => {
                self.saying(Effect::DependsOnOrigin, MAY_EXIST)
            }
            DeletionOutcome::NeverCreated => {
                self.saying(Effect::NoLongerManaged, "The object is deleted; no channel was created for it.")
            }
            DeletionOutcome::Released => {
                self.saying(Effect::Retained, "An annotation releases the channel, so it stays in oHallo.")
            }
            DeletionOutcome::HandedOver => {
                let heir = heir.map_or("another Channel".to_owned(), |heir| format!("the Channel {heir:?}"));
                self.saying(Effect::HandedOver, format!("The channel is handed over to {heir}."))
            }
            DeletionOutcome::Retained => self.saying(Effect::Retained, self.why_retained()),
        })
    }

    fn why_retained(&self) -> &'static str {
        let spec = &self.after.spec;
        if spec.is_observe() {
            "spec.managementPolicy is Observe."
        } else if spec.deletion_policy() == Some(DeletionPolicy::Retain) {
            "spec.deletionPolicy is Retain."
        } else if self.after.status.as_ref().and_then(|status| status.origin()) == Some(Origin::Adopted) {
            "spec.deletionPolicy is unset, and the channel was adopted."
        } else {
            "spec.deletionPolicy is unset, and the channel was not created for this object."
        }
    }

    fn of_conclusion(&self, end: &Conclusion) -> Option<Change> {
        let deleting = self.after.metadata.deletion_timestamp.is_some();
        let effect = match end.kind {
            ConclusionKind::Finished => return None,
            _ if deleting => Effect::Waits,
            ConclusionKind::InSync if end.reason == Reason::Observed => return Some(self.observed(end)),
            ConclusionKind::InSync => return None,
            ConclusionKind::Suspended => Effect::Suspended,
            _ if end.reason == Reason::NotCreated => return Some(self.observed(end)),
            ConclusionKind::Failed(Retry::UserAction | Retry::ClusterAction) => Effect::Blocked,
            ConclusionKind::Failed(
                Retry::MissingInput | Retry::Backoff | Retry::RetryAfter(_) | Retry::Deferred(_),
            )
            | ConclusionKind::WaitingForRemote { .. }
            | ConclusionKind::Stale { .. }
            | ConclusionKind::RetryIn(_)
            | ConclusionKind::Blocked { .. }
            | ConclusionKind::InFlight => Effect::Waiting,
        };
        let change = self.because(effect, end.reason, &end.message);
        Some(Change { deletes_later: effect == Effect::Waits && may_be_deleted(self.after), ..change })
    }

    fn observed(&self, end: &Conclusion) -> Change {
        let planned = match end.planned.as_slice() {
            [] => "Manage would change nothing.".to_owned(),
            planned => format!("Manage would: {}.", planned.join(", ")),
        };
        self.because(Effect::Observed, end.reason, &planned)
    }

    /// Fields and credentials that were declared, and are not any more: oHallo keeps them.
    fn no_longer_managed(&self) -> Option<Change> {
        let before = self.before.filter(|_| self.after.metadata.deletion_timestamp.is_none())?;
        let none = serde_json::Map::new();
        let [old, new] = [before, self.after].map(|channel| channel.spec.config.as_ref().unwrap_or(&none));
        let mut dropped: Vec<_> = config::dropped(&config::paths(old), new)
            .into_iter()
            .map(|path| format!("config.{path}"))
            .collect();
        if !before.spec.credentials.is_empty() && self.after.spec.credentials.is_empty() {
            dropped.push("credentials".to_owned());
        }
        let message = || format!("No longer declared, and unchanged in oHallo: {}.", dropped.join(", "));
        (!dropped.is_empty()).then(|| self.saying(Effect::NoLongerManaged, message()))
    }
}
