//! The next step, or the conclusion that there is nothing to do; never both.

pub mod delete;
pub mod existing;
pub mod update;

use crate::api::annotation;
use crate::api::conditions::Reason;
use crate::channel::binding::{self, Binding, ObjectBinding};
use crate::channel::declared;
use crate::channel::model::{Conclusion, ConclusionKind, DesiredCredentials, Plan, PlanInput, Step};
use crate::channel::spec::invalid_spec;
use crate::failure::Retry;

/// Plans one iteration; a pure function of its input.
pub fn plan(view: &PlanInput) -> Plan {
    // Nothing else is decided between the intent and its create.
    if let Some(attempt) = view.observed.intent_written {
        return Plan::Work(Step::PostCreate { attempt, body: declared::body(view.spec()) });
    }
    match view.binding() {
        ObjectBinding::Living(binding) => living(view, binding),
        ObjectBinding::Terminating(binding) => delete::plan(view, &binding),
    }
}

fn living(view: &PlanInput, binding: Binding) -> Plan {
    // What a create of this process has begun is completed also while the object is suspended.
    let begun = matches!(binding, Binding::InFlight | Binding::Record { .. });
    if let Some(verdict) = suspended(view).filter(|_| !begun) {
        return verdict.settled();
    }
    match binding {
        Binding::InFlight => in_flight(),
        Binding::Record { attempt, .. } => Plan::Work(Step::RecordId { attempt }),
        // A deletion must not skip a channel that a create of this object may have left.
        Binding::UnresolvedCreate(attempt) if view.lacks_metadata(&attempt) => Plan::Work(Step::RestoreMetadata),
        Binding::UnresolvedCreate(attempt) => outcome_unknown(view, &attempt).settled(),
        Binding::ConflictingIds { answered, declared } => Conclusion::user(
            Reason::CreateOutcomeUnknown,
            format!("A create returned channel {answered} while spec.channelId names {declared}, so the object is bound to neither. Set spec.channelId to {answered}, or delete that channel in oHallo."),
        )
        .settled(),
        Binding::StatusOfOtherObject(id) => Conclusion::user(
            Reason::CreateOutcomeUnknown,
            format!("The status names channel {id}, but was restored or copied from another object: set spec.channelId to {id} if this object should manage it."),
        )
        .settled(),
        Binding::Bound(id) | Binding::Adopt(id) => existing::plan(view, &id),
        Binding::NotCreated => not_created().settled(),
        Binding::Create { attempt } => create_plan(view, attempt),
    }
}

/// A create of this process is in flight, and records its own result.
fn in_flight() -> Plan {
    Conclusion::of(ConclusionKind::InFlight, Reason::Progressing, "").settled()
}

fn suspended(view: &PlanInput) -> Option<Conclusion> {
    if view.spec().suspend == Some(true) {
        let message = "spec.suspend is true: the operator makes no calls until it is false.";
        return Some(Conclusion::of(ConclusionKind::Suspended, Reason::Suspended, message));
    }
    view.observed.workspace_suspended.then(|| {
        let message =
            "The Workspace is suspended: the operator makes no calls until its spec.suspend is false.";
        Conclusion::of(ConclusionKind::Suspended, Reason::WorkspaceSuspended, message)
    })
}

fn not_created() -> Conclusion {
    let message = "managementPolicy is Observe and spec.channelId is not set: set it to the id of the channel to observe.";
    let mut verdict =
        Conclusion::of(ConclusionKind::Failed(Retry::MissingInput), Reason::NotCreated, message);
    verdict.planned = vec!["create channel".into()];
    verdict
}

fn outcome_unknown(view: &PlanInput, attempt: &binding::AttemptId) -> Conclusion {
    let spec = view.spec();
    let candidates = match view.observed.candidates.as_slice() {
        [] => String::new(),
        some => format!(" Candidates: {}.", some.join(", ")),
    };
    Conclusion::user(
        Reason::CreateOutcomeUnknown,
        format!(
            "A create was sent (status.create.sentAt) and its response was lost, so a {} channel named {:?} may exist.{candidates} Search oHallo's dashboard: \
             if the channel exists, set spec.channelId to its id; if not, annotate this object with {}={attempt}.",
            spec.channel_type.as_deref().unwrap_or_default(),
            spec.display_name.as_deref().unwrap_or_default(),
            annotation::CREATE_AGAIN,
        ),
    )
}

fn create_plan(view: &PlanInput, attempt: i64) -> Plan {
    if let Some(verdict) = invalid_spec(view.spec()) {
        return verdict.settled();
    }
    let place = match &view.observed.workspace {
        Err(failure) => return Conclusion::failed(failure).settled(),
        Ok(place) => place,
    };
    if let DesiredCredentials::Invalid(failure) = &view.observed.credentials {
        return Conclusion::failed(failure).settled();
    }
    if place.create_unsupported && !view.reconcile_requested() {
        return Conclusion::user(Reason::CreateUnsupported, CREATE_UNSUPPORTED).settled();
    }
    Plan::Work(Step::WriteIntent { attempt })
}

/// The message where oHallo's API does not create channels.
pub const CREATE_UNSUPPORTED: &str = "oHallo's API does not create channels in this workspace: create the channel in the dashboard, then set spec.channelId to its id.";

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
