//! One transition: the state that it works on, the guard that is off, and a sentence for the trace.

use std::fmt::Arguments;

use crate::guards::Guard;
use crate::properties::Invariant;
use crate::real::Tracks;
use crate::scenarios::Scenario;
use crate::state::*;
use crate::{decide, real};
use ohallo_core::api::channel::Channel;
use ohallo_core::channel::consistency;
use ohallo_core::channel::state::{AttemptChange, Now, State as RealState};

pub struct Run<'a> {
    pub scenario: &'a Scenario,
    pub off: Option<Guard>,
    pub state: State,
    pub say: &'a mut dyn FnMut(Arguments),
}

/// Says a sentence of the trace.
#[macro_export]
macro_rules! say {
    ($run:expr, $($text:tt)*) => { ($run.say)(format_args!($($text)*)) };
}

// === impl Run ===

impl Run<'_> {
    pub fn is_off(&self, guard: Guard) -> bool {
        self.off == Some(guard)
    }

    pub fn broken(&mut self, invariant: Invariant) {
        // Without a guard the very invariant that it is for must break.
        if self.off.is_none_or(|off| off.breaks() == invariant) {
            self.state.ghost.broken |= invariant.bit();
        }
    }

    pub fn replica(&mut self, replica: usize) -> &mut Replica {
        &mut self.state.replicas[replica]
    }

    /// Which process it is: no two write an intent at the same time.
    pub fn process(&self, replica: usize) -> u8 {
        let crashes = self.scenario.left.crashes - self.state.left.crashes;
        replica as u8 + 2 * crashes
    }

    /// The time of this replica's process.
    pub fn now(&self, replica: usize) -> Now {
        real::now(self.process(replica))
    }

    pub fn channel(&self, object: &Object) -> Channel {
        real::channel(object, self.tracks())
    }

    /// The operator's own state of this reconcile.
    pub fn state_of(&self, reconcile: &Reconcile) -> RealState {
        let window = if self.scenario.lags {
            decide::window(&reconcile.window, &reconcile.object, self.off)
        } else {
            consistency::Window::default()
        };
        real::state(reconcile, window, self.tracks())
    }

    /// Asks the operator's own functions. A guard that is off hands them a mangled state.
    pub fn decided<T>(&self, reconcile: &Reconcile, ask: impl FnOnce(&RealState) -> T) -> T {
        ask(&decide::mangled(self, reconcile))
    }

    /// Asks the state as it is.
    pub fn with_state<T>(&self, reconcile: &Reconcile, ask: impl FnOnce(&RealState) -> T) -> T {
        ask(&self.state_of(reconcile))
    }

    /// Changes the state by a function of the operator's.
    pub fn change_state<T>(&self, reconcile: &mut Reconcile, change: impl FnOnce(&mut RealState) -> T) -> T {
        let mut state = self.state_of(reconcile);
        let changed = change(&mut state);
        *reconcile = real::reconcile(state, reconcile, self.tracks());
        changed
    }

    /// The same, with an answer that holds this object: the state may take it over.
    pub fn change_object<T>(
        &self,
        reconcile: &mut Reconcile,
        answered: Option<Object>,
        change: impl FnOnce(&mut RealState) -> T,
    ) -> T {
        let mut state = self.state_of(reconcile);
        let changed = change(&mut state);
        let version = state.object().metadata.resource_version.clone();
        *reconcile = real::reconcile(state, reconcile, self.tracks());
        let taken = |object: &Object| version == Some(object.version.to_string());
        if let Some(object) = answered.filter(taken) {
            reconcile.object = object;
        }
        changed
    }

    /// Without the guard, a process does not remember what it saw bound.
    pub fn forget_in_memory(&self, reconcile: &mut Reconcile) {
        if self.is_off(Guard::IdInMemory) {
            (reconcile.memory.binding, reconcile.memory.unstored) = (None, None);
        }
    }

    pub fn tracks(&self) -> Tracks {
        let Scenario { lags, values, retries, kept, .. } = *self.scenario;
        Tracks { lags, values, retries, kept }
    }

    /// Whether an effect of this reconcile may begin.
    pub fn fence(&self, replica: usize, reconcile: &Reconcile) -> bool {
        self.is_off(Guard::EpochFence) || self.state.leads(replica, reconcile.epoch)
    }

    /// The object of this reconcile, as the API server has it.
    pub fn current(&self, reconcile: &Reconcile) -> Option<Object> {
        self.state.kube.objects[reconcile.object.name()].filter(|object| object.uid == reconcile.object.uid)
    }

    /// Goes on with a reconcile.
    pub fn put(&mut self, replica: usize, slot: usize, reconcile: Reconcile, at: At) {
        self.replica(replica).reconciles[slot] = Some(Reconcile { at, ..reconcile });
    }

    /// What this replica knows of the objects.
    pub fn known(&self, replica: usize) -> decide::Known<'_> {
        let Replica { cache, claims, shown, .. } = &self.state.replicas[replica];
        decide::Known { objects: cache, claims, shown }
    }

    /// The reconcile ends, and what it knows is remembered. An adoption that did not come to a binding is given up.
    pub fn end(&mut self, replica: usize, slot: usize, reconcile: &Reconcile) {
        self.remember(replica, reconcile);
        let unbound = reconcile.status.bound_uid != Some(reconcile.object.uid);
        let unsure = reconcile.memory.binding_unsure && !self.is_off(Guard::UnsureKeepsClaim);
        if unbound && !unsure && !reconcile.object.terminating {
            self.unclaim(replica, reconcile.object.uid);
        }
        self.replica(replica).reconciles[slot] = None;
    }

    /// The reservations of an object end.
    pub fn unclaim(&mut self, replica: usize, uid: Uid) {
        for claim in &mut self.replica(replica).claims {
            claim.take_if(|held| *held == uid);
        }
    }

    pub fn remember(&mut self, replica: usize, reconcile: &Reconcile) {
        let owns =
            reconcile.attempt_change != AttemptChange::None || self.is_off(Guard::ResultOutlivesReconcile);
        let cell = self.replica(replica).memory_mut(reconcile.object.uid);
        *cell = real::succeeded_by(cell, &reconcile.memory, owns);
    }

    /// The operator has looked at this version and left nothing to do.
    pub fn settled(&mut self, reconcile: &Reconcile, settled: bool) {
        let seen = self.current(reconcile).is_some_and(|object| object.version == reconcile.object.version);
        if settled && self.scenario.kept {
            self.judge_ready(reconcile);
        }
        if settled && seen {
            self.state.ghost.settled[reconcile.object.name()] = true;
            self.state.ghost.forced[reconcile.object.name()] = false;
        }
    }
}
