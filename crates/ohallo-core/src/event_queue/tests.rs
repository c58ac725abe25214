use proptest::prelude::*;

use super::*;
use crate::api::conditions::Reason;
use crate::event::EventReason;
use crate::test_clock;

fn object(namespace: &str, name: &str) -> ObjectReference {
    let (name, uid) = (Some(name.to_owned()), Some(format!("uid-{namespace}-{name}")));
    ObjectReference { namespace: Some(namespace.to_owned()), name, uid, ..Default::default() }
}

fn normal(text: &str) -> PendingEvent {
    PendingEvent::normal(EventReason::Created, text)
}

fn warning(text: &str) -> PendingEvent {
    PendingEvent::warning(Reason::ValidationFailed, text)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

struct Harness {
    queue: EventQueue,
    now: Instant,
}

// === impl Harness ===

impl Harness {
    fn new(max_bytes: usize) -> Self {
        Self { queue: EventQueue::with(max_bytes), now: test_clock::instant() }
    }

    fn push(&mut self, namespace: &str, name: &str, event: PendingEvent) -> u64 {
        self.queue.push(object(namespace, name), event, at(1))
    }

    fn pushes(&mut self, namespace: &str, prefix: &str, count: usize, event: fn(&str) -> PendingEvent) {
        for number in 0..count {
            self.push(namespace, &format!("{prefix}{number}"), event("x"));
        }
    }

    fn next(&mut self) -> Option<Occurrence> {
        match self.queue.next(self.now, false) {
            Next::Publish(occurrence) => Some(*occurrence),
            Next::Wait(_) => None,
        }
    }

    fn answered(&mut self, occurrence: &Occurrence, answer: Answer) -> u64 {
        self.queue.answered(occurrence.clone(), answer, self.now)
    }

    /// Publishes the next one, after an answer without delay: its namespace and name.
    fn publish(&mut self) -> Option<(String, String)> {
        let next = self.next()?;
        self.answered(&next, Answer::Stored(Duration::ZERO));
        Some((next.object.namespace.unwrap(), next.object.name.unwrap()))
    }

    fn namespaces(&mut self, count: usize) -> Vec<String> {
        (0..count).map_while(|_| Some(self.publish()?.0)).collect()
    }
}

#[test]
fn a_warning_goes_before_normals_and_a_tenth_is_for_normals() {
    let mut harness = Harness::new(MAX_BYTES);
    harness.pushes("a", "normal-", 40, normal);
    assert_eq!(harness.publish().unwrap().1, "normal-0");
    harness.pushes("a", "warning-", 40, warning);
    assert_eq!(harness.publish().unwrap().1, "warning-0");
    let names: Vec<_> = (0..40).map(|_| harness.publish().unwrap().1).collect();
    assert_eq!(names.iter().filter(|name| name.starts_with("normal")).count(), 4, "{names:?}");
}

#[test]
fn namespaces_are_served_in_turn_whatever_the_others_have_queued() {
    for event in [normal as fn(&str) -> PendingEvent, warning] {
        let mut harness = Harness::new(MAX_BYTES);
        harness.pushes("burst", "", 3_000, event);
        harness.namespaces(100);
        harness.push("quiet", "one", event("x"));
        assert!(harness.namespaces(2).contains(&"quiet".to_owned()));
        // One that returns gets no more than one that waits.
        let mut served = 0;
        for round in 0..100 {
            harness.push("quiet", &round.to_string(), event("x"));
            served += usize::from(harness.namespaces(1) == ["quiet"]);
        }
        assert!((45..=50).contains(&served), "{served}");
    }
}

#[test]
fn a_repeated_event_is_one_with_a_count_and_later_continues_its_series() {
    let mut harness = Harness::new(MAX_BYTES);
    for second in [5, 7, 6] {
        assert_eq!(harness.queue.push(object("a", "b"), warning("x"), at(second)), 0);
    }
    harness.push("a", "b", warning("another text"));
    harness.push("a", "c", warning("x"));
    assert_eq!(harness.queue.len(), 3);
    let first = harness.next().unwrap();
    assert_eq!((first.count, first.first, first.last, first.repeats), (3, at(5), at(7), None));
    assert_eq!(first.series(), Series { first: at(5), count: 3 });
    // While it is in flight, it occurs again.
    harness.queue.push(object("a", "b"), warning("x"), at(8));
    harness.answered(&first, Answer::Stored(Duration::ZERO));
    harness.namespaces(2);
    let again = harness.next().unwrap();
    assert_eq!((again.count, again.last, again.series()), (1, at(8), Series { first: at(5), count: 4 }));
    harness.answered(&again, Answer::Stored(Duration::ZERO));
    for (later, count, repeats) in [(SERIES_TTL / 2, 5, true), (SERIES_TTL, 1, false)] {
        harness.now += later;
        harness.push("a", "b", warning("x"));
        let found = harness.next().unwrap();
        assert_eq!((found.series().count, found.repeats.is_some()), (count, repeats), "{later:?}");
        harness.answered(&found, Answer::Stored(Duration::ZERO));
    }
    harness.push("a", "b", warning("x"));
    let repeated = harness.next().unwrap();
    assert!(repeated.repeats.is_some());
    harness.answered(&repeated, Answer::SeriesEnded);
    let new = harness.next().unwrap();
    assert_eq!((new.repeats, new.count), (None, 1), "the API server has deleted the event");
}

#[test]
fn each_event_has_a_time_of_its_own() {
    let mut harness = Harness::new(MAX_BYTES);
    harness.pushes("a", "", 3, normal);
    let first: BTreeSet<_> = (0..3)
        .map(|_| {
            let next = harness.next().unwrap();
            harness.answered(&next, Answer::Stored(Duration::ZERO));
            next.first
        })
        .collect();
    assert_eq!(first.len(), 3);
}

#[test]
fn a_full_queue_drops_the_oldest_normals_of_the_namespace_that_has_the_most() {
    let mut harness = Harness::new(20 * 600);
    for number in 0..5 {
        assert_eq!(harness.push("light", &number.to_string(), normal(&"x".repeat(200))), 0);
        assert_eq!(harness.push("light", &number.to_string(), warning(&"x".repeat(200))), 0);
    }
    let dropped: u64 =
        (0..100).map(|number| harness.push("heavy", &number.to_string(), normal(&"x".repeat(200)))).sum();
    assert!(dropped > 70 && harness.queue.bytes() <= 20 * 600);
    assert_eq!(harness.queue.len() as u64 + dropped, 110);
    let left: Vec<_> = std::iter::from_fn(|| harness.publish()).collect();
    assert_eq!(left.iter().filter(|(namespace, _)| namespace == "light").count(), 10, "{left:?}");
    assert_eq!(left.last().unwrap().1, "99", "the newest of the heavy namespace is left");
}

#[test]
fn a_namespace_whose_request_hangs_does_not_delay_the_warnings_of_others() {
    let mut harness = Harness::new(MAX_BYTES);
    harness.pushes("hangs", "", 3, warning);
    let hanging = harness.next().unwrap();
    assert_eq!(harness.next(), None, "one request of a namespace");
    harness.push("other", "a", warning("x"));
    assert_eq!(harness.publish().unwrap().0, "other");
    for number in 0..2 * IN_FLIGHT {
        harness.push(&format!("n{number}"), "a", warning("x"));
    }
    let others: Vec<_> = std::iter::from_fn(|| harness.next()).collect();
    assert_eq!(others.len(), IN_FLIGHT - 1);
    harness.answered(&hanging, Answer::Refused);
    assert!(harness.next().is_some());
}

#[test]
fn normals_rest_and_warnings_do_not() {
    let mut harness = Harness::new(MAX_BYTES);
    harness.push("a", "quick", normal("x"));
    harness.push("a", "slow", normal("x"));
    harness.push("a", "later", normal("x"));
    for took in [1, 51] {
        let next = harness.next().unwrap();
        assert_eq!(harness.next(), None, "one Normal at a time");
        harness.answered(&next, Answer::Stored(Duration::from_millis(took)));
    }
    let Next::Wait(Some(until)) = harness.queue.next(harness.now, false) else { panic!() };
    assert!((until - harness.now).abs_diff(Duration::from_millis(200)) < Duration::from_millis(2));
    harness.push("a", "warning", warning("x"));
    assert_eq!(harness.publish().unwrap().1, "warning");
    assert!(matches!(harness.queue.next(harness.now, true), Next::Publish(_)), "not at the end");
}

#[test]
fn a_busy_api_server_is_asked_again_for_the_same_event_a_bounded_number_of_times() {
    let mut harness = Harness::new(MAX_BYTES);
    harness.push("a", "b", warning("x"));
    let mut dropped = 0;
    for attempt in 1..=MAX_TRIES {
        let next = harness.next().unwrap();
        assert_eq!(next.first, at(1), "the same name at each attempt");
        harness.push("a", "b", warning("x"));
        dropped += harness.answered(&next, Answer::Busy(None));
        let Next::Wait(wait) = harness.queue.next(harness.now, false) else { panic!("{attempt}") };
        harness.now = wait.unwrap();
        if attempt == 2 {
            assert_eq!(
                harness.queue.waiting.values().next().unwrap().count,
                3,
                "with those that came meanwhile"
            );
        }
    }
    assert_eq!(dropped, 5);
    let next = harness.next().unwrap();
    assert_eq!(next.count, 1, "the last one came after");
    harness.push("a", "c", normal("x"));
    assert_eq!(harness.answered(&next, Answer::Refused), 0);
    assert_eq!(harness.publish().unwrap().1, "c");
}

#[test]
fn the_published_series_are_bounded() {
    let mut harness = Harness::new(MAX_BYTES);
    for number in 0..2 * MAX_SERIES {
        harness.push("a", &number.to_string(), normal("x"));
        harness.publish();
    }
    assert_eq!((harness.queue.published.len(), harness.queue.oldest.len()), (MAX_SERIES, MAX_SERIES));
}

/// An operation of the property test.
#[derive(Clone, Debug)]
enum Act {
    Push { namespace: u8, object: u8, warns: bool, text: u16 },
    Start,
    Answer { which: u8, answer: u8 },
    Pass { ms: u16 },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let push = (0_u8..4, 0_u8..6, any::<bool>(), 0_u16..900)
        .prop_map(|(namespace, object, warns, text)| Act::Push { namespace, object, warns, text });
    let answer = (any::<u8>(), 0_u8..6).prop_map(|(which, answer)| Act::Answer { which, answer });
    let pass = (1_u16..3_000).prop_map(|ms| Act::Pass { ms });
    prop::collection::vec(prop_oneof![6 => push, 3 => Just(Act::Start), 3 => answer, 1 => pass], 1..200)
}

proptest! {
    #[test]
    fn the_queue_is_bounded_loses_nothing_uncounted_and_drops_no_warning_beside_a_normal(acts in acts()) {
        let mut harness = Harness::new(4_000);
        let mut in_flight: Vec<Occurrence> = Vec::new();
        // Occurrences that were pushed, that were dropped, and that were stored or refused.
        let (mut pushed, mut dropped, mut ended) = (0, 0, 0);
        for act in acts {
            let warnings = |harness: &Harness| -> i32 {
                let waiting = harness.queue.waiting.values();
                waiting.filter(|it| it.event.kind == EventType::Warning).map(|it| it.count).sum()
            };
            let before = warnings(&harness);
            match act {
                Act::Push { namespace, object, warns, text } => {
                    let text = "x".repeat(text.into());
                    let event = if warns { warning(&text) } else { normal(&text) };
                    let lost = harness.push(&format!("n{namespace}"), &object.to_string(), event);
                    pushed += 1;
                    dropped += lost;
                    let normals = harness.queue.waiting.values().any(|it| it.event.kind == EventType::Normal);
                    let kept = warnings(&harness) >= before + i32::from(warns);
                    prop_assert!(kept || !normals, "a Warning was dropped while Normals wait");
                }
                Act::Start => in_flight.extend(harness.next()),
                Act::Answer { which, answer } if !in_flight.is_empty() => {
                    let occurrence = in_flight.swap_remove(usize::from(which) % in_flight.len());
                    let answer = match answer {
                        0 => Answer::Refused,
                        1 => Answer::Busy(None),
                        2 if occurrence.repeats.is_some() => Answer::SeriesEnded,
                        other => Answer::Stored(Duration::from_millis(u64::from(other) * 10)),
                    };
                    dropped += harness.answered(&occurrence, answer);
                    if !matches!(answer, Answer::Busy(_) | Answer::SeriesEnded) {
                        ended += occurrence.count;
                    }
                }
                Act::Answer { .. } => {}
                Act::Pass { ms } => harness.now += Duration::from_millis(ms.into()),
            }
            prop_assert!(harness.queue.bytes <= 4_000 && in_flight.len() <= IN_FLIGHT);
            let bytes: usize = harness.queue.waiting.values().map(Occurrence::bytes).sum();
            prop_assert_eq!(bytes, harness.queue.bytes);
            let namespaces: BTreeSet<_> = in_flight.iter().map(Occurrence::namespace).collect();
            prop_assert_eq!(namespaces.len(), in_flight.len());
        }
        // What is left comes out.
        loop {
            while let Some(occurrence) = in_flight.pop() {
                ended += occurrence.count;
                dropped += harness.answered(&occurrence, Answer::Stored(Duration::ZERO));
            }
            match harness.queue.next(harness.now, false) {
                Next::Publish(occurrence) => in_flight.push(*occurrence),
                Next::Wait(Some(until)) => harness.now = until,
                Next::Wait(None) => break,
            }
        }
        prop_assert!(harness.queue.is_empty() && harness.queue.bytes == 0);
        prop_assert_eq!(pushed, ended + i32::try_from(dropped).unwrap());
    }
}

#[test]
fn normals_of_a_namespace_that_is_being_served_do_not_lose_their_age() {
    let mut harness = Harness::new(1 << 20);
    harness.push("a", "normal", normal("x"));
    for namespace in ["a", "b"] {
        harness.pushes(namespace, "warning", 40, warning);
    }
    // One event of each namespace is in flight all the time, so that `a` is free at every second start only.
    let mut in_flight = Vec::new();
    for started in 0..40 {
        let next = harness.next().unwrap();
        if next.event.kind == EventType::Normal {
            assert!(started >= 9, "Warnings come first");
            return;
        }
        in_flight.push(next);
        if in_flight.len() == 2 {
            let oldest = in_flight.remove(0);
            harness.answered(&oldest, Answer::Stored(Duration::ZERO));
        }
    }
    panic!("the Normal still waits after 40 Warnings");
}

#[test]
fn an_event_that_occurs_again_while_it_is_in_flight_is_counted_with_its_own_size() {
    let mut harness = Harness::new(1 << 20);
    let versioned =
        |version: &str| ObjectReference { resource_version: Some(version.into()), ..object("a", "x") };
    harness.queue.push(versioned("1"), warning("x"), at(1));
    let first = harness.next().unwrap();
    harness.queue.push(versioned("1000000"), warning("x"), at(2));
    harness.answered(&first, Answer::Busy(None));
    harness.now += Duration::from_secs(60);
    let again = harness.next().unwrap();
    assert_eq!((again.count, harness.queue.bytes()), (2, 0));
}

#[test]
fn a_pause_holds_at_the_end_of_the_process_too() {
    let mut harness = Harness::new(1 << 20);
    harness.pushes("a", "x", 2, warning);
    let first = harness.next().unwrap();
    harness.answered(&first, Answer::Busy(Some(Duration::from_secs(1))));
    for drain in [false, true] {
        let next = harness.queue.next(harness.now, drain);
        assert!(matches!(next, Next::Wait(Some(until)) if until > harness.now), "{drain}");
    }
}
