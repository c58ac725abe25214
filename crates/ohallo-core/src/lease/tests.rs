use super::*;
use crate::test_clock as clock;

const TERMS: LeaseDurations = LeaseDurations {
    duration: Duration::from_secs(60),
    deadline: Duration::from_secs(40),
    retry: Duration::from_secs(5),
};

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn wall(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn lease(edit: impl FnOnce(&mut LeaseSpec)) -> Lease {
    let mut lease = taken(None, "other", &TERMS, wall(1_000));
    lease.metadata.uid = Some("uid".into());
    edit(lease.spec.as_mut().unwrap());
    lease
}

fn sight(now: Instant, lease: Lease) -> ObservedLease {
    let mut sight = ObservedLease::new(now);
    sight.see(Some(lease), now);
    sight
}

fn standing(sight: &ObservedLease, now: Instant) -> LeaseState {
    sight.standing("me", None, &TERMS, now)
}

#[test]
fn a_record_counts_from_its_observed_change_whatever_its_times() {
    let now = clock::instant();
    for renewed_at in [-60_000_000_000, 0, 1_000, 4_000_000_000, 200_000_000_000] {
        let seen = lease(|spec| spec.renew_time = Some(MicroTime(wall(renewed_at))));
        let mut sight = sight(now, seen.clone());
        assert_eq!(standing(&sight, now), LeaseState::Held(s(60)), "{renewed_at}");
        sight.see(Some(seen), now + s(59));
        assert_eq!(standing(&sight, now + s(59)), LeaseState::Held(s(1)), "seen again is no change");
        assert_eq!(standing(&sight, now + s(60)), LeaseState::Free);
    }
}

#[test]
fn a_write_counts_when_holder_count_and_times_are_returned_as_sent() {
    type Edit = fn(&mut LeaseSpec);
    let sent = taken(None, "me", &TERMS, wall(1_000));
    let returned = |edit: Edit| {
        let mut lease = sent.clone();
        lease.metadata.uid = Some("uid".into());
        edit(lease.spec.as_mut().unwrap());
        lease
    };
    let rows: [(&str, Edit, bool); 8] = [
        ("as sent", |_| {}, true),
        ("a field of others", |spec| spec.preferred_holder = Some("other".into()), true),
        ("another duration", |spec| spec.lease_duration_seconds = Some(7), true),
        ("another holder", |spec| spec.holder_identity = Some("other".into()), false),
        ("no holder", |spec| spec.holder_identity = None, false),
        ("another count", |spec| spec.lease_transitions = Some(7), false),
        ("no renewal", |spec| spec.renew_time = None, false),
        ("another claim", |spec| spec.acquire_time = Some(MicroTime(wall(7))), false),
    ];
    for (what, edit, stored) in rows {
        assert_eq!(is_stored(&sent, &returned(edit)), stored, "{what}");
    }
    let again = renewed(&sent, &TERMS, wall(1_005));
    assert!(!is_stored(&again, &sent) && is_stored(&again, &again), "a renewal that others do not see");
    let free = released(&sent);
    assert!(!is_stored(&free, &sent) && is_stored(&free, &free));
    assert!(!is_stored(&sent, &Lease::default()));
}

#[test]
fn an_invalid_duration_is_ours_and_a_shorter_one_does_not_count() {
    let now = clock::instant();
    for (given, counts) in [
        (None, 60),
        (Some(0), 60),
        (Some(-1), 60),
        (Some(i32::MIN), 60),
        (Some(1), 60),
        (Some(90), 90),
        (Some(3601), 3600),
        (Some(i32::MAX), 3600),
    ] {
        let sight = sight(now, lease(|spec| spec.lease_duration_seconds = given));
        assert_eq!(standing(&sight, now), LeaseState::Held(s(counts)), "{given:?}");
    }
}

#[test]
fn a_released_or_empty_lease_is_free_and_one_whose_holder_was_removed_manually_is_not_yet() {
    let now = clock::instant();
    assert_eq!(standing(&ObservedLease::new(now), now), LeaseState::Free, "there is none");
    assert_eq!(standing(&sight(now, Lease::default()), now), LeaseState::Free);
    assert_eq!(standing(&sight(now, released(&lease(|_| {}))), now), LeaseState::Free);
    for emptied in [None, Some(String::new())] {
        let sight = sight(now, lease(|spec| spec.holder_identity = emptied.clone()));
        assert_eq!(standing(&sight, now), LeaseState::Held(s(60)), "{emptied:?}");
    }
}

#[test]
fn a_deleted_lease_leaves_its_holder_the_time_that_it_was_promised() {
    let now = clock::instant();
    let mut sight = sight(now, lease(|_| {}));
    sight.see(None, now + s(10));
    assert_eq!(standing(&sight, now + s(10)), LeaseState::Held(s(60)));
    sight.see(None, now + s(30));
    assert_eq!(standing(&sight, now + s(70)), LeaseState::Free);
    // A Lease that was recreated under the same name is another one.
    let mut again = lease(|_| {});
    again.metadata.uid = Some("another".into());
    sight.see(Some(again), now + s(80));
    assert_eq!(standing(&sight, now + s(139)), LeaseState::Held(s(1)));
}

#[test]
fn our_request_with_a_lost_response_is_recognized_by_its_time_and_a_forged_one_is_not() {
    let now = clock::instant();
    let claim = taken(None, "me", &TERMS, wall(2_000));
    let claimed = claim.spec.as_ref().unwrap().acquire_time.clone();
    let mine = sight(now, claim);
    assert_eq!(mine.standing("me", claimed.as_ref(), &TERMS, now), LeaseState::Free);
    assert_eq!(mine.standing("me", None, &TERMS, now), LeaseState::Held(s(60)));
    let forged = sight(now, lease(|spec| spec.holder_identity = Some("me".into())));
    assert_eq!(forged.standing("me", claimed.as_ref(), &TERMS, now), LeaseState::Held(s(60)));
}

#[test]
fn a_lease_has_its_duration_and_a_released_one_no_holder() {
    for (duration, seconds) in [(TERMS.duration, 60), (Duration::MAX, i32::MAX)] {
        let terms = LeaseDurations { duration, ..TERMS };
        let says = |lease: Lease| lease.spec.unwrap().lease_duration_seconds;
        assert_eq!(says(taken(None, "me", &terms, wall(5))), Some(seconds));
        let another = lease(|spec| spec.lease_duration_seconds = None);
        assert_eq!(says(renewed(&another, &terms, wall(5))), Some(seconds));
    }
    // Empty instead of absent, as other clients release a Lease.
    assert_eq!(released(&lease(|_| {})).spec.unwrap().holder_identity.as_deref(), Some(""));
}

#[test]
fn each_acquisition_increments_the_count_and_an_invalid_count_restarts() {
    for (found, next) in
        [(None, 1), (Some(0), 1), (Some(7), 8), (Some(-5), 1), (Some(i32::MIN), 1), (Some(i32::MAX), 0)]
    {
        let lease = taken(Some(&lease(|spec| spec.lease_transitions = found)), "me", &TERMS, wall(5));
        assert_eq!(transitions(&lease), next, "{found:?}");
        assert!(unchanged(&lease, "me", next) && !unchanged(&lease, "me", next - 1));
        assert!(!unchanged(&lease, "other", next));
    }
    assert_eq!(transitions(&taken(None, "me", &TERMS, wall(5))), 0);
    assert_eq!(transitions(&released(&lease(|spec| spec.lease_transitions = Some(7)))), 7);
}

#[test]
fn a_renewal_always_changes_the_time_also_when_the_clock_stops_or_moves_back() {
    let mut held = lease(|_| {});
    held.metadata.resource_version = Some("5".into());
    for clock in [1_000, 1_000, 1_000, 999, 998, 2_000, i64::from(i32::MAX)] {
        let next = renewed(&held, &TERMS, wall(clock));
        assert_ne!(next.spec, held.spec, "{clock}");
        assert_eq!(next.metadata.resource_version.as_deref(), Some("5"), "guarded");
        assert_eq!(next.spec.as_ref().unwrap().acquire_time, held.spec.as_ref().unwrap().acquire_time);
        held = next;
    }
    let last = lease(|spec| spec.renew_time = Some(MicroTime(Timestamp::MAX)));
    assert_ne!(renewed(&last, &TERMS, Timestamp::MAX).spec, last.spec);
}
