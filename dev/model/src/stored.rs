//! What the API server keeps of a write, and what follows where it keeps less.

use crate::guards::Guard;
use crate::properties::Invariant;
use crate::run::Run;
use crate::state::*;
use crate::{decide, real, say};
use ohallo_core::channel::persisted::{self, PersistedField};
use ohallo_core::channel::stored;

/// What of the next write of this pass may be lost.
pub fn strips(pass: &Pass) -> Vec<Strip> {
    match pass.at {
        At::Intent { .. } | At::RestoreMarks => vec![Strip::Intent, Strip::Finalizer],
        At::Adopt { .. } => vec![Strip::Finalizer],
        At::Record { .. } => vec![Strip::Id, Strip::BoundUid],
        At::Write { .. } | At::WriteUnstored if pass.status.id.is_some() => vec![Strip::Id, Strip::BoundUid],
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

fn strip(field: &PersistedField) -> Option<Strip> {
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
    /// What of the finalizer and the intent the stored object lacks.
    pub fn lost_metadata(&self, intent: Option<Intent>, stored: &Object) -> Option<Strip> {
        let sent = Object { intent, ..*stored };
        let annotations = real::channel(&sent).metadata.annotations.unwrap_or_default();
        let sent = intent.and(annotations.get(ohallo_core::api::annotation::CREATE_INTENT));
        let lost = stored::lost_metadata(sent.map(String::as_str), &real::channel(stored));
        let lost = lost.iter().filter_map(strip);
        lost.into_iter().find(|strip| match strip {
            Strip::Intent => !self.is_off(Guard::IntentShown),
            _ => !self.is_off(Guard::FinalizerShown),
        })
    }

    /// What of the binding the stored status lacks.
    pub fn lost_status(&self, sent: &Status, stored: &Object) -> Option<Strip> {
        if !self.scenario.kept || self.is_off(Guard::IdShown) {
            return None;
        }
        let lost = stored::lost_status(&real::status(sent), Some(&real::status(&stored.status)));
        lost.iter().filter(|field| field.binds()).find_map(strip)
    }

    /// What `Reconciliation::new` makes of the status: what was not kept is sent again, and an id that
    /// was taken away is put back.
    pub fn remembered_status(&self, pass: &mut Pass) {
        if !self.scenario.kept || self.is_off(Guard::IdInMemory) {
            return;
        }
        self.note_binding(pass);
        let (channel, memory) = (real::channel(&pass.object), real::remembered(&pass.memory));
        let resent = stored::resent(&channel, memory.unstored.as_deref(), &memory.lost);
        pass.resends = resent.is_some();
        let mut status = real::status(&pass.status);
        match (resent, &memory.binding) {
            (Some(resent), _) => status = resent,
            (None, Some(binding)) if binding.restore(&channel, &mut status) => {
                pass.memory.lost.get_or_insert(Strip::Id);
            }
            (None, _) => return,
        }
        pass.status = real::read_back(&status, self.tracks());
    }

    /// `InMemoryState::note_binding`.
    pub fn note_binding(&self, pass: &mut Pass) {
        if !self.scenario.kept || self.is_off(Guard::IdInMemory) {
            return;
        }
        let mut memory = real::remembered(&pass.memory);
        memory.note_binding(&real::channel(&pass.object));
        pass.memory.binding = memory.binding.as_ref().map(|known| Binding {
            id: real::number(&known.channel_id).unwrap_or_default(),
            workspace: known.workspace_id.as_deref().and_then(real::number),
            adopted: known.origin.as_deref().map(|origin| origin == "Adopted"),
        });
    }

    /// A write of which this was not kept: the pass fails.
    pub fn not_kept(&mut self, replica: usize, slot: usize, mut pass: Pass, lost: Strip) {
        say!(self, "and the {lost:?} is not kept");
        pass.memory.lost = Some(lost);
        self.remember(replica, &pass);
        pass.status = decide::unstored(&self.facts(&pass), self.off, lost);
        self.report(replica, slot, pass, false);
    }

    /// `report::unstored`: the object says so.
    pub fn unstored(&mut self, replica: usize, slot: usize, mut pass: Pass, lost: Strip) {
        say!(self, "and the {lost:?} is not kept");
        pass.memory.lost = Some(lost);
        let sent = pass.status;
        pass.status = decide::unstored(&self.facts(&pass), self.off, lost);
        if pass.status == sent {
            pass.memory.unstored = Some(sent).filter(|_| !self.is_off(Guard::IdInMemory));
            self.end(replica, slot, &pass);
        } else {
            self.put(replica, slot, pass, At::WriteUnstored);
        }
    }

    /// The second status of [`Self::unstored`] was written.
    pub fn said_unstored(&mut self, replica: usize, slot: usize, mut pass: Pass) {
        let lost = self.lost_status(&pass.status, &pass.object);
        if let Some(lost) = lost {
            say!(self, "and the {lost:?} is not kept");
            pass.memory.lost = Some(lost);
        }
        let sent = Some(pass.status).filter(|_| !self.is_off(Guard::IdInMemory));
        pass.memory.unstored = lost.and(sent);
        self.end(replica, slot, &pass);
    }

    /// The status was written as it was sent.
    pub fn kept(&mut self, pass: &mut Pass) {
        if pass.resends && matches!(pass.memory.attempt, Some(Attempt { outcome: Outcome::Answered(_), .. }))
        {
            pass.owns_attempt = true;
            pass.memory.attempt = None;
        }
        if !pass.object.terminating {
            pass.memory.lost = None;
        }
        pass.memory.unstored = None;
    }

    /// The living process knows the id.
    pub fn knows(&mut self, uid: Uid, id: Id) {
        if self.scenario.kept {
            self.state.ghost.known[usize::from(uid) - 1] = Some(id);
        }
    }

    /// A pass settles with a status that says Ready.
    pub fn judge_ready(&mut self, pass: &Pass) {
        let ready = pass.status.ready != 0 && pass.status.ready == real::generation(&pass.object);
        let kept = self.current(pass).is_none_or(|current| current.status.id == pass.status.id);
        if ready && !kept && !pass.object.terminating {
            self.broken(Invariant::I25);
        }
    }
}
