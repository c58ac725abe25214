// pure
//! The steps of a deletion.

use ohallo_operator::channel::{conflict, delete};

use crate::guards::Guard;
use crate::kubernetes::{Fate, Wrote};
use crate::properties::Invariant;
use crate::real;
use crate::rules;
use crate::run::Run;
use crate::say;
use crate::state::*;
use crate::steps::How;

// === impl Run ===

impl Run<'_> {
    /// `act::delete` up to the call: decided again on the object as it now is.
    pub fn read_fresh(&mut self, replica: usize, slot: usize, mut pass: Pass, id: Id) {
        say!(self, "replica {replica} reads the object afresh");
        let Some(fresh) = self.current(&pass) else { return self.end(replica, slot, &pass) };
        let known = real::channel(&pass.object);
        let again = delete::decided_again(&known, &real::channel(&fresh), &real::channel_id(id));
        pass.object = fresh;
        if again {
            pass.status = fresh.status;
            self.go_on(replica, slot, pass);
        } else {
            self.put(replica, slot, pass, At::Delete { id, retained: self.retained(&pass) });
        }
    }

    pub fn delete(&mut self, replica: usize, slot: usize, mut pass: Pass, of: (Id, bool), how: How) {
        let (id, retained) = of;
        self.judge_call(&pass, id);
        if retained {
            self.broken(Invariant::I2);
        }
        let found = self.state.answers(pass.place, id) && how != How::Lie;
        let lands = found && how != How::Write(Fate::LostBefore);
        if lands && let Some(remote) = &mut self.state.ohallo.channels[usize::from(id)] {
            remote.live = false;
        }
        let answer = match how {
            How::Write(Fate::Well) | How::Lie if found => "ok",
            How::Write(Fate::Well) | How::Lie | How::NotSent => "404",
            How::Write(_) if lands => "no answer, and it took effect",
            How::Write(_) => "no answer, and it had no effect",
        };
        let untrue = if how == How::Lie { ", which is not true" } else { "" };
        say!(self, "replica {replica} sends DELETE c{id}: {answer}{untrue}");
        match answer {
            "ok" => {
                pass.memory.deleted = true;
                self.remember(replica, &pass);
                self.go_on(replica, slot, pass);
            }
            "404" => self.absent(replica, slot, pass),
            _ => {
                pass.memory.absent = Absent::Never;
                self.fail(replica, slot, pass);
            }
        }
    }

    /// `act::absent`.
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

    /// `pass.let_go`.
    pub fn part(&mut self, replica: usize, slot: usize, pass: Pass, parting: Parting, fate: Fate) {
        let wrote = self.let_go(replica, &pass, parting, fate);
        self.say_write(replica, format_args!("the finalizer off ({parting:?})"), wrote);
        match wrote {
            Wrote::Stands(_) | Wrote::Gone => {
                let uid = pass.object.uid;
                for claim in &mut self.replica(replica).claims {
                    claim.take_if(|held| *held == uid);
                }
                self.end(replica, slot, &pass);
            }
            Wrote::NoAnswer => self.fail(replica, slot, pass),
            Wrote::Refused(fresh) => {
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
