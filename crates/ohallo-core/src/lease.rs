//! The content and the holder of the Lease. Clocks are never compared: a time in the Lease only shows that it was renewed.

pub mod election;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

/// The maximum lease duration; a record with a longer one has no effect.
pub const MAX_DURATION: Duration = Duration::from_secs(3600);

/// The durations of leader election. `duration` > `deadline` > `retry`.
#[derive(Clone, Copy, Debug)]
pub struct LeaseDurations {
    /// How long after its last change other replicas don't take the Lease.
    pub duration: Duration,
    /// How long after the start of its last renewal the holder can start effects.
    pub deadline: Duration,
    /// How often the holder renews.
    pub retry: Duration,
}

/// The last read of the Lease, and since when it is unchanged by this process's own clock.
#[derive(Clone, Debug)]
pub struct ObservedLease {
    lease: Option<Lease>,
    since: Instant,
    /// The record of a deleted Lease, for as long as its holder may still act.
    left: Option<LeaseSpec>,
    /// The Lease has changed since it was first read, so its holder was alive in between.
    moved: bool,
}

/// The state of the Lease for a replica that does not hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseState {
    Free,
    /// Another holder may still act for this long.
    Held(Duration),
}

// === impl LeaseDurations ===

impl LeaseDurations {
    /// How often a standby reads the Lease, so that it soon sees a release.
    pub fn look(&self) -> Duration {
        self.retry.min(Duration::from_secs(1))
    }

    /// How long this record is valid after its last change: the duration in the record, and at least our own
    /// duration.
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

    /// Records a read. Only a changed record restarts the time; an unchanged one proves nothing.
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

    /// The state for `me`, which does not hold the Lease. `claimed` is the time of `me`'s last request for it. A record of
    /// that request is our own, even if its response was lost or its holder was removed manually.
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
        // The last holder of a deleted Lease is unknown.
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

/// Released or never held, so that no replica considers itself the holder. If only the holder's name was removed
/// manually, the holder does not know it yet, and the duration must pass.
fn is_released(spec: &LeaseSpec) -> bool {
    is_empty(spec) && spec.renew_time.is_none()
}

fn is_empty(spec: &LeaseSpec) -> bool {
    spec.holder_identity.as_deref().unwrap_or_default().is_empty()
}

fn is_holder(spec: &LeaseSpec, me: &str) -> bool {
    spec.holder_identity.as_deref() == Some(me)
}

/// The transition count; an invalid one counts as zero.
pub fn transitions(lease: &Lease) -> i32 {
    lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0).max(0)
}

/// Whether the Lease is as its holder wrote it.
pub fn unchanged(lease: &Lease, me: &str, count: i32) -> bool {
    lease.spec.as_ref().is_some_and(|spec| is_holder(spec, me)) && transitions(lease) == count
}

/// Whether the API server stored what was sent: the holder, the count, and the time that shows others the renewal. A
/// renewal that other replicas can't see has no effect.
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

/// The Lease as `me` acquires it, based on the existing one.
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

/// The Lease as its holder renews it. The time always changes, whatever the clock does: others see nothing else of a renewal.
pub fn renewed(held: &Lease, terms: &LeaseDurations, wall: Timestamp) -> Lease {
    let mut lease = held.clone();
    let spec = lease.spec.get_or_insert_default();
    let now = micro(wall);
    let moved = if spec.renew_time.as_ref() == Some(&now) { later(&now) } else { now };
    spec.renew_time = Some(moved);
    spec.lease_duration_seconds = Some(terms.seconds());
    lease
}

/// The Lease as its holder releases it. The count remains: the next holder continues from it.
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

/// The time in the API server's precision.
fn micro(time: Timestamp) -> MicroTime {
    MicroTime(Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time))
}

fn later(time: &MicroTime) -> MicroTime {
    let next = time.0.as_microsecond().saturating_add(1);
    MicroTime(Timestamp::from_microsecond(next).unwrap_or(Timestamp::UNIX_EPOCH))
}

#[cfg(test)]
mod tests;
