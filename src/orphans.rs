// I/O
//! Reports oHallo channels whose object disappeared without a deletion by this operator: a log line at ERROR, a count and
//! an event for each. What reconciles under way find out is waited for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::ResourceExt;
use kube::api::{Api, ObjectMeta};
use tokio::sync::Notify;

use crate::api::channel::Channel;
use crate::channel::memory::Memory;
use crate::channel::orphan::{LastSeen, Orphan, is_unprotected, orphans};
use crate::context::Context;
use crate::events::Note;
use crate::index::Name;
use crate::text;
use crate::workspace::Kind;

/// The most objects that wait until this process leads.
const MAX_WAITING: usize = 1000;

/// How often a reconcile under way is waited for.
const POLL: Duration = Duration::from_millis(100);

/// How long after an API server that did not answer is asked again.
const RETRY: Duration = Duration::from_secs(2);

/// The longest id in a report, in characters: the schema of the status allows no longer one.
const MAX_ID_CHARS: usize = 256;

/// The reason of the event.
const REASON: &str = "ChannelOrphaned";

/// Objects whose end is still to be reported.
#[derive(Default)]
pub struct Orphans {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    waiting: Vec<Ended>,
    /// Another replica holds the lease, and reports what this one sees.
    other_leads: bool,
    /// Objects there was no room for.
    dropped: u64,
}

/// An object that disappeared, or that the operator's finalizer no longer keeps.
struct Ended {
    name: Name,
    last: LastSeen,
    memory: Arc<Mutex<Memory>>,
    /// This process led when it saw the end.
    led: bool,
}

// === impl Inner ===

impl Inner {
    /// One entry for each object: two of them would each take the other for a reconcile under way.
    fn wait(&mut self, mut ended: Ended) {
        if let Some(at) = self.waiting.iter().position(|known| Arc::ptr_eq(&known.memory, &ended.memory)) {
            ended.led |= self.waiting.swap_remove(at).led;
        }
        self.waiting.push(ended);
    }
}

// === impl Orphans ===

impl Orphans {
    /// Notes the end of an object: it is reported once no reconcile of it is under way, and this process leads.
    pub fn ended(&self, name: Name, last: LastSeen, memory: Arc<Mutex<Memory>>, led: bool) {
        {
            let memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
            let at_work = memory.attempt.is_some();
            if memory.parted
                || memory.removes_finalizer
                || !at_work && last.bound.is_none() && last.create.is_none() && memory.binding.is_none()
            {
                return;
            }
        }
        let mut inner = self.lock();
        if !led && inner.other_leads {
            return;
        }
        if !led && inner.waiting.len() >= MAX_WAITING {
            inner.dropped += 1;
            return;
        }
        inner.wait(Ended { name, last, memory, led });
        drop(inner);
        self.changed.notify_one();
    }

    /// Notes whether another replica holds the lease: it reports what this one sees.
    pub fn other_leads(&self, leads: bool) {
        let mut inner = self.lock();
        inner.other_leads = leads;
        if leads {
            inner.waiting.retain(|ended| ended.led);
            inner.dropped = 0;
        }
    }

    /// This process has begun to lead.
    pub fn leads(&self) {
        self.lock().other_leads = false;
        self.changed.notify_one();
    }

    /// Takes what may be reported now.
    fn take(&self, leads: bool) -> (Vec<Ended>, u64) {
        let mut inner = self.lock();
        let waiting = std::mem::take(&mut inner.waiting);
        let (now, later): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|ended| leads || ended.led);
        inner.waiting = later;
        (now, if leads { std::mem::take(&mut inner.dropped) } else { 0 })
    }

    fn put_back(&self, ended: Ended) {
        self.lock().wait(ended);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Never ends.
pub async fn run(ctx: &Context) {
    loop {
        match settle(ctx, false).await {
            Some(again) => tokio::time::sleep(again).await,
            None => ctx.orphans.changed.notified().await,
        }
    }
}

/// Reports what is left when no reconcile is waited for any more.
pub async fn finish(ctx: &Context) {
    settle(ctx, true).await;
}

/// Reports what is known by now; how long to wait for the rest.
async fn settle(ctx: &Context, last: bool) -> Option<Duration> {
    let (ended, dropped) = ctx.orphans.take(ctx.leadership.epoch().is_some());
    if dropped > 0 {
        (0..dropped).for_each(|_| ctx.metrics.id_orphaned());
        tracing::error!(
            dropped,
            "more Channels disappeared while no replica led than can be reported by name; their channels may be left in oHallo"
        );
    }
    let mut again = None;
    for ended in ended {
        let wait = match exists(ctx, &ended).await {
            Some(true) => None,
            Some(false) => decide(ctx, &ended, last).err(),
            None => Some(RETRY),
        };
        if let Some(wait) = wait {
            again = Some(wait.min(again.unwrap_or(wait)));
            ctx.orphans.put_back(ended);
        }
    }
    again
}

/// Whether the object still exists with its finalizer: a watch by labels cannot tell an object that no longer has them from
/// one that was deleted. `None` where the API server does not answer.
async fn exists(ctx: &Context, ended: &Ended) -> Option<bool> {
    if ctx.settings.channel_selector.is_none() {
        return Some(false);
    }
    let api: Api<Channel> = Api::namespaced(ctx.client.clone(), &ended.name.namespace);
    match api.get(&ended.name.name).await {
        Ok(found) => {
            let same = found.metadata.uid.as_deref() == Some(&ended.last.uid);
            Some(same && !is_unprotected(&found))
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Some(false),
        Err(_) => None,
    }
}

/// Reports what the object leaves behind. `Err` where a reconcile of it is under way, which may yet find out: how long to wait.
fn decide(ctx: &Context, ended: &Ended, last: bool) -> Result<(), Duration> {
    let left = ctx.while_idle(&ended.last.uid, &ended.memory, last, |memory| {
        let left = orphans(&ended.last, memory);
        memory.parted |= !left.is_empty();
        left
    });
    let left = left.ok_or(POLL)?;
    for orphan in left.iter().filter(|orphan| !is_of_another(ctx, orphan, &ended.last.uid)) {
        report(ctx, &ended.name, &ended.last.uid, orphan);
    }
    Ok(())
}

/// Whether it is a create of another Channel that still exists, of which the object was a copy.
fn is_of_another(ctx: &Context, orphan: &Orphan, own: &str) -> bool {
    let Orphan::Attempt(attempt) = orphan else { return false };
    let is_it = |channel: &Arc<Channel>| channel.metadata.uid.as_ref() == Some(&attempt.uid);
    attempt.uid != own && ctx.channels.state().iter().any(is_it)
}

/// Reports one channel that an object left in oHallo.
pub fn report(ctx: &Context, name: &Name, uid: &str, orphan: &Orphan) {
    let id = text::sanitize(&orphan.to_string(), MAX_ID_CHARS);
    let Name { namespace, name } = name;
    let what = match orphan {
        Orphan::Channel(_) => {
            tracing::error!(
                channel = name,
                namespace,
                channel_id = id,
                "a Channel lost its finalizer to someone else; its channel is left in oHallo"
            );
            format!(
                "channel {id} is left in oHallo. Adopt it with spec.channelId, or delete it in oHallo's dashboard."
            )
        }
        Orphan::Attempt(_) => {
            tracing::error!(
                channel = name,
                namespace,
                attempt = id,
                "a Channel lost its finalizer to someone else; a channel may be left in oHallo"
            );
            format!("create {id} may have left a channel in oHallo. Look for it in oHallo's dashboard.")
        }
    };
    // After the line: who waits for the count finds it.
    ctx.metrics.id_orphaned();
    let metadata = ObjectMeta {
        name: Some(name.clone()),
        namespace: Some(namespace.clone()),
        uid: Some(uid.to_owned()),
        ..ObjectMeta::default()
    };
    let object = Channel { metadata, ..Channel::default() };
    let note = format!("The finalizer of this Channel was removed by someone else: {what}");
    ctx.publish(&object, vec![Note::warning(REASON, note)]);
}

/// Reports a Workspace that is in use by Channels that disappeared while no operator ran. Which ones is not known.
pub fn report_abandoned<K: Kind>(ctx: &Context, workspace: &K) {
    let (kind, name, namespace) = (K::NAME, workspace.name_any(), workspace.namespace());
    tracing::error!(
        kind,
        name,
        namespace,
        "Channels of this workspace disappeared while no operator ran; channels may be left in oHallo"
    );
    ctx.metrics.id_orphaned();
    let note = "Channels that used this workspace disappeared while no operator ran, so channels may be left in oHallo. Look for them in \
                oHallo's dashboard.";
    ctx.publish(workspace, vec![Note::warning(REASON, note)]);
}

#[cfg(test)]
impl Orphans {
    /// The uids of the objects that wait.
    pub fn waiting(&self) -> Vec<String> {
        self.lock().waiting.iter().map(|ended| ended.last.uid.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(orphans: &Orphans, led: bool, edit: impl FnOnce(&mut Memory)) {
        let mut memory = Memory::default();
        edit(&mut memory);
        let last = LastSeen { uid: "u".into(), bound: Some("c1".into()), ..LastSeen::default() };
        orphans.ended(Name::new("t", "a"), last, Arc::new(Mutex::new(memory)), led);
    }

    fn taken(orphans: &Orphans, leads: bool) -> usize {
        orphans.take(leads).0.len()
    }

    #[test]
    fn a_standby_keeps_what_ends_while_nobody_leads_and_leaves_the_rest_to_the_leader() {
        let orphans = Orphans::default();
        // The lease was not read yet.
        note(&orphans, false, |_| {});
        assert_eq!(taken(&orphans, false), 0);
        orphans.other_leads(true);
        note(&orphans, false, |_| {});
        assert_eq!(taken(&orphans, true), 0, "the leader has reported both");
        orphans.other_leads(false);
        note(&orphans, false, |_| {});
        assert_eq!(taken(&orphans, false), 0);
        orphans.leads();
        assert_eq!((taken(&orphans, true), taken(&orphans, true)), (1, 0));
        // What a leader saw it reports, whoever leads by then.
        note(&orphans, true, |_| {});
        orphans.other_leads(true);
        assert_eq!(taken(&orphans, false), 1);
    }

    #[test]
    fn what_the_operator_ended_or_never_had_a_channel_is_not_kept() {
        let orphans = Orphans::default();
        note(&orphans, true, |memory| memory.parted = true);
        note(&orphans, true, |memory| memory.removes_finalizer = true);
        let nothing = LastSeen { uid: "u".into(), ..LastSeen::default() };
        orphans.ended(Name::new("t", "a"), nothing, Arc::default(), true);
        assert_eq!(taken(&orphans, true), 0);
    }

    #[test]
    fn a_standby_keeps_a_bounded_number_and_counts_the_rest_and_a_leader_keeps_all() {
        let orphans = Orphans::default();
        (0..MAX_WAITING + 7).for_each(|_| note(&orphans, false, |_| {}));
        let (kept, dropped) = orphans.take(true);
        assert_eq!((kept.len(), dropped), (MAX_WAITING, 7));
        (0..MAX_WAITING + 7).for_each(|_| note(&orphans, true, |_| {}));
        let (kept, dropped) = orphans.take(true);
        assert_eq!((kept.len(), dropped), (MAX_WAITING + 7, 0));
    }

    #[test]
    fn an_object_that_ends_twice_waits_once_and_counts_as_led_if_either_was() {
        let (orphans, memory) = (Orphans::default(), Arc::new(Mutex::new(Memory::default())));
        let last = || LastSeen { uid: "u".into(), bound: Some("c1".into()), ..LastSeen::default() };
        for led in [true, false] {
            orphans.ended(Name::new("a", "b"), last(), Arc::clone(&memory), led);
        }
        assert_eq!(orphans.waiting(), ["u"]);
        assert_eq!(Arc::strong_count(&memory), 2, "the other entry is no reconcile under way");
        let (now, _) = orphans.take(false);
        assert_eq!(now.len(), 1);
    }
}
