use proptest::prelude::*;

use super::*;

fn start() -> Instant {
    crate::clock::instant()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn about(wait: Duration, expected: u64) -> bool {
    wait > ms(expected - 5) && wait < ms(expected + 5)
}

/// A pass as the client's session runs it: one token a call, and a refused n-th call reserves n.
fn call(limiter: &mut Limiter, who: &str, made: u32, lane: Lane, now: Instant) -> Result<(), Duration> {
    limiter.take(who, 1, lane, now).map_err(|_| limiter.reserve(who, made + 1, lane, now))
}

#[test]
fn a_quiet_key_may_send_its_burst_at_once_and_then_its_rate() {
    let (mut limiter, t) = (Limiter::new(10.0, 3), start());
    for _ in 0..3 {
        assert_eq!(limiter.take("a", 1, Lane::User, t), Ok(()));
    }
    let wait = limiter.take("a", 1, Lane::User, t).unwrap_err();
    assert!(wait > ms(99) && wait < ms(101), "{wait:?}");
    assert!(limiter.take("a", 1, Lane::User, t + ms(50)).is_err());
    assert_eq!(limiter.take("a", 1, Lane::User, t + ms(101)), Ok(()));
    for _ in 0..3 {
        assert_eq!(limiter.take("b", 1, Lane::Background, t + ms(10_000)), Ok(()));
    }
    assert!(limiter.take("b", 1, Lane::Background, t + ms(10_000)).is_err());
}

#[test]
fn without_a_rate_only_a_pause_holds_back() {
    let (mut limiter, t) = (Limiter::new(0.0, 1), start());
    for _ in 0..1000 {
        assert_eq!(limiter.take("a", 3, Lane::Background, t), Ok(()));
    }
    limiter.pause(t + ms(5000));
    assert_eq!(limiter.take("a", 1, Lane::User, t + ms(1000)), Err(ms(4000)));
    assert_eq!(limiter.take("a", 1, Lane::User, t + ms(5000)), Ok(()));
}

#[test]
fn asking_again_gives_the_same_reservation_raised_if_need_be() {
    let (mut limiter, t) = (Limiter::new(1.0, 1), start());
    limiter.take("x", 1, Lane::User, t).unwrap();
    let first = limiter.take("a", 1, Lane::User, t).unwrap_err();
    assert_eq!(limiter.take("a", 1, Lane::User, t), Err(first));
    assert!(limiter.take("b", 1, Lane::User, t).unwrap_err() > first);
    let raised = limiter.take("a", 3, Lane::User, t).unwrap_err();
    assert!(raised > ms(2999) && raised < ms(3001), "{raised:?}");
    assert_eq!(limiter.take("a", 1, Lane::User, t).unwrap_err(), raised);
    for _ in 0..3 {
        assert_eq!(limiter.take("a", 1, Lane::User, t + raised), Ok(()));
    }
    assert!(limiter.take("a", 1, Lane::User, t + raised).is_err());
}

#[test]
fn a_reservation_lapses_30_seconds_after_it_came_due() {
    for (later, kept) in [(31_000, true), (30_900, true), (31_100, false)] {
        let (mut limiter, t) = (Limiter::new(1.0, 2), start());
        limiter.take("x", 2, Lane::User, t).unwrap();
        limiter.take("a", 1, Lane::User, t).unwrap_err();
        // Somebody else takes whatever is free.
        let now = t + ms(later);
        let free = (0..100).take_while(|_| limiter.take("y", 1, Lane::User, now).is_ok()).count();
        assert!(free < 3, "{free} of a burst of 2");
        assert_eq!(limiter.take("a", 1, Lane::User, now).is_ok(), kept, "{later}");
    }
}

#[test]
fn what_a_pass_did_not_need_goes_back() {
    let (mut limiter, t) = (Limiter::new(1.0, 4), start());
    limiter.take("x", 4, Lane::User, t).unwrap();
    let wait = limiter.take("a", 4, Lane::User, t).unwrap_err();
    limiter.take("a", 1, Lane::User, t + wait).unwrap();
    assert!(limiter.take("b", 3, Lane::User, t + wait).is_err());
    limiter.release("a");
    assert_eq!(limiter.take("b", 3, Lane::User, t + wait), Ok(()));
}

#[test]
fn a_pause_grants_nothing_and_keeps_reservations() {
    let (mut limiter, t) = (Limiter::new(1.0, 1), start());
    limiter.take("x", 1, Lane::User, t).unwrap();
    let wait = limiter.take("a", 1, Lane::User, t).unwrap_err();
    assert!(limiter.take("b", 1, Lane::User, t + wait).is_err());
    limiter.pause(t + ms(600_000));
    limiter.pause(t + ms(5_000));
    assert_eq!(limiter.paused(t), Some(ms(600_000)));
    assert!(limiter.take("a", 1, Lane::User, t + ms(300_000)).unwrap_err() >= ms(300_000));
    assert_eq!(limiter.paused(t + ms(600_000)), None);
    assert_eq!(limiter.take("b", 1, Lane::User, t + ms(601_001)).err(), None);
}

#[test]
fn a_users_wish_moves_a_background_reservation_ahead() {
    let (mut limiter, t) = (Limiter::new(1.0, 1), start());
    limiter.take("x", 1, Lane::User, t).unwrap();
    for who in ["b", "c", "d"] {
        limiter.take(who, 1, Lane::Background, t).unwrap_err();
    }
    assert!(limiter.take("d", 1, Lane::Background, t).unwrap_err() > ms(2900));
    assert!(limiter.take("d", 1, Lane::User, t).unwrap_err() < ms(1200));
    assert!(limiter.take("d", 1, Lane::Background, t).unwrap_err() < ms(1200));
    let before = limiter.reserve("c", 1, Lane::Background, t);
    assert!(limiter.reserve("b", 1, Lane::Background, t) < before, "who asks again keeps its place");
    assert!(about(limiter.reserve("e", 2, Lane::Background, t), 5_000));
    assert!(
        about(limiter.reserve("e", 1, Lane::User, t), 3_333),
        "two calls behind that of d, and what it had wished"
    );
}

#[test]
fn time_passes_from_one_grant_share_or_lapse_to_the_next() {
    let (mut limiter, t) = (Limiter::new(2.0, 4), start());
    let next = |limiter: &mut Limiter, at: u64| {
        limiter.account(t + ms(at));
        limiter.next_event(t + ms(at))
    };
    limiter.take("x", 4, Lane::User, t).unwrap();
    assert_eq!(next(&mut limiter, 0), Duration::MAX);
    limiter.reserve("a", 60, Lane::User, t);
    assert!(about(next(&mut limiter, 0), 30_000));
    assert!(about(next(&mut limiter, 5_000), 25_000), "50 tokens are missing");
    limiter.reserve("b", 3, Lane::Background, t + ms(5_000));
    assert!(about(next(&mut limiter, 5_000), 15_000), "three tokens of a tenth of the rate");
    assert!(about(next(&mut limiter, 10_000), 10_000), "two of them are missing");
    assert!(about(next(&mut limiter, 35_000), 15_000), "b holds them since 20 s, and a its own since 31.5 s");
    let rest = limiter.next_event(t + ms(35_000));
    limiter.account(t + ms(35_000) + rest);
    assert_eq!(limiter.held.keys().collect::<Vec<_>>(), ["a"], "an event is over when it has come");
}

#[test]
fn what_nobody_came_for_goes_back_and_what_is_over_the_burst_is_lost() {
    let (mut limiter, t) = (Limiter::new(1.0, 4), start());
    limiter.take("x", 4, Lane::User, t).unwrap();
    limiter.reserve("a", 4, Lane::User, t);
    assert_eq!(limiter.take("b", 4, Lane::User, t + ms(34_001)), Ok(()), "a's had lapsed");
    let (mut limiter, t) = (Limiter::new(1.0, 2), start());
    limiter.take("x", 2, Lane::User, t).unwrap();
    limiter.reserve("a", 5, Lane::User, t);
    assert_eq!(limiter.reserve("a", 5, Lane::User, t + ms(5_001)), Duration::ZERO);
    limiter.release("a");
    assert_eq!(limiter.take("b", 2, Lane::User, t + ms(5_001)), Ok(()));
    assert!(limiter.take("b", 1, Lane::User, t + ms(5_001)).is_err());
}

#[test]
fn the_wait_that_is_told_shrinks_as_time_passes() {
    let (mut limiter, t) = (Limiter::new(2.0, 4), start());
    limiter.take("x", 4, Lane::User, t).unwrap();
    limiter.reserve("a", 60, Lane::User, t);
    for (at, wait) in [(0, 15_000), (5_000, 10_000), (14_000, 1_000)] {
        let told = limiter.reserve("b", 3, Lane::Background, t + ms(at));
        assert!(about(told, wait), "by its share: {told:?}");
    }
    let (mut limiter, t) = (Limiter::new(10.0, 4), start());
    limiter.take("x", 4, Lane::User, t).unwrap();
    for (at, wait) in [(0, 500), (300, 200), (450, 50)] {
        let told = limiter.reserve("a", 5, Lane::User, t + ms(at));
        assert!(about(told, wait), "nothing is held up: {told:?}");
    }
}

#[test]
fn whose_share_is_due_is_told_to_wait_for_the_tokens() {
    for (users, background, calls) in [(1, 1, 4), (5, 1, 3)] {
        let (_, ended, _) = crowd(1.0, 1, users, background, calls, false, 1_000_000);
        assert_eq!(ended, [users, background]);
    }
    let (mut limiter, t) = (Limiter::new(2.0, 4), start());
    limiter.take("x", 4, Lane::User, t).unwrap();
    limiter.reserve("a", 3, Lane::Background, t);
    for number in 1..30 {
        assert_eq!(limiter.take("x", 1, Lane::User, t + ms(number * 500 + 1)), Ok(()));
    }
    limiter.reserve("y", 50, Lane::User, t + ms(15_090));
    let told = limiter.reserve("a", 3, Lane::Background, t + ms(15_100));
    assert!(about(told, 900), "{told:?}");
}

#[test]
fn who_waits_for_what_others_hold_looks_again_after_a_while() {
    let (mut limiter, t) = (Limiter::new(1_000.0, 4), start());
    assert_eq!(limiter.reserve("h", 4, Lane::User, t), Duration::ZERO);
    assert_eq!(limiter.reserve("a", 4, Lane::User, t), HELD_UP);
}

#[test]
fn what_came_due_counts_towards_what_turns_out_to_be_needed() {
    let (mut limiter, t) = (Limiter::new(1.0, 4), start());
    limiter.take("x", 4, Lane::User, t).unwrap();
    assert!(about(limiter.reserve("a", 2, Lane::User, t), 2_000));
    let now = t + ms(2_001);
    assert!(about(limiter.take("a", 3, Lane::User, now).unwrap_err(), 1_000));
    assert_eq!(limiter.take("a", 3, Lane::User, now + ms(1_000)), Ok(()));
}

/// Runs `users` and `background` passes of `calls` calls each, over and over where `again`, for so long; returns
/// the calls and the ended passes of each lane, and every grant's time in ms.
fn crowd(
    rate: f64,
    burst: u32,
    users: u32,
    background: u32,
    calls: u32,
    again: bool,
    lasts: u64,
) -> ([u32; 2], [u32; 2], Vec<u64>) {
    let (mut limiter, t) = (Limiter::new(rate, burst), start());
    let lane = |n| if n < users { Lane::User } else { Lane::Background };
    let mut wakes: BTreeMap<(u64, u32), ()> = (0..users + background).map(|n| ((0, n), ())).collect();
    let (mut made, mut ended, mut grants, mut in_vain) = ([0; 2], [0; 2], Vec::new(), 0);
    while let Some(((at, n), ())) = wakes.pop_first() {
        if at > lasts {
            break;
        }
        let (who, lane, index) = (n.to_string(), lane(n), usize::from(n >= users));
        let refused = (0..calls).find_map(|call_no| {
            let refused = call(&mut limiter, &who, call_no, lane, t + ms(at)).err();
            if refused.is_none() {
                made[index] += 1;
                grants.push(at);
                let most = f64::from(burst.max(calls)) + rate * at as f64 / 1e3;
                assert!(grants.len() as f64 <= most + 1.0, "{} calls within {at} ms", grants.len());
            }
            refused
        });
        in_vain += u32::from(refused.is_some());
        assert!(
            u64::from(in_vain) <= u64::from(users + background) * (10 + at / 200),
            "asked {in_vain} times in vain within {at} ms: who is told a wait can go on after it"
        );
        match refused {
            Some(wait) => drop(wakes.insert((at + 1 + wait.as_millis() as u64, n), ())),
            None => {
                limiter.release(&who);
                ended[index] += 1;
                if again {
                    wakes.insert((at + 1, n), ());
                }
            }
        }
    }
    (made, ended, grants)
}

fn within_bounds(grants: &[u64], rate: f64, burst: f64) -> bool {
    grants.iter().enumerate().all(|(i, from)| {
        grants[i..]
            .iter()
            .enumerate()
            .all(|(n, to)| (n + 1) as f64 <= burst + rate * (to - from) as f64 / 1e3 + 1e-3)
    })
}

#[test]
fn the_background_gets_a_tenth_while_users_want_everything() {
    for calls in [1, 3] {
        let (made, _, grants) = crowd(10.0, 20, 200, 50, calls, true, 300_000);
        assert!(made[1] >= 290, "{made:?}");
        assert!(made[1] <= 400, "{made:?}");
        assert!(made[0] + made[1] >= 2900, "the rate is used: {made:?}");
        assert!(within_bounds(&grants, 10.0, 20.0));
    }
}

#[test]
fn the_background_gets_what_users_leave() {
    let (made, ended, _) = crowd(10.0, 20, 0, 30, 4, true, 100_000);
    assert!(made[1] >= 970, "{made:?}");
    assert!(ended[1] >= 90, "{ended:?}");
}

#[test]
fn a_cold_start_of_two_thousand_passes_ends_in_the_time_that_the_rate_allows() {
    for (calls, lasts) in [(1, 40_000), (3, 240_000)] {
        let (made, ended, grants) = crowd(50.0, 20, 2000, 0, calls, false, 10 * lasts);
        assert_eq!(ended[0], 2000);
        // Each pass learns one call at a time how many it needs.
        assert!(made[0] <= 2000 * calls * (calls + 1) / 2, "{made:?}");
        let last = grants.last().copied().unwrap_or_default();
        assert!(last < lasts * 11 / 10, "{calls} calls: {last} ms");
    }
}

#[test]
fn the_same_questions_get_the_same_answers() {
    assert_eq!(crowd(7.0, 3, 20, 20, 3, true, 20_000), crowd(7.0, 3, 20, 20, 3, true, 20_000));
}

proptest! {
    #[test]
    fn no_window_holds_more_than_the_burst_and_the_rate(
        rate in 1_u32..50, burst in 4_u32..30,
        asks in prop::collection::vec((0_u64..400, 0_u32..12, 1_u32..5, any::<bool>(), 0_u8..40), 1..300),
    ) {
        let (mut limiter, t) = (Limiter::new(f64::from(rate), burst), start());
        let (mut at, mut grants) = (0, Vec::new());
        for (gap, who, calls, user, odd) in asks {
            at += if odd == 0 { gap * 300 } else { gap };
            let lane = if user { Lane::User } else { Lane::Background };
            match odd {
                1 => limiter.release(&who.to_string()),
                2 => limiter.pause(t + ms(at + gap)),
                _ => {}
            }
            if limiter.take(&who.to_string(), calls, lane, t + ms(at)).is_ok() {
                grants.extend((0..calls).map(|_| at));
                prop_assert!(limiter.paused(t + ms(at)).is_none());
            }
        }
        prop_assert!(within_bounds(&grants, f64::from(rate), f64::from(burst)));
    }

    #[test]
    fn nobody_starves_in_any_crowd(
        rate in 1_u32..50, burst in 1_u32..30, users in 0_u32..20, background in 0_u32..20, calls in 1_u32..5,
    ) {
        let work = (users + background) * calls * (calls + 1) / 2;
        let (_, ended, _) = crowd(f64::from(rate), burst, users, background, calls, false,
            u64::from(work) * 20_000 / u64::from(rate) + 60_000);
        prop_assert_eq!(ended, [users, background]);
    }
}
