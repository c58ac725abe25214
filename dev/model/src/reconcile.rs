//! A reconcile: what it reads, what the operator's own functions then decide, and what it reports.

use crate::decide::{self, Planned, Says};
use crate::guards::Guard;
use crate::lag::Seen;
use crate::properties::Invariant;
use crate::run::Run;
use crate::state::*;
use crate::{real, say, stored};
use ohallo_core::api::values::ReconcileResult;
use ohallo_core::channel::effect::{Answer, Applied, Next};
use ohallo_core::channel::in_memory_state::MAX_REVERTS_OF_A_FIELD;
use ohallo_core::channel::model::Outcome as Ended;
use ohallo_core::channel::observation::RemoteRead;
use ohallo_core::channel::plan::delete::{self, WorkspaceProbe};
use ohallo_core::channel::state::{AttemptChange, Reported, State as Real, StatusWrite, UserChange};
use ohallo_core::channel::stored::{failure, is_loss};
use ohallo_core::failure::Failure;
use ohallo_core::index;

// === impl Run ===

impl Run<'_> {
    /// Begins a reconcile of the object as this replica's cache has it: its reads, then the plan.
    pub fn begin(&mut self, replica: usize, name: usize, seen: Seen) -> bool {
        let own = self.state.replicas[replica];
        let Some(object) = own.cache[name] else { return false };
        if !self.state.leads(replica, own.epoch) || own.reconciles[name].is_some() {
            return false;
        }
        let mut memory = real::entered(&own.memory(object.uid), own.epoch, self.tracks());
        if !self.is_off(Guard::CacheLag) && real::outran(&memory, object.version) {
            return false;
        }
        if self.is_off(Guard::IdInMemory) {
            (memory.binding, memory.unstored) = (None, None);
        }
        let mut reconcile = self.started(&object, &memory, own.epoch);
        if self.is_off(Guard::BoundUid) {
            reconcile.status = object.status;
        }
        // `enter` and `note_read` change what is remembered before the reconcile begins.
        *self.replica(replica).memory_mut(object.uid) = reconcile.memory;
        if self.scenario.lags {
            self.replica(replica).windows.enter(own.epoch);
        }
        if let Some(task) = &mut self.replica(replica).reconciles[TASK]
            && !task.detached
            && task.object.uid == object.uid
        {
            task.detached = true;
            if !self.time_out() {
                return false;
            }
        }
        say!(self, "replica {replica} starts a reconcile of {}", shown(&object));
        if let (true, Some(lost)) = (reconcile.resends, reconcile.memory.lost) {
            let outcome = Ended::Failed(failure(&[stored::field(lost)]));
            self.conclude(replica, name, reconcile, &outcome, false);
            return true;
        }
        match self.observe(replica, &mut reconcile, seen) {
            None => false,
            Some(Ok(())) => self.go_on(replica, name, reconcile),
            Some(Err(failure)) => {
                self.conclude(replica, name, reconcile, &Ended::Failed(failure), false);
                true
            }
        }
    }

    /// The operator's own `State::begin`.
    fn started(&self, object: &Object, memory: &Memory, epoch: Epoch) -> Reconcile {
        let blank = Reconcile {
            object: *object,
            status: object.status,
            memory: *memory,
            attempt_change: AttemptChange::None,
            epoch,
            place: self.state.kube.place,
            read: Read::Unread,
            owner: false,
            predecessor: None,
            claims: None,
            window: Window::default(),
            updated: false,
            intent_written: None,
            resends: false,
            user_change: UserChange::None,
            retained: false,
            before: Before::default(),
            detached: false,
            at: At::Rest,
        };
        let id = object.status.id.or(object.spec_id).unwrap_or_default();
        let channel = real::channel(object, self.tracks());
        let begun = Real::begin(channel, real::remembered(memory, id), real::INTERVAL);
        real::reconcile(begun, &blank, self.tracks())
    }

    /// The reads of `observe.rs`. `None`: they can't be answered so.
    fn observe(
        &mut self,
        replica: usize,
        reconcile: &mut Reconcile,
        seen: Seen,
    ) -> Option<Result<(), Failure>> {
        let now = self.now(replica);
        let id = self.decided(reconcile, |state| state.own_id(now)).and_then(|id| real::number(&id));
        if let Some(id) = id {
            reconcile.window = self.window(replica, id);
        }
        if reconcile.object.terminating {
            if seen != Seen::Now {
                return None;
            }
            return match id {
                Some(id) => self.first_claims(replica, reconcile, id).then_some(Ok(())),
                None => Some(Ok(())),
            };
        }
        let read = if reconcile.object.suspended {
            RemoteRead::Nothing
        } else {
            self.decided(reconcile, |state| state.remote_read(&real::triggers(), now))
        };
        let result = match read {
            RemoteRead::Channel(of) => {
                if !self.read(replica, reconcile, real::number(of.as_str())?, seen) {
                    return None;
                }
                Ok(())
            }
            _ if seen != Seen::Now => return None,
            RemoteRead::Nothing | RemoteRead::Candidates | RemoteRead::Skip { .. } => Ok(()),
            RemoteRead::AnsweredChannel(of) => {
                let of = real::number(of.as_str())?;
                reconcile.window = self.window(replica, of);
                if !self.read(replica, reconcile, of, seen) {
                    return None;
                }
                self.change_state(reconcile, Real::resolve_conflicting_ids)
            }
        };
        if let Some(id) = id {
            self.observe_owner(replica, reconcile, id);
        }
        Some(result)
    }

    /// `claims::first`. `false`: cache and API server disagree, and the reconcile is deferred.
    fn first_claims(&mut self, replica: usize, reconcile: &mut Reconcile, id: Id) -> bool {
        let mut found = decide::rivals(self.known(replica), id, &reconcile.object, self.off);
        let bound = |object: &Object| {
            object.uid != reconcile.object.uid
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
        let now = self.now(replica);
        self.change_state(reconcile, |state| {
            if !state.waits_for_claims() {
                found.elsewhere = None;
            }
            state.see_claims(real::claims(found), now);
        });
        true
    }

    /// `observe::observe_owner`: what this reconcile has shown of the id, and who holds it.
    fn observe_owner(&mut self, replica: usize, reconcile: &mut Reconcile, id: Id) {
        let now = self.now(replica);
        let (shown, asks) = self.with_state(reconcile, |state| {
            let shown = state.shown(None, now);
            (shown, shown.is_some_and(|shown| state.asks_for_owner(shown)))
        });
        let Some(shown) = shown else { return };
        self.replica(replica).shown[usize::from(reconcile.object.uid) - 1] = match shown {
            index::Shown::Able => Shown::Able,
            index::Shown::Reads => Shown::Right,
            index::Shown::Nothing | index::Shown::Denied => Shown::Nothing,
        };
        if !asks || self.is_off(Guard::Owner) {
            return;
        }
        let (owned, from) = decide::owner(self.known(replica), id, &reconcile.object, self.off);
        let from = from
            .and_then(|from| self.known(replica).objects.iter().flatten().find(|o| o.uid == from).copied());
        let hands_over = from
            .filter(|from| delete::should_delete_remote(&self.channel(from), &real::status(&from.status)));
        reconcile.predecessor = hands_over.and_then(|from| from.status.adopted);
        reconcile.owner = owned && reconcile.predecessor.is_none();
    }

    /// A reconcile whose create continues has timed out.
    fn time_out(&mut self) -> bool {
        let left = &mut self.state.left.timeouts;
        let some = *left > 0;
        *left = left.saturating_sub(1);
        some
    }

    /// `observe::read`. `false`: it can't be answered so.
    fn read(&mut self, replica: usize, reconcile: &mut Reconcile, id: Id, seen: Seen) -> bool {
        let Some(shown) = self.sees(reconcile.place, id, seen) else { return false };
        match shown {
            _ if seen == Seen::Now => {}
            Some(look) => say!(self, "oHallo shows c{id} as it was: {look:?}"),
            None => say!(self, "oHallo answers 404 for c{id}, which is there"),
        }
        let (now, workspace) = (self.now(replica), reconcile.place.workspace);
        let probe = self.probe(reconcile);
        let first = self.change_state(reconcile, |state| match shown {
            Some(look) => {
                state.found(real::found(id, workspace, look), now);
                false
            }
            None => {
                let probes = state.not_found(now);
                if probes {
                    state.probed(&real::channel_id(id), probe, now);
                }
                probes
            }
        });
        if first && reconcile.read == Read::Stale && self.is_off(Guard::NotFoundTwice) {
            reconcile.read = Read::Absent { proven: true };
        }
        true
    }

    /// What a read of the workspace shows under this reconcile's key.
    pub fn probe(&self, reconcile: &Reconcile) -> WorkspaceProbe {
        let known = reconcile.status.workspace.filter(|_| !self.is_off(Guard::WorkspaceRecorded));
        let workspace = known.unwrap_or(reconcile.place.workspace);
        match reconcile.place {
            _ if self.is_off(Guard::Proof) => WorkspaceProbe::Found,
            Place { reads_workspaces: false, .. } if self.is_off(Guard::ReadWith) => WorkspaceProbe::Found,
            Place { reads_workspaces: false, .. } => WorkspaceProbe::Forbidden,
            Place { tenant, .. } if tenant == workspace => WorkspaceProbe::Found,
            Place { .. } => WorkspaceProbe::NotFound,
        }
    }

    /// Plans, and comes to the first effect of the next step or to the report.
    pub fn go_on(&mut self, replica: usize, slot: usize, mut reconcile: Reconcile) -> bool {
        reconcile.before = Before::default();
        let step = match decide::planned(self, replica, &reconcile) {
            Planned::Settled { says: Says::InFlight, .. } => {
                self.put(replica, slot, reconcile, At::Rest);
                return true;
            }
            Planned::Settled { mut status, says } => {
                self.judge_conclusion(replica, &reconcile, says);
                if self.is_off(Guard::UnresolvedIsRecorded) && says == Says::Unresolved {
                    status.create = reconcile.status.create;
                }
                reconcile.status = status;
                self.report(replica, slot, reconcile, true, false);
                return true;
            }
            Planned::Unmodelled => {
                self.broken(Invariant::Modelled);
                return true;
            }
            Planned::Step(step) => step,
        };
        match step {
            // Another create would not end within the bounds.
            Step::WriteIntent { .. }
                if self.state.left.posts == 0 || self.state.replicas[replica].reconciles[TASK].is_some() =>
            {
                return false;
            }
            Step::Adopt(id) => self.contradicts(Some(id), |remote| remote.wrote == Some(Wrote::Deleted)),
            Step::Update { id, drift } => {
                self.contradicts(Some(id), |remote| drift && matches!(remote.wrote, Some(Wrote::Value(_))));
            }
            Step::Retry { .. } if self.scenario.lags => {
                self.contradicts(reconcile.status.id, |remote| remote.helped);
            }
            _ => {}
        }
        let task = matches!(step, Step::PostCreate { .. } | Step::RecordId { .. });
        let to = if task { TASK } else { slot };
        if to != slot && self.state.replicas[replica].reconciles[TASK].is_some() {
            return false;
        }
        self.replica(replica).reconciles[slot] = None;
        let cursor = decide::order(step, self.off);
        // What needs no wait follows the plan at once.
        self.perform(replica, to, reconcile, (step, cursor), None)
    }

    fn judge_conclusion(&mut self, replica: usize, reconcile: &Reconcile, says: Says) {
        let known = self.state.replicas[replica].memory(reconcile.object.uid).attempt;
        // A DELETE that met a status without the id is decided again by the next reconcile, which restores the id.
        let bound = self.state.ghost.known[usize::from(reconcile.object.uid) - 1].is_some();
        let answered = matches!(known, Some(Attempt { outcome: Outcome::Answered(_), .. }))
            || (bound && !reconcile.object.terminating);
        let unnamed = reconcile.object.spec_id.is_none() && reconcile.status.id.is_none();
        if says == Says::Unresolved && answered && unnamed {
            self.broken(Invariant::AnswersAreRecorded);
        }
        let known = self.state.replicas[replica];
        let ranks = |object: &Object| {
            let bound = object.status.bound_uid == Some(object.uid);
            let shown = matches!(known.shown(object.uid), Shown::Able | Shown::Right);
            object.uid != reconcile.object.uid && (bound || shown || known.claims.contains(&Some(object.uid)))
        };
        if says == Says::Conflict && !known.cache.iter().flatten().any(ranks) {
            self.broken(Invariant::Ranks);
        }
        let id = reconcile.status.id.or(reconcile.object.spec_id);
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
                let current = self.current(reconcile);
                let current = current.is_some_and(|object| object.version == reconcile.object.version);
                let differs = |remote: &Remote| {
                    remote.live && !remote.drifted && remote.value != reconcile.object.value
                };
                if current && remote.is_some_and(|remote| differs(&remote)) {
                    self.broken(Invariant::I15);
                }
            }
            Says::Failed => self.contradicts(id, |remote| remote.helped),
            _ => {}
        }
    }

    /// What follows a task, in the reconcile that waits for it.
    pub fn after_task(&mut self, replica: usize, reconcile: Reconcile) -> Option<usize> {
        self.replica(replica).reconciles[TASK] = None;
        let name = reconcile.object.name();
        if reconcile.detached || self.state.replicas[replica].reconciles[name].is_some() {
            self.end(replica, TASK, &reconcile);
            return None;
        }
        Some(name)
    }

    /// What follows the last answer of a step.
    pub fn step_ended(&mut self, replica: usize, slot: usize, reconcile: Reconcile, next: Applied) -> bool {
        match next {
            Ok(Next::Finished) => {
                self.end(replica, slot, &reconcile);
                return true;
            }
            // The id of a create is written until that succeeds.
            Ok(Next::PlanAfterBackoff) => return self.go_on_in_task(replica, reconcile),
            Ok(Next::Plan) if slot == TASK => return self.go_on_in_task(replica, reconcile),
            Ok(Next::Plan) if reconcile.user_change < UserChange::Manifest => {
                return self.go_on(replica, slot, reconcile);
            }
            _ => {}
        }
        let slot = if slot == TASK { self.after_task(replica, reconcile) } else { Some(slot) };
        let Some(slot) = slot else { return true };
        let outcome = next.map_or_else(Ended::Failed, |_| Ended::More);
        self.conclude(replica, slot, reconcile, &outcome, false);
        true
    }

    fn go_on_in_task(&mut self, replica: usize, reconcile: Reconcile) -> bool {
        let planned = decide::planned(self, replica, &reconcile);
        if matches!(planned, Planned::Step(Step::RecordId { .. } | Step::PostCreate { .. })) {
            return self.go_on(replica, TASK, reconcile);
        }
        let Some(slot) = self.after_task(replica, reconcile) else { return true };
        if reconcile.user_change == UserChange::Manifest {
            self.conclude(replica, slot, reconcile, &Ended::More, false);
            return true;
        }
        self.go_on(replica, slot, reconcile)
    }

    /// Summarizes the outcome, and reports it.
    pub fn conclude(
        &mut self,
        replica: usize,
        slot: usize,
        mut reconcile: Reconcile,
        outcome: &Ended,
        settled: bool,
    ) {
        reconcile.status = decide::summarized(self, replica, &reconcile, outcome);
        let failed = matches!(outcome, Ended::Failed(_));
        if let (true, true, Read::Found(look)) = (failed, self.is_off(Guard::AppliedWhenSure), reconcile.read)
            && look.value == reconcile.object.value
        {
            reconcile.status.applied = Some(look.value);
        }
        self.report(replica, slot, reconcile, settled, is_loss(outcome));
    }

    /// Writes the status where it differs.
    fn report(&mut self, replica: usize, slot: usize, reconcile: Reconcile, settled: bool, loss: bool) {
        // What was read is in the status now.
        let reconcile = Reconcile {
            read: Read::Unread,
            owner: false,
            predecessor: None,
            claims: None,
            window: Window::default(),
            updated: false,
            attempt_change: reconcile.attempt_change.min(AttemptChange::Recorded),
            intent_written: None,
            before: Before::default(),
            ..reconcile
        };
        if reconcile.status == reconcile.object.status {
            self.reported(replica, slot, reconcile, None, settled, loss);
        } else {
            self.put(replica, slot, reconcile, At::Write { settled, loss });
        }
    }

    /// One write of the status at the end of a reconcile.
    pub fn write_report(
        &mut self,
        replica: usize,
        slot: usize,
        mut reconcile: Reconcile,
        fate: crate::kubernetes::Fate,
    ) {
        let now = self.now(replica);
        let sent = real::status(&reconcile.status);
        self.change_state(&mut reconcile, |state| state.prepare_status(&sent));
        self.remember(replica, &reconcile);
        let past = reconcile.object;
        let (answer, object) = self.write_status(replica, &reconcile, reconcile.status, fate);
        let Ok(answer) = answer else {
            self.replica(replica).reconciles[slot] = None;
            return;
        };
        let answer = self.shown_status(&reconcile, answer);
        let written =
            self.change_object(&mut reconcile, object, |state| state.status_answered(&sent, answer, now));
        self.forget_in_memory(&mut reconcile);
        self.remember(replica, &reconcile);
        match (reconcile.at, written) {
            // It was settled for the manifest that it knew.
            (At::Write { settled, loss }, StatusWrite::Repeat) => {
                let settled = settled && real::same_inputs(&past, &reconcile.object, self.tracks());
                self.put(replica, slot, reconcile, At::Write { settled, loss });
            }
            (at, StatusWrite::Repeat) => self.put(replica, slot, reconcile, at),
            (At::Write { settled, loss }, written) => {
                self.reported(replica, slot, reconcile, Some(written), settled, loss);
            }
            (_, written) => self.loss_reported(replica, slot, reconcile, Some(written)),
        }
    }

    /// The operator's own `State::reported`.
    fn reported(
        &mut self,
        replica: usize,
        slot: usize,
        mut reconcile: Reconcile,
        written: Option<StatusWrite>,
        settled: bool,
        loss: bool,
    ) {
        let now = self.now(replica);
        let outcome = if loss { Ended::Failed(failure(&[])) } else { Ended::More };
        let summary = real::summary(&reconcile.status);
        let reported = self.change_state(&mut reconcile, |state| {
            state.reported(&outcome, &summary, written, real::triggers(), 0.5, now)
        });
        self.forget_in_memory(&mut reconcile);
        match reported {
            Reported::Done(_, ReconcileResult::Conflict | ReconcileResult::Gone) => {
                self.remember(replica, &reconcile);
                self.replica(replica).reconciles[slot] = None;
            }
            Reported::Done(..) => {
                self.end(replica, slot, &reconcile);
                self.settled(&reconcile, settled);
            }
            Reported::NotStored(summary) => {
                say!(self, "and some of it is not stored");
                self.remember(replica, &reconcile);
                let status = real::read_back(&summary.status, self.tracks());
                let same = status == reconcile.status;
                reconcile.status = status;
                if same {
                    self.loss_reported(replica, slot, reconcile, None);
                } else {
                    self.put(replica, slot, reconcile, At::WriteLoss);
                }
            }
        }
    }

    /// The operator's own `State::loss_reported`.
    fn loss_reported(
        &mut self,
        replica: usize,
        slot: usize,
        mut reconcile: Reconcile,
        written: Option<StatusWrite>,
    ) {
        let now = self.now(replica);
        let summary = real::summary(&reconcile.status);
        let (_, result) = self.change_state(&mut reconcile, |state| {
            state.loss_reported(&summary, written, real::triggers(), now)
        });
        self.forget_in_memory(&mut reconcile);
        if result == ReconcileResult::Progressing {
            self.end(replica, slot, &reconcile);
        } else {
            self.remember(replica, &reconcile);
            self.replica(replica).reconciles[slot] = None;
        }
    }

    /// Whether the object, as the API server now has it, wants its channel kept.
    pub fn retained(&self, reconcile: &Reconcile) -> bool {
        self.current(reconcile).is_some_and(|object| {
            !delete::should_delete_remote(&self.channel(&object), &real::status(&object.status))
        })
    }

    /// What the answer shows of a status: all of it, without the guard that looks at it.
    pub fn shown_status(&self, reconcile: &Reconcile, answer: Answer) -> Answer {
        let skips = !self.scenario.kept || self.is_off(Guard::IdShown);
        match answer {
            Answer::Object(mut object) if skips => {
                let status = reconcile.before.record.unwrap_or(reconcile.status);
                object.status = Some(real::status(&status));
                Answer::Object(object)
            }
            answer => answer,
        }
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
