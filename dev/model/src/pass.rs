//! A pass of the operator: what it reads, what the operator's own functions then decide, and where that leads.

use crate::decide::{self, Decided, Says};
use crate::guards::Guard;
use crate::lag::Seen;
use crate::properties::Invariant;
use crate::run::Run;
use crate::state::*;
use crate::{real, rules, say};
use ohallo_core::channel::binding;
use ohallo_core::channel::in_memory_state::MAX_REVERTS_OF_A_FIELD;
use ohallo_core::channel::plan::delete::{self, WorkspaceProbe};

// === impl Run ===

impl Run<'_> {
    /// A pass over the object as this replica's cache has it: `observe.rs`, then the plan.
    pub fn begin(&mut self, replica: usize, name: usize, seen: Seen) -> bool {
        let own = self.state.replicas[replica];
        let Some(object) = own.cache[name] else { return false };
        if !self.state.leads(replica, own.epoch) || own.runs[name].is_some() {
            return false;
        }
        let mut memory = rules::entered(&own.memory(object.uid), own.epoch);
        if self.scenario.values {
            memory = rules::met(&memory, &object);
        }
        if !self.is_off(Guard::CacheLag) && rules::outran(&memory, object.version) {
            return false;
        }
        let place = self.state.kube.place;
        let believed = binding::trusted_status(&real::channel(&object));
        let mut pass = Pass {
            object,
            status: if self.is_off(Guard::BoundUid) {
                object.status
            } else {
                real::read_back(&believed, self.tracks())
            },
            memory,
            owns_attempt: false,
            epoch: own.epoch,
            place,
            read: Read::Unread,
            owner: false,
            predecessor: None,
            claims: None,
            window: Window::default(),
            updated: false,
            resends: false,
            detached: false,
            at: At::Write { settled: false },
        };
        self.remembered_status(&mut pass);
        *self.replica(replica).memory_mut(object.uid) = pass.memory;
        if self.scenario.lags {
            self.replica(replica).windows.enter(own.epoch);
        }
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
        if let (true, Some(lost)) = (pass.resends, pass.memory.lost) {
            pass.status = decide::unstored(&self.facts(&pass), self.off, lost);
            self.report(replica, name, pass, false);
            return true;
        }
        let id = decide::holds(&self.facts(&pass), self.off);
        if let Some(id) = id {
            pass.window = self.window(replica, id);
        }
        if object.terminating {
            if seen != Seen::Now {
                return false;
            }
            if let Some(id) = id
                && !self.ask_first(replica, &mut pass, id)
            {
                return false;
            }
            return self.go_on(replica, name, pass);
        }
        if let Some(id) = id {
            let known = pass.status.workspace.filter(|_| !self.is_off(Guard::WorkspaceRecorded));
            let reads = !object.suspended && known.is_none_or(|known| known == place.workspace);
            if reads && !self.read(&mut pass, id, seen) || !reads && seen != Seen::Now {
                return false;
            }
            self.rank(replica, &mut pass, id);
        } else if seen != Seen::Now {
            return false;
        }
        self.go_on(replica, name, pass)
    }

    /// `claims::first`: who else claims the id. `false`: cache and API server disagree, and the pass is put off.
    fn ask_first(&mut self, replica: usize, pass: &mut Pass, id: Id) -> bool {
        let mut found = decide::rivals(self.known(replica), id, &pass.object, self.off);
        let bound = |object: &Object| {
            object.uid != pass.object.uid
                && !object.terminating
                && object.status.id == Some(id)
                && object.status.bound_uid == Some(object.uid)
        };
        let truly = self.state.kube.objects.iter().flatten().any(bound);
        if found.heir && !truly {
            if !self.is_off(Guard::HeirAfresh) {
                return false;
            }
            self.broken(Invariant::I17);
        }
        if pass.memory.wait.is_none() && pass.status.waits.is_none() {
            found.elsewhere = None;
        }
        rules::note_claims(pass, found);
        true
    }

    /// `observe::note_claim`: what this pass has shown of the id, and who holds it.
    fn rank(&mut self, replica: usize, pass: &mut Pass, id: Id) {
        if pass.read == Read::Stale {
            return;
        }
        let uid = pass.object.uid;
        let able = pass.status.id.is_none() || pass.status.bound_uid != Some(uid);
        self.replica(replica).shown[usize::from(uid) - 1] = match pass.read {
            Read::Found(_) if able => Shown::Able,
            Read::Found(_) => Shown::Right,
            _ => Shown::Nothing,
        };
        if !matches!(pass.read, Read::Found(_)) || self.is_off(Guard::Owner) {
            return;
        }
        let (owned, from) = decide::owner(self.known(replica), id, &pass.object, self.off);
        let from = from
            .and_then(|from| self.known(replica).objects.iter().flatten().find(|o| o.uid == from).copied());
        let hands_over = from
            .filter(|from| delete::should_delete_remote(&real::channel(from), &real::status(&from.status)));
        pass.predecessor = hands_over.and_then(|from| from.status.adopted);
        pass.owner = owned && pass.predecessor.is_none();
    }

    /// A pass whose task goes on took too long.
    fn time_out(&mut self) -> bool {
        let left = &mut self.state.left.timeouts;
        let some = *left > 0;
        *left = left.saturating_sub(1);
        some
    }

    /// `observe::read`. `false`: it can't be answered so.
    fn read(&mut self, pass: &mut Pass, id: Id, seen: Seen) -> bool {
        let Some(shown) = self.sees(pass.place, id, seen) else { return false };
        match shown {
            _ if seen == Seen::Now => {}
            Some(look) => say!(self, "oHallo shows c{id} as it was: {look:?}"),
            None => say!(self, "oHallo answers 404 for c{id}, which is there"),
        }
        match shown {
            Some(look) => self.found(pass, look),
            None if self.stale_absence(pass) => pass.read = Read::Stale,
            None if !self.proven(pass) => {
                pass.memory.absent = Absent::Never;
                pass.read = Read::Absent { proven: false };
            }
            None if rules::absent_again(pass) || self.is_off(Guard::NotFoundTwice) => {
                pass.read = Read::Absent { proven: true };
            }
            None => pass.read = Read::Stale,
        }
        true
    }

    /// Whether a 404 under this pass's key proves anything, by the operator's own rule.
    pub fn proven(&self, pass: &Pass) -> bool {
        if self.is_off(Guard::Proof) {
            return true;
        }
        let known = pass.status.workspace.filter(|_| !self.is_off(Guard::WorkspaceRecorded));
        let workspace = known.unwrap_or(pass.place.workspace);
        let vouched = match pass.place {
            Place { reads_workspaces: false, .. } if self.is_off(Guard::ReadWith) => WorkspaceProbe::Found,
            Place { reads_workspaces: false, .. } => WorkspaceProbe::Forbidden,
            Place { tenant, .. } if tenant == workspace => WorkspaceProbe::Found,
            _ => WorkspaceProbe::NotFound,
        };
        delete::absence_is_proven(&real::status(&pass.status), &real::place(pass.place), vouched)
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
            Decided::Adopt(id) => {
                self.contradicts(Some(id), |remote| remote.wrote == Some(Wrote::Deleted));
                return self.adopt(replica, slot, pass, id);
            }
            Decided::Update { id, drift } => {
                self.contradicts(Some(id), |remote| drift && matches!(remote.wrote, Some(Wrote::Value(_))));
                self.put(replica, slot, pass, At::Patch { id });
            }
            Decided::RestoreMarks => self.put(replica, slot, pass, At::RestoreMarks),
            Decided::Ask(ask) => {
                if matches!(ask, Ask::Retry { .. }) && self.scenario.lags {
                    self.contradicts(pass.status.id, |remote| remote.helped);
                }
                let skips = self.is_off(Guard::WriteAhead);
                let at = if skips { At::Send(ask) } else { At::WriteAhead(ask) };
                self.put(replica, slot, pass, at);
            }
            Decided::Delete(id) if self.is_off(Guard::FreshRead) => self.ask_last(replica, slot, pass, id),
            Decided::Delete(id) => self.put(replica, slot, pass, At::ReadFresh { id }),
            Decided::LetGo(parting) => self.put(replica, slot, pass, At::LetGo(parting)),
            Decided::Unmodelled => self.broken(Invariant::Modelled),
        }
        true
    }

    fn judge_verdict(&mut self, replica: usize, pass: &Pass, says: Says) {
        let known = self.state.replicas[replica].memory(pass.object.uid).attempt;
        // A DELETE that met a status without the id is decided again by the next pass, which puts the id back.
        let bound = self.state.ghost.known[usize::from(pass.object.uid) - 1].is_some();
        let answered = matches!(known, Some(Attempt { outcome: Outcome::Answered(_), .. }))
            || (bound && !pass.object.terminating);
        if says == Says::Parked && answered && pass.object.spec_id.is_none() && pass.status.id.is_none() {
            self.broken(Invariant::AnswersAreRecorded);
        }
        let known = self.state.replicas[replica];
        let ranks = |object: &Object| {
            let bound = object.status.bound_uid == Some(object.uid);
            let shown = matches!(known.shown(object.uid), Shown::Able | Shown::Right);
            object.uid != pass.object.uid && (bound || shown || known.claims.contains(&Some(object.uid)))
        };
        if says == Says::Conflict && !known.cache.iter().flatten().any(ranks) {
            self.broken(Invariant::Ranks);
        }
        let id = pass.status.id.or(pass.object.spec_id);
        let remote = id.and_then(|id| self.state.ohallo.channels[usize::from(id)]);
        match says {
            Says::NotFound if remote.is_some_and(|remote| remote.live && remote.tenant == 1) => {
                self.contradicts(id, |remote| remote.wrote.is_some());
                self.broken(Invariant::I8);
            }
            Says::NotConverging if usize::from(self.state.ghost.drifts) < MAX_REVERTS_OF_A_FIELD => {
                self.broken(Invariant::Converges);
            }
            Says::InSync if self.scenario.values => {
                let current = self.current(pass).is_some_and(|object| object.version == pass.object.version);
                let differs =
                    |remote: &Remote| remote.live && !remote.drifted && remote.value != pass.object.value;
                if current && remote.is_some_and(|remote| differs(&remote)) {
                    self.broken(Invariant::I15);
                }
            }
            Says::Failed => self.contradicts(id, |remote| remote.helped),
            _ => {}
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
        self.adopted(&mut pass, id);
        self.go_on(replica, slot, pass)
    }

    /// `born::bind` of an adoption: it takes over the origin of the channel that is handed over.
    pub fn adopted(&mut self, pass: &mut Pass, id: Id) {
        self.bound(pass, id, pass.predecessor.unwrap_or(true));
    }

    /// `born::bind`.
    pub fn bound(&mut self, pass: &mut Pass, id: Id, adopted: bool) {
        if pass.status.bound_uid != Some(pass.object.uid) {
            pass.status = Status::default();
        }
        pass.status.id = Some(id);
        pass.status.bound_uid = Some(pass.object.uid);
        pass.status.workspace = Some(pass.place.workspace);
        pass.status.adopted = Some(adopted);
        pass.status.create = None;
        self.knows(pass.object.uid, id);
        pass.memory.bound_here = self.scenario.values;
    }

    /// Whether the object, as the API server now has it, wants its channel kept.
    pub fn retained(&self, pass: &Pass) -> bool {
        self.current(pass).is_some_and(|object| {
            !delete::should_delete_remote(&real::channel(&object), &real::status(&object.status))
        })
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
    words.extend(object.elsewhere.then(|| "in another namespace".into()));
    words.extend((object.declared > 0).then(|| format!("declares value {}", object.value)));
    words.extend(object.suspended.then(|| "suspended".into()));
    words.extend((!object.finalizer).then(|| "no finalizer".into()));
    words.extend(object.terminating.then(|| "being deleted".into()));
    words.join(", ")
}
