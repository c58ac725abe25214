//! Races for one lease that has run out. Their number is `OHALLO_RACES`; ten thousand take some minutes:
//! `OHALLO_RACES=10000 cargo test --release --test it lease_races -- --nocapture`.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use ohallo_client::clock;
use ohallo_core::lease::LeaseDurations;
use ohallo_core::lease::election::{Change, Election};
use ohallo_core::lease::transitions;
use ohallo_operator::kubernetes::leader::Candidate;
use ohallo_sim::Config;

use crate::support::harness::Harness;

const RACES: usize = 200;
const CONTESTANTS: usize = 5;
const TERMS: LeaseDurations = LeaseDurations {
    duration: Duration::from_secs(60),
    deadline: Duration::from_secs(40),
    retry: Duration::from_secs(5),
};

/// One who competes. Its clock is set by the test, so that nobody waits for a lease to run out.
struct Contestant {
    candidate: Candidate,
    election: Election,
}

// === impl Contestant ===

impl Contestant {
    fn new(harness: &Harness, number: usize, now: Instant) -> Self {
        let lease = (harness.namespace.clone(), "race".to_owned());
        let me = format!("contestant-{number}");
        let candidate = Candidate::new(harness.admin.clone(), lease, me.clone(), TERMS).0;
        Self { candidate, election: Election::new(me, TERMS, now) }
    }

    /// Ends a tenure that is over, and asks once, at this time.
    async fn step(&mut self, now: Instant) -> Option<Change> {
        self.election.expire(now);
        let ask = self.election.ask(clock::now());
        let answer = self.candidate.send(&ask, Duration::from_secs(30), &|_| {}).await;
        self.election.handle(&ask, answer, now, now)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_winner_of_each_race_for_an_expired_lease() {
    let harness = Harness::bare(Config::default(), &[]).await;
    let races = std::env::var("OHALLO_RACES").map_or(RACES, |number| number.parse().unwrap());
    let api: Api<Lease> = Api::namespaced(harness.admin.clone(), &harness.namespace);
    let mut now = clock::instant();
    let mut all: Vec<_> = (0..CONTESTANTS).map(|number| Contestant::new(&harness, number, now)).collect();
    let mut wins = [0; CONTESTANTS];
    for race in 0..races {
        // All see the same record, and that it has run out: in the first race that there is none.
        futures::future::join_all(all.iter_mut().map(|one| one.step(now))).await;
        now += TERMS.duration;
        futures::future::join_all(all.iter_mut().map(|one| one.step(now))).await;
        let ends = futures::future::join_all(all.iter_mut().map(|one| one.step(now))).await;
        let won = |end: &Option<Change>| matches!(end, Some(Change::Acquired(_)));
        let first = all.iter().position(|one| one.election.tenure().is_some_and(|tenure| tenure.until > now));
        let leaders =
            all.iter().filter(|one| one.election.tenure().is_some_and(|tenure| tenure.until > now)).count();
        assert!(ends.iter().filter(|end| won(end)).count() <= 1, "race {race}: {ends:?}");
        assert_eq!(leaders, 1, "race {race}");
        let winner = first.unwrap();
        wins[winner] += 1;
        let lease = api.get("race").await.unwrap();
        let holder = lease.spec.as_ref().unwrap().holder_identity.clone().unwrap();
        assert_eq!(holder, format!("contestant-{winner}"), "race {race}");
        assert_eq!(transitions(&lease), i32::try_from(race).unwrap(), "each race is one transition");
    }
    println!("{races} races of {CONTESTANTS} contestants, one winner in each: won {wins:?}");
    harness.finish().await;
}
