//! What happens to one Channel.

use kube::ResourceExt;
use ohallo_core::api::channel::Channel;
use ohallo_core::api::conditions::{Reason, kind};
use ohallo_core::channel::effect::Effect;
use ohallo_core::channel::model::{
    Conclusion, ConclusionKind, DeletionOutcome, DesiredCredentials, Outcome, PlanInput, Step,
};
use ohallo_core::channel::plan::update;
use ohallo_core::conditions;
use ohallo_core::failure::Failure;
use ohallo_core::remote::Id;

use crate::plan::change::FieldChange;
use crate::plan::cluster_state::{Remote, Remotes};

/// The steps of one Channel, and how it ends.
#[derive(Clone, Debug, Default)]
pub struct ChannelResult {
    pub actions: Vec<Action>,
    /// The last conclusion; `None` for an object that is deleted.
    pub end: Option<Conclusion>,
    /// Why the declared credentials can't be sent.
    pub credentials: Option<Failure>,
}

/// A step that changes something in oHallo, or who manages a channel there.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Created,
    Adopted { id: Id, from: Option<String> },
    Updated { id: Id, fields: Vec<FieldChange> },
    CredentialsPushed { keys: Vec<String> },
    Tested,
    ProvisioningRetried,
    Deleted { id: Id },
    FinalizerRemoved { outcome: DeletionOutcome, heir: Option<String> },
}

// === impl ChannelResult ===

impl ChannelResult {
    pub(super) fn conclude(&mut self, outcome: Option<&Outcome>) {
        self.end = match outcome {
            None => None,
            Some(Outcome::Settled(conclusion)) => Some(conclusion.clone()),
            Some(Outcome::Failed(failure) | Outcome::PushFailed(failure)) => {
                Some(Conclusion::failed(failure))
            }
            Some(Outcome::More) => {
                Some(Conclusion::of(ConclusionKind::InFlight, Reason::Progressing, "The operator continues."))
            }
        };
    }
}

// === impl Action ===

impl Action {
    /// What this effect of the step changes; `None` where it changes nothing that a plan lists.
    pub(super) fn of(step: &Step, effect: Effect, view: &PlanInput, remotes: &Remotes) -> Option<Self> {
        Some(match (step, effect) {
            (Step::PostCreate { .. }, Effect::PostChannel) => Self::Created,
            (Step::Adopt { id }, Effect::WriteFinalizer) => {
                let from = view.observed.predecessor.as_ref().map(|from| from.name.clone());
                Self::Adopted { id: id.clone(), from }
            }
            (Step::Update { id, fields, .. }, Effect::PatchChannel) => {
                Self::Updated { id: id.clone(), fields: changed_fields(view, id, fields, remotes) }
            }
            (Step::PushCredentials { .. }, Effect::PostCredentials) => {
                let keys = match &view.observed.credentials {
                    DesiredCredentials::Ready { keys, .. } => keys.clone(),
                    DesiredCredentials::None | DesiredCredentials::Invalid(_) => Vec::new(),
                };
                Self::CredentialsPushed { keys }
            }
            (Step::Test { .. }, Effect::PostTest) => Self::Tested,
            (Step::Retry { .. }, Effect::PostRetry) => Self::ProvisioningRetried,
            (Step::Delete { id }, Effect::DeleteChannel) => match remotes.get(id.as_str()) {
                Some(Remote::Absent(_)) => return None,
                Some(Remote::Found { .. }) | None => Self::Deleted { id: id.clone() },
            },
            (Step::RemoveFinalizer(outcome), Effect::RemoveFinalizer) => {
                let heir = view.observed.claims.as_ref().and_then(|claims| claims.heir.clone()).flatten();
                Self::FinalizerRemoved { outcome: *outcome, heir }
            }
            _ => return None,
        })
    }
}

/// The fields of an update, with the values before and after.
fn changed_fields(view: &PlanInput, id: &Id, fields: &[String], remotes: &Remotes) -> Vec<FieldChange> {
    let Some(Remote::Found { channel, compared }) = remotes.get(id.as_str()) else { return Vec::new() };
    let differs = view.differences(channel).into_iter().filter(|differs| fields.contains(&differs.path));
    let values = differs.map(|differs| FieldChange {
        path: differs.path,
        old: differs.actual.filter(|_| *compared),
        old_known: *compared,
        new: differs.declared,
    });
    let enabled = view.spec().enabled.filter(|_| fields.iter().any(|field| field == "enabled"));
    let enabled = enabled.map(|enabled| {
        // oHallo does not return it: only what was sent last is known.
        let old = update::applied_enabled(view);
        FieldChange {
            path: "enabled".to_owned(),
            old: old.map(Into::into),
            old_known: old.is_some(),
            new: enabled.into(),
        }
    });
    values.chain(enabled).collect()
}

/// Whether the operator has read the channel that this object names, as its conditions show.
pub fn has_read_its_channel(channel: &Channel) -> bool {
    let Some(status) = &channel.status else { return false };
    let uid = channel.uid().unwrap_or_default();
    let ready = conditions::find(&status.conditions, kind::READY);
    let reasons = [Reason::OwnershipConflict, Reason::Observed];
    status.bound_to(&uid).is_some()
        || ready.is_some_and(|ready| reasons.iter().any(|reason| ready.reason == reason.as_str()))
}
