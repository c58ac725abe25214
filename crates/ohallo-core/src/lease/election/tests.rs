use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::test_clock as clock;

const TERMS: LeaseDurations = LeaseDurations {
    duration: Duration::from_secs(6),
    deadline: Duration::from_secs(4),
    retry: Duration::from_secs(1),
};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// An API server with one object: a write that is based on another version is rejected.
#[derive(Default)]
struct Server {
    lease: Option<Lease>,
    version: u64,
}

impl Server {
    fn take(&mut self, ask: &LeaseRequest) -> LeaseResponse {
        let version = |lease: &Lease| lease.metadata.resource_version.clone();
        match (ask, &self.lease) {
            (LeaseRequest::Read, None) | (LeaseRequest::Replace(_), None) => LeaseResponse::Missing,
            (LeaseRequest::Read, Some(lease)) => LeaseResponse::Found(Box::new(lease.clone())),
            (LeaseRequest::Create(_), Some(_)) => LeaseResponse::Conflict,
            (LeaseRequest::Replace(new), Some(old)) if version(new) != version(old) => {
                LeaseResponse::Conflict
            }
            (LeaseRequest::Create(new) | LeaseRequest::Replace(new), _) => {
                self.put(new.clone());
                LeaseResponse::Found(Box::new(self.lease.clone().unwrap()))
            }
        }
    }

    fn put(&mut self, mut lease: Lease) {
        self.version += 1;
        lease.metadata.uid.get_or_insert_with(|| format!("uid-{}", self.version));
        lease.metadata.resource_version = Some(self.version.to_string());
        self.lease = Some(lease);
    }
}

/// One process, with its own wall clock and possibly a response in flight.
struct Process {
    election: Election,
    skew: i64,
    under_way: Option<(LeaseRequest, LeaseResponse, Instant)>,
    epochs: Vec<Epoch>,
    changes: Vec<Change>,
}

impl Process {
    fn new(name: &str, skew: i64, now: Instant) -> Self {
        let election = Election::new(name.into(), TERMS, now);
        Self { election, skew, under_way: None, epochs: Vec::new(), changes: Vec::new() }
    }

    /// As `Leadership::epoch` sees it.
    fn leads(&self, now: Instant) -> bool {
        self.election.tenure().is_some_and(|tenure| now < tenure.until)
    }

    fn tell(&mut self, change: Option<Change>) {
        if let Some(Change::Acquired(epoch)) = change {
            assert!(!self.epochs.contains(&epoch), "an epoch came back");
            self.epochs.push(epoch);
        }
        self.changes.extend(change);
    }

    /// Sends the due request; its response is in flight.
    fn send(&mut self, server: &mut Server, now: Instant, wall: i64) {
        if self.under_way.is_some() {
            return;
        }
        let lapsed = self.election.expire(now);
        self.tell(lapsed);
        if self.election.due() > now {
            return;
        }
        let wall = Timestamp::from_second(wall.saturating_add(self.skew)).unwrap_or(Timestamp::MAX);
        let ask = self.election.ask(wall);
        let answer = server.take(&ask);
        self.under_way = Some((ask, answer, now));
    }

    fn receive(&mut self, now: Instant, lost: bool) {
        let Some((ask, answer, began)) = self.under_way.take() else { return };
        let answer = if lost { LeaseResponse::Failed } else { answer };
        let change = self.election.handle(&ask, answer, began, now);
        self.tell(change);
    }

    /// Everything that is due, immediately; the loop terminates.
    fn settle(&mut self, server: &mut Server, now: Instant) {
        for _ in 0..10 {
            if self.election.due() > now {
                return;
            }
            self.send(server, now, 0);
            self.receive(now, false);
        }
        panic!("asks again and again at one time: {:?}", self.election);
    }
}

#[test]
fn the_first_takes_it_and_renews_and_the_second_waits_until_it_has_not_changed_for_its_duration() {
    let (now, mut server) = (clock::instant(), Server::default());
    let (mut a, mut b) = (Process::new("a", 0, now), Process::new("b", 0, now));
    for second in 0..100 {
        a.settle(&mut server, now + ms(second * 1000));
        b.settle(&mut server, now + ms(second * 1000));
    }
    let now = now + ms(99_000);
    assert!(a.leads(now) && !b.leads(now) && a.epochs.len() == 1);
    // It stops. It can act until its deadline, and the other starts after the duration.
    assert!(a.leads(now + ms(3_999)) && !a.leads(now + ms(4_000)));
    b.settle(&mut server, now + ms(5_999));
    assert!(!b.leads(now + ms(5_999)));
    b.settle(&mut server, now + ms(7_000));
    assert_eq!((b.leads(now + ms(7_000)), b.epochs[0].transitions), (true, 1));
    a.settle(&mut server, now + ms(7_000));
    assert!(
        matches!(a.changes.last(), Some(Change::Lost(_, "the Lease was not renewed in time"))),
        "{:?}",
        a.changes
    );
}

#[test]
fn a_renewal_whose_response_is_lost_is_read_again_and_the_epoch_remains() {
    let (now, mut server) = (clock::instant(), Server::default());
    let mut a = Process::new("a", 0, now);
    a.settle(&mut server, now);
    for second in 1..50 {
        let now = now + ms(second * 1000);
        a.send(&mut server, now, 0);
        a.receive(now, second % 2 == 0);
        a.settle(&mut server, now + ms(500));
        assert!(a.leads(now));
    }
    assert_eq!(a.changes.len(), 1, "{:?}", a.changes);
}

#[test]
fn an_acquisition_whose_response_is_lost_is_repeated_immediately_as_another_epoch() {
    let (now, mut server) = (clock::instant(), Server::default());
    let mut a = Process::new("a", 0, now);
    a.send(&mut server, now, 0);
    a.receive(now, false);
    a.send(&mut server, now, 0);
    a.receive(now, true);
    assert!(server.lease.is_some() && !a.leads(now));
    assert_eq!(a.election.due(), now + TERMS.look(), "not before it had time to come to itself");
    a.settle(&mut server, now + TERMS.look());
    assert_eq!((a.leads(now + TERMS.look()), a.epochs[0].transitions), (true, 1));
}

#[test]
fn an_edited_lease_ends_the_epoch_when_it_is_seen_and_another_begins() {
    type Edit = fn(&mut Server);
    let edits: [(&str, Edit); 5] = [
        ("emptied", |server| server.edit(|lease| lease.spec.as_mut().unwrap().holder_identity = None)),
        ("moved", |server| {
            server.edit(|lease| lease.spec.as_mut().unwrap().holder_identity = Some("x".into()));
        }),
        ("recounted", |server| server.edit(|lease| lease.spec.as_mut().unwrap().lease_transitions = Some(9))),
        ("hollow", |server| server.edit(|lease| lease.spec = None)),
        ("deleted", |server| server.lease = None),
    ];
    for (what, edit) in edits {
        let (now, mut server) = (clock::instant(), Server::default());
        let mut a = Process::new("a", 0, now);
        a.settle(&mut server, now);
        edit(&mut server);
        let seen = now + TERMS.retry;
        a.send(&mut server, seen, 0);
        a.receive(seen, false);
        a.send(&mut server, seen, 0);
        a.receive(seen, false);
        assert!(
            !a.leads(seen) && matches!(a.changes.last(), Some(Change::Lost(..))),
            "{what}: {:?}",
            a.changes
        );
        a.settle(&mut server, seen);
        let waits = matches!(what, "moved" | "deleted");
        assert_eq!(a.leads(seen), !waits, "{what}: it waits only for another possible holder");
        let later = seen + TERMS.duration;
        a.settle(&mut server, later);
        a.settle(&mut server, later + TERMS.look());
        assert!(a.leads(later + TERMS.look()) && a.epochs.len() >= 2, "{what}");
    }
}

#[test]
fn an_edit_of_what_is_no_concern_of_ours_changes_nothing() {
    let (now, mut server) = (clock::instant(), Server::default());
    let mut a = Process::new("a", 0, now);
    a.settle(&mut server, now);
    for second in 1..20 {
        let odd = MicroTime(Timestamp::from_second(second * 1_000_000).unwrap());
        server.edit(|lease| {
            lease.metadata.annotations.get_or_insert_default().insert("note".into(), second.to_string());
            lease.spec.as_mut().unwrap().renew_time = Some(odd);
        });
        a.settle(&mut server, now + ms(second.unsigned_abs() * 1000));
    }
    assert_eq!(a.changes.len(), 1, "{:?}", a.changes);
}

#[test]
fn a_release_admits_another_replica_immediately_and_never_overwrites_its_lease() {
    let (now, mut server) = (clock::instant(), Server::default());
    let (mut a, mut b) = (Process::new("a", 0, now), Process::new("b", 0, now));
    a.settle(&mut server, now);
    b.settle(&mut server, now);
    let epoch = a.epochs[0];
    let released = a.election.release().unwrap();
    assert!(!a.leads(now) && a.election.release().is_none());
    // A renewal in flight arrived first: the current Lease is read.
    server.edit(|lease| lease.metadata.labels = Some([("a".into(), "b".into())].into()));
    assert!(matches!(server.take(&LeaseRequest::Replace(released)), LeaseResponse::Conflict));
    let found = server.lease.clone().unwrap();
    let again = a.election.release_again(&found, epoch).unwrap();
    assert!(matches!(server.take(&LeaseRequest::Replace(again)), LeaseResponse::Found(_)));
    b.settle(&mut server, now + TERMS.look());
    assert!(b.leads(now + TERMS.look()));
    assert!(a.election.release_again(server.lease.as_ref().unwrap(), epoch).is_none());
}

impl Server {
    fn edit(&mut self, edit: impl FnOnce(&mut Lease)) {
        if let Some(mut lease) = self.lease.take() {
            edit(&mut lease);
            self.put(lease);
        }
    }
}

#[test]
fn a_deleted_lease_may_have_had_another_holder_since_its_last_read() {
    let (now, mut server) = (clock::instant(), Server::default());
    let (mut a, mut b) = (Process::new("a", 0, now), Process::new("b", 0, now));
    a.settle(&mut server, now);
    b.settle(&mut server, now);
    // a sleeps; b takes over, and a only sees that the Lease is deleted.
    let later = now + TERMS.duration;
    b.settle(&mut server, later);
    assert!(b.leads(later) && !a.leads(later));
    server.lease = None;
    a.settle(&mut server, later);
    assert!(!a.leads(later));
}

#[derive(Clone, Debug)]
enum Act {
    Pass(u64),
    Send(usize),
    Receive(usize, bool),
    Release(usize),
    /// Times and counts of any size, without another holder.
    Edit(i64, Option<i32>, Option<i32>),
    Empty,
    Delete,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (0..3_000_u64).prop_map(Act::Pass),
        8 => (0..3_usize).prop_map(Act::Send),
        8 => (0..3_usize, prop::bool::weighted(0.1)).prop_map(|(who, lost)| Act::Receive(who, lost)),
        1 => (0..3_usize).prop_map(Act::Release),
        1 => (any::<i64>(), any::<Option<i32>>(), any::<Option<i32>>()).prop_map(|(t, d, n)| Act::Edit(t, d, n)),
        1 => Just(Act::Empty),
        1 => Just(Act::Delete),
    ];
    prop::collection::vec(act, 1..300)
}

#[test]
fn another_process_leads_once_it_was_seen_to_renew_and_until_its_lease_runs_out() {
    let (mut server, start) = (Server::default(), clock::instant());
    let (mut holder, mut other) = (Process::new("a", 0, start), Process::new("b", 0, start));
    holder.settle(&mut server, start);
    other.settle(&mut server, start);
    assert!(!other.election.other_leads(start), "the lease may be that of a process that died");
    let later = start + ms(1000);
    holder.send(&mut server, later, 1);
    holder.receive(later, false);
    other.send(&mut server, later, 1);
    other.receive(later, false);
    assert!(other.election.other_leads(later) && !holder.election.other_leads(later));
    assert!(other.election.other_leads(later + ms(5999)) && !other.election.other_leads(later + ms(6000)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn never_two_lead_at_a_time_whatever_clocks_pauses_lost_answers_and_edits_do(
        acts in acts(),
        skews in prop::array::uniform3(-100_000_000_000_i64..100_000_000_000),
    ) {
        let begun = clock::instant();
        let (mut now, mut server) = (begun, Server::default());
        let mut all = [0, 1, 2].map(|n| Process::new(&n.to_string(), skews[n], now));
        for act in acts {
            match act {
                Act::Pass(time) => now += ms(time),
                Act::Send(who) => {
                    let wall = i64::try_from((now - begun).as_secs()).unwrap();
                    all[who].send(&mut server, now, wall);
                }
                Act::Receive(who, lost) => all[who].receive(now, lost),
                Act::Release(who) if all[who].under_way.is_none() => {
                    if let Some(lease) = all[who].election.release() {
                        server.take(&LeaseRequest::Replace(lease));
                    }
                }
                Act::Release(_) => {}
                Act::Edit(time, duration, count) => server.edit(|lease| {
                    let spec = lease.spec.get_or_insert_default();
                    spec.renew_time = Timestamp::from_microsecond(time).ok().map(MicroTime).or(spec.renew_time.take());
                    spec.lease_duration_seconds = duration;
                    spec.lease_transitions = count;
                }),
                Act::Empty => server.edit(|lease| {
                    lease.spec.get_or_insert_default().holder_identity = Some(String::new());
                }),
                // A process that never read a Lease can't know that there was one.
                Act::Delete if all.iter().all(|process| process.election.sight.lease().is_some()) => {
                    server.lease = None;
                }
                Act::Delete => {}
            }
            let leaders = all.iter().filter(|process| process.leads(now)).count();
            prop_assert!(leaders <= 1, "{leaders} lead");
        }
    }

    #[test]
    fn somebody_leads_in_the_end_whatever_was_written_into_the_lease(
        holder in any::<Option<String>>(),
        time in any::<i64>(),
        duration in any::<Option<i32>>(),
        count in any::<Option<i32>>(),
    ) {
        let (now, mut server) = (clock::instant(), Server::default());
        server.put(Lease::default());
        server.edit(|lease| {
            let spec = lease.spec.get_or_insert_default();
            spec.holder_identity = holder;
            spec.renew_time = Timestamp::from_microsecond(time).ok().map(MicroTime);
            spec.lease_duration_seconds = duration;
            spec.lease_transitions = count;
        });
        let mut a = Process::new("a", 0, now);
        for second in 0..=3_601 {
            a.settle(&mut server, now + ms(second * 1000));
        }
        prop_assert!(a.leads(now + ms(3_601_000)));
    }
}
