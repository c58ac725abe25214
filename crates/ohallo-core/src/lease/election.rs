//! The state machine of leader election: the next request for the Lease, and the effect of each response. It reads no
//! clock and makes no calls.

use std::time::Instant;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use crate::lease::{
    LeaseDurations, LeaseState, ObservedLease, released, renewed, taken, transitions, unchanged,
};

/// One period of holding the Lease; a new acquisition is a new epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch {
    /// How often this process has acquired it: two epochs of one process differ whatever happens to the Lease.
    pub term: u32,
    /// The Lease's own count.
    pub transitions: i32,
}

/// An epoch, and until when its effects can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseHold {
    pub epoch: Epoch,
    pub until: Instant,
}

/// A request to the API server. Each write is guarded by the resourceVersion that it is based on.
#[derive(Clone, Debug)]
pub enum LeaseRequest {
    Read,
    Create(Lease),
    Replace(Lease),
}

#[derive(Clone, Debug)]
pub enum LeaseResponse {
    /// The Lease as it was read or written.
    Found(Box<Lease>),
    Missing,
    /// Another writer was first.
    Conflict,
    /// No response, or an unusable one.
    Failed,
}

/// The change by a response, or by the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Acquired(Epoch),
    Lost(Epoch, &'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Look,
    Write,
}

#[derive(Clone, Debug)]
pub struct Election {
    me: String,
    terms: LeaseDurations,
    sight: ObservedLease,
    claimed: Option<MicroTime>,
    held: Option<LeaseHold>,
    terms_held: u32,
    step: Step,
    due: Instant,
}

// === impl Election ===

impl Election {
    pub fn new(me: String, terms: LeaseDurations, now: Instant) -> Self {
        let sight = ObservedLease::new(now);
        Self { me, terms, sight, claimed: None, held: None, terms_held: 0, step: Step::Look, due: now }
    }

    pub fn tenure(&self) -> Option<LeaseHold> {
        self.held
    }

    /// Whether another process is the leader: it renewed the Lease, which has not expired. A Lease without a renewal may be
    /// that of a process that died.
    pub fn other_leads(&self, now: Instant) -> bool {
        let standing = self.sight.standing(&self.me, self.claimed.as_ref(), &self.terms, now);
        self.held.is_none() && self.sight.moved() && matches!(standing, LeaseState::Held(_))
    }

    /// When the next request is due, or the hold expires.
    pub fn due(&self) -> Instant {
        self.held.map_or(self.due, |tenure| self.due.min(tenure.until))
    }

    /// Ends an expired hold. It does not come back, even if no other replica has taken the Lease.
    pub fn expire(&mut self, now: Instant) -> Option<Change> {
        let over = self.held.is_some_and(|tenure| tenure.until <= now);
        if over { self.lose("the Lease was not renewed in time", now) } else { None }
    }

    /// The request to send now.
    pub fn ask(&mut self, wall: Timestamp) -> LeaseRequest {
        match (self.step, self.held, self.sight.lease()) {
            (Step::Look, _, _) | (Step::Write, Some(_), None) => LeaseRequest::Read,
            (Step::Write, Some(_), Some(lease)) => LeaseRequest::Replace(renewed(lease, &self.terms, wall)),
            (Step::Write, None, found) => {
                let lease = taken(found, &self.me, &self.terms, wall);
                self.claimed = lease.spec.as_ref().and_then(|spec| spec.acquire_time.clone());
                if found.is_some() { LeaseRequest::Replace(lease) } else { LeaseRequest::Create(lease) }
            }
        }
    }

    /// Handles the response to the request that was sent at `began`. A hold counts from that time.
    pub fn handle(
        &mut self,
        ask: &LeaseRequest,
        answer: LeaseResponse,
        began: Instant,
        now: Instant,
    ) -> Option<Change> {
        let lapsed = self.expire(now);
        let lapsed_now = lapsed.is_some();
        let change = match (ask, answer) {
            (LeaseRequest::Read, LeaseResponse::Found(lease)) => self.looked(Some(*lease), now),
            (LeaseRequest::Read, LeaseResponse::Missing) => self.looked(None, now),
            (_, LeaseResponse::Found(lease)) => {
                self.sight.see(Some(*lease), now);
                // A renewal after the deadline has no effect.
                if lapsed_now { None } else { self.wrote(began, now) }
            }
            (_, LeaseResponse::Failed) => {
                self.go(Step::Look, now + self.terms.look());
                None
            }
            (_, LeaseResponse::Conflict | LeaseResponse::Missing) => {
                self.go(Step::Look, now);
                None
            }
        };
        lapsed.or(change)
    }

    /// Releases the hold; returns the Lease to write.
    pub fn release(&mut self) -> Option<Lease> {
        self.held.take()?;
        self.sight.lease().map(released)
    }

    /// What to write after a conflict of the release, based on the current Lease. `None` where it is no longer ours.
    pub fn release_again(&self, found: &Lease, epoch: Epoch) -> Option<Lease> {
        unchanged(found, &self.me, epoch.transitions).then(|| released(found))
    }

    fn looked(&mut self, found: Option<Lease>, now: Instant) -> Option<Change> {
        self.sight.see(found, now);
        if let Some(tenure) = self.held {
            let ours = |lease| unchanged(lease, &self.me, tenure.epoch.transitions);
            if self.sight.lease().is_some_and(ours) {
                self.go(Step::Write, now);
                return None;
            }
            return self.lose("another process changed the Lease", now);
        }
        match self.sight.standing(&self.me, self.claimed.as_ref(), &self.terms, now) {
            LeaseState::Free => self.go(Step::Write, now),
            LeaseState::Held(rest) => self.go(Step::Look, now + rest.min(self.terms.look())),
        }
        None
    }

    fn wrote(&mut self, began: Instant, now: Instant) -> Option<Change> {
        let until = began + self.terms.deadline;
        self.go(Step::Write, began + self.terms.retry);
        if let Some(tenure) = &mut self.held {
            tenure.until = until;
            return None;
        }
        if until <= now {
            // The acquired hold expired before its response arrived.
            self.go(Step::Look, now);
            return None;
        }
        self.terms_held = self.terms_held.wrapping_add(1);
        let transitions = self.sight.lease().map(transitions).unwrap_or_default();
        let epoch = Epoch { term: self.terms_held, transitions };
        self.held = Some(LeaseHold { epoch, until });
        Some(Change::Acquired(epoch))
    }

    fn lose(&mut self, why: &'static str, now: Instant) -> Option<Change> {
        let tenure = self.held.take()?;
        self.go(Step::Look, now);
        Some(Change::Lost(tenure.epoch, why))
    }

    fn go(&mut self, step: Step, due: Instant) {
        self.step = step;
        self.due = due;
    }
}

#[cfg(test)]
mod tests;
