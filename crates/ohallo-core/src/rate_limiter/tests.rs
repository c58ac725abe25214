use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::secret::ApiKey;
use crate::work_queue::{Again, Blocked, Gate, Limits, ObjectKey, Priority, Resolved, Route, WorkQueue};

fn start() -> Instant {
    crate::test_clock::instant()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn about(wait: Duration, expected: u64) -> bool {
    wait >= ms(expected.saturating_sub(5)) && wait < ms(expected + 5)
}

/// A claimant of one namespace, unless `name` differs.
fn running(who: &str) -> Claimant {
    Claimant { namespace: Some(who.into()), running: true }
}

fn queue(namespace: &str) -> Claimant {
    Claimant { namespace: Some(namespace.into()), running: false }
}

/// Checks and spends.
fn take(limiter: &mut Limiter, claimant: &Claimant, tokens: u32, now: Instant) -> Result<(), Duration> {
    let checked = limiter.check(claimant, tokens, now);
    checked.map(|()| limiter.spend(claimant, tokens)).map_err(|refusal| refusal.wait)
}

#[test]
fn a_quiet_key_may_send_its_burst_at_once_and_then_its_rate() {
    let (mut limiter, t, a) = (Limiter::new(10.0, 3), start(), running("a"));
    for _ in 0..3 {
        assert_eq!(take(&mut limiter, &a, 1, t), Ok(()));
    }
    assert!(about(take(&mut limiter, &a, 1, t).unwrap_err(), 100));
    assert!(take(&mut limiter, &a, 1, t + ms(50)).is_err());
    assert_eq!(take(&mut limiter, &a, 1, t + ms(101)), Ok(()));
    for _ in 0..3 {
        assert_eq!(take(&mut limiter, &queue("a"), 1, t + ms(10_000)), Ok(()));
    }
    assert!(take(&mut limiter, &queue("a"), 1, t + ms(10_000)).is_err());
}

#[test]
fn without_a_rate_only_a_pause_holds_back() {
    let (mut limiter, t) = (Limiter::new(0.0, 1), start());
    for _ in 0..1000 {
        assert_eq!(take(&mut limiter, &queue("a"), 3, t), Ok(()));
    }
    limiter.pause(t + ms(5000));
    assert_eq!(take(&mut limiter, &queue("a"), 1, t + ms(1000)), Err(ms(4000)));
    assert_eq!(take(&mut limiter, &queue("a"), 1, t + ms(5000)), Ok(()));
}

#[test]
fn claimants_are_served_in_the_order_in_which_they_were_refused() {
    let (mut limiter, t) = (Limiter::new(1.0, 1), start());
    let (a, b) = (running("a"), running("b"));
    take(&mut limiter, &a, 1, t).unwrap();
    assert!(about(take(&mut limiter, &queue("a"), 1, t).unwrap_err(), 1_000));
    assert!(about(take(&mut limiter, &a, 1, t).unwrap_err(), 2_000));
    assert!(about(take(&mut limiter, &b, 1, t).unwrap_err(), 3_000));
    assert!(about(take(&mut limiter, &a, 1, t).unwrap_err(), 2_000), "asking again keeps the place");
    let now = t + ms(1_001);
    assert!(take(&mut limiter, &b, 1, now).is_err(), "the token is another's");
    assert_eq!(take(&mut limiter, &queue("a"), 1, now), Ok(()));
    assert_eq!(take(&mut limiter, &a, 1, t + ms(2_001)), Ok(()));
}

#[test]
fn an_unused_place_expires() {
    let (mut limiter, t) = (Limiter::new(1.0, 1), start());
    take(&mut limiter, &running("a"), 1, t).unwrap();
    take(&mut limiter, &running("a"), 1, t).unwrap_err();
    for (later, free) in [(1_400, false), (1_600, true)] {
        assert_eq!(limiter.check(&running("b"), 1, t + ms(later)).is_ok(), free, "{later}");
    }
    let mut limiter = Limiter::new(1.0, 1);
    for number in 0..10_000 {
        take(&mut limiter, &running(&number.to_string()), 1, t).ok();
    }
    assert!(limiter.places.len() <= MAX_PLACES);
}

#[test]
fn unused_tokens_are_refunded_up_to_the_burst() {
    let (mut limiter, t, a) = (Limiter::new(1.0, 4), start(), running("a"));
    take(&mut limiter, &a, 4, t).unwrap();
    limiter.refund(&a.namespace, 3);
    assert_eq!(take(&mut limiter, &a, 3, t), Ok(()));
    limiter.refund(&a.namespace, 100);
    assert_eq!(take(&mut limiter, &a, 4, t), Ok(()));
    assert!(take(&mut limiter, &a, 1, t).is_err());
}

#[test]
fn a_claim_above_the_burst_waits_for_a_full_bucket_and_leaves_a_debt() {
    let (mut limiter, t, a) = (Limiter::new(1.0, 2), start(), running("a"));
    assert_eq!(take(&mut limiter, &a, 5, t), Ok(()));
    assert!(about(take(&mut limiter, &a, 5, t).unwrap_err(), 5_000));
    assert!(about(take(&mut limiter, &a, 1, t + ms(1_000)).unwrap_err(), 3_000));
}

#[test]
fn a_pause_grants_nothing_and_no_time_passes_in_it() {
    let (mut limiter, t, a) = (Limiter::new(1.0, 1), start(), running("a"));
    take(&mut limiter, &a, 1, t).unwrap();
    limiter.pause(t + ms(600_000));
    limiter.pause(t + ms(5_000));
    assert_eq!(limiter.paused(t), Some(ms(600_000)));
    assert!(take(&mut limiter, &a, 1, t + ms(300_000)).unwrap_err() >= ms(300_000));
    assert_eq!(limiter.paused(t + ms(600_000)), None);
    assert!(take(&mut limiter, &a, 1, t + ms(600_500)).is_err());
    assert_eq!(take(&mut limiter, &a, 1, t + ms(601_001)), Ok(()));
    assert!(!limiter.is_full(t + ms(601_500)) && limiter.is_full(t + ms(602_002)));
}

#[test]
fn a_light_namespace_is_served_immediately_beside_one_at_its_limit() {
    let (mut limiter, t) = (Limiter::new(10.0, 20), start());
    let (heavy, light) = (queue("heavy"), queue("light"));
    assert_eq!(take(&mut limiter, &light, 1, t), Ok(()));
    let (mut sent, mut waited) = ([0, 0], Duration::ZERO);
    for tick in 0..60_000_u64 {
        let now = t + ms(tick);
        while let Ok(()) = limiter.check(&heavy, 1, now) {
            limiter.spend(&heavy, 1);
            sent[0] += 1;
        }
        assert!(!limiter.check(&heavy, 1, now).unwrap_err().for_all || tick < 100, "{tick}");
        // Less than its half of the rate.
        if tick % 250 == 0 {
            sent[1] += 1;
            let wait = take(&mut limiter, &light, 1, now).err().unwrap_or_default();
            waited = waited.max(wait);
        }
    }
    assert_eq!(waited, Duration::ZERO, "{sent:?}");
    assert!(sent[0] + sent[1] >= 595, "the rate is used: {sent:?}");
    // A namespace with a burst of calls has priority for half of the other's use.
    let burst = (0..100).take_while(|_| take(&mut limiter, &light, 1, t + ms(60_000)).is_ok()).count();
    assert!((14..=16).contains(&burst), "{burst}");
}

#[test]
fn two_heavy_namespaces_have_equal_shares() {
    let (mut limiter, t) = (Limiter::new(10.0, 20), start());
    let mut sent = [0, 0];
    for tick in 0..60_000_u64 {
        for (index, claimant) in [queue("a"), running("b")].iter().enumerate() {
            sent[index] += u32::from(take(&mut limiter, claimant, 1, t + ms(tick)).is_ok());
        }
    }
    assert!(sent[0].abs_diff(sent[1]) <= 20 && sent[0] + sent[1] >= 600, "{sent:?}");
}

#[test]
fn a_namespace_that_no_longer_makes_calls_is_removed() {
    let (mut limiter, t) = (Limiter::new(10.0, 20), start());
    for number in 0..1_000 {
        take(&mut limiter, &queue(&number.to_string()), 1, t).ok();
    }
    assert_eq!(limiter.namespaces.len(), 1_000);
    take(&mut limiter, &queue("7"), 1, t + NAMESPACE_TTL / 2).ok();
    take(&mut limiter, &queue("late"), 1, t + NAMESPACE_TTL).ok();
    assert_eq!((limiter.namespaces.len(), limiter.ends.len()), (2, 2), "one of them has made a call since");
    take(&mut limiter, &queue("late"), 1, t + NAMESPACE_TTL * 3 / 2).ok();
    assert_eq!((limiter.namespaces.len(), limiter.ends.len()), (1, 1));
}

/// Reconciles of one key behind the work queue, as the controller runs them: each makes its calls immediately, one token per
/// call, and ends where one is deferred; the next time it starts with the tokens up to that call.
struct Crowd {
    queue: WorkQueue,
    limiter: Limiter,
    calls: u32,
    needs: HashMap<Arc<str>, u32>,
    asked: u32,
}

struct Door<'a>(&'a mut Limiter, &'a HashMap<Arc<str>, u32>, &'a mut u32);

impl Gate for Door<'_> {
    type Permit = u32;

    fn resolve(&mut self, object: &ObjectKey, _: Instant) -> Resolved {
        let user = object.name.starts_with("user");
        Resolved::Ready(Route {
            key: Some(ApiKey::new("k".into()).id()),
            heavy: false,
            priority: if user { Priority::Interactive } else { Priority::Background },
            latest: None,
        })
    }

    fn admit(&mut self, object: &ObjectKey, _: &Route, now: Instant) -> Result<(u32, u32), Blocked> {
        let tokens = self.1.get(&object.name).copied().unwrap_or(1);
        *self.2 += 1;
        let claimant = Claimant { namespace: object.namespace.clone(), running: false };
        let checked = self.0.check(&claimant, tokens, now);
        checked.map_err(|Refusal { wait, for_all }| Blocked::Key { until: now + wait, for_all })?;
        self.0.spend(&claimant, tokens);
        Ok((tokens, tokens))
    }
}

/// Calls and ended reconciles of users and of the background, and the time of each call in ms.
#[derive(Debug, Default, PartialEq)]
struct Made {
    calls: [u32; 2],
    ended: [u32; 2],
    ended_healthy: u32,
    grants: Vec<u64>,
    asked: u32,
}

fn crowd(
    rate: f64,
    burst: u32,
    (users, background): (u32, u32),
    calls: u32,
    again: bool,
    lasts: u64,
) -> Made {
    let t = start();
    let mut crowd = Crowd {
        queue: WorkQueue::new(Limits::of(16, 12)),
        limiter: Limiter::new(rate, burst),
        calls,
        needs: HashMap::new(),
        asked: 0,
    };
    for number in 0..users + background {
        let (prefix, priority) = match number < users {
            true => ("user", Priority::Interactive),
            false => ("background", Priority::Background),
        };
        // In three namespaces.
        let object = ObjectKey::channel(&format!("n{}", number % 3), &format!("{prefix}-{number}"));
        crowd.queue.add(object, priority, t);
    }
    let (mut made, mut now) = (Made::default(), t);
    while now - t <= ms(lasts) {
        while now - t <= ms(lasts) && crowd.step(now, t, again, &mut made) {
            now += Duration::from_micros(50);
        }
        if crowd.queue.has_new() {
            continue;
        }
        let Some(wake) = crowd.queue.next_wake() else { break };
        now = wake.max(now + Duration::from_micros(50));
    }
    made.asked = crowd.asked;
    made
}

impl Crowd {
    fn step(&mut self, now: Instant, t: Instant, again: bool, made: &mut Made) -> bool {
        let door = &mut Door(&mut self.limiter, &self.needs, &mut self.asked);
        let Some(started) = self.queue.pop(now, door) else { return false };
        let (object, mut permit) = (started.object, started.permit);
        let claimant = Claimant { namespace: object.namespace.clone(), running: true };
        let background = usize::from(object.name.starts_with("background"));
        let refused = (0..self.calls).find_map(|call| {
            let free = permit > 0;
            permit = permit.saturating_sub(1);
            let refused = if free {
                None
            } else {
                take(&mut self.limiter, &claimant, 1, now).err().map(|wait| (call, wait))
            };
            if refused.is_none() {
                made.calls[background] += 1;
                made.grants.push((now - t).as_millis() as u64);
            }
            refused
        });
        let next = match refused {
            Some((call, wait)) => {
                self.needs.insert(object.name.clone(), call + 1);
                Again::Deferred(now + wait)
            }
            None => {
                self.needs.remove(&object.name);
                made.ended[background] += 1;
                made.ended_healthy += u32::from(object.namespace.as_deref() == Some("healthy"));
                if again { Again::At(now + ms(1)) } else { Again::Never }
            }
        };
        self.queue.done(&object, next, now);
        true
    }
}

fn within_bounds(grants: &[u64], rate: f64, burst: f64) -> bool {
    grants.iter().enumerate().all(|(i, from)| {
        grants[i..]
            .iter()
            .enumerate()
            .all(|(n, to)| (n + 1) as f64 <= burst + rate * (to + 1 - from) as f64 / 1e3 + 1e-3)
    })
}

#[test]
fn the_background_gets_a_tenth_while_users_want_everything() {
    for calls in [1, 3] {
        let made = crowd(10.0, 20, (200, 50), calls, true, 300_000);
        assert!(made.calls[1] >= 290, "{:?}", made.calls);
        assert!(made.calls[1] <= 450, "{:?}", made.calls);
        assert!(made.calls[0] + made.calls[1] >= 2900, "the rate is used: {:?}", made.calls);
        assert!(within_bounds(&made.grants, 10.0, 20.0));
    }
}

#[test]
fn the_background_gets_what_users_leave() {
    let made = crowd(10.0, 20, (0, 30), 4, true, 100_000);
    assert!(made.calls[1] >= 970, "{:?}", made.calls);
    assert!(made.ended[1] >= 90, "{:?}", made.ended);
}

#[test]
fn a_cold_start_of_two_thousand_reconciles_ends_in_the_time_that_the_rate_allows() {
    for (calls, lasts) in [(1, 40_000), (3, 240_000)] {
        let made = crowd(50.0, 20, (2000, 0), calls, false, 10 * lasts);
        assert_eq!(made.ended[0], 2000);
        // Each reconcile learns one call at a time how many it needs.
        assert!(made.calls[0] <= 2000 * calls * (calls + 1) / 2, "{:?}", made.calls);
        let last = made.grants.last().copied().unwrap_or_default();
        assert!(last < lasts * 11 / 10, "{calls} calls: {last} ms");
        assert!(made.asked <= 4 * made.calls[0], "{} questions", made.asked);
    }
}

#[test]
fn the_same_questions_get_the_same_answers() {
    assert_eq!(crowd(7.0, 3, (20, 20), 3, true, 20_000), crowd(7.0, 3, (20, 20), 3, true, 20_000));
}

proptest! {
    #[test]
    fn no_window_holds_more_than_the_burst_and_the_rate(
        rate in 1_u32..50, burst in 4_u32..30,
        asks in prop::collection::vec((0_u64..400, 0_u32..12, 1_u32..5, 0_u8..40), 1..300),
    ) {
        let (mut limiter, t) = (Limiter::new(f64::from(rate), burst), start());
        let (mut at, mut grants) = (0, Vec::new());
        for (gap, who, tokens, odd) in asks {
            at += if odd == 0 { gap * 300 } else { gap };
            if odd == 2 {
                limiter.pause(t + ms(at + gap));
            }
            let claimant = Claimant { namespace: Some((who % 4).to_string().into()), running: who > 4 };
            if take(&mut limiter, &claimant, tokens, t + ms(at)).is_ok() {
                prop_assert!(limiter.paused(t + ms(at)).is_none());
                if odd == 1 {
                    limiter.refund(&claimant.namespace, tokens);
                } else {
                    grants.extend((0..tokens).map(|_| at));
                }
            }
        }
        prop_assert!(within_bounds(&grants, f64::from(rate), f64::from(burst)));
    }

    #[test]
    fn nobody_starves_in_any_crowd(
        rate in 1_u32..50, burst in 1_u32..30, users in 0_u32..20, background in 0_u32..20, calls in 1_u32..5,
    ) {
        let work = (users + background) * calls * (calls + 1) / 2;
        let made = crowd(f64::from(rate), burst, (users, background), calls, false,
            u64::from(work) * 20_000 / u64::from(rate) + 60_000);
        prop_assert_eq!(made.ended, [users, background]);
    }
}

/// Sequential creates of a healthy namespace, with `pause` between them, beside 400 requests of another with the same
/// key; returns the longest wait of a create for its start.
fn wait_beside_a_burst(creates: u32, before: u32, calls: u32, pause: Duration) -> Duration {
    let t = start();
    let mut crowd = Crowd {
        queue: WorkQueue::new(Limits::of(16, 12)),
        limiter: Limiter::new(10.0, 20),
        calls,
        needs: HashMap::new(),
        asked: 0,
    };
    let (mut now, mut made, mut longest) = (t, Made::default(), Duration::ZERO);
    for number in 0..before + creates {
        if number == before {
            for hostile in 0..400 {
                let object = ObjectKey::channel("hostile", &format!("user-hostile-{hostile}"));
                crowd.queue.add(object, Priority::Interactive, now);
            }
            // The burst is in progress.
            let until = now + ms(3_000);
            while now < until {
                while crowd.step(now, t, false, &mut made) {}
                let wake = crowd.queue.next_wake().filter(|_| !crowd.queue.has_new());
                now = wake.unwrap_or(now).max(now + Duration::from_micros(50));
            }
        }
        let (object, asked) = (ObjectKey::channel("healthy", &format!("user-healthy-{number}")), now);
        crowd.queue.add(object, Priority::Interactive, now);
        let ended = made.ended_healthy;
        while made.ended_healthy == ended {
            if crowd.step(now, t, false, &mut made) || crowd.queue.has_new() {
                continue;
            }
            let wake = crowd.queue.next_wake().unwrap();
            now = wake.max(now + Duration::from_micros(50));
        }
        if number >= before {
            longest = longest.max(now - asked);
        }
        let until = now + pause;
        while now < until {
            while crowd.step(now, t, false, &mut made) {}
            now += ms(1);
        }
    }
    longest
}

#[test]
fn f59_a_healthy_namespace_hardly_waits_for_tokens_beside_a_burst_under_a_shared_key() {
    for (calls, pause, longest) in [(1, 300, 1), (1, 70, 250), (2, 500, 250)] {
        let waited = wait_beside_a_burst(30, 30, calls, ms(pause));
        eprintln!("{calls} calls each {pause} ms: {waited:?}");
        assert!(waited <= ms(longest), "{calls} calls each {pause} ms: {waited:?}");
    }
}
