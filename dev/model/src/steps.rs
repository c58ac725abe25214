//! The steps of `act.rs` and `born.rs`, each as one thing that the API server or oHallo sees.

use crate::decide::{self, Decided};
use crate::guards::Guard;
use crate::kubernetes::{Fate, Stored};
use crate::properties::Invariant;
use crate::run::Run;
use crate::state::*;
use crate::{real, rules, say};
use ohallo_core::channel::binding;
use ohallo_core::channel::conflict::Refused;

/// How a step fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum How {
    Write(Fate),
    /// No connection to oHallo: nothing was sent.
    NotSent,
    /// oHallo says 404 though the channel is there.
    Lie,
    /// The same, because it does not show the channel yet.
    Lagging,
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
            At::Patch { id } => self.patch(replica, slot, pass, id, how),
            At::Send(ask) => self.ask(replica, slot, pass, ask, how),
            At::Rest => {
                say!(self, "replica {replica} ends a pass that found a create under way");
                self.end(replica, slot, &pass);
            }
            At::Write { settled } => self.status(replica, slot, pass, settled, fate),
            At::WriteUnstored => self.status(replica, slot, pass, false, fate),
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

    /// `reconciliation.patch_metadata` with an intent.
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
        let last = matches!(wrote, Stored::Stands(_));
        let own = Attempt { number, outcome: Outcome::NotSent, intent: Some(intent), after, last };
        let past = pass.memory.attempt;
        if matches!(wrote, Stored::Stands(_) | Stored::NoAnswer) {
            pass.memory.attempt = Some(own);
            pass.owns_attempt = true;
        }
        let named = format!("uid-{}/{number}", intent.of.uid);
        self.say_write(replica, format_args!("the intent {named}"), wrote);
        match wrote {
            Stored::Stands(stored) => {
                self.stands(replica, &mut pass, stored);
                let lost = if self.scenario.kept { self.lost_metadata(Some(intent), &stored) } else { None };
                if let Some(lost) = lost {
                    // `born::create_not_sent`.
                    if after == stored.intent {
                        pass.memory.attempt = past;
                    } else {
                        pass.memory.attempt = Some(Attempt { intent: stored.intent, ..own });
                        pass.status.create = Some((number, Word::NotSent));
                    }
                    return self.not_kept(replica, slot, pass, lost);
                }
                pass.status.create = Some((number, Word::Unknown));
                self.outcome(&mut pass, number, Outcome::InFlight);
                self.remember(replica, &pass);
                self.into_task(replica, slot, pass, At::Post { number });
            }
            Stored::NoAnswer => self.fail(replica, slot, pass),
            Stored::Refused(_) | Stored::Gone => self.end(replica, slot, &pass),
        }
    }

    fn no_connection(&mut self, replica: usize, mut pass: Pass, number: u8) {
        say!(self, "replica {replica} has no connection to oHallo: nothing was sent");
        self.outcome(&mut pass, number, Outcome::NotSent);
        pass.status.create = Some((number, Word::NotSent));
        self.remember(replica, &pass);
        self.after_task(replica, pass, |run, slot| run.fail(replica, slot, pass));
    }

    /// One turn of `born::try_record_id`.
    fn record(&mut self, replica: usize, slot: usize, mut pass: Pass, number: u8, id: Id, fate: Fate) {
        let names = || {
            let (channel, status) = (real::channel(&pass.object), real::status(&pass.status));
            binding::conflicting_id(&channel, &status, real::channel_id(id).as_str())
        };
        if !self.is_off(Guard::ManifestWins) && names().is_some() {
            say!(self, "replica {replica} binds neither c{id} nor what the object names instead");
            return self.after_task(replica, pass, |run, slot| {
                run.go_on(replica, slot, pass);
            });
        }
        let begun = pass;
        self.bound(&mut pass, id, false);
        pass.read = Read::Found(Look { value: pass.object.value, failing: false });
        if self.scenario.values {
            pass.status.applied = Some(pass.object.value);
            pass.window = self.window(replica, id);
        }
        let facts = self.facts(&pass);
        pass.status = match decide::next(&facts, self.off) {
            Decided::Settled { status, .. } => status,
            _ => decide::looks(&facts, self.off),
        };
        let wrote = self.write_status(replica, &pass, fate);
        self.say_write(replica, format_args!("the id c{id} into the status"), wrote);
        match wrote {
            Stored::Stands(stored) if self.lost_status(&pass.status, &stored).is_some() => {
                let lost = self.lost_status(&pass.status, &stored).unwrap_or(Strip::Id);
                self.stands(replica, &mut pass, stored);
                self.after_task(replica, pass, |run, slot| run.not_kept(replica, slot, pass, lost));
            }
            Stored::Stands(stored) => {
                pass.memory.attempt = None;
                pass.owns_attempt = true;
                self.stands(replica, &mut pass, stored);
                self.after_task(replica, pass, |run, slot| {
                    run.go_on(replica, slot, pass);
                });
            }
            Stored::NoAnswer => self.put(replica, slot, begun, At::Record { number, id }),
            Stored::Gone => self.end(replica, slot, &pass),
            Stored::Refused(fresh) => match self.of_refused(&pass, &fresh) {
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

    /// `reconciliation.patch_metadata`: the finalizer for an adoption, or the marks that were removed.
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
            Stored::Stands(stored) => {
                self.stands(replica, &mut pass, stored);
                let sent = lost.then_some(Intent { of, by });
                let stripped = if self.scenario.kept { self.lost_metadata(sent, &stored) } else { None };
                if let Some(stripped) = stripped {
                    return self.not_kept(replica, slot, pass, stripped);
                }
                if let Some(id) = adopts {
                    self.adopted(&mut pass, id);
                }
                self.go_on(replica, slot, pass);
            }
            Stored::NoAnswer => self.fail(replica, slot, pass),
            Stored::Refused(_) | Stored::Gone => self.end(replica, slot, &pass),
        }
    }

    fn write_ahead(&mut self, replica: usize, slot: usize, mut pass: Pass, ask: Ask, fate: Fate) {
        let past = pass.status;
        pass.status = rules::ahead(&self.facts(&pass), ask);
        let wrote = self.write_status(replica, &pass, fate);
        self.say_write(replica, format_args!("that it will send the {ask:?}"), wrote);
        match wrote {
            Stored::Stands(stored) => {
                self.stands(replica, &mut pass, stored);
                self.put(replica, slot, pass, At::Send(ask));
            }
            Stored::NoAnswer => {
                self.unsure(replica, &mut pass);
                self.fail(replica, slot, Pass { status: past, ..pass });
            }
            Stored::Gone => self.end(replica, slot, &pass),
            Stored::Refused(fresh) => match self.of_refused(&pass, &fresh) {
                Refused::LayOver => {
                    let again = Pass { object: fresh, status: past, ..pass };
                    self.put(replica, slot, again, At::WriteAhead(ask));
                }
                Refused::Stale | Refused::Gone => self.end(replica, slot, &pass),
            },
        }
    }

    fn ask(&mut self, replica: usize, slot: usize, mut pass: Pass, ask: Ask, how: How) {
        let id = pass.status.id.unwrap_or_default();
        self.judge_call(&pass, id);
        let (sent, request) = match ask {
            Ask::Test => (&mut self.state.ghost.tests, pass.object.test),
            Ask::Retry { request, .. } => (&mut self.state.ghost.retries, request),
        };
        let count = &mut sent[pass.object.name()][usize::from(request)];
        *count += 1;
        let twice = *count > 1 && request > 0;
        *count *= u8::from(request > 0);
        say!(self, "replica {replica} sends the {ask:?} r{request} for c{id}");
        if twice {
            self.broken(Invariant::I13);
        }
        pass.status = rules::ahead(&self.facts(&pass), ask);
        if ask == Ask::Test {
            self.go_on(replica, slot, pass);
        } else {
            self.retried(replica, &mut pass, id, how);
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
            Stored::Stands(stored) => {
                self.stands(replica, &mut pass, stored);
                if pass.at == At::WriteUnstored {
                    return self.said_unstored(replica, slot, pass);
                }
                match self.lost_status(&pass.status, &stored) {
                    Some(lost) if !stored.terminating => return self.unstored(replica, slot, pass, lost),
                    Some(_) => {}
                    None if self.scenario.kept => self.kept(&mut pass),
                    None => {}
                }
                pass.memory.seen = self.scenario.values;
                self.end(replica, slot, &pass);
                self.settled(&pass, settled);
            }
            Stored::Refused(fresh) => match self.of_refused(&pass, &fresh) {
                Refused::LayOver => {
                    // It was settled for the manifest that it knew.
                    let settled = settled && rules::same_inputs(&pass.object, &fresh);
                    let at = if pass.at == At::WriteUnstored { pass.at } else { At::Write { settled } };
                    self.put(replica, slot, Pass { object: fresh, ..pass }, at);
                }
                Refused::Stale | Refused::Gone => self.replica(replica).runs[slot] = None,
            },
            Stored::Gone => self.replica(replica).runs[slot] = None,
            Stored::NoAnswer => {
                self.unsure(replica, &mut pass);
                self.replica(replica).runs[slot] = None;
            }
        }
    }

    /// The answer to a status is lost: where it binds the object it may stand.
    fn unsure(&mut self, replica: usize, pass: &mut Pass) {
        let uid = pass.object.uid;
        if pass.status.bound_uid == Some(uid) && pass.object.status.bound_uid != Some(uid) {
            pass.memory.binding_unsure = true;
            self.replica(replica).memory_mut(uid).binding_unsure = true;
        }
    }

    /// `adopt_version`.
    fn stands(&mut self, replica: usize, pass: &mut Pass, stored: Object) {
        pass.object = stored;
        self.note_binding(pass);
        pass.memory.written = stored.version;
        pass.memory.binding_unsure = false;
        self.remember(replica, pass);
    }

    pub fn say_write(&mut self, replica: usize, what: std::fmt::Arguments, wrote: Stored) {
        let came = match wrote {
            Stored::Stands(_) => "stands",
            Stored::NoAnswer => "no answer",
            Stored::Refused(_) => "409",
            Stored::Gone => "404, or gone with it",
        };
        say!(self, "replica {replica} writes {what}: {came}");
    }
}
