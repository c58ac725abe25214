//! The lease: what is written into it, and whose it is. Never by comparing clocks: a time in it only shows that it moved.

pub mod election;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

/// The longest lease that can be asked for; a record that names a longer one is not believed.
pub const MAX_DURATION: Duration = Duration::from_secs(3600);

/// How long what lasts. `duration` > `deadline` > `retry`.
#[derive(Clone, Copy, Debug)]
pub struct LeaseDurations {
    /// For so long after its last change others leave a lease alone.
    pub duration: Duration,
    /// For so long after the start of its last renewal the holder may act.
    pub deadline: Duration,
    /// How often the holder renews.
    pub retry: Duration,
}

/// What was last read of the lease, and since when, by this process's own clock, it has been so.
#[derive(Clone, Debug)]
pub struct ObservedLease {
    lease: Option<Lease>,
    since: Instant,
    /// A lease that is gone leaves its holder behind for as long as that may still act.
    left: Option<LeaseSpec>,
    /// It has changed since it was first read, so its holder was alive meanwhile.
    moved: bool,
}

/// Whose the lease is, to one that does not hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseState {
    Free,
    /// Somebody may still act on it for this long.
    Held(Duration),
}

// === impl LeaseDurations ===

impl LeaseDurations {
    /// How often one that does not hold the lease looks: a release is to be seen soon.
    pub fn look(&self) -> Duration {
        self.retry.min(Duration::from_secs(1))
    }

    /// For how long this record counts after its last change: as long as its holder was promised, and never less than
    /// we promise ourselves.
    fn counts(&self, spec: &LeaseSpec) -> Duration {
        let promised = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        promised.map_or(self.duration, |seconds| {
            self.duration.max(Duration::from_secs(seconds).min(MAX_DURATION))
        })
    }

    fn seconds(&self) -> i32 {
        i32::try_from(self.duration.as_secs()).unwrap_or(i32::MAX)
    }
}

// === impl ObservedLease ===

impl ObservedLease {
    pub fn new(now: Instant) -> Self {
        Self { lease: None, since: now, left: None, moved: false }
    }

    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// Whether the record has changed since it was first read.
    pub fn moved(&self) -> bool {
        self.moved
    }

    /// Takes in what was read. Only a record that changed begins anew: that it was read again shows nothing.
    pub fn see(&mut self, lease: Option<Lease>, now: Instant) {
        let same = match (&self.lease, &lease) {
            (Some(old), Some(new)) => old.metadata.uid == new.metadata.uid && old.spec == new.spec,
            (None, None) => true,
            _ => false,
        };
        if !same {
            self.moved = self.lease.is_some() && lease.is_some();
            self.since = now;
            self.left = self.lease.take().and_then(|old| old.spec).filter(|_| lease.is_none());
        }
        self.lease = lease;
    }

    /// Whose it is to `me`, who does not hold it. `claimed` is when `me` last asked for it: a record of that very claim
    /// is nobody else's, be it that its answer was lost or that its holder was taken out by hand.
    pub fn standing(
        &self,
        me: &str,
        claimed: Option<&MicroTime>,
        terms: &LeaseDurations,
        now: Instant,
    ) -> LeaseState {
        let Some(spec) = self.lease.as_ref().map_or(self.left.as_ref(), |lease| lease.spec.as_ref()) else {
            return LeaseState::Free;
        };
        let ours = (is_holder(spec, me) || is_empty(spec))
            && claimed.is_some()
            && spec.acquire_time.as_ref() == claimed;
        // Of a lease that is gone nobody knows who held it last.
        if self.lease.is_some() && (ours || is_released(spec)) {
            return LeaseState::Free;
        }
        let passed = now.saturating_duration_since(self.since);
        match terms.counts(spec).checked_sub(passed) {
            Some(rest) if !rest.is_zero() => LeaseState::Held(rest),
            _ => LeaseState::Free,
        }
    }
}

/// Nobody holds it, and nobody thinks to: released, or never held. Where only the name was taken out by hand its holder
/// does not know yet, and is given the time to find out.
fn is_released(spec: &LeaseSpec) -> bool {
    is_empty(spec) && spec.renew_time.is_none()
}

fn is_empty(spec: &LeaseSpec) -> bool {
    spec.holder_identity.as_deref().unwrap_or_default().is_empty()
}

fn is_holder(spec: &LeaseSpec, me: &str) -> bool {
    spec.holder_identity.as_deref() == Some(me)
}

/// The transition count; one that can't be is none.
pub fn transitions(lease: &Lease) -> i32 {
    lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0).max(0)
}

/// Whether it still says what its holder wrote.
pub fn unchanged(lease: &Lease, me: &str, count: i32) -> bool {
    lease.spec.as_ref().is_some_and(|spec| is_holder(spec, me)) && transitions(lease) == count
}

/// Whether the API server stored what was sent: who holds it, in which count, and the time by which others see that it moved. A
/// renewal that nobody else sees ends as if it had not been sent.
pub fn is_stored(sent: &Lease, returned: &Lease) -> bool {
    let written = |lease: &Lease| {
        let spec = lease.spec.as_ref()?;
        Some((
            spec.holder_identity.clone(),
            transitions(lease),
            spec.acquire_time.clone(),
            spec.renew_time.clone(),
        ))
    };
    written(sent) == written(returned)
}

/// As `me` takes it, over what is there.
pub fn taken(found: Option<&Lease>, me: &str, terms: &LeaseDurations, wall: Timestamp) -> Lease {
    let mut lease = found.cloned().unwrap_or_default();
    let count = found.map_or(0, |lease| transitions(lease).checked_add(1).unwrap_or(0));
    let now = micro(wall);
    lease.metadata.managed_fields = None;
    lease.spec = Some(LeaseSpec {
        acquire_time: Some(now.clone()),
        holder_identity: Some(me.to_owned()),
        lease_duration_seconds: Some(terms.seconds()),
        lease_transitions: Some(count),
        renew_time: Some(now),
        ..LeaseSpec::default()
    });
    lease
}

/// As its holder renews it. The time always moves, whatever the clock does: it is all that others see of a renewal.
pub fn renewed(held: &Lease, terms: &LeaseDurations, wall: Timestamp) -> Lease {
    let mut lease = held.clone();
    let spec = lease.spec.get_or_insert_default();
    let now = micro(wall);
    let moved = if spec.renew_time.as_ref() == Some(&now) { later(&now) } else { now };
    spec.renew_time = Some(moved);
    spec.lease_duration_seconds = Some(terms.seconds());
    lease
}

/// As its holder gives it back. The count stays: who comes next counts on from it.
pub fn released(held: &Lease) -> Lease {
    let mut lease = held.clone();
    let count = transitions(held);
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(String::new()),
        lease_transitions: Some(count),
        ..LeaseSpec::default()
    });
    lease
}

/// As the API server keeps it.
fn micro(time: Timestamp) -> MicroTime {
    MicroTime(Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time))
}

fn later(time: &MicroTime) -> MicroTime {
    let next = time.0.as_microsecond().saturating_add(1);
    MicroTime(Timestamp::from_microsecond(next).unwrap_or(Timestamp::UNIX_EPOCH))
}

#[cfg(test)]
mod tests;
