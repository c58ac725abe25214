//! The steps of a deletion.

use crate::decide::{self, Decided};
use crate::guards::Guard;
use crate::kubernetes::{Fate, Stored};
use crate::properties::Invariant;
use crate::run::Run;
use crate::state::*;
use crate::steps::How;
use crate::{real, rules, say};
use ohallo_core::channel::conflict;
use ohallo_core::channel::consistency::Write;
use ohallo_core::channel::plan::delete;

// === impl Run ===

impl Run<'_> {
    /// `act::delete` up to the call: decided again on the object as it now is.
    pub fn read_fresh(&mut self, replica: usize, slot: usize, mut pass: Pass, id: Id) {
        say!(self, "replica {replica} reads the object afresh");
        let Some(fresh) = self.current(&pass) else { return self.end(replica, slot, &pass) };
        let known = real::channel(&pass.object);
        let again = delete::must_replan(&known, &real::channel(&fresh), &real::channel_id(id));
        pass.object = fresh;
        if again {
            pass.status = fresh.status;
            self.go_on(replica, slot, pass);
        } else {
            self.ask_last(replica, slot, pass, id);
        }
    }

    /// `claims::last`: asked once more, and the id is reserved for the DELETE.
    pub fn ask_last(&mut self, replica: usize, slot: usize, mut pass: Pass, id: Id) {
        let mut found = decide::rivals(self.known(replica), id, &pass.object, self.off);
        if self.is_off(Guard::LastCheck) {
            found = Claims { elsewhere: Some(Elsewhere::Nobody), ..pass.claims.unwrap_or_default() };
        }
        if found.heir {
            return self.end(replica, slot, &pass);
        }
        rules::note_claims(&mut pass, found);
        if !matches!(decide::next(&self.facts(&pass), self.off), Decided::Delete(_)) {
            self.go_on(replica, slot, pass);
            return;
        }
        let uid = pass.object.uid;
        if !self.is_off(Guard::DeleteReserves) && !decide::claim(&mut self.replica(replica).claims, id, uid) {
            return self.end(replica, slot, &pass);
        }
        self.judge_claims(replica, &pass, id);
        self.put(replica, slot, pass, At::Delete { id, retained: self.retained(&pass) });
    }

    /// Whether the DELETE may leave: nobody of the same namespace claims the id, as far as the deletion had to know, and
    /// who claims it elsewhere is overruled by the owner's word.
    fn judge_claims(&mut self, replica: usize, pass: &Pass, id: Id) {
        let object = pass.object;
        let confirmed = self.current(pass).is_some_and(|current| current.confirmed);
        let own = &self.state.replicas[replica];
        let claims = |other: &Object| {
            other.uid != object.uid
                && !other.terminating
                && (other.spec_id == Some(id) || other.status.id == Some(id))
        };
        let lives = |other: &Object| {
            self.state.kube.objects.iter().flatten().any(|o| o.uid == other.uid && claims(o))
        };
        let known = |other: &Object| {
            let cached = own.cache.iter().flatten().any(|o| o.uid == other.uid && claims(o));
            cached || self.state.ghost.claimed[object.name()] == Some(other.uid)
        };
        let held = |other: &Object| {
            let beside = other.elsewhere == object.elsewhere;
            let right = matches!(own.shown(other.uid), Shown::Right | Shown::Able);
            claims(other) && lives(other) && known(other) && (beside || (right && !confirmed))
        };
        if self.state.kube.objects.iter().flatten().any(held) {
            self.broken(Invariant::I23);
        }
    }

    pub fn delete(&mut self, replica: usize, slot: usize, mut pass: Pass, of: (Id, bool), how: How) {
        let (id, retained) = of;
        self.judge_call(&pass, id);
        if retained {
            self.broken(Invariant::I2);
        }
        let found = self.state.answers(pass.place, id) && !matches!(how, How::Lie | How::Lagging);
        let lands = found && how != How::Write(Fate::LostBefore);
        if lands {
            self.change(id, |remote| (remote.live, remote.wrote) = (false, None));
        }
        let answer = match how {
            How::Write(Fate::Well) if found => "ok",
            How::Write(Fate::Well) | How::Lie | How::Lagging | How::NotSent => "404",
            How::Write(_) if lands => "no answer, and it took effect",
            How::Write(_) => "no answer, and it had no effect",
        };
        let untrue = if matches!(how, How::Lie | How::Lagging) { ", which is not true" } else { "" };
        say!(self, "replica {replica} sends DELETE c{id}: {answer}{untrue}");
        match answer {
            "ok" => {
                pass.claims.get_or_insert_default();
                self.note(id, Wrote::Deleted);
                self.wrote(replica, &mut pass, id, Write::Delete);
                pass.memory.deleted = true;
                self.remember(replica, &pass);
                self.go_on(replica, slot, pass);
            }
            "404" => {
                self.unclaim(replica, pass.object.uid);
                if self.stale_absence(&pass) {
                    pass.read = Read::Stale;
                    self.go_on(replica, slot, pass);
                } else {
                    self.absent(replica, slot, pass);
                }
            }
            _ => {
                pass.memory.absent = Absent::Never;
                self.fail(replica, slot, pass);
            }
        }
    }

    /// `execute::absent`.
    fn absent(&mut self, replica: usize, slot: usize, mut pass: Pass) {
        if !self.proven(&pass) {
            say!(self, "the key can't show that it is the tenant's");
            pass.memory.absent = Absent::Never;
            return self.fail(replica, slot, pass);
        }
        rules::absent_now(&mut pass);
        if self.is_off(Guard::AbsenceTwice) {
            pass.memory.absent = Absent::LongAgo;
            pass.read = Read::Absent { proven: true };
        }
        self.remember(replica, &pass);
        self.go_on(replica, slot, pass);
    }

    /// `reconciliation.remove_finalizer`.
    pub fn part(&mut self, replica: usize, slot: usize, pass: Pass, parting: Parting, fate: Fate) {
        let wrote = self.let_go(replica, &pass, parting, fate);
        self.say_write(replica, format_args!("the finalizer off ({parting:?})"), wrote);
        match wrote {
            Stored::Stands(_) | Stored::Gone => {
                self.unclaim(replica, pass.object.uid);
                self.end(replica, slot, &pass);
            }
            Stored::NoAnswer => self.fail(replica, slot, pass),
            Stored::Refused(fresh) => {
                let revocable = parting != Parting::Deleted;
                let (known, now) = (real::channel(&pass.object), real::channel(&fresh));
                if self.is_off(Guard::PartingDecidedAgain) || conflict::of_parting(&known, revocable, &now) {
                    self.put(replica, slot, Pass { object: fresh, ..pass }, At::LetGo(parting));
                } else {
                    self.end(replica, slot, &pass);
                }
            }
        }
    }
}
