//! The events that wait to be published: Warnings first, fair by namespace, repeated ones once.
//!
//! - A Warning goes before a Normal; after [`AGED`] Warnings, one Normal. Namespaces are served in turn.
//! - An event that repeats one that waits is added to its count. One that repeats a published event continues its series.
//! - The queue is bounded in bytes. What exceeds it is dropped: a Normal before any Warning, of the namespace that has the
//!   most, its oldest first.
//! - A namespace has one request in flight at a time, so that one that hangs does not delay the others.
//! - Normals rest while the API server is slow ([`Pace`]).
//!
//! Every operation costs O(log n).

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;

use crate::event::{EventType, PendingEvent};
use crate::event_queue::pace::Pace;

mod pace;

/// The maximum size of the waiting events: some thousand typical ones.
const MAX_BYTES: usize = 2 * 1024 * 1024;

/// The requests in flight. Normals have one, so that a burst of them takes little from the reconciles.
const IN_FLIGHT: usize = 4;

/// The number of Warnings before one of the waiting Normals.
const AGED: u32 = 9;

/// The requests of one event that the API server was too busy to answer, before it is dropped.
const MAX_TRIES: u32 = 5;

/// How long after its last event a series is continued, and the maximum number of such series.
const SERIES_TTL: Duration = Duration::from_secs(360);
const MAX_SERIES: usize = 1000;

/// The size of an event without its texts, in bytes.
const EVENT_BYTES: usize = size_of::<Occurrence>() + 64;

/// An event about one object, and its repetitions.
#[derive(Clone, Debug, PartialEq)]
pub struct Occurrence {
    pub object: ObjectReference,
    pub event: PendingEvent,
    /// The time of the first; distinct among all events of a process.
    pub first: Timestamp,
    pub last: Timestamp,
    /// How often it occurred since it was last published; at least 1.
    pub count: i32,
    /// The published event that it repeats.
    pub repeats: Option<Series>,
    identity: u64,
    tries: u32,
}

/// A published event and its repetitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series {
    /// The time that names the event.
    pub first: Timestamp,
    pub count: i32,
}

/// How the API server answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The event is stored, after this time.
    Stored(Duration),
    /// It will never be, as in a terminating namespace.
    Refused,
    /// The published event that it repeats does not exist any more.
    SeriesEnded,
    /// The API server is overloaded or unreachable; with its `Retry-After`.
    Busy(Option<Duration>),
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    Publish(Box<Occurrence>),
    /// Nothing before this time; `None`: before a push or an answer.
    Wait(Option<Instant>),
}

#[derive(Debug)]
pub struct EventQueue {
    max_bytes: usize,
    bytes: usize,
    hasher: RandomState,
    /// By identity.
    waiting: HashMap<u64, Occurrence>,
    warnings: Lane,
    normals: Lane,
    /// The namespaces with a request in flight.
    in_flight: HashSet<Arc<str>>,
    normal_in_flight: bool,
    /// The number of Warnings since a Normal waits.
    passed: u32,
    pace: Pace,
    /// By identity, with the time of the last answer.
    published: HashMap<u64, (Series, Instant)>,
    /// The same, in the order of that time.
    oldest: BTreeSet<(Instant, u64)>,
    stamp: Timestamp,
}

/// The waiting events of one type.
#[derive(Debug, Default)]
struct Lane {
    namespaces: HashMap<Arc<str>, Backlog>,
    /// The order of service: number of services, namespace.
    turns: BTreeSet<(u64, Arc<str>)>,
    by_bytes: BTreeSet<(usize, Arc<str>)>,
    /// The turn that was served last.
    served: u64,
}

#[derive(Debug)]
struct Backlog {
    events: VecDeque<u64>,
    bytes: usize,
    turn: u64,
}

// === impl Occurrence ===

impl Occurrence {
    fn bytes(&self) -> usize {
        let ObjectReference { api_version, field_path, kind, name, namespace, resource_version, uid } =
            &self.object;
        let texts = [api_version, field_path, kind, name, namespace, resource_version, uid];
        EVENT_BYTES + self.event.text.len() + texts.into_iter().flatten().map(String::len).sum::<usize>()
    }

    /// The series with this occurrence.
    pub fn series(&self) -> Series {
        let before = self.repeats.unwrap_or(Series { first: self.first, count: 0 });
        Series { count: before.count.saturating_add(self.count), ..before }
    }

    fn occurrences(&self) -> u64 {
        u64::try_from(self.count).unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.object.namespace.as_deref().unwrap_or_default()
    }
}

// === impl EventQueue ===

impl Default for EventQueue {
    fn default() -> Self {
        Self::with(MAX_BYTES)
    }
}

impl EventQueue {
    /// A queue of at most so many bytes.
    pub fn with(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            bytes: 0,
            hasher: RandomState::new(),
            waiting: HashMap::new(),
            warnings: Lane::default(),
            normals: Lane::default(),
            in_flight: HashSet::new(),
            normal_in_flight: false,
            passed: 0,
            pace: Pace::default(),
            published: HashMap::new(),
            oldest: BTreeSet::new(),
            stamp: Timestamp::MIN,
        }
    }

    /// Adds an event that occurred at `at`. Returns how many were dropped.
    pub fn push(&mut self, object: ObjectReference, event: PendingEvent, at: Timestamp) -> u64 {
        let words = (&object.uid, &object.name, event.kind.as_str(), event.reason.as_str(), &event.text);
        let identity = self.hasher.hash_one(words);
        if let Some(known) = self.waiting.get_mut(&identity) {
            known.count = known.count.saturating_add(1);
            known.last = known.last.max(at);
            return 0;
        }
        // The time names the event.
        let next = self.stamp.checked_add(SignedDuration::from_nanos(1)).unwrap_or(self.stamp);
        self.stamp = at.max(next);
        let (first, last) = (self.stamp, self.stamp);
        self.insert(
            Occurrence { object, event, first, last, count: 1, repeats: None, identity, tries: 0 },
            false,
        );
        self.shrink()
    }

    /// The next event to publish. `drain`: at the end of the process, without rests.
    pub fn next(&mut self, now: Instant, drain: bool) -> Next {
        if self.in_flight.len() >= IN_FLIGHT {
            return Next::Wait(None);
        }
        let ahead = |until: Option<Instant>| until.filter(|until| *until > now);
        if let Some(paused) = ahead(self.pace.paused()) {
            return Next::Wait((!self.waiting.is_empty()).then_some(paused));
        }
        let resting = ahead(self.pace.resting()).filter(|_| !drain);
        let normal = self.normals.first(&self.in_flight).filter(|_| !self.normal_in_flight || drain);
        let warning = self.warnings.first(&self.in_flight);
        let ready = normal.filter(|_| resting.is_none());
        let (kind, namespace) = match (warning, ready) {
            (Some(warning), None) => (EventType::Warning, warning),
            (Some(warning), Some(_)) if self.passed < AGED => (EventType::Warning, warning),
            (_, Some(normal)) => (EventType::Normal, normal),
            (None, None) => return Next::Wait(normal.and(resting)),
        };
        let (namespace, waits) = (Arc::clone(namespace), normal.is_some());
        match kind {
            EventType::Warning if waits => self.passed += 1,
            // Normals wait whose namespace is being served.
            EventType::Warning if !self.normals.namespaces.is_empty() => {}
            EventType::Warning | EventType::Normal => self.passed = 0,
        }
        match self.take(kind, &namespace, true) {
            Some(occurrence) => {
                self.in_flight.insert(namespace);
                self.normal_in_flight |= kind == EventType::Normal;
                let repeats = self.published.get(&occurrence.identity);
                let repeats = repeats.filter(|(_, at)| now.saturating_duration_since(*at) < SERIES_TTL);
                let repeats = repeats.map(|(series, _)| *series);
                Next::Publish(Box::new(Occurrence { repeats, ..occurrence }))
            }
            None => Next::Wait(None),
        }
    }

    /// Records the answer to a published event. Returns how many events were dropped.
    pub fn answered(&mut self, mut occurrence: Occurrence, answer: Answer, now: Instant) -> u64 {
        self.in_flight.remove(occurrence.namespace());
        self.normal_in_flight &= occurrence.event.kind != EventType::Normal;
        match answer {
            Answer::Stored(took) => {
                self.pace.answered(took, self.bytes as f64 / self.max_bytes as f64, now);
                self.remember(&occurrence, now);
                0
            }
            Answer::Refused => 0,
            Answer::SeriesEnded => {
                if let Some((_, at)) = self.published.remove(&occurrence.identity) {
                    self.oldest.remove(&(at, occurrence.identity));
                }
                self.put_back(occurrence)
            }
            Answer::Busy(retry_after) => {
                self.pace.busy(retry_after, now);
                occurrence.tries += 1;
                if occurrence.tries >= MAX_TRIES {
                    return occurrence.occurrences();
                }
                self.put_back(occurrence)
            }
        }
    }

    /// The size of the waiting events.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of events that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn lane(&mut self, kind: EventType) -> &mut Lane {
        match kind {
            EventType::Warning => &mut self.warnings,
            EventType::Normal => &mut self.normals,
        }
    }

    /// Puts an event back that was not stored.
    fn put_back(&mut self, occurrence: Occurrence) -> u64 {
        match self.waiting.get_mut(&occurrence.identity) {
            // It occurred again meanwhile.
            Some(again) => {
                let count = occurrence.count.saturating_add(again.count);
                // Its size is counted: that of the object that occurred again.
                let object = again.object.clone();
                *again = Occurrence { count, last: again.last, object, ..occurrence };
            }
            None => self.insert(occurrence, true),
        }
        self.shrink()
    }

    fn insert(&mut self, occurrence: Occurrence, front: bool) {
        let bytes = occurrence.bytes();
        self.bytes += bytes;
        let identity = occurrence.identity;
        self.lane(occurrence.event.kind).insert(occurrence.namespace(), identity, bytes, front);
        self.waiting.insert(identity, occurrence);
    }

    /// Takes the oldest event of a namespace.
    fn take(&mut self, kind: EventType, namespace: &Arc<str>, serve: bool) -> Option<Occurrence> {
        let identity = self.lane(kind).oldest(namespace)?;
        let occurrence = self.waiting.remove(&identity)?;
        let bytes = occurrence.bytes();
        self.bytes = self.bytes.saturating_sub(bytes);
        self.lane(kind).pop(namespace, bytes, serve);
        Some(occurrence)
    }

    /// Drops what exceeds the bound: Normals first, of the namespace that has the most.
    fn shrink(&mut self) -> u64 {
        let mut dropped = 0;
        while self.bytes > self.max_bytes {
            let of = |lane: &Lane| lane.by_bytes.last().map(|(_, namespace)| Arc::clone(namespace));
            let (kind, namespace) = match (of(&self.normals), of(&self.warnings)) {
                (Some(namespace), _) => (EventType::Normal, namespace),
                (None, Some(namespace)) => (EventType::Warning, namespace),
                (None, None) => break,
            };
            let Some(occurrence) = self.take(kind, &namespace, false) else { break };
            dropped += occurrence.occurrences();
        }
        dropped
    }

    fn remember(&mut self, occurrence: &Occurrence, now: Instant) {
        if let Some((_, at)) = self.published.insert(occurrence.identity, (occurrence.series(), now)) {
            self.oldest.remove(&(at, occurrence.identity));
        }
        self.oldest.insert((now, occurrence.identity));
        while self.published.len() > MAX_SERIES
            && let Some((_, identity)) = self.oldest.pop_first()
        {
            self.published.remove(&identity);
        }
    }
}

// === impl Lane ===

impl Lane {
    /// The namespace that is served next, of those without a request in flight.
    fn first(&self, in_flight: &HashSet<Arc<str>>) -> Option<&Arc<str>> {
        self.turns.iter().map(|(_, namespace)| namespace).find(|namespace| !in_flight.contains(*namespace))
    }

    fn oldest(&self, namespace: &str) -> Option<u64> {
        self.namespaces.get(namespace)?.events.front().copied()
    }

    fn insert(&mut self, namespace: &str, identity: u64, bytes: usize, front: bool) {
        // One that comes, or returns, waits for those of the current round.
        let turn = self.served + 1;
        self.change(namespace, turn, |backlog| {
            backlog.bytes += bytes;
            if front {
                backlog.events.push_front(identity);
            } else {
                backlog.events.push_back(identity);
            }
        });
    }

    /// Removes the oldest event of a namespace. `serve`: the namespace has had its share of this round.
    fn pop(&mut self, namespace: &str, bytes: usize, serve: bool) {
        let served = self.change(namespace, 0, |backlog| {
            backlog.events.pop_front();
            backlog.bytes = backlog.bytes.saturating_sub(bytes);
            let turn = backlog.turn;
            backlog.turn += u64::from(serve);
            turn
        });
        if serve {
            self.served = self.served.max(served);
        }
    }

    /// Changes the backlog of a namespace and its places in both orders; an empty one is dropped.
    fn change<T>(&mut self, namespace: &str, turn: u64, change: impl FnOnce(&mut Backlog) -> T) -> T {
        let new = || (namespace.into(), Backlog { events: VecDeque::new(), bytes: 0, turn });
        let (name, mut backlog): (Arc<str>, _) = self.namespaces.remove_entry(namespace).unwrap_or_else(new);
        self.turns.remove(&(backlog.turn, Arc::clone(&name)));
        self.by_bytes.remove(&(backlog.bytes, Arc::clone(&name)));
        let changed = change(&mut backlog);
        if !backlog.events.is_empty() {
            self.turns.insert((backlog.turn, Arc::clone(&name)));
            self.by_bytes.insert((backlog.bytes, Arc::clone(&name)));
            self.namespaces.insert(name, backlog);
        }
        changed
    }
}

#[cfg(test)]
mod tests;
