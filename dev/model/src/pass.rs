// pure
//! A pass of the operator: what it reads, what the operator's own functions then decide, and where that leads.

use ohallo_operator::channel::delete::{self, Vouched};

use crate::decide::{self, Decided, Says};
use crate::guards::Guard;
use crate::properties::Invariant;
use crate::real;
use crate::rules;
use crate::run::Run;
use crate::say;
use crate::state::*;

// === impl Run ===

impl Run<'_> {
    /// A pass over the object as this replica's cache has it: `observe.rs`, then the plan.
    pub fn begin(&mut self, replica: usize, name: usize) -> bool {
        let own = self.state.replicas[replica];
        let Some(object) = own.cache[name] else { return false };
        if !self.state.leads(replica, own.epoch) || own.runs[name].is_some() {
            return false;
        }
        let memory = rules::entered(&own.memory(object.uid), own.epoch);
        if !self.is_off(Guard::CacheLag) && rules::outran(&memory, object.version) {
            return false;
        }
        let place = self.state.kube.place;
        let mut pass = Pass {
            object,
            status: object.status,
            memory,
            owns_attempt: false,
            epoch: own.epoch,
            place,
            read: Read::Unread,
            owner: false,
            detached: false,
            at: At::Write { settled: false },
        };
        *self.replica(replica).memory_mut(object.uid) = memory;
        if let Some(task) = &mut self.replica(replica).runs[TASK]
            && !task.detached
            && task.object.uid == object.uid
        {
            task.detached = true;
            if !self.time_out() {
                return false;
            }
        }
        say!(self, "replica {replica} begins a pass over {}", shown(&object));
        if let Some(id) = decide::holds(&self.facts(&pass), self.off) {
            let on = !self.is_off(Guard::Owner);
            pass.owner = on && decide::owner(&own.cache, &own.claims, id, &object, self.off);
            let known = pass.status.workspace.filter(|_| !self.is_off(Guard::WorkspaceRecorded));
            if !object.terminating && !pass.owner && known.is_none_or(|known| known == place.workspace) {
                self.read(&mut pass, id);
            }
        }
        self.go_on(replica, name, pass)
    }

    /// A pass whose task goes on took too long.
    fn time_out(&mut self) -> bool {
        let left = &mut self.state.left.timeouts;
        let some = *left > 0;
        *left = left.saturating_sub(1);
        some
    }

    fn read(&mut self, pass: &mut Pass, id: Id) {
        if self.state.answers(pass.place, id) {
            pass.read = Read::Found;
            pass.memory.absent = Absent::Never;
        } else {
            pass.read = Read::Absent { proven: self.proven(pass) };
        }
    }

    /// Whether a 404 under this pass's key proves anything, by the operator's own rule.
    pub fn proven(&self, pass: &Pass) -> bool {
        if self.is_off(Guard::Proof) {
            return true;
        }
        let known = pass.status.workspace.filter(|_| !self.is_off(Guard::WorkspaceRecorded));
        let workspace = known.unwrap_or(pass.place.workspace);
        let vouched = match pass.place {
            Place { reads_workspaces: false, .. } if self.is_off(Guard::ReadWith) => Vouched::Found,
            Place { reads_workspaces: false, .. } => Vouched::Forbidden,
            Place { tenant, .. } if tenant == workspace => Vouched::Found,
            _ => Vouched::NotFound,
        };
        delete::proven(&real::status(&pass.status), &real::place(pass.place), vouched)
    }

    /// Plans, and goes to the next thing that the API server or oHallo would see.
    pub fn go_on(&mut self, replica: usize, slot: usize, mut pass: Pass) -> bool {
        match decide::next(&self.facts(&pass), self.off) {
            Decided::Settled { status, says } => {
                if says == Says::InFlight {
                    self.put(replica, slot, pass, At::Rest);
                    return true;
                }
                self.judge_verdict(replica, &pass, says);
                pass.status = status;
                self.report(replica, slot, pass, true);
            }
            Decided::Record { number } => {
                let Some(Attempt { outcome: Outcome::Answered(id), .. }) = pass.memory.attempt else {
                    return false;
                };
                return self.into_task(replica, slot, pass, At::Record { number, id });
            }
            Decided::Create { number } => return self.create(replica, slot, pass, number),
            Decided::Adopt(id) => return self.adopt(replica, slot, pass, id),
            Decided::RestoreMarks => self.put(replica, slot, pass, At::RestoreMarks),
            Decided::Ask(ask) => {
                let skips = self.is_off(Guard::WriteAhead);
                let at = if skips { At::Send(ask) } else { At::WriteAhead(ask) };
                self.put(replica, slot, pass, at);
            }
            Decided::Delete(id) => {
                let at = if self.is_off(Guard::FreshRead) {
                    At::Delete { id, retained: self.retained(&pass) }
                } else {
                    At::ReadFresh { id }
                };
                self.put(replica, slot, pass, at);
            }
            Decided::LetGo(parting) => self.put(replica, slot, pass, At::LetGo(parting)),
            Decided::Unmodelled => self.broken(Invariant::Modelled),
        }
        true
    }

    fn judge_verdict(&mut self, replica: usize, pass: &Pass, says: Says) {
        let known = self.state.replicas[replica].memory(pass.object.uid).attempt;
        let answered = matches!(known, Some(Attempt { outcome: Outcome::Answered(_), .. }));
        if says == Says::Parked && answered && pass.object.spec_id.is_none() && pass.status.id.is_none() {
            self.broken(Invariant::AnswersAreRecorded);
        }
        let id = pass.status.id.or(pass.object.spec_id);
        let remote = id.and_then(|id| self.state.ohallo.channels[usize::from(id)]);
        if says == Says::NotFound && remote.is_some_and(|remote| remote.live && remote.tenant == 1) {
            self.broken(Invariant::I8);
        }
    }

    /// A create: permission is there, and the intent comes next.
    fn create(&mut self, replica: usize, slot: usize, mut pass: Pass, number: u8) -> bool {
        if self.state.left.posts == 0 || self.state.replicas[replica].runs[TASK].is_some() {
            return false;
        }
        if self.is_off(Guard::IntentFirst) {
            self.outcome(&mut pass, number, Outcome::InFlight);
            self.remember(replica, &pass);
            return self.into_task(replica, slot, pass, At::Post { number });
        }
        self.put(replica, slot, pass, At::Intent { number });
        true
    }

    /// What follows a task, in the pass that waits for it.
    pub fn after_task(&mut self, replica: usize, pass: Pass, then: impl FnOnce(&mut Self, usize)) {
        self.replica(replica).runs[TASK] = None;
        let name = pass.object.name();
        if pass.detached || self.state.replicas[replica].runs[name].is_some() {
            self.end(replica, TASK, &pass);
        } else {
            then(self, name);
        }
    }

    /// What POSTs and records goes on by itself.
    pub fn into_task(&mut self, replica: usize, slot: usize, pass: Pass, at: At) -> bool {
        if slot != TASK && self.state.replicas[replica].runs[TASK].is_some() {
            return false;
        }
        self.replica(replica).runs[slot] = None;
        self.put(replica, TASK, pass, at);
        true
    }

    fn adopt(&mut self, replica: usize, slot: usize, mut pass: Pass, id: Id) -> bool {
        if !self.is_off(Guard::Claims)
            && !decide::claim(&mut self.replica(replica).claims, id, pass.object.uid)
        {
            pass.owner = true;
            return self.go_on(replica, slot, pass);
        }
        if !pass.object.finalizer {
            self.put(replica, slot, pass, At::Adopt { id });
            return true;
        }
        self.bound(&mut pass, id, true);
        self.go_on(replica, slot, pass)
    }

    /// `born::bind`.
    pub fn bound(&mut self, pass: &mut Pass, id: Id, adopted: bool) {
        pass.status.id = Some(id);
        pass.status.bound_uid = Some(pass.object.uid);
        pass.status.workspace = Some(pass.place.workspace);
        pass.status.adopted.get_or_insert(adopted);
        pass.status.create = None;
    }

    /// Whether the object, as the API server now has it, wants its channel kept.
    pub fn retained(&self, pass: &Pass) -> bool {
        self.current(pass)
            .is_some_and(|object| !delete::deletes(&real::channel(&object), &real::status(&object.status)))
    }
}

// === impl State ===

impl State {
    /// Whether oHallo finds this channel under the key.
    pub fn answers(&self, place: Place, id: Id) -> bool {
        let remote = self.ohallo.channels[usize::from(id)];
        remote.is_some_and(|remote| remote.live && remote.tenant == place.tenant)
    }
}

/// The object in a few words.
pub fn shown(object: &Object) -> String {
    let mut words = vec![format!("{} (uid-{})", ["a", "b"][object.name()], object.uid)];
    let intent = object.intent.map(|i| format!("intent uid-{}/{}", i.of.uid, i.of.number));
    words.push(intent.unwrap_or_else(|| "no intent".into()));
    words.extend(object.status.create.map(|(number, word)| format!("attempt {number} {word:?}")));
    words.extend(object.status.id.map(|id| format!("bound to c{id}")));
    words.extend(object.spec_id.map(|id| format!("names c{id}")));
    words.extend((!object.finalizer).then(|| "no finalizer".into()));
    words.extend(object.terminating.then(|| "being deleted".into()));
    words.join(", ")
}
