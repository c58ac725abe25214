//! What people do: to the objects, to the Workspace and in oHallo's dashboard.

use crate::reconcile::shown;
use crate::run::Run;
use crate::scenarios::Kind;
use crate::state::*;
use crate::{real, say};
use ohallo_core::channel::plan::delete;

// === impl Run ===

impl Run<'_> {
    /// One edit, if it can be made now.
    pub fn edit(&mut self, kind: Kind, name: usize) -> bool {
        if self.state.left.edits == 0 {
            return false;
        }
        self.state.left.edits -= 1;
        match kind {
            Kind::Recreate | Kind::Reapply | Kind::Restore => return self.recreate(kind, name),
            Kind::SecondAdopts
            | Kind::SecondCopies
            | Kind::SecondElsewhere
            | Kind::SecondSuspended
            | Kind::SecondNames => {
                return self.second(kind, name);
            }
            Kind::SwapKey | Kind::SwapWorkspace => return self.swap(kind == Kind::SwapWorkspace, name),
            Kind::DeleteRemote => return self.delete_remote(name),
            Kind::Drift | Kind::Fail => return self.in_dashboard(kind, name),
            _ => {}
        }
        let Some(old) = self.state.kube.objects[name] else { return false };
        let mut object = old;
        let done = match kind {
            Kind::Delete => !std::mem::replace(&mut object.terminating, true),
            Kind::Confirm => object.status.id.is_some() && !std::mem::replace(&mut object.confirmed, true),
            Kind::SetId => self.set_id(&mut object),
            Kind::Retain => policy(&mut object, Policy::Retain),
            Kind::PolicyDelete => policy(&mut object, Policy::Delete),
            Kind::RemoveIntent => self.told(&object) && object.intent.take().is_some(),
            Kind::Replace => self.replace(&mut object),
            Kind::ForceFinalizer => std::mem::take(&mut object.finalizer),
            Kind::CreateAgain => self.create_again(&mut object),
            Kind::Release => self.release(&mut object),
            Kind::Label => {
                object.version = 0;
                true
            }
            Kind::Declare => {
                object.value = 1 - object.value;
                increase(&mut object.declared)
            }
            Kind::ForgeOutcome => self.forge_outcome(&mut object),
            Kind::DropId => object.status.id.take().is_some(),
            Kind::DropStatus => std::mem::take(&mut object.status) != Status::default(),
            Kind::CopyBinding => self.copy_binding(&mut object),
            Kind::Test => object.test < 2 && !object.terminating && increase(&mut object.test),
            Kind::Retry => object.retry < 2 && !object.terminating && increase(&mut object.retry),
            _ => false,
        };
        if !done {
            return false;
        }
        say!(self, "a person: {kind:?} on {}", shown(&old));
        let forced = matches!(kind, Kind::ForceFinalizer | Kind::Replace);
        self.state.ghost.forced[name] |= forced && old.finalizer;
        let was_forced = self.state.ghost.forced[name];
        if kind == Kind::Delete {
            let id = object.status.id;
            let claims = |other: &&Object| {
                other.uid != object.uid
                    && !other.terminating
                    && [other.spec_id, other.status.id].contains(&id)
            };
            let claimant = self.state.kube.objects.iter().flatten().find(claims);
            self.state.ghost.claimed[name] = claimant.filter(|_| id.is_some()).map(|other| other.uid);
        }
        self.store(object);
        if self.state.kube.objects[name].is_none() {
            self.removed(&old, was_forced);
        }
        true
    }

    /// An object went without the operator: its finalizer was not on it.
    fn removed(&mut self, object: &Object, forced: bool) {
        let deletes = delete::should_delete_remote(&self.channel(object), &real::status(&object.status));
        let gone = if forced {
            Gone::Forced
        } else if deletes {
            Gone::Unmarked
        } else {
            Gone::Kept
        };
        self.state.ghost.gone[usize::from(object.uid) - 1] = Some(gone);
    }

    /// Nobody can take away what the operator had no chance to write down elsewhere.
    fn told(&self, object: &Object) -> bool {
        self.state.ghost.settled[object.name()]
            || object.status.create.is_some()
            || object.status.id.is_some()
    }

    /// `kubectl replace`: what is not in the manifest goes, but for the status.
    fn replace(&mut self, object: &mut Object) -> bool {
        if object.intent.is_some() && !self.told(object) || object.terminating {
            return false;
        }
        let past = *object;
        object.intent = None;
        object.create_again = None;
        object.release = None;
        object.finalizer = false;
        *object != past
    }

    /// One of the channels that were always there, then the other; once bound only the one it is bound to, as the CRD's
    /// rules have it.
    fn set_id(&mut self, object: &mut Object) -> bool {
        let next = object.spec_id.map_or(0, |id| id + 1);
        let id = object.status.id.unwrap_or(next);
        let free = object.spec_id.is_none() || object.status.id.is_none();
        !object.terminating
            && free
            && id < 2.max(object.status.id.map_or(0, |id| id + 1))
            && object.spec_id.replace(id) != Some(id)
    }

    /// Says that the attempt which the operator named made nothing. It is true, but where the scenario says otherwise.
    fn create_again(&mut self, object: &mut Object) -> bool {
        let Some(named) = object.attempt() else { return false };
        let parked = self.state.ghost.settled[object.name()]
            && !object.terminating
            && object.status.id.is_none()
            && object.spec_id.is_none()
            && object.create_again != Some(named);
        let there = self.state.made(named.uid).count() > 0;
        let coming = self.state.ohallo.posts.iter().flatten().any(|post| post.of.uid == named.uid);
        if !parked || there || (coming && !self.scenario.unique_names) {
            return false;
        }
        self.state.ghost.hasty |= coming;
        object.create_again = Some(named);
        true
    }

    /// Names what is left: a channel that was answered, the one bound, or the attempt.
    fn release(&mut self, object: &mut Object) -> bool {
        let known = self.state.replicas.iter().find_map(|replica| {
            match replica.memory(object.uid).attempt?.outcome {
                Outcome::Answered(id) => Some(id),
                _ => None,
            }
        });
        let attempt = object.attempt().map(Release::Attempt);
        let left = known.or(object.status.id).map(Release::Id).or(attempt);
        if !object.terminating || left.is_none() || object.release == left {
            return false;
        }
        object.release = left;
        true
    }

    /// The name is applied again: as a new manifest, or from a backup with status and annotations.
    fn recreate(&mut self, kind: Kind, name: usize) -> bool {
        if name != 0 || self.state.kube.objects[0].is_some() || self.state.ghost.gone[1].is_some() {
            return false;
        }
        let source = if kind == Kind::Recreate { Some(Object::default()) } else { self.state.kube.backup };
        let Some(mut source) = source else { return false };
        if kind == Kind::Reapply {
            source.status = Status::default();
        }
        let object = Object { uid: 2, terminating: false, create_again: None, release: None, ..source };
        say!(self, "a person applies {}", shown(&object));
        self.store(object);
        true
    }

    /// A second Channel, which names the channel that was always there, or is a copy of the first with its status.
    /// Or it is in another namespace, or suspended.
    fn second(&mut self, kind: Kind, name: usize) -> bool {
        let copies = kind == Kind::SecondCopies;
        if name != 1 || self.state.kube.objects[1].is_some() || self.state.ghost.gone[2].is_some() {
            return false;
        }
        let source = match (copies, self.state.kube.objects[0]) {
            (true, Some(first)) if first.status.id.is_some() => Object { spec_id: None, ..first },
            (true, _) => return false,
            (false, _) if kind == Kind::SecondNames => {
                let first = self.state.kube.objects[0];
                let known = first.is_none_or(|first| first.status.id.is_some());
                if !known || self.state.ohallo.channels[2].is_none() {
                    return false;
                }
                Object { spec_id: Some(2), ..Object::default() }
            }
            (false, _) => Object { spec_id: Some(0), ..Object::default() },
        };
        let (elsewhere, suspended) = (kind == Kind::SecondElsewhere, kind == Kind::SecondSuspended);
        let object = Object { uid: 3, terminating: false, confirmed: false, elsewhere, suspended, ..source };
        say!(self, "a person applies {}", shown(&object));
        self.store(object);
        true
    }

    /// The Secret holds another tenant's key; or the Workspace is another one, with its own key. Or back.
    fn swap(&mut self, workspace: bool, name: usize) -> bool {
        if name != 0 || self.state.left.swaps == 0 {
            return false;
        }
        self.state.left.swaps -= 1;
        let place = &mut self.state.kube.place;
        let other = if place.tenant == 1 { 2 } else { 1 };
        place.tenant = other;
        place.workspace = if workspace { other } else { 1 };
        let place = *place;
        say!(
            self,
            "a person: the Workspace names ws{}, with a key of tenant {}",
            place.workspace,
            place.tenant
        );
        true
    }

    /// The channel of the first object is deleted in the dashboard.
    fn delete_remote(&mut self, name: usize) -> bool {
        let channels = &self.state.ohallo.channels;
        let ours = |remote: &Option<Remote>| remote.is_some_and(|remote| remote.live && remote.of.is_some());
        let Some(id) = channels.iter().position(ours).filter(|_| name == 0) else { return false };
        self.change(id as Id, |remote| (remote.live, remote.wrote) = (false, None));
        say!(self, "a person deletes c{id} in the dashboard");
        true
    }

    /// The status says that the attempt was not sent, which may not be true.
    fn forge_outcome(&mut self, object: &mut Object) -> bool {
        let Some((_, word @ Word::Unknown)) = &mut object.status.create else { return false };
        *word = Word::NotSent;
        self.state.ghost.forged = true;
        // Nobody is left who knows better.
        let knows = self.state.replicas.iter().any(|replica| replica.memory(object.uid).attempt.is_some());
        self.state.ghost.hasty |= !knows;
        true
    }

    fn copy_binding(&self, object: &mut Object) -> bool {
        let other = self.state.kube.objects[1 - object.name()].map(|other| other.status);
        let Some(other) = other.filter(|other| other.id.is_some()) else { return false };
        let past = object.status;
        (object.status.id, object.status.bound_uid) = (other.id, other.bound_uid);
        object.status != past
    }

    /// Somebody writes a third value, or oHallo's provisioning fails.
    fn in_dashboard(&mut self, kind: Kind, name: usize) -> bool {
        let fits = self.state.ohallo.channels[0].is_some_and(|remote| remote.live) && name == 0;
        let before = self.state.ohallo.channels[0].map(|remote| remote.shape());
        self.change(0, |remote| {
            if kind == Kind::Fail {
                remote.failing = true;
            } else {
                (remote.value, remote.drifted) = (2, true);
            }
            (remote.wrote, remote.helped) = (None, false);
        });
        self.state.ghost.drifts += u8::from(kind == Kind::Drift);
        say!(self, "{kind:?} of c0 in oHallo's dashboard");
        fits && before != self.state.ohallo.channels[0].map(|remote| remote.shape())
    }
}

fn policy(object: &mut Object, policy: Policy) -> bool {
    std::mem::replace(&mut object.policy, policy) != policy
}

fn increase(value: &mut u8) -> bool {
    *value += 1;
    true
}
