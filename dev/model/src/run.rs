//! One transition: the state that it works on, the guard that is off, and a sentence for the trace.

use std::fmt::Arguments;

use crate::decide;
use crate::guards::Guard;
use crate::properties::Invariant;
use crate::real::{Facts, Tracks};
use crate::scenarios::Scenario;
use crate::state::*;

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

    pub fn facts(&self, pass: &Pass) -> Facts {
        Facts {
            object: pass.object,
            status: pass.status,
            memory: pass.memory,
            place: pass.place,
            read: pass.read,
            owner: pass.owner,
            predecessor: pass.predecessor,
            claims: pass.claims,
            window: pass.window,
            updated: pass.updated,
            tracks: self.tracks(),
        }
    }

    pub fn tracks(&self) -> Tracks {
        let Scenario { lags, values, retries, kept, .. } = *self.scenario;
        Tracks { lags, values, retries, kept }
    }

    /// Whether an effect of this pass may begin.
    pub fn fence(&self, replica: usize, pass: &Pass) -> bool {
        self.is_off(Guard::EpochFence) || self.state.leads(replica, pass.epoch)
    }

    /// The object of this pass, as the API server has it.
    pub fn current(&self, pass: &Pass) -> Option<Object> {
        self.state.kube.objects[pass.object.name()].filter(|object| object.uid == pass.object.uid)
    }

    /// Goes on with a pass.
    pub fn put(&mut self, replica: usize, slot: usize, pass: Pass, at: At) {
        self.replica(replica).runs[slot] = Some(Pass { at, ..pass });
    }

    /// What this replica knows of the objects.
    pub fn known(&self, replica: usize) -> decide::Known<'_> {
        let Replica { cache, claims, shown, .. } = &self.state.replicas[replica];
        decide::Known { objects: cache, claims, shown }
    }

    /// The pass ends, and what it knows is remembered. An adoption that did not come to a binding is given up.
    pub fn end(&mut self, replica: usize, slot: usize, pass: &Pass) {
        self.remember(replica, pass);
        let unbound = pass.status.bound_uid != Some(pass.object.uid);
        let unsure = pass.memory.binding_unsure && !self.is_off(Guard::UnsureKeepsClaim);
        if unbound && !unsure && !pass.object.terminating {
            self.unclaim(replica, pass.object.uid);
        }
        self.replica(replica).runs[slot] = None;
    }

    /// The reservations of an object end.
    pub fn unclaim(&mut self, replica: usize, uid: Uid) {
        for claim in &mut self.replica(replica).claims {
            claim.take_if(|held| *held == uid);
        }
    }

    pub fn remember(&mut self, replica: usize, pass: &Pass) {
        let owns = pass.owns_attempt || self.is_off(Guard::TaskTellsOfItself);
        let cell = self.replica(replica).memory_mut(pass.object.uid);
        *cell = crate::rules::succeeded_by(cell, &pass.memory, owns);
    }

    /// Ends a pass whose step failed for a while: what the status then says is written.
    pub fn fail(&mut self, replica: usize, slot: usize, mut pass: Pass) {
        pass.status = decide::failed(&self.facts(&pass), self.off);
        if let (Read::Found(look), true) = (pass.read, self.is_off(Guard::AppliedWhenSure))
            && look.value == pass.object.value
        {
            pass.status.applied = Some(look.value);
        }
        self.report(replica, slot, pass, false);
    }

    /// Writes the status where it differs.
    pub fn report(&mut self, replica: usize, slot: usize, mut pass: Pass, settled: bool) {
        if pass.status == pass.object.status {
            pass.memory.seen = self.scenario.values;
            self.end(replica, slot, &pass);
            self.settled(&pass, settled);
        } else {
            // What was read is in the status now.
            let pass = Pass {
                read: Read::Unread,
                owner: false,
                predecessor: None,
                claims: None,
                window: Window::default(),
                updated: false,
                ..pass
            };
            self.put(replica, slot, pass, At::Write { settled });
        }
    }

    /// The operator has looked at this version and left nothing to do.
    pub fn settled(&mut self, pass: &Pass, settled: bool) {
        let seen = self.current(pass).is_some_and(|object| object.version == pass.object.version);
        if settled && self.scenario.kept {
            self.judge_ready(pass);
        }
        if settled && seen {
            self.state.ghost.settled[pass.object.name()] = true;
            self.state.ghost.forced[pass.object.name()] = false;
        }
    }
}
