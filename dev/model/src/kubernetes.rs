//! The API server: versions, finalizers, and what a write breaks when it stands.

use crate::guards::Guard;
use crate::properties::Invariant;
use crate::run::Run;
use crate::state::*;
use crate::{decide, real};
use ohallo_core::channel::plan::delete;

/// How a write of the operator's fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    Well,
    /// It took effect and its answer was lost.
    LostAfter,
    /// It had no effect and no answer.
    LostBefore,
    /// It took effect but for this.
    Strips(Strip),
}

/// What the operator learns of its write.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stored {
    Stands(Object),
    NoAnswer,
    /// The version was not the current one; this is.
    Refused(Object),
    Gone,
}

// === impl Run ===

impl Run<'_> {
    /// A guarded write. `change` says what becomes of the object, `None` that the API server refuses it.
    pub fn write(
        &mut self,
        reconcile: &Reconcile,
        unguarded: bool,
        fate: Fate,
        change: impl FnOnce(&mut Object) -> bool,
    ) -> Stored {
        if real::outran(&reconcile.memory, reconcile.object.version) {
            self.broken(Invariant::NothingInVain);
        }
        let Some(current) = self.current(reconcile) else { return Stored::Gone };
        if fate == Fate::LostBefore {
            return Stored::NoAnswer;
        }
        if current.version != reconcile.object.version && !unguarded {
            return if matches!(fate, Fate::Well | Fate::Strips(_)) {
                Stored::Refused(current)
            } else {
                Stored::NoAnswer
            };
        }
        let mut changed = current;
        if !change(&mut changed) {
            return Stored::Refused(current);
        }
        match fate {
            Fate::Strips(Strip::Intent) => changed.intent = None,
            Fate::Strips(Strip::Finalizer) => changed.finalizer = false,
            Fate::Strips(Strip::Id) => changed.status.id = None,
            Fate::Strips(Strip::BoundUid) => changed.status.bound_uid = None,
            _ => {}
        }
        self.store(changed);
        match (fate, self.current(reconcile)) {
            (Fate::Well | Fate::Strips(_), Some(stored)) => Stored::Stands(stored),
            (Fate::Well | Fate::Strips(_), None) => Stored::Gone,
            _ => Stored::NoAnswer,
        }
    }

    /// Stores an object under a new version, or removes it where nothing holds it any more.
    pub fn store(&mut self, mut object: Object) {
        let name = object.name();
        let old = self.state.kube.objects[name].filter(|old| old.uid == object.uid);
        if old == Some(object) {
            return;
        }
        self.state.ghost.settled[name] = false;
        object.version = self.state.next_version();
        self.state.kube.objects[name] = Some(object).filter(|o| !o.terminating || o.finalizer);
        if name == 0 && self.state.kube.objects[0].is_none() && self.scenario.restores() {
            self.state.kube.backup = old;
        }
        if object.finalizer {
            self.state.ghost.forced[name] = false;
        }
    }

    /// A status of the operator's, and what it breaks when it stands.
    pub fn store_status(
        &mut self,
        replica: usize,
        reconcile: &Reconcile,
        status: Status,
        fate: Fate,
    ) -> Stored {
        let old = self.current(reconcile);
        let unguarded = self.is_off(Guard::StatusVersion);
        let wrote = self.write(reconcile, unguarded, fate, |object| {
            object.status = status;
            true
        });
        let new = self.current(reconcile);
        if let (Some(old), Some(new)) = (old, new)
            && new.status != old.status
            && !matches!(fate, Fate::Strips(_))
        {
            self.judge_status(replica, &old, &new);
        }
        wrote
    }

    fn judge_status(&mut self, replica: usize, old: &Object, new: &Object) {
        // What a copied status names is not the object's own.
        let own = |object: &Object| object.status.bound_uid == Some(object.uid);
        let foreign = self.scenario.kept && !own(old) && own(new);
        let kept = !foreign && (own(old) || old.spec_id != old.status.id);
        if old.status.id.is_some() && kept && new.status.id != old.status.id {
            self.broken(Invariant::IdsAreKept);
        }
        let binds =
            |object: &Object| object.status.id.is_some() && object.status.bound_uid == Some(object.uid);
        if !binds(old) && binds(new) {
            if new.spec_id.is_some() && new.spec_id != new.status.id {
                self.broken(Invariant::ManifestNames);
            }
            self.state.ghost.second |= replica == 1;
            let others = self.state.kube.objects.iter().flatten();
            let also = |other: &Object| {
                other.uid != new.uid
                    && !(other.terminating && other.elsewhere == new.elsewhere)
                    && other.status.id == new.status.id
                    && other.status.bound_uid == Some(other.uid)
            };
            if others.clone().any(also) {
                self.broken(Invariant::I9);
            }
        }
    }

    /// Removes the finalizer. Whether that was right is judged by what is true, not by what anybody knows.
    pub fn remove_finalizer(
        &mut self,
        replica: usize,
        reconcile: &Reconcile,
        outcome: DeletionOutcome,
        fate: Fate,
    ) -> Stored {
        let unguarded = self.is_off(Guard::RemovalVersion);
        let before = self.current(reconcile);
        let wrote = self.write(reconcile, unguarded, fate, |object| {
            object.finalizer = false;
            true
        });
        if let Some(before) = before
            && self.current(reconcile).is_none_or(|now| now.finalizer != before.finalizer)
        {
            // What was written over the status meanwhile is not what the operator acted on.
            let foreign = self.scenario.kept && before.status.bound_uid != Some(before.uid);
            let acted = Object { status: if foreign { reconcile.status } else { before.status }, ..before };
            self.judge_removal(replica, &acted, outcome);
            self.state.ghost.second |= replica == 1;
        }
        wrote
    }

    fn judge_removal(&mut self, replica: usize, object: &Object, outcome: DeletionOutcome) {
        let deletes = delete::should_delete_remote(&self.channel(object), &real::status(&object.status));
        let uid = object.uid;
        let at = usize::from(uid) - 1;
        // Who names another channel says which one it is, as with create-again.
        let named = object.spec_id.and_then(|id| self.state.ohallo.channels[usize::from(id)]);
        let another = object.status.id != object.spec_id
            && named.is_some_and(|remote| remote.of.is_none_or(|of| of.uid != uid));
        let empty = deletes && !another;
        self.state.ghost.gone[at] = Some(if empty || outcome == DeletionOutcome::Released {
            Gone::Removed(outcome)
        } else {
            Gone::Kept
        });
        let remote = object.status.id.and_then(|id| self.state.ohallo.channels[usize::from(id)]);
        let fair = match outcome {
            DeletionOutcome::Deleted => {
                let gone = remote.is_none_or(|remote| !remote.live);
                if !gone {
                    self.broken(Invariant::I8);
                }
                gone || !deletes
            }
            DeletionOutcome::NeverCreated => {
                !deletes || self.state.excused() || !self.state.may_have_made(uid)
            }
            DeletionOutcome::Retained => !deletes || object.status.bound_uid != Some(uid),
            // Judged when it was decided.
            DeletionOutcome::HandedOver => true,
            DeletionOutcome::Released => object.release.is_some(),
        };
        if !fair {
            self.broken(Invariant::I17);
        }
        self.judge_known(replica, object, outcome);
        let kept = matches!(outcome, DeletionOutcome::Retained | DeletionOutcome::Released);
        if let Some(id) = object.status.id
            && let Some(remote) = &mut self.state.ohallo.channels[usize::from(id)]
            && object.status.bound_uid == Some(uid)
        {
            remote.kept |= kept;
        }
    }

    /// A channel of this object's that the process knows of is not left without a word.
    fn judge_known(&mut self, replica: usize, object: &Object, outcome: DeletionOutcome) {
        let known = match self.state.replicas[replica].memory(object.uid).attempt {
            Some(Attempt { outcome: Outcome::Answered(id), .. }) => id,
            _ => return,
        };
        let live = self.state.ohallo.channels[usize::from(known)].is_some_and(|remote| remote.live);
        let told = outcome == DeletionOutcome::Released || object.policy == Policy::Retain;
        if live && object.status.id != Some(known) && !told {
            self.broken(Invariant::I2);
        }
    }

    /// Whether another Channel, as the API server has it, holds the id of this one.
    pub fn owned_by_another(&self, object: &Object) -> bool {
        let (claims, shown) = (&[None; IDS], &[Shown::Unasked; UIDS]);
        let truth = decide::Known { objects: &self.state.kube.objects, claims, shown };
        object.status.id.is_some_and(|id| decide::owner(truth, id, object, None).0)
    }
}

// === impl State ===

impl State {
    /// Whether a channel of this object is there, or may yet come.
    pub fn may_have_made(&self, uid: Uid) -> bool {
        self.made(uid).count() > 0 || self.ohallo.posts.iter().flatten().any(|post| post.of.uid == uid)
    }

    /// A person's word that an attempt made nothing was not true, and nothing has said so since.
    pub fn excused(&self) -> bool {
        self.ghost.hasty && !self.ghost.conflicted
    }

    /// The channels that creates of this object made and that are there.
    pub fn made(&self, uid: Uid) -> impl Iterator<Item = &Remote> {
        let channels = self.ohallo.channels.iter().flatten();
        channels.filter(move |remote| remote.live && remote.of.is_some_and(|of| of.uid == uid))
    }
}
