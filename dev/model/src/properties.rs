//! What must always hold, and what must happen at least once in a scenario.

use stateright::Property;

use crate::model::Protocol;
use crate::real;
use crate::scenarios::Name;
use crate::state::*;

macro_rules! invariants {
    ($($invariant:ident $says:literal)*) => {
        /// What must never be broken; the first ones are numbered as in the project's list of invariants.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Invariant { $(#[doc = $says] $invariant),* }

        impl Invariant {
            pub const ALL: &'static [Self] = &[$(Self::$invariant),*];

            pub fn says(self) -> &'static str {
                match self { $(Self::$invariant => $says),* }
            }
        }

        fn always() -> Vec<Property<Protocol>> {
            vec![$(Property::always($says, |_, state: &State| Invariant::$invariant.holds(state))),*]
        }
    };
}

invariants! {
    I1 "I1: never two live channels for one Channel object"
    I2 "I2: deleted and gone means no channel left; retained means no DELETE"
    I7 "I7: no write under a key of another workspace than the recorded one"
    I8 "I8: a 404 alone never means gone"
    I9 "I9: one id is bound and driven by one Channel"
    I13 "I13: a test or retry is sent at most once per request"
    I17 "I17: the finalizer goes only if kept by policy, absent by proof, handed over, or released by name"
    I15 "I15: Ready for the current generation means that oHallo has the declared value"
    I23 "I23: what another Channel claims is deleted only on the word of its owner"
    I24 "I24: within the consistency window no verdict contradicts our own last write"
    I25 "I25: no create without an intent that the API server showed, and no Ready with an id that no status holds"
    Converges "NotConverging only where somebody else changed the value three times"
    Ranks "only who is bound or was shown to read an id stands in another's way"
    IdsAreKept "an id in the status is never lost"
    AnswersAreRecorded "an id that a living process was answered is written down"
    ManifestNames "an id is never bound against the manifest"
    NothingInVain "no reconcile writes over an object that it knows to be older than its process's own write"
    AttemptsEnd "no attempt counts as under way when none is"
    Modelled "every step that the operator takes is modelled"
}

/// What a scenario must lead to, else it shows nothing.
pub fn properties(scenario: Name) -> Vec<Property<Protocol>> {
    let mut all = always();
    match scenario {
        Name::Create => {
            sometimes(&mut all, "created", |_, s| bound(s, false));
            sometimes(&mut all, "adopted", |_, s| bound(s, true));
            sometimes(&mut all, "parked", |_, s| parked(s));
            sometimes(&mut all, "created after create-again", |_, s| {
                bound(s, false) && object(s, |o| o.create_again.is_some())
            });
            sometimes(&mut all, "deleted", |_, s| removed(s, DeletionOutcome::Deleted));
            sometimes(&mut all, "released", |_, s| removed(s, DeletionOutcome::Released));
            sometimes(&mut all, "nothing was there", |_, s| removed(s, DeletionOutcome::NeverCreated));
            sometimes(&mut all, "applied again and created again", |_, s| {
                object(s, |o| o.uid == 2 && o.status.bound_uid == Some(2))
            });
        }
        Name::Conflicts => sometimes(&mut all, "a conflict parks", |_, s| s.ghost.conflicted && parked(s)),
        Name::Edits => {
            sometimes(&mut all, "parked without an intent", |_, s| {
                parked(s) && object(s, |o| o.intent.is_none())
            });
            sometimes(&mut all, "the finalizer forced off", |_, s| {
                s.ghost.gone.contains(&Some(Gone::Forced))
            });
            sometimes(&mut all, "deleted", |_, s| removed(s, DeletionOutcome::Deleted));
        }
        Name::Copies => {
            sometimes(&mut all, "a copy goes and leaves what is not its own", |_, s| {
                s.ghost.gone[2].is_some()
            });
            sometimes(&mut all, "a restored object is there", |_, s| object(s, |o| o.uid == 2));
            sometimes(&mut all, "retained", |_, s| s.ghost.gone[0] == Some(Gone::Kept));
            sometimes(&mut all, "parked by a copied intent", |_, s| {
                object(s, |o| {
                    o.uid == 2
                        && o.status.create.is_some()
                        && o.intent.is_some_and(|intent| intent.of.uid == 1)
                })
            });
        }
        Name::Ownership => {
            sometimes(&mut all, "the second adopts", |_, s| {
                object(s, |o| o.uid == 3 && o.status.id.is_some())
            });
            sometimes(&mut all, "the first adopts", |_, s| {
                object(s, |o| o.uid == 1 && o.status.id.is_some())
            });
            sometimes(&mut all, "the second adopts what the first left", |_, s| {
                s.ghost.gone[0].is_some() && object(s, |o| o.uid == 3 && o.status.id.is_some())
            });
        }
        Name::HandOver => {
            sometimes(&mut all, "handed over", |_, s| removed(s, DeletionOutcome::HandedOver));
            sometimes(&mut all, "handed over with its origin", |_, s| {
                s.ghost.gone[0] == Some(Gone::Removed(DeletionOutcome::HandedOver)) && bound(s, true)
            });
            sometimes(&mut all, "the deletion waits for a claim", |_, s| {
                object(s, |o| o.status.waits == Some(true))
            });
            sometimes(&mut all, "deleted", |_, s| removed(s, DeletionOutcome::Deleted));
        }
        Name::Tenants => {
            sometimes(&mut all, "the deletion waits for its owner's word", |_, s| {
                object(s, |o| o.status.waits == Some(false))
            });
            sometimes(&mut all, "deleted on its owner's word", |_, s| {
                s.ghost.gone[0] == Some(Gone::Removed(DeletionOutcome::Deleted))
                    && object(s, |o| o.uid == 3 && o.elsewhere)
            });
            sometimes(&mut all, "deleted", |_, s| removed(s, DeletionOutcome::Deleted));
            sometimes(&mut all, "what can't use the id holds a deletion back", |_, s| {
                object(s, |o| o.status.waits == Some(true)) && object(s, |o| o.suspended)
            });
        }
        Name::Absence | Name::Blind => {
            sometimes(&mut all, "deleted", |_, s| removed(s, DeletionOutcome::Deleted));
            sometimes(&mut all, "gone by proof", |_, s| {
                removed(s, DeletionOutcome::Deleted) && s.replicas[0].memory[0].absent == Absent::LongAgo
            });
            if scenario == Name::Absence {
                sometimes(&mut all, "released", |_, s| removed(s, DeletionOutcome::Released));
            }
        }
        Name::Deletion => {
            sometimes(&mut all, "deleted", |_, s| removed(s, DeletionOutcome::Deleted));
            sometimes(&mut all, "retained", |_, s| s.ghost.gone.contains(&Some(Gone::Kept)));
        }
        Name::Requests => {
            sometimes(&mut all, "tested", |_, s| s.ghost.tests[0][1] == 1);
            sometimes(&mut all, "tested twice for two requests", |_, s| s.ghost.tests[0][2] == 1);
            sometimes(&mut all, "tested by the second replica", |_, s| {
                s.ghost.tests[0][1] == 1 && s.lease.holder == 1 && s.left.edits == 0
            });
        }
        Name::Retries => sometimes(&mut all, "retried", |_, s| s.ghost.retries[0][1] == 1),
        Name::Replicas => {
            sometimes(&mut all, "created", |_, s| bound(s, false));
            sometimes(&mut all, "taken over by the second replica", |_, s| s.ghost.second && bound(s, false));
            sometimes(&mut all, "parked", |_, s| parked(s));
            sometimes(&mut all, "created after create-again", |_, s| {
                bound(s, false) && object(s, |o| o.create_again.is_some())
            });
        }
        Name::Lag => {
            sometimes(&mut all, "created", |_, s| bound(s, false));
            sometimes(&mut all, "deleted while reads lag", |_, s| {
                removed(s, DeletionOutcome::Deleted)
                    && s.ohallo.channels[2].is_some_and(|remote| remote.old != 0)
            });
            sometimes(&mut all, "a 404 after the window is noted", |_, s| {
                s.replicas[0].memory.iter().any(|memory| memory.absent == Absent::Now)
            });
            sometimes(&mut all, "handed over", |_, s| removed(s, DeletionOutcome::HandedOver));
        }
        Name::LagValues => {
            sometimes(&mut all, "Ready", |_, s| object(s, |o| o.status.ready == real::generation(o)));
            sometimes(&mut all, "a person's value is put back", |_, s| {
                s.ghost.drifts > 0 && s.ohallo.channels[0].is_some_and(|remote| !remote.drifted)
            });
            sometimes(&mut all, "oHallo reverts again and again", |_, s| {
                s.replicas[0].memory[0].reverts.contested
            });
            sometimes(&mut all, "Ready after a manifest that changed back", |_, s| {
                object(s, |o| o.declared == 2 && o.status.ready == real::generation(o))
            });
        }
        Name::LagReplicas => {
            sometimes(&mut all, "Ready under the second replica", |_, s| {
                s.lease.holder == 1 && object(s, |o| o.status.ready == real::generation(o))
            });
            sometimes(&mut all, "Ready under the first one again", |_, s| {
                s.lease == Lease { holder: 0, epoch: 3 }
                    && object(s, |o| o.declared == 2 && o.status.ready == real::generation(o))
            });
        }
        Name::Stripped => {
            sometimes(&mut all, "created", |_, s| bound(s, false));
            sometimes(&mut all, "an id is in memory alone", |_, s| {
                s.replicas[0].memory[0].lost == Some(Strip::Id) && s.quiet()
            });
            sometimes(&mut all, "bound after all", |_, s| bound(s, false) && s.left.strips == 0);
            sometimes(&mut all, "adopted", |_, s| bound(s, true) && s.left.strips == 0);
            sometimes(&mut all, "deleted", |_, s| removed(s, DeletionOutcome::Deleted) && s.left.strips == 0);
        }
        Name::Forged => {
            sometimes(&mut all, "parked", |_, s| parked(s));
            sometimes(&mut all, "a person's word is believed", |_, s| s.ghost.hasty);
            sometimes(&mut all, "deleted", |_, s| removed(s, DeletionOutcome::Deleted));
        }
        Name::Borrowed => {
            sometimes(&mut all, "two Channels say the same id", |_, s| {
                let [Some(a), Some(b)] = s.kube.objects else { return false };
                a.status.id.is_some() && a.status.id == b.status.id
            });
            sometimes(&mut all, "what is not its own is left", |_, s| s.ghost.gone[2] == Some(Gone::Kept));
        }
        Name::LagRetries => {
            sometimes(&mut all, "the retry helped", |_, s| {
                object(s, |o| o.status.retry.is_some()) && s.ohallo.channels[0].is_some_and(|r| !r.failing)
            });
            sometimes(&mut all, "provisioning fails again after the retry", |_, s| {
                object(s, |o| o.status.retry == Some((0, 1)))
                    && s.ohallo.channels[0].is_some_and(|r| r.failing && r.old == 0)
            });
        }
    }
    all
}

fn sometimes(all: &mut Vec<Property<Protocol>>, name: &'static str, holds: fn(&Protocol, &State) -> bool) {
    all.push(Property::sometimes(name, holds));
}

fn object(state: &State, holds: fn(&Object) -> bool) -> bool {
    state.kube.objects.iter().flatten().any(holds)
}

fn bound(state: &State, adopted: bool) -> bool {
    let is = |object: &Object| object.status.id.is_some() && object.status.adopted == Some(adopted);
    state.kube.objects.iter().flatten().any(is)
}

fn parked(state: &State) -> bool {
    let is =
        |o: &Object| o.status.create.is_some_and(|(_, word)| word == Word::Unknown) && o.status.id.is_none();
    state.kube.objects.iter().flatten().any(is)
}

fn removed(state: &State, outcome: DeletionOutcome) -> bool {
    state.ghost.gone.contains(&Some(Gone::Removed(outcome)))
}

// === impl Invariant ===

impl Invariant {
    pub fn bit(self) -> u32 {
        1 << self as u16
    }

    pub fn holds(self, state: &State) -> bool {
        let broken = state.ghost.broken & self.bit() != 0;
        !broken
            && match self {
                Self::I2 => !state.quiet() || state.excused() || !left_behind(state),
                Self::AttemptsEnd => attempts_end(state),
                // A new leader's cache may lag: then it is judged where a pass says so.
                Self::I15 if state.lease.epoch == 1 => {
                    state.kube.objects.iter().flatten().all(|object| ready_is_true(object, state))
                }
                _ => true,
            }
    }
}

/// A channel is left of an object that went as if none were.
fn left_behind(state: &State) -> bool {
    state.ghost.gone.iter().enumerate().any(|(at, gone)| {
        let nothing = matches!(
            gone,
            Some(Gone::Unmarked | Gone::Removed(DeletionOutcome::NeverCreated | DeletionOutcome::Deleted))
        );
        nothing && state.made(at as Uid + 1).count() > 0
    })
}

/// What a person wrote in the dashboard since is not known yet.
fn ready_is_true(object: &Object, state: &State) -> bool {
    let remote = object.status.id.and_then(|id| state.ohallo.channels[usize::from(id)]);
    object.status.ready == 0
        || object.terminating
        || object.status.ready != real::generation(object)
        || remote.is_none_or(|remote| !remote.live || remote.drifted || remote.value == object.value)
}

fn attempts_end(state: &State) -> bool {
    state.replicas.iter().all(|replica| {
        replica.reconciles[TASK].is_some()
            || replica
                .memory
                .iter()
                .all(|memory| !matches!(memory.attempt, Some(Attempt { outcome: Outcome::InFlight, .. })))
    })
}
