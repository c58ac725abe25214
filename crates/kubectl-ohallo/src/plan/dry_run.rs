//! The operator's own reconciles, with assumed answers: what it would send to oHallo after an apply.
//!
//! Every decision is one of `ohallo-core`, made by the same loop as in the operator. Only the answers are assumed:
//! the API server stores what is written, oHallo accepts what is sent, and provisioning succeeds.

mod answers;
mod channel_result;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use ohallo_core::api::channel::Channel;
use ohallo_core::channel::consistency::Consistency;
use ohallo_core::channel::credentials;
use ohallo_core::channel::effect::{Cursor, Next};
use ohallo_core::channel::in_memory_state::InMemoryState;
use ohallo_core::channel::model::{
    Claims, ConclusionKind, DesiredCredentials, Outcome, Plan, Predecessor, Step,
};
use ohallo_core::channel::observation::RemoteRead;
use ohallo_core::channel::plan::{delete, plan};
use ohallo_core::channel::state::{Now, State};
use ohallo_core::channel::triggers::Triggers;
use ohallo_core::failure::{Failure, Retry};
use ohallo_core::index::{Index, NamespacedName, Shown, WorkspaceKey};
use ohallo_core::remote::{Id, RemoteChannel};

use crate::plan::cluster_state::{ClusterState, Remote, Remotes, ids_of};
use crate::plan::dry_run::answers::Kubernetes;

pub use crate::plan::dry_run::answers::PLACEHOLDER;
pub use crate::plan::dry_run::channel_result::{Action, ChannelResult};

/// The most steps of one reconcile, as in the operator.
const MAX_STEPS: usize = 12;

/// The most rounds through all Channels. A round without an effect ends the dry run earlier.
const MAX_ROUNDS: usize = 64;

/// How far the assumed clock may move, for what only waits some seconds: a second proof, the claims of others.
const MAX_WAIT: Duration = Duration::from_secs(55);

/// What a dry run ends with.
pub struct DryRunResult {
    pub results: BTreeMap<NamespacedName, ChannelResult>,
    pub channels: BTreeMap<NamespacedName, Channel>,
    pub memory: BTreeMap<NamespacedName, InMemoryState>,
    pub remotes: Remotes,
}

/// Runs the operator's reconciles on this cluster until they rest.
pub fn dry_run(cluster_state: &ClusterState, now: Now) -> DryRunResult {
    let mut dry_run = DryRun::begin(cluster_state, now);
    dry_run.run();
    let DryRun { results, objects, memory, remotes, .. } = dry_run;
    DryRunResult { results, channels: objects, memory, remotes }
}

struct DryRun<'a> {
    cluster_state: &'a ClusterState,
    objects: BTreeMap<NamespacedName, Channel>,
    memory: BTreeMap<NamespacedName, InMemoryState>,
    remotes: Remotes,
    index: Index,
    consistency: Consistency,
    now: Now,
    begun: Now,
    kubernetes: Kubernetes,
    results: BTreeMap<NamespacedName, ChannelResult>,
}

/// How one reconcile ended.
struct Reconciled {
    /// Something was done or written.
    moved: bool,
    /// It continues after this time, without any change.
    again: Option<Duration>,
}

// === impl DryRun ===

impl<'a> DryRun<'a> {
    fn begin(cluster_state: &'a ClusterState, now: Now) -> Self {
        let mut index = Index::default();
        for channel in cluster_state.channels.values() {
            index.put(channel);
        }
        let mut dry_run = Self {
            cluster_state,
            objects: cluster_state.channels.clone(),
            memory: cluster_state.memory.clone(),
            remotes: cluster_state.remotes.clone(),
            index,
            consistency: Consistency::new(Duration::ZERO, now.instant),
            now,
            begun: now,
            kubernetes: Kubernetes::after(cluster_state.channels.values()),
            results: BTreeMap::new(),
        };
        dry_run.judge_bystanders();
        dry_run
    }

    /// What the reconciles of the other Channels have shown: one that is bound, or that the operator reported to name a
    /// channel of another, has read it.
    fn judge_bystanders(&mut self) {
        for (name, channel) in &self.cluster_state.channels {
            if self.cluster_state.participants.contains(name) {
                continue;
            }
            let uid = channel.metadata.uid.as_deref().unwrap_or_default();
            for id in ids_of(channel) {
                if channel_result::has_read_its_channel(channel) {
                    self.index.judge(name, uid, &id, Shown::Reads);
                }
            }
        }
    }

    fn run(&mut self) {
        let mut names: Vec<_> = self.cluster_state.participants.iter().cloned().collect();
        for _ in 0..MAX_ROUNDS {
            let mut moved = false;
            let mut waiting = BTreeMap::new();
            for name in &names {
                let Some(reconciled) = self.reconcile(name) else { continue };
                moved |= reconciled.moved;
                waiting.extend(reconciled.again.map(|again| (name.clone(), again)));
            }
            if moved {
                names = self.cluster_state.participants.iter().cloned().collect();
                continue;
            }
            let Some(again) = waiting.values().max().copied() else { return };
            let waited = self.now.instant.saturating_duration_since(self.begun.instant);
            if again + waited > MAX_WAIT {
                return;
            }
            self.now.instant += again;
            self.now.wall += SignedDuration::try_from(again).unwrap_or_default();
            // All others are settled: time changes nothing for them.
            names = waiting.into_keys().collect();
        }
    }

    /// One reconcile; `None` for an object that is deleted.
    fn reconcile(&mut self, name: &NamespacedName) -> Option<Reconciled> {
        let object = self.objects.get(name)?.clone();
        let memory = self.memory.get(name).cloned().unwrap_or_default();
        let version = object.metadata.resource_version.clone();
        let actions = self.results.get(name).map_or(0, |result| result.actions.len());
        let mut state = State::begin(object, memory.clone(), Channel::default().spec.interval());
        let outcome = match self.observe(&mut state, name) {
            Ok(()) => self.execute_plans(&mut state, name),
            Err(failure) => Some(Outcome::Failed(failure)),
        };
        let credentials = match &state.observed().credentials {
            DesiredCredentials::Invalid(failure) => Some(failure.clone()),
            DesiredCredentials::None | DesiredCredentials::Ready { .. } => None,
        };
        if let Some(outcome) = &outcome {
            self.report(&mut state, name, outcome);
        }
        let mut remembered = state.remembered(&memory);
        // Every reconcile reads the channel: nothing else depends on the time of the last one.
        remembered.cooldown = None;
        self.memory.insert(name.clone(), remembered);
        let result = self.results.entry(name.clone()).or_default();
        result.conclude(outcome.as_ref());
        result.credentials = credentials;
        let now = self.objects.get(name).and_then(|object| object.metadata.resource_version.clone());
        Some(Reconciled {
            moved: now != version || result.actions.len() > actions,
            again: again(outcome.as_ref()),
        })
    }

    /// As `src/channel/observe.rs` does, from what is known.
    fn observe(&mut self, state: &mut State, name: &NamespacedName) -> Result<(), Failure> {
        let workspace = WorkspaceKey::of(state.object());
        let access = self.cluster_state.access(state.object(), self.now.instant);
        state.see_workspace(access, self.cluster_state.is_suspended(&workspace), None);
        let Some(id) = state.own_id(self.now) else { return self.observe_living(state, name) };
        state.see_window(&id, &self.consistency, self.now);
        if state.terminating() {
            let rivals = self.index.rivals(&id, name);
            let elsewhere = state.waits_for_claims().then_some(rivals.elsewhere);
            state.see_claims(Claims::of(&rivals, &name.namespace, rivals.heir.clone(), elsewhere), self.now);
            return Ok(());
        }
        let observed = self.observe_living(state, name);
        self.observe_owner(state, name, &id, observed.as_ref().err());
        observed
    }

    fn observe_living(&mut self, state: &mut State, name: &NamespacedName) -> Result<(), Failure> {
        if state.terminating() || state.is_suspended() {
            return Ok(());
        }
        state.see_credentials(credentials_of(state.object(), &name.namespace, self.cluster_state));
        let triggers = triggers(state.object());
        match state.remote_read(&triggers, self.now) {
            RemoteRead::Nothing => {}
            RemoteRead::Skip { next_look } => state.skip_read(next_look),
            RemoteRead::Channel(id) => self.read(state, &id),
            RemoteRead::Candidates => state.see_candidates(Ok(Vec::new())),
            RemoteRead::AnsweredChannel(id) => {
                self.read(state, &id);
                state.resolve_conflicting_ids()?;
            }
        }
        Ok(())
    }

    fn read(&self, state: &mut State, id: &Id) {
        match self.remotes.get(id.as_str()) {
            Some(Remote::Found { channel, .. }) => state.found((**channel).clone(), self.now),
            Some(Remote::Absent(probe)) if state.not_found(self.now) => state.probed(id, *probe, self.now),
            // The plan then says that it was not read, or that it is read again.
            Some(Remote::Absent(_)) | None => {}
        }
    }

    fn observe_owner(
        &mut self,
        state: &mut State,
        name: &NamespacedName,
        id: &str,
        failure: Option<&Failure>,
    ) {
        let Some(shown) = state.shown(failure, self.now) else { return };
        let uid = state.uid().to_owned();
        self.index.judge(name, &uid, id, shown);
        if !state.asks_for_owner(shown) {
            return;
        }
        let owner = self.index.owner(id, name, &uid);
        let owner = owner.map(|owner| (owner.namespace == name.namespace).then_some(owner.name));
        state.see_owner(self.predecessor(id, name), owner);
    }

    fn predecessor(&self, id: &str, me: &NamespacedName) -> Option<Predecessor> {
        delete::as_predecessor(self.objects.get(&self.index.takes_over(id, me)?)?)
    }

    /// As `src/channel/run.rs` does. `None`: the object is deleted.
    fn execute_plans(&mut self, state: &mut State, name: &NamespacedName) -> Option<Outcome> {
        for _ in 0..MAX_STEPS {
            let step = match plan(&state.input(self.now)) {
                Plan::Settled(conclusion) => return Some(Outcome::Settled(conclusion)),
                Plan::Work(step) => step,
            };
            match self.perform(state, name, &step) {
                Ok(Next::Finished) => return None,
                Ok(Next::Plan) => {}
                Ok(_) => return Some(Outcome::More),
                Err(failure) if matches!(step, Step::PushCredentials { .. }) => {
                    return Some(Outcome::PushFailed(failure));
                }
                Err(failure) => return Some(Outcome::Failed(failure)),
            }
        }
        Some(Outcome::More)
    }

    /// The effects of one step, in their order.
    fn perform(&mut self, state: &mut State, name: &NamespacedName, step: &Step) -> Result<Next, Failure> {
        let mut cursor = Cursor::new(step);
        state.begin_step();
        while let Some(effect) = cursor.effect() {
            if effect.is_prepared() {
                state.prepare(step, effect, self.now);
            }
            let action = Action::of(step, effect, &state.input(self.now), &self.remotes);
            let answer = self.answer(state, name, step, effect);
            let next = state.apply(step, effect, answer, &mut self.consistency, self.now);
            self.publish(state, name);
            let next = next?;
            self.results.entry(name.clone()).or_default().actions.extend(action);
            if !cursor.advance(next) {
                return Ok(next);
            }
        }
        Ok(Next::Plan)
    }

    /// The end of a reconcile: the status is written, and the index knows of it.
    fn report(&mut self, state: &mut State, name: &NamespacedName, outcome: &Outcome) {
        let summary = state.summarize(outcome, 0.5, self.now);
        let written = state.status_to_report(&summary).map(|status| {
            state.prepare_status(&status);
            let answer = self.kubernetes.status_written(state.object(), &status);
            state.status_answered(&status, answer, self.now)
        });
        let inputs = triggers(state.object());
        state.reported(outcome, &summary, written, inputs, 0.5, self.now);
        self.publish(state, name);
        if state.gives_up_id(summary.result) {
            self.index.give_up_adoption(state.uid());
        }
    }
}

/// The declared credentials, with the names that are known.
pub fn credentials_of(object: &Channel, namespace: &str, cluster_state: &ClusterState) -> DesiredCredentials {
    let content = |secret: &str| cluster_state.secrets.0.get(&NamespacedName::new(namespace, secret));
    match credentials::assemble(&object.spec.credentials, content) {
        Err(failure) => DesiredCredentials::Invalid(failure),
        Ok(None) => DesiredCredentials::None,
        Ok(Some(bundle)) => DesiredCredentials::Ready {
            digest: bundle.digest,
            keys: bundle.credentials.keys(),
            sources: bundle.sources,
        },
    }
}

/// When a reconcile that only waits continues.
fn again(outcome: Option<&Outcome>) -> Option<Duration> {
    match outcome? {
        Outcome::Settled(conclusion) => match conclusion.kind {
            ConclusionKind::Stale { again } | ConclusionKind::Failed(Retry::Deferred(again)) => Some(again),
            ConclusionKind::Blocked { again } if again < MAX_WAIT => Some(again),
            ConclusionKind::InSync
            | ConclusionKind::WaitingForRemote { .. }
            | ConclusionKind::RetryIn(_)
            | ConclusionKind::Failed(_)
            | ConclusionKind::Suspended
            | ConclusionKind::Blocked { .. }
            | ConclusionKind::InFlight
            | ConclusionKind::Finished => None,
        },
        Outcome::Failed(failure) | Outcome::PushFailed(failure) => match failure.retry {
            Retry::Deferred(again) => Some(again),
            _ => None,
        },
        Outcome::More => None,
    }
}

fn triggers(channel: &Channel) -> Triggers {
    let own = Triggers::own(channel);
    Triggers { own, secrets: Vec::new(), workspace: 0, key: None, conflict: false, rivals: 0 }
}

/// A channel with these values.
pub fn channel_like(id: Id, workspace: &Id, body: ohallo_core::remote::NewChannel) -> RemoteChannel {
    RemoteChannel {
        id,
        workspace_id: Some(workspace.to_string()),
        channel_type: Some(body.channel_type),
        display_name: Some(body.display_name),
        status: Some("active".to_owned()),
        config: body.config.unwrap_or_default(),
        created_at: None,
    }
}
