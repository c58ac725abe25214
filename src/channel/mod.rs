//! Channels: one reconcile, as the picture in the crate's documentation shows it.

mod claims;
mod execute;
mod inputs;
mod io;
mod observe;
mod run;

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use kube::ResourceExt;
use kube::runtime::reflector::Store;

use crate::channel::run::{Finish, Reconcile};
use crate::context::Context;
use crate::kubernetes::response_sanitizer;
use crate::reconciler::{Ended, Reconciler, Start, WriteError};
use ohallo_client::heavy::{self, HeavySlot};
use ohallo_client::{Permit, clock};
use ohallo_core::api::ObjectKind;
use ohallo_core::api::channel::{Channel, version};
use ohallo_core::api::conditions::kind;
use ohallo_core::backoff::Requeue;
use ohallo_core::channel::expected_calls::expected_calls;
use ohallo_core::channel::in_memory_state::InMemoryState;
use ohallo_core::channel::plan::delete;
use ohallo_core::channel::state::DELETED_CACHE_LAG;
use ohallo_core::channel::triggers::Triggers;
use ohallo_core::channel::workspace_access;
use ohallo_core::channel::{config, settled};
use ohallo_core::conditions::{self, Status};
use ohallo_core::cooldown;
use ohallo_core::index::WorkspaceKey;
use ohallo_core::lease::election::Epoch;
use ohallo_core::shortage::Shortage;
use ohallo_core::work_queue::{Priority, Resolved, Route};

pub use crate::channel::run::record_unrecorded;

impl Reconciler for Channel {
    const KIND: ObjectKind = ObjectKind::Channel;
    const TIMEOUT: Duration = Duration::from_secs(120);
    type Reconcile = Reconcile;
    type Outcome = Finish;

    fn store(ctx: &Context) -> &Store<Self> {
        &ctx.stores.channels
    }

    fn resolve(&self, ctx: &Context, now: Instant) -> Resolved {
        resolve(self, ctx, now)
    }

    async fn begin(
        self: Arc<Self>,
        ctx: &Arc<Context>,
        permit: Option<Permit>,
    ) -> Result<Start<Self>, WriteError> {
        let later = |requeue| Ok(Start::Later(requeue));
        // A standby does nothing: a new leader requeues every object.
        let (Some(uid), Some(epoch)) = (self.uid(), ctx.leadership.epoch()) else {
            return later(Requeue::Never);
        };
        // Checked again: the inputs may have changed while the object waited in the queue.
        if let Some(rest) = cooldown_remaining(&self, &uid, ctx, epoch) {
            return later(Requeue::After(rest));
        }
        let slot = ctx.ohallo.heavy().slot();
        let whole = match read_in_full(&self, ctx, &slot).await? {
            FullObject::Found(whole) => whole,
            FullObject::Gone => return later(Requeue::After(DELETED_CACHE_LAG)),
            FullObject::Busy => {
                ctx.metrics.deferred(Shortage::Slot);
                return later(Requeue::After(heavy::AGAIN + heavy::AGAIN.mul_f64(rand::random())));
            }
        };
        let mut reconcile = Reconcile::begin(ctx, *whole, epoch, slot);
        reconcile.io.permit = permit;
        let light = Box::new(reconcile.state.light_object());
        Ok(Start::Now(reconcile, light))
    }

    async fn run(reconcile: &mut Option<Box<Reconcile>>) -> Finish {
        run::run(reconcile).await
    }

    async fn report(
        reconcile: Option<Box<Reconcile>>,
        object: &Self,
        ctx: &Arc<Context>,
        outcome: Finish,
    ) -> Ended {
        run::report(reconcile, object, ctx, outcome).await
    }

    fn count_unwritten(&self, ctx: &Context) -> u32 {
        let cell = ctx.memory(&self.uid().unwrap_or_default());
        let mut memory = cell.lock().unwrap_or_else(PoisonError::into_inner);
        memory.failures = memory.failures.saturating_add(1);
        memory.failures
    }

    fn log_names(&self) -> [Option<String>; 3] {
        [Some(self.name_any()), None, None]
    }
}

/// An object with everything that its reconcile needs.
enum FullObject {
    Found(Box<Channel>),
    Gone,
    /// The object is heavy, and another heavy object is being reconciled.
    Busy,
}

/// Returns the object from the cache if it is complete there, else from the API server.
async fn read_in_full(light: &Channel, ctx: &Context, slot: &HeavySlot) -> Result<FullObject, WriteError> {
    if let Some(kept) = ctx.kept.get(light) {
        return Ok(FullObject::Found(Box::new(kept)));
    }
    let read = async |whole| {
        // The semaphore is never closed; a request ends within its own timeout.
        let _permit = ctx.reads.acquire().await;
        response_sanitizer::read(&ctx.client, light, whole).await
    };
    let Some(found) = read(false).await? else { return Ok(FullObject::Gone) };
    if !is_heavy(&found) {
        return Ok(FullObject::Found(Box::new(found)));
    }
    drop(found);
    if !slot.try_take() {
        return Ok(FullObject::Busy);
    }
    let found = read(true).await?;
    Ok(found.map_or(FullObject::Gone, |found| FullObject::Found(Box::new(found))))
}

/// Whether a reconcile of this object takes some MiB of memory, for a decoded config that may be sent. Also
/// works on an object of the cache.
pub fn is_heavy(channel: &Channel) -> bool {
    let config = channel.spec.left_out.as_ref().and_then(|left_out| left_out.config);
    let calls = channel.spec.suspend != Some(true) && channel.metadata.deletion_timestamp.is_none();
    calls && config.is_some_and(|size| size.decoded > heavy::LIGHT && config::fits(size))
}

/// Resolves a Channel for the work queue: deleted, resting, or ready to run.
fn resolve(channel: &Channel, ctx: &Context, now: Instant) -> Resolved {
    let (Some(uid), Some(epoch)) = (channel.uid(), ctx.leadership.epoch()) else { return Resolved::Gone };
    if let Some(rest) = cooldown_remaining(channel, &uid, ctx, epoch) {
        return Resolved::Resting(now + rest);
    }
    let handle = WorkspaceKey::of(channel);
    let settled = settled::settled(channel);
    let status = channel.status.clone().unwrap_or_default();
    let deletes =
        channel.metadata.deletion_timestamp.is_none() || delete::should_delete_remote(channel, &status);
    let workspace = ctx.workspace_snapshot(&handle);
    let suspended =
        channel.spec.suspend == Some(true) || workspace.as_ref().is_none_or(|workspace| workspace.suspended);
    let calls = deletes && !suspended;
    let facts = inputs::workspace_facts(ctx, &handle, workspace.as_ref(), channel, Some(&status));
    let awaits_key = calls && facts.awaits_first_check();
    let ready =
        conditions::find(&status.conditions, kind::READY).filter(|ready| Status::of(ready) == Status::True);
    let lapses = ready.is_some_and(|ready| ready.observed_generation == channel.metadata.generation)
        && channel.metadata.deletion_timestamp.is_none();
    let lifetime = lapses.then(|| ctx.read_interval(channel) * 2);
    let cell = ctx.memory(&uid);
    let mut memory = cell.lock().unwrap_or_else(PoisonError::into_inner);
    // Ready expires two read intervals after the last read: the read must happen before that, if the rate limit
    // allows.
    let latest = memory.last_read_at.zip(lifetime).map(|(read, lifetime)| read + lifetime);
    memory.awaits_key_since = awaits_key.then(|| memory.awaits_key_since.unwrap_or(now));
    let rest = memory.awaits_key_since.and_then(|since| workspace_access::key_check_rest(since, now));
    drop(memory);
    if let Some(until) = rest.map(|until| latest.unwrap_or(until).min(until)).filter(|until| *until > now) {
        return Resolved::Resting(until);
    }
    Resolved::Ready(Route {
        key: facts.key.as_ref().filter(|_| calls).map(|held| held.key.id()),
        heavy: is_heavy(channel),
        priority: if settled { Priority::Background } else { Priority::Interactive },
        latest,
    })
}

/// The Workspace whose rate limit its calls count against, and how many tokens its reconcile starts with. `None` while
/// oHallo is asked whether the key is valid.
pub fn tokens(channel: &Channel, ctx: &Context) -> Option<(WorkspaceKey, u32)> {
    let handle = WorkspaceKey::of(channel);
    if ctx.key_check_requested(&handle) {
        let snapshot = ctx.workspace_snapshot(&handle);
        let status = channel.status.as_ref();
        if inputs::workspace_facts(ctx, &handle, snapshot.as_ref(), channel, status).awaits_recheck() {
            return None;
        }
    }
    let cell = ctx.memory(&channel.uid().unwrap_or_default());
    let tokens = cell.lock().unwrap_or_else(PoisonError::into_inner).tokens;
    Some((handle, tokens.max(expected_calls(channel))))
}

/// How soon an object that waits for the CustomResourceDefinitions is resolved again. Their return also
/// requeues it.
const OUTDATED_REQUEUE: Duration = Duration::from_secs(30);

/// Whether a status write would destroy what the API server still stores of this object: with an older
/// CustomResourceDefinition it reads objects without the new fields. A status that only memory holds is resent
/// anyway.
fn would_lose(channel: &Channel, memory: &InMemoryState) -> bool {
    let in_memory = memory.unstored.is_some() || memory.unrecorded_id().is_some();
    let marked = channel.has_finalizer();
    let holds = channel.status.as_ref().is_some_and(|it| it.channel_id.is_some() || it.create.is_some());
    (marked || holds) && !in_memory
}

/// How long this object needs no reconcile: it is older than this process's last write, or nothing has changed
/// since its last reconcile.
fn cooldown_remaining(channel: &Channel, uid: &str, ctx: &Context, epoch: Epoch) -> Option<Duration> {
    let cell = ctx.memory(uid);
    let now = clock::instant();
    ctx.consistency().enter(epoch, now);
    let now_inputs = inputs::inputs(ctx, channel);
    let mut memory = cell.lock().unwrap_or_else(PoisonError::into_inner);
    memory.enter(epoch);
    memory.last_read_at.get_or_insert(now);
    if memory.outran(version(channel), now) {
        return Some(Duration::from_secs(5));
    }
    memory.note_read(channel);
    if ctx.schema.lacks().is_some() && would_lose(channel, &memory) {
        return Some(OUTDATED_REQUEUE);
    }
    if !memory.reconciled_once && memory.cooldown.is_none() {
        memory.cooldown = initial_cooldown(channel, &now_inputs);
    }
    let rest = memory.cooldown.as_ref()?.remaining(now, |closed_with| closed_with.changed(&now_inputs))?;
    Some(rest)
}

/// After a restart, a settled Channel is first read at a random point of its interval.
fn initial_cooldown(channel: &Channel, now: &Triggers) -> Option<cooldown::Cooldown<Triggers>> {
    let inputs = Triggers { secrets: settled::pushed_at_rest(channel)?, key: None, ..now.clone() };
    let first = channel.spec.interval().mul_f64(rand::random());
    Some(cooldown::Cooldown::new(inputs, clock::instant() + first))
}
