//! What one event costs beside many other objects: the instructions of the same events with 1,000, 10,000 and 100,000
//! objects, for each structure that an event, a request, a reconcile or a scrape goes through.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;

use ohallo_client::{Caller, Client, NoObserver, Options, clock};
use ohallo_core::api::channel::Channel;
use ohallo_core::channel::consistency::{Consistency, Write};
use ohallo_core::channel::object_cache::ObjectCache;
use ohallo_core::event::{EventReason, PendingEvent};
use ohallo_core::event_queue::{Answer, EventQueue, Next};
use ohallo_core::index::{Claim, Index, NamespacedName, Shown, WorkspaceKey};
use ohallo_core::priority::Priority;
use ohallo_core::rate_limiter::{Claimant, Limiter, Refusal};
use ohallo_core::secret::ApiKey;
use ohallo_core::tally::Tally;
use ohallo_core::work_queue::{Again, Blocked, Gate, Limits, ObjectKey, Resolved, Route, WorkQueue};

use crate::instructions;

const SIZES: [usize; 3] = [1_000, 10_000, 100_000];
/// The events that are counted, spread over the objects.
const EVENTS: usize = 200;
/// What 100 times the objects may cost: the depth of trees, and hashing.
const TREE: f64 = 1.8;
const HASH: f64 = 1.1;

/// The handling of an event that concerns one object.
type Handle = Box<dyn FnMut(usize)>;

/// Sets up a structure with so many objects.
type SetUp = fn(usize) -> Result<Handle>;

const WORKS: [(&str, f64, SetUp); 12] = [
    ("nothing", HASH, |_| Ok(Box::new(|_| {}))),
    ("index", TREE, index),
    ("index-one-id", TREE, one_id),
    ("index-workspaces", HASH, workspaces),
    ("work-queue", TREE, work_queue),
    ("work-queue-at-rate", TREE, work_queue_at_its_rate),
    ("rate-limiter", TREE, rate_limiter),
    ("api-keys", TREE, api_keys),
    ("manifests", TREE, manifests),
    ("counts", TREE, counts),
    ("windows", HASH, windows),
    ("events", TREE, events),
];

/// Compares the sizes; whether each work is within its bound.
pub fn compare() -> Result<bool> {
    let mut good = true;
    for (name, bound, _) in WORKS.iter().skip(1) {
        let [few, some, many] = SIZES.map(|size| {
            let of = |work: &str| {
                instructions(&["object", work, &size.to_string()], &["--toggle-collect=*measured*"])
            };
            anyhow::Ok(of(name)? - of("nothing")?)
        });
        let (few, some, many) = (few?, some?, many?);
        let ratio = many / few.max(1.0);
        good &= ratio <= *bound && some / few.max(1.0) <= *bound;
        let each = [few, some, many].map(|count| (count / EVENTS as f64).round());
        eprintln!(
            "{name:20} {each:?} instructions an event with {SIZES:?} objects: {ratio:.2} times (bound {bound})"
        );
    }
    Ok(good)
}

/// Sets up a work, and handles the events.
pub fn run(work: &str, size: usize) -> Result<()> {
    let Some((.., set_up)) = WORKS.iter().find(|(name, ..)| *name == work) else {
        bail!("there is no work {work}")
    };
    let mut handle = set_up(size)?;
    measured(&mut handle, size);
    Ok(())
}

/// The only function whose instructions are counted.
#[inline(never)]
fn measured(handle: &mut Handle, size: usize) {
    // No closure: its name would contain that of this function, and end the count.
    for event in 0..EVENTS {
        handle(event * (size / EVENTS));
    }
}

// Names of equal length, so that no text costs more.
fn namespace(number: usize) -> String {
    format!("n{:06}", number / 10)
}

fn name(number: usize) -> NamespacedName {
    NamespacedName::new(namespace(number), format!("c{number:06}"))
}

fn channel(number: usize) -> Channel {
    let NamespacedName { namespace, name } = name(number);
    let mut channel = Channel::new(&name, Default::default());
    channel.metadata.namespace = Some(namespace);
    channel.metadata.uid = Some(format!("uid-{number:06}"));
    channel
}

fn bound(number: usize, id: &str) -> Channel {
    let mut channel = channel(number);
    let status = channel.status.get_or_insert_default();
    status.channel_id = Some(id.to_owned());
    status.bound_uid.clone_from(&channel.metadata.uid);
    channel
}

/// A Channel is created, reserves its id, is bound, read and deleted.
fn index(size: usize) -> Result<Handle> {
    let mut index = Index::default();
    (0..size).for_each(|number| drop(index.put(&bound(number, &format!("id-{number:06}")))));
    Ok(Box::new(move |number| {
        let (name, id) = (name(number), format!("id-{number:06}"));
        let uid = format!("uid-{number:06}");
        index.remove(&name);
        index.put(&channel(number));
        index.creating(&name, &uid, true);
        index.claim(&id, &name, &uid, Claim::Create);
        index.put(&bound(number, &id));
        index.judge(&name, &uid, &id, Shown::Able);
        index.rivals(&id, &name);
        index.owner(&id, &name, &uid);
        index.has_uid(&uid);
    }))
}

/// All Channels name one id.
fn one_id(size: usize) -> Result<Handle> {
    let mut index = Index::default();
    let wanting = |number: usize| {
        let mut channel = channel(number);
        channel.spec.channel_id = Some("one".into());
        channel
    };
    (0..size).for_each(|number| drop(index.put(&wanting(number))));
    Ok(Box::new(move |number| {
        let (name, uid) = (name(number), format!("uid-{number:06}"));
        index.judge(&name, &uid, "one", Shown::Able);
        index.owner("one", &name, &uid);
        index.claimant_namespaces("one", &name, 8);
        index.remove(&name);
        index.put(&wanting(number));
    }))
}

/// A Workspace is reconciled; its key is one of many.
fn workspaces(size: usize) -> Result<Handle> {
    let mut index = Index::default();
    let handle =
        |number: usize| WorkspaceKey { namespace: Some(namespace(number)), name: format!("w{number:06}") };
    (0..size).for_each(|number| index.put_key(&handle(number), Some(name(number))));
    Ok(Box::new(move |number| {
        let handle = handle(number);
        index.put_key(&handle, None);
        index.put_key(&handle, Some(name(number)));
        index.in_use(&handle, |_| true);
        index.has_users(&handle);
        index.count(&handle);
    }))
}

/// Starts what is asked for; with a limiter, what has a token.
struct Door<'a>(Option<&'a mut Limiter>);

impl Gate for Door<'_> {
    type Permit = ();

    fn resolve(&mut self, object: &ObjectKey, _: Instant) -> Resolved {
        let key = Some(ApiKey::new(object.name.chars().take(2).collect()).id());
        Resolved::Ready(Route { key, heavy: false, priority: Priority::Background, latest: None })
    }

    fn admit(&mut self, object: &ObjectKey, _: &Route, now: Instant) -> Result<((), u32), Blocked> {
        if let Some(limiter) = &mut self.0 {
            let claimant = Claimant { namespace: object.namespace.clone(), running: false };
            let checked = limiter.check(&claimant, 1, now);
            checked.map_err(|Refusal { wait, for_all }| Blocked::Key { until: now + wait, for_all })?;
            limiter.spend(&claimant, 1);
        }
        Ok(((), 1))
    }
}

fn object(number: usize) -> ObjectKey {
    let NamespacedName { namespace, name } = name(number);
    ObjectKey::channel(&namespace, &name)
}

/// A queue in which all but few objects are resolved.
fn waiting(size: usize, now: Instant) -> WorkQueue {
    let mut queue = WorkQueue::new(Limits::of(16, 12));
    (0..size).for_each(|number| queue.add(object(number), Priority::Interactive, now));
    while queue.has_new() {
        if let Some(started) = queue.pop(now, &mut Door(None)) {
            queue.done(&started.object, Again::At(now), now);
        }
    }
    queue
}

/// An object is added, and another one starts and ends.
fn work_queue(size: usize) -> Result<Handle> {
    let now = clock::instant();
    let mut queue = waiting(size, now);
    Ok(Box::new(move |number| {
        queue.add(object(number), Priority::Interactive, now);
        if let Some(started) = queue.pop(now, &mut Door(None)) {
            queue.done(&started.object, Again::At(now), now);
        }
    }))
}

/// Many namespaces share an API key whose rate is exhausted: what starts and what waits.
fn work_queue_at_its_rate(size: usize) -> Result<Handle> {
    let mut now = clock::instant();
    let (mut queue, mut limiter) = (waiting(size, now), Limiter::new(10.0, 20));
    let mut step = move |number: usize| {
        queue.add(object(number), Priority::Interactive, now);
        now += Duration::from_millis(100);
        while let Some(started) = queue.pop(now, &mut Door(Some(&mut limiter))) {
            queue.done(&started.object, Again::At(now + Duration::from_secs(3600)), now);
        }
    };
    (0..500).for_each(|_| step(0));
    Ok(Box::new(step))
}

/// A namespace asks for a token, beside many others.
fn rate_limiter(size: usize) -> Result<Handle> {
    let mut now = clock::instant();
    let mut limiter = Limiter::new(10.0, 20);
    let mut ask = move |number: usize| {
        now += Duration::from_millis(8);
        let claimant =
            Claimant { namespace: Some(format!("n{number:06}").into()), running: number.is_multiple_of(2) };
        if limiter.check(&claimant, 1, now).is_ok() {
            limiter.spend(&claimant, 1);
            limiter.refund(&claimant.namespace, 1);
        }
    };
    (0..size).for_each(&mut ask);
    Ok(Box::new(ask))
}

/// A reconcile starts with a token of its API key, one of many.
fn api_keys(size: usize) -> Result<Handle> {
    let options = Options {
        api_url: "http://127.0.0.1:1".parse()?,
        create_path: "/api/workspaces/{workspaceId}/channels".into(),
        request_timeout: Duration::from_secs(1),
        create_timeout: Duration::from_secs(1),
        requests_per_second: 10.0,
        burst: 20,
        total_requests_per_second: 0.0,
        ca_pem: None,
        proxy: None,
        allow_insecure: true,
        read_only: false,
    };
    let client = Client::new(options, Arc::new(NoObserver))?;
    let now = clock::instant();
    let permit = move |number: usize| {
        let key = ApiKey::new(format!("k{number:06}")).id();
        let workspace = WorkspaceKey { namespace: Some(namespace(number)), name: format!("w{number:06}") };
        let caller =
            Caller { namespace: Some(namespace(number).into()), workspace, priority: Priority::Interactive };
        drop(client.permit(key, &caller, 1, now));
    };
    (0..size).for_each(&permit);
    Ok(Box::new(permit))
}

/// A watched Channel replaces another one in the full cache of manifests.
fn manifests(size: usize) -> Result<Handle> {
    let take_in = |cache: &ObjectCache, number: usize| {
        let mut channel = channel(number * 10);
        channel.spec.display_name = Some("x".repeat(100));
        cache.take_in(&mut channel);
    };
    let probe = ObjectCache::default();
    take_in(&probe, 0);
    let cache = ObjectCache::with(probe.bytes() * size);
    (0..size + EVENTS).for_each(|number| take_in(&cache, number));
    Ok(Box::new(move |number| take_in(&cache, number + size + EVENTS)))
}

/// A Channel becomes Ready.
fn counts(size: usize) -> Result<Handle> {
    let mut tally = Tally::default();
    (0..size).for_each(|number| tally.change(None, Some((namespace(number), false))));
    Ok(Box::new(move |number| {
        tally.change(Some((namespace(number), false)), Some((namespace(number), true)));
    }))
}

/// A write opens the consistency window of its id.
fn windows(size: usize) -> Result<Handle> {
    let now = clock::instant();
    let mut consistency = Consistency::new(Duration::from_secs(60), now);
    let id = |number: usize| format!("id-{number:06}");
    (0..size).for_each(|number| consistency.wrote(&id(number), Write::Other, now));
    Ok(Box::new(move |number| {
        consistency.wrote(&id(number), Write::Other, now);
        consistency.window(&id(number), now);
    }))
}

/// An event comes into a full queue, and another one is published.
fn events(size: usize) -> Result<Handle> {
    let now = clock::instant();
    let push = |queue: &mut EventQueue, number: usize| {
        let NamespacedName { namespace, name } = name(number);
        let object = ObjectReference { namespace: Some(namespace), name: Some(name), ..Default::default() };
        queue.push(object, PendingEvent::normal(EventReason::Created, "Created."), Timestamp::UNIX_EPOCH)
    };
    let mut probe = EventQueue::default();
    push(&mut probe, 0);
    let mut queue = EventQueue::with(probe.bytes() * size);
    for number in 0..size {
        push(&mut queue, number);
    }
    Ok(Box::new(move |number| {
        push(&mut queue, number + size);
        push(&mut queue, number + size);
        if let Next::Publish(occurrence) = queue.next(now, true) {
            queue.answered(*occurrence, Answer::Stored(Duration::ZERO), now);
        }
    }))
}
