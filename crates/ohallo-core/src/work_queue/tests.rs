use Priority::{Background, Interactive};
use proptest::prelude::*;

use super::*;
use crate::secret::ApiKey;
use crate::test_clock as clock;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn key(name: &str) -> KeyId {
    ApiKey::new(name.to_owned()).id()
}

fn channel(namespace: &str, name: impl std::fmt::Display) -> ObjectKey {
    ObjectKey::channel(namespace, &name.to_string())
}

/// A queue whose objects use the key at the start of their name (`key/rest`), and the decisions of its owner.
struct World {
    queue: WorkQueue,
    now: Instant,
    start: Instant,
    /// Until when a key is blocked.
    paused: HashMap<KeyId, Instant>,
    all_paused: Option<Instant>,
    /// The tokens of a key and the time of the next one; a key without an entry is unlimited.
    tokens: HashMap<KeyId, (u32, Instant, Duration)>,
    gone: BTreeSet<ObjectKey>,
    resting: HashMap<ObjectKey, Instant>,
    latest: Option<Duration>,
    /// Objects that can't start before then.
    set_aside: HashMap<ObjectKey, Instant>,
    asked: u32,
}

struct Asked<'a>(&'a mut World);

// === impl Gate ===

impl Gate for Asked<'_> {
    type Permit = ();

    fn resolve(&mut self, object: &ObjectKey, now: Instant) -> Resolved {
        if self.0.gone.contains(object) {
            return Resolved::Gone;
        }
        if let Some(until) = self.0.resting.get(object).filter(|until| **until > now) {
            return Resolved::Resting(*until);
        }
        Resolved::Ready(Route {
            key: object.name.split_once('/').map(|(name, _)| key(name)),
            heavy: object.name.contains("heavy"),
            priority: Priority::Background,
            latest: self.0.latest.map(|wait| now + wait),
        })
    }

    fn admit(&mut self, object: &ObjectKey, route: &Route, now: Instant) -> Result<((), u32), Blocked> {
        self.0.asked += 1;
        if let Some(until) = self.0.set_aside.get(object).filter(|until| **until > now) {
            return Err(Blocked::Object { until: *until });
        }
        let Some(id) = route.key else { return Ok(((), 1)) };
        if let Some(until) = self.0.all_paused.filter(|until| *until > now) {
            return Err(Blocked::AllKeys { until, for_all: true });
        }
        if let Some(until) = self.0.paused.get(&id).filter(|until| **until > now) {
            return Err(Blocked::Key { until: *until, for_all: true });
        }
        if let Some((tokens, next, every)) = self.0.tokens.get_mut(&id) {
            while *next <= now {
                *next += *every;
                *tokens += 1;
            }
            if *tokens == 0 {
                return Err(Blocked::Key { until: *next, for_all: true });
            }
            *tokens -= 1;
        }
        Ok(((), 1))
    }
}

// === impl World ===

impl World {
    fn new(workers: usize) -> Self {
        Self::with(Limits::of(workers, 12))
    }

    fn with(limits: Limits) -> Self {
        let now = clock::instant();
        Self {
            queue: WorkQueue::new(limits),
            now,
            start: now,
            paused: HashMap::new(),
            all_paused: None,
            tokens: HashMap::new(),
            gone: BTreeSet::new(),
            resting: HashMap::new(),
            latest: None,
            set_aside: HashMap::new(),
            asked: 0,
        }
    }

    fn add(&mut self, object: &ObjectKey, priority: Priority) {
        self.queue.add(object.clone(), priority, self.now);
    }

    fn adds(&mut self, namespace: &str, prefix: &str, count: usize, priority: Priority) {
        for number in 0..count {
            self.add(&channel(namespace, format!("{prefix}{number}")), priority);
        }
    }

    fn pop(&mut self) -> Option<Started<()>> {
        let mut queue = std::mem::replace(&mut self.queue, WorkQueue::new(Limits::of(1, 1)));
        let now = self.now;
        let mut started = queue.pop(now, &mut Asked(self));
        while started.is_none() && queue.has_new() {
            started = queue.pop(now, &mut Asked(self));
        }
        self.queue = queue;
        started
    }

    /// All that can start now, in order.
    fn starts(&mut self) -> Vec<ObjectKey> {
        std::iter::from_fn(|| self.pop()).map(|started| (*started.object).clone()).collect()
    }

    fn names(&mut self) -> Vec<String> {
        self.starts().iter().map(|object| object.name.to_string()).collect()
    }

    fn done(&mut self, object: &ObjectKey) {
        self.queue.done(object, Again::Never, self.now);
    }

    /// Runs one object after the other to its end; returns their namespaces.
    fn one_by_one(&mut self, count: usize) -> Vec<String> {
        (0..count)
            .map_while(|_| {
                let started = self.pop()?;
                self.done(&started.object);
                Some(started.object.namespace.as_deref().unwrap_or_default().to_owned())
            })
            .collect()
    }

    fn is_empty(&self) -> bool {
        let queue = &self.queue;
        queue.items.is_empty()
            && queue.buckets.is_empty()
            && queue.shared.is_empty()
            && queue.spaces.is_empty()
            && queue.idle_spaces.is_empty()
            && queue.unblocks.is_empty()
            && queue.latest.is_empty()
            && queue.depth.values().all(|depth| *depth == 0)
            && queue.candidates.iter().flatten().all(BTreeSet::is_empty)
    }
}

#[test]
fn an_object_is_queued_once_and_runs_once_and_again_after_an_add_during_its_run() {
    let mut world = World::new(16);
    let object = channel("a", "k/1");
    world.add(&object, Interactive);
    world.add(&object, Background);
    assert_eq!(world.starts(), std::slice::from_ref(&object));
    world.add(&object, Background);
    world.add(&object, Interactive);
    assert_eq!(world.starts(), [], "it runs");
    world.queue.done(&object, Again::At(world.now + ms(5_000)), world.now);
    let again = world.pop().unwrap();
    assert_eq!(
        (&*again.object, again.priority),
        (&object, Interactive),
        "the add takes precedence over the requeue time"
    );
    world.done(&object);
    assert_eq!(world.starts(), []);
    assert!(world.is_empty(), "{:#?}", world.queue);
}

#[test]
fn a_requeue_time_is_kept_and_an_add_replaces_it() {
    let mut world = World::new(16);
    let object = channel("a", "k/1");
    world.add(&object, Interactive);
    assert_eq!(world.starts().len(), 1);
    let at = world.now + ms(10_000);
    world.queue.done(&object, Again::At(at), world.now);
    assert_eq!((world.starts().len(), world.queue.next_wake()), (0, Some(at)));
    world.now += ms(10_000);
    let started = world.pop().unwrap();
    assert_eq!(started.priority, Background, "the owner says which");
    world.queue.done(&object, Again::At(world.now + ms(10_000)), world.now);
    world.add(&object, Interactive);
    assert_eq!(world.starts().len(), 1);
    world.done(&object);
    world.now += ms(20_000);
    assert_eq!(world.starts(), [], "the time was replaced");
}

#[test]
fn a_deleted_object_is_dropped_and_a_cooldown_occupies_no_worker() {
    let mut world = World::new(1);
    let (gone, resting, other) = (channel("a", "k/gone"), channel("a", "k/resting"), channel("a", "k/other"));
    world.gone.insert(gone.clone());
    world.resting.insert(resting.clone(), world.now + ms(1_000));
    for object in [&gone, &resting, &other] {
        world.add(object, Interactive);
    }
    assert_eq!(world.starts(), std::slice::from_ref(&other));
    world.done(&other);
    assert_eq!(world.queue.next_wake(), Some(world.now + ms(1_000)));
    world.now += ms(1_000);
    assert_eq!(world.starts(), [resting]);
}

#[test]
fn interactive_work_starts_first_and_background_work_gets_a_tenth() {
    let mut world = World::new(1);
    world.adds("a", "k/resync-", 100, Background);
    assert_eq!(world.starts().len(), 1);
    world.adds("b", "l/edit-", 1, Interactive);
    world.done(&channel("a", "k/resync-0"));
    assert_eq!(world.names(), ["l/edit-0"], "beside a hundred of a list");
    world.done(&channel("b", "l/edit-0"));
    for (namespace, prefix) in [("b", "l/more-"), ("a", "k/more-")] {
        world.adds(namespace, prefix, 500, Interactive);
    }
    let mut background = 0;
    for _ in 0..500 {
        let started = world.pop().unwrap();
        background += usize::from(started.priority == Background);
        world.done(&started.object);
    }
    // The other key has no token.
    assert!((22..=28).contains(&background), "{background} of 250 of its key");
}

#[test]
fn background_work_of_a_key_has_a_tenth_of_its_tokens_whatever_other_keys_do() {
    let mut world = World::new(16);
    world.tokens.insert(key("k"), (0, world.now + ms(100), ms(100)));
    world.adds("a", "k/edit-", 400, Interactive);
    world.adds("b", "k/resync-", 400, Background);
    world.adds("c", "l/edit-", 10_000, Interactive);
    world.adds("c", "l/resync-", 1_000, Background);
    let (mut edits, mut resyncs) = (0, 0);
    while world.now - world.start < ms(30_000) {
        while world.now - world.start < ms(30_000)
            && let Some(started) = world.pop()
        {
            edits += u32::from(started.object.name.starts_with("k/edit"));
            resyncs += u32::from(started.object.name.starts_with("k/resync"));
            world.done(&started.object);
            if started.object.name.starts_with("l/") {
                world.now += ms(7);
                world.add(&started.object, started.priority);
            }
        }
        world.now = world.queue.next_wake().unwrap_or(world.now).max(world.now);
    }
    assert!(edits + resyncs >= 295, "the rate is used: {edits} {resyncs}");
    assert!((28..=40).contains(&resyncs), "{edits} {resyncs}");
}

#[test]
fn the_namespace_with_the_fewest_running_starts_first_then_the_one_served_least() {
    let mut world = World::new(4);
    world.adds("a", "", 400, Interactive);
    assert_eq!(world.starts().len(), 3, "a namespace has three quarters of the workers");
    world.adds("b", "l/", 400, Interactive);
    assert_eq!(world.starts().len(), 1);
    for number in 0..3 {
        world.done(&channel("a", number));
    }
    let next = world.starts();
    let of = |name: &str| next.iter().filter(|object| object.namespace.as_deref() == Some(name)).count();
    assert_eq!((of("a"), of("b")), (2, 1), "two each");
    let mut world = World::new(1);
    world.adds("a", "k/", 400, Interactive);
    assert_eq!(world.one_by_one(50).len(), 50);
    world.adds("b", "l/", 400, Interactive);
    assert_eq!(world.one_by_one(1), ["b"], "a new namespace does not wait for the backlog of others");
    let next = world.one_by_one(100);
    assert_eq!(next.iter().filter(|name| *name == "a").count(), 50);
}

#[test]
fn a_namespace_that_leaves_and_returns_gets_no_more_than_one_that_waits() {
    let mut world = World::new(1);
    world.adds("a", "k/", 400, Interactive);
    let mut served = [0, 0];
    for _ in 0..200 {
        world.add(&channel("b", "k/one"), Interactive);
        let started = world.pop().unwrap();
        let index = usize::from(started.object.namespace.as_deref() == Some("b"));
        served[index] += 1;
        world.done(&started.object);
    }
    assert!(served[0] >= 99, "{served:?}");
}

#[test]
fn the_tokens_of_a_shared_key_go_to_namespaces_in_turn() {
    let mut world = World::new(16);
    world.tokens.insert(key("k"), (20, world.now + ms(100), ms(100)));
    world.adds("a", "k/", 400, Interactive);
    while let Some(started) = world.pop() {
        world.done(&started.object);
    }
    world.now += ms(10);
    let came = world.now;
    world.add(&channel("b", "k/one"), Interactive);
    let (mut before, mut found) = (0, false);
    while !found {
        for object in world.starts() {
            found |= object.namespace.as_deref() == Some("b");
            before += u32::from(!found);
            world.done(&object);
        }
        world.now = world.queue.next_wake().unwrap_or(world.now);
    }
    assert!(world.now - came <= ms(200) && before <= 1, "{before} tokens went before");
}

#[test]
fn two_slow_keys_of_a_namespace_leave_workers_to_others_and_one_slow_key_to_its_own() {
    let mut world = World::new(16);
    world.adds("a", "slow/", 100, Interactive);
    assert_eq!(world.starts().len(), 9, "one key of a namespace");
    world.adds("a", "other/", 100, Interactive);
    assert_eq!(world.starts().len(), 3, "of twelve that a namespace may have");
    world.adds("b", "slow/", 100, Interactive);
    let of_b = world.starts().len();
    assert!((1..=3).contains(&of_b), "{of_b}: twelve of a key, and the last workers are for others");
    for namespace in ["c", "d"] {
        world.adds(namespace, "fine/", 3, Interactive);
        assert!(!world.starts().is_empty(), "{namespace}");
    }
    assert!(world.queue.running() <= 16);
}

#[test]
fn a_paused_key_blocks_only_its_own_objects_and_is_checked_once() {
    let mut world = World::new(16);
    let until = world.now + ms(900_000);
    world.paused.insert(key("k"), until);
    world.adds("a", "k/", 1_000, Interactive);
    world.adds("a", "l/", 2, Interactive);
    world.add(&channel("a", "unkeyed"), Interactive);
    assert_eq!(world.starts().len(), 3);
    assert_eq!(world.asked, 4, "one question for a thousand objects");
    for later in [1_000, 60_000, 899_999] {
        world.now = world.start + ms(later);
        assert_eq!(world.starts(), []);
    }
    assert_eq!((world.asked, world.queue.next_wake()), (4, Some(until)));
    world.now = until;
    assert_eq!(world.starts().len(), 9);
}

#[test]
fn an_object_that_can_not_start_blocks_no_other_of_its_key_and_keeps_its_place() {
    let mut world = World::new(1);
    let until = world.now + ms(1_000);
    world.adds("a", "k/", 3, Background);
    world.set_aside.insert(channel("a", "k/0"), until);
    assert_eq!(world.names(), ["k/1"]);
    world.done(&channel("a", "k/1"));
    world.now = until;
    assert_eq!(world.names(), ["k/0"], "it was there before k/2");
}

#[test]
fn when_no_key_can_serve_only_what_needs_none_starts() {
    let mut world = World::new(16);
    world.all_paused = Some(world.now + ms(500));
    world.adds("a", "k/", 3, Interactive);
    world.adds("b", "l/", 3, Interactive);
    world.add(&channel("a", "unkeyed"), Background);
    assert_eq!(world.names(), ["unkeyed"]);
    assert_eq!(world.queue.next_wake(), Some(world.now + ms(500)));
    world.now += ms(500);
    assert_eq!(world.starts().len(), 6);
}

#[test]
fn an_object_whose_status_becomes_untrue_starts_without_its_key() {
    let mut world = World::new(16);
    world.paused.insert(key("k"), world.now + ms(900_000));
    world.latest = Some(ms(120_000));
    world.add(&channel("a", "k/1"), Background);
    assert_eq!(world.starts(), []);
    assert_eq!(world.queue.next_wake(), Some(world.now + ms(120_000)));
    world.now += ms(120_000);
    assert_eq!(world.starts().len(), 1);
}

#[test]
fn an_end_frees_what_its_permit_did_not_use() {
    let mut world = World::new(16);
    world.tokens.insert(key("k"), (1, world.now + ms(60_000), ms(60_000)));
    world.adds("a", "k/", 2, Interactive);
    let [first] = &world.starts()[..] else { panic!() };
    world.tokens.insert(key("k"), (1, world.now + ms(60_000), ms(60_000)));
    assert_eq!(world.starts(), []);
    world.done(first);
    assert_eq!(world.starts().len(), 1);
}

#[test]
fn at_most_one_heavy_object_runs_and_a_paused_key_blocks_no_other() {
    let mut world = World::new(16);
    world.paused.insert(key("k"), world.now + ms(900_000));
    world.adds("a", "k/heavy-", 2, Interactive);
    world.adds("b", "l/heavy-", 2, Interactive);
    world.adds("c", "l/light-", 2, Interactive);
    let mut started = world.names();
    started.sort();
    assert_eq!(started, ["l/heavy-0", "l/light-0", "l/light-1"]);
    world.done(&channel("b", "l/heavy-0"));
    assert_eq!(world.names(), ["l/heavy-1"]);
    world.done(&channel("b", "l/heavy-1"));
    world.now += ms(900_000);
    assert_eq!(world.starts().len(), 1);
}

#[test]
fn an_object_whose_key_was_rotated_waits_under_the_new_one() {
    let mut world = World::new(16);
    world.paused.insert(key("k"), world.now + ms(900_000));
    world.add(&channel("a", "k/1"), Background);
    assert_eq!(world.starts(), []);
    world.paused.clear();
    world.add(&channel("a", "k/1"), Background);
    // The block belongs to the old key: only the end of a run or its time lifts it.
    assert_eq!(world.queue.depth().values().sum::<usize>(), 1);
    world.now += ms(900_000);
    assert_eq!(world.starts().len(), 1);
}

#[test]
fn a_deferred_object_keeps_its_place() {
    let mut world = World::new(1);
    world.adds("a", "k/", 3, Interactive);
    let first = world.pop().unwrap().object;
    world.queue.done(&first, Again::Deferred(world.now + ms(10)), world.now);
    world.now += ms(10);
    world.add(&first, Interactive);
    assert_eq!(world.pop().unwrap().object, first);
}

#[test]
fn what_is_worked_off_leaves_nothing() {
    let mut world = World::new(16);
    for round in 0..20 {
        for namespace in 0..50 {
            world.adds(&format!("n{round}-{namespace}"), &format!("k{namespace}/"), 5, Interactive);
            world.adds(&format!("n{round}-{namespace}"), "shared/", 5, Background);
        }
        while let [first, ..] = &world.starts()[..] {
            let running: Vec<_> = world
                .queue
                .items
                .iter()
                .filter(|(_, item)| matches!(item.state, State::Running { .. }))
                .map(|(object, _)| object.clone())
                .collect();
            assert!(running.iter().any(|object| **object == *first));
            running.iter().for_each(|object| world.done(object));
        }
    }
    assert!(world.is_empty(), "{:#?}", world.queue);
}

#[test]
fn each_operation_costs_the_same_with_a_thousand_and_a_hundred_thousand_objects() {
    let mut per_object = Vec::new();
    for count in [1_000, 10_000, 100_000] {
        for (namespaces, keys) in [(1, 1), (count / 10, 1), (10, count / 10), (count, count)] {
            let mut world = World::new(16);
            for number in 0..count {
                let name = format!("k{}/{number}", number % keys);
                let priority = if number % 3 == 0 { Interactive } else { Background };
                world.add(&channel(&format!("n{}", number % namespaces), name), priority);
            }
            while let Some(started) = world.pop() {
                world.done(&started.object);
            }
            assert!(world.is_empty());
            per_object.push((count, namespaces, keys, world.queue.steps / count as u64));
        }
    }
    eprintln!("objects, namespaces, keys, steps per object: {per_object:?}");
    assert!(per_object.iter().all(|(.., steps)| *steps <= 40), "{per_object:?}");
}

/// An operation of a property test on the queue.
#[derive(Clone, Debug)]
enum Act {
    Add { namespace: u8, key: u8, object: u8, background: bool, heavy: bool },
    Start,
    End { which: u8, again: u8 },
    Pause { key: u8, ms: u16 },
    PauseAll { ms: u16 },
    Pass { ms: u16 },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let add = (0_u8..5, 0_u8..4, 0_u8..20, any::<bool>(), 0_u8..8).prop_map(
        |(namespace, key, object, background, heavy)| Act::Add {
            namespace,
            key,
            object,
            background,
            heavy: heavy == 0,
        },
    );
    let end = (any::<u8>(), 0_u8..4).prop_map(|(which, again)| Act::End { which, again });
    let pause = (0_u8..4, 1_u16..2_000).prop_map(|(key, ms)| Act::Pause { key, ms });
    prop::collection::vec(
        prop_oneof![
            6 => add,
            6 => Just(Act::Start),
            6 => end,
            1 => pause,
            1 => (1_u16..500).prop_map(|ms| Act::PauseAll { ms }),
            2 => (1_u16..1_000).prop_map(|ms| Act::Pass { ms }),
        ],
        1..300,
    )
}

proptest! {
    #[test]
    fn limits_hold_nothing_runs_twice_and_everything_runs_in_the_end(workers in 1_usize..20, acts in acts()) {
        let limits = Limits::of(workers, 12);
        let mut world = World::with(limits);
        let mut running: Vec<Arc<ObjectKey>> = Vec::new();
        let mut owed: BTreeSet<ObjectKey> = BTreeSet::new();
        for act in acts {
            match act {
                Act::Add { namespace, key, object, background, heavy } => {
                    let class = if heavy { "heavy-" } else { "" };
                    let object = channel(&format!("n{namespace}"), format!("k{key}/{class}{object}"));
                    world.add(&object, if background { Background } else { Interactive });
                    owed.insert(object);
                }
                Act::Start => {
                    let all_paused = world.all_paused.is_some_and(|until| until > world.now);
                    if let Some(started) = world.pop() {
                        prop_assert!(!running.contains(&started.object), "{:?} runs twice", started.object);
                        let id = key(started.object.name.split_once('/').unwrap().0);
                        prop_assert!(!all_paused && world.paused.get(&id).is_none_or(|until| *until <= world.now));
                        owed.remove(&*started.object);
                        running.push(started.object);
                    }
                }
                Act::End { which, again } if !running.is_empty() => {
                    let object = running.swap_remove(usize::from(which) % running.len());
                    let at = world.now + ms(u64::from(again) * 100);
                    let again = match again {
                        0 => Again::Never,
                        1 => Again::Deferred(at),
                        _ => Again::At(at),
                    };
                    if again != Again::Never {
                        owed.insert((*object).clone());
                    }
                    world.queue.done(&object, again, world.now);
                }
                Act::End { .. } => {}
                Act::Pause { key: number, ms: wait } => {
                    let until = world.now + ms(u64::from(wait));
                    world.paused.insert(key(&format!("k{number}")), until);
                }
                Act::PauseAll { ms: wait } => world.all_paused = Some(world.now + ms(u64::from(wait))),
                Act::Pass { ms: wait } => world.now += ms(u64::from(wait)),
            }
            let count = |of: &dyn Fn(&ObjectKey) -> bool| running.iter().filter(|object| of(object)).count();
            prop_assert!(running.len() <= limits.workers && world.queue.running() == running.len());
            prop_assert!(count(&|object| object.name.contains("heavy")) <= 1);
            for object in &running {
                let same = |other: &ObjectKey| other.namespace == object.namespace;
                let key = object.name.split('/').next();
                prop_assert!(count(&|other| same(other)) <= limits.per_namespace);
                let of_key = |other: &ObjectKey| {
                    !other.name.contains("heavy") && other.name.split('/').next() == key
                };
                prop_assert!(count(&|other| of_key(other)) <= limits.per_key);
                prop_assert!(count(&|other| of_key(other) && same(other)) <= limits.per_namespace_and_key);
            }
        }
        // Every added object starts, and no entry remains.
        for _ in 0..10_000 {
            for object in std::mem::take(&mut running) {
                world.done(&object);
            }
            while let Some(started) = world.pop() {
                owed.remove(&*started.object);
                running.push(started.object);
            }
            if running.is_empty() {
                let Some(wake) = world.queue.next_wake() else { break };
                world.now = world.now.max(wake);
            }
        }
        prop_assert!(owed.is_empty(), "never started: {owed:?}");
        prop_assert!(world.is_empty(), "{:#?}", world.queue);
    }

    #[test]
    fn a_namespace_waits_for_few_starts_of_the_others_whatever_they_have_queued(
        workers in 1_usize..17, hostile in 1_usize..5, backlog in 20_usize..200, shared in any::<bool>(),
        length in 1_usize..4,
    ) {
        let mut world = World::new(workers);
        for number in 0..hostile {
            let prefix = if shared { "k/".to_owned() } else { format!("h{number}/") };
            world.adds(&format!("hostile-{number}"), &prefix, backlog, Interactive);
        }
        let mut running: std::collections::VecDeque<_> = world.starts().into();
        world.add(&channel("healthy", if shared { "k/one" } else { "fine/one" }), Interactive);
        let mut before = 0;
        let mut found = false;
        while !found {
            for object in world.starts() {
                found |= object.namespace.as_deref() == Some("healthy");
                before += u32::from(!found);
                running.push_back(object);
            }
            for _ in 0..length {
                let Some(object) = running.pop_front() else { break };
                world.done(&object);
                world.add(&object, Interactive);
            }
        }
        prop_assert!(before <= 1, "{before} started before");
    }
}
