//! What the API server keeps of a write, and what follows where it keeps less.

use crate::effects::next_request;
use crate::properties::Invariant;
use crate::real;
use crate::run::Run;
use crate::state::*;
use ohallo_core::channel::effect::Effect;
use ohallo_core::channel::persisted::{self, PersistedField};

/// What of the next write of this reconcile may be lost.
pub fn strips(reconcile: &Reconcile) -> Vec<Strip> {
    let effect = match reconcile.at {
        At::Effect { cursor, .. } => next_request(cursor),
        _ => None,
    };
    match (reconcile.at, effect) {
        (_, Some(Effect::WriteIntent | Effect::WriteMetadata)) => vec![Strip::Intent, Strip::Finalizer],
        (_, Some(Effect::WriteFinalizer)) => vec![Strip::Finalizer],
        (_, Some(Effect::WriteId)) => vec![Strip::Id, Strip::BoundUid],
        (At::Write { .. } | At::WriteLoss, _) if reconcile.status.id.is_some() => {
            vec![Strip::Id, Strip::BoundUid]
        }
        _ => Vec::new(),
    }
}

/// The operator's name of it.
pub fn field(strip: Strip) -> PersistedField {
    match strip {
        Strip::Intent => PersistedField::Intent,
        Strip::Finalizer => PersistedField::Finalizer,
        Strip::Id => PersistedField::ChannelId,
        Strip::BoundUid => PersistedField::BoundUid,
    }
}

pub fn strip(field: &PersistedField) -> Option<Strip> {
    let all = [Strip::Intent, Strip::Finalizer, Strip::Id, Strip::BoundUid];
    all.into_iter().find(|strip| self::field(*strip) == *field)
}

pub fn binding(binding: &Binding) -> persisted::RecordedBinding {
    let status = Status {
        id: Some(binding.id),
        bound_uid: Some(1),
        workspace: binding.workspace,
        adopted: binding.adopted,
        ..Status::default()
    };
    let real = real::status(&status);
    persisted::RecordedBinding {
        channel_id: real.channel_id.unwrap_or_default(),
        workspace_id: real.workspace_id,
        origin: real.origin,
    }
}

// === impl Run ===

impl Run<'_> {
    /// The living process knows the id.
    pub fn knows(&mut self, uid: Uid, id: Id) {
        if self.scenario.kept {
            self.state.ghost.known[usize::from(uid) - 1] = Some(id);
        }
    }

    /// A reconcile settles with a status that says Ready.
    pub fn judge_ready(&mut self, reconcile: &Reconcile) {
        let ready =
            reconcile.status.ready != 0 && reconcile.status.ready == real::generation(&reconcile.object);
        let kept = self.current(reconcile).is_none_or(|current| current.status.id == reconcile.status.id);
        if ready && !kept && !reconcile.object.terminating {
            self.broken(Invariant::I25);
        }
    }
}
