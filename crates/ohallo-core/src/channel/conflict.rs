//! Classifies a conflict of a guarded write, after a read of the current object.

use crate::api::channel::{Channel, ChannelStatus};
use crate::api::same_id;
use crate::channel::triggers::Triggers;

/// How to continue with a status whose object has a newer version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Another object has the name now.
    Gone,
    /// The inputs of the reconcile may be outdated.
    Stale,
    /// No input of the status has changed: it can be applied to the newer version.
    LayOver,
}

/// Classifies the conflict of a status that was computed from `known`, when the object's status was `base`.
pub fn of_status(
    known: &Channel,
    base: Option<&ChannelStatus>,
    status: &ChannelStatus,
    fresh: &Channel,
) -> Refused {
    if fresh.metadata.uid != known.metadata.uid {
        return Refused::Gone;
    }
    let uid = known.metadata.uid.as_deref().unwrap_or_default();
    let unbound = base.is_none_or(|base| base.bound_to(uid).is_none());
    // A channel that this object created is recorded even if its manifest now names it.
    let declared = known.spec.channel_id.as_deref().zip(status.bound_to(uid));
    let adopts = unbound && declared.is_some_and(|(declared, bound)| same_id(declared, bound));
    // A manifest that names an id since then is not bound to this one, and a terminating object adopts nothing: another
    // Channel may adopt the channel.
    if fresh.status.as_ref() != base
        || fresh.spec.channel_id != known.spec.channel_id
        || (adopts && fresh.metadata.deletion_timestamp.is_some())
    {
        return Refused::Stale;
    }
    Refused::LayOver
}

/// Whether the finalizer can still be removed; a change of the manifest or the status requires a new plan.
pub fn of_finalizer_removal(known: &Channel, revocable: bool, fresh: &Channel) -> bool {
    !revocable || (Triggers::own(fresh) == Triggers::own(known) && fresh.status == known.status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::fixtures::Sample;

    #[test]
    fn a_status_is_laid_over_only_what_it_does_not_rest_on() {
        let known = Sample::adopting().channel;
        let adopts = Sample::bound().with(|it| it.status.origin = Some("Adopted".into())).status;
        let of = |edit: fn(&mut Channel), status: &ChannelStatus| {
            let mut fresh = known.clone();
            edit(&mut fresh);
            of_status(&known, known.status.as_ref(), status, &fresh)
        };
        let deleted = |it: &mut Channel| {
            let at = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Default::default());
            it.metadata.deletion_timestamp = Some(at);
        };
        assert_eq!(
            of(|it| it.metadata.labels = Some([("a".into(), "b".into())].into()), &adopts),
            Refused::LayOver
        );
        assert_eq!(of(|it| it.metadata.uid = Some("uid-2".into()), &adopts), Refused::Gone);
        assert_eq!(of(|it| it.spec.channel_id = Some("c2".into()), &adopts), Refused::Stale);
        assert_eq!(of(|it| it.status = Some(ChannelStatus::default()), &adopts), Refused::Stale);
        assert_eq!(of(deleted, &adopts), Refused::Stale, "nothing is adopted by what is being deleted");
        let created = Channel { spec: Default::default(), ..known.clone() };
        let mut fresh = created.clone();
        deleted(&mut fresh);
        let record = Sample::bound().status;
        let found = of_status(&created, created.status.as_ref(), &record, &fresh);
        assert_eq!(found, Refused::LayOver, "what was created is recorded");
        let copied = Channel {
            status: Some(ChannelStatus { bound_uid: Some("uid-0".into()), ..record.clone() }),
            ..known.clone()
        };
        let mut fresh = copied.clone();
        deleted(&mut fresh);
        let found = of_status(&copied, copied.status.as_ref(), &record, &fresh);
        assert_eq!(found, Refused::Stale, "a hand-over is an adoption, whatever origin it takes over");
    }

    #[test]
    fn a_finalizer_removal_is_planned_again_when_the_manifest_or_the_status_changed() {
        let known = Sample::terminating().channel;
        let labelled = Channel { metadata: Default::default(), ..known.clone() };
        assert!(of_finalizer_removal(&known, true, &known));
        assert!(
            !of_finalizer_removal(&known, true, &labelled) && of_finalizer_removal(&known, false, &labelled)
        );
        let status = Some(ChannelStatus::default());
        assert!(!of_finalizer_removal(&known, true, &Channel { status, ..known.clone() }));
    }
}
