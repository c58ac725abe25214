// pure
//! The steps of `act.rs` and `born.rs`, each as one thing that the API server or oHallo sees.

use ohallo_operator::channel::conflict::{self, Refused};
use ohallo_operator::channel::{create, delete};

use crate::decide::{self, Decided};
use crate::guards::Guard;
use crate::kubernetes::{Fate, Wrote};
use crate::properties::Invariant;
use crate::real;
use crate::run::Run;
use crate::say;
use crate::state::*;

/// How a step fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum How {
    Write(Fate),
    /// No connection to oHallo: nothing was sent.
    NotSent,
    /// oHallo says 404 though the channel is there.
    Lie,
}

// === impl Run ===

impl Run<'_> {
    pub fn step(&mut self, replica: usize, slot: usize, how: How) -> bool {
        let Some(pass) = self.state.replicas[replica].runs[slot] else { return false };
        let fate = if let How::Write(fate) = how { fate } else { Fate::Well };
        let records = matches!(pass.at, At::Record { .. });
        if !self.fence(replica, &pass) && (!records || self.is_off(Guard::RecordUnfenced)) {
            say!(self, "replica {replica} does not lead any more and drops what it was about to do");
            self.fenced(replica, slot, pass);
            return true;
        }
        match pass.at {
            At::Intent { number } => self.intent(replica, slot, pass, number, fate),
            At::Post { number } if how == How::NotSent => self.no_connection(replica, pass, number),
            At::Post { number } => return self.send_create(replica, pass, number),
            At::Waiting { .. } => return false,
            At::Record { number, id } => self.record(replica, slot, pass, number, id, fate),
            At::Adopt { id } => self.mark(replica, slot, pass, Some(id), fate),
            At::RestoreMarks => self.mark(replica, slot, pass, None, fate),
            At::ReadFresh { id } => self.read_fresh(replica, slot, pass, id),
            At::Delete { id, retained } => self.delete(replica, slot, pass, (id, retained), how),
            At::LetGo(parting) => self.part(replica, slot, pass, parting, fate),
            At::WriteAhead(ask) => self.write_ahead(replica, slot, pass, ask, fate),
            At::Send(ask) => self.ask(replica, slot, pass, ask),
            At::Rest => self.end(replica, slot, &pass),
            At::Write { settled } => self.status(replica, slot, pass, settled, fate),
        }
        true
    }

    fn fenced(&mut self, replica: usize, slot: usize, mut pass: Pass) {
        match pass.at {
            At::Post { number } => self.outcome(&mut pass, number, Outcome::NotSent),
            At::Record { .. } => self.broken(Invariant::AnswersAreRecorded),
            _ => {}
        }
        self.end(replica, slot, &pass);
    }

    /// `pass.mark` with an intent.
    fn intent(&mut self, replica: usize, slot: usize, mut pass: Pass, number: u8, fate: Fate) {
        let by = self.process(replica);
        let intent = Intent { of: Named { uid: pass.object.uid, number }, by };
        let unguarded = self.is_off(Guard::IntentVersion);
        let marks = !self.is_off(Guard::FinalizerWithIntent);
        let wrote = self.write(&pass, unguarded, fate, |object| {
            object.intent = Some(intent);
            object.finalizer |= marks;
            !object.terminating
        });
        let after = pass.object.intent;
        let last = matches!(wrote, Wrote::Stands(_));
        let own = Attempt { number, outcome: Outcome::NotSent, intent: Some(intent), after, last };
        if matches!(wrote, Wrote::Stands(_) | Wrote::NoAnswer) {
            pass.memory.attempt = Some(own);
            pass.owns_attempt = true;
        }
        let named = format!("uid-{}/{number}", intent.of.uid);
        self.say_write(replica, format_args!("the intent {named}"), wrote);
        match wrote {
            Wrote::Stands(stored) => {
                self.stands(replica, &mut pass, stored);
                pass.status.create = Some((number, Word::Unknown));
                self.outcome(&mut pass, number, Outcome::InFlight);
                self.remember(replica, &pass);
                self.into_task(replica, slot, pass, At::Post { number });
            }
            Wrote::NoAnswer => self.fail(replica, slot, pass),
            Wrote::Refused(_) | Wrote::Gone => self.end(replica, slot, &pass),
        }
    }

    fn no_connection(&mut self, replica: usize, mut pass: Pass, number: u8) {
        say!(self, "replica {replica} has no connection to oHallo: nothing was sent");
        self.outcome(&mut pass, number, Outcome::NotSent);
        pass.status.create = Some((number, Word::NotSent));
        self.remember(replica, &pass);
        self.after_task(replica, pass, |run, slot| run.fail(replica, slot, pass));
    }

    /// One turn of `born::written_down`.
    fn record(&mut self, replica: usize, slot: usize, mut pass: Pass, number: u8, id: Id, fate: Fate) {
        let names = || {
            let (channel, status) = (real::channel(&pass.object), real::status(&pass.status));
            create::names_another(&channel, &status, real::channel_id(id).as_str())
        };
        if !self.is_off(Guard::ManifestWins) && names().is_some() {
            say!(self, "replica {replica} binds neither c{id} nor what the object names instead");
            return self.after_task(replica, pass, |run, slot| {
                run.go_on(replica, slot, pass);
            });
        }
        let begun = pass;
        self.bound(&mut pass, id, false);
        pass.read = Read::Found;
        let facts = self.facts(&pass);
        pass.status = match decide::next(&facts, self.off) {
            Decided::Settled { status, .. } => status,
            _ => decide::looks(&facts, self.off),
        };
        let wrote = self.write_status(replica, &pass, fate);
        self.say_write(replica, format_args!("the id c{id} into the status"), wrote);
        match wrote {
            Wrote::Stands(stored) => {
                pass.memory.attempt = None;
                pass.owns_attempt = true;
                self.stands(replica, &mut pass, stored);
                self.after_task(replica, pass, |run, slot| {
                    run.go_on(replica, slot, pass);
                });
            }
            Wrote::NoAnswer => self.put(replica, slot, begun, At::Record { number, id }),
            Wrote::Gone => self.end(replica, slot, &pass),
            Wrote::Refused(fresh) => match self.of_refused(&pass, &fresh) {
                Refused::Gone => self.end(replica, slot, &pass),
                Refused::LayOver => {
                    self.put(replica, slot, Pass { object: fresh, ..begun }, At::Record { number, id });
                }
                Refused::Stale => {
                    let again = Pass { object: fresh, status: fresh.status, ..begun };
                    self.put(replica, slot, again, At::Record { number, id });
                }
            },
        }
    }

    /// `pass.mark`: the finalizer for an adoption, or the marks that were removed.
    fn mark(&mut self, replica: usize, slot: usize, mut pass: Pass, adopts: Option<Id>, fate: Fate) {
        let lost = adopts.is_none() && pass.status.adopted == Some(false) && pass.object.intent.is_none();
        let number = pass.memory.attempt.map_or(1, |own| own.number);
        let of = Named { uid: pass.object.uid, number };
        let by = self.process(replica);
        let wrote = self.write(&pass, false, fate, |object| {
            object.finalizer = true;
            if lost {
                object.intent = Some(Intent { of, by });
            }
            !object.terminating
        });
        self.say_write(replica, format_args!("finalizer and intent"), wrote);
        match wrote {
            Wrote::Stands(stored) => {
                self.stands(replica, &mut pass, stored);
                if let Some(id) = adopts {
                    self.bound(&mut pass, id, true);
                }
                self.go_on(replica, slot, pass);
            }
            Wrote::NoAnswer => self.fail(replica, slot, pass),
            Wrote::Refused(_) | Wrote::Gone => self.end(replica, slot, &pass),
        }
    }

    /// `act::delete` up to the call: decided again on the object as it now is.
    fn read_fresh(&mut self, replica: usize, slot: usize, mut pass: Pass, id: Id) {
        say!(self, "replica {replica} reads the object afresh");
        let Some(fresh) = self.current(&pass) else { return self.end(replica, slot, &pass) };
        let (known, status) = (real::channel(&pass.object), real::status(&pass.status));
        let again = delete::decided_again(&known, &status, &real::channel(&fresh), &real::channel_id(id));
        pass.object = fresh;
        if again {
            pass.status = fresh.status;
            self.go_on(replica, slot, pass);
        } else {
            self.put(replica, slot, pass, At::Delete { id, retained: self.retained(&pass) });
        }
    }

    fn delete(&mut self, replica: usize, slot: usize, mut pass: Pass, of: (Id, bool), how: How) {
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
        say!(self, "replica {replica} sends DELETE c{id}: {answer}");
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
        real::absent_now(&mut pass);
        if self.is_off(Guard::AbsenceTwice) {
            pass.memory.absent = Absent::LongAgo;
            pass.read = Read::Absent { proven: true };
        }
        self.remember(replica, &pass);
        self.go_on(replica, slot, pass);
    }

    /// `pass.let_go`.
    fn part(&mut self, replica: usize, slot: usize, pass: Pass, parting: Parting, fate: Fate) {
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

    fn write_ahead(&mut self, replica: usize, slot: usize, mut pass: Pass, ask: Ask, fate: Fate) {
        let past = pass.status;
        pass.status = real::ahead(&self.facts(&pass), ask);
        let wrote = self.write_status(replica, &pass, fate);
        self.say_write(replica, format_args!("that it will send the {ask:?}"), wrote);
        match wrote {
            Wrote::Stands(stored) => {
                self.stands(replica, &mut pass, stored);
                self.put(replica, slot, pass, At::Send(ask));
            }
            Wrote::NoAnswer => self.fail(replica, slot, Pass { status: past, ..pass }),
            Wrote::Gone => self.end(replica, slot, &pass),
            Wrote::Refused(fresh) => match self.of_refused(&pass, &fresh) {
                Refused::LayOver => {
                    let again = Pass { object: fresh, status: past, ..pass };
                    self.put(replica, slot, again, At::WriteAhead(ask));
                }
                Refused::Stale | Refused::Gone => self.end(replica, slot, &pass),
            },
        }
    }

    fn ask(&mut self, replica: usize, slot: usize, mut pass: Pass, ask: Ask) {
        let id = pass.status.id.unwrap_or_default();
        self.judge_call(&pass, id);
        let (sent, request) = match ask {
            Ask::Test => (&mut self.state.ghost.tests, pass.object.test),
            Ask::Retry => (&mut self.state.ghost.retries, pass.object.retry),
        };
        let count = &mut sent[usize::from(request)];
        *count += 1;
        let twice = *count > 1;
        say!(self, "replica {replica} sends the {ask:?} r{request} for c{id}");
        if twice {
            self.broken(Invariant::I13);
        }
        pass.status = real::ahead(&self.facts(&pass), ask);
        if ask == Ask::Test {
            self.go_on(replica, slot, pass);
        } else {
            pass.read = Read::Unread;
            pass.status = decide::looks(&self.facts(&pass), self.off);
            self.report(replica, slot, pass, false);
        }
    }

    /// `report`: the status of a pass that is over.
    fn status(&mut self, replica: usize, slot: usize, mut pass: Pass, settled: bool, fate: Fate) {
        let wrote = self.write_status(replica, &pass, fate);
        self.say_write(replica, format_args!("the status"), wrote);
        match wrote {
            Wrote::Stands(stored) => {
                self.stands(replica, &mut pass, stored);
                self.end(replica, slot, &pass);
                self.settled(&pass, settled);
            }
            Wrote::Refused(fresh) => match self.of_refused(&pass, &fresh) {
                Refused::LayOver => {
                    // It was settled for the manifest that it knew.
                    let settled = settled && real::same_inputs(&pass.object, &fresh);
                    self.put(replica, slot, Pass { object: fresh, ..pass }, At::Write { settled });
                }
                Refused::Stale | Refused::Gone => self.replica(replica).runs[slot] = None,
            },
            Wrote::Gone | Wrote::NoAnswer => self.replica(replica).runs[slot] = None,
        }
    }

    /// `adopt_version`.
    fn stands(&mut self, replica: usize, pass: &mut Pass, stored: Object) {
        pass.object = stored;
        pass.memory.written = stored.version;
        self.remember(replica, pass);
    }

    fn say_write(&mut self, replica: usize, what: std::fmt::Arguments, wrote: Wrote) {
        let came = match wrote {
            Wrote::Stands(_) => "stands",
            Wrote::NoAnswer => "no answer",
            Wrote::Refused(_) => "409",
            Wrote::Gone => "404, or gone with it",
        };
        say!(self, "replica {replica} writes {what}: {came}");
    }
}
