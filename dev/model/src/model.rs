//! What may happen next, and what it leads to.

use std::fmt::Arguments;

use ohallo_core::channel::effect::Effect;
use stateright::{Model, Property};

use crate::effects::{How, next_request};
use crate::guards::Guard;
use crate::kubernetes::Fate;
use crate::lag::{ABSENT, Seen};
use crate::ohallo::Turn;
use crate::properties::properties;
use crate::run::Run;
use crate::scenarios::{Kind, Scenario};
use crate::state::*;
use crate::{decide, real, say, stored};

/// The protocol in one scenario, with one guard off or none.
#[derive(Clone, Debug)]
pub struct Protocol {
    pub scenario: Scenario,
    pub off: Option<Guard>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The replica's cache catches up.
    Watch(usize),
    Begin(usize, usize, Seen),
    Step(usize, usize, How),
    Post(usize, Turn),
    Edit(Kind, usize),
    Crash(usize),
    TakeOver(usize),
    /// Time passes, as far as this replica's memory of an absence goes.
    Wait(usize),
    /// As long as a consistency window.
    EndWindows,
}

// === impl Protocol ===

impl Protocol {
    /// What the action leads to, told to `say` in words.
    pub fn apply(&self, last: &State, action: Action, say: &mut dyn FnMut(Arguments)) -> Option<State> {
        let mut run = Run { scenario: &self.scenario, off: self.off, state: last.clone(), say };
        let done = match action {
            Action::Watch(replica) => run.watch(replica),
            Action::Begin(replica, name, seen) => run.begin(replica, name, seen),
            Action::Step(replica, slot, how) => run.fault(how) && run.step(replica, slot, how),
            Action::Post(at, turn) => run.fault_of(at, turn) && run.turn(at, turn),
            Action::Edit(kind, name) => run.edit(kind, name),
            Action::Crash(replica) => run.crash(replica),
            Action::TakeOver(replica) => run.take_over(replica),
            Action::Wait(replica) => run.wait(replica),
            Action::EndWindows => run.end_windows(),
        };
        let mut state = run.state;
        state.normalize();
        (done && state != *last).then_some(state)
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.scenario.begin()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.ghost.broken != 0 {
            return;
        }
        for (at, replica) in state.replicas.iter().enumerate().take(self.scenario.replicas) {
            if replica.cache != state.kube.objects {
                actions.push(Action::Watch(at));
            }
            for (slot, reconcile) in replica.reconciles.iter().enumerate() {
                match reconcile {
                    Some(reconcile) => self.steps(at, slot, reconcile, state, actions),
                    None if slot != TASK => self.begins(at, slot, state, actions),
                    None => {}
                }
            }
            if state.left.crashes > 0 {
                actions.push(Action::Crash(at));
            }
            if self.scenario.replicas > 1 && !state.leads(at, state.lease.epoch) {
                actions.push(Action::TakeOver(at));
            }
            if replica.memory.iter().any(waits) && everybody_was_asked(replica) {
                actions.push(Action::Wait(at));
            }
        }
        let open = state.replicas.iter().any(|replica| replica.windows.any_open());
        if open || state.ohallo.channels.iter().flatten().any(|remote| remote.old != 0) {
            actions.push(Action::EndWindows);
        }
        for (at, post) in state.ohallo.posts.iter().enumerate() {
            if let Some(post) = post {
                self.turns(at, post, state, actions);
            }
        }
        if state.left.edits > 0 {
            let names = (0..NAMES).flat_map(|name| self.scenario.edits.iter().map(move |kind| (*kind, name)));
            actions.extend(names.map(|(kind, name)| Action::Edit(kind, name)));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        self.apply(last, action, &mut |_| {})
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties(self.scenario.name)
    }
}

impl Protocol {
    fn begins(&self, at: usize, slot: usize, state: &State, actions: &mut Vec<Action>) {
        actions.push(Action::Begin(at, slot, Seen::Now));
        if self.scenario.lags {
            let old = state.ohallo.channels.iter().flatten().fold(0, |old, remote| old | remote.old);
            let shapes = (0..u8::BITS as u8).filter(|shape| old & 1 << shape != 0);
            actions.extend(shapes.map(|shape| Action::Begin(at, slot, Seen::Older(shape))));
            actions.extend((state.left.lies > 0).then_some(Action::Begin(at, slot, Seen::Lie)));
        }
    }

    fn turns(&self, at: usize, post: &Post, state: &State, actions: &mut Vec<Action>) {
        let run = Run { scenario: &self.scenario, off: self.off, state: state.clone(), say: &mut |_| {} };
        let mut turns = Vec::new();
        match (post.made, post.to) {
            (Some(_), Some(_)) => turns.extend([Turn::Answer, Turn::LoseAnswer]),
            // oHallo does not know the workspace under this key.
            (None, Some(_)) if post.tenant != post.workspace => {
                turns.extend([Turn::Refuse, Turn::LoseAnswer])
            }
            (None, _) if run.conflicts(post) => turns.push(Turn::Conflict),
            (None, Some(_)) => turns.extend([Turn::Land, Turn::Refuse, Turn::LoseAnswer]),
            (None, None) if post.tenant != post.workspace => turns.push(Turn::Vanish),
            (None, None) => turns.extend([Turn::Land, Turn::Vanish]),
            (Some(_), None) => {}
        }
        actions.extend(turns.into_iter().map(|turn| Action::Post(at, turn)));
    }

    /// How the next transition of a reconcile may fare.
    fn steps(
        &self,
        replica: usize,
        slot: usize,
        reconcile: &Reconcile,
        state: &State,
        actions: &mut Vec<Action>,
    ) {
        let mut hows = vec![How::Write(Fate::Well)];
        let both = [How::Write(Fate::LostAfter), How::Write(Fate::LostBefore)];
        let lost = both.into_iter().filter(|_| state.left.lost > 0);
        let faults = both.into_iter().filter(|_| state.left.faults > 0);
        let request = match reconcile.at {
            At::Effect { cursor, .. } => next_request(cursor),
            At::Waiting { .. } => return,
            At::Write { .. } | At::WriteLoss | At::Rest => Some(Effect::WriteAhead),
        };
        match request {
            Some(Effect::PostChannel) => hows.extend((state.left.faults > 0).then_some(How::NotSent)),
            Some(Effect::PostRetry | Effect::PostTest) if !self.scenario.lags => {}
            Some(Effect::DeleteChannel | Effect::PatchChannel | Effect::PostRetry | Effect::PostTest) => {
                hows.extend(faults);
                let deletes = request == Some(Effect::DeleteChannel);
                hows.extend((state.left.lies > 0 && deletes).then_some(How::Lie));
                let remote = reconcile.status.id.and_then(|id| state.ohallo.channels[usize::from(id)]);
                let hidden = remote.is_some_and(|remote| remote.live && remote.may_show(ABSENT));
                hows.extend(hidden.then_some(How::Lagging));
            }
            Some(
                Effect::WriteIntent
                | Effect::WriteFinalizer
                | Effect::WriteMetadata
                | Effect::WriteId
                | Effect::WriteAhead
                | Effect::RemoveFinalizer,
            ) => hows.extend(lost),
            _ => {}
        }
        if state.left.strips > 0 {
            hows.extend(stored::strips(reconcile).into_iter().map(|strip| How::Write(Fate::Strips(strip))));
        }
        actions.extend(hows.into_iter().map(|how| Action::Step(replica, slot, how)));
    }
}

// === impl Run ===

impl Run<'_> {
    /// Whether a fault of this kind may still happen to a step.
    fn fault(&mut self, how: How) -> bool {
        let left = &mut self.state.left;
        match how {
            How::Write(Fate::Well) => true,
            How::Write(Fate::Strips(_)) => spend(&mut left.strips),
            How::Write(_) if left.lost > 0 => spend(&mut left.lost),
            How::Write(_) | How::NotSent => spend(&mut left.faults),
            How::Lie => spend(&mut left.lies),
            How::Lagging => true,
        }
    }

    fn fault_of(&mut self, at: usize, turn: Turn) -> bool {
        let lost = self.state.ohallo.posts[at].is_some_and(|post| post.tenant != post.workspace);
        match turn {
            Turn::Refuse if lost => true,
            Turn::Refuse | Turn::LoseAnswer => spend(&mut self.state.left.faults),
            _ => true,
        }
    }

    fn watch(&mut self, replica: usize) -> bool {
        let (new, tracks) = (self.state.kube.objects, self.tracks());
        let own = self.replica(replica);
        let known = decide::Known { objects: &own.cache, claims: &own.claims, shown: &own.shown };
        own.claims = decide::claims_left(known, &new);
        for (old, new) in own.cache.iter().zip(&new) {
            if let Some(old) = old
                && new.is_none_or(|new| new.uid != old.uid)
            {
                own.memory[usize::from(old.uid) - 1] = Memory::default();
            }
            if let Some(old) = old {
                let shown = &mut own.shown[usize::from(old.uid) - 1];
                let same = new.filter(|new| new.uid == old.uid && new.spec_id == old.spec_id);
                match same {
                    None => *shown = Shown::Unasked,
                    Some(new) if *shown == Shown::Able && !real::same_inputs(&new, old, tracks) => {
                        *shown = Shown::Right
                    }
                    Some(_) => {}
                }
            }
        }
        own.cache = new;
        say!(self, "replica {replica} sees the objects as they are");
        true
    }

    fn crash(&mut self, replica: usize) -> bool {
        say!(self, "replica {replica} is killed and restarts: it remembers nothing");
        self.state.left.crashes -= 1;
        self.state.ghost.known = Default::default();
        // Only the record is left, which says what a person wrote.
        self.state.ghost.hasty |= self.state.ghost.forged;
        let keeps = self.scenario.replicas == 1;
        // Of an object that is gone nothing tells the new process.
        let held = |id: usize| {
            let mut objects = self.state.kube.objects.iter().flatten();
            objects.any(|object| object.status.id == Some(id as Id) && object.terminating)
        };
        let untold: Vec<_> = (0..IDS).filter(|id| !held(*id)).collect();
        for id in untold {
            if let Some(remote) = &mut self.state.ohallo.channels[id] {
                remote.wrote.take_if(|wrote| *wrote == Wrote::Deleted);
            }
        }
        let objects = self.state.kube.objects;
        let own = self.replica(replica);
        let epoch = if keeps { own.epoch } else { 0 };
        // It begins with a list, which is never old.
        *own = Replica { cache: objects, epoch, ..Replica::default() };
        for post in &mut self.state.ohallo.posts {
            if let Some(post) = post {
                post.to.take_if(|to| *to == replica);
            }
            post.take_if(|post| post.to.is_none() && post.made.is_some());
        }
        true
    }

    fn take_over(&mut self, replica: usize) -> bool {
        if !spend(&mut self.state.left.takeovers) {
            return false;
        }
        self.state.lease = Lease { holder: replica, epoch: self.state.lease.epoch + 1 };
        let epoch = self.state.lease.epoch;
        self.replica(replica).epoch = epoch;
        say!(self, "replica {replica} leads, in epoch {epoch}");
        if self.scenario.lags {
            // A leader whose cache lags may send an older manifest, which no later process knows of.
            self.watch(replica);
        }
        true
    }

    fn wait(&mut self, replica: usize) -> bool {
        for memory in &mut self.replica(replica).memory {
            for noted in [&mut memory.absent, &mut memory.asked] {
                noted.pass_time();
            }
            if let Some(wait) = &mut memory.wait {
                wait.beside_free.pass_time();
                wait.free.pass_time();
            }
        }
        say!(self, "some time passes");
        true
    }
}

/// Whether anything in this memory depends on the time that has passed.
fn waits(memory: &Memory) -> bool {
    let wait = memory.wait.map_or([Absent::Never; 2], |wait| [wait.beside_free, wait.free]);
    [memory.absent, memory.asked].into_iter().chain(wait).any(|noted| noted == Absent::Now)
}

/// In the time that a deletion waits every Channel that names an id is reconciled.
fn everybody_was_asked(replica: &Replica) -> bool {
    let names = |object: &&Object| {
        object.spec_id.is_some() && !object.terminating && object.status.bound_uid != Some(object.uid)
    };
    let mut all = replica.cache.iter().flatten().filter(names);
    all.all(|object| replica.shown(object.uid) != Shown::Unasked)
}

fn spend(left: &mut u8) -> bool {
    let some = *left > 0;
    *left = left.saturating_sub(1);
    some
}
